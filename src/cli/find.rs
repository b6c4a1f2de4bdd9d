//! `find`: in which snapshots, and where.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use serde_json::json;

use super::Done;
use super::args;
use super::ls::{long, object};
use super::object::resolve;
use super::output::{Output, path_fields};
use super::session::Session;
use super::several::{end_unread, several, tell_unread};
use crate::error::{Error, Result};
use crate::glob::{Case, Glob};
use crate::look::{Match, Objects, Query, Walk, Wanted};
use crate::monitor::{Monitor, Step};
use crate::repository::index::Index;
use crate::repository::pack::BlobKind;
use crate::repository::snapshot::Snapshot;
use crate::units::{counted, shown};

pub fn run(session: &Session, args: &args::Find) -> Result<Done> {
    let globs = globs(args)?;
    let (oldest, newest) = (
        moment(args.oldest.as_deref(), Time::MIN)?,
        moment(args.newest.as_deref(), Time::MAX)?,
    );
    if let (Some(oldest), Some(newest)) = (oldest, newest)
        && oldest > newest
    {
        return Err(Error::Usage {
            finding: format!(
                "--oldest ({oldest}) is after --newest ({newest}): nothing can be between"
            ),
            next: "exchange the two".to_owned(),
        });
    }
    let repository = session.open()?;
    let _lock = session.lock_if_possible(&repository);
    let monitor = session.output.as_ref();
    let found = repository.snapshots(monitor)?;
    let snapshots = several(session, &args.snapshot, &args.filter, &found)?;
    let (index, wanted) = if globs.is_empty() {
        let index = repository.load_whole_index(monitor)?;
        let wanted = Wanted::Objects(objects(args, &index)?);
        (index, wanted)
    } else {
        (repository.load_index(monitor)?, Wanted::Names(globs))
    };
    let query = Query {
        wanted,
        oldest,
        newest,
    };
    monitor.step(Step::Looking, None);
    let mut walk = query.walk(Walk::new(&repository, &index, monitor));
    let (mut matches, mut lost) = (0, 0);
    for snapshot in snapshots.iter().rev() {
        let mut is_first = true;
        lost += query.search(
            &mut walk,
            snapshot,
            &mut |found| {
                matches += 1;
                if std::mem::take(&mut is_first) {
                    tell_snapshot(&session.output, snapshot);
                }
                tell(&session.output, snapshot, &found, args.long);
            },
            &mut |path, finding| tell_unread(session, Some(snapshot.id), path, finding),
        )?;
    }
    session.output.finish();
    session.output.good_news(format!(
        "{} in {} of {}",
        counted(matches, "place"),
        counted(snapshots.len() as u64, "snapshot"),
        repository.location()
    ));
    let damaged = if args.snapshot.is_empty() {
        found.damaged.len()
    } else {
        0
    };
    Ok(Done {
        code: end_unread(session, lost, damaged),
        fields: json!({
            "repository": repository.location(),
            "snapshots": snapshots.len(),
            "matches": matches,
            "lost_items": lost,
            "damaged": damaged,
        }),
    })
}

fn tell_snapshot(output: &Output, snapshot: &Snapshot) {
    let (id, time) = (snapshot.id.short(), snapshot.file.time);
    output.line(format!("in snapshot {id} of {time:.0}:"));
}

fn tell(output: &Output, snapshot: &Snapshot, found: &Match, is_long: bool) {
    let mut fields = match &found.node {
        Some(node) => object(&node.entry, &node.content, &found.path),
        None => path_fields(&found.path),
    };
    fields["snapshot_id"] = json!(snapshot.id);
    fields["snapshot_time"] = json!(snapshot.file.time);
    if let Some((kind, id)) = found.object {
        fields["object_type"] = json!(kind);
        fields["object_id"] = json!(id);
    }
    output.object("match", fields);
    let line = match &found.node {
        Some(node) if is_long => long(&node.entry, &node.content, &found.path),
        _ => shown(&found.path),
    };
    let by = found.object.map_or(String::new(), |(kind, id)| {
        format!("  ({kind} {})", id.short())
    });
    output.line(format!("{line}{by}"));
}

