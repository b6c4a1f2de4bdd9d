//! `diff`: what differs between two snapshots.

use std::ffi::OsStr;
use std::path::Path;

use serde_json::{Value, json};

use super::Done;
use super::args;
use super::choose::one;
use super::output::path_fields;
use super::session::{Session, snapshot_and_path};
use super::several::{end_unread, tell_unread};
use crate::error::Result;
use crate::id::Id;
use crate::look::{self, Change, Compared, Differences, Tally};
use crate::monitor::{Monitor, Step};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::snapshot::Snapshot;
use crate::units::{ByteSize, shown};

pub fn run(session: &Session, args: &args::Diff) -> Result<Done> {
    // Words that do not fit are told before anything is opened.
    for words in [&args.before, &args.after] {
        snapshot_and_path(words, &args.filter)?;
    }
    let repository = session.open()?;
    let _lock = session.lock_if_possible(&repository);
    let monitor = session.output.as_ref();
    let index = repository.load_index(monitor)?;
    let folder = |words: &OsStr| folder(session, &repository, &index, words, &args.filter);
    let (before, tree_before) = folder(&args.before)?;
    let (after, tree_after) = folder(&args.after)?;
    monitor.step(Step::Looking, None);
    let (old, new) = (before.id.short(), after.id.short());
    session.output.good_news(format!(
        "comparing snapshot {old} to {new} of {}:",
        repository.location()
    ));
    let compared = Compared {
        before: tree_before,
        after: tree_after,
        metadata: args.metadata,
    };
    let mut changed = |change| tell(session, &change);
    let mut lost = |path: &Path, finding: &str| tell_unread(session, None, path, finding);
    let counts = look::diff(
        &repository,
        &index,
        compared,
        &mut changed,
        &mut lost,
        monitor,
    )?;
    session.output.finish();
    tell_counts(session, &counts);
    Ok(Done {
        code: end_unread(session, counts.lost, 0),
        fields: json!({
            "repository": repository.location(),
            "before_snapshot_id": before.id,
            "after_snapshot_id": after.id,
            "changed_files": counts.changed_files,
            "added": tally(&counts.added),
            "removed": tally(&counts.removed),
            "lost_items": counts.lost,
        }),
    })
}

/// The snapshot, and the tree of the folder in it.
fn folder(
    session: &Session,
    repository: &Repository,
    index: &Index,
    words: &OsStr,
    filter: &args::Filter,
) -> Result<(Snapshot, Id)> {
    let (request, path) = snapshot_and_path(words, filter)?;
    let snapshot = one(
        session,
        &request,
        repository.snapshots(session.output.as_ref())?,
    )?;
    let tree = look::folder(repository, index, &snapshot, &path)?;
    Ok((snapshot, tree))
}

fn tell(session: &Session, change: &Change) {
    let slash = if change.is_folder { "/" } else { "" };
    let path = shown(&change.path);
    session
        .output
        .line(format!("{:<5}{path}{slash}", change.letters));
    let mut fields = path_fields(&change.path);
    fields["modifier"] = change.letters.into();
    fields["type"] = if change.is_folder { "dir" } else { "file" }.into();
    session.output.object("change", fields);
}

fn tell_counts(session: &Session, counts: &Differences) {
    let Differences {
        changed_files,
        added,
        removed,
        ..
    } = counts;
    let rows = [
        ("Files", added.files, removed.files),
        ("Folders", added.folders, removed.folders),
        ("Others", added.others, removed.others),
        ("Data blobs", added.data_blobs, removed.data_blobs),
        ("Tree blobs", added.tree_blobs, removed.tree_blobs),
    ];
    for (name, new, gone) in rows {
        let changed = if name == "Files" {
            format!(", {changed_files:5} changed")
        } else {
            String::new()
        };
        let line = format!("{name:<11} {new:5} new, {gone:5} removed{changed}");
        session.output.good_news(line);
    }
    for (name, bytes) in [("Added", added.bytes), ("Removed", removed.bytes)] {
        session
            .output
            .good_news(format!("{name:<11} {}", ByteSize(bytes)));
    }
}

fn tally(tally: &Tally) -> Value {
    json!({
        "files": tally.files,
        "folders": tally.folders,
        "others": tally.others,
        "data_blobs": tally.data_blobs,
        "tree_blobs": tally.tree_blobs,
        "bytes": tally.bytes,
    })
}
