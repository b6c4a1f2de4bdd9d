//! A view of a database at one moment.

use std::time::Instant;

use rusqlite::Connection;

use crate::clock::Clock;
use crate::point::ConsistencyPoint;

/// When a read transaction began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    pub(super) point: ConsistencyPoint,
    at: Instant,
}

impl Begun {
    /// Begins a read transaction.
    pub(super) fn new(connection: &Connection, clock: &dyn Clock) -> rusqlite::Result<Self> {
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
            point: ConsistencyPoint {
                not_before,
                not_after: clock.now(),
            },
            // Before, the application held the lock, not we.
            at: Instant::now(),
        })
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
        Ok(Self::of(connection, Begun::new(connection, clock)?))
    }

    /// That of a transaction which has begun.
    pub(super) fn of(connection: &'a Connection, begun: Begun) -> Self {
        Self {
            connection,
            point: begun.point,
            begun: begun.at,
        }
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        let _ = self.connection.execute_batch("ROLLBACK");
    }
}
