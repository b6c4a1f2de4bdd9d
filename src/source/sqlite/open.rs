//! Opening somebody else's database so that its folder is afterwards as it was before.
//!
//! It is opened for reading only: nothing of ours can write to it, fold its log or roll back its journal. What
//! `SQLite` makes beside it for us is [tidied up](super::tidy). Where nothing can be made (a read-only medium or
//! folder) it is read without locks, and is the capture of a database at rest only if it was at rest before
//! and after.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::options::patience;
use super::prove::open_immutable;
use super::replaced::AtRest;
use super::tidy::Tidy;
use crate::durable::Disk;
use crate::durable::claim::LockWatch;

/// A connection to somebody else's database. Its fields are dropped in this order: what comes after the
/// connection would drop its locks.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// How it stood before, if nobody's locks protect us from a change.
    pub(super) at_rest: Option<AtRest>,
    /// Its shared memory, if somebody asked who writes and how far the log goes.
    pub(super) shared: Option<LockWatch>,
    /// Its file, if pages are read straight from it.
    pub(super) main: Option<LockWatch>,
    _tidy: Tidy,
}

impl Opened {
    /// Opens the database at `path`. Only while no connection to it is open.
    ///
    /// # Errors
    /// As `SQLite` reports them.
    pub(super) fn open(path: &Path, disk: &Arc<dyn Disk>) -> rusqlite::Result<Self> {
        let before = AtRest::of(path).ok().flatten();
        let tidy = Tidy::before(path, disk);
        let connection = read_only(path)?;
        let read = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
        let (connection, at_rest) = match read {
            Ok(()) => (connection, None),
            Err(cause) => match (cause.sqlite_error_code(), before) {
                (Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly), Some(before)) => {
                    drop(connection);
                    (open_immutable(path)?, Some(before))
                }
                _ => return Err(cause),
            },
        };
        Ok(Self {
            connection,
            at_rest,
            shared: None,
            main: None,
            _tidy: tidy,
        })
    }
}

impl Deref for Opened {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// Trusting nothing in it, and changing nothing.
pub(super) fn read_only(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_handler(Some(patience))?;
    connection
        .execute_batch("PRAGMA query_only = 1; PRAGMA trusted_schema = 0; PRAGMA mmap_size = 0;")?;
    Ok(connection)
}
