//! Where this machine keeps what its runs of `forget` have seen: one small file a repository.
//!
//! Replaced whole, in one order: another name, content, sync, then the two names are exchanged at one
//! instant. Where a file system cannot do that, the old name goes first; so if only the other name is
//! there, it is the one that counts.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::History;
use crate::durable::{Disk, Folder, cannot_exchange};
use crate::error::{Error, Result};
use crate::id::Id;

/// Below the folder of this machine's own state.
const FOLDER: &str = "retention";
/// The version of its form.
const SCHEMA: u32 = 1;
/// Largest file that is read, in bytes: of half a million snapshots.
const MAX_FILE: u64 = 128 * 1024 * 1024;

/// The file of one repository.
#[derive(Debug, Clone)]
pub struct HistoryFile {
    folder: PathBuf,
    name: PathBuf,
    new_name: PathBuf,
}

/// What is remembered of earlier runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remembered {
    /// Nothing: there was none.
    Nothing,
    /// Something that cannot be used, and why.
    Damaged(String),
    /// This.
    History(History),
}

impl Remembered {
    /// What a run goes by.
    #[must_use]
    pub fn history(self) -> History {
        match self {
            Self::History(history) => history,
            Self::Nothing | Self::Damaged(_) => History::default(),
        }
    }
}

/// The content.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    schema: u32,
    series: History,
}

impl HistoryFile {
    /// The file of the repository with this id, below a folder that may not exist yet.
    #[must_use]
    pub fn new(state_folder: &Path, repository: &str) -> Self {
        // The id stands in the repository, and may be anything.
        let id: Id = repository
            .parse()
            .unwrap_or_else(|_| Id::of(repository.as_bytes()));
        Self {
            folder: state_folder.join(FOLDER),
            name: PathBuf::from(format!("{id}.json")),
            new_name: PathBuf::from(format!("{id}.json.new")),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Reads what is remembered.
    ///
    /// # Errors
    /// [`Error::File`] if something is there that cannot be read: it is not the same as nothing.
    pub fn read(&self, disk: &dyn Disk) -> Result<Remembered> {
        let bytes = match self.bytes(disk) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                return Ok(Remembered::Nothing);
            }
            other => other.map_err(Error::file("reading", self.path()))?,
        };
        Ok(match serde_json::from_slice::<Content>(&bytes) {
            Ok(content) if content.schema == SCHEMA => Remembered::History(content.series),
            Ok(content) => Remembered::Damaged(format!("it has schema {}", content.schema)),
            Err(cause) => Remembered::Damaged(cause.to_string()),
        })
    }

    fn bytes(&self, disk: &dyn Disk) -> io::Result<Vec<u8>> {
        let folder = disk.open(&self.folder)?;
        let file = match folder.open_file(&self.name, false) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                folder.open_file(&self.new_name, false)?
            }
            other => other?,
        };
        let length = file.length()?;
        if length > MAX_FILE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Remembers this from now on, durably.
    ///
    /// # Errors
    /// [`Error::File`]: then what was remembered before still is.
    pub fn write(&self, history: &History, disk: &dyn Disk) -> Result<()> {
        let content = Content {
            schema: SCHEMA,
            series: history.clone(),
        };
        let bytes = serde_json::to_vec(&content).map_err(|cause| Error::internal(&cause))?;
        self.replace(&bytes, disk)
            .map_err(Error::file("writing", self.path()))
    }

    fn replace(&self, bytes: &[u8], disk: &dyn Disk) -> io::Result<()> {
        disk.create_all(&self.folder, 0o700)?;
        let folder = disk.open(&self.folder)?;
        if folder.identity(&self.name)?.is_some() {
            remove_if_there(folder.as_ref(), &self.new_name)?;
        } else if folder.identity(&self.new_name)?.is_some() {
            // It is the one that counts, unless its content never came.
            folder.rename(&self.new_name, &self.name)?;
        }
        let file = folder.create_file(&self.new_name, 0o600)?;
        file.write_all_at(bytes, 0)?;
        file.sync()?;
        self.give_name(folder.as_ref())?;
        folder.sync_folder(Path::new(""))?;
        remove_if_there(folder.as_ref(), &self.new_name)
    }

    fn give_name(&self, folder: &dyn Folder) -> io::Result<()> {
        if folder.identity(&self.name)?.is_none() {
            return folder.rename(&self.new_name, &self.name);
        }
        match folder.exchange(&self.new_name, &self.name) {
            Err(cause) if cannot_exchange(&cause) => {
                folder.remove_file(&self.name)?;
                folder.rename(&self.new_name, &self.name)
            }
            other => other,
        }
    }
}

fn remove_if_there(folder: &dyn Folder, path: &Path) -> io::Result<()> {
    match folder.remove_file(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