/// The patterns; none if objects are looked for.
fn globs(args: &args::Find) -> Result<Vec<Glob>> {
    let case = if args.ignore_case {
        Case::Ignored
    } else {
        Case::Differs
    };
    let glob = |text: &String| {
        let whole = if text.contains('/') && !text.starts_with(['/', '*']) {
            // Part of a path: at any depth, as in restic.
            format!("**/{text}")
        } else {
            text.clone()
        };
        let usage = |finding: String| {
            Error::Usage {
            finding: format!("the pattern {text:?} cannot be read: {finding}"),
            next: "write a name (`*.jpg`), or a path (`/srv/**/*.jpg`); put a backslash before a letter that is meant as it stands".to_owned(),
        }
        };
        if text.is_empty() {
            return Err(usage("it is empty".to_owned()));
        }
        Glob::new(whole.trim_end_matches('/'), case).map_err(usage)
    };
    args.patterns.iter().map(glob).collect()
}

/// The blobs and trees that are meant, those of packs among them.
fn objects(args: &args::Find, index: &Index) -> Result<Objects> {
    let ids = |wanted: BlobKind| {
        let of_kind = index.blobs().filter(move |(kind, _)| *kind == wanted);
        of_kind.map(|(_, id)| id)
    };
    let mut objects = Objects::default();
    for digits in &args.blob {
        objects
            .data
            .insert(resolve("blob", digits, ids(BlobKind::Data))?);
    }
    for digits in &args.tree {
        objects
            .trees
            .insert(resolve("tree", digits, ids(BlobKind::Tree))?);
    }
    if args.pack.is_empty() {
        return Ok(objects);
    }
    let packs = index.packs();
    for digits in &args.pack {
        let pack = resolve("pack", digits, packs.keys().copied())?;
        for blob in packs.get(&pack).into_iter().flatten() {
            match blob.kind {
                BlobKind::Data => objects.data.insert(blob.id),
                BlobKind::Tree => objects.trees.insert(blob.id),
            };
        }
    }
    Ok(objects)
}

/// A time as it is typed; `at` completes a day. Without a zone it is UTC, as all times are shown.
fn moment(text: Option<&str>, at: Time) -> Result<Option<Timestamp>> {
    let Some(text) = text else {
        return Ok(None);
    };
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Some(time));
    }
    let day = || text.parse::<Date>().map(|day| day.to_datetime(at));
    // A day alone would be taken for its midnight.
    let time = if text.contains(':') {
        text.parse::<DateTime>()
    } else {
        day()
    };
    let time = time.and_then(|time| time.to_zoned(TimeZone::UTC));
    time.map(|time| Some(time.timestamp()))
        .map_err(|_| Error::Usage {
            finding: format!("{text:?} is no time"),
            next: "write a day (2026-11-25), or a time (2026-11-25T14:30, in UTC; with a zone: 2026-11-25T15:30+01:00)".to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_and_ends() {
        let at = |text: &str, time| moment(Some(text), time).unwrap().unwrap().to_string();
        for (text, first, last) in [
            (
                "2026-11-25",
                "2026-11-25T00:00:00Z",
                "2026-11-25T23:59:59.999999999Z",
            ),
            (
                "2026-11-25T14:30",
                "2026-11-25T14:30:00Z",
                "2026-11-25T14:30:00Z",
            ),
            (
                "2026-11-25 14:30:01",
                "2026-11-25T14:30:01Z",
                "2026-11-25T14:30:01Z",
            ),
            (
                "2026-11-25T15:30+01:00",
                "2026-11-25T14:30:00Z",
                "2026-11-25T14:30:00Z",
            ),
        ] {
            assert_eq!(at(text, Time::MIN), first, "{text}");
            assert_eq!(at(text, Time::MAX), last, "{text}");
        }
        for wrong in ["", "yesterday", "25.11.2026", "2026-13-01", "14:30"] {
            assert!(moment(Some(wrong), Time::MIN).is_err(), "{wrong}");
        }
    }
}
