//! The way in: chunks are hashed, deduplicated, compressed, sealed and packed on all cores.
//!
//! ```text
//! store() ─jobs─► workers: hash, look up, compress, seal, open again ─► packer ─packs─► uploaders ─► backend
//! ```
//! Both queues are bounded, so memory is: at most `BYTES_IN_FLIGHT` of plain chunks in the queue and
//! in the workers' hands (each about four times: plain, sealed, and opened again), two packs being
//! filled, one waiting, and one in the hands of each uploader and, while the storage is slow, of each
//! worker.
//!
//! Order is safety: an index file is written only from packs that the backend has confirmed, and
//! `commit` returns only when all are indexed. The caller writes the snapshot after that.

use std::collections::HashSet;
use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use jiff::{SignedDuration, Timestamp};

use super::Repository;
use super::budget::{Budget, Held};
use super::compress::Compression;
use super::format::MAX_BLOB;
use super::gate::Gate;
use super::index::{self, Index, IndexFile, IndexedPack};
use super::lock::Lock;
use super::pack::{BlobKind, Packer, SealedPack};
use super::sealer::Sealer;
use crate::backend::{Class, Object};
use crate::durable::PageBuffer;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::parallel::lock;

/// Chunks that may wait for each worker.
const JOBS_PER_WORKER: usize = 16;
/// Plain bytes in the queue and in the workers' hands: four of the largest chunks.
const BYTES_IN_FLIGHT: usize = 32 * 1024 * 1024;
/// Threads that wait for the storage to confirm a pack.
const UPLOADERS: usize = 2;
/// Size at which a data pack is closed, in bytes.
const DATA_PACK: usize = 16 * 1024 * 1024;
/// Size at which a tree pack is closed, in bytes. Small: restic caches whole tree packs.
const TREE_PACK: usize = 4 * 1024 * 1024;
/// Longest time for which confirmed packs stay without an index.
const INDEX_EVERY: Duration = Duration::from_mins(10);

/// What a writer has added to the repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// New data blobs.
    pub data_blobs: u64,
    /// New tree blobs.
    pub tree_blobs: u64,
    /// Plain bytes of new blobs.
    pub added_bytes: u64,
    /// The same, as stored.
    pub stored_bytes: u64,
}

#[derive(Debug, Default)]
struct Counters {
    data_blobs: AtomicU64,
    tree_blobs: AtomicU64,
    added_bytes: AtomicU64,
    stored_bytes: AtomicU64,
}

/// A blob that is on its way; its id is known once it was hashed.
#[derive(Debug)]
pub struct Pending(Receiver<Id>);

impl Pending {
    /// Waits for the id. `None` if the writer has failed; `commit` tells why.
    #[must_use]
    pub fn wait(self) -> Option<Id> {
        self.0.recv().ok()
    }
}

#[derive(Debug)]
struct Job {
    kind: BlobKind,
    plain: Vec<u8>,
    reply: Sender<Id>,
    /// Gives its bytes back when the job is done or dropped.
    _held: Held,
}

/// Confirmed packs that no index file names yet.
#[derive(Debug)]
struct Unindexed {
    packs: Vec<IndexedPack>,
    blobs: usize,
    since: Timestamp,
}

#[derive(Debug)]
struct Shared {
    repository: Repository,
    gate: Arc<Gate>,
    compression: Compression,
    index: Arc<Index>,
    /// Blobs of this run, stored or on their way.
    seen: Mutex<HashSet<(BlobKind, Id)>>,
    data: Mutex<Packer>,
    trees: Mutex<Packer>,
    /// Memory of packs that are stored, for the next ones: new memory would have to be emptied page by page.
    spare: Mutex<Vec<PageBuffer>>,
    unindexed: Mutex<Unindexed>,
    /// Index files that this run has written.
    indexes: Mutex<Vec<Id>>,
    failure: Mutex<Option<Error>>,
    failed: AtomicBool,
    in_flight: Arc<Budget>,
    counters: Counters,
}

