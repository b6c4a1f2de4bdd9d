//! The index, and what stands in for it: packs that no readable index file names are read by their own
//! headers, so that losing an index file costs nobody any data.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::budget::Budget;
use super::index::{Builder, Index, IndexFile, Indexed};
use super::pack::{self, PackedBlob};
use super::{MAX_INDEX, Repository, finding, report_strays};
use crate::backend::{Class, Listing, Object};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Problem, go_on};
use crate::parallel::{self, lock};

/// restic refuses longer headers.
const MAX_HEADER: u64 = 16 * 1024 * 1024;

/// Bytes that an honest index file takes while it is read, for each byte of it: JSON, and what it says.
const UNFOLDED: u64 = 8;

/// What is found where a folder should be.
pub(super) const MISSING: &str = "the folder is not there";

/// What the index files say, and which of them say nothing.
#[derive(Debug, Default)]
pub(super) struct IndexFiles {
    pub index: Index,
    /// Files that were listed.
    pub count: usize,
    /// Those that cannot be read.
    pub damaged: Vec<(Object, Error)>,
    /// Their folder is missing.
    pub missing: Option<Error>,
}

/// What came of reading some index files.
#[derive(Debug)]
pub(super) struct ReadFiles {
    /// Those that cannot be read, and why.
    pub damaged: BTreeMap<Id, Error>,
    /// Whether one is no longer there.
    pub has_gone: bool,
}

/// Packs that no index file names.
#[derive(Debug, Default)]
pub(super) struct Unindexed {
    /// What the headers of those say that could be read, by pack.
    pub headers: HashMap<Id, Vec<PackedBlob>>,
    /// Those whose header cannot be read, and why: damage, or a storage that did not answer.
    pub unreadable: Vec<(Id, Error)>,
}

impl Repository {
    /// Reads the index, for reading. Packs that no readable file of it names are listed by their own
    /// headers. What is damaged is told to `monitor` and left out.
    ///
    /// # Errors
    /// [`Error::Storage`] if its files cannot be listed; [`Error::Interrupted`].
    pub fn load_index(&self, monitor: &dyn Monitor) -> Result<Index> {
        self.completed(self.look_through_index_files(monitor)?, monitor)
    }

    /// The same with all of it in memory, for who wants to know every blob.
    ///
    /// # Errors
    /// As [`Self::load_index`].
    pub fn load_whole_index(&self, monitor: &dyn Monitor) -> Result<Index> {
        self.completed(self.read_index_files(monitor)?, monitor)
    }

    fn completed(&self, mut files: IndexFiles, monitor: &dyn Monitor) -> Result<Index> {
        tell_damaged(&files, monitor);
        let sizes: HashMap<Id, u64> = match self.list(Class::Data) {
            // Strange names among the packs are the business of who writes there, or checks.
            Ok(listing) => listing.objects.into_iter().collect(),
            // What the index names can be read all the same.
            Err(cause) => {
                tell(
                    monitor,
                    Class::Data.folder(),
                    &format!("{cause}; packs that no index names are not looked for"),
                );
                return Ok(files.index);
            }
        };
        files.index.note_sizes(&sizes);
        let unindexed = self.add_unindexed(&mut files.index, &sizes, monitor)?;
        // With all index files readable, such packs are what an interrupted backup left.
        if !files.damaged.is_empty() || files.count == 0 {
            tell_unindexed(&unindexed, monitor);
        }
        Ok(files.index)
    }

    /// Reads the index, for writing: what lies in packs that no index names, or in one that is gone or
    /// too short, is not built upon. Returns the names of the latter.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::FolderMissing`] if index files or packs cannot be listed.
    pub fn load_sound_index(&self, monitor: &dyn Monitor) -> Result<(Index, Vec<Id>)> {
        let mut files = self.look_through_index_files(monitor)?;
        if let Some(cause) = files.missing {
            return Err(cause);
        }
        tell_damaged(&files, monitor);
        let lost = files.index.note_lost(&self.packs(monitor)?);
        Ok((files.index, lost))
    }

