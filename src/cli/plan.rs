//! The plan of a restore, as it is printed and hashed before anything is written.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::Done;
use super::args;
use super::hooks::Hooks;
use super::lost::{self, tell_lost};
use super::session::Session;
use crate::error::{Error, ExitCode, Result};
use crate::hook::When;
use crate::id::Id;
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::snapshot::Snapshot;
use crate::restore::in_place::{DatabaseChange, InPlace, NotCounted, Paths, Root};
use crate::restore::{Estimate, Foreseen, Lost, Measured, Missing, Plan, Target};
use crate::units::{ByteSize, OneLine, Span, counted, quoted, shown};

/// Digits of a hash that are printed, and fewest that are taken.
const DIGITS: usize = 16;
/// Most of what a snapshot lacks that is shown one by one; `--json` has all.
const MAX_SHOWN: usize = 20;

/// Prints what a restore into a target would do; fails with what it would fail with.
pub fn tell_target(
    session: &Session,
    repository: &Repository,
    index: &Index,
    plan: &Plan,
    target: &Target,
    from: &str,
) -> Result<Done> {
    let disk = session.disk.as_ref();
    let Foresight { estimate, losses } = Foresight::of(session, repository, index, &[plan])?;
    let lost = all_lost(&losses);
    let hash = target.plan_hash(plan);
    let lacks = tell_snapshot(session, repository, &[plan], hash);
    let output = &session.output;
    output.line(format!(
        "  to         {}: {}",
        shown(target.path()),
        target.words()
    ));
    tell_amount(session, plan.files, plan.bytes, &losses);
    output.line("  replaces   nothing");
    tell_lost(session, &lost);
    let free_bytes = target.free_bytes(disk);
    tell_room(session, plan.needed_bytes(), free_bytes);
    let estimate = tell_time(session, estimate);
    let mut fields = json!({
        "plan": short(hash),
        "snapshot_id": plan.snapshot.id,
        "snapshot_time": plan.snapshot.file.time,
        "target": target.path().to_string_lossy(),
        "in_place": false,
        "lacks": lacks,
        "lost_items": lost.len(),
        "files": plan.files,
        "total_bytes": plan.bytes,
        "needed_bytes": plan.needed_bytes(),
        "free_bytes": free_bytes,
        "seconds": estimate,
    });
    output.object("plan", fields.clone());
    if let Some(free_bytes) = free_bytes.filter(|free| *free < plan.needed_bytes()) {
        return Err(Error::NoRoom {
            path: target.path().to_owned(),
            needed_bytes: plan.needed_bytes(),
            free_bytes,
        });
    }
    let flags = format!(
        "{from} --target {} --plan {}",
        quoted(target.path()),
        short(hash)
    );
    tell_command(session, &flags);
    fields["repository"] = repository.location().into();
    let rest =
        "nothing was written; as far as index and packs tell, everything else can be brought back";
    Ok(Done {
        code: lost::end(session, &lost, rest.to_owned(), ExitCode::Done),
        fields,
    })
}

/// Prints what a restore in place would do. What is open is no obstacle if a hook will close it.
pub fn tell_in_place(
    session: &Session,
    repository: &Repository,
    index: &Index,
    planned: &InPlace,
    hooks: &Hooks<'_>,
    from: &str,
) -> Result<Value> {
    let output = &session.output;
    let plans: Vec<&Plan> = planned.roots.iter().map(|root| &root.plan).collect();
    let Foresight { estimate, losses } = Foresight::of(session, repository, index, &plans)?;
    let lost = all_lost(&losses);
    let lacks = tell_snapshot(session, repository, &plans, planned.hash);
    if planned.is_unfinished() {
        output.line("  state      this restore was interrupted in its swap; it will be completed");
    }
    tell_amount(session, planned.files(), planned.bytes(), &losses);
    let mut changes = Vec::new();
    for (root, losses) in planned.roots.iter().zip(&losses) {
        let change = Change {
            databases: root.database_changes(),
            returning: root.returning(&losses.lost),
            root,
        };
        tell_root(session, &change);
        tell_lost(session, &losses.lost);
        changes.push(change);
    }
    let (mut needed, mut free) = (0, None);
    for room in &planned.room {
        tell_room(session, room.needed_bytes, room.free_bytes);
        needed += room.needed_bytes;
        free = free.or(room.free_bytes);
    }
    if planned.unseen_processes > 0 {
        output.line(format!(
            "  not seen   the open files of {} of other users; root sees them",
            counted(planned.unseen_processes, "process")
        ));
    }
    let estimate = tell_time(session, estimate);
    let fields = json!({
        "plan": short(planned.hash),
        "snapshot_id": planned.snapshot.id,
        "snapshot_time": planned.snapshot.file.time,
        "in_place": true,
        "lacks": lacks,
        "lost_items": lost.len(),
        "unfinished": planned.is_unfinished(),
        "files": planned.files(),
        "total_bytes": planned.bytes(),
        "needed_bytes": needed,
        "free_bytes": free,
        "seconds": estimate,
        "replaces": changes.iter().map(root_fields).collect::<Vec<_>>(),
    });
    output.object("plan", fields.clone());
    hooks.tell([When::BeforeRestore, When::AfterRestore]);
    require_fit(planned, hooks)?;
    if !planned.is_unfinished() {
        require_whole(&lost)?;
    }
    tell_command(
        session,
        &format!("{from} --in-place --plan {}", short(planned.hash)),
    );
    Ok(fields)
}

