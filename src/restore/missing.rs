//! What a snapshot lacks, as far as it says so: what its capture could not read, and what was left out when
//! it was repaired. What stands in the place of such a thing must not go for it.

use std::collections::HashSet;
use std::path::Path;

use super::plan::Plan;
use crate::capture::manifest::Note;
use crate::entry::Kind;
use crate::monitor::{Monitor, Problem};
use crate::source::files::ATTRIBUTES_UNREADABLE;
use crate::units::shown;

/// Most items that are kept by their names; if there are more, any may be one of them.
const MAX_NAMED: usize = 10_000;

/// What a snapshot lacks of what a plan asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// What its capture could not read, with why.
    pub named: Vec<Note>,
    /// Whether it lacks something that is written down nowhere.
    pub unnamed: bool,
}

impl Missing {
    /// Whether nothing is missing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.named.is_empty() && !self.unnamed
    }

    /// The names of what is missing, as [`Self::may_be`] compares them.
    pub(super) fn names(&self) -> HashSet<&str> {
        self.named.iter().map(|note| note.item.as_str()).collect()
    }

    /// Whether an item that the snapshot does not have, at one of these paths, may be what it lacks.
    pub(super) fn may_be(&self, names: &HashSet<&str>, paths: &[&Path]) -> bool {
        // Notes write paths as they are shown; a folder that could not be read lacks all below it.
        let is_named = |path: &Path| names.contains(shown(path).as_str());
        let mut all = paths.iter().flat_map(|path| path.ancestors());
        self.unnamed || (!names.is_empty() && all.any(is_named))
    }
}

impl Plan {
    /// What the snapshot lacks of what is asked for.
    #[must_use]
    pub fn missing(&self) -> Missing {
        let file = &self.snapshot.file;
        let notes = self.notes();
        // One that was stored anew, by a repair or for its tags, may lack more than its capture knew.
        let mut unnamed = file.is_incomplete() && (notes.is_empty() || file.original.is_some());
        let stored = if notes.is_empty() {
            HashSet::new()
        } else {
            self.stored()
        };
        // What is there may be of two moments, or without its attributes, but it is there.
        let is_missing = |note: &&Note| {
            self.covers_noted(&note.item)
                && !stored.contains(&note.item)
                && !note.finding.starts_with(ATTRIBUTES_UNREADABLE)
        };
        let missing = notes.iter().filter(is_missing);
        let mut named: Vec<Note> = missing.take(MAX_NAMED + 1).cloned().collect();
        if named.len() > MAX_NAMED {
            named.truncate(MAX_NAMED);
            unnamed = true;
        }
        Missing { named, unnamed }
    }

    /// Whether what a note names is among what is asked for. Notes write paths as they are shown; a name that
    /// needs escapes for it is judged by no pattern: what it may be is not to be lost.
    fn covers_noted(&self, item: &str) -> bool {
        let base = shown(&self.base);
        let is_below = Path::new(item).starts_with(&base);
        is_below && (item.contains('\\') || self.covers(Path::new(item)))
    }

    /// What is no folder, by the paths that notes write. A folder is there, too, where it could not be read.
    fn stored(&self) -> HashSet<String> {
        let items = self.items.iter();
        let items = items.filter(|item| item.entry.kind != Kind::Folder);
        items
            .map(|item| shown(&self.path_in_snapshot(item)))
            .collect()
    }

    fn notes(&self) -> &[Note] {
        let manifest = self.manifest.as_ref();
        manifest.map_or(&[], |manifest| manifest.incomplete.as_slice())
    }

    /// What the manifest says of a path that is not there.
    pub(super) fn why_missing(&self) -> Option<String> {
        let wanted = shown(&self.base);
        let note = self.notes().iter().find(|note| note.item == wanted)?;
        Some(note.finding.clone())
    }

    /// Tells what this restore cannot bring back: what its capture missed or a repair has left out, and what
    /// this version lists but does not restore.
    pub(super) fn tell_missing(&self, monitor: &dyn Monitor) {
        if self.snapshot.file.is_incomplete() && self.notes().is_empty() {
            monitor.problem(Problem {
                item: format!("snapshot {}", self.snapshot.id.short()),
                finding: "it is marked incomplete: what was lost was left out when it was repaired"
                    .to_owned(),
                incomplete: true,
            });
        }
        for note in self.notes() {
            if self.covers_noted(&note.item) {
                monitor.problem(Problem {
                    item: note.item.clone(),
                    finding: format!("when it was captured: {}", note.finding),
                    incomplete: true,
                });
            }
        }
        for (file, part) in self.parts_left() {
            monitor.problem(Problem {
                item: shown(file),
                finding: format!(
                    "{part} lies beside it in the snapshot, and a database is not whole without it; restore both"
                ),
                incomplete: true,
            });
        }
        for item in &self.items {
            let (finding, incomplete) = match &item.entry.kind {
                // It holds nothing that could be.
                Kind::Socket => ("a socket is not restored".to_owned(), false),
                Kind::Other(kind) => (format!("a {kind} is not restored by this version"), true),
                _ => continue,
            };
            monitor.problem(Problem {
                item: shown(&item.path),
                finding,
                incomplete,
            });
        }
    }
}
