//! The last step: what was proved gets its final name.
//!
//! Order is safety: metadata, then one sync of the whole file system, then the rename, then a sync of
//! the folder that holds the name. A folder that is new, or takes an empty one's place, has its name
//! in one rename: a crash before it leaves nothing under a final name, one after it all of it.
//!
//! A folder that is filled in place gets its names one by one, each of them whole. There the first
//! rename is that of the copy to a ready folder: a crash before it leaves nothing, one after it a
//! restore that the next run finishes.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::fetch::Staged;
use super::item::Item;
use super::metadata::Metadata;
use super::plan::Plan;
use super::ready::{self, Restored, is_top_folder};
use super::target::{TargetKind, is_content};
use super::verify::Verified;
use crate::durable::Folder;
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Problem, Step, go_on};
use crate::records::ProofLevel;
use crate::repository::snapshot::Snapshot;

impl Verified {
    /// The snapshot and the level, without giving anything a final name: what `verify` wants. The
    /// copy is removed.
    #[must_use]
    pub fn discard(self) -> (Snapshot, ProofLevel) {
        (self.staged.plan.snapshot, self.level)
    }

    /// Gives the proved copy its final name, durably.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Interrupted`], [`Error::TargetNotEmpty`]; then nothing stands under
    /// a final name, unless only the very last sync failed. In a folder that is filled in place, what
    /// has failed is finished by the next run ([`super::Target::finish`]).
    pub fn swap_in(self, monitor: &Arc<dyn Monitor>) -> Result<Restored> {
        let Self { staged, level, .. } = self;
        let Staged {
            plan,
            target,
            scratch,
            ..
        } = staged;
        let (folder, (parent, name)) = (scratch.folder(), scratch.place());
        let path = target.path();
        let mut metadata = Metadata::new(path, monitor.as_ref());
        let later = |item: &&Item| *target.kind() == TargetKind::Inside && is_top_folder(item);
        let items: Vec<&Item> = plan.items.iter().filter(|item| !later(item)).collect();
        monitor.step(Step::Finishing, None);
        metadata.apply(folder, &items)?;
        match target.kind() {
            TargetKind::New => match &plan.base_folder {
                Some(entry) => metadata.apply_base(parent, name, entry)?,
                None => metadata.apply_to_copy(parent, name, None, 0o755)?,
            },
            TargetKind::Empty => {
                let old = std::fs::metadata(path).map_err(Error::file("looking at", path))?;
                let is_root = rustix::process::geteuid().is_root();
                let owner = is_root.then(|| (old.uid(), old.gid()));
                metadata.apply_to_copy(parent, name, owner, old.mode() & 0o7777)?;
                tell_kept(&old, &plan, path, monitor.as_ref());
            }
            TargetKind::Inside
            | TargetKind::Scratch
            | TargetKind::InPlace { .. }
            | TargetKind::Unfinished(_) => {}
        }
        monitor.step(Step::Syncing, None);
        // One sync for everything: cheaper by far than one for each file.
        folder.sync_all().map_err(Error::file("syncing", path))?;
        go_on(monitor.as_ref())?;
        let sync = || {
            parent
                .sync_folder(Path::new(""))
                .map_err(Error::file("syncing", path))
        };
        let named = Path::new(path.file_name().unwrap_or_default());
        match target.kind() {
            TargetKind::New => {
                parent
                    .rename(name, named)
                    .map_err(|cause| name_taken(cause, path))?;
                sync()?;
            }
            TargetKind::Empty => {
                parent
                    .replace_empty_folder(name, named)
                    .map_err(|cause| name_taken(cause, path))?;
                sync()?;
            }
            TargetKind::Inside => {
                require_empty(parent, path)?;
                let ready = ready::name(&plan, level);
                parent
                    .rename(name, &ready)
                    .map_err(|cause| name_taken(cause, path))?;
                sync()?;
                target.move_up(parent, &ready, &plan, &mut metadata)?;
            }
            TargetKind::Scratch | TargetKind::InPlace { .. } | TargetKind::Unfinished(_) => {
                return Err(target.unfit("a copy in it can only be verified"));
            }
        }
        Ok(Restored {
            snapshot: plan.snapshot,
            path: target.path().to_owned(),
            level,
            lost: plan.lost,
        })
    }
}

/// Says that a target which was there keeps its owner and mode, if they are not the captured folder's.
pub(super) fn tell_kept(
    old: &std::fs::Metadata,
    plan: &Plan,
    target: &Path,
    monitor: &dyn Monitor,
) {
    if let Some(entry) = &plan.base_folder {
        tell_kept_folder(old, entry, target, monitor);
    }
}

/// The same of any folder that stays.
pub(super) fn tell_kept_folder(
    old: &std::fs::Metadata,
    entry: &Entry,
    path: &Path,
    monitor: &dyn Monitor,
) {
    let kept = (old.uid(), old.gid(), old.mode() & 0o7777);
    if kept != (entry.owner.uid, entry.owner.gid, entry.mode) {
        monitor.problem(Problem {
            item: crate::units::shown(path),
            finding: format!(
                "was there before and keeps its owner and mode ({}:{} {:04o}); the captured folder had {}:{} {:04o}",
                kept.0, kept.1, kept.2, entry.owner.uid, entry.owner.gid, entry.mode
            ),
            incomplete: false,
        });
    }
}

/// A target that is filled in place must still hold nothing of anybody's.
fn require_empty(folder: &dyn Folder, target: &Path) -> Result<()> {
    let listed = folder
        .list(Path::new(""))
        .map_err(Error::file("reading", target))?;
    if !listed.iter().any(is_content) {
        return Ok(());
    }
    Err(Error::TargetNotEmpty {
        path: target.to_owned(),
    })
}

/// Somebody filled the target while we worked.
fn name_taken(cause: std::io::Error, target: &Path) -> Error {
    use std::io::ErrorKind;
    match cause.kind() {
        ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty => Error::TargetNotEmpty {
            path: target.to_owned(),
        },
        _ => Error::file("naming", target)(cause),
    }
}
