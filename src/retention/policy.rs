//! The rules of the owner, with the meaning that they have in restic.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::Described;
use crate::error::{Error, Result};

/// What is to be kept of each series. A number counts the hours, days … that have snapshots, from the
/// newest on; of each the newest snapshot is kept. Nought says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// So many snapshots.
    pub last: u32,
    /// So many hours.
    pub hourly: u32,
    /// So many days.
    pub daily: u32,
    /// So many weeks, from Monday to Sunday.
    pub weekly: u32,
    /// So many months.
    pub monthly: u32,
    /// So many years.
    pub yearly: u32,
    /// All that are at most so much older than the newest.
    pub within: Option<Within>,
    /// All that have every tag of one of these lists.
    pub tags: Vec<Vec<String>>,
}

/// Rules that keep something: there is no other policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy(Rules);

impl Policy {
    /// Takes rules as a policy.
    ///
    /// # Errors
    /// [`Error::Usage`] if they keep nothing: that is never what an owner means.
    pub fn new(rules: Rules) -> Result<Self> {
        let usage = |finding: &str, next: &str| {
            Err(Error::Usage {
                finding: finding.to_owned(),
                next: next.to_owned(),
            })
        };
        let is_blank = |tags: &Vec<String>| tags.is_empty() || tags.iter().any(String::is_empty);
        if rules.tags.iter().any(is_blank) {
            return usage("an empty tag marks nothing", "name it: --keep-tag TAG");
        }
        if rules == Rules::default() {
            return usage(
                "no rule says what is to be kept, so nothing is removed",
                "say how many of each: --keep-daily 14 --keep-monthly 12; or name snapshots by their ids",
            );
        }
        Ok(Self(rules))
    }

    /// Its rules.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.0
    }

    /// What keeps each of these snapshots, newest first, in restic's words; nothing if it may go.
    pub(super) fn reasons(&self, snapshots: &[&Described]) -> Vec<Vec<String>> {
        let rules = &self.0;
        let within = rules.within.as_ref().zip(snapshots.first());
        let within = within.map(|(within, newest)| (within, within.before(newest.time)));
        let mut counters = self.counters();
        let judge = |(number, one): (usize, &&Described)| {
            let mut reasons = Vec::new();
            for tags in &rules.tags {
                if tags.iter().all(|tag| one.tags.contains(tag)) {
                    reasons.push(format!("has tags [{}]", tags.join(", ")));
                }
            }
            if let Some((within, _)) = within.filter(|(_, limit)| one.time > *limit) {
                reasons.push(format!("within {within}"));
            }
            let is_oldest = number + 1 == snapshots.len();
            for counter in &mut counters {
                reasons.extend(counter.take(number, one.time, is_oldest));
            }
            reasons
        };
        snapshots.iter().enumerate().map(judge).collect()
    }

    fn counters(&self) -> [Counter; 6] {
        let rules = &self.0;
        [
            (Span::Snapshot, rules.last),
            (Span::Hour, rules.hourly),
            (Span::Day, rules.daily),
            (Span::Week, rules.weekly),
            (Span::Month, rules.monthly),
            (Span::Year, rules.yearly),
        ]
        .map(|(span, left)| Counter {
            span,
            left,
            last: None,
        })
    }
}

/// What a rule counts, in UTC.
#[derive(Debug, Clone, Copy)]
enum Span {
    Snapshot,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Span {
    /// Which one of its kind a time lies in; the snapshot's own number where each counts.
    fn bucket(self, number: usize, time: Timestamp) -> Bucket {
        let moment = utc(time);
        let date = moment.date();
        let (year, month, day) = (date.year(), date.month(), date.day());
        match self {
            Self::Snapshot => (0, 0, 0, number),
            Self::Hour => (
                year,
                month,
                day,
                1 + usize::from(moment.hour().unsigned_abs()),
            ),
            Self::Day => (year, month, day, 0),
            Self::Week => {
                let week = date.iso_week_date();
                (week.year(), week.week(), 0, 0)
            }
            Self::Month => (year, month, 0, 0),
            Self::Year => (year, 0, 0, 0),
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Snapshot => "last snapshot",
            Self::Hour => "hourly snapshot",
            Self::Day => "daily snapshot",
            Self::Week => "weekly snapshot",
            Self::Month => "monthly snapshot",
            Self::Year => "yearly snapshot",
        }
    }
}

type Bucket = (i16, i8, i8, usize);

/// One rule at its work.
#[derive(Debug)]
struct Counter {
    span: Span,
    /// How many it still keeps.
    left: u32,
    /// Where the last that it kept lies.
    last: Option<Bucket>,
}

impl Counter {
    /// Whether the rule keeps the next older snapshot. As in restic, the oldest of all is kept while
    /// anything is left to count: the history reaches back as far as it can.
    fn take(&mut self, number: usize, time: Timestamp, is_oldest: bool) -> Option<String> {
        if self.left == 0 {
            return None;
        }
        let bucket = Some(self.span.bucket(number, time));
        let is_next = bucket != self.last;
        if !is_next && !is_oldest {
            return None;
        }
        self.left -= 1;
        self.last = bucket;
        let oldest = if is_next { "" } else { "oldest " };
        Some(format!("{oldest}{}", self.span.words()))
    }
}

/// A span as restic writes it: `1y5m7d2h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Within {
    years: u32,
    months: u32,
    days: u32,
    hours: u32,
}

