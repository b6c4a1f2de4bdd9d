//! `restore --in-place`: a plan, consent, proved copies, the swap.

use serde_json::json;

use super::Done;
use super::args;
use super::choose::{Chosen, choose};
use super::lost::tell_lost;
use super::plan::{from_words, require, tell_in_place};
use super::proof::{exit_code, fields, proved, tell_databases};
use super::session::Session;
use crate::error::{Error, Result};
use crate::restore::in_place::{InPlace, Swapped};
use crate::units::{ByteSize, counted, shown};

pub fn run(session: &Session, args: &args::Restore) -> Result<Done> {
    let disk = session.disk.as_ref();
    let monitor = session.monitor();
    let Chosen {
        repository,
        index,
        snapshot,
        selection,
        lock: _lock,
    } = choose(session, &args.snapshot, &args.filter, &args.choice)?;
    let planned = InPlace::plan(
        &repository,
        &index,
        &snapshot,
        &selection,
        disk,
        monitor.as_ref(),
    )?;
    refuse_own_repository(session, &planned)?;
    let from = from_words(&snapshot, &selection.base, &args.choice);
    if args.dry_run {
        let mut fields = tell_in_place(session, &repository, &index, &planned, &from)?;
        fields["repository"] = repository.location().into();
        return Ok(Done::well(fields));
    }
    require(args.plan.as_ref(), planned.hash)?;
    planned.require_fit()?;
    let (files, bytes) = (planned.files(), planned.bytes());
    if args.plan.is_none() {
        tell_in_place(session, &repository, &index, &planned, &from)?;
        ask(session, &planned)?;
    }
    let was_interrupted = planned.is_unfinished();
    let swapped = if was_interrupted {
        planned.finish(&index, session.disk.as_ref(), &monitor)?
    } else {
        let ready = planned.stage(&repository, &index, disk, &monitor)?;
        tell_lost(session, &ready.lost());
        ready.swap(
            &session.services,
            Session::registry().as_ref(),
            disk,
            &monitor,
        )?
    };
    session.output.finish();
    tell_databases(session, &swapped.databases);
    let done = if was_interrupted {
        "finished the interrupted restore of"
    } else {
        "restored"
    };
    let roots: Vec<String> = swapped.roots.iter().map(|root| shown(root)).collect();
    session.output.good_news(format!(
        "{done} snapshot {} from {} onto {} in {}: {}, {}; proof level: {}",
        swapped.snapshot.id.short(),
        repository.location(),
        roots.join(", "),
        session.output.elapsed(),
        counted(files, "file"),
        ByteSize(bytes),
        proved(session, swapped.level, &[])
    ));
    tell_kept(session, &swapped);
    let mut fields = fields(&repository.location(), &swapped.databases, swapped.level);
    fields["snapshot_id"] = json!(swapped.snapshot.id);
    fields["replaced"] = json!(roots);
    fields["files"] = files.into();
    fields["total_bytes"] = bytes.into();
    fields["restore_id"] = swapped.id.clone().into();
    let kept = swapped.kept.iter().map(|path| path.to_string_lossy());
    fields["kept"] = kept.collect::<Vec<_>>().into();
    Ok(Done {
        code: exit_code(session, swapped.level),
        fields,
    })
}

fn tell_kept(session: &Session, swapped: &Swapped) {
    let kept: Vec<String> = swapped.kept.iter().map(|path| shown(path)).collect();
    if kept.is_empty() {
        session
            .output
            .good_news("nothing stood there before, so nothing is kept");
        return;
    }
    session.output.good_news(format!(
        "what stood there is kept in {}: `tillsafe rollback {}` brings it back; with --discard it is removed",
        kept.join(" and "),
        swapped.id
    ));
}

/// Consent: the name of each thing that is replaced, typed at a terminal.
fn ask(session: &Session, planned: &InPlace) -> Result<()> {
    let roots: Vec<String> = planned
        .roots
        .iter()
        .map(|root| shown(&root.spot.live))
        .collect();
    for root in &roots {
        let answer = session.ask(&format!("type {root} to replace it: "))?;
        if answer.as_deref() != Some(root.as_str()) {
            return Err(Error::NoConsent {
                what: format!("replace {}", roots.join(", ")),
                next: "give the hash of the plan, as it is printed here or by --dry-run, to --plan, or type the whole path at a terminal",
            });
        }
    }
    Ok(())
}

/// The copy of a repository that a restore replaces by itself is no copy.
fn refuse_own_repository(session: &Session, planned: &InPlace) -> Result<()> {
    let repository = session.choice()?.path;
    let repository = std::fs::canonicalize(&repository).unwrap_or(repository);
    for root in &planned.roots {
        let live = &root.spot.live;
        if repository.starts_with(live) || live.starts_with(&repository) {
            return Err(Error::TargetUnfit {
                path: live.clone(),
                finding: "the repository that is restored from lies there".to_owned(),
            });
        }
    }
    Ok(())
}
