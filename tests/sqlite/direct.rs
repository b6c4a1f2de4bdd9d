//! Pages that are read straight from the file while its application does everything to it that an application may.

use std::fs;

use rusqlite::Connection;

use super::{application, begun, image, options};
use crate::common::Place;

/// Moves amounts between accounts, and puts its log into the file in every way there is.
const APPLICATION: &str = "
import os, random, sqlite3, sys
path, ready, end = sys.argv[1:]
connection = sqlite3.connect(path, timeout=60, isolation_level=None)
connection.execute('PRAGMA synchronous = OFF')
connection.execute('PRAGMA wal_autocheckpoint = 200')
number = 0
while not os.path.exists(end):
    connection.execute('BEGIN IMMEDIATE')
    for _ in range(random.randrange(1, 30)):
        one, other = random.randrange(4000) + 1, random.randrange(4000) + 1
        connection.execute('UPDATE accounts SET balance = balance - 5 WHERE id = ?', (one,))
        connection.execute('UPDATE accounts SET balance = balance + 5 WHERE id = ?', (other,))
    connection.execute('COMMIT')
    number += 1
    kind = random.randrange(60)
    if kind < 4:
        connection.execute('PRAGMA wal_checkpoint(' + ['PASSIVE', 'FULL', 'RESTART', 'TRUNCATE'][kind] + ')')
    if kind == 4:
        connection.execute('CREATE TABLE more AS SELECT * FROM accounts')
        connection.execute('DROP TABLE more')
    if kind == 5:
        connection.execute('VACUUM')
    if number == 20:
        open(ready, 'w').close()
";

#[test]
fn a_capture_is_one_moment_whatever_is_done_to_the_log() {
    const CAPTURES: usize = 60;
    let place = Place::new();
    let database = place.join("bank.db");
    let connection = Connection::open(&database).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = wal;
             CREATE TABLE accounts(id INTEGER PRIMARY KEY, balance INTEGER, note TEXT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
               INSERT INTO accounts SELECT i, 1000, hex(randomblob(150)) FROM n;",
        )
        .unwrap();
    drop(connection);
    let [ready, end] = ["ready", "end"].map(|name| place.join(name));
    let Some(application) = application(APPLICATION, &[&database, &ready, &end]) else {
        return;
    };
    let mut application = begun(application, &ready);
    let options = options(place.path());
    let copy = place.join("copy.db");
    for number in 0..CAPTURES {
        let (captured, image) = image(&database, &options).unwrap();
        assert_eq!(captured.unsound, None);
        fs::write(&copy, image).unwrap();
        let connection = Connection::open(&copy).unwrap();
        let ask = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let found: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(found, "ok", "capture {number}");
        assert_eq!(ask("SELECT sum(balance) FROM accounts"), Ok(4_000_000));
        let rows = captured.fingerprint.tables["accounts"].cast_signed();
        assert_eq!(ask("SELECT count(*) FROM accounts"), Ok(rows));
        drop(connection);
        fs::remove_file(&copy).unwrap();
    }
    fs::write(end, b"").unwrap();
    assert!(application.wait().unwrap().success());
}
