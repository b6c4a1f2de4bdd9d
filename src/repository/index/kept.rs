//! A table of places that is kept on this machine: of a large repository, so that it is neither read nor held whole.
//!
//! ```text
//! page ‖ page ‖ … ‖ sealed( root ) ‖ length of the sealed root 8
//! root: length of the facts 4 ‖ facts ‖ pack 41 ‖ … ‖ first blob of each page 33 ‖ … ‖ filter
//! ```
//! All of it is sealed under a key that is made from the repository's for this table alone: what does not open, or opens to
//! anything but what was asked for, is no table. How it is made and believed: `docs/design/index.md`.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::filter::Filter;
use super::merge::{self, Sorted};
use super::page::{self, PageWriter, Pages};
use super::table::Place;
use super::{Pack, Standing, pack};
use crate::durable::File;
use crate::id::Id;
use crate::repository::crypto::Key;
use crate::repository::pack::BlobKind;
use crate::rng::{self, Rng};

/// Most bytes of a root, which is read whole: that of a hundred million blobs.
const MAX_ROOT: u64 = 256 * 1024 * 1024;
/// Bytes of a pack in the root.
const PACK: usize = Id::LENGTH + 1 + 8;
/// Bytes of the first blob of a page.
const FIRST: usize = 1 + Id::LENGTH;

/// What a root begins with.
#[derive(Debug, Serialize, Deserialize)]
struct Facts {
    table: Id,
    files: Vec<(Id, u64)>,
    packs: usize,
    pages: usize,
    places: u64,
}

/// A table in a file.
#[derive(Debug)]
pub struct Kept {
    file: Box<dyn File>,
    key: Key,
    table: Id,
    files: BTreeMap<Id, u64>,
    packs: u32,
    places: u64,
    /// The first blob of each page.
    first: Vec<(BlobKind, Id)>,
    filter: Filter,
}

/// What a table is made of.
pub struct Content<'a> {
    /// The index files that say it, with their sizes in bytes.
    pub files: BTreeMap<Id, u64>,
    /// Their packs.
    pub packs: &'a [Pack],
    /// Their places.
    pub places: Vec<Sorted<'a>>,
    /// At least as many as there are places.
    pub most: u64,
}

