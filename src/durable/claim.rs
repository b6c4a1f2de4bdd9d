//! A whole file claimed for a moment, against everybody who locks any byte of it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::{Flock, FlockOffsetType, FlockType};

use super::Identity;

/// A POSIX lock on every byte of a file, held until it is dropped.
///
/// Taking and dropping it drops all other such locks of this process on the file: never while something of
/// ours (a database connection) works with it.
#[derive(Debug)]
pub struct Claim {
    _fd: OwnedFd,
}

impl Claim {
    /// Claims the file; `None` if somebody has a lock on it. Waits for nobody.
    ///
    /// # Errors
    /// As the system reports them, also if this user may not write the file.
    pub fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let fd = open(path, OFlags::RDWR)?;
        match rustix::fs::fcntl_lock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _fd: fd })),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => Ok(None),
            Err(cause) => Err(cause.into()),
        }
    }
}

/// A file held open to see who has a POSIX lock on it, and what it holds. As a [`Claim`], dropping it drops our own.
#[derive(Debug)]
pub struct LockWatch {
    fd: OwnedFd,
    is_writable: bool,
}

impl LockWatch {
    /// Opens the file, for writing if this user may: nothing is written, but it tells.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn open(path: &Path) -> io::Result<Self> {
        let writable = open(path, OFlags::RDWR);
        let is_writable = writable.is_ok();
        let fd = writable.or_else(|_| open(path, OFlags::RDONLY))?;
        Ok(Self { fd, is_writable })
    }

    /// Opens the file for reading only.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn open_to_read(path: &Path) -> io::Result<Self> {
        Ok(Self {
            fd: open(path, OFlags::RDONLY)?,
            is_writable: false,
        })
    }

    /// Which file it is.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn identity(&self) -> io::Result<Identity> {
        let found = rustix::fs::fstat(&self.fd)?;
        Ok(Identity {
            device: found.st_dev,
            inode: found.st_ino,
        })
    }

    /// Whether this user may write to it.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        self.is_writable
    }

    /// Reads its first bytes, all that are asked for.
    ///
    /// # Errors
    /// As the system reports them, also if there are fewer.
    pub fn read_head(&self, bytes: &mut [u8]) -> io::Result<()> {
        let read = rustix::io::pread(&self.fd, &mut *bytes, 0)?;
        if read < bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Reads so many bytes from `offset` on, or all that there are.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let at = offset + bytes.len() as u64;
            match rustix::io::pread(&self.fd, spare_capacity(&mut bytes), at) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(cause) => return Err(cause.into()),
            }
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Whether another process has a lock on one of these bytes; 0 `bytes` are all that follow.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn is_locked(&self, first: u64, bytes: u64) -> io::Result<bool> {
        let asked = Flock {
            start: first,
            length: bytes,
            pid: None,
            typ: FlockType::WriteLock,
            offset_type: FlockOffsetType::Set,
        };
        Ok(rustix::process::fcntl_getlk(&self.fd, &asked)?.is_some())
    }
}

/// Whether another process has a POSIX lock on any byte of the file. As a [`Claim`], it drops our own.
///
/// # Errors
/// As the system reports them.
pub fn is_locked(path: &Path) -> io::Result<bool> {
    LockWatch::open(path)?.is_locked(0, 0)
}

fn open(path: &Path, access: OFlags) -> rustix::io::Result<OwnedFd> {
    // NONBLOCK: a pipe that took the file's place must not hold us.
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}
