//! What could not be brought back, as it is told after everything else.

use serde_json::{Value, json};

use super::output::path_fields;
use super::session::Session;
use crate::error::{Error, ExitCode};
use crate::restore::{Lost, ProofLevel};
use crate::units::{OneLine, shown};

/// One line and one object for each.
pub fn tell_lost(session: &Session, lost: &[Lost]) {
    for lost in lost {
        let mut fields = path_fields(&lost.path);
        fields["type"] = if lost.is_folder { "dir" } else { "file" }.into();
        fields["finding"] = lost.finding.clone().into();
        let ids = lost.intact_in.iter().map(|holder| json!(holder.id));
        fields["intact_in"] = Value::Array(ids.collect());
        session.output.object("lost", fields);
        let below = if lost.is_folder {
            " with all below it"
        } else {
            ""
        };
        session.output.line(format!(
            "lost: {}{below}: {}; {}",
            shown(&lost.path),
            OneLine(&lost.finding),
            elsewhere(lost)
        ));
    }
}

fn elsewhere(lost: &Lost) -> String {
    if lost.intact_in.is_empty() {
        return if lost.searched {
            "in no other snapshot".to_owned()
        } else {
            "not all other snapshots were searched".to_owned()
        };
    }
    let holders = lost.intact_in.iter();
    let named: Vec<String> = holders
        .map(|holder| format!("{} of {:.0}", holder.id.short(), holder.time))
        .collect();
    format!("intact in {}", named.join(", "))
}

/// Ends a command that has done the rest: with an error and exit code 4 if anything is lost, else with
/// `code`.
pub fn end(session: &Session, lost: &[Lost], rest: String, code: ExitCode) -> ExitCode {
    if lost.is_empty() {
        return code;
    }
    let error = Error::ItemsLost {
        count: lost.len() as u64,
        rest,
    };
    session.fail(error.into())
}

/// What is true of the rest at this level.
pub fn proved(level: ProofLevel) -> &'static str {
    if level < ProofLevel::Opened {
        "restored, but not all of it proved"
    } else {
        "restored and proved"
    }
}
