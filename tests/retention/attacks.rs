//! Somebody who can add snapshots, and nothing else, wants the real ones gone. Snapshots of the forger
//! have everything that a real one has; only this machine's own memory tells them apart.

use tillsafe::id::Id;
use tillsafe::retention::{Described, Flood, Judged};

use super::{
    BEGIN, DAY, Dice, HOUR, World, at, daily, is_doubtful, keep_last, now, play, policy, reasons,
    shop, snapshot, trusted,
};

/// How the forger dates the snapshots, and how many come at a time.
#[derive(Debug, Clone, Copy)]
enum Attack {
    Future,
    Past,
    SameSecond,
    PerfectCopies,
    FloodAtOnce,
    FloodOverHours,
    ForgedOriginals,
    OtherShopsAndMarks,
    Mixed,
}

const ATTACKS: [Attack; 9] = [
    Attack::Future,
    Attack::Past,
    Attack::SameSecond,
    Attack::PerfectCopies,
    Attack::FloodAtOnce,
    Attack::FloodOverHours,
    Attack::ForgedOriginals,
    Attack::OtherShopsAndMarks,
    Attack::Mixed,
];

impl Attack {
    /// One forged snapshot, put into the world just before `clock`.
    fn forge(self, dice: &mut Dice, world: &World, clock: i64) -> Described {
        let mut forged = snapshot(dice.next(), clock - dice.within(1..HOUR));
        let pick = usize::try_from(dice.next() % world.snapshots.len() as u64).unwrap();
        let victim = &world.snapshots[pick];
        match self {
            Self::Future => forged.time = at(clock + dice.within(HOUR + 1..4000 * DAY)),
            Self::Past => forged.time = at(clock - dice.within(3 * DAY..4000 * DAY)),
            Self::SameSecond => forged.time = at(clock - 1),
            Self::PerfectCopies => {
                let id = forged.id;
                forged = victim.clone();
                (forged.id, forged.is_proven) = (id, false);
            }
            Self::FloodAtOnce => forged.time = at(clock - dice.within(1..60)),
            Self::FloodOverHours => forged.time = at(clock - dice.within(1..DAY)),
            Self::ForgedOriginals => {
                forged.time = victim.time;
                forged.original = Some(victim.id);
            }
            Self::OtherShopsAndMarks => {
                let names = ["mara", "ilse", "shop=mara", ""];
                forged.group = shop(names[usize::try_from(dice.next() % 4).unwrap()]);
                forged.is_good = dice.once_in(2);
                forged.tags = vec!["keep".to_owned()];
                forged.time = at(clock - dice.within(-HOUR..3 * DAY));
            }
            Self::Mixed => {
                let kind = usize::try_from(dice.next() % 8).unwrap();
                forged = ATTACKS[kind].forge(dice, world, clock);
                if dice.once_in(3) {
                    forged.original = Some(victim.id);
                }
            }
        }
        forged
    }
}

/// A shop that backs up every day and forgets after it; the forger strikes between two runs, once or
/// every day, with as many as wanted.
fn strike(attack: Attack, dice: &mut Dice, count: i64, every_day: bool) {
    let rules = policy(dice.rules());
    let mut real = daily(dice.within(4..60));
    let proven = usize::try_from(dice.next()).unwrap_or(0) % real.len();
    real[proven].is_proven = true;
    let proven = real[proven].clone();
    let mut clock = BEGIN + i64::try_from(real.len()).unwrap() * DAY;
    let mut world = World::of(real.clone());
    world.run(&rules, clock);
    // Whether the last run has seen forgeries that are newer than all that is real.
    let mut is_buried = false;
    for day in 0..6 {
        let mut is_struck = false;
        if every_day || day == 1 {
            for _ in 0..count {
                let forged = attack.forge(dice, &world, clock + DAY);
                world.snapshots.push(forged);
            }
            is_struck = true;
        }
        clock += DAY;
        let number = u64::try_from(real.len()).unwrap();
        let newest = snapshot(number, clock - dice.within(2..12) * HOUR);
        // Some days the machine is off.
        if !dice.once_in(4) {
            real.push(newest.clone());
            world.snapshots.push(newest);
        } else if is_buried {
            // Perfect forgeries that two runs have seen, and nothing real since: nobody could tell.
            return;
        }
        is_buried = is_struck;
        world.run(&rules, clock);
        let what = format!("{attack:?}, {count} forged, day {day}");
        assert!(
            world.holds(real.last().unwrap()),
            "{what}: the last good one is gone"
        );
        assert!(world.holds(&proven), "{what}: the last proven one is gone");
    }
}

