//! The repository's own check: structure always, data on request.
//!
//! It goes on after damage: the list of what is damaged is the result.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::index::{Index, IndexFile, Location};
use super::pack::{self, BlobKind, PackedBlob};
use super::snapshot::SnapshotFile;
use super::tree::Content;
use super::unlock::read_key_file;
use super::{Repository, report_strays};
use crate::backend::{Class, Object};
use crate::error::{Error, Result};
use crate::id::{Hasher, Id};
use crate::monitor::{Monitor, Progress, Step, go_on};
use crate::parallel;

/// Bytes that are read from a pack at a time, unless one blob is longer.
const RUN: u32 = 8 * 1024 * 1024;

/// One damaged object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Its name below the repository.
    pub object: String,
    /// What is wrong.
    pub finding: String,
}

/// What a check has seen.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// What is damaged.
    pub damage: Vec<Damage>,
    /// Packs that no index names: left by an interrupted run, harmless.
    pub unreferenced_packs: u64,
    /// Snapshots read.
    pub snapshots: u64,
    /// Different trees read.
    pub trees: u64,
    /// Blobs in the index.
    pub blobs: u64,
    /// Packs there.
    pub packs: u64,
    /// Bytes of packs there.
    pub pack_bytes: u64,
    /// Whether every byte of every pack was read.
    pub read_data: bool,
}

/// Checks a repository.
///
/// # Errors
/// [`crate::error::Error::Storage`] if it cannot be listed; damage is no error but the result.
pub fn check(
    repository: &Repository,
    read_data: bool,
    monitor: &dyn Monitor,
) -> Result<CheckReport> {
    monitor.step(Step::Checking, None);
    // Snapshots before indexes: what a backup adds in between is then not missed but not asked for.
    let snapshots = repository.list(Class::Snapshots)?;
    let mut check = Check {
        repository,
        monitor,
        report: CheckReport {
            read_data,
            ..CheckReport::default()
        },
    };
    check.keys()?;
    let index = check.index()?;
    let sizes = repository.packs(monitor)?;
    check.packs(&index, &sizes);
    report_strays(monitor, Class::Snapshots, &snapshots);
    check.snapshots(&index, &sizes, snapshots.objects.iter().map(|(id, _)| *id))?;
    if read_data {
        check.data(&index, &sizes)?;
    }
    Ok(check.report)
}

struct Check<'a> {
    repository: &'a Repository,
    monitor: &'a dyn Monitor,
    report: CheckReport,
}

