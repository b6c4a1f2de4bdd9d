//! Every operation of writing a record fails in turn: the shop's snapshots stay, earlier records stay, and
//! the next one needs no help.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tillsafe::backend::faults::FaultyBackend;
use tillsafe::backend::{Backend, LocalBackend, MemBackend};
use tillsafe::durable::faults::{Fault, FaultyDisk};
use tillsafe::durable::{Disk, OsDisk};
use tillsafe::error::Result;
use tillsafe::monitor::Quiet;
use tillsafe::records::{self, Evidence, ProofLevel};
use tillsafe::repository::snapshot::Snapshot;
use tillsafe::rng::SystemRng;

use crate::common::Place;
use crate::common::child::run_child;
use crate::common::files::copy_folder;
use crate::common::library::{back_up, create, full_check, open, snapshots};
use crate::common::shop::Shop;

fn evidence() -> Evidence {
    Evidence {
        level: ProofLevel::Matched,
        complete: true,
        host: "test".to_owned(),
    }
}

fn write(backend: &Arc<dyn Backend>, snapshot: &Snapshot) -> Result<Snapshot> {
    records::write(&open(backend)?, snapshot, evidence(), &Quiet::default())
}

/// The snapshots of a shop, and how many of them are proved.
fn proved(backend: &Arc<dyn Backend>) -> (usize, usize) {
    let repository = open(backend).unwrap();
    let monitor = Quiet::default();
    let index = repository.load_index(&monitor).unwrap();
    let all = snapshots(backend);
    let proofs = records::proofs(&repository, &index, &all, &monitor).unwrap();
    let shop = all.iter().filter(|snapshot| !snapshot.is_record());
    (shop.count(), proofs.len())
}

#[test]
fn a_failing_storage_costs_at_most_the_new_record() {
    for (how, fault_at) in [
        ("once", Fault::once as fn(u64) -> Arc<Fault>),
        ("from there on", Fault::from_there_on),
    ] {
        let place = Place::new();
        let shop = Shop::open(&place.join("shop"), 50, "wal");
        let mut operations = 0;
        for number in 1.. {
            let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
            create(&backend);
            let first = back_up(&backend, &shop.folder).unwrap().snapshot;
            let second = back_up(&backend, &shop.folder).unwrap().snapshot;
            write(&backend, &first).unwrap();
            let fault = fault_at(number);
            let hurt: Arc<dyn Backend> =
                Arc::new(FaultyBackend::new(Arc::clone(&backend), Arc::clone(&fault)));
            let result = write(&hurt, &second);
            let what = format!("{how}, operation {number}: {:?}", result.as_ref().err());
            let report = full_check(&backend);
            assert!(report.damage.is_empty(), "{what}: {:?}", report.damage);
            let (snapshots, proofs) = proved(&backend);
            assert_eq!(snapshots, 2, "{what}");
            // One that was stored although the storage said no is as true as any.
            assert!(
                proofs == 2 || (result.is_err() && proofs == 1),
                "{what}: {proofs}"
            );
            write(&backend, &second).unwrap_or_else(|cause| panic!("{what}: then {cause}"));
            assert_eq!(proved(&backend), (2, 2), "{what}");
            if !fault.fired() {
                operations = number - 1;
                break;
            }
        }
        println!("a record, {how}: {operations} operations failed in turn");
        assert!(operations >= 5, "the sweep saw too little: {operations}");
    }
}

#[test]
fn a_snapshot_that_somebody_has_removed_is_not_recorded_as_proved() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 50, "wal");
    let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
    create(&backend);
    let snapshot = back_up(&backend, &shop.folder).unwrap().snapshot;
    open(&backend)
        .unwrap()
        .remove_snapshot(snapshot.id)
        .unwrap();
    let cause = write(&backend, &snapshot).unwrap_err();
    assert_eq!(i32::from(cause.exit_code().number()), 13, "{cause}");
    assert!(snapshots(&backend).is_empty());
}

