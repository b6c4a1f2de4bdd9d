//! All records of a repository, united.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use super::record::{MAX_BYTES, Record};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Problem, go_on};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::pack::BlobKind;
use crate::repository::snapshot::{RECORDS, Snapshot};
use crate::repository::tree::{Content, Node};
use crate::units::shown;

/// Most records that are read: one a day for 27 years.
pub const MAX_RECORDS: usize = 10_000;
/// Most files in folders of records that are looked at, of all snapshots together: a second or two.
pub const MAX_FILES: usize = 1_000_000;
/// Most problems that are told.
const MAX_TOLD: usize = 20;

/// What the records of a repository say.
#[derive(Debug, Default)]
pub struct Known {
    /// By the hash of their bytes.
    pub records: BTreeMap<Id, Record>,
}

impl Known {
    /// The last ones: those that no other names as one before it.
    pub fn heads(&self) -> Vec<Id> {
        let before: BTreeSet<&Id> = self.previous().collect();
        let is_head = |id: &&Id| !before.contains(id);
        self.records.keys().filter(is_head).copied().collect()
    }

    fn previous(&self) -> impl Iterator<Item = &Id> {
        let records = self.records.values();
        records.flat_map(|record| &record.says.previous)
    }
}

/// Reads the records in all snapshots that hold some, those that were written last first.
pub fn read(
    repository: &Repository,
    index: &Index,
    snapshots: &[Snapshot],
    monitor: &dyn Monitor,
) -> Result<Known> {
    let mut reader = Reader {
        repository,
        index,
        monitor,
        trees: snapshots
            .iter()
            .map(|snapshot| (snapshot.id, snapshot.file.tree))
            .collect(),
        seen: HashSet::new(),
        files_left: MAX_FILES,
        told: 0,
        known: Known::default(),
    };
    let mut trees = HashSet::new();
    for holder in holders(snapshots) {
        go_on(monitor)?;
        if trees.insert(holder.file.tree) {
            reader.read_holder(holder)?;
        }
    }
    reader.tell_missing();
    Ok(reader.known)
}

/// The snapshots that hold records, those that were written last first.
pub fn holders(snapshots: &[Snapshot]) -> Vec<&Snapshot> {
    let mut holders: Vec<&Snapshot> = snapshots.iter().filter(|one| one.is_record()).collect();
    let written = |holder: &&Snapshot| holder.file.summary.map(|summary| summary.backup_end);
    holders.sort_by_key(|holder| std::cmp::Reverse((written(holder), holder.file.time, holder.id)));
    holders
}

/// The folder that holds a snapshot's records, or why it cannot be read.
pub fn folder(
    repository: &Repository,
    index: &Index,
    holder: &Snapshot,
) -> Result<std::result::Result<Vec<Node>, String>> {
    let read = |tree| match repository.read_tree(index, tree) {
        Err(cause @ Error::Damaged { .. }) => Ok(Err(cause.to_string())),
        other => other.map(Ok),
    };
    let mut nodes = read(holder.file.tree)?;
    for name in Path::new(RECORDS).iter().skip(1) {
        let inner = match &nodes {
            Ok(nodes) => nodes.iter().find(|node| node.entry.name == name),
            Err(_) => return Ok(nodes),
        };
        let Some(Content::Folder { tree }) = inner.map(|node| &node.content) else {
            return Ok(Err(format!("holds no {RECORDS}")));
        };
        nodes = read(*tree)?;
    }
    Ok(nodes)
}

struct Reader<'a> {
    repository: &'a Repository,
    index: &'a Index,
    monitor: &'a dyn Monitor,
    /// The trees of the snapshots that are there.
    trees: HashMap<Id, Id>,
    /// Files that were looked at: their name and their blob.
    seen: HashSet<(Vec<u8>, Id)>,
    files_left: usize,
    told: usize,
    known: Known,
}

impl Reader<'_> {
    fn read_holder(&mut self, holder: &Snapshot) -> Result<()> {
        let item = format!("snapshots/{}", holder.id);
        let nodes = match folder(self.repository, self.index, holder)? {
            Ok(nodes) => nodes,
            Err(finding) => {
                self.tell(&item, &finding);
                return Ok(());
            }
        };
        if nodes.len() > self.files_left {
            self.tell(&item, "holds more records than are looked at");
            return Ok(());
        }
        self.files_left -= nodes.len();
        for node in nodes {
            go_on(self.monitor)?;
            self.read_file(&node)?;
        }
        Ok(())
    }

    fn read_file(&mut self, node: &Node) -> Result<()> {
        let name = node.entry.name.as_encoded_bytes().to_vec();
        let item = format!("record {}", shown(Path::new(&node.entry.name)));
        let blob = match &node.content {
            Content::File { blobs, size } if blobs.len() == 1 && *size <= MAX_BYTES => blobs[0],
            _ => {
                self.tell(&item, "is no small file");
                return Ok(());
            }
        };
        if !self.seen.insert((name, blob)) {
            return Ok(());
        }
        let length = self.index.find(BlobKind::Data, blob);
        if length.is_some_and(|location| location.plain_length() > MAX_BYTES) {
            self.tell(&item, "is longer than a record can be");
            return Ok(());
        }
        if self.known.records.len() >= MAX_RECORDS {
            self.tell(&item, "is one more than are read");
            return Ok(());
        }
        let bytes = match self.repository.read_blob(self.index, BlobKind::Data, blob) {
            Ok(bytes) => bytes,
            Err(cause @ Error::Damaged { .. }) => {
                self.tell(&item, &cause.to_string());
                return Ok(());
            }
            Err(cause) => return Err(cause),
        };
        match Record::parse(&node.entry.name.to_string_lossy(), bytes) {
            Ok(record) => self.take(record, &item),
            Err(finding) => self.tell(&item, &finding),
        }
        Ok(())
    }

    fn take(&mut self, record: Record, item: &str) {
        let tree = self.trees.get(&record.says.snapshot);
        if tree.is_some_and(|tree| *tree != record.says.tree) {
            self.tell(item, "speaks of a snapshot that holds something else");
            return;
        }
        self.known.records.insert(record.id, record);
    }

    /// A record that is named as one before another, and is not there: damaged, or taken out by somebody.
    fn tell_missing(&mut self) {
        let records = &self.known.records;
        let gone: BTreeSet<Id> = self
            .known
            .previous()
            .filter(|id| !records.contains_key(id))
            .copied()
            .collect();
        for id in gone {
            self.tell(
                &format!("record {id}"),
                "is named by a later one, and is not there",
            );
        }
    }

    fn tell(&mut self, item: &str, finding: &str) {
        self.told += 1;
        if self.told <= MAX_TOLD {
            self.monitor.problem(Problem {
                item: item.to_owned(),
                finding: format!("{finding}; it is left out of what is known as proved"),
                incomplete: false,
            });
        }
    }
}
