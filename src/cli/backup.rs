//! `backup`: one consistent snapshot of paths, or one of each shop.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::Done;
use super::args;
use super::session::Session;
use super::shops;
use crate::backup::{self, Options, Outcome};
use crate::chunker::PageChunks;
use crate::config::{self, RepositoryChoice};
use crate::error::{Error, ExitCode, Result};
use crate::repository::lock::host_name;
use crate::source::sqlite;
use crate::units::{ByteSize, counted, shown};

pub fn run(session: &Session, args: &args::Backup) -> Result<Done> {
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
    let (paths, shops): (Vec<&PathBuf>, Vec<&PathBuf>) =
        args.what.iter().partition(|word| is_path(word));
    let shops: Vec<String> = shops.into_iter().map(|word| shown(word)).collect();
    if paths.is_empty() {
        return shops::back_up(session, &shops, args);
    }
    if let Some(shop) = shops.first() {
        return Err(Error::Usage {
            finding: format!("`{shop}` is the name of a shop, and the other words are paths"),
            next: format!(
                "back up shops and paths one after the other; for the file or folder of that name type ./{shop}"
            ),
        });
    }
    let paths: Result<Vec<PathBuf>> = paths
        .into_iter()
        .map(|path| config::absolute(path))
        .collect();
    let paths = paths?;
    let choice = session.choice()?;
    let repository = session.open_chosen(&choice)?;
    let options = options(session, &choice, paths, args)?;
    let outcome = backup::backup(&repository, &options, session.output.as_ref())?;
    session.output.finish();
    tell(session, &repository.location(), &outcome);
    Ok(Done {
        code: code(&outcome),
        fields: outcome_fields(&repository.location(), &outcome),
    })
}

/// A positional word with a slash is a path; any other is the name of a shop.
fn is_path(word: &Path) -> bool {
    word.as_os_str().as_encoded_bytes().contains(&b'/')
        || matches!(
            word.components().next(),
            Some(Component::CurDir | Component::ParentDir)
        )
}

/// How these paths are backed up to that repository.
pub fn options(
    session: &Session,
    choice: &RepositoryChoice,
    paths: Vec<PathBuf>,
    args: &args::Backup,
) -> Result<Options> {
    let real = std::fs::canonicalize(&choice.path).into_iter();
    let cache = session.cache_of(choice)?.map(|(folder, _)| folder);
    Ok(Options {
        paths,
        excluded: real.chain([choice.path.clone()]).chain(cache).collect(),
        recognition: args.reading.recognition(),
        tags: args.tag.clone(),
        host: args.host.clone().unwrap_or_else(host_name),
        sqlite: sqlite::Options {
            chunks: PageChunks::BySize,
            scratch: Session::scratch_folder(),
            page_table: true,
            disk: Arc::clone(&session.disk),
            rng: Arc::clone(&session.services.rng),
            clock: Arc::clone(&session.services.clock),
            limits: sqlite::Limits::default(),
            on_a_network: sqlite::is_on_a_network,
            watch: Some(session.monitor()),
        },
    })
}

/// What a backup ends with.
pub fn code(outcome: &Outcome) -> ExitCode {
    if outcome.is_suspect() {
        ExitCode::Suspect
    } else if outcome.is_complete() {
        ExitCode::Done
    } else {
        ExitCode::Incomplete
    }
}

pub fn tell(session: &Session, location: &str, outcome: &Outcome) {
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
    let common = manifest.databases.iter().filter(|one| one.common_point);
    if let count @ 2.. = common.count() {
        session.output.good_news(format!(
            "{count} databases as of one moment: each transaction is in all of them, or in none"
        ));
    }
    session.output.good_news(format!(
        "files: {} in {}, {}",
        manifest.files.files,
        counted(manifest.files.folders, "folder"),
        ByteSize(manifest.files.bytes)
    ));
    let state = match (outcome.is_complete(), outcome.is_suspect()) {
        (true, false) => "saved",
        (false, false) => "saved, but incomplete",
        (true, true) => "saved, but suspect",
        (false, true) => "saved, but incomplete and suspect",
    };
    let last = format!(
        "snapshot {} {state} in {} ({} new, {} stored) to {location}",
        outcome.snapshot.id.short(),
        session.output.elapsed(),
        ByteSize(outcome.added.added_bytes),
        ByteSize(outcome.added.stored_bytes),
    );
    if outcome.is_complete() && !outcome.is_suspect() {
        session.output.good_news(last);
    } else {
        // Only success is silent with -q.
        session.output.line(last);
    }
}

pub fn outcome_fields(location: &str, outcome: &Outcome) -> serde_json::Value {
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
                "common_point": database.common_point,
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
        "suspect": outcome.is_suspect(),
        "parent_id": outcome.snapshot.file.parent,
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
