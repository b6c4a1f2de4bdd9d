//! Reading a database in rollback mode: its writers wait as long as we read, so that must be short.
//!
//! 1. Its pages are read at full speed into a private spool (which the kernel keeps in memory while there is
//!    any), for at most [`Limits::lock`](super::Limits::lock). Most databases are done then.
//! 2. One that takes longer is copied by `SQLite`'s backup call in small steps, between which writers get
//!    their turn. Each foreign write makes it start again, so that has a budget: [`Limits::steps`](super::Limits::steps).
//! 3. On a shop too busy for that it is read in one go all the same: an order that waits is better than a
//!    night without a backup. How long writers waited is told.

use std::cell::Cell;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::captured::{Captured, Method};
use super::fingerprint::Fingerprint;
use super::open::Opened;
use super::options::{BUSY_TIMEOUT, Options};
use super::pages::{read_pages, require_whole};
use super::prove::{bound, open_immutable, quick_check};
use super::refusal::{refused, source_error};
use super::view::View;
use crate::durable::File;
use crate::durable::scratch::Scratch;
use crate::error::{Error, Result};
use crate::point::ConsistencyPoint;
use crate::source::files::FileReader;

/// One reading into the spool.
struct Spooled {
    point: ConsistencyPoint,
    /// Longest time that a writer had to wait.
    held: Duration,
    method: Method,
}

/// Captures through a spool; from there on nobody waits for us.
///
/// # Errors
/// [`Error::Source`], [`Error::File`] for the spool, and whatever `sink` returns.
pub fn capture_spooled(
    path: &Path,
    opened: Opened,
    options: &Options,
    page_table: bool,
    sink: &mut dyn FnMut(Vec<u8>) -> Result<()>,
) -> Result<Captured> {
    let engine = |cause: rusqlite::Error| refused(path, &cause);
    let scratch = options.spool_folder()?;
    let spool = Spool {
        path,
        connection: &opened,
        options,
        scratch: &scratch,
    };
    let (spooled, image) = if page_table {
        spool.politely()?
    } else {
        let image = scratch.path().join("copy");
        (spool.at_once_by_backup(&image).map_err(engine)?, image)
    };
    drop(opened);
    // The spool is ours alone and whole, so nothing needs to be locked or recovered.
    let mut copy = open_immutable(&image).map_err(engine)?;
    bound(&mut copy, options.watch.as_ref()).map_err(engine)?;
    let fingerprint = Fingerprint::take(&copy).map_err(engine)?;
    let unsound = quick_check(&copy);
    drop(copy);
    let page_bytes = fingerprint.page_size_bytes;
    let chunk_bytes = options.chunks.bytes(fingerprint.image_bytes(), page_bytes);
    let size_bytes = read_file(&image, chunk_bytes, sink)?;
    require_whole(path, &fingerprint, size_bytes)?;
    Ok(Captured {
        fingerprint,
        point: spooled.point,
        method: spooled.method,
        journal_mode: String::new(),
        size_bytes,
        held: spooled.held,
        header: None,
        unsound,
        standing: None,
        warnings: Vec::new(),
    })
}

struct Spool<'a> {
    path: &'a Path,
    connection: &'a Connection,
    options: &'a Options,
    scratch: &'a Scratch,
}

