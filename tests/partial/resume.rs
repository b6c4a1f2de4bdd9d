//! What an interrupted restore has done need not be done again, and is not trusted.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tillsafe::backend::{Backend, MemBackend};
use tillsafe::durable::faults::{Fault, FaultyDisk};
use tillsafe::durable::{Disk, OsDisk};
use tillsafe::error::{Error, Result};
use tillsafe::id::Id;
use tillsafe::monitor::{Monitor, Problem, Progress, Quiet, Step};
use tillsafe::repository::index::Index;
use tillsafe::repository::pack::BlobKind;
use tillsafe::repository::snapshot::Snapshot;
use tillsafe::repository::tree::Content;
use tillsafe::restore::{Plan, Restored, Selection, Target};

use super::{index_of, plan_of, quiet, recording, restored, verified};
use crate::common::Place;
use crate::common::compare::difference;
use crate::common::files::names_with;
use crate::common::library::{back_up, create, open, snapshots};
use crate::common::mount::SmallDisk;
use crate::common::recording::Recording;
use crate::common::shop::noise;
use crate::common::tools::skipped;

/// Films of several blobs each: none so small that it is read along with others.
struct Scene {
    place: Place,
    films: PathBuf,
    backend: Arc<dyn Backend>,
    snapshot: Snapshot,
}

impl Scene {
    fn new() -> Self {
        let place = Place::new();
        let films = place.join("films");
        fs::create_dir_all(films.join("old/er")).unwrap();
        for (seed, name) in (0..).zip(["a", "b", "old/c", "old/er/d"]) {
            fs::write(films.join(name), noise(seed, 2_500_000)).unwrap();
        }
        symlink("a", films.join("link")).unwrap();
        let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
        create(&backend);
        back_up(&backend, &films).unwrap();
        let snapshot = snapshots(&backend).remove(0);
        Self {
            place,
            films,
            backend,
            snapshot,
        }
    }

    fn all(&self) -> Selection {
        Selection::whole(&self.films)
    }

    /// A folder of its own for one target.
    fn around(&self, name: &str) -> PathBuf {
        let around = self.place.join(name);
        fs::create_dir(&around).unwrap();
        around
    }

    fn restore(&self, backend: &Arc<dyn Backend>, target: &Path) -> Result<Restored> {
        let (_, monitor) = quiet();
        restored(
            backend,
            &self.snapshot,
            self.all(),
            target,
            &OsDisk,
            &monitor,
        )
    }

    /// Restores until a signal comes at the first call for which `when` holds.
    fn stop(&self, target: Target, when: fn(&Stopper) -> bool) -> Vec<Problem> {
        let stopper = Arc::new(Stopper {
            when,
            ..Stopper::default()
        });
        let monitor: Arc<dyn Monitor> = Arc::clone(&stopper) as Arc<dyn Monitor>;
        let plan = plan_of(&self.backend, &self.snapshot, self.all(), &Quiet::default()).unwrap();
        let end = verified(&self.backend, plan, target, &OsDisk, &monitor).unwrap_err();
        assert!(matches!(end, Error::Interrupted { .. }), "{end}");
        stopper.told.problems()
    }

    /// The same, to a new target, when all is staged: leaves its stage folder.
    fn staged(&self, target: &Path) -> PathBuf {
        let at = Target::look_at(target, &OsDisk).unwrap();
        self.stop(at, |seen| seen.verifies.load(Ordering::SeqCst));
        stage_in(target.parent().unwrap()).unwrap()
    }
}

/// Asks a restore to stop.
#[derive(Debug)]
struct Stopper {
    when: fn(&Self) -> bool,
    bytes: AtomicU64,
    verifies: AtomicBool,
    told: Quiet,
}

impl Default for Stopper {
    fn default() -> Self {
        Self {
            when: |_| false,
            bytes: AtomicU64::new(0),
            verifies: AtomicBool::new(false),
            told: Quiet::default(),
        }
    }
}

impl Monitor for Stopper {
    fn step(&self, step: Step, _bytes: Option<u64>) {
        self.verifies
            .store(step == Step::Verifying, Ordering::SeqCst);
    }

    fn progress(&self, progress: Progress) {
        self.bytes.fetch_add(progress.bytes, Ordering::SeqCst);
    }

    fn problem(&self, problem: Problem) {
        self.told.problem(problem);
    }

    fn signal(&self) -> Option<i32> {
        (self.when)(self).then_some(15)
    }
}

