//! The only reader of settings and of the environment; fills what the verbs take.

pub mod password;

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};
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
    /// `-r`.
    pub location: Option<String>,
    /// `-p`.
    pub password_file: Option<PathBuf>,
    /// `--password-command`.
    pub password_command: Option<String>,
}

/// The repository to work on, and where its password comes from.
#[derive(Debug)]
pub struct RepositoryChoice {
    /// Absolute path of its folder.
    pub path: PathBuf,
    /// Where the password comes from.
    pub password: PasswordSource,
}

/// Decides what wins: flags, then `TILLSAFE_…`, then `RESTIC_…`. Repository and password come from
/// the same level, so that a password is never tried on a repository it was not meant for.
///
/// # Errors
/// [`Error::Usage`] if no level names a repository, or the storage is one that is not there yet.
pub fn choose(flags: &Flags, variables: Variables<'_>) -> Result<RepositoryChoice> {
    if let Some(location) = &flags.location {
        let password = match (&flags.password_file, &flags.password_command) {
            (Some(_), Some(_)) => return Err(two_passwords("-p and --password-command")),
            (Some(file), None) => PasswordSource::File(file.clone()),
            (None, Some(command)) => PasswordSource::Command(command.clone()),
            (None, None) => PasswordSource::Terminal {
                level: "-r",
                flag: "-p FILE",
            },
        };
        return Ok(RepositoryChoice {
            path: local_path(location)?,
            password,
        });
    }
    if flags.password_file.is_some() || flags.password_command.is_some() {
        return Err(Error::Usage {
            finding: "a password is named on the command line, but no repository".to_owned(),
            next: "add -r LOCATION: repository and password come from the same place".to_owned(),
        });
    }
    for prefix in ["TILLSAFE", "RESTIC"] {
        let variable = |name: &str| variables(&format!("{prefix}_{name}"));
        if let Some(location) = variable("REPOSITORY") {
            return Ok(RepositoryChoice {
                path: local_path(&location.to_string_lossy())?,
                password: from_variables(prefix, &variable),
            });
        }
    }
    Err(Error::Usage {
        finding: "no repository is named".to_owned(),
        next: "name it with -r LOCATION and its password with -p FILE, as in: tillsafe -r /media/backup/shop -p /root/shop.pass backup /srv/shop (a new one is made by the same with `init`)".to_owned(),
    })
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
        Some(value) => PasswordSource::Value(value),
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

/// The folder of a location as restic writes it. Other storages are refused by name.
fn local_path(location: &str) -> Result<PathBuf> {
    const REMOTE: [&str; 8] = [
        "sftp:", "rest:", "s3:", "b2:", "azure:", "gs:", "swift:", "rclone:",
    ];
    if let Some(storage) = REMOTE.iter().find(|storage| location.starts_with(*storage)) {
        return Err(Error::Usage {
            finding: format!("{storage} repositories are not part of this version"),
            next: "name a folder of this machine, or of anything that is mounted here".to_owned(),
        });
    }
    absolute(Path::new(
        location.strip_prefix("local:").unwrap_or(location),
    ))
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
    let named = |name| variables(name).map(PathBuf::from);
    let states = match named("XDG_STATE_HOME").filter(|path| path.is_absolute()) {
        Some(states) => Some(states),
        None if rustix::process::geteuid().is_root() => Some(PathBuf::from("/var/lib")),
        None => named("HOME").map(|home| home.join(".local/state")),
    };
    states.map(|states| states.join("tillsafe"))
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

    fn flags(location: Option<&str>, file: Option<&str>) -> Flags {
        Flags {
            location: location.map(Into::into),
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
        let chosen = choose(&flags(Some("/flag"), Some("/flag.pass")), &all).unwrap();
        assert_eq!(chosen.path, Path::new("/flag"));
        assert!(
            matches!(chosen.password, PasswordSource::File(file) if file == Path::new("/flag.pass"))
        );
        let chosen = choose(&flags(None, None), &all).unwrap();
        assert_eq!(chosen.path, Path::new("/ours"));
        assert!(
            matches!(chosen.password, PasswordSource::File(file) if file == Path::new("/ours.pass"))
        );
        let theirs = variables(&[("RESTIC_REPOSITORY", "/theirs"), ("RESTIC_PASSWORD", "x")]);
        let chosen = choose(&flags(None, None), &theirs).unwrap();
        assert_eq!(chosen.path, Path::new("/theirs"));
        assert!(matches!(chosen.password, PasswordSource::Value(_)));
    }

    #[test]
    fn repository_and_password_come_from_one_level() {
        let all = variables(&[
            ("TILLSAFE_REPOSITORY", "/ours"),
            ("TILLSAFE_PASSWORD_FILE", "/ours.pass"),
        ]);
        let chosen = choose(&flags(Some("/flag"), None), &all).unwrap();
        assert!(matches!(chosen.password, PasswordSource::Terminal { .. }));
        assert!(choose(&flags(None, Some("/flag.pass")), &all).is_err());
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
            let refused = choose(&flags(Some(location), Some("/p")), &|_| None).unwrap_err();
            assert!(
                refused
                    .to_string()
                    .contains(location.split(':').next().unwrap())
            );
        }
        let local = choose(&flags(Some("local:/x/"), Some("/p")), &|_| None).unwrap();
        assert_eq!(local.path.as_os_str(), "/x");
    }
}
