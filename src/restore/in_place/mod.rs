//! A restore over what is there: planned, staged, proved, swapped in; the old is kept aside.
//!
//! ```text
//! InPlace ──stage──► Ready ──swap──► Swapped        Kept ──roll_back, discard
//! ```
//! Nothing under a live name changes before every copy is proved and the journal of the swap is
//! durable. The design and its order of writes: `docs/design/restore.md`.

mod holders;
mod journal;
mod kept;
mod left_out;
mod loss;
mod mounts;
mod moves;
mod place;
mod spot;
mod stage;
mod survey;
mod swap;
mod turn;
mod unsaved;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::capture::manifest::ServerDatabase;
use crate::durable::Disk;
use crate::error::{Error, Result};
use crate::id::{Hasher, Id};
use crate::monitor::{Monitor, Problem, Quiet};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::snapshot::Snapshot;

use super::filter::Selection;
use super::lost::Lost;
use super::plan::{Plan, read_manifest};
use super::target::{Target, add_machine, add_part};
use holders::Holders;
use left_out::Left;
use swap::{Stage, Swap};

pub use kept::{Kept, KeptState, Registry};
pub use loss::{DatabaseChange, NotCounted, TableChange};
pub use spot::Spot;
pub use stage::{Ready, Swapped};
pub use survey::{Paths, Survey};

/// One thing that is replaced.
#[derive(Debug)]
pub struct Root {
    /// Where it is.
    pub spot: Spot,
    /// What is restored there.
    pub plan: Plan,
    /// What stands there now.
    pub survey: Survey,
}

/// The plan of a restore in place.
#[derive(Debug)]
pub struct InPlace {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What is replaced.
    pub roots: Vec<Root>,
    /// Bytes that are free on each file system that is written to, with the bytes needed there.
    pub room: Vec<Room>,
    /// Databases of servers that are in what is asked for: a restore in place leaves them out.
    pub servers: Vec<ServerDatabase>,
    /// Processes that we may not look into: one of them may have a database open.
    pub unseen_processes: u64,
    /// Which restore it is: the snapshot, what of it, and where to.
    restore: Id,
    /// All that was planned upon; what `--plan` names.
    pub hash: Id,
    /// The same restore, interrupted.
    unfinished: Option<Swap>,
    /// Whether what stands there and was not saved may be moved aside all the same.
    gives_up_unsaved: bool,
}

/// Room on a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// A folder on it.
    pub path: PathBuf,
    /// Bytes that the copies need.
    pub needed_bytes: u64,
    /// Bytes that are free; none if the file system does not count.
    pub free_bytes: Option<u64>,
}

impl InPlace {
    /// Plans a restore of a selection (of `/` for all that the snapshot was made of) over what stands
    /// there. Nothing is written, and nothing read but trees, names and first bytes.
    ///
    /// # Errors
    /// [`Error::NoSuchPath`], [`Error::NothingSelected`], [`Error::Damaged`], [`Error::Storage`],
    /// [`Error::File`]; [`Error::Usage`] for `/` itself; [`Error::TargetUnfit`].
    pub fn plan(
        repository: &Repository,
        index: &Index,
        snapshot: &Snapshot,
        selection: &Selection,
        disk: &dyn Disk,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let holders = Holders::look();
        let (mut roots, mut nothing) = (Vec::new(), None);
        let tree = repository.read_tree(index, snapshot.file.tree)?;
        let manifest = read_manifest(repository, index, &tree, &Quiet::default());
        let servers = manifest.map_or(Vec::new(), |manifest| manifest.servers);
        for path in root_paths(snapshot, &selection.base, &servers)? {
            match plan_root(repository, index, snapshot, &path, selection, monitor) {
                Ok(plan) => roots.push(Root::look_at(path, plan, &holders, monitor)?),
                Err(cause @ Error::NothingSelected { .. }) => nothing = Some(cause),
                Err(cause) => return Err(cause),
            }
        }
        if let (true, Some(nothing)) = (roots.is_empty(), nothing) {
            return Err(nothing);
        }
        require_apart(&roots)?;
        let restore = restore_id(snapshot, selection, &roots);
        let mut planned = Self {
            snapshot: snapshot.clone(),
            room: room(&roots, restore, disk)?,
            hash: plan_hash(restore, &roots),
            restore,
            roots,
            unseen_processes: holders.unseen,
            servers: servers
                .into_iter()
                .filter(|one| one.folder().starts_with(&selection.base))
                .collect(),
            unfinished: None,
            gives_up_unsaved: false,
        };
        planned.look_for_unfinished(disk, monitor)?;
        Ok(planned)
    }

