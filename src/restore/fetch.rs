//! Writing the copy beside the target: every pack is read once, in order, on all cores.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::plan::{Item, Plan};
use super::target::Target;
use crate::durable::scratch::Scratch;
use crate::durable::{Disk, File, Folder};
use crate::entry::Kind;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Progress, Step, go_on};
use crate::parallel;
use crate::repository::Repository;
use crate::repository::index::{Index, Location};
use crate::repository::pack::BlobKind;
use crate::repository::tree::Content;
use crate::units::counted;

/// Bytes that are read from a pack at a time, unless one blob is longer.
const RUN: u64 = 4 * 1024 * 1024;
/// Unwanted bytes between two blobs that are cheaper to read than to skip.
const GAP: u64 = 256 * 1024;
/// Files that are kept open, because their next blob is probably near.
const OPEN_FILES: usize = 64;

/// A whole copy beside the target, not yet proved.
#[derive(Debug)]
pub struct Staged {
    pub(super) plan: Plan,
    pub(super) target: Target,
    pub(super) scratch: Scratch,
}

/// Where a blob goes: the item's number and the offset in its file.
type Place = (usize, u64);

/// A blob and all the places it goes to.
#[derive(Debug)]
struct Wanted {
    location: Location,
    places: Vec<Place>,
}

impl Plan {
    /// Stages everything beside the target.
    ///
    /// # Errors
    /// [`Error::NoRoom`] before anything is written; [`Error::UnfinishedRestore`],
    /// [`Error::Damaged`], [`Error::File`], [`Error::Storage`], [`Error::Interrupted`]. Then what was
    /// staged is removed again.
    pub fn fetch(
        self,
        repository: &Repository,
        index: &Index,
        target: Target,
        disk: &dyn Disk,
        monitor: &dyn Monitor,
    ) -> Result<Staged> {
        /// What a file system takes for an inode and the last, partly filled block.
        const PER_ITEM: u64 = 4096;
        monitor.step(Step::Staging, Some(self.bytes));
        // Before anything is written: the index must lead to every byte.
        let runs = runs(wanted(index, &self.items)?);
        let needed_bytes = PER_ITEM.saturating_mul(self.items.len() as u64);
        let needed_bytes = needed_bytes.saturating_add(self.bytes);
        let scratch = target.stage(needed_bytes, disk, repository.services().rng.as_ref())?;
        let folder = scratch.folder();
        self.tell_missing(monitor);
        create_folders(folder, &self.items)?;
        let files = Files::new(folder, &self.items);
        files.create_empty(monitor)?;
        parallel::for_each(&runs, |run| {
            go_on(monitor)?;
            fetch_run(repository, index, run, &files, monitor)
        })?;
        drop(files);
        Ok(Staged {
            plan: self,
            target,
            scratch,
        })
    }
}

/// Creates all folders for our eyes only; their own modes come last.
fn create_folders(folder: &dyn Folder, items: &[Item]) -> Result<()> {
    for item in items.iter().filter(|item| item.entry.kind == Kind::Folder) {
        folder
            .create_folder(&item.path, 0o700)
            .map_err(Error::file("creating", folder.path().join(&item.path)))?;
    }
    Ok(())
}

/// Every blob that the files consist of, with all the places it goes to. A file's size must be that of
/// its blobs: room is reckoned from the one and offsets are computed from the others.
fn wanted(index: &Index, items: &[Item]) -> Result<Vec<Wanted>> {
    let mut wanted: HashMap<Id, Wanted> = HashMap::new();
    for (number, item) in items.iter().enumerate() {
        let Content::File { blobs, size } = &item.content else {
            continue;
        };
        let damaged = |finding: String| Error::Damaged {
            object: format!("file {}", crate::units::shown(&item.path)),
            finding,
        };
        let mut offset = 0_u64;
        for id in blobs {
            let location = index
                .find(BlobKind::Data, *id)
                .ok_or_else(|| damaged(format!("no index names its blob {}", id.short())))?;
            let wanted = wanted.entry(*id).or_insert_with(|| Wanted {
                location,
                places: Vec::new(),
            });
            wanted.places.push((number, offset));
            offset = offset.saturating_add(location.plain_length());
        }
        if offset != *size {
            return Err(damaged(format!(
                "its blobs hold {offset} bytes, its folder says {size}"
            )));
        }
    }
    Ok(wanted.into_values().collect())
}

/// Sorts by pack and offset, and joins what lies close together.
fn runs(mut wanted: Vec<Wanted>) -> Vec<Vec<Wanted>> {
    wanted.sort_unstable_by_key(|wanted| (wanted.location.pack, wanted.location.blob.offset));
    let mut runs: Vec<Vec<Wanted>> = Vec::new();
    for next in wanted {
        match runs.last_mut() {
            Some(run) if joins(run, &next) => run.push(next),
            _ => runs.push(vec![next]),
        }
    }
    runs
}

