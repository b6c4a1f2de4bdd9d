//! One path of a snapshot.

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};
use crate::id::Id;
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::snapshot::Snapshot;
use crate::repository::tree::{Content, Node};
use crate::units::shown;

/// What stands at a path of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A folder: its tree, and its own entry but for the root, which has none.
    Folder {
        /// The tree.
        tree: Id,
        /// Name and metadata.
        node: Option<Box<Node>>,
    },
    /// Anything else.
    Item(Box<Node>),
}

/// The tree of the folder at `path`, which is absolute.
///
/// # Errors
/// As [`locate`]; [`Error::NoSuchPath`] if it is no folder.
pub fn folder(
    repository: &Repository,
    index: &Index,
    snapshot: &Snapshot,
    path: &Path,
) -> Result<Id> {
    match locate(repository, index, snapshot, path)? {
        Found::Folder { tree, .. } => Ok(tree),
        Found::Item(_) => Err(Error::NoSuchPath {
            snapshot: snapshot.id.short(),
            path: shown(path),
            finding: Some("it is no folder".to_owned()),
        }),
    }
}

/// Finds what stands at `path`, which is absolute.
///
/// # Errors
/// [`Error::NoSuchPath`]; [`Error::Damaged`] if a folder on the way cannot be read; [`Error::Storage`].
pub fn locate(
    repository: &Repository,
    index: &Index,
    snapshot: &Snapshot,
    path: &Path,
) -> Result<Found> {
    let missing = |finding: Option<String>| Error::NoSuchPath {
        snapshot: snapshot.id.short(),
        path: shown(path),
        finding,
    };
    let mut found = Found::Folder {
        tree: snapshot.file.tree,
        node: None,
    };
    let mut way = PathBuf::from("/");
    for component in path.components() {
        let Component::Normal(name) = component else {
            continue;
        };
        let Found::Folder { tree, .. } = found else {
            return Err(missing(Some(format!("{} is no folder", shown(&way)))));
        };
        let nodes = repository.read_tree(index, tree)?;
        let node = nodes.into_iter().find(|node| node.entry.name == name);
        let node = Box::new(node.ok_or_else(|| missing(None))?);
        found = match node.content {
            Content::Folder { tree } => Found::Folder {
                tree,
                node: Some(node),
            },
            Content::File { .. } | Content::Nothing => Found::Item(node),
        };
        way.push(name);
    }
    Ok(found)
}
