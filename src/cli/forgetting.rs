//! Snapshots of one repository go: decided, told, removed. `forget` and the shops do it alike.

use std::collections::BTreeSet;

use serde_json::json;

use super::args::{self, Filter};
use super::decided::Decided;
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
use crate::retention::{HistoryFile, Moment, Policy, Remembered};

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
    let decided = Decided::of(&plan, &snapshots, args.dry_run);
    decided.tell(session, &plan);
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
    let code = decided.end(session, &repository.location(), refusal);
    Ok((code, decided.fields(&repository.location())))
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
