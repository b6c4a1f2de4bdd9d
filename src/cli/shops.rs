//! Several shops, one after the other: each has its own repository, hooks and exit code.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Done;
use super::args;
use super::backup::{options, outcome_fields, tell};
use super::hooks::Hooks;
use super::session::Session;
use crate::backup::{self, Outcome};
use crate::config::file::{self, Configuration, Shop};
use crate::config::{RepositoryChoice, absolute};
use crate::error::{Error, ExitCode, Result};
use crate::hook::When;
use crate::monitor::Monitor;
use crate::repository::Repository;
use crate::units::{Shown, counted, shown};

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
                    "{meant}it has: {}; for a file or folder of that name type ./{}",
                    known.join(", "),
                    Shown(name.as_bytes())
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
            " (for the file or folder of that name type ./{})",
            Shown(name.as_bytes())
        )
    });
    Error::Usage {
        finding,
        next: format!(
            "name repository, password and paths{here}:\n    tillsafe -r /media/backup/shop -p /root/shop.pass init\n    tillsafe -r /media/backup/shop -p /root/shop.pass backup /srv/shop"
        ),
    }
}

/// Backs up all of them. Each is tried, unless a signal asks us to stop.
pub fn back_up(session: &Session, names: &[String], args: &args::Backup) -> Result<Done> {
    let (configuration, names) = named(session, names)?;
    let mut open = Open::default();
    let (mut codes, mut fields) = (Vec::new(), Vec::new());
    for name in &names {
        let run = Run {
            session,
            configuration: &configuration,
            name,
            shop: &configuration.shops[name],
        };
        if names.len() > 1 {
            session.output.good_news(format!("shop {}", run.title()));
        }
        let (code, mut object) = run.back_up(&mut open, args);
        object["shop"] = name.as_str().into();
        object["exit_code"] = code.number().into();
        session.output.object("shop", object.clone());
        codes.push(code);
        fields.push(object);
        if session.output.signal().is_some() {
            break;
        }
    }
    let code = ExitCode::first_of(&codes);
    if names.len() > 1 {
        tell_all(session, &names, &codes);
    }
    Ok(Done {
        code,
        fields: summary(fields),
    })
}

/// Repositories that are open already, by their names.
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

/// One shop's turn.
struct Run<'a> {
    session: &'a Session,
    configuration: &'a Configuration,
    name: &'a str,
    shop: &'a Shop,
}

impl Run<'_> {
    fn title(&self) -> String {
        match &self.shop.title {
            Some(title) => format!("{} ({})", self.name, Shown(title.as_bytes())),
            None => self.name.to_owned(),
        }
    }

    fn back_up(&self, open: &mut Open, args: &args::Backup) -> (ExitCode, Value) {
        let session = self.session;
        let choice = session.choice_of(self.name);
        let repository = choice
            .as_ref()
            .map_or(String::new(), |choice| shown(&choice.path));
        let hooks = Hooks {
            session,
            shop: self.name,
            list: &self.shop.hooks,
            repository: repository.clone(),
        };
        let (named, outcome) = match choice {
            Ok(choice) => {
                let outcome = self.snapshot(&hooks, open, &choice, args);
                (Some(choice), outcome)
            }
            Err(error) => (None, Err(error)),
        };
        session.output.finish();
        let (code, fields, id) = match outcome {
            Ok(outcome) => {
                tell(
                    session,
                    &(repository.clone() + &self.overridden(named.as_ref())),
                    &outcome,
                );
                let id = Some(outcome.snapshot.id);
                (
                    super::backup::code(&outcome),
                    outcome_fields(&repository, &outcome),
                    id,
                )
            }
            Err(error) => {
                let error = anyhow::Error::from(error).context(format!("shop {}", self.name));
                let code = session.fail_at(named.as_ref(), error);
                (code, json!({"repository": repository}), None)
            }
        };
        (hooks.after(When::AfterBackup, code, id), fields)
    }

    fn snapshot(
        &self,
        hooks: &Hooks<'_>,
        open: &mut Open,
        choice: &RepositoryChoice,
        args: &args::Backup,
    ) -> Result<Outcome> {
        let session = self.session;
        let repository = open.get(session, choice)?;
        let paths = self.shop.paths();
        let paths: Result<Vec<_>> = paths.iter().map(|path| absolute(path)).collect();
        let mut options = options(session, choice, paths?, args)?;
        options.tags.push(file::tag(self.name));
        // What is copied to one of them is no part of a shop.
        for entry in self.configuration.repositories.values() {
            let real = std::fs::canonicalize(&entry.path);
            options
                .excluded
                .extend(real.into_iter().chain([entry.path.clone()]));
        }
        let mut ready = || hooks.before(When::BeforeBackup, None);
        backup::backup_when(&mut ready, repository, &options, session.output.as_ref())
    }

    /// What `-r` has overridden, for the summary.
    fn overridden(&self, chosen: Option<&RepositoryChoice>) -> String {
        let own = &self.configuration.repositories[&self.shop.repository].path;
        if self.session.is_overridden() && chosen.is_some_and(|chosen| chosen.path != *own) {
            format!(" (-r, instead of its own: {})", self.shop.repository)
        } else {
            String::new()
        }
    }
}

fn tell_all(session: &Session, names: &[String], codes: &[ExitCode]) {
    let well = codes.iter().filter(|code| **code == ExitCode::Done).count();
    if well == names.len() {
        session
            .output
            .good_news(format!("all {} are saved", counted(well as u64, "shop")));
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
        "{well} of {} saved whole; look at: {}",
        counted(names.len() as u64, "shop"),
        not_well.join(", ")
    ));
}

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
