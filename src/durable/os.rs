//! The real file system, through the system calls that never leave a root.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Timespec,
    Timestamps, Uid,
};

use super::os_file::OsFile;
use super::{Disk, File, Folder, Identity, Listed, ListedKind, Special, attributes, descriptor};

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Folder>> {
        let fd = rustix::fs::open(
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Box::new(OsFolder {
            fd,
            path: path.to_owned(),
        }))
    }

    fn create_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(Path::new("."));
        self.create_all(parent, mode)?;
        match rustix::fs::mkdir(path, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(cause) => return Err(cause.into()),
        }
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        sync_unless_refused(&rustix::fs::open(
            parent,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?)
    }
}

#[derive(Debug)]
struct OsFolder {
    fd: OwnedFd,
    path: PathBuf,
}

/// Beneath the root, through no link of any kind (openat2(2), Linux 5.6 and later).
const CONTAINED: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

impl OsFolder {
    fn open_beneath(&self, path: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        Ok(rustix::fs::openat2(
            &self.fd,
            path,
            flags | OFlags::CLOEXEC,
            Mode::from_raw_mode(mode),
            CONTAINED,
        )?)
    }

    /// Opens the folder that holds `path`, and returns it with the last name of `path`. The root itself,
    /// whatever it is called by now, is `.` in itself.
    fn parent_of<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        if path.as_os_str().is_empty() {
            let itself = self.open_beneath(path, OFlags::PATH | OFlags::DIRECTORY, 0)?;
            return Ok((itself, OsStr::new(".")));
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        Ok((
            self.open_beneath(parent, OFlags::PATH | OFlags::DIRECTORY, 0)?,
            name,
        ))
    }

    /// Does something for which the kernel knows no way but by a path: through the name that it has for
    /// the descriptor of the parent, so beneath the root all the same.
    fn by_path<T>(&self, path: &Path, act: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
        let (parent, name) = self.parent_of(path)?;
        act(&descriptor::path(&parent).join(name)).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound if !descriptor::are_shown() => {
                io::ErrorKind::Unsupported.into()
            }
            _ => cause,
        })
    }

    fn rename_with(&self, from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
        let (from_parent, from_name) = self.parent_of(from)?;
        let (to_parent, to_name) = self.parent_of(to)?;
        rustix::fs::renameat_with(from_parent, from_name, to_parent, to_name, flags)?;
        Ok(())
    }
}

impl Folder for OsFolder {
    fn path(&self) -> &Path {
        &self.path
    }

    fn create_folder(&self, path: &Path, mode: u32) -> io::Result<()> {
        let (parent, name) = self.parent_of(path)?;
        Ok(rustix::fs::mkdirat(
            parent,
            name,
            Mode::from_raw_mode(mode),
        )?)
    }

