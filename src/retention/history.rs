//! What earlier runs on this machine have seen: the only thing that whoever forges snapshots cannot forge.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Described, Group, Judged};
use crate::id::Id;

/// How far clocks may differ: a snapshot that is dated later is from a wrong clock, or forged.
const AHEAD: SignedDuration = SignedDuration::from_hours(1);
/// How much later than it is dated a snapshot may come in: as long as the longest backup takes.
const BEHIND: SignedDuration = SignedDuration::from_hours(48);

/// What the last complete run saw of each series, by [`Group::key`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History(BTreeMap<Id, Seen>);

/// What the last complete run saw of a series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// When that was; the latest of all, should the clock have gone back.
    pub(super) last_run: Timestamp,
    /// The snapshots that were there.
    known: BTreeMap<Id, Known>,
    /// The last good and the last proven one.
    guarded: BTreeSet<Id>,
}

/// What is known of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    first_seen: Timestamp,
    time: Timestamp,
    /// Whether its time was not to be believed when it came in.
    is_doubted: bool,
    /// Whether we have removed it, or were about to: then nothing can be made from it any more.
    is_leaving: bool,
}

/// How far a snapshot is to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The last run has seen it, or there was none.
    Known,
    /// It came in since.
    New {
        /// When the last run was.
        last_run: Timestamp,
    },
    /// Its time is not to be believed.
    Doubtful(Doubt),
}

/// Why the time of a snapshot is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// It lies in the future.
    Ahead {
        /// What this machine takes for now.
        now: Timestamp,
    },
    /// It lies well before the last run, which has not seen the snapshot.
    Behind {
        /// When that run was.
        last_run: Timestamp,
    },
    /// One of the two when it was seen first.
    Earlier {
        /// When that was.
        first_seen: Timestamp,
    },
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ahead { now } => {
                write!(f, "it is dated in the future (it is {now:.0} here)")
            }
            Self::Behind { last_run } => write!(
                f,
                "it came in after the run of {last_run:.0}, but is dated long before it"
            ),
            Self::Earlier { first_seen } => write!(
                f,
                "its date was not plausible when it was first seen, on {first_seen:.0}"
            ),
        }
    }
}

/// The moment of a run.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// What the clock says.
    pub now: Timestamp,
    /// Whether the owner says that what came in is real: then its number and its age are believed.
    pub trust_history: bool,
}

impl History {
    pub(super) fn of(&self, group: &Group) -> Option<&Seen> {
        self.0.get(&group.key())
    }

    /// The same with the mark of what is about to be removed: to be remembered before.
    #[must_use]
    pub fn before_removing(&self, going: &BTreeSet<Id>) -> Self {
        let mut history = self.clone();
        for seen in history.0.values_mut() {
            for (id, known) in &mut seen.known {
                known.is_leaving |= going.contains(id);
            }
        }
        history
    }

    /// What is known once a run has removed what it was to remove. Series that were not judged, or
    /// refused, stay as they were known, as long as anything of them is there.
    #[must_use]
    pub fn after(&self, judged: &[Judged], there: &BTreeSet<Id>, moment: Moment) -> Self {
        let mut next = self.clone();
        next.0
            .retain(|_, seen| seen.known.keys().any(|id| there.contains(id)));
        for one in judged.iter().filter(|one| one.flood.is_none()) {
            let seen = Seen::after(self.of(&one.group), one, there, moment);
            next.0.insert(one.group.key(), seen);
        }
        next
    }
}

impl Seen {
    /// What the last run knew as good or proven, under the id that it has now.
    pub(super) fn guards(&self, one: &Described, standing: Standing) -> bool {
        let is_heir = standing == Standing::Known && !self.known.contains_key(&one.id);
        let original = one.original.filter(|_| is_heir);
        self.guarded.contains(&one.id) || original.is_some_and(|id| self.guarded.contains(&id))
    }

    fn after(old: Option<&Self>, judged: &Judged, there: &BTreeSet<Id>, moment: Moment) -> Self {
        let now = moment.now;
        let last_run = old.map_or(now, |old| old.last_run);
        let is_behind = now < last_run;
        let originals: BTreeSet<Id> = judged.kept().filter_map(|one| one.original).collect();
        let mut known = BTreeMap::new();
        // What cannot be read today may be readable tomorrow; what was made anew may be made anew again.
        for (id, old) in old.into_iter().flat_map(|old| &old.known) {
            if there.contains(id) || originals.contains(id) {
                known.insert(*id, *old);
            }
        }
        for (one, decision) in &judged.decisions {
            let doubt = decision.doubt();
            // Our own clock is wrong: the next run may know better.
            let is_unsure = matches!(doubt, Some(Doubt::Ahead { .. })) && is_behind;
            if decision.goes() {
                if !originals.contains(&one.id) {
                    known.remove(&one.id);
                }
            } else if !is_unsure || known.contains_key(&one.id) {
                let first_seen = known.get(&one.id).map_or(now, |old| old.first_seen);
                let entry = Known {
                    first_seen,
                    time: one.time,
                    is_doubted: doubt.is_some(),
                    is_leaving: false,
                };
                known.insert(one.id, entry);
            }
        }
        Self {
            last_run: if moment.trust_history {
                now
            } else {
                now.max(last_run)
            },
            known,
            guarded: judged.guarded.clone(),
        }
    }
}

/// How far each snapshot of a series is to be believed. `there` holds every id of the repository.
pub(super) fn standings(
    seen: Option<&Seen>,
    snapshots: &[&Described],
    there: &BTreeSet<Id>,
    moment: Moment,
) -> Vec<Standing> {
    let now = seen.map_or(moment.now, |seen| seen.last_run.max(moment.now));
    let now = if moment.trust_history {
        moment.now
    } else {
        now
    };
    let latest = now.saturating_add(AHEAD).unwrap_or(Timestamp::MAX);
    let heirs = heirs(seen, snapshots, there);
    let judge = |one: &&Described| {
        if one.time > latest {
            return Standing::Doubtful(Doubt::Ahead { now: moment.now });
        }
        let Some(seen) = seen.filter(|_| !moment.trust_history) else {
            return Standing::Known;
        };
        match seen.known.get(&one.id) {
            Some(known) if known.is_doubted => Standing::Doubtful(Doubt::Earlier {
                first_seen: known.first_seen,
            }),
            Some(_) => Standing::Known,
            None if heirs.contains(&one.id) => Standing::Known,
            None if seen.last_run.duration_since(one.time) > BEHIND => {
                Standing::Doubtful(Doubt::Behind {
                    last_run: seen.last_run,
                })
            }
            None => Standing::New {
                last_run: seen.last_run,
            },
        }
    };
    snapshots.iter().map(judge).collect()
}

/// The snapshots that somebody has written anew (`tag`, `rewrite`) in the place of one that is known:
/// that one is gone, though not by us, and there is one heir, of the same series and time. Who can only
/// add snapshots cannot bring that about.
fn heirs(seen: Option<&Seen>, snapshots: &[&Described], there: &BTreeSet<Id>) -> BTreeSet<Id> {
    let mut heirs: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
    for one in snapshots {
        let known = |id: &Id| seen.and_then(|seen| seen.known.get(id));
        let Some(original) = one.original.filter(|_| known(&one.id).is_none()) else {
            continue;
        };
        let may_inherit = known(&original)
            .is_some_and(|known| known.time == one.time && !known.is_doubted && !known.is_leaving);
        if may_inherit && !there.contains(&original) {
            heirs.entry(original).or_default().push(one.id);
        }
    }
    let only = heirs.into_values().filter(|heirs| heirs.len() == 1);
    only.flatten().collect()
}
