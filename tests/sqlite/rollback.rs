//! Rollback mode: whoever reads keeps writers out, so it is read in a bounded time, or in steps.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use rusqlite::Connection;
use tillsafe::source::sqlite::{Limits, Method};

use super::{application, begun, image, options};
use crate::common::Place;
use crate::common::shop::Shop;

/// Writes as fast as it can, from a process of its own: locks are a process's.
const WRITER: &str = "
import sqlite3, sys, os
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
longest, number = 0, 0
import time
while not os.path.exists(sys.argv[2]):
    begun = time.monotonic()
    connection.execute('UPDATE customers SET name = name || 1 WHERE id = 1')
    connection.execute('UPDATE customers SET name = substr(name, 1, 9) WHERE id = 1')
    longest = max(longest, time.monotonic() - begun)
    number += 1
    if number == 3:
        open(sys.argv[2] + '.begun', 'w').close()
print(number, longest)
";

fn writer(database: &Path, stop: &Path) -> Option<Child> {
    let application = application(WRITER, &[database, stop])?;
    Some(begun(application, &stop.with_extension("begun")))
}

fn check(place: &Place, image: &[u8], orders: u32) {
    let copy = place.join("copy.db");
    fs::write(&copy, image).unwrap();
    let connection = Connection::open(&copy).unwrap();
    let text = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, String>(0))
            .unwrap()
    };
    assert_eq!(text("PRAGMA integrity_check"), "ok");
    assert_eq!(
        text("SELECT CAST(count(*) AS TEXT) FROM orders"),
        orders.to_string()
    );
    drop(connection);
    fs::remove_file(&copy).unwrap();
}

#[test]
fn a_database_that_takes_too_long_is_copied_in_steps() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 20_000, "delete");
    let mut options = options(place.path());
    let (captured, whole) = image(&shop.database, &options).unwrap();
    assert_eq!(captured.method, Method::SpooledPages);
    assert!(captured.held < options.limits.lock, "{:?}", captured.held);
    assert_eq!(whole, fs::read(&shop.database).unwrap());

    options.limits.lock = Duration::ZERO;
    let (captured, stepped) = image(&shop.database, &options).unwrap();
    assert_eq!(captured.method, Method::OnlineBackup);
    assert!(captured.warnings.is_empty(), "{:?}", captured.warnings);
    check(&place, &stepped, 20_000);
    let left = fs::read_dir(place.path()).unwrap().count();
    assert_eq!(left, 1, "only the shop is left");
}

#[test]
fn a_shop_too_busy_for_steps_waits_once_and_its_owner_is_told() {
    let place = Place::new();
    // Ten steps of 4,096 pages, so that a write surely comes between two of them.
    let shop = Shop::open(&place.join("shop"), 20_000, "delete");
    let connection = shop.connect();
    connection
        .execute_batch(
            "CREATE TABLE ballast(text);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40960)
               INSERT INTO ballast SELECT zeroblob(3900) FROM n;",
        )
        .unwrap();
    drop(connection);
    let end = place.join("stop");
    let Some(mut child) = writer(&shop.database, &end) else {
        return;
    };
    let mut options = options(place.path());
    options.limits = Limits {
        lock: Duration::ZERO,
        steps: Duration::from_millis(300),
        ..Limits::default()
    };
    let (captured, image) = image(&shop.database, &options).unwrap();
    fs::write(&end, b"").unwrap();
    assert!(child.wait().unwrap().success(), "the writer saw an error");
    assert_eq!(captured.method, Method::SpooledPages);
    assert!(
        captured.warnings[0].contains("writers had to wait"),
        "{:?}",
        captured.warnings
    );
    check(&place, &image, 20_000);
}
