//! A new record, after all those that are known.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::ProofLevel;
use super::read::{Known, MAX_RECORDS, read};
use super::record::{MAX_PREVIOUS, PROOF, Record, SCHEMA, Says};
use crate::entry::{Entry, Kind, Owner, Place};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Quiet};
use crate::repository::Repository;
use crate::repository::lock::{self, Access};
use crate::repository::pack::BlobKind;
use crate::repository::snapshot::{PROGRAM, RECORDS, Snapshot, SnapshotFile, Summary};
use crate::repository::tree::{Content, Node};
use crate::repository::tree_writer::{StoredFile, file_node, store_tree};
use crate::repository::writer::{Writer, WriterStats};

/// The mark of a snapshot of records.
const TAG: &str = "tillsafe-records";

/// What a proof has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// How far the snapshot is proved.
    pub level: ProofLevel,
    /// Whether it held all that was to be in it.
    pub complete: bool,
    /// The machine that it was proved on.
    pub host: String,
}

/// Records that `snapshot` was proved, in a new snapshot that holds all earlier records as well. In order:
/// packs, index, snapshot; a failure leaves at most packs that no snapshot needs. The new snapshot's time
/// lies just before that of the one it speaks of, so that to any tool `latest` is still the shop.
///
/// # Errors
/// [`Error::NoSnapshot`] if the snapshot is gone; [`Error::Unsupported`], [`Error::Damaged`] (the config),
/// [`Error::Locked`], [`Error::LockLost`], [`Error::Storage`], [`Error::Interrupted`].
pub fn write(
    repository: &Repository,
    snapshot: &Snapshot,
    evidence: Evidence,
    monitor: &dyn Monitor,
) -> Result<Snapshot> {
    repository.require_writable()?;
    let lock = repository.lock(Access::Shared, monitor)?;
    // What is wrong here was told when it was read for the proof.
    let (index, _) = repository.load_sound_index(&Quiet::default())?;
    let snapshots = repository.snapshots(&Quiet::default())?.readable;
    if !snapshots.iter().any(|there| there.id == snapshot.id) {
        return Err(Error::NoSnapshot {
            wanted: format!("{} any more: somebody has removed it", snapshot.id.short()),
        });
    }
    let mut known = read(repository, &index, &snapshots, monitor)?;
    if known.records.len() >= MAX_RECORDS {
        // A new chain: the old one stays where it is.
        known = Known::default();
    }
    let now = repository.services().clock.now();
    let record = Record::new(says(snapshot, evidence, now, &known))?;
    known.records.insert(record.id, record);
    let writer = Writer::begin(repository, Arc::new(index))?;
    let stored = store(&writer, &known, now);
    let (tree, added) = writer.end(stored, &lock)?;
    let file = describe(snapshot, tree, summary(&known, now, &added));
    repository.save_snapshot_under(file, &lock)
}

fn says(snapshot: &Snapshot, evidence: Evidence, now: Timestamp, known: &Known) -> Says {
    let mut previous = known.heads();
    previous.truncate(MAX_PREVIOUS);
    Says {
        schema: SCHEMA,
        kind: PROOF.to_owned(),
        time: now,
        snapshot: snapshot.id,
        origin: snapshot.origin(),
        tree: snapshot.file.tree,
        level: evidence.level.name().to_owned(),
        complete: evidence.complete,
        program: PROGRAM.to_owned(),
        host: evidence.host,
        previous,
    }
}

/// Stores the records and the folders that lead to them; returns the root.
fn store(writer: &Writer, known: &Known, now: Timestamp) -> Result<Id> {
    let mut nodes = Vec::new();
    // In the order of their ids, and so of their names.
    for record in known.records.values() {
        let pending = writer.store(BlobKind::Data, record.bytes.clone())?;
        let blob = pending.wait().ok_or_else(|| writer.failure())?;
        let file = StoredFile {
            blobs: vec![blob],
            size: record.bytes.len() as u64,
        };
        let name = record.file_name();
        nodes.push(file_node(
            entry(name.into(), Kind::File, record.says.time),
            file,
        ));
    }
    let folders: Vec<_> = Path::new(RECORDS).iter().skip(1).collect();
    for name in folders.into_iter().rev() {
        let tree = store_tree(writer, name, &nodes)?;
        nodes = vec![Node {
            entry: entry(name.into(), Kind::Folder, now),
            content: Content::Folder { tree },
        }];
    }
    store_tree(writer, "/".as_ref(), &nodes)
}

/// An entry that no file system holds.
fn entry(name: OsString, kind: Kind, time: Timestamp) -> Entry {
    Entry {
        name,
        mode: if kind == Kind::Folder { 0o700 } else { 0o600 },
        kind,
        modified: time,
        changed: time,
        owner: Owner::default(),
        place: Place::default(),
        attributes: Vec::new(),
    }
}

fn describe(snapshot: &Snapshot, tree: Id, summary: Summary) -> SnapshotFile {
    let time = snapshot.file.time;
    SnapshotFile {
        time: time
            .checked_sub(SignedDuration::from_nanos(1))
            .unwrap_or(time),
        parent: None,
        tree,
        paths: vec![RECORDS.to_owned()],
        // Of a machine that has newer snapshots: so it is the latest of none.
        hostname: snapshot.file.hostname.clone(),
        username: lock::user_name(),
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        excludes: Vec::new(),
        tags: vec![TAG.to_owned()],
        original: None,
        program_version: PROGRAM.to_owned(),
        summary: Some(summary),
    }
}

fn summary(known: &Known, now: Timestamp, added: &WriterStats) -> Summary {
    let records = known.records.len() as u64;
    let lengths = known
        .records
        .values()
        .map(|record| record.bytes.len() as u64);
    Summary {
        backup_start: now,
        backup_end: now,
        files_new: records,
        files_changed: 0,
        files_unmodified: 0,
        dirs_new: 2,
        dirs_changed: 0,
        dirs_unmodified: 0,
        data_blobs: added.data_blobs,
        tree_blobs: added.tree_blobs,
        data_added: added.added_bytes,
        data_added_packed: added.stored_bytes,
        total_files_processed: records,
        total_bytes_processed: lengths.sum(),
    }
}
