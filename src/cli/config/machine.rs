//! What the configuration names and this machine does not have now. Only warnings: a disk may be away, a
//! path may come back, and the backup itself says what it cannot do.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::file::{Configuration, Password, Shop};
use crate::monitor::Problem;
use crate::source::sqlite;
use crate::units::shown;

/// Everything that is missing, in the order of the names.
pub fn look(configuration: &Configuration) -> Vec<Problem> {
    let mut found = Vec::new();
    for (name, entry) in &configuration.repositories {
        let item = format!("[repository.{name}]");
        if !entry.path.join("config").is_file() {
            let place = shown(&entry.path);
            found.push(problem(&item, format!("no repository can be seen at {place}: mount its disk; only if it is to be a new one, `tillsafe -r {name} init`")));
        }
        match &entry.password {
            Password::File(file) => found.extend(password_file(&item, file)),
            Password::Command(words) => found.extend(program(&item, &words[0])),
            Password::Credential(_) => {}
        }
    }
    found.extend(shops(configuration));
    found
}

/// The same of its shops alone.
pub fn shops(configuration: &Configuration) -> Vec<Problem> {
    let mut found = Vec::new();
    for (name, shop) in &configuration.shops {
        let item = format!("[shop.{name}]");
        found.extend(sources(&item, shop));
        let programs = shop
            .hooks
            .iter()
            .filter_map(|hook| program(&item, &hook.run[0]));
        found.extend(programs);
    }
    found
}

fn problem(item: &str, finding: String) -> Problem {
    Problem {
        item: item.to_owned(),
        finding,
        incomplete: false,
    }
}

/// What is wrong with a password file.
pub fn password_file(item: &str, file: &Path) -> Option<Problem> {
    let finding = match std::fs::metadata(file) {
        Err(cause) => format!(
            "the password file {} cannot be read: {cause} (for a new repository `init` makes it)",
            shown(file)
        ),
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => format!(
            "others on this machine may read the password in {0}: chmod 600 {0}",
            shown(file)
        ),
        Ok(_) => return None,
    };
    Some(problem(item, finding))
}

/// A program that is named by its path. Where others are is the business of `PATH`.
fn program(item: &str, program: &str) -> Option<Problem> {
    let path = Path::new(program);
    let is_there = || {
        let metadata = std::fs::metadata(path);
        metadata
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if !path.is_absolute() || is_there() {
        return None;
    }
    Some(problem(item, format!("{} is no program here", shown(path))))
}

fn sources(item: &str, shop: &Shop) -> Vec<Problem> {
    let mut found = Vec::new();
    for path in shop.paths() {
        if let Err(cause) = std::fs::metadata(&path) {
            let finding = format!(
                "{} cannot be read: {cause}; a backup would end with 14",
                shown(&path)
            );
            found.push(problem(item, finding));
        }
    }
    for database in &shop.databases {
        if database.path.is_file() && !sqlite::is_database(&database.path) {
            let finding = format!("{} is no SQLite database now", shown(&database.path));
            found.push(problem(item, finding));
        }
    }
    for server in &shop.servers {
        if let Err(cause) = std::fs::metadata(&server.socket) {
            let finding = format!(
                "the socket {} of the database {} is not there: {cause}; a backup would end with 14",
                shown(&server.socket),
                server.name
            );
            found.push(problem(item, finding));
        }
        if let Some(file) = &server.password_file {
            found.extend(password_file(item, file));
        }
    }
    found
}
