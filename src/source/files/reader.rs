//! Reading one regular file: as far as it reached when it was opened.

use std::cell::Cell;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::facts::{Facts, Names};
use crate::durable::Identity;
use crate::entry::Entry;

/// A regular file held open for reading.
///
/// It ends where it ended when it was opened: what is appended meanwhile is of a later moment, and somebody
/// may append for ever.
#[derive(Debug)]
pub struct FileReader {
    file: File,
    before: Metadata,
    /// How many bytes were read.
    read: Cell<u64>,
}

/// What was done to a file while it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was written to.
    Written,
    /// It has become longer, at least.
    Grown,
    /// It has become shorter, at least: this many of its bytes were not there any more.
    Shrunk {
        /// How many bytes are missing.
        missing: u64,
    },
    /// Nothing, but it goes on beyond the length that its file system tells.
    Endless,
}

impl FileReader {
    /// Opens a regular file, following no link in the last place.
    ///
    /// # Errors
    /// As the system reports them; `InvalidInput` if it is no regular file any more.
    pub fn open(path: &Path) -> io::Result<Self> {
        use rustix::fs::OFlags;
        // NONBLOCK: a fifo that took the file's place must not hold us.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        Self::of(file)
    }

    /// Reads what is open.
    ///
    /// # Errors
    /// As the system reports them; `InvalidInput` if it is no regular file.
    pub(super) fn of(file: File) -> io::Result<Self> {
        let before = file.metadata()?;
        if !before.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Self {
            file,
            before,
            read: Cell::new(0),
        })
    }

    /// Its length in bytes when it was opened.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.before.len()
    }

    pub(super) fn identity(&self) -> Identity {
        Identity::of(&self.before)
    }

    /// Its first bytes, as many as there are; what is read goes on from where it was.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn head(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut length = 0;
        while length < buffer.len() {
            match self.file.read_at(&mut buffer[length..], length as u64) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(length)
    }

    /// The entry of the same file, as it was met, as it was when it was opened.
    #[must_use]
    pub fn entry(&self, met: Entry) -> Entry {
        let before = Facts::of(&self.before);
        let owner = if (met.owner.uid, met.owner.gid) == (before.uid, before.gid) {
            met.owner
        } else {
            Names::default().owner(before.uid, before.gid)
        };
        Entry {
            mode: before.mode & 0o7777,
            modified: before.modified,
            changed: before.changed,
            owner,
            ..met
        }
    }

    /// What was done to it since it was opened, now that it was read to its end: then what was read may be
    /// of two moments.
    #[must_use]
    pub fn change(&self) -> Option<Change> {
        let missing = self.before.len().saturating_sub(self.read.get());
        if missing > 0 {
            return Some(Change::Shrunk { missing });
        }
        let after = self.file.metadata().ok()?;
        let content = |of: &Metadata| (of.len(), of.mtime(), of.mtime_nsec());
        let all = |of: &Metadata| (of.ctime(), of.ctime_nsec());
        if after.len() > self.before.len() {
            return Some(Change::Grown);
        }
        if content(&after) != content(&self.before)
            // Whoever sets the times back to what they were changes this one; but so does whoever gives or
            // takes a name, and that is how most programs put a new file in its place.
            || (all(&after) != all(&self.before) && after.nlink() == self.before.nlink())
        {
            return Some(Change::Written);
        }
        let beyond = self.file.read_at(&mut [0], self.before.len());
        beyond.is_ok_and(|read| read > 0).then_some(Change::Endless)
    }
}

impl Read for &FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.before.len().saturating_sub(self.read.get());
        let wanted = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = (&self.file).read(&mut buffer[..wanted])?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}