impl Spool<'_> {
    /// The three tries; returns where the image is.
    fn politely(&self) -> Result<(Spooled, PathBuf)> {
        /// Pages in a step: some milliseconds.
        const PAGES: i32 = 4096;
        let limits = self.options.limits;
        if let Some(done) = self.pages("image", Some(limits.lock))? {
            return Ok((done, self.scratch.path().join("image")));
        }
        let copy = self.scratch.path().join("copy");
        let stepped = self.by_backup(&copy, PAGES, limits.steps);
        if let Some(done) = stepped.map_err(|cause| refused(self.path, &cause))? {
            return Ok((done, copy));
        }
        self.discard("copy");
        match self.pages("whole", None)? {
            Some(done) => Ok((done, self.scratch.path().join("whole"))),
            None => unreachable!("only a limit ends it early"),
        }
    }

    /// Makes room. What cannot be removed goes with the scratch folder.
    fn discard(&self, name: &str) {
        let _ = self.scratch.folder().remove_file(Path::new(name));
    }

    /// Reads the pages as fast as the disk takes them; `None` if that takes longer than `limit`.
    fn pages(&self, name: &str, limit: Option<Duration>) -> Result<Option<Spooled>> {
        /// Bytes written at a time.
        const STEP: usize = 1024 * 1024;
        let place = self.scratch.path().join(name);
        let file: Box<dyn File> = self
            .scratch
            .folder()
            .create_file(Path::new(name), 0o600)
            .map_err(Error::file("creating", &place))?;
        let engine = |cause: rusqlite::Error| refused(self.path, &cause);
        let view = View::begin(self.connection, self.options.clock.as_ref()).map_err(engine)?;
        let is_late = Cell::new(false);
        let mut offset = 0;
        let read = read_pages(self.path, self.connection, STEP, &mut |bytes| {
            if limit.is_some_and(|limit| view.begun.elapsed() > limit) {
                is_late.set(true);
                return Err(source_error(
                    self.path,
                    &"its writers have waited long enough",
                ));
            }
            file.write_all_at(&bytes, offset)
                .map_err(Error::file("spooling to", &place))?;
            offset += bytes.len() as u64;
            Ok(())
        });
        match read {
            Err(_) if is_late.get() => {
                self.discard(name);
                Ok(None)
            }
            Err(cause) => Err(cause),
            Ok(_) => Ok(Some(Spooled {
                point: view.point,
                held: view.begun.elapsed(),
                method: Method::SpooledPages,
            })),
        }
    }

    /// Copies by `SQLite`'s backup call, so many pages a step (-1: all of them), with pauses for writers; `None`
    /// if it is not done within `budget`: a lock was in the way, or each foreign write made it start again.
    fn by_backup(
        &self,
        to: &Path,
        pages: i32,
        budget: Duration,
    ) -> rusqlite::Result<Option<Spooled>> {
        /// A writer that waits looks again within this time.
        const PAUSE: Duration = Duration::from_millis(10);
        let mut target = Connection::open(to)?;
        target.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF;")?;
        let backup = Backup::new(self.connection, &mut target)?;
        let begun = Instant::now();
        let mut held = Duration::ZERO;
        loop {
            let not_before = self.options.clock.now();
            let step = Instant::now();
            let result = backup.step(pages)?;
            held = held.max(step.elapsed());
            if result == StepResult::Done {
                let not_after = self.options.clock.now();
                return Ok(Some(Spooled {
                    // No foreign write came between the steps, else it would have started again.
                    point: ConsistencyPoint {
                        not_before,
                        not_after,
                    },
                    held,
                    method: Method::OnlineBackup,
                }));
            }
            if begun.elapsed() > budget {
                return Ok(None);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Copies in one step, for a build without the page table: nobody waits for less than that.
    fn at_once_by_backup(&self, to: &Path) -> rusqlite::Result<Spooled> {
        /// All of them.
        const PAGES: i32 = -1;
        let copied = self.by_backup(to, PAGES, BUSY_TIMEOUT)?;
        copied.ok_or_else(|| {
            rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                Some("its application kept it locked".to_owned()),
            )
        })
    }
}

fn read_file(
    path: &Path,
    chunk_bytes: usize,
    sink: &mut dyn FnMut(Vec<u8>) -> Result<()>,
) -> Result<u64> {
    let reader = FileReader::open(path).map_err(Error::file("opening", path))?;
    let mut total = 0;
    loop {
        let mut chunk = Vec::with_capacity(chunk_bytes);
        (&reader)
            .take(chunk_bytes as u64)
            .read_to_end(&mut chunk)
            .map_err(Error::file("reading", path))?;
        if chunk.is_empty() {
            return Ok(total);
        }
        total += chunk.len() as u64;
        sink(chunk)?;
    }
}
