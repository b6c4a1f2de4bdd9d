//! `backup`: one consistent snapshot of paths, or one of each shop.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::Done;
use super::args;
use super::output::path_fields;
use super::session::Session;
use super::shops;
use crate::backup::{self, Options, Outcome};
use crate::capture::left_out::LeftOut;
use crate::capture::manifest::{Database, ServerDatabase};
use crate::chunker::PageChunks;
use crate::config::excludes::excludes;
use crate::config::{self, RepositoryChoice};
use crate::error::{Error, ExitCode, Result};
use crate::repository::lock::host_name;
use crate::repository::name;
use crate::repository::snapshot::NEW_RULES;
use crate::source::files::exclude::Excludes;
use crate::source::sqlite;
use crate::units::{ByteSize, Shown, counted, shown};

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
    let excludes = excludes(&args.left_out.said(), None, &config::environment)?;
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
    let options = options(session, &choice, paths, excludes, args)?;
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
    excludes: Excludes,
    args: &args::Backup,
) -> Result<Options> {
    let real = std::fs::canonicalize(&choice.path).into_iter();
    Ok(Options {
        paths,
        excluded: (real.chain([choice.path.clone()]))
            .chain(session.own_folders()?)
            .collect(),
        memory: session.memory_of(choice),
        servers: Vec::new(),
        excludes,
        recognition: args.reading.recognition(),
        compression: args.storing.compression(),
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
            shown(&path_of(database)),
            database.fingerprint.totals(),
            ByteSize(database.size_bytes),
            database.point.not_after,
        ));
    }
    tell_common(session, &manifest.databases);
    for server in &manifest.servers {
        session.output.good_news(server_line(server));
    }
    session.output.good_news(format!(
        "files: {} in {}, {}",
        manifest.files.files,
        counted(manifest.files.folders, "folder"),
        ByteSize(manifest.files.bytes)
    ));
    tell_left_out(session, &outcome.left_out);
    if outcome.has_new_rules() {
        session.output.good_news(format!(
            "these rules are new here: the snapshot is marked {NEW_RULES}, and no whole one makes room for it; from the second one by them on they count as meant"
        ));
    }
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

fn server_line(server: &ServerDatabase) -> String {
    let passwords = if server.has_passwords {
        ""
    } else {
        "; its roles without their passwords, which only a superuser can read"
    };
    let replica = if server.facts.is_replica {
        "; of a server that follows another one"
    } else {
        ""
    };
    format!(
        "database {} ({}, PostgreSQL {}): {}, {}, as of {:.0}{passwords}{replica}",
        server.name,
        Shown(server.database.as_bytes()),
        server.facts.server_major,
        server.fingerprint.words(),
        ByteSize(server.dump_bytes),
        server.point.not_after,
    )
}

/// Which databases are of one moment.
fn tell_common(session: &Session, databases: &[Database]) {
    let common = databases.iter().filter(|one| one.common_point);
    let common: Vec<String> = common.map(|one| shown(&path_of(one))).collect();
    if common.len() < 2 {
        return;
    }
    let which = if common.len() == databases.len() {
        String::new()
    } else {
        format!(": {}", common.join(", "))
    };
    session.output.good_news(format!(
        "{} databases as of one moment{which}",
        common.len()
    ));
}

/// Its path as it is on the disk; a manifest has it as names in trees are.
fn path_of(database: &Database) -> PathBuf {
    name::unquote_path(&database.path).unwrap_or_else(|| PathBuf::from(&database.path))
}

/// What was left out by rule, in one line: the rules that have left out most, and how much each.
fn tell_left_out(session: &Session, left_out: &LeftOut) {
    const MOST: usize = 5;
    if left_out.rules.is_empty() {
        return;
    }
    let mut rules: Vec<_> = left_out.rules.iter().filter(|one| one.items > 0).collect();
    rules.sort_by_key(|one| std::cmp::Reverse(one.items));
    let words = rules.iter().take(MOST);
    let words = words.map(|one| format!("{} by {}", one.items, Shown(one.rule.as_bytes())));
    let more = rules.len().saturating_sub(MOST);
    let more = (more > 0).then(|| format!("and by {}", counted(more as u64, "other rule")));
    let words: Vec<String> = words.chain(more).collect();
    let what = match left_out.items() {
        0 => "nothing: no rule fitted".to_owned(),
        items => format!("{} ({})", counted(items, "item"), words.join(", ")),
    };
    session
        .output
        .good_news(format!("left out by rule: {what}"));
    tell_large(session, left_out);
}

