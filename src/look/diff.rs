//! What differs between two snapshots: folder by folder, and only where their trees differ.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::walk::{Limits, MAX_WAITING, is_our_own};
use crate::entry::Kind;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Progress, go_on};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::pack::BlobKind;
use crate::repository::tree::{Content, Node};

/// How one path differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The path, seen from the two folders that are compared.
    pub path: PathBuf,
    /// Whether it is a folder, in the later one if it is in both.
    pub is_folder: bool,
    /// `+` added, `-` removed, `T` another kind, `M` another content, `U` other metadata; or `TU`, `MU`.
    pub letters: &'static str,
}

/// The two folders that are compared.
#[derive(Debug, Clone, Copy)]
pub struct Compared {
    /// The earlier.
    pub before: Id,
    /// The later.
    pub after: Id,
    /// Whether other metadata count, too.
    pub metadata: bool,
}

/// Counts of what only one side has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Files.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// All else.
    pub others: u64,
    /// Data blobs that only this side's differing folders need.
    pub data_blobs: u64,
    /// The same of trees.
    pub tree_blobs: u64,
    /// Plain bytes of both.
    pub bytes: u64,
}

/// All counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Differences {
    /// Files with another content.
    pub changed_files: u64,
    /// What only the later one has.
    pub added: Tally,
    /// What only the earlier one has.
    pub removed: Tally,
    /// Folders that cannot be read on one side at least, and were not compared.
    pub lost: u64,
}

/// Compares two folders. Every difference is told to `changed`, folders that cannot be read are told
/// to `lost`. Our own facts are no part of it: they differ always.
///
/// # Errors
/// [`Error::Damaged`] for folders that hold more than can be; [`Error::Storage`], [`Error::Interrupted`].
pub fn diff(
    repository: &Repository,
    index: &Index,
    compared: Compared,
    changed: &mut dyn FnMut(Change),
    lost: &mut dyn FnMut(&Path, &str),
    monitor: &dyn Monitor,
) -> Result<Differences> {
    let mut differ = Differ {
        index,
        metadata: compared.metadata,
        counts: Differences::default(),
        before: HashSet::new(),
        after: HashSet::new(),
        waiting: Vec::new(),
        changed,
    };
    let name = format!("{} or {}", compared.before.short(), compared.after.short());
    let mut limits = Limits::new(name);
    differ.compare_trees(PathBuf::from("/"), compared.before, compared.after);
    while let Some(pair) = differ.waiting.pop() {
        go_on(monitor)?;
        let mut read = |tree: Option<Id>| match tree.map(|tree| repository.read_tree(index, tree)) {
            None => Ok(Some(Vec::new())),
            Some(Ok(nodes)) => Ok(Some(nodes)),
            Some(Err(Error::Damaged { object, finding })) => {
                lost(&pair.path, &format!("{object}: {finding}"));
                Ok(None)
            }
            Some(Err(cause)) => Err(cause),
        };
        let (Some(before), Some(after)) = (read(pair.before)?, read(pair.after)?) else {
            differ.counts.lost += 1;
            continue;
        };
        let depth = pair.path.components().count();
        let nodes = before.iter().chain(&after);
        limits.admit((pair.before, pair.after), depth, &pair.path, nodes)?;
        let files = (before.len() + after.len()) as u64;
        monitor.progress(Progress { files, bytes: 0 });
        let reaches = differ.waiting.len();
        differ.compare(&pair.path, before, after);
        if differ.waiting.len() > MAX_WAITING {
            return Err(limits.damaged(format!(
                "they hold more than {MAX_WAITING} folders on one way"
            )));
        }
        // The last in is the first out.
        differ.waiting[reaches..].reverse();
    }
    differ.count_blobs();
    Ok(differ.counts)
}

/// A folder in both, or in one only.
struct Pair {
    path: PathBuf,
    before: Option<Id>,
    after: Option<Id>,
}

struct Differ<'a> {
    index: &'a Index,
    metadata: bool,
    counts: Differences,
    /// Blobs that the differing folders of each side need.
    before: HashSet<(BlobKind, Id)>,
    after: HashSet<(BlobKind, Id)>,
    waiting: Vec<Pair>,
    changed: &'a mut dyn FnMut(Change),
}

