//! The swap itself, forwards and back: the only renames of live names in the program.
//!
//! One name is exchanged at one instant where the file system can. Several are not: there everything
//! old goes first, databases before the rest, and only then everything new comes, databases last. So a
//! crash leaves the old state, the new one, or names that are missing; never a mix that looks whole.
//! Each step looks at what stands where (a rename keeps an identity), so it can be taken up anywhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::journal::{self, DISCARD, DONE, Journal, Move, NEW, OLD, Place, UNDO};
use crate::durable::scratch::Scratch;
use crate::durable::{Disk, Folder, Identity, cannot_exchange};
use crate::error::{Error, Result};
use crate::restore::plan::Item;
use crate::restore::target::is_content;
use crate::source::sqlite::{SIDE_FILES, beside};

/// A swap whose journal is written, with its places open and its kept folders locked.
#[derive(Debug)]
pub(super) struct Swap {
    pub journal: Journal,
    places: Vec<OpenPlace>,
}

/// A kept folder, locked, in the folder whose names are exchanged.
#[derive(Debug)]
struct OpenPlace(Scratch);

/// How far a swap has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Begun, not complete.
    Unfinished,
    /// All is in its place, but nobody has made sure that it is durable.
    Unconfirmed,
    /// All is in its place for good; the old is kept.
    Done,
    /// A rollback began and is not complete.
    HalfUndone,
    /// The old is back; what it displaced is kept.
    Undone,
}

/// What stands under the three names of a move.
#[derive(Debug, Clone, Copy)]
struct Stands {
    live: Option<Identity>,
    new: Option<Identity>,
    old: Option<Identity>,
}

/// Where something is put aside.
type Slot = &'static str;