/// The files that a limit has taken, largest first: one that grows is gone from some night on.
fn tell_large(session: &Session, left_out: &LeftOut) {
    /// Most that are shown unless asked for more.
    const MOST: usize = 5;
    let most = if session.output.is_verbose() {
        usize::MAX
    } else {
        MOST
    };
    let mut large: Vec<_> = left_out.large.iter().collect();
    large.sort_by_key(|(path, bytes)| (std::cmp::Reverse(**bytes), *path));
    for (path, bytes) in large.iter().take(most) {
        let size = ByteSize(**bytes);
        session
            .output
            .good_news(format!("  too large: {} ({size})", shown(path)));
    }
    if let more @ 1.. = large.len().saturating_sub(most) {
        session
            .output
            .good_news(format!("  too large: {more} more; -v names them"));
    }
}

pub fn outcome_fields(location: &str, outcome: &Outcome) -> serde_json::Value {
    let manifest = &outcome.manifest;
    let summary = outcome.snapshot.file.summary.unwrap_or_default();
    let databases: Vec<serde_json::Value> = manifest
        .databases
        .iter()
        .map(|database| {
            let mut fields = path_fields(&path_of(database));
            fields["rows"] = database.fingerprint.totals().rows.into();
            fields["size_bytes"] = database.size_bytes.into();
            fields["not_before"] = json!(database.point.not_before);
            fields["not_after"] = json!(database.point.not_after);
            fields["common_point"] = json!(database.common_point);
            fields
        })
        .collect();
    let servers: Vec<serde_json::Value> = manifest.servers.iter().map(server_fields).collect();
    let dumped: u64 = manifest.servers.iter().map(|server| server.bytes).sum();
    let dumped_files: u64 = manifest.servers.iter().map(|server| server.files).sum();
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
        "new_rules": outcome.has_new_rules(),
        "parent_id": outcome.snapshot.file.parent,
        "files_new": summary.files_new,
        "files_changed": summary.files_changed,
        "files_unmodified": summary.files_unmodified,
        "files": manifest.files.files + databases.len() as u64 + dumped_files,
        "databases": databases,
        "servers": servers,
        "excluded": excluded_fields(&outcome.left_out),
        "folders": manifest.files.folders,
        "total_bytes": manifest.files.bytes + images + dumped,
        "added_bytes": outcome.added.added_bytes,
        "stored_bytes": outcome.added.stored_bytes,
        "incomplete": manifest.incomplete,
        "warnings": manifest.warnings,
    })
}

fn server_fields(server: &ServerDatabase) -> serde_json::Value {
    json!({
        "name": server.name,
        "engine": server.engine,
        "method": server.method,
        "database": server.database,
        "path": server.path,
        "rows": server.fingerprint.rows(),
        "size_bytes": server.dump_bytes,
        "not_before": server.point.not_before,
        "not_after": server.point.not_after,
        "held_ms": server.held_ms,
    })
}

fn excluded_fields(left_out: &LeftOut) -> serde_json::Value {
    let rules = left_out.rules.iter().map(|one| {
        let first = one.first.as_ref().map(|path| path.to_string_lossy());
        json!({"rule": one.rule, "items": one.items, "first": first})
    });
    let databases = left_out.databases.iter();
    let databases = databases.map(|one| one.path.to_string_lossy());
    let large = left_out.large.iter().map(|(path, bytes)| {
        let mut fields = path_fields(path);
        fields["size_bytes"] = (*bytes).into();
        fields
    });
    json!({
        "items": left_out.items(),
        "rules": rules.collect::<Vec<_>>(),
        "databases": databases.collect::<Vec<_>>(),
        "large": large.collect::<Vec<_>>(),
    })
}
