//! `forget`: snapshots that nothing keeps are removed, one by one, under the exclusive lock.
//!
//! Only snapshot objects go: what they alone needed stays until a prune. Before the first removal this
//! machine notes what is about to go, and after the last what it has seen: so a run that cannot remember
//! removes nothing, and one that was cut short is repeated, not counted.

use std::collections::BTreeSet;

use crate::durable::Disk;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, go_on};
use crate::repository::Repository;
use crate::repository::lock::{Access, Alone, Lock};
use crate::repository::snapshot::{Snapshot, Snapshots};
use crate::retention::{self, Described, Group, History, HistoryFile, Judged, Moment, Policy};

/// What the decision goes by, beside the policy.
#[derive(Debug)]
pub struct Circumstances<'a> {
    /// Every snapshot of the repository, as listed under the lock that protects the removal.
    pub snapshots: &'a Snapshots,
    /// Those that a restore has proved.
    pub proven: &'a BTreeSet<Id>,
    /// Those whose root folder cannot be read: nothing of them can be restored.
    pub hollow: &'a BTreeSet<Id>,
    /// What this machine has seen before.
    pub history: History,
    /// The time, and whether what came in is believed.
    pub moment: Moment,
}

/// What is to go, and what will be remembered.
#[derive(Debug)]
pub struct Plan {
    /// What becomes of each series; none if snapshots were named.
    pub judged: Vec<Judged>,
    going: Vec<Id>,
    /// How many are gone already.
    gone: u64,
    /// Records of ours of which a later snapshot holds all.
    needless: Vec<Id>,
    before: History,
    after: History,
}

impl Plan {
    /// Chooses by a policy among the `selected` snapshots.
    #[must_use]
    pub fn by_policy(
        policy: &Policy,
        selected: &BTreeSet<Id>,
        circumstances: Circumstances<'_>,
    ) -> Self {
        let there = circumstances.there();
        let described = circumstances.described(selected);
        let Circumstances {
            history, moment, ..
        } = circumstances;
        let judged = retention::decide(&described, &there, policy, &history, moment);
        let going: Vec<Id> = judged
            .iter()
            .flat_map(|one| one.going().map(|one| one.id))
            .collect();
        let gone: BTreeSet<Id> = going.iter().copied().collect();
        Self {
            before: history.before_removing(&gone),
            after: history.after(&judged, &there, moment),
            judged,
            going,
            gone: 0,
            needless: Vec::new(),
        }
    }

    /// Takes the snapshots that their owner names.
    ///
    /// # Errors
    /// [`Error::LastSnapshot`] if the last good or the last proven one of a series is among them: then
    /// none of them goes.
    pub fn by_name(named: &BTreeSet<Id>, circumstances: Circumstances<'_>) -> Result<Self> {
        let described = circumstances.described(named);
        let there = circumstances.there();
        let Circumstances {
            history, moment, ..
        } = circumstances;
        let last = retention::last_ones(&described, &there, &history, moment);
        let protected = described
            .iter()
            .filter(|one| named.contains(&one.id))
            .find_map(|one| Some((one, last.get(&one.id)?)));
        if let Some((one, reason)) = protected {
            return Err(Error::LastSnapshot {
                snapshot: one.id.short(),
                reason: reason.to_string(),
                group: one.group.to_string(),
            });
        }
        let before = history.before_removing(named);
        Ok(Self {
            judged: Vec::new(),
            going: named.iter().copied().collect(),
            gone: 0,
            needless: Vec::new(),
            after: before.clone(),
            before,
        })
    }

    /// Takes along snapshots of records that say nothing which a later one does not say.
    #[must_use]
    pub fn with_needless(self, needless: impl IntoIterator<Item = Id>) -> Self {
        Self {
            needless: needless.into_iter().collect(),
            ..self
        }
    }

    /// The snapshots that go.
    #[must_use]
    pub fn going(&self) -> &[Id] {
        &self.going
    }

    /// The refused series with what came in.
    pub fn refused(&self) -> impl Iterator<Item = (&Group, &retention::Flood)> {
        let judged = self.judged.iter();
        judged.filter_map(|one| Some((&one.group, one.flood.as_ref()?)))
    }

    /// How many go in all.
    const fn count(&self) -> u64 {
        self.gone + self.going.len() as u64
    }

