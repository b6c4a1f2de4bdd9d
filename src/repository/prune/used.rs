//! Which blobs the snapshots need: every folder of all of them is read once.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::backend::{Class, Object};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Progress, Quiet, go_on};
use crate::parallel;
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::pack::BlobKind;
use crate::repository::tree::Content;

/// The root trees of all snapshots that are there now.
///
/// # Errors
/// [`Error::Damaged`] if one of them cannot be read: nobody knows what it needs; [`Error::Storage`].
pub(super) fn roots(repository: &Repository) -> Result<Vec<Id>> {
    // What is wrong with a snapshot is told by the error.
    let snapshots = repository.snapshots(&Quiet::default())?;
    if let Some(damaged) = snapshots.damaged.first() {
        return Err(Error::Damaged {
            object: Object::Named(Class::Snapshots, *damaged).to_string(),
            finding: "it cannot be read, so nobody knows what it needs".to_owned(),
        });
    }
    let readable = snapshots.readable.into_iter();
    Ok(readable.map(|snapshot| snapshot.file.tree).collect())
}

/// The blobs that snapshots need.
#[derive(Debug, Default)]
pub(super) struct Used {
    blobs: HashSet<(BlobKind, Id)>,
}

impl Used {
    pub fn contains(&self, kind: BlobKind, id: Id) -> bool {
        self.blobs.contains(&(kind, id))
    }

    pub fn len(&self) -> usize {
        self.blobs.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &(BlobKind, Id)> {
        self.blobs.iter()
    }

    /// Adds what the trees `roots` need. What was read before is not read again.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a folder cannot be read: nobody knows what it needs, so nothing may be removed;
    /// [`Error::Storage`], [`Error::Interrupted`].
    pub fn add(
        &mut self,
        repository: &Repository,
        index: &Index,
        roots: Vec<Id>,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let new = |tree: &Id| self.blobs.insert((BlobKind::Tree, *tree));
        let mut trees: Vec<Id> = roots.into_iter().filter(new).collect();
        while !trees.is_empty() {
            let found = Mutex::new((&mut self.blobs, Vec::new()));
            parallel::for_each(&trees, |tree| {
                go_on(monitor)?;
                let place = index.find(BlobKind::Tree, *tree);
                let held = repository.hold(place.iter().map(|place| &place.blob));
                let nodes = repository.read_tree(index, *tree)?;
                monitor.progress(Progress {
                    files: nodes.len() as u64,
                    bytes: 0,
                });
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                let (blobs, next) = &mut *found;
                for node in nodes {
                    match node.content {
                        Content::Folder { tree } if blobs.insert((BlobKind::Tree, tree)) => {
                            next.push(tree);
                        }
                        Content::File { blobs: data, .. } => {
                            blobs.extend(data.into_iter().map(|id| (BlobKind::Data, id)));
                        }
                        Content::Folder { .. } | Content::Nothing => {}
                    }
                }
                drop(held);
                Ok(())
            })?;
            let (_, next) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
            trees = next;
        }
        Ok(())
    }
}
