//! `doctor`: this machine, the shops and the repositories held against what they should be.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::Done;
use super::config::machine;
use super::cron;
use super::failure::Failure;
use super::session::Session;
use crate::config::file::{self, Configuration};
use crate::config::password::PasswordSource;
use crate::config::{self, RepositoryChoice};
use crate::doctor::{self, Finding, History, Level, Machine};
use crate::error::{Advice, Error, ExitCode, Result};
use crate::repository::lock::host_name;
use crate::retention::Group;
use crate::units::{OneLine, counted, quoted, shown};

pub fn run(session: &Session) -> Result<Done> {
    let mut findings = Vec::new();
    let configuration = configuration(session, &mut findings);
    let mut covered: Vec<PathBuf> = Vec::new();
    let mut sockets: Vec<PathBuf> = Vec::new();
    if let Some(configuration) = &configuration {
        let problems = machine::shops(configuration).into_iter();
        findings.extend(problems.map(|one| {
            Finding::error(
                one.item,
                one.finding,
                "mend it, then `tillsafe config check`",
            )
        }));
        covered.extend(configuration.shops.values().flat_map(file::Shop::paths));
        let servers = configuration.shops.values().flat_map(|shop| &shop.servers);
        sockets.extend(servers.map(|entry| entry.socket.clone()));
    }
    let choices = choices(session, configuration.as_deref(), &mut findings);
    // Commands are written so that they can be typed, each for the repository that it is about.
    let mut findings = typed(session, None, findings);
    let mut found = Vec::new();
    for choice in &choices {
        let series = series(configuration.as_deref(), choice);
        let mut here = Vec::new();
        let history = repository(session, choice, &series, &covered, &mut here)?;
        findings.extend(typed(session, Some(choice), here));
        if let Some(history) = history {
            if configuration.is_none() {
                covered.extend(history.paths);
            }
            found.extend(history.series);
        }
    }
    let timer = match &configuration {
        Some(configuration) => lines_of(session, configuration)?,
        None => lines_without(session, &choices, &found)?,
    };
    let subject = Machine {
        root: Path::new("/"),
        covered: &covered,
        captured_sockets: &sockets,
        scratch: &Session::scratch_folder(),
        cron_line: &timer,
    };
    let clock = session.services.clock.as_ref();
    let machine = doctor::machine(&subject, clock, session.output.as_ref())?;
    findings.extend(typed(session, None, machine));
    Ok(tell(session, &findings, &choices))
}

fn typed(
    session: &Session,
    choice: Option<&RepositoryChoice>,
    findings: Vec<Finding>,
) -> Vec<Finding> {
    let findings = findings.into_iter();
    findings
        .map(|finding| Finding {
            cure: finding.cure.map(|cure| session.typed_for(choice, &cure)),
            ..finding
        })
        .collect()
}

/// The lines for cron, from the configuration.
fn lines_of(session: &Session, configuration: &Configuration) -> Result<String> {
    let shops = &configuration.shops;
    let several = configuration.repositories.len() > 1;
    let flags = |name: &String| {
        if several {
            format!("-r {name}")
        } else {
            String::new()
        }
    };
    let lines = cron::Plan {
        flags: session.lasting_flags(None)?.unwrap_or_default(),
        backups: vec![String::new()],
        series: shops
            .keys()
            .map(|name| Group::Shop(name.clone()).flags())
            .collect(),
        keep: None,
        forgets: shops.values().any(|shop| shop.keep.is_some()),
        repositories: configuration.repositories.keys().map(flags).collect(),
    };
    Ok(lines.installing())
}

/// The same for whoever names repository and folders by hand: the folders are those that were backed up here.
fn lines_without(
    session: &Session,
    choices: &[RepositoryChoice],
    series: &[Group],
) -> Result<String> {
    let here = host_name();
    let backups = series.iter().filter_map(|group| match group {
        Group::Place { host, paths } if *host == here => {
            Some(cron::paths(paths.iter().map(Path::new)))
        }
        _ => None,
    });
    let backups: Vec<String> = backups.collect();
    if backups
        .iter()
        .any(|backup| backup.contains(char::REPLACEMENT_CHARACTER))
    {
        let words = "what was backed up here has a path that is not UTF-8, and a snapshot does not keep its bytes: write the crontab line by hand (`backup` with that path; `printf` writes odd bytes), or give the folder another name";
        return Ok(words.to_owned());
    }
    let (Some(choice), false) = (choices.first(), backups.is_empty()) else {
        let words = "`tillsafe setup` proposes a configuration and prints the lines; without one, back up by hand first: then `tillsafe doctor` has them here";
        return Ok(words.to_owned());
    };
    // Where others back up to as well, only what is of this machine is judged by these rules.
    let (series, keep) = match series {
        [_] => (vec![String::new()], cron::KEEP.to_owned()),
        several => (
            several.iter().map(Group::flags).collect(),
            format!("--host {} {}", quoted(&here), cron::KEEP),
        ),
    };
    let Some(flags) = session.lasting_flags(Some(choice))? else {
        return Ok(format!(
            "cron has neither this environment nor anybody to type the password: put the password into a file that only you can read (mode 600), then `tillsafe -r {} -p THAT_FILE doctor` prints the lines",
            quoted(&choice.path)
        ));
    };
    let lines = cron::Plan {
        flags,
        backups,
        series,
        keep: Some(keep),
        forgets: true,
        repositories: vec![String::new()],
    };
    Ok(lines.installing())
}

