//! A clock that jumps deletes nothing that a right one would not.

use std::collections::BTreeSet;

use jiff::Timestamp;
use tillsafe::id::Id;
use tillsafe::retention::{Described, Moment, Rules};

use super::{
    BEGIN, DAY, HOUR, World, daily, days, keep_last, now, play, policy, snapshot, trusted,
};

fn ids(snapshots: &[Described]) -> BTreeSet<Id> {
    snapshots.iter().map(|one| one.id).collect()
}

/// Two machines forget in two equal repositories, one with a right clock, one whose clock is wrong by
/// anything at any run. What the wrong one has removed, the right one has removed as well.
#[test]
fn any_jump_at_any_run_deletes_no_more_than_a_right_clock() {
    play(2000, |dice| {
        let rules = policy(dice.rules());
        let history = daily(dice.within(3..60));
        let begin = BEGIN + i64::try_from(history.len()).unwrap() * DAY;
        let (mut right, mut wrong) = (World::of(history.clone()), World::of(history));
        for day in 0..8 {
            let truth = begin + day * DAY;
            if day > 0 {
                let one = snapshot(5000 + day.unsigned_abs(), truth - HOUR);
                right.snapshots.push(one.clone());
                wrong.snapshots.push(one);
            }
            let jump = match dice.within(0..6) {
                0 => -dice.within(0..4000) * DAY,
                1 => dice.within(0..4000) * DAY,
                2 => dice.within(-DAY..DAY),
                _ => 0,
            };
            right.run(&rules, truth);
            wrong.run(&rules, truth + jump);
            let (right, wrong) = (ids(&right.snapshots), ids(&wrong.snapshots));
            assert!(right.is_subset(&wrong), "day {day}, a jump of {jump} s");
        }
    });
}

#[test]
fn the_age_of_a_history_is_no_reason_to_remove_it() {
    let world = World::of(daily(30));
    let within = policy(Rules {
        within: Some("7d".parse().unwrap()),
        ..Default::default()
    });
    let soon = world.decide(&within, now(BEGIN + 30 * DAY));
    let late = world.decide(&within, now(BEGIN + 30_000 * DAY));
    assert_eq!(soon, late);
    assert_eq!(soon[0].kept().count(), 7);
}

#[test]
fn the_ends_of_time_are_times_like_others() {
    let mut world = World::of(daily(3));
    let real = world.snapshots.clone();
    for (number, time) in [(100, Timestamp::MIN), (101, Timestamp::MAX)] {
        let end = Described {
            time,
            ..snapshot(number, 0)
        };
        world.snapshots.push(end);
    }
    let rules = policy(Rules {
        last: 2,
        hourly: 2,
        daily: 2,
        weekly: 2,
        monthly: 2,
        yearly: 2,
        within: Some("9y9m9d9h".parse().unwrap()),
        ..Rules::default()
    });
    for now in [Timestamp::MIN, real[2].time, Timestamp::MAX] {
        for trust_history in [false, true] {
            let moment = Moment { now, trust_history };
            let judged = world.decide(&rules, moment);
            assert!(
                judged[0].kept().any(|one| one.id == real[2].id),
                "{moment:?}"
            );
            let mut after = World::of(world.snapshots.clone());
            after.run_with(&rules, moment);
            after.run_with(&rules, super::now(BEGIN));
            assert!(after.holds(&real[2]), "{moment:?}");
        }
    }
}

#[test]
fn a_clock_in_the_past_doubts_for_one_run_only() {
    let mut world = World::of(daily(10));
    let rules = keep_last(3);
    world.run(&rules, BEGIN + 10 * DAY);
    let real = snapshot(100, BEGIN + 11 * DAY);
    world.snapshots.push(real.clone());
    // The battery is empty: 1970.
    let judged = world.run(&rules, 0);
    assert!(super::is_doubtful(&judged, &real));
    let judged = world.run(&rules, BEGIN + 11 * DAY + HOUR);
    assert!(!super::is_doubtful(&judged, &real));
}

#[test]
fn after_a_clock_in_the_future_the_owner_says_what_is_real() {
    let mut world = World::of(daily(10));
    let rules = keep_last(3);
    world.run(&rules, BEGIN + 3000 * DAY);
    let late: Vec<Described> = (11_i64..14)
        .map(|day| snapshot(day.unsigned_abs(), BEGIN + day * DAY))
        .collect();
    world.snapshots.extend(late.clone());
    let judged = world.run(&rules, BEGIN + 14 * DAY);
    assert!(late.iter().all(|one| super::is_doubtful(&judged, one)));
    world.run_with(&rules, trusted(BEGIN + 14 * DAY));
    let next = Described {
        time: late[2].time + days(2),
        ..snapshot(100, 0)
    };
    world.snapshots.push(next.clone());
    let judged = world.run(&rules, BEGIN + 16 * DAY);
    assert!(!super::is_doubtful(&judged, &next));
}
