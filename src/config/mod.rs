//! The only reader of settings and of the environment; fills what the verbs take.

pub mod excludes;
pub mod file;
pub mod password;

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use file::Configuration;
use password::PasswordSource;

/// Reads a variable of the environment.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The process's own environment. Nothing else in the crate reads it.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this room is the one reader")]
pub fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// What the command line says about the repository.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `-r`: a name of the configuration, or a location.
    pub repository: Option<String>,
    /// `-p`.
    pub password_file: Option<PathBuf>,
    /// `--password-command`.
    pub password_command: Option<String>,
}

/// Gives the configuration, if there is one. Called only where it could decide something.
pub type Load<'a> = &'a dyn Fn() -> Result<Option<Arc<Configuration>>>;

/// The repository to work on, and where its password comes from.
#[derive(Debug, Clone)]
pub struct RepositoryChoice {
    /// Absolute path of its folder.
    pub path: PathBuf,
    /// Where the password comes from.
    pub password: PasswordSource,
    /// Its name, if the configuration says all of it.
    pub name: Option<String>,
}

/// Decides what wins: flags; the repository of the `shop` that is named; `TILLSAFE_…`; the only repository
/// of the configuration; `RESTIC_…`. Repository and password come from the same level, so that a password
/// is never tried on a repository it was not meant for.
///
/// # Errors
/// [`Error::Usage`] if no level names a repository, or the configuration several; if the storage is one
/// that is not there yet; and as [`file::load`].
pub fn choose(
    flags: &Flags,
    shop: Option<&str>,
    variables: Variables<'_>,
    load: Load<'_>,
) -> Result<RepositoryChoice> {
    if let Some(word) = &flags.repository {
        return of_flags(flags, word, variables, load);
    }
    if flags.password_file.is_some() || flags.password_command.is_some() {
        return Err(Error::Usage {
            finding: "a password is named on the command line, but no repository".to_owned(),
            next: "add -r LOCATION: repository and password come from the same place".to_owned(),
        });
    }
    if let Some(name) = shop
        && let Some(configuration) = load()?
        && let Some(shop) = configuration.shops.get(name)
    {
        return of_entry(&configuration, &shop.repository, variables);
    }
    if let Some(chosen) = of_variables("TILLSAFE", variables)? {
        return Ok(chosen);
    }
    if let Some(configuration) = load()? {
        let names: Vec<&str> = configuration
            .repositories
            .keys()
            .map(String::as_str)
            .collect();
        match names[..] {
            [] => {}
            [only] => return of_entry(&configuration, only, variables),
            _ => {
                return Err(Error::Usage {
                    finding: format!(
                        "{} has several repositories: {}",
                        crate::units::shown(&configuration.file),
                        file::listed(&names)
                    ),
                    next: "say which one: -r NAME".to_owned(),
                });
            }
        }
    }
    if let Some(chosen) = of_variables("RESTIC", variables)? {
        return Ok(chosen);
    }
    Err(Error::Usage {
        finding: "no repository is named".to_owned(),
        next: "name it with -r LOCATION and its password with -p FILE, as in: tillsafe -r /media/backup/shop -p /root/shop.pass backup /srv/shop (a new one is made by the same with `init`)".to_owned(),
    })
}

fn of_flags(
    flags: &Flags,
    word: &str,
    variables: Variables<'_>,
    load: Load<'_>,
) -> Result<RepositoryChoice> {
    let password = match (&flags.password_file, &flags.password_command) {
        (Some(_), Some(_)) => return Err(two_passwords("-p and --password-command")),
        (Some(file), None) => Some(PasswordSource::File(file.clone())),
        (None, Some(command)) => Some(PasswordSource::Command(command.clone())),
        (None, None) => None,
    };
    // Only a bare word can be a name: with a slash in it, a broken configuration is in nobody's way.
    if file::is_name(word)
        && let Some(configuration) = load()?
    {
        match (configuration.repositories.get(word), &password) {
            (Some(entry), Some(password)) => {
                return Ok(RepositoryChoice {
                    path: entry.path.clone(),
                    password: password.clone(),
                    name: None,
                });
            }
            // A folder of that name would need a password from here too.
            (None, None) if !Path::new(word).exists() => {
                return of_entry(&configuration, word, variables);
            }
            (Some(_), None) => return of_entry(&configuration, word, variables),
            (None, _) => {}
        }
    }
    Ok(RepositoryChoice {
        path: local_path(word)?,
        password: password.unwrap_or(PasswordSource::Terminal {
            level: "-r",
            flag: "-p FILE",
        }),
        name: None,
    })
}

