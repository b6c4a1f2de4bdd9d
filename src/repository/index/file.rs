//! Index files, as they stand in the repository.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::Id;
use crate::repository::pack::{BlobKind, PackedBlob};

/// Most blobs of one index file, as restic cuts them.
pub const MAX_BLOBS: usize = 50_000;

/// An index file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct IndexFile {
    /// Packs and their blobs.
    pub packs: Vec<IndexedPack>,
    /// Packs that are marked for deletion, in rustic's form: still there to read, no longer to build upon.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packs_to_delete: Vec<IndexedPack>,
}

/// One pack of an index file.
#[derive(Debug, Serialize, Deserialize)]
pub struct IndexedPack {
    /// The pack.
    pub id: Id,
    /// What it holds.
    #[serde(default)]
    pub blobs: Vec<IndexedBlob>,
    /// When it was marked for deletion. rustic gives one to packs in use as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
}

/// One blob of an index file.
#[derive(Debug, Serialize, Deserialize)]
pub struct IndexedBlob {
    id: Id,
    #[serde(rename = "type")]
    kind: BlobKind,
    offset: u32,
    length: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uncompressed_length: Option<u32>,
}

impl IndexedPack {
    /// Lists `blobs` under the pack `id`.
    #[must_use]
    pub fn new(id: Id, blobs: &[PackedBlob]) -> Self {
        let blobs = blobs
            .iter()
            .map(|blob| IndexedBlob {
                id: blob.id,
                kind: blob.kind,
                offset: blob.offset,
                length: blob.length,
                uncompressed_length: blob.plain_length,
            })
            .collect();
        Self {
            id,
            blobs,
            time: None,
        }
    }

    /// The same, marked for deletion at `time`.
    #[must_use]
    pub fn marked(id: Id, blobs: &[PackedBlob], time: Timestamp) -> Self {
        Self {
            time: Some(time),
            ..Self::new(id, blobs)
        }
    }

    /// What it holds.
    pub fn packed(&self) -> impl Iterator<Item = PackedBlob> {
        self.blobs.iter().map(IndexedBlob::packed)
    }
}

impl IndexedBlob {
    /// The blob, as its pack describes it.
    #[must_use]
    pub fn packed(&self) -> PackedBlob {
        PackedBlob {
            kind: self.kind,
            id: self.id,
            offset: self.offset,
            length: self.length,
            // Zero stands for "raw", as an omitted length does.
            plain_length: self.uncompressed_length.filter(|length| *length > 0),
        }
    }
}
