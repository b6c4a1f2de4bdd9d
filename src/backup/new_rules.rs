//! Whether a snapshot is the first of its series by its rules: then what they have left out may be a slip of
//! the keyboard, and no whole snapshot is to make room for it. From the second on they are meant.

use crate::capture::manifest::{self, Manifest};
use crate::error::Result;
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::snapshot::Snapshot;
use crate::source::files::exclude::Rules;

/// Most earlier snapshots that are asked for their rules. Where several sets of rules take turns, each is
/// found among so many; and a series of thousands is not read for one that is new.
const MOST_ASKED: usize = 30;

/// Whether the rules of `manifest` have left something out, and none of the `earlier` ones, newest first, was
/// made by them. The first of a series is as its owner wants it: there is nothing that it holds less than.
pub fn are_new(
    manifest: &Manifest,
    earlier: &[Snapshot],
    repository: &Repository,
    index: &Index,
) -> bool {
    let Some(ours) = manifest.excluded.as_ref().filter(|ours| ours.items > 0) else {
        return false;
    };
    let is_by_them = |one: &Snapshot| {
        // What cannot be read tells nothing.
        rules_of(one, repository, index).is_ok_and(|rules| rules == ours.rules)
    };
    !earlier.is_empty() && !earlier.iter().take(MOST_ASKED).any(is_by_them)
}

/// The rules of a snapshot; of another program's, the patterns that it names.
fn rules_of(snapshot: &Snapshot, repository: &Repository, index: &Index) -> Result<Rules> {
    let root = repository.read_tree(index, snapshot.file.tree)?;
    let found = manifest::find(repository, index, &root)?;
    Ok(match found {
        Some(found) => found.excluded.map(|ours| ours.rules).unwrap_or_default(),
        None => Rules {
            patterns: snapshot.file.excludes.clone(),
            ..Rules::default()
        },
    })
}
