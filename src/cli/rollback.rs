//! `rollback`: the last restore in place is undone, or what it keeps is shown or removed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use serde_json::{Value, json};

use super::Done;
use super::args;
use super::session::Session;
use crate::config;
use crate::error::{Error, Result};
use crate::monitor::Problem;
use crate::restore::in_place::{Kept, KeptState};
use crate::units::{ByteSize, Span, counted, shown};

pub fn run(session: &Session, args: &args::Rollback) -> Result<Done> {
    let found = find(session, args.which.as_deref())?;
    if args.list {
        return Ok(list(session, found));
    }
    if args.discard {
        return discard(session, args, found);
    }
    let mut found = found;
    // One that cannot be looked at may be the last; an earlier one must not be undone in its place.
    let kept = found.pop().ok_or_else(|| nothing(args))??;
    let what = format!(
        "the restore of snapshot {} onto {} of {:.0}",
        kept.snapshot().short(),
        roots(&kept),
        kept.begun()
    );
    if args.dry_run {
        session
            .output
            .line(format!("would undo {what}: {}", state_words(kept.state)));
        return Ok(Done::well(fields(&kept)));
    }
    let undone = kept.roll_back(session.output.as_ref())?;
    session.output.finish();
    session.output.good_news(format!("undone: {what}"));
    let folders: Vec<String> = undone.folders().iter().map(|path| shown(path)).collect();
    session.output.good_news(format!(
        "what it displaced is kept in {}; `tillsafe rollback --discard {}` removes it",
        folders.join(" and "),
        undone.id()
    ));
    Ok(Done::well(fields(&undone)))
}

/// All that are meant, oldest first.
fn find(session: &Session, which: Option<&OsStr>) -> Result<Vec<Result<Kept>>> {
    let (registry, disk) = (Session::registry(), session.disk.as_ref());
    let Some(which) = which else {
        return Ok(Kept::find(None, registry.as_ref(), disk));
    };
    if which.as_bytes().contains(&b'/') || which == "." || which == ".." {
        let path = config::absolute(which.as_ref())?;
        return Ok(Kept::find(Some(&path), registry.as_ref(), disk));
    }
    let name = which.to_string_lossy();
    let found = Kept::find(None, registry.as_ref(), disk);
    let named = |kept: &Result<Kept>| kept.as_ref().is_ok_and(|kept| kept.id() == name);
    Ok(found.into_iter().filter(named).collect())
}

fn nothing(args: &args::Rollback) -> Error {
    let finding = args.which.as_ref().map_or_else(
        || "on this machine".to_owned(),
        |which| format!("by the name {}", shown(which.as_ref())),
    );
    Error::NothingKept { finding }
}

fn list(session: &Session, found: Vec<Result<Kept>>) -> Done {
    let output = &session.output;
    let (mut count, mut bytes) = (0, 0);
    for kept in found {
        let kept = match kept {
            Ok(kept) => kept,
            Err(cause) => {
                tell_unreadable(session, &cause);
                continue;
            }
        };
        output.line(format!(
            "{}  {} old  {}  {}",
            kept.id(),
            age(session, &kept),
            ByteSize(kept.bytes),
            roots(&kept)
        ));
        output.line(format!(
            "  snapshot {}: {}",
            kept.snapshot().short(),
            state_words(kept.state)
        ));
        for folder in kept.folders() {
            output.line(format!("  {}", shown(&folder)));
        }
        output.object("kept", fields(&kept));
        count += 1;
        bytes += kept.bytes;
    }
    output.line(format!(
        "{} in place, {} kept",
        counted(count, "restore"),
        ByteSize(bytes)
    ));
    if count > 0 {
        output.line("with its name, `tillsafe rollback` undoes one, and with --discard removes what is kept of it");
    }
    Done::well(json!({"restores": count, "total_bytes": bytes}))
}

fn tell_unreadable(session: &Session, cause: &Error) {
    use crate::monitor::Monitor;
    session.output.problem(Problem {
        item: "rollback".to_owned(),
        finding: cause.to_string(),
        incomplete: false,
    });
}

fn discard(session: &Session, args: &args::Rollback, found: Vec<Result<Kept>>) -> Result<Done> {
    let found = found.into_iter().collect::<Result<Vec<Kept>>>()?;
    if found.is_empty() {
        return Err(nothing(args));
    }
    for kept in &found {
        session.output.note(&format!(
            "{}  {} old  {}  {}: {}",
            kept.id(),
            age(session, kept),
            ByteSize(kept.bytes),
            roots(kept),
            state_words(kept.state)
        ));
    }
    let bytes: u64 = found.iter().map(|kept| kept.bytes).sum();
    let count = found.len() as u64;
    if args.dry_run {
        session.output.line(format!(
            "would remove {} of {}",
            ByteSize(bytes),
            counted(count, "restore")
        ));
        return Ok(Done::well(json!({"restores": count, "total_bytes": bytes})));
    }
    if !args.yes {
        let answer = session.ask("remove it for good? type yes: ")?;
        if answer.as_deref() != Some("yes") {
            return Err(Error::NoConsent {
                what: "remove what is kept".to_owned(),
                next: "the same command with --yes, or type yes at a terminal",
            });
        }
    }
    let registry = Session::registry();
    for kept in found {
        kept.discard(registry.as_ref(), session.disk.as_ref())?;
    }
    session.output.good_news(format!(
        "removed {} of {}",
        ByteSize(bytes),
        counted(count, "restore")
    ));
    Ok(Done::well(json!({"restores": count, "total_bytes": bytes})))
}

const fn state_words(state: KeptState) -> &'static str {
    match state {
        KeptState::Unfinished => {
            "interrupted in its swap: the same restore finishes it, `tillsafe rollback` undoes it"
        }
        KeptState::Restored => "restored; what stood there before is kept",
        KeptState::HalfRolledBack => {
            "its rollback was interrupted; `tillsafe rollback` completes it"
        }
        KeptState::RolledBack => "rolled back; what that displaced is kept",
    }
}

fn roots(kept: &Kept) -> String {
    let roots: Vec<String> = kept.roots().iter().map(|root| shown(root)).collect();
    roots.join(", ")
}

fn age(session: &Session, kept: &Kept) -> Span {
    let age = session.services.clock.now().duration_since(kept.begun());
    Span(Duration::try_from(age).unwrap_or_default())
}

fn fields(kept: &Kept) -> Value {
    let texts = |paths: &[std::path::PathBuf]| {
        let texts = paths.iter().map(|path| path.to_string_lossy().into_owned());
        texts.collect::<Vec<_>>()
    };
    json!({
        "restore_id": kept.id(),
        "snapshot_id": kept.snapshot(),
        "time": kept.begun(),
        "state": kept.state,
        "total_bytes": kept.bytes,
        "replaced": texts(kept.roots()),
        "kept": texts(&kept.folders()),
    })
}
