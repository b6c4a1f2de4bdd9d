//! Reading blobs: authentication code, length and hash are checked on every way.

use super::Repository;
use super::budget::{Budget, Held};
use super::compress;
use super::format::MAX_BLOB;
use super::index::{Index, Location};
use super::pack::{BlobKind, PackedBlob};
use super::tree;
use crate::backend::{self, Class, Object};
use crate::error::{Error, Result};
use crate::id::Id;

impl Repository {
    /// Reads a blob from whichever copy of it is whole.
    ///
    /// # Errors
    /// [`Error::Damaged`] if no copy is; it names the pack of the first. [`Error::Storage`] if a copy
    /// could not be reached: it may be whole.
    pub fn read_blob(&self, index: &Index, kind: BlobKind, id: Id) -> Result<Vec<u8>> {
        let mut first = None;
        for location in index.locations(kind, id) {
            match self.read_blob_at(&location) {
                Ok(plain) => return Ok(plain),
                // A copy that could not be reached may be whole.
                Err(cause) if first.is_none() || !is_damage(&cause) => first = Some(cause),
                Err(_) => {}
            }
        }
        Err(first.unwrap_or_else(|| Error::Damaged {
            object: format!("{kind} blob {}", id.short()),
            finding: "no index and no pack names it".into(),
        }))
    }

    pub(super) fn read_blob_at(&self, location: &Location) -> Result<Vec<u8>> {
        let (offset, length) = (location.blob.offset, location.blob.length);
        let sealed = self.read_pack_range(location.pack, offset.into(), length as usize)?;
        self.open_blob(location, &sealed)
    }

    /// Holds the memory that reading `blobs` takes, until the result is dropped. All threads share it: a
    /// few bytes may unfold to the largest blob on each core at once.
    #[must_use]
    pub fn hold<'a>(&self, blobs: impl Iterator<Item = &'a PackedBlob>) -> Held {
        let (stored, plain) = blobs.fold((0, 0), |(stored, plain): (usize, u32), blob| {
            let stored = stored.saturating_add(blob.length as usize);
            (stored, plain.max(blob.plain_length.unwrap_or(blob.length)))
        });
        Budget::take(&self.inner.memory, stored.saturating_add(plain as usize))
    }

    /// Reads `length` bytes of a pack: several blobs at once.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the pack is not there or ends before; [`Error::Storage`].
    pub fn read_pack_range(&self, pack: Id, offset: u64, length: usize) -> Result<Vec<u8>> {
        /// What container and frame add to the largest blob.
        const AROUND: u64 = 4 * 1024 * 1024;
        let object = Object::Named(Class::Data, pack);
        // Before memory is taken: a pack may well have the bytes, as a hole that costs nothing.
        if length as u64 > MAX_BLOB + AROUND {
            return Err(Error::Damaged {
                object: object.to_string(),
                finding: format!("a blob at byte {offset} claims {length} bytes"),
            });
        }
        match self.inner.backend.get_range(object, offset, length) {
            Err(backend::Error::NotFound) => Err(Error::Damaged {
                object: object.to_string(),
                finding: "it is not there, or ends too early".into(),
            }),
            other => other.map_err(|cause| cause.on("reading", object)),
        }
    }

    /// Opens a sealed blob and checks authentication code, length and hash.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn open_blob(&self, location: &Location, sealed: &[u8]) -> Result<Vec<u8>> {
        let blob = &location.blob;
        let damaged = |finding: String| Error::Damaged {
            object: Object::Named(Class::Data, location.pack).to_string(),
            finding: format!(
                "{} blob {} at byte {}: {finding}",
                blob.kind,
                blob.id.short(),
                blob.offset
            ),
        };
        if location.plain_length() > MAX_BLOB {
            return Err(damaged(format!(
                "it claims {} bytes",
                location.plain_length()
            )));
        }
        let opened = self
            .inner
            .key
            .open(sealed)
            .map_err(|cause| damaged(cause.to_string()))?;
        let plain = match blob.plain_length {
            Some(length) => compress::decompress(&opened, length as usize)
                .map_err(|cause| damaged(cause.to_string()))?,
            None => opened,
        };
        if plain.len() as u64 != location.plain_length() {
            return Err(damaged(format!(
                "it has {} bytes, not {}",
                plain.len(),
                location.plain_length()
            )));
        }
        if Id::of(&plain) != blob.id {
            return Err(damaged("its bytes are not those it is named after".into()));
        }
        Ok(plain)
    }

    /// Reads a folder.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn read_tree(&self, index: &Index, id: Id) -> Result<Vec<tree::Node>> {
        let bytes = self.read_blob(index, BlobKind::Tree, id)?;
        let mut nodes = tree::from_bytes(&bytes).map_err(|finding| Error::Damaged {
            object: format!("tree {}", id.short()),
            finding,
        })?;
        for node in &mut nodes {
            if let tree::Content::File { blobs, size } = &mut node.content {
                *size = index.file_size(blobs, *size);
            }
        }
        Ok(nodes)
    }
}

const fn is_damage(cause: &Error) -> bool {
    matches!(cause, Error::Damaged { .. })
}
