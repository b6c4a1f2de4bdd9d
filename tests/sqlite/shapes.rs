//! Every form that a database can have.

use std::fs;
use std::process::Command;

use rusqlite::Connection;

use crate::common::Place;
use crate::common::program::Program;
use crate::common::tools::{find, skipped};

/// What is set before the first table, by a name that tells what broke.
fn forms() -> Vec<(String, String)> {
    let sizes = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];
    let mut forms: Vec<(String, String)> = sizes
        .iter()
        .map(|size| {
            (
                format!("pages of {size}"),
                format!("PRAGMA page_size = {size};"),
            )
        })
        .collect();
    for (name, sql) in [
        ("auto_vacuum full", "PRAGMA auto_vacuum = FULL;"),
        (
            "auto_vacuum incremental",
            "PRAGMA auto_vacuum = INCREMENTAL;",
        ),
        ("UTF-16 little-endian", "PRAGMA encoding = 'UTF-16le';"),
        ("UTF-16 big-endian", "PRAGMA encoding = 'UTF-16be';"),
        (
            "identified",
            "PRAGMA application_id = 7; PRAGMA user_version = 9;",
        ),
    ] {
        forms.push((name.to_owned(), sql.to_owned()));
    }
    forms
}

const CONTENT: &str = r#"
    CREATE TABLE plain(id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT);
    CREATE TABLE keyed(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE made(a INT, b INT GENERATED ALWAYS AS (a * 2) STORED, c INT AS (a + 1), CHECK (a > 0));
    CREATE TABLE "a ""quoted"" name
with a line"(x);
    CREATE VIEW seen AS SELECT * FROM plain;
    CREATE INDEX by_text ON plain(lower(text)) WHERE text IS NOT NULL;
    CREATE TRIGGER after_plain AFTER DELETE ON plain BEGIN DELETE FROM keyed WHERE name = old.text; END;
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
      INSERT INTO plain(text) SELECT 'cup no. ' || i || hex(zeroblob(200)) FROM n;
    INSERT INTO keyed VALUES ('one', 1), ('two', x'00ff');
    INSERT INTO made(a) VALUES (1), (2);
    INSERT INTO "a ""quoted"" name
with a line" VALUES (1);
    DELETE FROM plain WHERE id % 3 = 0;
"#;

#[test]
fn each_comes_back_as_it_was() {
    let place = Place::new();
    let folder = place.join("shop");
    fs::create_dir(&folder).unwrap();
    let mut names = Vec::new();
    for (number, (name, sql)) in forms().into_iter().enumerate() {
        for mode in ["wal", "delete"] {
            let path = folder.join(format!("{number}-{mode}.db"));
            let connection = Connection::open(&path).unwrap();
            connection.execute_batch(&sql).unwrap();
            connection
                .query_row(&format!("PRAGMA journal_mode = {mode}"), [], |_| Ok(()))
                .unwrap();
            connection
                .execute_batch(CONTENT)
                .unwrap_or_else(|cause| panic!("{name}: {cause}"));
            names.push((name.clone(), path));
        }
    }
    // One page, and no page at all.
    Connection::open(folder.join("one.db"))
        .unwrap()
        .execute_batch("PRAGMA user_version = 1")
        .unwrap();
    fs::write(folder.join("none.db"), b"").unwrap();

    let program = Program::with_cheap_repository(place.path());
    let run = program.run(&["backup", folder.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{}", run.text());
    let target = place.join("restored");
    let run = program.run(&["restore", "latest", "--target", target.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{}", run.text());
    assert!(
        run.stdout.contains("proof level: matched"),
        "{}",
        run.stdout
    );
    let Some(sqlite3) = find("sqlite3") else {
        return skipped("the system's own check", "`make tools` installs sqlite3");
    };
    for (name, path) in names {
        let copy = target.join(path.strip_prefix("/").unwrap());
        assert_eq!(fs::read(&path).unwrap(), fs::read(&copy).unwrap(), "{name}");
        let checked = Command::new(&sqlite3)
            .arg(&copy)
            .arg("PRAGMA integrity_check")
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&checked.stdout).trim(),
            "ok",
            "{name}"
        );
    }
}
