//! Roles and tablespaces, which are of the server and in no dump of a database.

use std::io::Read;

use super::held::Held;
use super::session::connection_string;
use super::tool::{Pipes, Tool};
use super::{Answer, Failure};

/// What the last lines hold if it is whole.
const END: &[u8] = b"-- PostgreSQL database cluster dump complete";
/// How far from its end that may stand: a line with a key of chance comes after it.
const END_WITHIN: usize = 400;
/// Most bytes of it: a hundred thousand roles.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The globals of a server as `pg_dumpall` writes them.
#[derive(Debug, Clone)]
pub struct Globals {
    /// SQL.
    pub sql: Vec<u8>,
    /// Whether the passwords of roles are in it, as hashes.
    pub has_passwords: bool,
    /// What the tool said on the way.
    pub said: Vec<u8>,
}

impl Globals {
    pub(super) fn of(held: &Held) -> Answer<Self> {
        let mut command = held.client("pg_dumpall");
        command.args(["--globals-only", "--no-password"]);
        command.arg(format!("--database={}", connection_string(&held.database)));
        if !held.facts.is_superuser {
            command.arg("--no-role-passwords");
        }
        let mut tool = Tool::start(command, Pipes::Out)?;
        let mut sql = Vec::new();
        let read = tool.stdout()?.take(MAX_BYTES + 1).read_to_end(&mut sql);
        let said = tool.end()?;
        read.map_err(|cause| Failure(format!("what pg_dumpall writes cannot be read: {cause}")))?;
        if sql.len() as u64 > MAX_BYTES {
            return Err(Failure::new("pg_dumpall writes without an end"));
        }
        let tail = &sql[sql.len().saturating_sub(END_WITHIN)..];
        if !tail.windows(END.len()).any(|window| window == END) {
            return Err(Failure::new(
                "what pg_dumpall wrote is not whole: its last line is missing",
            ));
        }
        Ok(Self {
            sql,
            has_passwords: held.facts.is_superuser,
            said,
        })
    }
}
