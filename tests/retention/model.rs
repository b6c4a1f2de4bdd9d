//! The decision against a model that is as simple as it can be: rules by labels and sets, floods by
//! trying every pair, memory as three small maps.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tillsafe::id::Id;
use tillsafe::retention::{Described, Rules};

use super::{BEGIN, DAY, Dice, HOUR, World, at, now, play, policy, shop, snapshot};

/// How the cases are told apart in the summary.
#[derive(Debug, Default)]
struct Counts {
    runs: u64,
    removed: u64,
    floods: u64,
    doubtful: u64,
}

/// What the model remembers of a series.
#[derive(Debug, Clone, Default)]
struct Memory {
    last_run: Option<i64>,
    /// Whether the date of each that was seen was doubted.
    seen: BTreeMap<Id, bool>,
    last: BTreeSet<Id>,
}

fn second(one: &Described) -> i64 {
    one.time.as_second()
}

fn label(time: Timestamp, format: &str) -> String {
    time.to_zoned(TimeZone::UTC).strftime(format).to_string()
}

/// What the rules keep of a list.
fn kept_by_rules(rules: &Rules, list: &[&Described]) -> BTreeSet<Id> {
    let mut list = list.to_vec();
    list.sort_by_key(|one| -second(one));
    let mut kept = BTreeSet::new();
    let Some(newest) = list.first() else {
        return kept;
    };
    let oldest = list.last().unwrap();
    for (count, format) in [
        (rules.hourly, "%Y-%m-%d %H"),
        (rules.daily, "%Y-%m-%d"),
        (rules.weekly, "%G week %V"),
        (rules.monthly, "%Y-%m"),
        (rules.yearly, "%Y"),
    ] {
        let mut newest_of: BTreeMap<String, &Described> = BTreeMap::new();
        for one in &list {
            newest_of.entry(label(one.time, format)).or_insert(one);
        }
        let labels = newest_of.iter().rev().take(count as usize);
        kept.extend(labels.map(|(_, one)| one.id));
        if newest_of.len() < count as usize {
            kept.insert(oldest.id);
        }
    }
    kept.extend(list.iter().take(rules.last as usize).map(|one| one.id));
    if let Some(within) = &rules.within {
        // The model's spans have no years, and its days are in every month.
        let text = within.to_string();
        let number = |unit: char| -> i64 {
            let before = text.split(unit).next().filter(|_| text.contains(unit));
            let digits: String = before.map_or(String::new(), |before| {
                let tail: Vec<char> = before
                    .chars()
                    .rev()
                    .take_while(char::is_ascii_digit)
                    .collect();
                tail.into_iter().rev().collect()
            });
            digits.parse().unwrap_or(0)
        };
        let span = jiff::Span::new();
        let zoned = newest.time.to_zoned(TimeZone::UTC);
        let first = zoned.first_of_month().unwrap();
        let first = first.checked_sub(span.months(number('m'))).unwrap();
        let limit = first.timestamp().as_second() + (i64::from(zoned.day()) - 1) * DAY
            - number('d') * DAY
            - number('h') * HOUR;
        kept.extend(
            list.iter()
                .filter(|one| second(one) > limit)
                .map(|one| one.id),
        );
    }
    for tags in &rules.tags {
        let has = |one: &&&Described| tags.iter().all(|tag| one.tags.contains(tag));
        kept.extend(list.iter().filter(has).map(|one| one.id));
    }
    kept
}

/// Whether somewhere more came in than 20 and one for each pace.
fn is_flooded(known: &[i64], new: &[i64]) -> bool {
    let mut gaps: Vec<i64> = known.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    let pace = if known.len() < 4 {
        300
    } else {
        (gaps[gaps.len() / 2] / 3).clamp(1, HOUR)
    };
    (0..new.len()).any(|from| {
        let beyond = |to: usize| {
            i64::try_from(to - from + 1).unwrap() * pace - (new[to] - new[from]) > 20 * pace
        };
        (from..new.len()).any(beyond)
    })
}