/// The one stage folder there.
fn stage_in(folder: &Path) -> Option<PathBuf> {
    let mut names = names_with(folder, ".tillsafe-stage-");
    let name = names.pop()?;
    assert!(names.is_empty(), "{names:?}");
    Some(folder.join(name))
}

/// The blobs of a plan, each with whether all its ranges are right in a stage folder.
fn what_is_there(plan: &Plan, index: &Index, stage: Option<&Path>) -> Vec<(Id, bool)> {
    let is_adoptable =
        |stage: &&Path| fs::metadata(stage).is_ok_and(|metadata| metadata.mode() & 0o777 == 0o700);
    let stage = stage.filter(is_adoptable);
    let mut found = Vec::new();
    for item in &plan.items {
        let Content::File { blobs, .. } = &item.content else {
            continue;
        };
        let bytes = stage.and_then(|stage| fs::read(stage.join(&item.path)).ok());
        let mut offset = 0;
        for id in blobs {
            let length = index.find(BlobKind::Data, *id).unwrap().plain_length();
            let length = usize::try_from(length).unwrap();
            let range = bytes
                .as_ref()
                .and_then(|bytes| bytes.get(offset..offset + length));
            found.push((*id, range.is_some_and(|range| Id::of(range) == *id)));
            offset += length;
        }
    }
    found
}

fn assert_only_the_rest_is_fetched(
    recorded: &Recording,
    index: &Index,
    there: &[(Id, bool)],
    what: &str,
) {
    /// What lies between two blobs is read with them, if it is not longer.
    const GAP: u32 = 256 * 1024;
    for (id, is_there) in there {
        let location = index.find(BlobKind::Data, *id).unwrap();
        if !is_there || location.blob.length > GAP {
            let id = id.short();
            assert_eq!(recorded.has_read(&location), !is_there, "{what}: blob {id}");
        }
    }
}

#[test]
fn wherever_it_fails_the_next_run_fetches_only_what_is_not_there() {
    let scene = Scene::new();
    let (recorded, backend) = recording(&scene.backend);
    let index = index_of(&backend);
    let (mut partly, mut wholly) = (0, 0);
    for number in 1.. {
        let around = scene.around(&format!("around-{number}"));
        let target = around.join("target");
        let fault = Fault::from_there_on(number);
        let disk = FaultyDisk::new(OsDisk, Arc::clone(&fault));
        let (_, monitor) = quiet();
        let first = restored(
            &backend,
            &scene.snapshot,
            scene.all(),
            &target,
            &disk,
            &monitor,
        );
        if !fault.fired() {
            first.unwrap();
            break;
        }
        let what = format!("operation {number}");
        let plan = plan_of(&backend, &scene.snapshot, scene.all(), &Quiet::default()).unwrap();
        let there = what_is_there(&plan, &index, stage_in(&around).as_deref());
        if target.exists() {
            continue;
        }
        recorded.forget();
        let at = Target::look_at(&target, &OsDisk).unwrap();
        let repository = open(&backend).unwrap();
        let staged = plan
            .fetch(&repository, &index, at, &OsDisk, monitor.as_ref())
            .unwrap();
        assert_only_the_rest_is_fetched(&recorded, &index, &there, &what);
        let count = there.iter().filter(|(_, is_there)| *is_there).count();
        partly += usize::from(count > 0 && count < there.len());
        wholly += usize::from(count == there.len());
        staged
            .verify(&index, &monitor)
            .unwrap()
            .swap_in(&monitor)
            .unwrap();
        assert_eq!(
            difference(&scene.films, &target, &|_| false),
            None,
            "{what}"
        );
        assert_eq!(names_with(&around, ""), ["target"], "{what}");
        fs::remove_dir_all(&around).unwrap();
    }
    assert!(
        partly >= 5 && wholly >= 5,
        "the sweep saw too little: {partly}, {wholly}"
    );
}

