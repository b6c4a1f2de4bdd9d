//! Copies of all roots beside what they replace, then the swap.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::holders::Holders;
use super::journal::{Journal, Move, NEW, OLD, Place};
use super::kept::{Registry, holder_of, require_closed};
use super::moves::MoveFinder;
use super::place::changed;
use super::spot::Spot;
use super::survey::survey;
use super::swap::{Stage, Swap};
use super::turn::Turn;
use super::{InPlace, Root};
use crate::durable::scratch::Scratch;
use crate::durable::{Disk, Folder};
use crate::entry::Kind;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Problem, Step, go_on};
use crate::records::ProofLevel;
use crate::repository::index::Index;
use crate::repository::snapshot::Snapshot;
use crate::repository::{Repository, Services};
use crate::restore::item::Item;
use crate::restore::lost::Lost;
use crate::restore::metadata::Metadata;
use crate::restore::plan::Plan;
use crate::restore::read_back::read_back;
use crate::restore::resume::keep_after;
use crate::restore::swap::{tell_kept, tell_kept_folder};
use crate::restore::target::{Target, is_content};
use crate::restore::verify::{DatabaseProof, Verified};

/// Proved copies of all roots, ready to be swapped in.
#[derive(Debug)]
pub struct Ready {
    snapshot: Snapshot,
    restore: Id,
    plan: Id,
    copies: Vec<Copy>,
}

#[derive(Debug)]
struct Copy {
    spot: Spot,
    /// Hash of what stood there when it was planned.
    planned_upon: Id,
    verified: Verified,
    /// What stays where it is, because a rule has left it out of the snapshot; relative to the root.
    stays: BTreeSet<PathBuf>,
    /// The folders that lead to it, and so are not moved: what else is in them is.
    divided: BTreeSet<PathBuf>,
    /// What goes although the snapshot failed to save it, relative to the root.
    unsaved: BTreeSet<PathBuf>,
}

/// What a restore in place has done.
#[derive(Debug)]
pub struct Swapped {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What was replaced.
    pub roots: Vec<PathBuf>,
    /// How far it is proved.
    pub level: ProofLevel,
    /// The databases.
    pub databases: Vec<DatabaseProof>,
    /// Where the old is kept; nothing if nothing stood there.
    pub kept: Vec<PathBuf>,
    /// The name of this swap, for `rollback`.
    pub id: String,
}

impl InPlace {
    /// Stages and proves a copy of every root. Nothing live is touched.
    ///
    /// # Errors
    /// As [`Plan::fetch`] and `verify`; [`Error::InUse`], [`Error::NoRoom`].
    pub fn stage(
        self,
        repository: &Repository,
        index: &Index,
        disk: &dyn Disk,
        monitor: &Arc<dyn Monitor>,
    ) -> Result<Ready> {
        self.require_fit()?;
        let mut copies: Vec<Copy> = Vec::new();
        for Root { spot, plan, survey } in self.roots {
            let target = Target::in_place(&spot.live, &spot.place, self.restore);
            let verified = plan
                .fetch(repository, index, target, disk, monitor.as_ref())
                .and_then(|staged| staged.verify(index, monitor));
            match verified {
                Ok(verified) => copies.push(Copy {
                    spot,
                    planned_upon: survey.hash,
                    verified,
                    divided: leading_to(&survey.stays),
                    stays: survey.stays,
                    unsaved: survey.all_unsaved,
                }),
                Err(cause) => {
                    let others = copies.into_iter().map(|copy| copy.verified.staged.scratch);
                    return Err(others.fold(cause, |cause, scratch| {
                        keep_after(scratch, cause, monitor.as_ref())
                    }));
                }
            }
        }
        Ok(Ready {
            snapshot: self.snapshot,
            restore: self.restore,
            plan: self.hash,
            copies,
        })
    }

