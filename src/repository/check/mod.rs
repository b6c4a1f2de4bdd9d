//! The repository's own check: structure always, data on request; then who suffers from what was found.
//!
//! It goes on after damage: the list of what is damaged is the result. Objects come first, then the
//! blobs of which no copy is whole, then the snapshots and paths that need them.

mod affected;
mod data;
mod findings;
mod losses;
mod trees;

use std::collections::{HashMap, HashSet};

use serde::Serialize;

pub use affected::{Affected, Version};
pub use data::Extent;
pub(super) use data::{read_run, runs};
pub use findings::{Damage, DamagedBlob};
pub(super) use losses::Losses;

use super::finding;
use super::index::Index;
use super::lock::LockFile;
use super::pack::{self, BlobKind, PackedBlob};
use super::snapshot::{Snapshot, SnapshotFile};
use super::unlock::read_key_file;
use super::{Repository, report_strays};
use crate::backend::{Class, Object};
use crate::error::Result;
use crate::id::Id;
use crate::monitor::{Monitor, Step, go_on};
use findings::Findings;

/// What a check has seen.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// What is damaged, one entry an object.
    pub damage: Vec<Damage>,
    /// What the damage costs: paths, and the snapshots that lose them.
    #[serde(skip)]
    pub affected: Vec<Affected>,
    /// Paths that are lost, each counted in every snapshot that loses it.
    pub lost_paths: u64,
    /// Those of them that `affected` does not list, for there are too many.
    pub unlisted_paths: u64,
    /// Packs that no index names: left by an interrupted run, harmless.
    pub unreferenced_packs: u64,
    /// Packs that prune has marked: it removes them once their time has come.
    pub marked_packs: u64,
    /// Their bytes.
    pub marked_bytes: u64,
    /// Snapshots there, those of our own records aside.
    pub snapshots: u64,
    /// Different trees read.
    pub trees: u64,
    /// Blobs in the index.
    pub blobs: u64,
    /// Packs there.
    pub packs: u64,
    /// Bytes of packs there.
    pub pack_bytes: u64,
    /// Packs of which every byte was read.
    pub packs_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Whether every byte of every pack was read.
    pub read_data: bool,
    /// What chose the packs that were read, if not all of them were.
    pub seed: Option<u32>,
}

/// Checks a repository.
///
/// # Errors
/// [`crate::error::Error::Storage`] if it cannot be listed; damage is no error but the result.
pub fn check(
    repository: &Repository,
    extent: Extent,
    monitor: &dyn Monitor,
) -> Result<CheckReport> {
    monitor.step(Step::Checking, None);
    // Snapshots before indexes: what a backup adds in between is then not missed but not asked for.
    let snapshots = repository.list(Class::Snapshots)?;
    report_strays(monitor, Class::Snapshots, &snapshots);
    let mut check = Check::new(repository, monitor);
    check.report.read_data = extent == Extent::Everything;
    check.config();
    check.keys()?;
    check.locks()?;
    check.index_and_packs()?;
    check.data(extent)?;
    let snapshots = check.snapshots(snapshots.objects.iter().map(|(id, _)| *id))?;
    check.who_suffers(&snapshots)?;
    Ok(check.finish(&snapshots))
}

/// The snapshot in which a repair has kept what is left of this one.
fn rest_of(snapshots: &[Snapshot], id: Id) -> Option<Id> {
    let of = snapshots.iter().find(|one| one.id == id)?;
    let is_rest = |one: &&Snapshot| {
        one.id != id
            && one.file.original == Some(of.origin())
            && one.file.time == of.file.time
            && one.file.is_incomplete()
    };
    snapshots.iter().find(is_rest).map(|one| one.id)
}

struct Check<'a> {
    repository: &'a Repository,
    monitor: &'a dyn Monitor,
    /// What index files and headers of packs name.
    index: Index,
    /// The packs that are there.
    sizes: HashMap<Id, u64>,
    findings: Findings,
    /// Copies of blobs that are not whole, by pack and offset.
    bad: HashSet<(Id, u32)>,
    report: CheckReport,
}

/// How it stands with a blob.
enum State {
    /// A copy is there, and nothing is known against it.
    Whole {
        /// Its plain length in bytes.
        length: u64,
        /// The pack, if no index file names any that has it.
        unindexed: Option<Id>,
    },
    /// No copy is whole; the pack of the first.
    Damaged(Id),
    /// No index and no pack names it.
    Unknown,
}

impl<'a> Check<'a> {
    fn new(repository: &'a Repository, monitor: &'a dyn Monitor) -> Self {
        Self {
            repository,
            monitor,
            index: Index::default(),
            sizes: HashMap::new(),
            findings: Findings::default(),
            bad: HashSet::new(),
            report: CheckReport::default(),
        }
    }
}

