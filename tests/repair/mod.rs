//! Repair: whatever is broken, what could be restored before can be restored after, and a check is clean.

mod crash;
mod matrix;
mod reach;
mod restic;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use tillsafe::backend::{Backend, Class, Object};
use tillsafe::error::Result;
use tillsafe::id::Id;
use tillsafe::monitor::Quiet;
use tillsafe::repository::Repository;
use tillsafe::repository::lock::Access;
use tillsafe::repository::pack::BlobKind;
use tillsafe::repository::repair::{
    IndexReport, PacksReport, SnapshotsReport, Which, repair_index, repair_packs, repair_snapshots,
};
use tillsafe::repository::tree::Content;

/// Whole files, by the first id of their snapshot and their path; with the hash of their bytes.
pub type Restorable = BTreeMap<(Id, PathBuf), Id>;

/// All that can be read whole.
pub fn restorable(repository: &Repository) -> Restorable {
    let quiet = Quiet::default();
    let index = repository.load_index(&quiet).unwrap();
    let mut found = Restorable::new();
    for snapshot in repository.snapshots(&quiet).unwrap().readable {
        let first = snapshot.file.original.unwrap_or(snapshot.id);
        let mut waiting = vec![(PathBuf::from("/"), snapshot.file.tree)];
        while let Some((folder, tree)) = waiting.pop() {
            for node in repository.read_tree(&index, tree).unwrap_or_default() {
                let path = folder.join(&node.entry.name);
                match node.content {
                    Content::Folder { tree } => waiting.push((path, tree)),
                    Content::File { blobs, size } => {
                        let read = |id| repository.read_blob(&index, BlobKind::Data, id);
                        let read: Result<Vec<_>> = blobs.into_iter().map(read).collect();
                        let Ok(bytes) = read.map(|read| read.concat()) else {
                            continue;
                        };
                        if bytes.len() as u64 == size {
                            let hash = Id::of(&bytes);
                            let known = found.insert((first, path), hash);
                            assert!(known.is_none_or(|known| known == hash));
                        }
                    }
                    Content::Nothing => {}
                }
            }
        }
    }
    found
}

/// Fails if anything of `before` is not in `after`.
pub fn assert_nothing_given_up(before: &Restorable, after: &Restorable, what: &str) {
    for (place, hash) in before {
        assert_eq!(after.get(place), Some(hash), "{what}: {place:?}");
    }
}

pub fn index(repository: &Repository, dry_run: bool) -> Result<IndexReport> {
    let quiet = Quiet::default();
    let lock = repository.lock(Access::Exclusive, &quiet)?;
    repair_index(repository, (!dry_run).then_some(&lock), false, &quiet)
}

pub fn packs(
    repository: &Repository,
    only: Option<&BTreeSet<Id>>,
    dry_run: bool,
) -> Result<PacksReport> {
    let quiet = Quiet::default();
    let lock = repository.lock(Access::Exclusive, &quiet)?;
    let which = only.map_or(Which::All, Which::Named);
    repair_packs(repository, (!dry_run).then_some(&lock), which, &quiet)
}

pub fn snapshots(repository: &Repository, forget: bool, dry_run: bool) -> Result<SnapshotsReport> {
    let quiet = Quiet::default();
    let lock = repository.lock(Access::Exclusive, &quiet)?;
    let lock = (!dry_run).then_some(&lock);
    repair_snapshots(repository, lock, None, forget, &quiet)
}

/// All three in their order; snapshots that lack something go if `forget`.
pub fn repair_all(repository: &Repository, forget: bool) -> Result<()> {
    index(repository, false)?;
    packs(repository, None, false)?;
    snapshots(repository, forget, false)?;
    Ok(())
}

/// All objects but the locks.
pub fn content(backend: &dyn Backend) -> BTreeMap<Object, Vec<u8>> {
    let classes = Class::ALL
        .into_iter()
        .filter(|class| *class != Class::Locks);
    let named = classes.flat_map(|class| {
        let listed = backend.list(class).unwrap().objects.into_iter();
        listed.map(move |(id, _)| Object::Named(class, id))
    });
    named
        .chain([Object::Config])
        .filter_map(|object| Some((object, backend.get(object, 1 << 24).ok()?)))
        .collect()
}
