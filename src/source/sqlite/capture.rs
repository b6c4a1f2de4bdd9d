//! Reading a live database as an exact, consistent image of its pages.
//!
//! In WAL mode the pages are read from the `sqlite_dbpage` table inside one read transaction, straight
//! into the pipeline: nobody's ordinary commit waits for us. In rollback mode a reader keeps writers
//! out, so it goes through a spool ([`super::spool`]). A build without `sqlite_dbpage` copies through the
//! online backup call into the spool instead, and says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::detect::beside;
use super::fingerprint::Fingerprint;
use super::header::Header;
use super::open::Opened;
use super::prove::{bound, quick_check};
use super::replaced::{AtRest, Identity};
use super::spool::{Limits, capture_spooled};
use crate::chunker::PageChunks;
use crate::clock::Clock;
use crate::durable::Disk;
use crate::error::{Error, Result};
use crate::monitor::{Monitor, go_on};
use crate::point::ConsistencyPoint;
use crate::rng::Rng;

/// How long we wait for a lock that the application holds.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How to capture.
#[derive(Debug, Clone)]
pub struct Options {
    /// How images are cut.
    pub chunks: PageChunks,
    /// Folder for spools.
    pub scratch: PathBuf,
    /// Whether to use the page table where this build of `SQLite` has it. Off only in tests.
    pub page_table: bool,
    /// The disk that spools are written to.
    pub disk: Arc<dyn Disk>,
    /// Names of spools.
    pub rng: Arc<dyn Rng>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How long writers of a database in rollback mode may wait for us.
    pub limits: Limits,
    /// Whether a path lies where locks are not to be believed: [`super::is_on_a_network`].
    pub on_a_network: fn(&Path) -> bool,
    /// Who may ask us to stop while the engine checks.
    pub watch: Option<Arc<dyn Monitor>>,
}

/// How a database was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Its pages, straight from a read transaction.
    Pages,
    /// Its pages into a spool, to keep the lock short.
    SpooledPages,
    /// `SQLite`'s online backup call into a spool.
    OnlineBackup,
    /// One that a later version wrote into a manifest.
    #[serde(other)]
    Unknown,
}

/// What a capture has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// What the database held.
    pub fingerprint: Fingerprint,
    /// Which moment the image is of.
    pub point: ConsistencyPoint,
    /// How it was read.
    pub method: Method,
    /// Its journal mode: `wal`, `delete` …
    pub journal_mode: String,
    /// Bytes of the image.
    pub size_bytes: u64,
    /// How long our read transaction lasted.
    pub held: Duration,
    /// What its header says.
    pub header: Option<Header>,
    /// What the engine finds wrong in it: it was so before we came.
    pub unsound: Option<String>,
    /// What its owner should know.
    pub warnings: Vec<String>,
}

/// The version of the built-in `SQLite`.
#[must_use]
pub fn engine_version() -> &'static str {
    rusqlite::version()
}

/// Whether this build can read pages straight from a transaction.
#[must_use]
pub fn has_page_table() -> bool {
    Connection::open_in_memory().is_ok_and(|connection| {
        connection
            .prepare("SELECT 1 FROM sqlite_dbpage LIMIT 0")
            .is_ok()
    })
}

/// Captures the database at `path`; its image goes to `sink` in chunks.
///
/// # Errors
/// [`Error::Source`] if the engine refuses, the image is not whole, or another file took its place
/// meanwhile, and whatever `sink` returns.
pub fn capture(
    path: &Path,
    options: &Options,
    sink: &mut dyn FnMut(Vec<u8>) -> Result<()>,
) -> Result<Captured> {
    refuse_harm(path)?;
    let system = |cause: std::io::Error| unreachable_source(path, &cause);
    // Both looks are before the first connection and after the last.
    let identity = Identity::of(path).map_err(system)?;
    let is_remote = (options.on_a_network)(path);
    let at_rest = if is_remote { at_rest(path)? } else { None };
    let captured = connect_and_capture(path, options, sink).map_err(|cause| {
        let watch = options.watch.as_deref();
        // Stopped in the middle of a query, the engine only says that it was.
        watch.and_then(|watch| go_on(watch).err()).unwrap_or(cause)
    })?;
    if Identity::of(path).ok() != Some(identity) {
        return Err(unreachable_source(
            path,
            &"another file took its place while it was read",
        ));
    }
    if is_remote && AtRest::of(path).ok().flatten() != at_rest {
        return Err(at_work_on_a_network(path));
    }
    Ok(captured)
}

