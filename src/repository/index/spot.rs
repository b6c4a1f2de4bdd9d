//! The table of one repository: how it is found, believed, made and made anew.
//!
//! It is a shortcut and nothing else. Whatever is wrong with it or with its place, the index files are read as if there
//! were none. It says what certain index files say, and counts only while each of them is there: a prune puts others in
//! their place (docs/design/index.md).

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use super::kept::{Content, Kept};
use super::merge::Sorter;
use super::page::{self, Pages};
use super::shelf::{Shelf, Workplace};
use super::table::Place;
use super::{Builder, Index, IndexFile, IndexedPack, OnShelf, packs_of};
use crate::backend::Class;
use crate::error::Error;
use crate::id::Id;
use crate::parallel::lock;
use crate::repository::Repository;
use crate::repository::crypto::Key;
use crate::rng;

/// What the key of tables is made for. A table of another form is of another key.
const PURPOSE: &str = "tillsafe: table of index files, form 1";

/// Once index files beside the table have so large a part of all bytes, or are so many, they are merged with it.
const PART: u64 = 16;
const MANY: usize = 256;

/// Fewest bytes of an index file for each blob: its id is random, and written in digits.
const BYTES_OF_BLOB: u64 = 32;

/// Index files, read.
#[derive(Debug)]
pub(in crate::repository) struct Indexed {
    pub index: Index,
    /// Those that cannot be.
    pub damaged: BTreeMap<Id, Error>,
}

/// Where the table of a repository has its place.
#[derive(Debug)]
pub(super) struct Spot {
    repository: Repository,
    shelf: Shelf,
    name: String,
}

impl Repository {
    /// Keeps a table of its index there, if that is large.
    pub fn keep_table_on(&self, place: Shelf) {
        // Said a second time, it stays where it is.
        let _ = self.inner.shelf.set(place);
    }

    /// The index as these files say it, through a table: one that is kept, or that is made now. `None` if none is worth
    /// while or none can be had; then all files are to be read.
    pub(in crate::repository) fn index_by_table(&self, files: &[(Id, u64)]) -> Option<Indexed> {
        let place = self.inner.shelf.get()?;
        let files: BTreeMap<Id, u64> = files.iter().copied().collect();
        if files.values().sum::<u64>() < place.least_bytes {
            return None;
        }
        // Repositories that take turns at one place have one each.
        let own = Id::of(self.config().ok()?.id.as_bytes()).short();
        let spot = Spot {
            repository: self.clone(),
            shelf: place.clone(),
            name: format!("table-{own}"),
        };
        let Ok((indexed, near)) = spot.over_kept(&files) else {
            return spot.make(&files).ok();
        };
        let total: u64 = files.values().sum();
        if near.len() <= MANY && near.values().sum::<u64>() <= total / PART {
            return Some(indexed);
        }
        Some(spot.merged(indexed, near))
    }
}

impl Spot {
    /// Removes a table that is wrong.
    pub fn discard(&self) {
        self.shelf.discard(&self.name);
    }

    /// Reads index files once more, one by one: whoever asks may hold memory that others wait for.
    pub fn read_again(&self, files: &BTreeMap<Id, u64>, take: &mut dyn FnMut(&IndexedPack)) {
        for id in files.keys() {
            let file = self.repository.load_json::<IndexFile>(Class::Index, *id);
            if let Ok(file) = file {
                packs_of(&file).for_each(|(pack, _)| take(pack));
            }
        }
    }

    fn key(&self) -> Key {
        self.repository.inner.key.for_purpose(PURPOSE)
    }

