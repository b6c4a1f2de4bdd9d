//! One database under several names (hard links, or a file that is mounted alone): its log and its journal lie
//! beside one of them only.
//!
//! `SQLite` finds them by name, so whoever opens the other name reads the file without what is still in its log,
//! and pages of two moments. Which name its application uses is known by the shared memory beside it: everybody
//! who is connected in WAL mode has a lock on that. Where it does not decide, the database is refused: a copy that
//! may lack rows is none.

use std::path::{Path, PathBuf};

use super::detect::{Log, beside, has_hot_journal, log};
use super::refusal::source_error;
use crate::durable::Identity;
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
    let mut used = names.iter().filter(|name| is_used(name));
    if let Some(first) = used.next() {
        return match used.find(|other| !is_same(first, other)) {
            None => Ok(first),
            Some(_) => Err(source_error(
                path,
                &"it has several names (hard links), and somebody works with it by more than one of them, which destroys it: stop them, and remove the other names",
            )),
        };
    }
    // What lies beside a name that nobody uses may be the newest state after a crash, or old pages.
    match names.iter().find(|name| has_more(name)) {
        None => Ok(path),
        Some(name) => Err(source_error(name, &UNDECIDED)),
    }
}

/// What is said where a log may be a leftover.
pub(super) const UNDECIDED: &str = "it has several names (hard links), a log or journal beside one of them, and nobody has it open: whether that is its newest state or a leftover cannot be told; start its application once, or remove the other names";

/// Whether somebody is connected by this name, in WAL mode.
pub(super) fn is_used(name: &Path) -> bool {
    is_locked(&beside(name, "-shm")).unwrap_or(false)
}

/// Whether something lies beside this name that may be part of the database.
pub(super) fn has_more(name: &Path) -> bool {
    has_hot_journal(name) || log(name) != Log::None
}

/// Whether what is shared beside two names is one file, too: a whole folder was linked, or mounted twice.
fn is_same(one: &Path, other: &Path) -> bool {
    let of = |path: &Path| {
        let metadata = std::fs::symlink_metadata(beside(path, "-shm")).ok()?;
        Some(Identity::of(&metadata))
    };
    of(one) == of(other)
}
