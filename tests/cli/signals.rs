//! A signal in the middle of the work: the summary still comes last, nothing half-made has a final
//! name, no lock is left, and what was there before restores. Of a restore, what was staged is left for
//! the next run of it, and of nothing else anything.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use super::{Original, Scene, as_text, assert_error_object, assert_three_parts};
use crate::common::Place;
use crate::common::files::{files_below, names_with};
use crate::common::forge::Thing;
use crate::common::library::{assert_every_snapshot_restores, back_up};
use crate::common::program::{Program, Run, Started};
use crate::common::shop::noise;

/// Both signals, one for people and one for programs.
const CASES: [(Signal, i32, bool); 3] = [
    (Signal::TERM, 143, true),
    (Signal::INT, 130, true),
    (Signal::TERM, 143, false),
];

fn assert_told(run: &Run, code: i32, json: bool, command: &str) {
    assert_eq!(run.code, code, "{command}: {}", run.text());
    if json {
        let objects = run.objects();
        assert_error_object(&objects, code);
        let summary = objects.last().unwrap();
        assert_eq!(summary["command"], command);
        assert_ne!(summary["repository"], Value::Null, "{summary}");
    } else {
        assert_three_parts(&run.stderr);
        assert_eq!(run.stdout, "", "no result");
    }
}

fn assert_no_lock(program: &Program) {
    let locks = names_with(&program.repository.join("locks"), "");
    assert_eq!(locks, [""; 0], "a lock is left");
}

/// The snapshots that there are, all of which restore.
fn snapshots_that_restore(original: &Original, scene: &Scene) -> usize {
    let backend = scene.program.backend();
    assert_every_snapshot_restores(&backend, &original.shop.folder, &scene.folder)
}

#[test]
fn a_backup_stopped_at_a_database_leaves_no_lock_and_no_snapshot() {
    let original = Original::new();
    for (number, (signal, code, json)) in CASES.into_iter().enumerate() {
        let scene = original.scene(&number.to_string(), json);
        let held = scene.hold_the_database();
        let mut backup = Started::of(&mut scene.command(&["backup", &scene.text("shop")]));
        backup.wait_until("its lock", || scene.program.has_lock());
        backup.signal(signal);
        held.execute_batch("COMMIT").unwrap();
        assert_told(&backup.finish(), code, json, "backup");
        assert_no_lock(&scene.program);
        assert_eq!(names_with(&scene.folder, ".tillsafe-"), [""; 0], "a spool");
        assert_eq!(snapshots_that_restore(&original, &scene), 1);
    }
}

#[test]
fn a_backup_stopped_while_it_writes_leaves_no_lock_and_no_snapshot() {
    let original = Original::new();
    for (number, (signal, code, json)) in CASES.into_iter().enumerate() {
        let scene = original.scene(&number.to_string(), json);
        let packs = || files_below(&scene.program.repository.join("data"));
        let before = packs().len();
        // One full pack, and then zeroes for longer than any test waits.
        fs::write(scene.shop.join("a-film"), noise(8, 20 << 20)).unwrap();
        let zeroes = fs::File::create(scene.shop.join("b-film")).unwrap();
        zeroes.set_len(1 << 40).unwrap();
        let mut backup = Started::of(&mut scene.command(&["backup", &scene.text("shop")]));
        backup.wait_until("its first pack", || {
            let finished = |path: &&std::path::PathBuf| !as_text(path).contains("-tmp-");
            packs().iter().filter(finished).count() > before
        });
        backup.signal(signal);
        assert_told(&backup.finish(), code, json, "backup");
        assert_no_lock(&scene.program);
        let half_made = packs();
        let half_made = half_made
            .iter()
            .filter(|path| as_text(path).contains("-tmp-"));
        assert_eq!(half_made.count(), 0, "a pack that is not whole");
        assert_eq!(snapshots_that_restore(&original, &scene), 1);
        fs::remove_file(scene.shop.join("b-film")).unwrap();
        scene.program.ok(&["backup", &scene.text("shop")]);
    }
}

