//! How databases are captured.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use crate::chunker::PageChunks;
use crate::clock::Clock;
use crate::durable::Disk;
use crate::durable::scratch::Scratch;
use crate::error::Result;
use crate::monitor::Monitor;
use crate::rng::Rng;

/// How long we wait for a lock that the application holds.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits for it; `SQLite` calls this each time that it finds the lock taken. Its own way of waiting looks ten times a
/// second, and between the writers of a busy shop that may be never at the right moment.
pub(super) fn patience(looks: i32) -> bool {
    const PAUSE: Duration = Duration::from_millis(5);
    let waited = PAUSE * u32::try_from(looks).unwrap_or(u32::MAX);
    if waited < BUSY_TIMEOUT {
        std::thread::sleep(PAUSE);
    }
    waited < BUSY_TIMEOUT
}

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
    /// How long an application may wait for us.
    pub limits: Limits,
    /// Whether a path lies where locks are not to be believed: [`super::is_on_a_network`].
    pub on_a_network: fn(&Path) -> bool,
    /// Who may ask us to stop while the engine checks.
    pub watch: Option<Arc<dyn Monitor>>,
}

impl Options {
    /// A new private folder for a spool.
    ///
    /// # Errors
    /// [`crate::error::Error::File`].
    pub(super) fn spool_folder(&self) -> Result<Scratch> {
        let (disk, rng) = (self.disk.as_ref(), self.rng.as_ref());
        Scratch::create(disk, &self.scratch, "spool", rng)
    }
}

/// How long an application may have to wait for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In rollback mode, where every writer waits: longest lock at the first try.
    pub lock: Duration,
    /// In rollback mode: longest time for copying in small steps, while writers get their turn.
    pub steps: Duration,
    /// In WAL mode, where only a RESTART or TRUNCATE of the log waits: from when on pages go to a spool, if
    /// the repository is slower than that.
    pub read: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lock: Duration::from_secs(2),
            steps: Duration::from_secs(30),
            read: Duration::from_mins(1),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_build_has_the_page_table() {
        // Set in .cargo/config.toml; without it every capture needs room for a second copy.
        assert!(has_page_table());
    }
}
