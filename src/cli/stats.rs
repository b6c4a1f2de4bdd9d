//! `stats`: how much snapshots hold.

use std::path::Path;

use serde_json::json;

use super::Done;
use super::args::{self, StatsMode};
use super::session::Session;
use super::several::{end_unread, several, tell_unread};
use crate::error::Result;
use crate::look::{self, Mode, Stats, Walk};
use crate::monitor::{Monitor, Step};
use crate::units::ByteSize;

pub fn run(session: &Session, args: &args::Stats) -> Result<Done> {
    let repository = session.open()?;
    let _lock = session.lock_if_possible(&repository);
    let monitor = session.output.as_ref();
    let found = repository.snapshots(monitor)?;
    let snapshots = several(session, &args.snapshots, &args.filter, &found)?;
    let index = repository.load_index(monitor)?;
    let mode = match args.mode {
        StatsMode::RestoreSize => Mode::RestoreSize,
        StatsMode::FilesByContents => Mode::FilesByContents,
        StatsMode::BlobsPerFile => Mode::BlobsPerFile,
        StatsMode::RawData => Mode::RawData,
    };
    monitor.step(Step::Looking, None);
    let walk = Walk::new(&repository, &index, monitor);
    let mut lost = |path: &Path, finding: &str| {
        tell_unread(session, None, path, finding);
    };
    let stats = look::stats(walk, &snapshots, mode, &mut lost)?;
    session.output.finish();
    tell(session, args.mode, snapshots.len(), &stats);
    session
        .output
        .good_news(format!("counted in {}", repository.location()));
    let damaged = if args.snapshots.is_empty() {
        found.damaged.len()
    } else {
        0
    };
    Ok(Done {
        code: end_unread(session, stats.lost, damaged),
        fields: json!({"repository": repository.location(), "damaged": damaged}),
    })
}

fn tell(session: &Session, mode: StatsMode, snapshots: usize, stats: &Stats) {
    let mode_name = mode.name();
    let mut fields = json!({
        "mode": mode_name,
        "snapshots": snapshots,
        "total_bytes": stats.bytes,
        "total_files": stats.files,
        "total_blobs": stats.blobs,
    });
    let mut rows = vec![("Snapshots", snapshots.to_string())];
    if stats.files > 0 {
        // Folders and links are counted, too, where all is counted that a restore would write.
        let name = if mode == StatsMode::RestoreSize {
            "Items"
        } else {
            "Files"
        };
        rows.push((name, stats.files.to_string()));
    }
    if stats.blobs > 0 {
        rows.push(("Blobs", stats.blobs.to_string()));
    }
    if mode == StatsMode::RawData {
        let shares = Shares::of(stats);
        fields["total_uncompressed_bytes"] = stats.uncompressed_bytes.into();
        fields["compression_ratio"] = shares.ratio.into();
        fields["compression_progress_percent"] = shares.progress.into();
        fields["compression_space_saving_percent"] = shares.saving.into();
        rows.extend([
            (
                "Uncompressed",
                ByteSize(stats.uncompressed_bytes).to_string(),
            ),
            ("Compressed so far", format!("{:.2}%", shares.progress)),
            ("Compression", format!("{:.2} to 1", shares.ratio)),
            ("Saved by it", format!("{:.2}%", shares.saving)),
        ]);
    }
    rows.push(("Size", ByteSize(stats.bytes).to_string()));
    session.output.object("stats", fields);
    session.output.line(format!("{mode_name}:"));
    for (name, value) in rows {
        session.output.line(format!("{name:>18}  {value}"));
    }
}

/// What compression does: as restic reckons it.
struct Shares {
    ratio: f64,
    progress: f64,
    saving: f64,
}

impl Shares {
    #[allow(clippy::cast_precision_loss, reason = "shares of a whole")]
    fn of(stats: &Stats) -> Self {
        let share = |part: u64, whole: u64| match whole {
            0 => 0.0,
            whole => part as f64 / whole as f64,
        };
        let (stored, plain) = stats.compressed;
        let saving = match stats.uncompressed_bytes {
            0 => 0.0,
            whole => 1.0 - share(stats.bytes, whole),
        };
        Self {
            ratio: share(plain, stored),
            progress: share(plain, stats.uncompressed_bytes) * 100.0,
            saving: saving * 100.0,
        }
    }
}
