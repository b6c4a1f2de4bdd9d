//! Trees without what is lost. A tree that needs no change keeps its bytes and its id; one that does keeps
//! every node that is left, letter for letter, but for the id of a folder below that changed.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use super::fields::Fields;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, go_on};
use crate::repository::Repository;
use crate::repository::check::Losses;
use crate::repository::pack::BlobKind;
use crate::repository::tree::{self, Content};
use crate::repository::writer::Writer;

/// What a tree and all below it hold: files, and their bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub files: u64,
    pub bytes: u64,
}

/// Builds trees anew. Without a writer it only says what their ids would be.
pub(super) struct Rebuild<'a> {
    repository: &'a Repository,
    losses: &'a Losses<'a>,
    writer: Option<&'a Writer>,
    monitor: &'a dyn Monitor,
    /// What comes in the place of a tree that lacks something; nothing if it is lost itself.
    new: HashMap<Id, Option<Id>>,
    totals: HashMap<Id, Totals>,
    /// Trees that are whole, and that we do not understand.
    pub strange: HashSet<Id>,
}

#[derive(Deserialize)]
struct RawTree {
    nodes: Vec<Fields>,
}

impl<'a> Rebuild<'a> {
    pub fn new(
        repository: &'a Repository,
        losses: &'a Losses<'a>,
        writer: Option<&'a Writer>,
        monitor: &'a dyn Monitor,
    ) -> Self {
        Self {
            repository,
            losses,
            writer,
            monitor,
            new: HashMap::new(),
            totals: HashMap::new(),
            strange: HashSet::new(),
        }
    }

    /// The tree that has all of `root` that is left; nothing if `root` itself is lost.
    ///
    /// # Errors
    /// [`Error::Storage`] if a tree could not be reached: it may be whole; the error that stopped the writer.
    pub fn root(&mut self, root: Id) -> Result<Option<Id>> {
        // Depth first, whatever the depth: a tree has its second turn when all below it had theirs.
        let mut waiting = vec![(root, false)];
        while let Some((tree, is_second)) = waiting.pop() {
            go_on(self.monitor)?;
            if self.new.contains_key(&tree) || self.losses.below(tree) == 0 {
                continue;
            }
            if self.losses.why_tree_lost(tree).is_some() {
                self.note_lost(tree)?;
            } else if is_second {
                let new = self.without_lost(tree)?;
                self.new.insert(tree, Some(new));
            } else {
                waiting.push((tree, true));
                for node in self.repository.read_tree(self.losses.index(), tree)? {
                    if let Content::Folder { tree } = node.content {
                        waiting.push((tree, false));
                    }
                }
            }
        }
        Ok(self.in_place_of(root))
    }

    fn in_place_of(&self, tree: Id) -> Option<Id> {
        if self.losses.below(tree) == 0 {
            return Some(tree);
        }
        self.new.get(&tree).copied().flatten()
    }

    /// Makes sure that a tree is lost, and not out of reach.
    fn note_lost(&mut self, tree: Id) -> Result<()> {
        let read = self
            .repository
            .read_blob(self.losses.index(), BlobKind::Tree, tree);
        match read {
            Ok(_) => {
                self.strange.insert(tree);
            }
            Err(Error::Damaged { .. }) => {}
            Err(cause) => return Err(cause),
        }
        self.new.insert(tree, None);
        Ok(())
    }

    fn without_lost(&mut self, tree: Id) -> Result<Id> {
        let bytes = self
            .repository
            .read_blob(self.losses.index(), BlobKind::Tree, tree)?;
        let damaged = |finding: String| Error::Damaged {
            object: format!("tree {}", tree.short()),
            finding,
        };
        let raw: RawTree =
            serde_json::from_slice(&bytes).map_err(|cause| damaged(cause.to_string()))?;
        let mut kept = Vec::with_capacity(raw.nodes.len());
        let mut totals = Totals::default();
        for mut fields in raw.nodes {
            let text = encode(&[fields.clone()])?;
            // One node that is a tree of its own is read as all are.
            let node = tree::from_bytes(&text).map_err(damaged)?;
            let Some(node) = node.first() else {
                unreachable!("one node was written");
            };
            match &node.content {
                Content::File { blobs, size } => {
                    let bytes = self.losses.index().file_size(blobs, *size);
                    if self.losses.why_lost(blobs, bytes).is_some() {
                        continue;
                    }
                    totals.add(Totals { files: 1, bytes });
                }
                Content::Folder { tree } => {
                    let Some(new) = self.in_place_of(*tree) else {
                        continue;
                    };
                    totals.add(self.totals_of(new)?);
                    if new != *tree {
                        fields.set("subtree", &new)?;
                    }
                }
                Content::Nothing => {}
            }
            kept.push(fields);
        }
        let bytes = encode(&kept)?;
        let id = Id::of(&bytes);
        if let Some(writer) = self.writer {
            let stored = writer.store(BlobKind::Tree, bytes)?.wait();
            stored.ok_or_else(|| writer.failure())?;
        }
        self.totals.insert(id, totals);
        Ok(id)
    }

    /// What a tree holds that was built here, or that lacks nothing.
    pub fn totals_of(&mut self, root: Id) -> Result<Totals> {
        let mut waiting = vec![(root, false)];
        while let Some((tree, is_second)) = waiting.pop() {
            go_on(self.monitor)?;
            if self.totals.contains_key(&tree) {
                continue;
            }
            let mut totals = Totals::default();
            if !is_second {
                waiting.push((tree, true));
            }
            for node in self.repository.read_tree(self.losses.index(), tree)? {
                match node.content {
                    Content::File { size, .. } => totals.add(Totals {
                        files: 1,
                        bytes: size,
                    }),
                    Content::Folder { tree } if is_second => {
                        totals.add(self.totals.get(&tree).copied().unwrap_or_default());
                    }
                    Content::Folder { tree } => waiting.push((tree, false)),
                    Content::Nothing => {}
                }
            }
            if is_second {
                self.totals.insert(tree, totals);
            }
        }
        Ok(self.totals.get(&root).copied().unwrap_or_default())
    }
}

impl Totals {
    const fn add(&mut self, other: Self) {
        self.files = self.files.saturating_add(other.files);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// A tree's bytes: canonical if its nodes are.
fn encode(nodes: &[Fields]) -> Result<Vec<u8>> {
    let mut bytes = b"{\"nodes\":".to_vec();
    serde_json::to_writer(&mut bytes, nodes).map_err(|cause| Error::internal(&cause))?;
    bytes.extend_from_slice(b"}\n");
    Ok(bytes)
}
