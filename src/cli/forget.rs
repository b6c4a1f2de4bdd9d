//! `forget`: snapshots go that a policy does not keep, or that are named.

use std::collections::BTreeSet;

use serde_json::json;

use super::Done;
use super::args::{self, Filter, Keep};
use super::session::{Session, request};
use crate::config;
use crate::error::{Error, ExitCode, Result};
use crate::forget::{Circumstances, NoRoom, Plan};
use crate::id::Id;
use crate::monitor::{Monitor, Noted, Problem, go_on};
use crate::records;
use crate::repository::Repository;
use crate::repository::lock::{Access, Alone, Lock};
use crate::repository::snapshot::Snapshots;
use crate::restore::select;
use crate::retention::{
    Decision, Described, HistoryFile, Judged, Moment, Policy, Reason, Remembered, Rules,
};
use crate::units::{Shown, counted};

/// Most doubtful snapshots of a series that people are shown; `--json` has all.
const MAX_SHOWN: usize = 20;

pub fn run(session: &Session, args: &args::Forget) -> Result<Done> {
    if args.snapshots.is_empty() && args.keep.is_empty() && session.knows_shops()? {
        return super::shops::forget(session, args);
    }
    // Words that do not fit are refused before anything is read.
    let policy = match args.snapshots[..] {
        [] => Some(policy(&args.keep)?),
        _ => None,
    };
    let repository = session.open()?;
    let (code, fields) = forget(session, &repository, policy.as_ref(), args, &args.filter)?;
    Ok(Done { code, fields })
}

/// Removes what the policy does not keep of what the filter leaves; or without a policy, what is named.
pub fn forget(
    session: &Session,
    repository: &Repository,
    policy: Option<&Policy>,
    args: &args::Forget,
    filter: &Filter,
) -> Result<(ExitCode, serde_json::Value)> {
    let file = history_file(repository)?;
    // An exclusive lock keeps away whoever builds on what is removed, restores among them.
    let lock = if args.dry_run {
        None
    } else {
        Some(lock(session, repository)?)
    };
    let snapshots = repository.snapshots(session.output.as_ref())?;
    session.output.finish();
    let remembered = file.read(session.disk.as_ref())?;
    tell_memory(session, &file, &remembered);
    let facts = Facts::read(session, repository, &snapshots)?;
    if facts.is_doubtful && policy.is_some() && !args.trust_history {
        return Err(Error::ProofsUncertain);
    }
    let circumstances = Circumstances {
        snapshots: &snapshots,
        proven: &facts.proven,
        hollow: &facts.hollow,
        history: remembered.history(),
        moment: Moment {
            now: session.services.clock.now(),
            trust_history: args.trust_history,
        },
    };
    let plan = if let Some(policy) = policy {
        let selected = selected(filter, &snapshots)?;
        Plan::by_policy(policy, &selected, circumstances).with_needless(facts.needless)
    } else {
        Plan::by_name(&named(args, &snapshots)?, circumstances)?
    };
    let told = Told::of(&plan, &snapshots, args.dry_run);
    told.tell(session, &plan);
    let refusal = refusal(&plan);
    if let Some(lock) = lock {
        let gone = &mut |id: Id| {
            session.output.object("removed", json!({"id": id}));
        };
        let (disk, monitor) = (session.disk.as_ref(), session.output.as_ref());
        match lock {
            Ok(lock) => plan.execute(repository, &lock, &file, disk, monitor, gone)?,
            Err(room) => {
                plan.execute_without_room(repository, room, &file, disk, monitor, gone)?;
            }
        }
    }
    let code = told.end(session, &repository.location(), refusal);
    Ok((code, told.fields(&repository.location())))
}

/// The exclusive lock; or where no byte is left for it, what is there now.
fn lock(session: &Session, repository: &Repository) -> Result<std::result::Result<Lock, NoRoom>> {
    match repository.lock(Access::Exclusive, session.output.as_ref()) {
        Ok(lock) => Ok(Ok(lock)),
        Err(cause @ Error::Storage { full: true, .. }) => {
            let seen = Alone::look(repository)?;
            Ok(Err(NoRoom { cause, seen }))
        }
        Err(cause) => Err(cause),
    }
}

fn policy(keep: &Keep) -> Result<Policy> {
    let number = |number: Option<u32>| number.unwrap_or(0);
    let tags = |list: &String| list.split(',').map(|tag| tag.trim().to_owned()).collect();
    Policy::new(Rules {
        last: number(keep.last),
        hourly: number(keep.hourly),
        daily: number(keep.daily),
        weekly: number(keep.weekly),
        monthly: number(keep.monthly),
        yearly: number(keep.yearly),
        within: keep.within,
        tags: keep.tags.iter().map(tags).collect(),
    })
}

