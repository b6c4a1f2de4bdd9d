//! What the index files say of each pack, file by file, against the packs that are there.
//!
//! Their blobs are not kept in memory: of an entry only its hash, and whether it fits its pack. The few
//! files that are written anew are read once more.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::backend::{Class, Listing};
use crate::error::{Error, Result};
use crate::id::{Hasher, Id};
use crate::monitor::{Monitor, go_on};
use crate::repository::index::{IndexFile, IndexedPack};
use crate::repository::pack::{self, BlobKind, PackedBlob};
use crate::repository::replace::Standing;
use crate::repository::{Repository, report_strays};

/// All index files, and the packs that are there.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// Those that can be read, with the packs that they name.
    pub files: BTreeMap<Id, BTreeMap<Id, Standing>>,
    /// Those that cannot, and why.
    pub unreadable: Vec<(Id, Error)>,
    /// The packs that are there, with their sizes in bytes.
    pub sizes: HashMap<Id, u64>,
    /// What is said of each pack.
    pub mentions: HashMap<Id, Vec<Mention>>,
}

/// What one index file says of a pack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mention {
    /// The hash of the entry's blobs.
    pub entry: Id,
    /// Whether it may be so: the blobs lie side by side, and fill a pack of its size.
    pub fits: bool,
    /// How it is named there.
    pub standing: Standing,
}

impl Inventory {
    /// Reads all index files, then the list of packs.
    pub fn read(repository: &Repository, monitor: &dyn Monitor) -> Result<Self> {
        let mut inventory = Self::default();
        let listing = match repository.list(Class::Index) {
            // The packs' own headers say what it said.
            Err(Error::FolderMissing { .. }) => Listing::default(),
            other => other?,
        };
        report_strays(monitor, Class::Index, &listing);
        let mut ends: HashMap<(Id, usize), Option<u64>> = HashMap::new();
        for (id, _) in listing.objects {
            go_on(monitor)?;
            match repository.load_json::<IndexFile>(Class::Index, id) {
                Ok(file) => inventory.add(id, &file, &mut ends),
                Err(cause) => inventory.unreadable.push((id, cause)),
            }
        }
        // After the index: a pack that is named may have come a moment ago.
        inventory.sizes = repository.packs(monitor)?;
        let Self {
            sizes, mentions, ..
        } = &mut inventory;
        for (pack, mentions) in mentions {
            for (number, mention) in mentions.iter_mut().enumerate() {
                let described = ends.get(&(*pack, number)).copied().flatten();
                mention.fits = described.is_some() && described == sizes.get(pack).copied();
            }
        }
        Ok(inventory)
    }

    fn add(&mut self, id: Id, file: &IndexFile, ends: &mut HashMap<(Id, usize), Option<u64>>) {
        let names = self.files.entry(id).or_default();
        let in_use = file.packs.iter().map(|pack| (pack, Standing::InUse));
        let marked = file.packs_to_delete.iter();
        let marked = marked.map(|pack| (pack, Standing::Marked(pack.time)));
        for (pack, standing) in in_use.chain(marked) {
            names.insert(pack.id, standing);
            let blobs = sorted(pack);
            let mentions = self.mentions.entry(pack.id).or_default();
            ends.insert((pack.id, mentions.len()), described_size(&blobs));
            mentions.push(Mention {
                entry: hash(&blobs),
                fits: false,
                standing,
            });
        }
    }

    /// What is said of a pack.
    pub fn of(&self, pack: Id) -> &[Mention] {
        self.mentions.get(&pack).map_or(&[], Vec::as_slice)
    }

    /// Whether all that is said of a pack is one thing, and may be so.
    pub fn is_sound(&self, pack: Id) -> bool {
        let mentions = self.of(pack);
        let is_one = |pair: &[Mention]| pair[0].entry == pair[1].entry;
        mentions.iter().all(|mention| mention.fits) && mentions.windows(2).all(is_one)
    }

    /// How the pack stands, all files together.
    pub fn standing(&self, pack: Id) -> Standing {
        let standings = self.of(pack).iter().map(|mention| mention.standing);
        standings.max().unwrap_or(Standing::InUse)
    }

    /// The packs that are named and not there.
    pub fn gone(&self) -> BTreeSet<Id> {
        let named = self.mentions.keys();
        named
            .filter(|pack| !self.sizes.contains_key(pack))
            .copied()
            .collect()
    }

    /// Reads once more what all index files say of these packs, each given with its size.
    pub fn said_of(
        &self,
        repository: &Repository,
        packs: &[(Id, u64)],
    ) -> Result<BTreeMap<Id, Vec<Vec<PackedBlob>>>> {
        let wanted: BTreeSet<Id> = packs.iter().map(|(pack, _)| *pack).collect();
        self.entries(repository, self.files.keys(), |pack| wanted.contains(&pack))
    }

    /// Reads once more what these index files say of those packs: each different entry once.
    pub fn entries<'a>(
        &self,
        repository: &Repository,
        files: impl IntoIterator<Item = &'a Id>,
        wanted: impl Fn(Id) -> bool,
    ) -> Result<BTreeMap<Id, Vec<Vec<PackedBlob>>>> {
        let mut entries: BTreeMap<Id, Vec<Vec<PackedBlob>>> = BTreeMap::new();
        for id in files {
            if !self.files[id].keys().any(|pack| wanted(*pack)) {
                continue;
            }
            let file: IndexFile = repository.load_json(Class::Index, *id)?;
            let packs = file.packs.iter().chain(&file.packs_to_delete);
            for pack in packs.filter(|pack| wanted(pack.id)) {
                let (known, blobs) = (entries.entry(pack.id).or_default(), sorted(pack));
                if !known.contains(&blobs) {
                    known.push(blobs);
                }
            }
        }
        Ok(entries)
    }
}

/// A pack's blobs in order of their offsets.
fn sorted(pack: &IndexedPack) -> Vec<PackedBlob> {
    let mut blobs: Vec<PackedBlob> = pack.packed().collect();
    blobs.sort_unstable_by_key(|blob| blob.offset);
    blobs
}

/// The size of a pack in which these blobs lie side by side from its beginning.
fn described_size(blobs: &[PackedBlob]) -> Option<u64> {
    let mut end = 0_u64;
    for blob in blobs {
        if u64::from(blob.offset) != end {
            return None;
        }
        end += u64::from(blob.length);
    }
    (!blobs.is_empty()).then(|| pack::size_of(blobs))
}

/// The hash of an entry: the same of the same blobs at the same places.
pub(super) fn hash(blobs: &[PackedBlob]) -> Id {
    let mut hasher = Hasher::default();
    for blob in blobs {
        hasher.update(blob.id.as_bytes());
        hasher.update(&[u8::from(blob.kind == BlobKind::Tree)]);
        for number in [blob.offset, blob.length, blob.plain_length.unwrap_or(0)] {
            hasher.update(&number.to_le_bytes());
        }
    }
    hasher.finish()
}