#[test]
fn a_second_signal_ends_a_backup_at_once_and_the_next_needs_no_help() {
    let original = Original::new();
    let scene = original.scene("scene", true);
    let held = scene.hold_the_database();
    let mut backup = Started::of(&mut scene.command(&["backup", &scene.text("shop")]));
    backup.wait_until("its lock", || scene.program.has_lock());
    // Two that come at the same instant are one, so: until it has ended.
    while !backup.has_ended() {
        backup.signal(Signal::TERM);
        std::thread::yield_now();
    }
    assert_eq!(backup.finish().code, 143);
    held.execute_batch("COMMIT").unwrap();
    assert!(scene.program.has_lock(), "it had no time to remove it");
    // A shared lock keeps no backup out; once it is stale, the next run removes it.
    scene.program.ok(&["backup", &scene.text("shop")]);
    assert_eq!(scene.program.json(&["snapshots"]).1.len(), 3);
}

/// restic asks with SIGHUP whether the holder of a lock lives; a closed terminal sends it too.
#[test]
fn a_hangup_stops_nothing() {
    let original = Original::new();
    let scene = original.scene("scene", true);
    let held = scene.hold_the_database();
    let mut backup = Started::of(&mut scene.command(&["backup", &scene.text("shop")]));
    backup.wait_until("its lock", || scene.program.has_lock());
    backup.signal(Signal::HUP);
    held.execute_batch("COMMIT").unwrap();
    assert_eq!(backup.finish().code, 0);
    assert_no_lock(&scene.program);
}

/// A repository with one snapshot of 24 MiB: long enough to be stopped in the middle.
struct Large {
    place: Place,
    program: Program,
}

impl Large {
    fn new() -> Self {
        let place = Place::new();
        let program = Program::with_cheap_repository(place.path());
        let shop = place.join("shop");
        fs::create_dir(&shop).unwrap();
        for number in 0..6 {
            fs::write(shop.join(format!("film-{number}")), noise(number, 4 << 20)).unwrap();
        }
        back_up(&program.backend(), &shop).unwrap();
        Self { place, program }
    }

    /// Stops a command once `begun` sees that it works. A run that was faster than us is repeated:
    /// then it has simply done its work.
    fn stop(
        &self,
        words: &[&str],
        (signal, code, json): (Signal, i32, bool),
        begun: &dyn Fn() -> bool,
        undo: &dyn Fn(),
    ) {
        for _ in 0..20 {
            let mut command = self.program.command(words);
            if json {
                command.arg("--json");
            }
            let mut started = Started::of(&mut command);
            if started.comes("its first trace", begun) {
                started.signal(signal);
            }
            let run = started.finish();
            assert_no_lock(&self.program);
            if run.code == 0 {
                undo();
                continue;
            }
            return assert_told(&run, code, json, words[0]);
        }
        panic!("{words:?} was never caught at its work");
    }
}

/// Whether some of a copy is written.
fn is_staging(folder: &Path) -> bool {
    let stages = names_with(folder, ".tillsafe-stage-");
    let mut files = stages
        .iter()
        .flat_map(|name| files_below(&folder.join(name)));
    files.any(|file| fs::metadata(file).is_ok_and(|metadata| metadata.blocks() > 0))
}

/// At most the stage folder of the restore is left; it is removed.
fn clear_stage(around: &Path) -> usize {
    let left = names_with(around, ".tillsafe-stage-");
    assert!(left.len() <= 1, "{left:?}");
    for name in &left {
        fs::remove_dir_all(around.join(name)).unwrap();
    }
    left.len()
}

