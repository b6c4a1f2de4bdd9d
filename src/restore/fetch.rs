//! Writing the copy beside the target: every pack is read once, in order, on all cores.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::ahead::Ahead;
use super::fold::Fold;
use super::holes;
use super::image::Stretch;
use super::item::Item;
use super::links::further_names;
use super::lost;
use super::metadata::{HARD_LINK, Refusals};
use super::plan::Plan;
use super::resume::{self, Kept};
use super::run::{Run, Span};
use super::target::Target;
use crate::durable::attributes::ACCESS_LISTS;
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

/// Files that are kept open, because their next blob is probably near.
const OPEN_FILES: usize = 64;

/// A copy beside the target, whole but for what is [lost](Plan::lost), not yet proved.
#[derive(Debug)]
pub struct Staged {
    /// What was staged; lost files are no items of it any more.
    pub plan: Plan,
    pub(super) target: Target,
    pub(super) scratch: Scratch,
    /// The disk at work already.
    pub(super) ahead: Ahead,
}

/// Where a blob goes.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The item's number.
    number: usize,
    /// The offset in its file, in bytes.
    offset: u64,
}

/// A blob and all the places it goes to.
#[derive(Debug)]
struct Wanted {
    location: Location,
    places: Vec<Place>,
    /// Whether a whole copy was found, once it was looked for.
    is_whole: OnceLock<bool>,
}

impl Plan {
    /// Stages everything beside the target that can be brought back; what cannot is [lost](Plan::lost).
    /// What an earlier run of the same restore left there is used again, as far as it is right.
    ///
    /// # Errors
    /// [`Error::NoRoom`] before anything is written; [`Error::UnfinishedRestore`], [`Error::File`],
    /// [`Error::Storage`], [`Error::Interrupted`]. After a signal, or where storage or disk gave out,
    /// what was staged stays for the same restore, and `monitor` is told; else it is removed again.
    pub fn fetch(
        mut self,
        repository: &Repository,
        index: &Index,
        target: Target,
        disk: &dyn Disk,
        monitor: &dyn Monitor,
    ) -> Result<Staged> {
        // Before anything is written: what the index does not lead to needs no room.
        self.lose_what_the_index_lacks(index);
        monitor.step(Step::Staging, Some(self.bytes));
        let work = target.work(&self)?;
        let rng = repository.services().rng.as_ref();
        let scratch = target.stage(self.needed_bytes(), &work, disk, rng)?;
        // What is only verified need not outlive anything.
        let bytes = if target.is_for_good() { self.bytes } else { 0 };
        let ahead = Ahead::of(disk, &scratch.path(), bytes);
        match self.stage_in(&scratch, &ahead, repository, index, monitor) {
            Ok(()) => Ok(Staged {
                plan: self,
                target,
                scratch,
                ahead,
            }),
            Err(cause) => Err(resume::keep_after(scratch, cause, monitor)),
        }
    }

    fn lose_what_the_index_lacks(&mut self, index: &Index) {
        let items = self.items.iter().enumerate();
        let found = items
            .filter_map(|(number, item)| Some((number, lost::fault(index, item)?)))
            .collect();
        self.lose(&found);
    }

    fn stage_in(
        &mut self,
        scratch: &Scratch,
        ahead: &Ahead,
        repository: &Repository,
        index: &Index,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let folder = scratch.folder();
        self.tell_missing(monitor);
        inherit_nothing(folder)?;
        let mut kept = if scratch.is_adopted() {
            resume::take_over(folder, &self.items, index, monitor)?
        } else {
            Kept::default()
        };
        create_folders(folder, &self.items, &kept)?;
        let mut files = Files::new(folder, &self.items, &kept, ahead, self.is_only_read_back());
        files.link(&mut kept, monitor)?;
        files.create_empty(monitor)?;
        let runs = runs(wanted(index, &self.items, &kept, &files.further));
        parallel::for_each(&runs, |run| {
            go_on(monitor)?;
            fetch_run(repository, index, run, &files, monitor)
        })?;
        let known = Mutex::default();
        for (number, item) in self.items.iter().enumerate() {
            if let Some(fold) = Fold::new(item, index) {
                files.make_whole(number, &fold, (repository, index), &known, monitor)?;
            }
        }
        let found = files.remove_lost()?;
        self.lose(&found);
        self.tell_parts_lost(monitor);
        let whole = |wanted: &Wanted| Some((wanted.location.blob.id, *wanted.is_whole.get()?));
        let mut known = known.into_inner().unwrap_or_else(PoisonError::into_inner);
        known.extend(runs.iter().flatten().filter_map(whole));
        lost::search(
            repository,
            index,
            &self.snapshot,
            &mut self.lost,
            known,
            lost::MAX_READ,
            monitor,
        )
    }
}

