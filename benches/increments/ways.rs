//! The ways to store a database again after a day. Each keeps what it needs from the day before.

use std::fs::File;
use std::path::Path;

use anyhow::Result;
use tillsafe::chunker::ContentChunks;
use tillsafe::chunker::rabin::Rabin;
use tillsafe::id::Id;
use tillsafe::repository::Repository;
use tillsafe::repository::snapshot::Snapshot;
use tillsafe::repository::tree_writer::{PendingFile, StoredFile};
use tillsafe::repository::writer::Writer;
use tillsafe::source::sqlite;
use tillsafe::source::sqlite::wal::{Chain, HEADER, refusing};

use crate::library;
use crate::wal::{self, FRAME, PAGE};

/// The database's name in a snapshot.
pub const NAME: &str = "shop.db";
/// Its log's.
pub const WAL_NAME: &str = "shop.db-wal";

/// How to store a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Chunks of one size at page boundaries: what the program does.
    Fixed {
        /// Bytes of a chunk.
        chunk_bytes: usize,
    },
    /// Large chunks; one that has changed is stored page by page from then on.
    Split {
        /// Bytes of a chunk that has not changed yet.
        chunk_bytes: usize,
    },
    /// Chunks where the content says so: what restic does.
    Content,
    /// A base in large chunks, and a growing log of the pages that have changed since.
    Log {
        /// Bytes of a chunk, and at most of a blob of the log.
        chunk_bytes: usize,
    },
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed { chunk_bytes } => write!(f, "fixed {} KiB", chunk_bytes / 1024),
            Self::Split { chunk_bytes } => {
                write!(f, "{} KiB, changed ones split to 4 KiB", chunk_bytes / 1024)
            }
            Self::Content => f.write_str("content-defined, 1 MiB"),
            Self::Log { chunk_bytes } => write!(f, "base {} KiB + log", chunk_bytes / 1024),
        }
    }
}

/// A way at work, and what it remembers of the day before.
#[derive(Debug)]
pub enum Keeper {
    /// See [`Way::Fixed`]: the repository remembers.
    Fixed(usize),
    /// See [`Way::Split`].
    Split(Split),
    /// See [`Way::Content`]: the repository remembers.
    Content,
    /// See [`Way::Log`].
    Log(Log),
}

impl Keeper {
    /// Begins anew.
    pub fn new(way: Way) -> Self {
        match way {
            Way::Fixed { chunk_bytes } => Self::Fixed(chunk_bytes),
            Way::Split { chunk_bytes } => Self::Split(Split {
                chunk_bytes,
                extents: Vec::new(),
            }),
            Way::Content => Self::Content,
            Way::Log { chunk_bytes } => Self::Log(Log {
                chunk_bytes,
                base: None,
                frames: None,
                hashes: Vec::new(),
            }),
        }
    }

    /// Stores the database as it is now.
    pub fn store(&mut self, repository: &Repository, database: &Path) -> Result<Snapshot> {
        match self {
            Self::Fixed(chunk_bytes) => library::back_up(repository, database, *chunk_bytes),
            Self::Split(split) => library::store(repository, |writer| {
                Ok(vec![(NAME, split.read(database, writer)?)])
            }),
            Self::Content => {
                let polynomial = repository
                    .config()?
                    .polynomial()
                    .map_err(anyhow::Error::msg)?;
                library::store(repository, |writer| {
                    Ok(vec![(
                        NAME,
                        read_content(database, Rabin::new(polynomial), writer)?,
                    )])
                })
            }
            Self::Log(log) => library::store(repository, |writer| log.read(database, writer)),
        }
    }
}

fn read_content(database: &Path, rabin: Rabin, writer: &Writer) -> Result<StoredFile> {
    let reader = File::open(database)?;
    let length = reader.metadata()?.len();
    let mut chunks = ContentChunks::new(reader, rabin, length);
    let mut file = PendingFile::default();
    while let Some(chunk) = chunks.next_chunk()? {
        file.store(writer, chunk)?;
    }
    Ok(file.wait(writer)?)
}

/// Remembers each extent.
#[derive(Debug)]
pub struct Split {
    chunk_bytes: usize,
    extents: Vec<Extent>,
}

#[derive(Debug, PartialEq, Eq)]
enum Extent {
    Whole(Id),
    Pages,
}

