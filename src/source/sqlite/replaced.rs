//! Whether the file at a path is still the one that was opened, and whether it was at rest all the time.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::detect::{SIDE_FILES, beside};
use super::header::Header;
use crate::durable::Identity;
use crate::durable::file_system::{self, FUSE, NFS, PLAN_9, SMB};

/// Which file stands at a path now: what a deploy or a restore exchanges.
///
/// # Errors
/// As the system reports them.
pub fn identity(path: &Path) -> std::io::Result<Identity> {
    Ok(Identity::of(&std::fs::metadata(path)?))
}

/// How a database that nobody writes stands: nothing of it may change while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtRest {
    size: u64,
    modified: (i64, i64),
    header: Option<Header>,
}

impl AtRest {
    /// Looks at a database; `None` if a log or a journal lies beside it: then it is at work. Only while no
    /// connection to it is open.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn of(path: &Path) -> std::io::Result<Option<Self>> {
        if SIDE_FILES
            .iter()
            .any(|suffix| beside(path, suffix).exists())
        {
            return Ok(None);
        }
        let metadata = std::fs::metadata(path)?;
        Ok(Some(Self {
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            header: Header::read(path)?,
        }))
    }
}

/// Whether a path lies on a file system whose locks may be fiction, and whose memory another machine does not
/// share.
#[must_use]
pub fn is_on_a_network(path: &Path) -> bool {
    const NETWORKS: [u32; 3] = [NFS, PLAN_9, FUSE];
    file_system::kind(path).is_ok_and(|kind| NETWORKS.contains(&kind) || SMB.contains(&kind))
}
