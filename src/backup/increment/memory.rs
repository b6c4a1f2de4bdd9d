//! What the last backup has seen of a database: a mark for each page, and where it is stored (docs/design/increments.md).
//!
//! Only ever a shortcut. It lies on this machine, sealed under the repository's key, and is believed as far as it opens
//! and all blobs that it names are in packs that stay: then those blobs make exactly the image whose marks it holds.
//! Where it is missing or wrong, the whole database is stored anew.
//!
//! ```text
//! file    = sealed stretch × n ‖ sealed head ‖ length of the sealed head (4 bytes, little-endian)
//! stretch = name of the file (16 bytes) ‖ its number (8 bytes, little-endian) ‖ marks (17 bytes a page, 4096 of them but in the last)
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::durable::{Disk, File, Folder, cannot_exchange};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::repository::Repository;
use crate::repository::crypto::OVERHEAD;
use crate::repository::tree_writer::StoredFile;
use crate::rng;
use crate::source::sqlite::Look;
use crate::source::sqlite::wal::Chain;

/// The version that this program writes.
const SCHEMA: u32 = 2;
/// Bytes of a mark: half of the page's SHA-256.
const MARK: usize = 16;
/// A mark, and what a look at the page has found.
const MARKED: usize = MARK + 1;
/// Marks of a stretch.
const MARKS: usize = 4096;
/// Bytes before the marks of a stretch.
const STRETCH_HEAD: usize = 16 + 8;
/// Bytes of a whole stretch, sealed.
const STRETCH: u64 = (STRETCH_HEAD + MARKS * MARKED + OVERHEAD) as u64;
/// Longest head that is read, in bytes: four million blobs.
const MAX_HEAD: u64 = 512 * 1024 * 1024;

/// What tells a page from others.
pub type Mark = [u8; MARK];

/// The mark of a page of this hash.
#[must_use]
pub fn mark(page: &Id) -> Mark {
    let (mark, _) = page.as_bytes().split_at(MARK);
    std::array::from_fn(|at| mark[at])
}

/// What a memory says of the database as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    schema: u32,
    /// What its stretches begin with.
    name: [u8; 16],
    /// Which database it is of: its path in snapshots.
    pub path: PathBuf,
    /// Bytes of a page.
    pub page_bytes: u32,
    /// The base, as the last snapshot has it.
    pub base: StoredFile,
    /// When the base was taken.
    pub begun: Timestamp,
    /// The log without its last frame; none as long as there is only a base.
    pub log: Option<Log>,
}

/// A log that can go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// All but its last frame.
    pub stored: StoredFile,
    /// Bytes that the last increment has added.
    pub last_bytes: u64,
    salts: [u32; 2],
    sums: [u32; 2],
}

impl Log {
    /// One whose next frame follows on `chain`.
    #[must_use]
    pub const fn new(stored: StoredFile, last_bytes: u64, chain: Chain) -> Self {
        Self {
            stored,
            last_bytes,
            salts: chain.salts,
            sums: chain.sums,
        }
    }

    /// What its next frame follows on.
    #[must_use]
    pub const fn chain(&self) -> Chain {
        Chain {
            salts: self.salts,
            sums: self.sums,
        }
    }
}

/// Where memories lie.
#[derive(Debug, Clone)]
pub struct Memories {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
}