#[test]
fn a_thousand_forged_snapshots_never_cost_the_last_good_or_the_last_proven_one() {
    for attack in ATTACKS {
        play(60, |dice| strike(attack, dice, 1000, false));
        play(30, |dice| strike(attack, dice, 1000, true));
    }
}

#[test]
fn a_few_that_look_perfect_do_not_either() {
    for attack in ATTACKS {
        play(300, |dice| {
            let count = dice.within(1..20);
            strike(attack, dice, count, false);
        });
        play(300, |dice| {
            let count = dice.within(1..20);
            strike(attack, dice, count, true);
        });
    }
}

/// What the forger can cost at all, with snapshots that are not plausible: nothing.
#[test]
fn what_is_not_plausible_displaces_nothing_at_all() {
    for attack in [Attack::Future, Attack::Past, Attack::ForgedOriginals] {
        play(300, |dice| {
            let rules = policy(dice.rules());
            let mut world = World::of(daily(dice.within(4..60)));
            let mut clock = BEGIN + 60 * DAY;
            world.run(&rules, clock);
            let mut alone = World::of(world.snapshots.clone());
            alone.history = world.history.clone();
            for day in 0..4 {
                for _ in 0..100 {
                    let mut forged = attack.forge(dice, &alone, clock + DAY);
                    // What is dated within the last two days may be a long backup that has ended now.
                    if forged.time >= at(clock - 2 * DAY) && forged.time < at(clock + DAY) {
                        forged.time = at(clock - 3 * DAY);
                    }
                    world.snapshots.push(forged);
                }
                clock += DAY;
                let real = snapshot(100 + day, clock - HOUR);
                world.snapshots.push(real.clone());
                alone.snapshots.push(real);
                world.run(&rules, clock);
                alone.run(&rules, clock);
                for one in &alone.snapshots {
                    assert!(world.holds(one), "{attack:?}: {} is gone", one.time);
                }
            }
        });
    }
}

#[test]
fn doubt_does_not_fade() {
    let mut world = World::of(daily(10));
    let rules = keep_last(3);
    world.run(&rules, BEGIN + 10 * DAY);
    let future = snapshot(100, BEGIN + 12 * DAY);
    let past = snapshot(101, BEGIN + 3 * DAY);
    world.snapshots.extend([future.clone(), past.clone()]);
    for day in 11..30 {
        let judged = world.run(&rules, BEGIN + day * DAY);
        assert!(
            is_doubtful(&judged, &future),
            "{:?}",
            reasons(&judged, &future)
        );
        assert!(is_doubtful(&judged, &past), "{:?}", reasons(&judged, &past));
        assert_eq!(judged[0].kept().count(), 5);
    }
    // Until their owner says that they are real.
    let judged = world.run_with(&rules, trusted(BEGIN + 30 * DAY));
    assert!(!is_doubtful(&judged, &future) && !is_doubtful(&judged, &past));
    assert_eq!(judged[0].kept().count(), 3);
    assert!(!world.holds(&past));
}