    fn create_file(&self, path: &Path, mode: u32) -> io::Result<Box<dyn File>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let fd = self.open_beneath(path, flags, mode)?;
        Ok(Box::new(OsFile::new(fd.into())))
    }

    fn open_file(&self, path: &Path, write: bool) -> io::Result<Box<dyn File>> {
        // NONBLOCK, or a fifo under that name would hold us for ever.
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        let fd = self.open_beneath(path, access | OFlags::NOFOLLOW | OFlags::NONBLOCK, 0)?;
        let file = fs::File::from(fd);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        Ok(Box::new(OsFile::new(file)))
    }

    fn create_symlink(&self, target: &OsStr, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent_of(path)?;
        Ok(rustix::fs::symlinkat(target, parent, name)?)
    }

    fn create_link(&self, of: &Path, path: &Path) -> io::Result<()> {
        let (of_parent, of_name) = self.parent_of(of)?;
        let (parent, name) = self.parent_of(path)?;
        Ok(rustix::fs::linkat(
            of_parent,
            of_name,
            parent,
            name,
            AtFlags::empty(),
        )?)
    }

    fn create_special(&self, path: &Path, special: Special) -> io::Result<()> {
        let (parent, name) = self.parent_of(path)?;
        let (kind, number) = match special {
            Special::Pipe => (FileType::Fifo, 0),
            Special::CharacterDevice(number) => (FileType::CharacterDevice, number),
            Special::BlockDevice(number) => (FileType::BlockDevice, number),
        };
        let mode = Mode::from_raw_mode(0o600);
        Ok(rustix::fs::mknodat(parent, name, kind, mode, number)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.rename_with(from, to, RenameFlags::NOREPLACE) {
            // Network and FUSE file systems may not know the flag: look first there. Our names are
            // content hashes or were checked to be free, so the gap between the two is harmless.
            Err(cause) if cause.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                let (parent, name) = self.parent_of(to)?;
                match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                    Err(rustix::io::Errno::NOENT) => {
                        self.rename_with(from, to, RenameFlags::empty())
                    }
                    Err(cause) => Err(cause.into()),
                }
            }
            other => other,
        }
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.rename_with(one, other, RenameFlags::EXCHANGE)
    }

    fn identity(&self, path: &Path) -> io::Result<Option<Identity>> {
        let gone = |cause: &io::Error| cause.kind() == io::ErrorKind::NotFound;
        let (parent, name) = match self.parent_of(path) {
            Err(cause) if gone(&cause) => return Ok(None),
            other => other?,
        };
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Identity {
                device: stat.st_dev,
                inode: stat.st_ino,
            })),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(cause) => Err(cause.into()),
        }
    }

    fn attribute(&self, path: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.by_path(path, |path| attributes::get(path, name.as_bytes()))
    }

    fn set_attribute(&self, path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
        self.by_path(path, |path| attributes::set(path, name, value))
    }

    fn remove_attribute(&self, path: &Path, name: &str) -> io::Result<()> {
        self.by_path(path, |path| attributes::remove(path, name))
    }

    fn replace_empty_folder(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.rename_with(from, to, RenameFlags::empty())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent_of(path)?;
        Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent_of(path)?;
        Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        // fchmod on a checked descriptor: fchmodat follows a link in the last place.
        let itself = self.open_beneath(path, OFlags::PATH | OFlags::NOFOLLOW, 0)?;
        let mode = Mode::from_raw_mode(mode);
        let opened = match FileType::from_raw_mode(rustix::fs::fstat(&itself)?.st_mode) {
            FileType::RegularFile | FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                self.open_beneath(path, flags, 0)
            }
            // To open a device may set it going.
            FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
                Err(io::ErrorKind::PermissionDenied.into())
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        match opened {
            Ok(opened) => Ok(rustix::fs::fchmod(opened, mode)?),
            // What we own but may not open has a name in /proc, which is that of its descriptor.
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
                Ok(rustix::fs::chmod(descriptor::path(&itself), mode)?)
            }
            Err(cause) => Err(cause),
        }
    }

    fn set_modified(&self, path: &Path, modified: Timestamp) -> io::Result<()> {
        let (parent, name) = self.parent_of(path)?;
        Ok(rustix::fs::utimensat(
            parent,
            name,
            &times(modified),
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    fn set_owner(&self, path: &Path, uid: u32, gid: u32) -> io::Result<()> {
        let (parent, name) = self.parent_of(path)?;
        Ok(rustix::fs::chownat(
            parent,
            name,
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    fn try_lock(&self) -> io::Result<bool> {
        match rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(cause) => Err(cause.into()),
        }
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        sync_unless_refused(&self.open_beneath(path, OFlags::RDONLY | OFlags::DIRECTORY, 0)?)
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.fd)?)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        let fd = self.open_beneath(path, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
        let mut listed = Vec::new();
        for item in Dir::read_from(&fd)? {
            let item = item?;
            let name = OsStr::from_bytes(item.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let stat = match rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(rustix::io::Errno::NOENT) => continue,
                Err(cause) => return Err(cause.into()),
            };
            listed.push(Listed {
                name: name.to_owned(),
                kind: match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => ListedKind::File,
                    FileType::Directory => ListedKind::Folder,
                    _ => ListedKind::Other,
                },
                size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
            });
        }
        Ok(listed)
    }

    fn is_mounted(&self, path: &Path) -> io::Result<bool> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let within = CONTAINED | ResolveFlags::NO_XDEV;
        match rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), within) {
            Ok(_) => Ok(false),
            Err(rustix::io::Errno::XDEV) => Ok(true),
            Err(cause) => Err(cause.into()),
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.fd)?;
        if stat.f_blocks == 0 {
            // No disk is that small: this file system does not count.
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Syncs a folder. Some file systems cannot, and say so: then there is nothing to wait for.
fn sync_unless_refused(folder: &OwnedFd) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::fsync(folder.as_fd()) {
        Ok(()) | Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        Err(cause) => Err(cause.into()),
    }
}

/// Both times of a file that was modified then.
pub(super) fn times(modified: Timestamp) -> Timestamps {
    let time = timespec(modified);
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Seconds and nanoseconds as the kernel wants them: nanoseconds never negative.
fn timespec(time: Timestamp) -> Timespec {
    let (mut seconds, mut nanoseconds) = (time.as_second(), time.subsec_nanosecond());
    if nanoseconds < 0 {
        seconds -= 1;
        nanoseconds += 1_000_000_000;
    }
    Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_1970_keeps_its_nanoseconds() {
        let time = Timestamp::new(-1, -1).unwrap();
        let spec = timespec(time);
        assert_eq!((spec.tv_sec, spec.tv_nsec), (-2, 999_999_999));
    }

    #[test]
    fn nothing_is_reached_outside_the_root() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("root")).unwrap();
        std::os::unix::fs::symlink("..", folder.path().join("root/up")).unwrap();
        let root = OsDisk.open(&folder.path().join("root")).unwrap();
        for path in ["../x", "/tmp/x", "up/x"] {
            assert!(root.create_file(Path::new(path), 0o600).is_err(), "{path}");
            assert!(
                root.create_folder(Path::new(path), 0o700).is_err(),
                "{path}"
            );
        }
        assert!(root.open_file(Path::new("up"), false).is_err());
        assert!(!folder.path().join("x").exists());
    }

    #[test]
    fn the_root_itself_is_reached_whatever_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let [before, after] = ["before", "after"].map(|name| folder.path().join(name));
        std::fs::create_dir(&before).unwrap();
        let root = OsDisk.open(&before).unwrap();
        std::fs::rename(&before, &after).unwrap();
        std::fs::write(&before, "another").unwrap();
        let itself = Path::new("");
        let outer = OsDisk.open(folder.path()).unwrap();
        let identity = outer.identity(Path::new("after")).unwrap();
        assert!(identity.is_some() && root.identity(itself).unwrap() == identity);
        root.set_mode(itself, 0o711).unwrap();
        root.set_modified(itself, Timestamp::new(7, 0).unwrap())
            .unwrap();
        let metadata = std::fs::metadata(&after).unwrap();
        let modified = std::os::unix::fs::MetadataExt::mtime(&metadata);
        let mode = std::os::unix::fs::MetadataExt::mode(&metadata);
        assert_eq!((mode & 0o777, modified), (0o711, 7));
        assert!(root.rename(itself, Path::new("x")).is_err());
        assert!(root.remove_folder(itself).is_err() && root.remove_file(itself).is_err());
    }

    #[test]
    fn a_mode_is_set_on_all_but_links() {
        use std::os::unix::fs::MetadataExt;
        let (folder, root) = a_and_b();
        let pipe = Path::new("pipe");
        root.create_special(pipe, Special::Pipe).unwrap();
        root.set_mode(pipe, 0o640).unwrap();
        let mode = |name: &Path| std::fs::metadata(folder.path().join(name)).unwrap().mode();
        assert_eq!(mode(pipe) & 0o7777, 0o640);
        root.create_symlink(OsStr::new("a"), Path::new("link"))
            .unwrap();
        assert!(root.set_mode(Path::new("link"), 0o777).is_err());
        assert_eq!(mode(Path::new("a")) & 0o7777, 0o600);
    }

    #[test]
    fn a_further_name_never_replaces() {
        let (folder, root) = a_and_b();
        let [a, b, c] = ["a", "b", "c"].map(Path::new);
        let refused = root.create_link(a, b).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        root.create_link(a, c).unwrap();
        assert_eq!(root.identity(a).unwrap(), root.identity(c).unwrap());
        assert!(root.create_link(a, Path::new("../c")).is_err());
        assert_eq!(std::fs::read(folder.path().join("c")).unwrap(), b"a");
    }

    #[test]
    fn a_rename_never_replaces() {
        let (folder, root) = a_and_b();
        let refused = root.rename(Path::new("a"), Path::new("b")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(folder.path().join("b")).unwrap(), b"b");
    }
    #[test]
    fn an_exchange_keeps_what_each_name_had() {
        let (folder, root) = a_and_b();
        let [a, b] = ["a", "b"].map(Path::new);
        let before = (root.identity(a).unwrap(), root.identity(b).unwrap());
        root.exchange(a, b).unwrap();
        let after = (root.identity(b).unwrap(), root.identity(a).unwrap());
        assert!(before == after && before.0.is_some());
        assert_eq!(std::fs::read(folder.path().join("b")).unwrap(), b"a");
        assert_eq!(root.identity(Path::new("c/d")).unwrap(), None);
        assert!(root.exchange(a, Path::new("c")).is_err());
    }

    fn a_and_b() -> (tempfile::TempDir, Box<dyn Folder>) {
        let folder = tempfile::tempdir().unwrap();
        let root = OsDisk.open(folder.path()).unwrap();
        for name in ["a", "b"] {
            let file = root.create_file(Path::new(name), 0o600).unwrap();
            file.write_all_at(name.as_bytes(), 0).unwrap();
        }
        (folder, root)
    }
}
