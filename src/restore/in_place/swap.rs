//! The swap itself, forwards and back: the only renames of live names in the program.
//!
//! One name is exchanged at one instant where the file system can. Several are not: there everything
//! old goes first, databases before the rest, and only then everything new comes, databases last. So a
//! crash leaves the old state, the new one, or names that are missing; never a mix that looks whole.
//! Each step looks at what stands where (a rename keeps an identity), so it can be taken up anywhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::journal::{self, DISCARD, DONE, Journal, Move, NEW, OLD, Place, UNDO, UNDONE};
use super::place::{OpenPlace, Stands, changed, is_denied, not_swapped};
use crate::durable::scratch::Scratch;
use crate::durable::{Disk, Folder, cannot_exchange};
use crate::error::{Error, Result};
use crate::restore::item::Item;

/// A swap whose journal is written, with its places open and its kept folders locked.
#[derive(Debug)]
pub(super) struct Swap {
    pub journal: Journal,
    places: Vec<OpenPlace>,
}

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

impl Swap {
    /// Opens all places of a journal and locks their kept folders.
    ///
    /// # Errors
    /// [`Error::UnfinishedRestore`] if somebody is at work on it, or a part is gone; [`Error::File`].
    pub fn open(mut journal: Journal, disk: &dyn Disk) -> Result<Self> {
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
        for (open, place) in places.iter().zip(&mut journal.places) {
            if let Some(kept) = open.identity(open.kept())? {
                place.renumber(kept.device);
            }
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
        let first = &self.places[..1];
        Ok(match (is_undo, Self::are_marked(first, DONE)?) {
            (true, _) => Stage::Undone,
            (false, true) => Stage::Done,
            (false, false) => Stage::Unconfirmed,
        })
    }

    fn is_undo(&self) -> Result<bool> {
        Self::are_marked(&self.places, UNDO)
    }

    /// Whether any of the places is marked.
    fn are_marked(places: &[OpenPlace], mark: &str) -> Result<bool> {
        for open in places {
            if open.identity(&open.kept().join(mark))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts a mark into each kept folder, durably, the first place's last.
    fn mark(&self, mark: &str) -> Result<()> {
        let path = Path::new(mark);
        for open in self.places.iter().rev() {
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
        self.bring_back(true)
    }

    /// The same after a failure, when the old was not gone for long: what came up beside it stays. Whether
    /// nothing was displaced but the copies, so that all of it can be cleared away.
    ///
    /// # Errors
    /// As for [`Self::forward`].
    pub fn take_back(&self) -> Result<bool> {
        self.bring_back(false)?;
        for (open, one) in self.leaving() {
            if open.has_displaced(one)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn bring_back(&self, displace_strangers: bool) -> Result<()> {
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
        for (open, place) in self.places().filter(|_| displace_strangers) {
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
        self.mark(UNDO)
    }

    /// Makes sure that what is in its place is durable, and says so.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn confirm(&self) -> Result<()> {
        self.sync()?;
        self.mark(DONE)
    }

    /// Says that a rollback is complete, for those who only pass by.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn end_undo(&self) -> Result<()> {
        self.mark(UNDONE)
    }

    /// Removes all that is kept: from the first mark on it is rubbish, whatever happens.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn discard(mut self) -> Result<()> {
        self.mark(DISCARD)?;
        self.give_up()?;
        for OpenPlace(own) in self.places {
            let path = own.path();
            own.remove().map_err(Error::file("removing", path))?;
        }
        Ok(())
    }

    /// Gives the kept folders scratch names, the first place's before the others, and removes them.
    /// What cannot be removed now is a leftover for the next run.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn retire(mut self) -> Result<()> {
        self.give_up()
    }

    fn give_up(&mut self) -> Result<()> {
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
    fn exchange(&self, ready: impl Fn(&Stands, &Move) -> bool, slot: &str) -> Result<bool> {
        let moves = self.leaving();
        let [(open, one)] = moves.as_slice() else {
            return Ok(false);
        };
        let stands = open.stands(one)?;
        if !ready(&stands, one) || open.has_side_files(one)? {
            return Ok(false);
        }
        let slot = open.slot(slot, &one.name);
        match open.folder().exchange(&slot, &one.name) {
            Ok(()) if open.identity(&slot)? == stands.live => Ok(true),
            Ok(()) => {
                // Somebody put something else there in between: it gets its name back.
                let back = open.folder().exchange(&slot, &one.name);
                back.map_err(|cause| not_swapped(&open.live(one), cause))?;
                Err(changed(&open.live(one), "something else stands there now"))
            }
            Err(cause) if cannot_exchange(&cause) || is_denied(&cause) => Ok(false),
            Err(cause) => Err(not_swapped(&open.live(one), cause)),
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

/// The journals of kept folders in `place`, oldest first, and what is wrong with those that cannot be
/// read. What is rubbish is cleared away: a swap that was never promised, and what is to be discarded.
pub(super) fn find(place: &Path, disk: &dyn Disk) -> (Vec<Journal>, Vec<(PathBuf, String)>) {
    let (mut journals, unreadable) = journal::read_all(place, disk);
    // What cannot be looked at now is no rubbish.
    journals.retain(|journal| !clear_rubbish(place, journal, disk).unwrap_or(false));
    (journals, unreadable)
}

/// Whether a kept folder was rubbish, and is gone.
fn clear_rubbish(place: &Path, journal: &Journal, disk: &dyn Disk) -> Result<bool> {
    let mut places = journal.places.iter();
    let Some(mut moves) = places.find(|other| other.path == place).cloned() else {
        return Ok(false);
    };
    let kept = journal.kept_name();
    let failed = |doing| Error::file(doing, place.join(&kept));
    let Some(own) = Scratch::hold(disk, place, &kept).map_err(failed("opening"))? else {
        return Ok(false);
    };
    let mut open = OpenPlace(own);
    if let Some(own) = open.identity(open.kept())? {
        moves.renumber(own.device);
    }
    // The mark of the first place is the last to be written.
    let is_marked = open.identity(&open.kept().join(DISCARD))?.is_some();
    let is_without_first = journal.is_surely_without_first();
    let is_discarded = is_marked && (is_without_first || journal.is_marked_first(DISCARD));
    let never_began = is_without_first && open.is_untouched(&moves)?;
    if !is_discarded && !never_began {
        return Ok(false);
    }
    open.0.give_up().map_err(failed("clearing away"))?;
    Ok(true)
}

fn unfinished(path: &Path, finding: &str) -> Error {
    Error::UnfinishedRestore {
        path: path.to_owned(),
        finding: finding.to_owned(),
    }
}
