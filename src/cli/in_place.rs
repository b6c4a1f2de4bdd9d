//! `restore --in-place`: a plan, consent, proved copies, the swap.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::Done;
use super::args;
use super::choose::{Chosen, choose};
use super::hooks::Hooks;
use super::lost::tell_lost;
use super::plan::{from_words, require, require_fit, require_within_reach, short, tell_in_place};
use super::proof::{exit_code, fields, proved, tell_databases};
use super::session::Session;
use crate::config::file::Configuration;
use crate::error::{Error, Result};
use crate::hook::{Hook, When};
use crate::monitor::{Monitor, Problem};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::snapshot::Snapshot;
use crate::restore::in_place::{InPlace, Swapped};
use crate::retention::Group;
use crate::units::{ByteSize, Shown, counted, shown};

pub fn run(session: &Session, args: &args::Restore) -> Result<Done> {
    let disk = session.disk.as_ref();
    let monitor = session.monitor();
    let Chosen {
        repository,
        index,
        snapshot,
        selection,
        proved,
        lock: _lock,
    } = choose(session, &args.snapshot, &args.filter, &args.choice)?;
    let plan = || {
        let mut planned = InPlace::plan(
            &repository,
            &index,
            &snapshot,
            &selection,
            disk,
            monitor.as_ref(),
        )?;
        for root in &mut planned.roots {
            root.plan.proved = proved;
        }
        Ok::<_, Error>(if args.accept_incomplete {
            planned.giving_up_unsaved()
        } else {
            planned
        })
    };
    let planned = plan()?;
    tell_servers(session, &planned, &snapshot);
    refuse_own_repository(session, &planned)?;
    let mut from = from_words(&snapshot, &selection.base, &args.choice);
    if args.accept_incomplete {
        from += " --accept-incomplete";
    }
    let configuration = configuration(session, &snapshot);
    let shop = shop_of(&snapshot);
    let hooks = Hooks {
        session,
        shop: &shop,
        list: hooks_of(configuration.as_deref(), &shop),
        repository: repository.location(),
    };
    if args.dry_run {
        let mut fields = tell_in_place(session, &repository, &index, &planned, &hooks, &from)?;
        fields["repository"] = repository.location().into();
        return Ok(Done::well(fields));
    }
    require(args.plan.as_ref(), planned.hash)?;
    require_fit(&planned, &hooks)?;
    if args.plan.is_some() {
        require_within_reach(session, &repository, &index, &planned)?;
    } else {
        tell_in_place(session, &repository, &index, &planned, &hooks, &from)?;
        ask(session, &planned)?;
    }
    let id = Some(snapshot.id);
    let before = hooks.before(When::BeforeRestore, id);
    let restored = before.and_then(|()| {
        if !hooks.has(When::BeforeRestore) {
            return restore(session, &repository, &index, planned);
        }
        // What was stopped has perhaps written its last: the plan is made of what is there now.
        let again = plan()?;
        if lives(&again) != lives(&planned) {
            let wanted = short(planned.hash);
            return Err(Error::PlanChanged { wanted });
        }
        again.require_fit()?;
        restore(session, &repository, &index, again)
    });
    session.output.finish();
    let done = restored.unwrap_or_else(|error| Done {
        code: session.fail(error.into()),
        fields: session.repository_field(),
    });
    Ok(Done {
        code: hooks.after(When::AfterRestore, done.code, id),
        ..done
    })
}

/// Databases of servers are no part of it: that is said, with what loads them.
fn tell_servers(session: &Session, planned: &InPlace, snapshot: &Snapshot) {
    for server in &planned.servers {
        session.output.problem(Problem {
            item: format!("the database {}", server.name),
            finding: format!(
                "is of a server, and not a part of a restore in place: tillsafe restore {} --database {}",
                snapshot.id.short(),
                server.name
            ),
            incomplete: false,
        });
    }
}

/// Where each thing is that is replaced.
fn lives(planned: &InPlace) -> Vec<PathBuf> {
    let roots = planned.roots.iter();
    roots.map(|root| root.spot.live.clone()).collect()
}

/// The shop that a snapshot says it is of; empty for none.
fn shop_of(snapshot: &Snapshot) -> String {
    match Group::of_snapshot(snapshot) {
        Group::Shop(name) => name,
        Group::Place { .. } => String::new(),
    }
}

/// The configuration, if hooks of it could be meant. A broken one stops no restore.
fn configuration(session: &Session, snapshot: &Snapshot) -> Option<Arc<Configuration>> {
    if shop_of(snapshot).is_empty() {
        return None;
    }
    session.configuration().unwrap_or_else(|cause| {
        session.output.problem(Problem {
            item: "hooks".to_owned(),
            finding: format!("none is run: {cause}"),
            incomplete: false,
        });
        None
    })
}

