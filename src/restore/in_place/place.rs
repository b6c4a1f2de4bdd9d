//! One place of a swap: the renames of one name at a time, and what stands where.

use std::path::{Path, PathBuf};

use super::journal::{Move, NEW, OLD, Place};
use crate::durable::scratch::Scratch;
use crate::durable::{Folder, Identity};
use crate::error::{Error, Result};
use crate::restore::target::is_content;
use crate::source::sqlite::{SIDE_FILES, beside};

/// A kept folder, locked, in the folder whose names are exchanged.
#[derive(Debug)]
pub(super) struct OpenPlace(pub Scratch);

/// What stands under the three names of a move.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stands {
    pub live: Option<Identity>,
    pub new: Option<Identity>,
    pub old: Option<Identity>,
}

impl Stands {
    /// Whether the copy has taken the name, and the old is kept.
    pub fn is_in(&self, one: &Move) -> bool {
        (one.staged.is_none() || self.new != one.staged)
            && (one.replaced.is_none() || self.old == one.replaced)
    }

    /// Whether the old has its name back. After an exchange that nobody has [settled](super::swap) it waits
    /// where the copy was.
    pub fn is_back(&self, one: &Move) -> bool {
        match one.replaced {
            Some(_) => self.old.is_none() && self.new != one.replaced,
            None => self.new.is_some() || self.live.is_none(),
        }
    }
}

impl OpenPlace {
    /// The folder whose names are exchanged.
    pub fn folder(&self) -> &dyn Folder {
        self.0.place().0
    }

    /// The name of the kept folder in it.
    pub fn kept(&self) -> &Path {
        self.0.place().1
    }

    /// The kept folder.
    pub fn inner(&self) -> &dyn Folder {
        self.0.folder()
    }

    /// Where a name is.
    pub fn live(&self, one: &Move) -> PathBuf {
        self.folder().path().join(&one.name)
    }

    pub fn identity(&self, path: &Path) -> Result<Option<Identity>> {
        let found = self.folder().identity(path);
        found.map_err(Error::file("looking at", self.folder().path().join(path)))
    }

    pub fn stands(&self, one: &Move) -> Result<Stands> {
        Ok(Stands {
            live: self.identity(&one.name)?,
            new: self.identity(&self.slot(NEW, &one.name))?,
            old: self.identity(&self.slot(OLD, &one.name))?,
        })
    }

