//! Prune: what is removed, when, and that nothing which a snapshot needs ever is.

mod crash;
mod full;
mod hosts;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tillsafe::backend::{Backend, Class, LocalBackend, MemBackend, Object};
use tillsafe::clock::Clock;
use tillsafe::durable::OsDisk;
use tillsafe::error::{Error, Result};
use tillsafe::id::Id;
use tillsafe::monitor::Quiet;
use tillsafe::repository::crypto::Key;
use tillsafe::repository::index::{Index, IndexFile, IndexedPack};
use tillsafe::repository::keys::KeyFile;
use tillsafe::repository::pack::BlobKind;
use tillsafe::repository::prune::{MaxUnused, Options, PruneReport, prune};
use tillsafe::repository::writer::Writer;
use tillsafe::repository::{Repository, Services};
use tillsafe::rng::SystemRng;

use crate::common::Place;
use crate::common::compare::describe;
use crate::common::files::{files_below, flip_a_bit};
use crate::common::library::{back_up, create, full_check, password, restore, services, snapshots};
use crate::common::mount::SmallDisk;
use crate::common::program::Program;
use crate::common::restic::Restic;
use crate::common::shop::noise;
use crate::common::tools::skipped;

/// A clock that is wrong by so many minutes, and never waits.
#[derive(Debug, Default)]
struct Skewed(AtomicI64);

impl Skewed {
    fn by(minutes: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(minutes)))
    }

    fn advance(&self, minutes: i64) {
        self.0.fetch_add(minutes, Ordering::SeqCst);
    }
}

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_mins(self.0.load(Ordering::SeqCst))
    }

    fn sleep(&self, _duration: Duration) {}
}

const DAY: i64 = 24 * 60;

fn open_at(backend: &Arc<dyn Backend>, clock: &Arc<Skewed>) -> Repository {
    let services = Services {
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        ..services()
    };
    let monitor = Quiet::default();
    Repository::open(Arc::clone(backend), services, &password(), &monitor).unwrap()
}

const USUAL: Options = Options {
    now: false,
    max_unused: MaxUnused::Part(500),
    dry_run: false,
};
/// Repacks nothing.
const LAZY: Options = Options {
    max_unused: MaxUnused::Unlimited,
    ..USUAL
};
/// Repacks whatever holds anything that nobody needs.
const THOROUGH: Options = Options {
    max_unused: MaxUnused::Bytes(0),
    ..USUAL
};
const AT_ONCE: Options = Options {
    now: true,
    ..THOROUGH
};

fn prune_at(backend: &Arc<dyn Backend>, minutes: i64, options: &Options) -> Result<PruneReport> {
    let repository = open_at(backend, &Skewed::by(minutes));
    prune(&repository, options, &Quiet::default())
}

/// A folder that changes, its snapshots, and what each of them holds.
struct History {
    place: Place,
    folder: PathBuf,
    backend: Arc<dyn Backend>,
    held: BTreeMap<Id, BTreeMap<PathBuf, String>>,
    changes: u64,
}

impl History {
    fn on(backend: Arc<dyn Backend>) -> Self {
        let place = Place::new();
        let folder = place.join("shop");
        fs::create_dir_all(folder.join("pictures")).unwrap();
        let mut history = Self {
            place,
            folder,
            backend,
            held: BTreeMap::new(),
            changes: 0,
        };
        fs::write(history.folder.join("stays.bin"), noise(7, 90_000)).unwrap();
        history.change();
        history
    }

    /// In a new repository in memory.
    fn in_memory() -> Self {
        let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
        create(&backend);
        Self::on(backend)
    }

    /// With three snapshots, of which the first two are forgotten.
    fn with_waste() -> Self {
        let mut history = Self::in_memory();
        history.waste();
        history
    }

    fn waste(&mut self) {
        let first = self.back_up();
        self.change();
        let second = self.back_up();
        self.change();
        self.back_up();
        self.forget(first);
        self.forget(second);
    }