impl Swap {
    /// Opens all places of a journal and locks their kept folders.
    ///
    /// # Errors
    /// [`Error::UnfinishedRestore`] if somebody is at work on it, or a part is gone; [`Error::File`].
    pub fn open(journal: Journal, disk: &dyn Disk) -> Result<Self> {
        let kept = journal.kept_name();
        let mut places = Vec::new();
        for place in &journal.places {
            let path = place.path.join(&kept);
            let own = match Scratch::hold(disk, &place.path, &kept) {
                Ok(Some(own)) => own,
                Ok(None) => return Err(unfinished(&path, "that is at work right now")),
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                    return Err(unfinished(
                        &path,
                        "that is not there (is its disk mounted?)",
                    ));
                }
                Err(cause) => return Err(Error::file("opening", path)(cause)),
            };
            if !Journal::read(own.folder()).is_ok_and(|other| other == journal) {
                return Err(unfinished(&path, "whose parts do not belong together"));
            }
            places.push(OpenPlace(own));
        }
        Ok(Self { journal, places })
    }

    /// Begins a swap: `scratches` are its places' folders with all copies in them, in the journal's
    /// order. Once this returns, the swap is promised; if it fails, nothing was touched.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn begin(journal: Journal, mut scratches: Vec<Scratch>) -> Result<Self> {
        for scratch in &scratches {
            journal.write(scratch.folder())?;
        }
        // The copies and the journals, before any of them counts.
        for scratch in &scratches {
            let sync = scratch.folder().sync_all();
            sync.map_err(Error::file("syncing", scratch.path()))?;
        }
        let kept = journal.kept_name();
        // The first place's name is the promise, so it comes last.
        for number in (0..scratches.len()).rev() {
            let path = scratches[number].path();
            if let Err(cause) = scratches[number].keep_as(&kept) {
                for scratch in &mut scratches {
                    // What cannot be taken back is an unfinished swap that has touched nothing.
                    let _ = scratch.give_up();
                }
                return Err(Error::file("naming", path)(cause));
            }
        }
        let places = scratches.into_iter().map(OpenPlace).collect();
        Ok(Self { journal, places })
    }

    /// The places, each with what the journal says of it.
    fn places(&self) -> impl Iterator<Item = (&OpenPlace, &Place)> {
        self.places.iter().zip(&self.journal.places)
    }

    /// All moves in the order in which names are given up: databases first.
    fn leaving(&self) -> Vec<(&OpenPlace, &Move)> {
        let moves = self.places();
        let mut moves: Vec<_> = moves
            .flat_map(|(open, place)| place.moves.iter().map(move |one| (open, one)))
            .collect();
        moves.sort_by_key(|(_, one)| !one.holds_database);
        moves
    }

    /// The same in the order in which names are taken: databases last.
    fn coming(&self) -> Vec<(&OpenPlace, &Move)> {
        let mut moves = self.leaving();
        moves.reverse();
        moves
    }

    /// How far it has come.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn stage(&self) -> Result<Stage> {
        let is_undo = self.is_undo()?;
        for (open, one) in self.leaving() {
            let stands = open.stands(one)?;
            let complete = if is_undo {
                stands.is_back(one)
            } else {
                stands.is_in(one)
            };
            if !complete {
                return Ok(if is_undo {
                    Stage::HalfUndone
                } else {
                    Stage::Unfinished
                });
            }
        }
        Ok(match (is_undo, self.is_marked(DONE)?) {
            (true, _) => Stage::Undone,
            (false, true) => Stage::Done,
            (false, false) => Stage::Unconfirmed,
        })
    }

    fn is_undo(&self) -> Result<bool> {
        self.is_marked(UNDO)
    }

    fn is_marked(&self, mark: &str) -> Result<bool> {
        for open in &self.places {
            if open.identity(&open.kept().join(mark))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts a mark into the kept folders of `places`, durably, the last place's first.
    fn mark(mark: &str, places: &[OpenPlace]) -> Result<()> {
        let path = Path::new(mark);
        for open in places.iter().rev() {
            if open.identity(&open.kept().join(path))?.is_some() {
                continue;
            }
            let write = || {
                open.inner().create_file(path, 0o600)?.sync()?;
                open.inner().sync_folder(Path::new(""))
            };
            write().map_err(Error::file("writing", open.0.path().join(path)))?;
        }
        Ok(())
    }

    /// The folder at `place`, held open.
    pub fn folder(&self, place: &Path) -> Result<&dyn Folder> {
        let mut places = self.places();
        let found = places.find(|(_, other)| other.path == place);
        found
            .map(|(open, _)| open.folder())
            .ok_or_else(|| unfinished(place, "that is of other places"))
    }

    /// Items of a place under the names that they have now: in already, or still waiting.
    pub fn where_they_are(
        &self,
        place: &Path,
        items: impl Iterator<Item = Item>,
    ) -> Result<Vec<Item>> {
        let mut places = self.places();
        let Some((open, found)) = places.find(|(_, other)| other.path == place) else {
            return Err(unfinished(place, "that is of other places"));
        };
        let mut waiting = BTreeSet::new();
        for one in &found.moves {
            if one.staged.is_some() && open.stands(one)?.new == one.staged {
                waiting.insert(&one.name);
            }
        }
        let items = items.map(|item| {
            let waits = item
                .path
                .ancestors()
                .any(|path| waiting.contains(&path.to_owned()));
            let path = if waits {
                open.slot(NEW, &item.path)
            } else {
                item.path
            };
            Item { path, ..item }
        });
        Ok(items.collect())
    }

    /// Where everything is that is kept.
    pub fn kept_folders(&self) -> Vec<PathBuf> {
        self.places.iter().map(|open| open.0.path()).collect()
    }

    /// Brings the copy in; goes on from wherever it stands.
    ///
    /// # Errors
    /// [`Error::TargetChanged`] if something else stands there, [`Error::File`]. What was done stays
    /// done: see [`Self::back`].
    pub fn forward(&self) -> Result<()> {
        self.settle()?;
        if self.exchange(
            |stands, one| {
                stands.live.is_some() && stands.live == one.replaced && stands.new == one.staged
            },
            NEW,
        )? {
            self.settle()?;
            return self.confirm();
        }
        for (open, one) in self.leaving() {
            open.put_old_aside(one)?;
        }
        self.sync()?;
        for (open, one) in self.coming() {
            open.bring_new(one)?;
        }
        self.confirm()
    }

    /// Brings the old state back; goes on from wherever it stands. What it displaces is kept.
    ///
    /// # Errors
    /// As for [`Self::forward`].
    pub fn back(&self) -> Result<()> {
        self.settle()?;
        if self.exchange(
            |stands, one| {
                stands.live.is_some()
                    && stands.old.is_some()
                    && stands.old == one.replaced
                    && stands.new.is_none()
            },
            OLD,
        )? {
            self.settle()?;
            return self.sync();
        }
        for (open, one) in self.leaving() {
            open.put_new_aside(one)?;
        }
        for (open, place) in self.places() {
            open.put_strangers_aside(place)?;
        }
        self.sync()?;
        for (open, one) in self.coming() {
            open.bring_old(one)?;
        }
        self.sync()
    }

    /// Promises, durably, that from now on only a rollback goes on.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn begin_undo(&self) -> Result<()> {
        Self::mark(UNDO, &self.places)
    }

    /// Makes sure that what is in its place is durable, and says so.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn confirm(&self) -> Result<()> {
        self.sync()?;
        Self::mark(DONE, &self.places[..1])
    }

    /// Removes all that is kept: from the first mark on it is rubbish, whatever happens.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn discard(self) -> Result<()> {
        Self::mark(DISCARD, &self.places)?;
        self.retire()
    }

    /// Gives the kept folders scratch names, the first place's before the others, and removes them.
    /// What cannot be removed now is a leftover for the next run.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn retire(mut self) -> Result<()> {
        for OpenPlace(own) in &mut self.places {
            let path = own.path();
            own.give_up().map_err(Error::file("clearing away", path))?;
        }
        Ok(())
    }

    /// After an exchange, names each half for what it is.
    fn settle(&self) -> Result<()> {
        for (open, one) in self.leaving() {
            let stands = open.stands(one)?;
            if one.replaced.is_some() && stands.new == one.replaced {
                open.rename(one, &open.slot(NEW, &one.name), &open.slot(OLD, &one.name))?;
            } else if one.replaced.is_some()
                && stands.live == one.replaced
                && stands.old.is_some()
                && stands.new.is_none()
            {
                open.rename(one, &open.slot(OLD, &one.name), &open.slot(NEW, &one.name))?;
            }
        }
        Ok(())
    }

    /// Exchanges the only name with what is in `slot`, if there is only one, nothing has to go along
    /// with it, it is `ready`, and the file system can.
    fn exchange(&self, ready: impl Fn(&Stands, &Move) -> bool, slot: Slot) -> Result<bool> {
        let moves = self.leaving();
        let [(open, one)] = moves.as_slice() else {
            return Ok(false);
        };
        if !ready(&open.stands(one)?, one) || open.has_side_files(one)? {
            return Ok(false);
        }
        match open
            .folder()
            .exchange(&open.slot(slot, &one.name), &one.name)
        {
            Ok(()) => Ok(true),
            Err(cause) if cannot_exchange(&cause) || is_denied(&cause) => Ok(false),
            Err(cause) => Err(Error::file("swapping", open.live(one))(cause)),
        }
    }

    fn sync(&self) -> Result<()> {
        for open in &self.places {
            let folder = open.folder();
            let sync = folder.sync_all();
            sync.map_err(Error::file("syncing", folder.path()))?;
        }
        Ok(())
    }
}