    /// Which index files there are: as long as they are the same, no prune has taken anything away.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::FolderMissing`].
    pub fn index_names(&self) -> Result<BTreeSet<Id>> {
        let listing = self.list(Class::Index)?;
        Ok(listing.objects.into_iter().map(|(id, _)| id).collect())
    }

    /// Reads all index files.
    pub(super) fn read_index_files(&self, monitor: &dyn Monitor) -> Result<IndexFiles> {
        let (listing, missing) = self.list_index_files(monitor)?;
        self.read_listed(listing, missing)
    }

    /// The same through a table that is kept on this machine, if there is one: what each of them says of a pack is
    /// not told apart then.
    fn look_through_index_files(&self, monitor: &dyn Monitor) -> Result<IndexFiles> {
        let (listing, missing) = self.list_index_files(monitor)?;
        match self.index_by_table(&listing.objects) {
            Some(Indexed { index, damaged }) => Ok(IndexFiles {
                index,
                count: listing.objects.len(),
                damaged: named(damaged),
                missing,
            }),
            None => self.read_listed(listing, missing),
        }
    }

    fn list_index_files(&self, monitor: &dyn Monitor) -> Result<(Listing, Option<Error>)> {
        let (listing, missing) = match self.list(Class::Index) {
            // The packs' own headers say what it said.
            Err(cause @ Error::FolderMissing { .. }) => (Listing::default(), Some(cause)),
            other => (other?, None),
        };
        report_strays(monitor, Class::Index, &listing);
        Ok((listing, missing))
    }

    fn read_listed(&self, mut listing: Listing, missing: Option<Error>) -> Result<IndexFiles> {
        let builder = Mutex::new(Builder::default());
        let mut damaged = BTreeMap::new();
        let mut read = HashSet::new();
        loop {
            let listed = listing.objects.iter().copied();
            let new: Vec<(Id, u64)> = listed.filter(|(id, _)| read.insert(*id)).collect();
            let came = self.read_files(&new, &|file| {
                lock(&builder).add(file);
                Ok(())
            })?;
            damaged.extend(came.damaged);
            if !came.has_gone {
                break;
            }
            listing = self.list(Class::Index)?;
        }
        let builder = builder.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(IndexFiles {
            index: builder.build(),
            count: listing.objects.len(),
            damaged: named(damaged),
            missing,
        })
    }

    /// Reads index files, each given with its size, on all cores.
    ///
    /// # Errors
    /// Those of `take`; [`Error::Storage`] if the files cannot be listed.
    pub(super) fn read_files(
        &self,
        files: &[(Id, u64)],
        take: &(dyn Fn(&IndexFile) -> Result<()> + Sync),
    ) -> Result<ReadFiles> {
        let has_gone = AtomicBool::new(false);
        let damaged = Mutex::new(BTreeMap::new());
        parallel::for_each(files, |(id, size)| {
            // As it lies there, and unfolded to what is plausible: two of the largest are read one after the other.
            let unfolded = size.saturating_mul(UNFOLDED).min(MAX_INDEX);
            let bytes = usize::try_from(unfolded).unwrap_or(0);
            let _held = Budget::take(&self.inner.memory, bytes);
            match self.load_json::<IndexFile>(Class::Index, *id) {
                Ok(file) => take(&file)?,
                // Somebody prunes, and has written what it said into another.
                Err(Error::Storage { .. }) if !self.is_there(Class::Index, *id)? => {
                    has_gone.store(true, Ordering::Relaxed);
                }
                Err(cause) => drop(lock(&damaged).insert(*id, cause)),
            }
            Ok::<(), Error>(())
        })?;
        Ok(ReadFiles {
            damaged: damaged.into_inner().unwrap_or_else(PoisonError::into_inner),
            has_gone: has_gone.into_inner(),
        })
    }

