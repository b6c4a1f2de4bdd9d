//! A disk runs full: on the side of the repository, of the cache, of temporary copies. Each has its code and its
//! message, and the next run, with room again, is clean and leaves nothing behind.

use std::fs;
use std::path::Path;

use crate::common::Place;
use crate::common::files::files_below;
use crate::common::mount::SmallDisk;
use crate::common::program::{Program, Run};
use crate::common::restic::Restic;
use crate::common::shop::{Shop, noise};
use crate::common::tools::skipped;

/// A disk with 600 KiB of room; its shop needs more.
fn small_disk(place: &Place) -> Option<SmallDisk> {
    let disk = SmallDisk::mount(&place.join("disk"), "size=2m");
    if disk.is_none() {
        skipped("a full disk", "mounting a small disk needs root");
    }
    disk
}

/// A shop, and an empty repository on a small disk; none where no disk can be mounted, which is told.
fn shop_with_its_repository_on_a_disk(place: &Place) -> Option<(SmallDisk, Shop, Program)> {
    let Some(disk) = SmallDisk::mount(&place.join("disk"), "size=4m") else {
        skipped("a full disk", "mounting a small disk needs root");
        return None;
    };
    let program = Program {
        repository: disk.path().join("repository"),
        password_file: place.join("password"),
    };
    program.ok(&["init"]);
    Some((disk, Shop::open(&place.join("shop"), 50, "wal"), program))
}

fn run(program: &Program, temporary: &Path, words: &[&str]) -> Run {
    let mut command = program.command(words);
    Run::of(command.env("TMPDIR", temporary))
}

fn assert_says(run: &Run, code: i32, words: &[&str]) {
    assert_eq!(run.code, code, "{}", run.text());
    for word in words {
        assert!(run.text().contains(word), "{word}: {}", run.text());
    }
}

fn assert_clean(program: &Program) {
    assert_says(
        &program.run(&["check", "--read-data"]),
        0,
        &["no damage found"],
    );
    for restic in Restic::all_on(program) {
        restic.assert_clean();
    }
}

#[test]
fn on_the_side_of_the_repository() {
    let place = Place::new();
    let Some(disk) = small_disk(&place) else {
        return;
    };
    let shop = Shop::open(&place.join("shop"), 50, "wal");
    let program = Program {
        repository: disk.path().join("repository"),
        password_file: place.join("password"),
    };
    program.ok(&["init"]);
    let folder = shop.folder.to_str().unwrap();
    assert_says(&program.run(&["backup", folder]), 0, &[]);
    fs::write(shop.folder.join("big.jpg"), noise(7, 4_000_000)).unwrap();
    let run = program.run(&["backup", folder]);
    assert_says(&run, 15, &["error: ", "safe: ", "next: ", "No space left"]);
    // What was there is whole, and with room again the same command does all.
    assert_says(&program.run(&["verify"]), 0, &["matched"]);
    fs::remove_file(shop.folder.join("big.jpg")).unwrap();
    assert_says(&program.run(&["backup", folder]), 0, &[]);
    // What the full disk still took, nobody needs.
    assert_says(&program.run(&["prune", "--now"]), 0, &[]);
    assert_clean(&program);
    assert!(
        left_in(disk.path()).is_empty(),
        "{:?}",
        left_in(disk.path())
    );
}

/// Temporary files that a run has left.
fn left_in(folder: &Path) -> Vec<String> {
    let names = files_below(folder);
    names
        .into_iter()
        .map(|path| path.display().to_string())
        .filter(|name| name.contains(".tillsafe-") || name.contains(".tmp"))
        .collect()
}

#[test]
fn on_the_side_of_the_cache() {
    let place = Place::new();
    let Some(disk) = small_disk(&place) else {
        return;
    };
    let shop = Shop::open(&place.join("shop"), 50, "wal");
    let program = Program::with_cheap_repository(place.path());
    let folder = shop.folder.to_str().unwrap();
    disk.fill();
    let cache = disk.path().to_str().unwrap();
    // A cache is only a convenience.
    for words in [&["backup", folder][..], &["snapshots"], &["verify"]] {
        let words = [&["--cache-dir", cache], words].concat();
        assert_says(&program.run(&words), 0, &[]);
    }
    assert_clean(&program);
    fs::remove_file(disk.path().join("ballast")).unwrap();
    assert_says(
        &program.run(&["--cache-dir", cache, "snapshots"]),
        0,
        &["1 snapshot"],
    );
}

