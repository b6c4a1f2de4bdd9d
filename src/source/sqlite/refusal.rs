//! What is said of a database that cannot be captured.

use std::path::Path;

use super::detect::beside;
use super::options::BUSY_TIMEOUT;
use crate::error::Error;

pub(super) fn source_error(path: &Path, cause: &dyn std::fmt::Display) -> Error {
    Error::Source {
        name: crate::units::shown(path),
        finding: cause.to_string(),
    }
}

/// The engine's refusal in words that say what to do.
pub(super) fn refused(path: &Path, cause: &rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    let finding = match cause.sqlite_error_code() {
        // Only a writer may roll back what a crash left.
        Some(ErrorCode::ReadOnly) if beside(path, "-journal").exists() => {
            "its application crashed and left a -journal; start the application once, which rolls it back, then back up again".to_owned()
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => format!(
            "its application kept it locked for {} s (a long transaction, or locking_mode = EXCLUSIVE, which lets nobody read); end that, or have the application make a copy with VACUUM INTO",
            BUSY_TIMEOUT.as_secs()
        ),
        Some(ErrorCode::NotADatabase) => {
            "it has the log of a database beside it, but no database's header: it is encrypted or damaged, and only its application can read it; have that make a copy into a folder that is backed up".to_owned()
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) if beside(path, "-wal").exists() => {
            "part of it is in its -wal, and reading that needs a -shm file that cannot be created here; copy the folder to where it can be written, and back that up".to_owned()
        }
        _ => cause.to_string(),
    };
    source_error(path, &finding)
}
