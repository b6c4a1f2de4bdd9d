//! A file that did not exist before, and that has its name only once all of it is durable.

use std::path::{Path, PathBuf};

use super::ahead::Written;
use crate::durable::Disk;
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Step};
use crate::rng::{self, Rng};
use crate::units::shown;

/// Where a dump goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    path: PathBuf,
    folder: PathBuf,
    name: PathBuf,
}

/// Takes bytes, and says whether it wants more.
pub type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<bool>;

impl NewFile {
    /// A file at `path`, which is absolute.
    ///
    /// # Errors
    /// [`Error::FileExists`]; [`Error::Usage`] for what cannot be a file's path.
    pub fn at(path: PathBuf) -> Result<Self> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::Usage {
                finding: format!("{} is no file to write to", shown(&path)),
                next: "name a file that does not exist yet: --target FILE".to_owned(),
            });
        };
        if path.symlink_metadata().is_ok() {
            return Err(Error::FileExists { path });
        }
        Ok(Self {
            folder: folder.to_owned(),
            name: name.into(),
            path,
        })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has `write` fill it under another name, for its owner's eyes only, and gives it its own once all
    /// is durable. What fails leaves nothing under its name that is not whole.
    ///
    /// # Errors
    /// What `write` returns; [`Error::FileExists`] if the name was taken meanwhile; [`Error::File`].
    pub fn fill(
        &self,
        disk: &dyn Disk,
        rng: &dyn Rng,
        write: impl FnOnce(Sink<'_>) -> Result<Written>,
        monitor: &dyn Monitor,
    ) -> Result<Written> {
        let failed = |doing| Error::file(doing, self.path.clone());
        let root = disk.open(&self.folder).map_err(failed("creating"))?;
        let name = PathBuf::from(format!(".tillsafe-dump-{}", rng::name(rng)?));
        let file = root.create_file(&name, 0o600).map_err(failed("creating"))?;
        let mut offset = 0;
        let result = write(&mut |bytes| {
            let done = file.write_all_at(bytes, offset);
            done.map_err(failed("writing"))?;
            offset += bytes.len() as u64;
            Ok(true)
        });
        let named = result.and_then(|written| {
            monitor.step(Step::Syncing, None);
            file.sync().map_err(failed("syncing"))?;
            let named = root.rename(&name, &self.name);
            named.map_err(|cause| match cause.kind() {
                std::io::ErrorKind::AlreadyExists => Error::FileExists {
                    path: self.path.clone(),
                },
                _ => failed("naming")(cause),
            })?;
            root.sync_folder(Path::new("")).map_err(failed("syncing"))?;
            Ok(written)
        });
        if named.is_err() {
            // Best effort: it has no name that anybody looks for.
            let _ = root.remove_file(&name);
        }
        named
    }
}