    /// The table that is kept, and in memory what is said beside it. Returns also the files that say it.
    fn over_kept(&self, files: &BTreeMap<Id, u64>) -> io::Result<(Indexed, BTreeMap<Id, u64>)> {
        let (kept, packs) = Kept::open(self.shelf.open(&self.name)?, self.key())?;
        // If one is gone, nobody knows what the others say without it.
        let is_there = |(id, size): (&Id, &u64)| files.get(id) == Some(size);
        if !kept.files().iter().all(is_there) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let came = files
            .iter()
            .filter(|(id, _)| !kept.files().contains_key(id));
        let mut near: BTreeMap<Id, u64> = came.map(|(id, size)| (*id, *size)).collect();
        let builder = Mutex::new(Builder::over(self.on_shelf(kept), packs));
        let damaged = self.read(&near, &|file| {
            lock(&builder).add(file);
            Ok(())
        })?;
        near.retain(|id, _| !damaged.contains_key(id));
        let builder = builder.into_inner().unwrap_or_else(PoisonError::into_inner);
        // What two of them say of one pack is told apart only where all is read.
        if builder.names_kept {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let index = builder.build();
        Ok((Indexed { index, damaged }, near))
    }

    /// The same as one new table; if there can be none, as it is.
    fn merged(&self, indexed: Indexed, near: BTreeMap<Id, u64>) -> Indexed {
        let index = &indexed.index;
        let Some(kept) = &index.kept else {
            return indexed;
        };
        let most = kept.table.count() + index.blobs.places().count() as u64;
        let merged = self.begin(most).and_then(|work| {
            let content = Content {
                files: kept.table.files().clone().into_iter().chain(near).collect(),
                packs: &index.packs,
                places: vec![
                    kept.table.places(),
                    Box::new(index.blobs.places().copied().map(Ok)),
                ],
                most,
            };
            self.put(&work, content)
        });
        match merged {
            Ok(index) => Indexed { index, ..indexed },
            Err(cause) => {
                // A page of it is wrong, which perhaps nobody asks for. The next run makes it anew.
                if cause.kind() == io::ErrorKind::InvalidData {
                    kept.spot.discard();
                }
                indexed
            }
        }
    }

    /// Makes a table of all files, with few of their blobs in memory at a time.
    fn make(&self, files: &BTreeMap<Id, u64>) -> io::Result<Indexed> {
        let work = self.begin(2 * files.values().sum::<u64>() / BYTES_OF_BLOB)?;
        let scratch = work.scratch()?;
        let rng = self.repository.inner.services.rng.as_ref();
        let pages = Pages {
            file: scratch.as_ref(),
            key: &self.key(),
            table: Id::from_bytes(rng::array(rng).map_err(io::Error::other)?),
        };
        let sorter = Sorter::new(pages, rng, self.shelf.run);
        let made = Mutex::new((Index::default(), sorter));
        let damaged = self.read(files, &|file| {
            let mut made = lock(&made);
            let (index, sorter) = &mut *made;
            packs_of(file).try_for_each(|(pack, standing)| {
                let number = index.pack_number(pack.id, standing);
                let mut blobs = pack.packed();
                blobs.try_for_each(|blob| sorter.push(Place::new(number, &blob)))
            })
        })?;
        let (index, mut sorter) = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        let files = files.iter().filter(|(id, _)| !damaged.contains_key(id));
        let most = sorter.count();
        let content = Content {
            files: files.map(|(id, size)| (*id, *size)).collect(),
            packs: &index.packs,
            places: sorter.finish()?,
            most,
        };
        let index = self.put(&work, content)?;
        Ok(Indexed { index, damaged })
    }

    fn begin(&self, places: u64) -> io::Result<Workplace> {
        let pages = places / page::PLACES as u64 + 1;
        // What it takes, and as much again for whoever needs room beside it.
        self.shelf.begin(2 * pages * page::BYTES as u64)
    }

    /// Puts a new table in its place, and opens it.
    fn put(&self, work: &Workplace, content: Content<'_>) -> io::Result<Index> {
        let (key, rng) = (self.key(), self.repository.inner.services.rng.as_ref());
        let file = work.replace(&self.name, |file| Kept::write(content, file, &key, rng))?;
        let (kept, packs) = Kept::open(file, self.key())?;
        Ok(Builder::over(self.on_shelf(kept), packs).build())
    }

    fn on_shelf(&self, table: Kept) -> OnShelf {
        let spot = Self {
            repository: self.repository.clone(),
            shelf: self.shelf.clone(),
            name: self.name.clone(),
        };
        OnShelf::new(table, spot)
    }

    /// Reads index files on all cores; returns those that cannot be read.
    fn read(
        &self,
        files: &BTreeMap<Id, u64>,
        take: &(dyn Fn(&IndexFile) -> io::Result<()> + Sync),
    ) -> io::Result<BTreeMap<Id, Error>> {
        let files: Vec<(Id, u64)> = files.iter().map(|(id, size)| (*id, *size)).collect();
        let stopped = Mutex::new(None);
        let read = self.repository.read_files(&files, &|file| {
            take(file).map_err(|cause| {
                let failure = Error::internal(&cause);
                lock(&stopped).get_or_insert(cause);
                failure
            })
        });
        match (stopped.into_inner(), read) {
            (Ok(None), Ok(read)) if !read.has_gone => Ok(read.damaged),
            // Somebody prunes just now.
            _ => Err(io::ErrorKind::Interrupted.into()),
        }
    }
}
