//! Other tags for a snapshot: it is stored anew under them, and only then the old object goes.
//!
//! Whoever is killed in between leaves the snapshot there twice, under the old tags and under the new
//! ones. The next change of tags recognises such a pair: both have the same origin and differ in nothing
//! else, so that what has the tags that both are to have is not stored a second time.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Repository;
use super::lock::Lock;
use super::snapshot::{OWN_MARKS, Snapshot, SnapshotFile};
use crate::backend::Class;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, go_on};

/// What is to become of the tags of snapshots.
#[derive(Debug, Clone, Default)]
pub struct TagChange {
    /// Instead of all that are there, but for [`OWN_MARKS`], which go only by name.
    pub set: Option<Vec<String>>,
    /// Added where they are not there yet.
    pub add: Vec<String>,
    /// Taken away.
    pub remove: Vec<String>,
}

/// A snapshot that has other tags now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retagged {
    /// The object that was removed.
    pub old: Id,
    /// The one that stands for it.
    pub new: Id,
    /// Its tags.
    pub tags: Vec<String>,
}

impl TagChange {
    /// The tags that a snapshot with `tags` is to have.
    #[must_use]
    pub fn apply(&self, tags: &[String]) -> Vec<String> {
        let mut changed = match &self.set {
            Some(set) => {
                let is_own = |tag: &&String| OWN_MARKS.contains(&tag.as_str());
                let kept = tags.iter().filter(is_own);
                set.iter().chain(kept).cloned().collect()
            }
            None => tags.to_vec(),
        };
        changed.extend(self.add.iter().cloned());
        changed.retain(|tag| !self.remove.contains(tag));
        let mut seen = BTreeSet::new();
        changed.retain(|tag| seen.insert(tag.clone()));
        changed
    }
}

impl Repository {
    /// Gives those of `snapshots` that are `chosen` other tags. `snapshots` are all that there are, read
    /// under `lock`, which is an exclusive one.
    ///
    /// # Errors
    /// [`Error::LockLost`], [`Error::Storage`], [`Error::Interrupted`]: then each snapshot is there at
    /// least once, and the same call goes on. [`Error::Unsupported`] for a repository of version 1.
    pub fn tag(
        &self,
        snapshots: &[Snapshot],
        chosen: &BTreeSet<Id>,
        change: &TagChange,
        lock: &Lock,
        monitor: &dyn Monitor,
    ) -> Result<Vec<Retagged>> {
        self.require_writable()?;
        let is_chosen = |snapshot: &&Snapshot| {
            let mut named = snapshots.iter().filter(|other| chosen.contains(&other.id));
            named.any(|other| is_same_capture(other, snapshot))
        };
        let (mut right, wrong): (Vec<Snapshot>, Vec<Snapshot>) = snapshots
            .iter()
            .filter(is_chosen)
            .cloned()
            .partition(|snapshot| {
                let tags = &snapshot.file.tags;
                as_set(tags) == as_set(&change.apply(tags))
            });
        let mut changed = Vec::new();
        for old in wrong {
            go_on(monitor)?;
            lock.require_held()?;
            let tags = change.apply(&old.file.tags);
            let is_it = |other: &&Snapshot| {
                is_same_capture(other, &old) && as_set(&other.file.tags) == as_set(&tags)
            };
            let new = match right.iter().find(is_it) {
                Some(stored) => stored.clone(),
                None => self.store_tagged(&old, tags, lock)?,
            };
            self.remove_snapshot(old.id)?;
            changed.push(Retagged {
                old: old.id,
                new: new.id,
                tags: new.file.tags.clone(),
            });
            right.push(new);
        }
        Ok(changed)
    }

    /// Stores `old` under other tags, and reads it back. All else stays as it stands there, also what
    /// only other programs know.
    fn store_tagged(&self, old: &Snapshot, tags: Vec<String>, lock: &Lock) -> Result<Snapshot> {
        let original = old.origin();
        let mut json: Value = self.load_json(Class::Snapshots, old.id)?;
        let Some(fields) = json.as_object_mut() else {
            unreachable!("it was read as a snapshot before");
        };
        fields.insert("original".to_owned(), original.to_string().into());
        if tags.is_empty() {
            fields.remove("tags");
        } else {
            fields.insert("tags".to_owned(), tags.clone().into());
        }
        let id = self.save_snapshot_json(&json, lock)?;
        let stored: Value = self.load_json(Class::Snapshots, id)?;
        if stored != json {
            return Err(Error::Damaged {
                object: format!("snapshots/{id}"),
                finding: "it is not what was written; the old one stays".into(),
            });
        }
        let file = SnapshotFile {
            tags,
            original: Some(original),
            ..old.file.clone()
        };
        Ok(Snapshot { id, file })
    }
}

/// Whether two objects are the same snapshot under perhaps different tags.
fn is_same_capture(one: &Snapshot, other: &Snapshot) -> bool {
    let bare = |snapshot: &Snapshot| SnapshotFile {
        tags: Vec::new(),
        original: Some(snapshot.origin()),
        ..snapshot.file.clone()
    };
    one.id == other.id || (one.origin() == other.origin() && bare(one) == bare(other))
}

fn as_set(tags: &[String]) -> BTreeSet<&String> {
    tags.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn our_own_marks_go_only_by_name() {
        let change = |set: Option<&str>, add: &str, remove: &str| TagChange {
            set: set.map(words),
            add: words(add),
            remove: words(remove),
        };
        for (change, before, after) in [
            (change(None, "b a", ""), "a", "a b"),
            (change(None, "", "a x"), "a b a", "b"),
            (
                change(Some("c c"), "", ""),
                "a incomplete b suspect",
                "c incomplete suspect",
            ),
            (change(Some(""), "", ""), "a b", ""),
            (
                change(None, "suspect", "incomplete"),
                "incomplete",
                "suspect",
            ),
            (change(Some("c"), "", "incomplete"), "incomplete", "c"),
        ] {
            assert_eq!(
                change.apply(&words(before)),
                words(after),
                "{change:?} {before}"
            );
        }
    }
}
