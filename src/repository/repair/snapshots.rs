//! `repair snapshots`: beside a snapshot that lacks something, one that has all that is left.
//!
//! A lost file is left out, and a lost folder with all below it: half a file would pass for a whole one.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::fields::Fields;
use super::trees::Rebuild;
use super::{Hushed, Note, all_mended};
use crate::backend::{Class, Object};
use crate::error::Result;
use crate::id::Id;
use crate::monitor::{Monitor, Step, go_on};
use crate::repository::Repository;
use crate::repository::check::{Affected, Losses};
use crate::repository::lock::Lock;
use crate::repository::snapshot::{INCOMPLETE, Snapshot};
use crate::repository::writer::Writer;

/// A snapshot that lacks something, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// The snapshot.
    pub id: Id,
    /// When it was made.
    pub time: Timestamp,
    /// How many paths it lacks: files, and folders with all below them.
    pub lost_paths: u64,
    /// The snapshot that has what is left; nothing if nothing is, or if it was only asked what would be.
    pub new_id: Option<Id>,
    /// Whether anything is left.
    pub has_rest: bool,
    /// Whether the first one was removed, or would be.
    pub forgotten: bool,
}

/// What was done about snapshots, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SnapshotsReport {
    /// Those that lack something.
    #[serde(skip)]
    pub subjects: Vec<Subject>,
    /// What is left undone.
    #[serde(skip)]
    pub notes: Vec<Note>,
    /// What they lack.
    #[serde(skip)]
    pub affected: Vec<Affected>,
    /// Paths that are lost, each counted in every snapshot that loses it.
    pub lost_paths: u64,
    /// Those of them that `affected` does not list, for there are too many.
    pub unlisted_paths: u64,
    /// Whether every snapshot that is there, of those that are meant, has all that it names.
    pub all_mended: bool,
    /// Snapshots that can be read, without those of our own records.
    pub snapshots: u64,
    /// New snapshots.
    pub new_snapshots: u64,
    /// Snapshots that were removed.
    pub forgotten_snapshots: u64,
}

/// Repairs snapshots: those given, or all that lack something. Without a `lock` it only tells what it would
/// do. With `forget` those that lack something are removed once their new ones are there.
///
/// # Errors
/// [`crate::error::Error::Unsupported`] for a repository that is not written; [`crate::error::Error::LockLost`],
/// [`crate::error::Error::Storage`], [`crate::error::Error::Interrupted`]: nothing is lost, and the next
/// run completes it.
pub fn repair_snapshots(
    repository: &Repository,
    lock: Option<&Lock>,
    only: Option<&BTreeSet<Id>>,
    forget: bool,
    monitor: &dyn Monitor,
) -> Result<SnapshotsReport> {
    repository.require_writable()?;
    monitor.step(Step::Checking, None);
    let mut losses = Losses::find(repository, HashSet::new(), monitor)?;
    let mut report = SnapshotsReport {
        snapshots: counted(&losses),
        affected: losses.affected(),
        ..SnapshotsReport::default()
    };
    let is_meant = |id: &Id| only.is_none_or(|only| only.contains(id));
    let shown = |affected: &mut Affected| {
        affected.lost_in.retain(is_meant);
        !affected.lost_in.is_empty()
    };
    report.affected.retain_mut(shown);
    for (id, finding) in losses.unreadable.iter().filter(|(id, _)| is_meant(id)) {
        report.notes.push(Note::left(
            Object::Named(Class::Snapshots, *id),
            finding,
            "left: nobody can say what it held",
            "once you have what you need from the other snapshots, move that file out of the repository",
        ));
    }
    let lacking =
        |snapshot: &&Snapshot| is_meant(&snapshot.id) && losses.below(snapshot.file.tree) > 0;
    let mut subjects: Vec<&Snapshot> = losses.snapshots.iter().filter(lacking).collect();
    // The oldest first.
    subjects.reverse();
    let counts = subjects.iter().map(|one| losses.below(one.file.tree));
    report.lost_paths = counts.fold(0, u64::saturating_add);
    let listed: usize = report.affected.iter().map(|one| one.lost_in.len()).sum();
    report.unlisted_paths = report.lost_paths.saturating_sub(listed as u64);
    let repair = Repair {
        repository,
        losses: &losses,
        forget,
        monitor,
    };
    let mut ends = repair.plan(&subjects, &mut report)?;
    if let Some(lock) = lock
        && !subjects.is_empty()
    {
        repair.execute(&subjects, &mut ends, lock)?;
    }
    report.new_snapshots = ends.iter().filter(|end| end.is_new).count() as u64;
    report.subjects = ends.into_iter().map(|end| end.subject).collect();
    let forgotten = report.subjects.iter().filter(|subject| subject.forgotten);
    report.forgotten_snapshots = forgotten.count() as u64;
    let only_told = lock.is_none() && !report.subjects.is_empty();
    let stays = report.subjects.iter().any(|subject| !subject.forgotten);
    report.all_mended = !stays && all_mended(&report.notes, only_told);
    Ok(report)
}

