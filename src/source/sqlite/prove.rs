//! The engine proves a copy: it opens it, checks it, and counts it again.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

use super::detect::{Signature, beside, signature};
use super::fingerprint::Fingerprint;
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Progress, go_on};

/// Steps of `SQLite`'s virtual machine between two looks at whether we are asked to stop.
const STEPS: i32 = 100_000;

/// Most memory that `SQLite` may take for a proof, in bytes.
const MEMORY: u32 = 256 * 1024 * 1024;

/// What the engine says of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// What it holds.
    pub fingerprint: Fingerprint,
    /// What its foreign keys show, if anything: the application stored it so, or never enforced them.
    pub foreign_keys: Option<String>,
    /// Why the engine's own check could not run, if it could not: what only the application has.
    pub unchecked: Option<String>,
}

/// Opens a copy that nobody else writes, leaving no file beside it.
pub(super) fn open_immutable(path: &Path) -> rusqlite::Result<Connection> {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte));
            }
            _ => drop(write!(uri, "%{byte:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    open(Path::new(&uri))
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.execute_batch("PRAGMA query_only = 1; PRAGMA trusted_schema = 0; PRAGMA mmap_size = 0; PRAGMA cell_size_check = 1;")?;
    Ok(connection)
}

/// Has `SQLite` check the copy at `path`, whole and alone, or with its own `-wal` beside it.
///
/// # Errors
/// [`Error::NotVerified`] if the engine finds anything, [`Error::Interrupted`].
pub fn prove(path: &Path, name: &str, monitor: &Arc<dyn Monitor>) -> Result<Proof> {
    let failed = |finding: String| Error::NotVerified {
        name: name.to_owned(),
        finding,
    };
    let engine = |cause: rusqlite::Error| match go_on(monitor.as_ref()) {
        Err(interrupted) => interrupted,
        Ok(()) => failed(cause.to_string()),
    };
    let mut connection = if beside(path, "-wal").exists() {
        open(path)
    } else {
        open_immutable(path)
    }
    .map_err(engine)?;
    bound(&mut connection, Some(monitor)).map_err(engine)?;
    let findings = findings(&connection, "PRAGMA integrity_check(10)");
    let unchecked = match findings {
        // The only good answer is exactly one row "ok".
        Ok(findings) if findings == ["ok"] && is_hot(path) => {
            Some("the journal beside it holds what must first be rolled back".to_owned())
        }
        Ok(findings) if findings == ["ok"] => None,
        Ok(findings) => return Err(failed(findings.join("; "))),
        Err(cause) if needs_the_application(&cause) => Some(cause.to_string()),
        Err(cause) => return Err(engine(cause)),
    };
    Ok(Proof {
        foreign_keys: check_foreign_keys(&connection),
        fingerprint: Fingerprint::take(&connection).map_err(engine)?,
        unchecked,
    })
}

/// Has `SQLite` open the copy at `path`, whole and alone, and read what it says of itself. For an image that is known to
/// pass its check.
///
/// # Errors
/// [`Error::NotVerified`] if it does not open.
pub fn open_copy(path: &Path, name: &str) -> Result<()> {
    let opened = open_immutable(path).and_then(|connection| {
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
    });
    opened.map_err(|cause| Error::NotVerified {
        name: name.to_owned(),
        finding: cause.to_string(),
    })
}

/// Bounds what a check may take, and lets whoever watches stop it.
pub(super) fn bound(
    connection: &mut Connection,
    monitor: Option<&Arc<dyn Monitor>>,
) -> rusqlite::Result<()> {
    // What a schema computes (an index on an expression) may take a gigabyte a row.
    let limit = format!("PRAGMA hard_heap_limit = {MEMORY}");
    connection.query_row(&limit, [], |_| Ok(()))?;
    let watching = monitor.map(Arc::clone);
    connection.progress_handler(
        STEPS,
        watching.map(|watching| {
            move || {
                // Nothing to count, but whoever watches sees that it goes on.
                watching.progress(Progress::default());
                watching.signal().is_some()
            }
        }),
    )
}

fn findings(connection: &Connection, check: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(check)?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// What the engine's quick check finds wrong in a source, at capture: its pages and its rows, not the content
/// of its indexes. `None` if all is well, or only the application could tell.
pub(super) fn quick_check(connection: &Connection) -> Option<String> {
    match findings(connection, "PRAGMA quick_check(10)") {
        Ok(findings) if findings == ["ok"] => None,
        Ok(findings) => Some(findings.join("; ")),
        Err(cause) if needs_the_application(&cause) => None,
        Err(cause) => Some(cause.to_string()),
    }
}

/// Counts what a database at rest holds, leaving no file beside it. `None` if it is at work (a log or a
/// journal lies beside it), or `SQLite` finds fault with it. Only while no connection to it is open.
#[must_use]
pub fn count_at_rest(path: &Path) -> Option<Fingerprint> {
    if has_changes_beside(path) {
        return None;
    }
    let connection = open_immutable(path).ok()?;
    Fingerprint::take(&connection).ok()
}

/// Whether the file alone is not the database: a log or a hot journal lies beside it.
#[must_use]
pub fn has_changes_beside(path: &Path) -> bool {
    std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0) || is_hot(path)
}

/// Whether a rollback journal lies beside the copy: then the file alone is not the database.
fn is_hot(path: &Path) -> bool {
    signature(&beside(path, "-journal")).is_ok_and(|signature| signature == Signature::Journal)
}

/// Whether `SQLite` lacks something that an application brings along: an order of text (collation), a
/// function in an index or a constraint, memory.
fn needs_the_application(cause: &rusqlite::Error) -> bool {
    // More than we grant is not more than the application does.
    if cause.sqlite_error_code() == Some(rusqlite::ErrorCode::OutOfMemory) {
        return true;
    }
    let text = cause.to_string();
    [
        "no such collation sequence",
        "no such function",
        "unknown function",
        "no such tokenizer",
    ]
    .iter()
    .any(|lack| text.contains(lack))
}

fn check_foreign_keys(connection: &Connection) -> Option<String> {
    let dangling = connection
        .prepare("SELECT count(*) FROM pragma_foreign_key_check")
        .and_then(|mut statement| statement.query_row([], |row| row.get::<_, i64>(0)));
    match dangling {
        Ok(0) => None,
        Ok(rows) => Some(format!("{rows} row(s) refer to rows that do not exist")),
        Err(cause) => Some(format!("its foreign keys cannot be checked: {cause}")),
    }
}
