//! Blobs that lie close together in one pack: read at once, opened one by one.

use crate::error::Result;
use crate::repository::index::{Index, Location};
use crate::repository::{Held, Repository};

/// Bytes that are read from a pack at a time, unless one blob is longer.
const BYTES: u64 = 1024 * 1024;
/// Unwanted bytes between two blobs that are cheaper to read than to skip.
const GAP: u64 = 256 * 1024;

/// Where blobs lie that are read at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    begin: u64,
    end: u64,
}

impl Span {
    pub(super) fn of(location: &Location) -> Self {
        let begin = u64::from(location.blob.offset);
        let end = begin + u64::from(location.blob.length);
        Self { begin, end }
    }

    /// This and another one in the same pack, if both are worth to be read at once.
    pub(super) fn with(self, next: Self) -> Option<Self> {
        let joined = Self {
            begin: self.begin.min(next.begin),
            end: self.end.max(next.end),
        };
        let apart = next.begin > self.end + GAP || self.begin > next.end + GAP;
        (!apart && joined.end - joined.begin <= BYTES).then_some(joined)
    }
}

/// What was read of a pack. Holds the memory that this and one of its blobs take.
pub(super) struct Run<'a> {
    repository: &'a Repository,
    index: &'a Index,
    begin: u64,
    /// None if they could not be read: perhaps there are other copies.
    bytes: Option<Vec<u8>>,
    _held: Held,
}

impl<'a> Run<'a> {
    /// Reads what holds blobs of one pack; none if there are none.
    pub(super) fn read<'b>(
        repository: &'a Repository,
        index: &'a Index,
        blobs: impl Iterator<Item = &'b Location> + Clone,
    ) -> Option<Self> {
        let pack = blobs.clone().next()?.pack;
        let spans = blobs.clone().map(Span::of);
        let span = spans.reduce(|one, other| Span {
            begin: one.begin.min(other.begin),
            end: one.end.max(other.end),
        })?;
        let held = repository.hold(blobs.map(|location| &location.blob));
        let length = usize::try_from(span.end - span.begin).unwrap_or(usize::MAX);
        let bytes = repository.read_pack_range(pack, span.begin, length).ok();
        Some(Self {
            repository,
            index,
            begin: span.begin,
            bytes,
            _held: held,
        })
    }

    /// Opens a blob of it, or another copy that is whole.
    ///
    /// # Errors
    /// `Damaged` if none is; `Storage`.
    pub(super) fn open(&self, location: &Location) -> Result<Vec<u8>> {
        let blob = &location.blob;
        let sealed = self.bytes.as_ref().and_then(|bytes| {
            let from = usize::try_from(u64::from(blob.offset) - self.begin).ok()?;
            bytes.get(from..from + blob.length as usize)
        });
        let opened = sealed.map(|sealed| self.repository.open_blob(location, sealed));
        match opened {
            Some(Ok(plain)) => Ok(plain),
            _ => self.repository.read_blob(self.index, blob.kind, blob.id),
        }
    }
}
