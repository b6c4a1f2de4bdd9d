//! `tag`: the snapshot is never gone, whatever fails, and the next run finishes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tillsafe::backend::faults::FaultyBackend;
use tillsafe::backend::{Backend, MemBackend};
use tillsafe::durable::faults::Fault;
use tillsafe::error::Result;
use tillsafe::id::Id;
use tillsafe::monitor::Quiet;
use tillsafe::repository::lock::Access;
use tillsafe::repository::snapshot::{Snapshot, SnapshotFile};
use tillsafe::repository::tag::{Retagged, TagChange};

use super::objects;
use crate::common::Place;
use crate::common::files::files_below;
use crate::common::library::{back_up, create, open, snapshots};
use crate::common::program::{Program, Started};
use crate::common::restic::Restic;
use crate::common::shop::Shop;

fn stored(count: usize) -> (Place, Program) {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 10, "wal");
    let program = Program::with_cheap_repository(place.path());
    for _ in 0..count {
        back_up(&program.backend(), &shop.folder).unwrap();
    }
    (place, program)
}

fn tags(program: &Program) -> Vec<Vec<String>> {
    let snapshots = snapshots(&program.backend());
    let sorted = |snapshot: Snapshot| {
        let mut tags = snapshot.file.tags;
        tags.sort();
        tags
    };
    snapshots.into_iter().map(sorted).collect()
}

/// Everything of a snapshot but its tags and names.
fn rest(snapshot: &Snapshot) -> SnapshotFile {
    SnapshotFile {
        tags: Vec::new(),
        original: None,
        ..snapshot.file.clone()
    }
}

#[test]
fn tags_are_added_removed_and_set() {
    let (_place, program) = stored(2);
    let before = snapshots(&program.backend());
    let run = program.ok(&["tag", "--add", "sunday", "--add", "till", "latest"]);
    assert!(run.stdout.contains("sunday,till"), "{}", run.stdout);
    assert_eq!(
        tags(&program),
        [&[][..], &["sunday".to_owned(), "till".to_owned()]]
    );
    let after = snapshots(&program.backend());
    assert_eq!(after[0], before[0], "what is not meant stays");
    assert_eq!(rest(&after[1]), rest(&before[1]), "and all else of it");
    assert_eq!(after[1].file.original, Some(before[1].id));
    program.ok(&["tag", "--remove", "till", "latest"]);
    let again = snapshots(&program.backend());
    assert_eq!(again[1].file.original, Some(before[1].id), "the first id");
    // What is so already is left as it is.
    let run = program.ok(&["tag", "--add", "sunday", "--tag", "sunday"]);
    assert!(run.stdout.contains("of 0 snapshots"), "{}", run.stdout);
    assert_eq!(snapshots(&program.backend()), again);
    program.ok(&["tag", "--add", "incomplete", "--tag", "sunday"]);
    program.ok(&["tag", "--set", "new", "latest"]);
    assert_eq!(
        tags(&program)[1],
        ["incomplete", "new"],
        "our own mark stays"
    );
    let short = snapshots(&program.backend())[1].id.short();
    program.ok(&["tag", "--remove", "incomplete", &short]);
    assert_eq!(tags(&program)[1], ["new"]);
    let all = objects(
        &program,
        &["tag", "--add", "all", "--host", "test"],
        "changed",
        0,
    );
    assert_eq!(all.len(), 2);
    for stock in Restic::all_on(&program) {
        let listed = stock.json(&["snapshots"]).remove(0);
        let listed = listed.as_array().unwrap();
        assert_eq!(listed.len(), 2);
        assert!(
            listed
                .iter()
                .all(|snapshot| snapshot["tags"].to_string().contains("all"))
        );
        stock.bytes(&["check", "--read-data"]);
    }
    assert!(!program.has_lock());
}

#[test]
fn words_that_do_not_fit_change_nothing() {
    let (_place, program) = stored(1);
    let before = snapshots(&program.backend());
    for (words, code) in [
        (&["tag", "latest"][..], 2),
        (&["tag", "--add", "x"], 2),
        (&["tag", "--add", "a,b", "latest"], 2),
        (&["tag", "--set", "", "latest"], 2),
        (&["tag", "--set", "a", "--add", "b", "latest"], 2),
        (&["tag", "--add", "x", "0123456789"], 13),
        (&["tag", "--add", "x", "latest", "--host", "elsewhere"], 13),
    ] {
        assert_eq!(program.run(words).code, code, "{words:?}");
        assert_eq!(snapshots(&program.backend()), before, "{words:?}");
    }
}

#[test]
fn what_only_another_program_knows_of_a_snapshot_stays() {
    let (place, program) = stored(1);
    let Some(stock) = Restic::newest_on(&program) else {
        return;
    };
    let shop = place.join("shop");
    stock.bytes(&["backup", "--exclude", "*.tmp", super::word(&shop)]);
    let raw = |program: &Program| -> Vec<Value> {
        let listed = program.ok(&["list", "snapshots"]).stdout;
        let cat = |id: &str| serde_json::from_str(&program.ok(&["cat", "snapshot", id]).stdout);
        listed.lines().map(|id| cat(id).unwrap()).collect()
    };
    let bare = |values: Vec<Value>| -> BTreeSet<String> {
        let bare = |mut value: Value| {
            for field in ["tags", "original"] {
                value.as_object_mut().unwrap().remove(field);
            }
            value.to_string()
        };
        values.into_iter().map(bare).collect()
    };
    let before = bare(raw(&program));
    let ids: Vec<String> = snapshots(&program.backend())
        .iter()
        .map(|snapshot| snapshot.id.short())
        .collect();
    program.ok(&["tag", "--add", "kept", &ids[0], &ids[1]]);
    assert_eq!(bare(raw(&program)), before, "also the zone of its time");
    assert_eq!(tags(&program), [["kept"], ["kept"]]);
}

