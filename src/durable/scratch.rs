//! Private folders for work in progress: staged restores, spools.
//!
//! A scratch folder is named `.tillsafe-PURPOSE-RANDOM`, has mode 0700 and is locked while its
//! process lives. One that can be locked by somebody else was left by a crash, and is removed by
//! whoever next works beside it; unless it is named after the very work that is done now: then it is
//! adopted, and the work goes on from there. Other names that begin with `.tillsafe-` are kept for their owner:
//! they may hold what is nowhere else. Captures never read any of them.

use std::io;
use std::os::unix::fs::MetadataExt;
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
/// Files in a kept folder: the restore is complete; a rollback began; it is complete.
pub const KEPT_DONE: &str = "done";
/// See [`KEPT_DONE`].
pub const KEPT_UNDO: &str = "undo";
/// See [`KEPT_DONE`].
pub const KEPT_UNDONE: &str = "undone";
/// What our scratch folders are for. Nothing else is ever removed as a leftover.
const PURPOSES: [&str; 5] = ["stage", "swap", "spool", "demo", "probe"];
/// How often a new folder may be taken for a leftover before we give up.
const TRIES: usize = 8;

/// A private folder, removed with all it holds when dropped, unless it was [kept](Self::keep).
#[derive(Debug)]
pub struct Scratch {
    parent: Box<dyn Folder>,
    name: PathBuf,
    folder: Box<dyn Folder>,
    /// Whether it is named after its work, so that a later run can find it.
    is_named: bool,
    is_adopted: bool,
    /// Whether it stays when this is dropped.
    is_kept: bool,
}

impl Scratch {
    /// Creates one in `parent`, and removes what crashed processes left there.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn create(disk: &dyn Disk, parent: &Path, purpose: &str, rng: &dyn Rng) -> Result<Self> {
        let root = disk.open(parent).map_err(Error::file("opening", parent))?;
        remove_leftovers(disk, root.as_ref());
        Self::create_new(disk, root, purpose, rng)
    }

    /// Adopts the one that an earlier run left in `parent` for the very same work, or creates one
    /// under that name. Everything else that crashed processes left there is removed. Where another
    /// process does the same work right now, or nobody can tell, it is one of another name.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn adopt_or_create(
        disk: &dyn Disk,
        parent: &Path,
        purpose: &str,
        work: &str,
        rng: &dyn Rng,
    ) -> Result<Self> {
        let root = disk.open(parent).map_err(Error::file("opening", parent))?;
        let name = name_of(purpose, work);
        remove_leftovers_but(disk, root.as_ref(), &name);
        let adopted = take_left(disk, root.as_ref(), &name);
        let is_adopted = adopted.is_some();
        let folder = match adopted {
            Some(folder) => Some(folder),
            None => match root.create_folder(&name, 0o700) {
                Ok(()) => lock_new(disk, root.as_ref(), &name)?,
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => None,
                Err(cause) => return Err(Error::file("creating", parent.join(&name))(cause)),
            },
        };
        match folder {
            Some(folder) => Ok(Self {
                parent: root,
                name,
                folder,
                is_named: true,
                is_adopted,
                is_kept: false,
            }),
            None => Self::create_new(disk, root, purpose, rng),
        }
    }

    fn create_new(
        disk: &dyn Disk,
        root: Box<dyn Folder>,
        purpose: &str,
        rng: &dyn Rng,
    ) -> Result<Self> {
        debug_assert!(PURPOSES.contains(&purpose), "or it is never cleared away");
        for _ in 0..TRIES {
            let name = name_of(purpose, &rng::name(rng)?);
            root.create_folder(&name, 0o700)
                .map_err(Error::file("creating", root.path().join(&name)))?;
            if let Some(folder) = lock_new(disk, root.as_ref(), &name)? {
                return Ok(Self {
                    parent: root,
                    name,
                    folder,
                    is_named: false,
                    is_adopted: false,
                    is_kept: false,
                });
            }
        }
        let cause = io::Error::other("other runs keep removing it");
        Err(Error::file("making a scratch folder in", root.path())(
            cause,
        ))
    }

    /// Whether an earlier run left it, with what that run had done.
    #[must_use]
    pub const fn is_adopted(&self) -> bool {
        self.is_adopted
    }

    /// Leaves it for a later run of the same work, if there is anything in it that is worth it and
    /// that run can find it; else it is removed. Says where it is and how many bytes it holds.
    #[must_use]
    pub fn keep(mut self) -> Option<(PathBuf, u64)> {
        let bytes = bytes_in(&self.path());
        self.is_kept = self.is_named && bytes > 0;
        self.is_kept.then(|| (self.path(), bytes))
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
            is_named: false,
            is_adopted: false,
            is_kept: true,
        }))
    }

    /// Gives it a name under which it stays, durably.
    ///
    /// # Errors
    /// As the system reports them. It is still scratch then, unless only the sync failed.
    pub fn keep_as(&mut self, name: &Path) -> io::Result<()> {
        self.parent.rename(&self.name, name)?;
        name.clone_into(&mut self.name);
        self.is_kept = true;
        self.parent.sync_folder(Path::new(""))
    }

    /// Makes scratch of what was kept: it is removed when this is dropped.
    ///
    /// # Errors
    /// As the system reports them. It stays then, unless only the sync failed.
    pub fn give_up(&mut self) -> io::Result<()> {
        if !self.is_kept {
            return Ok(());
        }
        let name = self.name.to_string_lossy();
        let rest = name.strip_prefix(KEPT).unwrap_or(&name);
        let scratch = PathBuf::from(format!("{PREFIX}swap-{rest}"));
        self.parent.rename(&self.name, &scratch)?;
        (self.name, self.is_kept) = (scratch, false);
        self.parent.sync_folder(Path::new(""))
    }

    /// Removes it now, and says so if something in it cannot be removed.
    ///
    /// # Errors
    /// As [`remove_tree`].
    pub fn remove(self) -> io::Result<()> {
        remove_tree(self.parent.as_ref(), &self.name)
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

    fn has_its_name(&self) -> bool {
        let own = self.folder.identity(Path::new("")).ok().flatten();
        let named = self.parent.identity(&self.name).ok().flatten();
        own.is_some() && own == named
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
        // What cannot be removed now is a leftover for the next run. Once it was moved away, another run
        // may have one of that name.
        if !self.is_kept && self.has_its_name() {
            let _ = remove_tree(self.parent.as_ref(), &self.name);
        }
    }
}

