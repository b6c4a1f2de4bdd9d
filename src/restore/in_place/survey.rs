//! What stands where a copy is to go: what would be replaced, and what of it the snapshot does not have.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::holders::{Holder, Holders};
use super::left_out::Left;
use super::mounts::mount_points;
use super::spot::Spot;
use crate::durable::Identity;
use crate::durable::scratch::is_scratch;
use crate::entry::Kind;
use crate::error::{Error, Result};
use crate::id::{Hasher, Id};
use crate::monitor::{Monitor, go_on};
use crate::repository::tree::Content;
use crate::restore::item::Item;
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
    /// Those of a list.
    #[must_use]
    pub fn of<'a>(paths: impl Iterator<Item = &'a Path>) -> Self {
        let mut all = Self::default();
        paths.for_each(|path| all.add(path));
        all
    }

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
    /// In the snapshot and not there: it comes back. Relative to the root.
    pub(super) returns: Vec<PathBuf>,
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
            returns: Vec::new(),
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
    let stored: BTreeMap<&Path, &Item> = plan
        .items
        .iter()
        .map(|item| (below_root(plan, item), item))
        .collect();
    let is_stored = &|inner: &Path| plan.is_file() || inner == root || stored.contains_key(inner);
    // Of a folder that the snapshot holds more of than its name, what is mounted there hides the place.
    let is_bare = |inner: &Path| {
        let mut stored = stored.keys();
        !stored.any(|path| *path != inner && path.starts_with(inner))
    };
    let folders = plan.items.iter();
    let folders = folders.filter(|item| item.entry.kind == Kind::Folder);
    let folders: BTreeSet<&Path> = folders.map(|item| item.path.as_path()).collect();
    // A folder that a file or a link is to replace goes with all it holds.
    let goes = |inner: &Path| {
        let mut names = inner.ancestors();
        names.any(|name| stored.contains_key(name) && !folders.contains(name))
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
        stored: &stored,
        met: BTreeSet::new(),
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
        surveyor.met.insert(inner.clone());
        surveyor.look_at(&inner, &path, &metadata);
        if metadata.is_dir() {
            let names = names_in(&path)?.into_iter();
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
        mut survey,
        hasher,
        met,
        ..
    } = surveyor;
    survey.returns = returns(plan, &met);
    survey.hash = hasher.finish();
    survey.stays = watch.stays;
    Ok(survey)
}

/// What a folder holds, in a fixed order, for the hash; the last is taken first.
fn names_in(path: &Path) -> Result<Vec<OsString>> {
    let failed = || Error::file("reading", path);
    let mut names = Vec::new();
    for listed in std::fs::read_dir(path).map_err(failed())? {
        names.push(listed.map_err(failed())?.file_name());
    }
    names.retain(|name| !is_scratch(name));
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

/// What the plan brings and was not met there. Folders speak by what they hold.
fn returns(plan: &Plan, met: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let brought = plan.items.iter().filter(|item| {
        !matches!(
            item.entry.kind,
            Kind::Folder | Kind::Socket | Kind::Other(_)
        )
    });
    let paths = brought.map(|item| below_root(plan, item));
    paths
        .filter(|path| !met.contains(*path))
        .map(Path::to_owned)
        .collect()
}

/// Where an item goes, relative to the root; a plan of a single file has the root for it.
fn below_root<'a>(plan: &Plan, item: &'a Item) -> &'a Path {
    if plan.is_file() {
        Path::new("")
    } else {
        &item.path
    }
}

struct Surveyor<'a> {
    snapshot_time: Timestamp,
    is_stored: &'a dyn Fn(&Path) -> bool,
    stored: &'a BTreeMap<&'a Path, &'a Item>,
    /// What stands there, relative to the root.
    met: BTreeSet<PathBuf>,
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
        if is_side_file {
            // Part of its database; a snapshot never holds it.
        } else if !is_stored {
            self.add_unstored(inner, path);
        } else if self.is_changed(inner, path, metadata) {
            self.survey.changed.add(path);
        }
    }

    /// Whether what stands there is not what the snapshot has, as far as times and sizes tell. A database
    /// writes into the files beside it first, and its own size is not that of its image.
    fn is_changed(&self, inner: &Path, path: &Path, metadata: &Metadata) -> bool {
        let is_later = |metadata: &Metadata| {
            modified(metadata).is_none_or(|modified| modified > self.snapshot_time)
        };
        if is_later(metadata) {
            return true;
        }
        if sqlite::is_database(path) {
            return ["-wal", "-journal"].iter().any(|suffix| {
                let beside = std::fs::symlink_metadata(sqlite::beside(path, suffix));
                beside.is_ok_and(|beside| beside.len() > 0 && is_later(&beside))
            });
        }
        // One that was put there with an older time has changed as well.
        let stored = self.stored.get(inner);
        stored.is_some_and(|item| match &item.content {
            Content::File { size, .. } if metadata.is_file() => {
                *size != metadata.len() || modified(metadata) != Some(item.entry.modified)
            }
            _ => false,
        })
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

fn modified(metadata: &Metadata) -> Option<Timestamp> {
    let nanoseconds = i32::try_from(metadata.mtime_nsec()).ok()?;
    Timestamp::new(metadata.mtime(), nanoseconds).ok()
}
