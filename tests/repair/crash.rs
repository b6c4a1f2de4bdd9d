//! A repair that fails at each of its operations, or is killed before it: nothing is given up, and the next
//! run completes it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use tillsafe::backend::faults::FaultyBackend;
use tillsafe::backend::{Backend, Class, LocalBackend, MemBackend, Object};
use tillsafe::durable::faults::{Fault, FaultyDisk};
use tillsafe::durable::{Disk, OsDisk};
use tillsafe::error::ExitCode;
use tillsafe::id::Id;
use tillsafe::monitor::Quiet;
use tillsafe::repository::pack::BlobKind;
use tillsafe::rng::SystemRng;

use super::matrix::{delete, pack_entry, put_index, unlocked};
use super::{Restorable, assert_nothing_given_up, content, repair_all, restorable};
use crate::common::Place;
use crate::common::child::run_child;
use crate::common::library::{self, PASSWORD};
use crate::common::mount::SmallDisk;
use crate::common::tools::skipped;
use crate::damage::{self, Small, full_check};

/// Hurts a repository so that each repair has something to do: an index file is none, the one that names all
/// packs names one that is not there, two packs lack a blob and keep others, one is longer than it was, so
/// that only the index can tell what is in it, and files are lost.
fn hurt(small: &Small, backend: &Arc<MemBackend>) {
    // Without its first tree nothing is left of a snapshot: that is another scene. Which blob of a pack is the
    // first in it, chance decides, for the writer packs on all cores.
    let listed = damage::open(backend, PASSWORD).unwrap();
    let listed = listed.snapshots(&Quiet::default()).unwrap().readable;
    let is_first_tree = |id: Id| listed.iter().any(|snapshot| snapshot.file.tree == id);
    delete(backend, &small.of_class(Class::Index));
    let none = Object::Named(Class::Index, Id::of(b"an index"));
    backend.put_new(none, b"no index").unwrap();
    let gone = json!({"id": Id::of(b"gone"), "blobs": []});
    let all = small.packs.iter();
    let all = all.map(|(pack, blobs)| pack_entry(*pack, blobs));
    let all: Vec<_> = all.chain([gone]).collect();
    put_index(backend, &json!({"packs": all}));
    // A blob in the packs with the most blobs of either kind: others in them are whole.
    for kind in [BlobKind::Data, BlobKind::Tree] {
        let of_kind = small
            .packs
            .iter()
            .filter(|(_, blobs)| blobs[0].kind == kind);
        let (pack, blobs) = of_kind.max_by_key(|(_, blobs)| blobs.len()).unwrap();
        let blob = blobs.iter().find(|blob| !is_first_tree(blob.id)).unwrap();
        backend.damage(*pack, |bytes| bytes[blob.offset as usize + 20] ^= 1);
    }
    let untouched = small
        .packs
        .keys()
        .find(|pack| backend.get(**pack, 1 << 20).unwrap() == small.objects[*pack]);
    backend.damage(*untouched.unwrap(), |bytes| bytes.push(0));
}

/// A repository that is hurt, what can be restored of it, and what can once it is repaired.
struct Scene {
    hurt: Arc<MemBackend>,
    before: Restorable,
    after: Restorable,
}

impl Scene {
    fn new() -> Self {
        let small = Small::make();
        let backend = unlocked(&small);
        hurt(&small, &backend);
        let copy = copy_of(backend.as_ref());
        let repository = open(&copy);
        let before = restorable(&repository);
        repair_all(&repository, true).unwrap();
        let after = restorable(&repository);
        assert_nothing_given_up(&before, &after, "unharmed");
        assert_eq!(full_check(&repository).damage, []);
        assert!(
            !before.is_empty() && after.len() < small.files.len(),
            "{after:?}"
        );
        Self {
            hurt: backend,
            before,
            after,
        }
    }

    /// What a run that failed has left is whole enough, and the next one completes it.
    fn assert_completes(&self, backend: &Arc<dyn Backend>, what: &str) {
        let repository = open(backend);
        assert_nothing_given_up(&self.before, &restorable(&repository), what);
        // Its lock is of a process that lives: this one. Its owner would type `unlock --remove-all`.
        for (lock, _) in backend.list(Class::Locks).unwrap().objects {
            backend.delete(Object::Named(Class::Locks, lock)).unwrap();
        }
        repair_all(&repository, true).unwrap_or_else(|cause| panic!("{what}, then {cause}"));
        self.assert_is_complete(backend, what);
    }

    fn assert_is_complete(&self, backend: &Arc<dyn Backend>, what: &str) {
        let repository = open(backend);
        assert_eq!(restorable(&repository), self.after, "{what}");
        let report = full_check(&repository);
        assert_eq!(report.damage, [], "{what}");
        assert_eq!(report.unreferenced_packs, 0, "{what}");
        assert_eq!(report.snapshots, 2, "{what}");
    }
}

fn open(backend: &Arc<dyn Backend>) -> tillsafe::repository::Repository {
    library::open(backend).unwrap()
}

fn copy_of(backend: &dyn Backend) -> Arc<dyn Backend> {
    let copy = MemBackend::default();
    for (object, bytes) in content(backend) {
        copy.put_new(object, &bytes).unwrap();
    }
    Arc::new(copy)
}

fn local(folder: &Path, disk: impl Disk + 'static) -> Arc<dyn Backend> {
    Arc::new(LocalBackend::new(
        folder.to_owned(),
        Arc::new(disk),
        Arc::new(SystemRng),
    ))
}

