//! Private folders for work in progress: staged restores, spools.
//!
//! A scratch folder is named `.tillsafe-PURPOSE-RANDOM`, has mode 0700 and is locked while its
//! process lives. One that can be locked by somebody else was left by a crash, and is removed by
//! whoever next works beside it. Other names that begin with `.tillsafe-` are kept for their owner:
//! they may hold what is nowhere else. Captures never read any of them.

use std::io;
use std::path::{Path, PathBuf};

use super::{Disk, Folder, ListedKind, remove_tree};
use crate::error::{Error, Result};
use crate::rng::{self, Rng};

/// What all our own work folders begin with.
pub const PREFIX: &str = ".tillsafe-";
/// What a folder begins with that holds a proved restore on its last steps. Never removed as a leftover.
pub const READY: &str = ".tillsafe-ready-";
/// What a folder begins with that holds what a restore in place has replaced. It is its owner's, and
/// removed only on request.
pub const KEPT: &str = ".tillsafe-kept-";
/// What our scratch folders are for. Nothing else is ever removed as a leftover.
const PURPOSES: [&str; 4] = ["stage", "swap", "spool", "demo"];
/// How often a new folder may be taken for a leftover before we give up.
const TRIES: usize = 8;

/// A private folder, removed with all it holds when dropped.
#[derive(Debug)]
pub struct Scratch {
    parent: Box<dyn Folder>,
    name: PathBuf,
    folder: Box<dyn Folder>,
    /// Whether it stays when this is dropped.
    kept: bool,
}

impl Scratch {
    /// Creates one in `parent`, and removes what crashed processes left there.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn create(disk: &dyn Disk, parent: &Path, purpose: &str, rng: &dyn Rng) -> Result<Self> {
        let root = disk.open(parent).map_err(Error::file("opening", parent))?;
        remove_leftovers(disk, root.as_ref());
        debug_assert!(PURPOSES.contains(&purpose), "or it is never cleared away");
        for _ in 0..TRIES {
            let name = PathBuf::from(format!("{PREFIX}{purpose}-{}", rng::name(rng)?));
            let path = parent.join(&name);
            root.create_folder(&name, 0o700)
                .map_err(Error::file("creating", &path))?;
            let locked = match lock(disk, root.as_ref(), &name) {
                Ok(locked) => locked,
                Err(cause) => {
                    let _ = root.remove_folder(&name);
                    return Err(Error::file("opening", path)(cause));
                }
            };
            if let Some(folder) = locked {
                return Ok(Self {
                    parent: root,
                    name,
                    folder,
                    kept: false,
                });
            }
        }
        let cause = io::Error::other("other runs keep removing it");
        Err(Error::file("making a scratch folder in", parent)(cause))
    }

    /// Opens and locks a folder of ours that is there to stay; `None` if somebody is at work in it.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn hold(disk: &dyn Disk, parent: &Path, name: &Path) -> io::Result<Option<Self>> {
        let (parent, folder) = (disk.open(parent)?, disk.open(&parent.join(name))?);
        // Without locks (some network file systems) nobody can tell.
        let ours = folder.try_lock().unwrap_or(true);
        Ok(ours.then(|| Self {
            parent,
            name: name.to_owned(),
            folder,
            kept: true,
        }))
    }

    /// Gives it a name under which it stays, durably.
    ///
    /// # Errors
    /// As the system reports them. It is still scratch then, unless only the sync failed.
    pub fn keep_as(&mut self, name: &Path) -> io::Result<()> {
        self.parent.rename(&self.name, name)?;
        name.clone_into(&mut self.name);
        self.kept = true;
        self.parent.sync_folder(Path::new(""))
    }

    /// Makes scratch of what was kept: it is removed when this is dropped.
    ///
    /// # Errors
    /// As the system reports them. It stays then, unless only the sync failed.
    pub fn give_up(&mut self) -> io::Result<()> {
        if !self.kept {
            return Ok(());
        }
        let name = self.name.to_string_lossy();
        let rest = name.strip_prefix(KEPT).unwrap_or(&name);
        let scratch = PathBuf::from(format!("{PREFIX}swap-{rest}"));
        self.parent.rename(&self.name, &scratch)?;
        (self.name, self.kept) = (scratch, false);
        self.parent.sync_folder(Path::new(""))
    }

    /// The folder itself.
    #[must_use]
    pub fn folder(&self) -> &dyn Folder {
        self.folder.as_ref()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.parent.path().join(&self.name)
    }

    /// The folder it lies in, and its name there.
    #[must_use]
    pub fn place(&self) -> (&dyn Folder, &Path) {
        (self.parent.as_ref(), &self.name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Unlock only after removal, so that nobody else takes it for a leftover meanwhile.
        // What cannot be removed now is a leftover for the next run.
        if !self.kept {
            let _ = remove_tree(self.parent.as_ref(), &self.name);
        }
    }
}

