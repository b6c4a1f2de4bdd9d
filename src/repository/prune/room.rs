//! Room on a full disk, where nothing can be written first: not even a lock.
//!
//! What is in no index and what nobody needs can go at once. If there is nothing of that kind, an index
//! file goes that is to be replaced anyway: its packs are then found by their headers, which were looked
//! at before, and those that nobody needs are of the first kind in the next round.

use super::commit::Change;
use super::plan::{Fate, Plan};
use super::state::State;
use crate::backend::{Class, Object};
use crate::error::Result;
use crate::id::Id;
use crate::repository::Repository;

/// Makes room; `false` if there is nothing that may go.
///
/// # Errors
/// [`crate::error::Error::Storage`].
pub(super) fn make(repository: &Repository, state: &State, plan: &Plan) -> Result<bool> {
    let mut has_removed = false;
    for (id, pack) in &state.packs {
        if pack.standing.is_none() && plan.fates[id] == Fate::Remove {
            repository.remove(Object::Named(Class::Data, *id))?;
            has_removed = true;
        }
    }
    if has_removed {
        return Ok(true);
    }
    let goes = |pack: &Id| plan.fates[pack] == Fate::Remove;
    for id in Change::of(state, plan).old {
        let packs = &state.files[&id].packs;
        if packs.iter().any(|(pack, _)| goes(pack)) && is_in_headers(repository, state, &id) {
            repository.remove(Object::Named(Class::Index, id))?;
            return Ok(true);
        }
    }
    Ok(false)
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
