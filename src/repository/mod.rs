//! The restic repository format, version 2: all that reads or writes it.
//!
//! Invariants: an object is named by the SHA-256 of its stored bytes and never changed; a blob by
//! the SHA-256 of its plain bytes, checked on every read. Packs become durable before an index names
//! them, the index before a snapshot needs it. Called by the verbs (`backup`, `restore`) and `cli`.

mod blob;
mod budget;
pub mod check;
pub mod compress;
pub mod crypto;
pub mod format;
pub mod gate;
pub mod index;
pub mod json;
pub mod key_ring;
pub mod keys;
pub mod lock;
pub mod name;
mod object;
mod open;
pub mod pack;
pub mod prune;
mod recover;
pub mod repair;
mod replace;
mod sealer;
pub mod snapshot;
pub mod tag;
pub mod tree;
pub mod tree_writer;
mod unlock;
pub mod writer;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backend::{self, Backend, Class, Listing, Object};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Problem};
use crate::rng::{Rng, SystemRng};
use crate::secret::Secret;
use budget::Budget;
pub use budget::Held;
use crypto::Key;
use format::{Config, MAX_INDEX, MAX_INDEX_RATIO, MAX_LOCK, MAX_SNAPSHOT, SMALL_INDEX};
use index::Shelf;
use keys::Cost;
use lock::Lock;
pub use open::{Found, what_is_there};
use snapshot::{Snapshot, SnapshotFile, Snapshots};
use unlock::{InUse, Opened, find_key};

/// Bytes of blobs that are read at a time. One blob may take more, alone.
const READ_MEMORY: usize = 256 * 1024 * 1024;

/// Time and randomness, injected; and how long a lock is waited for.
#[derive(Debug, Clone)]
pub struct Services {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// How long a lock that cannot be had is waited for.
    pub patience: Duration,
}

impl Services {
    /// Those of this machine.
    #[must_use]
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            rng: Arc::new(SystemRng),
            patience: Duration::ZERO,
        }
    }
}

/// An open repository. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repository {
    inner: Arc<Inner>,
}

/// What an open repository knows.
#[derive(Debug)]
struct Inner {
    backend: Arc<dyn Backend>,
    services: Services,
    key: Key,
    opened_with: InUse,
    /// Or what is wrong with it.
    config: std::result::Result<Config, String>,
    /// For blobs that are read on all cores.
    memory: Arc<Budget>,
    /// Where a table of the index is kept.
    shelf: OnceLock<Shelf>,
}

impl Repository {
    /// Creates a repository. The config comes last: its existence is the repository's. A key that an
    /// interrupted creation left is used, if the password opens it.
    ///
    /// # Errors
    /// [`Error::RepositoryExists`] if anything but keys is there; [`Error::WrongPassword`] if there are
    /// keys that it does not open; [`Error::Storage`].
    pub fn create(
        backend: Arc<dyn Backend>,
        services: Services,
        password: &Secret,
        cost: Cost,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let location = backend.location();
        let prepare = || {
            let created = backend.create();
            created.map_err(|cause| cause.on("creating", &location))
        };
        let opened = match what_is_there(backend.as_ref())? {
            Found::Nothing => {
                let master = Key::random(services.rng.as_ref())?;
                prepare()?;
                let id = key_ring::store(backend.as_ref(), &services, &master, password, cost)?;
                Opened::new(master, id)
            }
            Found::KeysAlone => {
                let opened = find_key(backend.as_ref(), password, monitor)?;
                prepare()?;
                opened
            }
            Found::Repository => return Err(Error::RepositoryExists { location }),
        };
        let config = Config::random(services.rng.as_ref())?;
        let repository = Self {
            inner: Arc::new(Inner {
                backend,
                services,
                key: opened.master,
                opened_with: opened.file,
                config: Ok(config),
                memory: Arc::new(Budget::new(READ_MEMORY)),
                shelf: OnceLock::new(),
            }),
        };
        let sealed = repository.seal(&encode(repository.config()?)?)?;
        repository.put(Object::Config, &sealed)?;
        Ok(repository)
    }

    /// The repository's config.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it could not be read: then the repository is open for reading only.
    pub fn config(&self) -> Result<&Config> {
        self.inner
            .config
            .as_ref()
            .map_err(|finding| Error::Damaged {
                object: Object::Config.to_string(),
                finding: finding.clone(),
            })
    }

