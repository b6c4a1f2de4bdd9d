//! What restores in place have replaced: found again, brought back, or removed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::holders::{Holder, Holders};
use super::journal::{self, Journal, Move, NEW, OLD, UNDONE};
use super::spot::{beside_its_name, through_links};
use super::survey::Paths;
use super::swap::{self, Stage, Swap};
use super::turn::Turn;
use super::unsaved::unsaved_in;
use crate::durable::{Disk, Identity};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Step, go_on};
use crate::source::sqlite::{self, SIDE_FILES};

/// Where this machine remembers its restores in place, so that `rollback` needs no path. The journals
/// themselves lie beside what they speak of; this is only a list of them.
#[derive(Debug, Clone)]
pub struct Registry {
    folder: PathBuf,
}

/// One restore in place, and what it has replaced.
#[derive(Debug)]
pub struct Kept {
    swap: Swap,
    /// How far it has come.
    pub state: KeptState,
    /// Whether what no snapshot holds may go with the rest.
    gives_up_unsaved: bool,
}

/// How far a restore in place has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptState {
    /// It was interrupted: the same restore or `rollback` completes it.
    Unfinished,
    /// The old data is kept.
    Restored,
    /// `rollback` was interrupted: `rollback` completes it.
    HalfRolledBack,
    /// The old data is back, and what it displaced is kept.
    RolledBack,
}

impl Registry {
    /// In a folder that may not exist yet.
    #[must_use]
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Remembers a swap, unless it does already.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(super) fn note(&self, journal: &Journal, disk: &dyn Disk) -> Result<()> {
        let folder = self.folder.join(journal.kept_name());
        if folder.join(journal::JOURNAL).exists() {
            return Ok(());
        }
        disk.create_all(&folder, 0o700)
            .map_err(Error::file("creating", &folder))?;
        let open = disk
            .open(&folder)
            .map_err(Error::file("opening", &folder))?;
        journal.write(open.as_ref())?;
        let sync = open.sync_folder(Path::new(""));
        sync.map_err(Error::file("syncing", &folder))
    }

    /// Remembers that it was rolled back: then nobody misses what it keeps.
    fn note_undone(&self, journal: &Journal, disk: &dyn Disk) {
        // A list is a convenience: without this it asks for what may be gone.
        if let Ok(folder) = disk.open(&self.folder.join(journal.kept_name())) {
            let _ = folder.create_file(Path::new(UNDONE), 0o600);
        }
    }

    fn is_undone(&self, journal: &Journal) -> bool {
        let folder = self.folder.join(journal.kept_name());
        folder.join(UNDONE).exists()
    }

    /// Forgets a restore whose kept folders are not there; whether it was remembered.
    #[must_use]
    pub fn forget_missing(&self, id: &str, disk: &dyn Disk) -> bool {
        let noted = journal::read_all(&self.folder, disk).0;
        let is_noted = noted.iter().any(|noted| noted.id == id);
        self.forget(id, disk);
        is_noted
    }

    pub(super) fn forget(&self, id: &str, disk: &dyn Disk) {
        // Nobody is misled by an entry that leads nowhere.
        if let Ok(folder) = disk.open(&self.folder) {
            let name = format!("{}{id}", crate::durable::scratch::KEPT);
            let _ = crate::durable::remove_tree(folder.as_ref(), Path::new(&name));
        }
    }
}

impl Kept {
    /// All that are known, oldest first: those of the registry, and those around `path`. With why one
    /// cannot be looked at, if so: it may be the one that is meant.
    #[must_use]
    pub fn find(
        path: Option<&Path>,
        registry: Option<&Registry>,
        disk: &dyn Disk,
    ) -> Vec<Result<Self>> {
        let mut journals: BTreeMap<(Timestamp, String), Result<Journal>> = BTreeMap::new();
        if let Some(registry) = registry {
            let all = journal::read_all(&registry.folder, disk).0;
            for noted in &all {
                let first = noted.places.first();
                let there = first.map(|first| swap::find(&first.path, disk).0);
                let mut there = there.into_iter().flatten();
                let found = there.find(|journal| journal.id == noted.id);
                if found.is_none() && (noted.is_surely_without_first() || registry.is_undone(noted))
                {
                    // Its owner has removed it; or another restore has taken it along, and may bring it back.
                    if taken_along(noted, &all).is_none() {
                        registry.forget(&noted.id, disk);
                    }
                    continue;
                }
                let key = (noted.begun, noted.id.clone());
                journals.insert(key, found.ok_or_else(|| missing(noted)));
            }
        }
        for place in path.iter().flat_map(|path| places_of(path)) {
            for journal in swap::find(&place, disk).0 {
                let key = (journal.begun, journal.id.clone());
                journals.insert(key, Ok(journal));
            }
        }
        let journals = journals.into_values();
        journals.map(|journal| Self::open(journal?, disk)).collect()
    }

