//! `forget` with each of its operations failing in turn, and killed before each. What is to stay stays
//! and restores, and the same command again does the rest.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{collections::BTreeSet, fs};

use jiff::{SignedDuration, Timestamp};
use tillsafe::backend::{Backend, LocalBackend};
use tillsafe::durable::faults::{Fault, FaultyDisk};
use tillsafe::durable::{Disk, OsDisk};
use tillsafe::error::Result;
use tillsafe::forget::{Circumstances, Plan};
use tillsafe::id::Id;
use tillsafe::monitor::Quiet;
use tillsafe::repository::lock::Access;
use tillsafe::retention::{HistoryFile, Moment};
use tillsafe::rng::SystemRng;

use super::keep_last;
use crate::common::child::{Ended, run_child};
use crate::common::files::{copy_folder, names_with};
use crate::common::library::{assert_every_snapshot_restores, back_up, create, open, snapshots};
use crate::common::shop::Shop;

/// What a child process is to do, and where: see [`child`].
const FAULT: &str = "TILLSAFE_TEST_FAULT";
const AT: &str = "TILLSAFE_TEST_AT";
const FOLDER: &str = "TILLSAFE_TEST_FOLDER";
const KEEP: &str = "TILLSAFE_TEST_KEEP";
const WELL: &str = "all is well";
const FIRED: &str = "the fault has happened";

/// A repository in memory with seven snapshots of a shop, of which two are to stay.
struct Scene {
    folder: tempfile::TempDir,
    shop: Shop,
    stay: BTreeSet<Id>,
}

struct Outcome {
    fired: bool,
    well: bool,
    text: String,
}

impl Scene {
    /// `has_run` if an earlier run has seen the snapshots.
    fn new(has_run: bool) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        let shop = Shop::open(&folder.path().join("shop"), 20, "delete");
        let mut scene = Self {
            folder,
            shop,
            stay: BTreeSet::new(),
        };
        let backend = scene.backend();
        create(&backend);
        let first = back_up(&backend, &scene.shop.folder).unwrap().snapshot;
        let repository = open(&backend).unwrap();
        for day in 1..=6 {
            let mut file = first.file.clone();
            file.time = first.file.time - SignedDuration::from_hours(24 * day);
            repository.save_snapshot(file).unwrap();
        }
        if has_run {
            assert!(scene.forget("none", 1, 100).well);
        }
        for name in ["repository", "state"] {
            let from = scene.folder.path().join(name);
            if from.exists() {
                copy_folder(&from, &scene.folder.path().join(format!("template-{name}")));
            }
        }
        assert!(scene.forget("none", 1, 2).well);
        scene.stay = scene.there();
        assert_eq!(scene.stay.len(), 2);
        scene
    }

    fn backend(&self) -> Arc<dyn Backend> {
        backend(self.folder.path(), Arc::new(OsDisk))
    }

    fn reset(&self) {
        for name in ["repository", "state"] {
            let to = self.folder.path().join(name);
            let _ = fs::remove_dir_all(&to);
            let from = self.folder.path().join(format!("template-{name}"));
            if from.exists() {
                copy_folder(&from, &to);
            }
        }
    }

    fn there(&self) -> BTreeSet<Id> {
        snapshots(&self.backend())
            .iter()
            .map(|one| one.id)
            .collect()
    }

    /// Forgets in a process of its own: a lock that is left is then one of the dead.
    fn forget(&self, fault: &str, at: u64, keep: u32) -> Outcome {
        let Ended { killed, text } = run_child(
            "retention::crash::child",
            &[
                (FAULT, fault.as_ref()),
                (AT, at.to_string().as_ref()),
                (KEEP, keep.to_string().as_ref()),
                (FOLDER, self.folder.path().as_os_str()),
            ],
        );
        Outcome {
            fired: killed || text.contains(FIRED),
            well: text.contains(WELL),
            text,
        }
    }
}

fn backend(folder: &Path, disk: Arc<dyn Disk>) -> Arc<dyn Backend> {
    Arc::new(LocalBackend::new(
        folder.join("repository"),
        disk,
        Arc::new(SystemRng),
    ))
}

fn forget(folder: &Path, disk: &Arc<dyn Disk>, keep: u32) -> Result<()> {
    let quiet = Quiet::default();
    let repository = open(&backend(folder, Arc::clone(disk)))?;
    let file = HistoryFile::new(&folder.join("state"), &repository.config()?.id);
    let lock = repository.lock(Access::Exclusive, &quiet)?;
    let snapshots = repository.snapshots(&quiet)?;
    let selected = snapshots.readable.iter().map(|one| one.id).collect();
    let plan = Plan::by_policy(
        &keep_last(keep),
        &selected,
        Circumstances {
            snapshots: &snapshots,
            hollow: &BTreeSet::new(),
            proven: &BTreeSet::new(),
            history: file.read(disk.as_ref())?.history(),
            moment: Moment {
                now: Timestamp::now(),
                trust_history: false,
            },
        },
    );
    plan.execute(
        &repository,
        &lock,
        &file,
        disk.as_ref(),
        &quiet,
        &mut |_| {},
    )
}

/// Not a test of its own: the process that the others run and kill.
#[test]
fn child() {
    let (Some(folder), Ok(keep)) = (std::env::var_os(FOLDER), std::env::var(KEEP)) else {
        return;
    };
    let at = std::env::var(AT).unwrap().parse().unwrap();
    let fault = match std::env::var(FAULT).unwrap().as_str() {
        "kill" => Fault::killing(at),
        "once" => Fault::once(at),
        "from there on" => Fault::from_there_on(at),
        _ => Fault::once(u64::MAX),
    };
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new(OsDisk, Arc::clone(&fault)));
    let result = forget(&PathBuf::from(folder), &disk, keep.parse().unwrap());
    if fault.fired() {
        println!("{FIRED}");
    }
    match result {
        Ok(()) => println!("{WELL}"),
        Err(cause) => println!("{cause:?}"),
    }
}

#[test]
fn whatever_stops_it_what_is_to_stay_stays_and_the_same_command_goes_on() {
    for has_run in [false, true] {
        let scene = Scene::new(has_run);
        for how in ["kill", "once", "from there on"] {
            let (mut operations, mut half_done) = (0, 0);
            for at in 1.. {
                scene.reset();
                let ended = scene.forget(how, at, 2);
                let there = scene.there();
                let what = format!("{how}, operation {at}, {there:?}: {}", ended.text);
                assert!(scene.stay.is_subset(&there), "{what}");
                assert!(
                    !ended.well || there == scene.stay,
                    "exit 0 means done: {what}"
                );
                if !ended.fired {
                    assert!(ended.well, "{what}");
                    operations = at - 1;
                    break;
                }
                half_done += u64::from(there != scene.stay && there.len() < 7);
                let again = scene.forget("none", 1, 2);
                assert!(again.well, "{what}, then {}", again.text);
                assert_eq!(scene.there(), scene.stay, "{what}");
                let mut locks = names_with(&scene.folder.path().join("repository/locks"), "");
                locks.retain(|name| !name.contains("-tmp-"));
                assert_eq!(locks, [""; 0], "{what}");
                if at % 8 == 0 {
                    let (backend, shop) = (scene.backend(), &scene.shop.folder);
                    assert_every_snapshot_restores(&backend, shop, scene.folder.path());
                }
            }
            println!("forget, {how}: {operations} operations; {half_done} left half done");
            assert!(
                operations >= 20 && half_done >= 3,
                "{operations}, {half_done}"
            );
        }
    }
}
