//! `[[shop.NAME.database]]`: a file of SQLite, or a database of a server.

use std::path::{Path, PathBuf};

use super::parse::{Sources, absolute};
use super::section::{Placed, Section, shown};
use super::{DatabaseSource, ServerEntry, is_name};

/// Where Debian's server has its socket.
const SOCKET: &str = "/run/postgresql";

/// A database of either kind.
pub enum Database {
    File(DatabaseSource),
    Server(ServerEntry),
}

pub fn database(mut section: Section<'_>, sources: &mut Sources) -> Option<Database> {
    const LATER: [&str; 2] = ["mariadb", "mysql"];
    let engine = section.text("engine");
    match engine {
        Some(Placed { value, .. }) if value == "postgresql" => {
            return server(section, sources).map(Database::Server);
        }
        Some(Placed { value, .. }) if value == "sqlite" => {}
        None => section.missing("engine", "engine = \"sqlite\""),
        Some(engine) if LATER.contains(&engine.value.as_str()) => section.wrong_at(
            &engine.at,
            &format!(
                "the engine `{}` is not part of this version of tillsafe (known: sqlite, postgresql)",
                engine.value
            ),
        ),
        Some(engine) => {
            section.wrong_at(&engine.at, "unknown engine (known: sqlite, postgresql)");
        }
    }
    let found = sources.take(&mut section);
    section.not_yet(
        &[
            "socket",
            "host",
            "port",
            "user",
            "password_file",
            "database",
            "method",
            "programs",
            "continuous",
        ],
        "a SQLite database is named by its path alone",
    );
    section.finish();
    let (name, path) = found?;
    Some(Database::File(DatabaseSource { name, path }))
}

fn server(mut section: Section<'_>, sources: &mut Sources) -> Option<ServerEntry> {
    let name = section.text("name");
    if name.is_none() {
        section.missing("name", "name = \"shop\"");
    }
    if let Some(name) = &name {
        if !is_name(&name.value) {
            section.wrong_at(
                &name.at,
                "the `name` of a server's database is made of a-z, 0-9, _ and -, for it is a folder in the snapshot",
            );
        }
        sources.take_name(&section, &name.value, &name.at);
    }
    let database = section.text("database");
    match &database {
        None => section.missing("database", "database = \"shop\" (as the server calls it)"),
        Some(database) if database.value.contains('\0') => {
            section.wrong_at(&database.at, "`database` holds a NUL, and no name does");
        }
        Some(_) => {}
    }
    if let Some(method) = section.text("method") {
        match method.value.as_str() {
            "dump" => {}
            "physical" => section.wrong_at(
                &method.at,
                "the method `physical` is not part of this version of tillsafe (known: dump)",
            ),
            other => section.wrong_at(
                &method.at,
                &format!("unknown method `{}` (known: dump)", shown(other)),
            ),
        }
    }
    let socket = path(&mut section, "socket").unwrap_or_else(|| PathBuf::from(SOCKET));
    let port = section.number("port");
    if let Some(wrong) = port
        .as_ref()
        .filter(|port| !(1..=65_535).contains(&port.value))
    {
        section.wrong_at(&wrong.at, "`port` must be a number from 1 to 65535");
    }
    let user = section.text("user").map(|user| user.value);
    let password_file = path(&mut section, "password_file");
    let programs = path(&mut section, "programs");
    section.never(
        &["password"],
        "would be a secret in this file: put it into a file of its own (chmod 600) and name that with password_file",
    );
    section.never(
        &["path"],
        "is of a SQLite database; a server's is named by `socket` and `database`",
    );
    section.not_yet(
        &["host"],
        "a server of this machine is named by the folder of its `socket`",
    );
    section.not_yet(&["continuous"], "each backup holds one moment");
    section.finish();
    Some(ServerEntry {
        name: name?.value,
        socket,
        port: port.and_then(|port| u16::try_from(port.value).ok()),
        user,
        password_file,
        database: database?.value,
        programs,
    })
}

/// The path of a key, if it is there and right.
fn path(section: &mut Section<'_>, key: &'static str) -> Option<PathBuf> {
    let text = section.text(key)?;
    absolute(section, key, &text, Path::new(&text.value))
}
