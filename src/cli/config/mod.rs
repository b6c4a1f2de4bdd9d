//! `config`: the file checked, or shown.

pub mod machine;
pub mod show;

use serde_json::json;

use super::Done;
use super::args::ConfigAction;
use super::session::Session;
use crate::config;
use crate::config::file::{self, Finding};
use crate::error::{Error, ExitCode, Result};
use crate::monitor::Monitor;
use crate::units::{OneLine, counted, shown};

pub fn run(session: &Session, action: &ConfigAction) -> Result<Done> {
    let located = file::locate(session.named_configuration(), &config::environment)?;
    let Some(path) = located else {
        return Err(Error::Usage {
            finding: "there is no configuration".to_owned(),
            next: "write one (docs/configuration.md) to /etc/tillsafe/tillsafe.toml, or name it with -c FILE; without one, give -r, -p and paths".to_owned(),
        });
    };
    let configuration = match file::read(&path)? {
        Ok(configuration) => configuration,
        Err(findings) => return Ok(refused(session, &shown(&path), &findings)),
    };
    session.output.finish();
    match action {
        ConfigAction::Show => Ok(show::run(session, &configuration)),
        ConfigAction::Check => {
            let warnings = machine::look(&configuration);
            let count = warnings.len();
            for mut warning in warnings {
                warning.finding = session.typed(&warning.finding);
                session.output.problem(warning);
            }
            session.output.good_news(format!(
                "{} is right: {}, {}",
                shown(&path),
                counted_repositories(configuration.repositories.len()),
                counted(configuration.shops.len() as u64, "shop"),
            ));
            Ok(Done::well(json!({
                "file": shown(&path),
                "repositories": configuration.repositories.keys().collect::<Vec<_>>(),
                "shops": configuration.shops.keys().collect::<Vec<_>>(),
                "findings": 0,
                "warnings": count,
            })))
        }
    }
}

fn counted_repositories(number: usize) -> String {
    match number {
        1 => "1 repository".to_owned(),
        _ => format!("{number} repositories"),
    }
}

/// All that is wrong, in the order of the file.
fn refused(session: &Session, path: &str, findings: &[Finding]) -> Done {
    session.output.finish();
    for finding in findings {
        session.output.object(
            "finding",
            json!({"file": path, "line": finding.line, "finding": finding.text}),
        );
        session.output.line(format!(
            "{path}:{}: {}",
            finding.line,
            OneLine(&finding.text)
        ));
    }
    let count = findings.len();
    let what = match count {
        1 => "1 thing is wrong".to_owned(),
        file::MAX_FINDINGS => format!("at least {count} things are wrong"),
        _ => format!("{count} things are wrong"),
    };
    let error = Error::Usage {
        finding: format!("{what} in {path}"),
        next: "mend the lines named above; docs/configuration.md has every key".to_owned(),
    };
    session.fail(error.into());
    Done {
        code: ExitCode::Usage,
        fields: json!({"file": path, "findings": count}),
    }
}