impl Check<'_> {
    fn state(&self, kind: BlobKind, id: Id) -> State {
        let locations = self.index.locations(kind, id);
        let Some(first) = locations.first() else {
            return State::Unknown;
        };
        let whole = locations
            .iter()
            .find(|location| self.copy_is_whole(location.pack, &location.blob));
        let Some(whole) = whole else {
            return State::Damaged(first.pack);
        };
        let mut packs = locations.iter().map(|location| location.pack);
        State::Whole {
            length: whole.plain_length(),
            unindexed: (!packs.any(|pack| self.index.names(pack))).then_some(whole.pack),
        }
    }

    fn copy_is_whole(&self, pack: Id, blob: &PackedBlob) -> bool {
        let end = u64::from(blob.offset) + u64::from(blob.length);
        self.sizes.get(&pack).is_some_and(|size| end <= *size)
            && !self.bad.contains(&(pack, blob.offset))
    }

    fn config(&mut self) {
        if let Err(cause) = self.repository.config() {
            self.findings.add(Object::Config, finding(&cause));
        }
    }

    fn keys(&mut self) -> Result<()> {
        let listing = self.repository.list(Class::Keys)?;
        report_strays(self.monitor, Class::Keys, &listing);
        for (id, _) in listing.objects {
            if let Err(cause) = read_key_file(self.repository.inner.backend.as_ref(), id) {
                self.findings
                    .add(Object::Named(Class::Keys, id), finding(&cause));
            }
        }
        Ok(())
    }

    fn locks(&mut self) -> Result<()> {
        for (id, _) in self.repository.list(Class::Locks)?.objects {
            let lock = self.repository.load_json::<LockFile>(Class::Locks, id);
            if let Err(cause) = lock {
                // Those of others come and go while we look.
                if self.repository.is_there(Class::Locks, id)? {
                    self.findings
                        .add(Object::Named(Class::Locks, id), finding(&cause));
                }
            }
        }
        Ok(())
    }

    /// Reads the index, and compares the packs that it names with those that are there.
    fn index_and_packs(&mut self) -> Result<()> {
        let files = self.repository.read_index_files(self.monitor)?;
        if files.missing.is_some() {
            self.findings.add_missing_folder();
        }
        for (object, cause) in &files.damaged {
            self.findings.add(*object, finding(cause));
        }
        self.index = files.index;
        self.report.blobs = self.index.blob_count() as u64;
        self.sizes = self.repository.packs(self.monitor)?;
        self.report.packs = self.sizes.len() as u64;
        self.report.pack_bytes = self.sizes.values().sum();
        let marked = self
            .sizes
            .iter()
            .filter(|(id, _)| self.index.is_retired(**id));
        (self.report.marked_packs, self.report.marked_bytes) = marked
            .fold((0, 0), |(packs, bytes), (_, size)| {
                (packs + 1, bytes + size)
            });
        let unreferenced = self.sizes.keys().filter(|id| !self.index.names(**id));
        self.report.unreferenced_packs = unreferenced.count() as u64;
        let unindexed =
            self.repository
                .add_unindexed(&mut self.index, &self.sizes, self.monitor)?;
        for (id, cause) in unindexed.unreadable {
            let object = Object::Named(Class::Data, id);
            self.findings.add(object, finding(&cause));
        }
        for id in self.index.conflicts() {
            self.findings.add(
                Object::Named(Class::Data, *id),
                "two index files describe it differently".to_owned(),
            );
        }
        let mut indexed: Vec<(Id, Vec<PackedBlob>)> = self.index.packs().into_iter().collect();
        indexed.sort_unstable_by_key(|(id, _)| *id);
        for (id, blobs) in indexed {
            let object = Object::Named(Class::Data, id);
            let (size, expected) = (self.sizes.get(&id), pack::size_of(&blobs));
            let finding = match size {
                Some(size) if *size == expected => continue,
                Some(size) => format!("it has {size} bytes, its index says {expected}"),
                None => "it is not there, but an index names it".to_owned(),
            };
            self.findings.add(object, finding);
            for blob in blobs {
                if !self.copy_is_whole(id, &blob) {
                    self.findings.add_blob(object, blob.kind, blob.id);
                }
            }
        }
        Ok(())
    }

    /// Reads the snapshots; those that can be read are returned, the newest first.
    fn snapshots(&mut self, ids: impl Iterator<Item = Id>) -> Result<Vec<Snapshot>> {
        let mut readable = Vec::new();
        for id in ids {
            go_on(self.monitor)?;
            match self
                .repository
                .load_json::<SnapshotFile>(Class::Snapshots, id)
            {
                Ok(file) => {
                    let snapshot = Snapshot { id, file };
                    self.report.snapshots += u64::from(!snapshot.is_record());
                    readable.push(snapshot);
                }
                Err(cause) => {
                    self.report.snapshots += 1;
                    let object = Object::Named(Class::Snapshots, id);
                    self.findings.add(object, finding(&cause));
                    self.findings.unreadable_snapshots = true;
                }
            }
        }
        readable.sort_by_key(|snapshot| std::cmp::Reverse((snapshot.file.time, snapshot.id)));
        Ok(readable)
    }

    fn finish(mut self, snapshots: &[Snapshot]) -> CheckReport {
        let findings = std::mem::take(&mut self.findings);
        let suffers = self.report.lost_paths > 0;
        self.report.damage = findings.into_damage(
            suffers,
            |pack| !self.sizes.contains_key(&pack),
            |snapshot| rest_of(snapshots, snapshot),
            |kind, id| !matches!(self.state(kind, id), State::Whole { .. }),
        );
        self.report
    }
}
