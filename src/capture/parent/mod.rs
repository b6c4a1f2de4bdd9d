//! The snapshot before: what files were then, so that those that were left alone need not be read again.
//!
//! A file counts as left alone only if everything says so: kind, size, both times and inode are those of
//! then, the times lie safely before that snapshot was begun, and each of its blobs is in a pack that
//! stays (docs/design/unchanged.md). Whatever is damaged or missing of the snapshot before is no failure:
//! those files are read.

mod images;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path};

use jiff::{SignedDuration, Timestamp};

use super::manifest;
use crate::entry::{Attribute, Entry, Kind};
use crate::error::Error;
use crate::id::Id;
use crate::monitor::{Monitor, Problem};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::pack::BlobKind;
use crate::repository::snapshot::{Snapshot, SnapshotFile};
use crate::repository::tree::{Content, Node};
use crate::repository::tree_writer::StoredFile;
use crate::source::files::{Entries, Item};
pub use images::{Image, Images};

/// How long before a snapshot was begun a file must have been left alone for its times to tell.
///
/// A second change within one tick of the file system leaves the times as they are: a few milliseconds,
/// two seconds on FAT. Worse, who writes through a memory map sets the times only when a clean page
/// becomes dirty, and the kernel cleans pages within 35 s (`dirty_expire_centisecs` and
/// `dirty_writeback_centisecs`).
const LEFT_ALONE: SignedDuration = SignedDuration::from_secs(60);

/// What of a file must be as it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recognition {
    /// Nothing is recognised: all files are read.
    pub force: bool,
    /// Inodes tell nothing: the file system gives a file another one each time it is mounted.
    pub ignore_inode: bool,
}

/// The snapshot to compare with.
#[derive(Debug)]
pub struct Parent<'a> {
    repository: &'a Repository,
    index: &'a Index,
    tree: Option<Id>,
    /// Times from here on do not tell.
    limit: Timestamp,
    ignore_inode: bool,
    is_ours: bool,
    /// Whether it holds all attributes that were there.
    has_attributes: bool,
}

impl<'a> Parent<'a> {
    /// Compares with `snapshot`, or with nothing.
    #[must_use]
    pub fn new(
        repository: &'a Repository,
        index: &'a Index,
        snapshot: Option<&Snapshot>,
        recognition: Recognition,
    ) -> Self {
        let file = snapshot.map(|snapshot| &snapshot.file);
        let is_ours = file.is_some_and(|file| file.program_version.starts_with("tillsafe "));
        Self {
            repository,
            index,
            tree: file.map(|file| file.tree),
            limit: snapshot.map_or(Timestamp::MIN, limit),
            ignore_inode: recognition.ignore_inode,
            is_ours,
            has_attributes: is_ours && file.is_some_and(has_attributes),
        }
    }

    /// The index that tells what of it is there.
    #[must_use]
    pub const fn index(&self) -> &'a Index {
        self.index
    }

    /// Whether databases were told from files when it was made, and this was none. An image has no inode: it
    /// must not pass for the file again where inodes are not compared.
    #[must_use]
    pub const fn is_no_database(&self, node: &Node) -> bool {
        self.is_ours && node.entry.place.inode != 0
    }

    /// The extended attributes of a file that is [unchanged](Self::unchanged): who sets one changes the inode, and so the
    /// time of its last change.
    #[must_use]
    pub fn attributes<'b>(&self, node: &'b Node) -> Option<&'b [Attribute]> {
        self.has_attributes
            .then_some(node.entry.attributes.as_slice())
    }

    /// What is stored of the file, if it is still as it was; `size` in bytes.
    #[must_use]
    pub fn unchanged(&self, node: &Node, entry: &Entry, size: u64) -> Option<StoredFile> {
        let limit = self.limit;
        let Content::File { blobs, .. } = &node.content else {
            return None;
        };
        if !looks_unchanged(node, entry, size, limit, self.ignore_inode) {
            return None;
        }
        self.stored(blobs, size)
    }

    /// These blobs, if each is in a pack that stays and they have so many bytes in all.
    fn stored(&self, blobs: &[Id], size: u64) -> Option<StoredFile> {
        let mut sum = 0_u64;
        for blob in blobs {
            sum = sum.saturating_add(self.length(*blob)?);
        }
        (sum == size).then(|| StoredFile {
            blobs: blobs.to_vec(),
            size,
        })
    }

    /// Whether a file was read when this snapshot was made, was no database, and is still as it was.
    #[must_use]
    pub fn tells_no_database(&self, before: &Node, item: &Item) -> bool {
        let entry = Entries::bare(item, Kind::File);
        self.is_no_database(before) && self.unchanged(before, &entry, item.size()).is_some()
    }

    /// The length of a blob that is in a pack that stays.
    fn length(&self, id: Id) -> Option<u64> {
        let location = self.index.find_sound(BlobKind::Data, id);
        location.map(|location| location.plain_length())
    }

    /// Begins to go down its folders, beside whoever walks through the source.
    #[must_use]
    pub fn descend<'b>(&'b self, monitor: &'b dyn Monitor) -> Descent<'b> {
        let mut descent = Descent {
            parent: self,
            monitor,
            levels: Vec::new(),
            lost: false,
        };
        let root = descent.read(self.tree);
        descent.levels.push(root);
        descent
    }
}

/// Whether a snapshot has all attributes that we would see. One that could not be read makes it incomplete, unless somebody has taken
/// the mark from it since; and some are shown to root alone.
fn has_attributes(file: &SnapshotFile) -> bool {
    let ours = rustix::process::getuid().as_raw();
    !file.is_incomplete() && file.original.is_none() && file.uid == ours
}

