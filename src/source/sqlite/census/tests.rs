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
    let page_bytes = pages[0].len();
    let image_bytes = pages.len() * page_bytes;
    let mut census = Census::of(image_bytes as u64, page_bytes as u64).unwrap();
    for page in pages {
        census.see(page);
    }
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
             CREATE TABLE orders(id INTEGER PRIMARY KEY, cup TEXT, note BLOB);
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

/// What `SQLite`'s quick check finds in an image in which pages were changed, ours does, too.
#[test]
fn what_the_quick_check_finds_is_found() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = seed;
    let mut draw = |below: usize| {
        // Any generator will do.
        random = u64::wrapping_add(
            random.wrapping_mul(6_364_136_223_846_793_005),
            1_442_695_040_888_963_407,
        );
        usize::try_from(random >> 33).unwrap() % below
    };
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("shop.db");
    let connection = shop(1024, 0, 3);
    let pages = image(&connection);
    let (mut found, mut missed) = (0, 0);
    for _ in 0..300 {
        let mut hurt = pages.clone();
        let page = draw(pages.len() - 1) + 1;
        match draw(3) {
            // A page that was written to the place of another.
            0 => hurt[page] = pages[draw(pages.len())].clone(),
            // One that was torn.
            1 => hurt[page][512..].fill(0),
            // A byte of what describes the content.
            _ => hurt[page][draw(40)] ^= 1 << draw(8),
        }
        if hurt == pages {
            continue;
        }
        std::fs::write(&path, hurt.concat()).unwrap();
        let damaged = Connection::open(&path).unwrap();
        let quick = damaged.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        let is_well = quick.is_ok_and(|finding| finding == "ok");
        let is_counted = census(&hurt).finish(&damaged).is_some();
        if !is_well && is_counted {
            missed += 1;
        }
        if !is_well {
            found += 1;
        }
    }
    println!("{found} found by the quick check, {missed} of them missed");
    assert!(found > 50 && missed == 0);
}