    /// Fails if what the restore of this name keeps lies in what another one keeps.
    ///
    /// # Errors
    /// [`Error::KeptInside`].
    pub fn require_not_inside(
        id: &str,
        registry: Option<&Registry>,
        disk: &dyn Disk,
    ) -> Result<()> {
        let folder = registry.map(|registry| &registry.folder);
        let all = folder.map_or_else(Vec::new, |folder| journal::read_all(folder, disk).0);
        let noted = all.iter().find(|noted| noted.id == id);
        match noted.and_then(|noted| taken_along(noted, &all)) {
            Some((other, path)) => Err(Error::KeptInside {
                id: id.to_owned(),
                other: other.id.clone(),
                path,
            }),
            None => Ok(()),
        }
    }

    /// Whether it has replaced what is at `path`.
    #[must_use]
    pub fn concerns(&self, path: &Path) -> bool {
        real_paths(path)
            .iter()
            .any(|real| self.roots().contains(real))
    }

    /// Whether it was done on top of `earlier`: it has replaced something of it, or around it, and stands.
    #[must_use]
    pub fn is_on_top_of(&self, earlier: &Self) -> bool {
        let overlap = |root: &PathBuf| {
            let mut others = earlier.roots().iter();
            others.any(|other| root.starts_with(other) || other.starts_with(root))
        };
        self.begun() > earlier.begun()
            && self.state != KeptState::RolledBack
            && self.roots().iter().any(overlap)
    }

    fn open(journal: Journal, disk: &dyn Disk) -> Result<Self> {
        let swap = Swap::open(journal, disk)?;
        let state = match swap.stage()? {
            Stage::Unfinished => KeptState::Unfinished,
            Stage::Unconfirmed | Stage::Done => KeptState::Restored,
            Stage::HalfUndone => KeptState::HalfRolledBack,
            Stage::Undone => KeptState::RolledBack,
        };
        Ok(Self {
            swap,
            state,
            gives_up_unsaved: false,
        })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.swap.journal.id
    }

    /// What was replaced.
    #[must_use]
    pub fn roots(&self) -> &[PathBuf] {
        &self.swap.journal.roots
    }

    /// The snapshot that was restored.
    #[must_use]
    pub const fn snapshot(&self) -> Id {
        self.swap.journal.snapshot
    }

    /// When.
    #[must_use]
    pub const fn begun(&self) -> Timestamp {
        self.swap.journal.begun
    }

    /// The folders that hold it.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        self.swap.kept_folders()
    }

    /// Bytes of what is kept: every file of it is looked at.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let folders = self.folders();
        folders.iter().map(|folder| bytes_below(folder)).sum()
    }

    /// What is kept and was not saved in the snapshot that took its place: this may be all that there is of it.
    /// A folder counts as one.
    #[must_use]
    pub fn unsaved(&self, disk: &dyn Disk) -> Paths {
        let folders = self.folders().into_iter();
        unsaved_in(folders.zip(&self.swap.journal.places), disk)
    }

    /// The owner says that this may go as well.
    #[must_use]
    pub fn giving_up_unsaved(self) -> Self {
        Self {
            gives_up_unsaved: true,
            ..self
        }
    }

    /// Fails if something is kept that was not saved, unless its owner gives it up.
    ///
    /// # Errors
    /// [`Error::OnlyCopy`].
    pub fn require_saved(&self, disk: &dyn Disk) -> Result<()> {
        if self.gives_up_unsaved {
            return Ok(());
        }
        let unsaved = self.unsaved(disk);
        match unsaved.first.into_iter().next() {
            Some(path) => Err(Error::OnlyCopy {
                id: self.id().to_owned(),
                snapshot: self.snapshot().short(),
                path,
                others: unsaved.count - 1,
            }),
            None => Ok(()),
        }
    }

    /// Brings the old data back; what it displaces is kept.
    ///
    /// # Errors
    /// [`Error::InUse`]; [`Error::AlreadyRolledBack`]; [`Error::File`], [`Error::TargetChanged`]: then it
    /// can be run again.
    pub fn roll_back(
        self,
        registry: Option<&Registry>,
        disk: &dyn Disk,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        if self.state == KeptState::RolledBack {
            return Err(Error::AlreadyRolledBack {
                id: self.id().to_owned(),
                kept: self.folders().swap_remove(0),
            });
        }
        let _turn = Turn::take(self.swap.journal.paths(), disk)?;
        require_closed(&self.swap.journal, monitor)?;
        go_on(monitor)?;
        monitor.step(Step::Syncing, None);
        self.swap.begin_undo()?;
        self.swap.back().map_err(|cause| Error::HalfSwapped {
            path: self.folders().swap_remove(0),
            cause: Box::new(cause),
        })?;
        self.swap.end_undo()?;
        if let Some(registry) = registry {
            registry.note_undone(&self.swap.journal, disk);
        }
        Ok(Self {
            state: KeptState::RolledBack,
            ..self
        })
    }

    /// Removes what is kept.
    ///
    /// # Errors
    /// [`Error::UnfinishedRestore`] if live data is in it; [`Error::OnlyCopy`]; [`Error::File`].
    pub fn discard(self, registry: Option<&Registry>, disk: &dyn Disk) -> Result<()> {
        self.require_saved(disk)?;
        if matches!(
            self.state,
            KeptState::Unfinished | KeptState::HalfRolledBack
        ) {
            return Err(Error::UnfinishedRestore {
                path: self.folders().swap_remove(0),
                finding: "that must be completed first".to_owned(),
            });
        }
        let id = self.id().to_owned();
        self.swap.discard()?;
        if let Some(registry) = registry {
            registry.forget(&id, disk);
        }
        Ok(())
    }
}