/// Whoever owns the target may have a list of rights there that each new file gets; a copy has those of
/// the snapshot.
fn inherit_nothing(folder: &dyn Folder) -> Result<()> {
    let itself = Path::new("");
    for name in ACCESS_LISTS {
        // What cannot be read is not there.
        if matches!(folder.attribute(itself, name), Ok(Some(_))) {
            folder
                .remove_attribute(itself, name)
                .map_err(Error::file("removing the access list of", folder.path()))?;
        }
    }
    Ok(())
}

/// Creates all folders for our eyes only; their own modes come last.
fn create_folders(folder: &dyn Folder, items: &[Item], kept: &Kept) -> Result<()> {
    let is_new = |item: &&Item| item.entry.kind == Kind::Folder && !kept.has_folder(&item.path);
    for item in items.iter().filter(is_new) {
        folder
            .create_folder(&item.path, 0o700)
            .map_err(Error::file("creating", folder.path().join(&item.path)))?;
    }
    Ok(())
}

/// Every blob that the files consist of and that is not there yet, with all the places it goes to. A file of several names is
/// written under the first; databases that are made of two files are [made whole](Fold) by themselves.
fn wanted(
    index: &Index,
    items: &[Item],
    kept: &Kept,
    further: &HashMap<usize, usize>,
) -> Vec<Wanted> {
    let mut wanted: HashMap<Id, Wanted> = HashMap::new();
    for (number, item) in items.iter().enumerate() {
        let Content::File { blobs, .. } = &item.content else {
            continue;
        };
        if further.contains_key(&number) || item.log.is_some() {
            continue;
        }
        let mut offset = 0_u64;
        for (position, id) in blobs.iter().enumerate() {
            // Files that the index does not lead to are lost already.
            let Some(location) = index.find(BlobKind::Data, *id) else {
                continue;
            };
            if !kept.has_blob(number, position) {
                let wanted = wanted.entry(*id).or_insert_with(|| Wanted {
                    location,
                    places: Vec::new(),
                    is_whole: OnceLock::new(),
                });
                wanted.places.push(Place { number, offset });
            }
            offset = offset.saturating_add(location.plain_length());
        }
    }
    wanted.into_values().collect()
}

/// Sorts by pack and offset, and joins what lies close together.
fn runs(mut wanted: Vec<Wanted>) -> Vec<Vec<Wanted>> {
    wanted.sort_unstable_by_key(|wanted| (wanted.location.pack, wanted.location.blob.offset));
    let mut runs: Vec<Vec<Wanted>> = Vec::new();
    let mut open: Option<(Id, Span)> = None;
    for next in wanted {
        let (pack, span) = (next.location.pack, Span::of(&next.location));
        let joined = open.filter(|(last, _)| *last == pack);
        let joined = joined.and_then(|(_, begun)| begun.with(span));
        match (runs.last_mut(), joined) {
            (Some(run), Some(_)) => run.push(next),
            _ => runs.push(vec![next]),
        }
        open = Some((pack, joined.unwrap_or(span)));
    }
    runs
}

/// Reads one run and writes its blobs to all their places.
fn fetch_run(
    repository: &Repository,
    index: &Index,
    run: &[Wanted],
    files: &Files<'_>,
    monitor: &dyn Monitor,
) -> Result<()> {
    let locations = run.iter().map(|wanted| &wanted.location);
    let Some(read) = Run::read(repository, index, locations) else {
        return Ok(());
    };
    for wanted in run {
        if files.are_lost(&wanted.places) {
            continue;
        }
        let plain = match read.open(&wanted.location) {
            Err(cause @ Error::Damaged { .. }) => {
                let _ = wanted.is_whole.set(false);
                files.lose(&wanted.places, &cause);
                continue;
            }
            other => other?,
        };
        let _ = wanted.is_whole.set(true);
        for place in &wanted.places {
            // One blob may go to a million places: a hole in a file has as many.
            go_on(monitor)?;
            files.write(*place, &plain)?;
            let bytes = plain.len() as u64;
            files.ahead.written(bytes);
            monitor.progress(Progress {
                bytes,
                files: u64::from(place.offset == 0),
            });
        }
    }
    Ok(())
}

