//! What is needed of packs that go, stored anew: as a backup stores it, and as safely.

use std::sync::{Arc, Mutex, PoisonError};

use super::plan::Plan;
use super::state::{Pack, State};
use super::used::Used;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Problem, Progress, Step, go_on};
use crate::parallel;
use crate::repository::Repository;
use crate::repository::index::{Index, IndexFile, IndexedPack, Location};
use crate::repository::lock::Lock;
use crate::repository::pack::PackedBlob;
use crate::repository::replace::Standing;
use crate::repository::writer::Writer;

/// What was stored anew.
#[derive(Debug, Default)]
pub(super) struct Repacked {
    pub packs: u64,
    pub bytes: u64,
    /// Packs in which something that is needed is damaged.
    pub damaged: u64,
}

/// Stores what is needed of the packs that `plan` names. A pack in which something is damaged stays as it
/// is, and is told. Once this returns, the copies are durable and named by an index.
///
/// # Errors
/// [`Error::Storage`], [`Error::Interrupted`]: then blobs may be stored twice, which the next run sees.
pub(super) fn repack(
    repository: &Repository,
    state: &State,
    plan: &Plan,
    used: &Used,
    lock: &Lock,
    monitor: &dyn Monitor,
) -> Result<Repacked> {
    let bytes = plan.repack.iter().map(|id| plan.needed_bytes[id]).sum();
    monitor.step(Step::Repacking, Some(bytes));
    let writer = Writer::begin(repository, Arc::new(staying(state, plan)))?;
    let done = Mutex::new(Repacked::default());
    let packs: Vec<Id> = plan.repack.iter().copied().collect();
    let stored = parallel::for_each(&packs, |id| {
        let blobs = state.packs[id].blobs.iter();
        let needed: Vec<&PackedBlob> = blobs
            .filter(|blob| plan.stays_in(*id, blob, used))
            .collect();
        match store(repository, &writer, *id, &needed, monitor) {
            Ok(()) => {
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                done.packs += 1;
                done.bytes += plan.needed_bytes[id];
                Ok(())
            }
            Err(Error::Damaged { object, finding }) => {
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                done.damaged += 1;
                monitor.problem(Problem {
                    item: object,
                    finding: format!("{finding}; the pack stays as it is"),
                    incomplete: false,
                });
                Ok(())
            }
            Err(cause) => Err(cause),
        }
    });
    writer.end(stored, lock)?;
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Hands the blobs of one pack to the writer.
fn store(
    repository: &Repository,
    writer: &Writer,
    pack: Id,
    blobs: &[&PackedBlob],
    monitor: &dyn Monitor,
) -> Result<()> {
    for blob in blobs {
        go_on(monitor)?;
        let held = repository.hold(std::iter::once(*blob));
        let plain = repository.read_blob_at(&Location { pack, blob: **blob })?;
        drop(held);
        // Its id is known; whether it arrived, `commit` tells.
        drop(writer.store(blob.kind, plain)?);
        monitor.progress(Progress {
            bytes: blob.length.into(),
            files: 0,
        });
    }
    Ok(())
}

/// What the writer may build upon: packs in use that stay.
fn staying(state: &State, plan: &Plan) -> Index {
    let stays = |(id, pack): &(&Id, &Pack)| {
        pack.standing == Some(Standing::InUse) && pack.is_there() && !plan.repack.contains(*id)
    };
    let packs = state.packs.iter().filter(stays);
    let packs = packs
        .map(|(id, pack)| IndexedPack::new(*id, &pack.blobs))
        .collect();
    Index::of(&IndexFile {
        packs,
        packs_to_delete: Vec::new(),
    })
}