    /// The owner says that what stands there and was not saved may be moved aside all the same.
    #[must_use]
    pub fn giving_up_unsaved(self) -> Self {
        Self {
            gives_up_unsaved: true,
            ..self
        }
    }

    /// Files of all roots.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.roots.iter().map(|root| root.plan.files).sum()
    }

    /// Bytes of all roots.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.roots.iter().map(|root| root.plan.bytes).sum()
    }

    /// Whether the same restore was interrupted in its swap: then it is completed, not begun anew.
    #[must_use]
    pub const fn is_unfinished(&self) -> bool {
        self.unfinished.is_some()
    }

    /// Looks for a swap that is not complete, on the same places or around them.
    fn look_for_unfinished(&mut self, disk: &dyn Disk, monitor: &dyn Monitor) -> Result<()> {
        let own: BTreeSet<&Path> = self
            .roots
            .iter()
            .map(|root| root.spot.place.as_path())
            .collect();
        let around = own.iter().flat_map(|place| place.ancestors());
        let mut places: Vec<&Path> = around.collect();
        places.sort_unstable();
        places.dedup();
        for place in places {
            let (journals, unreadable) = swap::find(place, disk);
            for (path, finding) in unreadable.into_iter().filter(|_| own.contains(place)) {
                monitor.problem(Problem {
                    item: crate::units::shown(&path),
                    finding: format!("is not looked at: {finding}"),
                    incomplete: false,
                });
            }
            for journal in journals {
                if !journal.roots.iter().any(|root| self.concerns(root)) {
                    continue;
                }
                let unfinished = |finding: &str| Error::UnfinishedRestore {
                    path: place.join(journal.kept_name()),
                    finding: finding.to_owned(),
                };
                let swap = Swap::open(journal.clone(), disk)?;
                match swap.stage()? {
                    Stage::Done | Stage::Undone => {}
                    Stage::Unconfirmed if journal.restore != self.restore => {}
                    Stage::HalfUndone => return Err(unfinished("whose rollback was cut short")),
                    Stage::Unfinished if journal.restore != self.restore => {
                        return Err(unfinished("of another snapshot or path"));
                    }
                    Stage::Unfinished | Stage::Unconfirmed => {
                        self.hash = journal.plan;
                        self.unfinished = Some(swap);
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether `path` is a root, or holds one, or lies in one.
    fn concerns(&self, path: &Path) -> bool {
        let mut lives = self.roots.iter().map(|root| &root.spot.live);
        lives.any(|live| live.starts_with(path) || path.starts_with(live))
    }

    /// Fails if what is planned must not be done: something would go that the snapshot failed to save,
    /// somebody has a database open, or there is too little room.
    ///
    /// # Errors
    /// [`Error::Unsaved`], [`Error::InUse`], [`Error::NoRoom`].
    pub fn require_fit(&self) -> Result<()> {
        self.require_saved()?;
        self.require_closed()?;
        self.require_room()
    }

    /// Fails if something stands there that the snapshot was to hold and does not, unless its owner gives it
    /// up: a restore must not take what nothing else has.
    ///
    /// # Errors
    /// [`Error::Unsaved`].
    pub fn require_saved(&self) -> Result<()> {
        if self.gives_up_unsaved || self.is_unfinished() {
            return Ok(());
        }
        let unsaved = || self.roots.iter().map(|root| &root.survey.unsaved);
        let Some(first) = unsaved().find_map(|paths| paths.first.first()) else {
            return Ok(());
        };
        Err(Error::Unsaved {
            snapshot: self.snapshot.id.short(),
            path: first.clone(),
            others: unsaved().map(|paths| paths.count).sum::<u64>() - 1,
        })
    }

    /// Fails if there is too little room, whoever has what open.
    ///
    /// # Errors
    /// [`Error::NoRoom`].
    pub fn require_room(&self) -> Result<()> {
        for room in self.room.iter().filter(|_| !self.is_unfinished()) {
            if let Some(free_bytes) = room.free_bytes
                && free_bytes < room.needed_bytes
            {
                return Err(Error::NoRoom {
                    path: room.path.clone(),
                    needed_bytes: room.needed_bytes,
                    free_bytes,
                });
            }
        }
        Ok(())
    }

    /// Fails if somebody has a database open that would be replaced.
    fn require_closed(&self) -> Result<()> {
        let mut open = self.roots.iter().flat_map(|root| &root.survey.open);
        match open.next() {
            Some((path, holder)) => Err(Error::InUse {
                path: path.clone(),
                holder: holder.to_string(),
            }),
            None => Ok(()),
        }
    }
}

impl Root {
    fn look_at(
        path: PathBuf,
        plan: Plan,
        holders: &Holders,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let spot = Spot::look_at(path, &plan)?;
        Left::tell(&plan, &Left::of(&plan, &spot).1, monitor);
        Ok(Self {
            survey: survey::survey(&plan, &spot, holders, monitor)?,
            plan,
            spot,
        })
    }
}

impl Root {
    /// The open databases, each with who has it open.
    #[must_use]
    pub fn open_databases(&self) -> Vec<String> {
        let open = self.survey.open.iter();
        open.map(|(path, holder)| format!("{} in {holder}", crate::units::shown(path)))
            .collect()
    }

    /// What comes back where nothing stands now, without what is lost.
    #[must_use]
    pub fn returning(&self, lost: &[Lost]) -> Paths {
        let spot = &self.spot;
        let at = |place: &Path, inner: &Path| -> PathBuf { place.iter().chain(inner).collect() };
        let lost: BTreeSet<&Path> = lost.iter().map(|lost| lost.path.as_path()).collect();
        let returning = self.survey.returns.iter();
        let returning = returning.filter(|inner| !lost.contains(at(&spot.path, inner).as_path()));
        let paths: Vec<PathBuf> = returning.map(|inner| at(&spot.live, inner)).collect();
        Paths::of(paths.iter().map(PathBuf::as_path))
    }
}

/// The paths that are replaced: those that the snapshot was made of, or the one that is asked for.
/// The dumps of servers stand under paths that are no places of this machine.
fn root_paths(
    snapshot: &Snapshot,
    base: &Path,
    servers: &[ServerDatabase],
) -> Result<Vec<PathBuf>> {
    let asked = snapshot.file.paths.iter().map(PathBuf::from);
    let mut paths: Vec<PathBuf> = asked.filter(|path| path.starts_with(base)).collect();
    let is_of_a_server = |path: &PathBuf| servers.iter().any(|one| path.starts_with(one.folder()));
    let all = paths.len();
    paths.retain(|path| !is_of_a_server(path));
    if (paths.is_empty() && all > 0) || is_of_a_server(&base.to_owned()) {
        let names: Vec<&str> = servers.iter().map(|one| one.name.as_str()).collect();
        return Err(Error::Usage {
            finding: "databases of servers have no place on this machine that could be replaced"
                .to_owned(),
            next: format!(
                "load it into a new database with --database instead of --in-place (there is: {})",
                names.join(", ")
            ),
        });
    }
    if paths.is_empty() {
        // Something inside a path, or of a snapshot that says nothing about its paths.
        paths.push(base.to_owned());
    }
    paths.sort_unstable();
    let mut outer: Vec<PathBuf> = Vec::new();
    for path in paths {
        if !outer.iter().any(|root| path.starts_with(root)) {
            outer.push(path);
        }
    }
    if outer.iter().any(|path| path.parent().is_none()) {
        return Err(Error::Usage {
            finding: "the whole machine cannot be replaced while it runs".to_owned(),
            next: "name what is to be replaced: SNAPSHOT:/srv/shop; or restore to a new folder with --target".to_owned(),
        });
    }
    Ok(outer)
}

/// Fails if one root really lies in another: moving one would take the other along.
fn require_apart(roots: &[Root]) -> Result<()> {
    let mut spots: Vec<&Spot> = roots.iter().map(|root| &root.spot).collect();
    spots.sort_unstable_by(|a, b| a.live.cmp(&b.live));
    for pair in spots.windows(2) {
        if pair[1].live.starts_with(&pair[0].live) {
            return Err(Error::TargetUnfit {
                path: pair[1].live.clone(),
                finding: format!(
                    "{} and {} of the snapshot both lie there, behind a link: restore one after the other",
                    crate::units::shown(&pair[0].path),
                    crate::units::shown(&pair[1].path)
                ),
            });
        }
    }
    Ok(())
}

/// The plan of one root. Patterns are meant from the base of the selection.
fn plan_root(
    repository: &Repository,
    index: &Index,
    snapshot: &Snapshot,
    path: &Path,
    selection: &Selection,
    monitor: &dyn Monitor,
) -> Result<Plan> {
    let inner = path.strip_prefix(&selection.base).unwrap_or(Path::new(""));
    let Some(filter) = selection.filter.seen_from(inner) else {
        return Err(Error::NothingSelected {
            snapshot: snapshot.id.short(),
            base: crate::units::shown(path),
            words: selection.filter.words(),
        });
    };
    let selection = Selection {
        base: path.to_owned(),
        filter,
    };
    Plan::make(repository, index, snapshot.clone(), selection, monitor)
}

/// Room that the copies need, file system by file system; what is staged already needs none.
fn room(roots: &[Root], restore: Id, disk: &dyn Disk) -> Result<Vec<Room>> {
    let mut by_device: BTreeMap<u64, Room> = BTreeMap::new();
    for root in roots {
        let mut there = root.spot.place.ancestors();
        let Some(folder) = there.find(|path| path.is_dir()) else {
            continue;
        };
        let device = std::fs::metadata(folder).map_or(0, |metadata| metadata.dev());
        let room = by_device.entry(device).or_insert_with(|| Room {
            path: folder.to_owned(),
            needed_bytes: 0,
            free_bytes: disk
                .open(folder)
                .and_then(|folder| folder.free_bytes())
                .ok(),
        });
        let target = Target::in_place(&root.spot.live, &root.spot.place, restore);
        let staged = target.bytes_staged(&root.plan, disk)?;
        let needed = root.plan.needed_bytes().saturating_sub(staged);
        room.needed_bytes = room.needed_bytes.saturating_add(needed);
    }
    Ok(by_device.into_values().collect())
}

fn restore_id(snapshot: &Snapshot, selection: &Selection, roots: &[Root]) -> Id {
    let mut hasher = Hasher::default();
    hasher.update(snapshot.id.as_bytes());
    add_part(&mut hasher, selection.base.as_os_str().as_encoded_bytes());
    let patterns = serde_json::to_vec(&selection.filter).unwrap_or_default();
    add_part(&mut hasher, &patterns);
    for root in roots {
        add_part(&mut hasher, root.spot.live.as_os_str().as_encoded_bytes());
    }
    hasher.finish()
}

/// Hash of the machine, the restore, and all that would be replaced.
fn plan_hash(restore: Id, roots: &[Root]) -> Id {
    let mut hasher = Hasher::default();
    hasher.update(restore.as_bytes());
    add_machine(&mut hasher);
    for root in roots {
        add_part(&mut hasher, root.spot.place.as_os_str().as_encoded_bytes());
        let device = std::fs::metadata(&root.spot.place).map_or(0, |metadata| metadata.dev());
        hasher.update(&device.to_le_bytes());
        hasher.update(root.survey.hash.as_bytes());
    }
    hasher.finish()
}
