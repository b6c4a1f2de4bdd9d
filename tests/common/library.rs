//! The library in process: backends that fail, clocks that do not wait, cheap keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tillsafe::backend::Backend;
use tillsafe::backup::{self, Options, Outcome};
use tillsafe::chunker::PageChunks;
use tillsafe::clock::Clock;
use tillsafe::durable::{Disk, OsDisk};
use tillsafe::error::Result;
use tillsafe::monitor::{Monitor, Quiet};
use tillsafe::repository::check::{CheckReport, Extent, check};
use tillsafe::repository::keys::Cost;
use tillsafe::repository::snapshot::Snapshot;
use tillsafe::repository::{Repository, Services};
use tillsafe::restore::in_place::{InPlace, Registry, Swapped};
use tillsafe::restore::{Plan, ProofLevel, Restored, Selection, Target};
use tillsafe::rng::SystemRng;
use tillsafe::secret::Secret;
use tillsafe::source::files::exclude::Excludes;
use tillsafe::source::sqlite;

/// The true time, but nobody waits.
#[derive(Debug)]
struct Hurried;

impl Clock for Hurried {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn sleep(&self, _duration: Duration) {}
}

pub fn services() -> Services {
    Services {
        patience: Duration::ZERO,
        clock: Arc::new(Hurried),
        rng: Arc::new(SystemRng),
    }
}

/// The password of every repository that the library makes here.
pub const PASSWORD: &str = "celadon";

pub fn password() -> Secret {
    Secret::new(PASSWORD.as_bytes().to_vec())
}

/// Makes a repository whose key costs next to nothing.
pub fn create(backend: &Arc<dyn Backend>) -> Repository {
    create_with(backend, PASSWORD)
}

/// The same, with another password.
pub fn create_with(backend: &Arc<dyn Backend>, password: &str) -> Repository {
    let password = Secret::new(password.as_bytes().to_vec());
    Repository::create(
        Arc::clone(backend),
        services(),
        &password,
        Cost::CHEAP,
        &Quiet::default(),
    )
    .unwrap()
}

pub fn open(backend: &Arc<dyn Backend>) -> Result<Repository> {
    Repository::open(
        Arc::clone(backend),
        services(),
        &password(),
        &Quiet::default(),
    )
}

/// How the tests back up.
pub fn options(paths: &[&Path], scratch: &Path, disk: &Arc<dyn Disk>) -> Options {
    Options {
        paths: paths.iter().map(|path| path.to_path_buf()).collect(),
        excluded: Vec::new(),
        excludes: Excludes::default(),
        recognition: backup::Recognition::default(),
        compression: backup::Compression::default(),
        tags: Vec::new(),
        host: "test".to_owned(),
        memory: None,
        servers: Vec::new(),
        sqlite: sqlite::Options {
            chunks: PageChunks::BySize,
            scratch: scratch.to_owned(),
            page_table: true,
            disk: Arc::clone(disk),
            rng: Arc::new(SystemRng),
            clock: Arc::new(Hurried),
            limits: sqlite::Limits::default(),
            on_a_network: sqlite::is_on_a_network,
            watch: None,
        },
    }
}

/// Backs one path up.
pub fn back_up(backend: &Arc<dyn Backend>, path: &Path) -> Result<Outcome> {
    back_up_through(backend, path, &(Arc::new(OsDisk) as Arc<dyn Disk>))
}

/// The same, with spools on `disk`.
pub fn back_up_through(
    backend: &Arc<dyn Backend>,
    path: &Path,
    disk: &Arc<dyn Disk>,
) -> Result<Outcome> {
    let scratch = path.parent().unwrap();
    backup::backup(
        &open(backend)?,
        &options(&[path], scratch, disk),
        &Quiet::default(),
    )
}

/// Backs several paths up.
pub fn back_up_all(backend: &Arc<dyn Backend>, paths: &[&Path], scratch: &Path) -> Result<Outcome> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    backup::backup(
        &open(backend)?,
        &options(paths, scratch, &disk),
        &Quiet::default(),
    )
}

/// Restores one snapshot's `base` folder to `target`.
pub fn restore(
    backend: &Arc<dyn Backend>,
    snapshot: Snapshot,
    base: &Path,
    target: &Path,
    disk: &dyn Disk,
) -> Result<Restored> {
    let monitor: Arc<dyn Monitor> = Arc::new(Quiet::default());
    let repository = open(backend)?;
    let index = repository.load_index(monitor.as_ref())?;
    let mut plan = Plan::make(
        &repository,
        &index,
        snapshot,
        Selection::whole(base),
        monitor.as_ref(),
    )?;
    let target = Target::look_at(target, disk)?;
    if let Some(finished) = target.finish(&mut plan, &repository, &index, disk, monitor.as_ref())? {
        return Ok(finished);
    }
    let staged = plan.fetch(&repository, &index, target, disk, monitor.as_ref())?;
    staged.verify(&index, &monitor)?.swap_in(&monitor)
}

/// Restores one snapshot's `base` over what stands there, or finishes that restore.
pub fn restore_in_place(
    backend: &Arc<dyn Backend>,
    snapshot: &Snapshot,
    base: &Path,
    registry: &Registry,
    disk: &dyn Disk,
) -> Result<Swapped> {
    let monitor: Arc<dyn Monitor> = Arc::new(Quiet::default());
    let repository = open(backend)?;
    let index = repository.load_index(monitor.as_ref())?;
    let watch = monitor.as_ref();
    let planned = InPlace::plan(
        &repository,
        &index,
        snapshot,
        &Selection::whole(base),
        disk,
        watch,
    )?;
    if planned.is_unfinished() {
        return planned.finish(&index, disk, &monitor);
    }
    let ready = planned.stage(&repository, &index, disk, &monitor)?;
    ready.swap(&services(), Some(registry), disk, &monitor)
}

pub fn snapshots(backend: &Arc<dyn Backend>) -> Vec<Snapshot> {
    open(backend)
        .unwrap()
        .snapshots(&Quiet::default())
        .unwrap()
        .readable
}

/// Checks every byte.
pub fn full_check(backend: &Arc<dyn Backend>) -> CheckReport {
    check(
        &open(backend).unwrap(),
        Extent::Everything,
        &Quiet::default(),
    )
    .unwrap()
}

/// Everything that is stored is whole: each snapshot restores and proves itself.
pub fn assert_every_snapshot_restores(
    backend: &Arc<dyn Backend>,
    base: &Path,
    scratch: &Path,
) -> usize {
    let report = full_check(backend);
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    let snapshots = snapshots(backend);
    let count = snapshots.len();
    for snapshot in snapshots {
        let target: PathBuf = scratch.join(snapshot.id.short());
        let restored = restore(backend, snapshot, base, &target, &OsDisk).unwrap();
        assert_eq!(restored.level, ProofLevel::Matched);
        std::fs::remove_dir_all(target).unwrap();
    }
    count
}
