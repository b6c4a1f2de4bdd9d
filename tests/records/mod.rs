//! What was proved when: recorded after `verify`, shown by `snapshots`, found by `proven`; stock restic
//! sees ordinary snapshots, and the shop's stay what they were.

mod crash;
mod forged;

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::Place;
use crate::common::files::{copy_folder, files_below, flip_a_bit};
use crate::common::forge::Forge;
use crate::common::library::{back_up, snapshots};
use crate::common::program::Program;
use crate::common::restic::Restic;
use crate::common::shop::{Shop, count_orders};

/// A shop with one snapshot.
struct Scene {
    place: Place,
    shop: Shop,
    program: Program,
}

impl Scene {
    fn new() -> Self {
        let place = Place::new();
        let shop = Shop::open(&place.join("shop"), 50, "delete");
        let program = Program::with_cheap_repository(place.path());
        back_up(&program.backend(), &shop.folder).unwrap();
        Self {
            place,
            shop,
            program,
        }
    }

    fn sell_and_back_up(&self) {
        self.shop.sell(10);
        back_up(&self.program.backend(), &self.shop.folder).unwrap();
    }

    fn shop_in_snapshot(&self, snapshot: &str) -> String {
        format!("{snapshot}:{}", self.shop.folder.display())
    }
}

/// What `snapshots` lists, with more words.
fn listed(program: &Program, words: &[&str]) -> Vec<Value> {
    let (code, mut objects) = program.json(&[&["snapshots"], words].concat());
    assert_eq!(code, 0, "{objects:?}");
    objects.retain(|object| object["message_type"] == "snapshot");
    objects
}

/// The proof level of each snapshot of the shop, oldest first; `-` without one.
fn levels(program: &Program) -> Vec<String> {
    let level = |snapshot: &Value| snapshot["proof_level"].as_str().unwrap_or("-").to_owned();
    listed(program, &[]).iter().map(level).collect()
}

/// Snapshots of records.
fn records(program: &Program) -> Vec<Value> {
    let mut all = listed(program, &["--all"]);
    all.retain(|snapshot| snapshot["is_record"] == true);
    all
}

/// The summary of a verify that ends well.
fn verify(program: &Program, words: &[&str]) -> Value {
    let (code, mut objects) = program.json(&[&["verify"], words].concat());
    assert_eq!(code, 0, "{objects:?}");
    objects.pop().unwrap()
}

#[test]
fn a_whole_snapshot_that_passes_is_recorded_and_the_record_is_no_snapshot_of_a_shop() {
    let scene = Scene::new();
    let program = &scene.program;
    assert_eq!(levels(program), ["-"]);
    let summary = verify(program, &[]);
    assert!(summary["record_id"].is_string(), "{summary}");
    assert_eq!(levels(program), ["matched"]);
    let text = program.ok(&["snapshots"]).stdout;
    assert!(
        text.contains("matched") && text.contains("1 snapshot in"),
        "{text}"
    );
    assert!(!text.contains("tillsafe-records"), "{text}");
    let found = records(program);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["id"], summary["record_id"]);
    assert_eq!(found[0]["paths"], serde_json::json!(["/.tillsafe/records"]));
    let shop = snapshots(&program.backend()).pop().unwrap();
    assert!(!shop.is_record(), "the shop is the newest by time");
    // What shows the newest shows the shop; the record itself is there for whoever names it.
    let text = program.ok(&["ls", "latest"]).stdout;
    assert!(text.contains("shop.db"), "{text}");
    let id = found[0]["id"].as_str().unwrap();
    let text = program
        .ok(&["ls", &format!("{id}:/.tillsafe/records")])
        .stdout;
    assert!(text.contains(".json"), "{text}");
    // A record is not proved in turn, and not counted among the backups.
    assert!(verify(program, &[id])["record_id"].is_null());
    for words in [&["stats"][..], &["find", "*"]] {
        let (code, objects) = program.json(words);
        let count = objects
            .iter()
            .rev()
            .find_map(|one| one["snapshots"].as_u64());
        assert_eq!((code, count), (0, Some(1)), "{words:?}: {objects:?}");
    }
    let would = program.ok(&["forget", "--dry-run", id]).stdout;
    assert!(
        would.contains("records of what was proved, no backup"),
        "{would}"
    );
    assert!(would.contains("1 left"), "{would}");
    // A later one holds the earlier.
    verify(program, &[]);
    let found = records(program);
    assert_eq!(found.len(), 2);
    let both = found.iter().any(|record| record["total_files"] == 2);
    assert!(both, "{found:?}");
}

#[test]
fn a_part_of_a_snapshot_proves_nothing_of_the_whole() {
    let scene = Scene::new();
    let part = scene.shop_in_snapshot("latest");
    for words in [
        &[part.as_str()][..],
        &["latest", "--include", "*.db"],
        &["latest", "--exclude", "*.jpg"],
    ] {
        assert!(
            verify(&scene.program, words)["record_id"].is_null(),
            "{words:?}"
        );
    }
    assert_eq!(levels(&scene.program), ["-"]);
}

