//! The pages of one database on their way into the repository.

use std::path::{Path, PathBuf};

use super::Increments;
use super::memory::{self, Log, Memory, Recorded, Recorder, mark};
use crate::capture::manifest::{self, image_hash};
use crate::error::{Error, Result};
use crate::id::{Hasher, Id};
use crate::monitor::{Monitor, Problem};
use crate::parallel::InOrder;
use crate::repository::pack::BlobKind;
use crate::repository::tree_writer::{PendingFile, StoredFile};
use crate::repository::writer::Writer;
use crate::rng;
use crate::source::sqlite::Census;
use crate::source::sqlite::wal::{self, Chain};

/// A chunk, and the hash of each of its pages.
type Hashed = (Vec<u8>, Vec<Id>);

/// An image that is being stored: its chunks come in order.
pub struct Pages<'a> {
    with: Increments<'a>,
    path: PathBuf,
    monitor: &'a dyn Monitor,
    /// Bytes of a page.
    page_size: usize,
    /// Plain bytes of a blob.
    blob_bytes: usize,
    /// Hashes the pages of chunks, on all cores.
    hashing: Option<InOrder<Vec<u8>, Hashed>>,
    /// None once what was seen cannot be kept.
    recorder: Option<Recorder>,
    /// Pages so far.
    count: u32,
    /// What they say of themselves.
    census: Census,
    way: Way,
}

/// An image that is stored.
pub struct Image {
    /// The image, or the base that its log belongs to.
    pub file: StoredFile,
    /// The log.
    pub log: Option<StoredFile>,
    /// How both are stored.
    pub described: Option<manifest::Log>,
    /// As the manifest has it.
    pub sha256: Id,
    /// What was seen of it.
    pub recorded: Option<Recorded>,
}

/// An image of which all is stored, so far.
#[derive(Default)]
pub struct Whole {
    file: PendingFile,
    lengths: Vec<u64>,
}

impl Whole {
    /// Takes the next chunk.
    ///
    /// # Errors
    /// The error that stopped the writer.
    pub fn store(&mut self, chunk: Vec<u8>, writer: &Writer) -> Result<()> {
        self.lengths.push(chunk.len() as u64);
        self.file.store(writer, chunk)
    }

    /// The image, whose chunks were all handed in.
    ///
    /// # Errors
    /// The error that stopped the writer.
    pub fn finish(self, writer: &Writer) -> Result<Image> {
        let file = self.file.wait(writer)?;
        let blobs = self.lengths.into_iter().zip(file.blobs.iter().copied());
        Ok(Image {
            sha256: image_hash(blobs),
            file,
            log: None,
            described: None,
            recorded: None,
        })
    }
}

/// How it is stored.
enum Way {
    /// All of it.
    Whole(Whole),
    /// What changed.
    Changes(Box<Changes>),
}

struct Changes {
    before: Memory,
    /// Page 1 comes last, as the commit.
    page_one: Vec<u8>,
    /// Frames of the next blob.
    frames: Vec<u8>,
    chain: Chain,
    log: PendingFile,
    /// Bytes of the log before.
    begin: u64,
    image: Hasher,
}

impl<'a> Pages<'a> {
    /// Begins with what the first chunk, which is handed in later, says; none if that is no database's.
    ///
    /// # Errors
    /// The error that stopped the writer.
    pub fn begin(
        with: Increments<'a>,
        recorder: Recorder,
        first: &[u8],
        monitor: &'a dyn Monitor,
    ) -> Result<Option<Self>> {
        let Some(page_size) = wal::page_bytes(first) else {
            return Ok(None);
        };
        let hash = move |chunk: Vec<u8>| {
            let hashes = chunk.chunks(page_size).map(Id::of).collect();
            (chunk, hashes)
        };
        let path = recorder.path().to_owned();
        let way = match with.before(&path, page_size) {
            Some(before) => Changes::begin(&with, before, page_size)?,
            None => None,
        };
        let way = match way {
            Some(changes) => Way::Changes(Box::new(changes)),
            None => Way::Whole(Whole::default()),
        };
        Ok(Some(Self {
            with,
            path,
            monitor,
            page_size,
            blob_bytes: first.len(),
            hashing: Some(InOrder::new(hash)),
            recorder: Some(recorder),
            count: 0,
            census: Census::new(page_size),
            way,
        }))
    }

    /// Whether all of it is stored anew, not only what changed.
    #[must_use]
    pub const fn are_all_stored(&self) -> bool {
        matches!(self.way, Way::Whole(_))
    }

