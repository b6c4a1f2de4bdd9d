//! A connection to a server, so set that nothing in a database runs code of its own with our rights.

use std::fmt::Write;

use postgres::types::ToSql;
use postgres::{CancelToken, Client, Config, NoTls, Row};

use super::server::Server;
use super::{Answer, Failure};
use crate::units::{Shown, shown};

/// What every session begins with. `search_path`: no function or operator of somebody else is found before the server's own.
/// `row_security`: a policy that would hide rows is an error. The rest: text is the same text on every server.
const OPTIONS: &str = "-c search_path=pg_catalog,pg_temp -c row_security=off -c DateStyle=ISO -c IntervalStyle=postgres \
-c TimeZone=UTC -c extra_float_digits=3 -c bytea_output=hex -c lc_monetary=C -c xmlbinary=base64 -c statement_timeout=0 \
-c idle_in_transaction_session_timeout=0 -c default_transaction_read_only=off";

/// A connection.
pub struct Session {
    client: Client,
}

impl Session {
    /// Connects to a database of a server.
    pub fn open(server: &Server, database: &str) -> Answer<Self> {
        let mut config = Config::new();
        config
            .host_path(&server.socket)
            .port(server.port)
            .dbname(database)
            .application_name("tillsafe")
            .options(OPTIONS);
        if let Some(user) = &server.user {
            config.user(user);
        }
        if let Some(password) = &server.password {
            config.password(password.expose());
        }
        let client = config.connect(NoTls).map_err(|error| {
            Failure(format!(
                "no connection to the database {} at {}, port {}{}: {}",
                Shown(database.as_bytes()),
                shown(&server.socket),
                server.port,
                server
                    .user
                    .as_ref()
                    .map_or_else(String::new, |user| format!(
                        ", as {}",
                        Shown(user.as_bytes())
                    )),
                words(&error)
            ))
        })?;
        Ok(Self { client })
    }

    /// Runs statements.
    pub fn run(&mut self, sql: &str) -> Answer<()> {
        Ok(self.client.batch_execute(sql)?)
    }

    /// The rows of a query.
    pub fn rows(&mut self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Answer<Vec<Row>> {
        Ok(self.client.query(sql, values)?)
    }

    /// The only value of a query of one row.
    pub fn value<T>(&mut self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Answer<T>
    where
        T: for<'a> postgres::types::FromSql<'a>,
    {
        let row = self.client.query_one(sql, values)?;
        Ok(row.try_get(0)?)
    }

    /// What ends a query of this session from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.client.cancel_token())
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

/// Ends what a session is doing.
pub struct Stopper(CancelToken);

impl Stopper {
    /// Asks the server to. If it cannot be reached, the query ends for that reason.
    pub fn stop(&self) {
        let _ = self.0.cancel_query(NoTls);
    }
}

/// What a server says, or why it says nothing.
pub fn words(error: &postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        let mut text = said.message().to_owned();
        for more in [said.detail(), said.hint()].into_iter().flatten() {
            // Writing to a String cannot fail.
            let _ = write!(text, "; {more}");
        }
        return text;
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let _ = write!(text, ": {inner}");
        cause = inner.source();
    }
    text
}

/// A name as SQL reads it, whatever it holds.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL reads it: as one with escapes, so that it does not matter how the server takes backslashes.
pub fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A name of two parts as people and the manifest write it: plain where it is plain, else in quotes.
pub fn full_name(schema: &str, name: &str) -> String {
    format!("{}.{}", part(schema), part(name))
}

fn part(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit();
    let is_plain =
        name.bytes().all(plain) && !name.starts_with(|first: char| first.is_ascii_digit());
    if is_plain && !name.is_empty() {
        name.to_owned()
    } else {
        identifier(name)
    }
}

/// The name of a database where a tool would take one that looks like it for a whole connection string.
pub fn connection_string(database: &str) -> String {
    let escaped = database.replace('\\', "\\\\").replace('\'', "\\'");
    format!("dbname='{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_thing_whatever_they_hold() {
        assert_eq!(full_name("public", "orders"), "public.orders");
        assert_eq!(full_name("public", "a.b"), "public.\"a.b\"");
        assert_eq!(
            full_name("Shop", "say \"hi\"\n"),
            "\"Shop\".\"say \"\"hi\"\"\n\""
        );
        assert_ne!(full_name("a.b", "c"), full_name("a", "b.c"));
        assert_eq!(literal("it's \\ here"), "E'it''s \\\\ here'");
        assert_eq!(
            connection_string("a'b\\ host=x"),
            "dbname='a\\'b\\\\ host=x'"
        );
    }
}