/// Where this machine remembers what it has seen of the repository.
fn history_file(repository: &Repository) -> Result<HistoryFile> {
    let Some(folder) = config::state_folder(&config::environment) else {
        return Err(Error::Usage {
            finding: "there is no place to remember what this run sees".to_owned(),
            next: "set HOME, or XDG_STATE_HOME to a folder that stays".to_owned(),
        });
    };
    Ok(HistoryFile::new(&folder, &repository.config()?.id))
}

fn tell_memory(session: &Session, file: &HistoryFile, remembered: &Remembered) {
    match remembered {
        Remembered::History(_) => {}
        Remembered::Nothing => session.output.note(
            "the first run on this machine: from the next on, what has come in since is told apart",
        ),
        Remembered::Damaged(finding) => session.output.problem(Problem {
            item: crate::units::shown(&file.path()),
            finding: format!(
                "what earlier runs have noted cannot be used ({finding}): this one counts as the first"
            ),
            incomplete: false,
        }),
    }
}

/// What the repository says of the snapshots.
#[derive(Default)]
struct Facts {
    /// Those that a restore has proved whole.
    proven: BTreeSet<Id>,
    /// Records that later ones say again.
    needless: BTreeSet<Id>,
    /// Whether a record could not be read, or is of nobody's making: it may be the one that counts.
    is_doubtful: bool,
    /// Those whose root folder cannot be read.
    hollow: BTreeSet<Id>,
}

impl Facts {
    fn read(session: &Session, repository: &Repository, snapshots: &Snapshots) -> Result<Self> {
        let (all, monitor) = (&snapshots.readable, session.output.as_ref());
        let mut facts = Self::default();
        if all.is_empty() {
            return Ok(facts);
        }
        let index = repository.load_index(monitor)?;
        let noted = Noted::new(monitor);
        let proofs = records::proofs(repository, &index, all, &noted)?;
        let whole = proofs.into_iter().filter(|(_, proof)| proof.complete);
        facts.proven = whole.map(|(id, _)| id).collect();
        facts.is_doubtful = !noted.take().is_empty();
        facts.needless = records::superseded(repository, &index, all, monitor)?;
        for snapshot in all.iter().filter(|one| !one.is_record()) {
            go_on(monitor)?;
            match repository.read_tree(&index, snapshot.file.tree) {
                Err(cause @ Error::Damaged { .. }) => {
                    facts.hollow.insert(snapshot.id);
                    monitor.problem(Problem {
                        item: format!("snapshot {}", snapshot.id.short()),
                        finding: format!(
                            "nothing of it can be restored, so it is no good one: {cause}"
                        ),
                        incomplete: false,
                    });
                }
                other => drop(other?),
            }
        }
        Ok(facts)
    }
}

/// The snapshots that the filters leave.
fn selected(filter: &Filter, snapshots: &Snapshots) -> Result<BTreeSet<Id>> {
    let fitting = request("", filter).filter(snapshots.readable.clone());
    if fitting.is_empty() && !filter.is_empty() {
        return Err(Error::NoSnapshot {
            wanted: "--shop, --host, --path and --tag".to_owned(),
        });
    }
    Ok(fitting.iter().map(|snapshot| snapshot.id).collect())
}

/// The snapshots that are named.
fn named(args: &args::Forget, snapshots: &Snapshots) -> Result<BTreeSet<Id>> {
    let find = |word: &String| {
        if word == "latest" {
            return Err(Error::Usage {
                finding: "`latest` is no id, and what is removed is named by its id".to_owned(),
                next: "`tillsafe snapshots` lists them".to_owned(),
            });
        }
        let begins = |id: &Id| id.to_string().starts_with(word.as_str());
        let readable = snapshots.readable.iter().filter(|one| begins(&one.id));
        let damaged = snapshots.damaged.iter().filter(|id| begins(id));
        let candidates = Snapshots {
            readable: readable.cloned().collect(),
            damaged: damaged.copied().collect(),
        };
        select(&request(word, &args.filter), candidates).map(|snapshot| snapshot.id)
    };
    args.snapshots.iter().map(find).collect()
}

/// Why something was not done, if so.
fn refusal(plan: &Plan) -> Option<Error> {
    let mut refused = plan.refused();
    let (group, flood) = refused.next()?;
    Some(Error::ImplausibleHistory {
        group: group.to_string(),
        finding: flood.to_string(),
        others: refused.count() as u64,
    })
}

/// What a run has decided, counted.
struct Told {
    dry_run: bool,
    kept: u64,
    going: u64,
    doubtful: u64,
    refused: u64,
    damaged: u64,
    /// Snapshots that are no backups: they hold records of proofs.
    records: BTreeSet<Id>,
}

