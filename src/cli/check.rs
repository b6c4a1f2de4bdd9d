//! `check`: is the repository whole?

use serde_json::json;

use super::Done;
use super::args;
use super::failure::Failure;
use super::output::plain;
use super::session::Session;
use crate::error::{Advice, ExitCode, Result};
use crate::repository::check::{CheckReport, check};
use crate::units::{ByteSize, counted};

pub fn run(session: &Session, args: &args::Check) -> Result<Done> {
    let repository = session.open()?;
    let _lock = session.lock_if_possible(&repository);
    let report = check(&repository, args.read_data, session.output.as_ref())?;
    session.output.finish();
    for damage in &report.damage {
        session.output.object("damage", json!(damage));
        session.output.line(plain(&format!(
            "damaged: {}: {}",
            damage.object, damage.finding
        )));
    }
    tell(session, &repository.location(), &report);
    let sound = report.damage.is_empty();
    if !sound {
        session.output.failure(&damage_found(session, &report));
    }
    let mut fields = json!(report);
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

fn tell(session: &Session, location: &str, report: &CheckReport) {
    let read = if report.read_data {
        format!(
            "every byte of {} ({}) was read",
            counted(report.packs, "pack"),
            ByteSize(report.pack_bytes)
        )
    } else {
        format!(
            "{} ({}) seen, not read; --read-data reads every byte",
            counted(report.packs, "pack"),
            ByteSize(report.pack_bytes)
        )
    };
    session.output.good_news(format!(
        "checked {location} in {}: {}, {}, {}; {read}",
        session.output.elapsed(),
        counted(report.snapshots, "snapshot"),
        counted(report.trees, "folder"),
        counted(report.blobs, "blob")
    ));
    let sound = report.damage.is_empty();
    if report.unreferenced_packs > 0 {
        let packs = counted(report.unreferenced_packs, "pack");
        session.output.good_news(if sound {
            format!("{packs} in no index: left by an interrupted run; costs room, nothing else")
        } else {
            session.typed(&format!(
                "{packs} in no index: what is missing may be there; `restic rebuild-index` (`restic repair index` since 0.16) lists it again"
            ))
        });
    }
    if sound {
        session.output.good_news("no damage found");
    }
}

/// What to do about damage: part of the result, for people and for programs.
fn damage_found(session: &Session, report: &CheckReport) -> Failure {
    Failure {
        text: format!("{} in the repository", counted(report.damage.len() as u64, "finding")),
        advice: Advice {
            safe: "nothing was changed; what does not depend on the damaged objects can still be restored by its path (latest:PATH)".to_owned(),
            next: session.typed("run `tillsafe verify SNAPSHOT` on those you rely on; move each damaged pack (data/…) out of the repository and back up: what it held is stored again where the source still has it (`restic repair index`, 0.14: rebuild-index, then forgets the pack)"),
        },
        code: ExitCode::Damage,
    }
}
