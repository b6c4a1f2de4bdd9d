//! Every database first, each through its own engine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Options;
use crate::capture::Survey;
use crate::capture::manifest::{self, Database};
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Problem, Progress, go_on};
use crate::repository::tree_writer::{PendingFile, StoredFile};
use crate::repository::writer::Writer;
use crate::source::sqlite;

/// A database whose image is in the writer's hands.
#[derive(Debug)]
pub struct StoredDatabase {
    /// Its image.
    pub file: StoredFile,
    /// What the manifest says of it.
    pub described: Database,
}

/// Captures all databases of the survey. One that was found in a folder and fails is `None`: left
/// out and named, never copied as a file.
///
/// # Errors
/// [`Error::Source`] if one that was asked for by name fails; those of the writer.
pub fn capture_all(
    survey: &Survey,
    options: &Options,
    writer: &Writer,
    monitor: &dyn Monitor,
) -> Result<BTreeMap<PathBuf, Option<StoredDatabase>>> {
    let mut stored = BTreeMap::new();
    for (path, named) in &survey.databases {
        let captured = match capture(path, &survey.walk.real(path), options, writer, monitor) {
            Ok(captured) => Some(captured),
            // Its own fault, or that of the disk for its spool: the rest is saved.
            Err(cause @ (Error::Source { .. } | Error::File { .. })) if !named => {
                let finding = match &cause {
                    Error::Source { finding, .. } => finding.clone(),
                    other => other.to_string(),
                };
                monitor.problem(left_out(path, &finding));
                None
            }
            Err(cause) => return Err(cause),
        };
        stored.insert(path.clone(), captured);
    }
    Ok(stored)
}

/// What the manifest says of the databases that are in the snapshot. One that was deleted after its
/// capture has no place there.
///
/// # Errors
/// [`Error::Source`] if it was asked for by name.
pub fn keep_placed(
    databases: BTreeMap<PathBuf, Option<StoredDatabase>>,
    placed: &BTreeSet<PathBuf>,
    survey: &Survey,
    monitor: &dyn Monitor,
) -> Result<Vec<Database>> {
    let mut kept = Vec::new();
    for (path, stored) in databases {
        let Some(stored) = stored else {
            continue;
        };
        if placed.contains(&path) {
            kept.push(stored.described);
            continue;
        }
        let finding = "it was deleted or exchanged during the backup";
        if survey.databases.get(&path) == Some(&true) {
            return Err(Error::Source {
                name: crate::units::shown(&path),
                finding: finding.to_owned(),
            });
        }
        monitor.problem(left_out(&path, finding));
    }
    Ok(kept)
}

fn left_out(path: &Path, finding: &str) -> Problem {
    Problem {
        item: crate::units::shown(path),
        finding: format!("this database was left out: {finding}"),
        incomplete: true,
    }
}

/// Captures the database that is stored as `path` and really lies at `real`.
///
/// # Errors
/// As [`sqlite::capture`], and those of the writer.
fn capture(
    path: &Path,
    real: &Path,
    options: &Options,
    writer: &Writer,
    monitor: &dyn Monitor,
) -> Result<StoredDatabase> {
    let mut pending = PendingFile::default();
    let mut lengths = Vec::new();
    let captured = sqlite::capture(real, &options.sqlite, &mut |chunk| {
        go_on(monitor)?;
        let length = chunk.len() as u64;
        lengths.push(length);
        pending.store(writer, chunk)?;
        monitor.progress(Progress {
            bytes: length,
            files: 0,
        });
        Ok(())
    })?;
    monitor.progress(Progress { bytes: 0, files: 1 });
    for warning in captured.warnings {
        monitor.problem(Problem {
            item: crate::units::shown(path),
            finding: warning,
            incomplete: false,
        });
    }
    if let Some(finding) = &captured.unsound {
        monitor.problem(Problem {
            item: crate::units::shown(path),
            finding: format!(
                "SQLite finds it damaged: {finding}; the snapshot is kept as suspect, and no good one makes room for it. Mend the database now, or restore it from a snapshot before this one"
            ),
            incomplete: false,
        });
    }
    let file = pending.wait(writer)?;
    let described = Database {
        engine: "sqlite".to_owned(),
        engine_version: sqlite::engine_version().to_owned(),
        path: manifest::quoted(path),
        method: captured.method,
        journal_mode: captured.journal_mode,
        point: captured.point,
        held_ms: u64::try_from(captured.held.as_millis()).unwrap_or(u64::MAX),
        size_bytes: captured.size_bytes,
        image_sha256: manifest::image_hash(lengths.into_iter().zip(file.blobs.iter().copied())),
        fingerprint: captured.fingerprint,
        header: captured.header,
        unsound: captured.unsound,
    };
    Ok(StoredDatabase { file, described })
}
