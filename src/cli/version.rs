//! `version`: what this is made of.

use serde_json::json;

use super::Done;
use super::session::Session;
use crate::error::ExitCode;
use crate::source::sqlite;

pub fn run(session: &Session) -> Done {
    let version = env!("CARGO_PKG_VERSION");
    let page_table = sqlite::has_page_table();
    session.output.line(format!("tillsafe {version}"));
    session.output.line("repository format: restic 2 (reads 1)");
    session.output.line(format!(
        "SQLite {}, {}",
        sqlite::engine_version(),
        if page_table {
            "with page table: databases are read in place"
        } else {
            "without page table: each capture needs room for a second copy"
        }
    ));
    Done {
        code: ExitCode::Done,
        fields: json!({"version": version, "repository_format": 2, "sqlite": sqlite::engine_version(), "page_table": page_table}),
    }
}