#[test]
fn a_flood_refuses_its_series_alone_until_its_owner_says_that_it_is_real() {
    let mut real = daily(30);
    let other = Described {
        group: shop("ilse"),
        ..snapshot(500, BEGIN)
    };
    real.push(other.clone());
    real.push(Described {
        group: shop("ilse"),
        ..snapshot(501, BEGIN + DAY)
    });
    let mut world = World::of(real.clone());
    let rules = keep_last(30);
    world.run(&rules, BEGIN + 30 * DAY);
    let forged = (0..1000).map(|number| snapshot(1000 + number, BEGIN + 30 * DAY + HOUR));
    world.snapshots.extend(forged);
    let rules = keep_last(1);
    for day in 31..60 {
        let judged = world.run(&rules, BEGIN + day * DAY);
        let floods: Vec<Option<Flood>> = judged.iter().map(|one| one.flood).collect();
        assert_eq!(floods[0], None, "the other shop");
        let flood = floods[1].unwrap();
        assert_eq!((flood.count, flood.plausible), (1000, 20));
        assert_eq!(judged[1].going().count(), 0);
        assert!(
            reasons(&judged, &real[0]).contains(&"nothing of this series is removed".to_owned())
        );
    }
    assert!(!world.holds(&other), "the other shop went on");
    assert!(real[..30].iter().all(|one| world.holds(one)));
    let judged = world.run_with(&rules, trusted(BEGIN + 60 * DAY));
    assert_eq!(judged.iter().filter_map(|one| one.flood).count(), 0);
    assert!(world.snapshots.len() < 10, "{}", world.snapshots.len());
}

#[test]
fn a_flood_is_seen_on_the_first_run_as_well() {
    let mut world = World::of(daily(30));
    let forged = (0..1000).map(|number| snapshot(1000 + number, BEGIN + 30 * DAY));
    world.snapshots.extend(forged);
    let judged = world.run(&keep_last(1), BEGIN + 31 * DAY);
    assert!(judged[0].flood.is_some());
    assert_eq!(world.snapshots.len(), 1030);
}

/// Who writes a snapshot anew with a tag (`restic tag`) leaves one with another id and the same date.
#[test]
fn what_was_written_anew_is_no_forgery() {
    let mut world = World::of(daily(10));
    let rules = keep_last(9);
    world.run(&rules, BEGIN + 10 * DAY);
    let retag = |world: &mut World, at: usize, number: u64, original: Option<Id>| {
        let old = world.snapshots[at].clone();
        let original = original.or(Some(old.id));
        world.snapshots[at] = Described {
            id: Id::of(&number.to_le_bytes()),
            original,
            ..old
        };
        world.snapshots[at].clone()
    };
    let newest = world.snapshots.len() - 1;
    let (first, last) = (
        retag(&mut world, 1, 100, None),
        retag(&mut world, newest, 101, None),
    );
    let judged = world.run(&rules, BEGIN + 20 * DAY);
    for one in [&first, &last] {
        assert!(!is_doubtful(&judged, one), "{:?}", reasons(&judged, one));
    }
    assert!(
        reasons(&judged, &last)
            .iter()
            .any(|reason| reason.contains("at the last run")),
        "what was the last good one is, under its new id: {:?}",
        reasons(&judged, &last)
    );
    // And once more, with the same first id.
    let again = retag(&mut world, 1, 102, first.original);
    let judged = world.run(&rules, BEGIN + 30 * DAY);
    assert!(
        !is_doubtful(&judged, &again),
        "{:?}",
        reasons(&judged, &again)
    );
    // But not two of one, and not one of what is still there, and not one of what we have removed.
    let gone = snapshot(0, BEGIN);
    assert!(!world.holds(&gone), "the policy has removed it");
    let there = world.snapshots[3].clone();
    let copies = [200, 201].map(|number| Described {
        id: snapshot(number, 0).id,
        ..again.clone()
    });
    world.snapshots.retain(|one| one.id != again.id);
    let forged = [(202, &there), (203, &gone)].map(|(number, one)| Described {
        id: snapshot(number, 0).id,
        original: Some(one.id),
        ..one.clone()
    });
    world
        .snapshots
        .extend(copies.iter().chain(&forged).cloned());
    let judged = world.run(&rules, BEGIN + 40 * DAY);
    for one in copies.iter().chain(&forged) {
        assert!(is_doubtful(&judged, one), "{:?}", reasons(&judged, one));
    }
}

