//! `rollback`: the last restore in place is undone, or what it keeps is shown or removed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::Done;
use super::args;
use super::plan::{paths_fields, tell_paths};
use super::session::Session;
use crate::config;
use crate::error::{Error, Result};
use crate::monitor::Problem;
use crate::restore::in_place::{Kept, KeptState, Paths};
use crate::units::{ByteSize, Span, counted, shown};

/// How what nothing else holds is told.
const NOT_SAVED: &str = "NOT SAVED in the snapshot, and perhaps nowhere but here";
/// Most of what is still kept that is told after a removal.
const MAX_SHOWN: usize = 20;

pub fn run(session: &Session, args: &args::Rollback) -> Result<Done> {
    let which = Which::of(args.which.as_deref())?;
    let path = match &which {
        Which::Path(path) => Some(path.as_path()),
        _ => None,
    };
    let registry = Session::registry();
    let mut found = Kept::find(path, registry.as_ref(), session.disk.as_ref());
    if args.list || args.all {
        found.retain(|kept| {
            kept.as_ref()
                .map_or(args.which.is_none(), |kept| which.is(kept))
        });
        return if args.list {
            Ok(list(session, found))
        } else {
            discard(session, args, found, &[])
        };
    }
    if args.discard {
        // One, as everywhere: what several restores have replaced does not go for a word that means the last.
        let one = choose(&mut found, &which).transpose()?;
        return discard(session, args, one.into_iter().map(Ok).collect(), &found);
    }
    let kept = match choose(&mut found, &which) {
        Some(kept) => kept?,
        None => return Err(nothing(session, args)),
    };
    let mut later = found.iter().flatten();
    if let Some(later) = later.find(|later| later.is_on_top_of(&kept)) {
        return Err(Error::LaterRestore {
            id: kept.id().to_owned(),
            later: later.id().to_owned(),
        });
    }
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
        return Ok(Done::well(fields(session, &kept, kept.bytes())));
    }
    let undone = kept.roll_back(
        registry.as_ref(),
        session.disk.as_ref(),
        session.output.as_ref(),
    )?;
    session.output.finish();
    session.output.good_news(format!("undone: {what}"));
    let folders: Vec<String> = undone.folders().iter().map(|path| shown(path)).collect();
    session.output.good_news(format!(
        "what it displaced is kept in {}; `tillsafe rollback --discard {}` removes it",
        folders.join(" and "),
        undone.id()
    ));
    Ok(Done::well(fields(session, &undone, undone.bytes())))
}

/// Which restore is meant.
enum Which {
    /// The last of this machine.
    Last,
    /// The last that has replaced this.
    Path(PathBuf),
    /// The one of this name.
    Name(String),
}

impl Which {
    fn of(word: Option<&OsStr>) -> Result<Self> {
        Ok(match word {
            None => Self::Last,
            Some(word) if word.as_bytes().contains(&b'/') || word == "." || word == ".." => {
                Self::Path(config::absolute(word.as_ref())?)
            }
            Some(word) => Self::Name(word.to_string_lossy().into_owned()),
        })
    }

    fn is(&self, kept: &Kept) -> bool {
        match self {
            Self::Last => true,
            Self::Path(path) => kept.concerns(path),
            Self::Name(name) => kept.id() == name,
        }
    }
}

/// Takes the one that is meant out of all. One that cannot be looked at may be the last: then an earlier
/// one must not be undone in its place.
fn choose(found: &mut Vec<Result<Kept>>, which: &Which) -> Option<Result<Kept>> {
    let is_meant = |kept: &Result<Kept>| match kept {
        Ok(kept) => which.is(kept),
        Err(_) => matches!(which, Which::Last),
    };
    let last = found.iter().rposition(is_meant)?;
    Some(found.remove(last))
}

