//! `forget` of shops: each by the rules that the configuration has for it.

use std::collections::BTreeSet;

use serde_json::json;

use super::super::Done;
use super::super::args::{self, Filter};
use super::super::forgetting::forget as forget_one;
use super::super::session::Session;
use super::{Open, fail, named, one_by_one};
use crate::config::file::{self, Configuration};
use crate::error::{Error, ExitCode, Result};
use crate::monitor::Quiet;
use crate::repository::lock::host_name;
use crate::retention::{Orphans, Policy};
use crate::units::shown;

/// Goes through the shops that have rules; the snapshots of any other stay.
///
/// # Errors
/// [`Error::Usage`] if none of them has rules.
pub fn forget(session: &Session, args: &args::Forget) -> Result<Done> {
    let names: Vec<String> = args.filter.shop.iter().cloned().collect();
    let (configuration, names) = named(session, &names)?;
    let (ruled, unruled): (Vec<String>, Vec<String>) = names
        .into_iter()
        .partition(|name| configuration.shops[name].keep.is_some());
    if ruled.is_empty() {
        return Err(Error::Usage {
            finding: format!(
                "neither a --keep-… nor a shop of {} says what is to be kept, so nothing is removed",
                shown(&configuration.file)
            ),
            next: "add [shop.NAME.keep] with daily = 14 and monthly = 12 there, or say it here: --keep-daily 14 --keep-monthly 12".to_owned(),
        });
    }
    for name in unruled {
        session.output.note(&format!(
            "shop {name}: nothing is removed, for it has no [shop.{name}.keep]"
        ));
    }
    let mut open = Open::default();
    let mut done = one_by_one(session, "in order", &ruled, |name| {
        let policy = configuration.shops[name].keep.as_ref();
        one(session, &mut open, name, policy, args)
    });
    if args.filter.is_empty() {
        done.fields["in_no_shop"] = tell_orphans(session, &mut open, &configuration).into();
    }
    Ok(done)
}

/// Names what is in no shop: nobody else tells that it is never looked at. Returns how many there are.
fn tell_orphans(session: &Session, open: &mut Open, configuration: &Configuration) -> u64 {
    let mut looked_at = BTreeSet::new();
    let mut count = 0;
    for shop in configuration.shops.keys() {
        // What cannot be opened or listed has made the run of its shop fail, and was told there.
        let Ok(choice) = session.choice_of(shop) else {
            continue;
        };
        if !open.0.contains_key(&choice.path) || !looked_at.insert(choice.path.clone()) {
            continue;
        }
        let quiet = Quiet::default();
        let found = open.get(session, &choice);
        let Ok(found) = found.and_then(|repository| repository.snapshots(&quiet)) else {
            continue;
        };
        let mut shops = configuration.shops.keys();
        let only = shops.next().filter(|_| shops.next().is_none());
        for one in Orphans::find(found.readable.iter(), &host_name()) {
            count += one.snapshots.len() as u64;
            let cure = one.cure(only.map(String::as_str));
            session.output.good_news(format!(
                "{}: {}: {}",
                one.group,
                one.finding(),
                session.typed_for(Some(&choice), &cure)
            ));
        }
    }
    count
}

fn one(
    session: &Session,
    open: &mut Open,
    name: &str,
    policy: Option<&Policy>,
    args: &args::Forget,
) -> (ExitCode, serde_json::Value) {
    let choice = match session.choice_of(name) {
        Ok(choice) => choice,
        Err(error) => return (fail(session, None, name, error), json!({})),
    };
    let filter = Filter {
        shop: Some(name.to_owned()),
        ..args.filter.clone()
    };
    let done = open
        .get(session, &choice)
        .and_then(|repository| forget_one(session, repository, policy, args, &filter));
    match done {
        Ok((code, fields)) => (code, fields),
        Err(Error::NoSnapshot { .. }) if args.filter.is_empty() => {
            session.output.note(&format!(
                "shop {name}: no snapshot carries {} in {}",
                file::tag(name),
                shown(&choice.path)
            ));
            (
                ExitCode::Done,
                json!({"repository": shown(&choice.path), "kept": 0, "removed": 0}),
            )
        }
        Err(error) => {
            let code = fail(session, Some(&choice), name, error);
            (code, json!({"repository": shown(&choice.path)}))
        }
    }
}
