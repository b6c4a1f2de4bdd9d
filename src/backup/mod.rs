//! Sources in, one snapshot out.
//!
//! Readers see nothing until the snapshot object is stored, and it is stored last:
//! packs, then indexes (both in [`Writer::commit`]), then the snapshot. A failure at any point leaves
//! at most packs that no snapshot needs.

mod databases;
mod files;
mod increment;
mod new_rules;
mod series;
mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::bounded;
use jiff::Timestamp;

use crate::capture::Survey;
use crate::capture::left_out::LeftOut;
use crate::capture::manifest::{self, Excluded, Files, Manifest, Note};
pub use crate::capture::parent::Recognition;
use crate::capture::parent::{Images, Parent};
use crate::entry::Kind;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Noted, Problem, Step};
use crate::repository::Repository;
pub use crate::repository::compress::Compression;
use crate::repository::gate::Gate;
use crate::repository::index::Index;
use crate::repository::lock::{self, Access, Lock};
use crate::repository::pack::BlobKind;
pub use crate::repository::snapshot::INCOMPLETE;
use crate::repository::snapshot::{NEW_RULES, PROGRAM, SUSPECT, Snapshot, SnapshotFile, Summary};
use crate::repository::tree::{Content, Node};
use crate::repository::tree_writer::{
    Compared, StoredFile, Trees, file_node, store_tree, write_trees,
};
use crate::repository::writer::{Writer, WriterStats};
use crate::source::files::exclude::Excludes;
use crate::source::sqlite;

use databases::{Placed, StoredDatabase};
use files::Read;
use increment::{Increments, Memories, Recorded};
use servers::{Servers, own_entry};

pub use servers::ServerSource;

/// What to back up, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Absolute paths of files, folders and databases.
    pub paths: Vec<PathBuf>,
    /// Absolute paths that are left out with all below them: our own repository.
    pub excluded: Vec<PathBuf>,
    /// What is left out by rule.
    pub excludes: Excludes,
    /// Which files count as unchanged since the last snapshot of the series, and are not read again.
    pub recognition: Recognition,
    /// How much work is spent on making new data smaller.
    pub compression: Compression,
    /// Marks for the snapshot.
    pub tags: Vec<String>,
    /// The machine's name in the snapshot.
    pub host: String,
    /// Databases of servers, which are captured after these and before files.
    pub servers: Vec<ServerSource>,
    /// How databases are read.
    pub sqlite: sqlite::Options,
    /// Where this machine keeps what it has seen of them, for this repository alone: then only the pages that change are
    /// stored. Without, each is stored as one file in small chunks.
    pub memory: Option<PathBuf>,
}

/// What a backup has done.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The new snapshot.
    pub snapshot: Snapshot,
    /// What it says about itself.
    pub manifest: Manifest,
    /// What it added to the repository.
    pub added: WriterStats,
    /// What was left out by rule.
    pub left_out: LeftOut,
}

impl Outcome {
    /// Whether everything that was asked for is in it, whole.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.manifest.incomplete.is_empty()
    }

    /// Whether rules have left something out by which none of its series was made before.
    #[must_use]
    pub fn has_new_rules(&self) -> bool {
        self.snapshot.file.tags.iter().any(|tag| tag == NEW_RULES)
    }

    /// Whether something in it was damaged before it was read: whole, but not to be relied on.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.manifest.is_suspect()
    }
}