    fn change(&mut self) {
        self.changes += 1;
        let seed = self.changes;
        fs::write(self.folder.join("changes.bin"), noise(seed, 120_000)).unwrap();
        let picture = self.folder.join(format!("pictures/{seed}.jpg"));
        fs::write(picture, noise(100 + seed, 40_000)).unwrap();
        let before = self.folder.join(format!("pictures/{}.jpg", seed - 1));
        let _ = fs::remove_file(before);
    }

    fn back_up(&mut self) -> Id {
        let outcome = back_up(&self.backend, &self.folder).unwrap();
        let id = outcome.snapshot.id;
        self.held.insert(id, describe(&self.folder, &|_| false));
        id
    }

    fn forget(&mut self, id: Id) {
        let repository = open_at(&self.backend, &Skewed::by(0));
        repository.remove_snapshot(id).unwrap();
        self.held.remove(&id);
    }

    fn prune(&self, minutes: i64, options: &Options) -> PruneReport {
        prune_at(&self.backend, minutes, options).unwrap()
    }

    /// The same repository and history with other storage: a copy in memory.
    fn copied(&self) -> Arc<dyn Backend> {
        let copy = MemBackend::default();
        for (object, bytes) in objects_of(&self.backend) {
            copy.put_new(object, &bytes).unwrap();
        }
        Arc::new(copy)
    }

    fn packs(&self) -> usize {
        self.backend.list(Class::Data).unwrap().objects.len()
    }

    /// Every snapshot that is there is one of ours, and restores as it was.
    fn assert_whole(&self, what: &str) {
        self.assert_all_whole(&self.backend, what);
    }

    /// The same of a copy.
    fn assert_all_whole(&self, backend: &Arc<dyn Backend>, what: &str) {
        let report = full_check(backend);
        assert!(report.damage.is_empty(), "{what}: {:?}", report.damage);
        for snapshot in snapshots(backend) {
            let id = snapshot.id;
            let target = self.place.join("restored");
            restore(backend, snapshot, &self.folder, &target, &OsDisk)
                .unwrap_or_else(|cause| panic!("{what}: {cause}"));
            if let Some(held) = self.held.get(&id) {
                assert_eq!(*held, describe(&target, &|_| false), "{what}");
            }
            fs::remove_dir_all(target).unwrap();
        }
    }
}

fn objects_of(backend: &Arc<dyn Backend>) -> BTreeMap<Object, Vec<u8>> {
    let mut objects = BTreeMap::new();
    objects.insert(
        Object::Config,
        backend.get(Object::Config, u64::MAX).unwrap(),
    );
    for class in Class::ALL {
        for (id, _) in backend.list(class).unwrap().objects {
            let object = Object::Named(class, id);
            objects.insert(object, backend.get(object, u64::MAX).unwrap());
        }
    }
    objects
}

fn local(path: &Path) -> Arc<dyn Backend> {
    Arc::new(LocalBackend::new(
        path.to_owned(),
        Arc::new(OsDisk),
        Arc::new(SystemRng),
    ))
}

#[test]
fn nothing_goes_before_a_day_is_over_and_restic_agrees_at_each_step() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let mut history = History::on(program.backend());
    history.waste();
    let check = |when: &str| {
        for restic in Restic::all_on(&program) {
            let run = restic.ok(&["check", "--read-data"]);
            assert!(
                run.stdout.contains("no errors were found"),
                "{when}: {}",
                run.text()
            );
        }
        history.assert_whole(when);
    };
    let before = history.packs();
    let planned = history.prune(
        0,
        &Options {
            dry_run: true,
            ..THOROUGH
        },
    );
    assert_eq!(history.packs(), before, "a dry run does nothing");
    let marked = history.prune(0, &THOROUGH);
    assert_eq!(marked.marked_packs, planned.marked_packs);
    assert_eq!(marked.repacked_packs, planned.repacked_packs);
    assert!(marked.marked_packs >= 4 && marked.repacked_packs >= 1 && marked.removed_packs == 0);
    assert!(history.packs() > before, "what is needed is stored anew");
    check("marked");
    let said = program.ok(&["check"]).stdout;
    let told = format!("{} packs (", marked.marked_packs);
    assert!(
        said.contains(&told) && said.contains(" marked by `tillsafe"),
        "{said}"
    );
    let waiting = history.prune(DAY - 5, &THOROUGH);
    assert_eq!(waiting.waiting_packs, marked.marked_packs);
    assert_eq!(waiting.removed_packs + waiting.marked_packs, 0);
    let swept = history.prune(DAY + 5, &THOROUGH);
    assert_eq!(swept.removed_packs, marked.marked_packs);
    assert_eq!(swept.unused_bytes, 0);
    check("swept");
    let again = history.prune(2 * DAY, &THOROUGH);
    assert_eq!(
        (again.kept_packs, again.removed_packs),
        (swept.kept_packs, 0)
    );
    // And on it goes.
    history.change();
    history.back_up();
    history.assert_whole("backed up on");
}