/// The staged files: created when first written to, and a few kept open.
struct Files<'a> {
    folder: &'a dyn Folder,
    items: &'a [Item],
    /// Those that were left by an earlier run: what they hold may be anything.
    left: Vec<bool>,
    /// Further names of files, each with the first.
    further: HashMap<usize, usize>,
    created: Vec<AtomicBool>,
    ahead: &'a Ahead,
    /// Whether nobody will read databases soon but to read them back.
    past_cache: bool,
    state: Mutex<FileState>,
}

struct FileState {
    open: HashMap<usize, Arc<dyn File>>,
    /// Files of which something is in no whole copy, and why.
    lost: BTreeMap<usize, String>,
}

impl<'a> Files<'a> {
    fn new(
        folder: &'a dyn Folder,
        items: &'a [Item],
        kept: &Kept,
        ahead: &'a Ahead,
        past_cache: bool,
    ) -> Self {
        let left: Vec<bool> = (0..items.len())
            .map(|number| kept.has_file(number))
            .collect();
        Self {
            folder,
            items,
            further: further_names(items),
            created: left.iter().copied().map(AtomicBool::new).collect(),
            ahead,
            past_cache,
            state: Mutex::new(FileState {
                open: HashMap::new(),
                lost: BTreeMap::new(),
            }),
            left,
        }
    }

    /// Creates the files of several names, and gives them their names. Where there are no such files,
    /// each name gets a copy.
    fn link(&mut self, kept: &mut Kept, monitor: &dyn Monitor) -> Result<()> {
        let mut refused = Refusals::default();
        let further: BTreeMap<usize, usize> = self.further.drain().collect();
        for (number, first) in further {
            go_on(monitor)?;
            let (path, of) = (&self.items[number].path, &self.items[first].path);
            let failed = |doing| Error::file(doing, self.path(number));
            if self.left[number] {
                kept.forget_file(number);
                self.folder.remove_file(path).map_err(failed("removing"))?;
                self.left[number] = false;
            }
            self.open(first)?;
            let linked = self.folder.create_link(of, path);
            let linked = refused.attempt(&HARD_LINK, (number, &self.path(number)), linked)?;
            self.created[number].store(linked, Ordering::Relaxed);
            if linked {
                self.further.insert(number, first);
                let bytes = self.items[number].content.size();
                monitor.progress(Progress { bytes, files: 1 });
            }
        }
        refused.tell(monitor);
        Ok(())
    }

    /// Creates the files that no blob is written to.
    fn create_empty(&self, monitor: &dyn Monitor) -> Result<()> {
        for (number, item) in self.items.iter().enumerate() {
            let is_empty = matches!(&item.content, Content::File { blobs, .. } if blobs.is_empty());
            if is_empty && !self.further.contains_key(&number) {
                self.open(number)?;
                monitor.progress(Progress { bytes: 0, files: 1 });
            }
        }
        Ok(())
    }

    /// The files at these places are lost.
    fn lose(&self, places: &[Place], cause: &Error) {
        let mut state = self.state();
        for Place { number, .. } in places {
            let lost = state.lost.entry(*number);
            lost.or_insert_with(|| cause.to_string());
        }
    }

    fn are_lost(&self, places: &[Place]) -> bool {
        let state = self.state();
        places
            .iter()
            .all(|place| state.lost.contains_key(&place.number))
    }

