//! Which snapshots of records say nothing that another one does not say.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;

use super::read::{MAX_FILES, MAX_RECORDS, folder, holders};
use crate::error::Result;
use crate::id::Id;
use crate::monitor::{Monitor, go_on};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::snapshot::Snapshot;
use crate::repository::tree::Content;

/// Most snapshots of records that none stands for: so many forks no honest run makes.
const MAX_FORKS: usize = 1_000;

/// A file by its name and its blobs: what is equal is the same file on the same storage.
type Files = HashSet<(OsString, Vec<Id>)>;

/// The snapshots of records whose files a later one all holds: they may be removed. One that cannot be
/// read is none of them, nor does it stand for another.
///
/// # Errors
/// [`Error::Storage`](crate::error::Error::Storage), [`Error::Interrupted`](crate::error::Error::Interrupted).
pub fn superseded(
    repository: &Repository,
    index: &Index,
    snapshots: &[Snapshot],
    monitor: &dyn Monitor,
) -> Result<BTreeSet<Id>> {
    let mut kept: Vec<Files> = Vec::new();
    let mut gone = BTreeSet::new();
    let mut left = MAX_FILES;
    for holder in holders(snapshots) {
        go_on(monitor)?;
        let Ok(nodes) = folder(repository, index, holder)? else {
            continue;
        };
        let Some(rest) = left.checked_sub(nodes.len()) else {
            break;
        };
        if kept.len() >= MAX_FORKS {
            break;
        }
        left = rest;
        let files: Option<Files> = nodes
            .into_iter()
            .map(|node| match node.content {
                Content::File { blobs, .. } => Some((node.entry.name, blobs)),
                Content::Folder { .. } | Content::Nothing => None,
            })
            .collect();
        // What holds anything else is not ours to judge.
        let Some(files) = files else {
            continue;
        };
        // More than are read: it stands for no other, and stays.
        if files.len() > MAX_RECORDS {
            continue;
        }
        if kept.iter().any(|later| files.is_subset(later)) {
            gone.insert(holder.id);
        } else {
            kept.push(files);
        }
    }
    Ok(gone)
}
