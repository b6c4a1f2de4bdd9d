//! Snapshots: what was backed up when, and where its tree is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::Id;
use crate::monitor::{Monitor, Problem};

/// The path of a snapshot that holds our own records (what was proved when), and nothing of a shop.
pub const RECORDS: &str = "/.tillsafe/records";

/// Program and version, as snapshots and what is in them name them.
pub const PROGRAM: &str = concat!("tillsafe ", env!("CARGO_PKG_VERSION"));

/// A snapshot object. Field order is restic's; no field of our own, for other tools drop those.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFile {
    /// When the capture began.
    #[serde(deserialize_with = "super::format::lenient_required_time")]
    pub time: Timestamp,
    /// The snapshot this one followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Id>,
    /// The root tree.
    pub tree: Id,
    /// What was asked for: absolute paths.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub paths: Vec<String>,
    /// The machine.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// The user.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The user's number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// The group's number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// What was left out on request.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub excludes: Vec<String>,
    /// Marks, among them `shop=NAME`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub tags: Vec<String>,
    /// The first id of a snapshot that was written anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Id>,
    /// The program that made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program_version: String,
    /// What it cost and holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
}

/// The mark of a snapshot that lacks something of what it should hold.
pub const INCOMPLETE: &str = "incomplete";
/// The mark of a snapshot that is whole, but implausible beside the one before.
pub const SUSPECT: &str = "suspect";
/// The mark of a snapshot whose rules have left something out, and by whose rules none of its series was made
/// before: that may be a slip of the keyboard.
pub const NEW_RULES: &str = "new-rules";
/// Our own marks: a snapshot with one of them is not a good one.
pub const OWN_MARKS: [&str; 3] = [INCOMPLETE, SUSPECT, NEW_RULES];

impl SnapshotFile {
    /// Whether it is marked as lacking something.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.tags.iter().any(|tag| tag == INCOMPLETE)
    }

    /// Whether it has none of [`OWN_MARKS`].
    #[must_use]
    pub fn is_good(&self) -> bool {
        let is_own = |tag: &String| OWN_MARKS.contains(&tag.as_str());
        !self.tags.iter().any(is_own)
    }
}

/// Some writers say `null` for an empty list.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Counts of a backup run. `restic rewrite` computes the two totals anew and compares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// When the run began.
    #[serde(default)]
    pub backup_start: Timestamp,
    /// When it ended.
    #[serde(default)]
    pub backup_end: Timestamp,
    /// Files that the parent did not have.
    #[serde(default)]
    pub files_new: u64,
    /// Files that differ from the parent's.
    #[serde(default)]
    pub files_changed: u64,
    /// Files that do not.
    #[serde(default)]
    pub files_unmodified: u64,
    /// As for files.
    #[serde(default)]
    pub dirs_new: u64,
    /// As for files.
    #[serde(default)]
    pub dirs_changed: u64,
    /// As for files.
    #[serde(default)]
    pub dirs_unmodified: u64,
    /// New data blobs.
    #[serde(default)]
    pub data_blobs: u64,
    /// New tree blobs.
    #[serde(default)]
    pub tree_blobs: u64,
    /// Plain bytes of new blobs.
    #[serde(default)]
    pub data_added: u64,
    /// The same, as stored.
    #[serde(default)]
    pub data_added_packed: u64,
    /// Files in the snapshot.
    #[serde(default)]
    pub total_files_processed: u64,
    /// Bytes of all files in the snapshot.
    #[serde(default)]
    pub total_bytes_processed: u64,
}

/// A snapshot with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: Id,
    /// What it says.
    pub file: SnapshotFile,
}

impl Snapshot {
    /// Says if it lies in the future: until that has come it is `latest`, and none that is made now.
    pub fn tell_future(&self, now: Timestamp, monitor: &dyn Monitor) {
        if self.file.time <= now {
            return;
        }
        monitor.problem(Problem {
            item: format!("snapshot {}", self.id.short()),
            finding: format!(
                "is of {:.0}, and this machine's clock says {now:.0}: if the clock is wrong, set it right; until it has passed that time, `latest` is that snapshot and none made now",
                self.file.time
            ),
            incomplete: false,
        });
    }

    /// Whether it holds our own records, and so is none of a shop's.
    #[must_use]
    pub fn is_record(&self) -> bool {
        self.file.paths == [RECORDS]
    }

    /// The id that it was first stored under: whoever marks or copies a snapshot gives it a new one.
    #[must_use]
    pub fn origin(&self) -> Id {
        self.file.original.unwrap_or(self.id)
    }
}

/// The snapshots of a repository.
#[derive(Debug, Default)]
pub struct Snapshots {
    /// Oldest first.
    pub readable: Vec<Snapshot>,
    /// Those that cannot be read: any of them might be the newest.
    pub damaged: Vec<Id>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_writers_leave_out_is_no_damage() {
        let tree = Id::of(b"tree");
        let text = format!(
            r#"{{"time":"2020-01-01T01:00:00+01:00","tree":"{tree}","paths":null,"tags":null,"summary":{{"files_new":1}},"label":"x"}}"#
        );
        let file: SnapshotFile = serde_json::from_str(&text).unwrap();
        assert_eq!((file.tree, file.paths.len(), file.tags.len()), (tree, 0, 0));
        assert_eq!(file.summary.unwrap().files_new, 1);
    }
}
