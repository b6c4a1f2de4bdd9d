//! How a database stands: what tells, without reading it, that it holds what it held.
//!
//! A commit in rollback mode writes the file, and so its times. In WAL mode it adds frames to the log, and the head
//! of the shared memory names the last of them, with its checksum over all before it and with salts that
//! are drawn anew whenever the log begins again (<https://sqlite.org/walformat.html#walidxfmt>). A checkpoint writes
//! the file without changing what the database holds: then it is read, which is never wrong.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::detect::beside;
use crate::durable::claim::LockWatch;

/// What must be as it was. Part of the manifest: fields are added, never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Inode of the file.
    pub inode: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// When its content was written last.
    pub modified: Timestamp,
    /// When it was changed in any way.
    pub changed: Timestamp,
    /// The end of its log; none if it has no log, or an empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogEnd>,
}

/// The last commit in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEnd {
    /// Frames up to it.
    pub frames: u32,
    /// Drawn anew whenever the log begins again.
    pub salts: [u32; 2],
    /// Over all frames up to it.
    pub checksum: [u32; 2],
}

impl Standing {
    /// How the database at `path` stands now; `shared` is its shared memory if it is in WAL mode. None if that
    /// cannot be told: somebody is in the middle of a commit.
    pub(super) fn look(path: &Path, shared: Option<&LockWatch>) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        let time = |seconds, nanoseconds| {
            let nanoseconds = i32::try_from(nanoseconds).ok()?;
            Timestamp::new(seconds, nanoseconds).ok()
        };
        let log = match shared {
            Some(shared) => log_end(shared)?,
            None if has_journal(path) => return None,
            None => None,
        };
        Some(Self {
            inode: metadata.ino(),
            file_bytes: metadata.len(),
            modified: time(metadata.mtime(), metadata.mtime_nsec())?,
            changed: time(metadata.ctime(), metadata.ctime_nsec())?,
            log,
        })
    }

    /// Whether the database holds what it held then; where the file system gives a file another inode each time
    /// it is mounted, that tells nothing.
    #[must_use]
    pub fn is_as(&self, then: &Self, ignore_inode: bool) -> bool {
        let inode = if ignore_inode { self.inode } else { then.inode };
        *self == Self { inode, ..*then }
    }
}

/// Whether a journal lies beside it that may belong to a commit: it has content before the database is written to.
fn has_journal(path: &Path) -> bool {
    let journal = std::fs::metadata(beside(path, "-journal"));
    journal.is_ok_and(|journal| journal.len() > 0)
}

/// What the head of the shared memory says: none if it is just being written, `Some(None)` for an empty log.
#[allow(clippy::option_option)]
fn log_end(shared: &LockWatch) -> Option<Option<LogEnd>> {
    /// Bytes of one of its two copies.
    const COPY: usize = 48;
    let mut head = [0; 2 * COPY];
    shared.read_head(&mut head).ok()?;
    let (one, other) = head.split_at(COPY);
    let is_made = one[12] != 0;
    if one != other || !is_made {
        return None;
    }
    let number = |at: usize| {
        let four: [u8; 4] = std::array::from_fn(|index| one[at + index]);
        u32::from_ne_bytes(four)
    };
    let end = LogEnd {
        frames: number(16),
        checksum: [number(24), number(28)],
        salts: [number(32), number(36)],
    };
    Some((end.frames > 0).then_some(end))
}