impl Told {
    fn of(plan: &Plan, snapshots: &Snapshots, dry_run: bool) -> Self {
        let decisions = || plan.judged.iter().flat_map(|one| &one.decisions);
        let doubtful = decisions().filter(|(_, decision)| decision.doubt().is_some());
        let goes: BTreeSet<Id> = plan.going().iter().copied().collect();
        let backups = snapshots.readable.iter().filter(|one| !one.is_record());
        let records = snapshots.readable.iter().filter(|one| one.is_record());
        Self {
            dry_run,
            kept: backups.filter(|one| !goes.contains(&one.id)).count() as u64,
            going: goes.len() as u64,
            records: records.map(|one| one.id).collect(),
            doubtful: doubtful.count() as u64,
            refused: plan.refused().count() as u64,
            damaged: snapshots.damaged.len() as u64,
        }
    }

    fn tell(&self, session: &Session, plan: &Plan) {
        for judged in &plan.judged {
            self.tell_series(session, judged);
        }
        if plan.judged.is_empty() {
            for id in plan.going() {
                let what = if self.records.contains(id) {
                    ": records of what was proved, no backup"
                } else {
                    ""
                };
                let (verb, short) = (self.verb(), id.short());
                let line = format!("{verb} {short}{what}");
                if self.dry_run {
                    session.output.line(line);
                } else {
                    session.output.good_news(line);
                }
                session.output.object(
                    "decision",
                    json!({"id": id, "short_id": short, "removed": true, "reasons": ["named"]}),
                );
            }
        }
    }

    const fn verb(&self) -> &'static str {
        if self.dry_run {
            "would remove"
        } else {
            "remove"
        }
    }

    fn tell_series(&self, session: &Session, judged: &Judged) {
        let output = &session.output;
        let group = judged.group.to_string();
        let (kept, going) = (judged.kept().count() as u64, judged.going().count() as u64);
        output.good_news(format!("{group}: keep {kept}, {} {going}", self.verb()));
        let mut doubtful = 0;
        for (one, decision) in &judged.decisions {
            output.object("decision", object(one, decision, &group));
            let line = line(one, decision);
            if self.dry_run {
                output.line(&line);
            } else if decision.goes() {
                output.good_news(line);
            } else if let Some(doubt) = decision.doubt() {
                doubtful += 1;
                if doubtful <= MAX_SHOWN {
                    output.problem(Problem {
                        item: format!("snapshot {} of {:.0}", one.id.short(), one.time),
                        finding: format!("{doubt}; it is neither counted nor removed"),
                        incomplete: false,
                    });
                }
            }
        }
        if doubtful > MAX_SHOWN {
            output.problem(Problem {
                item: group.clone(),
                finding: format!("and so with {} more", doubtful - MAX_SHOWN),
                incomplete: false,
            });
        }
        output.object(
            "series",
            json!({
                "group": group,
                "kept": kept,
                "removed": going,
                "refused": judged.flood.map(|flood| flood.to_string()),
            }),
        );
    }

    /// Says how it ended; returns the exit code.
    fn end(&self, session: &Session, location: &str, refusal: Option<Error>) -> ExitCode {
        let done = if self.dry_run {
            "would go from"
        } else {
            "removed from"
        };
        session.output.good_news(format!(
            "{} {done} {location}, {} left",
            counted(self.going, "snapshot"),
            self.kept
        ));
        if self.going > 0 && !self.dry_run {
            session
                .output
                .good_news(session.typed("`tillsafe prune` frees what only they needed"));
        }
        if let Some(refusal) = refusal {
            session.fail(refusal.into());
        }
        if self.damaged > 0 {
            session.output.line(format!(
                "{} cannot be read: named above, not removed, and not counted as a backup",
                counted(self.damaged, "snapshot")
            ));
            return ExitCode::Damage;
        }
        if self.refused > 0 {
            return ExitCode::Refused;
        }
        ExitCode::Done
    }

    fn fields(&self, location: &str) -> serde_json::Value {
        json!({
            "repository": location,
            "dry_run": self.dry_run,
            "kept": self.kept,
            "removed": self.going,
            "doubtful": self.doubtful,
            "refused_series": self.refused,
            "damaged": self.damaged,
        })
    }
}

fn line(one: &Described, decision: &Decision) -> String {
    let mark = if one.is_good { "" } else { "not good; " };
    let (verb, reasons) = if decision.goes() {
        ("remove", "no rule keeps it".to_owned())
    } else {
        ("keep", words(decision).join(", "))
    };
    format!(
        "  {verb:6}  {}  {:.0}  {mark}{}",
        one.id.short(),
        one.time,
        Shown(reasons.as_bytes())
    )
}

fn object(one: &Described, decision: &Decision, group: &str) -> serde_json::Value {
    json!({
        "id": one.id,
        "short_id": one.id.short(),
        "time": one.time,
        "group": group,
        "good": one.is_good,
        "proven": one.is_proven,
        "removed": decision.goes(),
        "doubtful": decision.doubt().is_some(),
        "reasons": words(decision),
    })
}

fn words(decision: &Decision) -> Vec<String> {
    decision.reasons.iter().map(Reason::to_string).collect()
}