    /// Adds the packs that `index` does not name and `sizes` does, on all cores.
    pub(super) fn add_unindexed(
        &self,
        index: &mut Index,
        sizes: &HashMap<Id, u64>,
        monitor: &dyn Monitor,
    ) -> Result<Unindexed> {
        let unnamed = sizes.iter().filter(|(id, _)| !index.names(**id));
        let mut packs: Vec<(Id, u64)> = unnamed.map(|(id, size)| (*id, *size)).collect();
        packs.sort_unstable();
        let found = Mutex::new(Unindexed::default());
        parallel::for_each(&packs, |(id, size)| {
            go_on(monitor)?;
            let header = self.read_pack_header(*id, *size);
            let mut found = lock(&found);
            match header {
                Ok((blobs, _)) => drop(found.headers.insert(*id, blobs)),
                Err(cause) => found.unreadable.push((*id, cause)),
            }
            Ok(())
        })?;
        let mut unindexed = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let headers = unindexed.headers.iter();
        if !unindexed.headers.is_empty() {
            index.add_unindexed(headers.map(|(id, blobs)| (*id, blobs.as_slice())));
        }
        unindexed.unreadable.sort_unstable_by_key(|(id, _)| *id);
        Ok(unindexed)
    }

    /// Reads the header of a pack of `size` bytes: its blobs, and the bytes after the last blob.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it has none that can be read; [`Error::Storage`] if it could not be reached:
    /// then it may have one, and nothing of it is given up.
    pub(super) fn read_pack_header(&self, id: Id, size: u64) -> Result<(Vec<PackedBlob>, Vec<u8>)> {
        let damaged = |finding: String| Error::Damaged {
            object: Object::Named(Class::Data, id).to_string(),
            finding,
        };
        let read = |offset: u64, length: u64| {
            let length = usize::try_from(length).map_err(|cause| damaged(cause.to_string()))?;
            self.read_pack_range(id, offset, length)
        };
        let length_at = size
            .checked_sub(4)
            .ok_or_else(|| damaged("it is too short for a pack".to_owned()))?;
        let length = u64::from(read(length_at, 4)?.try_into().map_or(0, u32::from_le_bytes));
        if length > MAX_HEADER || length > length_at {
            return Err(damaged(format!("its header claims {length} bytes")));
        }
        let header_at = length_at - length;
        let tail = read(header_at, length + 4)?;
        let (header, _) = tail.split_at(tail.len() - 4);
        let blobs = pack::read_header(&self.inner.key, header, header_at).map_err(damaged)?;
        Ok((blobs, tail))
    }
}

fn named(damaged: BTreeMap<Id, Error>) -> Vec<(Object, Error)> {
    let object = |(id, cause)| (Object::Named(Class::Index, id), cause);
    damaged.into_iter().map(object).collect()
}

/// One line for all: a lost disk sector may cost many.
fn tell_damaged(files: &IndexFiles, monitor: &dyn Monitor) {
    if files.missing.is_some() {
        tell(monitor, Class::Index.folder(), MISSING);
    }
    let Some((object, cause)) = files.damaged.first() else {
        return;
    };
    let text = if files.damaged.len() == 1 {
        finding(cause)
    } else {
        format!(
            "{}; in all {} of {} index files cannot be read",
            finding(cause),
            files.damaged.len(),
            files.count
        )
    };
    tell(monitor, &object.to_string(), &text);
}

fn tell_unindexed(unindexed: &Unindexed, monitor: &dyn Monitor) {
    let served = unindexed.headers.len() as u64;
    if served > 0 {
        tell(
            monitor,
            Class::Index.folder(),
            &format!(
                "{} in no index that can be read: what they hold is found by their own headers",
                crate::units::counted(served, "pack")
            ),
        );
    }
    if let Some((id, cause)) = unindexed.unreadable.first() {
        let more = match unindexed.unreadable.len() - 1 {
            0 => String::new(),
            more => format!("; nor can {more} more"),
        };
        tell(
            monitor,
            &Object::Named(Class::Data, *id).to_string(),
            &format!(
                "no index names it, and it cannot be read by its own header ({}){more}",
                finding(cause)
            ),
        );
    }
}

fn tell(monitor: &dyn Monitor, item: &str, finding: &str) {
    monitor.problem(Problem {
        item: item.to_owned(),
        finding: finding.to_owned(),
        incomplete: false,
    });
}
