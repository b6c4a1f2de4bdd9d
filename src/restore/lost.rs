//! What cannot be brought back, and in which other snapshots it still lies whole.

use std::collections::HashMap;
use std::path::{Component, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::item::Item;
use super::log::log_name;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Quiet, go_on};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::pack::BlobKind;
use crate::repository::snapshot::Snapshot;
use crate::repository::tree::{Content, Node};
use crate::source::sqlite::wal;

/// Most snapshots that are named for one item.
const MAX_NAMED: usize = 3;
/// Most items that are looked for elsewhere.
const MAX_SEARCHED: usize = 1000;
/// Most bytes that a restore reads for it.
pub(super) const MAX_READ: u64 = 16 * 1024 * 1024 * 1024;
/// Most nodes of trees that are kept in memory meanwhile.
const MAX_KEPT: usize = 500_000;

/// A file or folder that cannot be brought back: no whole copy of what it is made of is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its path in the snapshot.
    pub path: PathBuf,
    /// Why not.
    pub finding: String,
    /// Whether it is a folder: lost with all below it, and restored empty.
    pub is_folder: bool,
    /// Other snapshots that hold it whole under the same path: the newest, newest first.
    pub intact_in: Vec<Holder>,
    /// Whether all other snapshots were searched, as far as it needs; else there may be more.
    pub searched: bool,
}

/// A snapshot that holds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The snapshot.
    pub id: Id,
    /// Of when it is.
    pub time: Timestamp,
}

impl Lost {
    pub(super) const fn new(path: PathBuf, finding: String, is_folder: bool) -> Self {
        Self {
            path,
            finding,
            is_folder,
            intact_in: Vec::new(),
            searched: false,
        }
    }
}

/// What the index alone shows to be wrong with a file: a blob that is nowhere, or a size that is not
/// that of its blobs. Room is reckoned from the one, and offsets are computed from the others.
pub(super) fn fault(index: &Index, item: &Item) -> Option<String> {
    let Content::File { blobs, size } = &item.content else {
        return None;
    };
    let mut held = 0_u64;
    for id in item.blobs() {
        let Some(location) = index.find(BlobKind::Data, *id) else {
            return Some(format!("no index names its blob {}", id.short()));
        };
        held = held.saturating_add(location.plain_length());
    }
    if let Some(log) = &item.log {
        return log.fault(index, blobs, *size);
    }
    (held != *size).then(|| format!("its blobs hold {held} bytes, its folder says {size}"))
}

/// What is wrong with a file once all its blobs are read; `None` if it is whole.
///
/// # Errors
/// [`Error::Storage`]: that is not the file's fault.
pub(super) fn read_fault(
    repository: &Repository,
    index: &Index,
    item: &Item,
) -> Result<Option<String>> {
    if let Some(finding) = fault(index, item) {
        return Ok(Some(finding));
    }
    for id in item.blobs() {
        match repository.read_blob(index, BlobKind::Data, *id) {
            Err(cause @ Error::Damaged { .. }) => return Ok(Some(cause.to_string())),
            other => drop(other?),
        }
    }
    Ok(None)
}

/// Looks for what is lost in all snapshots but `of`, newest first, and reads at most so many bytes for it.
/// `known` says of some blobs whether they are whole.
///
/// # Errors
/// [`Error::Storage`], [`Error::Interrupted`].
pub(super) fn search(
    repository: &Repository,
    index: &Index,
    of: &Snapshot,
    lost: &mut [Lost],
    known: HashMap<Id, bool>,
    max_read: u64,
    monitor: &dyn Monitor,
) -> Result<()> {
    if lost.is_empty() {
        return Ok(());
    }
    // What is wrong with other snapshots was told when this one was chosen.
    let mut others = repository.snapshots(&Quiet::default())?.readable;
    others.retain(|other| other.id != of.id && !other.is_record());
    let end = lost.len().min(MAX_SEARCHED);
    let lost = &mut lost[..end];
    let mut search = Search {
        repository,
        index,
        trees: HashMap::new(),
        kept: 0,
        blobs: known,
        readable: Some(max_read),
    };
    for snapshot in others.iter().rev() {
        let wanting = lost
            .iter_mut()
            .filter(|lost| lost.intact_in.len() < MAX_NAMED);
        for lost in wanting {
            go_on(monitor)?;
            if search.holds(snapshot, lost)? {
                lost.intact_in.push(Holder {
                    id: snapshot.id,
                    time: snapshot.file.time,
                });
            }
        }
    }
    for lost in lost {
        lost.searched = search.readable.is_some() || lost.intact_in.len() == MAX_NAMED;
    }
    Ok(())
}

