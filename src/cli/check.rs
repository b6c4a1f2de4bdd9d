//! `check`: is the repository whole, and if not, who suffers?

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Done;
use super::args;
use super::failure::Failure;
use super::output::path_fields;
use super::session::Session;
use crate::error::{Advice, ExitCode, Result};
use crate::id::Id;
use crate::repository::check::{Affected, CheckReport, Damage, Extent, check};
use crate::rng;
use crate::units::{ByteSize, OneLine, counted, shown};

/// Most blobs and snapshots of one thing that people are shown.
const MAX_SHOWN: usize = 4;

pub fn run(session: &Session, args: &args::Check) -> Result<Done> {
    let extent = extent(session, args)?;
    let repository = session.open_itself()?;
    let _lock = session.lock_if_possible(&repository);
    let report = check(&repository, extent, session.output.as_ref())?;
    session.output.finish();
    for damage in &report.damage {
        session.output.object("damage", json!(damage));
        tell_damage(session, damage);
    }
    tell_affected(session, &report.affected, report.unlisted_paths);
    tell(session, &repository.location(), &report, extent);
    let sound = report.damage.is_empty();
    if !sound {
        session.output.failure(&damage_found(session, &report));
    }
    let mut fields = json!(report);
    // Thousands of blobs are named once, with their object.
    for damage in fields["damage"].as_array_mut().into_iter().flatten() {
        damage.as_object_mut().map(|damage| damage.remove("blobs"));
    }
    fields["repository"] = repository.location().into();
    fields["sound"] = sound.into();
    Ok(Done {
        code: if sound {
            ExitCode::Done
        } else {
            ExitCode::Damage
        },
        fields,
    })
}

fn extent(session: &Session, args: &args::Check) -> Result<Extent> {
    if args.read_data {
        return Ok(Extent::Everything);
    }
    let Some(args::Share(share)) = args.read_data_subset else {
        return Ok(Extent::Structure);
    };
    let seed = match args.seed {
        Some(seed) => seed,
        None => u32::from_be_bytes(rng::array(session.services.rng.as_ref())?),
    };
    Ok(Extent::Part { share, seed })
}

fn tell_damage(session: &Session, damage: &Damage) {
    let output = &session.output;
    // A finding may quote a name.
    output.line(format!(
        "damaged: {}: {}",
        OneLine(&damage.object),
        OneLine(&damage.finding)
    ));
    if damage.blob_count > 0 {
        let blobs = damage.blobs.iter().take(MAX_SHOWN);
        let named = blobs.map(|blob| format!("{} {}", blob.kind, blob.id.short()));
        output.line(format!(
            "  {}: {}",
            counted(damage.blob_count, "blob"),
            listed(named, damage.blob_count)
        ));
    }
    let costs = if damage.costs_data {
        "to mend what can be"
    } else {
        "costs no data; to mend it"
    };
    output.line(session.typed(&format!("  {costs}: {}", damage.mend)));
}

/// Some of `count` things, and how many more there are.
fn listed(named: impl Iterator<Item = String>, count: u64) -> String {
    let mut named: Vec<String> = named.collect();
    let more = count.saturating_sub(named.len() as u64);
    if more > 0 {
        named.push(format!("{more} more"));
    }
    named.join(", ")
}

/// Names what is lost; `unlisted` are more paths, counted in each snapshot.
pub fn tell_affected(session: &Session, affected: &[Affected], unlisted: u64) {
    for affected in affected {
        session.output.object("affected", affected_object(affected));
        session.output.line(affected_line(affected));
    }
    if unlisted > 0 {
        session.output.line(format!(
            "lost: {} more, counted in each snapshot",
            counted(unlisted, "path")
        ));
    }
}

