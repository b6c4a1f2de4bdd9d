//! `repair index`: every pack that is there is named by one index file, as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::describe::{Description, describe};
use super::inventory::{Inventory, hash};
use super::{NAMELESS, Note, REMOVE, all_mended};
use crate::backend::{Class, Object};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Step, go_on};
use crate::parallel;
use crate::repository::index::IndexFile;
use crate::repository::lock::Lock;
use crate::repository::pack::PackedBlob;
use crate::repository::replace::{Named, Standing, files_of, replace};
use crate::repository::{Repository, finding};
use crate::units::counted;

/// What is done about an object that could not be reached, and what is left to do.
const MAY_BE_WHOLE: &str = "left: it may be whole";
const AGAIN: &str = "see that the storage is whole, then run `tillsafe repair index` again";

/// What was done to the index, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IndexReport {
    /// What was wrong.
    #[serde(skip)]
    pub notes: Vec<Note>,
    /// Whether nothing is left to do.
    pub all_mended: bool,
    /// Index files that were right, and stay as they are.
    pub kept_files: u64,
    /// Index files that were removed.
    pub removed_files: u64,
    /// Index files that were written.
    pub new_files: u64,
    /// Packs that are there.
    pub packs: u64,
    /// Packs whose header was read.
    pub headers_read: u64,
    /// Packs that were in no index that can be read.
    pub found_packs: u64,
    /// Packs that are not there, and are no longer named.
    pub gone_packs: u64,
}

/// Repairs the index. Without a `lock` it only tells what it would do. With `read_all` the header of every
/// pack is compared with its index, else only of those that no index names, or whose size contradicts it.
///
/// # Errors
/// [`Error::Unsupported`] for a repository that is not written; [`Error::LockLost`], [`Error::Storage`],
/// [`Error::Interrupted`]: nothing is lost, and the next run completes it.
pub fn repair_index(
    repository: &Repository,
    lock: Option<&Lock>,
    read_all: bool,
    monitor: &dyn Monitor,
) -> Result<IndexReport> {
    repository.require_writable()?;
    monitor.step(Step::Checking, None);
    let inventory = Inventory::read(repository, monitor)?;
    let mut plan = Plan::make(repository, &inventory, read_all, monitor)?;
    let only_told = lock.is_none() && plan.changes_anything();
    plan.report.all_mended = all_mended(&plan.report.notes, only_told);
    if let Some(lock) = lock
        && plan.changes_anything()
    {
        replace(repository, lock, &plan.new, &plan.old, || Ok(()))?;
    }
    Ok(plan.report)
}

/// What is to be written, what is to go, and why.
#[derive(Default)]
struct Plan {
    new: Vec<IndexFile>,
    old: BTreeSet<Id>,
    report: IndexReport,
}

impl Plan {
    fn make(
        repository: &Repository,
        inventory: &Inventory,
        read_all: bool,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let mut plan = Self::default();
        plan.report.packs = inventory.sizes.len() as u64;
        let asked = plan.ask_packs(repository, inventory, read_all, monitor)?;
        // A file stays if all it says is so, and none that stays said it before.
        let mut named = BTreeSet::new();
        for (id, packs) in &inventory.files {
            let is_right = |(pack, standing): (&Id, &Standing)| {
                let sound = asked.get(pack).map_or_else(
                    || inventory.is_sound(*pack),
                    |description| !description.differs,
                );
                sound && *standing == inventory.standing(*pack) && !named.contains(pack)
            };
            if packs.iter().all(is_right) {
                named.extend(packs.keys().copied());
            } else {
                plan.old.insert(*id);
            }
        }
        plan.report.kept_files = (inventory.files.len() - plan.old.len()) as u64;
        let is_missing = |pack: Id| {
            let is_there = inventory.sizes.contains_key(&pack);
            is_there && !named.contains(&pack) && !asked.contains_key(&pack)
        };
        let entries = inventory.entries(repository, &plan.old, is_missing)?;
        // They are sound, so that there is one entry of each.
        let mut packs: Vec<(Id, Vec<PackedBlob>)> = entries
            .into_iter()
            .filter_map(|(pack, mut said)| Some((pack, said.pop()?)))
            .collect();
        for (pack, description) in asked {
            plan.tell(inventory, pack, &description);
            if !named.contains(&pack) && !description.blobs.is_empty() {
                packs.push((pack, description.blobs));
            }
        }
        packs.sort_unstable_by_key(|(pack, _)| *pack);
        let new = packs.into_iter().map(|(pack, blobs)| Named {
            pack,
            blobs,
            standing: inventory.standing(pack),
        });
        plan.new = files_of(new.collect());
        plan.tell_files(inventory);
        Ok(plan)
    }

