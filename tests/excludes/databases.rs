//! A rule never tears a database apart, and none is left out without a word.

use std::fs;
use std::sync::Arc;

use serde_json::Value;
use tillsafe::backend::{Backend, MemBackend};
use tillsafe::backup::Options;
use tillsafe::durable::{Disk, OsDisk};
use tillsafe::source::files::exclude::{Excludes, Rules};

use super::World;
use crate::common::Place;
use crate::common::library::{create, options};
use crate::common::meanwhile::back_up_by;
use crate::common::shop::{Shop, count_orders};

/// A world whose shop has two databases, the second in a folder.
fn world() -> (World, Shop) {
    let world = World::new(&[]);
    let shop = Shop::open(&world.shop, 20, "wal");
    drop(Shop::open(&world.shop.join("data"), 5, "delete"));
    (world, shop)
}

#[test]
fn a_database_that_a_wildcard_leaves_out_is_named_and_one_that_is_meant_is_not() {
    let (world, shop) = world();
    // A connection keeps the log alive.
    let at_work = shop.connect();
    let run = world.program.ok(&["backup", world.path(), "-e", "*.db"]);
    let named = |path: &str| {
        let told = run
            .stderr
            .lines()
            .filter(|line| line.contains(path) && line.contains("*.db"));
        told.count()
    };
    assert_eq!(
        (named("/shop/shop.db:"), named("/data/shop.db:")),
        (1, 1),
        "{}",
        run.text()
    );
    let stored = world.stored();
    // Nor is its log, which is nothing without it.
    assert!(shop.folder.join("shop.db-wal").exists());
    assert!(
        !stored.iter().any(|name| name.contains("shop.db")),
        "{stored:?}"
    );
    let run = world.program.ok(&["backup", world.path(), "-e", "shop.db"]);
    assert!(!run.stderr.contains("is a database"), "{}", run.text());
    // An idle log without it would be taken for its own after a restore in place.
    let stored = world.stored();
    assert!(
        !stored.iter().any(|name| name.contains("shop.db")),
        "{stored:?}"
    );
    let summary = world.backed_up(&["-e", "*.db", "-e", "!shop.db"]);
    assert_eq!(summary["databases"].as_array().unwrap().len(), 2);
    drop(at_work);
}

#[test]
fn a_rule_for_its_log_tears_no_database() {
    let (world, shop) = world();
    let at_work = shop.connect();
    shop.sell(7);
    assert!(fs::metadata(shop.folder.join("shop.db-wal")).unwrap().len() > 0);
    world.write("plain-wal", "x");
    let summary = world.backed_up(&["-e", "*-wal", "-e", "*-shm"]);
    let stored = world.stored();
    assert!(stored.contains(&"shop.db".to_owned()) && !stored.contains(&"plain-wal".to_owned()));
    // What is part of a database is in it, and so not left out.
    assert_eq!(summary["excluded"]["items"], 1);
    let target = world.place.join("back");
    let from = format!("latest:{}", world.path());
    world
        .program
        .ok(&["restore", &from, "--target", target.to_str().unwrap()]);
    assert_eq!(count_orders(&target.join("shop.db")), 27);
    drop(at_work);
}

#[test]
fn no_database_is_left_out_for_its_size() {
    let (world, _shop) = world();
    let summary = world.backed_up(&["--exclude-larger-than", "1K"]);
    assert_eq!(summary["databases"].as_array().unwrap().len(), 2);
    let stored = world.stored();
    assert!(!stored.contains(&"notes.txt".to_owned()) && stored.contains(&"empty.txt".to_owned()));
    assert_eq!(
        summary["total_bytes"],
        summary["databases"][0]["size_bytes"].as_u64().unwrap() * 2
    );
}

#[test]
fn a_file_that_is_named_is_stored_whatever_the_rules_say() {
    let (world, _shop) = world();
    let database = world.shop.join("data/shop.db");
    let summary = world.backed_up(&[database.to_str().unwrap(), "-e", "data", "-e", "*.db"]);
    assert_eq!(summary["databases"].as_array().unwrap().len(), 1);
    let stored = world.stored();
    let inner: Vec<_> = stored
        .iter()
        .filter(|name| name.starts_with("data"))
        .collect();
    assert_eq!(inner, ["data", "data/shop.db"]);
}

/// What is proposed does what it says, as it stands there: also for a name that is a pattern itself, or no text.
#[test]
fn the_advice_about_a_database_that_a_wildcard_took_works_as_it_stands() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for (name, flag, pattern) in [
        (&b"old[1]*.db"[..], "--exclude", "*.db"),
        (b"OLD.DB", "--iexclude", "*.db"),
        (b"caf\xe9?.db", "--exclude", "*.db"),
    ] {
        let world = World::new(&["a"]);
        drop(Shop::open(&world.shop, 3, "delete"));
        fs::rename(
            world.shop.join("shop.db"),
            world.shop.join(OsStr::from_bytes(name)),
        )
        .unwrap();
        let words = ["backup", world.path(), flag, pattern];
        let said = world.program.ok(&words).stderr;
        let inside = |after: &str| {
            let rest = said.split(after).nth(1).unwrap_or_else(|| panic!("{said}"));
            rest.split(')').next().unwrap().to_owned()
        };
        let back = inside("after that one (");
        let back = back.strip_prefix("--iexclude ").unwrap_or(&back).to_owned();
        let summary = world.backed_up(&[flag, pattern, flag, &back]);
        assert_eq!(
            summary["databases"].as_array().unwrap().len(),
            1,
            "{name:?} {back}"
        );
        let meant = inside("one that names it (");
        if name.is_ascii() {
            let run = world.program.ok(&[&words[..], &[flag, &meant]].concat());
            assert!(
                !run.stderr.contains("is a database"),
                "{name:?} {meant}: {}",
                run.stderr
            );
        }
    }
}

#[test]
fn a_file_that_a_limit_takes_is_named() {
    let (world, _shop) = world();
    world.write("film.mp4", &"x".repeat(800_000));
    let words = ["backup", world.path(), "--exclude-larger-than", "2K"];
    let run = world.program.ok(&words);
    let film = world.shop.join("film.mp4");
    let line = format!("too large: {} (781 KiB)", film.display());
    assert!(run.stdout.contains(&line), "{}", run.stdout);
    let summary = world.backed_up(&words[2..]);
    let large = summary["excluded"]["large"].as_array().unwrap();
    let is_film = |one: &&Value| one["path"] == film.to_str().unwrap();
    assert_eq!(large.iter().find(is_film).unwrap()["size_bytes"], 800_000);
}

#[test]
fn a_file_that_outgrows_the_limit_while_the_backup_runs_is_named() {
    let place = Place::new();
    let shop = place.join("shop");
    fs::create_dir(&shop).unwrap();
    fs::write(shop.join("a"), "read first").unwrap();
    fs::write(shop.join("access.log"), "small").unwrap();
    let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
    create(&backend);
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let rules = Rules {
        larger_than_bytes: Some(100),
        ..Rules::default()
    };
    let options = Options {
        excludes: Excludes::new(rules).unwrap(),
        ..options(&[&shop], place.path(), &disk)
    };
    let outcome = back_up_by(&backend, &options, |progress| {
        if progress.files > 0 {
            fs::write(shop.join("access.log"), [b'x'; 200]).unwrap();
        }
    })
    .unwrap();
    let warnings = &outcome.manifest.warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].item.ends_with("access.log"), "{warnings:?}");
    assert!(
        warnings[0].finding.contains("outgrew the limit"),
        "{warnings:?}"
    );
    assert!(outcome.is_complete());
}
