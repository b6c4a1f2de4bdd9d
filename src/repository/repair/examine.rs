//! Reading a pack whole: what in it can be read, whatever is wrong with the rest.

use std::collections::HashSet;

use crate::error::Error;
use crate::id::{Hasher, Id};
use crate::repository::check::{read_run, runs};
use crate::repository::pack::PackedBlob;
use crate::repository::{Repository, finding};

/// What a pack is found to hold.
#[derive(Debug, Default)]
pub(super) struct Examined {
    /// Its header's blobs, if it can be read and all of them, and it is what it is named after.
    pub sound: Option<Vec<PackedBlob>>,
    /// The blobs that can be read from it.
    pub whole: Vec<PackedBlob>,
    /// Those that were read and are wrong, or lie beyond its end.
    pub bad: Vec<PackedBlob>,
    /// Those that could not be reached: they may be whole.
    pub unreachable: Vec<PackedBlob>,
    /// Whether its header could not be reached: it may name more.
    pub is_header_unreachable: bool,
    /// What is wrong, the first of each kind.
    pub findings: Vec<String>,
}

impl Examined {
    /// Whether nothing names any place in it.
    pub const fn is_nameless(&self) -> bool {
        self.whole.is_empty() && self.bad.is_empty() && self.unreachable.is_empty()
    }
}

/// Reads every byte of a pack. Its blobs are those of its header, and those that an index names beyond.
pub(super) fn examine(
    repository: &Repository,
    id: Id,
    size: u64,
    said: &[Vec<PackedBlob>],
) -> Examined {
    let mut pack = Examined::default();
    let (header, tail) = match repository.read_pack_header(id, size) {
        Ok((blobs, tail)) => (blobs, Some(tail)),
        Err(cause) => {
            pack.is_header_unreachable = !matches!(cause, Error::Damaged { .. });
            pack.findings.push(finding(&cause));
            (Vec::new(), None)
        }
    };
    let mut hasher = Hasher::default();
    for run in runs(&header) {
        pack.read_run(repository, id, run, &mut hasher);
    }
    if let Some(tail) = tail {
        hasher.update(&tail);
        if pack.findings.is_empty() && hasher.finish() == id {
            pack.sound = Some(header.clone());
        } else if pack.findings.is_empty() {
            let finding = "its bytes are not those it is named after";
            pack.findings.push(finding.to_owned());
        }
        if said.iter().any(|said| *said != header) {
            let finding = "its header and its index differ";
            pack.findings.insert(0, finding.to_owned());
        }
    }
    let mut known: HashSet<PackedBlob> = header.into_iter().collect();
    let more = said.iter().flatten().filter(|blob| known.insert(**blob));
    let mut more: Vec<PackedBlob> = more.copied().collect();
    more.sort_unstable_by_key(|blob| blob.offset);
    for run in runs(&more) {
        pack.read_run(repository, id, run, &mut Hasher::default());
    }
    pack
}

impl Examined {
    fn read_run(&mut self, repository: &Repository, id: Id, run: &[PackedBlob], hash: &mut Hasher) {
        /// As many findings are told of one pack.
        const TOLD: usize = 3;
        read_run(repository, id, run, hash, |blob, opened| {
            let Err(cause) = opened else {
                self.whole.push(*blob);
                return;
            };
            if self.findings.len() < TOLD {
                self.findings.push(finding(&cause));
            }
            if matches!(cause, Error::Damaged { .. }) {
                self.bad.push(*blob);
            } else {
                self.unreachable.push(*blob);
            }
        });
    }
}