    /// Removes what was written of lost files; returns which they are, and why.
    fn remove_lost(self) -> Result<BTreeMap<usize, String>> {
        let path = |number| self.path(number);
        let mut state = self.state();
        for (number, first) in &self.further {
            if let Some(finding) = state.lost.get(first).cloned() {
                state.lost.insert(*number, finding);
            }
        }
        let is_there = |number: &&usize| self.created[**number].load(Ordering::Relaxed);
        for number in state.lost.keys().filter(is_there) {
            self.folder
                .remove_file(&self.items[*number].path)
                .map_err(Error::file("removing", path(*number)))?;
        }
        Ok(state.lost.clone())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, FileState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a database that is made of two files.
    fn make_whole(
        &self,
        number: usize,
        fold: &Fold,
        from: (&Repository, &Index),
        known: &Mutex<HashMap<Id, bool>>,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let file = self.open(number)?;
        let write = |stretch: &Stretch| {
            go_on(monitor)?;
            for part in &stretch.parts {
                let (bytes, at) = (&stretch.bytes[part.clone()], stretch.offset + part.start);
                let written = if self.past_cache {
                    file.write_past_cache(bytes, at as u64)
                } else {
                    file.write_all_at(bytes, at as u64)
                };
                written.map_err(Error::file("writing", self.path(number)))?;
                let bytes = bytes.len() as u64;
                self.ahead.written(bytes);
                monitor.progress(Progress { bytes, files: 0 });
            }
            Ok(())
        };
        match fold.make(from, write, known) {
            Err(cause @ Error::Damaged { .. }) => {
                self.state().lost.insert(number, cause.to_string());
            }
            other => other?,
        }
        monitor.progress(Progress { bytes: 0, files: 1 });
        Ok(())
    }

    /// Writes a blob.
    fn write(&self, place: Place, bytes: &[u8]) -> Result<()> {
        let Place { number, offset } = place;
        if self.is_new_and_all_in_one(number) {
            return self.create_whole(number, bytes);
        }
        let file = self.open(number)?;
        let stretches = if self.left[number] && !reads_as_zeros(file.as_ref(), offset, bytes.len())
        {
            std::iter::once(0..bytes.len()).collect()
        } else {
            // What was never written is a hole, and stays one.
            holes::data(bytes, offset)
        };
        self.write_stretches((number, offset), file.as_ref(), bytes, stretches)
    }

    /// Writes stretches of the bytes that belong there.
    fn write_stretches(
        &self,
        (number, offset): (usize, u64),
        file: &dyn File,
        bytes: &[u8],
        stretches: Vec<Range<usize>>,
    ) -> Result<()> {
        stretches.into_iter().try_for_each(|stretch| {
            file.write_all_at(&bytes[stretch.clone()], offset + stretch.start as u64)
                .map_err(Error::file("writing", self.path(number)))
        })
    }

    /// Whether a file is not there yet, and is one blob: nobody else will write to it.
    fn is_new_and_all_in_one(&self, number: usize) -> bool {
        matches!(&self.items[number].content, Content::File { blobs, .. } if blobs.len() == 1)
            && !self.created[number].load(Ordering::Relaxed)
    }

    /// Makes a file of these bytes. Most files are small: no two threads wait here for each other.
    fn create_whole(&self, number: usize, bytes: &[u8]) -> Result<()> {
        let file = self
            .folder
            .create_file(&self.items[number].path, 0o600)
            .map_err(Error::file("creating", self.path(number)))?;
        self.created[number].store(true, Ordering::Relaxed);
        let stretches = holes::data(bytes, 0);
        let end = stretches.last().map_or(0, |stretch| stretch.end);
        if end < bytes.len() {
            // What is not written then is a hole.
            file.set_length(bytes.len() as u64)
                .map_err(Error::file("creating", self.path(number)))?;
        }
        self.write_stretches((number, 0), file.as_ref(), bytes, stretches)
    }

    fn path(&self, number: usize) -> std::path::PathBuf {
        self.folder.path().join(&self.items[number].path)
    }

    fn open(&self, number: usize) -> Result<Arc<dyn File>> {
        let mut state = self.state();
        if let Some(file) = state.open.get(&number) {
            return Ok(Arc::clone(file));
        }
        let path: &Path = &self.items[number].path;
        let size = self.items[number].content.size();
        let file = if self.created[number].load(Ordering::Relaxed) {
            self.folder.open_file(path, true)
        } else {
            self.folder.create_file(path, 0o600)
        };
        let file = file.and_then(|file| {
            // What is not written then is a hole.
            if file.length()? < size {
                file.set_length(size)?;
            }
            Ok(file)
        });
        let file: Arc<dyn File> = file
            .map_err(Error::file("creating", self.path(number)))?
            .into();
        self.created[number].store(true, Ordering::Relaxed);
        if state.open.len() >= OPEN_FILES {
            state.open.clear();
        }
        state.open.insert(number, Arc::clone(&file));
        Ok(file)
    }
}

/// Whether so many bytes of a file are zeros already.
fn reads_as_zeros(file: &dyn File, offset: u64, length: usize) -> bool {
    let mut there = vec![0; length];
    file.read_exact_at(&mut there, offset).is_ok() && holes::data(&there, offset).is_empty()
}
