//! Where a server is, and who we are there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::Clock;
use crate::durable::Disk;
use crate::rng::Rng;
use crate::secret::Secret;

/// The port that names the socket where nobody says another.
pub const PORT: u16 = 5432;

/// A server of this machine.
#[derive(Debug, Clone)]
pub struct Server {
    /// The folder of its socket.
    pub socket: PathBuf,
    /// Its port, which is a part of the socket's name.
    pub port: u16,
    /// The role; else the one that is called as the user of the system.
    pub user: Option<String>,
    /// Its password, if the server wants one.
    pub password: Option<Arc<Secret>>,
    /// The folder of `pg_dump` and its like; else it is looked for.
    pub programs: Option<PathBuf>,
}

impl Server {
    /// The server whose socket is this folder, or this file in it.
    #[must_use]
    pub fn at(socket: &Path, port: Option<u16>) -> Self {
        let name = socket.file_name().unwrap_or_default().to_string_lossy();
        let named = name.strip_prefix(".s.PGSQL.");
        let named = named.and_then(|number| number.parse().ok());
        let (folder, of_the_name) = match (named, socket.parent()) {
            (Some(number), Some(folder)) => (folder, Some(number)),
            _ => (socket, None),
        };
        Self {
            socket: folder.to_owned(),
            port: port.or(of_the_name).unwrap_or(PORT),
            user: None,
            password: None,
            programs: None,
        }
    }
}

/// What the tools need of us.
#[derive(Debug, Clone)]
pub struct Services {
    /// Where files are made.
    pub disk: Arc<dyn Disk>,
    /// Random names.
    pub rng: Arc<dyn Rng>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// A folder with room for what is needed in between.
    pub scratch: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_a_folder_or_the_file_in_it() {
        for (given, port, folder, meant) in [
            ("/run/postgresql", None, "/run/postgresql", 5432),
            ("/run/postgresql", Some(5433), "/run/postgresql", 5433),
            (
                "/run/postgresql/.s.PGSQL.5434",
                None,
                "/run/postgresql",
                5434,
            ),
            ("/run/.s.PGSQL.x", None, "/run/.s.PGSQL.x", 5432),
        ] {
            let server = Server::at(Path::new(given), port);
            assert_eq!(
                (server.socket.to_str().unwrap(), server.port),
                (folder, meant)
            );
        }
    }
}
