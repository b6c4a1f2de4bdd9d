//! A small shop: a SQLite database, pictures, a link, an empty file.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::dice::Dice;

/// A shop in a folder.
pub struct Shop {
    pub folder: PathBuf,
    pub database: PathBuf,
}

impl Shop {
    /// Makes a shop with `orders` orders in `journal_mode` (`wal`, `delete` …).
    pub fn open(folder: &Path, orders: u32, journal_mode: &str) -> Self {
        fs::create_dir_all(folder.join("pictures/old")).unwrap();
        fs::write(folder.join("pictures/teapot.jpg"), noise(1, 700_000)).unwrap();
        fs::write(folder.join("pictures/old/cup.jpg"), noise(2, 40_000)).unwrap();
        fs::write(folder.join("empty.txt"), "").unwrap();
        fs::write(folder.join("notes.txt"), "glaze: celadon\n".repeat(2000)).unwrap();
        std::os::unix::fs::symlink("pictures/teapot.jpg", folder.join("main.jpg")).unwrap();
        let shop = Self {
            folder: folder.to_owned(),
            database: folder.join("shop.db"),
        };
        let connection = shop.connect();
        connection
            .query_row(&format!("PRAGMA journal_mode = {journal_mode}"), [], |_| {
                Ok(())
            })
            .unwrap();
        connection
            .execute_batch(
                "CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT NOT NULL);
                 CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, customer INTEGER NOT NULL REFERENCES customers(id), item TEXT);
                 CREATE INDEX orders_by_customer ON orders(customer);
                 INSERT INTO customers VALUES (1, 'Mara'), (2, 'Ilse');",
            )
            .unwrap();
        drop(connection);
        shop.sell(orders);
        shop
    }

    /// A connection that has read, so that in WAL mode it keeps the log alive.
    pub fn connect(&self) -> Connection {
        let connection = Connection::open(&self.database).unwrap();
        connection
            .busy_timeout(std::time::Duration::from_secs(10))
            .unwrap();
        connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
            .unwrap();
        connection
    }

    /// Sells `count` items.
    pub fn sell(&self, count: u32) {
        let mut connection = self.connect();
        let transaction = connection.transaction().unwrap();
        for number in 0..count {
            transaction
                .execute(
                    "INSERT INTO orders(customer, item) VALUES (?1, ?2)",
                    (
                        1 + number % 2,
                        format!("cup no. {number}, {}", "glazed ".repeat(8)),
                    ),
                )
                .unwrap();
        }
        transaction.commit().unwrap();
    }

    /// Exchanges two leaves of the orders' tree: every page is well formed, but the rows are out of order.
    pub fn exchange_two_leaves(&self) {
        use std::os::unix::fs::FileExt;
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.database)
            .unwrap();
        let pages = file.metadata().unwrap().len() / 4096;
        let mut leaves = Vec::new();
        for page in 1..pages {
            let mut bytes = vec![0; 4096];
            file.read_exact_at(&mut bytes, page * 4096).unwrap();
            // 13: a leaf of a table.
            if bytes[0] == 13 && String::from_utf8_lossy(&bytes).contains("glazed") {
                leaves.push((page, bytes));
            }
        }
        let [(one, first), .., (other, last)] = &leaves[..] else {
            panic!("too few leaves");
        };
        file.write_all_at(last, one * 4096).unwrap();
        file.write_all_at(first, other * 4096).unwrap();
    }

    pub fn orders(&self) -> u32 {
        count_orders(&self.database)
    }
}

/// Puts an encrypted database with a log into a folder: neither begins as one of SQLite's does, and so it cannot be
/// captured.
pub fn add_keyed(folder: &Path) -> PathBuf {
    let keyed = folder.join("keyed.db");
    fs::write(&keyed, noise(9, 40_960)).unwrap();
    let mut log = vec![0x37, 0x7f, 0x06, 0x82];
    log.extend(noise(10, 8000));
    fs::write(folder.join("keyed.db-wal"), log).unwrap();
    keyed
}

/// Orders in a database, as the test's own SQLite counts them.
pub fn count_orders(database: &Path) -> u32 {
    Connection::open(database)
        .unwrap()
        .query_row("SELECT count(*) FROM orders", [], |row| row.get(0))
        .unwrap()
}

/// Seeded bytes that do not compress.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(dice.next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
