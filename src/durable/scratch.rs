//! Private folders for work in progress: staged restores, spools.
//!
//! A scratch folder is named `.tillsafe-PURPOSE-RANDOM`, has mode 0700 and is locked while its
//! process lives. One that can be locked by somebody else was left by a crash, and is removed by
//! whoever next works beside it. Captures never read these names.

use std::io;
use std::path::{Path, PathBuf};

use super::{Disk, Folder, ListedKind, remove_tree};
use crate::error::{Error, Result};
use crate::rng::{self, Rng};

/// What all our own work folders begin with.
pub const PREFIX: &str = ".tillsafe-";

/// A private folder, removed with all it holds when dropped.
#[derive(Debug)]
pub struct Scratch {
    parent: Box<dyn Folder>,
    name: PathBuf,
    folder: Option<Box<dyn Folder>>,
}

impl Scratch {
    /// Creates one in `parent`, and removes what crashed processes left there.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn create(disk: &dyn Disk, parent: &Path, purpose: &str, rng: &dyn Rng) -> Result<Self> {
        let root = disk.open(parent).map_err(Error::file("opening", parent))?;
        // Best effort: what is in the way of nobody may stay.
        let _ = remove_leftovers(disk, root.as_ref());
        let name = PathBuf::from(format!("{PREFIX}{purpose}-{}", rng::name(rng)?));
        let path = parent.join(&name);
        root.create_folder(&name, 0o700)
            .map_err(Error::file("creating", &path))?;
        let mut scratch = Self {
            parent: root,
            name,
            folder: None,
        };
        let folder = disk.open(&path).map_err(Error::file("opening", &path))?;
        // Without locks (some network file systems) a crash's leftovers just stay.
        let _ = folder.try_lock();
        scratch.folder = Some(folder);
        Ok(scratch)
    }

    /// The folder itself.
    #[must_use]
    pub fn folder(&self) -> &dyn Folder {
        match &self.folder {
            Some(folder) => folder.as_ref(),
            None => unreachable!("create() returns only with the folder open"),
        }
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
        let _ = remove_tree(self.parent.as_ref(), &self.name);
    }
}

/// Whether `name` is one of our own work folders.
#[must_use]
pub fn is_scratch(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// Removes scratch folders whose process is gone.
fn remove_leftovers(disk: &dyn Disk, root: &dyn Folder) -> io::Result<()> {
    for listed in root.list(Path::new(""))? {
        if listed.kind == ListedKind::Folder && is_scratch(&listed.name) {
            let name = Path::new(&listed.name);
            let left = disk.open(&root.path().join(name))?;
            if left.try_lock()? {
                remove_tree(root, name)?;
            }
        }
    }
    Ok(())
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
}
