//! One consistent reading of what was asked for: which databases, which files, what they held.
//!
//! [`Survey`] looks first, so that databases are read before files: every file that a row names was
//! there before the row was read. [`manifest`] is what a snapshot says about itself.

pub mod left_out;
pub mod manifest;
pub mod parent;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::monitor::{self, Monitor, Problem};
use crate::source::files::exclude::Excludes;
use crate::source::files::{Step, Walk};
use crate::source::sqlite::{self, SIDE_FILES, Signature};
use left_out::{Counting, LeftOut};

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
    /// Looks at everything below `roots`, but for `excluded` and what the `rules` say.
    ///
    /// # Errors
    /// [`crate::error::Error::Source`] if a root cannot be looked at; [`crate::error::Error::Usage`] if a
    /// rule leaves one out.
    pub fn take(
        roots: &[PathBuf],
        excluded: &[PathBuf],
        rules: &Excludes,
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
        let mut files = BTreeSet::new();
        let mut databases = BTreeSet::new();
        let mut bytes = 0;
        let mut counting = Counting::new(&walk);
        // What this walk finds wrong is said by the second one, which reads.
        walk.run(&Unheard(monitor), &mut |step| {
            match step {
                Step::File(path, _, size) => {
                    let real = walk.real(&path);
                    bytes += size;
                    // Unreadable: the second walk will say so.
                    match sqlite::signature(&real).unwrap_or(Signature::Other) {
                        Signature::Database => drop(databases.insert(path.clone())),
                        Signature::Wal => databases.extend(owner(&path, "-wal")),
                        Signature::Journal => databases.extend(owner(&path, "-journal")),
                        // The walk does not come past the files beside one that was named alone.
                        Signature::Other if roots.contains(&path) && has_log(&real) => {
                            databases.insert(path.clone());
                        }
                        Signature::Other => {}
                    }
                    counting.file(&path, size);
                    files.insert(path);
                }
                Step::LeftOut(path, real, rule) => {
                    databases.extend(counting.item(path, &real, rule));
                }
                _ => {}
            }
            Ok(())
        })?;
        for path in databases.iter().filter(|path| !files.contains(*path)) {
            counting.log_without_file(path);
        }
        let databases: BTreeMap<PathBuf, bool> = databases
            .into_iter()
            .filter(|path| files.contains(path))
            .map(|path| {
                let named = roots.contains(&path);
                (path, named)
            })
            .collect();
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
                .filter(is_part),
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
            let place = (metadata.dev(), metadata.ino());
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

/// The database that a side file belongs to by its name.
fn owner(side_file: &Path, suffix: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let name = side_file
        .as_os_str()
        .as_bytes()
        .strip_suffix(suffix.as_bytes())?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(name)))
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
