//! Opening somebody else's database so that its folder is afterwards as it was before.
//!
//! - A WAL database that its application has closed has nothing beside it. Whoever reads it creates `-wal` and
//!   `-shm`, and a reader that may only read leaves them there. So it is opened for writing, with writing
//!   forbidden: then `SQLite` itself removes both on closing, under the exclusive lock that it takes to be
//!   sure that nobody else has come meanwhile. Whatever somebody else has put into the log by then stays there:
//!   our closing folds no log.
//! - Where nothing can be created (a read-only medium or folder) it is read without locks, and is the capture
//!   of a database at rest only if it was at rest before and after.
//! - Everything else is opened for reading only: what lies beside it is its application's, and stays.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::capture::BUSY_TIMEOUT;
use super::detect::beside;
use super::prove::open_immutable;
use super::replaced::AtRest;

/// A connection to somebody else's database.
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// How it stood before, if nobody's locks protect us from a change.
    pub(super) at_rest: Option<AtRest>,
    /// Whether we tidy up behind ourselves, and after which path.
    tidies: Option<PathBuf>,
}

impl Opened {
    /// Opens the database at `path`. Only while no connection to it is open.
    ///
    /// # Errors
    /// As `SQLite` reports them.
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let before = AtRest::of(path).ok().flatten();
        let is_closed = |rest: &AtRest| rest.header().is_some_and(|header| header.is_wal);
        let Some(before) = before.filter(is_closed) else {
            return Ok(Self {
                connection: prepared(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
                at_rest: None,
                tidies: None,
            });
        };
        let connection = prepared(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let read = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
        match read.map_err(|cause| (cause.sqlite_error_code(), cause)) {
            Ok(()) => Ok(Self {
                connection,
                at_rest: None,
                tidies: Some(path.to_owned()),
            }),
            Err((Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly), _)) => {
                drop(connection);
                Ok(Self {
                    connection: open_immutable(path)?,
                    at_rest: Some(before),
                    tidies: None,
                })
            }
            Err((_, cause)) => Err(cause),
        }
    }
}

impl Deref for Opened {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let Some(path) = &self.tidies else {
            return;
        };
        let log = std::fs::metadata(beside(path, "-wal")).map_or(0, |log| log.len());
        if log > 0 {
            // Somebody has written: folding that into the database is the application's business.
            let keep = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            let _ = self.connection.set_db_config(keep, true);
        }
    }
}

/// Trusting nothing in it, and changing nothing.
fn prepared(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection
        .execute_batch("PRAGMA query_only = 1; PRAGMA trusted_schema = 0; PRAGMA mmap_size = 0;")?;
    Ok(connection)
}
