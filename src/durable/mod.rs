//! The only code that creates, renames or deletes files: the `Disk` seam.
//!
//! A [`Folder`] is a root held open; every path given to it is relative, and is resolved beneath the
//! root without following any symbolic link, so that nothing outside can be reached whatever names
//! a repository holds. Nothing here replaces an existing file: `create_file` and `rename` refuse.
//!
//! Callers write in one order: temporary name, content, sync, final name, sync of the folder.
//! [`faults::FaultyDisk`] fails any one of these operations, and the sweeps in `tests/` do so in turn.

pub mod attributes;
pub mod claim;
pub mod descriptor;
mod direct;
pub mod faults;
pub mod file_system;
mod os;
mod os_file;
mod page_buffer;
pub mod scratch;

use std::ffi::{OsStr, OsString};
use std::fmt::Debug;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use os::OsDisk;
pub use page_buffer::PageBuffer;

/// A file system, or something that behaves like one.
pub trait Disk: Debug + Send + Sync {
    /// Opens an existing folder as a root. Links in `path` are followed: its owner named it.
    ///
    /// # Errors
    /// As the system reports them; `NotADirectory` if it is something else.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Folder>>;

    /// Creates a folder and all missing parents, and makes their names durable.
    ///
    /// # Errors
    /// As the system reports them. An existing folder is none.
    fn create_all(&self, path: &Path, mode: u32) -> io::Result<()>;
}

/// What a name in a folder is, without following it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// Anything else.
    Other,
}

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name.
    pub name: OsString,
    /// What it is.
    pub kind: ListedKind,
    /// Size in bytes, for files.
    pub size_bytes: u64,
}

/// Which file or folder it is, whatever its name: what a rename does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// Number of its file system.
    pub device: u64,
    /// Number in its file system.
    pub inode: u64,
}

impl Identity {
    /// Of what the system says this of.
    #[must_use]
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// Owner and mode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// Number of its user.
    pub uid: u32,
    /// Number of its group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// A file of no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// A named pipe.
    Pipe,
    /// A character device of this number.
    CharacterDevice(u64),
    /// A block device of this number.
    BlockDevice(u64),
}

/// A root held open. Every path is relative to it and stays beneath it.
pub trait Folder: Debug + Send + Sync {
    /// The root's own path, for messages.
    fn path(&self) -> &Path;

    /// Creates a folder.
    ///
    /// # Errors
    /// As the system reports them; `AlreadyExists` if the name is taken.
    fn create_folder(&self, path: &Path, mode: u32) -> io::Result<()>;

    /// Creates a file that did not exist, open for reading and writing.
    ///
    /// # Errors
    /// As the system reports them; `AlreadyExists` if the name is taken.
    fn create_file(&self, path: &Path, mode: u32) -> io::Result<Box<dyn File>>;

    /// Opens a regular file; `write` for reading and writing.
    ///
    /// # Errors
    /// As the system reports them; a symbolic link or a special file is one.
    fn open_file(&self, path: &Path, write: bool) -> io::Result<Box<dyn File>>;

    /// Creates a symbolic link that holds `target`.
    ///
    /// # Errors
    /// As the system reports them; `AlreadyExists` if the name is taken.
    fn create_symlink(&self, target: &OsStr, path: &Path) -> io::Result<()>;

    /// Gives the file `of` a further name.
    ///
    /// # Errors
    /// As the system reports them; `AlreadyExists` if the name is taken.
    fn create_link(&self, of: &Path, path: &Path) -> io::Result<()>;

    /// Creates a pipe or a device, for its owner alone.
    ///
    /// # Errors
    /// As the system reports them; `AlreadyExists` if the name is taken.
    fn create_special(&self, path: &Path, special: Special) -> io::Result<()>;

    /// Gives `from` the name `to`, which must be free.
    ///
    /// # Errors
    /// As the system reports them; `AlreadyExists` if the name is taken.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives each of two names what the other had, at one instant.
    ///
    /// # Errors
    /// As the system reports them; see [`cannot_exchange`] for file systems that know no such thing.
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()>;

    /// What stands under a name, without following it; `None` if nothing does.
    ///
    /// # Errors
    /// As the system reports them.
    fn identity(&self, path: &Path) -> io::Result<Option<Identity>>;