impl Differ<'_> {
    fn compare_trees(&mut self, path: PathBuf, before: Id, after: Id) {
        note(&mut self.before, self.index, BlobKind::Tree, before);
        note(&mut self.after, self.index, BlobKind::Tree, after);
        if before != after {
            self.waiting.push(Pair {
                path,
                before: Some(before),
                after: Some(after),
            });
        }
    }

    /// Compares what two folders hold; both lists are in the order of the names.
    fn compare(&mut self, folder: &Path, before: Vec<Node>, after: Vec<Node>) {
        let mut before = before.into_iter().peekable();
        let mut after = after.into_iter().peekable();
        loop {
            let order = match (before.peek(), after.peek()) {
                (Some(old), Some(new)) => old.entry.name.cmp(&new.entry.name),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return,
            };
            let old = before.next_if(|_| order != Ordering::Greater);
            let new = after.next_if(|_| order != Ordering::Less);
            let name = old.as_ref().or(new.as_ref()).map(|node| &node.entry.name);
            let path = folder.join(name.map_or("".as_ref(), |name| name.as_os_str()));
            if is_our_own(&path) {
                continue;
            }
            match (old, new) {
                (Some(old), Some(new)) => self.compare_nodes(path, &old, &new),
                (Some(old), None) => self.only_before(path, &old),
                (None, Some(new)) => self.only_after(path, &new),
                (None, None) => {}
            }
        }
    }

    fn compare_nodes(&mut self, path: PathBuf, old: &Node, new: &Node) {
        note_node(&mut self.before, self.index, old);
        note_node(&mut self.after, self.index, new);
        let is_folder = new.entry.kind == Kind::Folder;
        let is_other_kind = old.entry.kind.name() != new.entry.kind.name();
        let is_other_content = match (&old.content, &new.content) {
            (Content::File { blobs: old, .. }, Content::File { blobs: new, .. }) => old != new,
            // The text of a link, and the number of a device, is what it holds.
            _ => !is_other_kind && old.entry.kind != new.entry.kind,
        };
        let is_updated = self.metadata && old != new;
        let letters = match (is_other_kind, is_other_content, is_updated) {
            (true, _, true) => "TU",
            (true, _, false) => "T",
            (false, true, _) => "M",
            (false, false, true) => "U",
            (false, false, false) => "",
        };
        if is_other_content && new.entry.kind == Kind::File {
            self.counts.changed_files += 1;
        }
        if !letters.is_empty() {
            (self.changed)(Change {
                path: path.clone(),
                is_folder,
                letters,
            });
        }
        match (&old.content, &new.content) {
            (Content::Folder { tree: old }, Content::Folder { tree: new }) => {
                self.compare_trees(path, *old, *new);
            }
            // A folder that became something else is gone with all that was in it.
            (Content::Folder { tree }, _) => self.push(path, Some(*tree), None),
            (_, Content::Folder { tree }) => self.push(path, None, Some(*tree)),
            _ => {}
        }
    }

    fn only_before(&mut self, path: PathBuf, node: &Node) {
        note_node(&mut self.before, self.index, node);
        self.counts.removed.add(node);
        self.tell_alone(&path, node, "-");
        if let Content::Folder { tree } = node.content {
            self.push(path, Some(tree), None);
        }
    }

    fn only_after(&mut self, path: PathBuf, node: &Node) {
        note_node(&mut self.after, self.index, node);
        self.counts.added.add(node);
        self.tell_alone(&path, node, "+");
        if let Content::Folder { tree } = node.content {
            self.push(path, None, Some(tree));
        }
    }

    fn tell_alone(&mut self, path: &Path, node: &Node, letters: &'static str) {
        (self.changed)(Change {
            path: path.to_owned(),
            is_folder: node.entry.kind == Kind::Folder,
            letters,
        });
    }

    fn push(&mut self, path: PathBuf, before: Option<Id>, after: Option<Id>) {
        self.waiting.push(Pair {
            path,
            before,
            after,
        });
    }

    fn count_blobs(&mut self) {
        for (mine, others, tally) in [
            (&self.after, &self.before, &mut self.counts.added),
            (&self.before, &self.after, &mut self.counts.removed),
        ] {
            for (kind, id) in mine.difference(others) {
                match kind {
                    BlobKind::Data => tally.data_blobs += 1,
                    BlobKind::Tree => tally.tree_blobs += 1,
                }
                let length = self
                    .index
                    .find(*kind, *id)
                    .map_or(0, |at| at.plain_length());
                tally.bytes = tally.bytes.saturating_add(length);
            }
        }
    }
}

impl Tally {
    fn add(&mut self, node: &Node) {
        match node.entry.kind {
            Kind::File => self.files += 1,
            Kind::Folder => self.folders += 1,
            _ => self.others += 1,
        }
    }
}

/// Takes a blob down, if there is one: the names of those that are not there are anybody's choice.
fn note(set: &mut HashSet<(BlobKind, Id)>, index: &Index, kind: BlobKind, id: Id) {
    if index.find(kind, id).is_some() {
        set.insert((kind, id));
    }
}

fn note_node(set: &mut HashSet<(BlobKind, Id)>, index: &Index, node: &Node) {
    match &node.content {
        Content::File { blobs, .. } => {
            for id in blobs {
                note(set, index, BlobKind::Data, *id);
            }
        }
        Content::Folder { tree } => note(set, index, BlobKind::Tree, *tree),
        Content::Nothing => {}
    }
}
