//! A dump into a new database: looked at before anything is made, loaded by `pg_restore`, counted again.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use super::facts::{Facts, major_of, texts};
use super::fingerprint::Fingerprint;
use super::passfile::Passfile;
use super::programs::Programs;
use super::server::{Server, Services};
use super::session::{Session, connection_string, identifier, literal};
use super::tool::{self, Pipes, Tool};
use super::watch::watched;
use super::{Answer, Failure};
use crate::monitor::Monitor;
use crate::units::Shown;

/// Longest name that a server keeps whole, in bytes.
const MAX_NAME: usize = 63;
/// Most connections that load at a time.
const MAX_JOBS: usize = 8;
/// Databases that every server has, to connect to while the new one is not there.
const ALWAYS: [&str; 2] = ["postgres", "template1"];

/// Where a dump is loaded into.
#[derive(Debug)]
pub struct Loader<'a> {
    /// The server.
    pub server: &'a Server,
    /// What the tools need.
    pub services: &'a Services,
    /// What the dump needs.
    pub facts: &'a Facts,
    /// Whether the server is ours alone and thrown away: then roles are made as they are needed, and tablespaces are not.
    pub is_scratch: bool,
}

/// Why a dump was not loaded.
#[derive(Debug)]
pub enum NotLoaded {
    /// It does not fit there: all that is in the way. Nothing was touched.
    Refused(Vec<String>),
    /// It could not be loaded. The new database is gone again, or that is said too.
    Failed(String),
    /// It was loaded, and is not what was captured. The new database is gone again.
    Differs(String),
}

impl From<Failure> for NotLoaded {
    fn from(Failure(words): Failure) -> Self {
        Self::Failed(words)
    }
}

/// A place that is fit for a dump.
pub struct Ready<'a> {
    loader: &'a Loader<'a>,
    session: Session,
    programs: Programs,
    name: &'a str,
}

impl std::fmt::Debug for Ready<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ready for {:?}", self.name)
    }
}

impl<'a> Loader<'a> {
    /// Looks whether the dump can become a new database of this name there. Nothing is written.
    ///
    /// # Errors
    /// [`NotLoaded::Refused`] with all that is in its way; [`NotLoaded::Failed`] if the server cannot be asked.
    pub fn look(&'a self, name: &'a str) -> std::result::Result<Ready<'a>, NotLoaded> {
        let mut session = self.connect()?;
        let mut found = Vec::new();
        if name.is_empty() || name.len() > MAX_NAME || name.contains('\0') {
            return Err(NotLoaded::Refused(vec![format!(
                "{} is no name of a database: it needs 1 to {MAX_NAME} bytes; name another with --as",
                Shown(name.as_bytes())
            )]));
        }
        let is_taken: bool = session.value(
            "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1::text)",
            &[&name],
        )?;
        if is_taken {
            found.push(format!(
                "there is a database {} already, and no restore replaces one: name another with --as, or give that one another name first (ALTER DATABASE {} RENAME TO …)",
                Shown(name.as_bytes()),
                identifier(name)
            ));
        }
        let major = major_of(&mut session)?;
        if major < self.facts.server_major {
            found.push(format!(
                "the server is of version {major}, and the dump of one of version {}: an older server cannot hold it",
                self.facts.server_major
            ));
        }
        let programs = Programs::find(
            self.server.programs.as_deref(),
            major.max(self.facts.tools_major),
            &["pg_restore"],
        );
        let programs = match programs {
            Ok(programs) => Some(programs),
            Err(Failure(words)) => {
                found.push(words);
                None
            }
        };
        let may_create: bool = session.value(
            "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user",
            &[],
        )?;
        if !may_create {
            let role: String = session.value("SELECT current_user::text", &[])?;
            found.push(format!(
                "the role {role} may not create databases: name another with --user, or ALTER ROLE {} CREATEDB",
                identifier(&role)
            ));
        }
        found.extend(self.missing_extensions(&mut session)?);
        if !self.is_scratch {
            let missing = self.missing_roles(&mut session)?;
            if !missing.is_empty() {
                let list: Vec<String> = missing.iter().map(|role| identifier(role)).collect();
                found.push(format!(
                    "these roles own something in it or have rights, and are not there: {}; globals.sql beside the dump has them (or CREATE ROLE)",
                    list.join(", ")
                ));
            }
        }
        match programs {
            Some(programs) if found.is_empty() => Ok(Ready {
                loader: self,
                session,
                programs,
                name,
            }),
            _ => Err(NotLoaded::Refused(found)),
        }
    }

    fn connect(&self) -> Answer<Session> {
        let first = Session::open(self.server, ALWAYS[0]);
        first.or_else(|cause| Session::open(self.server, ALWAYS[1]).map_err(|_| cause))
    }

    fn missing_extensions(&self, session: &mut Session) -> Answer<Option<String>> {
        let rows = session.rows("SELECT name::text FROM pg_available_extensions", &[])?;
        let there: BTreeSet<String> = texts(&rows)?;
        let missing = self.facts.extensions.iter().map(|one| one.name.as_str());
        let missing: Vec<&str> = missing.filter(|name| !there.contains(*name)).collect();
        Ok((!missing.is_empty()).then(|| {
            format!(
                "these extensions are in it, and not installed on that machine: {}",
                missing.join(", ")
            )
        }))
    }

    fn missing_roles(&self, session: &mut Session) -> Answer<Vec<&str>> {
        let rows = session.rows("SELECT rolname::text FROM pg_roles", &[])?;
        let there: BTreeSet<String> = texts(&rows)?;
        let needed = self.facts.roles.iter().map(String::as_str);
        Ok(needed.filter(|role| !there.contains(*role)).collect())
    }
}