#[test]
fn only_what_a_later_one_holds_is_superseded() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 50, "wal");
    let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
    create(&backend);
    let snapshot = back_up(&backend, &shop.folder).unwrap().snapshot;
    let superseded = || {
        let repository = open(&backend).unwrap();
        let index = repository.load_index(&Quiet::default()).unwrap();
        let all = snapshots(&backend);
        records::superseded(&repository, &index, &all, &Quiet::default()).unwrap()
    };
    let written: Vec<Snapshot> = (0..3)
        .map(|_| write(&backend, &snapshot).unwrap())
        .collect();
    assert_eq!(superseded(), [written[0].id, written[1].id].into());
    // Without the last, the one before it is the one that stays.
    let repository = open(&backend).unwrap();
    repository.remove_snapshot(written[2].id).unwrap();
    assert_eq!(superseded(), [written[0].id].into());
    // A fork: neither holds the other.
    let first = written[0].file.clone();
    for gone in [written[0].id, written[1].id] {
        repository.remove_snapshot(gone).unwrap();
    }
    write(&backend, &snapshot).unwrap();
    repository.save_snapshot(first).unwrap();
    assert!(superseded().is_empty());
    write(&backend, &snapshot).unwrap();
    assert_eq!(superseded().len(), 2);
    assert_eq!(proved(&backend), (1, 1));
}

/// As many snapshots of records that none stands for no honest run leaves: a flood of them is not judged, and
/// those that are judged stay right.
#[test]
fn a_flood_of_records_supersedes_nothing_that_it_should_not() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 50, "wal");
    let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
    create(&backend);
    let snapshot = back_up(&backend, &shop.folder).unwrap().snapshot;
    let first = write(&backend, &snapshot).unwrap();
    let last = write(&backend, &snapshot).unwrap();
    let repository = open(&backend).unwrap();
    // More copies of one than there may be forks: each is held by the last, and none stands for another.
    for number in 0..1_100 {
        let mut file = first.file.clone();
        file.username = format!("flood {number}");
        repository.save_snapshot(file).unwrap();
    }
    let index = repository.load_index(&Quiet::default()).unwrap();
    let all = snapshots(&backend);
    let gone = records::superseded(&repository, &index, &all, &Quiet::default()).unwrap();
    assert!(!gone.contains(&last.id), "the one that holds all stays");
    assert!(!gone.contains(&snapshot.id), "a backup is no record");
    assert_eq!(gone.len(), 1_101, "what the last holds may go");
}

const AT: &str = "TILLSAFE_TEST_RECORD_AT";
const FOLDER: &str = "TILLSAFE_TEST_RECORD_FOLDER";

fn local(folder: &Path, disk: Arc<dyn Disk>) -> Arc<dyn Backend> {
    let path = folder.join("repository");
    Arc::new(LocalBackend::new(path, disk, Arc::new(SystemRng)))
}

#[test]
fn a_killed_process_costs_at_most_the_new_record() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 50, "wal");
    let original = place.join("original");
    std::fs::create_dir(&original).unwrap();
    let backend = local(&original, Arc::new(OsDisk));
    create(&backend);
    let first = back_up(&backend, &shop.folder).unwrap().snapshot;
    back_up(&backend, &shop.folder).unwrap();
    write(&backend, &first).unwrap();
    for at in 1.. {
        let folder = place.join(&at.to_string());
        copy_folder(&original, &folder);
        let ended = run_child(
            "records::crash::child",
            &[(AT, at.to_string().as_ref()), (FOLDER, folder.as_os_str())],
        );
        let backend = local(&folder, Arc::new(OsDisk));
        let what = format!("killed before operation {at}");
        let report = full_check(&backend);
        assert!(report.damage.is_empty(), "{what}: {:?}", report.damage);
        let (count, proofs) = proved(&backend);
        assert_eq!(count, 2, "{what}");
        assert!(proofs == 2 || (ended.killed && proofs == 1), "{what}");
        // The lock of the dead is in nobody's way.
        let second = snapshots(&backend)
            .into_iter()
            .rfind(|one| !one.is_record());
        write(&backend, &second.unwrap()).unwrap_or_else(|cause| panic!("{what}: then {cause}"));
        assert_eq!(proved(&backend), (2, 2), "{what}");
        std::fs::remove_dir_all(&folder).unwrap();
        if !ended.killed {
            println!("a record: killed before each of {} operations", at - 1);
            assert!(at > 5, "the sweep saw too little: {at}");
            break;
        }
    }
}

/// Not a test of its own: the process that the one above runs and kills.
#[test]
fn child() {
    let Ok(at) = std::env::var(AT) else {
        return;
    };
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let fault = Fault::killing(at.parse().unwrap());
    let backend = local(&folder, Arc::new(FaultyDisk::new(OsDisk, fault)));
    let second = snapshots(&backend)
        .into_iter()
        .rfind(|one| !one.is_record());
    write(&backend, &second.unwrap()).unwrap();
}
