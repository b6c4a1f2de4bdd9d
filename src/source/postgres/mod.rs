//! PostgreSQL: dumped and loaded by its own tools, which are believed only where the content agrees.
//!
//! One session holds a consistent view of a database ([`Held`]): what `pg_dump` writes and what we count come from the same
//! instant. A [`Dump`] is read like a file and judged at its end. The way back is [`Loader`]: into a new database, and counted
//! again. The design, and why nothing of a database runs code with our rights: docs/design/servers.md.

mod copies;
mod dump;
mod facts;
mod fingerprint;
mod globals;
mod held;
mod load;
mod passfile;
mod programs;
mod rights;
mod scratch;
mod server;
mod session;
mod tool;
mod watch;

pub use dump::{Dump, Dumped};
pub use facts::{Extension, Facts, Locale};
pub use fingerprint::{Content, Fingerprint, Sequence};
pub use globals::Globals;
pub use held::Held;
pub use load::{Loader, NotLoaded, Ready};
pub use programs::Programs;
pub use scratch::ScratchServer;
pub use server::{Server, Services};
pub use session::Stopper;
pub use tool::stop;
pub use watch::watched;

/// What went wrong, in words; whoever calls knows of what.
#[derive(Debug)]
pub struct Failure(pub String);

impl Failure {
    fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }
}

impl From<postgres::Error> for Failure {
    fn from(error: postgres::Error) -> Self {
        Self(session::words(&error))
    }
}

/// What is asked of a server or a tool.
pub type Answer<T> = std::result::Result<T, Failure>;
