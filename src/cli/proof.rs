//! What a proof has shown, as it is told after a restore or a verify.

use std::path::Path;

use serde_json::{Value, json};

use super::session::Session;
use crate::error::ExitCode;
use crate::restore::{DatabaseProof, Lost, ProofLevel, ServerProof};
use crate::units::shown;

/// The level in words; of a snapshot that lacks something it is not the last word, and of nothing none is said.
pub fn proved(session: &Session, level: ProofLevel, lost: &[Lost], files: u64) -> String {
    if files == 0 && !lost.is_empty() {
        return "none, for nothing is left of it: see what is lost".to_owned();
    }
    let lacks = if !lost.is_empty() {
        ", but not all is there: see what is lost"
    } else if session.output.is_incomplete() {
        ", but not all is there: see the warnings"
    } else {
        ""
    };
    format!("{}{lacks}", level.name())
}

/// What a proof's level means for the exit code.
pub fn exit_code(session: &Session, level: ProofLevel) -> ExitCode {
    if level < ProofLevel::Opened {
        ExitCode::NotProved
    } else if session.output.is_incomplete() {
        ExitCode::Incomplete
    } else {
        ExitCode::Done
    }
}

/// One line a database.
pub fn tell_databases(session: &Session, databases: &[DatabaseProof]) {
    for proof in databases {
        let found = proof.fingerprint.as_ref().map_or_else(
            || "SQLite finds fault with it".to_owned(),
            |fingerprint| fingerprint.totals().to_string(),
        );
        let path: &Path = &proof.path;
        let checked = proof.checked_at.map_or(String::new(), |time| {
            format!("; SQLite checked this very image at {time:.0}")
        });
        session.output.good_news(format!(
            "database {}: {} ({found}{checked})",
            shown(path),
            proof.level.name()
        ));
    }
}

/// One line a database of a server; of one that is restored to a folder, with the command that loads it.
pub fn tell_servers(session: &Session, servers: &[ServerProof], restored: Option<&str>) {
    for proof in servers {
        let described = &proof.described;
        let checked = proof.checked_at.map_or(String::new(), |time| {
            format!("; this very dump was loaded and counted at {time:.0}")
        });
        let next = restored.map_or(String::new(), |snapshot| {
            format!(
                "; it is a dump, and no server holds it yet: tillsafe restore {snapshot} --database {}",
                described.name
            )
        });
        let line = format!(
            "database {}: {} ({}{checked}){next}",
            described.name,
            proof.level.name(),
            described.fingerprint.words()
        );
        if proof.level < ProofLevel::Opened {
            // Only success is silent with -q.
            session.output.line(line);
        } else {
            session.output.good_news(line);
        }
    }
}

/// Fields of a summary about the databases of servers.
pub fn server_fields(servers: &[ServerProof]) -> Value {
    let servers = servers.iter().map(|proof| {
        json!({
            "name": proof.described.name,
            "engine": proof.described.engine,
            "path": proof.described.path,
            "proof_level": proof.level,
            "checked_at": proof.checked_at,
            "rows": proof.described.fingerprint.rows(),
        })
    });
    servers.collect()
}

/// Fields of a summary about a proof.
pub fn fields(location: &str, databases: &[DatabaseProof], level: ProofLevel) -> Value {
    let databases: Vec<Value> = databases
        .iter()
        .map(|proof| {
            json!({
                "path": proof.path.to_string_lossy(),
                "proof_level": proof.level,
                "checked_at": proof.checked_at,
                "rows": proof.fingerprint.as_ref().map(|fingerprint| fingerprint.totals().rows),
            })
        })
        .collect();
    json!({"repository": location, "proof_level": level, "databases": databases})
}
