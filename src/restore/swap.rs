//! The last step: what was proved gets its final name.
//!
//! Order is safety: metadata, then one sync of the whole file system, then the rename, then a sync of
//! the folder that holds the name. A crash before the rename leaves nothing under a final name; one
//! after it leaves all of it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::metadata;
use super::verify::{ProofLevel, Verified};
use crate::durable::scratch::{Scratch, is_scratch};
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

    fn parent(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Creates the folder to stage in, on the target's own file system.
    pub(super) fn stage(&self, disk: &dyn Disk, rng: &dyn Rng) -> Result<Scratch> {
        let beside = match self.kind {
            TargetKind::New => {
                disk.create_all(self.parent(), 0o755)
                    .map_err(Error::file("creating", self.parent()))?;
                self.parent()
            }
            TargetKind::Empty => self.parent(),
            TargetKind::Inside | TargetKind::Scratch => &self.path,
        };
        Scratch::create(disk, beside, "stage", rng)
    }
}

/// Whether a folder of `device` in `parent` can be exchanged: same file system, and open to us.
fn is_movable(parent: &Path, device: u64) -> bool {
    use rustix::fs::{Access, access};
    std::fs::metadata(parent).is_ok_and(|metadata| metadata.dev() == device)
        && access(parent, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

impl Verified {
    /// The databases and the level, without giving anything a final name: what `verify` wants.
    ///
    /// # Errors
    /// None today; the copy is removed.
    #[must_use]
    pub fn discard(self) -> (Snapshot, ProofLevel) {
        (self.staged.plan.snapshot, self.level)
    }

    /// Gives the proved copy its final name, durably.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Interrupted`]; then nothing stands under a final name, unless only
    /// the very last sync failed.
    pub fn swap_in(self, monitor: &Arc<dyn Monitor>) -> Result<Restored> {
        let staged = self.staged;
        let folder = staged.scratch.folder();
        metadata::apply(folder, &staged.plan.items, monitor.as_ref())?;
        monitor.step(Step::Syncing, None);
        let (parent, name) = staged.scratch.place();
        let target = staged.target.path.clone();
        if staged.target.kind == TargetKind::New {
            set_mode(folder, Path::new(""), 0o755)?;
        }
        if staged.target.kind == TargetKind::Empty {
            let old = std::fs::metadata(&target).map_err(Error::file("looking at", &target))?;
            if rustix::process::geteuid().is_root() {
                parent
                    .set_owner(name, old.uid(), old.gid())
                    .map_err(Error::file("setting the owner of", &target))?;
            }
            set_mode(folder, Path::new(""), old.mode() & 0o7777)?;
        }
        // One sync for everything: cheaper by far than one for each file.
        folder.sync_all().map_err(Error::file("syncing", &target))?;
        go_on(monitor.as_ref())?;
        match staged.target.kind {
            TargetKind::New => {
                let named = target.file_name().unwrap_or_default();
                parent
                    .rename(name, Path::new(named))
                    .map_err(|cause| name_taken(cause, &target))?;
            }
            TargetKind::Empty => {
                let named = target.file_name().unwrap_or_default();
                parent
                    .replace_empty_folder(name, Path::new(named))
                    .map_err(|cause| name_taken(cause, &target))?;
            }
            TargetKind::Inside | TargetKind::Scratch => move_up(parent, name, &target)?,
        }
        parent
            .sync_folder(Path::new(""))
            .map_err(Error::file("syncing", &target))?;
        Ok(Restored {
            snapshot: staged.plan.snapshot,
            path: target,
            level: self.level,
        })
    }
}

fn set_mode(folder: &dyn Folder, path: &Path, mode: u32) -> Result<()> {
    folder
        .set_mode(path, mode)
        .map_err(Error::file("setting the mode of", folder.path()))
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

/// Moves everything in `stage` one level up. If one name cannot be moved, the others go back.
fn move_up(parent: &dyn Folder, stage: &Path, target: &Path) -> Result<()> {
    let listed = parent.list(stage).map_err(Error::file("reading", target))?;
    let mut moved: Vec<PathBuf> = Vec::new();
    for listed in listed {
        let name = PathBuf::from(listed.name);
        if let Err(cause) = parent.rename(&stage.join(&name), &name) {
            for name in moved {
                // What cannot go back is whole and proved; the error says that the restore failed.
                let _ = parent.rename(&name, &stage.join(&name));
            }
            return Err(name_taken(cause, target));
        }
        moved.push(name);
    }
    Ok(())
}
