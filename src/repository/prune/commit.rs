//! A plan made true: the new index first, then the old index files go, then the packs.
//!
//! Whatever stops us in between, no index names a pack that is gone, and every pack that is needed is
//! named by an index or found by its header. After each step we ask whether the lock still holds: a
//! holder that was stopped meanwhile takes back the index that it has just written.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{Fate, Plan};
use super::state::State;
use crate::backend::{Class, Object};
use crate::error::Result;
use crate::id::Id;
use crate::monitor::{Monitor, Progress, Step, go_on};
use crate::repository::Repository;
use crate::repository::index::{IndexFile, MAX_BLOBS};
use crate::repository::lock::Lock;
use crate::repository::replace::{Named, Standing, files_of, replace};

/// Index files with fewer blobs are put together, if there are so many.
const SMALL: usize = MAX_BLOBS / 2;
const MANY_SMALL: usize = 8;

/// What changes in the index.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Index files that go.
    pub old: BTreeSet<Id>,
    /// Those that come, with all packs that are then named by none of the others.
    pub new: Vec<IndexFile>,
}

impl Change {
    /// Takes out index files that say what is no longer so, or are small and many.
    pub fn of(state: &State, plan: &Plan) -> Self {
        let mut change = Self::default();
        for (id, file) in &state.files {
            let is_right = |(pack, standing): &(Id, Standing)| says(*standing, plan.fates[pack]);
            if !file.packs.iter().all(is_right) {
                change.old.insert(*id);
            }
        }
        let small = state.files.iter().filter(|(_, file)| file.blobs < SMALL);
        let small: Vec<Id> = small.map(|(id, _)| *id).collect();
        if small.len() >= MANY_SMALL || (small.len() > 1 && !change.old.is_empty()) {
            change.old.extend(small);
        }
        let stay = state
            .files
            .iter()
            .filter(|(id, _)| !change.old.contains(*id));
        let named: BTreeSet<Id> = stay
            .flat_map(|(_, file)| file.packs.iter().map(|(id, _)| *id))
            .collect();
        let remains = |id: &&Id| plan.fates[*id] != Fate::Remove && !named.contains(*id);
        let packs = state.packs.keys().filter(remains).map(|id| Named {
            pack: *id,
            blobs: state.packs[id].blobs.clone(),
            standing: match plan.fates[id] {
                Fate::Mark(since) => Standing::Marked(Some(since)),
                Fate::Use | Fate::Remove => Standing::InUse,
            },
        });
        change.new = files_of(packs.collect());
        change
    }
}

/// Whether an index file that lists a pack so says what becomes of it.
fn says(standing: Standing, fate: Fate) -> bool {
    match fate {
        Fate::Use => standing == Standing::InUse,
        Fate::Mark(since) => standing == Standing::Marked(Some(since)),
        Fate::Remove => false,
    }
}

/// Carries a plan out, under an exclusive lock.
///
/// # Errors
/// [`crate::error::Error::LockLost`], [`crate::error::Error::Storage`],
/// [`crate::error::Error::Interrupted`]: what was done is whole, the next run does the rest.
pub(super) fn commit(
    repository: &Repository,
    state: &State,
    plan: &Plan,
    change: &Change,
    lock: &Lock,
    monitor: &dyn Monitor,
) -> Result<()> {
    if !change.old.is_empty() || !change.new.is_empty() {
        replace(repository, lock, &change.new, &change.old, || Ok(()))?;
    }
    remove_packs(repository, state, plan, lock, monitor)
}

fn remove_packs(
    repository: &Repository,
    state: &State,
    plan: &Plan,
    lock: &Lock,
    monitor: &dyn Monitor,
) -> Result<()> {
    let going: BTreeMap<Id, u64> = state
        .packs
        .iter()
        .filter(|(id, _)| plan.fates[*id] == Fate::Remove)
        .filter_map(|(id, pack)| Some((*id, pack.size?)))
        .collect();
    if going.is_empty() {
        return Ok(());
    }
    monitor.step(Step::Removing, Some(going.values().sum()));
    for (id, bytes) in going {
        go_on(monitor)?;
        lock.require_held()?;
        repository.remove(Object::Named(Class::Data, id))?;
        monitor.progress(Progress { bytes, files: 1 });
    }
    Ok(())
}