fn joins(run: &[Wanted], next: &Wanted) -> bool {
    let (Some(first), Some(last)) = (run.first(), run.last()) else {
        return false;
    };
    let end = |wanted: &Wanted| {
        u64::from(wanted.location.blob.offset) + u64::from(wanted.location.blob.length)
    };
    first.location.pack == next.location.pack
        && u64::from(next.location.blob.offset) <= end(last) + GAP
        && end(next) - u64::from(first.location.blob.offset) <= RUN
}

/// Reads one run and writes its blobs to all their places.
fn fetch_run(
    repository: &Repository,
    index: &Index,
    run: &[Wanted],
    files: &Files<'_>,
    monitor: &dyn Monitor,
) -> Result<()> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else {
        return Ok(());
    };
    let _held = repository.hold(run.iter().map(|wanted| &wanted.location.blob));
    let begin = first.location.blob.offset;
    let length = last.location.blob.offset - begin + last.location.blob.length;
    let bytes = repository.read_pack_range(first.location.pack, begin.into(), length as usize);
    for wanted in run {
        let blob = &wanted.location.blob;
        let from = (blob.offset - begin) as usize;
        let opened = match &bytes {
            Ok(bytes) => bytes
                .get(from..from + blob.length as usize)
                .ok_or(())
                .and_then(|sealed| repository.open_blob(&wanted.location, sealed).map_err(drop)),
            Err(_) => Err(()),
        };
        // Not there, or damaged there: perhaps another copy is whole. Its error tells the rest.
        let plain = match opened {
            Ok(plain) => plain,
            Err(()) => repository
                .read_blob(index, blob.kind, blob.id)
                .map_err(|cause| files.needed_by(&wanted.places, cause))?,
        };
        for place in &wanted.places {
            // One blob may go to a million places: a hole in a file has as many.
            go_on(monitor)?;
            files.write(*place, &plain)?;
            monitor.progress(Progress {
                bytes: plain.len() as u64,
                files: u64::from(place.1 == 0),
            });
        }
    }
    Ok(())
}

/// The staged files: created when first written to, and a few kept open.
struct Files<'a> {
    folder: &'a dyn Folder,
    items: &'a [Item],
    state: Mutex<FileState>,
}

struct FileState {
    created: Vec<bool>,
    open: HashMap<usize, Arc<dyn File>>,
}

impl<'a> Files<'a> {
    fn new(folder: &'a dyn Folder, items: &'a [Item]) -> Self {
        Self {
            folder,
            items,
            state: Mutex::new(FileState {
                created: vec![false; items.len()],
                open: HashMap::new(),
            }),
        }
    }

    /// Creates the files that no blob is written to.
    fn create_empty(&self, monitor: &dyn Monitor) -> Result<()> {
        for (number, item) in self.items.iter().enumerate() {
            if matches!(&item.content, Content::File { blobs, .. } if blobs.is_empty()) {
                self.open(number)?;
                monitor.progress(Progress { bytes: 0, files: 1 });
            }
        }
        Ok(())
    }

    /// Says which files a damaged object costs.
    fn needed_by(&self, places: &[Place], cause: Error) -> Error {
        let numbers: BTreeSet<usize> = places.iter().map(|(number, _)| *number).collect();
        let (Error::Damaged { object, finding }, Some(first)) = (&cause, numbers.first()) else {
            return cause;
        };
        let others = match numbers.len() - 1 {
            0 => String::new(),
            others => format!(" and {}", counted(others as u64, "other file")),
        };
        Error::Damaged {
            object: object.clone(),
            finding: format!(
                "{finding}; it is part of {}{others}",
                crate::units::shown(&self.items[*first].path)
            ),
        }
    }

    fn write(&self, (number, offset): Place, bytes: &[u8]) -> Result<()> {
        self.open(number)?
            .write_all_at(bytes, offset)
            .map_err(Error::file("writing", self.path(number)))
    }

    fn path(&self, number: usize) -> std::path::PathBuf {
        self.folder.path().join(&self.items[number].path)
    }

    fn open(&self, number: usize) -> Result<Arc<dyn File>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = state.open.get(&number) {
            return Ok(Arc::clone(file));
        }
        let path: &Path = &self.items[number].path;
        let file: Arc<dyn File> = if state.created[number] {
            self.folder.open_file(path, true)
        } else {
            self.folder.create_file(path, 0o600)
        }
        .map_err(Error::file("creating", self.path(number)))?
        .into();
        state.created[number] = true;
        if state.open.len() >= OPEN_FILES {
            state.open.clear();
        }
        state.open.insert(number, Arc::clone(&file));
        Ok(file)
    }
}
