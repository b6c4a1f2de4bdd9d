//! The index: in which pack each blob lies.
//!
//! A repository may have millions of blobs, so they lie in one table that is sorted once, when all
//! index files are read: 48 bytes for each blob, and nothing of a hostile index makes it slower. Of a
//! large repository most of it may be a kept table of this machine, and only what came in since is read.

mod file;
mod filter;
mod kept;
mod merge;
mod page;
mod shelf;
mod spot;
mod table;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;

use super::crypto;
use super::pack::{self, BlobKind, PackedBlob};
use crate::id::Id;

pub use file::{IndexFile, IndexedBlob, IndexedPack, MAX_BLOBS};
use kept::Kept;
pub use shelf::Shelf;
pub(in crate::repository) use spot::Indexed;
use spot::Spot;
use table::{Place, Table, settle_one};

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
            .saturating_sub(u32::try_from(crypto::OVERHEAD).unwrap_or(0));
        u64::from(self.blob.plain_length.unwrap_or(raw))
    }
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
    /// Bytes of what the kept table places in it, header entries included.
    kept_bytes: u64,
}

impl Pack {
    const fn new(id: Id, standing: Standing, kept_bytes: u64) -> Self {
        Self {
            id,
            standing,
            lost: false,
            seen_bytes: None,
            kept_bytes,
        }
    }

    /// Those that will stay come first: of very many places they are the ones that count.
    const fn rank(&self) -> (Reverse<Standing>, Id) {
        (Reverse(self.standing), self.id)
    }
}

/// A table that is kept on this machine.
#[derive(Debug)]
struct OnShelf {
    table: Kept,
    spot: Spot,
    /// The same read from the index files again: for who wants all of it, or because the table is wrong.
    in_memory: OnceLock<Table>,
}

impl OnShelf {
    const fn new(table: Kept, spot: Spot) -> Self {
        Self {
            table,
            spot,
            in_memory: OnceLock::new(),
        }
    }
}

/// All index files together.
#[derive(Debug, Default)]
pub struct Index {
    packs: Vec<Pack>,
    pack_numbers: HashMap<Id, u32>,
    blobs: Table,
    /// Packs that two index files describe differently.
    conflicts: BTreeSet<Id>,
    /// More places, of packs that come first and that no index file beside it names.
    kept: Option<OnShelf>,
}

/// The packs of an index file, each with how far it is to be relied upon.
fn packs_of(file: &IndexFile) -> impl Iterator<Item = (&IndexedPack, Standing)> {
    let in_use = file.packs.iter().map(|pack| (pack, Standing::InUse));
    let retired = file.packs_to_delete.iter();
    in_use.chain(retired.map(|pack| (pack, Standing::Retired)))
}

/// An index in the making: files come one by one, and are sorted when all are there.
#[derive(Debug, Default)]
pub struct Builder {
    index: Index,
    /// Whether a file names a pack of the kept table.
    names_kept: bool,
}

impl Builder {
    /// Begins with what a kept table says of these packs.
    fn over(kept: OnShelf, packs: Vec<Pack>) -> Self {
        let numbers = packs.iter().zip(0..);
        let pack_numbers = numbers.map(|(pack, number)| (pack.id, number)).collect();
        let index = Index {
            packs,
            pack_numbers,
            kept: Some(kept),
            ..Index::default()
        };
        Self {
            index,
            names_kept: false,
        }
    }

    /// Takes an index file in.
    pub fn add(&mut self, file: &IndexFile) {
        let kept = self.index.kept.as_ref();
        let kept_packs = kept.map_or(0, |kept| kept.table.packs());
        for (pack, standing) in packs_of(file) {
            let number = self.index.push(pack.id, standing, pack.packed());
            self.names_kept |= number < kept_packs;
        }
    }

    /// The index.
    #[must_use]
    pub fn build(self) -> Index {
        let mut index = self.index;
        index.settle();
        index
    }
}

impl Index {
    /// What one index file says.
    #[must_use]
    pub fn of(file: &IndexFile) -> Self {
        let mut builder = Builder::default();
        builder.add(file);
        builder.build()
    }

