//! A server of the configuration as the library sees it.

use std::sync::Arc;

use super::session::Session;
use crate::config::file::ServerEntry;
use crate::config::password::PasswordSource;
use crate::error::Result;
use crate::source::postgres::{Server, Services};

/// The server of an entry, with the password of its role.
pub fn server(session: &Session, entry: &ServerEntry) -> Result<Server> {
    let password = entry.password_file.clone().map(PasswordSource::File);
    let password = password.map(|file| file.read(session.may_ask(), session.output.as_ref()));
    Ok(Server {
        user: entry.user.clone(),
        password: password.transpose()?.map(Arc::new),
        programs: entry.programs.clone(),
        ..Server::at(&entry.socket, entry.port)
    })
}

/// What its tools need of us.
pub fn services(session: &Session, scratch: std::path::PathBuf) -> Services {
    Services {
        disk: Arc::clone(&session.disk),
        rng: Arc::clone(&session.services.rng),
        clock: Arc::clone(&session.services.clock),
        scratch,
    }
}
