//! `repair packs`: what is whole in a broken pack is stored anew, and the broken pack goes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::examine::{Examined, examine};
use super::inventory::{Inventory, hash};
use super::{Hushed, NAMELESS, Note, REMOVE, all_mended};
use crate::backend::{Class, Object};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Progress, Step, go_on};
use crate::parallel;
use crate::repository::Repository;
use crate::repository::check::{Affected, Losses};
use crate::repository::crypto;
use crate::repository::index::{Index, IndexFile, Location};
use crate::repository::lock::Lock;
use crate::repository::pack::{BlobKind, PackedBlob};
use crate::repository::replace::{Named, files_of, replace};
use crate::repository::writer::Writer;
use crate::units::counted;

/// What was done about broken packs, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PacksReport {
    /// What was wrong.
    #[serde(skip)]
    pub notes: Vec<Note>,
    /// What snapshots lose by it, and by packs that are gone.
    #[serde(skip)]
    pub affected: Vec<Affected>,
    /// Paths that are lost, each counted in every snapshot that loses it.
    pub lost_paths: u64,
    /// Those of them that `affected` does not list, for there are too many.
    pub unlisted_paths: u64,
    /// Whether every pack is whole now.
    pub all_mended: bool,
    /// Packs of which every byte was read.
    pub packs_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Packs that were broken, or not as their index says.
    pub broken_packs: u64,
    /// Packs that are not there, and are no longer named.
    pub gone_packs: u64,
    /// Whole blobs that were stored anew.
    pub saved_blobs: u64,
    /// Blobs of which no copy is whole.
    pub lost_blobs: u64,
    /// Packs that were removed.
    pub removed_packs: u64,
    /// Their bytes.
    pub removed_bytes: u64,
}

/// Which packs are repaired.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// Every byte of all is read, and those in which anything is wrong are.
    All,
    /// Those in which [`find_broken`] has found anything.
    Found(&'a Broken),
    /// Those that their owner names, also if nobody can say what they hold.
    Named(&'a BTreeSet<Id>),
}

impl Which<'_> {
    fn includes(&self, pack: Id) -> bool {
        match self {
            Self::All => true,
            Self::Found(broken) => broken.packs.contains(&pack),
            Self::Named(packs) => packs.contains(&pack),
        }
    }

    const fn is_by_name(&self) -> bool {
        matches!(self, Self::Named(_))
    }
}

/// Packs in which something is wrong, or that are gone; and how much was read to find them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Broken {
    packs: BTreeSet<Id>,
    packs_read: u64,
    bytes_read: u64,
}

/// Reads every byte of every pack. It takes as long as the storage does, so it is done under a shared lock, or
/// none; what it finds is looked at again under the exclusive one.
///
/// # Errors
/// [`Error::Storage`], [`Error::Interrupted`].
pub fn find_broken(repository: &Repository, monitor: &dyn Monitor) -> Result<Broken> {
    repository.require_writable()?;
    let inventory = Inventory::read(repository, monitor)?;
    let mut plan = Plan::default();
    let broken = plan.examine_all(repository, &inventory, Which::All, monitor)?;
    Ok(Broken {
        packs: broken.into_keys().chain(inventory.gone()).collect(),
        packs_read: plan.report.packs_read,
        bytes_read: plan.report.bytes_read,
    })
}

/// Repairs packs. Without a `lock` it only tells what it would do.
///
/// # Errors
/// [`Error::Unsupported`] for a repository that is not written; [`Error::LockLost`], [`Error::Storage`],
/// [`Error::Interrupted`]: nothing is lost, and the next run completes it.
pub fn repair_packs(
    repository: &Repository,
    lock: Option<&Lock>,
    which: Which<'_>,
    monitor: &dyn Monitor,
) -> Result<PacksReport> {
    repository.require_writable()?;
    let inventory = Inventory::read(repository, monitor)?;
    let mut plan = Plan::make(repository, &inventory, which, monitor)?;
    if let Which::Found(broken) = which {
        plan.report.packs_read = broken.packs_read;
        plan.report.bytes_read = broken.bytes_read;
    }
    let only_told = lock.is_none() && plan.changes_anything();
    plan.report.all_mended = all_mended(&plan.report.notes, only_told);
    if plan.changes_anything() {
        plan.find_losses(repository, monitor)?;
    }
    let Some(lock) = lock.filter(|_| plan.changes_anything()) else {
        return Ok(plan.report);
    };
    plan.save(repository, lock, monitor)?;
    let goes = std::mem::take(&mut plan.goes);
    replace(repository, lock, &plan.new, &plan.old, || {
        monitor.step(Step::Removing, None);
        for pack in goes.keys() {
            go_on(monitor)?;
            lock.require_held()?;
            repository.remove(Object::Named(Class::Data, *pack))?;
        }
        lock.require_held()
    })?;
    Ok(plan.report)
}