    /// Completes the same restore that was interrupted in its swap. Its copies are read back first.
    ///
    /// # Errors
    /// [`Error::UnfinishedRestore`] if nothing waits, or it is no longer what was proved;
    /// [`Error::InUse`]; [`Error::TargetChanged`]; [`Error::File`].
    pub fn finish(
        self,
        index: &Index,
        disk: &dyn Disk,
        monitor: &Arc<dyn Monitor>,
    ) -> Result<Swapped> {
        self.require_closed()?;
        let Some(swap) = self.unfinished else {
            return Err(Error::internal(&"no restore waits"));
        };
        let _turn = Turn::take(swap.journal.paths(), disk)?;
        // Once all is in its place it may be at work, and differ from what was proved.
        let unproved = if swap.stage()? == Stage::Unconfirmed {
            &[]
        } else {
            self.roots.as_slice()
        };
        let bytes = unproved.iter().map(|root| root.plan.bytes).sum();
        monitor.step(Step::Verifying, Some(bytes));
        for Root { spot, plan, .. } in unproved {
            let items = swap.where_they_are(
                &spot.place,
                plan.items.iter().map(|item| Item {
                    path: spot.place_of(plan, item),
                    ..item.clone()
                }),
            )?;
            let folder = swap.folder(&spot.place)?;
            read_back(folder, &items, index, true, monitor.as_ref()).map_err(
                |cause| match cause {
                    Error::NotVerified { name, finding } => Error::UnfinishedRestore {
                        path: spot.live.clone(),
                        finding: format!("whose {name} was changed since: {finding}"),
                    },
                    other => other,
                },
            )?;
        }
        monitor.step(Step::Syncing, None);
        let level = ProofLevel::named(&swap.journal.proof_level).unwrap_or(ProofLevel::Restored);
        if unproved.is_empty() {
            swap.confirm()?;
        } else {
            // Reading it back may have taken long.
            require_closed(&swap.journal, monitor.as_ref())?;
            swap.forward()?;
        }
        swapped(swap, self.snapshot, level, Vec::new())
    }
}

impl Ready {
    /// The databases' proofs.
    #[must_use]
    pub fn databases(&self) -> Vec<DatabaseProof> {
        let copies = self.copies.iter();
        copies
            .flat_map(|copy| copy.verified.databases.clone())
            .collect()
    }

    /// What could not be brought back: then nothing is swapped in.
    #[must_use]
    pub fn lost(&self) -> Vec<Lost> {
        let copies = self.copies.iter();
        copies.flat_map(|copy| copy.plan().lost.clone()).collect()
    }

    /// Swaps all copies in, durably. The old is kept aside, and `registry` told where.
    ///
    /// # Errors
    /// [`Error::NotWhole`], [`Error::InUse`], [`Error::File`], [`Error::TargetChanged`],
    /// [`Error::Interrupted`]: what stood there stands there. [`Error::HalfSwapped`] if neither the swap nor its undoing succeeds.
    pub fn swap(
        mut self,
        services: &Services,
        registry: Option<&Registry>,
        disk: &dyn Disk,
        monitor: &Arc<dyn Monitor>,
    ) -> Result<Swapped> {
        let lost = self.lost();
        if let Some(first) = lost.first() {
            return Err(Error::NotWhole {
                count: lost.len(),
                first: crate::units::shown(&first.path),
            });
        }
        monitor.step(Step::Finishing, None);
        let places = self.copies.iter().map(|copy| copy.spot.place.as_path());
        let _turn = Turn::take(places, disk)?;
        self.look_again(monitor.as_ref())?;
        let levels = self.copies.iter().map(|copy| copy.verified.level);
        let level = levels.min().unwrap_or(ProofLevel::Restored);
        let (databases, snapshot) = (self.databases(), self.snapshot.clone());
        let swap = self.begin(level, services, disk, monitor.as_ref())?;
        let note = |swap: &Swap| {
            if let Some(registry) = registry
                && let Err(cause) = registry.note(&swap.journal, disk)
            {
                monitor.problem(Problem {
                    item: "rollback".to_owned(),
                    finding: format!("{cause}; it will have to be told the path"),
                    incomplete: false,
                });
            }
        };
        note(&swap);
        // Making it durable may have taken long.
        let closed = require_closed(&swap.journal, monitor.as_ref());
        let ready = closed.and_then(|()| go_on(monitor.as_ref()));
        if let Err(cause) = ready.and_then(|()| swap.forward()) {
            // Once all was in its place, somebody may have worked with it.
            let was_live = matches!(swap.stage(), Ok(Stage::Unconfirmed));
            return Err(match swap.take_back() {
                // Nothing was replaced in the end, so nothing is kept.
                Ok(true) if !was_live => {
                    let id = swap.journal.id.clone();
                    let retired = swap.retire();
                    forget(registry, &id, disk);
                    retired.err().unwrap_or(cause)
                }
                Ok(_) => {
                    tell_displaced(&swap, monitor.as_ref());
                    let undone = swap.begin_undo().and_then(|()| swap.end_undo());
                    undone.err().unwrap_or(cause)
                }
                Err(_) => Error::HalfSwapped {
                    path: swap.kept_folders().swap_remove(0),
                    cause: Box::new(cause),
                },
            });
        }
        // What remembers it may itself have been replaced.
        note(&swap);
        tell_late_comers(&swap, monitor.as_ref());
        let swapped = swapped(swap, snapshot, level, databases)?;
        if swapped.kept.is_empty() {
            forget(registry, &swapped.id, disk);
        }
        Ok(swapped)
    }

