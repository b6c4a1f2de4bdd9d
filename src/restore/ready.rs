//! Filling a folder in place, so that the next run finishes what a kill or a failure cut short.
//!
//! A mount point cannot be exchanged for another folder: its content arrives name by name. Before the
//! first of them, the copy, proved and synced, is renamed to `.tillsafe-ready-LEVEL-HASH` in the
//! target: its proof level, and which restore it belongs to. From then on all of it is there for
//! good. Names are moved up, folders at the top get their modes and times (a folder that is closed
//! to its owner cannot be moved), everything is synced, and the empty folder is removed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use super::item::Item;
use super::lost::{self, Lost};
use super::metadata::Metadata;
use super::plan::Plan;
use super::read_back::read_back;
use super::target::Target;
use crate::durable::scratch::{READY, remove_leftovers};
use crate::durable::{Disk, Folder};
use crate::entry::Kind;
use crate::error::{Error, Result};
use crate::id::Hasher;
use crate::monitor::{Monitor, Step, go_on};
use crate::records::ProofLevel;
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::snapshot::Snapshot;

/// What a restore has done.
#[derive(Debug)]
pub struct Restored {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Where it is now.
    pub path: PathBuf,
    /// How far it is proved.
    pub level: ProofLevel,
    /// What could not be brought back, by path.
    pub lost: Vec<Lost>,
}

/// The ready folder's name for this restore: the same snapshot, path in it and patterns.
pub(super) fn name(plan: &Plan, level: ProofLevel) -> PathBuf {
    let mut hasher = Hasher::default();
    hasher.update(plan.snapshot.id.as_bytes());
    hasher.update(plan.base.as_os_str().as_encoded_bytes());
    if !plan.filter.is_empty() {
        hasher.update(&[0]);
        hasher.update(plan.filter.words().as_bytes());
    }
    let hash = hasher.finish().to_string();
    format!("{READY}{}-{}", level.name(), &hash[..16]).into()
}

/// Whether an item is a folder whose mode and times come after it has been moved up.
pub(super) fn is_top_folder(item: &Item) -> bool {
    item.entry.kind == Kind::Folder && is_at_the_top(item)
}

fn is_at_the_top(item: &Item) -> bool {
    item.path.components().count() == 1
}

impl Target {
    /// Finishes the interrupted restore that waits in the target, if it is the one that `plan` is
    /// of; what that one could not bring back is lost in `plan` then too. `None` if none waits.
    ///
    /// # Errors
    /// [`Error::UnfinishedRestore`] if it is another one, is at work, or cannot be completed as it
    /// stands; [`Error::File`]. It still waits then.
    pub fn finish(
        &self,
        plan: &mut Plan,
        repository: &Repository,
        index: &Index,
        disk: &dyn Disk,
        monitor: &dyn Monitor,
    ) -> Result<Option<Restored>> {
        let Some(ready) = self.unfinished() else {
            return Ok(None);
        };
        let level = [
            ProofLevel::Restored,
            ProofLevel::Opened,
            ProofLevel::Matched,
        ]
        .into_iter()
        .find(|level| name(plan, *level) == ready)
        .ok_or_else(|| self.is_unfinished("of another snapshot or path"))?;
        let open = |path: &Path| disk.open(path).map_err(Error::file("opening", path));
        let folder = open(self.path())?;
        let waiting = open(&self.path().join(ready))?;
        // Without locks (some network file systems) nobody can tell.
        if matches!(waiting.try_lock(), Ok(false)) {
            return Err(self.is_unfinished("that is at work right now"));
        }
        remove_leftovers(disk, folder.as_ref());
        // It was proved before the interruption; whether it is still that, only its bytes can tell.
        monitor.step(Step::Verifying, Some(plan.bytes));
        self.lose_what_was_lost(folder.as_ref(), ready, plan, (repository, index), monitor)?;
        let items = self.where_they_are(folder.as_ref(), ready, plan)?;
        read_back(folder.as_ref(), &items, index, true, monitor).map_err(|cause| match cause {
            Error::NotVerified { name, .. } => {
                self.is_unfinished(&format!("whose {name} was changed since"))
            }
            Error::File { path, cause, .. } if cause.kind() == io::ErrorKind::NotFound => {
                self.is_unfinished(&format!("whose {} is gone", crate::units::shown(&path)))
            }
            other => other,
        })?;
        monitor.step(Step::Syncing, None);
        let mut metadata = Metadata::new(self.path(), monitor);
        self.move_up(folder.as_ref(), ready, plan, &mut metadata)?;
        Ok(Some(Restored {
            snapshot: plan.snapshot.clone(),
            path: self.path().to_owned(),
            level,
            lost: plan.lost.clone(),
        }))
    }

