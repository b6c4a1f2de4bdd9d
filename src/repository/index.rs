//! The index: in which pack each blob lies.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::pack::{self, BlobKind, PackedBlob};
use crate::id::Id;

/// Most blobs of one index file, as restic cuts them.
pub const MAX_BLOBS: usize = 50_000;

/// Most places of one blob that are kept in mind. Honest repositories have a few; without a limit, each
/// of a million would be compared with all others.
const MAX_COPIES: usize = 100;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Compact {
    pack: u32,
    offset: u32,
    length: u32,
    plain_length: u32,
}

/// How far a pack is to be relied upon; the lesser comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// No index names it, its own header was read. It serves, but nothing is built upon it: other
    /// tools look for blobs in index files only, and a prune may remove it.
    Unindexed,
    /// Marked for deletion: readable while it is there.
    Retired,
    /// Named by an index file.
    InUse,
}

/// One pack.
#[derive(Debug)]
struct Pack {
    id: Id,
    standing: Standing,
    /// Seen to be gone or too short.
    lost: bool,
    /// Its bytes, once looked for: none of one that is not there.
    seen_bytes: Option<u64>,
}

/// All index files together.
#[derive(Debug, Default)]
pub struct Index {
    packs: Vec<Pack>,
    pack_numbers: HashMap<Id, u32>,
    blobs: HashMap<(BlobKind, Id), Compact>,
    /// Further copies of a blob, for when the first is damaged.
    copies: HashMap<(BlobKind, Id), Vec<Compact>>,
    /// Packs that two index files describe differently.
    conflicts: BTreeSet<Id>,
}

impl Index {
    /// Takes an index file in.
    pub fn add(&mut self, file: &IndexFile) {
        for (packs, standing) in [
            (&file.packs, Standing::InUse),
            (&file.packs_to_delete, Standing::Retired),
        ] {
            for pack in packs {
                let number = self.pack_number(pack.id, standing);
                for blob in &pack.blobs {
                    self.add_blob(number, &blob.packed());
                }
            }
        }
    }

    /// Takes in a pack that no index file names, as its own header describes it. It is read from, but
    /// a backup does not build upon it.
    pub fn add_unindexed(&mut self, pack: Id, blobs: &[PackedBlob]) {
        let number = self.pack_number(pack, Standing::Unindexed);
        for blob in blobs {
            self.add_blob(number, blob);
        }
    }

    fn pack_number(&mut self, id: Id, standing: Standing) -> u32 {
        let number = *self.pack_numbers.entry(id).or_insert_with(|| {
            self.packs.push(Pack {
                id,
                standing,
                lost: false,
                seen_bytes: None,
            });
            u32::try_from(self.packs.len() - 1).unwrap_or(u32::MAX)
        });
        // Listed as in use anywhere, it is in use.
        let known = &mut self.packs[number as usize].standing;
        *known = standing.max(*known);
        number
    }

    fn add_blob(&mut self, pack: u32, blob: &PackedBlob) {
        let compact = Compact {
            pack,
            offset: blob.offset,
            length: blob.length,
            plain_length: blob.plain_length.unwrap_or(0),
        };
        let key = (blob.kind, blob.id);
        if let Entry::Vacant(vacant) = self.blobs.entry(key) {
            vacant.insert(compact);
            return;
        }
        if self.copies.get(&key).map_or(0, Vec::len) >= MAX_COPIES {
            return;
        }
        let same_place = self
            .compacts(blob.kind, blob.id)
            .find(|known| (known.pack, known.offset) == (pack, blob.offset));
        match same_place.copied() {
            None => self.copies.entry(key).or_default().push(compact),
            Some(same) if same == compact => {}
            Some(_) => {
                self.conflicts.insert(self.packs[pack as usize].id);
            }
        }
    }

    /// Notes the packs that are there, with their sizes: what [`Self::is_within_reach`] goes by.
    pub fn note_sizes(&mut self, there: &HashMap<Id, u64>) {
        for pack in &mut self.packs {
            pack.seen_bytes = Some(there.get(&pack.id).copied().unwrap_or(0));
        }
    }

    /// Whether a copy of the blob lies in a pack that is there and long enough, as far as the sizes of packs
    /// are known. What its bytes are, only reading them tells.
    #[must_use]
    pub fn is_within_reach(&self, kind: BlobKind, id: Id) -> bool {
        self.compacts(kind, id).any(|compact| {
            let seen = self.packs[compact.pack as usize].seen_bytes;
            let end = u64::from(compact.offset) + u64::from(compact.length);
            seen.is_none_or(|bytes| end <= bytes)
        })
    }