impl Kept {
    /// Opens the table that `file` holds; returns also its packs.
    ///
    /// # Errors
    /// As the system reports them; `InvalidData` if it is none, or not of this key.
    pub fn open(file: Box<dyn File>, key: Key) -> io::Result<(Self, Vec<Pack>)> {
        let end = file.length()?.checked_sub(8).ok_or_else(wrong)?;
        let length = file.read_at(end, 8)?;
        let length = length.try_into().map_or(0, u64::from_le_bytes);
        let begin = end.checked_sub(length).filter(|_| length <= MAX_ROOT);
        let begin = begin.ok_or_else(wrong)?;
        let sealed = file.read_at(begin, usize::try_from(length).map_err(io::Error::other)?)?;
        let root = key.open(&sealed).map_err(|_| wrong())?;
        drop(sealed);
        let (facts, rest) = root.split_first_chunk::<4>().ok_or_else(wrong)?;
        let (facts, rest) = rest
            .split_at_checked(u32::from_le_bytes(*facts) as usize)
            .ok_or_else(wrong)?;
        let facts: Facts = serde_json::from_slice(facts)?;
        let split = |rest: &'_ [u8], count: usize, bytes: usize| {
            let length = count
                .checked_mul(bytes)
                .filter(|length| *length <= rest.len());
            length.ok_or_else(wrong)
        };
        let (packs, rest) = rest.split_at(split(rest, facts.packs, PACK)?);
        let (first, filter) = rest.split_at(split(rest, facts.pages, FIRST)?);
        if begin != facts.pages as u64 * page::BYTES as u64 {
            return Err(wrong());
        }
        let packs = packs.as_chunks().0.iter().map(pack_of).collect();
        let kept = Self {
            file,
            key,
            table: facts.table,
            files: facts.files.into_iter().collect(),
            packs: u32::try_from(facts.packs).map_err(io::Error::other)?,
            places: facts.places,
            first: first.as_chunks().0.iter().map(first_of).collect(),
            filter: Filter::from_bytes(filter).ok_or_else(wrong)?,
        };
        Ok((kept, packs))
    }

    /// Writes a table into an empty file, durably. It is believed once it is [opened](Self::open).
    ///
    /// # Errors
    /// As the system reports them, and those of the places.
    pub fn write(
        content: Content<'_>,
        file: &dyn File,
        key: &Key,
        rng: &dyn Rng,
    ) -> io::Result<()> {
        let table = Id::from_bytes(rng::array(rng).map_err(io::Error::other)?);
        let mut writer = PageWriter::new(Pages { file, key, table }, rng);
        let packs = content.packs;
        let mut stored_bytes = vec![0_u64; packs.len()];
        let (mut first, mut places) = (Vec::new(), 0);
        let mut filter = Filter::new(content.most);
        let rank = |number: u32| packs[number as usize].rank();
        merge::merge(content.places, &rank, &mut |place: Place| {
            let (kind, id) = place.key();
            if writer.push(place)?.is_some() {
                first.push(u8::from(kind == BlobKind::Tree));
                first.extend_from_slice(id.as_bytes());
            }
            filter.add(&id);
            places += 1;
            let stored = &mut stored_bytes[place.pack() as usize];
            *stored = stored.saturating_add(pack::bytes_of(&place.blob()));
            Ok(())
        })?;
        let pages = writer.finish()?;
        let facts = serde_json::to_vec(&Facts {
            table,
            files: content.files.into_iter().collect(),
            packs: packs.len(),
            pages: first.len() / FIRST,
            places,
        })?;
        let mut root = Vec::new();
        let length = u32::try_from(facts.len()).map_err(io::Error::other)?;
        root.extend_from_slice(&length.to_le_bytes());
        root.extend_from_slice(&facts);
        for (pack, stored_bytes) in packs.iter().zip(stored_bytes) {
            root.extend_from_slice(pack.id.as_bytes());
            root.push(u8::from(pack.standing == Standing::InUse));
            root.extend_from_slice(&stored_bytes.to_le_bytes());
        }
        root.extend_from_slice(&first);
        root.extend(filter.to_bytes());
        let mut sealed = key.seal(&root, rng).map_err(io::Error::other)?;
        sealed.extend_from_slice(&(sealed.len() as u64).to_le_bytes());
        file.write_all_at(&sealed, pages * page::BYTES as u64)?;
        file.sync()
    }

    /// The index files that it was made of, with their sizes in bytes.
    pub const fn files(&self) -> &BTreeMap<Id, u64> {
        &self.files
    }

    /// How many packs it has.
    pub const fn packs(&self) -> u32 {
        self.packs
    }

    /// How many places it has.
    pub const fn count(&self) -> u64 {
        self.places
    }

    /// All its places.
    pub fn places(&self) -> Sorted<'_> {
        Box::new(self.pages().places(0..self.first.len() as u64))
    }

    fn pages(&self) -> Pages<'_> {
        Pages {
            file: self.file.as_ref(),
            key: &self.key,
            table: self.table,
        }
    }

    /// The places of a blob.
    ///
    /// # Errors
    /// As the system reports them; `InvalidData` if they cannot be believed.
    pub fn find(&self, kind: BlobKind, id: Id) -> io::Result<Vec<Place>> {
        let mut found = Vec::new();
        if !self.filter.may_hold(&id) {
            return Ok(found);
        }
        let (pages, key) = (self.pages(), (kind, id));
        // It may begin in the page before the first that begins with it.
        let begin = self
            .first
            .partition_point(|first| *first < key)
            .saturating_sub(1);
        let near = self.first[begin..]
            .iter()
            .take_while(|first| **first <= key);
        for number in begin..begin + near.count() {
            let places = pages.read(number as u64)?;
            found.extend(places.into_iter().filter(|place| place.key() == key));
        }
        if found.iter().any(|place| place.pack() >= self.packs) {
            return Err(wrong());
        }
        Ok(found)
    }
}

fn pack_of(bytes: &[u8; PACK]) -> Pack {
    let id = Id::from_bytes(std::array::from_fn(|at| bytes[at]));
    let standing = if bytes[Id::LENGTH] == 0 {
        Standing::Retired
    } else {
        Standing::InUse
    };
    let kept_bytes = std::array::from_fn(|at| bytes[Id::LENGTH + 1 + at]);
    Pack::new(id, standing, u64::from_le_bytes(kept_bytes))
}

fn first_of(bytes: &[u8; FIRST]) -> (BlobKind, Id) {
    let kind = if bytes[0] == 0 {
        BlobKind::Data
    } else {
        BlobKind::Tree
    };
    (
        kind,
        Id::from_bytes(std::array::from_fn(|at| bytes[1 + at])),
    )
}

