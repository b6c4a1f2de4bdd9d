//! What is remembered is only ever a shortcut: whatever stands there, the next snapshot is right.

use std::fs;
use std::sync::Arc;

use tillsafe::durable::faults::{Fault, FaultyDisk};
use tillsafe::durable::{Disk, OsDisk};
use tillsafe::monitor::Noted;

use super::{Night, Scene};
use crate::common::library::open;

/// A scene with a base, and what is remembered of it.
fn with_base() -> (Scene, Vec<u8>) {
    let mut scene = Scene::new("wal", 4096);
    scene.back_up();
    scene.trade();
    let remembered = fs::read(scene.remembered()).unwrap();
    (scene, remembered)
}

fn back_up_with(scene: &Scene, memory: &[u8]) -> Night {
    let file = scene.remembered();
    fs::write(&file, memory).unwrap();
    let night = scene.back_up();
    scene.assert_right(&night);
    night
}

#[test]
fn a_memory_that_is_gone_cut_or_turned_costs_room_and_nothing_else() {
    let (mut scene, whole) = with_base();
    assert!(back_up_with(&scene, &whole).log().is_some());
    let whole = fs::read(scene.remembered()).unwrap();
    // Its head is at the end: without that, nothing of it is believed.
    for (what, memory) in [
        ("empty", Vec::new()),
        ("cut by one byte", whole[..whole.len() - 1].to_vec()),
        ("cut in the middle", whole[..whole.len() / 2].to_vec()),
        ("three bytes", vec![1, 2, 3]),
        ("an enormous head", vec![255; 4096]),
        ("longer by one byte", [whole.as_slice(), &[0]].concat()),
    ] {
        scene.trade();
        assert!(back_up_with(&scene, &memory).log().is_none(), "{what}");
    }
    fs::remove_file(scene.remembered()).unwrap();
    let night = scene.back_up();
    assert!(night.log().is_none());
    scene.assert_right(&night);
}

#[test]
fn each_byte_that_is_turned_is_noticed() {
    let (mut scene, _) = with_base();
    scene.back_up();
    let whole = fs::read(scene.remembered()).unwrap();
    // Over the marks (then what cannot be told is stored again), and over the head.
    let seed = scene.dice.state();
    println!("seed {seed}");
    for _ in 0..6 {
        let mut memory = whole.clone();
        let at = scene.dice.throw(memory.len());
        memory[at] ^= 1 << scene.dice.throw(8);
        back_up_with(&scene, &memory);
    }
}

#[test]
fn stretches_of_another_memory_are_not_believed() {
    // A stretch holds the marks of 4096 pages: more than one of them, with pages of 512 bytes.
    let mut scene = Scene::new("wal", 512);
    scene.back_up();
    scene.trade();
    let older = fs::read(scene.remembered()).unwrap();
    scene.back_up();
    let newer = fs::read(scene.remembered()).unwrap();
    let stretch = 24 + 4096 * 16 + 32;
    assert!(newer.len() > 2 * stretch);
    let swapped = [
        &newer[stretch..2 * stretch],
        &newer[..stretch],
        &newer[2 * stretch..],
    ]
    .concat();
    let mixed = [&older[..stretch], &newer[stretch..]].concat();
    // An older memory as a whole is a state that is in the repository: a log goes on from there.
    for memory in [swapped, mixed, older] {
        scene.trade();
        let night = back_up_with(&scene, &memory);
        assert!(night.log().is_some());
    }
}

#[test]
fn a_memory_of_another_repository_or_database_is_not_believed() {
    let (scene, memory) = with_base();
    let (other, _) = with_base();
    assert!(back_up_with(&other, &memory).log().is_none());
    // The same repository, and the memory of a database of another name.
    let moved = scene.folder.join("moved.db");
    fs::rename(&scene.database, &moved).unwrap();
    let name = scene.remembered();
    let options = scene.options();
    let outcome = tillsafe::backup::backup(
        &open(&scene.backend).unwrap(),
        &options,
        &tillsafe::monitor::Quiet::default(),
    );
    outcome.unwrap();
    let names = fs::read_dir(scene.memory()).unwrap();
    let new = names
        .map(|one| one.unwrap().path())
        .find(|path| *path != name);
    fs::copy(&name, new.unwrap()).unwrap();
    let outcome = tillsafe::backup::backup(
        &open(&scene.backend).unwrap(),
        &options,
        &tillsafe::monitor::Quiet::default(),
    );
    assert!(outcome.unwrap().manifest.databases[0].log.is_none());
}

#[test]
fn where_nothing_can_be_kept_it_is_said_and_the_snapshot_is_whole() {
    let (mut scene, _) = with_base();
    scene.trade();
    fs::remove_dir_all(scene.memory()).unwrap();
    fs::write(scene.memory(), "a file is in the way").unwrap();
    let quiet = tillsafe::monitor::Quiet::default();
    let noted = Noted::new(&quiet);
    let repository = open(&scene.backend).unwrap();
    let night = scene.night(&repository, &scene.options(), &noted).unwrap();
    scene.assert_right(&night);
    let problems = noted.take();
    let said = problems
        .iter()
        .find(|problem| problem.finding.contains("cannot be kept"));
    assert!(!said.expect("it is said").incomplete);
}

/// Every operation on what is remembered fails in turn. The snapshot is right, and so is the next one.
#[test]
fn a_disk_that_fails_under_the_memory_harms_no_snapshot() {
    type FaultAt = fn(u64) -> Arc<Fault>;
    for fault_at in [Fault::once as FaultAt, Fault::from_there_on] {
        let mut operations = 0;
        let (mut scene, _) = with_base();
        for number in 1.. {
            let fault = fault_at(number);
            let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new(OsDisk, Arc::clone(&fault)));
            let mut options = scene.options();
            options.sqlite.disk = disk;
            scene.run(&format!(
                "UPDATE orders SET item = {number} WHERE id = {number}"
            ));
            let night = scene.back_up_as(&options).unwrap();
            scene.assert_right(&night);
            let next = scene.back_up();
            scene.assert_right(&next);
            if !fault.fired() {
                operations = number - 1;
                break;
            }
        }
        assert!(operations >= 4, "{operations}");
        scene.trade();
        let night = scene.back_up();
        assert!(night.log().is_some());
    }
}

/// A snapshot that was not stored leaves the memory as it was.
#[test]
fn a_backup_that_fails_leaves_what_was_remembered() {
    use tillsafe::backend::faults::FaultyBackend;
    let (mut scene, before) = with_base();
    let whole = Arc::clone(&scene.backend);
    for number in [3, 5, 7] {
        let fault = Fault::from_there_on(number);
        scene.backend = Arc::new(FaultyBackend::new(Arc::clone(&whole), Arc::clone(&fault)));
        if scene.back_up_as(&scene.options()).is_err() {
            assert_eq!(fs::read(scene.remembered()).unwrap(), before, "{number}");
        }
    }
    scene.backend = whole;
    let night = scene.back_up();
    assert!(night.log().is_some());
    scene.assert_right(&night);
}
