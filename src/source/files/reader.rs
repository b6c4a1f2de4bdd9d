//! Reading one regular file.

use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

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

    /// Whether it was written to since it was opened: then what was read may be of two moments.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.file.metadata().is_ok_and(|after| {
            (after.len(), after.mtime(), after.mtime_nsec())
                != (
                    self.before.len(),
                    self.before.mtime(),
                    self.before.mtime_nsec(),
                )
        })
    }
}

impl Read for &FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        (&self.file).read(buffer)
    }
}