/// A repository of the configuration.
///
/// # Errors
/// [`Error::Usage`] if its password is a credential, and this is no systemd service.
pub fn of_entry(
    configuration: &Configuration,
    name: &str,
    variables: Variables<'_>,
) -> Result<RepositoryChoice> {
    let Some(entry) = configuration.repositories.get(name) else {
        let known: Vec<&str> = configuration
            .repositories
            .keys()
            .map(String::as_str)
            .collect();
        let meant = file::nearest(name, &known);
        let meant = meant.map_or(String::new(), |known| format!("did you mean {known}? "));
        return Err(Error::Usage {
            finding: format!(
                "{} has no repository {name}",
                crate::units::shown(&configuration.file)
            ),
            next: format!(
                "{meant}it has: {}; for a folder of that name type ./{name}, and its password: -p FILE",
                file::listed(&known)
            ),
        });
    };
    Ok(RepositoryChoice {
        path: entry.path.clone(),
        password: match &entry.password {
            file::Password::File(file) => PasswordSource::File(file.clone()),
            file::Password::Command(words) => PasswordSource::Program(words.clone()),
            file::Password::Credential(name) => {
                PasswordSource::File(file::credential(name, variables)?)
            }
        },
        name: Some(name.to_owned()),
    })
}

fn of_variables(
    prefix: &'static str,
    variables: Variables<'_>,
) -> Result<Option<RepositoryChoice>> {
    let variable = |name: &str| variables(&format!("{prefix}_{name}"));
    let Some(location) = variable("REPOSITORY") else {
        return Ok(None);
    };
    Ok(Some(RepositoryChoice {
        path: local_path(&location.to_string_lossy())?,
        password: from_variables(prefix, &variable),
        name: None,
    }))
}

fn from_variables(
    prefix: &'static str,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> PasswordSource {
    if let Some(file) = variable("PASSWORD_FILE") {
        return PasswordSource::File(file.into());
    }
    if let Some(command) = variable("PASSWORD_COMMAND") {
        return PasswordSource::Command(command.to_string_lossy().into_owned());
    }
    match variable("PASSWORD") {
        Some(value) => PasswordSource::Value {
            variable: format!("{prefix}_PASSWORD"),
            value,
        },
        None if prefix == "RESTIC" => PasswordSource::Terminal {
            level: "RESTIC_REPOSITORY",
            flag: "RESTIC_PASSWORD_FILE",
        },
        None => PasswordSource::Terminal {
            level: "TILLSAFE_REPOSITORY",
            flag: "TILLSAFE_PASSWORD_FILE",
        },
    }
}

fn two_passwords(which: &str) -> Error {
    Error::Usage {
        finding: format!("{which} both name a password"),
        next: "give one of them".to_owned(),
    }
}

/// The folder of a location as restic writes it; it may be relative.
///
/// # Errors
/// What is wrong with it: another storage, by name, or a secret in it, which is not repeated.
pub fn location(location: &str) -> std::result::Result<PathBuf, String> {
    const REMOTE: [&str; 8] = [
        "sftp:", "rest:", "s3:", "b2:", "azure:", "gs:", "swift:", "rclone:",
    ];
    let storage = REMOTE.iter().find(|storage| location.starts_with(*storage));
    let address = storage.map_or(location, |storage| &location[storage.len()..]);
    if (storage.is_some() || location.contains("://")) && holds_a_secret(address) {
        return Err("a password stands in the location, where lists of processes and logs show it; it belongs into a file of its own".to_owned());
    }
    if let Some(storage) = storage {
        return Err(format!(
            "{storage} repositories are not part of this version: a repository is a folder of this machine, or of anything that is mounted here"
        ));
    }
    Ok(PathBuf::from(
        location.strip_prefix("local:").unwrap_or(location),
    ))
}

/// Whether an address has a user with a password: `https://user:secret@host`.
fn holds_a_secret(address: &str) -> bool {
    let (_, rest) = address.split_once("://").unwrap_or(("", address));
    let host = rest.split('/').next().unwrap_or(rest);
    host.rsplit_once('@')
        .is_some_and(|(user, _)| user.contains(':'))
}

fn local_path(text: &str) -> Result<PathBuf> {
    let folder = location(text).map_err(|finding| Error::Usage {
        finding,
        next: "name a folder: -r /media/backup/shop".to_owned(),
    })?;
    absolute(&folder)
}

/// Makes a path absolute. `..` is resolved on the disk, where a link may lie before it.
///
/// # Errors
/// [`Error::Usage`] for an empty path; [`Error::File`] if the way cannot be resolved.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    if path.as_os_str().is_empty() {
        return Err(Error::Usage {
            finding: "a path is empty".to_owned(),
            next: "name a folder".to_owned(),
        });
    }
    let mut resolved = PathBuf::new();
    // `absolute` keeps a trailing slash; components do not.
    for component in std::path::absolute(path)
        .map_err(Error::file("resolving", path))?
        .components()
    {
        if component == Component::ParentDir {
            resolved = std::fs::canonicalize(&resolved).map_err(Error::file("resolving", path))?;
            resolved.pop();
        } else {
            resolved.push(component);
        }
    }
    Ok(resolved)
}

