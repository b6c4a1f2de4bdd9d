//! The snapshots of the same series: which of them the new one follows, and whether it will be the last.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Options;
use super::servers::ServerSource;
use crate::monitor::Monitor;
use crate::repository::snapshot::{Snapshot, Snapshots};
use crate::retention::Group;

/// The snapshots of the series that are not of the future, newest first. The first of them is the parent, as
/// restic chooses it: where the clock was set back, what it has become since may still be compared with what it
/// was.
pub fn earlier(snapshots: Snapshots, options: &Options, now: Timestamp) -> Vec<Snapshot> {
    let series = series(options);
    let earlier = snapshots.readable.into_iter().filter(|one| {
        !one.is_record() && one.file.time <= now && Group::of_snapshot(one) == series
    });
    earlier.rev().collect()
}

/// Says if a snapshot of the series lies in the future: it, and not the new one, will be `latest`.
pub fn tell_future(
    snapshots: &Snapshots,
    options: &Options,
    now: Timestamp,
    monitor: &dyn Monitor,
) {
    let series = series(options);
    let mut newest = snapshots.readable.iter().rev();
    let newest = newest.find(|one| !one.is_record() && Group::of_snapshot(one) == series);
    if let Some(newest) = newest {
        newest.tell_future(now, monitor);
    }
}

fn series(options: &Options) -> Group {
    Group::of(&options.tags, &options.host, &paths(options))
}

/// The paths asked for, in one order: whatever words made it, it is one series of snapshots.
pub fn paths(options: &Options) -> Vec<String> {
    let servers = options.servers.iter().map(ServerSource::folder);
    let paths = options.paths.iter().cloned().chain(servers);
    let sorted: BTreeSet<String> = paths
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    sorted.into_iter().collect()
}
