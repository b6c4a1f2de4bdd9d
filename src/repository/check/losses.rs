//! What is lost to whom, for the repairs: the walk of a check, without its other questions.

use std::collections::HashSet;

use super::trees::Lost;
use super::{Affected, Check};
use crate::backend::Class;
use crate::error::Result;
use crate::id::Id;
use crate::monitor::Monitor;
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::snapshot::Snapshot;

/// What the snapshots lack.
pub(in crate::repository) struct Losses<'a> {
    check: Check<'a>,
    lost: Lost,
    /// Those that can be read, newest first.
    pub snapshots: Vec<Snapshot>,
    /// Those that cannot.
    pub unreadable: Vec<(Id, String)>,
}

impl<'a> Losses<'a> {
    /// Reads all trees. `bad` are copies of blobs that are known not to be whole, by pack and offset.
    ///
    /// # Errors
    /// [`crate::error::Error::Storage`] if anything cannot be listed; [`crate::error::Error::Interrupted`].
    pub fn find(
        repository: &'a Repository,
        bad: HashSet<(Id, u32)>,
        monitor: &'a dyn Monitor,
    ) -> Result<Self> {
        let listing = repository.list(Class::Snapshots)?;
        let mut check = Check::new(repository, monitor);
        check.index_and_packs()?;
        check.bad = bad;
        let ids = listing.objects.iter().map(|(id, _)| *id);
        let snapshots = check.snapshots(ids)?;
        let readable: HashSet<Id> = snapshots.iter().map(|snapshot| snapshot.id).collect();
        let unreadable = check.findings.of_class(Class::Snapshots);
        let unreadable = unreadable
            .filter(|(id, _)| !readable.contains(id))
            .collect();
        let lost = check.who_suffers(&snapshots)?;
        Ok(Self {
            check,
            lost,
            snapshots,
            unreadable,
        })
    }

    /// All that index files and headers of packs name.
    pub const fn index(&self) -> &Index {
        &self.check.index
    }

    /// The paths that are lost.
    pub fn affected(&mut self) -> Vec<Affected> {
        std::mem::take(&mut self.check.report.affected)
    }

    /// How many paths are lost, each counted in every snapshot that loses it; and how many of them
    /// [`Losses::affected`] does not list.
    pub const fn counts(&self) -> (u64, u64) {
        let report = &self.check.report;
        (report.lost_paths, report.unlisted_paths)
    }

    /// How many paths are lost in a tree and below.
    pub fn below(&self, tree: Id) -> u64 {
        self.lost.get(&tree).copied().unwrap_or(0)
    }

    /// Why a folder cannot be read, if so.
    pub fn why_tree_lost(&self, tree: Id) -> Option<String> {
        self.check.why_tree_lost(tree)
    }

    /// Why a file cannot be restored whole, if so.
    pub fn why_lost(&self, blobs: &[Id], size: u64) -> Option<String> {
        self.check.why_lost(blobs, size)
    }
}
