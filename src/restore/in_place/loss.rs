//! What the databases that stand there hold more than the snapshot: orders that would be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Root;
use crate::capture::manifest;
use crate::source::sqlite;

/// A table whose number of rows differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableChange {
    /// Its name.
    pub table: String,
    /// Rows now.
    pub rows_now: u64,
    /// Rows in the snapshot.
    pub rows_then: u64,
}

/// A database that stands there, beside what the snapshot has of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseChange {
    /// Where it stands.
    pub path: PathBuf,
    /// What differs, or why that cannot be told.
    pub tables: std::result::Result<Vec<TableChange>, NotCounted>,
}

/// Why the rows of a database that stands there are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotCounted {
    /// Somebody has it open.
    AtWork,
    /// Nobody has it open, but it was never closed: its last changes are in the log beside it.
    LogLeft,
    /// The snapshot does not say what it held.
    NotInSnapshot,
    /// SQLite cannot read it.
    Unreadable,
}

impl Root {
    /// Counts the databases that stand there. They must be at rest to be counted.
    #[must_use]
    pub fn database_changes(&self) -> Vec<DatabaseChange> {
        let databases = self.survey.databases.iter();
        databases
            .map(|path| DatabaseChange {
                tables: self.table_changes(path),
                path: path.clone(),
            })
            .collect()
    }

    fn table_changes(&self, live: &Path) -> std::result::Result<Vec<TableChange>, NotCounted> {
        let then = self.tables_then(live).ok_or(NotCounted::NotInSnapshot)?;
        if self.survey.open.iter().any(|(path, _)| path == live) {
            return Err(NotCounted::AtWork);
        }
        let now = match sqlite::count_at_rest(live) {
            Some(fingerprint) => fingerprint.tables,
            None if sqlite::has_changes_beside(live) => return Err(NotCounted::LogLeft),
            None => return Err(NotCounted::Unreadable),
        };
        let names: BTreeSet<&String> = now.keys().chain(then.keys()).collect();
        let rows = |tables: &BTreeMap<String, u64>, table| tables.get(table).copied().unwrap_or(0);
        let changes = names.into_iter().map(|table| TableChange {
            table: table.clone(),
            rows_now: rows(&now, table),
            rows_then: rows(then, table),
        });
        Ok(changes
            .filter(|change| change.rows_now != change.rows_then)
            .collect())
    }

    /// The rows that the snapshot has of the database that stands at `live`.
    fn tables_then(&self, live: &Path) -> Option<&BTreeMap<String, u64>> {
        let inner = live.strip_prefix(&self.spot.live).ok()?;
        let in_snapshot = if inner.as_os_str().is_empty() {
            self.spot.path.clone()
        } else {
            self.spot.path.join(inner)
        };
        let name = manifest::quoted(&in_snapshot);
        let mut described = self
            .plan
            .manifest
            .iter()
            .flat_map(|manifest| &manifest.databases);
        let found = described.find(|database| database.path == name)?;
        Some(&found.fingerprint.tables)
    }
}