fn name_of(purpose: &str, rest: &str) -> PathBuf {
    PathBuf::from(format!("{PREFIX}{purpose}-{rest}"))
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

/// The same for a folder that we have just created; it is removed again if it cannot be opened.
fn lock_new(disk: &dyn Disk, root: &dyn Folder, name: &Path) -> Result<Option<Box<dyn Folder>>> {
    lock(disk, root, name).map_err(|cause| {
        let _ = root.remove_folder(name);
        Error::file("opening", root.path().join(name))(cause)
    })
}

/// Opens and locks the folder that was left under `name`, if there is one that nobody but us can ever
/// have changed. Any other that nobody works in is removed.
fn take_left(disk: &dyn Disk, root: &dyn Folder, name: &Path) -> Option<Box<dyn Folder>> {
    let path = root.path().join(name);
    let before = std::fs::symlink_metadata(&path).ok()?;
    if !before.is_dir() {
        return None;
    }
    let folder = disk.open(&path).ok()?;
    // Without locks nobody can tell whether somebody works in it.
    if !matches!(folder.try_lock(), Ok(true)) {
        return None;
    }
    // The other may have removed it and gone; and the last steps of a restore open it to others.
    let there = std::fs::symlink_metadata(&path).ok()?;
    if before.ino() == there.ino() && is_private(&there) {
        return Some(folder);
    }
    let _ = remove_tree(root, name);
    None
}

fn is_private(metadata: &std::fs::Metadata) -> bool {
    metadata.is_dir()
        && metadata.uid() == rustix::process::geteuid().as_raw()
        && metadata.mode() & 0o777 == 0o700
}

/// The bytes that an adoptable folder takes already: so much less room is needed.
#[must_use]
pub fn bytes_left(disk: &dyn Disk, parent: &Path, purpose: &str, work: &str) -> u64 {
    let path = parent.join(name_of(purpose, work));
    let is_ours = std::fs::symlink_metadata(&path).is_ok_and(|metadata| is_private(&metadata));
    let is_free = || {
        let folder = disk.open(&path);
        matches!(folder.and_then(|folder| folder.try_lock()), Ok(true))
    };
    if is_ours && is_free() {
        bytes_in(&path)
    } else {
        0
    }
}

/// The bytes that files below `folder` take on the disk, as far as we can see them.
fn bytes_in(folder: &Path) -> u64 {
    let mut bytes = 0;
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for item in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match item.metadata() {
                Ok(metadata) if metadata.is_dir() => waiting.push(item.path()),
                // A file of several names is met under each of them.
                Ok(metadata) if metadata.is_file() => {
                    bytes += metadata.blocks() * 512 / metadata.nlink().max(1);
                }
                _ => {}
            }
        }
    }
    bytes
}

/// Removes scratch folders in `root` whose process is gone. What cannot be removed is in the way of
/// nobody, and stays.
pub fn remove_leftovers(disk: &dyn Disk, root: &dyn Folder) {
    remove_leftovers_but(disk, root, Path::new(""));
}

/// The same, but for the one that was left for the work that is done now.
pub fn remove_leftovers_of_others(disk: &dyn Disk, root: &dyn Folder, purpose: &str, work: &str) {
    remove_leftovers_but(disk, root, &name_of(purpose, work));
}

fn remove_leftovers_but(disk: &dyn Disk, root: &dyn Folder, spared: &Path) {
    for listed in root.list(Path::new("")).unwrap_or_default() {
        let name = Path::new(&listed.name);
        if listed.kind == ListedKind::Folder && has_purpose(&listed.name) && !is_kin(name, spared) {
            let Ok(left) = disk.open(&root.path().join(name)) else {
                continue;
            };
            if matches!(left.try_lock(), Ok(true)) {
                let _ = remove_tree(root, name);
            }
        }
    }
}

/// Whether two folders are of the same work: their names are alike but for the last digits.
fn is_kin(name: &Path, other: &Path) -> bool {
    /// Digits in which parts of the same work differ.
    const DIFFERENT: usize = 8;
    let begin = |path: &Path| {
        let bytes = path.as_os_str().as_encoded_bytes();
        bytes[..bytes.len().saturating_sub(DIFFERENT)].to_owned()
    };
    !other.as_os_str().is_empty() && begin(name) == begin(other)
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
