//! `snapshots`: list them.

use std::collections::BTreeMap;

use serde_json::json;

use super::Done;
use super::args::Snapshots;
use super::session::{Session, request};
use super::table::{self, cell};
use crate::error::{Error, ExitCode, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Problem};
use crate::records::{self, Proof};
use crate::repository::Repository;
use crate::repository::snapshot::Snapshot;
use crate::retention::Group;
use crate::units::{ByteSize, counted};

pub fn run(session: &Session, args: &Snapshots) -> Result<Done> {
    let repository = session.open()?;
    let found = repository.snapshots(session.output.as_ref())?;
    let damaged = found.damaged.len();
    let proofs = proofs(session, &repository, &found.readable)?;
    let mut snapshots = request("", &args.filter).filter(found.readable);
    snapshots.retain(|snapshot| args.all || !snapshot.is_record());
    session.output.finish();
    for snapshot in &snapshots {
        let proof = proofs.get(&snapshot.id);
        session.output.object("snapshot", object(snapshot, proof));
    }
    print_table(session, &snapshots, &proofs);
    tell_future(session, &snapshots);
    session.output.good_news(format!(
        "{} in {}",
        counted(snapshots.len() as u64, "snapshot"),
        repository.location()
    ));
    Ok(Done {
        code: if damaged == 0 {
            ExitCode::Done
        } else {
            ExitCode::Damage
        },
        fields: json!({"repository": repository.location(), "snapshots": snapshots.len(), "damaged": damaged}),
    })
}

/// Of each series the newest, if it is of the future: it hides those that are made now.
fn tell_future(session: &Session, snapshots: &[Snapshot]) {
    let backups = snapshots.iter().filter(|snapshot| !snapshot.is_record());
    let newest: BTreeMap<Group, &Snapshot> = backups
        .map(|snapshot| (Group::of_snapshot(snapshot), snapshot))
        .collect();
    let now = session.services.clock.now();
    for snapshot in newest.into_values() {
        snapshot.tell_future(now, session.output.as_ref());
    }
}

/// What was proved. The list is there without it, so what cannot be read is told and no more.
fn proofs(
    session: &Session,
    repository: &Repository,
    snapshots: &[Snapshot],
) -> Result<BTreeMap<Id, Proof>> {
    let monitor = session.output.as_ref();
    if !snapshots.iter().any(Snapshot::is_record) {
        return Ok(BTreeMap::new());
    }
    let read = repository
        .load_index(monitor)
        .and_then(|index| records::proofs(repository, &index, snapshots, monitor));
    match read {
        Err(cause @ Error::Storage { .. }) => {
            monitor.problem(Problem {
                item: "records".to_owned(),
                finding: format!("what was proved cannot be told: {cause}"),
                incomplete: false,
            });
            Ok(BTreeMap::new())
        }
        other => other,
    }
}

fn object(snapshot: &Snapshot, proof: Option<&Proof>) -> serde_json::Value {
    let file = &snapshot.file;
    json!({
        "id": snapshot.id,
        "short_id": snapshot.id.short(),
        "time": file.time,
        "host": file.hostname,
        "tags": file.tags,
        "paths": file.paths,
        "program": file.program_version,
        "total_bytes": file.summary.map(|summary| summary.total_bytes_processed),
        "total_files": file.summary.map(|summary| summary.total_files_processed),
        "proof_level": proof.map(|proof| proof.level),
        "proof_time": proof.map(|proof| proof.time),
        "is_record": snapshot.is_record(),
    })
}

fn print_table(session: &Session, snapshots: &[Snapshot], proofs: &BTreeMap<Id, Proof>) {
    let rows = snapshots
        .iter()
        .map(|snapshot| {
            let file = &snapshot.file;
            let size = file.summary.map_or(String::new(), |summary| {
                ByteSize(summary.total_bytes_processed).to_string()
            });
            let proof = proofs.get(&snapshot.id);
            [
                snapshot.id.short(),
                format!("{:.0}", file.time),
                cell(&file.hostname),
                cell(&file.tags.join(",")),
                size,
                proof.map_or("-", |proof| proof.level.name()).to_owned(),
                cell(&file.paths.join(" ")),
            ]
        })
        .collect();
    let head = ["ID", "Time (UTC)", "Host", "Tags", "Size", "Proof", "Paths"];
    table::print(&session.output, head, rows);
}
