//! What a machine remembers of its runs: written durably, read back, and useless content is no history.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use tillsafe::durable::OsDisk;
use tillsafe::durable::faults::{Fault, FaultyDisk};
use tillsafe::id::Id;
use tillsafe::retention::{History, HistoryFile, Remembered};

use super::{BEGIN, DAY, World, daily, keep_last};
use crate::common::Place;
use crate::common::files::files_below;

/// What is known after a run on so many snapshots.
fn history(count: i64) -> History {
    let mut world = World::of(daily(count));
    world.run(&keep_last(100), BEGIN + count * DAY);
    world.history
}

fn file(place: &Path) -> HistoryFile {
    HistoryFile::new(place, &Id::of(b"repository").to_string())
}

#[test]
fn it_is_read_back_as_it_was_written_and_is_its_owners_alone() {
    let place = Place::new();
    let file = file(place.path());
    assert_eq!(file.read(&OsDisk).unwrap(), Remembered::Nothing);
    for count in [3, 9, 1] {
        let history = history(count);
        file.write(&history, &OsDisk).unwrap();
        assert_eq!(file.read(&OsDisk).unwrap(), Remembered::History(history));
        assert_eq!(
            files_below(place.path()),
            [file.path()],
            "and no other name is left"
        );
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file.path()), 0o600);
    assert_eq!(mode(file.path().parent().unwrap()), 0o700);
}

#[test]
fn the_repository_has_no_say_in_where_it_lies() {
    let place = Place::new();
    let state = place.join("state");
    for id in ["../../etc/passwd", "", "/etc/passwd", "a\0b"] {
        let file = HistoryFile::new(&state, id);
        assert_eq!(
            file.path().parent().unwrap(),
            state.join("retention"),
            "{id:?}"
        );
        file.write(&History::default(), &OsDisk).unwrap();
    }
}

#[test]
fn what_cannot_be_used_is_said_and_what_cannot_be_read_is_an_error() {
    let place = Place::new();
    let file = file(place.path());
    file.write(&history(3), &OsDisk).unwrap();
    let whole = fs::read(file.path()).unwrap();
    for length in 0..whole.len() {
        fs::write(file.path(), &whole[..length]).unwrap();
        let read = file.read(&OsDisk).unwrap();
        assert!(matches!(read, Remembered::Damaged(_)), "{length}: {read:?}");
    }
    let text = String::from_utf8(whole).unwrap();
    for (from, to) in [
        ("\"schema\":1", "\"schema\":2"),
        ("known", "knwon"),
        ("202", "x02"),
    ] {
        fs::write(file.path(), text.replace(from, to)).unwrap();
        let read = file.read(&OsDisk).unwrap();
        assert!(matches!(read, Remembered::Damaged(_)), "{to}: {read:?}");
    }
    file.write(&history(2), &OsDisk).unwrap();
    assert_eq!(file.read(&OsDisk).unwrap(), Remembered::History(history(2)));
    fs::remove_file(file.path()).unwrap();
    fs::create_dir(file.path()).unwrap();
    assert!(file.read(&OsDisk).is_err());
}

#[test]
fn a_failing_disk_leaves_what_was_remembered_or_what_is_to_be() {
    type Faults = [(&'static str, fn(u64) -> Arc<Fault>); 2];
    let faults: Faults = [
        ("once", Fault::once),
        ("from there on", Fault::from_there_on),
    ];
    let (old, new) = (history(3), history(9));
    for first in [true, false] {
        for (how, fault_at) in faults {
            for at in 1.. {
                let place = Place::new();
                let file = file(place.path());
                if !first {
                    file.write(&old, &OsDisk).unwrap();
                }
                let fault = fault_at(at);
                let disk = FaultyDisk::new(OsDisk, Arc::clone(&fault));
                let result = file.write(&new, &disk);
                let read = file.read(&OsDisk).unwrap();
                let what = format!("{how}, operation {at}: {result:?}, {read:?}");
                if !fault.fired() {
                    result.unwrap();
                    assert!(at > 6, "the sweep saw too little: {what}");
                    break;
                }
                let is_old = match &read {
                    Remembered::History(history) => *history == old,
                    _ => first,
                };
                assert!(is_old || read == Remembered::History(new.clone()), "{what}");
                assert!(
                    result.is_err() || read == Remembered::History(new.clone()),
                    "{what}"
                );
                file.write(&new, &OsDisk).unwrap();
                assert_eq!(
                    file.read(&OsDisk).unwrap(),
                    Remembered::History(new.clone()),
                    "{what}"
                );
                assert_eq!(files_below(place.path()), [file.path()], "{what}");
            }
        }
    }
}
