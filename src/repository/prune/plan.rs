//! What is to become of each pack.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::state::{Pack, State};
use super::used::Used;
use super::{MaxUnused, Options};
use crate::backend::{Class, Object};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, go_on};
use crate::parallel;
use crate::repository::Repository;
use crate::repository::index::Location;
use crate::repository::pack::{BlobKind, PackedBlob};
use crate::repository::replace::Standing;

/// How long a marked pack waits: longer than any backup runs that does not lock (rustic's wait 23 h).
pub(super) const GRACE: SignedDuration = SignedDuration::from_hours(24);
/// Packs below this size are small, in bytes: data, and trees.
const SMALL: [u64; 2] = [4 * 1024 * 1024, 1024 * 1024];
/// So many small ones are put together.
const MANY_SMALL: usize = 10;

/// What becomes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// In use, named by an index.
    Use,
    /// Marked for deletion, since then.
    Mark(Timestamp),
    /// No longer named, and removed.
    Remove,
}

/// Copies of blobs that were read and are whole, by pack: just as they are described.
pub(super) type Verified = HashSet<(Id, PackedBlob)>;

/// What becomes of all packs.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub fates: BTreeMap<Id, Fate>,
    /// Stored bytes of what is needed in each pack that stays in use, other copies not counted.
    pub needed_bytes: HashMap<Id, u64>,
    /// Packs of which what is needed should be stored anew.
    pub repack: BTreeSet<Id>,
    /// Packs in which a copy is damaged that is needed.
    pub damaged: BTreeSet<Id>,
    /// For each blob with several copies, the pack in which it stays.
    keepers: Keepers,
}

impl Plan {
    /// Decides. Before a copy of a blob goes, the one that stays is read.
    ///
    /// # Errors
    /// [`Error::Damaged`] if something that is needed is nowhere; [`Error::Storage`], [`Error::Interrupted`].
    pub fn make(
        repository: &Repository,
        state: &State,
        used: &Used,
        verified: &mut Verified,
        options: &Options,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let now = repository.services().clock.now();
        let mut plan = Self::default();
        plan.choose_copies(repository, state, used, verified, monitor)?;
        for (id, pack) in &state.packs {
            let is_needed = plan.needed_bytes.contains_key(id);
            plan.fates.insert(*id, fate(pack, is_needed, now, options));
        }
        plan.ask_leaving(repository, state, used, monitor)?;
        plan.choose_repacks(state, options);
        Ok(plan)
    }

    /// Whether the copy of a blob in `pack` is the one that stays.
    pub fn stays_in(&self, pack: Id, blob: &PackedBlob, used: &Used) -> bool {
        let stays = self.keepers.get(&(blob.kind, blob.id));
        used.contains(blob.kind, blob.id) && stays.is_none_or(|packs| packs.contains(&pack))
    }

    /// Of each blob that is needed, finds the pack in which it stays.
    fn choose_copies(
        &mut self,
        repository: &Repository,
        state: &State,
        used: &Used,
        verified: &mut Verified,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let mut found: HashSet<(BlobKind, Id)> = HashSet::with_capacity(used.len());
        let mut several: BTreeMap<(BlobKind, Id), Vec<Location>> = BTreeMap::new();
        let there = || state.packs.iter().filter(|(_, pack)| pack.is_there());
        for (_, pack) in there() {
            for blob in &pack.blobs {
                let key = (blob.kind, blob.id);
                if used.contains(blob.kind, blob.id) && !found.insert(key) {
                    several.entry(key).or_default();
                }
            }
        }
        if let Some((kind, id)) = used.iter().find(|key| !found.contains(key)) {
            return Err(Error::Damaged {
                object: format!("{kind} blob {}", id.short()),
                finding: "snapshots need it, and no pack that is there has it".to_owned(),
            });
        }
        drop(found);
        // Few have any; and to look for each in its pack would take the square of what a pack holds.
        let has_several = !several.is_empty();
        for (id, pack) in there().filter(|_| has_several) {
            for blob in &pack.blobs {
                if let Some(locations) = several.get_mut(&(blob.kind, blob.id)) {
                    locations.push(location(*id, blob));
                }
            }
        }
        let stays = keepers(repository, state, used, several, verified, monitor)?;
        (self.keepers, self.damaged) = stays;
        for (id, pack) in there() {
            let stays = pack
                .blobs
                .iter()
                .filter(|blob| self.stays_in(*id, blob, used));
            let bytes: u64 = stays.map(|blob| u64::from(blob.length)).sum();
            if bytes > 0 {
                self.needed_bytes.insert(*id, bytes);
            }
        }
        Ok(())
    }

