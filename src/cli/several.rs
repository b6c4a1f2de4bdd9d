//! Which snapshots, for commands that look at several; and what of them could not be read.

use std::path::Path;

use serde_json::json;

use super::args::Filter;
use super::choose::one;
use super::output::path_fields;
use super::session::{Session, request};
use crate::error::{Error, ExitCode, Result};
use crate::id::Id;
use crate::repository::snapshot::{Snapshot, Snapshots};
use crate::units::{OneLine, shown};

/// The snapshots of these words, each an id or `latest`; without words all backups that the filter lets
/// through: what holds our own records is none.
///
/// # Errors
/// As [`one`].
pub fn several(
    session: &Session,
    words: &[String],
    filter: &Filter,
    found: &Snapshots,
) -> Result<Vec<Snapshot>> {
    if words.is_empty() {
        let mut fitting = request("", filter).filter(found.readable.clone());
        fitting.retain(|snapshot| !snapshot.is_record());
        return Ok(fitting);
    }
    let find = |word: &String| {
        let all = Snapshots {
            readable: found.readable.clone(),
            damaged: found.damaged.clone(),
        };
        one(session, &request(word, filter), all)
    };
    words.iter().map(find).collect()
}

/// A folder that cannot be read.
pub fn tell_unread(session: &Session, snapshot: Option<Id>, path: &Path, finding: &str) {
    let mut fields = path_fields(path);
    fields["type"] = "dir".into();
    fields["finding"] = finding.into();
    if let Some(snapshot) = snapshot {
        fields["snapshot_id"] = json!(snapshot);
    }
    session.output.object("lost", fields);
    let of = snapshot.map_or(String::new(), |id| format!(" of {}", id.short()));
    session.output.line(format!(
        "lost: {}{of} with all below it: {}",
        shown(path),
        OneLine(finding)
    ));
}

/// Ends a command that has looked at all the rest.
pub fn end_unread(session: &Session, count: u64, damaged_snapshots: usize) -> ExitCode {
    if count > 0 {
        let error = Error::ItemsLost {
            count,
            rest: "nothing was changed; all else was looked at".to_owned(),
        };
        return session.fail(error.into());
    }
    // Told when the snapshots were read.
    if damaged_snapshots > 0 {
        ExitCode::Damage
    } else {
        ExitCode::Done
    }
}