impl Memories {
    /// This folder of this machine; it may be missing.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, folder: PathBuf) -> Self {
        Self { disk, folder }
    }

    /// Removes what nobody goes on from: of databases that are no longer there, and of runs that were killed.
    pub fn tidy(&self, before: Timestamp) {
        let Ok(folder) = self.disk.open(&self.folder) else {
            return;
        };
        let is_old = |path: &Path| {
            let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
            modified.is_ok_and(|modified| {
                Timestamp::try_from(modified).is_ok_and(|modified| modified < before)
            })
        };
        for listed in folder.list(Path::new("")).unwrap_or_default() {
            let name = Path::new(&listed.name);
            if is_old(&folder.path().join(name)) {
                let _ = folder.remove_file(name);
            }
        }
    }

    /// The memory of the database that is stored as `path`; none if there is none that can be believed.
    #[must_use]
    pub fn open(&self, path: &Path, repository: &Repository) -> Option<Memory> {
        let folder = self.disk.open(&self.folder).ok()?;
        let file = folder.open_file(&file_name(path), false).ok()?;
        let all = file.length().ok()?;
        let end = all.checked_sub(4)?;
        let length = file.read_at(end, 4).ok()?;
        let length = u32::from_le_bytes(length.try_into().ok()?);
        let stretches = end.checked_sub(length.into())?;
        if u64::from(length) > MAX_HEAD {
            return None;
        }
        let head = file.read_at(stretches, length as usize).ok()?;
        let head: Head = serde_json::from_slice(&repository.unseal(&head).ok()?).ok()?;
        (head.schema == SCHEMA && head.path == path).then(|| Memory {
            marks: Marks {
                file,
                repository: repository.clone(),
                name: head.name,
                stretches,
                number: 0,
                stretch: Vec::new(),
                at: MARKS,
            },
            head,
        })
    }

    /// Begins a new memory of that database.
    ///
    /// # Errors
    /// [`Error::File`] if none can be kept here.
    pub fn record(&self, path: &Path, repository: &Repository) -> Result<Recorder> {
        let failed = Error::file("creating", &self.folder);
        let opened = self.disk.open(&self.folder).or_else(|_| {
            self.disk.create_all(&self.folder, 0o700)?;
            self.disk.open(&self.folder)
        });
        let folder = opened.map_err(failed)?;
        let name = file_name(path);
        let temporary = name.with_extension("new");
        // Left by a run that was killed.
        let _ = folder.remove_file(&temporary);
        let file = folder.create_file(&temporary, 0o600);
        let mut recorder = Recorder {
            file: file.map_err(Error::file("creating", folder.path().join(&temporary)))?,
            place: Named {
                folder,
                name,
                temporary,
            },
            repository: repository.clone(),
            name: rng::array(repository.services().rng.as_ref())?,
            path: path.to_owned(),
            number: 0,
            stretch: Vec::new(),
            offset: 0,
        };
        recorder.begin_stretch();
        Ok(recorder)
    }
}

fn file_name(path: &Path) -> PathBuf {
    Id::of(path.as_os_str().as_encoded_bytes())
        .to_string()
        .into()
}

/// What the last backup has seen of a database.
#[derive(Debug)]
pub struct Memory {
    /// As a whole.
    pub head: Head,
    /// Its pages.
    pub marks: Marks,
}

/// The marks of a memory in order.
#[derive(Debug)]
pub struct Marks {
    file: Box<dyn File>,
    repository: Repository,
    name: [u8; 16],
    /// Bytes of all stretches.
    stretches: u64,
    /// The next stretch.
    number: u64,
    /// Empty if it cannot be read.
    stretch: Vec<u8>,
    /// The next mark in it.
    at: usize,
}

impl Marks {
    /// That of the next page, and what was found in it; none if it cannot be told.
    pub fn take(&mut self) -> Option<(Mark, Look)> {
        if self.at == MARKS {
            self.stretch = self.read().unwrap_or_default();
            self.number += 1;
            self.at = 0;
        }
        let begin = STRETCH_HEAD + self.at * MARKED;
        self.at += 1;
        let (mark, rest) = self.stretch.get(begin..)?.split_first_chunk()?;
        Some((*mark, Look::of(*rest.first()?)))
    }

