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