impl Repository {
    /// The packs that are there, or that an index names, whose ids begin so; a path that ends in one is
    /// taken as well.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is not exactly one for each; [`Error::Storage`].
    pub fn find_packs(&self, words: &[String], monitor: &dyn Monitor) -> Result<BTreeSet<Id>> {
        if words.is_empty() {
            return Ok(BTreeSet::new());
        }
        let inventory = Inventory::read(self, &Hushed(monitor))?;
        words.iter().map(|words| inventory.find(words)).collect()
    }
}

impl Inventory {
    fn find(&self, words: &str) -> Result<Id> {
        let digits = words.rsplit('/').next().unwrap_or(words);
        let all = self.sizes.keys().chain(self.mentions.keys());
        let fits = |id: &&Id| digits.len() >= 4 && id.to_string().starts_with(digits);
        let found: BTreeSet<Id> = all.filter(fits).copied().collect();
        match found.first() {
            Some(id) if found.len() == 1 => Ok(*id),
            _ => Err(Error::Usage {
                finding: format!(
                    "{} begin with {digits:?}",
                    counted(found.len() as u64, "pack")
                ),
                next: "type at least four digits, and all that tell one pack from another; without an id all packs are read".to_owned(),
            }),
        }
    }
}

/// What is to be saved, what is to go, and why.
#[derive(Default)]
struct Plan {
    /// Where a whole copy of each blob that is to be stored anew lies.
    save: BTreeMap<(BlobKind, Id), (Id, PackedBlob)>,
    /// Copies that are not whole.
    bad: HashSet<(Id, u32)>,
    /// Packs that go, with their sizes.
    goes: BTreeMap<Id, u64>,
    new: Vec<IndexFile>,
    old: BTreeSet<Id>,
    report: PacksReport,
}

impl Plan {
    fn make(
        repository: &Repository,
        inventory: &Inventory,
        which: Which<'_>,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let mut plan = Self::default();
        let broken = plan.examine_all(repository, inventory, which, monitor)?;
        let gone = inventory.gone().into_iter();
        let gone = gone.filter(|pack| which.includes(*pack));
        let gone: BTreeSet<Id> = gone.collect();
        plan.report.gone_packs = gone.len() as u64;
        plan.report.broken_packs = broken.len() as u64;
        let mut index = Index::default();
        if !broken.is_empty() {
            index = repository.read_index_files(&Hushed(monitor))?.index;
        }
        // No copy in any of these counts.
        let apart: HashSet<Id> = broken.keys().chain(&gone).copied().collect();
        let has_copy = |kind, id| {
            let locations = index.locations(kind, id).into_iter();
            let mut others = locations
                .filter(|other| !apart.contains(&other.pack) && !index.is_retired(other.pack));
            others.any(|other| repository.read_blob_at(&other).is_ok())
        };
        let (mut corrected, mut ends) = (BTreeMap::new(), Vec::new());
        for (id, pack) in broken {
            let stays: HashSet<(BlobKind, Id)> = pack
                .sound
                .iter()
                .flatten()
                .map(|blob| (blob.kind, blob.id))
                .collect();
            let mut saved = 0_u64;
            for blob in &pack.whole {
                go_on(monitor)?;
                let key = (blob.kind, blob.id);
                if !stays.contains(&key)
                    && !plan.save.contains_key(&key)
                    && !has_copy(blob.kind, blob.id)
                {
                    plan.save.insert(key, (id, *blob));
                    saved += 1;
                }
            }
            // Where one description is wrong, another may be right.
            let right: HashSet<u32> = pack.whole.iter().map(|blob| blob.offset).collect();
            let wrong = pack.bad.iter().filter(|blob| !right.contains(&blob.offset));
            plan.bad.extend(wrong.map(|blob| (id, blob.offset)));
            if let Some(blobs) = &pack.sound {
                corrected.insert(id, blobs.clone());
            }
            ends.push((id, saved, pack));
        }
        plan.report.saved_blobs = plan.save.len() as u64;
        let mut lost = BTreeSet::new();
        for (id, saved, pack) in ends {
            let is_lost = |blob: &&PackedBlob| {
                let key = (blob.kind, blob.id);
                !plan.save.contains_key(&key) && !has_copy(blob.kind, blob.id)
            };
            let bad = pack.bad.iter().filter(is_lost);
            let keys: BTreeSet<_> = bad.map(|blob| (blob.kind, blob.id)).collect();
            let count = keys.len();
            lost.extend(keys);
            let size = inventory.sizes[&id];
            let is_named = which.is_by_name();
            plan.report
                .notes
                .push(decide(id, size, &pack, (saved, count), is_named));
            if goes(size, &pack, is_named) {
                plan.goes.insert(id, size);
            }
        }
        plan.report.lost_blobs = lost.len() as u64;
        plan.report.removed_packs = plan.goes.len() as u64;
        plan.report.removed_bytes = plan.goes.values().sum();
        for pack in &gone {
            plan.report.notes.push(Note::mended(
                Object::Named(Class::Data, *pack),
                "it is not there, but an index names it",
                "no longer named: what it held is stored again when it is backed up again",
            ));
        }
        plan.write_index(repository, inventory, &gone, corrected)?;
        Ok(plan)
    }

