//! Leaves a foreign folder as it was: what `SQLite` made for our reader goes with it.
//!
//! A reader of a database in WAL mode makes the `-wal` and the `-shm` that are not there, and one that may only
//! read leaves them behind. So they are removed after our last connection is closed, under a lock on every
//! byte of the database: who works with it, or begins to, has one of those bytes locked before he
//! opens a side file, and then they stay, for they are his. A log that somebody has written to stays in any
//! case.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::detect::beside;
use super::header::Header;
use crate::durable::Disk;
use crate::durable::claim::Claim;

/// What was not there before we came. Dropped after the connection, it is not there any more.
#[derive(Debug)]
pub(super) struct Tidy {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    missing: Vec<&'static str>,
}

impl Tidy {
    /// Looks at what lies beside the database. Before its first connection.
    pub(super) fn before(path: &Path, disk: &Arc<dyn Disk>) -> Self {
        // In rollback mode a reader makes none of them.
        let may_be_made = !matches!(Header::read(path), Ok(Some(header)) if !header.is_wal);
        let is_missing =
            |suffix: &&str| may_be_made && beside(path, suffix).symlink_metadata().is_err();
        Self {
            path: path.to_owned(),
            disk: Arc::clone(disk),
            missing: ["-wal", "-shm"].into_iter().filter(is_missing).collect(),
        }
    }

    fn was_made(&self, suffix: &str) -> bool {
        let made = beside(&self.path, suffix).symlink_metadata();
        made.is_ok_and(|made| made.is_file() && (suffix != "-wal" || made.len() == 0))
    }
}

impl Drop for Tidy {
    fn drop(&mut self) {
        let made = || self.missing.iter().filter(|suffix| self.was_made(suffix));
        let (Some(parent), true) = (self.path.parent(), made().next().is_some()) else {
            return;
        };
        // Nothing here may fail a capture that is done: what cannot be removed stays, as any reader leaves it.
        let (Ok(folder), Ok(Some(_claim))) = (self.disk.open(parent), Claim::try_take(&self.path))
        else {
            return;
        };
        // Once more: somebody may have come and gone before we had the lock.
        for suffix in made() {
            let side_file = beside(&self.path, suffix);
            let _ = folder.remove_file(side_file.file_name().unwrap_or_default().as_ref());
        }
    }
}
