//! Snapshots of this machine that are in no shop, where there are shops: the shops' rules never look at them.
//! They are what was backed up by its paths, before `setup` perhaps.

use std::collections::BTreeMap;

use super::Group;
use crate::id::Id;
use crate::repository::snapshot::Snapshot;
use crate::units::quoted;

/// Most snapshots that are named one by one in what is to be typed.
const MAX_NAMED: usize = 10;

/// A series of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphans {
    /// The series.
    pub group: Group,
    /// Its snapshots.
    pub snapshots: Vec<Id>,
}

impl Orphans {
    /// Finds those that were made on this machine, series by series.
    #[must_use]
    pub fn find<'a>(snapshots: impl Iterator<Item = &'a Snapshot>, host: &str) -> Vec<Self> {
        let mut series: BTreeMap<Group, Vec<Id>> = BTreeMap::new();
        for one in snapshots.filter(|one| !one.is_record() && one.file.hostname == host) {
            if let group @ Group::Place { .. } = Group::of_snapshot(one) {
                series.entry(group).or_default().push(one.id);
            }
        }
        let series = series.into_iter();
        series
            .map(|(group, snapshots)| Self { group, snapshots })
            .collect()
    }

    /// What they are, in a sentence.
    #[must_use]
    pub fn finding(&self) -> String {
        let count = self.snapshots.len() as u64;
        format!(
            "{} in no shop: no shop's rules ever look at them",
            crate::units::counted(count, "snapshot")
        )
    }

    /// What to do about them; `shop` is the only one that they can be of, if there is only one.
    #[must_use]
    pub fn cure(&self, shop: Option<&str>) -> String {
        let tag = format!("shop={}", quoted(shop.unwrap_or("NAME")));
        let which = if self.snapshots.len() <= MAX_NAMED {
            let ids: Vec<String> = self.snapshots.iter().map(Id::short).collect();
            ids.join(" ")
        } else {
            self.group.flags()
        };
        format!(
            "`tillsafe tag --add {tag} {which}` makes them that shop's (if they are older than two days, its next `tillsafe forget` wants --trust-history, once); or `tillsafe forget --keep-last 1 {}` leaves the last of them",
            self.group.flags()
        )
    }
}
