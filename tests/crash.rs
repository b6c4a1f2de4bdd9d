//! Every mutating operation fails in turn, once and from there on. Whatever happens, what was there
//! before is whole, the next run needs no help, and nothing half-done has a final name.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tillsafe::backend::faults::FaultyBackend;
use tillsafe::backend::{Backend, LocalBackend, MemBackend};
use tillsafe::durable::faults::{Fault, FaultyDisk};
use tillsafe::durable::{Disk, OsDisk};
use tillsafe::monitor::Quiet;
use tillsafe::repository::prune::{MaxUnused, Options, prune};
use tillsafe::rng::SystemRng;

use crate::common::Place;
use crate::common::child::run_child;
use crate::common::compare::{difference, is_database};
use crate::common::library::{
    assert_every_snapshot_restores, back_up, back_up_through, create, open, restore, snapshots,
};
use crate::common::shop::{Shop, count_orders};

/// What a restore that was killed left in a folder.
const LEFT: &str = ".tillsafe-stage-of-a-crash";

type Faults = [(&'static str, fn(u64) -> Arc<Fault>); 2];
const FAULTS: Faults = [
    ("once", Fault::once),
    ("from there on", Fault::from_there_on),
];

fn local(path: &Path, disk: impl Disk + 'static) -> Arc<dyn Backend> {
    Arc::new(LocalBackend::new(
        path.to_owned(),
        Arc::new(disk),
        Arc::new(SystemRng),
    ))
}

/// Backs up, sells, and backs up again through the fault that `faulty` puts in; for every operation.
fn sweep_backup(
    storage: &str,
    journal_mode: &str,
    open: impl Fn(&Path) -> Arc<dyn Backend>,
    faulty: impl Fn(&Path, &Arc<dyn Backend>, Arc<Fault>) -> Arc<dyn Backend>,
) {
    for (how, fault_at) in FAULTS {
        let mut operations = 0;
        for number in 1.. {
            let place = Place::new();
            let shop = Shop::open(&place.join("shop"), 200, journal_mode);
            let path = place.join("repository");
            let backend = open(&path);
            create(&backend);
            back_up(&backend, &shop.folder).unwrap();
            shop.sell(50);
            let fault = fault_at(number);
            let hurt = faulty(&path, &backend, Arc::clone(&fault));
            let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new(OsDisk, Arc::clone(&fault)));
            let result = back_up_through(&hurt, &shop.folder, &disk);
            if !fault.fired() {
                result.unwrap();
                operations = number - 1;
                break;
            }
            let what = format!(
                "{storage}, {how}, operation {number}: {:?}",
                result.as_ref().err()
            );
            let kept = assert_every_snapshot_restores(&backend, &shop.folder, place.path());
            assert!(kept >= 1, "{what}");
            assert!(result.is_err() || kept == 2, "exit 0 means done: {what}");
            let next =
                back_up(&backend, &shop.folder).unwrap_or_else(|cause| panic!("{what}: {cause}"));
            assert!(next.is_complete(), "{what}: {:?}", next.manifest.incomplete);
            assert_eq!(
                assert_every_snapshot_restores(&backend, &shop.folder, place.path()),
                kept + 1,
                "{what}"
            );
        }
        println!("{storage}, {how}: {operations} operations failed in turn");
        assert!(operations >= 5, "the sweep saw too little: {operations}");
    }
}

#[test]
fn a_failing_storage_never_costs_a_snapshot() {
    let shared: std::sync::Mutex<Option<Arc<dyn Backend>>> = std::sync::Mutex::new(None);
    sweep_backup(
        "mem",
        "wal",
        |_| {
            let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
            *shared.lock().unwrap() = Some(Arc::clone(&backend));
            backend
        },
        |_, backend, fault| Arc::new(FaultyBackend::new(Arc::clone(backend), fault)),
    );
}

#[test]
fn a_failing_disk_below_the_repository_never_costs_a_snapshot() {
    sweep_backup(
        "local",
        "delete",
        |path| local(path, OsDisk),
        |path, _, fault| local(path, FaultyDisk::new(OsDisk, fault)),
    );
}

/// A shop in a repository in memory, with one snapshot.
fn stored_shop(place: &Place) -> (Shop, Arc<dyn Backend>) {
    let shop = Shop::open(&place.join("shop"), 200, "wal");
    let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
    create(&backend);
    back_up(&backend, &shop.folder).unwrap();
    (shop, backend)
}

fn assert_is_the_shop(target: &Path, shop: &Shop, what: &str) {
    let leave_out =
        |path: &Path| is_database(path) || path.to_string_lossy().starts_with(".tillsafe-");
    assert_eq!(difference(&shop.folder, target, &leave_out), None, "{what}");
    assert_eq!(count_orders(&target.join("shop.db")), 200, "{what}");
}

/// What stands under final names in the target.
fn names(target: &Path) -> Vec<String> {
    let Ok(listed) = fs::read_dir(target) else {
        return Vec::new();
    };
    let names = listed.map(|item| item.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| !name.starts_with(".tillsafe-"))
        .collect()
}

/// Whether a whole and proved copy waits in the target for the next run.
fn is_ready(target: &Path) -> bool {
    let listed = fs::read_dir(target).into_iter().flatten();
    let mut names = listed.map(|item| item.unwrap().file_name());
    names.any(|name| name.to_string_lossy().starts_with(".tillsafe-ready-"))
}

fn sweep_restore(kind: &str, prepare: impl Fn(&Path)) {
    let place = Place::new();
    let (shop, backend) = stored_shop(&place);
    let snapshot = snapshots(&backend).remove(0);
    for (how, fault_at) in FAULTS {
        let (mut operations, mut finished) = (0, 0);
        for number in 1.. {
            let around = place.join(&format!("{kind}-{how}-{number}"));
            fs::create_dir(&around).unwrap();
            let target = around.join("target");
            prepare(&target);
            let fault = fault_at(number);
            let disk = FaultyDisk::new(OsDisk, Arc::clone(&fault));
            let result = restore(&backend, snapshot.clone(), &shop.folder, &target, &disk);
            let what = format!(
                "{kind}, {how}, operation {number}: {:?}",
                result.as_ref().err()
            );
            if !fault.fired() {
                assert_is_the_shop(&target, &shop, &what);
                operations = number - 1;
                break;
            }
            let there = names(&target);
            // A name that stands in its place at one instant may stand there although the sync after
            // it failed.
            if result.is_ok() || (kind != "inside" && there.len() == 5) {
                assert_is_the_shop(&target, &shop, &what);
                continue;
            }
            // Names of a folder that is filled in place come one by one, once all are ready.
            assert!(
                there.is_empty() || (kind == "inside" && is_ready(&target)),
                "{what}: {there:?}"
            );
            finished += usize::from(is_ready(&target));
            restore(&backend, snapshot.clone(), &shop.folder, &target, &OsDisk)
                .unwrap_or_else(|cause| panic!("{what}, then {cause}"));
            assert_is_the_shop(&target, &shop, &what);
            let left: Vec<_> = [&around, &target]
                .iter()
                .flat_map(|folder| fs::read_dir(folder).unwrap())
                .map(|item| item.unwrap().file_name())
                .filter(|name| name.to_string_lossy().starts_with(".tillsafe-"))
                .collect();
            assert!(left.is_empty(), "{what}: {left:?}");
            fs::remove_dir_all(&around).unwrap();
        }
        // The sync after the ready name, five moves, a mode, a time and an owner, the last sync …
        assert!(finished >= 9 || kind != "inside", "{how}: {finished}");
        println!("restore into {kind}, {how}: {operations} operations failed in turn");
        assert!(operations >= 20, "the sweep saw too little: {operations}");
    }
}

#[test]
fn a_failing_disk_leaves_nothing_half_restored_in_a_new_folder() {
    sweep_restore("new", |_| {});
}

#[test]
fn a_failing_disk_leaves_nothing_half_restored_in_an_empty_folder() {
    sweep_restore("empty", |target| fs::create_dir(target).unwrap());
}

#[test]
fn a_failing_disk_leaves_nothing_half_restored_in_a_folder_filled_in_place() {
    sweep_restore("inside", |target| {
        fs::create_dir_all(target.join(LEFT)).unwrap();
    });
}

const KILLED: &str = "TILLSAFE_TEST_KILLED_BACKUP";
const AT: &str = "TILLSAFE_TEST_KILLED_AT";

/// Not a test of its own: the process that is killed.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(KILLED) else {
        return;
    };
    let folder = Path::new(&folder);
    let at = std::env::var(AT).unwrap().parse().unwrap();
    let fault = Fault::killing(at);
    let backend = local(
        &folder.join("repository"),
        FaultyDisk::new(OsDisk, Arc::clone(&fault)),
    );
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new(OsDisk, fault));
    back_up_through(&backend, &folder.join("shop"), &disk).unwrap();
}

