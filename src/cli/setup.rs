//! `setup`: look at this machine, propose a configuration, write it, create the repository.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::args;
use super::config::show;
use super::session::Session;
use super::{Done, cron, init};
use crate::config::file::{self, Configuration};
use crate::config::password::PasswordSource;
use crate::config::{self, RepositoryChoice};
use crate::error::{Error, Result};
use crate::host::{self, Found, Shop};
use crate::look::{NewFile, Written};
use crate::monitor::{Monitor, Problem};
use crate::repository::{self, Found as Place};
use crate::retention::Group;
use crate::source::files::exclude::literal;
use crate::units::{ByteSize, counted, quoted, shown};

/// The name of the repository that is proposed.
const REPOSITORY: &str = "backup";

pub fn run(session: &Session, args: &args::Setup) -> Result<Done> {
    let paths = args.paths.iter().map(|path| config::absolute(path));
    let named = paths.collect::<Result<Vec<PathBuf>>>()?;
    for path in &named {
        // Named by its owner: a folder that cannot be read is no empty one.
        std::fs::read_dir(path).map_err(Error::file("looking into", path))?;
    }
    let located = file::locate(session.named_configuration(), &config::environment)?;
    let is_there = located.is_some_and(|file| file.symlink_metadata().is_ok());
    let existing = if is_there {
        session.configuration()?
    } else {
        None
    };
    let clock = session.services.clock.as_ref();
    let found = host::find(&named, Path::new("/"), clock, session.output.as_ref())?;
    session.output.finish();
    tell_of_the_look(session, &found);
    let shops = new_shops(session, found.shops, existing.as_deref());
    for (name, shop) in &shops {
        session.output.object("shop", object(name, shop));
        session.output.good_news(format!("{name}: {}", words(shop)));
    }
    if let Some(configuration) = &existing {
        return Ok(to_add(session, configuration, &shops));
    }
    if shops.is_empty() {
        return Err(Error::Usage {
            finding: "no folder with a SQLite database or uploads was found".to_owned(),
            next: "name the shop's folder: tillsafe -r /media/backup/shop setup /srv/shop"
                .to_owned(),
        });
    }
    new_configuration(session, args, &shops)
}

/// What could not be seen.
fn tell_of_the_look(session: &Session, found: &Found) {
    let problem = |item: String, finding: &str| {
        session.output.problem(Problem {
            item,
            finding: finding.to_owned(),
            incomplete: false,
        });
    };
    if let Some(first) = found.unreadable.first() {
        let folders = counted(found.unreadable.len() as u64, "folder");
        problem(
            shown(first),
            &format!("cannot be looked into ({folders} in all); run setup as root to see all"),
        );
    }
    if found.cut_short {
        problem(
            "/".to_owned(),
            "there is too much to see all of it within a minute; name folders: tillsafe setup /srv/shop",
        );
    }
}

/// The shops that no configuration has, each with a name of its own.
fn new_shops(
    session: &Session,
    found: Vec<Shop>,
    existing: Option<&Configuration>,
) -> Vec<(String, Shop)> {
    let shops = existing.into_iter().flat_map(|one| one.shops.iter());
    let mut taken: BTreeSet<String> = shops.clone().map(|(name, _)| name.clone()).collect();
    let covered: Vec<PathBuf> = shops.flat_map(|(_, shop)| shop.paths()).collect();
    let is_covered = |path: &Path| covered.iter().any(|outer| path.starts_with(outer));
    let mut new = Vec::new();
    for shop in found {
        let mut parts = shop
            .databases
            .iter()
            .map(|one| &one.path)
            .chain(&shop.uploads);
        if is_covered(&shop.folder) || parts.clone().all(|path| is_covered(path)) {
            continue;
        }
        // A configuration is text.
        if shop.folder.to_str().is_none() || parts.any(|path| path.to_str().is_none()) {
            session.output.problem(Problem {
                item: shown(&shop.folder),
                finding: "a name in it is not UTF-8 and cannot stand in a configuration; back it up by its path".to_owned(),
                incomplete: false,
            });
            continue;
        }
        let name = name_for(&shop.folder, &taken);
        taken.insert(name.clone());
        new.push((name, shop));
    }
    new
}

/// The folder's name as the name of a shop that is not taken.
fn name_for(folder: &Path, taken: &BTreeSet<String>) -> String {
    let word = match folder.file_name().unwrap_or_default().to_string_lossy() {
        // A volume's folder says nothing, the one above does.
        data if data == "_data" => folder
            .parent()
            .and_then(Path::file_name)
            .unwrap_or_default()
            .to_string_lossy(),
        word => word,
    };
    let letters = word.to_lowercase();
    let plain = letters.chars().map(|letter| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '-'
        }
    });
    let plain: String = plain.collect();
    let plain = plain.trim_matches('-');
    let base = if file::is_name(plain) {
        plain.to_owned()
    } else {
        "shop".to_owned()
    };
    let numbered = (2..).map(|number| format!("{base}-{number}"));
    let mut names = std::iter::once(base.clone()).chain(numbered);
    names.find(|name| !taken.contains(name)).unwrap_or(base)
}

