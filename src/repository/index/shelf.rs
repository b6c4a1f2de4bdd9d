//! Where tables of large indexes are kept on this machine.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::merge::RUN;
use crate::durable::{Disk, File, Folder};

/// Owner alone, as for all that is kept of a repository.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A folder of this machine for the table of a repository.
#[derive(Debug, Clone)]
pub struct Shelf {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// From so many bytes of index files on a table is kept.
    pub(super) least_bytes: u64,
    /// Most places in memory while one is made.
    pub(super) run: usize,
}

impl Shelf {
    /// From so many bytes of index files on a table is kept: those of about 100,000 blobs. What is less is read in less
    /// than a tenth of a second.
    pub const LEAST_BYTES: u64 = 4 * 1024 * 1024;

    /// A folder that need not be there yet.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, folder: PathBuf) -> Self {
        Self {
            disk,
            folder,
            least_bytes: Self::LEAST_BYTES,
            run: RUN,
        }
    }

    /// The same for repositories with so many bytes of index files, with at most so many blobs in memory at a time.
    #[must_use]
    pub fn from_size(self, least_bytes: u64, run: usize) -> Self {
        Self {
            least_bytes,
            run,
            ..self
        }
    }

    /// Bytes of what is kept there.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let listed = self
            .disk
            .open(&self.folder)
            .and_then(|it| it.list(Path::new("")));
        let sizes = listed.into_iter().flatten().map(|item| item.size_bytes);
        sizes.sum()
    }

    /// Removes what is kept there.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn clear(&self) -> io::Result<()> {
        let folder = match self.disk.open(&self.folder) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for item in folder.list(Path::new(""))? {
            folder.remove_file(Path::new(&item.name))?;
        }
        Ok(())
    }

    /// Opens what is kept under a name.
    pub(super) fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.disk
            .open(&self.folder)?
            .open_file(Path::new(name), false)
    }

    /// Removes what is kept under a name; if it cannot be, the next run asks again.
    pub(super) fn discard(&self, name: &str) {
        if let Ok(folder) = self.disk.open(&self.folder) {
            let _ = folder.remove_file(Path::new(name));
        }
    }

    /// Opens the folder for whoever makes a table: nobody else does meanwhile.
    ///
    /// # Errors
    /// As the system reports them; `WouldBlock` if somebody is at it, `StorageFull` if `bytes` would not fit.
    pub(super) fn begin(&self, bytes: u64) -> io::Result<Workplace> {
        self.disk.create_all(&self.folder, FOLDER_MODE)?;
        let folder = self.disk.open(&self.folder)?;
        if !folder.try_lock()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // A file system that does not count lets us try.
        if folder.free_bytes().is_ok_and(|free| free < bytes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(Workplace { folder })
    }
}

/// The folder in the hands of whoever makes a table.
#[derive(Debug)]
pub(super) struct Workplace {
    folder: Box<dyn Folder>,
}

impl Workplace {
    /// A new file under this name, whatever a killed run has left there.
    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let name = Path::new(name);
        match self.folder.remove_file(name) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
            _ => self.folder.create_file(name, FILE_MODE),
        }
    }

    /// A file without a name: it goes with us.
    pub fn scratch(&self) -> io::Result<Box<dyn File>> {
        const NAME: &str = "runs-tmp";
        let file = self.create(NAME)?;
        self.folder.remove_file(Path::new(NAME))?;
        Ok(file)
    }

    /// Has a file written and then gives it a name, in place of what had it.
    pub fn replace(
        &self,
        name: &str,
        write: impl FnOnce(&dyn File) -> io::Result<()>,
    ) -> io::Result<Box<dyn File>> {
        let temporary = format!("{name}-tmp");
        let file = self.create(&temporary)?;
        let (from, to) = (Path::new(&temporary), Path::new(name));
        let named = write(file.as_ref()).and_then(|()| {
            // Killed in between, it is made again.
            let _ = self.folder.remove_file(to);
            self.folder.rename(from, to)
        });
        if let Err(cause) = named {
            let _ = self.folder.remove_file(from);
            return Err(cause);
        }
        Ok(file)
    }
}