    /// What its pages say of themselves, once all chunks were handed in.
    ///
    /// # Errors
    /// The error that stopped the writer.
    pub fn census(&mut self) -> Result<Census> {
        self.settle()?;
        Ok(std::mem::replace(
            &mut self.census,
            Census::new(self.page_size),
        ))
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// The error that stopped the writer.
    pub fn take(&mut self, chunk: Vec<u8>) -> Result<()> {
        let hashing = self.hashing.as_mut();
        match hashing.and_then(|hashing| hashing.push(chunk)) {
            Some((chunk, hashes)) => self.store(chunk, &hashes),
            None => Ok(()),
        }
    }

    /// All chunks were handed in: what is out is taken back, and the threads end.
    ///
    /// # Errors
    /// The error that stopped the writer.
    pub fn settle(&mut self) -> Result<()> {
        while let Some((chunk, hashes)) = self.hashing.as_mut().and_then(InOrder::pop) {
            self.store(chunk, &hashes)?;
        }
        self.hashing = None;
        Ok(())
    }

    fn store(&mut self, chunk: Vec<u8>, hashes: &[Id]) -> Result<()> {
        let is_first = self.count == 0;
        for (page, hash) in chunk.chunks(self.page_size).zip(hashes) {
            self.count = self
                .count
                .checked_add(1)
                .ok_or_else(|| Error::internal(&"an image of more pages than there are numbers"))?;
            let mark = mark(hash);
            let before = match &mut self.way {
                Way::Changes(changes) => changes.before.marks.take(),
                Way::Whole(_) => None,
            };
            let as_before = before.filter(|(before, _)| *before == mark);
            let look = self.census.see(page, as_before.map(|(_, look)| look));
            if let Some(recorder) = &mut self.recorder
                && let Err(cause) = recorder.push(mark, look)
            {
                self.recorder = None;
                tell_forgotten(&self.path, &cause, self.monitor);
            }
            if let Way::Changes(changes) = &mut self.way {
                changes.image.update(hash.as_bytes());
                if is_first && changes.page_one.is_empty() {
                    page.clone_into(&mut changes.page_one);
                } else if as_before.is_none() {
                    changes.add(&self.with, self.count, page, self.blob_bytes)?;
                }
            }
        }
        if let Way::Whole(whole) = &mut self.way {
            // Page 1 alone: that of an increment's base is another one.
            let mut parts = vec![chunk];
            if is_first && parts[0].len() > self.page_size {
                let rest = parts[0].split_off(self.page_size);
                parts.push(rest);
            }
            for part in parts {
                whole.store(part, self.with.writer)?;
            }
        }
        Ok(())
    }

    /// The image, whose chunks were all handed in.
    ///
    /// # Errors
    /// The error that stopped the writer.
    pub fn finish(mut self) -> Result<Image> {
        self.settle()?;
        let page_bytes = u32::try_from(self.page_size).unwrap_or(u32::MAX);
        let (mut image, begun, log) = match self.way {
            Way::Whole(whole) => (whole.finish(self.with.writer)?, self.with.now, None),
            Way::Changes(changes) => changes.finish(&self.with, self.count, page_bytes)?,
        };
        if let Some(recorder) = self.recorder {
            match recorder.finish(page_bytes, image.file.clone(), begun, log) {
                Ok(recorded) => image.recorded = Some(recorded),
                Err(cause) => tell_forgotten(&self.path, &cause, self.monitor),
            }
        }
        Ok(image)
    }
}

/// What was seen is kept for the next backup only if that can be: this one goes on.
fn tell_forgotten(path: &Path, cause: &Error, monitor: &dyn Monitor) {
    monitor.problem(Problem {
        item: crate::units::shown(path),
        finding: format!(
            "what was seen of its pages cannot be kept ({cause}); the next backup stores it whole, not only what changes"
        ),
        incomplete: false,
    });
}

impl Changes {
    /// Goes on from what was seen; none if the first page of its base cannot be read.
    fn begin(with: &Increments<'_>, mut before: Memory, page_size: usize) -> Result<Option<Self>> {
        let mut frames = Vec::new();
        let (chain, log) = if let Some(log) = before.head.log.take() {
            (log.chain(), log.stored)
        } else {
            let Some(first) = before.head.base.blobs.first_mut() else {
                return Ok(None);
            };
            let page = with
                .repository
                .read_blob(with.index, BlobKind::Data, *first);
            let Some(page) = page.ok().filter(|page| page.len() == page_size) else {
                return Ok(None);
            };
            let stored = with.writer.store(BlobKind::Data, wal::refusing(&page))?;
            *first = stored.wait().ok_or_else(|| with.writer.failure())?;
            let salt = || -> Result<u32> {
                Ok(u32::from_be_bytes(rng::array(
                    with.repository.services().rng.as_ref(),
                )?))
            };
            let page_size = u32::try_from(page_size).unwrap_or(u32::MAX);
            let chain = Chain::begin([salt()?, salt()?], page_size, &mut frames);
            (chain, StoredFile::default())
        };
        Ok(Some(Self {
            before,
            page_one: Vec::new(),
            frames,
            chain,
            begin: log.size,
            log: PendingFile::after(log),
            image: Hasher::default(),
        }))
    }

    fn add(
        &mut self,
        with: &Increments<'_>,
        number: u32,
        page: &[u8],
        blob_bytes: usize,
    ) -> Result<()> {
        self.chain = self.chain.frame(number, 0, page, &mut self.frames);
        if self.frames.len() >= blob_bytes {
            self.log
                .store(with.writer, std::mem::take(&mut self.frames))?;
        }
        Ok(())
    }

    fn finish(
        mut self,
        with: &Increments<'_>,
        pages: u32,
        page_bytes: u32,
    ) -> Result<(Image, jiff::Timestamp, Option<memory::Log>)> {
        if !self.frames.is_empty() {
            self.log.store(with.writer, self.frames)?;
        }
        let prefix = self.log.wait(with.writer)?;
        // The commit, in a blob of its own: the next increment has another one in its place.
        let mut commit = Vec::new();
        let _ = self.chain.frame(1, pages, &self.page_one, &mut commit);
        let mut log = PendingFile::after(prefix.clone());
        log.store(with.writer, commit)?;
        let log = log.wait(with.writer)?;
        let last_bytes = log.size - self.begin;
        let head = self.before.head;
        let image = Image {
            described: Some(manifest::Log {
                page_bytes,
                base_bytes: head.base.size,
                log_bytes: log.size,
            }),
            file: head.base,
            log: Some(log),
            sha256: self.image.finish(),
            recorded: None,
        };
        Ok((
            image,
            head.begun,
            Some(Log::new(prefix, last_bytes, self.chain)),
        ))
    }
}