fn words(shop: &Shop) -> String {
    let mut parts: Vec<String> = Vec::new();
    for database in &shop.databases {
        parts.push(format!(
            "database {} ({})",
            shown(&database.path),
            ByteSize(database.size_bytes)
        ));
    }
    parts.extend(
        shop.uploads
            .iter()
            .map(|folder| format!("uploads in {}", shown(folder))),
    );
    parts.extend(
        shop.caches
            .iter()
            .map(|folder| format!("left out: {}", shown(folder))),
    );
    parts.push(format!(
        "{} in {}",
        counted(shop.files, "file"),
        shown(&shop.folder)
    ));
    format!("{}, {}", parts.join(", "), ByteSize(shop.bytes))
}

fn object(name: &str, shop: &Shop) -> Value {
    let databases = shop.databases.iter();
    let databases = databases.map(|one| json!({"path": one.path, "size_bytes": one.size_bytes}));
    json!({
        "name": name,
        "folder": shop.folder,
        "databases": databases.collect::<Vec<_>>(),
        "uploads": shop.uploads,
        "caches": shop.caches,
        "files": shop.files,
        "total_bytes": shop.bytes,
    })
}

/// The sections of the configuration for these shops. All of an application's folder is in it, so that a file
/// that nobody thought of is too; a database that is named must be in each snapshot.
fn sections(shops: &[(String, Shop)], repository: &str) -> Value {
    let section = |(name, shop): &(String, Shop)| {
        let mut names = BTreeSet::new();
        let databases = shop.databases.iter().map(|database| {
            let own = name_for(&database.path.with_extension(""), &names);
            names.insert(own.clone());
            json!({"name": own, "engine": "sqlite", "path": database.path})
        });
        let databases: Vec<Value> = databases.collect();
        let mut files = json!({"name": name_for(Path::new("files"), &names), "path": shop.folder});
        let caches = caches(shop);
        if !caches.is_empty() {
            files["exclude"] = caches.into();
        }
        let value = json!({
            "repository": repository,
            "database": databases,
            "files": [files],
            "keep": {"last": 3, "daily": 14, "monthly": 12},
        });
        (name.clone(), value)
    };
    shops
        .iter()
        .map(section)
        .collect::<Map<String, Value>>()
        .into()
}

/// Patterns for the folders of a shop that can be made again: each by its path, for one of that name which
/// comes elsewhere may hold something else; those that are everywhere by their name.
fn caches(shop: &Shop) -> Vec<String> {
    /// Most of one name that are written out.
    const MOST: usize = 3;
    let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for path in &shop.caches {
        if let (Some(path), Some(name)) = (path.to_str(), path.file_name()) {
            by_name
                .entry(name.to_str().unwrap_or_default())
                .or_default()
                .push(path);
        }
    }
    let patterns = by_name.into_iter().flat_map(|(name, paths)| {
        if paths.len() > MOST {
            vec![name]
        } else {
            paths
        }
    });
    patterns.map(literal).collect()
}

/// A configuration is its owner's: what it lacks is printed.
fn to_add(session: &Session, configuration: &Configuration, shops: &[(String, Shop)]) -> Done {
    let file = shown(&configuration.file);
    let fields = json!({"file": file, "shops": shops.len(), "written": false});
    if shops.is_empty() {
        session.output.good_news(format!(
            "all that was found is in {file}; nothing was changed"
        ));
        return Done::well(fields);
    }
    let repository = configuration
        .repositories
        .keys()
        .next()
        .map_or(REPOSITORY, String::as_str);
    let lines = show::text(&json!({"shop": sections(shops, repository)}));
    session.output.line(lines.trim());
    session.output.good_news(format!(
        "{file} is there and was not changed; the lines above are what it lacks. Then: tillsafe config check"
    ));
    Done::well(fields)
}

fn new_configuration(
    session: &Session,
    args: &args::Setup,
    shops: &[(String, Shop)],
) -> Result<Done> {
    let place = file::place_of_new(session.named_configuration(), &config::environment)?;
    let choice = choice(session, &place)?;
    session.keep(&choice);
    let PasswordSource::File(password_file) = &choice.password else {
        return Err(Error::Usage {
            finding: "a configuration names the file that holds the password, and another source is given".to_owned(),
            next: "give -p FILE; one that does not exist is made".to_owned(),
        });
    };
    let password_file = config::absolute(password_file)?;
    let whole = json!({
        "version": 1,
        "repository": {REPOSITORY: {"location": text_of(&choice.path)?, "password_file": text_of(&password_file)?}},
        "shop": sections(shops, REPOSITORY),
    });
    let text = show::text(&whole);
    // Whoever has said yes before wants to see it no more than anything else that goes well.
    let proposal = format!("# {}\n{}", shown(&place), text.trim_end());
    if args.yes && !args.dry_run {
        session.output.good_news(proposal);
    } else {
        session.output.line(proposal);
    }
    let mut fields = json!({
        "file": shown(&place),
        "repository": shown(&choice.path),
        "shops": shops.len(),
        "written": false,
    });
    if args.dry_run {
        session.output.good_news("nothing was written (--dry-run)");
        return Ok(Done::well(fields));
    }
    consent(session, args, &place, &choice)?;
    let created = create_repository(session, &choice)?;
    write(session, &place, &text)?;
    fields["written"] = true.into();
    fields["repository_created"] = created.into();
    tell_next(session, &place, shops)?;
    Ok(Done::well(fields))
}