/// Stores blobs. Drop releases the threads and writes nothing more.
#[derive(Debug)]
pub struct Writer {
    jobs: Option<Sender<Job>>,
    packs: Option<Sender<SealedPack>>,
    workers: Vec<JoinHandle<()>>,
    uploaders: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Writer {
    /// Begins to write. What `index` holds is not stored again.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a repository of an older version.
    pub fn begin(repository: &Repository, index: Arc<Index>) -> Result<Self> {
        Self::begin_behind(repository, index, Gate::open(), Compression::Auto)
    }

    /// The same; nothing is written before `gate` is open, and nothing at all if it stays shut. `compression` is that of
    /// data.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_behind(
        repository: &Repository,
        index: Arc<Index>,
        gate: Arc<Gate>,
        compression: Compression,
    ) -> Result<Self> {
        repository.require_writable()?;
        let worker_count = std::thread::available_parallelism().map_or(2, usize::from);
        let (jobs, job_queue) = bounded::<Job>(worker_count * JOBS_PER_WORKER);
        let (packs, pack_queue) = bounded::<SealedPack>(1);
        let shared = Arc::new(Shared {
            repository: repository.clone(),
            gate,
            compression,
            index,
            seen: Mutex::default(),
            data: Mutex::new(Packer::new(DATA_PACK)),
            trees: Mutex::new(Packer::new(TREE_PACK)),
            spare: Mutex::default(),
            unindexed: Mutex::new(Unindexed {
                packs: Vec::new(),
                blobs: 0,
                since: repository.inner.services.clock.now(),
            }),
            indexes: Mutex::default(),
            failure: Mutex::default(),
            failed: AtomicBool::new(false),
            in_flight: Arc::new(Budget::new(BYTES_IN_FLIGHT)),
            counters: Counters::default(),
        });
        let workers = (0..worker_count)
            .map(|_| {
                let (shared, jobs, packs) = (Arc::clone(&shared), job_queue.clone(), packs.clone());
                std::thread::spawn(move || {
                    shared.guarded(|| shared.work(&jobs, &packs), || jobs.iter().for_each(drop));
                })
            })
            .collect();
        let uploaders = (0..UPLOADERS)
            .map(|_| {
                let (shared, packs) = (Arc::clone(&shared), pack_queue.clone());
                std::thread::spawn(move || shared.guarded(|| shared.upload(&packs), || {}))
            })
            .collect();
        Ok(Self {
            jobs: Some(jobs),
            packs: Some(packs),
            workers,
            uploaders,
            shared,
        })
    }

    /// Hands in a blob; waits while the queue is full. Its id comes later.
    ///
    /// # Errors
    /// [`Error::Internal`] for a blob beyond [`MAX_BLOB`]. If the writer has stopped; see
    /// [`Writer::root_cause`].
    pub fn store(&self, kind: BlobKind, plain: Vec<u8>) -> Result<Pending> {
        if plain.len() as u64 > MAX_BLOB {
            let length = plain.len();
            return Err(Error::internal(&format!("a {kind} blob of {length} bytes")));
        }
        let (reply, id) = bounded(1);
        let job = Job {
            _held: Budget::take(&self.shared.in_flight, plain.len()),
            kind,
            plain,
            reply,
        };
        let sent = self.jobs.as_ref().is_some_and(|jobs| {
            !self.shared.failed.load(Ordering::Acquire) && jobs.send(job).is_ok()
        });
        if sent {
            Ok(Pending(id))
        } else {
            Err(self.shared.stopped())
        }
    }

    /// What a caller whose [`Pending`] came to nothing returns; see [`Writer::root_cause`].
    #[must_use]
    pub fn failure(&self) -> Error {
        self.shared.stopped()
    }

    /// The error that stopped the writer, if one did, else `cause`: the outermost caller asks once,
    /// since whoever noticed the stop could only say that it happened.
    #[must_use]
    pub fn root_cause(&self, cause: Error) -> Error {
        lock(&self.shared.failure).take().unwrap_or(cause)
    }