#[test]
fn a_stopped_restore_leaves_nothing_under_the_target_s_name() {
    let large = Large::new();
    let around = large.place.join("around");
    fs::create_dir(&around).unwrap();
    let target = around.join("target");
    let words = ["restore", "latest", "--target", as_text(&target)];
    let mut left = 0;
    for case in CASES {
        let undo = || fs::remove_dir_all(&target).unwrap();
        large.stop(&words, case, &|| is_staging(&around), &undo);
        left += clear_stage(&around);
        assert_eq!(names_with(&around, ""), [""; 0]);
    }
    assert!(left > 0, "never was anything left to go on from");
    large.program.ok(&words);
}

#[test]
fn a_stopped_restore_goes_on_from_what_it_had_done() {
    let large = Large::new();
    let around = large.place.join("around");
    fs::create_dir(&around).unwrap();
    let target = around.join("target");
    let words = ["restore", "latest", "--target", as_text(&target)];
    for _ in 0..20 {
        let undo = || fs::remove_dir_all(&target).unwrap();
        large.stop(&words, CASES[2], &|| is_staging(&around), &undo);
        let Some(stage) = names_with(&around, ".tillsafe-stage-").pop() else {
            // It came too late: all was proved, and only the name was still to be given.
            continue;
        };
        let number = fs::metadata(around.join(stage)).unwrap().ino();
        large.program.ok(&words);
        assert_eq!(names_with(&around, ""), ["target"]);
        assert_eq!(
            fs::metadata(&target).unwrap().ino(),
            number,
            "the same folder"
        );
        return;
    }
    panic!("it was never caught while it staged");
}

#[test]
fn a_stopped_restore_leaves_an_empty_target_empty() {
    let large = Large::new();
    let around = large.place.join("around");
    let target = around.join("target");
    fs::create_dir_all(&target).unwrap();
    let words = ["restore", "latest", "--target", as_text(&target)];
    let undo = || {
        fs::remove_dir_all(&target).unwrap();
        fs::create_dir(&target).unwrap();
    };
    large.stop(&words, CASES[0], &|| is_staging(&around), &undo);
    clear_stage(&around);
    assert_eq!(names_with(&around, ""), ["target"]);
    assert_eq!(names_with(&target, ""), [""; 0]);
}

#[test]
fn a_stopped_verify_leaves_no_copy() {
    let large = Large::new();
    let scratch = large.place.join("scratch");
    fs::create_dir(&scratch).unwrap();
    let words = ["verify", "--scratch", as_text(&scratch)];
    for case in CASES {
        large.stop(&words, case, &|| is_staging(&scratch), &|| {});
        assert_eq!(names_with(&scratch, ""), [""; 0]);
    }
}

#[test]
fn a_stopped_check_does_not_say_that_all_is_well() {
    let large = Large::new();
    for case in CASES {
        let begun = || large.program.has_lock();
        large.stop(&["check", "--read-data"], case, &begun, &|| {});
    }
}

#[test]
fn a_restore_of_a_file_that_repeats_itself_stops_when_it_is_told_to() {
    let original = Original::new();
    let scene = original.scene("scene", true);
    let thing = Thing::File {
        bytes: vec![7; 1 << 20],
        times: 3 << 10,
    };
    scene.forge().snapshot_of("sevens", &thing);
    let target = scene.text("target");
    let mut restore = Started::of(&mut scene.command(&["restore", "latest", "--target", &target]));
    let staged = || names_with(&scene.folder, ".tillsafe-stage-");
    let written = || {
        let copy = scene.path(staged().first()?).join("sevens");
        Some(fs::metadata(copy).ok()?.blocks() * 512)
    };
    restore.wait_until("its first bytes", || written() > Some(0));
    restore.signal(Signal::TERM);
    let mut seen = 0;
    while !restore.has_ended() {
        seen = written().unwrap_or(seen);
        std::thread::yield_now();
    }
    assert_eq!(restore.finish().code, 143);
    assert!(seen < 1 << 30, "it went on writing up to {seen} bytes");
}
