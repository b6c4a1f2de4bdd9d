//! Base and log as they grow, and when a new base is taken.

use std::fs;

use jiff::SignedDuration;
use tillsafe::backend::Class;
use tillsafe::durable::OsDisk;
use tillsafe::monitor::Quiet;
use tillsafe::repository::prune::{MaxUnused, Options as PruneOptions, prune};

use super::{Night, Scene};
use crate::common::library::{back_up_all, full_check, open, restore_in_place, snapshots};
use tillsafe::restore::in_place::Registry;

#[test]
fn each_night_stores_what_changed_and_each_snapshot_is_whole() {
    for (mode, page_bytes) in [
        ("wal", 4096),
        ("delete", 4096),
        ("wal", 512),
        ("truncate", 65536),
    ] {
        let mut scene = Scene::new(mode, page_bytes);
        let mut nights = vec![scene.back_up()];
        let first = scene.stored(&nights[0]);
        assert!(nights[0].log().is_none() && first.log.is_none());
        let mut before: Option<Vec<_>> = None;
        for _ in 0..3 {
            scene.trade();
            let night = scene.back_up();
            let what = format!("{mode}, pages of {page_bytes} bytes");
            let log = night.log().expect("a log");
            assert_eq!(log.page_bytes, page_bytes, "{what}");
            let (stored, image) = (scene.stored(&night), night.image.len() as u64);
            assert!(night.added() < image / 2, "{what}: {}", night.added());
            // The base is the same but for the page that SQLite refuses.
            assert_eq!(stored.base[1..], first.base[1..], "{what}");
            assert_ne!(stored.base[0], first.base[0], "{what}");
            let blobs = stored.log.unwrap();
            // What was there stays a prefix, but for the commit.
            if let Some(before) = &before {
                let kept = &before[..before.len() - 1];
                assert_eq!(&blobs[..kept.len()], kept, "{what}");
            }
            before = Some(blobs);
            nights.push(night);
        }
        let damage = full_check(&scene.backend).damage;
        assert!(damage.is_empty(), "{damage:?}");
        for night in &nights {
            scene.assert_right(night);
        }
    }
}

#[test]
fn it_may_shrink_and_grow_and_change_in_its_first_page_alone() {
    let mut scene = Scene::new("delete", 4096);
    scene.back_up();
    let mut nights: Vec<Night> = Vec::new();
    for sql in [
        "PRAGMA user_version = 5",
        "PRAGMA user_version = 6",
        "DELETE FROM orders WHERE id % 10 = 0; VACUUM",
        "INSERT INTO orders(item) SELECT 'again ' || hex(randomblob(60)) FROM orders",
    ] {
        scene.run(sql);
        nights.push(scene.back_up());
    }
    scene.trade();
    nights.push(scene.back_up());
    let with_log = nights.iter().filter(|night| night.log().is_some()).count();
    assert!(with_log >= 3, "{with_log}");
    for night in &nights {
        scene.assert_right(night);
    }
    let page_one_alone = nights[0].log().unwrap().log_bytes;
    assert_eq!(page_one_alone, 32 + 24 + 4096);
}

#[test]
fn a_log_that_would_outgrow_its_base_makes_room_for_a_new_one() {
    let mut scene = Scene::new("wal", 4096);
    scene.back_up();
    let mut bases = 0;
    for _ in 0..6 {
        scene.run("UPDATE orders SET item = hex(randomblob(30)) WHERE id % 3 = 0");
        let night = scene.back_up();
        match night.log() {
            Some(log) => assert!(log.log_bytes < 2 * log.base_bytes, "{log:?}"),
            None => bases += 1,
        }
        scene.assert_right(&night);
    }
    assert!((2..6).contains(&bases), "{bases}");
    scene.trade();
    scene.assert_right(&scene.back_up());
}

#[test]
fn a_base_that_is_old_or_of_the_future_is_not_gone_on_from() {
    let mut scene = Scene::new("wal", 4096);
    let days = |days: i64| SignedDuration::from_hours(24 * days);
    scene.back_up();
    for (away, goes_on) in [(days(30), true), (days(32), false), (days(20), false)] {
        scene.trade();
        let night = scene.back_up_at(away);
        assert_eq!(night.log().is_some(), goes_on, "{away:?}");
        scene.assert_right(&night);
    }
}

#[test]
fn force_takes_a_new_base() {
    let mut scene = Scene::new("wal", 4096);
    scene.back_up();
    scene.trade();
    let mut options = scene.options();
    options.recognition.force = true;
    assert!(scene.back_up_as(&options).unwrap().log().is_none());
    scene.trade();
    let night = scene.back_up();
    assert!(night.log().is_some());
    scene.assert_right(&night);
}

#[test]
fn pages_of_another_size_are_a_new_base() {
    let scene = Scene::new("delete", 4096);
    scene.back_up();
    scene.run("PRAGMA page_size = 8192; VACUUM");
    let night = scene.back_up();
    assert!(night.log().is_none());
    scene.assert_right(&night);
}

