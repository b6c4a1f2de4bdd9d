//! Databases of every shape that `SQLite` has: captured, restored, and judged by the system's own sqlite3.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rusqlite::Connection;
use tillsafe::id::Hasher;
use tillsafe::source::sqlite::{Method, capture};

use super::options;
use crate::common::Place;
use crate::common::program::Program;
use crate::common::tools::{find, skipped};

/// Some hundred rows of two kinds, with gaps; a row is larger than the smallest pages.
const ORDERS: &str = "
CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, note TEXT, slip BLOB);
CREATE INDEX orders_by_note ON orders(note);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
  INSERT INTO orders(note, slip) SELECT 'cup no. ' || i || ', glaze ü 茶', randomblob(i % 7 * 300) FROM n;
DELETE FROM orders WHERE id % 5 = 0;
";

/// Makes an index that only its application can read.
const APPLICATION: &str = "
import sqlite3, sys
def connect(path):
    connection = sqlite3.connect(path)
    connection.create_collation('by_length', lambda a, b: (len(a) > len(b)) - (len(a) < len(b)))
    connection.create_function('shelf', 1, lambda id: id % 7, deterministic=True)
    return connection
connection = connect(sys.argv[2])
if sys.argv[1] == 'make':
    connection.executescript('''
        CREATE TABLE cups(id INTEGER PRIMARY KEY, name TEXT COLLATE by_length);
        CREATE INDEX cups_by_name ON cups(name);
        CREATE INDEX cups_by_shelf ON cups(shelf(id));
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
          INSERT INTO cups SELECT i, hex(zeroblob(i)) FROM n;''')
    connection.commit()
else:
    print(*connection.execute('PRAGMA integrity_check').fetchone(),
        *connection.execute('SELECT count(*) FROM cups WHERE shelf(id) = 3').fetchone())
";

/// Name, and what the system's sqlite3 is told to make it.
fn shapes() -> Vec<(String, String)> {
    let mut shapes: Vec<(String, String)> = (9..=16)
        .map(|power| 1_u32 << power)
        .map(|size| {
            let script = format!("PRAGMA page_size = {size};{ORDERS}");
            (format!("pages-of-{size}"), script)
        })
        .collect();
    let mut add = |name: &str, script: String| shapes.push((name.to_owned(), script));
    for reserved in [1, 32, 255] {
        let name = format!("reserved-{reserved}");
        add(
            &name,
            format!(".filectrl reserve_bytes {reserved}\n{ORDERS}"),
        );
    }
    for (name, pragmas) in [
        ("auto-vacuum", "auto_vacuum = FULL"),
        ("incremental-vacuum", "auto_vacuum = INCREMENTAL"),
        ("utf-16le", "encoding = 'UTF-16le'"),
        ("utf-16be", "encoding = 'UTF-16be'"),
    ] {
        add(name, format!("PRAGMA {pragmas};{ORDERS}"));
    }
    add(
        "partly-vacuumed",
        format!(
            "PRAGMA auto_vacuum = INCREMENTAL;{ORDERS} DELETE FROM orders WHERE id > 50; PRAGMA incremental_vacuum(3);"
        ),
    );
    add(
        "without-rowid",
        "CREATE TABLE stock(place TEXT, cup INTEGER, count INTEGER, PRIMARY KEY(place, cup)) WITHOUT ROWID;
         CREATE INDEX stock_by_count ON stock(count);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
           INSERT INTO stock SELECT 'shelf ' || i % 9, i, i * 7 % 31 FROM n;"
            .to_owned(),
    );
    add(
        "full-text",
        format!(
            "{ORDERS} CREATE VIRTUAL TABLE found USING fts5(note); INSERT INTO found SELECT note FROM orders;"
        ),
    );
    add(
        "r-tree",
        "CREATE VIRTUAL TABLE places USING rtree(id, west, east);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
           INSERT INTO places SELECT i, i, i + 2 FROM n;"
            .to_owned(),
    );
    add(
        "generated",
        "CREATE TABLE sums(net INTEGER, gross INTEGER AS (net * 119 / 100) STORED, cents AS (net * 100) VIRTUAL, CHECK(net >= 0)) ;
         CREATE INDEX sums_by_cents ON sums(cents); CREATE INDEX sums_even ON sums(net) WHERE net % 2 = 0;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) INSERT INTO sums(net) SELECT i FROM n;"
            .to_owned(),
    );
    let names = [
        "",
        " ",
        "a\"b",
        "it''s",
        "x; DROP TABLE orders; --",
        "line\nbreak",
        "tab\there",
        "\u{202e}redro",
        "\u{1b}[31m",
        "茶碗",
        "select",
        "[x]",
        "`y`",
        "%s%n",
        "../../etc/passwd",
        "sqlite",
        "-wal",
        &"long".repeat(500),
    ]
    .map(|name| format!("\"{}\"", name.replace('"', "\"\"")));
    let hostile = names.map(|name| {
        format!("CREATE TABLE {name}({name} TEXT, b); INSERT INTO {name} VALUES ('one', 1), ('two', 2);\n")
    });
    add("hostile-names", hostile.concat());
    add(
        "no-table",
        "CREATE TABLE gone(a); DROP TABLE gone; VACUUM;".to_owned(),
    );
    add("one-page", "PRAGMA user_version = 7;".to_owned());
    shapes
}

