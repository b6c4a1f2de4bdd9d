//! What is told of items that cannot be read, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::monitor::{Monitor, Problem};

/// Why an item is not in the snapshot.
#[must_use]
pub fn unreadable(cause: &io::Error) -> String {
    let errno = Errno::from_io_error(cause);
    let next = match (cause.kind(), errno) {
        (io::ErrorKind::NotFound, _) => {
            return "vanished while it was looked at, and is not in this snapshot; if it was removed on purpose, nothing is lost".to_owned();
        }
        (_, Some(Errno::LOOP | Errno::NOTDIR)) => {
            return "became something else while it was looked at, and is not in this snapshot; the next backup has it".to_owned();
        }
        (io::ErrorKind::PermissionDenied, _) => "back up as root, or as a user who may read it",
        (_, Some(Errno::IO)) => {
            "its disk may be failing: `dmesg` tells more; earlier snapshots may have it"
        }
        (_, Some(Errno::STALE)) => "its file server has lost it: the next backup looks anew",
        _ => "the next backup tries again",
    };
    format!("cannot be read: {cause}; it is not in this snapshot: {next}")
}

/// What is told once a kind, not once an item: there may be a million.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<Note>);

/// The first item of which something is to be told, and how many there are.
#[derive(Debug)]
struct Note {
    finding: &'static str,
    first: PathBuf,
    count: u64,
    incomplete: bool,
}

impl Notes {
    pub(super) fn add(&mut self, path: &Path, finding: &'static str, incomplete: bool) {
        if let Some(note) = self.0.iter_mut().find(|note| note.finding == finding) {
            note.count += 1;
            return;
        }
        self.0.push(Note {
            finding,
            first: path.to_owned(),
            count: 1,
            incomplete,
        });
    }

    pub(super) fn tell(&self, monitor: &dyn Monitor) {
        for note in &self.0 {
            let others = if note.count > 1 {
                format!(" (and so with {} more)", note.count - 1)
            } else {
                String::new()
            };
            monitor.problem(Problem {
                item: crate::units::shown(&note.first),
                finding: format!("{}{others}", note.finding),
                incomplete: note.incomplete,
            });
        }
    }
}
