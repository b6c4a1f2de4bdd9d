//! Every command with every exit code that applies to it, for people and for programs.

use std::collections::BTreeSet;
use std::fs;

use rustix::process::Signal;
use tillsafe::error::ExitCode;

#[allow(
    clippy::wildcard_imports,
    reason = "the table below names each of them once"
)]
use super::provoke::*;
use super::{OPENING, Original, Scene, assert_error_object, assert_three_parts};
use crate::common::forge::Thing;
use crate::common::library::PASSWORD;
use crate::common::mount::SmallDisk;
use crate::common::program::Run;
use crate::common::tools::skipped;

/// Which exit codes apply to which command. 5 belongs to commands that are still to come.
///
/// Where a code is missing there is a reason: a reading command goes on without a lock (no 11),
/// `init` makes what the others would miss (no 10, 12), and what needs no repository has few ways to
/// fail. `demo` says 21 only if tillsafe itself is broken, and `rollback` is too quick for a signal.
const APPLICABLE: [(&str, &[i32]); 28] = [
    ("demo", &[0, 1, 2, 15, 130, 143]),
    ("init", &[0, 1, 2, 15, 20, 130, 143]),
    ("backup", &[0, 1, 2, 3, 4, 6, 10, 11, 12, 14, 15, 130, 143]),
    ("snapshots", &[0, 1, 2, 4, 10, 12, 15, 130, 143]),
    ("ls", &[0, 1, 2, 4, 10, 12, 13, 15, 130, 143]),
    (
        "restore",
        &[0, 1, 2, 3, 4, 7, 10, 12, 13, 15, 20, 21, 130, 143],
    ),
    ("rollback", &[0, 1, 2, 20]),
    ("check", &[0, 1, 2, 4, 10, 12, 15, 130, 143]),
    (
        "verify",
        &[0, 1, 2, 3, 4, 7, 10, 12, 13, 15, 20, 21, 130, 143],
    ),
    ("prune", &[0, 1, 2, 4, 10, 11, 12, 15, 130, 143]),
    ("forget", &[0, 1, 2, 4, 10, 11, 12, 13, 15, 20, 130, 143]),
    ("unlock", &[0, 1, 2, 10, 12, 15, 130, 143]),
    ("cache", &[0, 2]),
    ("repair", &[0, 1, 2, 4, 10, 11, 12, 13, 15, 130, 143]),
    ("tag", &[0, 1, 2, 4, 10, 11, 12, 13, 15, 130, 143]),
    ("cat", &[0, 1, 2, 4, 10, 12, 13, 15, 130, 143]),
    ("list", &[0, 1, 2, 10, 12, 15, 130, 143]),
    ("key", &[0, 1, 2, 4, 10, 11, 12, 15, 20, 130, 143]),
    ("find", &[0, 1, 2, 4, 10, 12, 13, 15, 130, 143]),
    ("diff", &[0, 1, 2, 4, 10, 12, 13, 15, 130, 143]),
    ("dump", &[0, 1, 2, 3, 4, 10, 12, 13, 15, 20, 130, 143]),
    ("stats", &[0, 1, 2, 4, 10, 12, 13, 15, 130, 143]),
    ("setup", &[0, 1, 2, 12, 130, 143]),
    ("doctor", &[0, 1, 2, 130, 143]),
    ("config", &[0, 2]),
    ("completions", &[0, 2]),
    ("man", &[0, 1, 2, 20]),
    ("version", &[0, 2]),
];

/// How a run ends for who reads it.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// With a result.
    Result,
    /// With an error: what happened, what is safe, what to do next.
    Error,
}
use End::{Error, Result};

/// One way to one exit code, for each of some commands.
struct Scenario {
    code: i32,
    what: &'static str,
    commands: &'static [&'static str],
    end: End,
    play: fn(&mut Scene, &str) -> Run,
    /// Whether it takes a disk of its own.
    mounts: bool,
}

const fn scenario(
    code: i32,
    what: &'static str,
    commands: &'static [&'static str],
    end: End,
    play: fn(&mut Scene, &str) -> Run,
) -> Scenario {
    Scenario {
        code,
        what,
        commands,
        end,
        play,
        mounts: false,
    }
}

impl Scenario {
    /// The same on a disk of its own, which only root can mount.
    const fn on_a_small_disk(mut self) -> Self {
        self.mounts = true;
        self
    }
}

