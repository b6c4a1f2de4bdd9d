//! Builds the trees of a snapshot from entries that come depth first, in order.
//!
//! It runs on a thread of its own, so that whoever reads files never waits for their hashes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::{OsStr, OsString};

use serde::{Deserialize, Serialize};

use super::format::MAX_BLOB;
use super::pack::BlobKind;
use super::tree::{self, Content, Node};
use super::writer::{Pending, Writer};
use crate::entry::{Entry, Place};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::units::ByteSize;

/// A file's content on its way into the repository.
#[derive(Debug, Default)]
pub struct PendingFile {
    stored: StoredFile,
    waiting: VecDeque<Pending>,
}

/// A file's content whose ids are known.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Its blobs in order.
    pub blobs: Vec<Id>,
    /// The sum of their lengths in bytes.
    pub size: u64,
}

impl PendingFile {
    /// Blobs whose ids are not waited for yet. Older ones are known by then, so nobody really waits;
    /// and a database of a billion pages needs no channel for each chunk of it.
    const MAX_WAITING: usize = 16;

    /// One that goes on after what is stored already.
    #[must_use]
    pub const fn after(stored: StoredFile) -> Self {
        Self {
            stored,
            waiting: VecDeque::new(),
        }
    }

    /// Whether no chunk was handed in yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.stored.size == 0
    }

    /// Hands in the next chunk.
    ///
    /// # Errors
    /// The error that stopped the writer.
    pub fn store(&mut self, writer: &Writer, chunk: Vec<u8>) -> Result<()> {
        self.stored.size += chunk.len() as u64;
        self.waiting.push_back(writer.store(BlobKind::Data, chunk)?);
        if self.waiting.len() > Self::MAX_WAITING {
            self.wait_for_oldest(writer)?;
        }
        Ok(())
    }

    /// Waits for the ids that are not known yet.
    ///
    /// # Errors
    /// The error that stopped the writer.
    pub fn wait(mut self, writer: &Writer) -> Result<StoredFile> {
        while !self.waiting.is_empty() {
            self.wait_for_oldest(writer)?;
        }
        Ok(self.stored)
    }

    fn wait_for_oldest(&mut self, writer: &Writer) -> Result<()> {
        if let Some(oldest) = self.waiting.pop_front() {
            let id = oldest.wait().ok_or_else(|| writer.failure())?;
            self.stored.blobs.push(id);
        }
        Ok(())
    }
}

/// What an item was in the snapshot before.
pub type Before = Option<Box<Node>>;

/// One step of the way through the source, depth first, names in ascending order of their bytes.
#[derive(Debug)]
pub enum Visit {
    /// A folder begins; its entries follow.
    Enter(Entry, Before),
    /// The folder that was entered last is complete.
    Leave,
    /// A file whose blobs are on their way.
    File(Entry, PendingFile, Before),
    /// A file that is stored already.
    Stored(Entry, StoredFile, Before),
    /// The same, out of order: its place is further on in the folder that is open.
    Beside(Entry, StoredFile, Before),
    /// A further name of a file that came before with the same [place](Entry::place).
    Again(Entry, Before),
    /// Anything without content: a symbolic link, a device, a pipe.
    Other(Entry),
}

/// The outermost level, which is not stored yet, and what all levels hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trees {
    /// The nodes of the root.
    pub root: Vec<Node>,
    /// Files.
    pub files: Compared,
    /// Folders.
    pub folders: Compared,
    /// Bytes of all files.
    pub bytes: u64,
}

/// How many items there are, compared with the snapshot before: as restic counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compared {
    /// It had nothing of that name there.
    pub new: u64,
    /// It had something else there.
    pub changed: u64,
    /// It had the same, content and metadata.
    pub unmodified: u64,
}

impl Compared {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.new + self.changed + self.unmodified
    }

    fn count(&mut self, before: Option<&Node>, now: &Node) {
        *match before {
            None => &mut self.new,
            Some(before) if before == now => &mut self.unmodified,
            Some(_) => &mut self.changed,
        } += 1;
    }
}