/// Adds a tag to all snapshots, through the library.
fn add(backend: &Arc<dyn Backend>, tag: &str) -> Result<Vec<Retagged>> {
    let repository = open(backend)?;
    let quiet = Quiet::default();
    let lock = repository.lock(Access::Exclusive, &quiet)?;
    let all = repository.snapshots(&quiet)?.readable;
    let chosen: BTreeSet<Id> = all.iter().map(|snapshot| snapshot.id).collect();
    let change = TagChange {
        add: vec![tag.to_owned()],
        ..TagChange::default()
    };
    repository.tag(&all, &chosen, &change, &lock, &quiet)
}

#[test]
fn a_failing_storage_never_costs_a_snapshot() {
    for fault_at in [Fault::once, Fault::from_there_on] {
        let (mut operations, mut twice) = (0, 0);
        for number in 1.. {
            let place = Place::new();
            let shop = Shop::open(&place.join("shop"), 5, "delete");
            let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
            create(&backend);
            for _ in 0..2 {
                back_up(&backend, &shop.folder).unwrap();
            }
            let before: Vec<_> = snapshots(&backend).iter().map(rest).collect();
            let fault = fault_at(number);
            let faulty: Arc<dyn Backend> =
                Arc::new(FaultyBackend::new(Arc::clone(&backend), Arc::clone(&fault)));
            let result = add(&faulty, "sunday");
            let between = snapshots(&backend);
            let what = format!("operation {number}: {:?}", result.as_ref().err());
            for file in &before {
                assert!(between.iter().any(|one| rest(one) == *file), "{what}: gone");
            }
            twice += usize::from(between.len() > before.len());
            // A lock that could not be removed names this process, which lives.
            for lock in open(&backend).unwrap().locks().unwrap() {
                open(&backend).unwrap().remove_lock(lock.id).unwrap();
            }
            add(&backend, "sunday").unwrap_or_else(|cause| panic!("{what}, then {cause}"));
            let after = snapshots(&backend);
            let rest: Vec<_> = after.iter().map(rest).collect();
            assert_eq!(rest, before, "{what}: each once");
            assert!(
                after.iter().all(|one| one.file.tags == ["sunday"]),
                "{what}"
            );
            if !fault.fired() {
                result.unwrap();
                operations = number - 1;
                break;
            }
        }
        println!("{operations} operations failed in turn, {twice} left a snapshot twice");
        // The lock, and for each of two snapshots the new one and the old one; the lock again.
        assert!(operations >= 6 && twice >= 2, "{operations} {twice}");
    }
}

#[test]
fn a_killed_run_is_finished_by_the_next() {
    const SNAPSHOTS: usize = 12;
    let (mut killed, mut twice) = (0, 0);
    for round in 0..12 {
        let (_place, program) = stored(SNAPSHOTS);
        let before: Vec<_> = snapshots(&program.backend()).iter().map(rest).collect();
        let words = ["tag", "--add", "sunday", "--host", "test"];
        let mut started = Started::of(&mut program.command(&words));
        let folder = program.repository.join("snapshots");
        let names = || files_below(&folder).into_iter().collect::<BTreeSet<_>>();
        let first = names();
        // Once the first object is new it works on the others.
        started.comes("the first new snapshot", || names() != first);
        std::thread::sleep(Duration::from_millis(round * 2));
        started.signal(Signal::KILL);
        killed += usize::from(drop_killed(started));
        let between = snapshots(&program.backend());
        for file in &before {
            assert!(
                between.iter().any(|one| rest(one) == *file),
                "round {round}"
            );
        }
        twice += usize::from(between.len() > SNAPSHOTS);
        program.ok(&words);
        let rest: Vec<_> = snapshots(&program.backend()).iter().map(rest).collect();
        assert_eq!(rest, before, "round {round}: each once");
        assert!(tags(&program).iter().all(|tags| *tags == ["sunday"]));
    }
    println!("{killed} runs were killed, {twice} of them left a snapshot twice");
    assert!(killed >= 3, "only {killed} were killed at work");
}

/// Waits for the end; whether it was killed.
fn drop_killed(mut started: Started) -> bool {
    let mut ended = started.has_ended();
    while !ended {
        std::thread::sleep(Duration::from_millis(1));
        ended = started.has_ended();
    }
    started.was_killed()
}

#[test]
fn who_has_lost_the_lock_removes_nothing() {
    let (_place, program) = stored(1);
    let backend = program.backend();
    let repository = open(&backend).unwrap();
    let quiet = Quiet::default();
    let lock = repository.lock(Access::Exclusive, &quiet).unwrap();
    for found in repository.locks().unwrap() {
        repository.remove_lock(found.id).unwrap();
    }
    let all = snapshots(&backend);
    let chosen = BTreeSet::from([all[0].id]);
    let change = TagChange {
        add: vec!["x".to_owned()],
        ..TagChange::default()
    };
    let refused = repository.tag(&all, &chosen, &change, &lock, &quiet);
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(snapshots(&backend), all);
}
