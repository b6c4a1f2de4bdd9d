//! Several shops, one after the other: each has its own repository, rules, hooks and exit code.

mod backup;
mod forget;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Done;
use super::session::Session;
use crate::config::RepositoryChoice;
use crate::config::file::{self, Configuration};
use crate::error::{Error, ExitCode, Result};
use crate::monitor::Monitor;
use crate::repository::Repository;
use crate::units::{Shown, counted, quoted, shown};

pub use backup::back_up;
pub use forget::forget;

/// The shops that are named, or all of them.
///
/// # Errors
/// [`Error::Usage`] if there is no configuration, or it does not know one of them.
pub fn named(session: &Session, names: &[String]) -> Result<(Arc<Configuration>, Vec<String>)> {
    let Some(configuration) = session.configuration()? else {
        return Err(none(names));
    };
    let known: Vec<&str> = configuration.shops.keys().map(String::as_str).collect();
    if known.is_empty() {
        return Err(Error::Usage {
            finding: format!("{} has no shop", shown(&configuration.file)),
            next: "add one, as in docs/configuration.md, or name paths: tillsafe backup /srv/shop"
                .to_owned(),
        });
    }
    for name in names {
        if !configuration.shops.contains_key(name) {
            let meant = file::nearest(name, &known);
            let meant = meant.map_or(String::new(), |known| format!("did you mean {known}? "));
            return Err(Error::Usage {
                finding: format!("{} has no shop {:?}", shown(&configuration.file), name),
                next: format!(
                    "{meant}it has: {}; for a file or folder of that name type {}",
                    file::listed(&known),
                    quoted(format!("./{name}"))
                ),
            });
        }
    }
    let mut wanted: Vec<String> = Vec::new();
    let all = known.iter().map(|name| (*name).to_owned());
    for name in if names.is_empty() {
        all.collect()
    } else {
        names.to_vec()
    } {
        if !wanted.contains(&name) {
            wanted.push(name);
        }
    }
    Ok((configuration, wanted))
}

/// Without a configuration: the two lines to type.
fn none(names: &[String]) -> Error {
    let finding = match names.first() {
        None => "neither a shop nor a path is named, and there is no configuration".to_owned(),
        Some(name) => format!(
            "`{}` is the name of a shop, and there is no configuration that knows shops",
            Shown(name.as_bytes())
        ),
    };
    let here = names.first().map_or(String::new(), |name| {
        format!(
            " (for the file or folder of that name type {})",
            quoted(format!("./{name}"))
        )
    });
    Error::Usage {
        finding,
        next: format!(
            "name repository, password and paths{here}:\n    tillsafe -r /media/backup/shop -p /root/shop.pass init\n    tillsafe -r /media/backup/shop -p /root/shop.pass backup /srv/shop"
        ),
    }
}

/// Repositories that are open already, by their places.
#[derive(Default)]
struct Open(BTreeMap<PathBuf, Repository>);

impl Open {
    fn get(&mut self, session: &Session, choice: &RepositoryChoice) -> Result<&Repository> {
        if !self.0.contains_key(&choice.path) {
            let repository = session.open_chosen(choice)?;
            self.0.insert(choice.path.clone(), repository);
        }
        Ok(&self.0[&choice.path])
    }
}

/// Has `act` do its work on each shop, unless a signal asks us to stop; `well` is what they are if all is well.
fn one_by_one(
    session: &Session,
    well: &str,
    names: &[String],
    mut act: impl FnMut(&str) -> (ExitCode, Value),
) -> Done {
    let (mut codes, mut fields) = (Vec::new(), Vec::new());
    for name in names {
        let (code, mut object) = act(name);
        object["shop"] = name.as_str().into();
        object["exit_code"] = code.number().into();
        session.output.object("shop", object.clone());
        codes.push(code);
        fields.push(object);
        if session.output.signal().is_some() {
            break;
        }
    }
    if names.len() > 1 {
        tell_all(session, well, names, &codes);
    }
    Done {
        code: ExitCode::first_of(&codes),
        fields: summary(fields),
    }
}

/// Tells a failure of one shop; returns its exit code.
fn fail(
    session: &Session,
    choice: Option<&RepositoryChoice>,
    name: &str,
    error: Error,
) -> ExitCode {
    let error = anyhow::Error::from(error).context(format!("shop {name}"));
    session.fail_at(choice, error)
}

/// The last line of a run over several shops; `well` is what they are if all is well.
fn tell_all(session: &Session, well: &str, names: &[String], codes: &[ExitCode]) {
    let count = codes.iter().filter(|code| **code == ExitCode::Done).count();
    if count == names.len() {
        let shops = counted(count as u64, "shop");
        session.output.good_news(format!("all {shops} are {well}"));
        return;
    }
    let tried = names.iter().zip(codes);
    let not_well: Vec<String> = tried
        .filter(|(_, code)| **code != ExitCode::Done)
        .map(|(name, code)| format!("{name} (exit code {})", code.number()))
        .chain(
            names[codes.len()..]
                .iter()
                .map(|name| format!("{name} (not tried)")),
        )
        .collect();
    session.output.line(format!(
        "{count} of {} {well}; look at: {}",
        counted(names.len() as u64, "shop"),
        not_well.join(", ")
    ));
}

/// Fields of the summary: every shop with its own.
fn summary(shops: Vec<Value>) -> Value {
    let mut summary = json!({});
    // One repository for all of them is that of the run.
    let mut repositories = shops.iter().map(|shop| &shop["repository"]);
    let first = repositories.next();
    if let Some(first) = first.filter(|first| repositories.all(|other| other == *first)) {
        summary["repository"] = first.clone();
    }
    summary["shops"] = shops.into();
    summary
}
