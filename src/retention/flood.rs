//! More than a shop makes: snapshots that came in faster than the history of their series makes plausible.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use crate::units::Span;

/// So many may come in at any time: somebody tries things out, or an interrupted job is run again.
const FEW: usize = 20;
/// So many times as often as usual is still plausible.
const OFTEN: i32 = 3;
/// Once an hour is plausible for every shop.
const HOURLY: SignedDuration = SignedDuration::from_hours(1);
/// So often is plausible where nothing is known of the series.
const UNKNOWN: SignedDuration = SignedDuration::from_mins(5);
/// So many must be known for something to be usual.
const USUAL: usize = 4;

/// What came in, and what would have been plausible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flood {
    /// Snapshots between the two moments.
    pub count: usize,
    /// As many would be plausible there.
    pub plausible: usize,
    /// The time of the first.
    pub from: Timestamp,
    /// The time of the last.
    pub to: Timestamp,
}

impl Flood {
    /// Looks for the stretch of time that holds more of the new snapshots than any other, measured by
    /// what is plausible: a few at once, and beyond those a certain number for each hour that goes by.
    /// Both lists are sorted, oldest first.
    pub(super) fn find(known: &[Timestamp], new: &[Timestamp]) -> Option<Self> {
        let pace = pace(known).as_secs().max(1);
        // Each snapshot fills one in, and each pace lets one out again: a bucket with room for a few.
        let (mut level, mut begin, mut last) = (0, 0, *new.first()?);
        let mut worst: Option<(i64, usize, usize)> = None;
        for (number, time) in new.iter().enumerate() {
            let seconds = time.duration_since(last).as_secs();
            level -= seconds;
            last = *time;
            if level <= 0 {
                (level, begin) = (0, number);
            }
            level += pace;
            if worst.is_none_or(|(most, ..)| level > most) {
                worst = Some((level, begin, number));
            }
        }
        let (level, begin, end) = worst?;
        if level <= pace * i64::try_from(FEW).unwrap_or(i64::MAX) {
            return None;
        }
        let (from, to) = (new[begin], new[end]);
        let more = to.duration_since(from).as_secs() / pace;
        Some(Self {
            count: end - begin + 1,
            plausible: FEW + usize::try_from(more).unwrap_or(0),
            from,
            to,
        })
    }
}

/// One in so much time is plausible.
fn pace(known: &[Timestamp]) -> SignedDuration {
    if known.len() < USUAL {
        return UNKNOWN;
    }
    let pairs = known.windows(2);
    let mut gaps: Vec<SignedDuration> = pairs.map(|pair| pair[1].duration_since(pair[0])).collect();
    gaps.sort_unstable();
    let usual = gaps[gaps.len() / 2];
    HOURLY.min(usual / OFTEN)
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            count,
            plausible,
            from,
            to,
        } = self;
        let span = Span(to.duration_since(*from).unsigned_abs());
        write!(
            f,
            "{count} snapshots came in that are dated within {span} ({from:.0} to {to:.0}), where {plausible} would be plausible"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many snapshots, one every so many seconds, from a certain second on.
    fn series(begin: i64, every: i64, count: i64) -> Vec<Timestamp> {
        let time = |number| Timestamp::from_second(begin + number * every).unwrap();
        (0..count).map(time).collect()
    }

    const DAY: i64 = 86_400;

    #[test]
    fn what_goes_on_as_usual_is_no_flood() {
        for every in [60, 900, 3600, DAY, 30 * DAY] {
            let known = series(0, every, 40);
            let new = series(40 * every, every, 5000);
            assert_eq!(Flood::find(&known, &new), None, "{every}");
            let thrice = series(40 * every, every / 3, 5000);
            assert_eq!(Flood::find(&known, &thrice), None, "{every}");
        }
        assert_eq!(Flood::find(&series(0, DAY, 9), &[]), None);
    }

    #[test]
    fn a_few_may_come_at_once_and_hourly_ones_always() {
        let known = series(0, DAY, 30);
        assert_eq!(Flood::find(&known, &series(30 * DAY, 0, 20)), None);
        assert_eq!(Flood::find(&known, &series(30 * DAY, 3600, 1000)), None);
        let flood = Flood::find(&known, &series(30 * DAY, 0, 21)).unwrap();
        assert_eq!((flood.count, flood.plausible), (21, 20));
    }

    #[test]
    fn more_than_that_is_a_flood_and_is_counted() {
        let known = series(0, DAY, 30);
        let mut new = series(30 * DAY, DAY, 10);
        new.extend(series(40 * DAY, 60, 1000));
        let flood = Flood::find(&known, &new).unwrap();
        assert_eq!((flood.count, flood.plausible), (1000, 36));
        assert_eq!(flood.from.as_second(), 40 * DAY);
    }

    #[test]
    fn a_series_that_is_not_known_yet_may_be_a_busy_one() {
        assert_eq!(Flood::find(&[], &series(0, 300, 5000)), None);
        assert!(Flood::find(&[], &series(0, 120, 1000)).is_some());
        assert!(Flood::find(&[], &series(0, 0, 1000)).is_some());
    }
}
