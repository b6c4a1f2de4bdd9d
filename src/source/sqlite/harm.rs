//! What would do harm to a database that is not ours, or give an image that lacks rows, is refused before
//! anything is opened.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::detect::{Log, beside, is_database, log};
use super::header::Header;
use super::names::{UNDECIDED, has_more, is_used};
use super::refusal::source_error;
use crate::durable::claim::is_locked;
use crate::error::Result;

/// Refuses what must not be opened. Only while no connection to it is open.
///
/// # Errors
/// [`crate::error::Error::Source`].
pub(super) fn refuse_harm(path: &Path) -> Result<()> {
    let system = |cause: std::io::Error| source_error(path, &cause);
    let metadata = std::fs::metadata(path).map_err(system)?;
    let header = Header::read(path).map_err(system)?;
    let side_file = |suffix: &str| std::fs::symlink_metadata(beside(path, suffix)).ok();
    // SQLite takes the log of an empty file for a leftover and deletes it, even when it only reads.
    if metadata.len() == 0 && side_file("-wal").is_some_and(|log| log.len() > 0) {
        return Err(source_error(
            path,
            &"it is empty, but its -wal is not: SQLite would delete that log on opening; copy both away, then see what the log holds",
        ));
    }
    // Two logs that take turns are of a branch of SQLite that ours cannot read: it would pass over both.
    if side_file("-wal2").is_some() {
        return Err(source_error(
            path,
            &"it has a -wal2 beside it, of a branch of SQLite that this one cannot read; have its application make a copy with VACUUM INTO",
        ));
    }
    // An encrypted one has a log that only looks strange: the engine's own words for it are better.
    if is_database(path) && log(path) == Log::Unknown {
        return Err(source_error(
            path,
            &"its -wal is not of a kind that this SQLite can read, and what it holds would be missing; have its application make a copy with VACUUM INTO, or, if the file is a leftover, move it away",
        ));
    }
    let is_wal = header.is_some_and(|header| header.is_wal);
    refuse_strangers(path, &metadata, is_wal)?;
    refuse_other_names(path, &metadata, is_wal)
}

/// Refuses a name that is not the one its application uses, as far as that shows from here.
fn refuse_other_names(path: &Path, metadata: &Metadata, is_wal: bool) -> Result<()> {
    /// An application that has just come has locked the database, and makes its log next.
    const LOOKS: u32 = 5;
    const PAUSE: Duration = Duration::from_millis(20);
    if metadata.nlink() > 1 && has_more(path) && !is_used(path) {
        return Err(source_error(path, &UNDECIDED));
    }
    let is_elsewhere = || {
        let is_locked = is_locked(path).map_err(|cause| source_error(path, &cause))?;
        Ok(is_wal && is_locked && !beside(path, "-wal").exists())
    };
    for _ in 0..LOOKS {
        if !is_elsewhere()? {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    Err(source_error(
        path,
        &"it is at work under another name (it is a hard link, or a file that is mounted alone), and its newest rows are in the log beside that; back up the folder of that name",
    ))
}

/// What is not beside a database in WAL mode is made by whoever opens it, and belongs to him.
fn refuse_strangers(path: &Path, metadata: &Metadata, is_wal: bool) -> Result<()> {
    let user = rustix::process::geteuid();
    let is_there = |suffix: &str| beside(path, suffix).exists();
    let makes_files = (is_wal || is_there("-wal")) && !(is_there("-wal") && is_there("-shm"));
    if user.is_root() || user.as_raw() == metadata.uid() || !makes_files {
        return Ok(());
    }
    Err(source_error(
        path,
        &format!(
            "it belongs to user {}, and opening it as user {} could leave a -wal or -shm file that its application cannot write; run as its owner or as root",
            metadata.uid(),
            user.as_raw()
        ),
    ))
}