#[test]
fn now_frees_at_once() {
    let history = History::with_waste();
    let report = history.prune(0, &AT_ONCE);
    assert!(report.removed_packs >= 4, "{report:?}");
    assert_eq!((report.marked_packs, report.unused_bytes), (0, 0));
    assert_eq!(history.packs() as u64, report.kept_packs);
    history.assert_whole("now");
    // What was marked before does not wait for its day either.
    let mut history = History::with_waste();
    let marked = history.prune(0, &USUAL);
    history.change();
    history.back_up();
    let report = history.prune(1, &AT_ONCE);
    assert!(report.removed_packs >= marked.marked_packs);
    history.assert_whole("marked, then now");
}

#[test]
fn what_a_newer_snapshot_needs_of_a_marked_pack_is_in_use_again() {
    let mut history = History::in_memory();
    let first = history.back_up();
    let object = Object::Named(Class::Snapshots, first);
    let bytes = history.backend.get(object, u64::MAX).unwrap();
    let held = history.held[&first].clone();
    history.change();
    history.back_up();
    history.forget(first);
    let marked = history.prune(0, &LAZY);
    assert!(marked.marked_packs > 0);
    // Who takes no locks may store a snapshot now that builds upon what was there when it began.
    history.backend.put_new(object, &bytes).unwrap();
    history.held.insert(first, held);
    history.assert_whole("what is marked can be read");
    let report = history.prune(DAY + 1, &LAZY);
    assert_eq!(report.removed_packs, 0, "{report:?}");
    assert!(report.recovered_packs > 0);
    history.assert_whole("recovered");
    assert_eq!(history.prune(3 * DAY, &LAZY).recovered_packs, 0);
}

#[test]
fn packs_in_no_index_wait_too_and_those_that_are_needed_get_one() {
    let history = History::with_waste();
    leave_a_pack(&history.backend);
    let packs = history.packs();
    let report = history.prune(0, &LAZY);
    assert_eq!((report.removed_packs, history.packs()), (0, packs));
    let report = history.prune(DAY + 1, &LAZY);
    assert!(report.removed_packs > 0);
    // All index files are gone: the packs say what they hold.
    for id in ids(&history.backend, Class::Index) {
        history
            .backend
            .delete(Object::Named(Class::Index, id))
            .unwrap();
    }
    let report = history.prune(2 * DAY, &LAZY);
    assert_eq!(report.recovered_packs, report.kept_packs);
    history.assert_whole("a new index");
}

/// What a run that was interrupted leaves: a pack, and no index that names it.
fn leave_a_pack(backend: &Arc<dyn Backend>) {
    let repository = open_at(backend, &Skewed::by(0));
    let before = ids(backend, Class::Index);
    let writer = Writer::begin(&repository, Arc::new(Index::default())).unwrap();
    let _ = writer.store(BlobKind::Data, noise(9, 5000)).unwrap().wait();
    writer.commit().unwrap();
    for id in ids(backend, Class::Index) {
        if !before.contains(&id) {
            backend.delete(Object::Named(Class::Index, id)).unwrap();
        }
    }
}

fn ids(backend: &Arc<dyn Backend>, class: Class) -> Vec<Id> {
    let listed = backend.list(class).unwrap().objects;
    listed.into_iter().map(|(id, _)| id).collect()
}

