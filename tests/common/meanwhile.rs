//! A world that changes at a moment of a backup.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use tillsafe::backend::Backend;
use tillsafe::backup::{self, Options, Outcome};
use tillsafe::durable::{Disk, OsDisk};
use tillsafe::error::Result;
use tillsafe::monitor::{Monitor, Problem, Progress, Step};

use super::library::{open, options};

/// Tells whoever changes the world how far the backup has come.
struct Meanwhile<F>(Mutex<F>);

impl<F> std::fmt::Debug for Meanwhile<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl<F: FnMut(Progress) + Send> Monitor for Meanwhile<F> {
    fn step(&self, _step: Step, _bytes: Option<u64>) {}

    fn progress(&self, progress: Progress) {
        (self.0.lock().unwrap())(progress);
    }

    fn problem(&self, _problem: Problem) {}
}

/// Backs `path` up and calls `act` at each progress.
pub fn back_up_and_act(
    backend: &Arc<dyn Backend>,
    path: &Path,
    act: impl FnMut(Progress) + Send,
) -> Result<Outcome> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let options = options(&[path], path.parent().unwrap(), &disk);
    back_up_by(backend, &options, act)
}

/// The same with options of the test's own.
pub fn back_up_by(
    backend: &Arc<dyn Backend>,
    options: &Options,
    act: impl FnMut(Progress) + Send,
) -> Result<Outcome> {
    let monitor = Meanwhile(Mutex::new(act));
    backup::backup(&open(backend).unwrap(), options, &monitor)
}

/// The same, and calls it once, when the first file or database has been read.
pub fn back_up_meanwhile(
    backend: &Arc<dyn Backend>,
    path: &Path,
    act: impl FnOnce() + Send,
) -> Result<Outcome> {
    let mut act = Some(act);
    back_up_and_act(backend, path, move |progress| {
        if progress.files > 0
            && let Some(act) = act.take()
        {
            act();
        }
    })
}