impl Check<'_> {
    fn damaged(&mut self, object: Object, finding: &dyn Display) {
        self.report.damage.push(Damage {
            object: object.to_string(),
            finding: finding.to_string(),
        });
    }

    fn keys(&mut self) -> Result<()> {
        let listing = self.repository.list(Class::Keys)?;
        for (id, _) in listing.objects {
            if let Err(cause) = read_key_file(self.repository.inner.backend.as_ref(), id) {
                self.damaged(Object::Named(Class::Keys, id), &finding(&cause));
            }
        }
        Ok(())
    }

    fn index(&mut self) -> Result<Index> {
        let listing = self.repository.list(Class::Index)?;
        report_strays(self.monitor, Class::Index, &listing);
        let mut index = Index::default();
        for (id, _) in listing.objects {
            match self.repository.load_json::<IndexFile>(Class::Index, id) {
                Ok(file) => index.add(&file),
                Err(cause) => self.damaged(Object::Named(Class::Index, id), &finding(&cause)),
            }
        }
        self.report.blobs = index.blob_count() as u64;
        Ok(index)
    }

    /// Compares the packs that are indexed with those that are there.
    fn packs(&mut self, index: &Index, sizes: &HashMap<Id, u64>) {
        let indexed = index.packs();
        for id in index.conflicts() {
            self.damaged(
                Object::Named(Class::Data, *id),
                &"two index files describe it differently",
            );
        }
        for (id, blobs) in &indexed {
            let object = Object::Named(Class::Data, *id);
            match sizes.get(id) {
                None => {
                    self.damaged(object, &"it is not there, but an index names it");
                }
                Some(size) if *size != pack::size_of(blobs) => {
                    let expected = pack::size_of(blobs);
                    self.damaged(
                        object,
                        &format!("it has {size} bytes, its index says {expected}"),
                    );
                }
                Some(_) => {}
            }
        }
        let unreferenced = |id: &&Id| !indexed.contains_key(*id) && !index.is_retired(**id);
        self.report.unreferenced_packs = sizes.keys().filter(unreferenced).count() as u64;
        self.report.packs = sizes.len() as u64;
        self.report.pack_bytes = sizes.values().sum();
    }

    fn snapshots(
        &mut self,
        index: &Index,
        sizes: &HashMap<Id, u64>,
        ids: impl Iterator<Item = Id>,
    ) -> Result<()> {
        let mut seen = HashSet::new();
        for id in ids {
            self.report.snapshots += 1;
            match self
                .repository
                .load_json::<SnapshotFile>(Class::Snapshots, id)
            {
                Ok(file) => self.trees(index, sizes, id, file.tree, &mut seen)?,
                Err(cause) => self.damaged(Object::Named(Class::Snapshots, id), &finding(&cause)),
            }
        }
        self.report.trees = seen.len() as u64;
        Ok(())
    }

    /// Reads each tree once, whatever the depth or the number of ways to it.
    fn trees(
        &mut self,
        index: &Index,
        sizes: &HashMap<Id, u64>,
        snapshot: Id,
        root: Id,
        seen: &mut HashSet<Id>,
    ) -> Result<()> {
        let mut waiting = vec![root];
        while let Some(id) = waiting.pop() {
            if !seen.insert(id) {
                continue;
            }
            go_on(self.monitor)?;
            let nodes = match self.repository.read_tree(index, id) {
                Ok(nodes) => nodes,
                Err(cause) => {
                    self.damaged(
                        Object::Named(Class::Snapshots, snapshot),
                        &format!("a folder is lost: {cause}"),
                    );
                    continue;
                }
            };
            self.monitor.progress(Progress {
                files: nodes.len() as u64,
                bytes: 0,
            });
            for node in nodes {
                match node.content {
                    Content::Folder { tree } => waiting.push(tree),
                    Content::File { blobs, size } => {
                        if let Err(finding) = file_is_there(index, sizes, &blobs, size) {
                            let name = node.entry.name.to_string_lossy().into_owned();
                            self.damaged(
                                Object::Named(Class::Snapshots, snapshot),
                                &format!("file {name:?}: {finding}"),
                            );
                        }
                    }
                    Content::Nothing => {}
                }
            }
        }
        Ok(())
    }

    /// Reads every pack, on all cores.
    fn data(&mut self, index: &Index, sizes: &HashMap<Id, u64>) -> Result<()> {
        let indexed = index.packs();
        let mut packs: Vec<(Id, u64)> = sizes.iter().map(|(id, size)| (*id, *size)).collect();
        packs.sort_unstable();
        self.monitor
            .step(Step::Checking, Some(self.report.pack_bytes));
        let found = Mutex::new(Vec::new());
        parallel::for_each(&packs, |(id, size)| {
            go_on(self.monitor)?;
            let findings = check_pack(self.repository, *id, *size, indexed.get(id));
            self.monitor.progress(Progress {
                bytes: *size,
                files: 0,
            });
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.extend(findings.into_iter().map(|finding| (*id, finding)));
            Ok(())
        })?;
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort();
        for (id, finding) in found {
            self.damaged(Object::Named(Class::Data, id), &finding);
        }
        Ok(())
    }
}

