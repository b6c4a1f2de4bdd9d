//! What a plan cannot bring back, as far as that shows before its restore reads everything: the index may not
//! lead to it, or to packs that are gone or too short. What the bytes in them are, only reading tells.

use std::collections::HashMap;

use super::lost::{self, Lost};
use super::plan::Plan;
use crate::error::Result;
use crate::id::Id;
use crate::monitor::Monitor;
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::pack::BlobKind;
use crate::repository::tree::Content;

/// Most bytes that are read to find what is lost in other snapshots.
const MAX_READ: u64 = 64 * 1024 * 1024;

/// What will be lost of a plan.
#[derive(Debug, Default)]
pub struct Foreseen {
    /// Its items, by path.
    pub lost: Vec<Lost>,
    /// Files among them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Plan {
    /// What cannot be brought back, for all that is known already: from the index, from the sizes of the
    /// packs, and from the blobs that were found `damaged` in all their copies.
    ///
    /// # Errors
    /// [`crate::error::Error::Storage`], [`crate::error::Error::Interrupted`].
    pub fn foreseen(
        &self,
        repository: &Repository,
        index: &Index,
        damaged: &HashMap<Id, String>,
        monitor: &dyn Monitor,
    ) -> Result<Foreseen> {
        let mut foreseen = Foreseen {
            lost: self.lost.clone(),
            ..Foreseen::default()
        };
        for item in &self.items {
            let Content::File { size, .. } = &item.content else {
                continue;
            };
            let is_hurt = |id: &Id| {
                let gone = || "its pack is not there, or ends too early".to_owned();
                let hurt = damaged.get(id).cloned();
                let hurt =
                    hurt.or_else(|| (!index.is_within_reach(BlobKind::Data, *id)).then(gone));
                hurt.map(|finding| format!("blob {}: {finding}", id.short()))
            };
            let fault = lost::fault(index, item).or_else(|| item.blobs().find_map(is_hurt));
            if let Some(finding) = fault {
                let path = self.path_in_snapshot(item);
                foreseen.lost.push(Lost::new(path, finding, false));
                foreseen.files += 1;
                foreseen.bytes = foreseen.bytes.saturating_add(*size);
            }
        }
        foreseen.lost.sort_by(|a, b| a.path.cmp(&b.path));
        let known = damaged.keys().map(|id| (*id, false)).collect();
        lost::search(
            repository,
            index,
            &self.snapshot,
            &mut foreseen.lost,
            known,
            MAX_READ,
            monitor,
        )?;
        Ok(foreseen)
    }
}
