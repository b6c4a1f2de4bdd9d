//! `forget`: snapshots go that a policy does not keep, or that are named.

use super::Done;
use super::args::{self, Keep};
use super::forgetting::forget;
use super::session::Session;
use super::shops;
use crate::error::Result;
use crate::retention::{Policy, Rules};

pub fn run(session: &Session, args: &args::Forget) -> Result<Done> {
    if args.snapshots.is_empty() && args.keep.is_empty() && session.knows_shops()? {
        return shops::forget(session, args);
    }
    // Words that do not fit are refused before anything is read.
    let policy = match args.snapshots[..] {
        [] => Some(policy(&args.keep)?),
        _ => None,
    };
    let repository = session.open()?;
    let (code, fields) = forget(session, &repository, policy.as_ref(), args, &args.filter)?;
    Ok(Done { code, fields })
}

fn policy(keep: &Keep) -> Result<Policy> {
    let number = |number: Option<u32>| number.unwrap_or(0);
    let tags = |list: &String| list.split(',').map(|tag| tag.trim().to_owned()).collect();
    Policy::new(Rules {
        last: number(keep.last),
        hourly: number(keep.hourly),
        daily: number(keep.daily),
        weekly: number(keep.weekly),
        monthly: number(keep.monthly),
        yearly: number(keep.yearly),
        within: keep.within,
        tags: keep.tags.iter().map(tags).collect(),
    })
}