/// Those of [`OPENING`] that read a snapshot, and those that stage one.
const CHOOSING: &[&str] = &["ls", "restore", "verify"];
const STAGING: &[&str] = &["restore", "verify"];
const SIGNALLED: &[&str] = &[
    "init",
    "backup",
    "snapshots",
    "ls",
    "restore",
    "check",
    "verify",
    "prune",
    "forget",
    "unlock",
    "repair",
    "tag",
    "cat",
    "list",
    "key",
    "find",
    "diff",
    "dump",
    "stats",
    "setup",
    "doctor",
];
/// Those that look into snapshots without restoring them.
const LOOKING: &[&str] = &["find", "diff", "dump", "stats"];

#[rustfmt::skip]
const SCENARIOS: &[Scenario] = &[
    scenario(0, "all is well", &OPENING, Result, |scene, command| scene.usual(command)),
    scenario(0, "nothing is needed", &["demo", "cache", "completions", "man", "version"], Result, |scene, command| scene.usual(command)),
    scenario(0, "a new repository", &["init"], Result, with_no_repository),
    scenario(0, "a new repository and a new password", &["init"], Result, with_no_repository_and_password),
    scenario(1, "no folder for scratch copies", &["demo"], Error, with_no_scratch_folder),
    scenario(2, "no folder for scratch copies", &["verify"], Error, with_no_scratch_folder),
    scenario(1, "no folder for the spool", &["backup"], Error, with_no_scratch_folder),
    scenario(1, "no folder for the password", &["init"], Error, with_no_folder_for_the_password),
    scenario(1, "no folder can be made at the target", &["restore"], Error, |scene, _| scene.run(&["restore", "latest", "--target", "/proc/shop/restored"])),
    scenario(1, "a repository of a later format", &OPENING, Error, with_a_later_format),
    scenario(2, "a flag that does not exist", &["demo", "init", "backup", "snapshots", "ls", "restore", "rollback", "check", "verify", "prune", "unlock", "cache", "repair", "tag", "cat", "list", "forget", "key", "find", "diff", "dump", "stats", "setup", "doctor", "config", "completions", "man", "version"], Error, |scene, command| scene.usual_with(command, &["--no-such-flag"])),
    scenario(6, "a database that was damaged before", &["backup"], Result, with_a_sick_database),
    scenario(0, "nothing but warnings", &["setup", "doctor"], Result, |scene, command| scene.usual(command)),
    scenario(1, "another password", &["doctor"], Error, with_a_wrong_password),
    scenario(12, "another password", &["setup"], Error, with_a_wrong_password),
    scenario(1, "a repository of a later format", &["setup"], Error, with_a_later_format),
    scenario(2, "a folder without a shop", &["setup"], Error, |scene, _| scene.run(&["setup", "/proc/self/fdinfo"])),
    scenario(0, "a configuration in which all is right", &["config"], Result, |scene, _| with_a_configuration(scene, "location")),
    scenario(2, "a configuration with an unknown key", &["config"], Error, |scene, _| with_a_configuration(scene, "locaton")),
    scenario(2, "an empty password", &["init", "backup", "snapshots", "ls", "restore", "check", "verify", "prune", "unlock", "repair", "tag", "cat", "list", "forget", "key", "find", "diff", "dump", "stats"], Error, with_an_empty_password),
    scenario(2, "`latest` of two machines", &["ls", "restore", "verify", "tag", "cat", "find", "diff", "dump", "stats"], Error, with_two_machines),
    scenario(2, "a shop's name where shops are not known", &["backup"], Error, |scene, _| scene.run(&["backup", "mara"])),
    scenario(3, "a broken database in the folder", &["backup"], Result, with_a_broken_database_in_the_shop),
    scenario(3, "a snapshot that lacks a database", &["restore", "verify"], Result, with_an_incomplete_snapshot),
    scenario(3, "a snapshot with an unknown kind of item", &["restore", "verify"], Result, with_an_unknown_kind_in_the_snapshot),
    scenario(0, "a flipped bit in the config", &["snapshots", "ls", "restore", "verify"], Result, with_a_flipped_config),
    scenario(0, "a restore in place that is undone", &["rollback"], Result, after_a_restore_in_place),
    scenario(1, "the disk of the shop is write-protected", &["rollback"], Error, on_a_protected_disk).on_a_small_disk(),
    scenario(4, "a copy for a restore in place that lacks a file", &["restore"], Error, with_a_lost_file_in_place),
    scenario(20, "nobody agrees to replace anything", &["restore"], Error, in_place_without_consent),
    scenario(20, "nothing was ever replaced", &["rollback"], Error, |scene, command| scene.usual(command)),
    scenario(20, "it was rolled back before", &["rollback"], Error, after_a_rollback),
    scenario(0, "no index is left", CHOOSING, Result, with_no_index),
    scenario(4, "a flipped bit in the config", &["backup", "check", "prune", "repair", "forget", "key"], Error, with_a_flipped_config),
    scenario(4, "a flipped bit in every pack", CHOOSING, Error, with_flipped_packs),
    scenario(4, "a flipped bit in every pack", &["check"], Error, with_flipped_packs),
    scenario(4, "a file of another size than its folder says", STAGING, Error, with_a_lost_file),
    scenario(0, "no index is left", &["repair"], Result, with_no_index),
    scenario(0, "no pack is left", &["repair"], Result, with_no_packs),
    scenario(4, "a flipped bit in every pack", &["repair"], Error, |scene, _| with_flipped_packs(scene, "repair packs")),
    scenario(4, "a flipped bit in the snapshot", &["repair"], Error, |scene, _| with_a_flipped_snapshot(scene, "repair snapshots")),
    scenario(13, "no such snapshot", &["repair"], Error, |scene, _| scene.run(&["repair", "snapshots", "0123456789"])),
    scenario(2, "no such pack", &["repair"], Error, |scene, _| scene.run(&["repair", "packs", "0123456789"])),
    scenario(2, "nothing that is repaired", &["repair"], Error, |scene, _| scene.run(&["repair"])),
    scenario(4, "no pack is left", CHOOSING, Error, with_no_packs),
    scenario(4, "no pack is left", &["check", "prune"], Error, with_no_packs),
    scenario(4, "no index is left", &["check"], Error, with_no_index),
    scenario(4, "a flipped bit in the snapshot", &["snapshots", "forget"], Result, with_a_flipped_snapshot),
    scenario(4, "a flipped bit in the snapshot", &["check", "prune"], Error, with_a_flipped_snapshot),
    scenario(4, "a flipped bit in the snapshot that may be the latest", &["ls", "restore", "verify", "tag", "cat", "find", "diff", "dump", "stats"], Error, with_a_flipped_snapshot),
    scenario(7, "another program stored a broken database", STAGING, Result, with_a_foreign_broken_database),
    scenario(10, "no repository", &OPENING, Error, with_no_repository),
    scenario(11, "another machine prunes", &["backup", "prune", "repair", "tag", "forget", "key"], Error, with_an_exclusive_lock),
    scenario(4, "a flipped bit in the snapshot that may be the latest", &["ls", "restore", "verify", "tag", "cat"], Error, with_a_flipped_snapshot),
    scenario(11, "its lock is removed while it works", &["backup"], Error, with_a_lost_lock),
    scenario(12, "another password", &OPENING, Error, with_a_wrong_password),
    scenario(13, "no such snapshot", CHOOSING, Error, with_no_such_snapshot),
    scenario(11, "another machine restores", &["forget"], Error, beside_a_reader),
    scenario(13, "no such snapshot", &["forget"], Error, |scene, _| scene.run(&["forget", "00000000"])),
    scenario(13, "no snapshot of that machine", &["forget"], Error, |scene, command| scene.usual_with(command, &["--host", "nowhere"])),
    scenario(13, "no such path", CHOOSING, Error, with_no_such_path),
    scenario(13, "patterns that select nothing", CHOOSING, Error, |scene, command| scene.usual_with(command, &["--include", "*.jpeg"])),
    scenario(13, "no such snapshot", &["tag"], Error, |scene, _| scene.run(&["tag", "--add", "x", "0123456789"])),
    scenario(13, "no such folder", &["cat"], Error, |scene, _| scene.run(&["cat", "tree", "latest:/no/such/path"])),
    scenario(13, "no such snapshot", LOOKING, Error, with_no_such_snapshot_to_look_at),
    scenario(4, "no pack is left", &["find", "dump", "stats"], Error, with_no_packs),
    scenario(3, "what an archive cannot hold", &["dump"], Result, with_a_strange_thing_in_the_snapshot),
    scenario(20, "a page is there", &["man"], Error, |scene, _| { scene.run(&["man", "--dir", &scene.text("target")]); scene.run(&["man", "--dir", &scene.text("target")]) }),
    scenario(1, "no folder can be made for the pages", &["man"], Error, |scene, _| scene.run(&["man", "--dir", "/proc/man"])),
    scenario(20, "the file is there", &["dump"], Error, with_a_target_that_is_taken),
    scenario(14, "a source that does not exist", &["backup"], Error, |scene, _| scene.run(&["backup", &scene.text("gone")])),
    scenario(14, "a broken database that was named", &["backup"], Error, with_a_broken_database_named),
    scenario(15, "folders of the storage cannot be listed", &["backup", "snapshots", "ls", "restore", "check", "verify", "prune", "repair", "tag", "cat", "list", "forget", "find", "diff", "dump", "stats"], Error, with_an_unlistable_storage),
    scenario(15, "a folder of the repository is missing", &["backup", "snapshots", "ls", "restore", "check", "verify", "prune", "repair", "tag", "cat", "key", "unlock", "forget", "find", "diff", "dump", "stats"], Error, with_a_missing_folder),
    scenario(15, "a file is in the way of the repository", &["init"], Error, with_a_file_in_the_way),
    scenario(15, "the storage is full", &["init", "backup", "key"], Error, with_a_full_storage).on_a_small_disk(),
    scenario(15, "the scratch folder's disk is full", &["demo"], Error, with_a_full_scratch_disk).on_a_small_disk(),
    scenario(20, "the only key is to be removed", &["key"], Error, with_the_only_key),
    scenario(20, "a repository is there", &["init"], Error, |scene, command| scene.usual(command)),
    scenario(20, "the last good snapshot is named", &["forget"], Error, naming_the_last_good_snapshot),
    scenario(20, "a flood of snapshots", &["forget"], Error, with_a_flood_of_snapshots),
    scenario(20, "the target holds something", &["restore"], Error, with_a_target_that_is_taken),
    scenario(20, "the target is a file", &["restore"], Error, with_a_file_as_target),
    scenario(20, "more than any disk takes", STAGING, Error, with_a_snapshot_larger_than_the_disk),
    scenario(21, "the manifest counted another number of rows", STAGING, Error, with_a_wrong_fingerprint),
    scenario(21, "the database does not open", STAGING, Error, with_a_broken_image),
    scenario(130, "SIGINT while it waits for its password", SIGNALLED, Error, |scene, command| signalled(scene, command, Signal::INT)),
    scenario(143, "SIGTERM while it waits for its password", SIGNALLED, Error, |scene, command| signalled(scene, command, Signal::TERM)),
    scenario(130, "SIGINT between two steps", &["demo"], Error, |scene, _| signalled_demo(scene, Signal::INT)),
    scenario(143, "SIGTERM between two steps", &["demo"], Error, |scene, _| signalled_demo(scene, Signal::TERM)),
];

