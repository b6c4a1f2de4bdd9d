//! Reading packs: every byte of all of them, or of some that a seed chooses.

use std::sync::{Mutex, PoisonError};

use super::{Check, finding};
use crate::backend::{Class, Object};
use crate::error::Result;
use crate::id::{Hasher, Id};
use crate::monitor::{Progress, Step, go_on};
use crate::parallel;
use crate::repository::Repository;
use crate::repository::index::Location;
use crate::repository::pack::PackedBlob;

/// Bytes that are read from a pack at a time, unless one blob is longer.
const RUN: u32 = 1024 * 1024;

/// How much is read of the packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Nothing but the trees, and headers of packs that no index names.
    Structure,
    /// Every byte of some packs, at least one.
    Part {
        /// How many, in hundredths of a percent of all.
        share: u32,
        /// Chooses them: the same seed the same ones, as long as the packs are the same.
        seed: u32,
    },
    /// Every byte of every pack.
    Everything,
}

impl Extent {
    /// The packs to read, of those given.
    fn choose(self, mut packs: Vec<(Id, u64)>) -> Vec<(Id, u64)> {
        packs.sort_unstable();
        match self {
            Self::Structure => Vec::new(),
            Self::Everything => packs,
            Self::Part { share, seed } => {
                let share = u64::from(share.min(10_000));
                let count = (packs.len() as u64 * share).div_ceil(10_000).max(1);
                packs.sort_by_cached_key(|(id, _)| {
                    Id::of(&[&seed.to_le_bytes()[..], id.as_bytes()].concat())
                });
                packs.truncate(usize::try_from(count).unwrap_or(usize::MAX));
                packs
            }
        }
    }
}

/// What is wrong with a pack.
#[derive(Debug, Default)]
struct PackFindings {
    findings: Vec<String>,
    /// Blobs that cannot be read from it.
    bad: Vec<PackedBlob>,
}

impl Check<'_> {
    /// Reads packs, on all cores.
    pub(super) fn data(&mut self, extent: Extent) -> Result<()> {
        if let Extent::Part { seed, .. } = extent {
            self.report.seed = Some(seed);
        }
        let packs = extent.choose(self.sizes.iter().map(|(id, size)| (*id, *size)).collect());
        if packs.is_empty() {
            return Ok(());
        }
        self.report.packs_read = packs.len() as u64;
        self.report.bytes_read = packs.iter().map(|(_, size)| size).sum();
        let indexed = self.index.packs();
        self.monitor
            .step(Step::Checking, Some(self.report.bytes_read));
        let found = Mutex::new(Vec::new());
        parallel::for_each_waiting(&packs, |(id, size)| {
            go_on(self.monitor)?;
            let findings = check_pack(self.repository, *id, *size, indexed.get(id));
            self.monitor.progress(Progress {
                bytes: *size,
                files: 0,
            });
            if !findings.findings.is_empty() {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.push((*id, findings));
            }
            Ok(())
        })?;
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_by_key(|(id, _)| *id);
        for (id, pack) in found {
            let object = Object::Named(Class::Data, id);
            for finding in pack.findings {
                self.findings.add(object, finding);
            }
            for blob in pack.bad {
                // One beyond the pack's end was named already.
                if self.copy_is_whole(id, &blob) {
                    self.bad.insert((id, blob.offset));
                    self.findings.add_blob(object, blob.kind, blob.id);
                }
            }
        }
        Ok(())
    }
}

/// Reads a whole pack. Its blobs are those of the index, if that names it: so it is read from.
fn check_pack(
    repository: &Repository,
    id: Id,
    size: u64,
    indexed: Option<&Vec<PackedBlob>>,
) -> PackFindings {
    let mut pack = PackFindings::default();
    let header = match repository.read_pack_header(id, size) {
        Ok(header) => Some(header),
        Err(cause) => {
            pack.findings.push(finding(&cause));
            None
        }
    };
    let described = header.as_ref().map(|(blobs, _)| blobs);
    if let (Some(indexed), Some(described)) = (indexed, described)
        && indexed != described
    {
        pack.findings
            .push("its header and its index differ".to_owned());
    }
    let Some(blobs) = indexed.or(described) else {
        return pack;
    };
    let mut hasher = Hasher::default();
    for run in runs(blobs) {
        pack.read_run(repository, id, run, &mut hasher);
    }
    if let (Some((_, tail)), true) = (header, pack.findings.is_empty()) {
        hasher.update(&tail);
        if hasher.finish() != id {
            pack.findings
                .push("its bytes are not those it is named after".to_owned());
        }
    }
    pack
}

