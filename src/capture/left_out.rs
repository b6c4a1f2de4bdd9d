//! What a capture leaves out by rule: counted by rule, and each database among it by name.
//!
//! A rule never tears a database apart. Its `-wal`, `-shm` and `-journal` go with it: into the snapshot if it
//! is captured, whatever rule fits their names, and out of it if it is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::monitor::{Monitor, Problem};
use crate::source::files::Walk;
use crate::source::files::exclude::{Judge, Rule, literal_name};
use crate::source::sqlite::{self, Signature};

/// What was left out.
#[derive(Debug, Clone, Default)]
pub struct LeftOut {
    /// Each rule, in its owner's order, with what it has left out.
    pub rules: Vec<Count>,
    /// The databases among it that were seen, each with its rule.
    pub databases: Vec<Database>,
    /// Files that were larger than its owner's limit, with their bytes.
    pub large: BTreeMap<PathBuf, u64>,
}

/// What one rule has left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// The rule.
    pub rule: String,
    /// Items: a folder counts as one, whatever it holds.
    pub items: u64,
    /// The first of them.
    pub first: Option<PathBuf>,
}

/// A database that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its path.
    pub path: PathBuf,
    /// The rule.
    pub rule: String,
    /// Whether the rule names it, and does not merely fit.
    pub is_meant: bool,
    /// Whether the rule is of `--iexclude`.
    pub is_of_any_case: bool,
}

impl LeftOut {
    /// Items of all rules.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.rules.iter().map(|count| count.items).sum()
    }

    /// Names each database that a wildcard has left out: that may be an accident, and the worst there is.
    pub fn tell(&self, monitor: &dyn Monitor) {
        for database in self.databases.iter().filter(|one| !one.is_meant) {
            let name = literal_name(database.path.file_name().unwrap_or_default());
            let name = crate::units::Shown(name.as_bytes());
            // Each kind of list is judged by itself.
            let back = if database.is_of_any_case {
                format!("--iexclude !{name}")
            } else {
                format!("!{name}")
            };
            monitor.problem(Problem {
                item: crate::units::shown(&database.path),
                finding: format!(
                    "is a database, and is not backed up: the rule {} leaves it out. Take it back with a pattern after that one ({back}), or say that it is meant with one that names it ({name})",
                    crate::units::Shown(database.rule.as_bytes()),
                ),
                incomplete: false,
            });
        }
    }
}

/// Counts along the survey's walk.
#[derive(Debug)]
pub struct Counting<'a> {
    walk: &'a Walk,
    judge: Judge<'a>,
    counts: Vec<Count>,
    databases: BTreeMap<PathBuf, Rule>,
    /// Those that go with their database if it is captured.
    side_files: Vec<(PathBuf, Rule)>,
    /// What is left out by a name that its owner wrote out. It is not looked at: it may be unreadable, or hang.
    meant: BTreeSet<PathBuf>,
    /// Files that are too large, unless they turn out to be part of a database.
    large: Vec<(PathBuf, u64, Rule)>,
}

impl<'a> Counting<'a> {
    /// Counts what `walk` leaves out.
    #[must_use]
    pub fn new(walk: &'a Walk) -> Self {
        let excludes = walk.excludes();
        let count = |rule: &String| Count {
            rule: rule.clone(),
            items: 0,
            first: None,
        };
        Self {
            walk,
            judge: excludes.judge(walk.named()),
            counts: excludes.names().iter().map(count).collect(),
            databases: BTreeMap::new(),
            side_files: Vec::new(),
            meant: BTreeSet::new(),
            large: Vec::new(),
        }
    }

    /// Notes a file of so many bytes that the walk met and that does not begin as a database.
    pub fn file(&mut self, path: &Path, bytes: u64) {
        if let Some(rule) = self.walk.is_too_large(path, bytes) {
            self.large.push((path.to_owned(), bytes, rule));
        }
    }

    /// Notes what the walk has left out; returns the database whose log it is.
    pub fn item(&mut self, path: PathBuf, real: &Path, rule: Rule) -> Option<PathBuf> {
        let owner = sqlite::main_of(&path);
        if owner.is_none() && self.walk.excludes().is_meant(rule) {
            self.count(&path, rule);
            self.meant.insert(path);
            return None;
        }
        // A device is never opened.
        let is_file = std::fs::symlink_metadata(real).is_ok_and(|metadata| metadata.is_file());
        let signature = is_file.then(|| sqlite::signature(real).ok()).flatten();
        if owner.is_some() {
            self.side_files.push((path, rule));
            let is_log = matches!(signature, Some(Signature::Wal | Signature::Journal));
            return owner.filter(|_| is_log);
        }
        self.count(&path, rule);
        if signature == Some(Signature::Database) {
            self.databases.insert(path, rule);
        }
        None
    }

    /// Whether a file that no rule leaves out is part of a database that one does: without it, it is worse than
    /// nothing, for beside the database it would be taken for its own.
    #[must_use]
    pub fn is_part_of_left_out(&self, path: &Path) -> bool {
        let main = sqlite::main_of(path).filter(|main| self.meant.contains(main));
        main.is_some_and(|main| {
            let real = self.walk.real(&main);
            let is_file = std::fs::symlink_metadata(&real).is_ok_and(|found| found.is_file());
            is_file && sqlite::is_database(&real)
        })
    }

    /// Notes that there is a log of a database that is not among the files.
    pub fn log_without_file(&mut self, path: &Path) {
        let real = self.walk.real(path);
        if let Some(rule) = self.judge.leaves_out(path, &real)
            && real.is_file()
        {
            self.databases.insert(path.to_owned(), rule);
        }
    }

    /// What was left out beside the databases that are captured, and its bytes that the walk had counted.
    #[must_use]
    pub fn finish(mut self, captured: &BTreeMap<PathBuf, bool>) -> (LeftOut, u64) {
        let (mut bytes, mut large) = (0, BTreeMap::new());
        let is_part = |path: &Path| {
            captured.contains_key(path)
                || sqlite::main_of(path).is_some_and(|main| captured.contains_key(&main))
        };
        for (path, rule) in std::mem::take(&mut self.side_files) {
            if !is_part(&path) {
                self.count(&path, rule);
            }
        }
        for (path, size, rule) in std::mem::take(&mut self.large) {
            if !is_part(&path) {
                bytes += size;
                self.count(&path, rule);
                large.insert(path, size);
            }
        }
        let excludes = self.walk.excludes();
        let databases = self.databases.into_iter().map(|(path, rule)| Database {
            path,
            rule: excludes.names()[rule].clone(),
            is_meant: excludes.is_meant(rule),
            is_of_any_case: excludes.is_of_any_case(rule),
        });
        let left_out = LeftOut {
            rules: self.counts,
            databases: databases.collect(),
            large,
        };
        (left_out, bytes)
    }

    fn count(&mut self, path: &Path, rule: Rule) {
        if let Some(count) = self.counts.get_mut(rule) {
            count.items += 1;
            count.first.get_or_insert_with(|| path.to_owned());
        }
    }
}
