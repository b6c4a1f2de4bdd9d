//! `key`: who can open the repository.

use serde_json::{Value, json};

use super::Done;
use super::args::{KeyAction, KeyRemove, Password};
use super::session::Session;
use super::table::{self, cell};
use crate::config;
use crate::config::password::NewPassword;
use crate::error::{Error, Result};
use crate::monitor::go_on;
use crate::repository::Repository;
use crate::repository::key_ring::{FoundKey, NewKey};
use crate::repository::keys::Cost;
use crate::secret::Secret;
use crate::units::{counted, shown};

pub fn run(session: &Session, action: KeyAction) -> Result<Done> {
    let repository = session.open()?;
    match action {
        KeyAction::List => list(session, &repository),
        KeyAction::Add(from) => add(session, &repository, from),
        KeyAction::Remove(which) => remove(session, &repository, &which),
        KeyAction::Passwd(from) => passwd(session, &repository, from),
    }
}

fn list(session: &Session, repository: &Repository) -> Result<Done> {
    let _lock = session.lock_if_possible(repository);
    let keys = repository.keys(session.output.as_ref())?;
    session.output.finish();
    for key in &keys {
        session.output.object("key", object(key));
    }
    let head = ["ID", "Created (UTC)", "Cost (N,r,p)", "By", ""];
    table::print(&session.output, head, keys.iter().map(row).collect());
    session.output.good_news(format!(
        "{} in {}",
        counted(keys.len() as u64, "key"),
        repository.location()
    ));
    Ok(Done::well(
        json!({"repository": repository.location(), "keys": keys.len()}),
    ))
}

fn object(key: &FoundKey) -> Value {
    let mut object = json!({"id": key.id, "short_id": key.id.short(), "in_use": key.in_use});
    match &key.facts {
        Ok(facts) => {
            object["time"] = json!(facts.created);
            object["user"] = json!(facts.user);
            object["host"] = json!(facts.host);
            object["cost"] = json!(facts.cost);
            object["weak"] = facts.cost.is_weak().into();
        }
        Err(finding) => object["finding"] = json!(finding),
    }
    object
}

fn row(key: &FoundKey) -> [String; 5] {
    let mut notes = Vec::new();
    if key.in_use {
        notes.push("in use".to_owned());
    }
    match &key.facts {
        Ok(facts) => {
            if facts.cost.is_weak() {
                let least = written(Cost::LEAST);
                notes.push(format!(
                    "weak: below {least}; `key passwd` makes a strong one"
                ));
            }
            let by = match (facts.user.as_str(), facts.host.as_str()) {
                ("", "") => String::new(),
                (user, host) => cell(&format!("{user}@{host}")),
            };
            let created = facts
                .created
                .map_or(String::new(), |time| format!("{time:.0}"));
            let notes = notes.join(", ");
            [key.id.short(), created, written(facts.cost), by, notes]
        }
        Err(finding) => {
            // It is removed by its full name, so that is what is shown.
            notes.push(cell(&format!("no sound key: {finding} ({})", key.id)));
            let [created, cost, by] = [const { String::new() }; 3];
            [key.id.short(), created, cost, by, notes.join(", ")]
        }
    }
}

fn written(cost: Cost) -> String {
    format!("({},{},{})", cost.n, cost.r, cost.p)
}

fn add(session: &Session, repository: &Repository, from: Password) -> Result<Done> {
    repository.require_room_for_a_key()?;
    let (password, made) = new_password(session, from)?;
    let key = repository.add_key(&password, Cost::DEFAULT, session.output.as_ref())?;
    session.output.finish();
    session.output.good_news(if key.is_new {
        format!(
            "added key {}: its password opens {}",
            key.id.short(),
            repository.location()
        )
    } else {
        format!(
            "key {} opens with this password already: nothing was added",
            key.id.short()
        )
    });
    Ok(Done::well(fields(repository, key, made)))
}

fn remove(session: &Session, repository: &Repository, which: &KeyRemove) -> Result<Done> {
    let id = repository.remove_key(&which.key, session.output.as_ref())?;
    session.output.finish();
    session.output.good_news(format!(
        "removed key {} from {}",
        id.short(),
        repository.location()
    ));
    Ok(Done::well(
        json!({"repository": repository.location(), "key_id": id}),
    ))
}

fn passwd(session: &Session, repository: &Repository, from: Password) -> Result<Done> {
    // Before a password is made for nothing.
    repository.config()?;
    let file = from.new_password_file.clone();
    let (password, made) = new_password(session, from)?;
    let changed = repository.change_password(&password, Cost::DEFAULT, session.output.as_ref());
    let key = changed.map_err(|cause| match (cause, file) {
        (Error::KeyTaken { other, old, flags }, Some(file)) => Error::KeyTaken {
            flags: session.flags_with(&file).unwrap_or(flags),
            other,
            old,
        },
        (cause, _) => cause,
    })?;
    session.output.finish();
    session.output.good_news(if key.is_new {
        format!(
            "key {} has taken the old one's place: from now on its password opens {}",
            key.id.short(),
            repository.location()
        )
    } else {
        format!(
            "the weak key of this password is removed from {}; key {}, which was there before, has the same",
            repository.location(),
            key.id.short()
        )
    });
    session.output.good_news(
        "put the new password wherever the old one stands: on this machine, in timers, in the safe; keep the old one for copies of the repository that were made before",
    );
    Ok(Done::well(fields(repository, key, made)))
}

/// Gets the new password, or makes it; returns whether it was made.
fn new_password(session: &Session, from: Password) -> Result<(Secret, bool)> {
    session.output.finish();
    let source = match (from.new_password_file, from.new_password_command) {
        (Some(file), _) => NewPassword::File(config::absolute(&file)?),
        (None, Some(command)) => NewPassword::Command(command),
        (None, None) => NewPassword::Terminal,
    };
    let file = match &source {
        NewPassword::File(file) => shown(file),
        _ => String::new(),
    };
    let read = source.read(
        session.may_ask(),
        session.disk.as_ref(),
        session.services.rng.as_ref(),
        session.output.as_ref(),
    )?;
    if read.1 {
        let made = format!("made a strong password in {file}: keep a copy away from this machine");
        session.output.good_news(made);
    }
    go_on(session.output.as_ref())?;
    Ok(read)
}

fn fields(repository: &Repository, key: NewKey, made: bool) -> Value {
    json!({
        "repository": repository.location(),
        "key_id": key.id,
        "key_added": key.is_new,
        "password_made": made,
    })
}
