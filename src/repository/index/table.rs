//! Every place of every blob, sorted.

use std::cmp::Ordering;

use crate::id::Id;
use crate::repository::pack::{BlobKind, PackedBlob};

/// Most places of one blob that are kept in mind. Honest repositories have a few; without a limit, each question for
/// one of a million would look at all of them.
pub const MAX_PLACES: usize = 100;

/// Places whose first bytes are these two begin where the table of beginnings says.
const PREFIXES: usize = 1 << 16;

/// Where a copy of a blob lies: 48 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    id: Id,
    /// The pack's number, and in the lowest bit whether it is a tree.
    pack_and_kind: u32,
    offset: u32,
    length: u32,
    /// Zero for one that is not compressed.
    plain_length: u32,
}

impl Place {
    /// Length of its bytes.
    pub const BYTES: usize = Id::LENGTH + 16;

    /// The place of `blob` in the pack of this number.
    pub fn new(pack: u32, blob: &PackedBlob) -> Self {
        Self {
            id: blob.id,
            pack_and_kind: pack << 1 | u32::from(blob.kind == BlobKind::Tree),
            offset: blob.offset,
            length: blob.length,
            plain_length: blob.plain_length.unwrap_or(0),
        }
    }

    /// The pack's number.
    pub const fn pack(&self) -> u32 {
        self.pack_and_kind >> 1
    }

    /// Where it ends in its pack, in bytes.
    pub fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.length)
    }

    /// What it is a place of.
    pub const fn key(&self) -> (BlobKind, Id) {
        (self.kind(), self.id)
    }

    /// Its bytes, as they are kept on this machine.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (id, numbers) = bytes.split_at_mut(Id::LENGTH);
        id.copy_from_slice(self.id.as_bytes());
        let own = [
            self.pack_and_kind,
            self.offset,
            self.length,
            self.plain_length,
        ];
        for (bytes, number) in numbers.as_chunks_mut::<4>().0.iter_mut().zip(own) {
            *bytes = number.to_le_bytes();
        }
        bytes
    }

    /// The place of these bytes.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let number = |from: usize| {
            u32::from_le_bytes(std::array::from_fn(|at| bytes[Id::LENGTH + from + at]))
        };
        Self {
            id: Id::from_bytes(std::array::from_fn(|at| bytes[at])),
            pack_and_kind: number(0),
            offset: number(4),
            length: number(8),
            plain_length: number(12),
        }
    }

    /// Which of two places of a blob comes first: by the rank of their packs.
    fn cmp_by<R: Ord>(&self, other: &Self, rank: &dyn Fn(u32) -> R) -> Ordering {
        let rest = |place: &Self| (place.offset, place.length, place.plain_length);
        let packs = rank(self.pack()).cmp(&rank(other.pack()));
        packs.then_with(|| rest(self).cmp(&rest(other)))
    }

    const fn kind(&self) -> BlobKind {
        if self.pack_and_kind & 1 == 0 {
            BlobKind::Data
        } else {
            BlobKind::Tree
        }
    }

    /// The blob.
    pub fn blob(&self) -> PackedBlob {
        PackedBlob {
            kind: self.kind(),
            id: self.id,
            offset: self.offset,
            length: self.length,
            plain_length: (self.plain_length > 0).then_some(self.plain_length),
        }
    }
}

/// All places, those of data and those of trees apart.
#[derive(Debug, Default)]
pub struct Table {
    data: Sorted,
    trees: Sorted,
}

/// The places of one kind. Those pushed last are not sorted yet.
#[derive(Debug, Default)]
struct Sorted {
    places: Vec<Place>,
    /// For each two first bytes of an id, the number of places before those that begin so; once it is sorted.
    begin: Vec<u32>,
}

impl Table {
    /// Adds a place; it is found once the table is [settled](Self::settle).
    pub fn push(&mut self, place: Place) {
        match place.kind() {
            BlobKind::Data => self.data.places.push(place),
            BlobKind::Tree => self.trees.places.push(place),
        }
    }

    /// Sorts what was pushed, in an order that does not depend on who came first: by id, then by the
    /// pack's `rank`, which is another for each pack. What was said twice is kept once; a pack that was described in two ways is told to `conflict`.
    pub fn settle<R: Ord>(&mut self, rank: &dyn Fn(u32) -> R, conflict: &mut dyn FnMut(u32)) {
        self.data.settle(rank, conflict);
        self.trees.settle(rank, conflict);
    }

    /// The places of a blob.
    pub fn find(&self, kind: BlobKind, id: Id) -> &[Place] {
        match kind {
            BlobKind::Data => self.data.find(id),
            BlobKind::Tree => self.trees.find(id),
        }
    }

    /// All places, sorted once the table is settled.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.data.places.iter().chain(&self.trees.places)
    }

    /// Every different blob.
    pub fn different(&self) -> impl Iterator<Item = (BlobKind, Id)> {
        let kinds = [&self.data.places, &self.trees.places].into_iter();
        let runs = kinds.flat_map(|places| places.chunk_by(|one, next| one.id == next.id));
        runs.map(|run| (run[0].kind(), run[0].id))
    }
}