/// What lies on a network is captured only while nobody uses it: locks may be fiction there.
fn at_rest(path: &Path) -> Result<Option<AtRest>> {
    let found = AtRest::of(path).map_err(|cause| unreachable_source(path, &cause))?;
    match found {
        Some(_) => Ok(found),
        None => Err(at_work_on_a_network(path)),
    }
}

fn at_work_on_a_network(path: &Path) -> Error {
    unreachable_source(
        path,
        &"it is in use on a network file system, where locks cannot be relied on; back it up on the machine that holds it, or while its application is stopped",
    )
}

fn connect_and_capture(
    path: &Path,
    options: &Options,
    sink: &mut dyn FnMut(Vec<u8>) -> Result<()>,
) -> Result<Captured> {
    let engine = |cause: rusqlite::Error| refused(path, &cause);
    let mut opened = Opened::open(path).map_err(engine)?;
    bound(&mut opened.connection, options.watch.as_ref()).map_err(engine)?;
    let at_rest = opened.at_rest;
    let journal_mode: String = opened
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .map_err(engine)?;
    let page_table = options.page_table && has_page_table();
    let mut header = None;
    let mut is_first = true;
    let sink: &mut dyn FnMut(Vec<u8>) -> Result<()> = &mut |chunk| {
        if std::mem::take(&mut is_first) {
            header = Header::parse(&chunk);
        }
        sink(chunk)
    };
    let mut captured = if page_table && journal_mode == "wal" {
        let captured = capture_pages(path, &opened, options, sink)?;
        drop(opened);
        captured
    } else {
        capture_spooled(path, opened, options, page_table, sink)?
    };
    if at_rest.is_some() && AtRest::of(path).ok().flatten() != at_rest {
        return Err(unreachable_source(
            path,
            &"its application began to work while it was read from a folder in which nothing can be created, and so nothing locked; back it up as a user who may write there",
        ));
    }
    captured.header = header;
    if !page_table {
        captured.warnings.push("this build has no page table; the database was copied through SQLite's backup call, which needs room for a second copy".into());
    } else if captured.method == Method::SpooledPages && captured.held > options.limits.lock {
        captured.warnings.push(format!(
            "writers had to wait {:.1} s while it was read, because they left no time to copy it in steps; in WAL mode they would not",
            captured.held.as_secs_f64()
        ));
    }
    captured.journal_mode = journal_mode;
    Ok(captured)
}

/// The engine's refusal in words that say what to do.
fn refused(path: &Path, cause: &rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    let finding = match cause.sqlite_error_code() {
        // Only a writer may roll back what a crash left.
        Some(ErrorCode::ReadOnly) if beside(path, "-journal").exists() => {
            "its application crashed and left a -journal; start the application once, which rolls it back, then back up again".to_owned()
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => format!(
            "its application kept it locked for {} s (a long transaction, or locking_mode = EXCLUSIVE, which lets nobody read); end that, or have the application make a copy with VACUUM INTO",
            BUSY_TIMEOUT.as_secs()
        ),
        Some(ErrorCode::NotADatabase) => {
            "it has the log of a database beside it, but no database's header: it is encrypted or damaged, and only its application can read it; have that make a copy into a folder that is backed up".to_owned()
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) if beside(path, "-wal").exists() => {
            "part of it is in its -wal, and reading that needs a -shm file that cannot be created here; copy the folder to where it can be written, and back that up".to_owned()
        }
        _ => cause.to_string(),
    };
    unreachable_source(path, &finding)
}

/// Refuses what would do harm to a database that is not ours.
fn refuse_harm(path: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).map_err(|cause| unreachable_source(path, &cause))?;
    let beside = |suffix: &str| std::fs::metadata(beside(path, suffix)).ok();
    // SQLite takes the log of an empty file for a leftover and deletes it, even when it only reads.
    if metadata.len() == 0 && beside("-wal").is_some_and(|log| log.len() > 0) {
        return Err(unreachable_source(
            path,
            &"it is empty, but its -wal is not: SQLite would delete that log on opening; copy both away, then see what the log holds",
        ));
    }
    // Two logs that take turns are of a branch of SQLite that ours cannot read: it would pass over both.
    if beside("-wal2").is_some() {
        return Err(unreachable_source(
            path,
            &"it has a -wal2 beside it, of a branch of SQLite that this one cannot read; have its application make a copy with VACUUM INTO",
        ));
    }
    // A WAL database without -shm, opened by somebody who is neither its owner nor root, gets a -shm
    // of that somebody.
    let user = rustix::process::geteuid();
    if user.is_root() || user.as_raw() == metadata.uid() || beside("-shm").is_some() {
        return Ok(());
    }
    Err(unreachable_source(
        path,
        &format!(
            "it belongs to user {}, and opening it as user {} could leave a -shm file that its application cannot write; run as its owner or as root",
            metadata.uid(),
            user.as_raw()
        ),
    ))
}

