//! `backup` of shops: hooks before, one snapshot, hooks after.

use serde_json::{Value, json};

use super::super::Done;
use super::super::args;
use super::super::backup::{code, options, outcome_fields, tell};
use super::super::hooks::Hooks;
use super::super::server::server;
use super::super::session::Session;
use super::{Open, fail, named, one_by_one};
use crate::backup::{self, Outcome, ServerSource};
use crate::capture::require_databases;
use crate::config::excludes::excludes;
use crate::config::file::{self, Configuration, Shop};
use crate::config::{RepositoryChoice, absolute, environment};
use crate::error::{ExitCode, Result};
use crate::hook::When;
use crate::units::{Shown, shown};

/// Backs up all of them. Each is tried, unless a signal asks us to stop.
pub fn back_up(session: &Session, names: &[String], args: &args::Backup) -> Result<Done> {
    let (configuration, names) = named(session, names)?;
    let mut open = Open::default();
    let several = names.len() > 1;
    Ok(one_by_one(session, "saved", &names, |name| {
        let run = Run {
            session,
            configuration: &configuration,
            name,
            shop: &configuration.shops[name],
        };
        if several {
            session.output.good_news(format!("shop {}", run.title()));
        }
        run.back_up(&mut open, args)
    }))
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
                (code(&outcome), outcome_fields(&repository, &outcome), id)
            }
            Err(error) => {
                let code = fail(session, named.as_ref(), self.name, error);
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
        let said = args.left_out.said();
        let excludes = excludes(&said, Some(self.shop), &environment)?;
        let mut options = options(session, choice, paths?, excludes, args)?;
        options.tags.push(file::tag(self.name));
        options.servers = self.servers()?;
        // What is copied to one of them is no part of a shop.
        for entry in self.configuration.repositories.values() {
            let real = std::fs::canonicalize(&entry.path);
            options
                .excluded
                .extend(real.into_iter().chain([entry.path.clone()]));
        }
        let databases: Vec<_> = self
            .shop
            .databases
            .iter()
            .map(|one| one.path.clone())
            .collect();
        let mut ready = || {
            hooks.before(When::BeforeBackup, None)?;
            require_databases(&databases)
        };
        backup::backup_when(&mut ready, repository, &options, session.output.as_ref())
    }

    /// The databases of servers, each with the password of its role.
    fn servers(&self) -> Result<Vec<ServerSource>> {
        let servers = self.shop.servers.iter();
        servers
            .map(|entry| {
                Ok(ServerSource {
                    shop: self.name.to_owned(),
                    name: entry.name.clone(),
                    server: server(self.session, entry)?,
                    database: entry.database.clone(),
                })
            })
            .collect()
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