impl Stands {
    /// Whether the copy has taken the name, and the old is kept.
    fn is_in(&self, one: &Move) -> bool {
        (one.staged.is_none() || self.new != one.staged)
            && (one.replaced.is_none() || self.old == one.replaced)
    }

    /// Whether the old has its name back.
    fn is_back(&self, one: &Move) -> bool {
        match one.replaced {
            Some(_) => self.old.is_none(),
            None => self.new.is_some() || self.live.is_none(),
        }
    }
}

impl OpenPlace {
    /// The folder whose names are exchanged.
    fn folder(&self) -> &dyn Folder {
        self.0.place().0
    }

    /// The name of the kept folder in it.
    fn kept(&self) -> &Path {
        self.0.place().1
    }

    /// The kept folder.
    fn inner(&self) -> &dyn Folder {
        self.0.folder()
    }

    /// Where a name is.
    fn live(&self, one: &Move) -> PathBuf {
        self.folder().path().join(&one.name)
    }

    fn identity(&self, path: &Path) -> Result<Option<Identity>> {
        let found = self.folder().identity(path);
        found.map_err(Error::file("looking at", self.folder().path().join(path)))
    }

    fn stands(&self, one: &Move) -> Result<Stands> {
        Ok(Stands {
            live: self.identity(&one.name)?,
            new: self.identity(&self.slot(NEW, &one.name))?,
            old: self.identity(&self.slot(OLD, &one.name))?,
        })
    }

