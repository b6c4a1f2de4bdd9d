//! Repair: what is whole is named again, stored again, or kept; nothing that can be restored is given up.
//!
//! ```text
//! index:      headers of packs ► new index ► old index files go
//! packs:      whole blobs of broken packs ► new packs ► their index ► index without the broken ones
//!             ► the broken packs go ► old index files go
//! snapshots:  trees without what is lost ► index ► new snapshot ► (when asked for) the old one goes
//! ```
//! Each holds the exclusive lock, and asks for it around every removal; what takes long, reading all packs, is
//! done before. Whatever stops one of them, what
//! was there before is there still, and running it again completes it. Only bytes that were read and are
//! wrong are lost: what could not be reached stays where it is. Called by `cli`.

mod describe;
mod examine;
mod fields;
mod index;
mod inventory;
mod packs;
mod snapshots;
mod trees;

use serde::Serialize;

use crate::backend::Object;
use crate::monitor::{Monitor, Problem, Progress, Step};

pub use index::{IndexReport, repair_index};
pub use packs::{Broken, PacksReport, Which, find_broken, repair_packs};
pub use snapshots::{SnapshotsReport, Subject, repair_snapshots};

/// What is done about a pack that no index names and whose header cannot be read, and what is left to do.
const NAMELESS: &str = "left: nobody can say what it holds";
const REMOVE: &str = "`tillsafe repair packs` with its id removes it";

/// One object that a repair had to do with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Its name below the repository; `index` for all of it.
    pub object: String,
    /// What is wrong with it.
    pub finding: String,
    /// What is done about it.
    pub done: String,
    /// What is left to do; nothing if all is done.
    pub next: Option<String>,
}

impl Note {
    fn mended(object: Object, finding: impl Into<String>, done: impl Into<String>) -> Self {
        Self {
            object: object.to_string(),
            finding: finding.into(),
            done: done.into(),
            next: None,
        }
    }

    fn left(
        object: Object,
        finding: impl Into<String>,
        done: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            next: Some(next.into()),
            ..Self::mended(object, finding, done)
        }
    }
}

/// Whether all of what is to be done was done; `only_told` if there was anything to do and no lock to do it.
fn all_mended(notes: &[Note], only_told: bool) -> bool {
    !only_told && notes.iter().all(|note| note.next.is_none())
}

/// Watches for a signal, and tells nothing: what is read once more was told before.
#[derive(Debug)]
struct Hushed<'a>(&'a dyn Monitor);

impl Monitor for Hushed<'_> {
    fn step(&self, _step: Step, _bytes: Option<u64>) {}

    fn progress(&self, _progress: Progress) {}

    fn problem(&self, _problem: Problem) {}

    fn signal(&self) -> Option<i32> {
        self.0.signal()
    }
}
