//! One consistent reading of what was asked for: which databases, which files, what they held.
//!
//! [`Survey`] looks first, so that databases are read before files: every file that a row names was
//! there before the row was read. [`manifest`] is what a snapshot says about itself.

pub mod left_out;
pub mod manifest;
pub mod parent;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::durable::Identity;
use crate::error::{Error, Result};
use crate::monitor::{self, Monitor, Problem};
use crate::source::files::exclude::Excludes;
use crate::source::files::{Item, Step, Walk};
use crate::source::sqlite::{self, SIDE_FILES, Signature};
use left_out::{Counting, LeftOut};
use parent::{Descent, Parent};

/// What there is to capture.
#[derive(Debug)]
pub struct Survey {
    /// The way through the files.
    pub walk: Walk,
    /// The databases on that way; `true` for one that was asked for by name.
    pub databases: BTreeMap<PathBuf, bool>,
    /// The databases that were met under several names, in order, by each of them.
    pub names: BTreeMap<PathBuf, Vec<PathBuf>>,
    /// Bytes of regular files, for progress.
    pub bytes: u64,
    /// What is left out by rule.
    pub left_out: LeftOut,
}

impl Survey {
    /// Looks at everything below `roots`, but for `excluded` and what the `rules` say. What the `parent`
    /// tells to be no database is not opened.
    ///
    /// # Errors
    /// [`crate::error::Error::Source`] if a root cannot be looked at; [`crate::error::Error::Usage`] if a
    /// rule leaves one out.
    pub fn take(
        roots: &[PathBuf],
        excluded: &[PathBuf],
        rules: &Excludes,
        parent: Option<&Parent<'_>>,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        monitor.step(monitor::Step::Surveying, None);
        let mut walk = Walk::plan(roots, excluded, rules)?;
        for root in roots.iter().filter(|root| is_empty_folder(root)) {
            monitor.problem(Problem {
                item: crate::units::shown(root),
                finding: "is empty; is something to be mounted there?".to_owned(),
                incomplete: false,
            });
        }
        let mut databases = BTreeMap::new();
        let mut bytes = 0;
        let mut met = vec![Names::default()];
        let mut alone = BTreeSet::new();
        let mut parts = Vec::new();
        let mut counting = Counting::new(&walk);
        // What this walk finds wrong is said by the second one, which reads.
        let unheard = Unheard(monitor);
        let mut before = Before::new(parent, roots, &unheard);
        walk.run(&unheard, &mut |step| {
            let (database, siblings) = match step {
                Step::Enter(item) => {
                    before.enter(item);
                    met.push(Names::default());
                    return Ok(());
                }
                Step::Leave => {
                    before.leave();
                    met.pop();
                    return Ok(());
                }
                Step::Other(..) => return Ok(()),
                Step::LeftOut(path, real, rule) => {
                    let name = path.file_name().unwrap_or_default().to_owned();
                    let database = counting.item(path, &real, rule);
                    (database, met.last_mut().map(|names| names.before(&name)))
                }
                Step::File(item) => {
                    let path = item.path();
                    bytes += item.size();
                    counting.file(path, item.size());
                    if counting.is_part_of_left_out(path) {
                        parts.push(path.to_owned());
                    }
                    let siblings = met.last_mut().map(|names| names.meet(item.name()));
                    let is_told = before.tells_no_database(item);
                    let database = (!is_told).then(|| database_of(item, roots));
                    (database.flatten(), siblings)
                }
            };
            if let Some(path) = database {
                let siblings = siblings.unwrap_or_default();
                let is_met = |name: &OsString| Some(name.as_os_str()) == path.file_name();
                if siblings.iter().any(is_met) {
                    databases.insert(path.clone(), roots.contains(&path));
                } else {
                    alone.insert(path);
                }
            }
            Ok(())
        })?;
        for path in &alone {
            counting.log_without_file(path);
        }
        let (left_out, left_out_bytes) = counting.finish(&databases);
        left_out.tell(monitor);
        // An application makes and removes them all the time: none of them is missing.
        let beside = |path| SIDE_FILES.map(|suffix| sqlite::beside(path, suffix));
        let is_part = |file: &PathBuf| !databases.contains_key(file);
        let not_captured = left_out.databases.iter().map(|one| &one.path);
        walk.pass_over(
            databases
                .keys()
                .chain(not_captured)
                .flat_map(|path| beside(path))
                .filter(is_part)
                .chain(parts),
        );
        let names = names(&databases, &walk);
        Ok(Self {
            walk,
            databases,
            names,
            bytes: bytes - left_out_bytes,
            left_out,
        })
    }
}

/// Those of the databases that were met under several names, by each of them: hard links, or a folder that is
/// mounted twice.
fn names(databases: &BTreeMap<PathBuf, bool>, walk: &Walk) -> BTreeMap<PathBuf, Vec<PathBuf>> {
    let mut by_place: BTreeMap<_, Vec<PathBuf>> = BTreeMap::new();
    for path in databases.keys() {
        // One that is gone by now: its capture will say so.
        if let Ok(metadata) = std::fs::metadata(walk.real(path)) {
            let place = Identity::of(&metadata);
            by_place.entry(place).or_default().push(path.clone());
        }
    }
    let several = by_place.into_values().filter(|names| names.len() > 1);
    let by_each = |names: Vec<PathBuf>| {
        names
            .clone()
            .into_iter()
            .map(move |name| (name, names.clone()))
    };
    several.flat_map(by_each).collect()
}

