//! How little the program needs around it: no HOME, no PATH, no terminal, no rights.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use tillsafe::repository::lock::host_name;

use super::{Original, READING, as_text, shell};
use crate::common::Place;
use crate::common::compare::{difference, is_database};
use crate::common::files::copy_folder;
use crate::common::forge::Forge;
use crate::common::library::assert_every_snapshot_restores;
use crate::common::mount::SmallDisk;
use crate::common::program::{Program, Run, bare};
use crate::common::shop::{Shop, count_orders};
use crate::common::tools::{find, skipped};

/// As cron runs a job, and worse: nothing in the environment, the current folder is `/`, and no
/// stream is open but those to write to.
fn as_cron(command: &Command) -> Run {
    Run::of(shell("exec \"$@\" <&-", command).current_dir("/"))
}

#[test]
fn a_whole_life_needs_no_environment() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 100, "wal");
    let program = Program::in_folder(place.path());
    let target = place.join("restored");
    let from = format!("latest:{}", shop.folder.display());
    for words in [
        &["init"][..],
        &["backup", as_text(&shop.folder)],
        &["snapshots"],
        &["ls", "--long", "latest"],
        &["check", "--read-data"],
        &["restore", &from, "--target", as_text(&target)],
        &["verify"],
    ] {
        let run = as_cron(&program.command(words));
        assert_eq!(run.code, 0, "{words:?}: {}", run.text());
        assert!(!run.stdout.is_empty(), "{words:?}");
    }
    assert_eq!(difference(&shop.folder, &target, &is_database), None);
    assert_eq!(count_orders(&target.join("shop.db")), 100);
    let mode = fs::metadata(&program.password_file).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600, "of the password that init made");
    for words in [&["demo"][..], &["version"], &["completions", "zsh"]] {
        let run = as_cron(bare().args(words));
        assert_eq!(run.code, 0, "{words:?}: {}", run.text());
        assert!(!run.stdout.is_empty(), "{words:?}");
    }
}

#[test]
fn a_password_that_must_be_asked_for_is_no_endless_wait_without_a_terminal() {
    let original = Original::new();
    let repository = as_text(&original.program.repository);
    for more in [&[][..], &["--no-input"]] {
        let run = as_cron(bare().args(["-r", repository, "snapshots"]).args(more));
        assert_eq!(run.code, 2, "{}", run.text());
        assert!(run.stderr.contains("-p FILE"), "{}", run.stderr);
    }
}

#[test]
fn relative_paths_are_those_of_the_current_folder() {
    let original = Original::new();
    let run = Run::of(bare().current_dir(original.place.path()).args([
        "-r",
        "repository",
        "-p",
        "password",
        "backup",
        "./shop",
    ]));
    assert_eq!(run.code, 0, "{}", run.text());
    let backend = original.program.backend();
    let kept =
        assert_every_snapshot_restores(&backend, &original.shop.folder, original.place.path());
    assert_eq!(kept, 2, "both hold the shop under its full path");
}

#[test]
fn a_dead_machine_s_lock_on_a_read_only_medium_stops_no_reading_command() {
    let original = Original::new();
    for command in READING {
        let scene = original.scene(command, false);
        let Some(disk) = SmallDisk::mount(&scene.path("disk"), "size=4m") else {
            return skipped("a read-only medium", "mounting a small disk needs root");
        };
        scene.forge().lock_exclusively("elsewhere");
        let medium = disk.path().join("repository");
        copy_folder(&scene.program.repository, &medium);
        disk.protect();
        let words = scene.words(command);
        let mut line = bare();
        line.arg("-r").arg(&medium);
        line.arg("-p").arg(&scene.program.password_file).args(words);
        let run = as_cron(&line);
        assert_eq!(run.code, 0, "{command}: {}", run.text());
        drop(disk);
    }
}

#[test]
fn nobody_in_particular_can_back_up_and_restore_what_is_theirs() {
    /// `nobody`, by number: no name is needed.
    const NOBODY: u32 = 65534;
    let setpriv = find("setpriv");
    let (Some(setpriv), true) = (setpriv, rustix::process::geteuid().is_root()) else {
        return skipped("a run without rights", "changing the user needs root");
    };
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 100, "delete");
    // The build may lie where only root can go. Copied by another process: a child that some other
    // test starts at this moment would inherit our open file, and nobody can run what is written to.
    let copy = place.join("tillsafe");
    let copied = Command::new(find("cp").unwrap())
        .args([env!("CARGO_BIN_EXE_tillsafe"), as_text(&copy)])
        .status();
    assert!(copied.unwrap().success());
    let mut waiting = vec![place.path().to_owned()];
    while let Some(folder) = waiting.pop() {
        chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        for item in fs::read_dir(&folder).unwrap().map(|item| item.unwrap()) {
            if item.file_type().unwrap().is_dir() {
                waiting.push(item.path());
            } else {
                std::os::unix::fs::lchown(item.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
    }
    let program = Program::in_folder(place.path());
    let target = place.join("restored");
    let from = format!("latest:{}", shop.folder.display());
    for words in [
        &["init"][..],
        &["backup", as_text(&shop.folder)],
        &["check", "--read-data"],
        &["restore", &from, "--target", as_text(&target)],
        &["verify"],
    ] {
        let mut command = Command::new(&setpriv);
        command
            .env_clear()
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&copy)
            .args(program.command(words).get_args());
        let run = as_cron(&command);
        assert_eq!(run.code, 0, "{words:?}: {}", run.text());
    }
    assert_eq!(difference(&shop.folder, &target, &is_database), None);
    assert_eq!(count_orders(&target.join("shop.db")), 100);
}

/// A lock of a process that is gone from this machine, one that may live elsewhere, and all of them.
#[test]
fn unlock_takes_what_is_dead_and_leaves_what_may_live() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let folder = place.join("shop");
    fs::create_dir(&folder).unwrap();
    let backup = || program.run(&["backup", folder.to_str().unwrap()]).code;
    let forge = Forge::open(&program.repository);
    forge.lock_exclusively(&host_name());
    assert_eq!(backup(), 11, "as young as it is, it may be of a container");
    let run = program.ok(&["unlock"]);
    assert!(run.stdout.contains("1 lock removed"), "{}", run.text());
    assert_eq!(backup(), 0);
    forge.lock_exclusively("elsewhere");
    let run = program.ok(&["unlock"]);
    assert!(
        run.stdout.contains("0 locks removed") && run.stdout.contains("1 left"),
        "{}",
        run.text()
    );
    assert_eq!(backup(), 11);
    program.ok(&["unlock", "--remove-all"]);
    assert_eq!(backup(), 0);
}