impl Sorted {
    fn settle<R: Ord>(&mut self, rank: &dyn Fn(u32) -> R, conflict: &mut dyn FnMut(u32)) {
        self.places.sort_unstable_by(|a, b| {
            let by_id = a.id.cmp(&b.id);
            by_id.then_with(|| a.cmp_by(b, rank))
        });
        let mut of_one = 1;
        self.places.dedup_by(|next, kept| {
            if next.id != kept.id {
                of_one = 1;
                return false;
            }
            if (next.pack(), next.offset) == (kept.pack(), kept.offset) {
                if next != kept {
                    conflict(kept.pack());
                }
                return true;
            }
            of_one += 1;
            of_one > MAX_PLACES
        });
        self.places.shrink_to_fit();
        self.begin = vec![0; PREFIXES + 1];
        for place in &self.places {
            self.begin[prefix(place.id) + 1] += 1;
        }
        let mut before = 0;
        for begin in &mut self.begin {
            before += *begin;
            *begin = before;
        }
    }

    fn find(&self, id: Id) -> &[Place] {
        let prefix = prefix(id);
        let Some([begin, end]) = self.begin.get(prefix..=prefix + 1) else {
            return &[];
        };
        let near = &self.places[*begin as usize..*end as usize];
        let first = near.partition_point(|place| place.id < id);
        let of_it = near[first..].partition_point(|place| place.id == id);
        &near[first..first + of_it]
    }
}

/// Puts the places of one blob in order, each once, as [`Table::settle`] does it for all.
pub fn settle_one<R: Ord>(places: &mut Vec<Place>, rank: &dyn Fn(u32) -> R) {
    places.sort_unstable_by(|a, b| a.cmp_by(b, rank));
    places.dedup_by_key(|place| (place.pack(), place.offset));
    places.truncate(MAX_PLACES);
}

fn prefix(id: Id) -> usize {
    let bytes = id.as_bytes();
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn id(prefix: u8, number: u8) -> Id {
        let mut bytes = [0; 32];
        (bytes[0], bytes[31]) = (prefix, number);
        Id::from_bytes(bytes)
    }

    fn pack_id(number: u32) -> Id {
        // Packs that came first have no smaller ids.
        Id::of(&number.to_le_bytes())
    }

    fn settled(places: &[(u32, PackedBlob)]) -> (Table, BTreeSet<u32>) {
        let (mut table, mut conflicts) = (Table::default(), BTreeSet::new());
        for (pack, blob) in places {
            table.push(Place::new(*pack, blob));
        }
        table.settle(&pack_id, &mut |pack| {
            conflicts.insert(pack);
        });
        (table, conflicts)
    }

    fn blob(prefix: u8, number: u8, is_tree: bool, offset: u32, length: u32) -> PackedBlob {
        PackedBlob {
            kind: if is_tree {
                BlobKind::Tree
            } else {
                BlobKind::Data
            },
            id: id(prefix, number),
            offset,
            length,
            plain_length: length.is_multiple_of(2).then_some(length),
        }
    }

    proptest! {
        #[test]
        fn each_place_is_found_once_whatever_came_first(
            said in vec((0..3_u32, 0..3_u8, 0..4_u8, any::<bool>(), 0..3_u32, 5..7_u32), 0..60),
            rotated in 0..60_usize,
        ) {
            let mut places: Vec<(u32, PackedBlob)> = said
                .into_iter()
                .map(|(pack, prefix, number, is_tree, offset, length)| {
                    (pack, blob(prefix * 127, number, is_tree, offset, length))
                })
                .collect();
            let (table, conflicts) = settled(&places);
            let key = |(pack, blob): &(u32, PackedBlob)| (blob.kind, blob.id, *pack, blob.offset);
            for asked in &places {
                let (kind, id) = (asked.1.kind, asked.1.id);
                let found: Vec<_> = table.find(kind, id).iter().map(|place| (place.pack(), place.blob())).collect();
                let expected: BTreeSet<_> = places.iter().filter(|place| (place.1.kind, place.1.id) == (kind, id)).map(key).collect();
                prop_assert_eq!(found.iter().map(key).collect::<BTreeSet<_>>(), expected.clone());
                prop_assert_eq!(found.len(), expected.len());
                prop_assert!(found.iter().all(|found| places.contains(found)));
            }
            let contradicted: BTreeSet<u32> = places
                .iter()
                .filter(|one| places.iter().any(|other| key(one) == key(other) && *one != other))
                .map(|one| one.0)
                .collect();
            prop_assert_eq!(&conflicts, &contradicted);
            let different: BTreeSet<_> = places.iter().map(|place| (place.1.kind, place.1.id)).collect();
            prop_assert_eq!(table.different().count(), different.len());
            prop_assert_eq!(table.different().collect::<BTreeSet<_>>(), different);
            prop_assert!(table.find(BlobKind::Data, id(255, 9)).is_empty());
            if !places.is_empty() {
                let by = rotated % places.len();
                places.rotate_left(by);
                let (again, _) = settled(&places);
                prop_assert!(again.places().eq(table.places()));
            }
        }
    }

    #[test]
    fn a_blob_of_a_million_places_has_a_hundred() {
        let many: Vec<(u32, PackedBlob)> = (0..1_000_000)
            .map(|offset| (0, blob(7, 7, false, offset, 5)))
            .collect();
        let (table, _) = settled(&many);
        assert_eq!(table.find(BlobKind::Data, id(7, 7)).len(), MAX_PLACES);
        assert_eq!(table.different().count(), 1);
    }

    #[test]
    fn nothing_is_found_in_an_empty_table() {
        assert!(Table::default().find(BlobKind::Data, id(0, 0)).is_empty());
        assert!(settled(&[]).0.find(BlobKind::Tree, id(255, 0)).is_empty());
    }
}
