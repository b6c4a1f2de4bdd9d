//! Which snapshots stay, and why: a pure decision over plain descriptions.
//!
//! Whoever can write to a repository can put anything into it, with any time, tag, machine and path; and
//! clocks are wrong. So an owner's rules (`policy`) only choose among what may go at all:
//! - The last good and the last proven snapshot of a series stay, and those that were it at the last run.
//! - What is incomplete, suspect or not plausibly dated makes no other go; the last is no reason to go
//!   itself either.
//! - What came in since the last run stays until the next. So a forged snapshot is seen by two runs
//!   before it can cost a real one its place, and a real one is never lost in the run that first sees it.
//! - If more came in than is plausible (`flood`), nothing of the series goes.
//! - The clock is asked only whether a date lies in the future: nothing goes because time has passed.
//!
//! What earlier runs saw is a `History`, which a `HistoryFile` keeps on this machine. Called by `forget`.

mod file;
mod flood;
mod group;
mod history;
mod orphans;
mod policy;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;

use crate::id::Id;
pub use file::{HistoryFile, Remembered};
pub use flood::Flood;
pub use group::Group;
pub use history::{Doubt, History, Moment};
use history::{Seen, Standing, standings};
pub use orphans::Orphans;
pub use policy::{Policy, Rules, Within};

/// A snapshot as the decision sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its id.
    pub id: Id,
    /// When it says that it was made.
    pub time: Timestamp,
    /// Its series.
    pub group: Group,
    /// Its marks.
    pub tags: Vec<String>,
    /// Whether it is neither incomplete nor suspect.
    pub is_good: bool,
    /// Whether a restore of it was proved.
    pub is_proven: bool,
    /// What it was written anew from.
    pub original: Option<Id>,
    /// Whether the owner's filters let it be removed.
    pub is_selected: bool,
}

/// What becomes of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Which series.
    pub group: Group,
    /// Every snapshot of it, newest first, with what becomes of it.
    pub decisions: Vec<(Described, Decision)>,
    /// Why nothing of it is removed, if so.
    pub flood: Option<Flood>,
    /// Its last good and its last proven snapshot.
    guarded: BTreeSet<Id>,
}

/// What keeps a snapshot; it goes if nothing does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// All reasons.
    pub reasons: Vec<Reason>,
}

/// What keeps a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A rule of the policy, in restic's words.
    Rule(String),
    /// It is the last good one.
    LastGood,
    /// It is the last proven one.
    LastProven,
    /// It is the last one, and none is good.
    LastOfNone,
    /// It was the last good or proven one at the last run.
    WasLast,
    /// It came in since the last run.
    New(Timestamp),
    /// Its time is not believed.
    Doubtful(Doubt),
    /// More came in than is plausible.
    Refused,
    /// The owner's filters leave it out.
    NotSelected,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(words) => f.write_str(words),
            Self::LastGood => f.write_str("the last good snapshot"),
            Self::LastProven => f.write_str("the last proven snapshot"),
            Self::LastOfNone => f.write_str("the last snapshot, as none is good"),
            Self::WasLast => f.write_str("the last good or proven snapshot at the last run"),
            Self::New(last_run) => write!(f, "came in since the last run ({last_run:.0})"),
            Self::Doubtful(doubt) => write!(f, "doubtful: {doubt}"),
            Self::Refused => f.write_str("nothing of this series is removed"),
            Self::NotSelected => f.write_str("left out by a filter"),
        }
    }
}

impl Decision {
    /// Whether the snapshot goes.
    #[must_use]
    pub const fn goes(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Why its time is not believed, if so.
    #[must_use]
    pub fn doubt(&self) -> Option<Doubt> {
        self.reasons.iter().find_map(|reason| match reason {
            Reason::Doubtful(doubt) => Some(*doubt),
            _ => None,
        })
    }
}

impl Judged {
    /// The snapshots that stay.
    pub fn kept(&self) -> impl Iterator<Item = &Described> {
        let kept = self.decisions.iter().filter(|(_, made)| !made.goes());
        kept.map(|(one, _)| one)
    }