fn affected_line(affected: &Affected) -> String {
    let below = if affected.is_folder {
        " and all below it"
    } else {
        ""
    };
    let snapshots = match affected.lost_in.len() {
        1 => "snapshot",
        _ => "snapshots",
    };
    let lost_in = affected.lost_in.iter().take(MAX_SHOWN).map(Id::short);
    let intact_in = affected
        .intact_in
        .iter()
        .map(|version| format!("{} of {:.0}", version.snapshot.short(), version.time));
    let intact: Vec<String> = intact_in.collect();
    let intact = if intact.is_empty() {
        "in no other".to_owned()
    } else {
        format!("in {}", intact.join(", "))
    };
    format!(
        "lost: {}{below} in {snapshots} {}; intact {intact}",
        shown(&affected.path),
        listed(lost_in, affected.lost_in.len() as u64)
    )
}

fn affected_object(affected: &Affected) -> Value {
    let intact_in = affected.intact_in.iter().map(|version| version.snapshot);
    let mut object = path_fields(&affected.path);
    object["type"] = if affected.is_folder { "dir" } else { "file" }.into();
    object["lost_in"] = json!(affected.lost_in);
    object["intact_in"] = json!(intact_in.collect::<Vec<_>>());
    object["finding"] = affected.finding.clone().into();
    object
}

fn tell(session: &Session, location: &str, report: &CheckReport, extent: Extent) {
    let packs = counted(report.packs, "pack");
    let size = ByteSize(report.pack_bytes);
    let read = match extent {
        Extent::Everything => format!("every byte of {packs} ({size}) was read"),
        Extent::Structure => {
            format!("{packs} ({size}) seen, not read; --read-data reads every byte")
        }
        Extent::Part { seed, .. } => format!(
            "every byte of {} of {packs} ({} of {size}) was read, chosen by --seed {seed}",
            report.packs_read,
            ByteSize(report.bytes_read)
        ),
    };
    session.output.good_news(format!(
        "checked {location} in {}: {}, {}, {}; {read}",
        session.output.elapsed(),
        counted(report.snapshots, "snapshot"),
        counted(report.trees, "folder"),
        counted(report.blobs, "blob")
    ));
    let sound = report.damage.is_empty();
    if sound && report.unreferenced_packs > 0 {
        session.output.good_news(format!(
            "{} in no index: left by an interrupted run; costs room, nothing else",
            counted(report.unreferenced_packs, "pack")
        ));
    }
    if report.marked_packs > 0 {
        session.output.good_news(session.typed(&format!(
            "{} ({}) that nobody needs marked by `tillsafe prune`: a later one removes them",
            counted(report.marked_packs, "pack"),
            ByteSize(report.marked_bytes)
        )));
    }
    if sound {
        session.output.good_news(match extent {
            Extent::Everything => "no damage found".to_owned(),
            Extent::Structure => "no damage found in what was read: snapshots, folders and index; of the packs only names and sizes".to_owned(),
            Extent::Part { .. } => format!(
                "no damage found in what was read: snapshots, folders, index and {} of {packs}",
                report.packs_read
            ),
        });
    }
}

/// What to do about damage: part of the result, for people and for programs.
fn damage_found(session: &Session, report: &CheckReport) -> Failure {
    let damage = counted(report.damage.len() as u64, "damaged object");
    let mends: BTreeSet<&str> = report.damage.iter().map(|one| one.mend.as_str()).collect();
    let mends: Vec<&str> = mends.into_iter().collect();
    let mends = mends.join("; and ");
    let (text, safe, next) = if report.damage.iter().any(|damage| damage.costs_data) {
        (
            match report.lost_paths {
                0 => format!(
                    "{damage} in the repository; the snapshots that can be read lose nothing by that"
                ),
                lost => format!(
                    "{damage} in the repository; {} lost, counted in each snapshot",
                    counted(lost, "path")
                ),
            },
            "nothing was changed; what is not named as lost can still be restored by its path (SNAPSHOT:PATH)",
            format!(
                "run `tillsafe verify SNAPSHOT` on those you rely on; for each damaged object: {mends}"
            ),
        )
    } else {
        (
            format!("{damage} in the repository; no snapshot loses anything by that"),
            "nothing was changed; everything that was checked can still be restored",
            mends,
        )
    };
    Failure {
        text,
        advice: Advice {
            safe: safe.to_owned(),
            next: session.typed(&next),
        },
        code: ExitCode::Damage,
    }
}
