//! The index: in which pack each blob lies.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::pack::{BlobKind, PackedBlob};
use crate::id::Id;

/// Most blobs of one index file, as restic cuts them.
pub const MAX_BLOBS: usize = 50_000;

/// An index file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct IndexFile {
    /// Packs and their blobs.
    pub packs: Vec<IndexedPack>,
    /// Packs that rustic has marked for deletion: still there to read, no longer to build upon.
    #[serde(default, skip_serializing)]
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
        Self { id, blobs }
    }
}

impl IndexedBlob {
    fn packed(&self) -> PackedBlob {
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

/// Where a blob lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: Id,
    /// The blob in it.
    pub blob: PackedBlob,
}

impl Location {
    /// The blob's plain length in bytes.
    #[must_use]
    pub fn plain_length(&self) -> u64 {
        let raw = self
            .blob
            .length
            .saturating_sub(u32::try_from(super::crypto::OVERHEAD).unwrap_or(0));
        u64::from(self.blob.plain_length.unwrap_or(raw))
    }
}

/// A blob's place, with its pack as a number: 40 bytes fewer for each of millions.
#[derive(Debug, Clone, Copy)]
struct Compact {
    pack: u32,
    offset: u32,
    length: u32,
    plain_length: u32,
}

/// All index files together.
#[derive(Debug, Default)]
pub struct Index {
    packs: Vec<Id>,
    pack_numbers: HashMap<Id, u32>,
    blobs: HashMap<(BlobKind, Id), Compact>,
    /// Further copies of a blob, for when the first is damaged.
    copies: HashMap<(BlobKind, Id), Vec<Compact>>,
}

impl Index {
    /// Takes an index file in.
    pub fn add(&mut self, file: &IndexFile) {
        for pack in file.packs.iter().chain(&file.packs_to_delete) {
            let number = *self.pack_numbers.entry(pack.id).or_insert_with(|| {
                self.packs.push(pack.id);
                u32::try_from(self.packs.len() - 1).unwrap_or(u32::MAX)
            });
            for blob in &pack.blobs {
                self.add_blob(number, &blob.packed());
            }
        }
    }

    fn add_blob(&mut self, pack: u32, blob: &PackedBlob) {
        let compact = Compact {
            pack,
            offset: blob.offset,
            length: blob.length,
            plain_length: blob.plain_length.unwrap_or(0),
        };
        match self.blobs.entry((blob.kind, blob.id)) {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(compact);
            }
            std::collections::hash_map::Entry::Occupied(first) => {
                let first = first.get();
                if (first.pack, first.offset) != (pack, blob.offset) {
                    self.copies
                        .entry((blob.kind, blob.id))
                        .or_default()
                        .push(compact);
                }
            }
        }
    }

    /// Whether the blob is in the repository.
    #[must_use]
    pub fn contains(&self, kind: BlobKind, id: Id) -> bool {
        self.blobs.contains_key(&(kind, id))
    }

    /// Where the blob lies, first copy first.
    #[must_use]
    pub fn locations(&self, kind: BlobKind, id: Id) -> Vec<Location> {
        let key = (kind, id);
        let copies = self.copies.get(&key).into_iter().flatten();
        self.blobs
            .get(&key)
            .into_iter()
            .chain(copies)
            .map(|compact| self.location(kind, id, *compact))
            .collect()
    }

    /// Where the first copy of the blob lies.
    #[must_use]
    pub fn find(&self, kind: BlobKind, id: Id) -> Option<Location> {
        let compact = self.blobs.get(&(kind, id))?;
        Some(self.location(kind, id, *compact))
    }

    fn location(&self, kind: BlobKind, id: Id, compact: Compact) -> Location {
        Location {
            pack: self.packs[compact.pack as usize],
            blob: PackedBlob {
                kind,
                id,
                offset: compact.offset,
                length: compact.length,
                plain_length: (compact.plain_length > 0).then_some(compact.plain_length),
            },
        }
    }

    /// Every pack with its blobs in order of their offsets, as far as this index knows them.
    #[must_use]
    pub fn packs(&self) -> HashMap<Id, Vec<PackedBlob>> {
        let mut packs: HashMap<Id, Vec<PackedBlob>> =
            self.packs.iter().map(|id| (*id, Vec::new())).collect();
        let copies = self
            .copies
            .iter()
            .flat_map(|(key, list)| list.iter().map(move |copy| (key, copy)));
        for ((kind, id), compact) in self.blobs.iter().chain(copies) {
            let location = self.location(*kind, *id, *compact);
            packs.entry(location.pack).or_default().push(location.blob);
        }
        for blobs in packs.values_mut() {
            blobs.sort_unstable_by_key(|blob| blob.offset);
        }
        packs
    }

    /// Number of different blobs.
    #[must_use]
    pub fn blob_count(&self) -> usize {
        self.blobs.len()
    }
}