#[test]
fn a_signal_leaves_what_is_done_for_the_same_restore_and_says_where() {
    let scene = Scene::new();
    for (name, when) in [
        (
            "staging",
            (|seen| seen.bytes.load(Ordering::SeqCst) > 0) as fn(&Stopper) -> bool,
        ),
        ("verifying", |seen| seen.verifies.load(Ordering::SeqCst)),
    ] {
        let around = scene.around(name);
        let target = around.join("target");
        let told = scene.stop(Target::look_at(&target, &OsDisk).unwrap(), when);
        let stage = stage_in(&around).unwrap();
        let note = told
            .iter()
            .find(|told| told.item == stage.to_str().unwrap());
        let note = note.unwrap_or_else(|| panic!("{name}: {told:?}"));
        assert!(
            note.finding
                .contains("iB that are restored already stay here"),
            "{note:?}"
        );
        let (recorded, backend) = recording(&scene.backend);
        let index = index_of(&backend);
        let plan = plan_of(&backend, &scene.snapshot, scene.all(), &Quiet::default()).unwrap();
        let there = what_is_there(&plan, &index, Some(&stage));
        assert!(there.iter().any(|(_, is_there)| *is_there), "{name}");
        scene.restore(&backend, &target).unwrap();
        assert_only_the_rest_is_fetched(&recorded, &index, &there, name);
        assert_eq!(
            difference(&scene.films, &target, &|_| false),
            None,
            "{name}"
        );
        assert_eq!(names_with(&around, ""), ["target"], "{name}");
        // A copy that is only for verifying is never left.
        let scratch = scene.around(&format!("{name}-scratch"));
        let told = scene.stop(Target::scratch(&scratch), when);
        assert_eq!(told, [], "{name}");
        assert_eq!(names_with(&scratch, ""), [""; 0], "{name}");
    }
}

#[test]
fn a_storage_that_goes_away_leaves_what_is_done() {
    let scene = Scene::new();
    let (recorded, backend) = recording(&scene.backend);
    let index = index_of(&backend);
    let plan = plan_of(&backend, &scene.snapshot, scene.all(), &Quiet::default()).unwrap();
    let blobs = what_is_there(&plan, &index, None);
    let last = blobs
        .iter()
        .map(|(id, _)| index.find(BlobKind::Data, *id).unwrap());
    recorded.take_away(
        &last
            .max_by_key(|location| (location.pack, location.blob.offset))
            .unwrap(),
    );
    let around = scene.around("around");
    let target = around.join("target");
    let stopped = scene.restore(&backend, &target).unwrap_err();
    assert!(matches!(stopped, Error::Storage { .. }), "{stopped}");
    assert!(stage_in(&around).is_some() && !target.exists());
    let (recorded, backend) = recording(&scene.backend);
    let there = what_is_there(&plan, &index, stage_in(&around).as_deref());
    assert!(there.iter().any(|(_, is_there)| *is_there));
    scene.restore(&backend, &target).unwrap();
    assert_only_the_rest_is_fetched(&recorded, &index, &there, "the rest");
}

#[test]
fn what_was_tampered_with_is_mended() {
    let scene = Scene::new();
    let around = scene.around("around");
    let target = around.join("target");
    let stage = scene.staged(&target);
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let mut bytes = fs::read(stage.join("a")).unwrap();
    bytes[1_000_000] ^= 1;
    fs::write(stage.join("a"), &bytes).unwrap();
    let longer = fs::File::options()
        .append(true)
        .open(stage.join("b"))
        .unwrap();
    longer.set_len(2_500_001).unwrap();
    fs::rename(stage.join("old/c"), around.join("mine")).unwrap();
    fs::hard_link(around.join("mine"), stage.join("old/c")).unwrap();
    fs::remove_file(stage.join("old/er/d")).unwrap();
    symlink(around.join("mine"), stage.join("old/er/d")).unwrap();
    fs::create_dir(stage.join("link")).unwrap();
    fs::write(stage.join("link/alien"), "x").unwrap();
    fs::write(stage.join("alien"), "x").unwrap();
    mode(&stage.join("alien"), 0o4755);
    mode(&stage.join("old/er"), 0o000);
    let (recorded, backend) = recording(&scene.backend);
    let index = index_of(&backend);
    let plan = plan_of(&backend, &scene.snapshot, scene.all(), &Quiet::default()).unwrap();
    let of = |name: &str| {
        let mut items = plan.items.iter();
        let item = items.find(|item| item.path == Path::new(name)).unwrap();
        match &item.content {
            Content::File { blobs, .. } => blobs.clone(),
            _ => panic!("{name} is a file"),
        }
    };
    scene.restore(&backend, &target).unwrap();
    let read = |id: &Id| recorded.has_read(&index.find(BlobKind::Data, *id).unwrap());
    assert_eq!(
        of("a").iter().filter(|id| read(id)).count(),
        1,
        "one blob of it was wrong"
    );
    for name in ["b", "old/c", "old/er/d"] {
        assert!(of(name).iter().all(read), "{name}");
    }
    assert_eq!(difference(&scene.films, &target, &|_| false), None);
    assert_eq!(fs::read(around.join("mine")).unwrap(), noise(2, 2_500_000));
}

