//! Databases that SQLite opens for their proof: they execute nothing, reach nothing, and end.

use std::fs;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use serde_json::Value;

use super::{Class, Codes, play};
use crate::common::Place;
use crate::common::forge::Forge;
use crate::common::raw::{RawBlob, file_node, tree_json};
use crate::common::tools::find;

/// A foreign file, restored as it is; SQLite may find fault with it.
const FOREIGN: Codes = [&[0], &[0], &[0], &[0, 7], &[0, 7], &[0]];

/// A snapshot of all files that lie in a folder.
fn with_files(forge: &Forge, folder: &Path) {
    let mut blobs: Vec<RawBlob> = Vec::new();
    let mut nodes: Vec<Value> = Vec::new();
    for item in fs::read_dir(folder).unwrap() {
        let item = item.unwrap();
        let bytes = fs::read(item.path()).unwrap();
        let name = item.file_name().into_string().unwrap();
        // A blob of no bytes is none.
        let blob = (!bytes.is_empty()).then(|| forge.blob(2, &[(&bytes, 1)]));
        let content: Vec<_> = blob.iter().map(|blob| blob.id).collect();
        nodes.push(file_node(&name, bytes.len() as u64, &content));
        blobs.extend(blob.filter(|blob| blobs.iter().all(|other| other.id != blob.id)));
    }
    forge.snapshot_of_tree(&tree_json(&nodes), &blobs);
}

/// A database made by SQL, whose schema may be written over. By another program's SQLite: ours keeps
/// this whole process within its limit of memory once it has proved a copy.
fn with_sql(forge: &Forge, sql: &str) {
    const MAKE: &str = "import sqlite3, sys
sqlite3.connect(sys.argv[1], isolation_level=None).executescript(sys.argv[2])";
    let place = Place::new();
    let sql = format!(
        "PRAGMA journal_mode = delete; CREATE TABLE tea(a, b); INSERT INTO tea VALUES (1, 'x'); PRAGMA writable_schema = 1; {sql}"
    );
    let python = find("python3").expect("python3 is on every machine that runs these tests");
    let made = Command::new(python)
        .args(["-I", "-c", MAKE])
        .arg(place.join("shop.db"))
        .arg(sql)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    with_files(forge, place.path());
}

/// Sets the SQL text of the table's row in the schema.
fn with_schema(forge: &Forge, kind: &str, text: &str) {
    let text = text.replace('\'', "''");
    with_sql(
        forge,
        &format!("UPDATE sqlite_schema SET type = '{kind}', sql = '{text}' WHERE name = 'tea'"),
    );
}

const ENDLESS: &str =
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c";

fn triggers(forge: &Forge) {
    let path = Place::new();
    let sql = format!(
        "CREATE TRIGGER t AFTER INSERT ON tea BEGIN SELECT writefile('{0}', 'evil'), load_extension('{0}'); END; CREATE VIEW v AS SELECT readfile('/etc/passwd'), edit('x'); CREATE VIEW w AS {ENDLESS}",
        path.join("evil").display()
    );
    with_sql(forge, &sql);
}

