//! Disks that fail and file systems that lie: the answers of a file system that the test has written.

use std::fs;

use crate::common::Place;
use crate::common::fuse::{Content, EACCES, EIO, ENOENT, Folder, Fuse, Thing, file, folder};
use crate::common::program::Program;
use crate::common::shop::noise;
use crate::common::tools::skipped;

/// Backs up a folder with a trap and a file beside it on each side in the order of names. The trap is named
/// in these words, the run ends with 3, the rest is there. Then the trap is a file like any other, and the
/// next run is whole. Returns what was stored of the trap.
fn assert_named(trap: Thing, words: &str) -> Option<Vec<u8>> {
    let place = Place::new();
    let shop = place.join("shop");
    let program = Program::with_cheap_repository(place.path());
    let whole = |bytes: &[u8]| Thing::File(file(bytes));
    let mount = |trap: Thing| {
        let root = folder([("a", whole(b"a")), ("trap", trap), ("z", whole(b"z"))]);
        Fuse::mount(&shop, root)
    };
    let mounted = match mount(trap) {
        Ok(mounted) => mounted,
        Err(why) => {
            skipped(words, &why);
            return None;
        }
    };
    let run = program.run(&["backup", shop.to_str().unwrap()]);
    assert_eq!(run.code, 3, "{}", run.text());
    let said = format!("{}/trap: {words}", shop.display());
    assert!(run.stderr.contains(&said), "{said}\n{}", run.stderr);
    drop(mounted);
    let restored = |target: &str| {
        let target = place.join(target);
        let from = format!("latest:{}", shop.display());
        program.run(&["restore", &from, "--target", target.to_str().unwrap()]);
        for name in ["a", "z"] {
            assert_eq!(fs::read(target.join(name)).unwrap(), name.as_bytes());
        }
        fs::read(target.join("trap")).ok()
    };
    let stored = restored("first");

    let healed = mount(whole(b"healed")).unwrap();
    program.ok(&["backup", shop.to_str().unwrap()]);
    drop(healed);
    assert_eq!(restored("second").unwrap(), b"healed");
    program.ok(&["check", "--read-data"]);
    stored
}

#[test]
fn a_file_that_is_listed_and_gone_is_named() {
    let words = "vanished while it was looked at, and is not in this snapshot";
    assert_eq!(assert_named(Thing::Gone(ENOENT), words), None);
}

#[test]
fn a_file_that_is_gone_when_it_is_opened_is_named() {
    let trap = Content {
        closed: Some(ENOENT),
        ..file(b"content")
    };
    let words = "vanished while it was looked at, and is not in this snapshot";
    assert_eq!(assert_named(Thing::File(trap), words), None);
}

#[test]
fn a_file_that_nobody_may_read_is_named() {
    let trap = Content {
        closed: Some(EACCES),
        ..file(b"content")
    };
    let words = "cannot be read: Permission denied (os error 13); it is not in this snapshot: back up as root, or as a user who may read it";
    assert_eq!(assert_named(Thing::File(trap), words), None);
}

#[test]
fn a_folder_that_nobody_may_list_is_named() {
    let trap = Folder {
        closed: Some(EACCES),
        ..folder([("inner", Thing::File(file(b"inner")))])
    };
    let words = "cannot be read: Permission denied (os error 13); it is not in this snapshot";
    assert_eq!(assert_named(Thing::Folder(trap), words), None);
}

/// The first piece is right, and no reason to store half a file.
#[test]
fn a_file_on_a_failing_disk_is_named_and_not_stored_by_half() {
    let bytes = noise(7, 3 << 20);
    for from in [0, 4096, 2 << 20] {
        let trap = Content {
            fails: Some((from, EIO)),
            ..file(&bytes)
        };
        let words = "cannot be read: Input/output error (os error 5); it is not in this snapshot: its disk may be failing";
        assert_eq!(assert_named(Thing::File(trap), words), None);
    }
}

#[test]
fn a_file_that_goes_on_beyond_its_length_is_read_to_its_length_and_named() {
    let trap = Content {
        length: 5,
        ..file(b"helloworld")
    };
    let words = "goes on beyond the 5 bytes that its file system tells, and only those are stored";
    if let Some(stored) = assert_named(Thing::File(trap), words) {
        assert_eq!(stored, b"hello");
    }
}

#[test]
fn a_file_that_ends_before_its_length_is_named() {
    let trap = Content {
        length: 10,
        ..file(b"hello")
    };
    let words = "was cut short while it was read: 5 bytes of 10 were gone";
    if let Some(stored) = assert_named(Thing::File(trap), words) {
        assert_eq!(stored, b"hello");
    }
}

/// What was listed is stored, and the folder is named once.
#[test]
fn a_folder_whose_list_breaks_off_is_stored_as_far_as_it_was_listed() {
    let place = Place::new();
    let shop = place.join("shop");
    let program = Program::with_cheap_repository(place.path());
    let things = || {
        [
            ("a", Thing::File(file(b"a"))),
            ("b", Thing::File(file(b"b"))),
        ]
    };
    let half = Folder {
        fails: Some(EIO),
        ..folder(things())
    };
    let root = folder([
        ("half", Thing::Folder(half)),
        ("z", Thing::File(file(b"z"))),
    ]);
    let mounted = match Fuse::mount(&shop, root) {
        Ok(mounted) => mounted,
        Err(why) => return skipped("a list that breaks off", &why),
    };
    let run = program.run(&["backup", shop.to_str().unwrap()]);
    assert_eq!(run.code, 3, "{}", run.text());
    let said = format!(
        "{}/half: its list broke off: Input/output error (os error 5); what was listed is stored, what was not is not in this snapshot",
        shop.display()
    );
    assert_eq!(run.stderr.matches(&said).count(), 1, "{}", run.stderr);
    let listed = program.ok(&["ls", "latest"]).stdout;
    for name in ["half/a", "half/b", "shop/z"] {
        assert!(listed.contains(name), "{name}: {listed}");
    }
    drop(mounted);
    let root = folder([
        ("half", Thing::Folder(folder(things()))),
        ("z", Thing::File(file(b"z"))),
    ]);
    let _healed = Fuse::mount(&shop, root).unwrap();
    program.ok(&["backup", shop.to_str().unwrap()]);
}
