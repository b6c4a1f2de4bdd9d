//! The ways to provoke an exit code: what is broken, missing or in the way before a command runs,
//! and what it must not have touched afterwards.

use std::fs;

use jiff::SignedDuration;
use rustix::process::Signal;

use super::Scene;
use crate::common::files::{
    copy_folder, files_below, flip_a_bit, make_broken_database, names_with,
};
use crate::common::forge::Thing;
use crate::common::library::snapshots;
use crate::common::mount::SmallDisk;
use crate::common::program::{Run, Started};
use crate::common::shop::noise;
use tillsafe::repository::lock::{Access, host_name};

pub fn with_no_repository(scene: &mut Scene, command: &str) -> Run {
    fs::remove_dir_all(&scene.program.repository).unwrap();
    scene.usual(command)
}

pub fn with_no_repository_and_password(scene: &mut Scene, command: &str) -> Run {
    fs::remove_file(&scene.program.password_file).unwrap();
    with_no_repository(scene, command)
}

pub fn with_no_scratch_folder(scene: &mut Scene, command: &str) -> Run {
    let words = match command {
        "verify" => vec!["verify".to_owned()],
        // One that was found in a folder would be left out.
        "backup" => vec!["backup".to_owned(), scene.text("shop/shop.db")],
        other => scene.words(other),
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut command = scene.command(&words);
    Run::of(command.env("TMPDIR", scene.path("gone")))
}

pub fn with_no_folder_for_the_password(scene: &mut Scene, command: &str) -> Run {
    scene.program.password_file = scene.path("gone/password");
    let run = with_no_repository(scene, command);
    assert!(!scene.program.repository.exists(), "and nothing was made");
    run
}

pub fn with_a_later_format(scene: &mut Scene, command: &str) -> Run {
    scene.forge().set_version(3);
    scene.usual(command)
}

pub fn with_the_only_key(scene: &mut Scene, command: &str) -> Run {
    let id = names_with(&scene.program.repository.join("keys"), "").remove(0);
    scene.run(&[command, "remove", &id])
}

pub fn with_an_empty_password(scene: &mut Scene, command: &str) -> Run {
    scene.program.write_password("");
    if command == "init" {
        return with_no_repository(scene, command);
    }
    scene.usual(command)
}

pub fn with_two_machines(scene: &mut Scene, command: &str) -> Run {
    let shop = scene.text("shop");
    scene.program.ok(&["backup", &shop, "--host", "elsewhere"]);
    let run = scene.usual(command);
    assert!(run.text().contains("--host elsewhere"), "{}", run.text());
    run
}

pub fn with_a_broken_database_in_the_shop(scene: &mut Scene, command: &str) -> Run {
    make_broken_database(&scene.shop.join("old.db"));
    let run = scene.usual(command);
    assert!(run.text().contains("old.db"), "it is named: {}", run.text());
    run
}

pub fn with_a_broken_database_named(scene: &mut Scene, command: &str) -> Run {
    let path = scene.path("old.db");
    make_broken_database(&path);
    scene.run(&[command, super::as_text(&path)])
}

pub fn with_an_incomplete_snapshot(scene: &mut Scene, command: &str) -> Run {
    make_broken_database(&scene.shop.join("old.db"));
    assert_eq!(scene.usual("backup").code, 3);
    // The snapshot that was there before is of another machine.
    let run = scene.usual_with(command, &["--host", &host_name()]);
    assert!(run.text().contains("old.db"), "it is named: {}", run.text());
    run
}

pub fn with_an_unknown_kind_in_the_snapshot(scene: &mut Scene, command: &str) -> Run {
    scene
        .forge()
        .snapshot_of("odd", &Thing::Special("irregular"));
    scene.usual(command)
}

pub fn with_a_flipped_config(scene: &mut Scene, command: &str) -> Run {
    flip_a_bit(&scene.program.repository.join("config"));
    let run = scene.usual(command);
    assert!(run.text().contains("config"), "it is named: {}", run.text());
    run
}

pub fn with_flipped_packs(scene: &mut Scene, command: &str) -> Run {
    for pack in files_below(&scene.program.repository.join("data")) {
        flip_a_bit(&pack);
    }
    let run = scene.usual(command);
    assert!(run.text().contains("data/"), "it is named: {}", run.text());
    run
}

pub fn with_a_lost_file(scene: &mut Scene, command: &str) -> Run {
    let cup = Thing::File {
        bytes: noise(5, 1000),
        times: 1,
    };
    let lie = Thing::Lie {
        bytes: noise(6, 1000),
        size: 1001,
    };
    let forge = scene.forge();
    forge.snapshot_of_all(&[("cup.jpg", &cup), ("lost.jpg", &lie)]);
    let run = scene.usual(command);
    assert!(run.stdout.contains("/lost.jpg"), "{}", run.text());
    let there = names_with(&scene.path("target"), "");
    let expected: &[&str] = if command == "restore" {
        &["cup.jpg"]
    } else {
        &[]
    };
    assert_eq!(there, expected, "the rest is there");
    run
}

/// Backs up the scene's own shop, changes it, and gives the words that restore it in place.
fn in_place_words(scene: &Scene) -> Vec<String> {
    let shop = scene.text("shop");
    scene.program.ok(&["backup", &shop]);
    fs::write(scene.shop.join("new.txt"), "since the backup").unwrap();
    let from = format!("latest:{shop}");
    let words = ["restore", &from, "--host", &host_name(), "--in-place"];
    words.map(str::to_owned).to_vec()
}

fn restore_in_place(scene: &Scene) {
    let words = in_place_words(scene);
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    let plan = scene.program.plan_in_place(&words[1..4]);
    words.extend(["--plan", &plan]);
    scene.program.ok(&words);
    assert!(!scene.shop.join("new.txt").exists());
}

pub fn after_a_restore_in_place(scene: &mut Scene, command: &str) -> Run {
    restore_in_place(scene);
    let run = scene.usual(command);
    assert!(scene.shop.join("new.txt").exists());
    run
}

pub fn after_a_rollback(scene: &mut Scene, command: &str) -> Run {
    assert_eq!(after_a_restore_in_place(scene, command).code, 0);
    scene.usual(command)
}

pub fn on_a_protected_disk(scene: &mut Scene, command: &str) -> Run {
    let disk = small_disk(scene, "size=8m");
    let moved = disk.path().join("shop");
    copy_folder(&scene.shop, &moved);
    let inside = std::mem::replace(&mut scene.shop, moved);
    std::os::unix::fs::symlink(&scene.shop, inside.with_extension("link")).unwrap();
    fs::remove_dir_all(&inside).unwrap();
    fs::rename(inside.with_extension("link"), &inside).unwrap();
    restore_in_place(scene);
    disk.protect();
    scene.usual(command)
}

pub fn in_place_without_consent(scene: &mut Scene, _: &str) -> Run {
    let words = in_place_words(scene);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let run = scene.run(&words);
    assert!(scene.shop.join("new.txt").exists(), "nothing is touched");
    run
}

pub fn with_a_lost_file_in_place(scene: &mut Scene, _: &str) -> Run {
    let lost = Thing::Lie {
        bytes: noise(6, 1000),
        size: 1001,
    };
    let live = scene.path("live");
    fs::create_dir(&live).unwrap();
    fs::write(live.join("lost.jpg"), "42").unwrap();
    scene.forge().snapshot_at(&live, &[("lost.jpg", &lost)]);
    let from = format!("latest:{}", live.display());
    let plan = scene.program.plan_that_ends_with(4, &[&from]);
    let run = scene.run(&["restore", &from, "--in-place", "--plan", &plan]);
    assert!(run.text().contains("lost.jpg"), "{}", run.text());
    assert_eq!(fs::read(live.join("lost.jpg")).unwrap(), b"42");
    run
}

pub fn with_a_flipped_snapshot(scene: &mut Scene, command: &str) -> Run {
    let folder = scene.program.repository.join("snapshots");
    let older = files_below(&folder);
    scene
        .forge()
        .snapshot_of("null", &Thing::Special("chardev"));
    let all = files_below(&folder);
    let newest = all.iter().find(|path| !older.contains(path)).unwrap();
    flip_a_bit(newest);
    scene.usual(command)
}

pub fn with_no_packs(scene: &mut Scene, command: &str) -> Run {
    let data = scene.program.repository.join("data");
    fs::remove_dir_all(&data).unwrap();
    fs::create_dir(&data).unwrap();
    scene.usual(command)
}

/// A copy that is not whole, or a disk that is mounted in part: nothing is taken for empty.
pub fn with_a_missing_folder(scene: &mut Scene, command: &str) -> Run {
    let folder = match command {
        "key" | "unlock" | "cat" => "keys",
        "repair" => "data",
        _ => "snapshots",
    };
    let path = scene.program.repository.join(folder);
    fs::remove_dir_all(&path).unwrap();
    let before = files_below(&scene.program.repository);
    let run = scene.usual(command);
    let named = format!("the folder {folder} of the repository");
    assert!(run.text().contains(&named), "{}", run.text());
    // A backup may have stored packs by then, and no name for them.
    if command != "backup" {
        assert_eq!(files_below(&scene.program.repository), before);
    }
    assert!(!path.exists(), "nothing hides that it is missing");
    run
}

pub fn with_no_index(scene: &mut Scene, command: &str) -> Run {
    fs::remove_dir_all(scene.program.repository.join("index")).unwrap();
    let run = scene.usual(command);
    assert!(run.text().contains("index"), "it is named: {}", run.text());
    run
}

pub fn with_a_foreign_broken_database(scene: &mut Scene, command: &str) -> Run {
    let path = scene.path("old.db");
    make_broken_database(&path);
    let bytes = fs::read(path).unwrap();
    scene
        .forge()
        .snapshot_of("old.db", &Thing::File { bytes, times: 1 });
    let run = scene.usual(command);
    let level = if scene.json {
        "\"restored\""
    } else {
        "proof level: restored"
    };
    assert!(run.stdout.contains(level), "{}", run.text());
    assert!(run.text().contains("old.db"), "it is named: {}", run.text());
    run
}

pub fn with_an_exclusive_lock(scene: &mut Scene, command: &str) -> Run {
    scene.forge().lock_exclusively("elsewhere");
    let run = scene.usual(command);
    assert!(
        run.text().contains("elsewhere"),
        "its holder is named: {}",
        run.text()
    );
    run
}

pub fn with_a_lost_lock(scene: &mut Scene, command: &str) -> Run {
    let held = scene.hold_the_database();
    let locks = scene.program.repository.join("locks");
    let mut backup = Started::of(&mut scene.command(&[command, &scene.text("shop")]));
    backup.wait_until("its lock", || scene.program.has_lock());
    // As `restic unlock --remove-all` does.
    fs::remove_dir_all(&locks).unwrap();
    fs::create_dir(&locks).unwrap();
    held.execute_batch("COMMIT").unwrap();
    let run = backup.finish();
    let snapshots = files_below(&scene.program.repository.join("snapshots"));
    assert_eq!(snapshots.len(), 1, "no new snapshot");
    run
}

pub fn with_a_wrong_password(scene: &mut Scene, command: &str) -> Run {
    scene.program.write_password("tenmoku");
    scene.usual(command)
}

pub fn with_no_such_snapshot(scene: &mut Scene, command: &str) -> Run {
    with_another_snapshot(scene, command, "0123456789")
}

pub fn with_no_such_snapshot_to_look_at(scene: &mut Scene, command: &str) -> Run {
    let target = scene.text("target");
    let words: &[&str] = match command {
        "dump" => &["dump", "0123456789", "--target", &target],
        "find" => &["find", "*", "--snapshot", "0123456789"],
        "diff" => &["diff", "latest", "0123456789"],
        other => &[other, "0123456789"],
    };
    scene.run(words)
}

pub fn with_a_strange_thing_in_the_snapshot(scene: &mut Scene, command: &str) -> Run {
    let strange = Thing::Special("irregular");
    scene.forge().snapshot_of("strange", &strange);
    let run = scene.usual(command);
    assert!(
        run.text().contains("/strange"),
        "it is named: {}",
        run.text()
    );
    run
}

pub fn with_no_such_path(scene: &mut Scene, command: &str) -> Run {
    with_another_snapshot(scene, command, "latest:/no/such/path")
}

pub fn with_another_snapshot(scene: &mut Scene, command: &str, snapshot: &str) -> Run {
    let mut words = vec![command, snapshot];
    let target = scene.text("target");
    if command == "restore" {
        words.extend(["--target", &target]);
    }
    let run = scene.run(&words);
    assert!(!scene.path("target").exists());
    run
}

pub fn with_an_unlistable_storage(scene: &mut Scene, command: &str) -> Run {
    for folder in ["index", "snapshots"] {
        let path = scene.program.repository.join(folder);
        fs::remove_dir_all(&path).unwrap();
        fs::write(&path, "").unwrap();
    }
    scene.usual(command)
}

pub fn with_a_file_in_the_way(scene: &mut Scene, command: &str) -> Run {
    fs::remove_dir_all(&scene.program.repository).unwrap();
    fs::write(&scene.program.repository, "").unwrap();
    scene.program.repository.push("repository");
    scene.usual(command)
}

pub fn with_a_full_storage(scene: &mut Scene, command: &str) -> Run {
    let disk = small_disk(scene, "size=2m");
    let moved = disk.path().join("repository");
    if command == "init" {
        disk.fill();
    } else {
        copy_folder(&scene.program.repository, &moved);
        fs::write(scene.shop.join("new.jpg"), noise(5, 2 << 20)).unwrap();
        disk.fill();
    }
    let before = names_with(&moved.join("snapshots"), "");
    scene.program.repository.clone_from(&moved);
    let run = scene.usual(command);
    assert_eq!(
        names_with(&moved.join("snapshots"), ""),
        before,
        "no new snapshot"
    );
    assert_eq!(names_with(&moved.join("locks"), ""), [""; 0], "and no lock");
    run
}

pub fn with_a_full_scratch_disk(scene: &mut Scene, command: &str) -> Run {
    let disk = small_disk(scene, "nr_inodes=1");
    let mut command = scene.command(&[command]);
    Run::of(command.env("TMPDIR", disk.path()))
}

fn small_disk(scene: &Scene, options: &str) -> SmallDisk {
    SmallDisk::mount(&scene.path("disk"), options).expect("`play_all` has looked")
}

/// The ids of the snapshots that are there.
fn stored(scene: &Scene) -> Vec<String> {
    let mut names = names_with(&scene.program.repository.join("snapshots"), "");
    names.sort();
    names
}

pub fn beside_a_reader(scene: &mut Scene, command: &str) -> Run {
    let forge = scene.forge();
    let quiet = tillsafe::monitor::Quiet::default();
    let _lock = forge.repository.lock(Access::Shared, &quiet).unwrap();
    let before = stored(scene);
    let run = scene.usual(command);
    assert_eq!(stored(scene), before, "nothing is removed");
    run
}

pub fn naming_the_last_good_snapshot(scene: &mut Scene, command: &str) -> Run {
    let before = stored(scene);
    let run = scene.run(&[command, &before[0]]);
    assert!(
        run.text().contains("the last good snapshot"),
        "{}",
        run.text()
    );
    assert_eq!(stored(scene), before, "nothing is removed");
    run
}

pub fn with_a_flood_of_snapshots(scene: &mut Scene, command: &str) -> Run {
    let forge = scene.forge();
    let last = snapshots(&scene.program.backend()).remove(0);
    for number in 0..30 {
        let mut file = last.file.clone();
        file.time += SignedDuration::from_secs(number);
        file.uid = 4711;
        forge.repository.save_snapshot(file).unwrap();
    }
    let before = stored(scene);
    assert_eq!(before.len(), 31);
    let run = scene.usual(command);
    assert!(
        run.text().contains("31 snapshots came in"),
        "{}",
        run.text()
    );
    assert_eq!(stored(scene), before, "nothing is removed");
    run
}

pub fn with_a_target_that_is_taken(scene: &mut Scene, command: &str) -> Run {
    fs::create_dir(scene.path("target")).unwrap();
    fs::write(scene.path("target/till.txt"), "42").unwrap();
    let run = scene.usual(command);
    assert_eq!(fs::read(scene.path("target/till.txt")).unwrap(), b"42");
    assert_eq!(names_with(&scene.path("target"), "").len(), 1);
    run
}

pub fn with_a_file_as_target(scene: &mut Scene, command: &str) -> Run {
    fs::write(scene.path("target"), "42").unwrap();
    let run = scene.usual(command);
    assert_eq!(fs::read(scene.path("target")).unwrap(), b"42");
    run
}

pub fn with_a_snapshot_larger_than_the_disk(scene: &mut Scene, command: &str) -> Run {
    // 16 TiB of zeroes from one blob.
    let thing = Thing::File {
        bytes: vec![0; 64 << 20],
        times: 1 << 18,
    };
    scene.forge().snapshot_of("zeroes", &thing);
    let run = scene.usual(command);
    assert!(!scene.path("target").exists());
    run
}

pub fn with_a_wrong_fingerprint(scene: &mut Scene, command: &str) -> Run {
    scene.forge().snapshot_with_manifest(|manifest| {
        let rows = &mut manifest["databases"][0]["fingerprint"]["tables"]["orders"];
        assert_eq!(*rows, 50);
        *rows = 51.into();
    });
    let run = scene.usual(command);
    assert!(!scene.path("target").exists(), "no final name");
    assert_eq!(
        names_with(&scene.folder, ".tillsafe-"),
        [""; 0],
        "and no copy is left"
    );
    run
}

pub fn with_a_broken_image(scene: &mut Scene, command: &str) -> Run {
    // The manifest says that a picture is a database.
    scene.forge().snapshot_with_manifest(|manifest| {
        let database = &mut manifest["databases"][0]["path"];
        *database = database
            .as_str()
            .unwrap()
            .replace("shop.db", "notes.txt")
            .into();
    });
    scene.usual(command)
}

pub fn signalled(scene: &mut Scene, command: &str, signal: Signal) -> Run {
    if command == "init" {
        fs::remove_dir_all(&scene.program.repository).unwrap();
    }
    let before = files_below(&scene.program.repository).len();
    let run = scene.signalled(command, signal);
    assert_eq!(
        files_below(&scene.program.repository).len(),
        before,
        "nothing is added or left"
    );
    assert!(!scene.path("target").exists());
    run
}

pub fn signalled_demo(scene: &mut Scene, signal: Signal) -> Run {
    let folder = scene.folder.clone();
    let has_begun = || !names_with(&folder, ".tillsafe-demo-").is_empty();
    // On a very busy machine the demo may be over before we look: then once more.
    for _ in 0..20 {
        let mut started = Started::of(&mut scene.command(&["demo"]));
        if started.comes("its folder", has_begun) {
            started.signal(signal);
        }
        let run = started.finish();
        let left = names_with(&folder, ".tillsafe-");
        assert_eq!(left, [""; 0], "its folder is removed");
        if run.code != 0 {
            return run;
        }
    }
    panic!("the demo was never caught at its work");
}

/// `config check` of a file that names this scene's repository by this key.
pub fn with_a_configuration(scene: &Scene, key: &str) -> Run {
    let file = scene.path("tillsafe.toml");
    let [repository, password, shop] =
        ["repository", "password", "shop"].map(|name| scene.text(name));
    let text = format!(
        "version = 1\n[repository.usb]\n{key} = {repository:?}\npassword_file = {password:?}\n[shop.mara]\nfiles = [{{ path = {shop:?} }}]\n"
    );
    fs::write(&file, text).unwrap();
    scene.run(&["config", "check", "-c", file.to_str().unwrap()])
}

/// A backup of a shop whose database has two leaves exchanged.
pub fn with_a_sick_database(scene: &mut Scene, command: &str) -> Run {
    let shop = scene.shop.join("sick");
    let shop = crate::common::shop::Shop::open(&shop, 2000, "delete");
    shop.exchange_two_leaves();
    scene.usual(command)
}
