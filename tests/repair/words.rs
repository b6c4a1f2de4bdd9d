//! What the program says when it repairs, from the check that finds damage to the check that finds none.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::common::Place;
use crate::common::files::{files_below, flip_a_bit};
use crate::common::library::{back_up, snapshots};
use crate::common::program::Program;
use crate::common::shop::noise;

fn of_type<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let is = |object: &&Value| object["message_type"] == kind;
    objects.iter().filter(is).collect()
}

/// Two snapshots of a folder; the picture of the first one is lost.
fn scene(place: &Place) -> (Program, PathBuf) {
    let program = Program::with_cheap_repository(place.path());
    let shop = place.join("shop");
    fs::create_dir(&shop).unwrap();
    fs::write(shop.join("cup.jpg"), noise(1, 60_000)).unwrap();
    fs::write(shop.join("notes.txt"), "glaze: celadon\n").unwrap();
    back_up(&program.backend(), &shop).unwrap();
    let is_large = |path: &PathBuf| fs::metadata(path).unwrap().len() > 50_000;
    let packs = files_below(&program.repository.join("data"));
    flip_a_bit(&packs.into_iter().find(is_large).unwrap());
    fs::write(shop.join("cup.jpg"), noise(2, 60_000)).unwrap();
    back_up(&program.backend(), &shop).unwrap();
    (program, shop)
}

