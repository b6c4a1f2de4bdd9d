//! A consistent view of a database, held as long as it is dumped.

use std::collections::BTreeSet;
use std::process::Command;

use jiff::Timestamp;

use super::dump::Dump;
use super::facts::{Facts, major_of};
use super::fingerprint::Fingerprint;
use super::globals::Globals;
use super::passfile::Passfile;
use super::programs::Programs;
use super::server::{Server, Services};
use super::session::{Session, Stopper, identifier};
use super::tool;
use super::{Answer, Failure, rights};
use crate::point::ConsistencyPoint;

/// The tools of a capture.
const TOOLS: [&str; 3] = ["pg_dump", "pg_dumpall", "pg_restore"];
/// How often tables may come and go while they are locked.
const TRIES: usize = 5;
/// Tables that are locked by one statement.
const AT_ONCE: usize = 500;

/// The tables that `pg_dump` will read, and those that they are parts of.
const TABLES: &str = "SELECT n.nspname::text, c.relname::text
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
    ORDER BY c.oid";

/// A transaction that holds a view which others can read in too.
#[derive(Debug)]
pub struct Held {
    session: Session,
    server: Server,
    passfile: Passfile,
    pub(super) database: String,
    pub(super) programs: Programs,
    /// The name of the exported snapshot.
    pub(super) snapshot: String,
    /// What a restore must know of the database.
    pub facts: Facts,
    /// The instant of the view.
    pub point: ConsistencyPoint,
}

impl Held {
    /// Begins to hold a view of a database, if its role may read all of it.
    ///
    /// # Errors
    /// What the server says; a tool that is missing or too old; everything that the role cannot read.
    pub fn begin(server: &Server, database: &str, services: &Services) -> Answer<Self> {
        let mut session = Session::open(server, database)?;
        let major = major_of(&mut session)?;
        if major < 13 {
            return Err(Failure(format!(
                "the server is of version {major}, and tillsafe reads those from 13 on"
            )));
        }
        let programs = Programs::find(server.programs.as_deref(), major, &TOOLS)?;
        rights::require(&mut session)?;
        let mut tries = 0;
        let (snapshot, point) = loop {
            let not_before = services.clock.now();
            if let Some(snapshot) = lock_and_export(&mut session)? {
                let not_after = services.clock.now();
                break (
                    snapshot,
                    ConsistencyPoint {
                        not_before,
                        not_after,
                    },
                );
            }
            session.run("ROLLBACK")?;
            tries += 1;
            if tries == TRIES {
                return Err(Failure::new(
                    "tables are made or dropped all the time: none of five tries held them all",
                ));
            }
        };
        let facts = Facts::of(&mut session, programs.major)?;
        Ok(Self {
            facts,
            point,
            snapshot,
            programs,
            session,
            passfile: Passfile::write(server, services)?,
            server: server.clone(),
            database: database.to_owned(),
        })
    }

    /// What ends a query of it from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.session.stopper()
    }

    /// Counts the content of all that a dump of it will hold.
    ///
    /// # Errors
    /// What the server says.
    pub fn fingerprint(&mut self) -> Answer<Fingerprint> {
        Fingerprint::of(&mut self.session)
    }

    /// Begins to dump it.
    ///
    /// # Errors
    /// If a tool cannot be started.
    pub fn dump(&self) -> Answer<Dump> {
        Dump::begin(self)
    }

    /// Roles and tablespaces of its server.
    ///
    /// # Errors
    /// What the tool says.
    pub fn globals(&self) -> Answer<Globals> {
        Globals::of(self)
    }

    /// The version of the tools that dump it.
    #[must_use]
    pub fn tool_version(&self) -> &str {
        &self.programs.version
    }

    /// Lets it go; returns for how many milliseconds it was held.
    ///
    /// # Errors
    /// If the server has lost it meanwhile: then nobody knows what was read.
    pub fn end(mut self, now: Timestamp) -> Answer<u64> {
        self.session.run("COMMIT")?;
        let held = now.duration_since(self.point.not_before).as_millis();
        Ok(u64::try_from(held).unwrap_or(0))
    }

    pub(super) fn client(&self, name: &str) -> Command {
        tool::client(
            &self.programs.path(name),
            &self.server,
            &self.database,
            &self.passfile,
        )
    }
}

/// Locks all tables, then takes the view. None if one came or went meanwhile.
fn lock_and_export(session: &mut Session) -> Answer<Option<String>> {
    let tables = tables(session)?;
    session
        .run("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL lock_timeout = '60s'")?;
    let list: Vec<&String> = tables.iter().collect();
    for some in list.chunks(AT_ONCE) {
        let names: Vec<String> = some.iter().map(|name| format!("ONLY {name}")).collect();
        // Locking takes no view: what was emptied before we had the lock is empty in both.
        let locked = session.run(&format!(
            "LOCK TABLE {} IN ACCESS SHARE MODE",
            names.join(", ")
        ));
        match locked {
            Ok(()) => {}
            Err(Failure(words)) if words.contains("does not exist") => return Ok(None),
            Err(Failure(words)) => {
                return Err(Failure(format!(
                    "its tables cannot be locked against being changed in form: {words}"
                )));
            }
        }
    }
    let snapshot = session.value("SELECT pg_export_snapshot()", &[])?;
    let now = self::tables(session)?;
    Ok(now.is_subset(&tables).then_some(snapshot))
}

/// The names of all tables, as SQL reads them.
fn tables(session: &mut Session) -> Answer<BTreeSet<String>> {
    let rows = session.rows(TABLES, &[])?;
    let name = |row: &postgres::Row| {
        let (schema, table): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        Ok(format!("{}.{}", identifier(schema), identifier(table)))
    };
    rows.iter().map(name).collect()
}