#[test]
fn a_file_system_without_modes_keeps_what_is_there_too() {
    let scene = Scene::new();
    let around = scene.around("around");
    let target = around.join("target");
    let stage = scene.staged(&target);
    let (recorded, backend) = recording(&scene.backend);
    let index = index_of(&backend);
    let plan = plan_of(&backend, &scene.snapshot, scene.all(), &Quiet::default()).unwrap();
    let there = what_is_there(&plan, &index, Some(&stage));
    let fault = Fault::refusing_metadata(std::io::ErrorKind::Unsupported);
    let disk = FaultyDisk::new(OsDisk, fault);
    let (_, monitor) = quiet();
    restored(
        &backend,
        &scene.snapshot,
        scene.all(),
        &target,
        &disk,
        &monitor,
    )
    .unwrap();
    assert_only_the_rest_is_fetched(&recorded, &index, &there, "nothing");
    assert_eq!(fs::read(target.join("a")).unwrap(), noise(0, 2_500_000));
}

#[test]
fn only_what_nobody_else_can_have_touched_is_adopted() {
    let scene = Scene::new();
    let (recorded, backend) = recording(&scene.backend);
    let index = index_of(&backend);
    let plan = plan_of(&backend, &scene.snapshot, scene.all(), &Quiet::default()).unwrap();
    let nothing = what_is_there(&plan, &index, None);

    let around = scene.around("open");
    let stage = scene.staged(&around.join("target"));
    fs::set_permissions(&stage, fs::Permissions::from_mode(0o755)).unwrap();
    recorded.forget();
    scene.restore(&backend, &around.join("target")).unwrap();
    assert_only_the_rest_is_fetched(&recorded, &index, &nothing, "open to others");
    assert_eq!(names_with(&around, ""), ["target"]);

    let around = scene.around("in-use");
    let stage = scene.staged(&around.join("target"));
    let held = OsDisk.open(&stage).unwrap();
    assert!(held.try_lock().unwrap());
    recorded.forget();
    scene.restore(&backend, &around.join("target")).unwrap();
    assert_only_the_rest_is_fetched(&recorded, &index, &nothing, "in use");
    assert_eq!(stage_in(&around), Some(stage.clone()));
    assert_eq!(fs::read(stage.join("a")).unwrap(), noise(0, 2_500_000));

    for (number, in_the_way) in (0..).zip([
        (|path| fs::write(path, "mine").unwrap()) as fn(&Path),
        |path| symlink("/", path).unwrap(),
    ]) {
        let around = scene.around(&format!("in-the-way-{number}"));
        let stage = scene.staged(&around.join("target"));
        fs::remove_dir_all(&stage).unwrap();
        in_the_way(&stage);
        scene.restore(&backend, &around.join("target")).unwrap();
        assert!(fs::symlink_metadata(&stage).is_ok(), "it is somebody's");
    }
}

#[test]
fn what_another_restore_left_is_removed_and_not_used() {
    let scene = Scene::new();
    let part = || Selection::whole(&scene.films.join("old"));
    let only = || Selection {
        filter: tillsafe::restore::Filter::new(&["a".to_owned()], &[]).unwrap(),
        ..scene.all()
    };
    for (name, selection, target) in [
        ("another-path", part(), "target"),
        ("another-selection", only(), "target"),
        ("another-target", scene.all(), "target-2"),
    ] {
        let around = scene.around(name);
        let stage = scene.staged(&around.join("target"));
        let (recorded, backend) = recording(&scene.backend);
        let index = index_of(&backend);
        let plan = plan_of(
            &backend,
            &scene.snapshot,
            selection.clone(),
            &Quiet::default(),
        )
        .unwrap();
        let nothing = what_is_there(&plan, &index, None);
        let (_, monitor) = quiet();
        let target = around.join(target);
        restored(
            &backend,
            &scene.snapshot,
            selection,
            &target,
            &OsDisk,
            &monitor,
        )
        .unwrap();
        assert_only_the_rest_is_fetched(&recorded, &index, &nothing, name);
        assert!(!stage.exists() && stage_in(&around).is_none(), "{name}");
    }
}

#[test]
fn room_is_needed_only_for_what_is_not_there_yet() {
    let scene = Scene::new();
    let Some(disk) = SmallDisk::mount(&scene.place.join("disk"), "size=14m") else {
        return skipped("room for the rest", "mounting a small disk needs root");
    };
    let target = disk.path().join("target");
    scene.staged(&target);
    // Ten of the fourteen megabytes are there, and ten more would not fit.
    scene.restore(&scene.backend, &target).unwrap();
    assert_eq!(difference(&scene.films, &target, &|_| false), None);
}