/// Whatever tells what is needed must be whole, or nothing goes.
#[test]
fn with_damage_nothing_is_removed() {
    let original = History::with_waste();
    for class in [Class::Snapshots, Class::Index, Class::Data] {
        for id in ids(&original.backend, class) {
            let backend = original.copied();
            let object = Object::Named(class, id);
            let mut bytes = backend.get(object, u64::MAX).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            backend.delete(object).unwrap();
            backend.put_new(object, &bytes).unwrap();
            let damaged = objects_of(&backend);
            for options in [THOROUGH, AT_ONCE] {
                let result = prune_at(&backend, 0, &options);
                if class == Class::Data {
                    // A pack that nobody needs may go, damaged or not; one that is needed may not.
                    let is_there = ids(&backend, Class::Data).contains(&id);
                    let lost = |backend: &Arc<dyn Backend>| full_check(backend).affected.len();
                    let before: Arc<dyn Backend> = Arc::new(with(&damaged));
                    assert_eq!(lost(&backend), lost(&before), "{object}, {is_there}");
                    continue;
                }
                assert!(
                    matches!(result, Err(Error::Damaged { .. })),
                    "{object}: {result:?}"
                );
                assert_eq!(objects_of(&backend), damaged, "{object}");
            }
        }
    }
}

fn with(objects: &BTreeMap<Object, Vec<u8>>) -> MemBackend {
    let backend = MemBackend::default();
    for (object, bytes) in objects {
        backend.put_new(*object, bytes).unwrap();
    }
    backend
}

/// Of two copies, the one that is whole stays.
#[test]
fn of_two_copies_the_whole_one_stays() {
    for hurt_the_new in [true, false] {
        let mut history = History::in_memory();
        history.back_up();
        let before = ids(&history.backend, Class::Data);
        // Everything once more: the same blobs in other packs.
        let repository = open_at(&history.backend, &Skewed::by(0));
        let index = repository.load_index(&Quiet::default()).unwrap();
        let writer = Writer::begin(&repository, Arc::new(Index::default())).unwrap();
        for blob in index.packs().values().flatten() {
            let plain = repository.read_blob(&index, blob.kind, blob.id).unwrap();
            let _ = writer.store(blob.kind, plain).unwrap();
        }
        writer.commit().unwrap();
        for id in ids(&history.backend, Class::Data) {
            if before.contains(&id) != hurt_the_new {
                let object = Object::Named(Class::Data, id);
                let mut bytes = history.backend.get(object, u64::MAX).unwrap();
                bytes[40] ^= 1;
                history.backend.delete(object).unwrap();
                history.backend.put_new(object, &bytes).unwrap();
            }
        }
        history.prune(0, &AT_ONCE);
        history.assert_whole("the damaged copies are gone");
    }
}

#[test]
fn an_index_of_many_small_files_is_put_together() {
    let mut history = History::in_memory();
    for _ in 0..20 {
        history.change();
        history.back_up();
    }
    assert_eq!(ids(&history.backend, Class::Index).len(), 20);
    let report = history.prune(0, &USUAL);
    assert!(report.index_files_after <= 2, "{report:?}");
    let files = ids(&history.backend, Class::Index);
    assert_eq!(files.len() as u64, report.index_files_after);
    assert!(report.repacked_packs > 20, "many small packs: {report:?}");
    history.assert_whole("put together");
    history.prune(DAY + 1, &USUAL);
    assert!(history.packs() < 10, "{}", history.packs());
    history.assert_whole("put together and swept");
    // What is in order is left alone.
    let before = objects_of(&history.backend);
    history.prune(2 * DAY, &USUAL);
    assert_eq!(objects_of(&history.backend), before);
}