/// The restore that has replaced, or displaced, a folder together with what `noted` keeps in it; and where that
/// is now.
fn taken_along<'a>(noted: &Journal, all: &'a [Journal]) -> Option<(&'a Journal, PathBuf)> {
    let own = &noted.places.first()?.path;
    for other in all.iter().filter(|other| other.id != noted.id) {
        for place in &other.places {
            let Ok(inner) = own.strip_prefix(&place.path) else {
                continue;
            };
            for side in [OLD, NEW] {
                let folder = place.path.join(other.kept_name()).join(side).join(inner);
                let kept = folder.join(noted.kept_name());
                if kept.is_dir() {
                    return Some((other, kept));
                }
            }
        }
    }
    None
}

fn missing(noted: &Journal) -> Error {
    let first = noted.places.first();
    Error::KeptMissing {
        id: noted.id.clone(),
        path: first.map_or_else(PathBuf::new, |first| first.path.join(noted.kept_name())),
    }
}

/// A path through links as it was replaced; and as it is, for a link may have been replaced itself.
fn real_paths(path: &Path) -> Vec<PathBuf> {
    let real = [through_links(path), beside_its_name(path)];
    real.into_iter().flatten().collect()
}

/// The folders in which the names of `path` may have been exchanged.
fn places_of(path: &Path) -> Vec<PathBuf> {
    let real = real_paths(path).into_iter();
    real.flat_map(|real| [real.parent().map(Path::to_owned), Some(real)])
        .flatten()
        .collect()
}

/// Fails if somebody has a database open under one of the names that are to be given up.
pub(super) fn require_closed(journal: &Journal, monitor: &dyn Monitor) -> Result<()> {
    let holders = Holders::look();
    for place in &journal.places {
        for one in &place.moves {
            let held = holder_of(one, &place.path, &holders, monitor)?;
            if let Some((path, holder)) = held {
                let holder = holder.to_string();
                return Err(Error::InUse { path, holder });
            }
        }
    }
    Ok(())
}

/// Who has a database open that stands in `folder` under the name of a move, and which.
pub(super) fn holder_of<'a>(
    one: &Move,
    folder: &Path,
    holders: &'a Holders,
    monitor: &dyn Monitor,
) -> Result<Option<(PathBuf, &'a Holder)>> {
    let live = folder.join(&one.name);
    let beside = SIDE_FILES.map(|suffix| sqlite::beside(&live, suffix));
    let beside = beside.into_iter().filter(|_| one.is_database);
    for path in beside.chain(files_below(&live, monitor)?) {
        let Ok(metadata) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        if let Some(holder) = holders.of(Identity::of(&metadata))
            && is_part_of_database(&path)
        {
            return Ok(Some((path, holder)));
        }
    }
    Ok(None)
}

fn is_part_of_database(path: &Path) -> bool {
    let main = sqlite::main_of(path);
    sqlite::is_database(path) || main.is_some_and(|main| sqlite::is_database(&main))
}

/// Every file at or below a path.
fn files_below(path: &Path, monitor: &dyn Monitor) -> Result<Vec<PathBuf>> {
    let (mut found, mut waiting) = (Vec::new(), vec![path.to_owned()]);
    while let Some(path) = waiting.pop() {
        go_on(monitor)?;
        // A link is not followed: what it leads to is not displaced.
        if !std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            found.push(path);
        } else if let Ok(listed) = std::fs::read_dir(&path) {
            waiting.extend(listed.flatten().map(|item| item.path()));
        }
    }
    Ok(found)
}

/// Bytes of all files below a folder, as far as they can be seen.
fn bytes_below(folder: &Path) -> u64 {
    let (mut bytes, mut waiting) = (0, vec![folder.to_owned()]);
    while let Some(path) = waiting.pop() {
        for item in std::fs::read_dir(&path).into_iter().flatten().flatten() {
            match item.metadata() {
                Ok(metadata) if metadata.is_dir() => waiting.push(item.path()),
                Ok(metadata) => bytes += metadata.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}