fn wrong() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::{Disk, Folder, OsDisk};
    use crate::repository::pack::PackedBlob;
    use crate::rng::SystemRng;

    struct Scene {
        _place: tempfile::TempDir,
        folder: Box<dyn Folder>,
        places: Vec<Place>,
    }

    fn key() -> Key {
        Key::from_bytes(&[7; 64])
    }

    fn place(number: u32) -> Place {
        let kind = if number.is_multiple_of(3) {
            BlobKind::Tree
        } else {
            BlobKind::Data
        };
        let blob = PackedBlob {
            kind,
            id: Id::of(&number.to_le_bytes()),
            offset: number,
            length: 40,
            plain_length: Some(9),
        };
        Place::new(0, &blob)
    }

    impl Scene {
        fn new() -> Self {
            let place = tempfile::tempdir().unwrap();
            let mut places: Vec<Place> = (0..90).map(self::place).collect();
            places.sort_unstable_by_key(Place::key);
            Self {
                folder: OsDisk.open(place.path()).unwrap(),
                _place: place,
                places,
            }
        }

        /// The bytes of a table.
        fn table(&self) -> Vec<u8> {
            let content = Content {
                files: BTreeMap::from([(Id::of(b"file"), 9)]),
                packs: &[Pack::new(Id::of(b"pack"), Standing::InUse, 0)],
                most: 90,
                places: vec![Box::new(self.places.iter().copied().map(Ok))],
            };
            let file = self.file();
            Kept::write(content, file.as_ref(), &key(), &SystemRng).unwrap();
            let length = file.length().unwrap();
            file.read_at(0, usize::try_from(length).unwrap()).unwrap()
        }

        fn file(&self) -> Box<dyn File> {
            let file = self.folder.create_file("file".as_ref(), 0o600);
            self.folder.remove_file("file".as_ref()).unwrap();
            file.unwrap()
        }

        fn open(&self, bytes: &[u8]) -> io::Result<Kept> {
            let file = self.file();
            file.write_all_at(bytes, 0)?;
            Ok(Kept::open(file, key())?.0)
        }

        /// Whether these bytes are noticed as wrong: by whoever opens them, or by whoever asks for what is wrong. What it
        /// answers before that is right.
        fn notices(&self, bytes: &[u8]) -> bool {
            let Ok(kept) = self.open(bytes) else {
                return true;
            };
            let mut asked = self.places.iter().map(|place| {
                let (kind, id) = place.key();
                let found = kept.find(kind, id);
                found.map(|found| assert_eq!(found, [*place]))
            });
            asked.any(|answer| answer.is_err())
        }
    }

    #[test]
    fn each_place_is_found_and_nothing_else() {
        let scene = Scene::new();
        let kept = scene.open(&scene.table()).unwrap();
        assert_eq!((kept.count(), kept.packs()), (90, 1));
        let all: io::Result<Vec<Place>> = kept.places().collect();
        assert_eq!(all.unwrap(), scene.places);
        for place in &scene.places {
            let (kind, id) = place.key();
            assert_eq!(kept.find(kind, id).unwrap(), [*place]);
            let other = if kind == BlobKind::Data {
                BlobKind::Tree
            } else {
                BlobKind::Data
            };
            assert!(kept.find(other, id).unwrap().is_empty());
        }
        for number in 90..1000_u32 {
            let id = Id::of(&number.to_le_bytes());
            assert!(kept.find(BlobKind::Data, id).unwrap().is_empty());
        }
    }

    #[test]
    fn every_byte_that_was_changed_or_cut_off_is_noticed() {
        let scene = Scene::new();
        let bytes = scene.table();
        assert!(!scene.notices(&bytes));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(scene.notices(&changed), "byte {at}");
        }
        for length in (0..bytes.len()).step_by(7) {
            assert!(scene.notices(&bytes[..length]), "cut at {length}");
            let mut zeroed = bytes.clone();
            zeroed[length..].fill(0);
            let is_another = zeroed != bytes;
            assert_eq!(scene.notices(&zeroed), is_another, "zeros from {length}");
        }
        assert!(scene.notices(&[&bytes[..], b"more"].concat()));
    }

    #[test]
    fn no_page_and_no_root_stands_in_for_another() {
        let scene = Scene::new();
        let (one, other) = (scene.table(), scene.table());
        let page = |number: usize| number * page::BYTES..(number + 1) * page::BYTES;
        for (to, from, of) in [(0, 1, &one), (1, 0, &one), (0, 0, &other), (2, 2, &other)] {
            let mut changed = one.clone();
            changed[page(to)].copy_from_slice(&of[page(from)]);
            assert!(scene.notices(&changed), "{from} for {to}");
        }
        let pages = 3 * page::BYTES;
        let root_of_another = [&one[..pages], &other[pages..]].concat();
        assert!(scene.notices(&root_of_another));
        // Of two of the same index files: both are right.
        assert!(!scene.notices(&other));
        let file = scene.file();
        file.write_all_at(&one, 0).unwrap();
        assert!(Kept::open(file, key().for_purpose("another form")).is_err());
    }
}