/// Plays all scenarios of a command, for people and for programs, and compares what was seen with
/// what applies.
fn play_all(command: &str) {
    let original = Original::new();
    let mut played = BTreeSet::new();
    let of_command = SCENARIOS
        .iter()
        .filter(|scenario| scenario.commands.contains(&command));
    for (number, scenario) in of_command.enumerate() {
        for json in [false, true] {
            let what = format!(
                "{command} with {}, {}",
                scenario.what,
                if json { "for programs" } else { "for people" }
            );
            let mut scene = original.scene(&format!("{number}-{json}"), json);
            if scenario.mounts && SmallDisk::mount(&scene.path("disk"), "size=4k").is_none() {
                skipped(&what, "mounting a small disk needs root");
            } else {
                let run = (scenario.play)(&mut scene, command);
                judge(scenario, command, &run, json, &what);
            }
            fs::remove_dir_all(&scene.folder).unwrap();
        }
        played.insert(scenario.code);
    }
    let applicable = APPLICABLE.iter().find(|(name, _)| *name == command);
    let applicable: BTreeSet<i32> = applicable.unwrap().1.iter().copied().collect();
    assert_eq!(played, applicable, "{command}: scenarios and what applies");
}

fn judge(scenario: &Scenario, command: &str, run: &Run, json: bool, what: &str) {
    let text = run.text();
    assert_eq!(run.code, scenario.code, "{what}: {text}");
    assert!(!text.contains(PASSWORD), "{what}: the password: {text}");
    assert!(!text.contains('\u{1b}'), "{what}: an escape: {text}");
    assert!(!text.contains("panicked"), "{what}: {text}");
    if json {
        let objects = run.objects();
        super::schemas::assert_published(&objects, what);
        let summary = objects.last().unwrap();
        // Words that do not fit name no command for certain.
        if scenario.code != 2 {
            assert_eq!(summary["command"], command, "{what}: {summary}");
        }
        if scenario.end == Error {
            assert_error_object(&objects, run.code);
        }
        assert_eq!(run.stderr, "", "{what}");
    } else if scenario.end == Error {
        assert_three_parts(&run.stderr);
    } else {
        assert!(!run.stderr.contains("error:"), "{what}: {text}");
        assert!(!run.stdout.is_empty(), "{what}");
    }
}