    /// Hours may lie between the plan and the swap.
    fn look_again(&mut self, monitor: &dyn Monitor) -> Result<()> {
        let holders = Holders::look();
        for copy in &mut self.copies {
            let now = survey(copy.plan(), &copy.spot, &holders, monitor)?;
            copy.divided = leading_to(&now.stays);
            copy.stays = now.stays;
            copy.unsaved = now.all_unsaved;
            if let Some((path, holder)) = now.open.into_iter().next() {
                return Err(Error::InUse {
                    path,
                    holder: holder.to_string(),
                });
            }
            if now.hash != copy.planned_upon {
                monitor.problem(Problem {
                    item: crate::units::shown(&copy.spot.live),
                    finding: "was changed while the copy was made; it is kept as it is now"
                        .to_owned(),
                    incomplete: false,
                });
            }
        }
        Ok(())
    }

    /// Moves all copies into the places' folders and writes the journal.
    fn begin(
        self,
        level: ProofLevel,
        services: &Services,
        disk: &dyn Disk,
        monitor: &dyn Monitor,
    ) -> Result<Swap> {
        let rng = services.rng.as_ref();
        let begun = services.clock.now();
        let roots = self
            .copies
            .iter()
            .map(|copy| copy.spot.live.clone())
            .collect();
        let mut by_place: BTreeMap<PathBuf, Vec<Copy>> = BTreeMap::new();
        for copy in self.copies {
            let place = by_place.entry(copy.spot.place.clone()).or_default();
            place.push(copy);
        }
        let (mut places, mut scratches) = (Vec::new(), Vec::new());
        for (path, copies) in by_place {
            let scratch = Scratch::create(disk, &path, "swap", rng)?;
            let (mut moves, mut unsaved) = (Vec::new(), Vec::new());
            let whole = copies.iter().any(Copy::replaces_all);
            for copy in copies {
                copy.dress(monitor)?;
                let name = copy.spot.name();
                unsaved.extend(copy.unsaved.iter().map(|inner| name.join(inner)));
                moves.extend(copy.move_into(&scratch)?);
            }
            let metadata = std::fs::metadata(&path).map_err(Error::file("looking at", &path))?;
            places.push(Place {
                path,
                inode: metadata.ino(),
                whole,
                moves,
                unsaved,
            });
            scratches.push(scratch);
        }
        let stamp = begun.strftime("%Y%m%dT%H%M%SZ");
        let journal = Journal {
            id: format!("{stamp}-{}", &crate::rng::name(rng)?[..6]),
            begun,
            snapshot: self.snapshot.id,
            restore: self.restore,
            plan: self.plan,
            proof_level: level.name().to_owned(),
            roots,
            places,
        };
        go_on(monitor)?;
        monitor.step(Step::Syncing, None);
        Swap::begin(journal, scratches)
    }
}

impl Copy {
    fn plan(&self) -> &Plan {
        &self.verified.staged.plan
    }

    fn stage(&self) -> &Scratch {
        &self.verified.staged.scratch
    }

