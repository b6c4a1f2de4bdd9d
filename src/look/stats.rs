//! How much a snapshot, or several together, holds: the four ways of counting that restic has.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::walk::{Step, Walk};
use crate::error::Result;
use crate::id::Id;
use crate::repository::crypto::OVERHEAD;
use crate::repository::index::Index;
use crate::repository::pack::BlobKind;
use crate::repository::snapshot::Snapshot;
use crate::repository::tree::{Content, Node};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// What a restore of each snapshot would write; a file with several names once.
    RestoreSize,
    /// Files that differ in their content.
    FilesByContents,
    /// Blobs, for each path once.
    BlobsPerFile,
    /// What the blobs take in the repository.
    RawData,
}

/// The counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes, as the mode counts them.
    pub bytes: u64,
    /// Items or files, as the mode counts them.
    pub files: u64,
    /// Blobs, as the mode counts them.
    pub blobs: u64,
    /// With [`Mode::RawData`]: bytes if nothing were compressed.
    pub uncompressed_bytes: u64,
    /// With [`Mode::RawData`]: bytes of the blobs that are compressed, and of the same if they were not.
    pub compressed: (u64, u64),
    /// Folders that cannot be read, and blobs that are nowhere.
    pub lost: u64,
}

/// Counts all of `snapshots`; what cannot be read is told to `lost`, and left out.
///
/// # Errors
/// As [`Walk::next_step`].
pub fn stats(
    walk: Walk<'_>,
    snapshots: &[Snapshot],
    mode: Mode,
    lost: &mut dyn FnMut(&Path, &str),
) -> Result<Stats> {
    let mut counter = Counter {
        mode,
        stats: Stats::default(),
        seen: HashSet::new(),
        contents: HashSet::new(),
        paths: HashSet::new(),
        links: HashSet::new(),
        index: walk.index,
    };
    // What is in a tree that was counted counts no second time, but for what a restore writes.
    let mut walk = match mode {
        Mode::RestoreSize => walk,
        Mode::FilesByContents | Mode::BlobsPerFile | Mode::RawData => walk.learning(),
    };
    for snapshot in snapshots {
        counter.links.clear();
        walk.begin(snapshot.id, Path::new("/"), snapshot.file.tree);
        while let Some(step) = walk.next_step()? {
            match step {
                Step::Folder { path, tree, nodes } => {
                    if mode == Mode::RawData {
                        counter.add_raw(BlobKind::Tree, tree);
                    }
                    for node in &nodes {
                        counter.add(&path, node);
                    }
                }
                Step::Lost { path, finding } => {
                    counter.stats.lost += 1;
                    lost(&path, &finding);
                }
            }
        }
    }
    Ok(counter.stats)
}

struct Counter<'a> {
    mode: Mode,
    stats: Stats,
    /// Blobs, or with [`Mode::BlobsPerFile`] a path and a blob.
    seen: HashSet<(Id, Id)>,
    contents: HashSet<Id>,
    /// Hashes of paths that were counted.
    paths: HashSet<Id>,
    /// Files of this snapshot that have several names.
    links: HashSet<(u64, u64)>,
    index: &'a Index,
}

impl Counter<'_> {
    fn add(&mut self, folder: &Path, node: &Node) {
        let (blobs, size): (&[Id], u64) = match &node.content {
            Content::File { blobs, size } => (blobs, *size),
            Content::Folder { .. } | Content::Nothing => (&[], 0),
        };
        match self.mode {
            Mode::RestoreSize => {
                self.stats.files += 1;
                let place = node.entry.place;
                let is_alone = place.links == 1 || place.inode == 0;
                if is_alone || self.links.insert((place.device, place.inode)) {
                    self.stats.bytes = self.stats.bytes.saturating_add(size);
                }
            }
            Mode::FilesByContents => {
                if self.is_new(blobs) {
                    self.stats.files += 1;
                    self.stats.bytes = self.stats.bytes.saturating_add(size);
                }
            }
            Mode::BlobsPerFile => {
                if self.is_new(blobs) {
                    self.add_per_file(&folder.join(&node.entry.name), blobs);
                }
            }
            Mode::RawData => {
                for id in blobs {
                    self.add_raw(BlobKind::Data, *id);
                }
            }
        }
    }

    /// Whether a content was not met before. Whatever has none has the same.
    fn is_new(&mut self, blobs: &[Id]) -> bool {
        let bytes: Vec<u8> = blobs.iter().flat_map(|id| *id.as_bytes()).collect();
        self.contents.insert(Id::of(&bytes))
    }

    fn add_per_file(&mut self, path: &Path, blobs: &[Id]) {
        let path = Id::of(path.as_os_str().as_bytes());
        if !blobs.is_empty() && self.paths.insert(path) {
            self.stats.files += 1;
        }
        for id in blobs {
            if self.seen.insert((path, *id)) {
                let length = self.index.find(BlobKind::Data, *id);
                let length = length.map_or(0, |location| location.plain_length());
                self.stats.bytes += length;
                self.stats.blobs += 1;
            }
        }
    }

    fn add_raw(&mut self, kind: BlobKind, id: Id) {
        // The hash of a text stands for the kind: no blob's id is chosen freely.
        let kind_id = Id::of(kind.to_string().as_bytes());
        if !self.seen.insert((kind_id, id)) {
            return;
        }
        let Some(location) = self.index.find(kind, id) else {
            self.stats.lost += 1;
            return;
        };
        let stored = u64::from(location.blob.length);
        let plain = location.plain_length() + OVERHEAD as u64;
        self.stats.blobs += 1;
        self.stats.bytes += stored;
        self.stats.uncompressed_bytes += plain;
        if location.blob.plain_length.is_some() {
            self.stats.compressed.0 += stored;
            self.stats.compressed.1 += plain;
        }
    }
}