    fn read(&self) -> Option<Vec<u8>> {
        let begin = self.number.checked_mul(STRETCH)?;
        let length = STRETCH.min(self.stretches.checked_sub(begin)?);
        let sealed = self.file.read_at(begin, usize::try_from(length).ok()?);
        let plain = self.repository.unseal(&sealed.ok()?).ok()?;
        let (name, rest) = plain.split_first_chunk::<16>()?;
        let (number, _) = rest.split_first_chunk::<8>()?;
        let is_it = *name == self.name && u64::from_le_bytes(*number) == self.number;
        is_it.then_some(plain)
    }
}

/// A memory in the making.
#[derive(Debug)]
pub struct Recorder {
    file: Box<dyn File>,
    place: Named,
    repository: Repository,
    name: [u8; 16],
    path: PathBuf,
    number: u64,
    stretch: Vec<u8>,
    offset: u64,
}

impl Recorder {
    /// Which database it is of.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn begin_stretch(&mut self) {
        self.stretch.clear();
        self.stretch.extend(self.name);
        self.stretch.extend(self.number.to_le_bytes());
    }

    /// Adds the mark of the next page, and what was found in it.
    ///
    /// # Errors
    /// [`Error::File`]: then it is no longer of use.
    pub fn push(&mut self, mark: Mark, look: Look) -> Result<()> {
        self.stretch.extend(mark);
        self.stretch.push(look.byte());
        if self.stretch.len() == STRETCH_HEAD + MARKS * MARKED {
            self.write_stretch()?;
        }
        Ok(())
    }

    fn write_stretch(&mut self) -> Result<()> {
        let sealed = self.repository.seal(&self.stretch)?;
        self.append(&sealed)?;
        self.number += 1;
        self.begin_stretch();
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all_at(bytes, self.offset);
        self.offset += bytes.len() as u64;
        written.map_err(Error::file("writing", self.place.path()))
    }

    /// All pages are marked. The memory is not believed by anybody before it is [kept](Recorded::keep).
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn finish(
        mut self,
        page_bytes: u32,
        base: StoredFile,
        begun: Timestamp,
        log: Option<Log>,
    ) -> Result<Recorded> {
        if self.stretch.len() > STRETCH_HEAD {
            self.write_stretch()?;
        }
        let head = Head {
            schema: SCHEMA,
            name: self.name,
            path: self.path.clone(),
            page_bytes,
            base,
            begun,
            log,
        };
        let head = serde_json::to_vec(&head).map_err(|cause| Error::internal(&cause))?;
        let mut sealed = self.repository.seal(&head)?;
        let length = u32::try_from(sealed.len()).map_err(|cause| Error::internal(&cause))?;
        sealed.extend(length.to_le_bytes());
        self.append(&sealed)?;
        let synced = self.file.sync();
        synced.map_err(Error::file("syncing", self.place.path()))?;
        Ok(Recorded(self.place))
    }
}

/// A memory that is whole, under a temporary name. Dropped, it is removed.
#[derive(Debug)]
pub struct Recorded(Named);

impl Recorded {
    /// Puts it in the place of the last one: only once a snapshot has what it names. Best effort: without it, the
    /// next backup stores the whole database anew.
    pub fn keep(self) {
        let Named {
            folder,
            name,
            temporary,
        } = &self.0;
        let is_exchanged = match folder.exchange(temporary, name) {
            Err(cause) if cannot_exchange(&cause) => {
                let _ = folder.remove_file(name);
                false
            }
            other => other.is_ok(),
        };
        if !is_exchanged {
            let _ = folder.rename(temporary, name);
        }
        let _ = folder.sync_folder(Path::new(""));
    }
}

/// A file that gets its name when all is well.
#[derive(Debug)]
struct Named {
    folder: Box<dyn Folder>,
    name: PathBuf,
    temporary: PathBuf,
}

impl Named {
    fn path(&self) -> PathBuf {
        self.folder.path().join(&self.temporary)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        // The one that was replaced, or one that is of no use. Once renamed, there is none.
        let _ = self.folder.remove_file(&self.temporary);
    }
}
