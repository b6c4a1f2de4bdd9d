//! Reading a live database as an exact, consistent image of its pages.
//!
//! In WAL mode the pages are read from the `sqlite_dbpage` table inside one read transaction, straight
//! into the pipeline: nobody's ordinary commit waits for us. In rollback mode a reader keeps writers
//! out, so it goes through a spool ([`super::spool`]). A build without `sqlite_dbpage` copies through the
//! online backup call into the spool instead, and says so.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::captured::{Captured, Method};
use super::detect::beside;
use super::harm::refuse_harm;
use super::header::Header;
use super::open::Opened;
use super::options::{Options, has_page_table};
use super::pages::{Source, capture_pages};
use super::prove::bound;
use super::refusal::{refused, source_error};
use super::relay::Rest;
use super::replaced::{AtRest, identity};
use super::second::Second;
use super::sink::Sink;
use super::spool::capture_spooled;
use super::standing::Standing;
use super::view::Begun;
use crate::clock::Clock;
use crate::durable::Identity;
use crate::durable::claim::LockWatch;
use crate::error::{Error, Result};
use crate::monitor::go_on;
use crate::point::ConsistencyPoint;

/// Captures the database at `path`; its image goes to `sink` in chunks.
///
/// # Errors
/// As [`Prepared::open`] and [`Prepared::capture`].
pub fn capture(path: &Path, options: &Options, sink: &mut dyn Sink) -> Result<Captured> {
    Prepared::open(path, options)?.capture(options, sink)
}

/// A database that is open and waits to be read.
#[derive(Debug)]
pub struct Prepared {
    pub(super) path: PathBuf,
    /// Which file it was before the first connection.
    identity: Identity,
    /// How it stood, if it lies on a network.
    remote: Option<AtRest>,
    /// How it stood, if it has further names: who comes by another one does not see our locks.
    linked: Option<AtRest>,
    /// A connection whose transaction is of the same moment. Dropped before the first, which tidies up.
    second: Option<Second>,
    pub(super) opened: Opened,
    pub(super) journal_mode: String,
    /// Its read transaction, if that has begun already.
    begun: Option<Begun>,
    /// How it stands in that transaction, if that can be told.
    standing: Option<Standing>,
}

impl Prepared {
    /// Opens the database at `path`. Only while no connection to it is open.
    ///
    /// # Errors
    /// [`Error::Source`] if it must not be opened, or the engine refuses.
    pub fn open(path: &Path, options: &Options) -> Result<Self> {
        refuse_harm(path)?;
        let system = |cause: std::io::Error| source_error(path, &cause);
        // These looks are before the first connection; others follow after the last.
        let identity = identity(path).map_err(system)?;
        let is_remote = (options.on_a_network)(path);
        let remote = if is_remote { at_rest(path)? } else { None };
        let linked = if has_links(path) {
            AtRest::of(path).map_err(system)?
        } else {
            None
        };
        let engine = |cause: rusqlite::Error| refused(path, &cause);
        let mut opened = Opened::open(path, &options.disk).map_err(engine)?;
        bound(&mut opened.connection, options.watch.as_ref()).map_err(engine)?;
        let journal_mode = opened
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .map_err(engine)?;
        Ok(Self {
            path: path.to_owned(),
            identity,
            remote,
            linked,
            opened,
            journal_mode,
            begun: None,
            standing: None,
            second: None,
        })
    }

    /// Whether others can have a moment in common with it: it is in WAL mode, and locks tell who uses it.
    pub(super) fn can_share(&self) -> bool {
        self.journal_mode == "wal" && self.opened.at_rest.is_none() && self.remote.is_none()
    }

    /// Holds its shared memory open, as long as the connection: closing it would drop that one's locks.
    pub(super) fn watch(&mut self) {
        if self.opened.shared.is_none() {
            self.opened.shared = LockWatch::open(&beside(&self.path, "-shm")).ok();
        }
    }

    /// Begins its read transaction.
    pub(super) fn begin(&mut self, clock: &dyn Clock) -> rusqlite::Result<()> {
        let before = self.look();
        self.begun = Some(Begun::new(&self.opened, clock)?);
        // Whoever committed in between is in the transaction, or is not.
        self.standing = before.filter(|before| self.look().as_ref() == Some(before));
        Ok(())
    }

    /// Begins another transaction of the same moment, if nobody commits meanwhile.
    fn begin_second(&mut self, options: &Options) {
        if let Some(standing) = &self.standing {
            let second = Second::begin(&self.path, options).ok();
            self.second = second.filter(|_| self.look().as_ref() == Some(standing));
        }
    }

    /// How it stands now, where nobody comes unseen.
    fn look(&self) -> Option<Standing> {
        let is_seen =
            self.remote.is_none() && self.linked.is_none() && self.opened.at_rest.is_none();
        let shared = self.opened.shared.as_ref();
        let can_tell = is_seen && (self.journal_mode == "wal") == shared.is_some();
        can_tell.then(|| Standing::look(&self.path, shared))?
    }

    /// Begins to read it, and looks how it stands; none if that cannot be told. In rollback mode, where a reader keeps
    /// writers out, nothing is begun: there it is how it stood when this was asked.
    ///
    /// # Errors
    /// [`Error::Source`] if the engine refuses.
    pub fn standing(&mut self, options: &Options) -> Result<Option<Standing>> {
        if self.begun.is_some() {
            return Ok(self.standing);
        }
        if self.journal_mode != "wal" {
            self.standing = self.look();
        } else if options.page_table && has_page_table() {
            self.watch();
            self.begin(options.clock.as_ref())
                .map_err(|cause| refused(&self.path, &cause))?;
            self.begin_second(options);
        }
        Ok(self.standing)
    }

