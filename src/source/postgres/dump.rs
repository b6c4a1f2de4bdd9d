//! The dump of a database as a stream, and the gate at its end: what is read here is fed to `pg_restore` too, which reads all of it,
//! and whose script is counted.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::process::{ChildStdin, ChildStdout};
use std::thread::JoinHandle;

use rustix::process::Pid;

use super::copies::count;
use super::facts::Facts;
use super::fingerprint::Fingerprint;
use super::held::Held;
use super::tool::{Pipes, Tool, command};
use super::{Answer, Failure};
use crate::units::counted;

/// How long `pg_dump` may wait for a lock, in milliseconds. All are held by us already.
const LOCK_WAIT_MS: u32 = 60_000;

/// A dump that is being read. What it gives is good only once [`Dump::finish`] says so.
pub struct Dump {
    tool: Tool,
    stdout: ChildStdout,
    check: Tool,
    /// None once it takes nothing more.
    feed: Option<ChildStdin>,
    rows: JoinHandle<io::Result<BTreeMap<String, u64>>>,
    bytes: u64,
}

/// A dump that has passed the gate.
#[derive(Debug, Clone)]
pub struct Dumped {
    /// Its bytes.
    pub bytes: u64,
    /// What the tools said on the way.
    pub said: Vec<u8>,
}

impl Dump {
    /// Begins to dump what `held` holds.
    pub(super) fn begin(held: &Held) -> Answer<Self> {
        let mut dump = held.client("pg_dump");
        dump.args(["--format=custom", "--compress=0", "--no-password"])
            .arg(format!("--lock-wait-timeout={LOCK_WAIT_MS}"))
            .arg(format!("--snapshot={}", held.snapshot));
        if held.facts.encoding != "SQL_ASCII" {
            // Then names in it are those that we read.
            dump.arg("--encoding=UTF8");
        }
        let mut tool = Tool::start(dump, Pipes::Out)?;
        let mut restore = command(&held.programs.path("pg_restore"));
        restore.args(["--data-only", "--file=-"]);
        let mut check = Tool::start(restore, Pipes::InAndOut)?;
        let script = check.stdout()?;
        Ok(Self {
            stdout: tool.stdout()?,
            feed: Some(check.stdin()?),
            rows: std::thread::spawn(move || count(script)),
            tool,
            check,
            bytes: 0,
        })
    }

    /// The processes that it is made of: to end them ends it.
    #[must_use]
    pub fn pids(&self) -> [Pid; 2] {
        [self.tool.pid(), self.check.pid()]
    }

    /// The gate. All of the stream must have been read before.
    ///
    /// # Errors
    /// Why the dump is not whole.
    pub fn finish(self, fingerprint: &Fingerprint, facts: &Facts) -> Answer<Dumped> {
        let Self {
            tool,
            stdout,
            check,
            feed,
            rows,
            bytes,
        } = self;
        // Whoever has not read to its end has no dump: `pg_dump` then ends of a closed pipe.
        drop(stdout);
        let was_fed = feed.is_some();
        drop(feed);
        let dumped = tool.end();
        let checked = check.end();
        let rows = rows.join();
        let mut said = dumped?;
        let not_whole = |Failure(why)| Failure(format!("what pg_dump wrote is not whole: {why}"));
        said.extend(checked.map_err(not_whole)?);
        if !was_fed {
            return Err(not_whole(Failure::new(
                "pg_restore stopped reading before its end",
            )));
        }
        let rows = match rows {
            Ok(rows) => rows
                .map_err(|cause| Failure(format!("pg_restore's script cannot be read: {cause}")))?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        compare(&rows, fingerprint, facts).map_err(not_whole)?;
        Ok(Dumped { bytes, said })
    }
}

impl Read for Dump {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stdout.read(buffer)?;
        self.bytes += read as u64;
        if let Some(feed) = &mut self.feed
            && feed.write_all(&buffer[..read]).is_err()
        {
            // It has ended, and says why at the end.
            self.feed = None;
        }
        Ok(read)
    }
}

impl std::fmt::Debug for Dump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dump of {} bytes so far", self.bytes)
    }
}

/// Whether the tables in the dump are those that were counted, each with as many rows.
fn compare(rows: &BTreeMap<String, u64>, fingerprint: &Fingerprint, facts: &Facts) -> Answer<()> {
    for (table, content) in &fingerprint.tables {
        match rows.get(table) {
            Some(rows) if *rows == content.rows => {}
            Some(rows) => {
                return Err(Failure(format!(
                    "the table {table} has {} in it, and {} were counted",
                    counted(*rows, "row"),
                    content.rows
                )));
            }
            None => return Err(Failure(format!("the table {table} is not in it"))),
        }
    }
    // Of some tables of extensions it holds what its owner has added.
    let unknown = |table: &&String| {
        !fingerprint.tables.contains_key(*table) && !facts.extension_tables.contains(*table)
    };
    match rows.keys().find(unknown) {
        Some(table) => Err(Failure(format!(
            "the table {table} is in it, and was not counted"
        ))),
        None => Ok(()),
    }
}