/// What goes of a series, whether it is flooded, and how many are doubtful.
fn run(
    memory: &mut Memory,
    rules: &Rules,
    all: &[&Described],
    now: i64,
) -> (BTreeSet<Id>, bool, u64) {
    let clock = memory.last_run.map_or(now, |last| last.max(now));
    let is_doubtful = |one: &Described| {
        let is_behind = memory
            .last_run
            .is_some_and(|last| second(one) < last - 2 * DAY);
        let seen = memory.seen.get(&one.id);
        second(one) > clock + HOUR || seen.map_or(is_behind, |doubted| *doubted)
    };
    let is_new = |one: &Described| !memory.seen.contains_key(&one.id);
    let believed: Vec<&Described> = all
        .iter()
        .copied()
        .filter(|one| !is_doubtful(one))
        .collect();
    let good: Vec<&Described> = believed.iter().copied().filter(|one| one.is_good).collect();
    let times = |new: bool| {
        let is_first = memory.last_run.is_none();
        let fits = |one: &&&Described| (is_first || is_new(one)) == new;
        let mut times: Vec<i64> = believed
            .iter()
            .filter(fits)
            .map(|one| second(one))
            .collect();
        times.sort_unstable();
        times
    };
    let doubtful = (all.len() - believed.len()) as u64;
    if is_flooded(&times(false), &times(true)) {
        return (BTreeSet::new(), true, doubtful);
    }
    let mut stay: BTreeSet<Id> = kept_by_rules(rules, &good);
    let bad = |id: &Id| believed.iter().any(|one| one.id == *id && !one.is_good);
    stay.extend(kept_by_rules(rules, &believed).into_iter().filter(bad));
    let newest = |list: Vec<&Described>| {
        list.into_iter()
            .max_by_key(|one| second(one))
            .map(|one| one.id)
    };
    let last: BTreeSet<Id> = newest(good)
        .or_else(|| newest(believed.clone()))
        .into_iter()
        .chain(newest(
            believed
                .iter()
                .copied()
                .filter(|one| one.is_proven)
                .collect(),
        ))
        .collect();
    stay.extend(last.iter().chain(&memory.last).copied());
    stay.extend(all.iter().filter(|one| is_doubtful(one)).map(|one| one.id));
    if memory.last_run.is_some() {
        stay.extend(all.iter().filter(|one| is_new(one)).map(|one| one.id));
    }
    let goes: BTreeSet<Id> = all
        .iter()
        .map(|one| one.id)
        .filter(|id| !stay.contains(id))
        .collect();
    let seen = all.iter().filter(|one| !goes.contains(&one.id));
    // A clock that is known to be wrong settles nothing.
    let settles = |one: &&&Described| now >= clock || second(one) <= clock + HOUR || !is_new(one);
    let seen = seen
        .filter(settles)
        .map(|one| (one.id, is_doubtful(one)))
        .collect();
    *memory = Memory {
        last_run: Some(clock),
        seen,
        last,
    };
    (goes, false, doubtful)
}

/// More snapshots of two shops: as they come, at once, in a burst, from the future, from the past.
fn add(world: &mut World, dice: &mut Dice, since: i64, now: i64) {
    let count = if dice.once_in(12) {
        40
    } else {
        dice.within(0..14)
    };
    let burst = dice.once_in(6).then(|| dice.within(since..now));
    for _ in 0..count {
        let time = match dice.within(0..30) {
            0 => now + dice.within(-HOUR..2 * HOUR),
            1 => now + dice.within(0..900 * DAY),
            2 => now - dice.within(0..400 * DAY),
            3 => now - 2 * DAY + dice.within(-HOUR..HOUR),
            _ => match burst {
                Some(from) => from + dice.within(0..60),
                None => dice.within(since..now),
            },
        };
        // No two at the same second: which of them is the newest is nobody's matter here.
        if world.snapshots.iter().any(|one| one.time == at(time)) {
            continue;
        }
        let mut one = snapshot(dice.next(), time);
        one.group = shop(if dice.once_in(4) { "ilse" } else { "mara" });
        one.is_good = !dice.once_in(5);
        one.is_proven = one.is_good && dice.once_in(7);
        if dice.once_in(9) {
            one.tags.push("keep".to_owned());
        }
        world.snapshots.push(one);
    }
}

#[test]
fn the_decision_is_that_of_a_simple_model() {
    let counts = std::sync::Mutex::new(Counts::default());
    play(4000, |dice| {
        let rules = dice.rules();
        let mut world = World::default();
        let mut memories: BTreeMap<String, Memory> = BTreeMap::new();
        let (mut since, mut clock) = (BEGIN, BEGIN + dice.within(DAY..500 * DAY));
        for number in 0..dice.within(1..7) {
            add(&mut world, dice, since, clock);
            let mut expected = BTreeSet::new();
            let mut groups: BTreeMap<String, Vec<Described>> = BTreeMap::new();
            for one in &world.snapshots {
                groups
                    .entry(one.group.to_string())
                    .or_default()
                    .push(one.clone());
            }
            for (group, all) in &groups {
                let all: Vec<&Described> = all.iter().collect();
                let memory = memories.entry(group.clone()).or_default();
                let (goes, flood, doubtful) = run(memory, &rules, &all, clock);
                let mut counts = counts.lock().unwrap();
                counts.removed += goes.len() as u64;
                counts.floods += u64::from(flood);
                counts.doubtful += doubtful;
                expected.extend(goes);
            }
            let judged = world.run_with(&policy(rules.clone()), now(clock));
            let goes: BTreeSet<Id> = judged
                .iter()
                .flat_map(|one| one.going().map(|one| one.id))
                .collect();
            assert_eq!(
                goes,
                expected,
                "run {number} with {rules:?} at {}",
                at(clock)
            );
            counts.lock().unwrap().runs += 1;
            since = clock;
            clock += match dice.within(0..8) {
                0 => -dice.within(0..30 * DAY),
                1 => dice.within(0..2000 * DAY),
                _ => dice.within(HOUR..10 * DAY),
            };
            since = since.min(clock - 1);
        }
    });
    let counts = counts.into_inner().unwrap();
    println!("{counts:?}");
    let is_whole = std::env::var(super::SEED).is_err();
    assert!(!is_whole || counts.removed > 10_000, "{counts:?}");
    assert!(
        !is_whole || counts.floods > 100 && counts.doubtful > 10_000,
        "{counts:?}"
    );
}