    /// Time and randomness.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.inner.services
    }

    /// Where it is.
    #[must_use]
    pub fn location(&self) -> String {
        self.inner.backend.location()
    }

    /// Fails unless the repository is of the version that is written.
    ///
    /// # Errors
    /// [`Error::Unsupported`]; [`Error::Damaged`] if the config cannot be read.
    pub fn require_writable(&self) -> Result<()> {
        if self.config()?.version == 2 {
            return Ok(());
        }
        Err(Error::Unsupported {
            location: self.location(),
            finding: "has format version 1, which is read but not written; `restic migrate upgrade_repo_v2` brings it up to date".into(),
        })
    }

    fn list(&self, class: Class) -> Result<Listing> {
        list(self.inner.backend.as_ref(), class)
    }

    /// Whether an object is listed.
    fn is_there(&self, class: Class, id: Id) -> Result<bool> {
        let listing = self.list(class)?;
        Ok(listing.objects.iter().any(|(listed, _)| *listed == id))
    }

    fn put(&self, object: Object, bytes: &[u8]) -> Result<()> {
        match self.inner.backend.put_new(object, bytes) {
            // Named by its own hash: the same bytes are there already.
            Err(backend::Error::AlreadyExists) if object != Object::Config => Ok(()),
            Err(backend::Error::NotFound) if let Object::Named(class, _) = object => {
                Err(missing(self.inner.backend.as_ref(), class))
            }
            other => other.map_err(|cause| cause.on("writing", object)),
        }
    }

    /// Seals bytes under the repository's key: what lies on this machine and is to be believed later, too.
    ///
    /// # Errors
    /// [`Error::NoRandomness`].
    pub fn seal(&self, plain: &[u8]) -> Result<Vec<u8>> {
        self.inner.key.seal(plain, self.inner.services.rng.as_ref())
    }

    /// Opens what was [sealed](Self::seal).
    ///
    /// # Errors
    /// [`crypto::NotAuthentic`].
    pub fn unseal(&self, sealed: &[u8]) -> std::result::Result<Vec<u8>, crypto::NotAuthentic> {
        self.inner.key.open(sealed)
    }

    /// Stores a JSON object under the hash of its sealed bytes: compressed, but for the locks that we
    /// take in repositories of version 1, which knows no compression.
    fn save_json<T: Serialize>(&self, class: Class, value: &T) -> Result<Id> {
        let json = encode(value)?;
        let plain = if self.config()?.version == 1 {
            json
        } else {
            let compressed = compress::compressor(compress::METADATA_LEVEL)
                .and_then(|mut compressor| compressor.compress(&json))
                .map_err(|cause| Error::internal(&cause))?;
            [&[2], compressed.as_slice()].concat()
        };
        let sealed = self.seal(&plain)?;
        let id = Id::of(&sealed);
        self.put(Object::Named(class, id), &sealed)?;
        Ok(id)
    }

    /// Reads a JSON object and checks hash, authentication code and form.
    fn load_json<T: DeserializeOwned>(&self, class: Class, id: Id) -> Result<T> {
        let json = self.load_plain(class, id)?;
        serde_json::from_slice(&json).map_err(|cause| Error::Damaged {
            object: Object::Named(class, id).to_string(),
            finding: cause.to_string(),
        })
    }

    /// The JSON of an object as it stands there, after hash and authentication code were checked.
    fn load_plain(&self, class: Class, id: Id) -> Result<Vec<u8>> {
        let object = Object::Named(class, id);
        let sealed = self
            .inner
            .backend
            .get(object, most(class))
            .map_err(|cause| cause.on("reading", object))?;
        let damaged = |finding: String| Error::Damaged {
            object: object.to_string(),
            finding,
        };
        if Id::of(&sealed) != id {
            return Err(damaged("its bytes are not those it is named after".into()));
        }
        let plain = self
            .inner
            .key
            .open(&sealed)
            .map_err(|cause| damaged(cause.to_string()))?;
        drop(sealed);
        match plain.first() {
            Some(2) => compress::decompress_unsized(&plain[1..], most_plain(class, &plain))
                .map_err(|cause| damaged(cause.to_string())),
            Some(b'{' | b'[') => Ok(plain),
            other => Err(damaged(format!("it has an unknown encoding ({other:?})"))),
        }
    }

    /// Stores a snapshot: what makes everything before it visible.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn save_snapshot(&self, file: SnapshotFile) -> Result<Snapshot> {
        let id = self.save_json(Class::Snapshots, &file)?;
        Ok(Snapshot { id, file })
    }

    /// The same under a lock, without which what the snapshot needs may be gone by now.
    ///
    /// # Errors
    /// [`Error::LockLost`]: then there is no snapshot; [`Error::Storage`].
    pub fn save_snapshot_under(&self, file: SnapshotFile, held: &Lock) -> Result<Snapshot> {
        let id = self.save_snapshot_json(&file, held)?;
        Ok(Snapshot { id, file })
    }

    /// The same of fields that may be more than we know.
    fn save_snapshot_json<T: Serialize>(&self, fields: &T, held: &Lock) -> Result<Id> {
        held.require_held()?;
        let id = self.save_json(Class::Snapshots, fields)?;
        // Stopped before it was stored, we may have been taken for dead in between.
        if let Err(cause) = held.require_held() {
            self.remove_snapshot(id)?;
            return Err(cause);
        }
        Ok(id)
    }

    /// Removes a snapshot. What it alone needs stays until somebody prunes. One that is gone already is no
    /// failure.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn remove_snapshot(&self, id: Id) -> Result<()> {
        self.remove(Object::Named(Class::Snapshots, id))
    }

    /// Removes an object. One that is gone already is no failure: whatever was to come of it has come.
    fn remove(&self, object: Object) -> Result<()> {
        match self.inner.backend.delete(object) {
            Err(backend::Error::NotFound) => Ok(()),
            other => other.map_err(|cause| cause.on("removing", object)),
        }
    }

    /// Reads all snapshots, oldest first; of two of one moment, one that is marked incomplete comes first. Damaged ones are told to `monitor`, and named in the result.
    ///
    /// # Errors
    /// [`Error::Storage`] if they cannot be listed.
    pub fn snapshots(&self, monitor: &dyn Monitor) -> Result<Snapshots> {
        let listing = self.list(Class::Snapshots)?;
        report_strays(monitor, Class::Snapshots, &listing);
        let mut snapshots = Snapshots::default();
        let mut problems = Problems::new(monitor, Class::Snapshots);
        for (id, _) in listing.objects {
            match self.load_json(Class::Snapshots, id) {
                Ok(file) => snapshots.readable.push(Snapshot { id, file }),
                // Removed between listing and reading: no longer one of ours.
                Err(Error::Storage { .. }) if !self.is_there(Class::Snapshots, id)? => {}
                Err(cause) => {
                    problems.tell(|| left_out(&Object::Named(Class::Snapshots, id), &cause));
                    snapshots.damaged.push(id);
                }
            }
        }
        // What a repair has made of a snapshot has its time, and less of it.
        snapshots
            .readable
            .sort_by_key(|one| (one.file.time, !one.file.is_incomplete(), one.id));
        Ok(snapshots)
    }

    /// The packs that are there, with their sizes in bytes.
    ///
    /// # Errors
    /// [`Error::Storage`] if they cannot be listed.
    pub fn packs(&self, monitor: &dyn Monitor) -> Result<HashMap<Id, u64>> {
        let listing = self.list(Class::Data)?;
        report_strays(monitor, Class::Data, &listing);
        Ok(listing.objects.into_iter().collect())
    }
}

