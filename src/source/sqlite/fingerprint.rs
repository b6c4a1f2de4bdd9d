//! What a database held at capture, in numbers that can be compared after a restore.

use std::collections::BTreeMap;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde::{Deserialize, Serialize};

use super::census::Counts;
use crate::id::{Hasher, Id};
use crate::units::counted;

/// What a database held. Part of the manifest: fields are added, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Rows of every ordinary table, `sqlite_sequence` and the like included; virtual tables are
    /// not counted, the tables that hold their data are.
    pub tables: BTreeMap<String, u64>,
    /// SHA-256 over `sqlite_schema`: for each row in order of its rowid the columns `type`, `name`,
    /// `tbl_name`, `sql`, each as 8 bytes of length (little-endian; all ones for NULL) and its bytes.
    pub schema_sha256: Id,
    /// `sqlite_sequence`: the largest number that AUTOINCREMENT has given out, by table.
    pub sequences: BTreeMap<String, i64>,
    /// Bytes of a page.
    pub page_size_bytes: u64,
    /// Pages.
    pub page_count: u64,
    /// `PRAGMA user_version`.
    pub user_version: i64,
    /// `PRAGMA application_id`.
    pub application_id: i64,
    /// `PRAGMA encoding`.
    pub encoding: String,
}

impl Fingerprint {
    /// Bytes of the image, and of a page, inside whatever transaction is open there.
    ///
    /// # Errors
    /// As `SQLite` reports them.
    pub(super) fn size(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
        let number = |pragma: &str| {
            let value = connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
            value.map(|value| u64::try_from(value).unwrap_or(0))
        };
        let (pages, page_bytes) = (number("PRAGMA page_count")?, number("PRAGMA page_size")?);
        Ok((pages.saturating_mul(page_bytes), page_bytes))
    }

    /// Takes it from a connection, inside whatever transaction is open there.
    ///
    /// # Errors
    /// As `SQLite` reports them.
    pub(super) fn take(connection: &Connection) -> rusqlite::Result<Self> {
        Self::with(connection, None)
    }

    /// The same with rows that were counted already in that transaction.
    ///
    /// # Errors
    /// As `SQLite` reports them.
    pub(super) fn with(connection: &Connection, counts: Option<&Counts>) -> rusqlite::Result<Self> {
        // An order of text that only the application has: nothing is compared here, so any will do.
        connection
            .collation_needed(|connection, name| connection.create_collation(name, str::cmp))?;
        let number = |pragma: &str| {
            connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0))
        };
        let size = |pragma: &str| number(pragma).map(|value| u64::try_from(value).unwrap_or(0));
        let names: Vec<(String, u32)> = connection
            .prepare(
                "SELECT name, rootpage FROM sqlite_schema WHERE type = 'table' AND rootpage > 0",
            )?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let mut tables = BTreeMap::new();
        for (name, root) in names {
            let counted = counts.and_then(|counts| counts.get(&root).copied());
            let rows = match counted {
                Some(rows) => rows,
                None => count(connection, &name)?,
            };
            tables.insert(name, rows);
        }
        let sequences = if tables.contains_key("sqlite_sequence") {
            connection
                .prepare("SELECT CAST(name AS TEXT), CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name IS NOT NULL AND seq IS NOT NULL")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?
        } else {
            BTreeMap::new()
        };
        Ok(Self {
            tables,
            schema_sha256: schema_hash(connection)?,
            sequences,
            page_size_bytes: size("page_size")?,
            page_count: size("page_count")?,
            user_version: number("user_version")?,
            application_id: number("application_id")?,
            encoding: connection.query_row("PRAGMA encoding", [], |row| row.get(0))?,
        })
    }

    /// Names the first thing in which `other` differs, in a sentence; `None` if they are equal.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        for (table, rows) in &self.tables {
            match other.tables.get(table) {
                Some(found) if found == rows => {}
                Some(found) => {
                    return Some(format!(
                        "table {table:?} has {found} rows, {rows} were captured"
                    ));
                }
                None => return Some(format!("table {table:?} is missing")),
            }
        }
        if let Some(table) = other
            .tables
            .keys()
            .find(|table| !self.tables.contains_key(*table))
        {
            return Some(format!("table {table:?} was not captured"));
        }
        if self.sequences != other.sequences {
            return Some("the numbers that AUTOINCREMENT has given out differ".to_owned());
        }
        (self != other).then(|| "schema, page count or header settings differ".to_owned())
    }

    /// Bytes of the image: all its pages.
    #[must_use]
    pub const fn image_bytes(&self) -> u64 {
        self.page_count * self.page_size_bytes
    }

    /// Number and rows of the application's own tables: without those that `SQLite` keeps for itself.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let own = || {
            let tables = self.tables.iter();
            tables.filter(|(name, _)| !name.starts_with("sqlite_"))
        };
        Totals {
            tables: own().count() as u64,
            rows: own().map(|(_, rows)| rows).sum(),
        }
    }
}

/// What a person counts in a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Tables.
    pub tables: u64,
    /// Rows of all of them.
    pub rows: u64,
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rows, tables) = (counted(self.rows, "row"), counted(self.tables, "table"));
        write!(f, "{rows} in {tables}")
    }
}

/// The rows of a table, as `SQLite` counts them.
fn count(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    let sql = format!("SELECT count(*) FROM main.{}", quoted(table));
    let rows = connection.query_row(&sql, [], |row| row.get::<_, i64>(0));
    rows.map(|rows| u64::try_from(rows).unwrap_or(0))
}

fn schema_hash(connection: &Connection) -> rusqlite::Result<Id> {
    let mut hasher = Hasher::default();
    let mut statement =
        connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for column in 0..4 {
            match row.get_ref(column)? {
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                    hasher.update(&(bytes.len() as u64).to_le_bytes());
                    hasher.update(bytes);
                }
                _ => hasher.update(&u64::MAX.to_le_bytes()),
            }
        }
    }
    Ok(hasher.finish())
}

/// An identifier in SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop(sql: &str) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(sql).unwrap();
        connection
    }

    const SHOP: &str = r#"CREATE TABLE "or""ders"(id INTEGER PRIMARY KEY AUTOINCREMENT, cup TEXT);
        CREATE INDEX by_cup ON "or""ders"(cup);
        INSERT INTO "or""ders"(cup) VALUES ('tea'), ('chai'); DELETE FROM "or""ders" WHERE id = 2;"#;

    #[test]
    fn rows_sequences_and_schema_are_seen() {
        let fingerprint = Fingerprint::take(&shop(SHOP)).unwrap();
        assert_eq!(fingerprint.tables["or\"ders"], 1);
        assert_eq!(fingerprint.sequences["or\"ders"], 2);
        assert_eq!(fingerprint.totals().to_string(), "1 row in 1 table");
        assert_eq!(fingerprint.difference(&fingerprint.clone()), None);
    }

    #[test]
    fn each_change_is_a_difference() {
        let before = Fingerprint::take(&shop(SHOP)).unwrap();
        for change in [
            r#"DELETE FROM "or""ders""#,
            r#"INSERT INTO "or""ders"(cup) VALUES ('x'); DELETE FROM "or""ders" WHERE cup = 'x'"#,
            "DROP INDEX by_cup",
            "CREATE TABLE more(x)",
            "PRAGMA user_version = 7",
            r#"DROP TABLE "or""ders""#,
        ] {
            let after = Fingerprint::take(&shop(&format!("{SHOP} {change}"))).unwrap();
            assert!(before.difference(&after).is_some(), "{change}");
        }
    }
}
