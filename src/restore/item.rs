//! One thing to restore.

use std::path::PathBuf;

use crate::entry::Entry;
use crate::repository::tree::Content;

/// One thing to restore.
#[derive(Debug, Clone)]
pub struct Item {
    /// Where, relative to the target.
    pub path: PathBuf,
    /// Name and metadata.
    pub entry: Entry,
    /// Content.
    pub content: Content,
}
