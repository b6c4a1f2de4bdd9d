//! A database of which only the pages that changed are stored (docs/design/increments.md).
//!
//! The first time its image is stored as one file in large chunks: a base. From then on each snapshot holds that base, of
//! which the first page is made unreadable, and beside it a genuine log of all pages that changed since. Whether
//! a page changed is told by its hash: every page is read each time.
//!
//! Order of durable writes: packs, index, snapshot, and only then the [memory] of what was seen. Whatever is
//! lost in between costs room, not data: the next backup takes a new base.

mod memory;
mod pages;

use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use crate::id::Id;
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::pack::BlobKind;
use crate::repository::writer::Writer;

use memory::Memory;
pub use memory::{Memories, Recorded, Recorder};
pub use pages::{Image, Pages, Whole};

/// After so long a new base is taken: a restore reads the whole log, and a damaged blob of it costs all that follows.
const LONGEST: SignedDuration = SignedDuration::from_hours(31 * 24);

/// What increments are made with.
#[derive(Debug, Clone, Copy)]
pub struct Increments<'a> {
    /// Where it is kept what was seen.
    pub memories: &'a Memories,
    /// Whether what was seen before counts.
    pub go_on: bool,
    /// The repository.
    pub repository: &'a Repository,
    /// What is in it.
    pub index: &'a Index,
    /// The way in.
    pub writer: &'a Writer,
    /// When the backup began.
    pub now: Timestamp,
}

impl Increments<'_> {
    /// Removes what was remembered too long ago to be gone on from.
    pub fn tidy(&self) {
        if let Ok(before) = self.now.checked_sub(LONGEST) {
            self.memories.tidy(before);
        }
    }

    /// What was seen of the database that is stored as `path`, if a log can go on from there.
    fn before(&self, path: &Path, page_bytes: usize) -> Option<Memory> {
        if !self.go_on {
            return None;
        }
        let memory = self.memories.open(path, self.repository)?;
        let head = &memory.head;
        let age = self.now.duration_since(head.begun);
        // A log that would outgrow its base costs more than a new one, here and whenever it is read.
        let is_short = head
            .log
            .as_ref()
            .is_none_or(|log| log.stored.size.saturating_add(log.last_bytes) <= head.base.size);
        let stays = |id: &Id| self.index.contains(BlobKind::Data, *id);
        let log = head.log.iter().flat_map(|log| &log.stored.blobs);
        let may_go_on = head.page_bytes as usize == page_bytes
            && !age.is_negative()
            && age < LONGEST
            && is_short
            && head.base.blobs.iter().chain(log).all(stays);
        may_go_on.then_some(memory)
    }
}