/// Fails if the plan cannot be carried out: too little room, or something open that no hook will close.
pub fn require_fit(planned: &InPlace, hooks: &Hooks<'_>) -> Result<()> {
    if hooks.has(When::BeforeRestore) {
        planned.require_saved()?;
        planned.require_room()
    } else {
        planned.require_fit()
    }
}

/// Fails if something cannot be brought back: then nothing is replaced.
fn require_whole(lost: &[Lost]) -> Result<()> {
    let Some(first) = lost.first() else {
        return Ok(());
    };
    Err(Error::NotWhole {
        count: lost.len(),
        first: shown(&first.path),
    })
}

/// The same of a plan that was printed before, from what index and packs tell, before anything is stopped or
/// staged for it; what is lost is told.
pub fn require_within_reach(
    session: &Session,
    repository: &Repository,
    index: &Index,
    planned: &InPlace,
) -> Result<()> {
    let mut lost = Vec::new();
    for root in planned.roots.iter().filter(|_| !planned.is_unfinished()) {
        let nothing = HashMap::new();
        let foreseen = root
            .plan
            .foreseen(repository, index, &nothing, session.output.as_ref())?;
        lost.extend(foreseen.lost);
    }
    tell_lost(session, &lost);
    require_whole(&lost)
}

/// What is known of a restore before it is begun.
struct Foresight {
    estimate: Option<Estimate>,
    /// Of each plan.
    losses: Vec<Foreseen>,
}

impl Foresight {
    fn of(
        session: &Session,
        repository: &Repository,
        index: &Index,
        plans: &[&Plan],
    ) -> Result<Self> {
        let monitor = session.output.as_ref();
        let Measured { estimate, damaged } = Estimate::measure(repository, index, plans, monitor)?;
        let losses = plans.iter();
        let losses = losses.map(|plan| plan.foreseen(repository, index, &damaged, monitor));
        Ok(Self {
            estimate,
            losses: losses.collect::<Result<_>>()?,
        })
    }
}

fn all_lost(losses: &[Foreseen]) -> Vec<Lost> {
    let lost = losses.iter().flat_map(|losses| &losses.lost);
    lost.cloned().collect()
}

/// What would become of one root.
struct Change<'a> {
    root: &'a Root,
    databases: Vec<DatabaseChange>,
    /// What comes back.
    returning: Paths,
}

/// Fails unless `wanted`, if given, is this plan.
pub fn require(wanted: Option<&String>, hash: Id) -> Result<()> {
    let Some(wanted) = wanted else {
        return Ok(());
    };
    if wanted.len() < DIGITS {
        return Err(Error::Usage {
            finding: format!("{wanted:?} is too short for a plan"),
            next: format!("give all {DIGITS} digits that --dry-run has printed"),
        });
    }
    if hash.to_string().starts_with(wanted.as_str()) {
        Ok(())
    } else {
        Err(Error::PlanChanged {
            wanted: wanted.clone(),
        })
    }
}

/// The digits of a hash that are printed.
pub fn short(hash: Id) -> String {
    hash.to_string()[..DIGITS].to_owned()
}