/// How many there are; those of our own records are the owner's business only if they lack something.
fn counted(losses: &Losses<'_>) -> u64 {
    let lacks = |one: &&Snapshot| !one.is_record() || losses.below(one.file.tree) > 0;
    losses.snapshots.iter().filter(lacks).count() as u64
}

struct Repair<'a> {
    repository: &'a Repository,
    losses: &'a Losses<'a>,
    forget: bool,
    monitor: &'a dyn Monitor,
}

/// What becomes of a snapshot.
struct End {
    subject: Subject,
    /// Whether what is left is still to be stored, and not there from a run before.
    is_new: bool,
}

impl Repair<'_> {
    fn plan(&self, subjects: &[&Snapshot], report: &mut SnapshotsReport) -> Result<Vec<End>> {
        let mut rebuild = Rebuild::new(self.repository, self.losses, None, self.monitor);
        let mut ends = Vec::new();
        for snapshot in subjects {
            rebuild.strange.clear();
            let tree = rebuild.root(snapshot.file.tree)?;
            let there = tree.and_then(|tree| self.find_repaired(snapshot, tree));
            // What we do not understand others may: it is not given up.
            let is_strange = !rebuild.strange.is_empty();
            if is_strange && self.forget {
                report.notes.push(Note::left(
                    Object::Named(Class::Snapshots, snapshot.id),
                    "it holds a folder that is whole, and that this program does not understand",
                    "kept beside the one that has the rest",
                    "restore that folder with the program that wrote it",
                ));
            }
            ends.push(End {
                is_new: tree.is_some() && there.is_none(),
                subject: Subject {
                    id: snapshot.id,
                    time: snapshot.file.time,
                    lost_paths: self.losses.below(snapshot.file.tree),
                    new_id: there,
                    has_rest: tree.is_some(),
                    forgotten: self.forget && !is_strange,
                },
            });
        }
        Ok(ends)
    }

    /// The snapshot that an earlier run has made of this one.
    fn find_repaired(&self, snapshot: &Snapshot, tree: Id) -> Option<Id> {
        let original = snapshot.origin();
        let is_it = |other: &&Snapshot| {
            other.file.tree == tree
                && other.file.time == snapshot.file.time
                && other.file.original == Some(original)
        };
        let found = self.losses.snapshots.iter().find(is_it);
        found.map(|found| found.id)
    }

    /// New trees, their index, the new snapshots; only then the old ones go.
    fn execute(&self, subjects: &[&Snapshot], ends: &mut [End], lock: &Lock) -> Result<()> {
        let mut files = Vec::new();
        if ends.iter().any(|end| end.is_new) {
            self.monitor.step(Step::Repacking, None);
            let hushed = Hushed(self.monitor);
            let (index, _) = self.repository.load_sound_index(&hushed)?;
            lock.require_held()?;
            let writer = Writer::begin(self.repository, Arc::new(index))?;
            let stored = self.store_trees(subjects, ends, &writer);
            (files, _) = writer.end(stored, lock)?;
        }
        for (number, fields) in files {
            go_on(self.monitor)?;
            let id = self.repository.save_snapshot_json(&fields, lock)?;
            ends[number].subject.new_id = Some(id);
        }
        self.monitor.step(Step::Removing, None);
        for end in ends.iter().filter(|end| end.subject.forgotten) {
            go_on(self.monitor)?;
            lock.require_held()?;
            self.repository.remove_snapshot(end.subject.id)?;
        }
        lock.require_held()
    }

    /// Stores the trees of what is left, and returns the snapshots that are to name them.
    fn store_trees(
        &self,
        subjects: &[&Snapshot],
        ends: &[End],
        writer: &Writer,
    ) -> Result<Vec<(usize, Fields)>> {
        let mut rebuild = Rebuild::new(self.repository, self.losses, Some(writer), self.monitor);
        let mut files = Vec::new();
        for (number, snapshot) in subjects.iter().enumerate() {
            if !ends[number].is_new {
                continue;
            }
            let Some(tree) = rebuild.root(snapshot.file.tree)? else {
                continue;
            };
            let mut fields: Fields = self.repository.load_json(Class::Snapshots, snapshot.id)?;
            fields.set("tree", &tree)?;
            let mut tags = snapshot.file.tags.clone();
            if !snapshot.file.is_incomplete() {
                tags.push(INCOMPLETE.to_owned());
            }
            fields.set("tags", &tags)?;
            fields.set("original", &snapshot.origin())?;
            if let Some(Some(mut summary)) = fields.get::<Option<Fields>>("summary") {
                let totals = rebuild.totals_of(tree)?;
                summary.set("total_files_processed", &totals.files)?;
                summary.set("total_bytes_processed", &totals.bytes)?;
                fields.set("summary", &summary)?;
            }
            files.push((number, fields));
        }
        Ok(files)
    }
}
