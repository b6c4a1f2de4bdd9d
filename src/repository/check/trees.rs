//! The walk over all trees, each once: which of them hold something that is lost.

use std::collections::{HashMap, HashSet};

use super::{Check, State, finding};
use crate::backend::{Class, Object};
use crate::entry::Kind;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Progress, go_on};
use crate::repository::pack::BlobKind;
use crate::repository::snapshot::Snapshot;
use crate::repository::tree::{Content, Node};

/// Every tree that was met, with the number of paths that are lost in it and below; itself is one if
/// it cannot be read.
pub(super) type Lost = HashMap<Id, u64>;

/// A tree whose folders are still being looked at.
struct Frame {
    tree: Id,
    waiting: Vec<Id>,
    lost: u64,
}

/// What the walk takes down on its way.
#[derive(Default)]
struct Noted {
    /// Packs that snapshots need and no index file names.
    unindexed: HashSet<Id>,
    /// Blobs that are nowhere.
    unknown: HashSet<(BlobKind, Id)>,
    /// Blobs that lay in packs that rustic had marked for deletion, and that are gone.
    deleted: HashSet<(BlobKind, Id)>,
}

impl Check<'_> {
    /// Reads each tree once, whatever the depth or the number of ways to it.
    pub(super) fn trees(&mut self, snapshots: &[Snapshot]) -> Result<Lost> {
        let (mut lost, mut noted) = (Lost::new(), Noted::default());
        for snapshot in snapshots {
            let mut frames = Vec::new();
            if !lost.contains_key(&snapshot.file.tree) {
                frames.push(self.enter(snapshot.file.tree, snapshot.id, &mut noted)?);
            }
            while let Some(frame) = frames.last_mut() {
                if let Some(tree) = frame.waiting.pop() {
                    if let Some(count) = lost.get(&tree) {
                        frame.lost = frame.lost.saturating_add(*count);
                    } else {
                        frames.push(self.enter(tree, snapshot.id, &mut noted)?);
                    }
                } else {
                    let (tree, count) = (frame.tree, frame.lost);
                    lost.insert(tree, count);
                    frames.pop();
                    if let Some(above) = frames.last_mut() {
                        above.lost = above.lost.saturating_add(count);
                    }
                }
            }
        }
        self.report.trees = lost.len() as u64;
        if !noted.unindexed.is_empty() {
            self.findings.add_missing_index(noted.unindexed.len());
        }
        self.findings.unknown_blobs = !noted.unknown.is_empty();
        Ok(lost)
    }

    /// Reads a tree that was not met yet.
    fn enter(&mut self, tree: Id, snapshot: Id, noted: &mut Noted) -> Result<Frame> {
        go_on(self.monitor)?;
        let mut frame = Frame {
            tree,
            waiting: Vec::new(),
            lost: 0,
        };
        let state = self.state(BlobKind::Tree, tree);
        self.note(&state, BlobKind::Tree, tree, snapshot, noted);
        let nodes = match state {
            State::Whole { .. } => self.read_tree(tree),
            State::Damaged(_) | State::Unknown => None,
        };
        let Some(nodes) = nodes else {
            frame.lost = 1;
            return Ok(frame);
        };
        self.monitor.progress(Progress {
            files: nodes.len() as u64,
            bytes: 0,
        });
        for node in nodes {
            match node.content {
                Content::Folder { tree } => frame.waiting.push(tree),
                Content::File { blobs, size } => {
                    let (mut total, mut is_whole) = (0_u64, true);
                    for id in blobs {
                        let state = self.state(BlobKind::Data, id);
                        match state {
                            State::Whole { length, .. } => total = total.saturating_add(length),
                            State::Damaged(_) | State::Unknown => is_whole = false,
                        }
                        self.note(&state, BlobKind::Data, id, snapshot, noted);
                    }
                    if is_whole && total != size {
                        let name = node.entry.name.to_string_lossy().into_owned();
                        self.findings.add(
                            Object::Named(Class::Snapshots, snapshot),
                            format!("file {name:?}: {}", contradiction(total, size)),
                        );
                    }
                    frame.lost += u64::from(!is_whole || total != size);
                }
                Content::Nothing => {
                    if let Kind::Other(kind) = &node.entry.kind {
                        let name = node.entry.name.to_string_lossy().into_owned();
                        self.findings.add(
                            Object::Named(Class::Snapshots, snapshot),
                            format!("item {name:?} is of no kind that the format knows ({kind:?})"),
                        );
                    }
                }
            }
        }
        Ok(frame)
    }

    /// Reads a tree against which nothing is known; one that cannot be read is named.
    fn read_tree(&mut self, tree: Id) -> Option<Vec<Node>> {
        let cause = match self.repository.read_tree(&self.index, tree) {
            Ok(nodes) => return Some(nodes),
            Err(cause) => cause,
        };
        let locations = self.index.locations(BlobKind::Tree, tree);
        for location in &locations {
            self.bad.insert((location.pack, location.blob.offset));
        }
        let object = Object::Named(Class::Data, locations.first()?.pack);
        let finding = match &cause {
            // What was read and is no tree has no pack in its name.
            Error::Damaged { object: of, .. } if *of != object.to_string() => cause.to_string(),
            _ => finding(&cause),
        };
        self.findings.add(object, finding);
        self.findings.add_blob(object, BlobKind::Tree, tree);
        None
    }

    /// Takes down what a blob that a snapshot needs says about the index.
    fn note(&mut self, state: &State, kind: BlobKind, id: Id, snapshot: Id, noted: &mut Noted) {
        match state {
            State::Whole {
                unindexed: Some(pack),
                ..
            } => {
                noted.unindexed.insert(*pack);
            }
            State::Whole { .. } => {}
            // A pack that is in use was looked at before; one that is to be deleted may be missed only
            // by who needs it.
            State::Damaged(pack) => {
                let is_there = self.sizes.contains_key(pack);
                if !is_there && self.index.is_retired(*pack) && noted.deleted.insert((kind, id)) {
                    let object = Object::Named(Class::Data, *pack);
                    let finding = "it was marked for deletion and is gone, but snapshots need it";
                    self.findings.add(object, finding.to_owned());
                    self.findings.add_blob(object, kind, id);
                }
            }
            State::Unknown => {
                if noted.unknown.insert((kind, id)) {
                    let object = Object::Named(Class::Snapshots, snapshot);
                    self.findings.add(
                        object,
                        "it needs blobs that are in no index and in no pack".to_owned(),
                    );
                    self.findings.add_blob(object, kind, id);
                }
            }
        }
    }

    /// Why a file cannot be restored whole, if so.
    pub(super) fn why_lost(&self, blobs: &[Id], size: u64) -> Option<String> {
        let mut total = 0_u64;
        for id in blobs {
            match self.state(BlobKind::Data, *id) {
                State::Whole { length, .. } => total = total.saturating_add(length),
                other => return self.why_blob_lost(&other, BlobKind::Data, *id),
            }
        }
        (total != size).then(|| contradiction(total, size))
    }

    /// Why a folder cannot be read, if so.
    pub(super) fn why_tree_lost(&self, tree: Id) -> Option<String> {
        self.why_blob_lost(&self.state(BlobKind::Tree, tree), BlobKind::Tree, tree)
    }

    fn why_blob_lost(&self, state: &State, kind: BlobKind, id: Id) -> Option<String> {
        let short = id.short();
        let text = match state {
            State::Whole { .. } => return None,
            State::Damaged(pack) if self.sizes.contains_key(pack) => {
                format!("{kind} blob {short} is damaged in pack {}", pack.short())
            }
            State::Damaged(pack) => {
                format!(
                    "{kind} blob {short} lay in pack {}, which is gone",
                    pack.short()
                )
            }
            State::Unknown => format!("{kind} blob {short} is in no index and in no pack"),
        };
        Some(text)
    }
}

fn contradiction(blobs: u64, folder: u64) -> String {
    format!("its blobs hold {blobs} bytes, its folder says {folder}")
}
