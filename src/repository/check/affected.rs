//! Who suffers: the paths that are lost, in which snapshots, and where else they are intact.
//!
//! Only trees that hold something lost are descended into. There are bounds on all that a hostile
//! repository could make endless; what lies beyond them is counted.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use jiff::Timestamp;

use super::Check;
use super::trees::Lost;
use crate::error::Result;
use crate::id::Id;
use crate::monitor::go_on;
use crate::repository::snapshot::Snapshot;
use crate::repository::tree::{Content, Node};

/// Most paths that are listed.
const MAX_PATHS: usize = 1_000;
/// Most items of folders that are looked at, of all snapshots together: some ten seconds.
const MAX_ITEMS: usize = 20_000_000;
/// What reading a folder costs, in items.
const FOLDER: usize = 50;
/// Deepest folder that is descended into.
const MAX_DEPTH: usize = 2048;
/// Most other snapshots that are named for a path.
const MAX_INTACT: usize = 3;
/// Most items of folders that are kept in memory.
const MAX_KEPT: usize = 200_000;

/// A path that is lost in some snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affected {
    /// The path in the snapshots.
    pub path: PathBuf,
    /// Whether it is a folder that cannot be read: all below it is lost too.
    pub is_folder: bool,
    /// The snapshots that lose it, newest first.
    pub lost_in: Vec<Id>,
    /// The newest snapshots that hold a whole version of it, at most three.
    pub intact_in: Vec<Version>,
    /// Why the newest of them loses it.
    pub finding: String,
}

/// A snapshot that holds a whole version of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// The snapshot.
    pub snapshot: Id,
    /// When it was made.
    pub time: Timestamp,
}

/// Trees that were read not long ago.
#[derive(Default)]
struct Kept {
    trees: HashMap<Id, Rc<Vec<Node>>>,
    items: usize,
}

