//! A snapshot that was incomplete from the start: what it failed to save does not go for it.

use std::fs;
use std::path::{Path, PathBuf};

use super::{field, kept, text};
use crate::cli::assert_three_parts;
use crate::common::Place;
use crate::common::program::Program;
use crate::common::shop::{Shop, add_keyed};

/// A shop with a database that cannot be captured, and a picture that came after the backup.
struct Scene {
    place: Place,
    program: Program,
    shop: Shop,
    keyed: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let place = Place::new();
        let shop = Shop::open(&place.join("srv/shop"), 5, "delete");
        let keyed = add_keyed(&shop.folder);
        let program = Program::with_cheap_repository(place.path());
        let run = program.run(&["backup", text(&shop.folder)]);
        assert_eq!(run.code, 3, "{}", run.text());
        shop.sell(2);
        fs::write(shop.folder.join("new.jpg"), "since the backup").unwrap();
        Self {
            place,
            program,
            shop,
            keyed,
        }
    }

    fn assert_untouched(&self) {
        assert_eq!(self.shop.orders(), 7);
        assert!(self.keyed.exists());
        assert_eq!(kept(&self.place.join("srv")), [""; 0]);
    }
}

fn hash_of(stdout: &str) -> String {
    let line = stdout.lines().find_map(|line| line.strip_prefix("plan "));
    line.expect("a plan is printed").to_owned()
}

#[test]
fn what_was_not_saved_stays_unless_its_owner_gives_it_up() {
    let scene = Scene::new();
    let run = scene
        .program
        .run(&["restore", "latest", "--in-place", "--dry-run"]);
    assert_eq!(run.code, 20, "{}", run.text());
    assert_three_parts(&run.stderr);
    let mut lines = run.stdout.lines().skip(1);
    let said = [lines.next().unwrap(), lines.next().unwrap()];
    assert!(said[0].starts_with("  INCOMPLETE "), "{}", run.stdout);
    assert!(
        said[1].contains("keyed.db: this database was left out"),
        "{}",
        run.stdout
    );
    assert!(
        run.stdout.contains("NOT SAVED, and it stands there: ")
            && run.stdout.contains("not in the snapshot: ")
            && run.stderr.contains("--exclude"),
        "{}",
        run.text()
    );
    // The hash is no consent to that.
    let hash = hash_of(&run.stdout);
    let words = ["restore", "latest", "--in-place", "--plan", &hash];
    let run = scene.program.run(&words);
    assert_eq!(run.code, 20, "{}", run.text());
    scene.assert_untouched();

    // Left out, it stays, and so does whatever else the snapshot does not hold.
    let words = ["latest", "--exclude", text(&scene.keyed)];
    let hash = scene.program.plan_in_place(&words);
    let words = [&["restore"], &words[..], &["--in-place", "--plan", &hash]].concat();
    scene.program.ok(&words);
    assert_eq!(scene.shop.orders(), 5);
    assert!(scene.keyed.exists() && scene.shop.folder.join("new.jpg").exists());
    scene.program.ok(&["rollback"]);
    scene.program.ok(&["rollback", "--discard", "--yes"]);
    scene.assert_untouched();

    // Given up, it goes, and is kept.
    let words = ["restore", "latest", "--in-place", "--accept-incomplete"];
    let run = scene.program.run(&[&words[..], &["--dry-run"]].concat());
    assert_eq!(run.code, 0, "{}", run.text());
    assert!(
        run.stdout
            .contains("--accept-incomplete --in-place --plan "),
        "{}",
        run.stdout
    );
    let hash = hash_of(&run.stdout);
    let run = scene
        .program
        .run(&[&words[..], &["--plan", &hash]].concat());
    assert_eq!(run.code, 3, "{}", run.text());
    assert!(!scene.keyed.exists());
    scene.program.ok(&["rollback"]);
    assert!(scene.keyed.exists());
}

#[test]
fn where_nothing_stands_an_incomplete_snapshot_is_restored_and_says_so() {
    let scene = Scene::new();
    fs::remove_dir_all(&scene.shop.folder).unwrap();
    let (code, objects) = scene
        .program
        .json(&["restore", "latest", "--in-place", "-n"]);
    assert_eq!(code, 0, "{objects:?}");
    let lacks = field(&objects, "plan", "lacks");
    assert_eq!(lacks.as_array().unwrap().len(), 1, "{lacks}");
    assert_eq!(Path::new(lacks[0]["item"].as_str().unwrap()), scene.keyed);
    let replaces = &field(&objects, "plan", "replaces")[0];
    assert_eq!(replaces["not_saved"]["count"], 0, "{replaces}");
    let hash = field(&objects, "plan", "plan");
    let words = ["restore", "latest", "--in-place", "--plan"];
    let run = scene
        .program
        .run(&[&words[..], &[hash.as_str().unwrap()]].concat());
    assert_eq!(run.code, 3, "{}", run.text());
    assert_eq!(scene.shop.orders(), 5);
}

/// What a repair has left out is written down nowhere: whatever the snapshot does not hold may be it.
#[test]
fn of_a_repaired_snapshot_all_that_is_not_in_it_may_be_what_it_lacks() {
    let scene = Scene::new();
    let program = &scene.program;
    fs::remove_file(&scene.keyed).unwrap();
    fs::remove_file(scene.shop.folder.join("keyed.db-wal")).unwrap();
    program.ok(&["backup", text(&scene.shop.folder)]);
    program.ok(&["tag", "--add", "incomplete", "latest"]);
    fs::write(scene.shop.folder.join("newer.jpg"), "since").unwrap();
    let run = program.run(&["restore", "latest", "--in-place", "--dry-run"]);
    assert_eq!(run.code, 20, "{}", run.text());
    assert!(
        run.stdout.contains("nothing names it")
            && run.stdout.contains("NOT SAVED")
            && run.stderr.contains("newer.jpg"),
        "{}",
        run.text()
    );
}

