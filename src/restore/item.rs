//! One thing to restore.

use std::path::PathBuf;

use crate::capture::manifest;
use crate::entry::Entry;
use crate::id::Id;
use crate::repository::tree::Content;

/// What a database is not whole without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Its blobs in order.
    pub blobs: Vec<Id>,
    /// How both are stored.
    pub described: manifest::Log,
    /// SHA-256 over the SHA-256 of each page of the image in order.
    pub image_sha256: Id,
}

/// One thing to restore.
#[derive(Debug, Clone)]
pub struct Item {
    /// Where, relative to the target.
    pub path: PathBuf,
    /// Name and metadata.
    pub entry: Entry,
    /// Content; of a database with a log, the blobs of its base, and the size of its image.
    pub content: Content,
    /// What changed since that base.
    pub log: Option<Log>,
}

impl Item {
    /// All blobs that it is made of.
    pub fn blobs(&self) -> impl Iterator<Item = &Id> {
        let content = match &self.content {
            Content::File { blobs, .. } => blobs.as_slice(),
            Content::Folder { .. } | Content::Nothing => &[],
        };
        let log = self.log.iter().flat_map(|log| &log.blobs);
        content.iter().chain(log)
    }
}