/// Backs up everything that `options` name into one new snapshot.
///
/// # Errors
/// [`Error::Source`] if something asked for by name cannot be read; [`Error::Usage`] if it cannot be
/// stored where it was named; [`Error::Locked`], [`Error::LockLost`], [`Error::Storage`],
/// [`Error::Interrupted`]. Then there is no snapshot.
pub fn backup(
    repository: &Repository,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Outcome> {
    run(None, repository, options, monitor)
}

/// The same; `ready` is called once all waiting is over, before the first source is looked at: what it
/// stops need not stand still longer than the sources are read and stored.
///
/// # Errors
/// As [`backup`], and those of `ready`: then nothing was read.
pub fn backup_when(
    ready: &mut dyn FnMut() -> Result<()>,
    repository: &Repository,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Outcome> {
    run(Some(ready), repository, options, monitor)
}

/// One run, from its begin on.
struct Run<'a> {
    repository: &'a Repository,
    options: &'a Options,
    noted: Noted<'a>,
    begun: Timestamp,
}

/// What is read of a repository before anything of the source.
struct Opened {
    /// Its index files.
    names: BTreeSet<Id>,
    index: Arc<Index>,
    /// The snapshots that the new one follows, newest first.
    earlier: Vec<Snapshot>,
}

/// What was read of the sources, on its way into the repository.
struct Stored {
    opened: Opened,
    left_out: LeftOut,
    writer: Writer,
    captured: Result<(Manifest, Root, Vec<Recorded>)>,
}

fn run(
    ready: Option<&mut dyn FnMut() -> Result<()>>,
    repository: &Repository,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Outcome> {
    repository.require_writable()?;
    match ready {
        Some(ready) => run_when(ready, repository, options, monitor),
        // Nobody has to stand still for it: then all but the writing is done while others get to see our lock.
        None => match run_at_once(repository, options, monitor)? {
            Some(outcome) => Ok(outcome),
            None => run_when(&mut || Ok(()), repository, options, monitor),
        },
    }
}

/// Reads once the lock holds, and `ready` was called.
fn run_when(
    ready: &mut dyn FnMut() -> Result<()>,
    repository: &Repository,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Outcome> {
    let run = Run::begin(repository, options, monitor);
    let access = Access::Shared;
    let (lock, mut opened) = repository.lock_meanwhile(access, monitor, || run.open())?;
    if !are_still_there(&opened.names, repository)? {
        opened = run.open()?;
    }
    let stored = run.store(opened, ready, Gate::open())?;
    run.finish(stored, &lock)
}

/// Reads before the lock holds, and writes when it does. None if somebody else came first.
fn run_at_once(
    repository: &Repository,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Option<Outcome>> {
    let run = Run::begin(repository, options, monitor);
    let lock = match Lock::take_early(repository, Access::Shared) {
        Err(Error::Locked { .. }) => return Ok(None),
        other => other?,
    };
    let (stored, holds) = std::thread::scope(|scope| {
        let (gate, keeper) = Gate::kept();
        let (tell, told) = std::sync::mpsc::channel();
        let lock = &lock;
        let settling = scope.spawn(move || {
            lock.settle()?;
            // Told by nobody: there was an error, and it is the one to tell.
            let names = told.recv().ok();
            let holds = names.map_or(Ok(true), |names| are_still_there(&names, repository))?;
            if holds {
                keeper.open();
            }
            Ok::<bool, Error>(holds)
        });
        let stored = run.open().and_then(|opened| {
            let _ = tell.send(opened.names.clone());
            run.store(opened, &mut || Ok(()), gate)
        });
        drop(tell);
        match settling.join() {
            Ok(holds) => (stored, holds),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    match holds {
        Ok(true) => run.finish(stored?, &lock).map(Some),
        Ok(false) | Err(Error::Locked { .. }) => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// Whether no index file is gone since. If we were stopped just before our lock was written, somebody may have pruned
/// beside us, and be done by now.
fn are_still_there(names: &BTreeSet<Id>, repository: &Repository) -> Result<bool> {
    Ok(names.is_subset(&repository.index_names()?))
}

impl<'a> Run<'a> {
    fn begin(repository: &'a Repository, options: &'a Options, monitor: &'a dyn Monitor) -> Self {
        Self {
            repository,
            options,
            noted: Noted::new(monitor),
            begun: repository.services().clock.now(),
        }
    }

    /// Reads what is there of the repository.
    fn open(&self) -> Result<Opened> {
        self.noted.step(Step::Opening, None);
        // What is found a second time is said once.
        drop(self.noted.take());
        Ok(Opened {
            names: self.repository.index_names()?,
            index: Arc::new(sound_index(self.repository, &self.noted)?),
            earlier: earlier(self.repository, self.options, &self.noted)?,
        })
    }

    /// Reads the sources, once `ready` was called, and hands them to a writer.
    fn store(
        &self,
        opened: Opened,
        ready: &mut dyn FnMut() -> Result<()>,
        gate: Arc<Gate>,
    ) -> Result<Stored> {
        let (repository, options) = (self.repository, self.options);
        let before = followed(&opened.earlier, options);
        let parent = Parent::new(repository, &opened.index, before, options.recognition);
        // While nobody stands still for it: an application may be stopped from `ready` on.
        let images = Images::of(&parent, self.begun);
        let last_good = servers::last_good(options, repository, &opened.index, &opened.earlier);
        ready()?;
        let survey = Survey::take(
            &options.paths,
            &excluded(options),
            &options.excludes,
            Some(&parent),
            &self.noted,
        )?;
        self.noted.step(Step::BackingUp, Some(survey.bytes));
        let writer = Writer::begin_behind(
            repository,
            Arc::clone(&opened.index),
            gate,
            options.compression,
        )?;
        let captured = self.capture(&survey, &images, last_good.as_ref(), &writer);
        Ok(Stored {
            left_out: survey.left_out,
            opened,
            writer,
            captured,
        })
    }

    /// Reads databases, then files, and stores both with all their trees.
    fn capture(
        &self,
        survey: &Survey,
        images: &Images<'_>,
        last_good: Option<&Manifest>,
        writer: &Writer,
    ) -> Result<(Manifest, Root, Vec<Recorded>)> {
        let (repository, options, monitor) = (self.repository, self.options, &self.noted);
        let memory = options.memory.clone();
        let memory = memory.map(|folder| Memories::new(Arc::clone(&options.sqlite.disk), folder));
        let increments = memory.as_ref().map(|memories| Increments {
            memories,
            go_on: !options.recognition.force,
            repository,
            index: images.parent.index(),
            writer,
            now: self.begun,
        });
        if let Some(increments) = &increments {
            increments.tidy();
        }
        servers::require_room(options)?;
        let databases =
            databases::capture_all(survey, options, images, increments, writer, monitor)?;
        let servers = servers::capture_all(options, last_good, repository, writer, monitor)?;
        let (trees, read) = store_files(
            survey,
            &databases,
            images.parent,
            repository,
            writer,
            monitor,
        )?;
        let mut databases = databases::keep_placed(databases, &read.placed, survey, monitor)?;
        let ended = repository.services().clock.now();
        let recorded = std::mem::take(&mut databases.recorded);
        let manifest = describe(
            options,
            self.begun..ended,
            databases,
            &servers,
            &trees,
            &survey.left_out,
            &monitor.take(),
        );
        let root = store_root(trees, servers, &read, &manifest, ended, writer)?;
        Ok((manifest, root, recorded))
    }

    /// Makes a snapshot of what was stored.
    fn finish(&self, stored: Stored, lock: &Lock) -> Result<Outcome> {
        let Stored {
            opened: Opened { index, earlier, .. },
            left_out,
            writer,
            captured,
        } = stored;
        let (repository, options, begun) = (self.repository, self.options, self.begun);
        // Only under a lock that holds is what was written safe from somebody's prune.
        let ((manifest, root, recorded), added) = writer.end(captured, lock)?;
        let has_new_rules = new_rules::are_new(&manifest, &earlier, repository, &index);
        let summary = Summary {
            backup_start: root.earliest.min(begun),
            backup_end: repository.services().clock.now(),
            files_new: root.files.new,
            files_changed: root.files.changed,
            files_unmodified: root.files.unmodified,
            dirs_new: root.folders.new,
            dirs_changed: root.folders.changed,
            dirs_unmodified: root.folders.unmodified,
            data_blobs: added.data_blobs,
            tree_blobs: added.tree_blobs,
            data_added: added.added_bytes,
            data_added_packed: added.stored_bytes,
            total_files_processed: root.files.total(),
            total_bytes_processed: root.bytes,
        };
        let file = SnapshotFile {
            time: begun,
            parent: followed(&earlier, options).map(|snapshot| snapshot.id),
            tree: root.tree,
            paths: series::paths(options),
            hostname: options.host.clone(),
            username: lock::user_name(),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            excludes: options.excludes.rules().patterns.clone(),
            tags: tags(options, &manifest, has_new_rules),
            original: None,
            program_version: PROGRAM.to_owned(),
            summary: Some(summary),
        };
        let snapshot = repository.save_snapshot_under(file, lock)?;
        recorded.into_iter().for_each(Recorded::keep);
        Ok(Outcome {
            snapshot,
            manifest,
            added,
            left_out,
        })
    }
}

/// The tags asked for, and our marks for a snapshot that is not to make others go: any tool lists them.
fn tags(options: &Options, manifest: &Manifest, has_new_rules: bool) -> Vec<String> {
    let mark = (!manifest.incomplete.is_empty()).then(|| INCOMPLETE.to_owned());
    let doubt = manifest.is_suspect().then(|| SUSPECT.to_owned());
    let news = has_new_rules.then(|| NEW_RULES.to_owned());
    let tags = options.tags.iter().cloned();
    tags.chain(mark).chain(doubt).chain(news).collect()
}

/// The index, without what lies in packs that are gone: that is stored again where the source has it.
fn sound_index(repository: &Repository, monitor: &dyn Monitor) -> Result<Index> {
    let (index, lost) = repository.load_sound_index(monitor)?;
    for pack in lost {
        monitor.problem(Problem {
            item: format!("pack {}", pack.short()),
            finding: "is gone or cut off; what it held is stored again where it is still there to read, but older snapshots may be damaged: `tillsafe check` tells".to_owned(),
            incomplete: false,
        });
    }
    Ok(index)
}

/// The snapshots that the new one follows, newest first. One of the future is told.
fn earlier(
    repository: &Repository,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Vec<Snapshot>> {
    let snapshots = repository.snapshots(monitor)?;
    let now = repository.services().clock.now();
    series::tell_future(&snapshots, options, now, monitor);
    Ok(series::earlier(snapshots, options, now))
}

/// Which of them what is read now is compared with.
fn followed<'a>(earlier: &'a [Snapshot], options: &Options) -> Option<&'a Snapshot> {
    earlier.first().filter(|_| !options.recognition.force)
}

/// What is never read: what the owner of `options` excludes, and where our own facts are stored.
fn excluded(options: &Options) -> Vec<PathBuf> {
    let own = Path::new("/").join(manifest::FOLDER);
    options.excluded.iter().cloned().chain([own]).collect()
}

/// The root tree, and what it holds in all.
struct Root {
    tree: Id,
    files: Compared,
    folders: Compared,
    bytes: u64,
    /// The earliest that the clock has said while files were read.
    earliest: Timestamp,
}

/// Reads the files while another thread builds their trees.
fn store_files(
    survey: &Survey,
    databases: &BTreeMap<PathBuf, Option<StoredDatabase>>,
    parent: &Parent<'_>,
    repository: &Repository,
    writer: &Writer,
    monitor: &Noted<'_>,
) -> Result<(Trees, Read)> {
    /// Batches of entries between the walk and the trees.
    const QUEUE: usize = 4;
    let (visits, queue) = bounded(QUEUE);
    std::thread::scope(|scope| {
        let trees = scope.spawn(|| write_trees(writer, queue.into_iter().flatten()));
        let read = files::read_all(
            survey, databases, parent, repository, writer, monitor, &visits,
        );
        drop(visits);
        let trees = match trees.join() {
            Ok(trees) => trees,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        // If the trees failed, the walk only noticed that nobody listens any more.
        match (trees, read) {
            (Err(cause), _) | (Ok(_), Err(cause)) => Err(cause),
            (Ok(trees), Ok(read)) => Ok((trees, read)),
        }
    })
}

fn describe(
    options: &Options,
    time: Range<Timestamp>,
    databases: Placed,
    servers: &Servers,
    trees: &Trees,
    left_out: &LeftOut,
    problems: &[Problem],
) -> Manifest {
    let notes = |incomplete: bool| {
        problems
            .iter()
            .filter(move |problem| problem.incomplete == incomplete)
            .map(Note::from)
            .collect()
    };
    let files = Files {
        files: trees.files.total() - databases.files,
        folders: trees.folders.total(),
        bytes: trees.bytes - databases.bytes,
    };
    Manifest {
        schema: manifest::schema_for(&servers.described),
        program: PROGRAM.to_owned(),
        host: options.host.clone(),
        begun: time.start,
        ended: time.end,
        databases: databases.described,
        servers: servers.described.clone(),
        files,
        excluded: Excluded::of(options.excludes.rules(), left_out),
        incomplete: notes(true),
        warnings: notes(false),
    }
}

/// Adds the dumps of servers and the manifest to the root and stores both.
fn store_root(
    mut trees: Trees,
    servers: Servers,
    read: &Read,
    manifest: &Manifest,
    now: Timestamp,
    writer: &Writer,
) -> Result<Root> {
    let json = serde_json::to_vec_pretty(manifest).map_err(|cause| Error::internal(&cause))?;
    let size = json.len() as u64;
    let blob = writer
        .store(BlobKind::Data, json)?
        .wait()
        .ok_or_else(|| writer.failure())?;
    let file = StoredFile {
        blobs: vec![blob],
        size,
    };
    let inner = file_node(own_entry(manifest::FILE, Kind::File, 0o600, now), file);
    let tree = store_tree(writer, manifest::FOLDER.as_ref(), &[inner])?;
    servers.join(&mut trees)?;
    let mut root = trees.root;
    root.push(Node {
        entry: own_entry(manifest::FOLDER, Kind::Folder, 0o700, now),
        content: Content::Folder { tree },
    });
    root.sort_by(|a, b| a.entry.name.as_bytes().cmp(b.entry.name.as_bytes()));
    let (mut files, mut folders) = (trees.files, trees.folders);
    for count in [&mut files, &mut folders] {
        if read.followed {
            count.changed += 1;
        } else {
            count.new += 1;
        }
    }
    Ok(Root {
        tree: store_tree(writer, "/".as_ref(), &root)?,
        files,
        folders,
        bytes: trees.bytes + size,
        earliest: read.earliest,
    })
}
