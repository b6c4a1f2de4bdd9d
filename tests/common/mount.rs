//! A disk of its own for one test, small enough to fill.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools::find;

/// A file system in memory, unmounted when dropped, also by a panic.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one at `path`; `None` if we may not. `options` are those of tmpfs.
    pub fn mount(path: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let mounted = Command::new(find("mount")?)
            .args(["-t", "tmpfs", "-o", options, "tillsafe-test"])
            .arg(path)
            .output()
            .ok()?;
        mounted.status.success().then(|| Self(path.to_owned()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// From now on nothing can be written, as on a write-protected medium.
    pub fn protect(&self) {
        let protected = Command::new(find("mount").unwrap())
            .args(["-o", "remount,ro"])
            .arg(&self.0)
            .output()
            .unwrap();
        assert!(protected.status.success(), "{protected:?}");
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.0.join("ballast")).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Some(umount) = find("umount") {
            let unmounted = Command::new(umount).arg(&self.0).output();
            if !unmounted.is_ok_and(|output| output.status.success()) {
                eprintln!("{} stays mounted", self.0.display());
            }
        }
    }
}