    /// Files that are missing because no whole copy of them was there to restore.
    fn lose_what_was_lost(
        &self,
        folder: &dyn Folder,
        ready: &Path,
        plan: &mut Plan,
        (repository, index): (&Repository, &Index),
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let mut found = BTreeMap::new();
        let items = self.where_they_are(folder, ready, plan)?;
        for (number, item) in items.iter().enumerate() {
            let is_missing = || {
                let metadata = std::fs::symlink_metadata(self.path().join(&item.path));
                metadata.is_err_and(|cause| cause.kind() == io::ErrorKind::NotFound)
            };
            if item.entry.kind == Kind::File && is_missing() {
                go_on(monitor)?;
                if let Some(finding) = lost::read_fault(repository, index, item)? {
                    found.insert(number, finding);
                }
            }
        }
        plan.lose(&found);
        let known = HashMap::new();
        let of = plan.snapshot.clone();
        lost::search(
            repository,
            index,
            &of,
            &mut plan.lost,
            known,
            lost::MAX_READ,
            monitor,
        )
    }

    /// The plan's items under the names that they have now: still waiting, or moved up already.
    fn where_they_are(&self, folder: &dyn Folder, ready: &Path, plan: &Plan) -> Result<Vec<Item>> {
        let waiting = self.names(folder, ready)?;
        let items = plan.items.iter().cloned().map(|mut item| {
            let top = item.path.iter().next().unwrap_or_default();
            if waiting.contains(top) {
                item.path = ready.join(&item.path);
            }
            item
        });
        Ok(items.collect())
    }

    /// Moves everything that is in `ready` one level up, durably, and removes it.
    pub(super) fn move_up(
        &self,
        folder: &dyn Folder,
        ready: &Path,
        plan: &Plan,
        metadata: &mut Metadata<'_>,
    ) -> Result<()> {
        let waiting = self.names(folder, ready)?;
        let here = self.names(folder, Path::new(""))?;
        // All that can be known beforehand, so that nothing is touched if it cannot be completed.
        if let Some(taken) = waiting.iter().find(|name| here.contains(*name)) {
            return Err(self.is_taken(taken));
        }
        let has_content = |item: &&Item| matches!(item.entry.kind, Kind::File | Kind::Folder);
        for item in plan
            .items
            .iter()
            .filter(|item| is_at_the_top(item))
            .filter(has_content)
        {
            let name = item.path.as_os_str();
            if !waiting.contains(name) && !here.contains(name) {
                let shown = crate::units::shown(&item.path);
                return Err(self.is_unfinished(&format!("whose {shown} is gone")));
            }
        }
        for name in waiting {
            folder
                .rename(&ready.join(&name), Path::new(&name))
                .map_err(|cause| match cause.kind() {
                    io::ErrorKind::AlreadyExists => self.is_taken(&name),
                    _ => Error::file("naming", self.path().join(&name))(cause),
                })?;
        }
        let top: Vec<&Item> = plan
            .items
            .iter()
            .filter(|item| is_top_folder(item))
            .collect();
        metadata.apply(folder, &top)?;
        let failed = |doing| Error::file(doing, self.path());
        folder.sync_all().map_err(failed("syncing"))?;
        folder
            .remove_folder(ready)
            .map_err(failed("clearing away what was staged in"))?;
        // All is in its place for good. A power cut may bring the empty folder back, and the next
        // run removes it.
        let _ = folder.sync_folder(Path::new(""));
        Ok(())
    }

    fn names(&self, folder: &dyn Folder, path: &Path) -> Result<BTreeSet<OsString>> {
        let listed = folder.list(path);
        let listed = listed.map_err(Error::file("reading", self.path()))?;
        Ok(listed.into_iter().map(|listed| listed.name).collect())
    }

    fn is_taken(&self, name: &OsStr) -> Error {
        let shown = crate::units::shown(Path::new(name));
        self.is_unfinished(&format!("whose {shown} is taken by something else"))
    }
}