#[test]
fn on_the_side_of_temporary_copies() {
    let place = Place::new();
    let Some(disk) = small_disk(&place) else {
        return;
    };
    // Only a database in rollback mode is copied.
    let shop = Shop::open(&place.join("shop"), 50_000, "delete");
    assert!(fs::metadata(&shop.database).unwrap().len() > 2 << 20);
    let program = Program::with_cheap_repository(place.path());
    let folder = shop.folder.to_str().unwrap();
    let run_there = |words: &[&str]| run(&program, disk.path(), words);
    // Found in a folder: left out by name, the rest is saved.
    let said = run_there(&["backup", folder]);
    assert_says(
        &said,
        3,
        &[
            "shop.db: this database was left out",
            "No space left",
            "incomplete",
        ],
    );
    // Named by its owner: then there is no snapshot without it.
    let database = shop.database.to_str().unwrap();
    let said = run_there(&["backup", database]);
    assert_says(&said, 15, &["error: ", "No space left", "make room"]);
    assert_eq!(left_in(disk.path()), [""; 0]);

    assert_says(&run(&program, place.path(), &["backup", folder]), 0, &[]);
    assert_says(&run(&program, place.path(), &["verify"]), 0, &["matched"]);
    assert_clean(&program);
}

/// What goes first makes the room for the lock of what goes then.
#[test]
fn without_a_byte_left_snapshots_are_forgotten_and_their_room_is_freed() {
    let place = Place::new();
    let Some((disk, shop, program)) = shop_with_its_repository_on_a_disk(&place) else {
        return;
    };
    let folder = shop.folder.to_str().unwrap();
    program.ok(&["backup", folder]);
    for seed in 10..13 {
        fs::write(shop.folder.join("changing.jpg"), noise(seed, 200_000)).unwrap();
        assert_says(&program.run(&["backup", folder]), 0, &[]);
    }
    disk.fill();
    // Nobody needs nothing: there is nothing to free yet, and the message says what there is to do.
    let said = program.run(&["prune", "--now"]);
    assert_says(&said, 15, &["snapshots need all that is left", "forget"]);
    let said = program.run(&["doctor"]);
    assert_says(&said, 1, &["there is no room for a file", "prune --now"]);
    assert!(
        !said.text().contains("let this user write"),
        "{}",
        said.text()
    );
    // What would be kept by the rules stays, also on a full disk.
    let said = program.run(&["forget", "--keep-last", "9"]);
    let words = ["safe: every snapshot is untouched", "no snapshot goes"];
    assert_says(&said, 15, &words);
    assert_says(
        &program.run(&["forget", "--keep-last", "1"]),
        0,
        &["3 snapshots removed"],
    );
    assert_says(&program.run(&["prune", "--now"]), 0, &["removed"]);
    assert_says(&program.run(&["backup", folder]), 0, &[]);
    fs::remove_file(disk.path().join("ballast")).unwrap();
    assert_clean(&program);
    assert!(!program.has_lock());
}

/// Where only parts of packs are unneeded, nothing goes without room: that is said with how much it takes, and no
/// command is named for it that does not help.
#[test]
fn without_a_byte_left_what_takes_room_to_be_freed_is_said() {
    let place = Place::new();
    let Some((disk, shop, program)) = shop_with_its_repository_on_a_disk(&place) else {
        return;
    };
    let folder = shop.folder.to_str().unwrap();
    let picture = shop.folder.join("large.jpg");
    fs::write(&picture, noise(20, 700_000)).unwrap();
    program.ok(&["backup", folder]);
    fs::remove_file(picture).unwrap();
    program.ok(&["backup", folder]);
    program.ok(&["forget", "--keep-last", "1"]);
    disk.fill();
    let said = program.run(&["prune", "--now"]);
    let words = [
        " must be free there before `prune --now` can free ",
        "make so much room",
    ];
    assert_says(&said, 15, &words);
    assert!(
        !said.text().contains("without a byte left too"),
        "{}",
        said.text()
    );
    let said = program.run(&["forget", "--keep-last", "1"]);
    assert_says(&said, 15, &["by these rules no snapshot goes"]);
    fs::remove_file(disk.path().join("ballast")).unwrap();
    assert_says(
        &program.run(&["prune", "--now"]),
        0,
        &["stored anew", "removed"],
    );
    assert_clean(&program);
}
