//! A repository in a folder of this machine, or of anything that is mounted here.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Backend, Class, Error, Listing, Object, Result};
use crate::durable::file_system::{self, BTRFS, EXT, TMPFS, XFS};
use crate::durable::{Disk, Folder, ListedKind};
use crate::id::Id;
use crate::rng::{self, Rng};

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// An object never changes; its mode says so, also to a careless administrator.
const SEALED_MODE: u32 = 0o400;
/// File systems of one kernel: a name is in every listing that begins after its rename.
const OF_ONE_KERNEL: [u32; 4] = [EXT, XFS, BTRFS, TMPFS];

/// Objects as files in the default layout.
#[derive(Debug)]
pub struct LocalBackend {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    rng: Arc<dyn Rng>,
}

impl LocalBackend {
    /// Names the folder `path`; nothing is opened or created yet.
    #[must_use]
    pub fn new(path: PathBuf, disk: Arc<dyn Disk>, rng: Arc<dyn Rng>) -> Self {
        Self { path, disk, rng }
    }

    /// Opens the root anew for each object: a disk that was unmounted and mounted again is found.
    fn root(&self) -> Result<Box<dyn Folder>> {
        Ok(self.disk.open(&self.path)?)
    }

    /// Writes, syncs and only then names the object.
    fn write(root: &dyn Folder, temporary: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
        let file = match root.create_file(temporary, FILE_MODE) {
            // A folder of keys or snapshots that is missing is elsewhere; what is written beside it would hide that.
            Err(cause)
                if cause.kind() == io::ErrorKind::NotFound
                    && !path.starts_with(Class::Keys.folder())
                    && !path.starts_with(Class::Snapshots.folder()) =>
            {
                let folder = path.parent().unwrap_or(Path::new(""));
                create_durably(root, folder)?;
                root.create_file(temporary, FILE_MODE)?
            }
            other => other?,
        };
        if path.starts_with(Class::Data.folder()) {
            // What the shop's own programs read is worth more in the cache than a pack.
            file.write_past_cache(bytes, 0)?;
        } else {
            file.write_all_at(bytes, 0)?;
        }
        file.sync()?;
        drop(file);
        root.rename(temporary, path)?;
        if let Err(cause) = root.sync_folder(path.parent().unwrap_or(Path::new(""))) {
            // The caller will be told that nothing was stored; let that be true where it can be.
            let _ = root.remove_file(path);
            return Err(cause.into());
        }
        Ok(())
    }
}

impl Backend for LocalBackend {
    fn location(&self) -> String {
        crate::units::shown(&self.path)
    }

    fn create(&self) -> Result<()> {
        self.disk.create_all(&self.path, FOLDER_MODE)?;
        let root = self.root()?;
        for class in Class::ALL {
            create_durably(root.as_ref(), Path::new(class.folder()))?;
        }
        Ok(())
    }

    fn put_new(&self, object: Object, bytes: &[u8]) -> Result<()> {
        let root = self.root()?;
        let path = PathBuf::from(object.to_string());
        let suffix =
            rng::name(self.rng.as_ref()).map_err(|cause| Error::Transient(cause.to_string()))?;
        let temporary = PathBuf::from(format!("{object}-tmp-{suffix}"));
        if let Err(cause) = Self::write(root.as_ref(), &temporary, &path, bytes) {
            // Whatever failed, the temporary name is ours; the final one may be somebody else's.
            let _ = root.remove_file(&temporary);
            return Err(cause);
        }
        // The object is durable already; a file system without modes changes nothing about that.
        let _ = root.set_mode(&path, SEALED_MODE);
        Ok(())
    }

    fn get(&self, object: Object, limit: u64) -> Result<Vec<u8>> {
        let file = self
            .root()?
            .open_file(Path::new(&object.to_string()), false)?;
        let length = file.length()?;
        super::within(length, limit)?;
        Ok(file.read_at(0, usize::try_from(length).map_err(io::Error::other)?)?)
    }

    fn get_range(&self, object: Object, offset: u64, length: usize) -> Result<Vec<u8>> {
        let file = self
            .root()?
            .open_file(Path::new(&object.to_string()), false)?;
        // An index may claim anything; what is not there takes no memory.
        let end = offset.checked_add(length as u64).ok_or(Error::NotFound)?;
        if file.length()? < end {
            return Err(Error::NotFound);
        }
        // A pack that nobody reads often would push out of the cache what the shop's own programs read.
        Ok(file.read_sparing(offset, length)?)
    }

    fn list(&self, class: Class) -> Result<Listing> {
        let root = self.root()?;
        let folder = Path::new(class.folder());
        let mut listing = Listing::default();
        let listed = match root.list(folder) {
            // Tools that copy no empty folders leave it out, and whoever takes a lock makes it.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound && class == Class::Locks => {
                return Ok(listing);
            }
            other => other?,
        };
        for item in listed {
            match item.kind {
                // Packs lie one level deeper, in folders of any name.
                ListedKind::Folder if class == Class::Data => {
                    for inner in root.list(&folder.join(&item.name))? {
                        listing.add(&Path::new(&item.name).join(&inner.name), &inner);
                    }
                }
                _ => listing.add(Path::new(&item.name), &item),
            }
        }
        listing.objects.sort_unstable();
        Ok(listing)
    }

    fn delete(&self, object: Object) -> Result<()> {
        let root = self.root()?;
        let path = PathBuf::from(object.to_string());
        root.remove_file(&path)?;
        root.sync_folder(path.parent().unwrap_or(Path::new("")))?;
        Ok(())
    }

    fn lists_at_once(&self) -> bool {
        let is_of_one = |kind: &io::Result<u32>| match kind {
            Ok(kind) => OF_ONE_KERNEL.contains(kind),
            // Whoever takes a lock makes it, where the root is.
            Err(cause) => cause.kind() == io::ErrorKind::NotFound,
        };
        let locks = self.path.join(Class::Locks.folder());
        self.path.is_dir()
            && [&self.path, &locks]
                .map(|path| file_system::kind(path))
                .iter()
                .all(is_of_one)
    }
}

impl Listing {
    fn add(&mut self, path: &Path, item: &crate::durable::Listed) {
        let id = item.name.to_str().and_then(|name| name.parse::<Id>().ok());
        match id {
            Some(id) if item.kind == ListedKind::File => self.objects.push((id, item.size_bytes)),
            _ => self.strays.push(crate::units::shown(path)),
        }
    }
}

/// Creates a folder below the root and makes its name durable; one that exists is fine.
fn create_durably(root: &dyn Folder, folder: &Path) -> io::Result<()> {
    match root.create_folder(folder, FOLDER_MODE) {
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other?,
    }
    root.sync_folder(folder.parent().unwrap_or(Path::new("")))
}
