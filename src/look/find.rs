//! Which items of a snapshot fit: by name, by time, or by the objects that they are made of.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::walk::{Step, Walk, is_our_own};
use crate::error::Result;
use crate::glob::Glob;
use crate::id::Id;
use crate::repository::pack::BlobKind;
use crate::repository::snapshot::Snapshot;
use crate::repository::tree::{Content, Node};

/// What is looked for.
#[derive(Debug)]
pub struct Query {
    /// Names or objects.
    pub wanted: Wanted,
    /// Only what was changed at this time or later.
    pub oldest: Option<Timestamp>,
    /// Only what was changed at this time or before.
    pub newest: Option<Timestamp>,
}

/// What an item is found by.
#[derive(Debug)]
pub enum Wanted {
    /// One of the patterns fits: one without a slash a name at any depth, another the whole path.
    Names(Vec<Glob>),
    /// It is made of one of these.
    Objects(Objects),
}

/// Blobs that are looked for.
#[derive(Debug, Default)]
pub struct Objects {
    /// Parts of files.
    pub data: HashSet<Id>,
    /// Folders.
    pub trees: HashSet<Id>,
}

/// An item that fits.
#[derive(Debug)]
pub struct Match {
    /// Its path.
    pub path: PathBuf,
    /// The item; nothing for the root of a snapshot.
    pub node: Option<Node>,
    /// The object that it was found by.
    pub object: Option<(BlobKind, Id)>,
}

impl Query {
    /// A walk as this query is best served by.
    #[must_use]
    pub fn walk<'a>(&self, walk: Walk<'a>) -> Walk<'a> {
        let depends_on_the_path = match &self.wanted {
            Wanted::Names(globs) => globs.iter().any(Glob::is_path),
            Wanted::Objects(_) => false,
        };
        if depends_on_the_path {
            walk
        } else {
            walk.learning()
        }
    }

    /// Finds all that fits in one snapshot. What fits is told to `found`, folders that cannot be read
    /// are told to `lost`; returns how many those are.
    ///
    /// # Errors
    /// As [`Walk::next_step`].
    pub fn search(
        &self,
        walk: &mut Walk<'_>,
        snapshot: &Snapshot,
        found: &mut dyn FnMut(Match),
        lost: &mut dyn FnMut(&Path, &str),
    ) -> Result<u64> {
        let (root, mut count) = (snapshot.file.tree, 0);
        if let Wanted::Objects(objects) = &self.wanted
            && objects.trees.contains(&root)
        {
            found(Match {
                path: PathBuf::from("/"),
                node: None,
                object: Some((BlobKind::Tree, root)),
            });
        }
        walk.begin(snapshot.id, Path::new("/"), root);
        while let Some(step) = walk.next_step()? {
            let (folder, nodes) = match step {
                Step::Folder { path, nodes, .. } => (path, nodes),
                Step::Lost { path, finding } => {
                    count += 1;
                    lost(&path, &finding);
                    continue;
                }
            };
            for node in nodes {
                let path = folder.join(&node.entry.name);
                if let Some(object) = self.fits(&path, &node) {
                    walk.mark();
                    found(Match {
                        path,
                        node: Some(node),
                        object,
                    });
                }
            }
        }
        Ok(count)
    }

    /// Whether an item fits, and the object that it is found by.
    #[allow(clippy::option_option, reason = "whether, and by what")]
    fn fits(&self, path: &Path, node: &Node) -> Option<Option<(BlobKind, Id)>> {
        let modified = node.entry.modified;
        let is_in_time = self.oldest.is_none_or(|oldest| modified >= oldest)
            && self.newest.is_none_or(|newest| modified <= newest);
        if !is_in_time {
            return None;
        }
        match &self.wanted {
            Wanted::Names(globs) => {
                let fits = globs.iter().any(|glob| glob.fits(path));
                (fits && !is_our_own(path)).then_some(None)
            }
            Wanted::Objects(objects) => objects.used_by(node).map(Some),
        }
    }
}

impl Objects {
    fn used_by(&self, node: &Node) -> Option<(BlobKind, Id)> {
        match &node.content {
            Content::File { blobs, .. } => {
                let mut blobs = blobs.iter();
                let id = blobs.find(|id| self.data.contains(*id))?;
                Some((BlobKind::Data, *id))
            }
            Content::Folder { tree } => {
                let is_wanted = self.trees.contains(tree);
                is_wanted.then_some((BlobKind::Tree, *tree))
            }
            Content::Nothing => None,
        }
    }
}