/// Has the system's sqlite3 do something with a database; it must have nothing to remark.
fn sqlite3(tool: &Path, database: &Path, script: &str) -> String {
    let mut child = Command::new(tool)
        .args(["-init", "/dev/null", "-batch", "-bail"])
        .arg(database)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && said.is_empty(),
        "{}: {said}",
        database.display()
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Page size and reserved bytes of each page, as the file says.
fn layout(database: &Path) -> (u32, u8) {
    let bytes = fs::read(database).unwrap();
    let size = u32::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    (if size == 1 { 65536 } else { size }, bytes[20])
}

fn every_shape_comes_back(mode: &str) {
    let Some(tool) = find("sqlite3") else {
        return skipped("databases of every shape", "there is no sqlite3");
    };
    let place = Place::new();
    let shop = place.join("shop");
    fs::create_dir(&shop).unwrap();
    let mut sources: Vec<(PathBuf, String)> = Vec::new();
    // In WAL mode each is in use, and its last commit only in its log.
    let mut in_use = Vec::new();
    for (name, script) in shapes() {
        let database = shop.join(format!("{name}.db"));
        sqlite3(&tool, &database, &script);
        let connection = Connection::open(&database).unwrap();
        connection
            .query_row(&format!("PRAGMA journal_mode = {mode}"), [], |_| Ok(()))
            .unwrap();
        connection.execute_batch("PRAGMA user_version = 8").unwrap();
        if mode == "wal" {
            let log = fs::metadata(shop.join(format!("{name}.db-wal"))).unwrap();
            assert!(log.len() > 0, "{name}");
            in_use.push(connection);
        }
        sources.push((database.clone(), sqlite3(&tool, &database, ".dump")));
    }
    // What no engine has made yet is a file of no bytes, and comes back as one.
    fs::write(shop.join("empty.db"), "").unwrap();

    let program = Program::with_cheap_repository(place.path());
    program.ok(&["backup", shop.to_str().unwrap()]);
    let target = place.join("target");
    let from = format!("latest:{}", shop.display());
    program.ok(&["restore", &from, "--target", target.to_str().unwrap()]);
    let (code, objects) = program.json(&["verify"]);
    let summary = objects.last().unwrap();
    assert_eq!(
        (code, summary["proof_level"].as_str()),
        (0, Some("matched")),
        "{summary}"
    );
    assert_eq!(
        summary["databases"].as_array().unwrap().len(),
        sources.len()
    );

    assert_eq!(fs::metadata(target.join("empty.db")).unwrap().len(), 0);
    for (database, dump) in sources {
        let name = database.file_name().unwrap();
        let copy = target.join(name);
        let (size, reserved) = layout(&copy);
        assert_eq!((size, reserved), layout(&database), "{}", name.display());
        let name = name.to_str().unwrap();
        if let Some(rest) = name.strip_prefix("pages-of-") {
            assert_eq!(rest, format!("{size}.db"));
        }
        if let Some(rest) = name.strip_prefix("reserved-") {
            assert_eq!(rest, format!("{reserved}.db"));
        }
        let said = sqlite3(&tool, &copy, "PRAGMA integrity_check; PRAGMA user_version;");
        assert_eq!(said, "ok\n8\n", "{name}");
        assert_eq!(sqlite3(&tool, &copy, ".dump"), dump, "{name}");
    }
}

#[test]
fn every_shape_in_wal_mode_comes_back() {
    every_shape_comes_back("wal");
}

#[test]
fn every_shape_in_rollback_mode_comes_back() {
    every_shape_comes_back("delete");
}

#[test]
fn an_index_by_the_application_s_own_order_and_function_comes_back() {
    let Some(python) = find("python3") else {
        return skipped("an application's own collation", "there is no python3");
    };
    let application = |what: &str, database: &Path| {
        let mut command = Command::new(&python);
        let output = command
            .args(["-c", APPLICATION, what])
            .arg(database)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let place = Place::new();
    let shop = place.join("shop");
    fs::create_dir(&shop).unwrap();
    let database = shop.join("cups.db");
    application("make", &database);
    let program = Program::with_cheap_repository(place.path());
    // What only the application could check is no damage.
    program.ok(&["backup", shop.to_str().unwrap()]);
    let target = place.join("target");
    let from = format!("latest:{}", shop.display());
    let restored = program.run(&["restore", &from, "--target", target.to_str().unwrap()]);
    // The copy is whole, but SQLite alone cannot prove it: restored, not proved, and told so.
    assert_eq!(restored.code, 7, "{}", restored.text());
    let said = "have its own application open the copy";
    assert!(restored.stderr.contains(said), "{}", restored.text());
    let copy = target.join("cups.db");
    assert_eq!(fs::read(&copy).unwrap(), fs::read(&database).unwrap());
    assert_eq!(application("look", &copy), "ok 43\n");
}

/// `SQLite` keeps one page free for its locks, at exactly 1 GiB. `shops` has it in pages of 4,096 bytes, where
/// it is one of many in a chunk; here it is a chunk of its own.
#[test]
fn the_lock_page_between_the_largest_pages() {
    const LOCK_PAGE: u64 = 1 << 30;
    let place = Place::new();
    let database = place.join("large.db");
    let connection = Connection::open(&database).unwrap();
    connection
        .execute_batch(
            "PRAGMA page_size = 65536; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
             CREATE TABLE ballast(id INTEGER PRIMARY KEY, zeros BLOB, number BLOB);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 34)
               INSERT INTO ballast SELECT i, zeroblob(32 << 20), randomblob(100000) FROM n;",
        )
        .unwrap();
    connection
        .query_row("PRAGMA journal_mode = wal", [], |_| Ok(()))
        .unwrap();
    drop(connection);
    let (mut hasher, mut offset, mut lock_page) = (Hasher::default(), 0_u64, None);
    let captured = capture(&database, &options(place.path()), &mut |chunk: Vec<u8>| {
        if offset == LOCK_PAGE {
            lock_page = Some(chunk.clone());
        }
        offset += chunk.len() as u64;
        hasher.update(&chunk);
        Ok(())
    })
    .unwrap();
    assert_eq!(captured.method, Method::Pages);
    assert_eq!(captured.unsound, None);
    assert_eq!(captured.fingerprint.tables["ballast"], 34);
    assert!(offset > LOCK_PAGE + 65536, "{offset}");
    assert_eq!(lock_page.unwrap(), vec![0; 65536]);
    let mut file = fs::File::open(&database).unwrap();
    let (mut whole, mut buffer) = (Hasher::default(), vec![0; 1 << 20]);
    loop {
        let length = std::io::Read::read(&mut file, &mut buffer).unwrap();
        if length == 0 {
            break;
        }
        whole.update(&buffer[..length]);
    }
    assert_eq!(hasher.finish(), whole.finish());
}