impl Split {
    fn read(&mut self, database: &Path, writer: &Writer) -> Result<StoredFile> {
        let options = library::sqlite_options(self.chunk_bytes, database);
        let mut file = PendingFile::default();
        let mut number = 0;
        sqlite::capture(database, &options, &mut |chunk: Vec<u8>| {
            let whole = Extent::Whole(Id::of(&chunk));
            match self.extents.get_mut(number) {
                None => self.extents.push(whole),
                Some(extent) if *extent != whole => *extent = Extent::Pages,
                Some(_) => {}
            }
            let extent = &self.extents[number];
            number += 1;
            if *extent == Extent::Pages {
                chunk
                    .chunks(PAGE)
                    .try_for_each(|page| file.store(writer, page.to_vec()))
            } else {
                file.store(writer, chunk)
            }
        })?;
        Ok(file.wait(writer)?)
    }
}

/// Remembers the base, the log so far, and a hash of each page.
#[derive(Debug)]
pub struct Log {
    chunk_bytes: usize,
    base: Option<StoredFile>,
    frames: Option<(StoredFile, Chain)>,
    hashes: Vec<[u8; 16]>,
}

impl Log {
    /// The first time the base alone, which is then an ordinary database; later base and log.
    fn read(
        &mut self,
        database: &Path,
        writer: &Writer,
    ) -> Result<Vec<(&'static str, StoredFile)>> {
        match self.base.clone() {
            None => {
                let base = self.read_base(database, writer)?;
                self.base = Some(base.clone());
                Ok(vec![(NAME, base)])
            }
            Some(mut base) => {
                let (log, refusing) = self.read_changes(database, writer)?;
                base.blobs[0] = refusing;
                Ok(vec![(NAME, base), (WAL_NAME, log)])
            }
        }
    }

    /// Page 1 is a blob of its own: it is all that differs in a base that refuses to open.
    fn read_base(&mut self, database: &Path, writer: &Writer) -> Result<StoredFile> {
        let options = library::sqlite_options(self.chunk_bytes, database);
        let mut file = PendingFile::default();
        sqlite::capture(database, &options, &mut |mut chunk: Vec<u8>| {
            self.hashes.extend(chunk.chunks(PAGE).map(hash));
            if file.is_empty() {
                let rest = chunk.split_off(PAGE);
                file.store(writer, chunk)?;
                chunk = rest;
            }
            file.store(writer, chunk)
        })?;
        Ok(file.wait(writer)?)
    }

    /// Appends the pages that differ from those of the day before. Returns the log, and page 1 of a
    /// base that refuses to open.
    fn read_changes(&mut self, database: &Path, writer: &Writer) -> Result<(StoredFile, Id)> {
        let blob_bytes = (self.chunk_bytes - HEADER) / FRAME * FRAME;
        let mut blob = Vec::with_capacity(self.chunk_bytes);
        let (mut frames, mut chain) = match self.frames.take() {
            Some(frames) => frames,
            None => (
                StoredFile {
                    blobs: Vec::new(),
                    size: 0,
                },
                wal::begin(&mut blob),
            ),
        };
        let (mut number, mut first_page) = (0_u32, Vec::new());
        let mut new = PendingFile::default();
        let options = library::sqlite_options(self.chunk_bytes, database);
        sqlite::capture(database, &options, &mut |chunk: Vec<u8>| {
            for page in chunk.chunks(PAGE) {
                number += 1;
                if number == 1 {
                    first_page = page.to_vec();
                } else if self.is_new(number, page) {
                    chain = chain.frame(number, 0, page, &mut blob);
                    if blob.len() >= blob_bytes {
                        new.store(writer, std::mem::take(&mut blob))?;
                    }
                }
            }
            Ok(())
        })?;
        if !blob.is_empty() {
            new.store(writer, blob)?;
        }
        self.hashes.truncate(number as usize);
        let new = new.wait(writer)?;
        frames.blobs.extend(new.blobs);
        frames.size += new.size;
        let mut end = PendingFile::default();
        let mut commit = Vec::with_capacity(FRAME);
        let _ = chain.frame(1, number, &first_page, &mut commit);
        end.store(writer, commit)?;
        end.store(writer, refusing(&first_page))?;
        let end = end.wait(writer)?;
        let mut log = frames.clone();
        log.blobs.push(end.blobs[0]);
        log.size += FRAME as u64;
        self.frames = Some((frames, chain));
        Ok((log, end.blobs[1]))
    }

    /// Whether the page differs from that of the day before, which it then replaces.
    fn is_new(&mut self, number: u32, page: &[u8]) -> bool {
        let new = hash(page);
        if let Some(old) = self.hashes.get_mut(number as usize - 1) {
            return std::mem::replace(old, new) != new;
        }
        self.hashes.push(new);
        true
    }
}

/// 16 bytes of a page's SHA-256.
fn hash(page: &[u8]) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&Id::of(page).as_bytes()[..16]);
    short
}