/// Where spools and scratch restores go: `TMPDIR`, else `/var/tmp`, which is seldom in memory.
#[must_use]
pub fn scratch_folder(variables: Variables<'_>) -> PathBuf {
    variables("TMPDIR").map_or_else(
        || {
            let on_disk = Path::new("/var/tmp");
            if on_disk.is_dir() {
                on_disk
            } else {
                Path::new("/tmp")
            }
            .to_owned()
        },
        PathBuf::from,
    )
}

/// Where this machine's restores in place are remembered: `XDG_STATE_HOME`, else `/var/lib` for root
/// and `~/.local/state` for others. None without any of them.
#[must_use]
pub fn state_folder(variables: Variables<'_>) -> Option<PathBuf> {
    own_folder(variables, "XDG_STATE_HOME", "/var/lib", ".local/state")
}

/// The folder in which this program keeps what it can make again.
#[must_use]
pub fn cache_folder(variables: Variables<'_>) -> Option<PathBuf> {
    own_folder(variables, "XDG_CACHE_HOME", "/var/cache", ".cache")
}

fn own_folder(
    variables: Variables<'_>,
    variable: &str,
    of_root: &str,
    at_home: &str,
) -> Option<PathBuf> {
    let named = |name| variables(name).map(PathBuf::from);
    let folders = match named(variable).filter(|path| path.is_absolute()) {
        Some(folders) => Some(folders),
        None if rustix::process::geteuid().is_root() => Some(PathBuf::from(of_root)),
        None => {
            let home = named("HOME").filter(|home| home.is_absolute());
            home.map(|home| home.join(at_home))
        }
    };
    folders.map(|folders| folders.join("tillsafe"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        |name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.into())
        }
    }

    #[allow(clippy::unnecessary_wraps, reason = "what loads a file may fail")]
    fn none() -> Result<Option<Arc<Configuration>>> {
        Ok(None)
    }

    fn flags(location: Option<&str>, file: Option<&str>) -> Flags {
        Flags {
            repository: location.map(Into::into),
            password_file: file.map(Into::into),
            password_command: None,
        }
    }

    #[test]
    fn flags_win_then_our_variables_then_restics() {
        let all = variables(&[
            ("TILLSAFE_REPOSITORY", "/ours"),
            ("TILLSAFE_PASSWORD_FILE", "/ours.pass"),
            ("RESTIC_REPOSITORY", "/theirs"),
            ("RESTIC_PASSWORD", "x"),
        ]);
        let chosen = choose(&flags(Some("/flag"), Some("/flag.pass")), None, &all, &none).unwrap();
        assert_eq!(chosen.path, Path::new("/flag"));
        assert!(
            matches!(chosen.password, PasswordSource::File(file) if file == Path::new("/flag.pass"))
        );
        let chosen = choose(&flags(None, None), None, &all, &none).unwrap();
        assert_eq!(chosen.path, Path::new("/ours"));
        assert!(
            matches!(chosen.password, PasswordSource::File(file) if file == Path::new("/ours.pass"))
        );
        let theirs = variables(&[("RESTIC_REPOSITORY", "/theirs"), ("RESTIC_PASSWORD", "x")]);
        let chosen = choose(&flags(None, None), None, &theirs, &none).unwrap();
        assert_eq!(chosen.path, Path::new("/theirs"));
        assert!(
            matches!(chosen.password, PasswordSource::Value { variable, .. } if variable == "RESTIC_PASSWORD")
        );
    }

    #[test]
    fn repository_and_password_come_from_one_level() {
        let all = variables(&[
            ("TILLSAFE_REPOSITORY", "/ours"),
            ("TILLSAFE_PASSWORD_FILE", "/ours.pass"),
        ]);
        let chosen = choose(&flags(Some("/flag"), None), None, &all, &none).unwrap();
        assert!(matches!(chosen.password, PasswordSource::Terminal { .. }));
        assert!(choose(&flags(None, Some("/flag.pass")), None, &all, &none).is_err());
    }

    #[test]
    fn a_way_up_is_resolved_on_the_disk_and_its_end_may_be_new() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::os::unix::fs::symlink("a/b", root.join("link")).unwrap();
        for (given, meant) in [
            ("a/../new", "new"),
            ("link/../new", "a/new"),
            ("a/b/../../", ""),
        ] {
            let found = absolute(&root.join(given)).unwrap();
            assert_eq!(
                found,
                root.join(meant).components().collect::<PathBuf>(),
                "{given}"
            );
        }
        assert!(absolute(&root.join("none/../new")).is_err());
    }

    #[test]
    fn storages_that_are_not_there_yet_are_refused_by_name() {
        for location in [
            "s3:https://s3.example.net/x",
            "sftp:host:/x",
            "rest:https://example.net/",
        ] {
            let refused =
                choose(&flags(Some(location), Some("/p")), None, &|_| None, &none).unwrap_err();
            assert!(
                refused
                    .to_string()
                    .contains(location.split(':').next().unwrap())
            );
        }
        let local = choose(
            &flags(Some("local:/x/"), Some("/p")),
            None,
            &|_| None,
            &none,
        )
        .unwrap();
        assert_eq!(local.path.as_os_str(), "/x");
    }
}