    /// The value of an extended attribute, also of a link itself; `None` if it has none of that name.
    ///
    /// # Errors
    /// As the system reports them.
    fn attribute(&self, path: &Path, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Sets an extended attribute, also of a link itself.
    ///
    /// # Errors
    /// As the system reports them.
    fn set_attribute(&self, path: &Path, name: &str, value: &[u8]) -> io::Result<()>;

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// As the system reports them; one that is not there is none.
    fn remove_attribute(&self, path: &Path, name: &str) -> io::Result<()>;

    /// Gives the folder `from` the name of the empty folder `to`, at one instant.
    ///
    /// # Errors
    /// As the system reports them; `DirectoryNotEmpty` if `to` holds anything.
    fn replace_empty_folder(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a name that is no folder.
    ///
    /// # Errors
    /// As the system reports them.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty folder.
    ///
    /// # Errors
    /// As the system reports them.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;

    /// Sets the permission bits of anything but a link. A device is not opened for it.
    ///
    /// # Errors
    /// As the system reports them; a symbolic link is one.
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()>;

    /// Sets the modification time (and the access time to the same), also of a link itself.
    ///
    /// # Errors
    /// As the system reports them.
    fn set_modified(&self, path: &Path, modified: Timestamp) -> io::Result<()>;

    /// Sets the owner, also of a link itself.
    ///
    /// # Errors
    /// As the system reports them.
    fn set_owner(&self, path: &Path, uid: u32, gid: u32) -> io::Result<()>;

    /// Locks the root itself (flock) until it is dropped; `false` if somebody else holds it.
    ///
    /// # Errors
    /// As the system reports them.
    fn try_lock(&self) -> io::Result<bool>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// As the system reports them.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes everything on the root's file system durable.
    ///
    /// # Errors
    /// As the system reports them.
    fn sync_all(&self) -> io::Result<()>;

    /// Lists a folder, in no order.
    ///
    /// # Errors
    /// As the system reports them: a listing is whole or an error.
    fn list(&self, path: &Path) -> io::Result<Vec<Listed>>;

    /// Whether another file system is mounted at `path`, or on the way there.
    ///
    /// # Errors
    /// As the system reports them.
    fn is_mounted(&self, path: &Path) -> io::Result<bool>;

    /// Bytes that may still be written to the root's file system.
    ///
    /// # Errors
    /// As the system reports them; `Unsupported` if the file system does not count.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open regular file.
pub trait File: Debug + Send + Sync {
    /// Fills `bytes` from `offset`.
    ///
    /// # Errors
    /// As the system reports them; `UnexpectedEof` if the file ends before.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Reads `length` bytes from `offset`.
    ///
    /// # Errors
    /// As the system reports them; `UnexpectedEof` if the file ends before.
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// As the system reports them.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// The same past the page cache of this machine, where the file system lets us: for much that nobody will read
    /// soon, in large pieces and in order. What is whole blocks of 4 KiB goes there, the rest as usual; it costs no copy
    /// if it lies in a [`PageBuffer`] and is written at whole blocks. Several threads may write at once, each its own bytes.
    ///
    /// # Errors
    /// As the system reports them.
    fn write_past_cache(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Fills `bytes` from `offset` past the page cache of this machine, where the file system lets us: so it is what the
    /// disk holds. What is not whole blocks of 4 KiB, in the file or in memory (see [`PageBuffer`]), is read as usual.
    ///
    /// # Errors
    /// As the system reports them; `UnexpectedEof` if the file ends before.
    fn read_past_cache(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Reads `length` bytes from `offset`: out of the page cache of this machine if they are there, else past it. For much that
    /// nobody will read again soon.
    ///
    /// # Errors
    /// As [`File::read_at`].
    fn read_sparing(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.read_at(offset, length)
    }

    /// Gives the file this length in bytes; what comes in anew is a hole, and reads as zeros.
    ///
    /// # Errors
    /// As the system reports them.
    fn set_length(&self, bytes: u64) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// As the system reports them.
    fn length(&self) -> io::Result<u64>;

    /// Who owns the file and what its mode is, as the system says now.
    ///
    /// # Errors
    /// As the system reports them.
    fn rights(&self) -> io::Result<Rights>;

    /// Sets the owner.
    ///
    /// # Errors
    /// As the system reports them.
    fn set_owner(&self, uid: u32, gid: u32) -> io::Result<()>;

    /// Sets the permission bits.
    ///
    /// # Errors
    /// As the system reports them.
    fn set_mode(&self, mode: u32) -> io::Result<()>;

    /// Sets the modification time (and the access time to the same).
    ///
    /// # Errors
    /// As the system reports them.
    fn set_modified(&self, modified: Timestamp) -> io::Result<()>;

    /// Makes content and length durable. A failed sync loses the file: write it again.
    ///
    /// # Errors
    /// As the system reports them.
    fn sync(&self) -> io::Result<()>;
}

/// Whether an exchange failed because this file system, or this kernel, has none.
#[must_use]
pub fn cannot_exchange(cause: &io::Error) -> bool {
    use rustix::io::Errno;
    let none = [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP].map(Errno::raw_os_error);
    cause
        .raw_os_error()
        .is_some_and(|code| none.contains(&code))
}

/// Removes a folder and all that is in it, also where the modes of its folders forbid it: it is our
/// own. What is already gone is no error. What is mounted in it is somebody else's, and stays.
///
/// # Errors
/// The first that the system reports; the rest is left as it is.
pub fn remove_tree(folder: &dyn Folder, path: &Path) -> io::Result<()> {
    match empty(folder, path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) => Err(cause),
        Ok(()) => folder.remove_folder(path),
    }
}

/// Removes all that is in a folder.
fn empty(folder: &dyn Folder, path: &Path) -> io::Result<()> {
    for listed in allowed(folder, path, || folder.list(path))? {
        let inner = path.join(&listed.name);
        match listed.kind {
            ListedKind::Folder => {
                if allowed(folder, path, || folder.is_mounted(&inner))? {
                    return Err(io::ErrorKind::ResourceBusy.into());
                }
                empty(folder, &inner)?;
                allowed(folder, path, || folder.remove_folder(&inner))?;
            }
            ListedKind::File | ListedKind::Other => {
                allowed(folder, path, || folder.remove_file(&inner))?;
            }
        }
    }
    Ok(())
}

/// Does something in the folder `path`; if its mode forbids that, opens it to us and tries again.
fn allowed<T>(folder: &dyn Folder, path: &Path, act: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match act() {
        Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
            folder.set_mode(path, 0o700)?;
            act()
        }
        other => other,
    }
}