/// 0 bytes free, not even for a lock: and there may be a pack in no index, or none.
#[test]
fn a_full_disk_gets_room_again() {
    for is_interrupted in [true, false] {
        let place = Place::new();
        let Some(disk) = SmallDisk::mount(&place.join("disk"), "size=4m") else {
            return skipped("pruning on a full disk", "mounting a small disk needs root");
        };
        let path = disk.path().join("repository");
        let backend = local(&path);
        create(&backend);
        let mut history = History::on(backend);
        history.waste();
        if is_interrupted {
            leave_a_pack(&history.backend);
        }
        disk.fill();
        let refused = prune_at(&history.backend, 0, &USUAL);
        assert!(
            matches!(refused, Err(Error::Storage { full: true, .. })),
            "{refused:?}"
        );
        let report = history.prune(0, &AT_ONCE);
        assert!(report.kept_packs > 0, "{report:?}");
        history.assert_whole("room was made");
        history.prune(0, &AT_ONCE);
        assert!(history.packs() < 5, "{}", history.packs());
        history.change();
        history.back_up();
        history.assert_whole("and it goes on");
    }
}

/// An index that says too little of a pack: alone, or beside the true one.
#[test]
fn an_index_that_lies_removes_nothing() {
    for is_alone in [false, true] {
        let history = History::with_waste();
        let repository = open_at(&history.backend, &Skewed::by(0));
        let needed = repository.load_index(&Quiet::default()).unwrap().packs();
        for pack in needed.keys() {
            let backend = history.copied();
            let lie = IndexFile {
                packs: needed
                    .iter()
                    .filter(|(id, _)| is_alone || *id == pack)
                    .map(|(id, blobs)| {
                        let blobs = if id == pack { &[][..] } else { blobs };
                        IndexedPack::new(*id, blobs)
                    })
                    .collect(),
                packs_to_delete: Vec::new(),
            };
            if is_alone {
                for id in ids(&backend, Class::Index) {
                    backend.delete(Object::Named(Class::Index, id)).unwrap();
                }
            }
            let plain = serde_json::to_vec(&lie).unwrap();
            let sealed = key_of(&backend).seal(&plain, &SystemRng).unwrap();
            let object = Object::Named(Class::Index, Id::of(&sealed));
            backend.put_new(object, &sealed).unwrap();
            let before = ids(&backend, Class::Data);
            let _ = prune_at(&backend, 0, &AT_ONCE);
            let after = ids(&backend, Class::Data);
            let gone: Vec<&Id> = before.iter().filter(|id| !after.contains(id)).collect();
            assert!(
                !gone.contains(&pack) || is_waste(&history, pack),
                "{pack}: {gone:?}"
            );
        }
    }
}

fn key_of(backend: &Arc<dyn Backend>) -> Key {
    let object = Object::Named(Class::Keys, ids(backend, Class::Keys)[0]);
    let file: KeyFile = serde_json::from_slice(&backend.get(object, 1 << 20).unwrap()).unwrap();
    file.unwrap_with(&password()).unwrap()
}

/// Whether no snapshot needs anything of a pack.
fn is_waste(history: &History, pack: &Id) -> bool {
    let backend = history.copied();
    backend.delete(Object::Named(Class::Data, *pack)).unwrap();
    full_check(&backend).lost_paths == 0
}

/// A folder that is not mounted is no reason to remove all.
#[test]
fn without_any_snapshot_nothing_is_removed() {
    let mut history = History::with_waste();
    let last = *history.held.keys().next().unwrap();
    history.forget(last);
    let before = objects_of(&history.backend);
    for options in [USUAL, AT_ONCE] {
        let refused = prune_at(&history.backend, 0, &options);
        assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    }
    assert_eq!(objects_of(&history.backend), before);
}

#[test]
fn a_damaged_blob_keeps_its_pack() {
    let place = Place::new();
    let path = place.join("repository");
    let backend = local(&path);
    create(&backend);
    let mut history = History::on(backend);
    history.waste();
    // The pack that holds what stays is needed in part: it would be stored anew.
    let largest = files_below(&path.join("data"))
        .into_iter()
        .max_by_key(|file| fs::metadata(file).unwrap().len())
        .unwrap();
    flip_a_bit(&largest);
    let affected = full_check(&history.backend).affected.len();
    if let Ok(report) = prune_at(&history.backend, 0, &AT_ONCE) {
        assert!(report.damaged_packs > 0 || affected == 0, "{report:?}");
    }
    assert_eq!(full_check(&history.backend).affected.len(), affected);
}
