//! A small shop to try things on: what `demo` backs up, destroys and restores.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use crate::error::{Error, Result};

/// Makes the database of a small shop in WAL mode, with `orders` orders.
///
/// # Errors
/// [`Error::Source`].
pub fn create(path: &Path, orders: u32) -> Result<()> {
    let make = || -> rusqlite::Result<()> {
        let mut connection = Connection::open(path)?;
        connection.query_row("PRAGMA journal_mode = wal", [], |_| Ok(()))?;
        connection.execute_batch(
            "CREATE TABLE products(id INTEGER PRIMARY KEY, name TEXT NOT NULL, price_cents INTEGER NOT NULL);
             INSERT INTO products(name, price_cents) VALUES
               ('teapot, celadon', 8900), ('cup, ash glaze', 2400), ('tea bowl, raku', 12900), ('oolong, 100 g', 1450);
             CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, product INTEGER NOT NULL REFERENCES products(id), note TEXT);
             CREATE INDEX orders_by_product ON orders(product);",
        )?;
        let transaction = connection.transaction()?;
        for _ in 0..orders {
            sell(&transaction)?;
        }
        transaction.commit()
    };
    make().map_err(|cause| failed(path, &cause))
}

fn sell(connection: &Connection) -> rusqlite::Result<i64> {
    connection.execute(
        "INSERT INTO orders(product, note) VALUES (1 + abs(random()) % 4, 'wrapped as a gift, ' || hex(randomblob(24)))",
        [],
    )?;
    Ok(connection.last_insert_rowid())
}

fn failed(path: &Path, cause: &rusqlite::Error) -> Error {
    if cause.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
        return Error::file("writing", path)(std::io::ErrorKind::StorageFull.into());
    }
    Error::Source {
        name: crate::units::shown(path),
        finding: cause.to_string(),
    }
}

/// Orders in the shop, and the largest order number.
///
/// # Errors
/// [`Error::Source`].
pub fn count(path: &Path) -> Result<(u64, u64)> {
    let count = || -> rusqlite::Result<(i64, i64)> {
        super::prove::open_immutable(path)?.query_row(
            "SELECT count(*), coalesce(max(id), 0) FROM orders",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
    };
    let (orders, last) = count().map_err(|cause| failed(path, &cause))?;
    Ok((orders.unsigned_abs(), last.unsigned_abs()))
}

/// Somebody who sells until told to stop: one committed order after the other.
#[derive(Debug)]
pub struct Seller {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    thread: Option<JoinHandle<rusqlite::Result<()>>>,
    path: PathBuf,
}

impl Seller {
    /// Begins to sell.
    #[must_use]
    pub fn begin(path: &Path) -> Self {
        let (stop, acknowledged) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, number, database) = (
            Arc::clone(&stop),
            Arc::clone(&acknowledged),
            path.to_owned(),
        );
        let thread = std::thread::spawn(move || {
            let connection = Connection::open(database)?;
            connection.busy_timeout(Duration::from_secs(5))?;
            while !stopped.load(Ordering::Relaxed) {
                number.store(sell(&connection)?.unsigned_abs(), Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(())
        });
        Self {
            stop,
            acknowledged,
            thread: Some(thread),
            path: path.to_owned(),
        }
    }

    /// Number of the last order that was committed.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Stops; returns the number of the last order.
    ///
    /// # Errors
    /// [`Error::Source`] if a sale failed.
    pub fn end(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result.map_err(|cause| failed(&self.path, &cause))?,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => {}
        }
        Ok(self.acknowledged())
    }
}

impl Drop for Seller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Whoever drops a seller without `end` has an error of its own to tell.
            let _ = thread.join();
        }
    }
}