impl Within {
    /// The moment that lies so long before `time`, by the calendar. As in restic, a day that a month
    /// does not have is one of the next month.
    fn before(self, time: Timestamp) -> Timestamp {
        let moment = utc(time);
        let (years, months) = (i64::from(self.years), i64::from(self.months));
        let month = i64::from(moment.year()) * 12 + i64::from(moment.month()) - 1;
        let month = month - years * 12 - months;
        let first = i16::try_from(month.div_euclid(12)).ok().and_then(|year| {
            let month = i8::try_from(month.rem_euclid(12) + 1).ok()?;
            Date::new(year, month, 1).ok()
        });
        let days = i64::from(moment.day()) - 1 - i64::from(self.days);
        let rest = SignedDuration::from_hours(days * 24 - i64::from(self.hours));
        first
            .and_then(|first| first.to_datetime(moment.time()).checked_add(rest).ok())
            .and_then(|moment| moment.to_zoned(TimeZone::UTC).ok())
            // Before all times that there are: then everything lies within.
            .map_or(Timestamp::MIN, |moment| moment.timestamp())
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.years, 'y'),
            (self.months, 'm'),
            (self.days, 'd'),
            (self.hours, 'h'),
        ];
        for (number, unit) in parts.into_iter().filter(|(number, _)| *number > 0) {
            write!(f, "{number}{unit}")?;
        }
        Ok(())
    }
}

impl FromStr for Within {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        const WRONG: &str =
            "give years, months, days and hours, each at most once and not all nought: 1y5m7d2h";
        let mut within = Self::default();
        let mut seen = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(|letter: char| !letter.is_ascii_digit()) {
            let (number, unit) = rest.split_at(at);
            let Some(unit) = unit.chars().next() else {
                return Err(WRONG);
            };
            rest = &rest[at + unit.len_utf8()..];
            let field = match unit {
                'y' => &mut within.years,
                'm' => &mut within.months,
                'd' => &mut within.days,
                'h' => &mut within.hours,
                _ => return Err(WRONG),
            };
            if seen.contains(unit) {
                return Err(WRONG);
            }
            seen.push(unit);
            *field = number.parse().map_err(|_| WRONG)?;
        }
        if !rest.is_empty() || within == Self::default() {
            return Err(WRONG);
        }
        Ok(within)
    }
}

fn utc(time: Timestamp) -> DateTime {
    time.to_zoned(TimeZone::UTC).datetime()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_keep_nothing_are_no_policy() {
        assert!(Policy::new(Rules::default()).is_err());
        for tags in [vec![], vec![String::new()]] {
            let rules = Rules {
                last: 1,
                tags: vec![tags],
                ..Rules::default()
            };
            assert!(Policy::new(rules).is_err());
        }
    }

    #[test]
    fn a_span_is_read_as_restic_reads_it() {
        for text in ["1y5m7d2h", "2h", "30d", "1y1h"] {
            assert_eq!(text.parse::<Within>().unwrap().to_string(), text);
        }
        assert_eq!("7d1y".parse::<Within>().unwrap().to_string(), "1y7d");
        for wrong in [
            "",
            "0d",
            "0y0m0d0h",
            "5",
            "d",
            "5d3",
            "-5d",
            "1.5d",
            "5d5d",
            "5w",
            "5 d",
            "+5d",
            "99999999999d",
            "5é",
            "é",
        ] {
            assert!(wrong.parse::<Within>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_span_goes_back_by_the_calendar_as_go_counts_it() {
        for (time, within, before) in [
            ("2026-03-31T12:00:00Z", "1m", "2026-03-03T12:00:00Z"),
            ("2024-03-31T12:00:00Z", "1m", "2024-03-02T12:00:00Z"),
            ("2026-01-15T00:30:00Z", "1m", "2025-12-15T00:30:00Z"),
            ("2026-01-01T00:30:00Z", "1y5m7d2h", "2024-07-24T22:30:00Z"),
            ("2024-02-29T00:00:00Z", "1y", "2023-03-01T00:00:00Z"),
        ] {
            let time: Timestamp = time.parse().unwrap();
            let within: Within = within.parse().unwrap();
            assert_eq!(within.before(time).to_string(), before);
        }
        let ages: Within = "4294967295y4294967295m4294967295d4294967295h"
            .parse()
            .unwrap();
        assert_eq!(ages.before(Timestamp::MIN), Timestamp::MIN);
        assert_eq!(ages.before(Timestamp::MAX), Timestamp::MIN);
    }
}