fn hooks_of<'a>(configuration: Option<&'a Configuration>, shop: &str) -> &'a [Hook] {
    let shop = configuration.and_then(|configuration| configuration.shops.get(shop));
    shop.map_or(&[], |shop| shop.hooks.as_slice())
}

fn restore(
    session: &Session,
    repository: &Repository,
    index: &Index,
    planned: InPlace,
) -> Result<Done> {
    let disk = session.disk.as_ref();
    let monitor = session.monitor();
    let (files, bytes) = (planned.files(), planned.bytes());
    let was_interrupted = planned.is_unfinished();
    let swapped = if was_interrupted {
        planned.finish(index, session.disk.as_ref(), &monitor)?
    } else {
        let ready = planned.stage(repository, index, disk, &monitor)?;
        tell_lost(session, &ready.lost());
        ready.swap(
            &session.services,
            Session::registry().as_ref(),
            disk,
            &monitor,
        )?
    };
    session.output.finish();
    tell_databases(session, &swapped.databases);
    let done = if was_interrupted {
        "finished the interrupted restore of"
    } else {
        "restored"
    };
    let roots: Vec<String> = swapped.roots.iter().map(|root| shown(root)).collect();
    session.output.good_news(format!(
        "{done} snapshot {} from {} onto {} in {}: {}, {}; proof level: {}",
        swapped.snapshot.id.short(),
        repository.location(),
        roots.join(", "),
        session.output.elapsed(),
        counted(files, "file"),
        ByteSize(bytes),
        proved(session, swapped.level, &[], files)
    ));
    tell_kept(session, &swapped);
    let mut fields = fields(&repository.location(), &swapped.databases, swapped.level);
    fields["snapshot_id"] = json!(swapped.snapshot.id);
    fields["replaced"] = json!(roots);
    fields["files"] = files.into();
    fields["total_bytes"] = bytes.into();
    fields["restore_id"] = swapped.id.clone().into();
    let kept = swapped.kept.iter().map(|path| path.to_string_lossy());
    fields["kept"] = kept.collect::<Vec<_>>().into();
    Ok(Done {
        code: exit_code(session, swapped.level),
        fields,
    })
}

fn tell_kept(session: &Session, swapped: &Swapped) {
    let kept: Vec<String> = swapped.kept.iter().map(|path| shown(path)).collect();
    if kept.is_empty() {
        session
            .output
            .good_news("nothing stood there before, so nothing is kept");
        return;
    }
    session.output.good_news(format!(
        "what stood there is kept in {}: `tillsafe rollback {}` brings it back; with --discard it is removed",
        kept.join(" and "),
        swapped.id
    ));
}

/// Consent: the name of each thing that is replaced, typed at a terminal.
fn ask(session: &Session, planned: &InPlace) -> Result<()> {
    let roots: Vec<String> = planned
        .roots
        .iter()
        .map(|root| shown(&root.spot.live))
        .collect();
    for root in &roots {
        let answer = session.ask(&format!("type {root} to replace it: "))?;
        let typed = answer.as_deref().unwrap_or_default();
        // With or without a slash at its end, as the shell completes it, it is the same folder.
        if typed.is_empty() || typed.trim_end_matches('/') != root {
            let answered = match typed {
                "" => String::new(),
                typed => format!(" (the answer was {})", Shown(typed.as_bytes())),
            };
            return Err(Error::NoConsent {
                what: format!("replace {}{answered}", roots.join(", ")),
                next: "give the hash of the plan, as it is printed here or by --dry-run, to --plan, or type the whole path at a terminal",
            });
        }
    }
    Ok(())
}

/// A restore must not replace the repository that it reads from, nor move any other aside, for they were
/// left out of the snapshot.
fn refuse_own_repository(session: &Session, planned: &InPlace) -> Result<()> {
    let mut repositories = vec![session.choice()?.path];
    // A broken configuration stops no restore.
    if let Ok(Some(configuration)) = session.configuration() {
        let entries = configuration.repositories.values();
        repositories.extend(entries.map(|entry| entry.path.clone()));
    }
    for repository in repositories {
        let real = std::fs::canonicalize(&repository).unwrap_or(repository);
        for live in lives(planned) {
            if real.starts_with(&live) || live.starts_with(&real) {
                return Err(Error::TargetUnfit {
                    path: live,
                    finding: format!("the repository {} lies there", shown(&real)),
                });
            }
        }
    }
    Ok(())
}
