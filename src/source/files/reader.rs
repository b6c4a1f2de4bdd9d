//! Reading one regular file.

use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::metadata::{Names, time};
use crate::entry::{Entry, Place};

/// A regular file held open for reading.
#[derive(Debug)]
pub struct FileReader {
    file: std::fs::File,
    before: Metadata,
}

impl FileReader {
    /// Opens a regular file, following no link in the last place.
    ///
    /// # Errors
    /// As the system reports them; `InvalidInput` if it is no regular file any more.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        use rustix::fs::OFlags;
        // NONBLOCK: a fifo that took the file's place must not hold us.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        let before = file.metadata()?;
        if !before.is_file() {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        Ok(Self { file, before })
    }

    /// Its length in bytes when it was opened.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.before.len()
    }

    /// The entry of what was opened: what the walk met may have been exchanged since.
    #[must_use]
    pub fn entry(&self, met: Entry) -> Entry {
        let before = &self.before;
        let owner = if (met.owner.uid, met.owner.gid) == (before.uid(), before.gid()) {
            met.owner
        } else {
            Names::default().owner(before.uid(), before.gid())
        };
        Entry {
            mode: before.mode() & 0o7777,
            modified: time(before.mtime(), before.mtime_nsec()),
            changed: time(before.ctime(), before.ctime_nsec()),
            owner,
            // Another file than was met: whether it has further names, the walk cannot tell.
            place: if (met.place.device, met.place.inode) == (before.dev(), before.ino()) {
                met.place
            } else {
                Place::default()
            },
            ..met
        }
    }

    /// Whether it was written to since it was opened: then what was read may be of two moments.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        let content = |of: &Metadata| (of.len(), of.mtime(), of.mtime_nsec());
        let all = |of: &Metadata| (of.ctime(), of.ctime_nsec());
        self.file.metadata().is_ok_and(|after| {
            content(&after) != content(&self.before)
                // Whoever sets the times back to what they were changes this one; but so does whoever
                // gives or takes a name, and that is how most programs put a new file in its place.
                || (all(&after) != all(&self.before) && after.nlink() == self.before.nlink())
        })
    }
}

impl Read for &FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        (&self.file).read(buffer)
    }
}
