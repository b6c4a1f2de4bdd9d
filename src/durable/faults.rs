//! A disk that fails where it is told to, so that every write path can be swept.
//!
//! It is part of the library, not of the tests alone, because a restore drill or a user of the
//! library may want to see for themselves what an interrupted run leaves.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use rustix::process::{Signal, getpid, kill_process};

use super::{Disk, File, Folder, Identity, Listed, Rights, Special};

/// When mutating operations fail.
#[derive(Debug)]
pub struct Fault {
    at: u64,
    from_there_on: bool,
    refuses: Option<io::ErrorKind>,
    kills: bool,
    count: AtomicU64,
}

impl Fault {
    /// Every link, device, attribute, owner, mode and time is refused, as by a file system that has none of them.
    #[must_use]
    pub fn refusing_metadata(how: io::ErrorKind) -> Arc<Self> {
        Arc::new(Self {
            at: u64::MAX,
            from_there_on: false,
            refuses: Some(how),
            kills: false,
            count: AtomicU64::new(0),
        })
    }

    /// The `at`-th mutating operation fails (from 1), the others work.
    #[must_use]
    pub fn once(at: u64) -> Arc<Self> {
        Self::new(at, false, false)
    }

    /// The `at`-th mutating operation and all later ones fail, as if the disk had gone away.
    #[must_use]
    pub fn from_there_on(at: u64) -> Arc<Self> {
        Self::new(at, true, false)
    }

    /// The process is killed (SIGKILL) before the `at`-th mutating operation.
    #[must_use]
    pub fn killing(at: u64) -> Arc<Self> {
        Self::new(at, false, true)
    }

    fn new(at: u64, from_there_on: bool, kills: bool) -> Arc<Self> {
        Arc::new(Self {
            at,
            from_there_on,
            refuses: None,
            kills,
            count: AtomicU64::new(0),
        })
    }

    /// Whether the fault has happened.
    #[must_use]
    pub fn fired(&self) -> bool {
        self.count.load(Ordering::SeqCst) >= self.at
    }

    /// Counts one mutating operation, and fails if its turn has come.
    ///
    /// # Errors
    /// `StorageFull`: the one failure that real disks give at any moment.
    pub fn strike(&self) -> io::Result<()> {
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        if count == self.at || (self.from_there_on && count > self.at) {
            if self.kills {
                let _ = kill_process(getpid(), Signal::KILL);
            }
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// The same for an operation on metadata, which may be refused altogether.
    fn strike_metadata(&self) -> io::Result<()> {
        self.strike()?;
        self.refuses.map_or(Ok(()), |how| Err(how.into()))
    }
}

/// A disk whose mutating operations fail as a [`Fault`] says.
#[derive(Debug)]
pub struct FaultyDisk<D> {
    disk: D,
    fault: Arc<Fault>,
}

impl<D: Disk> FaultyDisk<D> {
    /// Wraps `disk`.
    pub const fn new(disk: D, fault: Arc<Fault>) -> Self {
        Self { disk, fault }
    }
}

impl<D: Disk> Disk for FaultyDisk<D> {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Folder>> {
        Ok(Box::new(FaultyFolder {
            folder: self.disk.open(path)?,
            fault: Arc::clone(&self.fault),
        }))
    }

    fn create_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.fault.strike()?;
        self.disk.create_all(path, mode)
    }
}

#[derive(Debug)]
struct FaultyFolder {
    folder: Box<dyn Folder>,
    fault: Arc<Fault>,
}

impl FaultyFolder {
    fn file(&self, file: Box<dyn File>) -> Box<dyn File> {
        Box::new(FaultyFile {
            file,
            fault: Arc::clone(&self.fault),
        })
    }
}

impl Folder for FaultyFolder {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn create_folder(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.fault.strike()?;
        self.folder.create_folder(path, mode)
    }

    fn create_file(&self, path: &Path, mode: u32) -> io::Result<Box<dyn File>> {
        self.fault.strike()?;
        Ok(self.file(self.folder.create_file(path, mode)?))
    }

    fn open_file(&self, path: &Path, write: bool) -> io::Result<Box<dyn File>> {
        Ok(self.file(self.folder.open_file(path, write)?))
    }

    fn create_symlink(&self, target: &OsStr, path: &Path) -> io::Result<()> {
        self.fault.strike_metadata()?;
        self.folder.create_symlink(target, path)
    }

    fn create_link(&self, of: &Path, path: &Path) -> io::Result<()> {
        self.fault.strike_metadata()?;
        self.folder.create_link(of, path)
    }

    fn create_special(&self, path: &Path, special: Special) -> io::Result<()> {
        self.fault.strike_metadata()?;
        self.folder.create_special(path, special)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fault.strike()?;
        self.folder.rename(from, to)
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.fault.strike()?;
        self.folder.exchange(one, other)
    }

    fn identity(&self, path: &Path) -> io::Result<Option<Identity>> {
        self.folder.identity(path)
    }

    fn attribute(&self, path: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.folder.attribute(path, name)
    }

    fn set_attribute(&self, path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
        self.fault.strike_metadata()?;
        self.folder.set_attribute(path, name, value)
    }

    fn remove_attribute(&self, path: &Path, name: &str) -> io::Result<()> {
        self.fault.strike()?;
        self.folder.remove_attribute(path, name)
    }

    fn replace_empty_folder(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fault.strike()?;
        self.folder.replace_empty_folder(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.fault.strike()?;
        self.folder.remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.fault.strike()?;
        self.folder.remove_folder(path)
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.fault.strike_metadata()?;
        self.folder.set_mode(path, mode)
    }

    fn set_modified(&self, path: &Path, modified: Timestamp) -> io::Result<()> {
        self.fault.strike_metadata()?;
        self.folder.set_modified(path, modified)
    }

    fn set_owner(&self, path: &Path, uid: u32, gid: u32) -> io::Result<()> {
        self.fault.strike_metadata()?;
        self.folder.set_owner(path, uid, gid)
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.folder.try_lock()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.fault.strike()?;
        self.folder.sync_folder(path)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.fault.strike()?;
        self.folder.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        self.folder.list(path)
    }

    fn is_mounted(&self, path: &Path) -> io::Result<bool> {
        self.folder.is_mounted(path)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.folder.free_bytes()
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Box<dyn File>,
    fault: Arc<Fault>,
}

impl File for FaultyFile {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    fn read_past_cache(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_past_cache(bytes, offset)
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.file.read_at(offset, length)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(cause) = self.fault.strike() {
            // A disk that fills up in the middle of a write has written the first part of it.
            self.file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(cause);
        }
        self.file.write_all_at(bytes, offset)
    }

    fn write_past_cache(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(cause) = self.fault.strike() {
            let half = &bytes[..bytes.len() / 2];
            self.file.write_past_cache(half, offset)?;
            return Err(cause);
        }
        self.file.write_past_cache(bytes, offset)
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.fault.strike()?;
        self.file.set_length(bytes)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn rights(&self) -> io::Result<Rights> {
        self.file.rights()
    }

    fn set_owner(&self, uid: u32, gid: u32) -> io::Result<()> {
        self.fault.strike_metadata()?;
        self.file.set_owner(uid, gid)
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.fault.strike_metadata()?;
        self.file.set_mode(mode)
    }

    fn set_modified(&self, modified: Timestamp) -> io::Result<()> {
        self.fault.strike_metadata()?;
        self.file.set_modified(modified)
    }

    fn sync(&self) -> io::Result<()> {
        self.fault.strike()?;
        self.file.sync()
    }
}