    /// Takes in packs that no index file names, as their own headers describe them. They are read from, but
    /// a backup does not build upon them.
    pub fn add_unindexed<'a>(&mut self, packs: impl IntoIterator<Item = (Id, &'a [PackedBlob])>) {
        for (pack, blobs) in packs {
            self.push(pack, Standing::Unindexed, blobs.iter().copied());
        }
        self.settle();
    }

    /// Returns the pack's number.
    fn push(
        &mut self,
        pack: Id,
        standing: Standing,
        blobs: impl Iterator<Item = PackedBlob>,
    ) -> u32 {
        let number = self.pack_number(pack, standing);
        for blob in blobs {
            self.blobs.push(Place::new(number, &blob));
        }
        number
    }

    fn settle(&mut self) {
        let packs = &self.packs;
        let rank = |number: u32| packs[number as usize].rank();
        let conflicts = &mut self.conflicts;
        self.blobs.settle(&rank, &mut |pack| {
            conflicts.insert(rank(pack).1);
        });
    }

    /// Looks at the places of a blob, those in packs that will stay first.
    fn with_places<T>(&self, kind: BlobKind, id: Id, look: impl FnOnce(&[Place]) -> T) -> T {
        let near = self.blobs.find(kind, id);
        let Some(kept) = &self.kept else {
            return look(near);
        };
        let mut places = self.kept_places(kept, kind, id);
        if !near.is_empty() {
            places.extend_from_slice(near);
            settle_one(&mut places, &|number| self.packs[number as usize].rank());
        }
        look(&places)
    }

    fn kept_places(&self, kept: &OnShelf, kind: BlobKind, id: Id) -> Vec<Place> {
        if kept.in_memory.get().is_none() {
            if let Ok(places) = kept.table.find(kind, id) {
                return places;
            }
            // The next run makes it anew.
            kept.spot.discard();
        }
        self.kept_in_memory(kept).find(kind, id).to_vec()
    }

    /// What the kept table should say. A file that cannot be read any more is left out: what it names is then
    /// stored again, and not found.
    fn kept_in_memory<'a>(&self, kept: &'a OnShelf) -> &'a Table {
        kept.in_memory.get_or_init(|| {
            let mut table = Table::default();
            kept.spot.read_again(kept.table.files(), &mut |pack| {
                if let Some(number) = self.pack_numbers.get(&pack.id) {
                    for blob in pack.packed() {
                        table.push(Place::new(*number, &blob));
                    }
                }
            });
            let rank = |number: u32| self.packs[number as usize].rank();
            table.settle(&rank, &mut |_| {});
            table
        })
    }

    /// All places, those of a kept table as well: it is read into memory for it.
    fn all_places(&self) -> impl Iterator<Item = &Place> {
        let kept = self.kept.iter();
        let kept = kept.flat_map(|kept| self.kept_in_memory(kept).places());
        kept.chain(self.blobs.places())
    }

    fn pack_number(&mut self, id: Id, standing: Standing) -> u32 {
        let number = *self.pack_numbers.entry(id).or_insert_with(|| {
            self.packs.push(Pack::new(id, standing, 0));
            u32::try_from(self.packs.len() - 1).unwrap_or(u32::MAX)
        });
        // Listed as in use anywhere, it is in use.
        let known = &mut self.packs[number as usize].standing;
        *known = standing.max(*known);
        number
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
        let is_there = |place: &Place| {
            let seen = self.packs[place.pack() as usize].seen_bytes;
            seen.is_none_or(|bytes| place.end() <= bytes)
        };
        self.with_places(kind, id, |places| places.iter().any(is_there))
    }

    /// Compares with the packs that are there (name and size). Blobs of one that is gone or too short
    /// are no longer built upon; returns the names of such packs.
    pub fn note_lost(&mut self, there: &HashMap<Id, u64>) -> Vec<Id> {
        let around = crypto::OVERHEAD as u64 + 4;
        let kept = self.packs.iter().map(|pack| pack.kept_bytes);
        let mut sizes: Vec<u64> = kept.map(|bytes| bytes.saturating_add(around)).collect();
        for place in self.blobs.places() {
            let size = &mut sizes[place.pack() as usize];
            *size = size.saturating_add(pack::bytes_of(&place.blob()));
        }
        let mut lost = Vec::new();
        for (pack, size) in self.packs.iter_mut().zip(sizes) {
            let is_there = there.get(&pack.id).is_some_and(|there| *there >= size);
            if pack.standing == Standing::InUse && !is_there {
                pack.lost = true;
                lost.push(pack.id);
            }
        }
        lost.sort_unstable();
        lost
    }

    /// Whether the blob is in the repository, in a pack that will stay.
    #[must_use]
    pub fn contains(&self, kind: BlobKind, id: Id) -> bool {
        let is_sound = |place: &Place| self.is_sound(place);
        self.with_places(kind, id, |places| places.iter().any(is_sound))
    }

    fn is_sound(&self, place: &Place) -> bool {
        let pack = &self.packs[place.pack() as usize];
        pack.standing == Standing::InUse && !pack.lost
    }

    /// Where the blob lies: in packs that will stay first.
    #[must_use]
    pub fn locations(&self, kind: BlobKind, id: Id) -> Vec<Location> {
        self.with_places(kind, id, |places| {
            let mut places: Vec<&Place> = places.iter().collect();
            places.sort_by_key(|place| !self.is_sound(place));
            let locations = places.into_iter().map(|place| self.location(place));
            locations.collect()
        })
    }

    /// Where the best copy of the blob lies.
    #[must_use]
    pub fn find(&self, kind: BlobKind, id: Id) -> Option<Location> {
        self.with_places(kind, id, |places| {
            let sound = places.iter().find(|place| self.is_sound(place));
            let place = sound.or_else(|| places.first())?;
            Some(self.location(place))
        })
    }

    /// Where a copy of the blob lies that can be built upon.
    #[must_use]
    pub fn find_sound(&self, kind: BlobKind, id: Id) -> Option<Location> {
        self.with_places(kind, id, |places| {
            let sound = places.iter().find(|place| self.is_sound(place));
            sound.map(|place| self.location(place))
        })
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

    fn location(&self, place: &Place) -> Location {
        Location {
            pack: self.packs[place.pack() as usize].id,
            blob: place.blob(),
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
        for place in self.all_places() {
            let location = self.location(place);
            if let Some(blobs) = packs.get_mut(&location.pack) {
                blobs.push(location.blob);
            }
        }
        for blobs in packs.values_mut() {
            blobs.sort_unstable_by_key(|blob| blob.offset);
        }
        packs
    }

    /// Every different blob, those of a kind in order of their ids.
    pub fn blobs(&self) -> impl Iterator<Item = (BlobKind, Id)> {
        let kept = self.kept.iter();
        let mut kept = kept
            .flat_map(|kept| self.kept_in_memory(kept).different())
            .peekable();
        let mut near = self.blobs.different().peekable();
        std::iter::from_fn(move || match (kept.peek(), near.peek()) {
            (Some(one), Some(other)) if one == other => kept.next().and(near.next()),
            (Some(one), Some(other)) if one > other => near.next(),
            (None, _) => near.next(),
            (Some(_), _) => kept.next(),
        })
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
        self.blobs().count()
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

    fn index_of(files: &[IndexFile]) -> Index {
        let mut builder = Builder::default();
        for file in files {
            builder.add(file);
        }
        builder.build()
    }

    fn id(text: &str) -> Id {
        Id::of(text.as_bytes())
    }

    #[test]
    fn what_is_marked_for_deletion_is_read_but_not_built_upon() {
        let files = [
            file(&[], &[("old", packed("tea", 50))]),
            file(&[("new", packed("tea", 60))], &[]),
            file(&[("old", packed("tea", 50))], &[]),
        ];
        let index = index_of(&files[..1]);
        assert!(!index.contains(BlobKind::Data, id("tea")));
        assert_eq!(
            index.find(BlobKind::Data, id("tea")).unwrap().pack,
            id("old")
        );
        assert!(index.is_retired(id("old")) && index.packs().is_empty());
        // Another copy in a pack that stays comes first; and a pack in use anywhere is in use.
        let index = index_of(&files[..2]);
        assert!(index.contains(BlobKind::Data, id("tea")));
        assert_eq!(
            index.locations(BlobKind::Data, id("tea"))[0].pack,
            id("new")
        );
        let index = index_of(&files);
        assert!(!index.is_retired(id("old")));
    }

    #[test]
    fn what_lies_in_a_lost_pack_is_not_built_upon() {
        let blobs = [
            ("a", packed("tea", 50)),
            ("b", packed("cup", 50)),
            ("c", packed("pot", 50)),
        ];
        let mut index = Index::of(&file(&blobs, &[]));
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
        let left = [packed("tea", 50)];
        let mut index = Index::default();
        index.add_unindexed([(id("left"), left.as_slice())]);
        assert!(!index.contains(BlobKind::Data, id("tea")));
        assert_eq!(
            index.find(BlobKind::Data, id("tea")).unwrap().pack,
            id("left")
        );
        assert!(index.packs().is_empty() && !index.names(id("left")));
        // A copy that an index names comes first.
        let mut index = Index::of(&file(&[("a", packed("tea", 60))], &[]));
        index.add_unindexed([(id("left"), left.as_slice())]);
        assert_eq!(index.find(BlobKind::Data, id("tea")).unwrap().pack, id("a"));
        assert!(index.names(id("a")));
        assert_eq!(index.packs().len(), 1);
    }

    #[test]
    fn of_very_many_places_that_which_stays_counts() {
        let left = [packed("tea", 50)];
        let names: Vec<Id> = (0..150).map(|number| id(&number.to_string())).collect();
        let unindexed = || names.iter().map(|pack| (*pack, left.as_slice()));
        for named in ["a", "b", "c", "d"] {
            let mut index = Index::of(&file(&[(named, packed("tea", 60))], &[]));
            index.add_unindexed(unindexed());
            assert!(index.contains(BlobKind::Data, id("tea")), "{named}");
            let found = index.find(BlobKind::Data, id("tea")).unwrap();
            assert_eq!(found.pack, id(named));
            assert_eq!(index.packs()[&id(named)].len(), 1);
        }
    }

    #[test]
    fn a_pack_listed_twice_counts_once_and_a_contradiction_is_seen() {
        let twice = || file(&[("a", packed("tea", 50)), ("b", packed("tea", 50))], &[]);
        let index = index_of(&[twice(), twice()]);
        assert_eq!(index.packs()[&id("a")].len(), 1);
        assert_eq!(index.packs()[&id("b")].len(), 1);
        assert!(index.conflicts().is_empty());
        let index = index_of(&[twice(), file(&[("b", packed("tea", 51))], &[])]);
        assert_eq!(index.conflicts().iter().collect::<Vec<_>>(), [&id("b")]);
    }
}