#[test]
fn a_backup_killed_before_each_operation_costs_no_snapshot_and_the_next_needs_no_help() {
    let mut kills = 0;
    for at in 1.. {
        let place = Place::new();
        let shop = Shop::open(&place.join("shop"), 100, "delete");
        let backend = local(&place.join("repository"), OsDisk);
        create(&backend);
        back_up(&backend, &shop.folder).unwrap();
        shop.sell(20);
        let number = at.to_string();
        let variables = [(KILLED, place.path().as_os_str()), (AT, number.as_ref())];
        let was_killed = run_child("crash::child", &variables).killed;
        let kept = assert_every_snapshot_restores(&backend, &shop.folder, place.path());
        assert!(kept == 2 || (kept == 1 && was_killed), "killed before {at}");
        // Nobody has to remove the dead one's lock, not even for what takes an exclusive one.
        let options = Options {
            now: true,
            max_unused: MaxUnused::Bytes(0),
            dry_run: false,
        };
        prune(&open(&backend).unwrap(), &options, &Quiet::default())
            .unwrap_or_else(|cause| panic!("killed before {at}: {cause}"));
        back_up(&backend, &shop.folder).unwrap();
        let after = assert_every_snapshot_restores(&backend, &shop.folder, place.path());
        assert_eq!(after, kept + 1, "killed before {at}");
        if !was_killed {
            break;
        }
        kills += 1;
    }
    println!("a backup killed {kills} times");
    assert!(kills >= 30, "{kills}");
}