/// Writes the trees of all folders that `visits` describe, and returns the outermost level, to
/// which the manifest is still to be added.
///
/// # Errors
/// The error that stopped the writer.
pub fn write_trees(writer: &Writer, visits: impl IntoIterator<Item = Visit>) -> Result<Trees> {
    let mut levels = vec![Level::default()];
    let mut open: Vec<(Entry, Before)> = Vec::new();
    let (mut files, mut folders, mut bytes) = (Compared::default(), Compared::default(), 0);
    let mut linked: HashMap<Place, StoredFile> = HashMap::new();
    for visit in visits {
        let (node, before) = match visit {
            Visit::Enter(entry, before) => {
                levels.push(Level::default());
                open.push((entry, before));
                continue;
            }
            Visit::Leave => {
                let (Some(level), Some((mut entry, before))) = (levels.pop(), open.pop()) else {
                    unreachable!("each Leave follows its Enter");
                };
                let tree = store_tree(writer, &entry.name, &level.close())?;
                // Not stored of folders, and so nothing to compare.
                entry.place.links = 0;
                let content = Content::Folder { tree };
                (Node { entry, content }, before)
            }
            Visit::File(entry, file, before) => {
                let node = first_name(entry, file.wait(writer)?, &mut linked);
                (node, before)
            }
            Visit::Stored(entry, file, before) => (first_name(entry, file, &mut linked), before),
            Visit::Beside(entry, file, before) => {
                let node = file_node(entry, file);
                files.count(before.as_deref(), &node);
                bytes += node.content.size();
                let level = innermost(&mut levels);
                level.beside.insert(node.entry.name.clone(), node);
                continue;
            }
            Visit::Again(entry, before) => {
                let Some(file) = linked.get(&entry.place) else {
                    unreachable!("its first name came before");
                };
                (file_node(entry, file.clone()), before)
            }
            Visit::Other(entry) => {
                let content = Content::Nothing;
                (Node { entry, content }, None)
            }
        };
        match &node.content {
            Content::File { size, .. } => {
                files.count(before.as_deref(), &node);
                bytes += size;
            }
            Content::Folder { .. } => folders.count(before.as_deref(), &node),
            Content::Nothing => {}
        }
        innermost(&mut levels).push(node)?;
    }
    Ok(Trees {
        root: levels.swap_remove(0).close(),
        files,
        folders,
        bytes,
    })
}

/// The node of a file that is met first; its content is kept for further names.
fn first_name(entry: Entry, file: StoredFile, linked: &mut HashMap<Place, StoredFile>) -> Node {
    if entry.place.links > 1 {
        linked.insert(entry.place, file.clone());
    }
    file_node(entry, file)
}

/// A file's node.
#[must_use]
pub fn file_node(entry: Entry, file: StoredFile) -> Node {
    Node {
        entry,
        content: Content::File {
            blobs: file.blobs,
            size: file.size,
        },
    }
}

/// A folder that is open.
#[derive(Debug, Default)]
struct Level {
    nodes: Vec<Node>,
    /// Those whose place is still to come.
    beside: BTreeMap<OsString, Node>,
}

impl Level {
    /// Adds a node. Order is part of the format, so it is checked.
    fn push(&mut self, node: Node) -> Result<()> {
        while let Some(first) = self.beside.first_entry()
            && *first.key() < node.entry.name
        {
            self.nodes.push(first.remove());
        }
        let last: Option<&OsString> = self.nodes.last().map(|node| &node.entry.name);
        let name = &node.entry.name;
        if last.is_some_and(|last| last >= name) || self.beside.contains_key(name) {
            return Err(Error::Internal {
                finding: format!("the name {} comes out of order", name.display()),
            });
        }
        self.nodes.push(node);
        Ok(())
    }

    /// All of its nodes in order.
    fn close(mut self) -> Vec<Node> {
        self.nodes.extend(self.beside.into_values());
        self.nodes
    }
}

/// The folder that was opened last.
fn innermost(levels: &mut [Level]) -> &mut Level {
    let Some(level) = levels.last_mut() else {
        unreachable!("the root level stays open");
    };
    level
}

/// Stores the tree of the folder `name` and waits for its id.
///
/// # Errors
/// [`Error::Source`] for a folder that holds too much for one tree; the error that stopped the writer.
pub fn store_tree(writer: &Writer, name: &OsStr, nodes: &[Node]) -> Result<Id> {
    let bytes = tree::to_bytes(nodes);
    if bytes.len() as u64 > MAX_BLOB {
        return Err(Error::Source {
            name: format!("folder {}", crate::units::shown(name.as_ref())),
            finding: format!(
                "its {} entries need a tree of {}, and no tool reads more than {}",
                nodes.len(),
                ByteSize(bytes.len() as u64),
                ByteSize(MAX_BLOB)
            ),
        });
    }
    writer
        .store(BlobKind::Tree, bytes)?
        .wait()
        .ok_or_else(|| writer.failure())
}
