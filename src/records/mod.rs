//! What was proved when: small files in snapshots of their own, so that they survive `restic copy` and
//! every storage (docs/design/records.md).
//!
//! Each record names those before it by their hash; a snapshot of records holds all that were known when
//! it was made. So the newest alone is enough, and several that know nothing of each other are united.
//! Whoever can write the repository can write a record: they keep the proofs together, they are none.
//! Written after `verify`, read by `snapshots`, by `proven`, and by whoever removes snapshots.

mod level;
mod read;
mod record;
mod superseded;
mod write;

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::error::Result;
use crate::id::Id;
use crate::monitor::Monitor;
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::snapshot::Snapshot;

pub use level::ProofLevel;
pub use superseded::superseded;
pub use write::{Evidence, write};

/// That a snapshot was proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// How far: at least [`ProofLevel::Opened`].
    pub level: ProofLevel,
    /// When.
    pub time: Timestamp,
    /// Whether it held all that was to be in it.
    pub complete: bool,
}

/// The proofs of `snapshots`, by the snapshot's id: the best of each, and of the best the last. Those that
/// were only marked or copied since keep theirs. `snapshots` are all that there are, the records among
/// them; where none is a record, nothing is read.
///
/// # Errors
/// [`Error::Storage`](crate::error::Error::Storage) if a record could not be reached,
/// [`Error::Interrupted`](crate::error::Error::Interrupted). A record that is damaged, or of nobody's
/// making, is told and ignored.
pub fn proofs(
    repository: &Repository,
    index: &Index,
    snapshots: &[Snapshot],
    monitor: &dyn Monitor,
) -> Result<BTreeMap<Id, Proof>> {
    let known = read::read(repository, index, snapshots, monitor)?;
    let mut by_content: BTreeMap<(Id, Id), Proof> = BTreeMap::new();
    for record in known.records.values() {
        let Some(proof) = record.says.proof() else {
            continue;
        };
        let best = by_content
            .entry((record.says.origin, record.says.tree))
            .or_insert(proof);
        if (proof.level, proof.time) > (best.level, best.time) {
            *best = proof;
        }
    }
    let of = |snapshot: &Snapshot| {
        let key = (snapshot.origin(), snapshot.file.tree);
        let proof = by_content.get(&key).filter(|_| !snapshot.is_record())?;
        Some((snapshot.id, *proof))
    };
    Ok(snapshots.iter().filter_map(of).collect())
}
