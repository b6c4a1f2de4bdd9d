//! The configuration file: found, refused if others could have written it, read, and every key judged.
//!
//! TOML. A key is accepted only if it does something in this version; each that the contract names for
//! later is refused by name, and any other with the names that are known (docs/design/configuration.md).

mod database;
mod discover;
mod parse;
mod section;
mod suggest;
mod way;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Variables;
use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::retention::Policy;
use crate::units::shown;
pub use discover::{locate, place_of_new};
pub use section::{Finding, MAX_FINDINGS, listed};
pub use suggest::nearest;

/// Longest file that is read, in bytes: a thousand shops fit.
pub const MAX_BYTES: u64 = 1024 * 1024;
/// How long a hook may run where the file does not say.
pub const HOOK_TIMEOUT: Duration = Duration::from_mins(10);

/// What the file says, each key checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// The file itself.
    pub file: PathBuf,
    /// The repositories by their names.
    pub repositories: BTreeMap<String, RepositoryEntry>,
    /// The shops by their names.
    pub shops: BTreeMap<String, Shop>,
}

/// `[repository.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryEntry {
    /// Absolute path of its folder.
    pub path: PathBuf,
    /// Where its password comes from.
    pub password: Password,
}

/// Where the password of a configured repository comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// `password_file`: an absolute path.
    File(PathBuf),
    /// `password_command`: a program and its arguments, run without a shell.
    Command(Vec<String>),
    /// `password_credential`: the name of a systemd credential.
    Credential(String),
}

/// `[shop.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shop {
    /// What people call it, if not its name.
    pub title: Option<String>,
    /// The name of its repository, which is configured.
    pub repository: String,
    /// Its databases, which are captured before its files.
    pub databases: Vec<DatabaseSource>,
    /// Its databases that a server holds, captured after these.
    pub servers: Vec<ServerEntry>,
    /// Its folders and files.
    pub files: Vec<FilesSource>,
    /// Which of its snapshots `forget` keeps, if it says so.
    pub keep: Option<Policy>,
    /// What is run around a backup or a restore, in this order.
    pub hooks: Vec<Hook>,
}

/// `[[shop.NAME.database]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseSource {
    /// Its name in the shop.
    pub name: String,
    /// Absolute path of the `SQLite` database.
    pub path: PathBuf,
}

/// The same of a database that a PostgreSQL server holds
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerEntry {
    /// Its name in the shop.
    pub name: String,
    /// The folder of the server's socket, or the socket itself.
    pub socket: PathBuf,
    /// The server's port, if it is said.
    pub port: Option<u16>,
    /// The role that reads it, if it is said.
    pub user: Option<String>,
    /// The file with that role's password, if the server wants one.
    pub password_file: Option<PathBuf>,
    /// What the server calls it.
    pub database: String,
    /// The folder of the engine's programs, if it is said.
    pub programs: Option<PathBuf>,
}

/// `[[shop.NAME.files]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesSource {
    /// Its name in the shop.
    pub name: String,
    /// Absolute path of a folder or file.
    pub path: PathBuf,
    /// Patterns of what is left out below it.
    pub exclude: Vec<String>,
}

impl Shop {
    /// Everything that a snapshot of it holds.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        let databases = self.databases.iter().map(|source| source.path.clone());
        let files = self.files.iter().map(|source| source.path.clone());
        databases.chain(files).collect()
    }
}

/// The tag that says which shop a snapshot is of.
#[must_use]
pub fn tag(shop: &str) -> String {
    format!("shop={shop}")
}

/// Whether a word can be the name of a shop or a repository.
#[must_use]
pub fn is_name(word: &str) -> bool {
    let is_plain = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let bytes = word.as_bytes();
    bytes.first().is_some_and(|first| is_plain(*first))
        && bytes
            .iter()
            .all(|letter| is_plain(*letter) || b"_-".contains(letter))
        && !matches!(word, "latest" | "proven")
}

/// Reads the file that `flag` names, else the one of this user or machine; `None` if there is none.
///
/// # Errors
/// [`Error::Usage`] if it cannot be read, others could have written it, or something in it is wrong.
pub fn load(flag: Option<&Path>, variables: Variables<'_>) -> Result<Option<Configuration>> {
    let Some(file) = locate(flag, variables)? else {
        return Ok(None);
    };
    match read(&file)? {
        Ok(configuration) => Ok(Some(configuration)),
        Err(findings) => Err(refused(&file, &findings)),
    }
}

/// Reads one file; what is wrong in it is the inner error, all of it.
///
/// # Errors
/// [`Error::Usage`] if it cannot be read at all, or others could have written it.
pub fn read(file: &Path) -> Result<std::result::Result<Configuration, Vec<Finding>>> {
    let text = discover::read(file)?;
    Ok(parse::parse(file, &text))
}

/// The first finding as an error, with its line.
fn refused(file: &Path, findings: &[Finding]) -> Error {
    let (line, text) = findings
        .first()
        .map_or((1, ""), |first| (first.line, first.text.as_str()));
    let more = match findings.len() {
        0 | 1 => String::new(),
        MAX_FINDINGS => format!("; and at least {} more", MAX_FINDINGS - 1),
        count => format!("; and {} more", count - 1),
    };
    Error::Usage {
        finding: format!("{}:{line}: {text}{more}", shown(file)),
        next: "mend it there; `tillsafe config check` names all that is wrong".to_owned(),
    }
}

/// The line of a place in a text, counted from 1.
fn line_of(text: &[u8], at: usize) -> usize {
    let before = &text[..at.min(text.len())];
    before.split(|byte| *byte == b'\n').count()
}

/// Where a credential of this service lies.
///
/// # Errors
/// [`Error::Usage`] if this is no systemd service.
pub fn credential(name: &str, variables: Variables<'_>) -> Result<PathBuf> {
    let folder: Option<OsString> = variables("CREDENTIALS_DIRECTORY");
    let folder = folder.ok_or_else(|| Error::Usage {
        finding: format!("the credential {name} is given only to a systemd service, and this is none"),
        next: "start it as the service whose unit has LoadCredential=, or give the password with -r and -p".to_owned(),
    })?;
    Ok(Path::new(&folder).join(name))
}