    /// Whether every name in the place is replaced.
    fn replaces_all(&self) -> bool {
        self.spot.whole && self.plan().filter.is_empty() && self.stays.is_empty()
    }

    /// The names that are exchanged where something stays: all others in each folder that leads to it.
    fn names_beside(&self, new: &Path, place: &dyn Folder) -> Result<BTreeSet<PathBuf>> {
        let mut names = BTreeSet::new();
        for folder in &self.divided {
            // Joining an empty path would add a slash.
            let live: PathBuf = self.spot.name().iter().chain(folder).collect();
            let staged: PathBuf = new.iter().chain(&live).collect();
            for path in [&staged, &live] {
                let listed = place.list(path);
                let listed = listed.map_err(Error::file("reading", place.path().join(path)))?;
                for one in listed.iter().filter(|one| is_content(one)) {
                    let inner = folder.join(&one.name);
                    if !self.stays.contains(&inner) && !self.divided.contains(&inner) {
                        names.insert(live.join(&one.name));
                    }
                }
            }
        }
        Ok(names)
    }

    /// Whether a folder of the plan stands there and stays: only what was selected in it is replaced.
    fn stays(&self, item: &Item) -> bool {
        if self.divided.contains(&item.path) {
            return true;
        }
        let live = self.spot.place.join(self.spot.place_of(self.plan(), item));
        !self.plan().filter.is_empty()
            && item.entry.kind == Kind::Folder
            && std::fs::symlink_metadata(live).is_ok_and(|metadata| metadata.is_dir())
    }

    /// The names that are exchanged where only some of the items were selected: files one by one, and
    /// folders that are not there with all that is in them.
    fn selected_names(&self) -> BTreeSet<PathBuf> {
        let (mut names, mut whole) = (BTreeSet::new(), BTreeSet::new());
        for item in &self.plan().items {
            let is_inside = item
                .path
                .ancestors()
                .skip(1)
                .any(|path| whole.contains(path));
            if is_inside || self.stays(item) {
                continue;
            }
            if item.entry.kind == Kind::Folder {
                whole.insert(item.path.clone());
            }
            names.insert(self.spot.place_of(self.plan(), item));
        }
        names
    }

    /// Gives the copy its links, owners, attributes, modes and times.
    fn dress(&self, monitor: &dyn Monitor) -> Result<()> {
        self.require_own(self.stage().place().1, Path::new(""))?;
        let (spot, plan) = (&self.spot, self.plan());
        let (place, stage) = self.stage().place();
        let mut metadata = Metadata::new(&spot.place, monitor);
        let pairs = plan.items.iter().map(|item| {
            (
                &item.entry,
                spot.place_of(plan, item),
                stage.join(&item.path),
            )
        });
        let itself = plan.base_folder.iter().filter(|_| !spot.whole);
        let itself = itself.map(|entry| (entry, spot.name().to_owned(), stage.to_owned()));
        metadata.keep_labels(place, pairs.chain(itself))?;
        let items: Vec<&Item> = plan.items.iter().filter(|item| !self.stays(item)).collect();
        metadata.apply(self.stage().folder(), &items)?;
        match &plan.base_folder {
            _ if !plan.filter.is_empty() => {}
            Some(entry) if !spot.whole && self.stays.is_empty() => {
                metadata.apply_base(self.stage().folder(), Path::new(""), entry)?;
            }
            Some(_) => {
                let old = std::fs::metadata(&spot.live);
                let old = old.map_err(Error::file("looking at", &spot.live))?;
                tell_kept(&old, plan, &spot.live, monitor);
            }
            None => {}
        }
        let divided = plan.items.iter();
        for item in divided.filter(|item| self.divided.contains(&item.path)) {
            let live = spot.place.join(spot.place_of(plan, item));
            let old = std::fs::metadata(&live).map_err(Error::file("looking at", &live))?;
            tell_kept_folder(&old, &item.entry, &live, monitor);
        }
        Ok(())
    }