    /// What its header says in that moment, as the engine reads it; none if it cannot.
    #[must_use]
    pub fn header(&self) -> Option<Header> {
        let first = "SELECT data FROM sqlite_dbpage WHERE pgno = 1";
        let header = self.opened.query_row(first, [], |row| {
            let page = row.get_ref(0)?.as_blob()?;
            Ok(Header::parse(page))
        });
        header.ok().flatten()
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The moment that its read transaction holds; none if that has not begun.
    #[must_use]
    pub fn point(&self) -> Option<ConsistencyPoint> {
        self.begun.as_ref().map(|begun| begun.point)
    }

    /// Ends a read transaction that is of no use.
    pub(super) fn end(&mut self) {
        if self.begun.take().is_some() {
            let _ = self.opened.execute_batch("ROLLBACK");
        }
    }

    /// The moment of its read transaction is that of others, too.
    pub(super) fn share(&mut self, point: ConsistencyPoint) {
        if let Some(begun) = &mut self.begun {
            begun.point = point;
        }
    }

    /// Reads it; its image goes to `sink` in chunks.
    ///
    /// # Errors
    /// As [`Prepared::read`].
    pub fn capture(self, options: &Options, sink: &mut dyn Sink) -> Result<Captured> {
        let (captured, rest) = self.read(options, sink)?;
        match rest {
            Some(rest) => rest.drain(sink).map(|()| captured),
            None => Ok(captured),
        }
    }

    /// Reads it; its image goes to `sink` in chunks, but for what is returned as the rest: whoever waits for
    /// the end of this read need not wait for that.
    ///
    /// # Errors
    /// [`Error::Source`] if the engine refuses, the image is not whole, or another file took its place
    /// meanwhile, and whatever `sink` returns.
    pub fn read(self, options: &Options, sink: &mut dyn Sink) -> Result<(Captured, Option<Rest>)> {
        let Self {
            path,
            identity,
            remote,
            linked,
            mut opened,
            journal_mode,
            begun,
            mut standing,
            second,
        } = self;
        let at_rest = opened.at_rest;
        let page_table = options.page_table && has_page_table();
        let mut header = None;
        let mut is_first = true;
        let captured = if page_table && journal_mode == "wal" {
            if standing.is_some() {
                opened.main = LockWatch::open_to_read(&path).ok();
            }
            // Another file than SQLite has stays open all the same: closing it may drop our locks.
            let main = opened.main.as_ref();
            let main = main.filter(|main| main.identity().is_ok_and(|found| found == identity));
            let source = Source {
                path: &path,
                connection: &opened,
                direct: main.zip(standing.as_ref().map(|standing| standing.log.as_ref())),
            };
            let captured = capture_pages(&source, begun, second, options, sink);
            drop(opened);
            captured
        } else {
            let mut sink = |chunk: Vec<u8>| {
                if std::mem::take(&mut is_first) {
                    header = Header::parse(&chunk);
                }
                sink.take(chunk)
            };
            capture_spooled(&path, opened, options, page_table, &mut sink)
                .map(|captured| (captured, None))
        };
        let (mut captured, rest) = captured.map_err(|cause| {
            let watch = options.watch.as_deref();
            // Stopped in the middle of a query, the engine only says that it was.
            watch.and_then(|watch| go_on(watch).err()).unwrap_or(cause)
        })?;
        if self::identity(&path).ok() != Some(identity) {
            return Err(source_error(
                &path,
                &"another file took its place while it was read",
            ));
        }
        if remote.is_some() && AtRest::of(&path).ok().flatten() != remote {
            return Err(at_work_on_a_network(&path));
        }
        if linked.is_some() && AtRest::of(&path).ok().flatten() != linked {
            return Err(source_error(
                &path,
                &"it has several names (hard links), and somebody began to work with it while it was read, who may not have seen our locks; the next backup has it, or remove the other names",
            ));
        }
        if at_rest.is_some() && AtRest::of(&path).ok().flatten() != at_rest {
            return Err(source_error(
                &path,
                &"its application began to work while it was read from a folder in which nothing can be created, and so nothing locked; back it up as a user who may write there",
            ));
        }
        if journal_mode != "wal" && Standing::look(&path, None) != standing {
            standing = None;
        }
        captured.standing = standing;
        captured.header = captured.header.or(header);
        if !page_table {
            captured.warnings.push("this build has no page table; the database was copied through SQLite's backup call, which needs room for a second copy".into());
        } else if captured.method == Method::SpooledPages && captured.held > options.limits.lock {
            captured.warnings.push(format!(
                "writers had to wait {:.1} s while it was read, because they left no time to copy it in steps; in WAL mode they would not",
                captured.held.as_secs_f64()
            ));
        }
        captured.journal_mode = journal_mode;
        Ok((captured, rest))
    }
}

fn has_links(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.nlink() > 1)
}

/// What lies on a network is captured only while nobody uses it: locks may be fiction there.
fn at_rest(path: &Path) -> Result<Option<AtRest>> {
    let found = AtRest::of(path).map_err(|cause| source_error(path, &cause))?;
    match found {
        Some(_) => Ok(found),
        None => Err(at_work_on_a_network(path)),
    }
}

fn at_work_on_a_network(path: &Path) -> Error {
    source_error(
        path,
        &"it is in use on a network file system, where locks cannot be relied on; back it up on the machine that holds it, or while its application is stopped",
    )
}