fn configuration(session: &Session, findings: &mut Vec<Finding>) -> Option<Arc<Configuration>> {
    match session.configuration() {
        Ok(Some(configuration)) => {
            let file = shown(&configuration.file);
            let shops = counted(configuration.shops.len() as u64, "shop");
            findings.push(Finding::good("configuration", format!("{file}: {shops}")));
            Some(configuration)
        }
        Ok(None) => {
            findings.push(Finding::warning(
                "configuration",
                "there is none: what is to be backed up is known to whoever types it",
                "`tillsafe setup`",
            ));
            None
        }
        Err(cause) => {
            findings.push(of_error("configuration", &cause));
            None
        }
    }
}

fn of_error(item: &str, cause: &Error) -> Finding {
    Finding::error(item, cause.to_string(), cause.advice().next)
}

/// The repository that is named on the command line, else all of the configuration, else the one of the
/// environment.
fn choices(
    session: &Session,
    configuration: Option<&Configuration>,
    findings: &mut Vec<Finding>,
) -> Vec<RepositoryChoice> {
    let mut chosen = Vec::new();
    let found = match configuration {
        Some(configuration) if !session.is_overridden() => {
            let names = configuration.repositories.keys();
            names
                .map(|name| config::of_entry(configuration, name, &config::environment))
                .collect()
        }
        _ => vec![session.choice()],
    };
    for choice in found {
        match choice {
            Ok(choice) => chosen.push(choice),
            Err(cause) => findings.push(of_error("repository", &cause)),
        }
    }
    chosen
}

/// The shops that are backed up to a repository.
fn series(configuration: Option<&Configuration>, choice: &RepositoryChoice) -> Vec<Group> {
    let shops = configuration.into_iter().flat_map(|one| &one.shops);
    shops
        .filter(|(_, shop)| choice.name.as_ref() == Some(&shop.repository))
        .map(|(name, _)| Group::Shop(name.clone()))
        .collect()
}

/// Looks at one repository, its password and its storage; returns what is in it.
fn repository(
    session: &Session,
    choice: &RepositoryChoice,
    series: &[Group],
    covered: &[PathBuf],
    findings: &mut Vec<Finding>,
) -> Result<Option<History>> {
    let item = format!("repository {}", shown(&choice.path));
    if let PasswordSource::File(file) = &choice.password {
        let file = config::absolute(file)?;
        let problem = machine::password_file(&item, &file);
        findings.push(problem.map_or_else(
            || {
                Finding::good(
                    &item,
                    format!("the password file {} is its owner's alone", shown(&file)),
                )
            },
            |problem| {
                let cure = "mend it, and keep a copy of the password away from this machine";
                Finding::error(&item, problem.finding, cure)
            },
        ));
    }
    let repository = match session.open_chosen(choice) {
        Ok(repository) => repository,
        Err(cause @ Error::Interrupted { .. }) => return Err(cause),
        Err(cause) => {
            findings.push(of_error(&item, &cause));
            return Ok(None);
        }
    };
    let (disk, rng) = (session.disk.as_ref(), session.services.rng.as_ref());
    findings.extend(doctor::place(&choice.path, covered, disk, rng));
    match doctor::history(&repository, series, session.output.as_ref()) {
        Ok(mut history) => {
            findings.append(&mut history.findings);
            Ok(Some(history))
        }
        Err(cause @ Error::Interrupted { .. }) => Err(cause),
        Err(cause) => {
            findings.push(of_error(&item, &cause));
            Ok(None)
        }
    }
}

fn tell(session: &Session, findings: &[Finding], choices: &[RepositoryChoice]) -> Done {
    session.output.finish();
    let count = |level: Level| findings.iter().filter(|one| one.level == level).count();
    let (good, warnings, errors) = (
        count(Level::Good),
        count(Level::Warning),
        count(Level::Error),
    );
    for finding in findings {
        session.output.object("diagnosis", json!(finding));
        let level = match finding.level {
            Level::Good => "good   ",
            Level::Warning => "WARNING",
            Level::Error => "ERROR  ",
        };
        let cure = finding.cure.as_ref();
        let cure = cure.map_or(String::new(), |cure| {
            format!("\n         cure: {}", OneLine(cure))
        });
        let (item, found) = (OneLine(&finding.item), OneLine(&finding.finding));
        let line = format!("{level}  {item}: {found}{cure}");
        if finding.level == Level::Error {
            session.output.line(line);
        } else {
            session.output.good_news(line);
        }
    }
    let mut fields = json!({"good": good, "warnings": warnings, "errors": errors});
    if let [only] = choices {
        fields["repository"] = shown(&only.path).into();
    }
    let said = format!(
        "{}, {}, {good} good",
        counted(errors as u64, "error"),
        counted(warnings as u64, "warning")
    );
    if errors == 0 {
        session.output.good_news(said);
        return Done::well(fields);
    }
    session.output.failure(&Failure {
        text: said,
        advice: Advice {
            safe: "nothing was changed".to_owned(),
            next: session.typed("cure the errors named above, then run `tillsafe doctor` again"),
        },
        code: ExitCode::Failed,
    });
    Done {
        code: ExitCode::Failed,
        fields,
    }
}
