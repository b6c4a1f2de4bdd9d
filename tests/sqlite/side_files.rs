//! What may lie beside a database: foreign, old, unknown.

use std::fs;
use std::path::Path;

use super::{application, begun, image, options, orders, run};
use crate::common::Place;
use crate::common::shop::Shop;

/// Why the shop's database is refused.
fn finding(shop: &Shop, place: &Place) -> String {
    super::finding(image(&shop.database, &options(place.path())))
}

/// A log that a crash has left, and the shop that it belongs to.
fn crashed(folder: &Path, orders: u32) -> (Shop, Vec<u8>) {
    let shop = Shop::open(folder, 10, "wal");
    let connection = shop.connect();
    shop.sell(orders);
    let log = fs::read(folder.join("shop.db-wal")).unwrap();
    drop(connection);
    (shop, log)
}

#[test]
fn the_log_of_another_database_is_not_believed() {
    let place = Place::new();
    let (_other, mut log) = crashed(&place.join("other"), 30);
    // Its chain of checksums breaks in the first frame, as that of a log of another life does.
    log[24 + 8] ^= 1;
    let shop = Shop::open(&place.join("shop"), 7, "wal");
    fs::write(shop.folder.join("shop.db-wal"), log).unwrap();
    let (captured, bytes) = image(&shop.database, &options(place.path())).unwrap();
    assert_eq!(captured.fingerprint.tables["orders"], 7);
    assert_eq!(orders(&place, &bytes), 7);
}

#[test]
fn a_crashed_applications_log_is_part_of_the_database() {
    let place = Place::new();
    let (shop, log) = crashed(&place.join("shop"), 30);
    // The state before its last checkpoint, with the log beside it.
    let copy = place.join("copy");
    fs::create_dir(&copy).unwrap();
    let earlier = Shop::open(&copy, 10, "wal");
    drop(shop);
    fs::write(copy.join("shop.db-wal"), &log).unwrap();
    let Ok((captured, bytes)) = image(&earlier.database, &options(place.path())) else {
        panic!("a log with a database of the same history");
    };
    let counted = captured.fingerprint.tables["orders"];
    assert_eq!(counted, u64::from(orders(&place, &bytes)));
}

#[test]
fn an_unknown_log_is_refused_with_a_cure() {
    for (what, at, byte) in [("another version", 7, 0x7f_u8), ("another magic", 3, 0x99)] {
        let place = Place::new();
        let (shop, mut log) = crashed(&place.join("shop"), 30);
        log[at] = byte;
        fs::write(shop.folder.join("shop.db-wal"), &log).unwrap();
        let text = finding(&shop, &place);
        assert!(text.contains("VACUUM INTO"), "{what}: {text}");
        assert_eq!(fs::read(shop.folder.join("shop.db-wal")).unwrap(), log);
    }
}

#[test]
fn a_second_log_is_refused() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 5, "wal");
    fs::write(shop.folder.join("shop.db-wal2"), b"frames").unwrap();
    let text = finding(&shop, &place);
    assert!(text.contains("-wal2"), "{text}");
}

/// An application in the middle of a transaction in rollback mode, which then goes on or is killed.
fn in_a_transaction(shop: &Shop, ready: &Path) -> Option<std::process::Child> {
    let script = "
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute('PRAGMA cache_size = 1')
connection.execute('BEGIN IMMEDIATE')
connection.execute('UPDATE orders SET item = item || 1 WHERE id < 3')
open(sys.argv[2], 'w').close()
time.sleep(60)
";
    let application = application(script, &[&shop.database, ready])?;
    Some(begun(application, ready))
}

#[test]
fn a_live_journal_is_a_transaction_and_not_in_the_way() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 50, "delete");
    let Some(mut child) = in_a_transaction(&shop, &place.join("ready")) else {
        return;
    };
    assert!(shop.folder.join("shop.db-journal").exists());
    let captured = image(&shop.database, &options(place.path()));
    child.kill().unwrap();
    child.wait().unwrap();
    let (captured, bytes) = captured.unwrap();
    assert_eq!(captured.fingerprint.tables["orders"], 50);
    assert_eq!(orders(&place, &bytes), 50);
}

#[test]
fn a_hot_journal_is_left_to_its_application() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 5000, "delete");
    let script = "
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute('PRAGMA cache_size = 1')
connection.execute('BEGIN IMMEDIATE')
connection.execute('UPDATE orders SET item = item || 1')
os._exit(0)
";
    let Some(mut application) = application(script, &[&shop.database]) else {
        return;
    };
    run(&mut application);
    let journal = shop.folder.join("shop.db-journal");
    let before = (
        fs::read(&journal).unwrap(),
        fs::read(&shop.database).unwrap(),
    );
    let text = finding(&shop, &place);
    assert!(text.contains("start the application once"), "{text}");
    let after = (
        fs::read(&journal).unwrap(),
        fs::read(&shop.database).unwrap(),
    );
    assert!(before == after, "nothing was touched");
    // Its application comes back, and all is well.
    shop.sell(1);
    let (captured, _) = image(&shop.database, &options(place.path())).unwrap();
    assert_eq!(captured.fingerprint.tables["orders"], 5001);
}
