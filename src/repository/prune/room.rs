//! Room on a full disk, where nothing can be written first: not even a lock.
//!
//! What is in no index and what nobody needs can go at once. If there is nothing of that kind, an index
//! file goes that is to be replaced anyway: its packs are then found by their headers, which were looked
//! at before, and those that nobody needs are of the first kind in the next round.

use super::Freed;
use super::commit::Change;
use super::plan::{Fate, Plan};
use super::state::State;
use crate::backend::{Class, Object};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::repository::Repository;

/// Room for a lock, index files and folders, in bytes, beside what their content takes.
const ROOM_BESIDE: u64 = 128 * 1024;
/// What a blob takes in the header of its pack and in an index, in bytes.
const ROOM_A_BLOB: u64 = 128;

/// Whether there is room now.
#[derive(Debug)]
pub(super) enum Made {
    /// There is; these packs are gone for it.
    Room(Freed),
    /// There is nothing that may go.
    Nothing,
}

/// Makes room.
///
/// # Errors
/// [`Error::Storage`].
pub(super) fn make(repository: &Repository, state: &State, plan: &Plan) -> Result<Made> {
    let mut freed = Freed::default();
    for (id, pack) in &state.packs {
        if pack.standing.is_none() && plan.fates[id] == Fate::Remove {
            repository.remove(Object::Named(Class::Data, *id))?;
            freed.packs += 1;
            freed.bytes += pack.size.unwrap_or(0);
        }
    }
    if freed.packs > 0 {
        return Ok(Made::Room(freed));
    }
    let goes = |pack: &Id| plan.fates[pack] == Fate::Remove;
    for id in Change::of(state, plan).old {
        let packs = &state.files[&id].packs;
        if packs.iter().any(|(pack, _)| goes(pack)) && is_in_headers(repository, state, &id) {
            repository.remove(Object::Named(Class::Index, id))?;
            return Ok(Made::Room(freed));
        }
    }
    Ok(Made::Nothing)
}

/// What could be freed with room, and how much that takes: what is needed of packs is stored anew before they
/// go, and the index after it.
pub(super) fn wanted(state: &State, plan: &Plan, freed_bytes: u64) -> Error {
    let unused = |id: &Id| {
        let needed = plan.needed_bytes.get(id).copied().unwrap_or(0);
        state.packs[id].stored_bytes().saturating_sub(needed)
    };
    let of_fate = |fate: Fate| state.packs.keys().filter(move |id| plan.fates[*id] == fate);
    let whole: u64 = of_fate(Fate::Remove)
        .filter_map(|id| state.packs[id].size)
        .sum();
    let parts: u64 = plan.repack.iter().map(unused).sum();
    if whole + parts == 0 {
        return Error::NothingToFree {
            freed_bytes,
            unused_bytes: of_fate(Fate::Use).map(unused).sum(),
        };
    }
    let data: u64 = plan.repack.iter().map(|id| plan.needed_bytes[id]).sum();
    let blobs: usize = state.packs.values().map(|pack| pack.blobs.len()).sum();
    Error::PruneNeedsRoom {
        freed_bytes,
        frees_bytes: whole + parts,
        // A block is not filled to its end.
        needed_bytes: data + data / 256 + blobs as u64 * ROOM_A_BLOB + ROOM_BESIDE,
    }
}

/// Whether the headers of its packs say all that an index file says.
fn is_in_headers(repository: &Repository, state: &State, file: &Id) -> bool {
    let mut packs = state.files[file].packs.iter();
    packs.all(|(id, _)| {
        let pack = &state.packs[id];
        pack.size.is_none_or(|size| {
            let header = repository.read_pack_header(*id, size);
            header.is_ok_and(|(blobs, _)| blobs == pack.blobs)
        })
    })
}