    /// Removes what goes, and remembers. `told` hears of each that is gone.
    ///
    /// # Errors
    /// [`Error::File`] if this machine cannot remember: then nothing is removed, or all that was to be;
    /// [`Error::RemovalStopped`]: then the same command goes on.
    pub fn execute(
        self,
        repository: &Repository,
        lock: &Lock,
        file: &HistoryFile,
        disk: &dyn Disk,
        monitor: &dyn Monitor,
        told: &mut dyn FnMut(Id),
    ) -> Result<()> {
        if !self.going.is_empty() {
            file.write(&self.before, disk)?;
        }
        let count = self.count();
        for (removed, id) in (self.gone..).zip(self.going) {
            remove(repository, lock, id, monitor).map_err(stopped(removed, count))?;
            told(id);
        }
        for id in self.needless {
            remove(repository, lock, id, monitor)?;
        }
        if self.after != self.before {
            file.write(&self.after, disk)?;
        }
        Ok(())
    }
}

/// Where the storage has no room for a lock: why not, and what was there before anything was decided upon.
#[derive(Debug)]
pub struct NoRoom {
    /// Why no lock could be taken.
    pub cause: Error,
    /// What was there.
    pub seen: Alone,
}

impl Plan {
    /// The same without a byte left: what goes first makes the room for the lock, under which the rest goes.
    /// Before each removal nobody holds a lock, and nothing has come in since it was decided.
    ///
    /// # Errors
    /// As [`Self::execute`]; [`Error::NothingToForget`] if nothing is to go, or what kept us from a lock if that
    /// was something else.
    pub fn execute_without_room(
        mut self,
        repository: &Repository,
        room: NoRoom,
        file: &HistoryFile,
        disk: &dyn Disk,
        monitor: &dyn Monitor,
        told: &mut dyn FnMut(Id),
    ) -> Result<()> {
        let NoRoom { cause, mut seen } = room;
        if self.going.is_empty() {
            return Err(match cause {
                Error::Storage { full: true, .. } => Error::NothingToForget,
                cause => cause,
            });
        }
        file.write(&self.before, disk)?;
        let count = self.count();
        while !self.going.is_empty() {
            let stop = stopped(self.gone, count);
            go_on(monitor).map_err(&stop)?;
            if Alone::look(repository).map_err(&stop)? != seen {
                return Err(stop(worked_here()));
            }
            let id = self.going.remove(0);
            repository.remove_snapshot(id).map_err(&stop)?;
            seen.forget(id);
            self.gone += 1;
            told(id);
            let stop = stopped(self.gone, count);
            match repository.lock(Access::Exclusive, monitor) {
                Ok(lock) => {
                    if Alone::list(repository).map_err(&stop)? != seen {
                        return Err(stop(worked_here()));
                    }
                    return self.execute(repository, &lock, file, disk, monitor, told);
                }
                Err(Error::Storage { full: true, .. }) => {}
                Err(cause) => return Err(stop(cause)),
            }
        }
        file.write(&self.after, disk)
    }
}

/// What ends a removal after so many of so many.
fn stopped(removed: u64, count: u64) -> impl Fn(Error) -> Error {
    move |cause| Error::RemovalStopped {
        removed,
        count,
        cause: Box::new(cause),
    }
}

fn worked_here() -> Error {
    Error::LockLost {
        finding: "there is no room for one, and somebody worked here meanwhile".to_owned(),
    }
}

fn remove(repository: &Repository, lock: &Lock, id: Id, monitor: &dyn Monitor) -> Result<()> {
    go_on(monitor)?;
    lock.require_held()?;
    repository.remove_snapshot(id)
}

impl Circumstances<'_> {
    /// Every id that is there, readable or not.
    fn there(&self) -> BTreeSet<Id> {
        let readable = self.snapshots.readable.iter().map(|one| one.id);
        readable
            .chain(self.snapshots.damaged.iter().copied())
            .collect()
    }

    fn described(&self, selected: &BTreeSet<Id>) -> Vec<Described> {
        let backups = self
            .snapshots
            .readable
            .iter()
            .filter(|one| !one.is_record());
        let describe = |one: &Snapshot| Described {
            id: one.id,
            time: one.file.time,
            group: Group::of_snapshot(one),
            tags: one.file.tags.clone(),
            is_good: one.file.is_good() && !self.hollow.contains(&one.id),
            is_proven: self.proven.contains(&one.id),
            original: one.file.original,
            is_selected: selected.contains(&one.id),
        };
        backups.map(describe).collect()
    }
}