    /// Whether no name was exchanged yet.
    fn is_untouched(&self, place: &Place) -> std::io::Result<bool> {
        for one in &place.moves {
            let stands = |path: &Path| self.folder().identity(path);
            let live = stands(&one.name)?;
            let new = stands(&self.slot(NEW, &one.name))?;
            let old = stands(&self.slot(OLD, &one.name))?;
            if live != one.replaced || new != one.staged || old.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn slot(&self, slot: Slot, name: &Path) -> PathBuf {
        self.kept().join(slot).join(name)
    }

    /// The side files of a database, each with its name here.
    fn side_files(one: &Move) -> impl Iterator<Item = PathBuf> {
        let suffixes = SIDE_FILES.iter().filter(|_| one.is_database);
        suffixes.map(|suffix| beside(&one.name, suffix))
    }

    fn has_side_files(&self, one: &Move) -> Result<bool> {
        for name in Self::side_files(one) {
            if self.identity(&name)?.is_some() || self.identity(&self.slot(OLD, &name))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn rename(&self, one: &Move, from: &Path, to: &Path) -> Result<()> {
        self.create_parents(to)?;
        let renamed = match self.folder().rename(from, to) {
            Err(cause) if is_denied(&cause) => self.rename_closed(from, to, cause),
            other => other,
        };
        renamed.map_err(|cause| match cause.kind() {
            std::io::ErrorKind::AlreadyExists => {
                changed(&self.live(one), "its name was taken meanwhile")
            }
            _ => Error::file("swapping", self.live(one))(cause),
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
    fn put_old_aside(&self, one: &Move) -> Result<()> {
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

    fn bring_new(&self, one: &Move) -> Result<()> {
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
    fn put_new_aside(&self, one: &Move) -> Result<()> {
        let stands = self.stands(one)?;
        if stands.is_back(one) {
            return Ok(());
        }
        if stands.live.is_some() && stands.live != one.replaced {
            self.rename(one, &one.name, &self.slot(NEW, &one.name))?;
        }
        // A swap that was cut short may have left side files of the old one where they were.
        for name in Self::side_files(one) {
            let aside = self.slot(NEW, &name);
            match self.identity(&name)? {
                Some(live) if !one.side_files.contains(&live) => self.rename(one, &name, &aside)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Where every name was replaced, what came up since is displaced as well.
    fn put_strangers_aside(&self, place: &Place) -> Result<()> {
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
                self.rename(&stranger, &stranger.name, &self.slot(NEW, &stranger.name))?;
            }
        }
        Ok(())
    }

    /// Brings the old back: a database after its side files.
    fn bring_old(&self, one: &Move) -> Result<()> {
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

/// The journals of kept folders in `place`, oldest first, and what is wrong with those that cannot be
/// read. What is rubbish is cleared away: a swap that was never promised, and what is to be discarded.
pub(super) fn find(place: &Path, disk: &dyn Disk) -> (Vec<Journal>, Vec<(PathBuf, String)>) {
    let (mut journals, unreadable) = journal::read_all(place, disk);
    // What cannot be looked at now is no rubbish.
    journals.retain(|journal| !clear_rubbish(place, journal, disk).unwrap_or(false));
    (journals, unreadable)
}

/// Whether a kept folder was rubbish, and is gone.
fn clear_rubbish(place: &Path, journal: &Journal, disk: &dyn Disk) -> std::io::Result<bool> {
    let Some(moves) = journal.places.iter().find(|other| other.path == place) else {
        return Ok(false);
    };
    let Some(own) = Scratch::hold(disk, place, &journal.kept_name())? else {
        return Ok(false);
    };
    let mut open = OpenPlace(own);
    // The mark of the first place is the last to be written.
    let is_marked = open
        .folder()
        .identity(&open.kept().join(DISCARD))?
        .is_some();
    let is_discarded = is_marked && (!journal.is_promised() || journal.is_marked_first(DISCARD));
    let never_began = !journal.is_promised() && open.is_untouched(moves)?;
    if !is_discarded && !never_began {
        return Ok(false);
    }
    open.0.give_up()?;
    Ok(true)
}

fn is_denied(cause: &std::io::Error) -> bool {
    cause.kind() == std::io::ErrorKind::PermissionDenied
}

fn changed(path: &Path, finding: &str) -> Error {
    Error::TargetChanged {
        path: path.to_owned(),
        finding: finding.to_owned(),
    }
}

fn unfinished(path: &Path, finding: &str) -> Error {
    Error::UnfinishedRestore {
        path: path.to_owned(),
        finding: finding.to_owned(),
    }
}
