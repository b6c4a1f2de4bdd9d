//! The databases that are backed up.

use std::path::PathBuf;

use super::Finding;
use crate::source::sqlite::{self, Header};
use crate::units::{counted, shown};

/// Looks at databases by their headers. Only while no connection to any of them is open.
#[must_use]
pub fn databases(paths: &[PathBuf]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut well = 0;
    for path in paths {
        let item = format!("database {}", shown(path));
        let header = match Header::read(path) {
            Ok(Some(header)) => header,
            // All of it is in its log yet.
            Ok(None) => continue,
            Err(cause) => {
                findings.push(Finding::error(
                    &item,
                    format!("cannot be read: {cause}"),
                    "run as its owner or as root",
                ));
                continue;
            }
        };
        let before = findings.len();
        if sqlite::is_on_a_network(path) {
            findings.push(Finding::warning(
                &item,
                "lies on a network file system, whose locks cannot be relied on: it is captured only while nobody uses it",
                "back it up on the machine that holds it",
            ));
        }
        if !header.is_wal {
            findings.push(Finding::warning(
                &item,
                "is in rollback mode: writers wait while it is read",
                "if its application agrees, once: PRAGMA journal_mode = WAL",
            ));
        }
        if header.has_wal_reset_bug() {
            let [major, minor, patch] = version(header.written_by);
            findings.push(Finding::warning(
                &item,
                format!("was written by SQLite {major}.{minor}.{patch}, which can lose pages when two checkpoints meet the restart of its log"),
                "update the application's SQLite to 3.51.3 or later (also mended: 3.50.7, 3.44.6)",
            ));
        }
        well += u64::from(findings.len() == before);
    }
    if well > 0 {
        findings.push(Finding::good(
            "databases",
            format!("{} in WAL mode", counted(well, "database")),
        ));
    }
    findings
}

/// The parts of `SQLITE_VERSION_NUMBER`.
const fn version(number: u32) -> [u32; 3] {
    [number / 1_000_000, number / 1000 % 1000, number % 1000]
}