    /// Reads packs, on all cores; returns those in which anything is wrong.
    fn examine_all(
        &mut self,
        repository: &Repository,
        inventory: &Inventory,
        which: Which<'_>,
        monitor: &dyn Monitor,
    ) -> Result<BTreeMap<Id, Examined>> {
        let there = inventory.sizes.iter();
        let meant = there.filter(|(pack, _)| which.includes(**pack));
        let mut packs: Vec<(Id, u64)> = meant.map(|(pack, size)| (*pack, *size)).collect();
        packs.sort_unstable();
        self.report.packs_read = packs.len() as u64;
        self.report.bytes_read = packs.iter().map(|(_, size)| size).sum();
        monitor.step(Step::Checking, Some(self.report.bytes_read));
        // What the index says of all blobs is not kept in memory: of most packs it says what they say.
        let (found, doubtful) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
        parallel::for_each(&packs, |(pack, size)| {
            go_on(monitor)?;
            let mentions = inventory.of(*pack);
            let examined = examine(repository, *pack, *size, &[]);
            monitor.progress(Progress {
                bytes: *size,
                files: 0,
            });
            let is_so = examined.sound.as_ref().is_some_and(|blobs| {
                let entry = hash(blobs);
                mentions.iter().all(|mention| mention.entry == entry)
            });
            if is_so {
                return Ok(());
            }
            if mentions.is_empty() {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.insert(*pack, examined);
            } else {
                let mut doubtful = doubtful.lock().unwrap_or_else(PoisonError::into_inner);
                doubtful.push((*pack, *size));
            }
            Ok::<(), Error>(())
        })?;
        let doubtful = doubtful
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let said = inventory.said_of(repository, &doubtful)?;
        parallel::for_each(&doubtful, |(pack, size)| {
            go_on(monitor)?;
            let examined = examine(repository, *pack, *size, &said[pack]);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            // What was wrong a moment ago and is right now was a bad cable.
            if !examined.findings.is_empty() {
                found.insert(*pack, examined);
            }
            Ok::<(), Error>(())
        })?;
        Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// The index files that name what goes, and what is to stand in their place.
    fn write_index(
        &mut self,
        repository: &Repository,
        inventory: &Inventory,
        gone: &BTreeSet<Id>,
        corrected: BTreeMap<Id, Vec<PackedBlob>>,
    ) -> Result<()> {
        let is_apart = |pack: &Id| {
            gone.contains(pack) || self.goes.contains_key(pack) || corrected.contains_key(pack)
        };
        let files = inventory.files.iter();
        let old = files.filter(|(_, packs)| packs.keys().any(is_apart));
        let old: BTreeSet<Id> = old.map(|(id, _)| *id).collect();
        let stay = inventory.files.iter().filter(|(id, _)| !old.contains(*id));
        let named: HashSet<Id> = stay.flat_map(|(_, packs)| packs.keys().copied()).collect();
        let is_missing = |pack: Id| {
            let is_named = named.contains(&pack) && inventory.is_sound(pack);
            !is_named && !is_apart(&pack)
        };
        let entries = inventory.entries(repository, &old, is_missing)?;
        let entries = entries
            .into_iter()
            .flat_map(|(pack, said)| said.into_iter().map(move |blobs| (pack, blobs)));
        let packs: Vec<(Id, Vec<PackedBlob>)> = entries.chain(corrected).collect();
        let new = packs.into_iter().map(|(pack, blobs)| Named {
            pack,
            blobs,
            standing: inventory.standing(pack),
        });
        self.new = files_of(new.collect());
        self.old = old;
        Ok(())
    }

    /// Names what snapshots lose.
    fn find_losses(&mut self, repository: &Repository, monitor: &dyn Monitor) -> Result<()> {
        let hushed = Hushed(monitor);
        let mut losses = Losses::find(repository, self.bad.clone(), &hushed)?;
        self.report.affected = losses.affected();
        (self.report.lost_paths, self.report.unlisted_paths) = losses.counts();
        Ok(())
    }

    /// Stores what is whole anew, and names it in an index.
    fn save(&self, repository: &Repository, lock: &Lock, monitor: &dyn Monitor) -> Result<()> {
        if self.save.is_empty() {
            return Ok(());
        }
        monitor.step(Step::Repacking, None);
        lock.require_held()?;
        // An index that holds nothing: what is handed in is stored.
        let writer = Writer::begin(repository, Arc::new(Index::default()))?;
        // As they lie on the disk.
        let mut places: Vec<&(Id, PackedBlob)> = self.save.values().collect();
        places.sort_unstable_by_key(|(pack, blob)| (*pack, blob.offset));
        let stored = places.into_iter().try_for_each(|(pack, blob)| {
            go_on(monitor)?;
            let location = Location {
                pack: *pack,
                blob: *blob,
            };
            let plain = repository.read_blob_at(&location)?;
            monitor.progress(Progress {
                bytes: plain.len() as u64,
                files: 0,
            });
            writer.store(blob.kind, plain).map(drop)
        });
        writer.end(stored, lock).map(drop)
    }

    fn changes_anything(&self) -> bool {
        !(self.save.is_empty()
            && self.goes.is_empty()
            && self.new.is_empty()
            && self.old.is_empty())
    }
}

/// Whether a broken pack goes: nothing in it is needed that can be read, or might be. One that no index
/// and no header describes may hold anything: it goes when its owner names it, or is too short for a blob.
fn goes(size: u64, pack: &Examined, is_named: bool) -> bool {
    let holds_nothing = size <= crypto::OVERHEAD as u64;
    pack.sound.is_none()
        && pack.unreachable.is_empty()
        && !pack.is_header_unreachable
        && (!pack.is_nameless() || holds_nothing || is_named)
}

/// What is left to do where the storage does not give back what it has.
const ELSEWHERE: &str =
    "copy the repository to a sound disk, then run `tillsafe repair packs` there";

/// What is said of a broken pack; `counts` are its blobs that are saved, and those that are lost.
fn decide(id: Id, size: u64, pack: &Examined, counts: (u64, usize), is_named: bool) -> Note {
    let object = Object::Named(Class::Data, id);
    let finding = pack.findings.join("; ");
    let (saved, lost) = counts;
    let saved = match saved {
        0 => String::new(),
        saved => format!("{} stored anew, ", counted(saved, "blob")),
    };
    let lost = match lost as u64 {
        0 => "nothing is lost by it".to_owned(),
        lost => format!("{} lost", counted(lost, "blob")),
    };
    if pack.sound.is_some() {
        return Note::mended(object, finding, format!("{saved}named as its header says"));
    }
    if !pack.unreachable.is_empty() {
        let count = counted(pack.unreachable.len() as u64, "blob");
        let done = format!("{saved}left: {count} could not be reached and may be whole");
        return Note::left(object, finding, done, ELSEWHERE);
    }
    if pack.is_header_unreachable {
        let done = format!("{saved}left: its header could not be reached and may name more");
        return Note::left(object, finding, done, ELSEWHERE);
    }
    if !goes(size, pack, is_named) {
        return Note::left(object, finding, NAMELESS, REMOVE);
    }
    Note::mended(object, finding, format!("{saved}{lost}, the pack removed"))
}
