//! What stands where a copy is to go: what would be replaced, and what of it the snapshot does not have.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::Spot;
use super::holders::{Holder, Holders};
use super::left_out::Left;
use crate::durable::Identity;
use crate::durable::scratch::is_scratch;
use crate::entry::Kind;
use crate::error::{Error, Result};
use crate::id::{Hasher, Id};
use crate::monitor::{Monitor, go_on};
use crate::restore::plan::Plan;
use crate::source::sqlite::{self, SIDE_FILES};

/// Most paths of a kind that are listed; the others are counted.
const MAX_LISTED: usize = 20;

/// Paths of one kind: how many, and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: Vec<PathBuf>,
}

impl Paths {
    pub(super) fn add(&mut self, path: &Path) {
        self.count += 1;
        if self.first.len() < MAX_LISTED {
            self.first.push(path.to_owned());
        }
    }
}

/// What stands under a root.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Files, links and others that are no folders.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Changed since the snapshot: the change is lost.
    pub changed: Paths,
    /// Not in the snapshot: gone after the restore.
    pub unknown: Paths,
    /// Not in the snapshot either, and it may be what that failed to save.
    pub unsaved: Paths,
    /// The same, relative to the root, all of it; of a folder that is such itself, only its own path.
    pub(super) all_unsaved: BTreeSet<PathBuf>,
    /// Left out of the snapshot by rule: it stays where it is.
    pub left_out: Paths,
    /// The same, all of it, relative to the root.
    pub(super) stays: BTreeSet<PathBuf>,
    /// Databases.
    pub databases: Vec<PathBuf>,
    /// Open databases, with who has them open.
    pub(super) open: Vec<(PathBuf, Holder)>,
    /// Hash of all of it: names, kinds, sizes, times, identities.
    pub(super) hash: Id,
}

impl Survey {
    /// Of where nothing was looked at yet.
    fn nothing() -> Self {
        Self {
            files: 0,
            bytes: 0,
            changed: Paths::default(),
            unknown: Paths::default(),
            unsaved: Paths::default(),
            all_unsaved: BTreeSet::new(),
            left_out: Paths::default(),
            stays: BTreeSet::new(),
            databases: Vec::new(),
            open: Vec::new(),
            hash: Id::of(&[]),
        }
    }
}

/// Looks at everything that stands at a spot, which `plan` would replace.
///
/// # Errors
/// [`Error::TargetUnfit`] if another file system is mounted in it, [`Error::File`], [`Error::Interrupted`].
pub(super) fn survey(
    plan: &Plan,
    spot: &Spot,
    holders: &Holders,
    monitor: &dyn Monitor,
) -> Result<Survey> {
    let (root, live) = (PathBuf::new(), spot.live.as_path());
    let (left, _) = Left::of(plan, spot);
    let mut watch = left.watch(spot);
    let stored: BTreeSet<&Path> = plan.items.iter().map(|item| item.path.as_path()).collect();
    let is_stored = &|inner: &Path| plan.is_file() || inner == root || stored.contains(inner);
    // Of a folder that the snapshot holds more of than its name, what is mounted there hides the place.
    let is_bare = |inner: &Path| {
        let mut stored = stored.iter();
        !stored.any(|path| *path != inner && path.starts_with(inner))
    };
    let folders = plan.items.iter();
    let folders = folders.filter(|item| item.entry.kind == Kind::Folder);
    let folders: BTreeSet<&Path> = folders.map(|item| item.path.as_path()).collect();
    // A folder that a file or a link is to replace goes with all it holds.
    let goes = |inner: &Path| {
        let mut names = inner.ancestors();
        names.any(|name| stored.contains(name) && !folders.contains(name))
    };
    // With a filter, what was not selected stays as it is.
    let stays = |inner: &Path| {
        let main = sqlite::main_of(inner);
        !plan.filter.is_empty()
            && !is_stored(inner)
            && !main.is_some_and(|main| is_stored(&main))
            && !goes(inner)
    };
    let missing = plan.missing();
    let missing_names = missing.names();
    let is_unsaved = &|inner: &Path, path: &Path| {
        missing.may_be(&missing_names, &[path, &plan.base.join(inner)])
    };
    let mut surveyor = Surveyor {
        snapshot_time: plan.snapshot.file.time,
        is_stored,
        is_unsaved,
        holders,
        survey: Survey::nothing(),
        hasher: Hasher::default(),
    };
    let mounted = mount_points();
    let mut waiting = vec![PathBuf::new()];
    while let Some(inner) = waiting.pop() {
        go_on(monitor)?;
        if stays(&inner) {
            continue;
        }
        let path = if inner == root {
            live.to_owned()
        } else {
            live.join(&inner)
        };
        let is_mounted = inner != root && mounted.contains(&path);
        let metadata = match std::fs::symlink_metadata(&path) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(Error::file("looking at", &path))?,
        };
        let may_stay = plan.filter.is_empty() && !plan.is_file() && !left.is_empty();
        if may_stay
            && inner
                .parent()
                .is_some_and(|parent| parent == root || folders.contains(parent))
            && watch.keeps(&inner, &metadata, is_stored, is_mounted && is_bare(&inner))
        {
            surveyor.survey.left_out.add(&path);
            continue;
        }
        if is_mounted {
            return Err(Error::TargetUnfit {
                path,
                finding: "another file system is mounted there, and would be moved aside: unmount it, or leave it out with --exclude and restore it by its own path".to_owned(),
            });
        }
        surveyor.look_at(&inner, &path, &metadata);
        if metadata.is_dir() {
            let mut names = Vec::new();
            let failed = || Error::file("reading", &path);
            for listed in std::fs::read_dir(&path).map_err(failed())? {
                names.push(listed.map_err(failed())?.file_name());
            }
            // In a fixed order, for the hash; the last is taken first.
            names.sort_unstable_by(|a, b| b.cmp(a));
            let names = names.into_iter().filter(|name| !is_scratch(name));
            waiting.extend(names.map(|name| inner.join(name)));
        } else if inner == root {
            // A database's side files go with it.
            for suffix in SIDE_FILES {
                let beside = sqlite::beside(&path, suffix);
                if let Ok(metadata) = std::fs::symlink_metadata(&beside) {
                    surveyor.hash(Path::new(suffix), &metadata);
                    surveyor.look_for_database(&beside, &metadata);
                }
            }
        }
    }
    let Surveyor {
        mut survey, hasher, ..
    } = surveyor;
    survey.hash = hasher.finish();
    survey.stays = watch.stays;
    Ok(survey)
}

