use rusqlite::Connection;

use super::*;

/// The image of a database, as its pages are read.
fn image(connection: &Connection) -> Vec<Vec<u8>> {
    let mut statement = connection
        .prepare("SELECT data FROM sqlite_dbpage")
        .unwrap();
    let pages = statement.query_map([], |row| row.get(0)).unwrap();
    pages.collect::<Result<_, _>>().unwrap()
}

fn census(pages: &[Vec<u8>]) -> Census {
    let mut census = Census::new(pages[0].len());
    let looks: Vec<Look> = pages.iter().map(|page| census.see(page, None)).collect();
    // Of pages that are as they were, no more is found.
    let mut again = Census::new(pages[0].len());
    for (page, look) in pages.iter().zip(looks) {
        assert_eq!(again.see(page, Some(Look::of(look.byte()))), look);
    }
    assert_eq!(format!("{:?}", again.pages), format!("{:?}", census.pages));
    assert_eq!(again.first_rows, census.first_rows);
    assert_eq!(again.row_spans, census.row_spans);
    census
}

/// Each table's rows, as `SQLite` counts them.
fn counted(connection: &Connection) -> Vec<(u32, u64)> {
    let mut statement = connection
        .prepare("SELECT rootpage, name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0")
        .unwrap();
    let tables = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)));
    let tables: Vec<(u32, String)> = tables.unwrap().collect::<Result<_, _>>().unwrap();
    let rows = |name: &str| {
        let sql = format!("SELECT count(*) FROM {name}");
        let rows = connection.query_row(&sql, [], |row| row.get::<_, i64>(0));
        rows.unwrap().cast_unsigned()
    };
    (tables.iter().map(|(root, name)| (*root, rows(name)))).collect()
}

/// A shop with everything that shapes pages: several levels, long texts, a table without row numbers, indexes, free pages.
fn shop(page_bytes: u32, auto_vacuum: u32, seed: i64) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA page_size = {page_bytes}; PRAGMA auto_vacuum = {auto_vacuum};
             CREATE TABLE orders(id INTEGER PRIMARY KEY, cup TEXT NOT NULL, note BLOB);
             CREATE TABLE stock(name TEXT PRIMARY KEY, note TEXT) WITHOUT ROWID;
             CREATE TABLE empty(x); CREATE INDEX by_cup ON orders(cup); CREATE TABLE gone(x);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
               INSERT INTO orders SELECT i * 7 - 9000, 'cup ' || (i * {seed} % 997), CASE i % 50 WHEN 0 THEN zeroblob(i * 9) ELSE zeroblob(i % 90) END FROM n;
             INSERT INTO orders VALUES (-9223372036854775807, 'first', NULL), (9223372036854775807, 'last', NULL);
             INSERT INTO stock SELECT cup || id, CASE id % 40 WHEN 0 THEN hex(zeroblob(4000)) ELSE 'few' END FROM orders;
             INSERT INTO gone SELECT note FROM orders; DROP TABLE gone;
             DELETE FROM orders WHERE id % 11 = {seed} % 11; UPDATE orders SET note = zeroblob(id % 300 + 300) WHERE id % 13 = 1;"
        ))
        .unwrap();
    connection
}

#[test]
fn rows_are_those_that_sqlite_counts() {
    for page_bytes in [512, 1024, 4096, 65536] {
        for auto_vacuum in [0, 1, 2] {
            for seed in 1..4 {
                let connection = shop(page_bytes, auto_vacuum, seed);
                let counts = census(&image(&connection)).finish(&connection);
                let counts = counts.unwrap_or_else(|| panic!("{page_bytes} {auto_vacuum} {seed}"));
                for (root, rows) in counted(&connection) {
                    assert_eq!(counts[&root], rows, "{page_bytes} {auto_vacuum} {seed}");
                }
            }
        }
    }
}

#[test]
fn an_empty_database_and_one_with_free_pages_alone_are_sound() {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch("PRAGMA user_version = 1").unwrap();
    assert!(census(&image(&connection)).finish(&connection).is_some());
    connection
        .execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES (zeroblob(3000000)); DROP TABLE t")
        .unwrap();
    assert!(census(&image(&connection)).finish(&connection).is_some());
}

/// What `SQLite`'s quick check finds in an image in which pages were changed, ours does, too; but for the kinds of values, which
/// the full check of a proof looks at.
#[test]
fn what_the_quick_check_finds_is_found() {
    let mut random = 7_u64;
    let mut draw = |below: usize| {
        // Any generator will do.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap() % below
    };
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("shop.db");
    let connection = shop(1024, 0, 3);
    let pages = image(&connection);
    let mut found = 0;
    for round in 0..300 {
        let mut hurt = pages.clone();
        let page = draw(pages.len() - 1) + 1;
        match draw(4) {
            // A page that was written to the place of another.
            0 => hurt[page] = pages[draw(pages.len())].clone(),
            // One that was torn.
            1 => hurt[page][512..].fill(0),
            // Any byte.
            2 => hurt[page][draw(1024)] ^= 1 << draw(8),
            // A byte of what describes the content.
            _ => hurt[page][draw(40)] ^= 1 << draw(8),
        }
        std::fs::write(&path, hurt.concat()).unwrap();
        let damaged = Connection::open(&path).unwrap();
        let quick = damaged.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        let quick = quick.unwrap_or_else(|cause| cause.to_string());
        if quick != "ok" && !quick.contains(" value in ") {
            found += 1;
            let counts = census(&hurt).finish(&damaged);
            assert_eq!(counts, None, "round {round}, page {page}: {quick}");
        }
    }
    assert!(found > 50, "{found}");
}