#[test]
#[allow(clippy::too_many_lines, reason = "one story")]
fn from_damage_to_a_clean_check() {
    let place = Place::new();
    let (program, shop) = scene(&place);
    let run = program.run(&["check", "--read-data"]);
    assert_eq!(run.code, 4);
    assert!(run.stderr.contains(" repair packs`"), "{}", run.stderr);

    let run = program.ok(&["repair", "index", "--read-all-packs"]);
    assert!(
        run.stdout.contains("2 files kept, 0 removed, 0 written"),
        "{}",
        run.stdout
    );
    let would = program.run(&["repair", "packs", "--dry-run"]);
    assert_eq!(would.code, 4, "{}", would.text());
    assert!(
        would.stdout.contains("only looked at, not repaired"),
        "{}",
        would.stdout
    );
    let run = program.run(&["repair", "packs"]);
    assert_eq!(run.code, 4, "{}", run.text());
    let [first, second] = &snapshots(&program.backend())[..] else {
        panic!("two snapshots");
    };
    let lost = format!(
        "lost: {}/cup.jpg in snapshot {}; intact in {} of 20",
        shop.display(),
        first.id.short(),
        second.id.short()
    );
    for run in [&would, &run] {
        assert!(run.stdout.contains(&lost), "{}", run.stdout);
        assert!(
            run.stdout.contains("1 blob lost, the pack removed"),
            "{}",
            run.stdout
        );
        let count = if run.stdout.contains("only looked at") {
            "1 would be removed, "
        } else {
            "1 removed, "
        };
        assert!(run.stdout.contains(count), "{}", run.stdout);
        assert!(run.stderr.contains("1 path lost"), "{}", run.stderr);
        assert!(run.stderr.contains(" repair snapshots`"), "{}", run.stderr);
    }
    assert_eq!(
        program.run(&["repair", "packs"]).code,
        0,
        "nothing is broken any more"
    );

    let (code, objects) = program.json(&["repair", "snapshots", "--dry-run"]);
    assert_eq!(
        (code, &objects.last().unwrap()["all_mended"]),
        (4, &false.into())
    );
    let run = program.run(&["repair", "snapshots", "--dry-run"]);
    assert_eq!(run.code, 4, "{}", run.text());
    assert!(run.stdout.contains("1 would be made, 0 would be removed"));
    assert!(
        run.stdout
            .contains("would be in a new one, the old one is kept"),
        "{}",
        run.stdout
    );
    assert_eq!(snapshots(&program.backend()).len(), 2);
    let (code, objects) = program.json(&["repair", "snapshots"]);
    // As long as one that lacks something is there, it is as `check` says.
    assert_eq!(code, 4, "{objects:?}");
    let error = of_type(&objects, "error")[0]["next"].as_str().unwrap();
    assert!(error.contains("repair snapshots --forget"), "{error}");
    let [subject] = of_type(&objects, "repaired_snapshot")[..] else {
        panic!("one snapshot: {objects:?}");
    };
    let new = subject["new_id"].as_str().unwrap().to_owned();
    assert_eq!(subject["id"], first.id.to_string());
    assert_eq!(
        (&subject["lost_paths"], &subject["forgotten"]),
        (&1.into(), &false.into())
    );
    let summary = objects.last().unwrap();
    assert_eq!(summary["command"], "repair");
    assert_eq!(
        (&summary["new_snapshots"], &summary["lost_paths"]),
        (&1.into(), &1.into())
    );
    let run = program.ok(&["snapshots"]);
    assert!(run.stdout.contains("incomplete"), "{}", run.stdout);

    // A restore of what is left says so, and the lost file is not there.
    let target = place.join("target");
    let run = program.run(&["restore", &new, "--target", target.to_str().unwrap()]);
    assert_eq!(run.code, 3, "{}", run.text());
    assert!(
        run.stderr.contains("left out when it was repaired"),
        "{}",
        run.stderr
    );
    assert!(
        run.stderr.contains("`repair snapshots` has left out since")
            && !run.stderr.contains("another program"),
        "{}",
        run.stderr
    );
    let restored = target.join(shop.strip_prefix("/").unwrap());
    assert!(restored.join("notes.txt").exists() && !restored.join("cup.jpg").exists());

    let run = program.run(&["check", "--read-data"]);
    assert_eq!(run.code, 4, "the old one is kept: {}", run.text());
    // What is left is made already, and not asked for again.
    assert!(
        run.text()
            .contains(&format!("what is left of it is in {} already", &new[..8]))
            && run.stderr.contains("repair snapshots --forget")
            && !run.text().contains("makes one that has what is left"),
        "{}",
        run.text()
    );
    // Records of proofs are no backups.
    let whole = place.join("whole");
    fs::create_dir(&whole).unwrap();
    fs::write(whole.join("a"), "a").unwrap();
    program.ok(&["backup", whole.to_str().unwrap()]);
    program.ok(&["verify", "--path", whole.to_str().unwrap()]);
    let run = program.run(&["repair", "snapshots", "--dry-run"]);
    assert!(
        run.stdout.contains(": 1 of 4 lack something"),
        "{}",
        run.stdout
    );
    let run = program.ok(&["repair", "snapshots", "--forget"]);
    assert!(
        run.stdout
            .contains(&format!("is in {}, the old one is removed", &new[..8])),
        "{}",
        run.stdout
    );
    let run = program.ok(&["check", "--read-data"]);
    assert!(run.stdout.contains("no damage found"), "{}", run.stdout);
    assert_eq!(program.ok(&["-q", "repair", "snapshots"]).text(), "");
}

/// Of two snapshots of one moment the latest is the one that lacks nothing on purpose.
#[test]
fn the_latest_is_not_what_a_repair_has_left() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let shop = place.join("shop");
    fs::create_dir(&shop).unwrap();
    fs::write(shop.join("cup.jpg"), noise(1, 60_000)).unwrap();
    fs::write(shop.join("notes.txt"), "glaze: celadon\n").unwrap();
    back_up(&program.backend(), &shop).unwrap();
    let packs = files_below(&program.repository.join("data"));
    let is_large = |path: &PathBuf| fs::metadata(path).unwrap().len() > 50_000;
    flip_a_bit(&packs.into_iter().find(is_large).unwrap());
    let old = snapshots(&program.backend()).remove(0);
    assert_eq!(program.run(&["repair", "packs"]).code, 4);
    assert_eq!(program.run(&["repair", "snapshots", "latest"]).code, 4);
    let both = snapshots(&program.backend());
    assert_eq!(both.len(), 2);
    assert_eq!(both[0].file.original, Some(old.id));
    assert_eq!(both[1].id, old.id);
    // What was lost comes back with the next backup, for the old snapshot as well.
    back_up(&program.backend(), &shop).unwrap();
    assert_eq!(program.run(&["check", "--read-data"]).code, 0);
    let target = place.join("target");
    program.ok(&[
        "restore",
        &old.id.short(),
        "--target",
        target.to_str().unwrap(),
    ]);
    let restored = target.join(shop.strip_prefix("/").unwrap());
    assert_eq!(
        fs::read(restored.join("cup.jpg")).unwrap(),
        noise(1, 60_000)
    );
}