struct Search<'a> {
    repository: &'a Repository,
    index: &'a Index,
    /// Trees met before; none for those that cannot be read.
    trees: HashMap<Id, Option<Arc<Vec<Node>>>>,
    /// Nodes in them.
    kept: usize,
    /// Whether blobs met before are whole.
    blobs: HashMap<Id, bool>,
    /// Bytes that may still be read; none once there were too many.
    readable: Option<u64>,
}

impl Search<'_> {
    /// Whether the snapshot holds the same path, whole.
    fn holds(&mut self, snapshot: &Snapshot, lost: &Lost) -> Result<bool> {
        let is_name = |part: &Component<'_>| matches!(part, Component::Normal(_));
        let mut names = lost.path.components().filter(is_name).peekable();
        let mut nodes = self.tree(snapshot.file.tree)?;
        while let Some(name) = names.next() {
            let found = nodes.as_ref().and_then(|nodes| {
                nodes
                    .iter()
                    .find(|node| node.entry.name == name.as_os_str())
            });
            let is_last = names.peek().is_none();
            match found.map(|node| &node.content) {
                Some(Content::Folder { tree }) => {
                    let inner = self.tree(*tree)?;
                    if is_last {
                        return Ok(lost.is_folder && inner.is_some());
                    }
                    nodes = inner;
                }
                Some(Content::File { blobs, size }) if is_last && !lost.is_folder => {
                    // What lies beside a database as its log is a part of it.
                    let log = log_name(name.as_os_str());
                    let nodes = nodes.as_deref().into_iter().flatten();
                    let log = nodes
                        .filter(|node| node.entry.name == log)
                        .find_map(|node| match &node.content {
                            Content::File { blobs, size } => Some((blobs.clone(), *size)),
                            Content::Folder { .. } | Content::Nothing => None,
                        });
                    let (blobs, size) = (blobs.clone(), *size);
                    if !self.is_whole(&blobs, size)? {
                        return Ok(false);
                    }
                    return match log {
                        Some((blobs, size)) => self.is_whole(&blobs, size),
                        None => Ok(!self.is_of_a_pair(&blobs)?),
                    };
                }
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Whether what begins with these blobs is the base of a database that is not whole without its log.
    fn is_of_a_pair(&self, blobs: &[Id]) -> Result<bool> {
        let first = blobs.first().map(|first| {
            let read = self
                .repository
                .read_blob(self.index, BlobKind::Data, *first);
            unless_damaged(read)
        });
        let first = first.transpose()?.flatten();
        Ok(first.is_some_and(|first| wal::is_refusing(&first)))
    }

    /// The tree, if it can be read.
    fn tree(&mut self, id: Id) -> Result<Option<Arc<Vec<Node>>>> {
        if let Some(known) = self.trees.get(&id) {
            return Ok(known.clone());
        }
        let read = unless_damaged(self.repository.read_tree(self.index, id))?.map(Arc::new);
        self.kept += read.as_ref().map_or(1, |nodes| nodes.len());
        if self.kept > MAX_KEPT {
            self.trees.clear();
            self.kept = 0;
        }
        self.trees.insert(id, read.clone());
        Ok(read)
    }

    /// Whether all blobs are whole, and the file's size is theirs.
    fn is_whole(&mut self, blobs: &[Id], size: u64) -> Result<bool> {
        let mut held = 0_u64;
        for id in blobs {
            let Some(location) = self.index.find(BlobKind::Data, *id) else {
                return Ok(false);
            };
            held = held.saturating_add(location.plain_length());
        }
        // First what is known, for that costs nothing.
        if held != size || blobs.iter().any(|id| self.blobs.get(id) == Some(&false)) {
            return Ok(false);
        }
        for id in blobs {
            if self.blobs.contains_key(id) {
                continue;
            }
            let Some(readable) = self.readable else {
                return Ok(false);
            };
            let read = self.repository.read_blob(self.index, BlobKind::Data, *id);
            let read = unless_damaged(read)?;
            let bytes = read.as_ref().map_or(0, Vec::len) as u64;
            self.readable = readable.checked_sub(bytes);
            self.blobs.insert(*id, read.is_some());
            if read.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What was read, or none if it is damaged.
fn unless_damaged<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(Error::Damaged { .. }) => Ok(None),
        Err(cause) => Err(cause),
    }
}
