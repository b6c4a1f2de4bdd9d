//! `backup`: one consistent snapshot.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::Done;
use super::args;
use super::session::Session;
use crate::backup::{self, Options, Outcome};
use crate::chunker::PageChunks;
use crate::config;
use crate::error::{Error, ExitCode, Result};
use crate::repository::lock::host_name;
use crate::source::sqlite;
use crate::units::{ByteSize, counted};

pub fn run(session: &Session, args: args::Backup) -> Result<Done> {
    let paths = args
        .paths
        .iter()
        .map(|path| source_path(path))
        .collect::<Result<Vec<PathBuf>>>()?;
    if let Some(tag) = args
        .tag
        .iter()
        .find(|tag| tag.is_empty() || tag.contains(','))
    {
        return Err(Error::Usage {
            finding: format!("{tag:?} is no tag: restic splits tags at commas"),
            next: "give --tag once for each tag".to_owned(),
        });
    }
    let repository = session.open()?;
    let own_folder = std::fs::canonicalize(session.choice()?.path).into_iter();
    let cache = session.cache()?.map(|(folder, _)| folder);
    let options = Options {
        paths,
        excluded: own_folder
            .chain([session.choice()?.path])
            .chain(cache)
            .collect(),
        recognition: args.reading.recognition(),
        tags: args.tag,
        host: args.host.unwrap_or_else(host_name),
        sqlite: sqlite::Options {
            chunks: PageChunks::BySize,
            scratch: Session::scratch_folder(),
            page_table: true,
            disk: Arc::clone(&session.disk),
            rng: Arc::clone(&session.services.rng),
            clock: Arc::clone(&session.services.clock),
        },
    };
    let outcome = backup::backup(&repository, &options, session.output.as_ref())?;
    session.output.finish();
    tell(session, &repository.location(), &outcome);
    let complete = outcome.is_complete();
    Ok(Done {
        code: if complete {
            ExitCode::Done
        } else {
            ExitCode::Incomplete
        },
        fields: fields(&repository.location(), &outcome),
    })
}

/// A positional word with a slash is a path; any other would be the name of a shop.
fn source_path(path: &Path) -> Result<PathBuf> {
    let is_path = path.as_os_str().as_encoded_bytes().contains(&b'/')
        || matches!(
            path.components().next(),
            Some(Component::CurDir | Component::ParentDir)
        );
    if !is_path {
        return Err(Error::Usage {
            finding: format!(
                "`{}` is the name of a shop, and shops are not part of this version",
                crate::units::shown(path)
            ),
            next: format!(
                "for the file or folder of that name type ./{}",
                crate::units::shown(path)
            ),
        });
    }
    config::absolute(path)
}

fn tell(session: &Session, location: &str, outcome: &Outcome) {
    let manifest = &outcome.manifest;
    for database in &manifest.databases {
        session.output.good_news(format!(
            "database {}: {}, {}, as of {:.0}",
            database.path,
            database.fingerprint.totals(),
            ByteSize(database.size_bytes),
            database.point.not_after,
        ));
    }
    session.output.good_news(format!(
        "files: {} in {}, {}",
        manifest.files.files,
        counted(manifest.files.folders, "folder"),
        ByteSize(manifest.files.bytes)
    ));
    let state = if outcome.is_complete() {
        "saved"
    } else {
        "saved, but incomplete"
    };
    let last = format!(
        "snapshot {} {state} in {} ({} new, {} stored) to {location}",
        outcome.snapshot.id.short(),
        session.output.elapsed(),
        ByteSize(outcome.added.added_bytes),
        ByteSize(outcome.added.stored_bytes),
    );
    if outcome.is_complete() {
        session.output.good_news(last);
    } else {
        // Only success is silent with -q.
        session.output.line(last);
    }
}

fn fields(location: &str, outcome: &Outcome) -> serde_json::Value {
    let manifest = &outcome.manifest;
    let summary = outcome.snapshot.file.summary.unwrap_or_default();
    let databases: Vec<serde_json::Value> = manifest
        .databases
        .iter()
        .map(|database| {
            json!({
                "path": database.path,
                "rows": database.fingerprint.totals().rows,
                "size_bytes": database.size_bytes,
                "not_before": database.point.not_before,
                "not_after": database.point.not_after,
            })
        })
        .collect();
    let images: u64 = manifest
        .databases
        .iter()
        .map(|database| database.size_bytes)
        .sum();
    json!({
        "repository": location,
        "snapshot_id": outcome.snapshot.id,
        "complete": outcome.is_complete(),
        "parent": outcome.snapshot.file.parent,
        "files_new": summary.files_new,
        "files_changed": summary.files_changed,
        "files_unmodified": summary.files_unmodified,
        "files": manifest.files.files + databases.len() as u64,
        "databases": databases,
        "folders": manifest.files.folders,
        "total_bytes": manifest.files.bytes + images,
        "added_bytes": outcome.added.added_bytes,
        "stored_bytes": outcome.added.stored_bytes,
        "incomplete": manifest.incomplete,
        "warnings": manifest.warnings,
    })
}