/// Lists a class; a folder that is missing is named.
fn list(backend: &dyn Backend, class: Class) -> Result<Listing> {
    match backend.list(class) {
        Err(backend::Error::NotFound) => Err(missing(backend, class)),
        other => other.map_err(|cause| cause.on("listing", class.folder())),
    }
}

fn missing(backend: &dyn Backend, class: Class) -> Error {
    Error::FolderMissing {
        location: backend.location(),
        folder: class.folder(),
    }
}

/// Most bytes of an object that is read whole.
const fn most(class: Class) -> u64 {
    match class {
        Class::Keys => keys::MAX_FILE,
        Class::Locks => MAX_LOCK,
        Class::Snapshots => MAX_SNAPSHOT,
        Class::Index | Class::Data => MAX_INDEX,
    }
}

/// Most bytes that an object of these compressed bytes may unfold to.
fn most_plain(class: Class, compressed: &[u8]) -> u64 {
    let most = most(class);
    if class == Class::Index {
        let by_ratio = MAX_INDEX_RATIO * compressed.len() as u64;
        by_ratio.clamp(SMALL_INDEX, most)
    } else {
        most
    }
}

fn report_strays(monitor: &dyn Monitor, class: Class, listing: &Listing) {
    // What an interrupted run of any tool leaves; the next owner of the folder may tidy it.
    let strays = listing
        .strays
        .iter()
        .filter(|stray| !stray.contains("-tmp-"));
    let mut problems = Problems::new(monitor, class);
    for stray in strays {
        problems.tell(|| Problem {
            item: format!("{}/{stray}", class.folder()),
            finding: "is no object of a repository; it is ignored".into(),
            incomplete: false,
        });
    }
}

/// Tells the first problems of a folder, and of all others how many they are.
struct Problems<'a> {
    monitor: &'a dyn Monitor,
    class: Class,
    count: u64,
}

impl<'a> Problems<'a> {
    /// As many are read by a person.
    const TOLD: u64 = 20;

    const fn new(monitor: &'a dyn Monitor, class: Class) -> Self {
        Self {
            monitor,
            class,
            count: 0,
        }
    }

    fn tell(&mut self, problem: impl FnOnce() -> Problem) {
        self.count += 1;
        if self.count <= Self::TOLD {
            self.monitor.problem(problem());
        }
    }
}

impl Drop for Problems<'_> {
    fn drop(&mut self) {
        if let Some(others) = self
            .count
            .checked_sub(Self::TOLD)
            .filter(|others| *others > 0)
        {
            self.monitor.problem(Problem {
                item: self.class.folder().to_owned(),
                finding: format!("and so with {others} more"),
                incomplete: false,
            });
        }
    }
}

/// What is wrong, without the name of the object, which stands before it already.
fn finding(cause: &Error) -> String {
    match cause {
        Error::Damaged { finding, .. } => finding.clone(),
        other => other.to_string(),
    }
}

fn left_out(object: &Object, cause: &Error) -> Problem {
    Problem {
        item: object.to_string(),
        finding: finding(cause),
        incomplete: false,
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|cause| Error::internal(&cause))
}