    /// Asks packs that leave what they hold: an index may lie, and what only the header knows is needed as
    /// well.
    fn ask_leaving(
        &self,
        repository: &Repository,
        state: &State,
        used: &Used,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        // What is in no index is known by its header alone.
        let leaves = |id: &&Id| self.fates[*id] != Fate::Use && state.packs[*id].standing.is_some();
        let leaving: Vec<Id> = self.fates.keys().filter(leaves).copied().collect();
        parallel::for_each(&leaving, |id| {
            go_on(monitor)?;
            let pack = &state.packs[id];
            let Some(size) = pack.size else {
                return Ok(());
            };
            let blobs = match repository.read_pack_header(*id, size) {
                Ok((blobs, _)) => blobs,
                // One without a header holds what its index says.
                Err(Error::Damaged { .. }) => return Ok(()),
                Err(cause) => return Err(cause),
            };
            if pack.blobs == blobs {
                return Ok(());
            }
            let known: HashSet<&PackedBlob> = pack.blobs.iter().collect();
            let is_unknown =
                |blob: &PackedBlob| used.contains(blob.kind, blob.id) && !known.contains(blob);
            if blobs.iter().any(is_unknown) {
                return Err(Error::Damaged {
                    object: Object::Named(Class::Data, *id).to_string(),
                    finding: "its header and its index differ about what snapshots need".to_owned(),
                });
            }
            Ok(())
        })
    }

    /// Chooses packs to store anew: those with the largest unneeded part, until no more than allowed is
    /// left; those whose form other tools take amiss; and very many small ones.
    fn choose_repacks(&mut self, state: &State, options: &Options) {
        let stays = |id: &Id| self.fates.get(id) == Some(&Fate::Use);
        let packs = state
            .packs
            .iter()
            .filter(|(id, pack)| stays(id) && pack.is_there());
        let mut unused: Vec<(u64, u64, Id)> = Vec::new();
        let (mut small, mut needed) = ([Vec::new(), Vec::new()], 0);
        for (id, pack) in packs {
            let (stored, used) = (pack.stored_bytes(), self.needed_bytes[id]);
            needed += used;
            if stored > used {
                unused.push((stored - used, stored, *id));
            }
            let kinds: BTreeSet<BlobKind> = pack.blobs.iter().map(|blob| blob.kind).collect();
            let has_raw_tree = pack
                .blobs
                .iter()
                .any(|blob| blob.kind == BlobKind::Tree && blob.plain_length.is_none());
            if kinds.len() > 1 || has_raw_tree {
                self.repack.insert(*id);
            }
            let kind = usize::from(kinds.contains(&BlobKind::Tree));
            if stored < SMALL[kind] {
                small[kind].push(*id);
            }
        }
        // A part of the whole: the unneeded stay below it together with what is needed.
        let allowed = options.max_unused.bytes_of(needed);
        let mut left: u64 = unused.iter().map(|(bytes, ..)| bytes).sum();
        unused.sort_by(|(a, all_a, id_a), (b, all_b, id_b)| {
            let (a, b) = (
                u128::from(*a) * u128::from(*all_b),
                u128::from(*b) * u128::from(*all_a),
            );
            b.cmp(&a).then(id_a.cmp(id_b))
        });
        for (bytes, _, id) in unused {
            if left <= allowed {
                break;
            }
            self.repack.insert(id);
            left -= bytes;
        }
        for packs in small {
            if packs.len() >= MANY_SMALL && options.max_unused != MaxUnused::Unlimited {
                self.repack.extend(packs);
            }
        }
    }
}

