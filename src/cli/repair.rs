//! `repair`: mend what `check` finds. One word of it each.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Done;
use super::args::{self, Repair};
use super::check::tell_affected;
use super::failure::Failure;
use super::session::Session;
use super::several::several;
use crate::error::{Advice, ExitCode, Result};
use crate::id::Id;
use crate::repository::Repository;
use crate::repository::lock::{Access, Lock};
use crate::repository::repair::{
    IndexReport, Note, PacksReport, SnapshotsReport, Subject, Which, find_broken, repair_index,
    repair_packs, repair_snapshots,
};
use crate::units::{ByteSize, OneLine, counted};

pub fn run(session: &Session, args: &Repair) -> Result<Done> {
    match args {
        Repair::Index(args) => index(session, args),
        Repair::Packs(args) => packs(session, args),
        Repair::Snapshots(args) => snapshots(session, args),
    }
}

fn index(session: &Session, args: &args::RepairIndex) -> Result<Done> {
    let repository = session.open_itself()?;
    let (lock, _reading) = lock(session, &repository, args.dry_run)?;
    let monitor = session.output.as_ref();
    let report = repair_index(&repository, lock.as_ref(), args.read_all_packs, monitor)?;
    session.output.finish();
    tell_notes(session, &report.notes, args.dry_run);
    let would = would(args.dry_run);
    let IndexReport {
        kept_files,
        removed_files,
        new_files,
        packs,
        headers_read,
        ..
    } = report;
    session.output.good_news(format!(
        "{} of {}: {} kept, {removed_files} {would}removed, {new_files} {would}written; {}, {headers_read} of their headers read",
        said("the index", args.dry_run, removed_files + new_files),
        repository.location(),
        counted(kept_files, "file"),
        counted(packs, "pack"),
    ));
    tell_undone(session, &report.notes);
    if !report.all_mended {
        tell_only_told(session, &report.notes, "index");
    }
    Ok(done(
        &repository,
        json!(report),
        args.dry_run,
        report.all_mended,
    ))
}

fn packs(session: &Session, args: &args::RepairPacks) -> Result<Done> {
    let repository = session.open_itself()?;
    let monitor = session.output.as_ref();
    let named = repository.find_packs(&args.packs, monitor)?;
    // Backups go on while all packs are read; only what is found needs the repository to itself.
    let mut found = None;
    if named.is_empty() && !args.dry_run {
        let _shared = repository.lock(Access::Shared, monitor)?;
        found = Some(find_broken(&repository, monitor)?);
    }
    let which = match &found {
        Some(broken) => Which::Found(broken),
        None if named.is_empty() => Which::All,
        None => Which::Named(&named),
    };
    let (lock, _reading) = lock(session, &repository, args.dry_run)?;
    let report = repair_packs(&repository, lock.as_ref(), which, monitor)?;
    session.output.finish();
    tell_notes(session, &report.notes, args.dry_run);
    tell_affected(session, &report.affected, report.unlisted_paths);
    let would = would(args.dry_run);
    let PacksReport {
        packs_read,
        bytes_read,
        saved_blobs,
        removed_packs,
        ..
    } = report;
    session.output.good_news(format!(
        "{} of {}: every byte of {} ({}) was read, {removed_packs} {would}removed, {} {would}stored anew",
        said(
            "the packs",
            args.dry_run,
            report.broken_packs + report.gone_packs
        ),
        repository.location(),
        counted(packs_read, "pack"),
        ByteSize(bytes_read),
        counted(saved_blobs, "blob"),
    ));
    tell_undone(session, &report.notes);
    if report.lost_paths > 0 && is_nothing_left(&report.notes) {
        session.output.failure(&Failure {
            text: format!("{} lost, counted in each snapshot", counted(report.lost_paths, "path")),
            advice: Advice {
                safe: "all that is whole is kept; what is not named as lost can be restored by its path (SNAPSHOT:PATH)".to_owned(),
                next: session.typed("back up again: what the source still has is stored again, also for the old snapshots; then `tillsafe repair snapshots` makes new ones without what is lost"),
            },
            code: ExitCode::Damage,
        });
    } else if !report.all_mended {
        tell_only_told(session, &report.notes, "packs");
    }
    let is_well = report.all_mended && report.lost_paths == 0;
    Ok(done(&repository, json!(report), args.dry_run, is_well))
}

fn snapshots(session: &Session, args: &args::RepairSnapshots) -> Result<Done> {
    let repository = session.open_itself()?;
    let (lock, _reading) = lock(session, &repository, args.dry_run)?;
    let monitor = session.output.as_ref();
    let only = chosen(&repository, args, session)?;
    let report = repair_snapshots(
        &repository,
        lock.as_ref(),
        only.as_ref(),
        args.forget,
        monitor,
    )?;
    session.output.finish();
    tell_affected(session, &report.affected, report.unlisted_paths);
    for subject in &report.subjects {
        session.output.object("repaired_snapshot", json!(subject));
        session.output.line(subject_line(subject, args.dry_run));
    }
    tell_notes(session, &report.notes, args.dry_run);
    let would = would(args.dry_run);
    let SnapshotsReport {
        snapshots,
        new_snapshots,
        forgotten_snapshots,
        ..
    } = report;
    session.output.good_news(format!(
        "{} of {}: {} of {} lack something, {new_snapshots} {would}made, {forgotten_snapshots} {would}removed",
        said(
            "the snapshots",
            args.dry_run,
            new_snapshots + forgotten_snapshots
        ),
        repository.location(),
        report.subjects.len(),
        snapshots,
    ));
    tell_undone(session, &report.notes);
    if !report.all_mended && is_nothing_left(&report.notes) {
        session
            .output
            .failure(&lacking(session, &report, args.dry_run));
    }
    Ok(done(
        &repository,
        json!(report),
        args.dry_run,
        report.all_mended,
    ))
}