/// What to type by hand, and what cron is to do.
fn tell_next(session: &Session, place: &Path, shops: &[(String, Shop)]) -> Result<()> {
    let words = session
        .named_configuration()
        .map_or(String::new(), |_| format!(" -c {}", quoted(place)));
    let series: Vec<String> = shops
        .iter()
        .map(|(name, _)| Group::Shop(name.clone()).flags())
        .collect();
    let proofs: Vec<String> = series
        .iter()
        .map(|series| format!("  tillsafe{words} verify {series}\n"))
        .collect();
    let lines = cron::Plan {
        flags: session.lasting_flags(None)?.unwrap_or_default(),
        backups: vec![String::new()],
        series,
        keep: None,
        forgets: true,
        repositories: vec![String::new()],
    };
    session.output.good_news(format!(
        "wrote {}\nnext, in this order:\n  tillsafe{words} backup\n{}  tillsafe{words} doctor\nand by cron, every night a backup, every Sunday a proof:\n  {}",
        shown(place),
        proofs.concat(),
        lines.installing(),
    ));
    Ok(())
}

/// The repository that is named, with a password file beside the configuration if none is.
fn choice(session: &Session, place: &Path) -> Result<RepositoryChoice> {
    let mut choice = match session.choice_without_configuration() {
        Ok(choice) => choice,
        Err(cause) => {
            let question = "where are the backups to be kept (a folder on another disk)? ";
            match session.ask(question)? {
                Some(answer) if !answer.is_empty() => RepositoryChoice {
                    path: config::absolute(Path::new(&answer))?,
                    password: PasswordSource::Terminal {
                        level: "",
                        flag: "",
                    },
                    name: None,
                },
                _ => return Err(no_place(&cause)),
            }
        }
    };
    if let PasswordSource::Terminal { .. } = choice.password {
        choice.password = PasswordSource::File(place.with_file_name("repository.pass"));
    }
    Ok(choice)
}

/// The same error, in the words of who sets up.
fn no_place(cause: &Error) -> Error {
    Error::Usage {
        finding: cause.to_string(),
        next: "name a folder for the backups, on another disk: tillsafe -r /media/backup/shop setup (with -p FILE for a password file of its own)".to_owned(),
    }
}

fn text_of(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::Usage {
        finding: format!(
            "{} is not UTF-8 and cannot stand in a configuration",
            shown(path)
        ),
        next: "name another place".to_owned(),
    })
}

fn consent(
    session: &Session,
    args: &args::Setup,
    place: &Path,
    choice: &RepositoryChoice,
) -> Result<()> {
    if args.yes {
        return Ok(());
    }
    let question = format!(
        "write this to {}, and create the repository at {} if it is not there? Type yes: ",
        shown(place),
        shown(&choice.path)
    );
    match session.ask(&question)?.as_deref() {
        Some("yes") => Ok(()),
        Some(_) => Err(Error::Usage {
            finding: "nothing was written: the answer was not yes".to_owned(),
            next: "run setup again; it looks anew".to_owned(),
        }),
        None => Err(Error::Usage {
            finding: "nothing was written: nobody is there to say yes".to_owned(),
            next: "look at the lines above, then add --yes".to_owned(),
        }),
    }
}

/// Creates the repository if none is there; else opens it, so that the configuration never names a password
/// that does not fit. Returns whether it was created.
fn create_repository(session: &Session, choice: &RepositoryChoice) -> Result<bool> {
    if let PasswordSource::File(file) = &choice.password
        && let Some(folder) = file.parent()
    {
        let made = session.disk.create_all(folder, 0o700);
        made.map_err(Error::file("creating", folder))?;
    }
    let backend = session.backend(&choice.path);
    if repository::what_is_there(backend.as_ref())? == Place::Repository {
        let opened = session.open_chosen(choice)?;
        session.output.good_news(format!(
            "the repository at {} is there, and opens",
            opened.location()
        ));
        return Ok(false);
    }
    init::create(session, choice)?;
    Ok(true)
}

/// Last of all, because it is what makes the rest live.
fn write(session: &Session, place: &Path, text: &str) -> Result<()> {
    if let Some(folder) = place.parent() {
        let made = session.disk.create_all(folder, 0o700);
        made.map_err(Error::file("creating", folder))?;
    }
    let bytes = text.as_bytes();
    NewFile::at(place.to_owned())?.fill(
        session.disk.as_ref(),
        session.services.rng.as_ref(),
        |sink| {
            sink(bytes)?;
            Ok(Written {
                bytes: bytes.len() as u64,
                is_cut: false,
            })
        },
        session.output.as_ref(),
    )?;
    session.output.finish();
    Ok(())
}
