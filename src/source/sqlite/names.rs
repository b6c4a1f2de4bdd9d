//! One database under several names (hard links): its log and its journal lie beside one of them only.
//!
//! `SQLite` finds them by name, so whoever opens the other name reads the file without what is still in its log,
//! and pages of two moments. Which name its application uses is known by what lies beside it; where that
//! does not decide, the database is refused: a copy that may lack rows is none.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::detect::{Log, beside, has_hot_journal, log};
use super::refusal::source_error;
use crate::durable::claim::is_locked;
use crate::error::Result;

/// Which of a database's names is to be opened: one of `names`, which are those that are known, or `path`, its
/// only one. Only while no connection to it is open.
///
/// # Errors
/// [`crate::error::Error::Source`] if that cannot be told.
pub fn at_work<'a>(path: &'a Path, names: &'a [PathBuf]) -> Result<&'a Path> {
    if names.len() < 2 {
        return Ok(path);
    }
    let has_more = |name: &&PathBuf| has_hot_journal(name) || log(name) != Log::None;
    let mut with_more = names.iter().filter(has_more);
    let Some(candidate) = with_more.next() else {
        return Ok(path);
    };
    if with_more.any(|other| !is_same_log(candidate, other)) {
        return Err(source_error(
            path,
            &"it has several names (hard links), and a log or journal beside more than one of them: which is the true one cannot be told; stop its application, open and close it once by the name that the application uses, and remove the other names",
        ));
    }
    // Beside a name that nobody uses may lie what a crash or a copy of links has left: old pages.
    if is_locked(candidate).map_err(|cause| source_error(candidate, &cause))? {
        return Ok(candidate);
    }
    Err(source_error(
        candidate,
        &"it has several names (hard links), a log or journal beside one of them, and nobody has it open: whether that is its newest state or a leftover cannot be told; start its application once, or remove the other names",
    ))
}

/// Whether what lies beside two names is one file, too: a whole folder was linked.
fn is_same_log(one: &Path, other: &Path) -> bool {
    let place = |path: &Path, suffix: &str| {
        let metadata = std::fs::symlink_metadata(beside(path, suffix)).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    ["-wal", "-journal"]
        .iter()
        .all(|suffix| place(one, suffix) == place(other, suffix))
}