/// The restores that are kept, oldest first, each with how much of it no snapshot holds.
fn all_kept(program: &Program) -> Vec<(String, u64)> {
    let (_, objects) = program.json(&["rollback", "--list"]);
    let kept = objects
        .iter()
        .filter(|object| object["message_type"] == "kept");
    kept.map(|object| {
        let id = object["restore_id"].as_str().unwrap();
        (
            id.to_owned(),
            object["not_saved"]["count"].as_u64().unwrap(),
        )
    })
    .collect()
}

/// Restores with what was not saved moved aside.
fn restore_giving_up(program: &Program, from: &str) {
    let words = [from, "--accept-incomplete"];
    let hash = program.plan_in_place(&words);
    let words = [&["restore"], &words[..], &["--in-place", "--plan", &hash]].concat();
    let run = program.run(&words);
    assert_eq!(run.code, 3, "{}", run.text());
}

#[test]
fn what_no_snapshot_holds_is_not_discarded_without_a_word_of_its_own() {
    let scene = Scene::new();
    let program = &scene.program;
    restore_giving_up(program, "latest");
    // And once more, without a rollback: what that one keeps was restored.
    restore_giving_up(program, "latest");
    let both = all_kept(program);
    let [(first, 1), (second, 0)] = &both[..] else {
        panic!("{both:?}");
    };
    let names = kept(&scene.place.join("srv"));
    let held = scene
        .place
        .join("srv")
        .join(
            names
                .iter()
                .find(|name| name.contains(first.as_str()))
                .unwrap(),
        )
        .join("old/shop/keyed.db");
    assert!(held.exists());
    let list = program.ok(&["rollback", "--list"]);
    assert!(list.stdout.contains(text(&held)), "{}", list.stdout);
    for words in [
        &[first.as_str(), "--dry-run"][..],
        &[first, "--yes"],
        &["--all", "--yes"],
        &["--all", "--dry-run"],
    ] {
        let run = program.run(&[&["rollback", "--discard"], words].concat());
        assert_eq!(run.code, 20, "{words:?}: {}", run.text());
        assert_three_parts(&run.stderr);
        assert!(
            run.stderr.contains(text(&held)) && run.stderr.contains("--accept-loss"),
            "{words:?}: {}",
            run.text()
        );
        assert!(held.exists());
        assert_eq!(all_kept(program), both, "{words:?}");
    }
    let words = ["rollback", "--discard", "--accept-loss", first];
    let run = program.ok(&[&words[..], &["--dry-run"]].concat());
    assert!(run.stdout.contains(text(&held)), "{}", run.text());
    // The word is about what goes, not a yes.
    let run = program.run(&words);
    assert_eq!(run.code, 20, "{}", run.text());
    assert!(held.exists());
    // The other one holds nothing of that kind.
    program.ok(&["rollback", "--discard", "--yes", second]);
    let run = program.ok(&[&words[..], &["--yes"]].concat());
    assert!(run.stdout.contains(text(&held)), "{}", run.text());
    assert_eq!(kept(&scene.place.join("srv")), [""; 0]);
}

#[test]
fn what_its_owner_has_fetched_is_no_loss_and_what_was_rolled_back_is_live() {
    let scene = Scene::new();
    let program = &scene.program;
    restore_giving_up(program, "latest");
    program.ok(&["rollback"]);
    assert!(scene.keyed.exists());
    program.ok(&["rollback", "--discard", "--yes"]);
    restore_giving_up(program, "latest");
    let name = kept(&scene.place.join("srv")).remove(0);
    let held = scene.place.join("srv").join(name).join("old/shop/keyed.db");
    fs::rename(&held, &scene.keyed).unwrap();
    program.ok(&["rollback", "--discard", "--yes"]);
    assert!(scene.keyed.exists());
}

/// A restore around it takes along what another one keeps.
#[test]
fn what_is_kept_inside_what_is_kept_counts_too() {
    let place = Place::new();
    let shop = Shop::open(&place.join("srv/shop"), 5, "delete");
    let vault = shop.folder.join("vault");
    fs::create_dir(&vault).unwrap();
    let keyed = add_keyed(&vault);
    let program = Program::with_cheap_repository(place.path());
    let run = program.run(&["backup", text(&shop.folder)]);
    assert_eq!(run.code, 3, "{}", run.text());
    restore_giving_up(&program, &format!("latest:{}", vault.display()));
    let inner = all_kept(&program).remove(0);
    assert_eq!(inner.1, 1);
    assert!(!keyed.exists());
    restore_giving_up(&program, "latest");
    let outer = all_kept(&program).remove(0);
    assert_eq!((outer.1, outer.0 == inner.0), (1, false), "{outer:?}");
    let run = program.run(&["rollback", "--discard", "--yes"]);
    assert_eq!(run.code, 20, "{}", run.text());
    assert!(
        run.stderr.contains("old/vault/keyed.db") && run.stderr.contains(&inner.0),
        "{}",
        run.text()
    );
    // Taken back, the outer one keeps only its copy, and the inner one what it kept.
    program.ok(&["rollback"]);
    program.ok(&["rollback", "--discard", "--yes", &outer.0]);
    let run = program.run(&["rollback", "--discard", "--yes", &inner.0]);
    assert_eq!(run.code, 20, "{}", run.text());
    program.ok(&["rollback", &inner.0]);
    assert!(keyed.exists());
}
