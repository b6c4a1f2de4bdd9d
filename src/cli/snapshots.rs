//! `snapshots`: list them.

use serde_json::json;

use super::Done;
use super::args::Filter;
use super::session::{Session, request};
use crate::error::{ExitCode, Result};
use crate::repository::snapshot::Snapshot;
use crate::units::{ByteSize, Shown, counted};

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
    let rows: Vec<[String; 6]> = snapshots
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
    let head = ["ID", "Time (UTC)", "Host", "Tags", "Size", "Paths"].map(str::to_owned);
    let widths: Vec<usize> = (0..6)
        .map(|column| {
            rows.iter()
                .chain([&head])
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in [&head].into_iter().chain(&rows) {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        session.output.line(cells.join("  ").trim_end());
    }
}

/// Text of a snapshot as a table shows it. Its length is in nobody's hands, and all rows of a column are
/// as long as the longest: `--json` has the whole.
fn cell(text: &str) -> String {
    const MOST: usize = 1000;
    let cut = text
        .char_indices()
        .nth(MOST)
        .map_or(text, |(at, _)| &text[..at]);
    let mark = if cut.len() < text.len() { " …" } else { "" };
    format!("{}{mark}", Shown(cut.as_bytes()))
}