    /// Compares with the packs that are there (name and size). Blobs of one that is gone or too short
    /// are no longer built upon; returns the names of such packs.
    pub fn note_lost(&mut self, there: &HashMap<Id, u64>) -> Vec<Id> {
        let mut lost = Vec::new();
        for (id, blobs) in self.packs() {
            if there
                .get(&id)
                .is_none_or(|size| *size < pack::size_of(&blobs))
            {
                lost.push(id);
            }
        }
        lost.sort_unstable();
        for id in &lost {
            if let Some(number) = self.pack_numbers.get(id) {
                self.packs[*number as usize].lost = true;
            }
        }
        lost
    }

    /// Whether the blob is in the repository, in a pack that will stay.
    #[must_use]
    pub fn contains(&self, kind: BlobKind, id: Id) -> bool {
        self.compacts(kind, id)
            .any(|compact| self.is_sound(compact))
    }

    fn compacts(&self, kind: BlobKind, id: Id) -> impl Iterator<Item = &Compact> {
        let key = (kind, id);
        let copies = self.copies.get(&key).into_iter().flatten();
        self.blobs.get(&key).into_iter().chain(copies)
    }

    fn is_sound(&self, compact: &Compact) -> bool {
        let pack = &self.packs[compact.pack as usize];
        pack.standing == Standing::InUse && !pack.lost
    }

    /// Where the blob lies: in packs that will stay first.
    #[must_use]
    pub fn locations(&self, kind: BlobKind, id: Id) -> Vec<Location> {
        let mut compacts: Vec<&Compact> = self.compacts(kind, id).collect();
        compacts.sort_by_key(|compact| !self.is_sound(compact));
        compacts
            .into_iter()
            .map(|compact| self.location(kind, id, *compact))
            .collect()
    }

    /// Where the best copy of the blob lies.
    #[must_use]
    pub fn find(&self, kind: BlobKind, id: Id) -> Option<Location> {
        let sound = self
            .compacts(kind, id)
            .find(|compact| self.is_sound(compact));
        let compact = sound.or_else(|| self.compacts(kind, id).next())?;
        Some(self.location(kind, id, *compact))
    }

    /// A file's size in bytes: the one that its folder says, or where that says none (rustic's of a
    /// stream), that of its blobs.
    #[must_use]
    pub fn file_size(&self, blobs: &[Id], said: u64) -> u64 {
        if said > 0 {
            return said;
        }
        let locations = blobs.iter().filter_map(|id| self.find(BlobKind::Data, *id));
        locations.fold(0, |sum, location| {
            sum.saturating_add(location.plain_length())
        })
    }

    fn location(&self, kind: BlobKind, id: Id, compact: Compact) -> Location {
        Location {
            pack: self.packs[compact.pack as usize].id,
            blob: PackedBlob {
                kind,
                id,
                offset: compact.offset,
                length: compact.length,
                plain_length: (compact.plain_length > 0).then_some(compact.plain_length),
            },
        }
    }

    /// Every pack in use with its blobs in order of their offsets, as far as this index knows them.
    #[must_use]
    pub fn packs(&self) -> HashMap<Id, Vec<PackedBlob>> {
        let in_use = self
            .packs
            .iter()
            .filter(|pack| pack.standing == Standing::InUse);
        let mut packs: HashMap<Id, Vec<PackedBlob>> =
            in_use.map(|pack| (pack.id, Vec::new())).collect();
        let copies = self
            .copies
            .iter()
            .flat_map(|(key, list)| list.iter().map(move |copy| (key, copy)));
        for ((kind, id), compact) in self.blobs.iter().chain(copies) {
            let location = self.location(*kind, *id, *compact);
            if let Some(blobs) = packs.get_mut(&location.pack) {
                blobs.push(location.blob);
            }
        }
        for blobs in packs.values_mut() {
            blobs.sort_unstable_by_key(|blob| blob.offset);
        }
        packs
    }

    /// Every different blob, in no order.
    pub fn blobs(&self) -> impl Iterator<Item = (BlobKind, Id)> {
        self.blobs.keys().copied()
    }

    /// Whether `pack` is one that is marked for deletion.
    #[must_use]
    pub fn is_retired(&self, pack: Id) -> bool {
        self.standing(pack) == Some(Standing::Retired)
    }