/// The words that name a snapshot and what of it.
pub fn from_words(snapshot: &Snapshot, base: &Path, choice: &args::Choice) -> String {
    let mut from = OsString::from(snapshot.id.short());
    if base != Path::new("/") {
        from.push(":");
        from.push(base);
    }
    let mut words = vec![quoted(from)];
    for (flag, patterns) in [
        ("--include", &choice.include),
        ("--exclude", &choice.exclude),
    ] {
        words.extend(
            patterns
                .iter()
                .map(|pattern| format!("{flag} {}", quoted(pattern))),
        );
    }
    words.join(" ")
}

fn tell_command(session: &Session, flags: &str) {
    session
        .output
        .line(session.typed(&format!("to do it: `tillsafe restore {flags}`")));
}

/// Prints which snapshot it is, and first of all what it lacks; returns that.
fn tell_snapshot(
    session: &Session,
    repository: &Repository,
    plans: &[&Plan],
    hash: Id,
) -> Vec<Value> {
    let output = &session.output;
    let Some(snapshot) = plans.first().map(|plan| &plan.snapshot) else {
        return Vec::new();
    };
    let now = repository.services().clock.now();
    let age = now.duration_since(snapshot.file.time);
    let age = Duration::try_from(age).map_or("of the future".to_owned(), |age| {
        format!("{} old", Span(age))
    });
    output.line(format!("plan {}", short(hash)));
    let missing: Vec<Missing> = plans.iter().map(|plan| plan.missing()).collect();
    tell_missing(session, &missing);
    output.line(format!(
        "  snapshot   {} of {:.0}, host {}, {age}; level: stored, proved when it is staged",
        snapshot.id.short(),
        snapshot.file.time,
        shown(snapshot.file.hostname.as_ref()),
    ));
    output.line(format!("  from       {}", repository.location()));
    let named = missing.iter().flat_map(|missing| &missing.named);
    named.map(|note| json!(note)).collect()
}

/// A snapshot that is not whole says so before all else.
fn tell_missing(session: &Session, missing: &[Missing]) {
    if missing.iter().all(Missing::is_empty) {
        return;
    }
    let output = &session.output;
    output.line("  INCOMPLETE the snapshot does not hold all that it was to hold");
    let notes = || missing.iter().flat_map(|missing| &missing.named);
    for note in notes().take(MAX_SHOWN) {
        output.line(format!(
            "    lacks: {}: {}",
            OneLine(&note.item),
            OneLine(&note.finding)
        ));
    }
    let more = notes().count().saturating_sub(MAX_SHOWN);
    if more > 0 {
        output.line(format!("    lacks: {more} more"));
    }
    if missing.iter().any(|missing| missing.unnamed) {
        output.line(
            "    lacks: what was left out when it was repaired or stored anew; nothing names it",
        );
    }
}

fn tell_amount(session: &Session, files: u64, bytes: u64, losses: &[Foreseen]) {
    let output = &session.output;
    let lost_files: u64 = losses.iter().map(|losses| losses.files).sum();
    let lost_bytes: u64 = losses.iter().map(|losses| losses.bytes).sum();
    let but = match losses.iter().map(|losses| losses.lost.len()).sum::<usize>() {
        0 => String::new(),
        lost => format!(
            "; {} CANNOT be brought back: see the lines that begin with lost",
            counted(lost as u64, "item")
        ),
    };
    output.line(format!(
        "  restores   {}, {}{but}",
        counted(files.saturating_sub(lost_files), "file"),
        ByteSize(bytes.saturating_sub(lost_bytes))
    ));
    output.line(
        "  looked at  folders, index, and the names and sizes of packs; that contents are whole is proved only by reading them",
    );
}

fn tell_room(session: &Session, needed_bytes: u64, free_bytes: Option<u64>) {
    let free = free_bytes.map_or("nobody knows how much is".to_owned(), |bytes| {
        ByteSize(bytes).to_string()
    });
    session.output.line(format!(
        "  room       {} needed, {free} free",
        ByteSize(needed_bytes)
    ));
}

fn tell_time(session: &Session, estimate: Option<Estimate>) -> Value {
    let Some(estimate) = estimate else {
        return Value::Null;
    };
    session.output.line(format!(
        "  time       {} to {} (from reading {} of it here, at {}/s)",
        Span(estimate.least),
        Span(estimate.most),
        ByteSize(estimate.sample_bytes),
        ByteSize(estimate.bytes_per_second)
    ));
    json!({"least": estimate.least.as_secs_f64(), "most": estimate.most.as_secs_f64()})
}