/// What is said as long as a snapshot that lacks something is there.
fn lacking(session: &Session, report: &SnapshotsReport, dry_run: bool) -> Failure {
    let (safe, next) = if dry_run {
        (
            "nothing was changed",
            "back up again: what the source still has is stored again, also for them; then `tillsafe repair snapshots` makes new ones without what is lost",
        )
    } else {
        (
            "they are kept, and all that is left of each is in another snapshot beside it",
            "back up again: what the source still has is stored again, also for them; `tillsafe repair snapshots --forget` removes them, once you no longer want them",
        )
    };
    Failure {
        text: format!(
            "{} with something lost: {}, counted in each",
            counted(report.subjects.len() as u64, "snapshot"),
            counted(report.lost_paths, "path")
        ),
        advice: Advice {
            safe: safe.to_owned(),
            next: session.typed(next),
        },
        code: ExitCode::Damage,
    }
}

/// The exclusive lock; whoever only looks has none, but holds what a reader does.
fn lock(
    session: &Session,
    repository: &Repository,
    dry_run: bool,
) -> Result<(Option<Lock>, Option<Lock>)> {
    if dry_run {
        return Ok((None, session.lock_if_possible(repository)));
    }
    // A repository that is not written is refused before anybody waits for it.
    repository.require_writable()?;
    let lock = repository.lock(Access::Exclusive, session.output.as_ref())?;
    Ok((Some(lock), None))
}

/// The snapshots that are named, or fit the flags; nothing if all are meant.
fn chosen(
    repository: &Repository,
    args: &args::RepairSnapshots,
    session: &Session,
) -> Result<Option<BTreeSet<Id>>> {
    if args.snapshots.is_empty() && args.filter.is_empty() {
        return Ok(None);
    }
    let found = repository.snapshots(session.output.as_ref())?;
    let chosen = several(session, &args.snapshots, &args.filter, &found)?;
    Ok(Some(chosen.iter().map(|snapshot| snapshot.id).collect()))
}

fn subject_line(subject: &Subject, dry_run: bool) -> String {
    let rest = match (subject.new_id, subject.has_rest) {
        (Some(new), _) => format!("what is left is in {}", new.short()),
        (None, true) if dry_run => "what is left would be in a new one".to_owned(),
        (None, true) => "what is left is in a new one".to_owned(),
        (None, false) => "nothing of it is left".to_owned(),
    };
    let old = match (subject.forgotten, dry_run) {
        (true, true) => "it would be removed",
        (true, false) => "the old one is removed",
        (false, _) => "the old one is kept",
    };
    format!(
        "snapshot {} of {:.0}: {} lost; {rest}, {old}",
        subject.id.short(),
        subject.time,
        counted(subject.lost_paths, "path")
    )
}

fn tell_notes(session: &Session, notes: &[Note], dry_run: bool) {
    let output = &session.output;
    for note in notes {
        output.object("finding", json!(note));
        // A finding may quote a name.
        output.line(format!(
            "damaged: {}: {}",
            OneLine(&note.object),
            OneLine(&note.finding)
        ));
        output.line(match &note.next {
            Some(next) => session.typed(&format!("  {}; {next}", note.done)),
            None if dry_run => format!("  to do: {}", note.done),
            None => format!("  done: {}", note.done),
        });
    }
}

/// What stands before a number's verb.
const fn would(dry_run: bool) -> &'static str {
    if dry_run { "would be " } else { "" }
}

/// How the last line begins.
fn said(what: &str, dry_run: bool, count: u64) -> String {
    match (count, dry_run) {
        (0, _) => format!("nothing to repair in {what}"),
        (_, true) => format!("only looked at, not repaired: {what}"),
        (_, false) => format!("repaired {what}"),
    }
}

/// Whether everything that was found is, or would be, mended.
fn is_nothing_left(notes: &[Note]) -> bool {
    notes.iter().all(|note| note.next.is_none())
}

/// Ends a run that found what it could mend, and was asked only to look.
fn tell_only_told(session: &Session, notes: &[Note], what: &str) {
    if !is_nothing_left(notes) {
        return;
    }
    session.output.failure(&Failure {
        text: format!("there is something to repair in the {what}, and it was only looked at"),
        advice: Advice {
            safe: "nothing was changed".to_owned(),
            next: session.typed(&format!("`tillsafe repair {what}` does what is told above")),
        },
        code: ExitCode::Damage,
    });
}

/// Tells what could not be mended, if anything: part of the result, for people and for programs.
fn tell_undone(session: &Session, notes: &[Note]) {
    let left: Vec<&Note> = notes.iter().filter(|note| note.next.is_some()).collect();
    let Some(first) = left.first() else {
        return;
    };
    let next: BTreeSet<&str> = left
        .iter()
        .filter_map(|note| note.next.as_deref())
        .collect();
    let next: Vec<&str> = next.into_iter().collect();
    session.output.failure(&Failure {
        text: format!(
            "{} left as it was, {} among them",
            counted(left.len() as u64, "object"),
            first.object
        ),
        advice: Advice {
            safe: "nothing that can be restored was given up".to_owned(),
            next: session.typed(&next.join("; ")),
        },
        code: ExitCode::Damage,
    });
}

fn done(repository: &Repository, mut fields: Value, dry_run: bool, is_well: bool) -> Done {
    fields["repository"] = repository.location().into();
    fields["dry_run"] = dry_run.into();
    Done {
        code: if is_well {
            ExitCode::Done
        } else {
            ExitCode::Damage
        },
        fields,
    }
}