fn log_beside(forge: &Forge, noise: bool) {
    let place = Place::new();
    let path = place.join("shop.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .query_row("PRAGMA journal_mode = wal", [], |_| Ok(()))
        .unwrap();
    connection
        .execute_batch("CREATE TABLE tea(a); INSERT INTO tea VALUES (1)")
        .unwrap();
    let copy = place.join("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["shop.db", "shop.db-wal", "shop.db-shm"] {
        let mut bytes = fs::read(place.join(name)).unwrap();
        if noise && name != "shop.db" {
            let end = bytes.len();
            bytes[32..end].fill(0xff);
        }
        fs::write(copy.join(name), bytes).unwrap();
    }
    with_files(forge, &copy);
}

/// A hot journal whose super-journal is a file outside: a rollback would delete it.
fn journal(forge: &Forge) {
    let place = Place::new();
    let path = place.join("shop.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("CREATE TABLE tea(a); INSERT INTO tea VALUES (1)")
        .unwrap();
    drop(connection);
    let canary = forge.path("../outside/canary.db-journal");
    let canary = canary.to_str().unwrap().as_bytes();
    let mut bytes = vec![0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    for number in [0_u32, 0, 2, 512, 4096] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.resize(512, 0);
    // The lock page, the name, its length and sum, and the magic once more.
    let sum: u32 = canary.iter().map(|byte| u32::from(*byte)).sum();
    bytes.extend((0x4000_0000_u32 / 4096 + 1).to_be_bytes());
    bytes.extend(canary);
    bytes.extend(u32::try_from(canary.len()).unwrap().to_be_bytes());
    bytes.extend(sum.to_be_bytes());
    bytes.extend([0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
    fs::write(place.join("shop.db-journal"), bytes).unwrap();
    with_files(forge, place.path());
}

/// Pages that lead to each other in circles.
fn circles(forge: &Forge) {
    let place = Place::new();
    let path = place.join("shop.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA page_size = 512; CREATE TABLE tea(a); WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 500) INSERT INTO tea SELECT hex(randomblob(200)) FROM c").unwrap();
    drop(connection);
    let mut bytes = fs::read(&path).unwrap();
    for page in bytes.chunks_mut(512).skip(1) {
        if page[0] == 5 {
            // The right-most child of an inner page is the root again.
            page[8..12].copy_from_slice(&2_u32.to_be_bytes());
        }
    }
    fs::write(&path, bytes).unwrap();
    with_files(forge, place.path());
}

fn header(forge: &Forge, at: usize, with: &[u8]) {
    let place = Place::new();
    let path = place.join("shop.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("CREATE TABLE tea(a); INSERT INTO tea VALUES (1)")
        .unwrap();
    drop(connection);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at..at + with.len()].copy_from_slice(with);
    fs::write(&path, bytes).unwrap();
    with_files(forge, place.path());
}

#[rustfmt::skip]
const CLASSES: &[Class] = &[
    Class { name: "database: triggers and views with weird functions", make: triggers, codes: FOREIGN },
    Class { name: "database: a table that is an endless view", make: |f| with_schema(f, "table", &format!("CREATE VIEW tea AS {ENDLESS}")), codes: FOREIGN },
    Class { name: "database: a schema that is no SQL", make: |f| with_schema(f, "table", "ATTACH '/etc/passwd' AS x"), codes: FOREIGN },
    Class { name: "database: an index on what takes a gigabyte", make: |f| with_sql(f, "CREATE INDEX i ON tea(length(hex(zeroblob(250000000 + a))))"), codes: [&[0], &[0], &[0], &[7], &[7], &[0]] },
    Class { name: "database: an index on what takes long", make: |f| with_sql(f, "CREATE INDEX i ON tea(length(replace(hex(zeroblob(20000000)), '0', b)))"), codes: FOREIGN },
    Class { name: "database: a check that loads a library", make: |f| with_schema(f, "table", "CREATE TABLE tea(a, b, CHECK(load_extension('/tmp/evil') IS NULL))"), codes: FOREIGN },
    Class { name: "database: a virtual table that reads the disk", make: |f| with_sql(f, "INSERT INTO sqlite_schema VALUES ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING csv(filename=''/etc/passwd'')')"), codes: FOREIGN },
    Class { name: "database: pages in circles", make: circles, codes: FOREIGN },
    Class { name: "database: a page count of 2^32 - 1", make: |f| header(f, 28, &[0xff; 4]), codes: FOREIGN },
    Class { name: "database: a page size of 1", make: |f| header(f, 16, &[0, 1]), codes: FOREIGN },
    Class { name: "database: a schema cookie and format of 2^32 - 1", make: |f| header(f, 40, &[0xff; 8]), codes: FOREIGN },
    Class { name: "database: a log beside it", make: |f| log_beside(f, false), codes: FOREIGN },
    Class { name: "database: a log of noise beside it", make: |f| log_beside(f, true), codes: FOREIGN },
    Class { name: "database: a hot journal that names a canary", make: journal, codes: FOREIGN },
];

#[test]
fn databases_that_mean_harm() {
    play(CLASSES);
}
