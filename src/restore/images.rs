//! Databases that a snapshot holds as two files, made whole for whoever reads them out of it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::filter::Selection;
use super::log::Logs;
use super::plan::{Plan, read_manifest};
use super::read_back::read_back_pages;
use super::target::Target;
use crate::durable::scratch::Scratch;
use crate::durable::{Disk, File};
use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::snapshot::Snapshot;

/// Open images by their databases' paths in the snapshot, with their bytes.
pub type Open = HashMap<PathBuf, (Arc<dyn File>, u64)>;

/// Whole images in a folder of their own, which is removed with this.
#[derive(Debug)]
pub struct Images {
    plan: Plan,
    scratch: Scratch,
}

impl Images {
    /// Makes those whole that lie at `path` of the snapshot or below it, in the folder `scratch`; none if there are none.
    ///
    /// # Errors
    /// [`Error::Damaged`] if one of them is lost; as [`Plan::make`] and [`Plan::fetch`].
    pub fn below(
        path: &Path,
        snapshot: &Snapshot,
        (repository, index): (&Repository, &Index),
        scratch: &Path,
        disk: &dyn Disk,
        monitor: &dyn Monitor,
    ) -> Result<Option<Self>> {
        let root = repository.read_tree(index, snapshot.file.tree)?;
        // What is wrong with the manifest is told when the plan is made.
        let manifest = read_manifest(repository, index, &root, &crate::monitor::Quiet::default());
        if !Logs::of(manifest.as_ref()).are_below(path) {
            return Ok(None);
        }
        let selection = Selection::whole(path);
        let mut plan = Plan::make(repository, index, snapshot.clone(), selection, monitor)?;
        plan.keep_logged();
        let staged = plan.fetch(repository, index, Target::scratch(scratch), disk, monitor)?;
        let (plan, scratch) = (staged.plan, staged.scratch);
        if let Some(lost) = plan.lost.first() {
            return Err(Error::Damaged {
                object: crate::units::shown(&lost.path),
                finding: lost.finding.clone(),
            });
        }
        for item in &plan.items {
            if let Some(log) = &item.log {
                read_back_pages(scratch.folder(), item, log, false, monitor)?;
            }
        }
        Ok(Some(Self { plan, scratch }))
    }

    /// Opens each image.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn open(&self) -> Result<Open> {
        let logged = self.plan.items.iter().filter(|item| item.log.is_some());
        let open = |item: &super::Item| {
            let file = self.scratch.folder().open_file(&item.path, false);
            let failed = Error::file("opening", self.scratch.path().join(&item.path));
            let size = item.content.size();
            let file = file.map_err(failed)?.into();
            Ok((self.plan.path_in_snapshot(item), (file, size)))
        };
        logged.map(open).collect()
    }
}

impl Plan {
    /// Leaves only databases that are made of two files, and the folders that they lie in.
    fn keep_logged(&mut self) {
        let logged = self.items.iter().filter(|item| item.log.is_some());
        let needed: HashSet<PathBuf> = logged
            .flat_map(|item| item.path.ancestors())
            .map(Path::to_owned)
            .collect();
        self.items.retain(|item| needed.contains(&item.path));
        let sizes = self.items.iter().map(|item| item.content.size());
        self.bytes = sizes.fold(0, u64::saturating_add);
    }
}