#[test]
fn proven_is_the_last_that_passed() {
    let scene = Scene::new();
    let program = &scene.program;
    let target = scene.place.join("target");
    let words = [
        "restore",
        &scene.shop_in_snapshot("proven"),
        "--target",
        target.to_str().unwrap(),
    ];
    let none = program.run(&words);
    assert_eq!(none.code, 13, "{}", none.text());
    assert!(
        none.stderr.contains("has passed `tillsafe"),
        "{}",
        none.text()
    );
    verify(program, &[]);
    scene.sell_and_back_up();
    assert_eq!(levels(program), ["matched", "-"]);
    program.ok(&words);
    assert_eq!(count_orders(&target.join("shop.db")), 50);
    verify(program, &["latest"]);
    fs::remove_dir_all(&target).unwrap();
    program.ok(&words);
    assert_eq!(count_orders(&target.join("shop.db")), 60);
    // Where the latest is not certain, the proven one is.
    scene.sell_and_back_up();
    let newest = snapshots(&program.backend()).pop().unwrap().id.to_string();
    flip_a_bit(&program.repository.join("snapshots").join(newest));
    assert_eq!(program.run(&["ls", "latest"]).code, 4);
    program.ok(&["ls", "proven"]);
    let plan = program.plan_in_place(&[&scene.shop_in_snapshot("proven")]);
    assert!(!plan.is_empty());
    let elsewhere = program.run(&["ls", "proven", "--host", "elsewhere"]);
    assert_eq!(elsewhere.code, 13, "{}", elsewhere.text());
}

#[test]
fn where_nothing_can_be_written_verify_says_so_and_ends_as_before() {
    type Hurt = fn(&Program);
    let cases: [(&str, Hurt); 3] = [
        ("locked", |program| {
            Forge::open(&program.repository).lock_exclusively("elsewhere");
        }),
        ("config", |program| {
            flip_a_bit(&program.repository.join("config"));
        }),
        ("version 1", |program| {
            Forge::open(&program.repository).set_version(1);
        }),
    ];
    for (why, hurt) in cases {
        let scene = Scene::new();
        hurt(&scene.program);
        let run = scene.program.run(&["verify"]);
        assert_eq!(run.code, 0, "{why}: {}", run.text());
        assert!(
            run.stdout.contains("proof level: matched"),
            "{why}: {}",
            run.text()
        );
        let said = "what was proved is not recorded: ";
        assert!(run.stderr.contains(said), "{why}: {}", run.text());
        assert!(run.stderr.contains(why), "{why}: {}", run.text());
        let record = |one: &tillsafe::repository::snapshot::Snapshot| one.is_record();
        assert!(
            !snapshots(&scene.program.backend()).iter().any(record),
            "{why}"
        );
    }
}

#[test]
fn stock_restic_sees_ordinary_snapshots_and_its_latest_is_the_shop() {
    let scene = Scene::new();
    let program = &scene.program;
    let password = program.password_file.as_path();
    verify(program, &[]);
    scene.sell_and_back_up();
    verify(program, &["latest"]);
    let host = snapshots(&program.backend())[0].file.hostname.clone();
    for (number, stock) in Restic::all_on(program).iter().enumerate() {
        let checked = stock
            .with_password(password)
            .ok(&["check", "--read-data"])
            .text();
        assert!(checked.contains("no errors were found"), "{checked}");
        for remark in ["hint", "not referenced", "mixed", "duplicate"] {
            assert!(!checked.to_lowercase().contains(remark), "{checked}");
        }
        for words in [&[][..], &["--host", &host]] {
            let target = scene
                .place
                .join(&format!("restic-{number}-{}", words.len()));
            let restore = ["restore", "latest", "--target", target.to_str().unwrap()];
            stock
                .with_password(password)
                .ok(&[&restore, words].concat());
            let database = scene.shop.folder.strip_prefix("/").unwrap().join("shop.db");
            assert_eq!(count_orders(&target.join(database)), 60);
        }
        // A mark gives each snapshot a new name; what was proved stays so.
        let before: Vec<Value> = listed(program, &[]);
        stock
            .with_password(password)
            .ok(&["tag", "--add", &format!("mark{number}")]);
        let after = listed(program, &[]);
        assert!(before.iter().zip(&after).all(|(a, b)| a["id"] != b["id"]));
        assert_eq!(levels(program), ["matched", "matched"]);
        assert_eq!(records(program).len(), 2);
        // Its own record is of the mark's time, not of the snapshot's: no harm.
        stock.with_password(password).ok(&["check"]);
    }
}