    /// The snapshots that go.
    pub fn going(&self) -> impl Iterator<Item = &Described> {
        let going = self.decisions.iter().filter(|(_, made)| made.goes());
        going.map(|(one, _)| one)
    }
}

/// Decides for every series of which something is selected. `there` holds every id of the repository,
/// also of snapshots that cannot be read.
#[must_use]
pub fn decide(
    snapshots: &[Described],
    there: &BTreeSet<Id>,
    policy: &Policy,
    history: &History,
    moment: Moment,
) -> Vec<Judged> {
    by_group(snapshots)
        .into_iter()
        .filter(|(_, members)| members.iter().any(|one| one.is_selected))
        .map(|(group, members)| {
            let series = Series::new(history.of(group), members, there, moment);
            series.judge(group, policy)
        })
        .collect()
}

/// The last good and the last proven snapshot of every series, with what they are: they stay although
/// their owner names them.
#[must_use]
pub fn last_ones(
    snapshots: &[Described],
    there: &BTreeSet<Id>,
    history: &History,
    moment: Moment,
) -> BTreeMap<Id, Reason> {
    let mut last = BTreeMap::new();
    for (group, members) in by_group(snapshots) {
        let series = Series::new(history.of(group), members, there, moment);
        let found = series.last().into_iter();
        last.extend(found.map(|(at, reason)| (series.members[at].0.id, reason)));
    }
    last
}

fn by_group(snapshots: &[Described]) -> BTreeMap<&Group, Vec<&Described>> {
    let mut groups: BTreeMap<&Group, Vec<&Described>> = BTreeMap::new();
    for one in snapshots {
        groups.entry(&one.group).or_default().push(one);
    }
    groups
}

/// A series with what is known of it.
struct Series<'a> {
    seen: Option<&'a Seen>,
    /// Newest first.
    members: Vec<(&'a Described, Standing)>,
    trust_history: bool,
}

impl<'a> Series<'a> {
    fn new(
        seen: Option<&'a Seen>,
        snapshots: Vec<&'a Described>,
        there: &BTreeSet<Id>,
        moment: Moment,
    ) -> Self {
        let standings = standings(seen, &snapshots, there, moment);
        let mut members: Vec<_> = snapshots.into_iter().zip(standings).collect();
        // What has been there longer wins against what claims the same instant.
        members.sort_by_key(|(one, standing)| {
            (Reverse(one.time), *standing != Standing::Known, one.id)
        });
        Self {
            seen,
            members,
            trust_history: moment.trust_history,
        }
    }

    /// Where the believed snapshots are that `fits`, newest first.
    fn believed(&self, fits: impl Fn(&Described) -> bool) -> Vec<usize> {
        let is_believed = |at: &usize| {
            let (one, standing) = self.members[*at];
            !matches!(standing, Standing::Doubtful(_)) && fits(one)
        };
        (0..self.members.len()).filter(is_believed).collect()
    }

    /// Where the ones are that stay whatever the rules say.
    fn last(&self) -> Vec<(usize, Reason)> {
        let good = self.believed(|one| one.is_good).into_iter().next();
        let proven = self.believed(|one| one.is_proven).into_iter().next();
        let last = if good.is_none() {
            self.believed(|_| true).into_iter().next()
        } else {
            None
        };
        let good = good.map(|at| (at, Reason::LastGood));
        let proven = proven.map(|at| (at, Reason::LastProven));
        let last = last.map(|at| (at, Reason::LastOfNone));
        good.into_iter().chain(proven).chain(last).collect()
    }

    fn judge(self, group: &Group, policy: &Policy) -> Judged {
        let flood = self.flood();
        let mut reasons = self.by_rules(policy);
        for (at, reason) in self.last() {
            reasons[at].push(reason);
        }
        let last = self.last().into_iter();
        let guarded = last.map(|(at, _)| self.members[at].0.id).collect();
        for ((one, standing), reasons) in self.members.iter().zip(&mut reasons) {
            if self.seen.is_some_and(|seen| seen.guards(one, *standing)) {
                reasons.push(Reason::WasLast);
            }
            match *standing {
                Standing::Known => {}
                Standing::New { last_run } => reasons.push(Reason::New(last_run)),
                Standing::Doubtful(doubt) => reasons.push(Reason::Doubtful(doubt)),
            }
            if flood.is_some() {
                reasons.push(Reason::Refused);
            }
            if !one.is_selected {
                reasons.push(Reason::NotSelected);
            }
        }
        let members = self.members.into_iter().zip(reasons);
        Judged {
            group: group.clone(),
            decisions: members
                .map(|((one, _), reasons)| (one.clone(), Decision { reasons }))
                .collect(),
            flood,
            guarded,
        }
    }

    /// What the rules keep. Good ones are judged as if there were no others, and the others as if they
    /// were good: so no good one goes because of them.
    fn by_rules(&self, policy: &Policy) -> Vec<Vec<Reason>> {
        let mut reasons = vec![Vec::new(); self.members.len()];
        for among_good in [true, false] {
            let counted = self.believed(|one| one.is_selected && (one.is_good || !among_good));
            let members: Vec<&Described> = counted.iter().map(|at| self.members[*at].0).collect();
            for (at, found) in counted.into_iter().zip(policy.reasons(&members)) {
                if self.members[at].0.is_good == among_good {
                    reasons[at].extend(found.into_iter().map(Reason::Rule));
                }
            }
        }
        reasons
    }

    /// Whether more came in since the last run than is plausible. Without one, everything came in.
    fn flood(&self) -> Option<Flood> {
        if self.trust_history {
            return None;
        }
        let is_first = self.seen.is_none();
        let (mut known, mut new) = (Vec::new(), Vec::new());
        for (one, standing) in self.members.iter().rev() {
            match standing {
                Standing::Known if !is_first => known.push(one.time),
                Standing::Known | Standing::New { .. } => new.push(one.time),
                Standing::Doubtful(_) => {}
            }
        }
        Flood::find(&known, &new)
    }
}
