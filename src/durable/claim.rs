//! A whole file claimed for a moment, against everybody who locks any byte of it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::{Flock, FlockOffsetType, FlockType};

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

/// A file held open to see who has a POSIX lock on it, and what it begins with. As a [`Claim`], dropping it drops our own.
#[derive(Debug)]
pub struct LockWatch {
    fd: OwnedFd,
}

impl LockWatch {
    /// Opens the file.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = open(path, OFlags::RDONLY)?;
        Ok(Self { fd })
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