/// Whether a file is what `then` was, by all that the file system says of it.
fn looks_unchanged(
    then: &Node,
    entry: &Entry,
    size: u64,
    limit: Timestamp,
    ignore_inode: bool,
) -> bool {
    let Content::File {
        size: then_size, ..
    } = then.content
    else {
        return false;
    };
    let then = &then.entry;
    entry.kind == Kind::File
        && (then_size, then.modified, then.changed) == (size, entry.modified, entry.changed)
        && (ignore_inode || then.place.inode == entry.place.inode)
        && entry.modified.max(entry.changed) < limit
}

/// What was changed at that moment or later may be other than the snapshot holds, under the same times.
///
/// The earliest of all that is said of its begin: a clock that was set back meanwhile must not make what
/// was just written look old.
fn limit(snapshot: &Snapshot) -> Timestamp {
    let summary = snapshot.file.summary.as_ref();
    // Whoever leaves a time out has it at zero.
    let said = |time: Timestamp| (time > Timestamp::UNIX_EPOCH).then_some(time);
    let times = summary.map(|summary| [said(summary.backup_start), said(summary.backup_end)]);
    let times = times.into_iter().flatten().flatten();
    let begun = times.chain([snapshot.file.time]).min();
    begun
        .and_then(|begun| begun.checked_sub(LEFT_ALONE).ok())
        .unwrap_or(Timestamp::MIN)
}

/// A way down: the folders of the parent that the walk is in, one level each.
#[derive(Debug)]
pub struct Descent<'a> {
    parent: &'a Parent<'a>,
    monitor: &'a dyn Monitor,
    levels: Vec<BTreeMap<OsString, Node>>,
    /// Whether a folder could not be read; said once.
    lost: bool,
}

impl Descent<'_> {
    /// Goes into a folder, and returns what it was.
    pub fn enter(&mut self, name: &OsStr) -> Option<Node> {
        let node = self.take(name);
        let tree = match node.as_ref().map(|node| &node.content) {
            Some(Content::Folder { tree }) => Some(*tree),
            _ => None,
        };
        let level = self.read(tree);
        self.levels.push(level);
        node
    }

    /// Leaves the folder that was entered last.
    pub fn leave(&mut self) {
        self.levels.pop();
    }

    /// What was there under this name in the folder that was entered last. Each is given once: it is
    /// asked for once, and what was passed need not be kept.
    pub fn take(&mut self, name: &OsStr) -> Option<Node> {
        self.levels.last_mut()?.remove(name)
    }

    /// What is in the folder of this absolute path. Only from the outermost folder.
    fn folder(&mut self, path: &Path) -> Option<BTreeMap<OsString, Node>> {
        let names = path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        });
        let mut folder = self.levels.first()?.clone();
        for name in names {
            let Content::Folder { tree } = folder.remove(name)?.content else {
                return None;
            };
            folder = self.read(Some(tree));
        }
        Some(folder)
    }

    /// What the folder of our own facts was; at the end, when all else was left.
    pub fn take_own_folder(&mut self) -> Option<Node> {
        self.take(OsStr::new(manifest::FOLDER))
    }

    fn read(&mut self, tree: Option<Id>) -> BTreeMap<OsString, Node> {
        let Some(tree) = tree else {
            return BTreeMap::new();
        };
        match self.parent.repository.read_tree(self.parent.index, tree) {
            Ok(nodes) => nodes
                .into_iter()
                .map(|node| (node.entry.name.clone(), node))
                .collect(),
            Err(cause) => {
                self.tell(&cause);
                BTreeMap::new()
            }
        }
    }

    /// The snapshot before has lost something. This one will not: its files are read.
    fn tell(&mut self, cause: &Error) {
        if !std::mem::replace(&mut self.lost, true) {
            self.monitor.problem(Problem {
                item: "the snapshot before".to_owned(),
                finding: format!(
                    "has a folder that cannot be read, and so its files are read again: {cause}; `tillsafe check` tells more"
                ),
                incomplete: false,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Owner, Place};

    #[test]
    fn each_sign_of_a_change_counts() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let entry = Entry {
            name: "a".into(),
            kind: Kind::File,
            mode: 0o644,
            modified: at(100),
            changed: at(200),
            owner: Owner::default(),
            place: Place {
                device: 1,
                inode: 7,
                links: 1,
            },
            attributes: Vec::new(),
        };
        let content = Content::File {
            blobs: Vec::new(),
            size: 5,
        };
        let then = Node {
            entry: entry.clone(),
            content,
        };
        let told = |entry: &Entry, size, limit, ignore_inode| {
            looks_unchanged(&then, entry, size, at(limit), ignore_inode)
        };
        assert!(told(&entry, 5, 201, false));
        assert!(!told(&entry, 6, 201, false), "size");
        assert!(!told(&entry, 5, 200, false), "changed too late");
        let other = |change: fn(&mut Entry)| {
            let mut other = entry.clone();
            change(&mut other);
            other
        };
        for (what, changed) in [
            (
                "modified",
                other(|entry| entry.modified = Timestamp::UNIX_EPOCH),
            ),
            (
                "changed",
                other(|entry| entry.changed = Timestamp::UNIX_EPOCH),
            ),
            ("kind", other(|entry| entry.kind = Kind::Folder)),
        ] {
            assert!(!told(&changed, 5, 201, true), "{what}");
        }
        let inode = other(|entry| entry.place.inode = 8);
        assert!(!told(&inode, 5, 201, false) && told(&inode, 5, 201, true));
        // A disk that is mounted anew may get another number.
        assert!(told(&other(|entry| entry.place.device = 2), 5, 201, false));
    }
}