impl Ready<'_> {
    /// Makes the database, loads `dump` into it, and counts it. Unless it holds what `captured` says, it is dropped again.
    ///
    /// # Errors
    /// [`NotLoaded::Failed`], [`NotLoaded::Differs`].
    pub fn load(
        mut self,
        dump: &Path,
        captured: &Fingerprint,
        monitor: &dyn Monitor,
    ) -> std::result::Result<(), NotLoaded> {
        if self.loader.is_scratch {
            for role in self.loader.missing_roles(&mut self.session)? {
                self.session
                    .run(&format!("CREATE ROLE {}", identifier(role)))?;
            }
        }
        let create = create(self.name, self.loader.facts);
        let stopper = self.session.stopper();
        watched(monitor, || stopper.stop(), || self.session.run(&create))?;
        let done = self.fill(dump, captured, monitor);
        if done.is_err() {
            let drop = format!(
                "DROP DATABASE IF EXISTS {} WITH (FORCE)",
                identifier(self.name)
            );
            if let Err(Failure(why)) = self.session.run(&drop) {
                let name = Shown(self.name.as_bytes());
                let left = format!("; what was loaded is left as the database {name}: {why}");
                return done.map_err(|cause| match cause {
                    NotLoaded::Failed(words) => NotLoaded::Failed(words + &left),
                    NotLoaded::Differs(words) => NotLoaded::Differs(words + &left),
                    refused @ NotLoaded::Refused(_) => refused,
                });
            }
        }
        done
    }

    fn fill(
        &self,
        dump: &Path,
        captured: &Fingerprint,
        monitor: &dyn Monitor,
    ) -> std::result::Result<(), NotLoaded> {
        let (server, services) = (self.loader.server, self.loader.services);
        let passfile = Passfile::write(server, services)?;
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let program = self.programs.path("pg_restore");
        let mut command = tool::client(&program, server, self.name, &passfile);
        command
            .args(["--exit-on-error", "--no-password"])
            .arg(format!("--jobs={}", jobs.min(MAX_JOBS)))
            .arg(format!("--dbname={}", connection_string(self.name)));
        if self.loader.is_scratch {
            command.arg("--no-tablespaces");
        }
        command.arg("--").arg(dump);
        let tool = Tool::start(command, Pipes::None)?;
        let pid = tool.pid();
        watched(monitor, || tool::stop(pid), || tool.end())?;
        let mut session = Session::open(server, self.name)?;
        let stopper = session.stopper();
        let held = watched(monitor, || stopper.stop(), || Fingerprint::of(&mut session))?;
        if let Some(difference) = captured.difference(&held) {
            return Err(NotLoaded::Differs(difference));
        }
        if !self.loader.is_scratch {
            // Without it the first hours of a restored shop are slow.
            watched(monitor, || stopper.stop(), || session.run("ANALYZE"))?;
        }
        Ok(())
    }
}

/// The statement that makes an empty database as the captured one was.
fn create(name: &str, facts: &Facts) -> String {
    let mut sql = format!(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
        identifier(name),
        literal(&facts.encoding),
        literal(&facts.collate),
        literal(&facts.ctype)
    );
    if let Some(locale) = &facts.locale {
        let (provider, key) = match locale.provider.as_str() {
            "icu" => ("icu", "ICU_LOCALE"),
            _ => ("builtin", "BUILTIN_LOCALE"),
        };
        // Writing to a String cannot fail.
        let _ = write!(
            sql,
            " LOCALE_PROVIDER {provider} {key} {}",
            literal(&locale.name)
        );
    }
    sql
}
