//! `init`: create a repository.

use serde_json::{Value, json};

use super::Done;
use super::session::Session;
use crate::config::password::{self, PasswordSource};
use crate::config::{self, RepositoryChoice};
use crate::error::{Error, Result};
use crate::monitor::go_on;
use crate::repository::keys::Cost;
use crate::repository::{self, Found, Repository};
use crate::units::shown;

pub fn run(session: &Session) -> Result<Done> {
    let fields = create(session, &session.choice()?)?;
    Ok(Done::well(fields))
}

/// Creates a repository, and says what must be kept elsewhere; returns the fields of a summary.
///
/// # Errors
/// [`Error::RepositoryExists`], and those of [`Repository::create`].
pub fn create(session: &Session, choice: &RepositoryChoice) -> Result<Value> {
    let backend = session.backend(&choice.path);
    let found = repository::what_is_there(backend.as_ref())?;
    if found == Found::Repository {
        return Err(Error::RepositoryExists {
            location: backend.location(),
        });
    }
    let made = found == Found::Nothing && make_password(session, &choice.password)?;
    let password = choice
        .password
        .read_new(session.may_ask(), session.output.as_ref())?;
    go_on(session.output.as_ref())?;
    let repository = Repository::create(
        backend,
        session.services.clone(),
        &password,
        Cost::DEFAULT,
        session.output.as_ref(),
    )?;
    let location = repository.location();
    let id = &repository.config()?.id;
    session
        .output
        .good_news(format!("created repository {} at {location}", &id[..10]));
    let file = match &choice.password {
        PasswordSource::File(path) => shown(&config::absolute(path)?),
        _ => "the password".to_owned(),
    };
    if made {
        session
            .output
            .good_news(format!("made a strong password in {file}"));
    }
    session.output.good_news(format!(
        "keep a copy of two things away from this machine: the location ({location}) and the password ({file}).\nwithout the password nobody, not even you, can read the backups"
    ));
    Ok(json!({"repository": location, "repository_id": id, "password_made": made}))
}

/// Makes a password if a file is named that does not exist; returns whether it did.
fn make_password(session: &Session, source: &PasswordSource) -> Result<bool> {
    match source {
        PasswordSource::File(path) if !path.exists() => {
            let path = config::absolute(path)?;
            password::generate(&path, session.disk.as_ref(), session.services.rng.as_ref())?;
            Ok(true)
        }
        _ => Ok(false),
    }
}