    /// Whether no name was exchanged yet.
    pub fn is_untouched(&self, place: &Place) -> Result<bool> {
        for one in &place.moves {
            let Stands { live, new, old } = self.stands(one)?;
            if live != one.replaced || new != one.staged || old.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub fn slot(&self, slot: &str, name: &Path) -> PathBuf {
        self.kept().join(slot).join(name)
    }

    /// Where something is displaced to: beside the copies, or if the copy of that name still waits there,
    /// into a folder of its own.
    fn free_slot(&self, name: &Path) -> Result<String> {
        let mut slots = std::iter::once(NEW.to_owned()).chain(late_slots());
        loop {
            let slot = slots.next().unwrap_or_default();
            if self.identity(&self.slot(&slot, name))?.is_none() {
                return Ok(slot);
            }
        }
    }

    /// Where the last was displaced to that had this name.
    fn last_slot(&self, name: &Path) -> Result<String> {
        let mut last = NEW.to_owned();
        for slot in late_slots() {
            if self.identity(&self.slot(&slot, name))?.is_none() {
                break;
            }
            last = slot;
        }
        Ok(last)
    }

    /// Whether anything was displaced but the copy itself.
    pub fn has_displaced(&self, one: &Move) -> Result<bool> {
        let new = self.identity(&self.slot(NEW, &one.name))?;
        let mut is_there = new.is_some() && new != one.staged;
        is_there |= self.last_slot(&one.name)? != NEW;
        for name in Self::side_files(one) {
            is_there |= self.identity(&self.slot(NEW, &name))?.is_some();
        }
        Ok(is_there)
    }

    /// The side files of a database, each with its name here.
    fn side_files(one: &Move) -> impl Iterator<Item = PathBuf> {
        let suffixes = SIDE_FILES.iter().filter(|_| one.is_database);
        suffixes.map(|suffix| beside(&one.name, suffix))
    }

    pub fn has_side_files(&self, one: &Move) -> Result<bool> {
        for name in Self::side_files(one) {
            if self.identity(&name)?.is_some() || self.identity(&self.slot(OLD, &name))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub fn rename(&self, one: &Move, from: &Path, to: &Path) -> Result<()> {
        self.create_parents(to)?;
        let renamed = match self.folder().rename(from, to) {
            Err(cause) if is_denied(&cause) => self.rename_closed(from, to, cause),
            other => other,
        };
        renamed.map_err(|cause| match cause.kind() {
            std::io::ErrorKind::AlreadyExists => {
                changed(&self.live(one), "its name was taken meanwhile")
            }
            _ => not_swapped(&self.live(one), cause),
        })
    }

    /// A folder that is closed to its own owner can be renamed only while it is open.
    fn rename_closed(&self, from: &Path, to: &Path, denied: std::io::Error) -> std::io::Result<()> {
        use std::os::unix::fs::MetadataExt;
        let folder = self.folder();
        let metadata = std::fs::symlink_metadata(folder.path().join(from))?;
        if !metadata.is_dir() {
            return Err(denied);
        }
        let mode = metadata.mode() & 0o7777;
        folder.set_mode(from, mode | 0o700)?;
        let renamed = folder.rename(from, to);
        folder.set_mode(if renamed.is_ok() { to } else { from }, mode)?;
        renamed
    }

    /// Creates the folders that lead to a name in the kept folder.
    fn create_parents(&self, path: &Path) -> Result<()> {
        let Ok(inner) = path.strip_prefix(self.kept()) else {
            return Ok(());
        };
        let mut folder = PathBuf::new();
        for component in inner.parent().into_iter().flat_map(Path::components) {
            folder.push(component);
            match self.inner().create_folder(&folder, 0o700) {
                Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {}
                other => other.map_err(Error::file("creating", self.0.path().join(&folder)))?,
            }
        }
        Ok(())
    }

    /// Puts the old aside: a database before its side files, so that it is never there without them.
    pub fn put_old_aside(&self, one: &Move) -> Result<()> {
        let stands = self.stands(one)?;
        let path = self.live(one);
        if stands.live.is_some() && stands.live == one.staged {
            return Ok(());
        }
        match (stands.live, one.replaced) {
            (Some(_), Some(_)) if stands.live == one.replaced => {
                self.rename(one, &one.name, &self.slot(OLD, &one.name))?;
            }
            (None, _) if one.replaced.is_none() || stands.old == one.replaced => {}
            (None, _) => return Err(changed(&path, "it is gone")),
            (Some(_), _) => return Err(changed(&path, "something else stands there now")),
        }
        for name in Self::side_files(one) {
            let aside = self.slot(OLD, &name);
            if self.identity(&name)?.is_some() && self.identity(&aside)?.is_none() {
                self.rename(one, &name, &aside)?;
            }
        }
        Ok(())
    }

    pub fn bring_new(&self, one: &Move) -> Result<()> {
        let stands = self.stands(one)?;
        let path = self.live(one);
        if one.staged.is_none() || stands.live == one.staged {
            Ok(())
        } else if stands.new == one.staged {
            self.rename(one, &self.slot(NEW, &one.name), &one.name)
        } else {
            Err(changed(&path, "the copy that was to stand there is gone"))
        }
    }

    /// Puts aside whatever took the old's name, with the side files that it has by now.
    pub fn put_new_aside(&self, one: &Move) -> Result<()> {
        let stands = self.stands(one)?;
        if stands.is_back(one) {
            return Ok(());
        }
        let slot = if stands.live.is_some() && stands.live != one.replaced {
            let slot = self.free_slot(&one.name)?;
            self.rename(one, &one.name, &self.slot(&slot, &one.name))?;
            slot
        } else {
            self.last_slot(&one.name)?
        };
        // A swap that was cut short may have left side files of the old one where they were.
        for name in Self::side_files(one) {
            match self.identity(&name)? {
                Some(live) if !one.side_files.contains(&live) => {
                    let mut aside = self.slot(&slot, &name);
                    if self.identity(&aside)?.is_some() {
                        aside = self.slot(&self.free_slot(&name)?, &name);
                    }
                    self.rename(one, &name, &aside)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Where every name was replaced, what came up since is displaced as well.
    pub fn put_strangers_aside(&self, place: &Place) -> Result<()> {
        if !place.whole {
            return Ok(());
        }
        let listed = self.folder().list(Path::new(""));
        for listed in listed.map_err(Error::file("reading", &place.path))? {
            let name = PathBuf::from(&listed.name);
            let is_ours =
                |one: &Move| one.name == name || Self::side_files(one).any(|beside| beside == name);
            if is_content(&listed) && !place.moves.iter().any(is_ours) {
                let stranger = Move {
                    name,
                    staged: None,
                    replaced: None,
                    is_database: false,
                    side_files: Vec::new(),
                    holds_database: false,
                };
                let slot = self.free_slot(&stranger.name)?;
                self.rename(&stranger, &stranger.name, &self.slot(&slot, &stranger.name))?;
            }
        }
        Ok(())
    }

    /// Brings the old back: a database after its side files.
    pub fn bring_old(&self, one: &Move) -> Result<()> {
        if one.replaced.is_none() {
            return Ok(());
        }
        for name in Self::side_files(one) {
            let aside = self.slot(OLD, &name);
            if self.identity(&aside)?.is_some() {
                self.rename(one, &aside, &name)?;
            }
        }
        if self.stands(one)?.old.is_some() {
            self.rename(one, &self.slot(OLD, &one.name), &one.name)?;
        }
        Ok(())
    }
}

/// Folders for what took a name while its copy waited: one is enough, unless it happens again.
fn late_slots() -> impl Iterator<Item = String> {
    (1_u64..).map(|number| format!("late-{number}"))
}

/// Why a name could not be exchanged.
pub(super) fn not_swapped(path: &Path, cause: std::io::Error) -> Error {
    use std::io::ErrorKind::{CrossesDevices, ResourceBusy};
    if matches!(cause.kind(), CrossesDevices | ResourceBusy) {
        return Error::TargetUnfit {
            path: path.to_owned(),
            finding: format!(
                "its file system cannot move it ({cause}), as a container's own layer cannot"
            ),
        };
    }
    Error::file("swapping", path)(cause)
}

pub(super) fn is_denied(cause: &std::io::Error) -> bool {
    cause.kind() == std::io::ErrorKind::PermissionDenied
}

pub(super) fn changed(path: &Path, finding: &str) -> Error {
    Error::TargetChanged {
        path: path.to_owned(),
        finding: finding.to_owned(),
    }
}
