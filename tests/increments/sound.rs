//! Of a database of which only what changed is stored, all pages are looked at all the same.

use std::fs;
use std::os::unix::fs::FileExt;

use rusqlite::Connection;

use super::Scene;

/// Exchanges two leaves of its table, as a disk that writes to the wrong place.
fn exchange_leaves(scene: &Scene) {
    let page = scene.page_bytes as usize;
    let image = fs::read(&scene.database).unwrap();
    // 13: a leaf of a table.
    let leaves: Vec<usize> = (1..image.len() / page)
        .filter(|number| image[number * page] == 13)
        .collect();
    let (one, other) = (leaves[3], leaves[leaves.len() - 3]);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&scene.database)
        .unwrap();
    for (from, to) in [(one, other), (other, one)] {
        let bytes = &image[from * page..(from + 1) * page];
        file.write_all_at(bytes, (to * page) as u64).unwrap();
    }
}

#[test]
fn a_page_in_the_wrong_place_is_told_on_that_day() {
    for mode in ["wal", "delete"] {
        let mut scene = Scene::new(mode, 4096);
        scene.back_up();
        scene.trade();
        let night = scene.back_up();
        assert!(night.log().is_some());
        assert_eq!(night.outcome.manifest.databases[0].unsound, None);

        exchange_leaves(&scene);
        let night = scene.back_up();
        assert!(night.log().is_some(), "{mode}: only what changed is stored");
        let database = &night.outcome.manifest.databases[0];
        let unsound = database.unsound.as_deref().unwrap_or_default();
        assert!(unsound.contains("out of order"), "{mode}: {unsound}");
    }
}

#[test]
fn rows_that_were_counted_on_the_way_are_those_that_sqlite_counts() {
    let mut scene = Scene::new("wal", 1024);
    scene.run(
        "CREATE TABLE stock(name TEXT PRIMARY KEY, note TEXT) WITHOUT ROWID;
         INSERT INTO stock SELECT item || id, CASE id % 300 WHEN 0 THEN hex(zeroblob(3000)) END FROM orders;",
    );
    for _ in 0..3 {
        let night = scene.back_up();
        let counted = &night.outcome.manifest.databases[0].fingerprint.tables;
        let connection = Connection::open(&scene.database).unwrap();
        for table in ["orders", "stock"] {
            let sql = format!("SELECT count(*) FROM {table}");
            let rows: i64 = connection.query_row(&sql, [], |row| row.get(0)).unwrap();
            assert_eq!(counted[table], rows.cast_unsigned(), "{table}");
        }
        drop(connection);
        scene.trade();
        scene.run(
            "DELETE FROM stock WHERE name LIKE 'teapot%'; DELETE FROM orders WHERE id % 97 = 5;",
        );
    }
}
