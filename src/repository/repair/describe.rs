//! What lies in a pack about which the index is silent, wrong, or of two minds.

use std::collections::HashSet;

use crate::error::Error;
use crate::id::Id;
use crate::repository::Repository;
use crate::repository::index::Location;
use crate::repository::pack::PackedBlob;

/// What a pack is found to hold.
#[derive(Debug)]
pub(super) struct Description {
    /// In order of their offsets; empty if nobody can say.
    pub blobs: Vec<PackedBlob>,
    /// Whether the index says anything else, or two things.
    pub differs: bool,
    /// Why its header cannot be read, if so.
    pub header: Result<(), Error>,
}

/// Asks the pack itself. What an index says beyond its header counts if it can be read, for nothing that
/// can be restored is given up; without a header, what an index says is kept.
pub(super) fn describe(
    repository: &Repository,
    id: Id,
    size: u64,
    said: &[Vec<PackedBlob>],
) -> Description {
    let header = repository.read_pack_header(id, size);
    let (mut blobs, header) = match header {
        Ok((blobs, _)) => (blobs, Ok(())),
        Err(cause) => (Vec::new(), Err(cause)),
    };
    if let ([one], Err(_)) = (said, &header) {
        blobs.clone_from(one);
    } else {
        let mut known: HashSet<PackedBlob> = blobs.iter().copied().collect();
        for blob in said.iter().flatten() {
            if known.insert(*blob) && may_be_whole(repository, id, blob) {
                blobs.push(*blob);
            }
        }
        blobs.sort_unstable_by_key(|blob| blob.offset);
    }
    // Rather all that cannot be read than nothing: whoever looks for it learns where it lay.
    if let (true, Some(first)) = (blobs.is_empty(), said.first()) {
        blobs.clone_from(first);
    }
    Description {
        differs: said.len() != 1 || said[0] != blobs,
        blobs,
        header,
    }
}

/// Whether a blob can be read there; one that could not be reached may be.
fn may_be_whole(repository: &Repository, pack: Id, blob: &PackedBlob) -> bool {
    let location = Location { pack, blob: *blob };
    let _held = repository.hold(std::iter::once(blob));
    !matches!(
        repository.read_blob_at(&location),
        Err(Error::Damaged { .. })
    )
}