/// What its owner has removed by name, and what was doubted, cannot be forged anew.
#[test]
fn what_is_gone_for_a_reason_has_no_heirs() {
    let mut world = World::of(daily(10));
    let rules = keep_last(20);
    world.run(&rules, BEGIN + 10 * DAY);
    let doubted = snapshot(100, BEGIN - 50 * DAY);
    world.snapshots.push(doubted.clone());
    world.run(&rules, BEGIN + 11 * DAY);
    let named = world.snapshots[2].clone();
    let gone = [named.id, doubted.id].into_iter().collect();
    world.history = world.history.before_removing(&gone);
    world.snapshots.retain(|one| !gone.contains(&one.id));
    let heirs = [(200, &named), (201, &doubted)].map(|(number, one)| Described {
        id: snapshot(number, 0).id,
        original: Some(one.id),
        ..one.clone()
    });
    world.snapshots.extend(heirs.clone());
    let judged = world.run(&rules, BEGIN + 12 * DAY);
    for one in &heirs {
        assert!(is_doubtful(&judged, one), "{:?}", reasons(&judged, one));
    }
    // The same of one that was doubted, and that nobody of us has removed.
    let mut world = World::of(daily(10));
    world.run(&rules, BEGIN + 10 * DAY);
    world.snapshots.push(doubted.clone());
    world.run(&rules, BEGIN + 11 * DAY);
    world.snapshots.pop();
    world.snapshots.push(heirs[1].clone());
    let judged = world.run(&rules, BEGIN + 12 * DAY);
    assert!(is_doubtful(&judged, &heirs[1]));
}

#[test]
fn of_one_instant_the_one_that_is_known_is_the_newest() {
    play(100, |dice| {
        let mut world = World::of(daily(5));
        let rules = keep_last(1);
        world.run(&rules, BEGIN + 4 * DAY + HOUR);
        let real = world.snapshots[0].clone();
        let copy = snapshot(dice.next(), real.time.as_second());
        world.snapshots.push(copy.clone());
        let judged = world.run(&rules, BEGIN + 5 * DAY);
        let good = |one: &Described, judged: &[Judged]| {
            reasons(judged, one).contains(&"the last good snapshot".to_owned())
        };
        assert!(good(&real, &judged) && !good(&copy, &judged));
    });
}

#[test]
fn what_is_not_good_makes_no_good_one_go() {
    play(500, |dice| {
        let rules = policy(dice.rules());
        let good = daily(dice.within(2..20));
        let end = BEGIN + 40 * DAY;
        let mut bad: Vec<Described> = Vec::new();
        for number in 0..dice.within(1..15) {
            let number = 1000 + number.unsigned_abs();
            let mut one = snapshot(number, BEGIN + dice.within(0..40 * DAY));
            one.is_good = false;
            bad.push(one);
        }
        let alone = World::of(good.clone()).decide(&rules, now(end));
        let both = World::of(good.iter().chain(&bad).cloned().collect()).decide(&rules, now(end));
        for one in &good {
            assert_eq!(reasons(&alone, one), reasons(&both, one));
        }
        // If nothing is good, they are kept as the good ones would be.
        let only = World::of(bad.clone()).decide(&rules, now(end));
        let as_good = bad.iter().map(|one| Described {
            is_good: true,
            ..one.clone()
        });
        let as_good = World::of(as_good.collect()).decide(&rules, now(end));
        for one in &bad {
            assert_eq!(
                reasons(&only, one).is_empty(),
                reasons(&as_good, one).is_empty()
            );
        }
    });
}