#[test]
fn demo_gives_each_of_its_exit_codes() {
    play_all("demo");
}

#[test]
fn init_gives_each_of_its_exit_codes() {
    play_all("init");
}

#[test]
fn backup_gives_each_of_its_exit_codes() {
    play_all("backup");
}

#[test]
fn snapshots_gives_each_of_its_exit_codes() {
    play_all("snapshots");
}

#[test]
fn ls_gives_each_of_its_exit_codes() {
    play_all("ls");
}

#[test]
fn restore_gives_each_of_its_exit_codes() {
    play_all("restore");
}

#[test]
fn rollback_gives_each_of_its_exit_codes() {
    play_all("rollback");
}

#[test]
fn check_gives_each_of_its_exit_codes() {
    play_all("check");
}

#[test]
fn verify_gives_each_of_its_exit_codes() {
    play_all("verify");
}

#[test]
fn prune_gives_each_of_its_exit_codes() {
    play_all("prune");
}

#[test]
fn forget_gives_each_of_its_exit_codes() {
    play_all("forget");
}

#[test]
fn unlock_gives_each_of_its_exit_codes() {
    play_all("unlock");
}

#[test]
fn cache_gives_each_of_its_exit_codes() {
    play_all("cache");
}

#[test]
fn repair_gives_each_of_its_exit_codes() {
    play_all("repair");
}

