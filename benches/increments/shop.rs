//! A shop that trades: a WAL database with rows as shops have them, and days that change it.

use std::path::Path;

use anyhow::Result;
use rusqlite::{Connection, Transaction, params};

/// Orders that fill one MiB, their lines, customers and indexes included.
const ORDERS_PER_MIB: u64 = 2_700;
/// Products on sale.
const PRODUCTS: u64 = 2_000;
/// Orders of one customer.
const ORDERS_PER_CUSTOMER: u64 = 10;
/// Lines of one order.
const LINES: u64 = 3;

/// Of 10,000 orders that the shop has, a day brings so many new ones …
const NEW: u64 = 40;
/// … packs so many of the newest …
const PACKED: u64 = 200;
/// … and changes so many anywhere: returns, late payments, corrected addresses.
const ANYWHERE: u64 = 70;

const PHRASES: [&str; 32] = [
    "teapot, celadon",
    "cup, ash glaze",
    "tea bowl, raku",
    "oolong, spring harvest",
    "sencha, early harvest",
    "wrapped as a gift",
    "please ring twice",
    "leave with the neighbour",
    "fragile, do not stack",
    "second choice",
    "without strainer",
    "handle on the left",
    "copper lid",
    "set of four",
    "set of six",
    "tray, cherry wood",
    "green and white",
    "birthday card inside",
    "paid in advance",
    "collected in the shop",
    "delivered to the gate",
    "North Street",
    "Kiln Lane",
    "Old Market Square",
    "first floor",
    "back entrance",
    "black, matt",
    "blue, crackled",
    "kettle, cast iron",
    "incense, cedar",
    "thank you again",
    "no invoice in the parcel",
];

/// A seeded generator (`SplitMix64`).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn phrases(&mut self, count: u64) -> String {
        let phrases: Vec<&str> = (0..count)
            .map(|_| PHRASES[usize::try_from(self.below(32)).unwrap_or(0)])
            .collect();
        phrases.join("; ")
    }
}

/// An open shop.
#[derive(Debug)]
pub struct Shop {
    connection: Connection,
    till: Till,
}

/// What happens in it.
#[derive(Debug)]
struct Till {
    random: Random,
    orders: u64,
}

impl Shop {
    /// Fills a new database of about `size_mib`.
    pub fn create(path: &Path, size_mib: u64, seed: u64) -> Result<Self> {
        let mut connection = Connection::open(path)?;
        connection.query_row("PRAGMA journal_mode = wal", [], |_| Ok(()))?;
        connection.execute_batch(
            "PRAGMA synchronous = off;
             CREATE TABLE products(id INTEGER PRIMARY KEY, title TEXT, description TEXT, price_cents INTEGER, stock INTEGER);
             CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT, email TEXT, address TEXT, orders INTEGER);
             CREATE TABLE orders(id INTEGER PRIMARY KEY, customer INTEGER, placed_at INTEGER, status TEXT, total_cents INTEGER, payment TEXT, address TEXT, note TEXT);
             CREATE TABLE lines(id INTEGER PRIMARY KEY, order_id INTEGER, product INTEGER, quantity INTEGER, price_cents INTEGER, label TEXT);",
        )?;
        let mut till = Till {
            random: Random(seed),
            orders: 0,
        };
        let orders = size_mib * ORDERS_PER_MIB;
        let transaction = connection.transaction()?;
        till.stock_up(&transaction)?;
        till.register(&transaction, orders / ORDERS_PER_CUSTOMER)?;
        till.sell(&transaction, orders)?;
        transaction.commit()?;
        connection.execute_batch(
            "CREATE INDEX customers_by_email ON customers(email);
             CREATE INDEX orders_by_customer ON orders(customer);
             CREATE INDEX orders_by_time ON orders(placed_at);
             CREATE INDEX lines_by_order ON lines(order_id);
             CREATE INDEX lines_by_product ON lines(product);",
        )?;
        Ok(Self { connection, till })
    }

    /// Trades for a `part` of a day (1: all of it; 100: the hundredth part, a quiet hour). Returns how
    /// many rows it has touched, and how many there are now.
    pub fn trade(&mut self, part: u64) -> Result<(u64, u64)> {
        let before = self.connection.total_changes();
        let orders = self.till.orders;
        let of = |share: u64| orders * share / 10_000 / part;
        let transaction = self.connection.transaction()?;
        self.till.sell(&transaction, of(NEW))?;
        for id in orders - of(PACKED)..orders {
            self.till.change(&transaction, id + 1, "packed")?;
        }
        for _ in 0..of(ANYWHERE) {
            let id = self.till.random.below(orders) + 1;
            self.till.change(&transaction, id, "returned")?;
        }
        transaction.commit()?;
        let touched = self.connection.total_changes() - before;
        let rows = self.connection.query_row(
            "SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM lines)
                  + (SELECT count(*) FROM customers) + (SELECT count(*) FROM products)",
            [],
            |row| row.get::<_, i64>(0),
        )?;
        Ok((touched, rows.unsigned_abs()))
    }

    /// Moves everything into the main file, so that the file alone is the exact image.
    pub fn settle(&self) -> Result<()> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }
}