#[test]
fn a_copy_keeps_what_was_proved() {
    let scene = Scene::new();
    let program = &scene.program;
    verify(program, &[]);
    scene.sell_and_back_up();
    let password = program.password_file.to_str().unwrap();
    let from = program.repository.to_str().unwrap();
    for (number, _) in Restic::all_on(program).iter().enumerate() {
        let folder = scene.place.join(&format!("copy-{number}"));
        fs::create_dir(&folder).unwrap();
        let copy = Program::with_cheap_repository(&folder);
        let stock = Restic::all_on(&copy).remove(number);
        let words = [
            "copy",
            "--from-repo",
            from,
            "--from-password-file",
            password,
        ];
        stock.with_password(&copy.password_file).ok(&words);
        assert_eq!(levels(&copy), ["matched", "-"]);
        assert_eq!(records(&copy).len(), 1);
        // It goes on from there.
        verify(&copy, &["latest"]);
        assert_eq!(levels(&copy), ["matched", "matched"]);
        stock
            .with_password(&copy.password_file)
            .ok(&["check", "--read-data"]);
    }
}

#[test]
fn records_that_know_nothing_of_each_other_are_united() {
    let scene = Scene::new();
    scene.sell_and_back_up();
    let program = &scene.program;
    let there = scene.place.join("there");
    fs::create_dir(&there).unwrap();
    let other = Program::in_folder(&there);
    copy_folder(&program.repository, &other.repository);
    other.write_password(crate::common::library::PASSWORD);
    let first = listed(program, &[])[0]["id"].as_str().unwrap().to_owned();
    verify(program, &[&first]);
    verify(&other, &["latest"]);
    assert_eq!(levels(program), ["matched", "-"]);
    assert_eq!(levels(&other), ["-", "matched"]);
    // What two machines have written comes together on one storage.
    for file in files_below(&other.repository) {
        let name = file.strip_prefix(&other.repository).unwrap();
        let to = program.repository.join(name);
        if !to.exists() {
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(&file, to).unwrap();
        }
    }
    assert_eq!(levels(program), ["matched", "matched"]);
    let summary = verify(program, &["latest"]);
    let all = records(program);
    assert_eq!(all.len(), 3);
    let newest = all
        .iter()
        .find(|one| one["id"] == summary["record_id"])
        .unwrap();
    assert_eq!(newest["total_files"], 3, "it holds both sides");
    // The newest alone is enough.
    for record in &all {
        if record["id"] != summary["record_id"] {
            let id = record["id"].as_str().unwrap();
            fs::remove_file(program.repository.join("snapshots").join(id)).unwrap();
        }
    }
    assert_eq!(levels(program), ["matched", "matched"]);
    let run = program.ok(&["snapshots"]);
    assert_eq!(run.stderr, "", "nothing is missing");
    for stock in Restic::all_on(program) {
        stock
            .with_password(Path::new(&program.password_file))
            .ok(&["check"]);
    }
}

#[test]
fn damage_in_the_records_costs_what_was_known_and_nothing_else() {
    let scene = Scene::new();
    let program = &scene.program;
    let before = files_below(&program.repository.join("data"));
    verify(program, &[]);
    for pack in files_below(&program.repository.join("data")) {
        if !before.contains(&pack) {
            flip_a_bit(&pack);
        }
    }
    let run = program.ok(&["snapshots"]);
    assert!(
        run.stderr.contains("what is known as proved"),
        "{}",
        run.text()
    );
    assert_eq!(levels(program), ["-"]);
    let (code, objects) = program.json(&["check", "--read-data"]);
    assert_eq!(code, 4);
    let affected = objects.iter().any(|one| one["message_type"] == "affected");
    assert!(!affected, "nobody's files suffer: {objects:?}");
    // Proved anew, it is known again.
    verify(program, &[]);
    assert_eq!(levels(program), ["matched"]);
}

/// An image whose very same bytes have passed SQLite's check is opened, and not checked again; `verify` always checks.
#[test]
fn what_was_verified_is_restored_without_a_second_check() {
    let scene = Scene::new();
    let checked = |words: &[&str]| {
        let (code, objects) = scene.program.json(words);
        assert_eq!(code, 0, "{objects:?}");
        let summary = objects.last().unwrap().clone();
        let database = &summary["databases"][0];
        assert_eq!(database["proof_level"], "matched");
        assert!(database["rows"].as_u64().unwrap() > 50);
        database["checked_at"].clone()
    };
    let target = |name: &str| scene.place.join(name).to_str().unwrap().to_owned();
    let restored = |name: &str| checked(&["restore", "latest", "--target", &target(name)]);
    assert_eq!(restored("before"), Value::Null);
    assert_eq!(checked(&["verify"]), Value::Null);
    assert!(restored("after").is_string());
    assert_eq!(checked(&["verify"]), Value::Null);
    let shop = scene.shop_in_snapshot("latest");
    let plan = scene.program.plan_in_place(&[&shop]);
    assert!(checked(&["restore", &shop, "--in-place", "--plan", &plan]).is_string());
    assert_eq!(count_orders(&scene.shop.database), 50);
    // The next snapshot is another one.
    scene.sell_and_back_up();
    assert_eq!(restored("next"), Value::Null);
}