#[test]
fn what_was_pruned_is_stored_anew() {
    let mut scene = Scene::new("wal", 4096);
    scene.back_up();
    scene.trade();
    scene.back_up();
    let repository = open(&scene.backend).unwrap();
    let ours = snapshots(&scene.backend);
    let other = scene.place.join("other");
    fs::write(&other, "what stays").unwrap();
    back_up_all(&scene.backend, &[&other], scene.place.path()).unwrap();
    for snapshot in ours {
        repository.remove_snapshot(snapshot.id).unwrap();
    }
    let options = PruneOptions {
        now: true,
        max_unused: MaxUnused::Bytes(0),
        dry_run: false,
    };
    prune(&repository, &options, &Quiet::default()).unwrap();
    scene.trade();
    let night = scene.back_up();
    assert!(night.log().is_none());
    scene.assert_right(&night);
}

/// Somebody else's backup of the same database, by other paths, goes on from the same memory.
#[test]
fn another_series_goes_on_from_what_the_first_has_seen() {
    let mut scene = Scene::new("wal", 4096);
    scene.back_up();
    scene.trade();
    let mut options = scene.options();
    options.paths = vec![scene.database.clone()];
    let night = scene.back_up_as(&options).unwrap();
    assert!(night.log().is_some());
    scene.assert_right(&night);
}

#[test]
fn a_small_one_and_one_of_two_names_are_one_file() {
    let scene = Scene::new("delete", 4096);
    fs::hard_link(&scene.database, scene.folder.join("also.db")).unwrap();
    let outcome = scene.back_up().outcome;
    assert!(!scene.memory().exists() || fs::read_dir(scene.memory()).unwrap().next().is_none());
    scene.run("UPDATE orders SET item = 'cup' WHERE id = 1");
    let again = scene.back_up().outcome;
    for databases in [&outcome.manifest.databases, &again.manifest.databases] {
        assert_eq!(databases.len(), 2);
        assert!(databases.iter().all(|one| one.log.is_none()));
    }
    fs::remove_file(scene.folder.join("also.db")).unwrap();
    scene.run("DELETE FROM orders WHERE id > 100; VACUUM");
    scene.back_up();
    assert!(!scene.memory().exists() || fs::read_dir(scene.memory()).unwrap().next().is_none());
}

/// A night without a change stores no page again, and the next goes on from the night before it.
#[test]
fn a_night_without_a_change_leaves_the_chain_as_it_is() {
    let mut scene = Scene::new("wal", 4096);
    scene.back_up();
    scene.trade();
    let hour = SignedDuration::from_hours(1);
    scene.back_up_at(hour);
    let quiet = scene.back_up_at(hour * 2);
    assert!(quiet.log().is_some() && quiet.added() < 10_000);
    scene.assert_right(&quiet);
    scene.trade();
    let night = scene.back_up_at(hour * 3);
    assert!(night.log().is_some() && night.added() < night.image.len() as u64 / 3);
    scene.assert_right(&night);
}

#[test]
fn it_comes_back_in_place() {
    let mut scene = Scene::new("wal", 4096);
    scene.back_up();
    scene.trade();
    let night = scene.back_up();
    scene.run("DROP TABLE orders");
    let registry = Registry::new(scene.place.join("registry"));
    let snapshot = &night.outcome.snapshot;
    restore_in_place(&scene.backend, snapshot, &scene.folder, &registry, &OsDisk).unwrap();
    super::assert_image(&scene.database, &night.image);
    assert!(!scene.folder.join("shop.db-wal").exists());
}

#[test]
fn without_a_memory_each_night_is_one_file() {
    let mut scene = Scene::new("wal", 4096);
    let mut options = scene.options();
    options.memory = None;
    for _ in 0..2 {
        let night = scene.back_up_as(&options).unwrap();
        assert!(night.log().is_none());
        scene.assert_right(&night);
        scene.trade();
    }
    let index_files = scene.backend.list(Class::Index).unwrap().objects.len();
    assert_eq!(index_files, 2);
}

/// A shell's `*` names the files beside a database, too.
#[test]
fn a_log_that_is_named_by_itself_is_a_part_of_its_database() {
    let mut scene = Scene::new("wal", 4096);
    scene.back_up();
    let application = rusqlite::Connection::open(&scene.database).unwrap();
    application
        .execute_batch("UPDATE orders SET item = 'held' WHERE id = 1")
        .unwrap();
    let mut options = scene.options();
    options.paths = ["shop.db", "shop.db-wal", "shop.db-shm"]
        .map(|name| scene.folder.join(name))
        .to_vec();
    for _ in 0..2 {
        let outcome = scene.back_up_as(&options).unwrap().outcome;
        assert!(outcome.manifest.databases[0].log.is_some());
        assert_eq!(outcome.manifest.files.files, 0);
    }
    drop(application);
    scene.trade();
    scene.assert_right(&scene.back_up());
}

#[test]
fn what_was_remembered_too_long_ago_is_removed() {
    let mut scene = Scene::new("wal", 4096);
    scene.back_up();
    let old = scene.memory().join("of a database that is gone");
    fs::write(&old, "").unwrap();
    scene.trade();
    scene.back_up();
    assert!(old.exists());
    scene.back_up_at(SignedDuration::from_hours(40 * 24));
    assert!(!old.exists());
}
