//! `snapshots`: list them.

use serde_json::json;

use super::Done;
use super::args::Filter;
use super::session::{Session, request};
use super::table::{self, cell};
use crate::error::{ExitCode, Result};
use crate::repository::snapshot::Snapshot;
use crate::units::{ByteSize, counted};

pub fn run(session: &Session, filter: &Filter) -> Result<Done> {
    let repository = session.open()?;
    let found = repository.snapshots(session.output.as_ref())?;
    let damaged = found.damaged.len();
    let snapshots = request("", filter).filter(found.readable);
    session.output.finish();
    for snapshot in &snapshots {
        session.output.object("snapshot", object(snapshot));
    }
    print_table(session, &snapshots);
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

fn object(snapshot: &Snapshot) -> serde_json::Value {
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
    })
}

fn print_table(session: &Session, snapshots: &[Snapshot]) {
    let rows = snapshots
        .iter()
        .map(|snapshot| {
            let file = &snapshot.file;
            let size = file.summary.map_or(String::new(), |summary| {
                ByteSize(summary.total_bytes_processed).to_string()
            });
            [
                snapshot.id.short(),
                format!("{:.0}", file.time),
                cell(&file.hostname),
                cell(&file.tags.join(",")),
                size,
                cell(&file.paths.join(" ")),
            ]
        })
        .collect();
    let head = ["ID", "Time (UTC)", "Host", "Tags", "Size", "Paths"];
    table::print(&session.output, head, rows);
}
