//! A disk of its own for one test: one that is small enough to fill, one whose power can be cut.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::tools::find;

/// Sparse: what is not written takes no room. XFS wants 300 MiB.
const IMAGE_BYTES: u64 = 320 << 20;

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
        unmount_at_last(&self.0);
    }
}

/// What a [`LoopDisk`] is formatted with.
#[derive(Debug, Clone, Copy)]
pub enum FileSystem {
    Ext4,
    Xfs,
}

/// A file system in a file, unmounted when dropped, also by a panic; its loop device goes with it.
pub struct LoopDisk {
    image: PathBuf,
    path: PathBuf,
}

impl LoopDisk {
    /// Formats one in `folder` and mounts it at `folder/disk`; or why that cannot be done here.
    pub fn make(folder: &Path, kind: FileSystem) -> Result<Self, String> {
        let program = |name: &str| find(name).ok_or(format!("no {name}: `make tools` installs it"));
        let mut format = match kind {
            FileSystem::Ext4 => Command::new(program("mkfs.ext4")?),
            FileSystem::Xfs => Command::new(program("mkfs.xfs")?),
        };
        program("xfs_io")?;
        let (image, path) = (folder.join("disk.img"), folder.join("disk"));
        let file = fs::File::create(&image).unwrap();
        file.set_len(IMAGE_BYTES).unwrap();
        let formatted = format.arg("-q").arg(&image).output().unwrap();
        assert!(formatted.status.success(), "{formatted:?}");
        fs::create_dir_all(&path).unwrap();
        let mounted = mount_image(&image, &path);
        if !mounted.status.success() {
            return Err(format!(
                "mounting a file needs root and a loop device: {}",
                String::from_utf8_lossy(&mounted.stderr).trim()
            ));
        }
        Ok(Self { image, path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes all that is on it durable.
    pub fn sync(&self) {
        rustix::fs::syncfs(fs::File::open(&self.path).unwrap()).unwrap();
    }

    /// From this instant nothing more reaches the disk, neither content nor journal: what was not
    /// synced is lost. Then it is mounted again, as after a reboot.
    pub fn cut_power(&self) {
        let cut = Command::new(find("xfs_io").expect("`make` has looked"))
            .args(["-x", "-c", "shutdown"])
            .arg(&self.path)
            .output()
            .unwrap();
        assert!(cut.status.success() && cut.stderr.is_empty(), "{cut:?}");
        let unmounted = unmount(&self.path, &[]).unwrap();
        assert!(unmounted.status.success(), "{unmounted:?}");
        let mounted = mount_image(&self.image, &self.path);
        assert!(mounted.status.success(), "{mounted:?}");
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        unmount_at_last(&self.path);
    }
}

fn mount_image(image: &Path, path: &Path) -> Output {
    // With `loop` the device is freed by the unmounting, whoever does it.
    Command::new(find("mount").expect("every Linux has it"))
        .args(["-o", "loop"])
        .args([image, path])
        .output()
        .unwrap()
}

fn unmount(path: &Path, options: &[&str]) -> std::io::Result<Output> {
    Command::new(find("umount").ok_or(std::io::ErrorKind::NotFound)?)
        .args(options)
        .arg(path)
        .output()
}

/// For `drop`: never panics. A disk that something still uses goes when that ends.
pub fn unmount_at_last(path: &Path) {
    let unmounted =
        |options: &[&str]| unmount(path, options).is_ok_and(|output| output.status.success());
    if !unmounted(&[]) && !unmounted(&["--lazy"]) {
        eprintln!("{} could not be unmounted", path.display());
    }
}
