//! What a repository holds: is there a good snapshot of each series, how old, how far proved.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::Finding;
use crate::error::Result;
use crate::id::Id;
use crate::monitor::Monitor;
use crate::records::{self, Proof};
use crate::repository::Repository;
use crate::repository::lock::{Standing, host_name};
use crate::repository::snapshot::Snapshot;
use crate::retention::{Group, Orphans};
use crate::units::{Span, counted, quoted};

/// A last good snapshot that is older is worth a word: a night was missed.
const OLD: Duration = Duration::from_hours(48);
/// A proof that is older says little of the snapshots since.
const OLD_PROOF: Duration = Duration::from_hours(24 * 31);

/// What a repository holds.
#[derive(Debug)]
pub struct History {
    /// What is to be said of it.
    pub findings: Vec<Finding>,
    /// The absolute paths in the snapshots that were made on this machine.
    pub paths: BTreeSet<PathBuf>,
    /// The series: those that were asked for, and all others that are there.
    pub series: Vec<Group>,
}

/// Looks at the snapshots and locks of a repository. Of `series` each should have a good snapshot; others that
/// are there are looked at too.
///
/// # Errors
/// [`crate::error::Error::Storage`] if they cannot be listed, [`crate::error::Error::Interrupted`].
pub fn history(
    repository: &Repository,
    series: &[Group],
    monitor: &dyn Monitor,
) -> Result<History> {
    let now = repository.services().clock.now();
    let found = repository.snapshots(monitor)?;
    let mut findings = Vec::new();
    if !found.damaged.is_empty() {
        findings.push(Finding::error(
            "snapshots",
            format!(
                "{} cannot be read",
                counted(found.damaged.len() as u64, "snapshot")
            ),
            "`tillsafe check`, then docs/damage.md",
        ));
    }
    let index = repository.load_index(monitor)?;
    let proofs = records::proofs(repository, &index, &found.readable, monitor)?;
    let mut by_series: BTreeMap<Group, Vec<&Snapshot>> = series
        .iter()
        .map(|group| (group.clone(), Vec::new()))
        .collect();
    for snapshot in found
        .readable
        .iter()
        .filter(|snapshot| !snapshot.is_record())
    {
        by_series
            .entry(Group::of_snapshot(snapshot))
            .or_default()
            .push(snapshot);
    }
    if by_series.is_empty() {
        findings.push(Finding::error(
            "snapshots",
            "there is none",
            "`tillsafe backup /srv/shop`, with the folder of your shop",
        ));
    }
    // Where nobody knows shops, none is out of them.
    let has_shops = !series.is_empty();
    let orphans = Orphans::find(found.readable.iter().filter(|_| has_shops), &host_name());
    let is_orphan = |group: &Group| orphans.iter().any(|one| one.group == *group);
    for one in &orphans {
        let shop = match series {
            [Group::Shop(name)] => Some(name.as_str()),
            _ => None,
        };
        findings.push(Finding::warning(
            format!("snapshots of {}", one.group),
            one.finding(),
            one.cure(shop),
        ));
    }
    for (group, snapshots) in by_series.iter().filter(|(group, _)| !is_orphan(group)) {
        let commands = Commands::of(group, by_series.len() == 1);
        let name = group.to_string();
        findings.extend(of_series(&name, &commands, snapshots, &proofs, now));
    }
    let all: Vec<Group> = by_series.into_keys().collect();
    findings.extend(locks(repository)?);
    let here = host_name();
    let of_this_machine = found
        .readable
        .iter()
        .filter(|one| one.file.hostname == here && !one.is_record());
    let paths = of_this_machine.flat_map(|snapshot| snapshot.file.paths.iter().map(PathBuf::from));
    Ok(History {
        findings,
        paths: paths.collect(),
        series: all,
    })
}

/// What is typed about a series.
struct Commands {
    backup: String,
    verify: String,
}

impl Commands {
    fn of(group: &Group, is_alone: bool) -> Self {
        let what = match group {
            Group::Shop(name) => quoted(name),
            Group::Place { paths, .. } => {
                let paths: Vec<String> = paths.iter().map(quoted).collect();
                paths.join(" ")
            }
        };
        let flags = if is_alone {
            String::new()
        } else {
            format!(" {}", group.flags())
        };
        Self {
            backup: format!("`tillsafe backup {what}`"),
            verify: format!("`tillsafe verify{flags}`"),
        }
    }
}

fn of_series(
    name: &str,
    commands: &Commands,
    snapshots: &[&Snapshot],
    proofs: &BTreeMap<Id, Proof>,
    now: Timestamp,
) -> Vec<Finding> {
    let item = format!("snapshots of {name}");
    let age = |time: Timestamp| Duration::try_from(now.duration_since(time)).ok();
    let mut findings = Vec::new();
    if let Some(last) = snapshots.last()
        && age(last.file.time).is_none()
    {
        findings.push(Finding::warning(
            &item,
            format!("the newest, {}, is dated after now", last.id.short()),
            "set this machine's clock; if it is right, a clock was wrong then: docs/retention.md",
        ));
    }
    let mut past = snapshots
        .iter()
        .filter(|snapshot| age(snapshot.file.time).is_some());
    let Some(last) = past.rfind(|snapshot| snapshot.file.is_good()) else {
        findings.push(Finding::error(
            &item,
            "there is no good one",
            &commands.backup,
        ));
        return findings;
    };
    let passed = age(last.file.time).unwrap_or_default();
    let finding = format!(
        "the last good one, {}, is {} old",
        last.id.short(),
        Span(passed)
    );
    findings.push(if passed > OLD {
        Finding::warning(
            &item,
            finding,
            format!(
                "see why the last runs did not end well: {} by hand tells",
                commands.backup
            ),
        )
    } else {
        Finding::good(&item, finding)
    });
    let proved = snapshots
        .iter()
        .filter_map(|snapshot| Some((snapshot, proofs.get(&snapshot.id)?)))
        .max_by_key(|(_, proof)| proof.time);
    findings.push(match proved {
        None => Finding::warning(&item, "none was ever proved", &commands.verify),
        Some((snapshot, proof)) => {
            let finding = format!(
                "{} was proved on {:.0}: {}",
                snapshot.id.short(),
                proof.time,
                proof.level.name()
            );
            match age(proof.time) {
                Some(passed) if passed <= OLD_PROOF => Finding::good(&item, finding),
                Some(_) => {
                    Finding::warning(&item, finding + ", more than a month ago", &commands.verify)
                }
                None => Finding::warning(&item, finding + ", after now", "set the clock"),
            }
        }
    });
    findings
}

fn locks(repository: &Repository) -> Result<Vec<Finding>> {
    let found = repository.locks()?;
    let odd = found
        .iter()
        .filter(|lock| lock.standing != Some(Standing::Held));
    let finding = |lock: &crate::repository::lock::FoundLock| {
        Finding::warning(
            "locks",
            format!("one is left: {}", lock.holder),
            "`tillsafe unlock`",
        )
    };
    Ok(odd.map(finding).collect())
}