    /// Ends what `work` has handed in, under a lock: commits it, or gives up. If the lock has not held,
    /// others may have removed what was written, and no index may name it any more.
    ///
    /// # Errors
    /// What stopped the writer, else the error of `work`; [`Error::LockLost`] before either; as
    /// [`Self::commit`].
    pub fn end<T>(self, work: Result<T>, held: &Lock) -> Result<(T, WriterStats)> {
        let shared = Arc::clone(&self.shared);
        let ended = match work {
            Ok(value) => held
                .require_held()
                .and_then(|()| Ok((value, self.commit()?))),
            Err(cause) => {
                let cause = self.root_cause(cause);
                drop(self);
                Err(cause)
            }
        };
        shared.take_back_unless(held)?;
        ended
    }

    /// Seals the last packs, waits for all, and writes the last index.
    ///
    /// # Errors
    /// The first error of any thread. Then at most packs and indexes that no snapshot needs are
    /// left behind: harmless, and used again by the next run.
    pub fn commit(mut self) -> Result<WriterStats> {
        self.jobs = None;
        join(take(&mut self.workers));
        if let Some(packs) = self.packs.take() {
            for packer in [&self.shared.data, &self.shared.trees] {
                let packer = lock(packer).take(PageBuffer::default());
                if !packer.is_empty() && !self.shared.failed.load(Ordering::Acquire) {
                    let sealed = packer.seal(
                        &self.shared.repository.inner.key,
                        self.shared.repository.inner.services.rng.as_ref(),
                    )?;
                    // Refused only if all uploaders have failed; their error is returned below.
                    let _ = packs.send(sealed);
                }
            }
        }
        join(take(&mut self.uploaders));
        if self.shared.failed.load(Ordering::Acquire) {
            let stopped = self.shared.stopped();
            return Err(self.root_cause(stopped));
        }
        if !self.shared.gate.pass() {
            return Err(self.shared.stopped());
        }
        self.shared.write_index(&mut lock(&self.shared.unindexed))?;
        let counters = &self.shared.counters;
        Ok(WriterStats {
            data_blobs: counters.data_blobs.load(Ordering::Relaxed),
            tree_blobs: counters.tree_blobs.load(Ordering::Relaxed),
            added_bytes: counters.added_bytes.load(Ordering::Relaxed),
            stored_bytes: counters.stored_bytes.load(Ordering::Relaxed),
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Whoever drops without `commit` has an error of its own: nothing more is worth writing.
        self.shared.failed.store(true, Ordering::Release);
        self.jobs = None;
        self.packs = None;
        join(take(&mut self.workers));
        join(take(&mut self.uploaders));
    }
}

impl Shared {
    /// Removes the index files that were written, unless the lock has held.
    fn take_back_unless(&self, held: &Lock) -> Result<()> {
        let Err(cause) = held.require_held() else {
            return Ok(());
        };
        for id in take(&mut *lock(&self.indexes)) {
            self.repository.remove(Object::Named(Class::Index, id))?;
        }
        Err(cause)
    }

    /// Runs a thread's work and keeps its error, the first of all. Then `drain` keeps its queue moving
    /// until the end, or whoever fills the queue would wait for ever; also after a panic.
    fn guarded(&self, work: impl FnOnce() -> Result<()>, drain: impl FnOnce()) {
        let result = catch_unwind(AssertUnwindSafe(work));
        if let Ok(Err(cause)) = result {
            lock(&self.failure).get_or_insert(cause);
            self.failed.store(true, Ordering::Release);
        } else if let Err(panic) = result {
            self.failed.store(true, Ordering::Release);
            drain();
            resume_unwind(panic);
        }
        drain();
    }

    fn stopped(&self) -> Error {
        Error::Storage {
            doing: "writing to",
            object: self.repository.location(),
            cause: "the writer has stopped".to_owned(),
            full: false,
        }
    }

    fn work(&self, jobs: &Receiver<Job>, packs: &Sender<SealedPack>) -> Result<()> {
        let mut sealer = Sealer::new(&self.repository, self.compression)?;
        for job in jobs {
            if self.failed.load(Ordering::Acquire) {
                return Ok(());
            }
            let id = Id::of(&job.plain);
            // A caller that has given up does not wait for the answer.
            let _ = job.reply.send(id);
            if self.index.contains(job.kind, id) || !lock(&self.seen).insert((job.kind, id)) {
                continue;
            }
            sealer.seal(job.kind, &job.plain, |sealed| {
                self.count(job.kind, &job.plain, sealed);
                self.pack(job.kind, id, sealed, job.plain.len(), packs)
            })??;
        }
        Ok(())
    }

    fn count(&self, kind: BlobKind, plain: &[u8], sealed: &[u8]) {
        let blobs = match kind {
            BlobKind::Data => &self.counters.data_blobs,
            BlobKind::Tree => &self.counters.tree_blobs,
        };
        blobs.fetch_add(1, Ordering::Relaxed);
        self.counters
            .added_bytes
            .fetch_add(plain.len() as u64, Ordering::Relaxed);
        self.counters
            .stored_bytes
            .fetch_add(sealed.len() as u64, Ordering::Relaxed);
    }

    fn pack(
        &self,
        kind: BlobKind,
        id: Id,
        sealed: &[u8],
        plain_length: usize,
        packs: &Sender<SealedPack>,
    ) -> Result<()> {
        let packer = match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        };
        let Ok(plain_length) = u32::try_from(plain_length) else {
            unreachable!("store() takes at most MAX_BLOB");
        };
        let full = {
            let mut packer = lock(packer);
            packer.add(kind, id, sealed, plain_length);
            packer.is_full().then(|| packer.take(self.memory(kind)))
        };
        if let Some(packer) = full {
            let pack = packer.seal(
                &self.repository.inner.key,
                self.repository.inner.services.rng.as_ref(),
            )?;
            // Refused only if all uploaders have failed, and then theirs is the error to tell.
            let _ = packs.send(pack);
        }
        Ok(())
    }

    /// Memory for the next pack.
    fn memory(&self, kind: BlobKind) -> PageBuffer {
        let spare = (kind == BlobKind::Data).then(|| lock(&self.spare).pop());
        spare.flatten().unwrap_or_default()
    }

    /// Keeps the memory of a data pack, unless there is enough of it, or it has grown for a large blob.
    fn keep_memory(&self, memory: PageBuffer) {
        let mut spare = lock(&self.spare);
        let is_usual = (DATA_PACK..2 * DATA_PACK).contains(&memory.capacity());
        if is_usual && spare.len() < UPLOADERS {
            spare.push(memory);
        }
    }

    fn upload(&self, packs: &Receiver<SealedPack>) -> Result<()> {
        for pack in packs {
            if self.failed.load(Ordering::Acquire) {
                return Ok(());
            }
            let id = Id::of(&pack.bytes);
            if !self.gate.pass() {
                return Err(self.stopped());
            }
            if self.failed.load(Ordering::Acquire) {
                return Ok(());
            }
            self.repository
                .put(Object::Named(Class::Data, id), &pack.bytes)?;
            self.keep_memory(pack.bytes);
            // Only now may an index name it.
            let mut unindexed = lock(&self.unindexed);
            unindexed.packs.push(IndexedPack::new(id, &pack.blobs));
            unindexed.blobs += pack.blobs.len();
            let age = self
                .repository
                .inner
                .services
                .clock
                .now()
                .duration_since(unindexed.since);
            if unindexed.blobs >= index::MAX_BLOBS
                || age > SignedDuration::try_from(INDEX_EVERY).unwrap_or(SignedDuration::ZERO)
            {
                self.write_index(&mut unindexed)?;
            }
        }
        Ok(())
    }

    fn write_index(&self, unindexed: &mut Unindexed) -> Result<()> {
        if !unindexed.packs.is_empty() {
            let file = IndexFile {
                packs: take(&mut unindexed.packs),
                packs_to_delete: Vec::new(),
            };
            let id = self.repository.save_json(Class::Index, &file)?;
            lock(&self.indexes).push(id);
        }
        unindexed.blobs = 0;
        unindexed.since = self.repository.inner.services.clock.now();
        Ok(())
    }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        // A panic in a worker is a bug; it must not pass for success.
        if let Err(panic) = thread.join() {
            resume_unwind(panic);
        }
    }
}