pub(super) fn unreachable_source(path: &Path, cause: &dyn std::fmt::Display) -> Error {
    Error::Source {
        name: crate::units::shown(path),
        finding: cause.to_string(),
    }
}

/// A read transaction on a connection, ended on drop: its life is the lock's.
pub(super) struct View<'a> {
    connection: &'a Connection,
    pub(super) point: ConsistencyPoint,
    pub(super) begun: Instant,
}

impl<'a> View<'a> {
    pub(super) fn begin(connection: &'a Connection, clock: &dyn Clock) -> rusqlite::Result<Self> {
        let not_before = clock.now();
        connection.execute_batch("BEGIN")?;
        // BEGIN alone holds nothing; the first read takes the snapshot.
        let read = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| {
            row.get::<_, i64>(0)
        });
        if let Err(cause) = read {
            let _ = connection.execute_batch("ROLLBACK");
            return Err(cause);
        }
        Ok(Self {
            connection,
            point: ConsistencyPoint {
                not_before,
                not_after: clock.now(),
            },
            // Before, the application held the lock, not we.
            begun: Instant::now(),
        })
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        let _ = self.connection.execute_batch("ROLLBACK");
    }
}

fn capture_pages(
    path: &Path,
    connection: &Connection,
    options: &Options,
    sink: &mut dyn FnMut(Vec<u8>) -> Result<()>,
) -> Result<Captured> {
    let engine = |cause: rusqlite::Error| unreachable_source(path, &cause);
    let view = View::begin(connection, options.clock.as_ref()).map_err(engine)?;
    let fingerprint = Fingerprint::take(connection).map_err(engine)?;
    let size_bytes = read_pages(path, connection, chunk_bytes(options, &fingerprint), sink)?;
    require_whole(path, &fingerprint, size_bytes)?;
    // Of the very pages that were read, which are still in memory. Nobody's ordinary commit waits.
    let unsound = quick_check(connection);
    Ok(Captured {
        fingerprint,
        point: view.point,
        method: Method::Pages,
        journal_mode: String::new(),
        size_bytes,
        held: view.begun.elapsed(),
        header: None,
        unsound,
        warnings: Vec::new(),
    })
}

pub(super) fn chunk_bytes(options: &Options, fingerprint: &Fingerprint) -> usize {
    let page_bytes = fingerprint.page_size_bytes;
    options.chunks.bytes(fingerprint.image_bytes(), page_bytes)
}

/// Streams the pages of the open transaction in order; returns their bytes.
pub(super) fn read_pages(
    path: &Path,
    connection: &Connection,
    chunk_bytes: usize,
    sink: &mut dyn FnMut(Vec<u8>) -> Result<()>,
) -> Result<u64> {
    let engine = |cause: rusqlite::Error| unreachable_source(path, &cause);
    let mut statement = connection
        .prepare("SELECT data FROM sqlite_dbpage")
        .map_err(engine)?;
    let mut rows = statement.query([]).map_err(engine)?;
    let mut chunk = Vec::with_capacity(chunk_bytes);
    let mut bytes = 0;
    while let Some(row) = rows.next().map_err(engine)? {
        let page = row
            .get_ref(0)
            .and_then(|value| Ok(value.as_blob()?))
            .map_err(engine)?;
        chunk.extend_from_slice(page);
        bytes += page.len() as u64;
        if chunk.len() >= chunk_bytes {
            sink(std::mem::replace(
                &mut chunk,
                Vec::with_capacity(chunk_bytes),
            ))?;
        }
    }
    if !chunk.is_empty() {
        sink(chunk)?;
    }
    Ok(bytes)
}

/// The end mark of an image: as many bytes as the engine counts pages.
pub(super) fn require_whole(path: &Path, fingerprint: &Fingerprint, bytes: u64) -> Result<()> {
    let expected = fingerprint.image_bytes();
    if bytes == expected {
        return Ok(());
    }
    Err(unreachable_source(
        path,
        &format!("its image has {bytes} bytes, but the engine counts {expected}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_build_has_the_page_table() {
        // Set in .cargo/config.toml; without it every capture needs room for a second copy.
        assert!(has_page_table());
    }
}
