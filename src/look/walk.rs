//! The walk over the folders of a snapshot: one at a time, each before what lies in it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::capture::manifest;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Progress, go_on};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::tree::{Content, Node};

/// Deepest folder that is entered: as a restore.
pub(super) const MAX_DEPTH: usize = 2048;
/// Longest path, in bytes: the kernel takes no longer one.
pub(super) const MAX_PATH: usize = 4095;
/// Most items that may come from trees met before in the same snapshot: as a restore.
pub(super) const MAX_REPEATED: usize = 250_000;
/// Most folders that may wait to be entered: two folders of folders of the largest size.
pub(super) const MAX_WAITING: usize = 1_600_000;

/// A walk. It may go over several snapshots, one after the other.
#[derive(Debug)]
pub struct Walk<'a> {
    pub(super) repository: &'a Repository,
    pub(super) index: &'a Index,
    pub(super) monitor: &'a dyn Monitor,
    /// Where it begins, until it has.
    root: Option<(PathBuf, Id)>,
    /// The folders that it is in, outermost first.
    frames: Vec<Frame>,
    limits: Limits,
    waiting: usize,
    /// Whether trees that hold nothing of interest are kept in mind.
    learns: bool,
    barren: HashSet<Id>,
}

/// A folder that was entered.
#[derive(Debug)]
struct Frame {
    tree: Id,
    path: PathBuf,
    folders: std::vec::IntoIter<(OsString, Id)>,
    is_fertile: bool,
}

/// What a walk meets next.
#[derive(Debug)]
pub enum Step {
    /// A folder, with all that it holds in the order of the names.
    Folder {
        /// Its path.
        path: PathBuf,
        /// Its tree.
        tree: Id,
        /// What it holds.
        nodes: Vec<Node>,
    },
    /// A folder that cannot be read; the walk goes on behind it.
    Lost {
        /// Its path.
        path: PathBuf,
        /// Why not.
        finding: String,
    },
}

impl<'a> Walk<'a> {
    /// A walk over trees of `repository`.
    #[must_use]
    pub fn new(repository: &'a Repository, index: &'a Index, monitor: &'a dyn Monitor) -> Self {
        Self {
            repository,
            index,
            monitor,
            root: None,
            frames: Vec::new(),
            limits: Limits::new(String::new()),
            waiting: 0,
            learns: false,
            barren: HashSet::new(),
        }
    }

    /// The same, which does not enter a tree again below which nothing was [marked](Self::mark), in
    /// whatever snapshot: what is looked for must not depend on the path.
    #[must_use]
    pub fn learning(mut self) -> Self {
        self.learns = true;
        self
    }

    /// Begins at the folder `path` of a snapshot.
    pub fn begin(&mut self, snapshot: Id, path: &Path, tree: Id) {
        self.root = Some((path.to_owned(), tree));
        self.frames.clear();
        self.waiting = 0;
        self.limits = Limits::new(snapshot.short());
    }

    /// Says that the folder that was met last holds something of interest.
    pub fn mark(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.is_fertile = true;
        }
    }

    /// The next folder; nothing at the end.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a snapshot that holds more than can be; [`Error::Storage`],
    /// [`Error::Interrupted`].
    pub fn next_step(&mut self) -> Result<Option<Step>> {
        if let Some((path, tree)) = self.root.take()
            && !self.barren.contains(&tree)
        {
            return self.enter(path, tree).map(Some);
        }
        while let Some(frame) = self.frames.last_mut() {
            if let Some((name, tree)) = frame.folders.next() {
                self.waiting -= 1;
                if !self.barren.contains(&tree) {
                    let path = frame.path.join(name);
                    return self.enter(path, tree).map(Some);
                }
            } else if let Some(done) = self.frames.pop() {
                match self.frames.last_mut() {
                    Some(above) if done.is_fertile => above.is_fertile = true,
                    _ => {}
                }
                if self.learns && !done.is_fertile {
                    self.barren.insert(done.tree);
                }
            }
        }
        Ok(None)
    }

    fn enter(&mut self, path: PathBuf, tree: Id) -> Result<Step> {
        go_on(self.monitor)?;
        let nodes = match self.repository.read_tree(self.index, tree) {
            Ok(nodes) => nodes,
            Err(Error::Damaged { object, finding }) => {
                // Each snapshot that needs it is told.
                self.mark();
                let finding = format!("{object}: {finding}");
                return Ok(Step::Lost { path, finding });
            }
            Err(cause) => return Err(cause),
        };
        self.limits
            .admit(tree, self.frames.len(), &path, nodes.iter())?;
        let folder = |node: &Node| match node.content {
            Content::Folder { tree } => Some((node.entry.name.clone(), tree)),
            Content::File { .. } | Content::Nothing => None,
        };
        let folders: Vec<_> = nodes.iter().filter_map(folder).collect();
        self.waiting += folders.len();
        if self.waiting > MAX_WAITING {
            return Err(self.limits.damaged(format!(
                "its folders hold more than {MAX_WAITING} folders on one way"
            )));
        }
        self.frames.push(Frame {
            tree,
            path: path.clone(),
            folders: folders.into_iter(),
            is_fertile: false,
        });
        self.monitor.progress(Progress {
            files: nodes.len() as u64,
            bytes: 0,
        });
        Ok(Step::Folder { path, tree, nodes })
    }
}

/// Whether a name at the root of a snapshot is that of our own facts: no part of the shop.
pub(super) fn is_our_own(path: &Path) -> bool {
    path.strip_prefix("/")
        .is_ok_and(|path| path.starts_with(manifest::FOLDER))
}

/// What no honest snapshot holds.
#[derive(Debug)]
pub(super) struct Limits<K = Id> {
    snapshot: String,
    met: HashSet<K>,
    repeated: usize,
}

impl<K: Eq + std::hash::Hash> Limits<K> {
    /// Those of a snapshot, named for who reads of them.
    pub fn new(snapshot: String) -> Self {
        Self {
            snapshot,
            met: HashSet::new(),
            repeated: 0,
        }
    }

    /// Takes note of a folder that was read; fails if there is more than can be.
    pub fn admit<'a>(
        &mut self,
        key: K,
        depth: usize,
        path: &Path,
        nodes: impl Iterator<Item = &'a Node>,
    ) -> Result<()> {
        /// Bytes of a path that weigh as much as an item.
        const PATH_WEIGHT: usize = 256;
        let length = path.as_os_str().len();
        if depth > MAX_DEPTH {
            return Err(self.damaged(format!("its folders are more than {MAX_DEPTH} deep")));
        }
        if length > MAX_PATH {
            return Err(self.damaged(format!("its paths have more than {MAX_PATH} bytes")));
        }
        if !self.met.insert(key) {
            let weight = |node: &Node| match &node.content {
                Content::File { blobs, .. } => 1 + blobs.len(),
                Content::Folder { .. } | Content::Nothing => 1,
            };
            let items: usize = nodes.map(weight).sum();
            // A folder weighs something even if it is empty: it is read.
            self.repeated += (1 + items) * (1 + length / PATH_WEIGHT);
        }
        if self.repeated > MAX_REPEATED {
            return Err(self.damaged(format!(
                "the same folders hold more than {MAX_REPEATED} items again and again"
            )));
        }
        Ok(())
    }

    pub fn damaged(&self, finding: String) -> Error {
        Error::Damaged {
            object: format!("snapshot {}", self.snapshot),
            finding,
        }
    }
}
