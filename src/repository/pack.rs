//! Packs: sealed blobs one after the other, then a sealed header, then its length.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use super::crypto::{self, Key};
use crate::durable::PageBuffer;
use crate::error::Result;
use crate::id::Id;
use crate::rng::Rng;

/// Whether a blob holds file content or a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobKind {
    /// File content.
    Data,
    /// A folder.
    Tree,
}

impl Display for BlobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data",
            Self::Tree => "tree",
        })
    }
}

/// One blob in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackedBlob {
    /// Its kind.
    pub kind: BlobKind,
    /// SHA-256 of its plain bytes.
    pub id: Id,
    /// Where it begins in the pack, in bytes.
    pub offset: u32,
    /// Its length in the pack, container included, in bytes.
    pub length: u32,
    /// Its plain length in bytes, if it is compressed.
    pub plain_length: Option<u32>,
}

impl PackedBlob {
    /// Bytes of its header entry.
    const fn entry_length(&self) -> u64 {
        if self.plain_length.is_some() { 41 } else { 37 }
    }
}

/// Bytes that a blob takes in its pack, its header entry included.
#[must_use]
pub fn bytes_of(blob: &PackedBlob) -> u64 {
    u64::from(blob.length) + blob.entry_length()
}

/// The exact size of a pack that holds `blobs`, in bytes.
#[must_use]
pub fn size_of(blobs: &[PackedBlob]) -> u64 {
    blobs.iter().map(bytes_of).sum::<u64>() + crypto::OVERHEAD as u64 + 4
}

/// A pack in the making. One kind of blob each; no blob twice.
#[derive(Debug)]
pub struct Packer {
    target_bytes: usize,
    bytes: PageBuffer,
    blobs: Vec<PackedBlob>,
}

/// A pack that is whole and sealed.
#[derive(Debug)]
pub struct SealedPack {
    /// All its bytes.
    pub bytes: PageBuffer,
    /// What it holds, in order.
    pub blobs: Vec<PackedBlob>,
}

impl Packer {
    /// Most blobs of a pack: restic reads at most 16 MiB of header.
    const MAX_BLOBS: usize = 400_000;

    /// An empty pack that is full at `target_bytes`.
    #[must_use]
    pub fn new(target_bytes: usize) -> Self {
        Self::inside(PageBuffer::default(), target_bytes)
    }

    /// The same in memory that a pack had before.
    fn inside(mut bytes: PageBuffer, target_bytes: usize) -> Self {
        /// Room for the last blob and the header of a usual pack, so that nothing moves.
        const REST: usize = 256 * 1024;
        bytes.clear();
        if bytes.capacity() < target_bytes + REST {
            bytes = PageBuffer::with_capacity(target_bytes + REST);
        }
        Self {
            target_bytes,
            bytes,
            blobs: Vec::new(),
        }
    }

    /// Takes what was packed so far, and leaves an empty pack, in memory that another had before.
    #[must_use]
    pub fn take(&mut self, memory: PageBuffer) -> Self {
        let empty = Self::inside(memory, self.target_bytes);
        std::mem::replace(self, empty)
    }

    /// Adds a sealed, compressed blob.
    pub fn add(&mut self, kind: BlobKind, id: Id, sealed: &[u8], plain_length: u32) {
        let (Ok(offset), Ok(length)) =
            (u32::try_from(self.bytes.len()), u32::try_from(sealed.len()))
        else {
            unreachable!(
                "packs are closed at a few MiB and blobs are at most 8 MiB, trees 256 MiB"
            );
        };
        self.blobs.push(PackedBlob {
            kind,
            id,
            offset,
            length,
            plain_length: Some(plain_length),
        });
        self.bytes.extend_from_slice(sealed);
    }