impl Check<'_> {
    /// Names snapshots and paths that suffer from what was found. `snapshots` come newest first.
    pub(super) fn who_suffers(&mut self, snapshots: &[Snapshot]) -> Result<Lost> {
        let lost = self.trees(snapshots)?;
        // What is wrong with our own records was found; nobody's files suffer from it.
        let shops = snapshots.iter().filter(|snapshot| !snapshot.is_record());
        let snapshots: &[Snapshot] = &shops.cloned().collect::<Vec<_>>();
        let count = |snapshot: &Snapshot| lost.get(&snapshot.file.tree).copied().unwrap_or(0);
        let total = snapshots
            .iter()
            .fold(0_u64, |sum, snapshot| sum.saturating_add(count(snapshot)));
        if total == 0 {
            return Ok(lost);
        }
        let mut found = BTreeMap::new();
        let (mut kept, mut looked_at) = (Kept::default(), 0);
        for snapshot in snapshots.iter().filter(|snapshot| count(snapshot) > 0) {
            self.list_lost(snapshot, &lost, &mut kept, &mut looked_at, &mut found)?;
        }
        let mut listed = 0_u64;
        for affected in found.values_mut() {
            go_on(self.monitor)?;
            listed += affected.lost_in.len() as u64;
            self.find_intact(affected, snapshots, &lost, &mut kept);
        }
        self.report.affected = found.into_values().collect();
        self.report.lost_paths = total;
        self.report.unlisted_paths = total.saturating_sub(listed);
        Ok(lost)
    }

    /// Lists what one snapshot loses.
    fn list_lost(
        &self,
        snapshot: &Snapshot,
        lost: &Lost,
        kept: &mut Kept,
        looked_at: &mut usize,
        found: &mut BTreeMap<PathBuf, Affected>,
    ) -> Result<()> {
        let mut take = |path: PathBuf, is_folder: bool, finding: String| {
            let room = found.len() < MAX_PATHS;
            if let Some(known) = found.get_mut(&path) {
                known.lost_in.push(snapshot.id);
            } else if room {
                let affected = Affected {
                    path: path.clone(),
                    is_folder,
                    lost_in: vec![snapshot.id],
                    intact_in: Vec::new(),
                    finding,
                };
                found.insert(path, affected);
            }
        };
        let mut waiting = vec![(PathBuf::from("/"), snapshot.file.tree, 0)];
        while let Some((path, tree, depth)) = waiting.pop() {
            go_on(self.monitor)?;
            if let Some(reason) = self.why_tree_lost(tree) {
                take(path, true, reason);
                continue;
            }
            if *looked_at > MAX_ITEMS || depth > MAX_DEPTH {
                continue;
            }
            let Some(nodes) = self.kept_tree(tree, kept) else {
                continue;
            };
            *looked_at += nodes.len() + FOLDER;
            for node in nodes.iter() {
                match &node.content {
                    Content::Folder { tree } if lost.get(tree).is_some_and(|count| *count > 0) => {
                        waiting.push((path.join(&node.entry.name), *tree, depth + 1));
                    }
                    Content::File { blobs, size } => {
                        if let Some(reason) = self.why_lost(blobs, *size) {
                            let name = database_of(&nodes, &node.entry.name);
                            let name = name.unwrap_or(&node.entry.name);
                            take(path.join(name), false, reason);
                        }
                    }
                    Content::Folder { .. } | Content::Nothing => {}
                }
            }
        }
        Ok(())
    }

    /// Looks for whole versions of the path in the other snapshots, the newest first.
    fn find_intact(
        &self,
        affected: &mut Affected,
        snapshots: &[Snapshot],
        lost: &Lost,
        kept: &mut Kept,
    ) {
        for snapshot in snapshots {
            if affected.intact_in.len() == MAX_INTACT {
                break;
            }
            if !affected.lost_in.contains(&snapshot.id)
                && self.holds_whole(&affected.path, affected.is_folder, snapshot, lost, kept)
            {
                affected.intact_in.push(Version {
                    snapshot: snapshot.id,
                    time: snapshot.file.time,
                });
            }
        }
    }

    fn holds_whole(
        &self,
        path: &Path,
        is_folder: bool,
        snapshot: &Snapshot,
        lost: &Lost,
        kept: &mut Kept,
    ) -> bool {
        let is_whole = |tree: &Id| lost.get(tree) == Some(&0);
        let mut names = path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        });
        let mut tree = snapshot.file.tree;
        let Some(mut name) = names.next() else {
            return is_folder && is_whole(&tree);
        };
        loop {
            let Some(nodes) = self.kept_tree(tree, kept) else {
                return false;
            };
            let next = names.next();
            match (find(&nodes, name).map(|node| &node.content), next) {
                (Some(Content::Folder { tree: below }), Some(next)) => {
                    (tree, name) = (*below, next);
                }
                (Some(Content::Folder { tree }), None) => return is_folder && is_whole(tree),
                (Some(Content::File { blobs, size }), None) => {
                    let mut log = name.to_owned();
                    log.push(LOG);
                    let log = find(&nodes, &log).map(|node| &node.content);
                    let is_log_lost = |log: &Content| match log {
                        Content::File { blobs, size } => self.why_lost(blobs, *size).is_some(),
                        Content::Folder { .. } | Content::Nothing => false,
                    };
                    return !is_folder
                        && self.why_lost(blobs, *size).is_none()
                        && !log.is_some_and(is_log_lost);
                }
                _ => return false,
            }
        }
    }

    /// Reads a tree again; one that cannot be read is nobody's here, it was named before.
    fn kept_tree(&self, tree: Id, kept: &mut Kept) -> Option<Rc<Vec<Node>>> {
        if let Some(nodes) = kept.trees.get(&tree) {
            return Some(Rc::clone(nodes));
        }
        self.why_tree_lost(tree).is_none().then_some(())?;
        let nodes = Rc::new(self.repository.read_tree(&self.index, tree).ok()?);
        if kept.items > MAX_KEPT {
            *kept = Kept::default();
        }
        kept.items += nodes.len() + 1;
        kept.trees.insert(tree, Rc::clone(&nodes));
        Some(nodes)
    }
}

/// What a database's name is followed by in that of its log: it is not whole without.
const LOG: &str = "-wal";

/// The database beside which a file of this name lies as its log.
fn database_of<'a>(nodes: &'a [Node], log: &OsStr) -> Option<&'a OsStr> {
    let name = log.as_bytes().strip_suffix(LOG.as_bytes())?;
    let node = find(nodes, OsStr::from_bytes(name))?;
    matches!(node.content, Content::File { .. }).then_some(node.entry.name.as_os_str())
}

/// Nodes are in the order of their names.
fn find<'a>(nodes: &'a [Node], name: &OsStr) -> Option<&'a Node> {
    let at = nodes.binary_search_by(|node| node.entry.name.as_os_str().cmp(name));
    at.ok().map(|at| &nodes[at])
}
