//! Which snapshot is meant.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::id::Id;
use crate::repository::snapshot::{Snapshot, Snapshots};
use crate::retention::Group;

/// Fewest digits of an id that name a snapshot.
const MIN_DIGITS: usize = 4;

/// Which snapshot is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `latest`, `proven`, or the first digits of an id.
    pub snapshot: String,
    /// The snapshots that were proved, for `proven`; [`crate::records::proofs`] tells.
    pub proven: BTreeSet<Id>,
    /// Only of this shop.
    pub shop: Option<String>,
    /// Only of this machine.
    pub host: Option<String>,
    /// Only with all of these paths.
    pub paths: Vec<PathBuf>,
    /// Only with this mark.
    pub tag: Option<String>,
    /// What of the snapshot is wanted; empty or `/` for all. It may tell which of several series is meant.
    pub within: PathBuf,
}

impl Request {
    fn fits(&self, snapshot: &Snapshot) -> bool {
        let file = &snapshot.file;
        let has = |path: &PathBuf| file.paths.iter().any(|other| Path::new(other) == path);
        let of_shop = |shop: &String| Group::of_snapshot(snapshot) == Group::Shop(shop.clone());
        self.shop.as_ref().is_none_or(of_shop)
            && self.host.as_ref().is_none_or(|host| *host == file.hostname)
            && self.tag.as_ref().is_none_or(|tag| file.tags.contains(tag))
            && self.paths.iter().all(has)
    }

    /// The snapshots that fit, of those given.
    #[must_use]
    pub fn filter(&self, snapshots: Vec<Snapshot>) -> Vec<Snapshot> {
        snapshots
            .into_iter()
            .filter(|snapshot| self.fits(snapshot))
            .collect()
    }
}

/// Chooses one snapshot.
///
/// # Errors
/// [`Error::NoSnapshot`]; [`Error::Usage`] if more than one fits; [`Error::Damaged`] and
/// [`Error::LatestUncertain`] if one that cannot be read may be the one.
pub fn select(request: &Request, snapshots: Snapshots) -> Result<Snapshot> {
    let mut fitting = request.filter(snapshots.readable);
    let object = |id| format!("snapshots/{id}");
    if request.snapshot == "proven" {
        // One that cannot be read may be newer, but it is not what is asked for: one that surely works.
        fitting.retain(|snapshot| request.proven.contains(&snapshot.id));
        return latest(request, fitting);
    }
    if request.snapshot == "latest" {
        fitting.retain(|snapshot| !snapshot.is_record());
        if let Some(damaged) = snapshots.damaged.first() {
            return Err(Error::LatestUncertain {
                object: object(damaged),
                readable: fitting.last().map(|last| last.id.short()),
            });
        }
        return latest(request, fitting);
    }
    let digits = request.snapshot.as_str();
    if digits.len() < MIN_DIGITS {
        return Err(Error::Usage {
            finding: format!("{digits:?} is too short for an id"),
            next: format!("give at least {MIN_DIGITS} digits; `tillsafe snapshots` lists them"),
        });
    }
    let mut damaged = snapshots.damaged.iter();
    if let Some(damaged) = damaged.find(|id| id.to_string().starts_with(digits)) {
        return Err(Error::Damaged {
            object: object(damaged),
            finding: "it cannot be read".to_owned(),
        });
    }
    let begins = |snapshot: &Snapshot| snapshot.id.to_string().starts_with(digits);
    let mut found: Vec<Snapshot> = fitting.into_iter().filter(begins).collect();
    match found.pop() {
        Some(snapshot) if found.is_empty() => Ok(snapshot),
        Some(_) => Err(Error::Usage {
            finding: format!("{} snapshots begin with {digits}", found.len() + 1),
            next: "type more digits of the id".to_owned(),
        }),
        None => Err(none(request)),
    }
}

/// The last of one series. Snapshots of several shops, machines or sets of paths are several series: unless
/// the paths that were asked for are exactly those of one, or only one holds what is wanted of it, it is
/// refused, and they are listed.
fn latest(request: &Request, mut fitting: Vec<Snapshot>) -> Result<Snapshot> {
    if series(&fitting).len() > 1 && !request.paths.is_empty() {
        let wanted: BTreeSet<&Path> = request.paths.iter().map(PathBuf::as_path).collect();
        fitting.retain(|snapshot| {
            let paths = snapshot.file.paths.iter().map(Path::new);
            paths.collect::<BTreeSet<&Path>>() == wanted
        });
    }
    if series(&fitting).len() > 1 && request.within.parent().is_some() {
        let holds = |path: &String| request.within.starts_with(path);
        fitting.retain(|snapshot| snapshot.file.paths.iter().any(holds));
    }
    let series = series(&fitting);
    if series.len() > 1 {
        let flags: Vec<String> = series.iter().map(Group::flags).collect();
        return Err(Error::Usage {
            finding: format!(
                "`{}` could mean one of {} series: several shops, machines or sets of paths",
                request.snapshot,
                series.len()
            ),
            next: format!(
                "add one of these, or name a snapshot by its id: {}",
                flags.join("; ")
            ),
        });
    }
    fitting.pop().ok_or_else(|| none(request))
}

/// A shop goes on with its series on another machine and with other paths.
fn series(snapshots: &[Snapshot]) -> BTreeSet<Group> {
    snapshots.iter().map(Group::of_snapshot).collect()
}

fn none(request: &Request) -> Error {
    let mut wanted = format!("{:?}", request.snapshot);
    let paths = request.paths.iter().map(|path| crate::units::shown(path));
    let shop = request.shop.iter().map(|shop| ("--shop", shop.clone()));
    let host = request.host.iter().map(|host| ("--host", host.clone()));
    let flags = shop
        .chain(host)
        .chain(paths.map(|path| ("--path", path)))
        .chain(request.tag.iter().map(|tag| ("--tag", tag.clone())));
    for (flag, value) in flags {
        // Writing to a String cannot fail.
        let _ = write!(wanted, " {flag} {value}");
    }
    if request.snapshot == "proven" {
        wanted += ": none that fits has passed `tillsafe verify`";
    }
    Error::NoSnapshot { wanted }
}