/// Fails unless each of these files is a database now. A survey takes what no longer begins as one for a
/// plain file: of a path that its owner calls a database, that would be a bad backup called good.
///
/// # Errors
/// [`Error::Source`] for the first that is not.
pub fn require_databases(paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        let fail = |finding: String| Error::Source {
            name: crate::units::shown(path),
            finding,
        };
        let real = std::fs::canonicalize(path).map_err(|cause| fail(cause.to_string()))?;
        let signature = sqlite::signature(&real).map_err(|cause| fail(cause.to_string()))?;
        if signature != Signature::Database && !has_log(&real) {
            return Err(fail(
                "it does not begin as a SQLite database does".to_owned(),
            ));
        }
    }
    Ok(())
}

/// Whether a log lies beside the file that makes a database of it, whatever the file holds.
fn has_log(path: &Path) -> bool {
    let logs = [("-wal", Signature::Wal), ("-journal", Signature::Journal)];
    logs.into_iter().any(|(suffix, kind)| {
        sqlite::signature(&sqlite::beside(path, suffix)).is_ok_and(|found| found == kind)
    })
}

fn is_empty_folder(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut listed| listed.next().is_none())
}

/// What the snapshot before says of files, beside a walk.
#[derive(Debug)]
struct Before<'a> {
    roots: &'a [PathBuf],
    way: Option<(&'a Parent<'a>, Descent<'a>)>,
}

impl<'a> Before<'a> {
    fn new(parent: Option<&'a Parent<'a>>, roots: &'a [PathBuf], monitor: &'a dyn Monitor) -> Self {
        let way = parent.map(|parent| (parent, parent.descend(monitor)));
        Self { roots, way }
    }

    fn enter(&mut self, folder: &Item) {
        if let Some((_, descent)) = &mut self.way {
            descent.enter(folder.name());
        }
    }

    fn leave(&mut self) {
        if let Some((_, descent)) = &mut self.way {
            descent.leave();
        }
    }

    /// Whether it tells, without a look at the file, that it is no database. What lies beside a database may
    /// be what it was, and now belong to one; what was asked for by name is always looked at.
    fn tells_no_database(&mut self, item: &Item) -> bool {
        let Some((parent, descent)) = &mut self.way else {
            return false;
        };
        let before = descent.take(item.name());
        let name = item.name().as_bytes();
        let is_beside = SIDE_FILES
            .iter()
            .any(|suffix| name.ends_with(suffix.as_bytes()));
        !is_beside
            && !self.roots.iter().any(|root| root == item.path())
            && before.is_some_and(|before| parent.tells_no_database(&before, item))
    }
}

/// The database that a file of the walk is, or belongs to.
fn database_of(item: &Item, roots: &[PathBuf]) -> Option<PathBuf> {
    let path = item.path();
    match signature(item) {
        Signature::Database => Some(path.to_owned()),
        Signature::Wal => sqlite::without(path, "-wal"),
        Signature::Journal => sqlite::without(path, "-journal"),
        // The walk does not come past the files beside one that was named alone.
        Signature::Other if roots.iter().any(|root| root == path) => {
            has_log(item.real()).then(|| path.to_owned())
        }
        Signature::Other => None,
    }
}

/// What the first bytes of a file of the walk say.
fn signature(item: &Item) -> Signature {
    /// Bytes of the shortest of all signatures: a log's.
    const SHORTEST: u64 = 4;
    if item.size() < SHORTEST {
        return Signature::Other;
    }
    let signature = item.open().and_then(|file| sqlite::signature_of(&file));
    // Unreadable: the second walk will say so.
    signature.unwrap_or(Signature::Other)
}

/// Those names of one folder that may be the beginning of the next: each begins with the one before it.
///
/// Names come in order, so a database comes before its log, and all that comes between begins with its name.
#[derive(Debug, Default)]
struct Names(Vec<OsString>);

impl Names {
    /// Adds the next name; returns those that it begins with, and itself.
    fn meet(&mut self, name: &OsStr) -> &[OsString] {
        self.before(name);
        self.0.push(name.to_owned());
        &self.0
    }

    /// Those that the next name begins with.
    fn before(&mut self, name: &OsStr) -> &[OsString] {
        let is_beginning = |other: &OsString| name.as_bytes().starts_with(other.as_bytes());
        while self.0.last().is_some_and(|last| !is_beginning(last)) {
            self.0.pop();
        }
        &self.0
    }
}

/// Hears signals only.
#[derive(Debug)]
struct Unheard<'a>(&'a dyn Monitor);

impl Monitor for Unheard<'_> {
    fn step(&self, _step: monitor::Step, _bytes: Option<u64>) {}

    fn progress(&self, _progress: monitor::Progress) {}

    fn problem(&self, _problem: monitor::Problem) {}

    fn signal(&self) -> Option<i32> {
        self.0.signal()
    }
}