/// Whether `name` is one of our own work folders.
#[must_use]
pub fn is_scratch(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// Opens and locks a folder that was just created. None if another run took it for a leftover before
/// we could lock it; that run removes it.
fn lock(disk: &dyn Disk, root: &dyn Folder, name: &Path) -> io::Result<Option<Box<dyn Folder>>> {
    let gone = |cause: &io::Error| cause.kind() == io::ErrorKind::NotFound;
    let folder = match disk.open(&root.path().join(name)) {
        Err(cause) if gone(&cause) => return Ok(None),
        other => other?,
    };
    // Without locks (some network file systems) a crash's leftovers just stay.
    let ours = folder.try_lock().unwrap_or(true);
    // The other may have had the lock, removed the folder and gone again.
    let there = match root.list(name) {
        Err(cause) if gone(&cause) => false,
        other => other.map(|_| true)?,
    };
    Ok((ours && there).then_some(folder))
}

/// Removes scratch folders in `root` whose process is gone. What cannot be removed is in the way of
/// nobody, and stays.
pub fn remove_leftovers(disk: &dyn Disk, root: &dyn Folder) {
    for listed in root.list(Path::new("")).unwrap_or_default() {
        if listed.kind == ListedKind::Folder && has_purpose(&listed.name) {
            let name = Path::new(&listed.name);
            let Ok(left) = disk.open(&root.path().join(name)) else {
                continue;
            };
            if matches!(left.try_lock(), Ok(true)) {
                let _ = remove_tree(root, name);
            }
        }
    }
}

fn has_purpose(name: &std::ffi::OsStr) -> bool {
    let name = name.as_encoded_bytes().strip_prefix(PREFIX.as_bytes());
    name.is_some_and(|rest| {
        PURPOSES.iter().any(|purpose| {
            rest.strip_prefix(purpose.as_bytes())
                .is_some_and(|random| random.starts_with(b"-"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::OsDisk;
    use crate::rng::SystemRng;

    #[test]
    fn a_crash_leaves_nothing_for_long_and_the_living_are_spared() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join(".tillsafe-stage-crashed");
        std::fs::create_dir_all(left.join("deep/er")).unwrap();
        std::fs::write(left.join("deep/file"), "x").unwrap();
        let living = Scratch::create(&OsDisk, folder.path(), "stage", &SystemRng).unwrap();
        assert!(!left.exists());
        let second = Scratch::create(&OsDisk, folder.path(), "stage", &SystemRng).unwrap();
        assert!(living.path().is_dir() && second.path().is_dir());
        drop((living, second));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_our_own_scratch_is_removed_whatever_its_modes() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let left = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.join("closed/inner")).unwrap();
            std::fs::write(path.join("closed/inner/file"), "x").unwrap();
            for (closed, mode) in [("closed/inner", 0o000), ("closed", 0o555), ("", 0o555)] {
                let mode = std::fs::Permissions::from_mode(mode);
                std::fs::set_permissions(path.join(closed), mode).unwrap();
            }
            path
        };
        let ours = ["stage-a", "spool-b", "demo-c"].map(|kind| left(&format!("{PREFIX}{kind}")));
        let kept = ["ready-matched-0", "old-shop", "stages-x", "stage"]
            .map(|kind| left(&format!("{PREFIX}{kind}")));
        drop(Scratch::create(&OsDisk, folder.path(), "stage", &SystemRng).unwrap());
        for path in ours {
            assert!(!path.exists(), "{}", path.display());
        }
        for path in kept {
            assert!(path.join("closed").is_dir(), "{}", path.display());
            remove_tree(
                OsDisk.open(folder.path()).unwrap().as_ref(),
                Path::new(path.file_name().unwrap()),
            )
            .unwrap();
        }
    }

    /// What another run does with a scratch folder that is new and not locked yet.
    #[derive(Debug, Clone, Copy)]
    enum Rival {
        /// It has removed it before we open it.
        BeforeOpen,
        /// It removes it while we have it open, and is gone before we lock it.
        BeforeLock,
        /// It holds the lock and is about to remove it.
        HoldsLock,
    }

    /// A disk with a rival who is quicker than us for a number of times.
    #[derive(Debug)]
    struct RivalDisk {
        rival: Rival,
        times: std::sync::Mutex<usize>,
        held: std::sync::Mutex<Vec<Box<dyn Folder>>>,
    }

    impl Disk for RivalDisk {
        fn open(&self, path: &Path) -> io::Result<Box<dyn Folder>> {
            let mut times = self.times.lock().unwrap();
            if !path.to_string_lossy().contains(PREFIX) || *times == 0 {
                return OsDisk.open(path);
            }
            *times -= 1;
            match self.rival {
                Rival::BeforeOpen => {
                    std::fs::remove_dir(path).unwrap();
                    OsDisk.open(path)
                }
                Rival::BeforeLock => {
                    let open = OsDisk.open(path);
                    std::fs::remove_dir(path).unwrap();
                    open
                }
                Rival::HoldsLock => {
                    let held = OsDisk.open(path)?;
                    assert!(held.try_lock()?);
                    self.held.lock().unwrap().push(held);
                    OsDisk.open(path)
                }
            }
        }

        fn create_all(&self, path: &Path, mode: u32) -> io::Result<()> {
            OsDisk.create_all(path, mode)
        }
    }

    #[test]
    fn a_new_folder_that_another_run_takes_for_a_leftover_is_made_anew() {
        for rival in [Rival::BeforeOpen, Rival::BeforeLock, Rival::HoldsLock] {
            let folder = tempfile::tempdir().unwrap();
            let disk = |times| RivalDisk {
                rival,
                times: std::sync::Mutex::new(times),
                held: std::sync::Mutex::default(),
            };
            let two = disk(2);
            let scratch = Scratch::create(&two, folder.path(), "stage", &SystemRng).unwrap();
            scratch
                .folder()
                .create_file(Path::new("image"), 0o600)
                .unwrap_or_else(|cause| panic!("{rival:?}: {cause}"));
            let again = OsDisk.open(&scratch.path()).unwrap();
            assert!(!again.try_lock().unwrap(), "{rival:?}: the lock is ours");
            let folder = tempfile::tempdir().unwrap();
            let always = disk(usize::MAX);
            assert!(Scratch::create(&always, folder.path(), "stage", &SystemRng).is_err());
        }
    }
}
