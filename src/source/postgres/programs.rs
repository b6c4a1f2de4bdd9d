//! Where the engine's tools are, and of which version.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Answer, Failure};
use crate::units::shown;

/// The tools of one version, in one folder.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
    /// Their major version.
    pub major: u32,
    /// As they say it themselves: `15.20 (Debian 15.20-0+deb12u1)`.
    pub version: String,
}

/// Folders that hold one of each major version: before and after its number.
const BY_MAJOR: [(&str, &str, &str); 3] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
];
/// Folders of one version.
const PLAIN: [&str; 3] = ["/usr/local/pgsql/bin", "/usr/local/bin", "/usr/bin"];

impl Programs {
    /// Finds the tools that a server of this major version can be dumped with, or a dump of it loaded: of its own version, else
    /// of the next later one. `named` is where its owner says that they are. All of `wanted` must be there.
    ///
    /// # Errors
    /// What is missing, or too old.
    pub fn find(named: Option<&Path>, major: u32, wanted: &[&str]) -> Answer<Self> {
        let first = wanted.first().copied().unwrap_or("pg_dump");
        if let Some(folder) = named {
            let found = Self::in_folder(folder, wanted)?;
            if found.major < major {
                return Err(Failure(format!(
                    "{} in {} is of version {}, and the server of {major}: an older tool cannot know what a newer server holds",
                    first,
                    shown(folder),
                    found.version
                )));
            }
            return Ok(found);
        }
        let mut found: Vec<Self> = candidates()
            .iter()
            .filter_map(|folder| Self::in_folder(folder, wanted).ok())
            .filter(|programs| programs.major >= major)
            .collect();
        found.sort_by_key(|programs| programs.major);
        found.into_iter().next().ok_or_else(|| {
            Failure(format!(
                "no {} of version {major} or later is installed here (Debian: apt-get install postgresql-client-{major}); where it is elsewhere, the configuration names its folder: programs = \"/path/bin\"",
                wanted.join(", ")
            ))
        })
    }

    /// Those in one folder.
    fn in_folder(folder: &Path, wanted: &[&str]) -> Answer<Self> {
        for name in wanted {
            let path = folder.join(name);
            if !path.is_file() {
                return Err(Failure(format!("there is no {}", shown(&path))));
            }
        }
        let first = folder.join(wanted.first().copied().unwrap_or("pg_dump"));
        let said = Command::new(&first)
            .arg("--version")
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .map_err(|cause| Failure(format!("{} cannot be run: {cause}", shown(&first))))?;
        let said = String::from_utf8_lossy(&said.stdout);
        let version = version_of(&said)
            .ok_or_else(|| Failure(format!("{} does not say its version", shown(&first))))?;
        Ok(Self {
            folder: folder.to_owned(),
            major: version.0,
            version: version.1,
        })
    }

    /// One of them.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Folders in which they may be. Debian's `/usr/bin/pg_dump` is a program that chooses one itself: it comes last.
fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for (parent, before, after) in BY_MAJOR {
        for item in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = item.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(before));
            if number.is_some_and(|number| number.parse::<u32>().is_ok()) {
                folders.push(item.path().join(after));
            }
        }
    }
    folders.extend(PLAIN.map(PathBuf::from));
    folders
}

/// Major version and whole version of `pg_dump (PostgreSQL) 15.20 (Debian …)`.
fn version_of(said: &str) -> Option<(u32, String)> {
    let version = said.lines().next()?.split_once("(PostgreSQL) ")?.1.trim();
    let major = version
        .split(|letter: char| !letter.is_ascii_digit())
        .next()?;
    Some((major.parse().ok()?, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_it_is_said() {
        let said = "pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n";
        let (major, version) = version_of(said).unwrap();
        assert_eq!(
            (major, version.as_str()),
            (15, "15.20 (Debian 15.20-0+deb12u1)")
        );
        assert_eq!(version_of("postgres (PostgreSQL) 19beta1").unwrap().0, 19);
        assert_eq!(version_of("busybox"), None);
    }
}