    /// Whether nothing was added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// Whether it has reached its target and should be sealed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= self.target_bytes || self.blobs.len() >= Self::MAX_BLOBS
    }

    /// Writes the header and seals the pack.
    ///
    /// # Errors
    /// As [`Rng::fill`].
    pub fn seal(self, key: &Key, rng: &dyn Rng) -> Result<SealedPack> {
        let mut header = Vec::with_capacity(self.blobs.len() * 41);
        for blob in &self.blobs {
            let compressed = blob.plain_length.is_some();
            header.push(match blob.kind {
                BlobKind::Data => u8::from(compressed) * 2,
                BlobKind::Tree => 1 + u8::from(compressed) * 2,
            });
            header.extend_from_slice(&blob.length.to_le_bytes());
            if let Some(length) = blob.plain_length {
                header.extend_from_slice(&length.to_le_bytes());
            }
            header.extend_from_slice(blob.id.as_bytes());
        }
        let sealed = key.seal(&header, rng)?;
        let Ok(length) = u32::try_from(sealed.len()) else {
            unreachable!("a header of 400,000 entries has 16 MiB");
        };
        let mut bytes = self.bytes;
        bytes.extend_from_slice(&sealed);
        bytes.extend_from_slice(&length.to_le_bytes());
        Ok(SealedPack {
            bytes,
            blobs: self.blobs,
        })
    }
}

/// Reads a pack's header: `sealed` is what lies between the blobs and the length, `blob_bytes` the
/// number of bytes before it.
///
/// # Errors
/// What is wrong with it.
pub fn read_header(
    key: &Key,
    sealed: &[u8],
    blob_bytes: u64,
) -> std::result::Result<Vec<PackedBlob>, String> {
    let header = key
        .open(sealed)
        .map_err(|cause| format!("header: {cause}"))?;
    let mut blobs = Vec::new();
    let mut offset = 0_u32;
    let mut rest = header.as_slice();
    while let Some((kind, tail)) = rest.split_first() {
        let (blob_kind, compressed) = match kind {
            0 => (BlobKind::Data, false),
            1 => (BlobKind::Tree, false),
            2 => (BlobKind::Data, true),
            3 => (BlobKind::Tree, true),
            other => return Err(format!("header: unknown blob type {other}")),
        };
        let cut = || "header: cut off".to_owned();
        let (length, tail) = tail.split_first_chunk::<4>().ok_or_else(cut)?;
        let (plain_length, tail) = if compressed {
            let (plain, tail) = tail.split_first_chunk::<4>().ok_or_else(cut)?;
            (Some(u32::from_le_bytes(*plain)), tail)
        } else {
            (None, tail)
        };
        let (id, tail) = tail.split_first_chunk::<32>().ok_or_else(cut)?;
        let length = u32::from_le_bytes(*length);
        blobs.push(PackedBlob {
            kind: blob_kind,
            id: Id::from_bytes(*id),
            offset,
            length,
            plain_length,
        });
        offset = offset
            .checked_add(length)
            .ok_or_else(|| "header: lengths beyond 4 GiB".to_owned())?;
        rest = tail;
    }
    if u64::from(offset) != blob_bytes {
        return Err(format!(
            "header speaks of {offset} bytes of blobs, there are {blob_bytes}"
        ));
    }
    Ok(blobs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SystemRng;

    #[test]
    fn a_pack_is_read_back_and_has_the_computed_size() {
        let key = Key::random(&SystemRng).unwrap();
        let mut packer = Packer::new(1000);
        for text in ["tea", "cups", "pots"] {
            let sealed = key.seal(text.as_bytes(), &SystemRng).unwrap();
            packer.add(BlobKind::Data, Id::of(text.as_bytes()), &sealed, 9);
        }
        let pack = packer.seal(&key, &SystemRng).unwrap();
        assert_eq!(size_of(&pack.blobs), pack.bytes.len() as u64);
        let (rest, length) = pack.bytes.split_last_chunk::<4>().unwrap();
        let length = u32::from_le_bytes(*length) as usize;
        let (blobs, header) = rest.split_at(rest.len() - length);
        assert_eq!(
            read_header(&key, header, blobs.len() as u64).unwrap(),
            pack.blobs
        );
        assert!(read_header(&key, header, 1).is_err());
    }
}