fn tell_root(session: &Session, change: &Change<'_>) {
    let Change {
        root,
        databases,
        returning,
    } = change;
    let output = &session.output;
    let survey = &root.survey;
    let path = shown(&root.spot.live);
    if !root.spot.live.exists() {
        output.line(format!("  replaces   {path}: nothing stands there"));
        return;
    }
    output.line(format!(
        "  replaces   {path}: {}, {}, kept aside",
        counted(survey.files, "file"),
        ByteSize(survey.bytes)
    ));
    for database in databases {
        let path = shown(&database.path);
        match &database.tables {
            Err(why) => output.line(format!(
                "    not counted: {path}: {}",
                why_not(*why, &database.path)
            )),
            Ok(tables) if tables.is_empty() => {
                output.line(format!("    as many rows as in the snapshot: {path}"));
            }
            Ok(tables) => {
                for change in tables {
                    output.line(format!(
                        "    {path}: table {}: {} now, {} in the snapshot",
                        crate::units::Shown(change.table.as_bytes()),
                        counted(change.rows_now, "row"),
                        change.rows_then
                    ));
                }
            }
        }
    }
    // By several descriptors of one process it is still open once.
    for open in BTreeSet::from_iter(root.open_databases()) {
        output.line(format!("    open: {open}"));
    }
    tell_paths(session, "NOT SAVED, and it stands there", &survey.unsaved);
    for (what, paths) in [
        ("changed since the snapshot", &survey.changed),
        ("comes back, nothing stands there now", returning),
        ("not in the snapshot", &survey.unknown),
        ("stays, left out of the snapshot by rule", &survey.left_out),
    ] {
        tell_paths(session, what, paths);
    }
}

/// Why rows are not counted, and how to have them counted.
fn why_not(why: NotCounted, path: &Path) -> String {
    match why {
        NotCounted::AtWork => "it is at work".to_owned(),
        NotCounted::NotInSnapshot => "the snapshot does not say what it held".to_owned(),
        NotCounted::Unreadable => "SQLite cannot read it".to_owned(),
        NotCounted::LogLeft => format!(
            "nobody has it open, but it was not closed (killed, or power gone), and its last changes are in the log beside it; as its owner, sqlite3 {} 'SELECT count(*) FROM sqlite_schema' brings them in, then plan again",
            quoted(path)
        ),
    }
}

/// Prints what paths of a kind there are: the first of them, and how many more.
pub fn tell_paths(session: &Session, what: &str, paths: &Paths) {
    for path in &paths.first {
        session.output.line(format!("    {what}: {}", shown(path)));
    }
    let others = paths.count - paths.first.len() as u64;
    if others > 0 {
        session.output.line(format!("    {what}: {others} more"));
    }
}

/// The same for programs.
pub fn paths_fields(paths: &Paths) -> Value {
    let first = paths.first.iter().map(|path| path.to_string_lossy());
    json!({"count": paths.count, "first": first.collect::<Vec<_>>()})
}

fn root_fields(change: &Change<'_>) -> Value {
    let Change {
        root,
        databases,
        returning,
    } = change;
    let survey = &root.survey;
    let paths = paths_fields;
    let databases: Vec<Value> = databases
        .iter()
        .map(|database| {
            let tables = database.tables.as_ref().ok().map(|tables| {
                let tables = tables.iter().map(|change| json!({"table": change.table, "rows_now": change.rows_now, "rows_then": change.rows_then}));
                tables.collect::<Vec<_>>()
            });
            json!({
                "path": database.path.to_string_lossy(),
                "changed_tables": tables,
                "not_counted": database.tables.as_ref().err(),
            })
        })
        .collect();
    json!({
        "path": root.spot.live.to_string_lossy(),
        "exists": root.spot.live.exists(),
        "files": survey.files,
        "total_bytes": survey.bytes,
        "changed": paths(&survey.changed),
        "comes_back": paths(returning),
        "not_in_snapshot": paths(&survey.unknown),
        "not_saved": paths(&survey.unsaved),
        "stays_left_out": paths(&survey.left_out),
        "databases": databases,
        "open": root.open_databases(),
    })
}
