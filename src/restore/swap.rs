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
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fetch::Staged;
use super::metadata::Metadata;
use super::plan::Item;
use super::ready::{self, is_top_folder};
use super::verify::{ProofLevel, Verified};
use crate::durable::scratch::{Scratch, is_scratch, remove_leftovers};
use crate::durable::{Disk, Folder};
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Step, go_on};
use crate::repository::snapshot::Snapshot;
use crate::rng::Rng;

/// Where a restore goes: a folder that does not exist yet, or an empty one.
#[derive(Debug, Clone)]
pub struct Target {
    path: PathBuf,
    kind: TargetKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TargetKind {
    /// Staged beside, and given the name.
    New,
    /// Staged beside, and put in the empty folder's place.
    Empty,
    /// Staged inside, because the folder is a mount point or its parent is closed to us; then moved
    /// up, one name at a time.
    Inside,
    /// Staged inside and thrown away: for `verify`.
    Scratch,
    /// An interrupted restore waits in it, in the ready folder of this name.
    Unfinished(PathBuf),
}

/// What a restore has done.
#[derive(Debug)]
pub struct Restored {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Where it is now.
    pub path: PathBuf,
    /// How far it is proved.
    pub level: ProofLevel,
}

impl Target {
    /// Looks at the absolute `path`; writes nothing.
    ///
    /// # Errors
    /// [`Error::TargetNotEmpty`], [`Error::TargetUnfit`].
    pub fn look_at(path: &Path, disk: &dyn Disk) -> Result<Self> {
        let unfit = |finding: String| Error::TargetUnfit {
            path: path.to_owned(),
            finding,
        };
        let metadata = match std::fs::metadata(path) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                if std::fs::symlink_metadata(path).is_ok() {
                    return Err(unfit("it is a link to nowhere".to_owned()));
                }
                return Ok(Self {
                    path: path.to_owned(),
                    kind: TargetKind::New,
                });
            }
            other => other.map_err(|cause| unfit(cause.to_string()))?,
        };
        if !metadata.is_dir() {
            return Err(unfit("it is not a folder".to_owned()));
        }
        // A link to a folder stands for that folder.
        let path = std::fs::canonicalize(path).map_err(|cause| unfit(cause.to_string()))?;
        let folder = disk.open(&path).map_err(|cause| unfit(cause.to_string()))?;
        let listed = folder
            .list(Path::new(""))
            .map_err(|cause| unfit(cause.to_string()))?;
        if let Some(ready) = ready::find(&listed) {
            return Ok(Self {
                path,
                kind: TargetKind::Unfinished(ready),
            });
        }
        if listed.iter().any(|listed| !is_scratch(&listed.name)) {
            return Err(Error::TargetNotEmpty { path });
        }
        let beside = listed.is_empty()
            && path
                .parent()
                .is_some_and(|parent| is_movable(parent, metadata.dev()));
        let kind = if beside {
            TargetKind::Empty
        } else {
            TargetKind::Inside
        };
        Ok(Self { path, kind })
    }

    /// A place in `folder` that is thrown away with its content.
    #[must_use]
    pub fn scratch(folder: &Path) -> Self {
        Self {
            path: folder.to_owned(),
            kind: TargetKind::Scratch,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The ready folder of an interrupted restore, if one waits here.
    pub(super) fn unfinished(&self) -> Option<&Path> {
        match &self.kind {
            TargetKind::Unfinished(ready) => Some(ready),
            _ => None,
        }
    }

    fn unfit(&self, finding: &str) -> Error {
        Error::TargetUnfit {
            path: self.path.clone(),
            finding: finding.to_owned(),
        }
    }

    /// Creates the folder to stage in, on the target's own file system, if that has room for
    /// `needed_bytes`.
    pub(super) fn stage(
        &self,
        needed_bytes: u64,
        disk: &dyn Disk,
        rng: &dyn Rng,
    ) -> Result<Scratch> {
        let beside = match &self.kind {
            TargetKind::New | TargetKind::Empty => self.path.parent().unwrap_or(Path::new("/")),
            TargetKind::Inside | TargetKind::Scratch => &self.path,
            TargetKind::Unfinished(_) => {
                return Err(self.is_unfinished("that waits to be finished"));
            }
        };
        require_room(beside, needed_bytes, disk)?;
        if self.kind == TargetKind::New {
            disk.create_all(beside, 0o755)
                .map_err(Error::file("creating", beside))?;
        }
        Scratch::create(disk, beside, "stage", rng)
    }
}

/// Looks for room where `folder` is or will be, before anything is written.
fn require_room(folder: &Path, needed_bytes: u64, disk: &dyn Disk) -> Result<()> {
    let mut ancestors = folder.ancestors();
    let nearest = ancestors.find(|path| path.is_dir()).unwrap_or(folder);
    // What cannot be opened cannot be staged in either: that error comes next, and says more.
    let Ok(root) = disk.open(nearest) else {
        return Ok(());
    };
    if nearest == folder {
        // What a killed run left is in our way now.
        remove_leftovers(disk, root.as_ref());
    }
    // A file system that cannot tell its free space gets the benefit of the doubt.
    let free_bytes = root.free_bytes().unwrap_or(u64::MAX);
    if free_bytes < needed_bytes {
        return Err(Error::NoRoom {
            path: nearest.to_owned(),
            needed_bytes,
            free_bytes,
        });
    }
    Ok(())
}

/// Whether a folder of `device` in `parent` can be exchanged: same file system, and open to us.
fn is_movable(parent: &Path, device: u64) -> bool {
    use rustix::fs::{Access, access};
    std::fs::metadata(parent).is_ok_and(|metadata| metadata.dev() == device)
        && access(parent, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

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
    /// has failed is finished by the next run ([`Target::finish`]).
    pub fn swap_in(self, monitor: &Arc<dyn Monitor>) -> Result<Restored> {
        let Self { staged, level, .. } = self;
        let Staged {
            plan,
            target,
            scratch,
        } = staged;
        let (folder, (parent, name)) = (scratch.folder(), scratch.place());
        let path = target.path.as_path();
        let mut metadata = Metadata::new(path, monitor.as_ref());
        let later = |item: &&Item| target.kind == TargetKind::Inside && is_top_folder(item);
        let items: Vec<&Item> = plan.items.iter().filter(|item| !later(item)).collect();
        metadata.apply(folder, &items)?;
        match target.kind {
            TargetKind::New => metadata.apply_to_copy(parent, name, None, 0o755)?,
            TargetKind::Empty => {
                let old = std::fs::metadata(path).map_err(Error::file("looking at", path))?;
                let is_root = rustix::process::geteuid().is_root();
                let owner = is_root.then(|| (old.uid(), old.gid()));
                metadata.apply_to_copy(parent, name, owner, old.mode() & 0o7777)?;
            }
            TargetKind::Inside | TargetKind::Scratch | TargetKind::Unfinished(_) => {}
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
        match target.kind {
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
            TargetKind::Scratch | TargetKind::Unfinished(_) => {
                return Err(target.unfit("a copy in it can only be verified"));
            }
        }
        Ok(Restored {
            snapshot: plan.snapshot,
            path: target.path,
            level,
        })
    }
}

/// A target that is filled in place must still hold nothing of anybody's.
fn require_empty(folder: &dyn Folder, target: &Path) -> Result<()> {
    let listed = folder
        .list(Path::new(""))
        .map_err(Error::file("reading", target))?;
    if listed.iter().all(|listed| is_scratch(&listed.name)) {
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
