//! Prune: what no snapshot needs is marked, and a day later removed.
//!
//! ```text
//! shared lock:     State ► Used ► Plan ► repack ► the copies that stay are read back
//! exclusive lock:  State ► Used (what came in since) ► Plan ► commit: new index ► old ones go ► ripe packs go
//! ```
//! The plan is made again under the exclusive lock: nothing that was decided before counts there. The
//! design and the order of durable writes: `docs/design/upkeep.md`.

mod commit;
mod plan;
mod repack;
mod room;
mod state;
mod used;

use std::cell::Cell;

use jiff::Timestamp;
use serde::Serialize;

use super::Repository;
use super::lock::{Access, Alone};
use super::replace::Standing;
use crate::backend::Class;
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Step};
use commit::Change;
use plan::{Fate, GRACE, Plan, Verified};
use repack::Repacked;
use room::Made;
use state::State;
use used::Used;

/// How much of what nobody needs may stay in packs beside what is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxUnused {
    /// A part of all that is stored then, in hundredths of a percent.
    Part(u32),
    /// So many bytes.
    Bytes(u64),
    /// All of it: nothing is repacked to save room.
    Unlimited,
}

impl MaxUnused {
    fn bytes_of(self, needed: u64) -> u64 {
        match self {
            Self::Part(10_000..) | Self::Unlimited => u64::MAX,
            Self::Part(part) => {
                let bytes = u128::from(needed) * u128::from(part) / u128::from(10_000 - part);
                u64::try_from(bytes).unwrap_or(u64::MAX)
            }
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// How to prune.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Free at once what nobody needs, under an exclusive lock all the time.
    pub now: bool,
    /// How much may stay unneeded.
    pub max_unused: MaxUnused,
    /// Only tell what would be done.
    pub dry_run: bool,
}

/// What was done, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PruneReport {
    /// Packs that stay in use.
    pub kept_packs: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// Of these, stored bytes that nobody needs.
    pub unused_bytes: u64,
    /// Packs of which what is needed was stored anew.
    pub repacked_packs: u64,
    /// Stored bytes of that.
    pub repacked_bytes: u64,
    /// Packs that were marked for deletion.
    pub marked_packs: u64,
    /// Their bytes.
    pub marked_bytes: u64,
    /// Packs that were marked before and still wait.
    pub waiting_packs: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// When a prune can remove the first of those that are marked.
    pub ripe_at: Option<Timestamp>,
    /// Packs that were removed.
    pub removed_packs: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Packs that were marked or in no index and are needed: they are in use again.
    pub recovered_packs: u64,
    /// Packs in which something that is needed is damaged: they stay as they are.
    pub damaged_packs: u64,
    /// Index files before.
    pub index_files_before: u64,
    /// Index files after.
    pub index_files_after: u64,
}

/// Rounds on a full disk: each frees more than the one before.
const ROUNDS: usize = 10;

/// Prunes.
///
/// # Errors
/// [`Error::Locked`]; [`Error::Damaged`] if anything that tells what is needed cannot be read, or
/// something that is needed is not there: then nothing is removed; [`Error::LockLost`],
/// [`Error::Storage`], [`Error::Interrupted`]: what was done is whole, the next run does the rest. With
/// [`Options::now`] a full storage is [`Error::PruneNeedsRoom`] or [`Error::NothingToFree`], once all is gone
/// that goes without room.
pub fn prune(
    repository: &Repository,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<PruneReport> {
    repository.require_writable()?;
    let run = Run {
        repository,
        options,
        monitor,
        freed: Cell::default(),
    };
    if options.dry_run {
        return run.tell();
    }
    if !options.now {
        return run.in_two_phases();
    }
    for _ in 1..ROUNDS {
        match run.at_once() {
            Err(Error::Storage { full: true, .. }) => run.make_room()?,
            other => return other,
        }
    }
    run.at_once()
}

struct Run<'a> {
    repository: &'a Repository,
    options: &'a Options,
    monitor: &'a dyn Monitor,
    /// What all rounds have removed so far.
    freed: Cell<Freed>,
}

/// Packs that were removed because nobody needs them.
#[derive(Debug, Clone, Copy, Default)]
struct Freed {
    packs: u64,
    bytes: u64,
}

/// What is known so far, kept between the two plans.
#[derive(Default)]
struct Known {
    used: Used,
    verified: Verified,
}

impl Run<'_> {
    /// What would be done, without a lock: nothing is written.
    fn tell(&self) -> Result<PruneReport> {
        let mut known = Known::default();
        let (state, mut plan) = self.plan(&mut known)?;
        let repacked = Repacked {
            packs: plan.repack.len() as u64,
            bytes: plan.repack.iter().map(|id| plan.needed_bytes[id]).sum(),
            damaged: 0,
        };
        // Once it is stored anew, nobody needs what it was stored in.
        let now = self.repository.services().clock.now();
        for id in &plan.repack {
            let fate = if self.options.now {
                Fate::Remove
            } else {
                Fate::Mark(now)
            };
            plan.fates.insert(*id, fate);
        }
        let change = Change::of(&state, &plan);
        let mut report = report(&state, &plan, &change, &repacked);
        report.kept_packs += u64::from(repacked.packs > 0);
        report.kept_bytes += repacked.bytes;
        Ok(report)
    }

