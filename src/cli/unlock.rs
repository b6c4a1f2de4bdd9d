//! `unlock`: remove locks that are nobody's.

use serde_json::json;

use super::Done;
use super::args;
use super::session::Session;
use crate::error::Result;
use crate::repository::lock::Standing;
use crate::units::{OneLine, counted};

pub fn run(session: &Session, args: &args::Unlock) -> Result<Done> {
    let repository = session.open()?;
    let locks = repository.locks()?;
    session.output.finish();
    let (mut removed, mut left) = (0, 0);
    for lock in &locks {
        let is_left_over = matches!(lock.standing, Some(Standing::Dead | Standing::Stale));
        let goes = args.remove_all || is_left_over;
        if goes {
            repository.remove_lock(lock.id)?;
            removed += 1;
        } else {
            left += 1;
        }
        let done = if goes { "removed" } else { "left" };
        let holder = OneLine(&lock.holder);
        let line = format!("{done}: lock {}: {holder}", lock.id.short());
        if goes {
            session.output.good_news(line);
        } else {
            session.output.line(line);
        }
        session.output.object(
            "lock",
            json!({"id": lock.id, "holder": lock.holder, "time": lock.time, "removed": goes}),
        );
    }
    session.output.good_news(format!(
        "{} removed from {}, {left} left",
        counted(removed, "lock"),
        repository.location()
    ));
    if left > 0 {
        session.output.line(session.typed(
            "a holder may live: wait for it; only when nobody works on the repository: `tillsafe unlock --remove-all`",
        ));
    }
    Ok(Done::well(
        json!({"repository": repository.location(), "removed": removed, "left": left}),
    ))
}