impl PackFindings {
    fn read_run(
        &mut self,
        repository: &Repository,
        id: Id,
        run: &[PackedBlob],
        hasher: &mut Hasher,
    ) {
        read_run(repository, id, run, hasher, |blob, opened| {
            if let Err(cause) = opened {
                self.findings.push(finding(&cause));
                self.bad.push(*blob);
            }
        });
    }
}

/// Reads blobs that lie side by side in one piece; each is told with its plain bytes, or why it has none.
pub(in crate::repository) fn read_run(
    repository: &Repository,
    pack: Id,
    run: &[PackedBlob],
    hasher: &mut Hasher,
    mut told: impl FnMut(&PackedBlob, Result<Vec<u8>>),
) {
    let length: usize = run.iter().map(|blob| blob.length as usize).sum();
    let _held = repository.hold(run.iter());
    let bytes = repository.read_pack_range(pack, run[0].offset.into(), length);
    if let Ok(bytes) = &bytes {
        hasher.update(bytes);
    }
    let mut at = 0;
    for blob in run {
        let location = Location { pack, blob: *blob };
        let opened = if let Ok(bytes) = &bytes {
            let sealed = &bytes[at..at + blob.length as usize];
            repository.open_blob(&location, sealed)
        } else {
            // One bad sector costs the blobs on it, not its neighbours.
            repository.read_blob_at(&location)
        };
        at += blob.length as usize;
        told(blob, opened);
    }
}

/// Splits a pack's blobs into runs that lie side by side and are read in one piece.
pub(in crate::repository) fn runs(blobs: &[PackedBlob]) -> impl Iterator<Item = &[PackedBlob]> {
    let mut rest = blobs;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let mut bytes = first.length;
        let mut count = 1;
        while let Some(blob) = rest.get(count) {
            let follows = first.offset.checked_add(bytes) == Some(blob.offset);
            let sum = bytes.checked_add(blob.length).filter(|sum| *sum <= RUN);
            let (true, Some(sum)) = (follows, sum) else {
                break;
            };
            bytes = sum;
            count += 1;
        }
        let (run, after) = rest.split_at(count);
        rest = after;
        Some(run)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::pack::BlobKind;

    fn packs(count: u32) -> Vec<(Id, u64)> {
        let ids = (0..count).map(|number| Id::of(&number.to_le_bytes()));
        ids.map(|id| (id, 1)).collect()
    }

    #[test]
    fn a_part_is_chosen_by_its_seed_and_never_empty() {
        let part = |share, seed| Extent::Part { share, seed }.choose(packs(200));
        assert_eq!(part(500, 7), part(500, 7));
        assert_ne!(part(500, 7), part(500, 8));
        assert_eq!(part(500, 7).len(), 10);
        assert_eq!(part(1, 7).len(), 1);
        assert_eq!(part(10_000, 7).len(), 200);
        // A larger part holds the smaller one.
        assert_eq!(part(1000, 7)[..10], part(500, 7)[..]);
        assert!(Extent::Structure.choose(packs(3)).is_empty());
        let whole = Extent::Part { share: 1, seed: 1 };
        assert!(whole.choose(Vec::new()).is_empty());
    }

    #[test]
    fn a_run_ends_where_the_next_blob_does_not_follow() {
        let blob = |offset, length| PackedBlob {
            kind: BlobKind::Data,
            id: Id::of(b"tea"),
            offset,
            length,
            plain_length: None,
        };
        let blobs = [blob(0, 10), blob(10, RUN), blob(10 + RUN, 5), blob(0, 5)];
        let lengths: Vec<usize> = runs(&blobs).map(<[_]>::len).collect();
        assert_eq!(lengths, [1, 1, 1, 1]);
        let blobs = [blob(0, 10), blob(10, 20), blob(31, 5)];
        let lengths: Vec<usize> = runs(&blobs).map(<[_]>::len).collect();
        assert_eq!(lengths, [2, 1]);
    }
}
