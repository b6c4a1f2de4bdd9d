//! Which snapshots stay: the decision against a simple model, against restic, against forgers and wrong
//! clocks; the removal with every operation failing in turn; the command from outside.

mod attacks;
mod clocks;
mod command;
mod crash;
mod full;
mod memory;
mod model;
mod restic;

use std::collections::BTreeSet;
use std::ops::Range;

use jiff::{SignedDuration, Timestamp};
use tillsafe::id::Id;
use tillsafe::retention::{
    Described, Group, History, Judged, Moment, Policy, Reason, Rules, decide,
};

use crate::common::dice::Dice;
/// Repeats one case: its seed, as a failed test prints it.
const SEED: &str = "TILLSAFE_TEST_SEED";

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// When the histories of the tests begin: a Monday.
const BEGIN: i64 = 1_735_516_800;

/// What histories and policies are made of.
impl Dice {
    fn within(&mut self, range: Range<i64>) -> i64 {
        let width = range.end.abs_diff(range.start);
        range.start + i64::try_from(self.next() % width).unwrap()
    }

    /// Once in so many times.
    fn once_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }

    fn number(&mut self, range: Range<i64>) -> u32 {
        u32::try_from(self.within(range)).unwrap()
    }

    /// A policy that keeps something.
    fn rules(&mut self) -> Rules {
        loop {
            let mut count = |most| {
                if self.once_in(3) {
                    self.number(0..most)
                } else {
                    0
                }
            };
            let mut rules = Rules {
                last: count(6),
                hourly: count(9),
                daily: count(9),
                weekly: count(6),
                monthly: count(5),
                yearly: count(3),
                ..Rules::default()
            };
            if self.once_in(5) {
                let text = format!(
                    "{}m{}d{}h",
                    self.within(0..3),
                    self.within(0..40),
                    self.within(1..30)
                );
                rules.within = Some(text.parse().unwrap());
            }
            if self.once_in(8) {
                rules.tags = vec![vec!["keep".to_owned()]];
            }
            if Policy::new(rules.clone()).is_ok() {
                return rules;
            }
        }
    }
}

/// Plays cases with seeds of their own; the one that fails is printed, and can be repeated alone.
fn play(cases: u64, case: impl Fn(&mut Dice)) {
    let alone: Option<u64> = std::env::var(SEED).ok().map(|seed| seed.parse().unwrap());
    let seeds = match alone {
        Some(seed) => seed..seed + 1,
        None => 0..cases,
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            case(&mut Dice::new(seed));
        }));
        if let Err(cause) = outcome {
            eprintln!("{SEED}={seed} repeats this case");
            std::panic::resume_unwind(cause);
        }
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn shop(name: &str) -> Group {
    Group::Shop(name.to_owned())
}

/// A good snapshot of the shop `mara`; `number` makes its id.
fn snapshot(number: u64, second: i64) -> Described {
    Described {
        id: Id::of(&number.to_le_bytes()),
        time: at(second),
        group: shop("mara"),
        tags: Vec::new(),
        is_good: true,
        is_proven: false,
        original: None,
        is_selected: true,
    }
}

/// One a day.
fn daily(count: i64) -> Vec<Described> {
    let one = |day: i64| snapshot(day.unsigned_abs(), BEGIN + day * DAY);
    (0..count).map(one).collect()
}

fn policy(rules: Rules) -> Policy {
    Policy::new(rules).unwrap()
}

fn keep_last(last: u32) -> Policy {
    policy(Rules {
        last,
        ..Rules::default()
    })
}

/// A repository and the machine that forgets in it.
#[derive(Default)]
struct World {
    snapshots: Vec<Described>,
    history: History,
}

impl World {
    fn of(snapshots: Vec<Described>) -> Self {
        Self {
            snapshots,
            history: History::default(),
        }
    }

    fn there(&self) -> BTreeSet<Id> {
        self.snapshots.iter().map(|one| one.id).collect()
    }

    fn decide(&self, policy: &Policy, moment: Moment) -> Vec<Judged> {
        decide(
            &self.snapshots,
            &self.there(),
            policy,
            &self.history,
            moment,
        )
    }

    /// A run of `forget`: what it decides is done and remembered.
    fn run_with(&mut self, policy: &Policy, moment: Moment) -> Vec<Judged> {
        let judged = self.decide(policy, moment);
        let gone: BTreeSet<Id> = judged
            .iter()
            .flat_map(Judged::going)
            .map(|one| one.id)
            .collect();
        self.history = self.history.after(&judged, &self.there(), moment);
        self.snapshots.retain(|one| !gone.contains(&one.id));
        judged
    }

    fn run(&mut self, policy: &Policy, second: i64) -> Vec<Judged> {
        self.run_with(policy, now(second))
    }

    fn holds(&self, one: &Described) -> bool {
        self.snapshots.iter().any(|other| other.id == one.id)
    }
}

fn now(second: i64) -> Moment {
    Moment {
        now: at(second),
        trust_history: false,
    }
}

fn trusted(second: i64) -> Moment {
    Moment {
        now: at(second),
        trust_history: true,
    }
}

/// What keeps a snapshot, in words.
fn reasons(judged: &[Judged], one: &Described) -> Vec<String> {
    let mut decisions = judged.iter().flat_map(|judged| &judged.decisions);
    let (_, decision) = decisions.find(|(other, _)| other.id == one.id).unwrap();
    decision.reasons.iter().map(Reason::to_string).collect()
}

fn is_doubtful(judged: &[Judged], one: &Described) -> bool {
    let mut decisions = judged.iter().flat_map(|judged| &judged.decisions);
    let (_, decision) = decisions.find(|(other, _)| other.id == one.id).unwrap();
    decision.doubt().is_some()
}

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(days * 24)
}