fn file_is_there(
    index: &Index,
    sizes: &HashMap<Id, u64>,
    blobs: &[Id],
    size: u64,
) -> std::result::Result<(), String> {
    let mut total = 0;
    for id in blobs {
        let locations = index.locations(BlobKind::Data, *id);
        let Some(first) = locations.first() else {
            return Err(format!("no index names its blob {}", id.short()));
        };
        if locations
            .iter()
            .all(|location| !sizes.contains_key(&location.pack))
        {
            return Err(format!("its blob {} lies in a missing pack", id.short()));
        }
        total += first.plain_length();
    }
    if total == size {
        Ok(())
    } else {
        Err(format!(
            "its blobs hold {total} bytes, its folder says {size}"
        ))
    }
}

/// Reads a whole pack; returns what is wrong with it.
fn check_pack(
    repository: &Repository,
    id: Id,
    size: u64,
    indexed: Option<&Vec<PackedBlob>>,
) -> Vec<String> {
    let mut findings = Vec::new();
    let (blobs, tail) = match read_pack_header(repository, id, size) {
        Ok(header) => header,
        Err(finding) => return vec![finding],
    };
    if indexed.is_some_and(|indexed| *indexed != blobs) {
        findings.push("its header and its index differ".to_owned());
    }
    let mut hasher = Hasher::default();
    for run in runs(&blobs) {
        let length: usize = run.iter().map(|blob| blob.length as usize).sum();
        let _held = repository.hold(run.iter());
        let bytes = match repository.read_pack_range(id, run[0].offset.into(), length) {
            Ok(bytes) => bytes,
            Err(cause) => {
                findings.push(cause.to_string());
                return findings;
            }
        };
        hasher.update(&bytes);
        let mut rest = bytes.as_slice();
        for blob in run {
            let (sealed, after) = rest.split_at(blob.length as usize);
            rest = after;
            let location = Location {
                pack: id,
                blob: *blob,
            };
            if let Err(cause) = repository.open_blob(&location, sealed) {
                findings.push(finding(&cause));
            }
        }
    }
    hasher.update(&tail);
    if hasher.finish() != id && findings.is_empty() {
        findings.push("its bytes are not those it is named after".to_owned());
    }
    findings
}

/// Reads the header of a pack of `size` bytes: its blobs, and the bytes after the last blob.
fn read_pack_header(
    repository: &Repository,
    id: Id,
    size: u64,
) -> std::result::Result<(Vec<PackedBlob>, Vec<u8>), String> {
    /// restic refuses longer headers.
    const MAX_HEADER: u64 = 16 * 1024 * 1024;
    let read = |offset: u64, length: u64| {
        let length = usize::try_from(length).map_err(|cause| cause.to_string())?;
        repository
            .read_pack_range(id, offset, length)
            .map_err(|cause| cause.to_string())
    };
    let length_at = size.checked_sub(4).ok_or("it is too short for a pack")?;
    let length = u64::from(read(length_at, 4)?.try_into().map_or(0, u32::from_le_bytes));
    if length > MAX_HEADER || length > length_at {
        return Err(format!("its header claims {length} bytes"));
    }
    let header_at = length_at - length;
    let tail = read(header_at, length + 4)?;
    let (header, _) = tail.split_at(tail.len() - 4);
    let blobs = pack::read_header(&repository.inner.key, header, header_at)?;
    Ok((blobs, tail))
}

/// What is wrong, without the name of the object, which stands before it already.
fn finding(cause: &Error) -> String {
    match cause {
        Error::Damaged { finding, .. } => finding.clone(),
        other => other.to_string(),
    }
}

/// Splits a pack's blobs into runs that are read in one piece.
fn runs(blobs: &[PackedBlob]) -> impl Iterator<Item = &[PackedBlob]> {
    let mut rest = blobs;
    std::iter::from_fn(move || {
        let mut bytes = rest.first()?.length;
        let mut count = 1;
        while let Some(blob) = rest.get(count) {
            let Some(more) = bytes.checked_add(blob.length).filter(|sum| *sum <= RUN) else {
                break;
            };
            bytes = more;
            count += 1;
        }
        let (run, after) = rest.split_at(count);
        rest = after;
        Some(run)
    })
}
