//! A rule never tears a database apart, and none is left out without a word.

use std::fs;

use super::World;
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