fn fate(pack: &Pack, is_needed: bool, now: Timestamp, options: &Options) -> Fate {
    if is_needed {
        return Fate::Use;
    }
    if options.now || pack.size.is_none() {
        return Fate::Remove;
    }
    match pack.standing {
        Some(Standing::Marked(Some(since))) if now.duration_since(since) >= GRACE => Fate::Remove,
        // A mark of the future would never be ripe.
        Some(Standing::Marked(Some(since))) if since <= now => Fate::Mark(since),
        _ => Fate::Mark(now),
    }
}

const fn location(pack: Id, blob: &PackedBlob) -> Location {
    Location { pack, blob: *blob }
}

/// Of blobs with several copies, the packs in which they stay: the first that is whole, of the packs that
/// are needed most. If none is whole, all stay: what is wrong may be mended some day.
fn keepers(
    repository: &Repository,
    state: &State,
    used: &Used,
    several: BTreeMap<(BlobKind, Id), Vec<Location>>,
    verified: &mut Verified,
    monitor: &dyn Monitor,
) -> Result<(Keepers, BTreeSet<Id>)> {
    let mut ranks: HashMap<Id, (Option<Standing>, bool, u64)> = HashMap::new();
    for location in several.values().flatten() {
        ranks.entry(location.pack).or_insert_with(|| {
            let pack = &state.packs[&location.pack];
            let needed = pack
                .blobs
                .iter()
                .filter(|blob| used.contains(blob.kind, blob.id));
            let needed: u64 = needed.map(|blob| u64::from(blob.length)).sum();
            (pack.standing, needed == pack.stored_bytes(), needed)
        });
    }
    let several: Vec<((BlobKind, Id), Vec<Location>)> = several.into_iter().collect();
    // Once a pack has shown damage, others are preferred for all that it holds: so it can go.
    let mut broken = BTreeSet::new();
    loop {
        let (keepers, more) = look(repository, &several, &ranks, &broken, verified, monitor)?;
        if more.is_subset(&broken) {
            let without_a_whole_one = keepers.values().filter(|packs| packs.len() > 1);
            let damaged = without_a_whole_one.flatten().copied().collect();
            return Ok((keepers, damaged));
        }
        broken.extend(more);
    }
}

type Keepers = HashMap<(BlobKind, Id), Vec<Id>>;

/// Reads copies in the order of their packs' ranks until one is whole; returns also the packs in which one
/// was not.
fn look(
    repository: &Repository,
    several: &[((BlobKind, Id), Vec<Location>)],
    ranks: &HashMap<Id, (Option<Standing>, bool, u64)>,
    broken: &BTreeSet<Id>,
    verified: &mut Verified,
    monitor: &dyn Monitor,
) -> Result<(Keepers, BTreeSet<Id>)> {
    let found = Mutex::new((
        Keepers::with_capacity(several.len()),
        BTreeSet::new(),
        verified,
    ));
    parallel::for_each(several, |(key, locations)| {
        go_on(monitor)?;
        let mut locations = locations.clone();
        locations.sort_by_key(|Location { pack, .. }| {
            std::cmp::Reverse((!broken.contains(pack), ranks[pack], *pack))
        });
        let mut stays: Vec<Id> = locations.iter().map(|location| location.pack).collect();
        for location in &locations {
            let place = (location.pack, location.blob);
            let is_known = {
                let found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.2.contains(&place)
            };
            let is_whole = is_known || {
                let _held = repository.hold([&location.blob].into_iter());
                match repository.read_blob_at(location) {
                    Ok(_) => true,
                    Err(Error::Damaged { .. }) => false,
                    Err(cause) => return Err(cause),
                }
            };
            if is_whole {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.2.insert(place);
                stays = vec![location.pack];
                break;
            }
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.1.insert(location.pack);
        }
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        found.0.insert(*key, stays);
        Ok(())
    })?;
    let (keepers, more, _) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((keepers, more))
}