/// A holder of a lock is never pushed aside, and who only looks needs none.
#[test]
fn nobody_is_repaired_under_the_hands_of_others() {
    let place = Place::new();
    let (program, _) = scene(&place);
    crate::common::forge::Forge::open(&program.repository).lock_exclusively("elsewhere");
    for words in [
        ["repair", "index"],
        ["repair", "packs"],
        ["repair", "snapshots"],
    ] {
        let run = program.run(&words);
        assert_eq!(run.code, 11, "{words:?}: {}", run.text());
        assert!(run.stderr.contains("elsewhere"), "{}", run.stderr);
        let run = program.run(&[&words[..], &["--dry-run"]].concat());
        assert!(matches!(run.code, 0 | 4), "{words:?}: {}", run.text());
    }
}

/// What the cache still has right is no reason to leave the repository wrong.
#[test]
fn a_repair_looks_at_the_repository_and_not_at_its_cache() {
    let place = Place::new();
    let (program, _) = scene(&place);
    let cache = place.join("cache");
    let cache = ["--cache-dir", cache.to_str().unwrap()];
    program.ok(&[&cache[..], &["ls", "latest"]].concat());
    let hurt = files_below(&program.repository.join("index")).remove(0);
    flip_a_bit(&hurt);
    let run = program.ok(&[&cache[..], &["repair", "index"]].concat());
    let said = "1 file kept, 1 removed, 1 written";
    assert!(run.stdout.contains(said), "{}", run.stdout);
    assert!(!hurt.exists());
}

/// A folder that is gone is not an empty one; only of the index can all be known without it.
#[test]
fn a_folder_that_is_missing_is_named_and_the_index_is_made_anew() {
    let place = Place::new();
    let (program, _) = scene(&place);
    fs::remove_dir_all(program.repository.join("index")).unwrap();
    for words in [&["prune"][..], &["backup", "/etc/hostname"]] {
        let run = program.run(words);
        assert_eq!(run.code, 15, "{words:?}: {}", run.text());
        assert!(run.stderr.contains("the folder index of the repository"));
        assert!(run.stderr.contains("repair index"), "{}", run.stderr);
    }
    let run = program.run(&["check"]);
    assert_eq!(run.code, 4, "{}", run.text());
    assert!(run.stdout.contains("index: the folder is not there"));
    let run = program.ok(&["ls", "latest"]);
    assert!(run.stderr.contains("index: the folder is not there"));
    program.ok(&["repair", "index"]);
    program.ok(&["check"]);
    // Without packs nothing is forgotten that may be on another disk.
    let aside = place.join("aside");
    fs::rename(program.repository.join("data"), &aside).unwrap();
    let before = files_below(&program.repository);
    for word in ["index", "packs", "snapshots"] {
        let run = program.run(&["repair", word]);
        assert_eq!(run.code, 15, "{word}: {}", run.text());
    }
    assert_eq!(files_below(&program.repository), before);
    fs::rename(&aside, program.repository.join("data")).unwrap();
    // Some tools copy no empty folders.
    fs::remove_dir(program.repository.join("locks")).unwrap();
    program.ok(&["backup", "/etc/hostname"]);
    program.ok(&["check"]);
}
