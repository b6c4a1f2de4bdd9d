//! Which snapshot, and what of it: how every restore begins.

use std::ffi::OsStr;

use jiff::Timestamp;

use super::args;
use super::session::{Session, snapshot_and_path};
use crate::error::Result;
use crate::records::{self, ProofLevel};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::lock::Lock;
use crate::repository::snapshot::{Snapshot, Snapshots};
use crate::restore::{Filter, Plan, Request, Selection, select};

/// What is to be restored, and where from.
pub struct Planned {
    pub repository: Repository,
    pub index: Index,
    pub plan: Plan,
    pub proved: Option<Timestamp>,
    pub lock: Option<Lock>,
}

/// A snapshot in an open repository, and what of it is wanted.
pub struct Chosen {
    pub repository: Repository,
    pub index: Index,
    pub snapshot: Snapshot,
    pub selection: Selection,
    /// When its databases all passed their engine's check, if a record says so.
    pub proved: Option<Timestamp>,
    pub lock: Option<Lock>,
}

/// Chooses the snapshot: what every restore begins with.
pub fn choose(
    session: &Session,
    snapshot: &OsStr,
    filter: &args::Filter,
    choice: &args::Choice,
) -> Result<Chosen> {
    let (request, base) = snapshot_and_path(snapshot, filter)?;
    let filter = Filter::new(&choice.include, &choice.exclude)?;
    let repository = session.open()?;
    let lock = session.lock_if_possible(&repository);
    let (snapshot, index, proved) = pick_proved(session, &repository, request)?;
    Ok(Chosen {
        repository,
        index,
        snapshot,
        proved,
        selection: Selection { base, filter },
        lock,
    })
}

/// Finds the snapshot that is asked for, `proven` included; reads the index on the way.
pub fn pick(
    session: &Session,
    repository: &Repository,
    request: Request,
) -> Result<(Snapshot, Index)> {
    if request.snapshot == "proven" {
        let (snapshot, index, _) = pick_proved(session, repository, request)?;
        return Ok((snapshot, index));
    }
    let monitor = session.output.as_ref();
    let snapshot = one(session, &request, repository.snapshots(monitor)?)?;
    Ok((snapshot, repository.load_index(monitor)?))
}

/// The same, and when its databases were proved.
fn pick_proved(
    session: &Session,
    repository: &Repository,
    mut request: Request,
) -> Result<(Snapshot, Index, Option<Timestamp>)> {
    let monitor = session.output.as_ref();
    let snapshots = repository.snapshots(monitor)?;
    let index = repository.load_index(monitor)?;
    let proofs = records::proofs(repository, &index, &snapshots.readable, monitor)?;
    request.proven = proofs.keys().copied().collect();
    let snapshot = one(session, &request, snapshots)?;
    let proof = proofs.get(&snapshot.id);
    let matched = proof.filter(|proof| proof.level >= ProofLevel::Matched);
    Ok((snapshot, index, matched.map(|proof| proof.time)))
}

/// The one that is asked for, of those that are there. One of the future is told: what was made since is older,
/// and may be what was wanted.
pub fn one(session: &Session, request: &Request, snapshots: Snapshots) -> Result<Snapshot> {
    let snapshot = select(request, snapshots)?;
    if matches!(request.snapshot.as_str(), "latest" | "proven") {
        snapshot.tell_future(session.services.clock.now(), session.output.as_ref());
    }
    Ok(snapshot)
}

/// Plans its restore as well: what `restore` into a target and `verify` begin with.
pub fn plan(
    session: &Session,
    snapshot: &OsStr,
    filter: &args::Filter,
    choice: &args::Choice,
) -> Result<Planned> {
    let Chosen {
        repository,
        index,
        snapshot,
        selection,
        proved,
        lock,
    } = choose(session, snapshot, filter, choice)?;
    let monitor = session.output.as_ref();
    let plan = Plan::make(&repository, &index, snapshot, selection, monitor)?;
    Ok(Planned {
        repository,
        index,
        plan,
        proved,
        lock,
    })
}
