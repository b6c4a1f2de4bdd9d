//! What is on this machine that the owner of a shop should know of: shops that nobody backs up, the storage
//! that a repository lies on, what calls us regularly. It only looks; nothing is changed.

mod shops;
mod storage;
mod timers;

pub use shops::{Database, Found, Shop, find};
pub use storage::{Storage, probe, storage};
pub use timers::{Timer, timers};

use std::path::{Path, PathBuf};

/// What a server of PostgreSQL is called.
pub const POSTGRESQL: &str = "PostgreSQL";
/// Sockets of database servers, and what they are.
const SERVERS: [(&str, &str); 4] = [
    ("run/mysqld/mysqld.sock", "MariaDB or MySQL"),
    ("run/mysql/mysql.sock", "MariaDB or MySQL"),
    ("run/postgresql/.s.PGSQL.5432", POSTGRESQL),
    ("tmp/.s.PGSQL.5432", POSTGRESQL),
];

/// The database servers that run below `root` (`/`), each with its socket.
#[must_use]
pub fn servers(root: &Path) -> Vec<(&'static str, PathBuf)> {
    let mut found: Vec<(&'static str, PathBuf)> = Vec::new();
    for (socket, name) in SERVERS {
        let path = root.join(socket);
        if path.exists() && !found.iter().any(|(other, _)| *other == name) {
            found.push((name, path));
        }
    }
    found
}
