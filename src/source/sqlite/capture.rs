//! Reading a live database as an exact, consistent image of its pages.
//!
//! In WAL mode the pages are read from the `sqlite_dbpage` table inside one read transaction, straight
//! into the pipeline: nobody's ordinary commit waits for us. In rollback mode a reader keeps writers
//! out, so the pages are first read into a private spool at the speed of the disk, the lock is
//! released, and the rest is done from the spool. A build without `sqlite_dbpage` copies through the
//! online backup call into the spool instead, and says so.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};

use super::detect::beside;
use super::fingerprint::Fingerprint;
use super::prove::open_immutable;
use crate::chunker::PageChunks;
use crate::clock::Clock;
use crate::durable::scratch::Scratch;
use crate::durable::{Disk, File};
use crate::error::{Error, Result};
use crate::point::ConsistencyPoint;
use crate::rng::Rng;
use crate::source::files::FileReader;

/// How long we wait for a lock that the application holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// A rollback-mode database whose writers waited longer for us is worth a word to its owner.
const LONG_LOCK: Duration = Duration::from_secs(2);

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
/// [`Error::Source`] if the engine refuses or the image is not whole, and whatever `sink` returns.
pub fn capture(
    path: &Path,
    options: &Options,
    sink: &mut dyn FnMut(Vec<u8>) -> Result<()>,
) -> Result<Captured> {
    refuse_harm(path)?;
    let engine = |cause: rusqlite::Error| match cause.sqlite_error_code() {
        // Only a writer may roll back what a crash left.
        Some(rusqlite::ErrorCode::ReadOnly) if beside(path, "-journal").exists() => {
            unreachable_source(
                path,
                &"its application crashed and left a -journal; start the application once, which rolls it back, then back up again",
            )
        }
        _ => unreachable_source(path, &cause),
    };
    let connection = open_shared(path).map_err(engine)?;
    let journal_mode: String = connection
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .map_err(engine)?;
    let page_table = options.page_table && has_page_table();
    let mut captured = if page_table && journal_mode == "wal" {
        capture_pages(path, &connection, options, sink)?
    } else {
        capture_spooled(path, connection, options, page_table, sink)?
    };
    if !page_table {
        captured.warnings.push("this build has no page table; the database was copied through SQLite's backup call, which needs room for a second copy".into());
    } else if captured.method == Method::SpooledPages && captured.held > LONG_LOCK {
        captured.warnings.push(format!(
            "writers had to wait {:.1} s while it was read; in WAL mode they would not",
            captured.held.as_secs_f64()
        ));
    }
    captured.journal_mode = journal_mode;
    Ok(captured)
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

fn unreachable_source(path: &Path, cause: &dyn std::fmt::Display) -> Error {
    Error::Source {
        name: crate::units::shown(path),
        finding: cause.to_string(),
    }
}

/// Opens somebody else's database: for reading only, trusting nothing in it.
fn open_shared(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection
        .execute_batch("PRAGMA query_only = 1; PRAGMA trusted_schema = 0; PRAGMA mmap_size = 0;")?;
    Ok(connection)
}

/// A read transaction on a connection, ended on drop: its life is the lock's.
struct View<'a> {
    connection: &'a Connection,
    point: ConsistencyPoint,
    begun: Instant,
}

impl<'a> View<'a> {
    fn begin(connection: &'a Connection, clock: &dyn Clock) -> rusqlite::Result<Self> {
        let begun = Instant::now();
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
            begun,
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
    Ok(Captured {
        fingerprint,
        point: view.point,
        method: Method::Pages,
        journal_mode: String::new(),
        size_bytes,
        held: view.begun.elapsed(),
        warnings: Vec::new(),
    })
}

fn chunk_bytes(options: &Options, fingerprint: &Fingerprint) -> usize {
    let page_bytes = fingerprint.page_size_bytes;
    options.chunks.bytes(fingerprint.image_bytes(), page_bytes)
}

/// Streams the pages of the open transaction in order; returns their bytes.
fn read_pages(
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
fn require_whole(path: &Path, fingerprint: &Fingerprint, bytes: u64) -> Result<()> {
    let expected = fingerprint.image_bytes();
    if bytes == expected {
        return Ok(());
    }
    Err(unreachable_source(
        path,
        &format!("its image has {bytes} bytes, but the engine counts {expected}"),
    ))
}

fn capture_spooled(
    path: &Path,
    connection: Connection,
    options: &Options,
    page_table: bool,
    sink: &mut dyn FnMut(Vec<u8>) -> Result<()>,
) -> Result<Captured> {
    let engine = |cause: rusqlite::Error| unreachable_source(path, &cause);
    let scratch = Scratch::create(
        options.disk.as_ref(),
        &options.scratch,
        "spool",
        options.rng.as_ref(),
    )?;
    let spool = scratch.path().join("image");
    let (point, held, method) = if page_table {
        let file = scratch
            .folder()
            .create_file(Path::new("image"), 0o600)
            .map_err(Error::file("creating", &spool))?;
        let view = View::begin(&connection, options.clock.as_ref()).map_err(engine)?;
        spool_pages(path, &connection, file.as_ref(), &spool)?;
        (view.point, view.begun.elapsed(), Method::SpooledPages)
    } else {
        let begun = Instant::now();
        let not_before = options.clock.now();
        online_backup(&connection, &spool).map_err(engine)?;
        let not_after = options.clock.now();
        (
            ConsistencyPoint {
                not_before,
                not_after,
            },
            begun.elapsed(),
            Method::OnlineBackup,
        )
    };
    // From here on nobody waits for us.
    drop(connection);
    // The spool is ours alone and whole, so nothing needs to be locked or recovered.
    let copy = open_immutable(&spool).map_err(engine)?;
    let fingerprint = Fingerprint::take(&copy).map_err(engine)?;
    drop(copy);
    let size_bytes = read_file(&spool, chunk_bytes(options, &fingerprint), sink)?;
    require_whole(path, &fingerprint, size_bytes)?;
    Ok(Captured {
        fingerprint,
        point,
        method,
        journal_mode: String::new(),
        size_bytes,
        held,
        warnings: Vec::new(),
    })
}

/// Reads the pages into the spool as fast as the disk takes them.
fn spool_pages(path: &Path, connection: &Connection, file: &dyn File, spool: &Path) -> Result<()> {
    /// Bytes written at a time.
    const STEP: usize = 1024 * 1024;
    let mut offset = 0;
    read_pages(path, connection, STEP, &mut |bytes| {
        file.write_all_at(&bytes, offset)
            .map_err(Error::file("spooling to", spool))?;
        offset += bytes.len() as u64;
        Ok(())
    })?;
    Ok(())
}

/// Copies in one step: smaller steps would start again at each foreign write.
fn online_backup(from: &Connection, to: &Path) -> rusqlite::Result<()> {
    use rusqlite::backup::{Backup, StepResult};
    let mut target = Connection::open(to)?;
    let backup = Backup::new(from, &mut target)?;
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match backup.step(-1)? {
            StepResult::Done => return Ok(()),
            _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            _ => {
                return Err(rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                    Some("its application kept it locked".to_owned()),
                ));
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_build_has_the_page_table() {
        // Set in .cargo/config.toml; without it every capture needs room for a second copy.
        assert!(has_page_table());
    }
}