    /// Whether an index file names `pack`.
    #[must_use]
    pub fn names(&self, pack: Id) -> bool {
        self.standing(pack)
            .is_some_and(|standing| standing > Standing::Unindexed)
    }

    fn standing(&self, pack: Id) -> Option<Standing> {
        let number = self.pack_numbers.get(&pack)?;
        Some(self.packs[*number as usize].standing)
    }

    /// Packs that two index files describe differently.
    #[must_use]
    pub const fn conflicts(&self) -> &BTreeSet<Id> {
        &self.conflicts
    }

    /// Number of different blobs.
    #[must_use]
    pub fn blob_count(&self) -> usize {
        self.blobs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(text: &str, length: u32) -> PackedBlob {
        PackedBlob {
            kind: BlobKind::Data,
            id: Id::of(text.as_bytes()),
            offset: 0,
            length,
            plain_length: Some(9),
        }
    }

    fn file(packs: &[(&str, PackedBlob)], to_delete: &[(&str, PackedBlob)]) -> IndexFile {
        let list = |packs: &[(&str, PackedBlob)]| {
            packs
                .iter()
                .map(|(name, blob)| IndexedPack::new(Id::of(name.as_bytes()), &[*blob]))
                .collect()
        };
        IndexFile {
            packs: list(packs),
            packs_to_delete: list(to_delete),
        }
    }

    fn id(text: &str) -> Id {
        Id::of(text.as_bytes())
    }

    #[test]
    fn what_is_marked_for_deletion_is_read_but_not_built_upon() {
        let mut index = Index::default();
        index.add(&file(&[], &[("old", packed("tea", 50))]));
        assert!(!index.contains(BlobKind::Data, id("tea")));
        assert_eq!(
            index.find(BlobKind::Data, id("tea")).unwrap().pack,
            id("old")
        );
        assert!(index.is_retired(id("old")) && index.packs().is_empty());
        // Another copy in a pack that stays comes first; and a pack in use anywhere is in use.
        index.add(&file(&[("new", packed("tea", 60))], &[]));
        assert!(index.contains(BlobKind::Data, id("tea")));
        assert_eq!(
            index.locations(BlobKind::Data, id("tea"))[0].pack,
            id("new")
        );
        index.add(&file(&[("old", packed("tea", 50))], &[]));
        assert!(!index.is_retired(id("old")));
    }

    #[test]
    fn what_lies_in_a_lost_pack_is_not_built_upon() {
        let mut index = Index::default();
        let blobs = [
            ("a", packed("tea", 50)),
            ("b", packed("cup", 50)),
            ("c", packed("pot", 50)),
        ];
        index.add(&file(&blobs, &[]));
        let whole = pack::size_of(&[packed("tea", 50)]);
        let there = HashMap::from([(id("a"), whole), (id("b"), whole - 1)]);
        let mut lost = vec![id("b"), id("c")];
        lost.sort_unstable();
        assert_eq!(index.note_lost(&there), lost);
        let contained = ["tea", "cup", "pot"].map(|text| index.contains(BlobKind::Data, id(text)));
        assert_eq!(contained, [true, false, false]);
    }

    #[test]
    fn what_no_index_names_is_read_and_not_built_upon() {
        let mut index = Index::default();
        index.add_unindexed(id("left"), &[packed("tea", 50)]);
        assert!(!index.contains(BlobKind::Data, id("tea")));
        assert_eq!(
            index.find(BlobKind::Data, id("tea")).unwrap().pack,
            id("left")
        );
        assert!(index.packs().is_empty() && !index.names(id("left")));
        // A copy that an index names comes first.
        index.add(&file(&[("a", packed("tea", 60))], &[]));
        assert_eq!(index.find(BlobKind::Data, id("tea")).unwrap().pack, id("a"));
        assert!(index.names(id("a")));
        assert_eq!(index.packs().len(), 1);
    }

    #[test]
    fn a_pack_listed_twice_counts_once_and_a_contradiction_is_seen() {
        let mut index = Index::default();
        for _ in 0..2 {
            index.add(&file(
                &[("a", packed("tea", 50)), ("b", packed("tea", 50))],
                &[],
            ));
        }
        assert_eq!(index.packs()[&id("a")].len(), 1);
        assert_eq!(index.packs()[&id("b")].len(), 1);
        assert!(index.conflicts().is_empty());
        index.add(&file(&[("b", packed("tea", 51))], &[]));
        assert_eq!(index.conflicts().iter().collect::<Vec<_>>(), [&id("b")]);
    }
}