    /// Reads the headers of packs that are in doubt, on all cores; what is told of those that are as their
    /// index says is nothing.
    fn ask_packs(
        &mut self,
        repository: &Repository,
        inventory: &Inventory,
        read_all: bool,
        monitor: &dyn Monitor,
    ) -> Result<BTreeMap<Id, Description>> {
        let there = inventory.sizes.iter();
        let mut packs: Vec<(Id, u64)> = there
            .filter(|(pack, _)| {
                read_all || inventory.of(**pack).is_empty() || !inventory.is_sound(**pack)
            })
            .map(|(pack, size)| (*pack, *size))
            .collect();
        packs.sort_unstable();
        self.report.headers_read = packs.len() as u64;
        let found = Mutex::new(BTreeMap::new());
        let doubtful = Mutex::new(Vec::new());
        parallel::for_each(&packs, |(pack, size)| {
            go_on(monitor)?;
            let mentions = inventory.of(*pack);
            if mentions.is_empty() {
                let description = describe(repository, *pack, *size, &[]);
                kept(&found).insert(*pack, description);
                return Ok(());
            }
            let header = repository.read_pack_header(*pack, *size);
            let is_so = header.is_ok_and(|(blobs, _)| {
                let entry = hash(&blobs);
                mentions.iter().all(|mention| mention.entry == entry)
            });
            if !is_so {
                kept(&doubtful).push((*pack, *size));
            }
            Ok::<(), Error>(())
        })?;
        let doubtful = doubtful
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let said = inventory.said_of(repository, &doubtful)?;
        parallel::for_each(&doubtful, |(pack, size)| {
            go_on(monitor)?;
            let description = describe(repository, *pack, *size, &said[pack]);
            kept(&found).insert(*pack, description);
            Ok::<(), Error>(())
        })?;
        Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says what was wrong with a pack that was asked.
    fn tell(&mut self, inventory: &Inventory, pack: Id, asked: &Description) {
        let object = Object::Named(Class::Data, pack);
        let is_named = !inventory.of(pack).is_empty();
        self.report.found_packs += u64::from(!is_named && asked.header.is_ok());
        let note = match &asked.header {
            Ok(()) if is_named => Note::mended(
                object,
                "its header and its index differ",
                "named as its header says",
            ),
            Ok(()) => return,
            Err(cause) if is_named => Note::left(
                object,
                finding(cause),
                "still named as its index says",
                "`tillsafe repair packs` stores what is whole in it anew and removes it",
            ),
            Err(cause @ Error::Damaged { .. }) => {
                Note::left(object, finding(cause), NAMELESS, REMOVE)
            }
            Err(cause) => Note::left(object, finding(cause), MAY_BE_WHOLE, AGAIN),
        };
        self.report.notes.push(note);
    }

    /// Says what becomes of index files, and what that costs: nothing.
    fn tell_files(&mut self, inventory: &Inventory) {
        // Only such a pack could still need a file that was not reached; all others are named by now.
        let nameless = |note: &Note| [NAMELESS, MAY_BE_WHOLE].contains(&note.done.as_str());
        let has_nameless = self.report.notes.iter().any(nameless);
        for (id, cause) in &inventory.unreadable {
            let object = Object::Named(Class::Index, *id);
            let may_be_whole = !matches!(cause, Error::Damaged { .. });
            let note = if may_be_whole && has_nameless {
                Note::left(object, finding(cause), MAY_BE_WHOLE, AGAIN)
            } else {
                self.old.insert(*id);
                let done = "removed: what it named is named by the packs' own headers";
                Note::mended(object, finding(cause), done)
            };
            self.report.notes.push(note);
        }
        let gone = inventory.gone();
        for pack in &gone {
            self.report.notes.push(Note::mended(
                Object::Named(Class::Data, *pack),
                "it is not there, but an index names it",
                "no longer named: what it held is stored again when it is backed up again",
            ));
        }
        self.report.gone_packs = gone.len() as u64;
        if self.report.found_packs > 0 {
            self.report.notes.push(Note {
                object: Class::Index.folder().to_owned(),
                finding: format!(
                    "{} in none of its files",
                    counted(self.report.found_packs, "pack")
                ),
                done: "named as their own headers say".to_owned(),
                next: None,
            });
        }
        self.report.removed_files = self.old.len() as u64;
        self.report.new_files = self.new.len() as u64;
    }

    fn changes_anything(&self) -> bool {
        !self.new.is_empty() || !self.old.is_empty()
    }
}

fn kept<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