/// The same on a disk.
fn written_to(folder: &Path, backend: &dyn Backend) -> Arc<dyn Backend> {
    let copy = local(folder, OsDisk);
    copy.create().unwrap();
    for (object, bytes) in content(backend) {
        copy.put_new(object, &bytes).unwrap();
    }
    copy
}

type Faults = [(&'static str, fn(u64) -> Arc<Fault>); 2];
const FAULTS: Faults = [
    ("once", Fault::once),
    ("from there on", Fault::from_there_on),
];

#[test]
fn a_failing_storage_costs_nothing_that_could_be_restored() {
    let scene = Scene::new();
    for (how, fault_at) in FAULTS {
        let mut operations = 0;
        for number in 1.. {
            let backend = copy_of(scene.hurt.as_ref());
            let fault = fault_at(number);
            let hurt: Arc<dyn Backend> =
                Arc::new(FaultyBackend::new(Arc::clone(&backend), Arc::clone(&fault)));
            let result = repair_all(&open(&hurt), true);
            let what = format!("{how}, operation {number}: {:?}", result.as_ref().err());
            if !fault.fired() {
                result.unwrap();
                operations = number - 1;
                break;
            }
            // Done means done, also if a lock could not be removed.
            if let Err(cause) = result {
                let code = cause.exit_code();
                assert!(
                    matches!(code, ExitCode::Storage | ExitCode::Locked),
                    "{what}"
                );
                scene.assert_completes(&backend, &what);
            } else {
                scene.assert_is_complete(&backend, &what);
            }
        }
        println!("repairs, {how}: {operations} operations failed in turn");
        assert!(operations >= 20, "the sweep saw too little: {operations}");
    }
}

#[test]
fn a_failing_disk_costs_nothing_that_could_be_restored() {
    let scene = Scene::new();
    let mut operations = 0;
    for number in 1.. {
        let place = Place::new();
        let folder = place.join("repository");
        let backend = written_to(&folder, scene.hurt.as_ref());
        // Every other is a disk that fills up for good.
        let fault = if number % 2 == 0 {
            Fault::once(number)
        } else {
            Fault::from_there_on(number)
        };
        let disk = FaultyDisk::new(OsDisk, Arc::clone(&fault));
        let result = repair_all(&open(&local(&folder, disk)), true);
        let what = format!("operation {number}: {:?}", result.as_ref().err());
        if !fault.fired() {
            result.unwrap();
            operations = number - 1;
            break;
        }
        if result.is_ok() {
            scene.assert_is_complete(&backend, &what);
        } else {
            scene.assert_completes(&backend, &what);
        }
    }
    println!("repairs on a disk: {operations} operations failed in turn");
    assert!(operations >= 80, "the sweep saw too little: {operations}");
}

const FOLDER: &str = "TILLSAFE_TEST_REPAIR_FOLDER";
const AT: &str = "TILLSAFE_TEST_REPAIR_AT";
const WELL: &str = "all was repaired";

/// Not a test of its own: the process that the next one runs and kills.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let at = std::env::var(AT).unwrap().parse().unwrap();
    let disk = FaultyDisk::new(OsDisk, Fault::killing(at));
    match repair_all(&open(&local(&PathBuf::from(folder), disk)), true) {
        Ok(()) => println!("{WELL}"),
        Err(cause) => println!("{cause:?}"),
    }
}

/// Runs the three repairs in a process of its own; whether it was killed.
fn run(folder: &Path, at: u64) -> bool {
    let ended = run_child(
        "repair::crash::child",
        &[(AT, at.to_string().as_ref()), (FOLDER, folder.as_os_str())],
    );
    assert!(ended.killed || ended.text.contains(WELL), "{at}: {ended:?}");
    ended.killed
}

/// The locks of the dead are nobody's: the next run needs no help.
#[test]
fn a_killed_repair_is_completed_by_the_next_one() {
    let scene = Scene::new();
    let mut kills = 0;
    for at in 1.. {
        let place = Place::new();
        let folder = place.join("repository");
        let backend = written_to(&folder, scene.hurt.as_ref());
        let what = format!("killed before operation {at}");
        if !run(&folder, at) {
            scene.assert_is_complete(&backend, &what);
            break;
        }
        kills += 1;
        assert_nothing_given_up(&scene.before, &restorable(&open(&backend)), &what);
        assert!(!run(&folder, u64::MAX), "{what}");
        scene.assert_is_complete(&backend, &what);
    }
    println!("repairs: {kills} kills");
    assert!(kills >= 80, "{kills}");
}

/// Not one byte can be written: not even a lock.
#[test]
fn a_full_disk_costs_nothing_and_the_repair_is_done_once_there_is_room() {
    let scene = Scene::new();
    let place = Place::new();
    for room in [0, 4, 8, 16, 24, 32] {
        let Some(disk) = SmallDisk::mount(&place.join("disk"), "size=1m") else {
            return skipped(
                "a repair on a full disk",
                "mounting a small disk needs root",
            );
        };
        let folder = disk.path().join("repository");
        let backend = written_to(&folder, scene.hurt.as_ref());
        // So many KiB are left.
        let spare = disk.path().join("spare");
        std::fs::write(&spare, vec![1; room << 10]).unwrap();
        disk.fill();
        std::fs::remove_file(&spare).unwrap();
        let what = format!("{room} KiB left");
        match repair_all(&open(&backend), true) {
            Ok(()) => println!("{what}: repaired"),
            Err(cause) => {
                println!("{what}: {cause}");
                assert_eq!(cause.exit_code(), ExitCode::Storage, "{what}");
                assert_nothing_given_up(&scene.before, &restorable(&open(&backend)), &what);
            }
        }
        std::fs::remove_file(disk.path().join("ballast")).unwrap();
        scene.assert_completes(&backend, &what);
    }
}