#[test]
fn tag_gives_each_of_its_exit_codes() {
    play_all("tag");
}

#[test]
fn cat_gives_each_of_its_exit_codes() {
    play_all("cat");
}

#[test]
fn list_gives_each_of_its_exit_codes() {
    play_all("list");
}

#[test]
fn key_gives_each_of_its_exit_codes() {
    play_all("key");
}

#[test]
fn find_gives_each_of_its_exit_codes() {
    play_all("find");
}

#[test]
fn diff_gives_each_of_its_exit_codes() {
    play_all("diff");
}

#[test]
fn dump_gives_each_of_its_exit_codes() {
    play_all("dump");
}

#[test]
fn stats_gives_each_of_its_exit_codes() {
    play_all("stats");
}

#[test]
fn setup_gives_each_of_its_exit_codes() {
    play_all("setup");
}

#[test]
fn doctor_gives_each_of_its_exit_codes() {
    play_all("doctor");
}

#[test]
fn config_gives_each_of_its_exit_codes() {
    play_all("config");
}

#[test]
fn completions_gives_each_of_its_exit_codes() {
    play_all("completions");
}

#[test]
fn man_gives_each_of_its_exit_codes() {
    play_all("man");
}

#[test]
fn version_gives_each_of_its_exit_codes() {
    play_all("version");
}

#[test]
fn no_command_and_no_exit_code_is_forgotten() {
    let commands: BTreeSet<&str> = APPLICABLE.iter().map(|(command, _)| *command).collect();
    let help = super::words::help(&[]);
    assert_eq!(commands, super::words::commands_of(&help));
    let codes: BTreeSet<i32> = APPLICABLE
        .iter()
        .flat_map(|(_, codes)| codes.iter().copied())
        .collect();
    let table = ExitCode::TABLE
        .iter()
        .map(|(code, _)| i32::from(code.number()));
    assert_eq!(codes, table.collect());
}

#[test]
fn verify_says_what_restore_would_say() {
    let original = Original::new();
    let scene = original.scene("scene", true);
    let odd = Thing::Special("irregular");
    scene.forge().snapshot_of("odd", &odd);
    assert_eq!(scene.usual("restore").code, 3);
    assert_eq!(scene.usual("verify").code, 3);
}

/// Two pages tell which code counts where there are several: both as the program does.
#[test]
fn the_pages_have_the_order_of_codes_that_counts() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in ["docs/scripting.md", "docs/configuration.md"] {
        let text = std::fs::read_to_string(root.join(page)).unwrap();
        let list = text.split("130, 143, ").nth(1).unwrap_or_default();
        let end = list.find(|letter: char| !letter.is_ascii_digit() && !", \n".contains(letter));
        let list = format!("130, 143, {}", &list[..end.unwrap_or(list.len())]);
        let codes = list.split(|letter: char| !letter.is_ascii_digit());
        let codes: Vec<ExitCode> = codes
            .filter_map(|code| ExitCode::of_number(code.parse().ok()?))
            .collect();
        for pair in codes.windows(2) {
            assert_eq!(
                ExitCode::first_of(&[pair[1], pair[0]]),
                pair[0],
                "{page}: {pair:?}"
            );
        }
        let all = ExitCode::TABLE.iter().map(|(code, _)| *code);
        let missing: Vec<_> = all
            .filter(|code| *code != ExitCode::Done && !codes.contains(code))
            .collect();
        assert_eq!(missing, [], "{page}");
    }
}
