//! What a verb tells whoever watches it. The library itself never prints.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::error::{Error, Result};

/// What a verb is doing now; each names its own total in bytes where it knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Deriving the key and reading the index.
    Opening,
    /// Looking for files and databases.
    Surveying,
    /// Reading databases and files into the repository.
    BackingUp,
    /// Reading the repository's objects.
    Checking,
    /// Writing a copy beside the target.
    Staging,
    /// Reading the copy back.
    Verifying,
    /// The engine checks the copies of databases.
    EngineChecking,
    /// Loading dumps into a server.
    Loading,
    /// Setting owners, modes and times.
    Finishing,
    /// Making it durable.
    Syncing,
    /// Waiting for somebody else's lock.
    Waiting,
    /// Reading all folders for the blobs that snapshots need.
    Counting,
    /// Storing again what is needed of packs that go.
    Repacking,
    /// Removing what nobody needs.
    Removing,
    /// Reading the folders of snapshots.
    Looking,
    /// Writing a file or an archive out.
    Dumping,
}

impl Step {
    /// The step in a person's words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Opening => "opening the repository",
            Self::Surveying => "looking at files",
            Self::BackingUp => "backing up",
            Self::Checking => "checking",
            Self::Staging => "restoring",
            Self::Verifying => "reading the copy back",
            Self::EngineChecking => "having SQLite check the databases",
            Self::Loading => "loading into a server",
            Self::Finishing => "setting owners, modes and times",
            Self::Syncing => "making it durable",
            Self::Waiting => "waiting for the lock",
            Self::Counting => "looking for what is still needed",
            Self::Repacking => "repacking",
            Self::Removing => "removing what nobody needs",
            Self::Looking => "looking at snapshots",
            Self::Dumping => "writing",
        }
    }
}

/// How far the current step has come, counted from its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes done since the last call.
    pub bytes: u64,
    /// Files done since the last call.
    pub files: u64,
}

/// Something about one item that did not stop the verb.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The item: a path, an object.
    pub item: String,
    /// What is wrong with it.
    pub finding: String,
    /// Whether the item is missing from the result, or not whole (exit 3); else it is only worth
    /// knowing.
    pub incomplete: bool,
}

/// Watches a verb, and may ask it to stop.
pub trait Monitor: Debug + Send + Sync {
    /// A new step begins; `bytes` is its total where it is known.
    fn step(&self, step: Step, bytes: Option<u64>);

    /// More of the current step is done.
    fn progress(&self, progress: Progress);

    /// One item has a problem.
    fn problem(&self, problem: Problem);

    /// The signal that asks us to stop, if one has come.
    fn signal(&self) -> Option<i32> {
        None
    }
}

/// Fails if a signal asks us to stop.
///
/// # Errors
/// [`Error::Interrupted`] with the signal's number.
pub fn go_on(monitor: &dyn Monitor) -> Result<()> {
    match monitor.signal() {
        Some(signal) => Err(Error::Interrupted { signal }),
        None => Ok(()),
    }
}

/// Watches silently and keeps the problems, for tests and for scripts that use the library.
#[derive(Debug, Default)]
pub struct Quiet {
    problems: Mutex<Vec<Problem>>,
}

impl Quiet {
    /// The problems so far.
    ///
    /// # Panics
    /// Never: nothing panics while it holds the list.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.problems
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Monitor for Quiet {
    fn step(&self, _step: Step, _bytes: Option<u64>) {}

    fn progress(&self, _progress: Progress) {}

    fn problem(&self, problem: Problem) {
        self.problems
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(problem);
    }
}

/// Passes everything on, and keeps the problems for who has to know of them, too.
#[derive(Debug)]
pub struct Noted<'a> {
    monitor: &'a dyn Monitor,
    problems: Mutex<Vec<Problem>>,
}

impl<'a> Noted<'a> {
    /// Watches for `monitor`.
    #[must_use]
    pub fn new(monitor: &'a dyn Monitor) -> Self {
        Self {
            monitor,
            problems: Mutex::default(),
        }
    }

    /// The problems since the last call.
    ///
    /// # Panics
    /// Never: nothing panics while it holds the list.
    #[must_use]
    pub fn take(&self) -> Vec<Problem> {
        std::mem::take(&mut *self.problems.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Monitor for Noted<'_> {
    fn step(&self, step: Step, bytes: Option<u64>) {
        self.monitor.step(step, bytes);
    }

    fn progress(&self, progress: Progress) {
        self.monitor.progress(progress);
    }

    fn problem(&self, problem: Problem) {
        self.monitor.problem(problem.clone());
        self.problems
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(problem);
    }

    fn signal(&self) -> Option<i32> {
        self.monitor.signal()
    }
}