    fn in_two_phases(&self) -> Result<PruneReport> {
        let (repository, monitor) = (self.repository, self.monitor);
        let mut known = Known::default();
        let shared = repository.lock(Access::Shared, monitor)?;
        let (state, plan) = self.plan(&mut known)?;
        let mut repacked = Repacked::default();
        if !plan.repack.is_empty() {
            repacked = repack::repack(repository, &state, &plan, &known.used, &shared, monitor)?;
            // Reads back what was stored, while others work.
            self.plan(&mut known)?;
        }
        drop((state, plan, shared));
        let lock = repository.lock(Access::Exclusive, monitor)?;
        let (state, plan) = self.plan(&mut known)?;
        let change = Change::of(&state, &plan);
        commit::commit(repository, &state, &plan, &change, &lock, monitor)?;
        Ok(report(&state, &plan, &change, &repacked))
    }

    /// Frees first what goes whole, for repacking needs room; then repacks, then frees the rest.
    fn at_once(&self) -> Result<PruneReport> {
        let (repository, monitor) = (self.repository, self.monitor);
        let mut known = Known::default();
        let lock = repository.lock(Access::Exclusive, monitor)?;
        let (state, plan) = self.plan(&mut known)?;
        let change = Change::of(&state, &plan);
        commit::commit(repository, &state, &plan, &change, &lock, monitor)?;
        let mut first = report(&state, &plan, &change, &Repacked::default());
        let freed = self.freed(first.removed_packs, first.removed_bytes);
        (first.removed_packs, first.removed_bytes) = (freed.packs, freed.bytes);
        if plan.repack.is_empty() {
            return Ok(first);
        }
        let repacked = repack::repack(repository, &state, &plan, &known.used, &lock, monitor);
        let (repacked, failure) = match repacked {
            Ok(repacked) => (repacked, None),
            // What was stored so far is in no index, or stored twice: the plan below sees it.
            Err(cause @ Error::Storage { full: true, .. }) => (Repacked::default(), Some(cause)),
            Err(cause) => return Err(cause),
        };
        let (state, plan) = self.plan(&mut known)?;
        let change = Change::of(&state, &plan);
        commit::commit(repository, &state, &plan, &change, &lock, monitor)?;
        // Not all was done that was asked for; what was, is whole.
        if let Some(cause) = failure {
            return Err(cause);
        }
        let mut report = report(&state, &plan, &change, &repacked);
        report.removed_packs += first.removed_packs;
        report.removed_bytes += first.removed_bytes;
        report.recovered_packs += first.recovered_packs;
        report.index_files_before = first.index_files_before;
        Ok(report)
    }

    /// Adds to what was freed; returns all of it.
    fn freed(&self, packs: u64, bytes: u64) -> Freed {
        let mut freed = self.freed.get();
        freed.packs += packs;
        freed.bytes += bytes;
        self.freed.set(freed);
        freed
    }

    /// Frees what nobody needs without a lock, for there is no room for one. Whoever worked here between
    /// the two looks has a lock still, or has left an index or a snapshot: then nothing is removed.
    ///
    /// # Errors
    /// What is left to be freed and what that takes, if nothing more goes without room.
    fn make_room(&self) -> Result<()> {
        let before = Alone::look(self.repository)?;
        let (state, plan) = self.plan(&mut Known::default())?;
        if Alone::look(self.repository)? != before {
            return Ok(());
        }
        match room::make(self.repository, &state, &plan)? {
            Made::Room(freed) => {
                self.freed(freed.packs, freed.bytes);
                Ok(())
            }
            Made::Nothing => Err(room::wanted(&state, &plan, self.freed.get().bytes)),
        }
    }

    fn plan(&self, known: &mut Known) -> Result<(State, Plan)> {
        let (repository, monitor) = (self.repository, self.monitor);
        monitor.step(Step::Counting, None);
        // Snapshots before the index: what is added in between is then not missed but not asked for.
        let roots = used::roots(repository)?;
        let state = State::read(repository, monitor)?;
        // The first backup may have stored its index since.
        if roots.is_empty() && !state.files.is_empty() && used::roots(repository)?.is_empty() {
            return Err(Error::Damaged {
                object: Class::Snapshots.folder().to_owned(),
                finding: "not one is there, but an index is: is the whole repository mounted?"
                    .to_owned(),
            });
        }
        known.used.add(repository, &state.index, roots, monitor)?;
        let Known { used, verified } = known;
        let plan = Plan::make(repository, &state, used, verified, self.options, monitor)?;
        Ok((state, plan))
    }
}

fn report(state: &State, plan: &Plan, change: &Change, repacked: &Repacked) -> PruneReport {
    let left = state.files.len() - change.old.len();
    let mut report = PruneReport {
        repacked_packs: repacked.packs,
        repacked_bytes: repacked.bytes,
        damaged_packs: repacked.damaged + plan.damaged.len() as u64,
        index_files_before: state.files.len() as u64,
        index_files_after: (left + change.new.len()) as u64,
        ..PruneReport::default()
    };
    for (id, pack) in &state.packs {
        let Some(bytes) = pack.size else { continue };
        match plan.fates[id] {
            Fate::Use => {
                report.kept_packs += 1;
                report.kept_bytes += bytes;
                let needed = plan.needed_bytes.get(id).copied().unwrap_or(0);
                report.unused_bytes += pack.stored_bytes().saturating_sub(needed);
                report.recovered_packs += u64::from(pack.standing != Some(Standing::InUse));
            }
            Fate::Remove => {
                report.removed_packs += 1;
                report.removed_bytes += bytes;
            }
            Fate::Mark(since) => {
                let ripe = since + GRACE;
                report.ripe_at = Some(report.ripe_at.map_or(ripe, |first| first.min(ripe)));
                let (packs, total) = if matches!(pack.standing, Some(Standing::Marked(_))) {
                    (&mut report.waiting_packs, &mut report.waiting_bytes)
                } else {
                    (&mut report.marked_packs, &mut report.marked_bytes)
                };
                *packs += 1;
                *total += bytes;
            }
        }
    }
    report
}