fn nothing(session: &Session, args: &args::Rollback) -> Error {
    let name = args.which.as_ref().map(|which| which.to_string_lossy());
    let registry = Session::registry();
    if let Some(name) = name
        && let Err(cause) =
            Kept::require_not_inside(&name, registry.as_ref(), session.disk.as_ref())
    {
        return cause;
    }
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
        let kept_bytes = kept.bytes();
        output.line(format!(
            "{}  {} old  {}  {}",
            kept.id(),
            age(session, &kept),
            ByteSize(kept_bytes),
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
        tell_paths(session, NOT_SAVED, &unsaved(session, &kept));
        output.object("kept", fields(session, &kept, kept_bytes));
        count += 1;
        bytes += kept_bytes;
    }
    output.good_news(format!(
        "{} in place, {} kept",
        counted(count, "restore"),
        ByteSize(bytes)
    ));
    if count > 0 {
        output.good_news("with its name, `tillsafe rollback` undoes one, and with --discard removes what is kept of it");
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

/// Removes what these keep; the `others` are kept beside.
fn discard(
    session: &Session,
    args: &args::Rollback,
    found: Vec<Result<Kept>>,
    others: &[Result<Kept>],
) -> Result<Done> {
    let mut whole = Vec::new();
    for kept in found {
        match kept {
            Ok(kept) if args.accept_loss => whole.push(kept.giving_up_unsaved()),
            Ok(kept) => whole.push(kept),
            Err(cause) => tell_unreadable(session, &cause),
        }
    }
    let found = whole;
    if found.is_empty() {
        return forget_missing(session, args);
    }
    let mut bytes = 0;
    for kept in &found {
        let kept_bytes = kept.bytes();
        bytes += kept_bytes;
        session.output.note(&format!(
            "{}  {} old  {}  {}: {}",
            kept.id(),
            age(session, kept),
            ByteSize(kept_bytes),
            roots(kept),
            state_words(kept.state)
        ));
        tell_lost(session, args, kept);
    }
    for kept in &found {
        kept.require_saved(session.disk.as_ref())?;
    }
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
    tell_others(session, others);
    Ok(Done::well(json!({"restores": count, "total_bytes": bytes})))
}

/// Names what would be gone for good: to whoever looks, and to whoever is refused. Who has agreed knows it.
fn tell_lost(session: &Session, args: &args::Rollback, kept: &Kept) {
    let unsaved = unsaved(session, kept);
    if args.dry_run || !args.accept_loss {
        tell_paths(session, NOT_SAVED, &unsaved);
        return;
    }
    for path in &unsaved.first {
        session
            .output
            .good_news(format!("goes for good: {}", shown(path)));
    }
    let more = unsaved.count - unsaved.first.len() as u64;
    if more > 0 {
        session
            .output
            .good_news(format!("goes for good: {more} more that are {NOT_SAVED}"));
    }
}

fn unsaved(session: &Session, kept: &Kept) -> Paths {
    kept.unsaved(session.disk.as_ref())
}

/// Names what is still kept, and whose it is: another folder's is nobody's to remove in passing.
fn tell_others(session: &Session, others: &[Result<Kept>]) {
    let output = &session.output;
    let there: Vec<&Kept> = others.iter().flatten().collect();
    // The last first, as without a name.
    for kept in there.iter().rev().take(MAX_SHOWN) {
        output.good_news(format!(
            "still kept: {} of {}, {} old; `tillsafe rollback --discard {}` removes it",
            kept.id(),
            roots(kept),
            age(session, kept),
            kept.id()
        ));
    }
    if there.len() > MAX_SHOWN {
        output.good_news(format!(
            "still kept: {} more; `tillsafe rollback --list` shows them",
            there.len() - MAX_SHOWN
        ));
    }
    for cause in others.iter().filter_map(|kept| kept.as_ref().err()) {
        output.good_news(format!("not looked at: {cause}; {}", cause.advice().next));
    }
}

/// Nothing is there to be removed; what is only remembered is forgotten.
fn forget_missing(session: &Session, args: &args::Rollback) -> Result<Done> {
    let disk = session.disk.as_ref();
    let name = args.which.as_ref().map(|which| which.to_string_lossy());
    let (Some(name), Some(registry), false) = (name, Session::registry(), args.dry_run) else {
        return Err(nothing(session, args));
    };
    Kept::require_not_inside(&name, Some(&registry), disk)?;
    if !registry.forget_missing(&name, disk) {
        return Err(nothing(session, args));
    }
    session
        .output
        .good_news(format!("forgot {name}: what it kept is not there"));
    Ok(Done::well(json!({"restores": 0, "total_bytes": 0})))
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

fn fields(session: &Session, kept: &Kept, bytes: u64) -> Value {
    let texts = |paths: &[std::path::PathBuf]| {
        let texts = paths.iter().map(|path| path.to_string_lossy().into_owned());
        texts.collect::<Vec<_>>()
    };
    json!({
        "restore_id": kept.id(),
        "snapshot_id": kept.snapshot(),
        "time": kept.begun(),
        "state": kept.state,
        "total_bytes": bytes,
        "replaced": texts(kept.roots()),
        "kept": texts(&kept.folders()),
        "not_saved": paths_fields(&unsaved(session, kept)),
    })
}
