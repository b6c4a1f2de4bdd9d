//! What a backup reads: which files, which databases, and what it makes of hard cases.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use tillsafe::backend::{Backend, MemBackend};
use tillsafe::backup::Outcome;
use tillsafe::durable::OsDisk;
use tillsafe::restore::ProofLevel;
use tillsafe::source::sqlite::Method;

use crate::common::Place;
use crate::common::compare::{difference, is_database};
use crate::common::library::{back_up, create, restore, snapshots};
use crate::common::shop::{Shop, count_orders};

fn repository() -> Arc<dyn Backend> {
    let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
    create(&backend);
    backend
}

/// Backs `path` up, restores what it stored of it to `target`, and returns both words on it.
fn round_trip(path: &Path, target: &Path) -> (Outcome, ProofLevel) {
    let backend = repository();
    let outcome = back_up(&backend, path).unwrap();
    let snapshot = snapshots(&backend).remove(0);
    let restored = restore(&backend, snapshot, path, target, &OsDisk).unwrap();
    (outcome, restored.level)
}

#[test]
fn a_folder_behind_a_link_is_stored_under_the_name_it_was_given() {
    let place = Place::new();
    let shop = Shop::open(&place.join("release-7/shop"), 30, "wal");
    symlink("release-7", place.join("current")).unwrap();
    symlink("current/shop", place.join("shop")).unwrap();
    for (number, named) in ["current/shop", "shop"].into_iter().enumerate() {
        let target = place.join(&format!("target-{number}"));
        let (outcome, level) = round_trip(&place.join(named), &target);
        assert_eq!(level, ProofLevel::Matched, "{named}");
        assert!(outcome.is_complete(), "{:?}", outcome.manifest.incomplete);
        let [database] = outcome.manifest.databases.as_slice() else {
            panic!("{named}: the database was captured");
        };
        assert!(
            database.path.ends_with(&format!("{named}/shop.db")),
            "{}",
            database.path
        );
        assert_eq!(
            difference(&shop.folder, &target, &is_database),
            None,
            "{named}"
        );
        assert_eq!(count_orders(&target.join("shop.db")), 30, "{named}");
    }
}

#[test]
fn a_database_that_is_named_through_a_link_is_captured_with_its_log() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 30, "wal");
    symlink("shop/shop.db", place.join("link.db")).unwrap();
    let open = shop.connect();
    shop.sell(5);
    let (_, level) = round_trip(&place.join("link.db"), &place.join("target"));
    drop(open);
    assert_eq!(level, ProofLevel::Matched);
    assert_eq!(count_orders(&place.join("target/link.db")), 35);
}

/// SQLite deletes the log of a database whose file is empty. It may be all that is left of a shop.
#[test]
fn an_empty_file_with_a_full_log_is_named_and_not_opened() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 10, "wal");
    let open = shop.connect();
    shop.sell(5);
    let log = fs::read(shop.folder.join("shop.db-wal")).unwrap();
    let copy = place.join("copy");
    fs::create_dir(&copy).unwrap();
    fs::write(copy.join("shop.db"), "").unwrap();
    fs::write(copy.join("shop.db-wal"), &log).unwrap();
    drop(open);

    let backend = repository();
    let outcome = back_up(&backend, &copy).unwrap();
    assert!(outcome.manifest.databases.is_empty());
    let [note] = outcome.manifest.incomplete.as_slice() else {
        panic!("{:?}", outcome.manifest.incomplete);
    };
    assert!(
        note.item.ends_with("shop.db") && note.finding.contains("left out"),
        "{note:?}"
    );
    assert_eq!(
        outcome.manifest.files.files, 0,
        "neither file is stored as it is"
    );
    let refused = back_up(&backend, &copy.join("shop.db")).unwrap_err();
    assert_eq!(refused.exit_code().number(), 14, "{refused}");
    assert_eq!(
        fs::read(copy.join("shop.db-wal")).unwrap(),
        log,
        "the log is untouched"
    );
}

/// What a crash leaves in rollback mode: the file alone holds rows that were never committed.
#[test]
fn a_database_with_a_hot_journal_is_named_and_never_copied_as_it_is() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 500, "delete");
    let copy = place.join("copy");
    fs::create_dir(&copy).unwrap();
    let open = shop.connect();
    // With so small a cache, the transaction spills into the file before it is committed.
    open.execute_batch(
        "PRAGMA cache_size = 2; BEGIN; UPDATE orders SET item = item || ' sold twice'",
    )
    .unwrap();
    for name in ["shop.db", "shop.db-journal"] {
        fs::copy(shop.folder.join(name), copy.join(name)).unwrap();
    }
    drop(open);
    let backend = repository();
    let outcome = back_up(&backend, &copy).unwrap();
    assert!(outcome.manifest.databases.is_empty());
    assert_eq!(
        outcome.manifest.incomplete.len(),
        1,
        "{:?}",
        outcome.manifest.incomplete
    );
    assert_eq!(outcome.manifest.files.files, 0);
    assert_eq!(
        back_up(&backend, &copy.join("shop.db"))
            .unwrap_err()
            .exit_code()
            .number(),
        14
    );
    assert!(
        copy.join("shop.db-journal").is_file(),
        "the journal is untouched"
    );
}

#[test]
fn roots_may_lie_inside_each_other_and_be_single_files() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 10, "delete");
    let (outcome, _) = round_trip(&shop.database, &place.join("one"));
    assert_eq!(
        (
            outcome.manifest.files.files,
            outcome.manifest.databases.len()
        ),
        (0, 1)
    );
    assert_eq!(outcome.manifest.databases[0].method, Method::SpooledPages);
    let (_, _) = round_trip(&shop.folder.join("notes.txt"), &place.join("two"));
    assert_eq!(
        fs::read(place.join("two/notes.txt")).unwrap(),
        fs::read(shop.folder.join("notes.txt")).unwrap()
    );
}
