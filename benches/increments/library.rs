//! The library as the program drives it: a repository in a local folder, one snapshot in, one out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use jiff::Timestamp;
use tillsafe::backend::{Backend, LocalBackend};
use tillsafe::backup;
use tillsafe::chunker::PageChunks;
use tillsafe::durable::OsDisk;
use tillsafe::entry::{Entry, Kind, Owner, Place};
use tillsafe::id::Id;
use tillsafe::monitor::{Monitor, Quiet};
use tillsafe::repository::index::Index;
use tillsafe::repository::keys::Cost;
use tillsafe::repository::lock::Access;
use tillsafe::repository::pack::BlobKind;
use tillsafe::repository::snapshot::{Snapshot, SnapshotFile};
use tillsafe::repository::tree::Content;
use tillsafe::repository::tree_writer::{StoredFile, Visit, store_tree, write_trees};
use tillsafe::repository::writer::Writer;
use tillsafe::repository::{Repository, Services};
use tillsafe::restore::{Plan, Selection, Target};
use tillsafe::rng::SystemRng;
use tillsafe::secret::Secret;
use tillsafe::source::files::exclude::Excludes;
use tillsafe::source::sqlite;

/// The password of all repositories here.
pub const PASSWORD: &str = "celadon";

/// Creates a repository in `folder`. Its key is cheap, because keys are not what is measured.
pub fn create(folder: &Path) -> Result<Repository> {
    let (disk, rng) = (Arc::new(OsDisk), Arc::new(SystemRng));
    let backend: Arc<dyn Backend> = Arc::new(LocalBackend::new(folder.to_owned(), disk, rng));
    let password = Secret::new(PASSWORD.as_bytes().to_vec());
    let services = Services::system();
    Ok(Repository::create(
        backend,
        services,
        &password,
        Cost::CHEAP,
        &Quiet::default(),
    )?)
}

/// How a database is read.
pub fn sqlite_options(chunk_bytes: usize, scratch: &Path) -> sqlite::Options {
    let services = Services::system();
    sqlite::Options {
        chunks: PageChunks::Fixed(chunk_bytes),
        scratch: scratch.to_owned(),
        page_table: true,
        disk: Arc::new(OsDisk),
        rng: services.rng,
        clock: services.clock,
        limits: sqlite::Limits::default(),
        on_a_network: sqlite::is_on_a_network,
        watch: None,
    }
}

/// Backs the database up as the program does.
pub fn back_up(repository: &Repository, database: &Path, chunk_bytes: usize) -> Result<Snapshot> {
    let scratch = database.parent().unwrap_or(Path::new("/"));
    let options = backup::Options {
        paths: vec![database.to_owned()],
        excluded: Vec::new(),
        excludes: Excludes::default(),
        recognition: backup::Recognition::default(),
        compression: backup::Compression::default(),
        tags: Vec::new(),
        host: "bench".to_owned(),
        sqlite: sqlite_options(chunk_bytes, scratch),
        memory: None,
        servers: Vec::new(),
    };
    Ok(backup::backup(repository, &options, &Quiet::default())?.snapshot)
}

/// Stores a snapshot of the files that `read` hands to the writer; for ways that the program does
/// not have. The order of durable writes is the program's: packs, index, snapshot.
pub fn store(
    repository: &Repository,
    read: impl FnOnce(&Writer) -> Result<Vec<(&'static str, StoredFile)>>,
) -> Result<Snapshot> {
    let now = Timestamp::now();
    let _lock = repository.lock(Access::Shared, &Quiet::default())?;
    let index = Arc::new(repository.load_index(&Quiet::default())?);
    let writer = Writer::begin(repository, index)?;
    let visits: Vec<Visit> = read(&writer)?
        .into_iter()
        .map(|(name, file)| Visit::Stored(entry(name, now), file, None))
        .collect();
    let trees = write_trees(&writer, visits)?;
    let tree = store_tree(&writer, "/".as_ref(), &trees.root)?;
    writer.commit()?;
    Ok(repository.save_snapshot(SnapshotFile {
        time: now,
        parent: None,
        tree,
        paths: vec!["/".to_owned()],
        hostname: "bench".to_owned(),
        username: String::new(),
        uid: 0,
        gid: 0,
        excludes: Vec::new(),
        tags: Vec::new(),
        original: None,
        program_version: String::new(),
        summary: None,
    })?)
}

fn entry(name: &str, now: Timestamp) -> Entry {
    Entry {
        name: name.into(),
        kind: Kind::File,
        mode: 0o600,
        modified: now,
        changed: now,
        owner: Owner::default(),
        place: Place::default(),
        attributes: Vec::new(),
    }
}

/// Restores the folder `base` of a snapshot as the program does: staged, read back, proved, swapped in.
pub fn restore(
    repository: &Repository,
    snapshot: &Snapshot,
    base: &Path,
    target: &Path,
) -> Result<()> {
    let monitor: Arc<dyn Monitor> = Arc::new(Quiet::default());
    let index = repository.load_index(monitor.as_ref())?;
    let plan = Plan::make(
        repository,
        &index,
        snapshot.clone(),
        Selection::whole(base),
        monitor.as_ref(),
    )?;
    let target = Target::look_at(target, &OsDisk)?;
    let staged = plan.fetch(repository, &index, target, &OsDisk, monitor.as_ref())?;
    staged.verify(&index, &monitor)?.swap_in(&monitor)?;
    Ok(())
}

/// What a repository costs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Size {
    /// Bytes of all its files.
    pub bytes: u64,
    /// Of these, trees and indexes.
    pub metadata_bytes: u64,
    /// Blobs in its index.
    pub blobs: usize,
}

/// Measures the repository in `folder`.
pub fn size(repository: &Repository, folder: &Path) -> Result<Size> {
    let index = repository.load_index(&Quiet::default())?;
    let trees: u64 = index
        .packs()
        .values()
        .flatten()
        .filter(|blob| blob.kind == BlobKind::Tree)
        .map(|blob| u64::from(blob.length))
        .sum();
    Ok(Size {
        bytes: folder_bytes(folder)?,
        metadata_bytes: trees + folder_bytes(&folder.join("index"))?,
        blobs: index.blob_count(),
    })
}

/// Bytes of all files in a folder.
pub fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    let mut waiting = vec![PathBuf::from(folder)];
    while let Some(folder) = waiting.pop() {
        for item in std::fs::read_dir(folder)? {
            let item = item?;
            if item.file_type()?.is_dir() {
                waiting.push(item.path());
            } else {
                bytes += item.metadata()?.len();
            }
        }
    }
    Ok(bytes)
}

/// Bytes of JSON of all trees of a snapshot.
pub fn tree_bytes(repository: &Repository, snapshot: &Snapshot) -> Result<u64> {
    let index: Index = repository.load_index(&Quiet::default())?;
    let mut bytes = 0;
    let mut waiting: Vec<Id> = vec![snapshot.file.tree];
    while let Some(tree) = waiting.pop() {
        bytes += index
            .find(BlobKind::Tree, tree)
            .map_or(0, |location| location.plain_length());
        for node in repository.read_tree(&index, tree)? {
            if let Content::Folder { tree } = node.content {
                waiting.push(tree);
            }
        }
    }
    Ok(bytes)
}