/// Where file systems are mounted, as this process sees them.
pub(super) fn mount_points() -> BTreeSet<PathBuf> {
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let lines = mounts.split(|byte| *byte == b'\n');
    let points = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    points.map(mount_point).collect()
}

/// One of them: spaces, tabs, line ends and backslashes are written as three octal digits.
fn mount_point(mut text: &[u8]) -> PathBuf {
    let mut path = Vec::new();
    while let Some((first, rest)) = text.split_first() {
        let digits = rest.get(..3).and_then(|digits| str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = byte.filter(|_| *first == b'\\') {
            path.push(byte);
            text = &rest[3..];
        } else {
            path.push(*first);
            text = rest;
        }
    }
    std::ffi::OsString::from_vec(path).into()
}

struct Surveyor<'a> {
    snapshot_time: Timestamp,
    is_stored: &'a dyn Fn(&Path) -> bool,
    /// Whether something that is not stored may be what the snapshot failed to save, by its path below the
    /// root and in full.
    is_unsaved: &'a dyn Fn(&Path, &Path) -> bool,
    holders: &'a Holders,
    survey: Survey,
    hasher: Hasher,
}

impl Surveyor<'_> {
    fn look_at(&mut self, inner: &Path, path: &Path, metadata: &Metadata) {
        self.hash(inner, metadata);
        let is_stored = (self.is_stored)(inner);
        if metadata.is_dir() {
            if !is_stored {
                self.add_unstored(inner, path);
            }
            return;
        }
        self.survey.files += 1;
        let mut is_side_file = false;
        if metadata.is_file() {
            self.survey.bytes += metadata.len();
            is_side_file = self.look_for_database(path, metadata);
        }
        let changed = Timestamp::new(metadata.mtime(), 0).is_ok_and(|at| at > self.snapshot_time);
        if is_side_file {
            // Part of its database; a snapshot never holds it.
        } else if !is_stored {
            self.add_unstored(inner, path);
        } else if changed {
            self.survey.changed.add(path);
        }
    }

    fn add_unstored(&mut self, inner: &Path, path: &Path) {
        if (self.is_unsaved)(inner, path) {
            self.survey.unsaved.add(path);
            let all = &mut self.survey.all_unsaved;
            if !inner.ancestors().any(|folder| all.contains(folder)) {
                all.insert(inner.to_owned());
            }
        } else {
            self.survey.unknown.add(path);
        }
    }

    /// Whether it is a side file of a database; notes a database, and who has either open. Of an encrypted one
    /// only the open files tell.
    fn look_for_database(&mut self, path: &Path, metadata: &Metadata) -> bool {
        let is_database = sqlite::is_database(path);
        if is_database {
            self.survey.databases.push(path.to_owned());
        }
        let main = sqlite::main_of(path);
        let may_be_side_file = main.as_ref().is_some_and(|main| main.is_file());
        if let Some(holder) = self.holders.of(Identity::of(metadata))
            && (is_database || may_be_side_file)
        {
            let of = main.clone().unwrap_or_else(|| path.to_owned());
            self.survey.open.push((of, holder.clone()));
        }
        main.is_some_and(|main| sqlite::is_database(&main))
    }

    fn hash(&mut self, inner: &Path, metadata: &Metadata) {
        let name = inner.as_os_str().as_bytes();
        self.hasher.update(&(name.len() as u64).to_le_bytes());
        self.hasher.update(name);
        // Links and sizes of folders say nothing; their names are hashed themselves.
        let size = if metadata.is_dir() { 0 } else { metadata.len() };
        for number in [u64::from(metadata.mode()), metadata.ino(), size] {
            self.hasher.update(&number.to_le_bytes());
        }
        if !metadata.is_dir() {
            for number in [metadata.mtime(), metadata.mtime_nsec()] {
                self.hasher.update(&number.to_le_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_as_they_are_written() {
        for (text, path) in [
            (&b"/srv"[..], "/srv"),
            (b"/a\\040b\\134c", "/a b\\c"),
            (b"/a\\", "/a\\"),
            (b"/\\999", "/\\999"),
        ] {
            assert_eq!(mount_point(text), Path::new(path));
        }
        assert!(mount_points().contains(Path::new("/")));
    }
}
