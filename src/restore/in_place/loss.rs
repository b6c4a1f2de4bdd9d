//! What the databases that stand there hold more than the snapshot: orders that would be lost.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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
    /// What differs; `None` if it cannot be counted (it is at work, or not whole), or the snapshot does
    /// not say what it held.
    pub tables: Option<Vec<TableChange>>,
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

    fn table_changes(&self, live: &Path) -> Option<Vec<TableChange>> {
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
        let then = &described
            .find(|database| database.path == name)?
            .fingerprint
            .tables;
        let now = sqlite::count_at_rest(live)?.tables;
        let names: BTreeSet<&String> = now.keys().chain(then.keys()).collect();
        let rows = |tables: &std::collections::BTreeMap<String, u64>, table| {
            tables.get(table).copied().unwrap_or(0)
        };
        let changes = names.into_iter().map(|table| TableChange {
            table: table.clone(),
            rows_now: rows(&now, table),
            rows_then: rows(then, table),
        });
        Some(
            changes
                .filter(|change| change.rows_now != change.rows_then)
                .collect(),
        )
    }
}
