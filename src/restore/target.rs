//! Where a restore goes, looked at before anything is written.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::durable::scratch::{
    READY, Scratch, bytes_left, is_scratch, remove_leftovers, remove_leftovers_of_others,
};
use crate::durable::{Disk, Listed, ListedKind};
use crate::error::{Error, Result};
use crate::id::{Hasher, Id};
use crate::repository::lock::host_name;
use crate::rng::Rng;

use super::plan::Plan;

/// What our scratch folders are for.
const STAGE: &str = "stage";

/// Where a restore goes: a folder that does not exist yet, or an empty one.
#[derive(Debug, Clone)]
pub struct Target {
    path: PathBuf,
    kind: TargetKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TargetKind {
    /// Staged beside, and given the name.
    New,
    /// Staged beside, and put in the empty folder's place.
    Empty,
    /// Staged inside, because the folder is a mount point or its parent is closed to us; then moved
    /// up, one name at a time.
    Inside,
    /// Staged inside and thrown away: for `verify`.
    Scratch,
    /// Staged in this folder, to replace what is at the target: see `in_place`.
    InPlace {
        /// The folder.
        place: PathBuf,
        /// Which restore it is a part of.
        restore: Id,
    },
    /// An interrupted restore waits in it, in the ready folder of this name.
    Unfinished(PathBuf),
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
        if let Some(ready) = find_ready(&listed) {
            return Ok(Self {
                path,
                kind: TargetKind::Unfinished(ready),
            });
        }
        if listed.iter().any(is_content) {
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

    /// Staged in the folder `place`, to replace what is at `live`.
    pub(super) fn in_place(live: &Path, place: &Path, restore: Id) -> Self {
        Self {
            path: live.to_owned(),
            kind: TargetKind::InPlace {
                place: place.to_owned(),
                restore,
            },
        }
    }

    /// Which restore in place it is a part of.
    pub(super) const fn restore(&self) -> Option<Id> {
        match self.kind {
            TargetKind::InPlace { restore, .. } => Some(restore),
            _ => None,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What stands there, in words.
    #[must_use]
    pub const fn words(&self) -> &'static str {
        match &self.kind {
            TargetKind::New => "a new folder",
            TargetKind::Empty => "an empty folder",
            TargetKind::Inside => "an empty folder that is filled in place",
            TargetKind::Scratch => "a scratch folder",
            TargetKind::InPlace { .. } => "what is replaced",
            TargetKind::Unfinished(_) => "where an interrupted restore waits to be finished",
        }
    }

    /// Bytes that are free where it will be staged; none if the file system does not count.
    #[must_use]
    pub fn free_bytes(&self, disk: &dyn Disk) -> Option<u64> {
        let nearest = self.path.ancestors().find(|path| path.is_dir())?;
        disk.open(nearest)
            .and_then(|folder| folder.free_bytes())
            .ok()
    }

    /// Hash of the machine, the snapshot, the path in it, the target and what stands there: what `--plan`
    /// names.
    #[must_use]
    pub fn plan_hash(&self, plan: &Plan) -> Id {
        let mut hasher = Hasher::default();
        hasher.update(plan.snapshot.id.as_bytes());
        add_machine(&mut hasher);
        for part in [plan.base.as_path(), &self.path, Path::new(self.words())] {
            add_part(&mut hasher, part.as_os_str().as_encoded_bytes());
        }
        let patterns = serde_json::to_vec(&plan.filter).unwrap_or_default();
        add_part(&mut hasher, &patterns);
        hasher.finish()
    }

    /// The ready folder of an interrupted restore, if one waits here.
    pub(super) fn unfinished(&self) -> Option<&Path> {
        match &self.kind {
            TargetKind::Unfinished(ready) => Some(ready),
            _ => None,
        }
    }

    /// Whether what is staged is to stay.
    pub(super) fn is_for_good(&self) -> bool {
        self.kind != TargetKind::Scratch
    }

    pub(super) fn kind(&self) -> &TargetKind {
        &self.kind
    }

    /// An interrupted restore waits here; `which` one.
    pub(super) fn is_unfinished(&self, which: &str) -> Error {
        Error::UnfinishedRestore {
            path: self.path().to_owned(),
            finding: which.to_owned(),
        }
    }

    pub(super) fn unfit(&self, finding: &str) -> Error {
        Error::TargetUnfit {
            path: self.path.clone(),
            finding: finding.to_owned(),
        }
    }

    /// What names the stage folder: which snapshot, what of it, and where to.
    pub(super) fn work(&self, plan: &Plan) -> Result<String> {
        let filter = serde_json::to_vec(&plan.filter).map_err(|cause| Error::internal(&cause))?;
        let mut hasher = Hasher::default();
        hasher.update(plan.snapshot.id.as_bytes());
        // No path and no JSON holds a zero byte.
        for part in [
            plan.base.as_os_str().as_encoded_bytes(),
            &filter,
            self.path.as_os_str().as_encoded_bytes(),
        ] {
            hasher.update(part);
            hasher.update(&[0]);
        }
        let hash = hasher.finish().to_string();
        // Copies of one restore begin alike, so that none of them clears the others away.
        Ok(match self.restore() {
            Some(restore) => format!("{}{}", &restore.to_string()[..8], &hash[..8]),
            None => hash[..16].to_owned(),
        })
    }

    /// Bytes that an earlier run of the same restore has staged already.
    pub(super) fn bytes_staged(&self, plan: &Plan, disk: &dyn Disk) -> Result<u64> {
        let TargetKind::InPlace { place, .. } = &self.kind else {
            return Ok(0);
        };
        Ok(bytes_left(disk, place, STAGE, &self.work(plan)?))
    }

    /// Creates the folder to stage in, on the target's own file system, if that has room for
    /// `needed_bytes`. `work` names what is restored, so that the same restore finds it again.
    pub(super) fn stage(
        &self,
        needed_bytes: u64,
        work: &str,
        disk: &dyn Disk,
        rng: &dyn Rng,
    ) -> Result<Scratch> {
        let beside = match &self.kind {
            TargetKind::New | TargetKind::Empty => self.path.parent().unwrap_or(Path::new("/")),
            TargetKind::Inside | TargetKind::Scratch => &self.path,
            TargetKind::InPlace { place, .. } => place,
            TargetKind::Unfinished(_) => {
                return Err(self.is_unfinished("that waits to be finished"));
            }
        };
        // What is only verified is never left for a later run.
        let work = self.is_for_good().then_some(work);
        require_room(beside, needed_bytes, work, disk)?;
        if matches!(self.kind, TargetKind::New | TargetKind::InPlace { .. }) {
            disk.create_all(beside, 0o755).map_err(|cause| {
                if is_closed(&cause) {
                    self.unfit(&cause.to_string())
                } else {
                    Error::file("creating", beside)(cause)
                }
            })?;
        }
        let scratch = match work {
            Some(work) => Scratch::adopt_or_create(disk, beside, STAGE, work, rng),
            None => Scratch::create(disk, beside, STAGE, rng),
        };
        scratch.map_err(|cause| match cause {
            Error::File { cause, .. } if is_closed(&cause) => self.unfit(&cause.to_string()),
            other => other,
        })
    }
}

/// Adds a part with its length, so that no two lists of parts are hashed alike.
pub(super) fn add_part(hasher: &mut Hasher, part: &[u8]) {
    hasher.update(&(part.len() as u64).to_le_bytes());
    hasher.update(part);
}

/// Adds what tells this machine from others.
pub(super) fn add_machine(hasher: &mut Hasher) {
    add_part(hasher, host_name().as_bytes());
    // Two machines may share a name, but not this; a machine without it has its name alone.
    add_part(
        hasher,
        &std::fs::read("/etc/machine-id").unwrap_or_default(),
    );
}

/// Whether a name in a target is somebody's: not ours, and not what a new file system begins with.
pub(super) fn is_content(listed: &Listed) -> bool {
    !is_scratch(&listed.name) && listed.name != "lost+found"
}

fn is_closed(cause: &std::io::Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(cause.kind(), PermissionDenied | ReadOnlyFilesystem)
}

/// Looks for room where `folder` is or will be, before anything is written.
fn require_room(
    folder: &Path,
    needed_bytes: u64,
    work: Option<&str>,
    disk: &dyn Disk,
) -> Result<()> {
    let mut ancestors = folder.ancestors();
    let nearest = ancestors.find(|path| path.is_dir()).unwrap_or(folder);
    // What cannot be opened cannot be staged in either: that error comes next, and says more.
    let Ok(root) = disk.open(nearest) else {
        return Ok(());
    };
    let mut needed_bytes = needed_bytes;
    if nearest == folder {
        // What a killed run left is in our way now, but for what we go on from.
        match work {
            Some(work) => {
                remove_leftovers_of_others(disk, root.as_ref(), STAGE, work);
                needed_bytes = needed_bytes.saturating_sub(bytes_left(disk, folder, STAGE, work));
            }
            None => remove_leftovers(disk, root.as_ref()),
        }
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
pub(super) fn is_movable(parent: &Path, device: u64) -> bool {
    use rustix::fs::{Access, access};
    std::fs::metadata(parent).is_ok_and(|metadata| metadata.dev() == device)
        && access(parent, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// The first ready folder among the names in a target.
fn find_ready(listed: &[Listed]) -> Option<PathBuf> {
    let is_ready = |listed: &&Listed| {
        listed.kind == ListedKind::Folder
            && listed.name.as_encoded_bytes().starts_with(READY.as_bytes())
    };
    listed
        .iter()
        .find(is_ready)
        .map(|listed| PathBuf::from(&listed.name))
}