    /// Fails if something else stands under a name of `inner` in the copy: whoever owns the place can put
    /// it there.
    fn require_own(&self, name: &Path, inner: &Path) -> Result<()> {
        let (place, folder) = (self.stage().place().0, self.stage().folder());
        let failed = || Error::file("looking at", place.path().join(name));
        let stands = place.identity(name).map_err(failed())?;
        if stands.is_none() || stands != folder.identity(inner).map_err(failed())? {
            let path = place.path().join(name);
            return Err(changed(&path, "the copy no longer stands there"));
        }
        Ok(())
    }

    /// Moves the copy to where the swap takes it from; returns the names that will be exchanged.
    fn move_into(self, swap: &Scratch) -> Result<Vec<Move>> {
        let (spot, plan) = (&self.spot, self.plan());
        let (place, swap_name) = swap.place();
        let new = swap_name.join(NEW);
        let stage = self.stage().place().1;
        let failed = || Error::file("naming", place.path().join(&new));
        let (from, to) = if plan.is_file() {
            let item = plan.items.first().map(|item| item.path.clone());
            let item = item.unwrap_or_default();
            self.require_own(&stage.join(&item), &item)?;
            (stage.join(item), new.join(spot.name()))
        } else if spot.whole {
            (stage.to_owned(), new.clone())
        } else {
            (stage.to_owned(), new.join(spot.name()))
        };
        if to != new && place.identity(&new).map_err(failed())?.is_none() {
            place.create_folder(&new, 0o700).map_err(failed())?;
        }
        place.rename(&from, &to).map_err(failed())?;
        if !plan.is_file() {
            self.require_own(&to, Path::new(""))?;
        }
        let mut names: BTreeSet<PathBuf> = BTreeSet::new();
        if !plan.filter.is_empty() && !plan.is_file() {
            names = self.selected_names();
        } else if !self.stays.is_empty() {
            names = self.names_beside(&new, place)?;
        } else if spot.whole {
            for folder in [&new, Path::new("")] {
                let listed = place.list(folder).map_err(failed())?;
                let names_of = listed.into_iter().filter(is_content);
                names.extend(names_of.map(|listed| PathBuf::from(listed.name)));
            }
        } else {
            names.insert(spot.name().to_owned());
        }
        let finder = MoveFinder {
            place,
            new: &new,
            spot,
            proofs: &self.verified.databases,
        };
        finder.find(&names)
    }
}

/// The folders on the way to any of these paths, the root among them.
fn leading_to(paths: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let ways = paths.iter().flat_map(|path| path.ancestors().skip(1));
    ways.map(Path::to_owned).collect()
}

/// A database that was opened in the last moment is now open in the kept folder.
fn tell_late_comers(swap: &Swap, monitor: &dyn Monitor) {
    let holders = Holders::look();
    let places = swap.journal.places.iter().zip(swap.kept_folders());
    for (place, kept) in places {
        for one in &place.moves {
            let held = holder_of(one, &kept.join(OLD), &holders, monitor);
            if let Ok(Some((path, holder))) = held {
                monitor.problem(Problem {
                    item: crate::units::shown(&path),
                    finding: format!("{holder} opened the old one in the last moment; restart it, or what it writes goes to the kept copy"),
                    incomplete: true,
                });
            }
        }
    }
}

/// Nothing is kept: there is nothing to remember.
fn forget(registry: Option<&Registry>, id: &str, disk: &dyn Disk) {
    if let Some(registry) = registry {
        registry.forget(id, disk);
    }
}

/// Something stood where the old has its place again: the copy, in use perhaps, or what took its name.
fn tell_displaced(swap: &Swap, monitor: &dyn Monitor) {
    for folder in swap.kept_folders() {
        monitor.problem(Problem {
            item: crate::units::shown(&folder),
            finding: "keeps what stood in the place of the old data while that was aside"
                .to_owned(),
            incomplete: true,
        });
    }
}

fn swapped(
    swap: Swap,
    snapshot: Snapshot,
    level: ProofLevel,
    databases: Vec<DatabaseProof>,
) -> Result<Swapped> {
    let (roots, id) = (swap.journal.roots.clone(), swap.journal.id.clone());
    let kept = if swap.journal.replaces_anything() {
        swap.kept_folders()
    } else {
        swap.retire()?;
        Vec::new()
    };
    Ok(Swapped {
        snapshot,
        roots,
        level,
        databases,
        kept,
        id,
    })
}