impl Till {
    fn stock_up(&mut self, transaction: &Transaction<'_>) -> Result<()> {
        let mut insert =
            transaction.prepare("INSERT INTO products VALUES (NULL, ?1, ?2, ?3, 100000)")?;
        for _ in 0..PRODUCTS {
            let (title, description) = (self.random.phrases(2), self.random.phrases(24));
            insert.execute(params![title, description, self.price()])?;
        }
        Ok(())
    }

    fn register(&mut self, transaction: &Transaction<'_>, customers: u64) -> Result<()> {
        let mut insert =
            transaction.prepare("INSERT INTO customers VALUES (NULL, ?1, ?2, ?3, 0)")?;
        for _ in 0..customers {
            let name = self.random.phrases(1);
            let email = format!("{:x}@example.net", self.random.next());
            insert.execute(params![name, email, self.random.phrases(3)])?;
        }
        Ok(())
    }

    /// Adds orders with their lines, and takes what they hold from stock.
    fn sell(&mut self, transaction: &Transaction<'_>, orders: u64) -> Result<()> {
        let first_sale = self.orders == 0;
        let mut order =
            transaction.prepare("INSERT INTO orders VALUES (?1, ?2, ?3, 'new', ?4, ?5, ?6, ?7)")?;
        let mut line = transaction.prepare("INSERT INTO lines VALUES (NULL, ?1, ?2, 1, ?3, ?4)")?;
        let mut stock =
            transaction.prepare("UPDATE products SET stock = stock - 1 WHERE id = ?1")?;
        let customers = (self.orders.max(orders) / ORDERS_PER_CUSTOMER).max(1);
        for _ in 0..orders {
            self.orders += 1;
            let customer = self.random.below(customers) + 1;
            let payment = format!("{:016x}", self.random.next());
            let (address, note) = (self.random.phrases(3), self.random.phrases(4));
            let total = self.price();
            order.execute(params![
                signed(self.orders),
                signed(customer),
                1_700_000_000 + signed(self.orders) * 17,
                total,
                payment,
                address,
                note
            ])?;
            for _ in 0..LINES {
                let product = signed(self.random.below(PRODUCTS) + 1);
                let price = self.price();
                line.execute(params![
                    signed(self.orders),
                    product,
                    price,
                    self.random.phrases(1)
                ])?;
                // What was sold before the first day is not in the stock any more.
                if !first_sale {
                    stock.execute([product])?;
                }
            }
        }
        Ok(())
    }

    fn change(&mut self, transaction: &Transaction<'_>, id: u64, status: &str) -> Result<()> {
        let note = self.random.phrases(4);
        transaction
            .prepare_cached("UPDATE orders SET status = ?1, note = ?2 WHERE id = ?3")?
            .execute(params![status, note, signed(id)])?;
        Ok(())
    }

    fn price(&mut self) -> i64 {
        signed(self.random.below(20_000)) + 100
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What a person would ask a restored copy: its orders, and a sum over what the days change.
pub fn answer(connection: &Connection) -> rusqlite::Result<(i64, i64, i64)> {
    connection.query_row(
        "SELECT (SELECT count(*) FROM orders), (SELECT sum(length(note) * id) FROM orders), (SELECT sum(stock) FROM products)",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )
}
