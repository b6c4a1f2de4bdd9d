//! Restores of a part: what a selection takes, what damage leaves, what an interrupted run has done.

mod lost;
mod resume;
mod selection;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tillsafe::backend::Backend;
use tillsafe::durable::Disk;
use tillsafe::error::Result;
use tillsafe::id::Id;
use tillsafe::monitor::{Monitor, Quiet};
use tillsafe::repository::index::{Index, Location};
use tillsafe::repository::pack::BlobKind;
use tillsafe::repository::snapshot::Snapshot;
use tillsafe::repository::tree::Content;
use tillsafe::restore::{Item, Plan, Restored, Selection, Target, Verified};

use crate::common::library::open;
use crate::common::recording::Recording;

fn index_of(backend: &Arc<dyn Backend>) -> Index {
    let repository = open(backend).unwrap();
    repository.load_index(&Quiet::default()).unwrap()
}

fn plan_of(
    backend: &Arc<dyn Backend>,
    snapshot: &Snapshot,
    selection: Selection,
    monitor: &dyn Monitor,
) -> Result<Plan> {
    let repository = open(backend)?;
    let index = repository.load_index(monitor)?;
    Plan::make(&repository, &index, snapshot.clone(), selection, monitor)
}

/// Stages and proves a plan.
fn verified(
    backend: &Arc<dyn Backend>,
    plan: Plan,
    target: Target,
    disk: &dyn Disk,
    monitor: &Arc<dyn Monitor>,
) -> Result<Verified> {
    let repository = open(backend)?;
    let index = repository.load_index(monitor.as_ref())?;
    let staged = plan.fetch(&repository, &index, target, disk, monitor.as_ref())?;
    staged.verify(&index, monitor)
}

fn restored(
    backend: &Arc<dyn Backend>,
    snapshot: &Snapshot,
    selection: Selection,
    target: &Path,
    disk: &dyn Disk,
    monitor: &Arc<dyn Monitor>,
) -> Result<Restored> {
    let plan = plan_of(backend, snapshot, selection, monitor.as_ref())?;
    let target = Target::look_at(target, disk)?;
    verified(backend, plan, target, disk, monitor)?.swap_in(monitor)
}

fn quiet() -> (Arc<Quiet>, Arc<dyn Monitor>) {
    let quiet = Arc::new(Quiet::default());
    let monitor: Arc<dyn Monitor> = Arc::clone(&quiet) as Arc<dyn Monitor>;
    (quiet, monitor)
}

/// A recording, and the same as a backend.
fn recording(backend: &Arc<dyn Backend>) -> (Arc<Recording>, Arc<dyn Backend>) {
    let recording = Recording::of(backend);
    let as_backend: Arc<dyn Backend> = Arc::clone(&recording) as Arc<dyn Backend>;
    (recording, as_backend)
}

fn item_at(backend: &Arc<dyn Backend>, snapshot: &Snapshot, path: &Path) -> Item {
    let all = Selection::whole(Path::new("/"));
    let plan = plan_of(backend, snapshot, all, &Quiet::default()).unwrap();
    let mut items = plan.items.iter();
    let found = items.find(|item| plan.path_in_snapshot(item) == path);
    found
        .unwrap_or_else(|| panic!("no {}", path.display()))
        .clone()
}

/// The blobs of a file, or the tree of a folder.
fn blobs_at(backend: &Arc<dyn Backend>, snapshot: &Snapshot, path: &Path) -> (BlobKind, Vec<Id>) {
    match item_at(backend, snapshot, path).content {
        Content::File { blobs, .. } => (BlobKind::Data, blobs),
        Content::Folder { tree } => (BlobKind::Tree, vec![tree]),
        Content::Nothing => panic!("{} holds nothing", path.display()),
    }
}

/// Where each of them lies, every copy.
fn locations_at(
    backend: &Arc<dyn Backend>,
    snapshot: &Snapshot,
    path: &Path,
) -> Vec<Vec<Location>> {
    let index = index_of(backend);
    let (kind, blobs) = blobs_at(backend, snapshot, path);
    let locations = blobs.into_iter().map(|id| index.locations(kind, id));
    locations.collect()
}

/// Everything below a folder, relative to it, sorted.
fn names_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(inner) = waiting.pop() {
        for item in std::fs::read_dir(folder.join(&inner)).unwrap() {
            let item = item.unwrap();
            let path = inner.join(item.file_name());
            found.push(path.to_str().unwrap().to_owned());
            if item.file_type().unwrap().is_dir() {
                waiting.push(path);
            }
        }
    }
    found.sort();
    found
}
