//! A restore in place and its rollback, killed before each of their mutating operations, and with each
//! of them failing in turn. Afterwards the old state is complete, or the new one, or the named command
//! makes it so; and what stands under the final names is never a mix that looks whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use tillsafe::backend::{Backend, LocalBackend};
use tillsafe::durable::faults::{Fault, FaultyDisk};
use tillsafe::durable::{Disk, OsDisk};
use tillsafe::error::Result;
use tillsafe::monitor::Quiet;
use tillsafe::repository::snapshot::Snapshot;
use tillsafe::restore::in_place::{Kept, Registry};
use tillsafe::rng::SystemRng;

use crate::common::child::{Ended, run_child};
use crate::common::compare::describe;
use crate::common::files::{copy_folder, names_with};
use crate::common::library::{back_up_all, create, restore_in_place, snapshots};
use crate::common::shop::Shop;

/// What a child process is to do, and where: see [`child`].
const VERB: &str = "TILLSAFE_TEST_VERB";
const FAULT: &str = "TILLSAFE_TEST_FAULT";
const AT: &str = "TILLSAFE_TEST_AT";
const FOLDER: &str = "TILLSAFE_TEST_FOLDER";
/// What a child says that did all it was to do, and of one whose fault has happened.
const WELL: &str = "all is well";
const FIRED: &str = "the fault has happened";
const NOTHING: &str = "nothing to do";

/// How a child ended.
#[derive(Debug)]
struct Outcome {
    fired: bool,
    well: bool,
    nothing: bool,
    text: String,
}

type State = BTreeMap<PathBuf, String>;

/// What is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One folder: exchanged at one instant.
    Folder,
    /// A folder, and a database with its log elsewhere: name by name.
    FolderAndDatabase,
}

/// A folder in memory, where syncing costs nothing, with a repository, the shop as it is, and a
/// template of it.
struct Scene {
    folder: tempfile::TempDir,
    kind: Kind,
    /// What stands there before the restore, and after it.
    old: State,
    new: State,
}

impl Scene {
    fn new(kind: Kind) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        let mut scene = Self {
            folder,
            kind,
            old: State::new(),
            new: State::new(),
        };
        let shop = Shop::open(&scene.live().join("srv/shop"), 20, "delete");
        let mut paths = vec![shop.folder.clone()];
        if kind == Kind::FolderAndDatabase {
            let till = Shop::open(&scene.live().join("var/till"), 7, "wal");
            paths.push(till.database.clone());
            scene.back_up(&paths);
            till.sell(3);
            leave_a_log(&till);
        } else {
            scene.back_up(&paths);
        }
        shop.sell(5);
        fs::write(shop.folder.join("new.txt"), "since the backup").unwrap();
        fs::remove_file(shop.folder.join("pictures/old/cup.jpg")).unwrap();
        copy_folder(&scene.live(), &scene.folder.path().join("template"));
        scene.reset();
        scene.old = scene.state();
        scene.do_well("restore", "at first");
        scene.new = scene.state();
        assert_ne!(scene.old, scene.new);
        scene.reset();
        scene
    }

    fn back_up(&self, paths: &[PathBuf]) {
        create(&self.backend());
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        back_up_all(&self.backend(), &paths, self.folder.path()).unwrap();
    }

    fn live(&self) -> PathBuf {
        self.folder.path().join("live")
    }

    fn backend(&self) -> Arc<dyn Backend> {
        backend(self.folder.path())
    }

    /// Puts back what stood there before, and nothing else.
    fn reset(&self) {
        fs::remove_dir_all(self.live()).unwrap();
        let _ = fs::remove_dir_all(self.folder.path().join("state"));
        copy_folder(&self.folder.path().join("template"), &self.live());
    }

    /// Everything under final names; times differ from copy to copy, and are not looked at.
    fn state(&self) -> State {
        let ours = |path: &Path| path.to_string_lossy().contains(".tillsafe-");
        let described = describe(&self.live(), &ours).into_iter();
        described
            .map(|(path, text)| {
                let words: Vec<&str> = text.split(' ').collect();
                (path, format!("{} {} {}", words[0], words[1], words[3]))
            })
            .collect()
    }

    /// Neither a mix that looks whole, nor anything that is nowhere.
    fn assert_no_mix(&self, what: &str) -> &'static str {
        let state = self.state();
        if state == self.old {
            return "old";
        }
        if state == self.new {
            return "new";
        }
        assert_eq!(self.kind, Kind::FolderAndDatabase, "{what}: {state:#?}");
        let there = |name: &str| self.live().join(name).exists();
        assert!(
            !there("srv/shop") || !there("var/till/shop.db"),
            "{what}: a mix that looks whole: {state:#?}"
        );
        "missing"
    }

    fn assert_is(&self, state: &State, what: &str) {
        assert_eq!(self.state(), *state, "{what}");
    }

    /// Whether a folder of ours of this kind is left.
    fn left(&self, prefix: &str) -> usize {
        let places = ["srv", "var/till", "srv/shop"];
        let names = places.map(|place| names_with(&self.live().join(place), prefix).len());
        names.iter().sum()
    }

    /// Runs a verb in a process of its own, with a fault at its `at`-th operation. All that takes locks
    /// runs so: a test beside us that starts a program holds ours for a moment as well.
    fn run(&self, verb: &str, fault: &str, at: u64) -> Outcome {
        let Ended { killed, text } = run_child(
            "in_place::crash::child",
            &[
                (VERB, verb.as_ref()),
                (FAULT, fault.as_ref()),
                (AT, at.to_string().as_ref()),
                (FOLDER, self.folder.path().as_os_str()),
            ],
        );
        Outcome {
            fired: killed || text.contains(FIRED),
            well: text.contains(WELL),
            nothing: text.contains(NOTHING),
            text,
        }
    }

    /// Runs a verb, which must do all.
    fn do_well(&self, verb: &str, what: &str) {
        let ended = self.run(verb, "none", 1);
        assert!(ended.well, "{what}, then {verb}: {}", ended.text);
    }

    /// Undoes the restore, if it has begun.
    fn undo(&self, state: &str, what: &str) {
        let ended = self.run("rollback", "none", 1);
        // A copy that was live for a moment was taken back already, and is kept.
        let done = state == "old" && ended.text.contains("AlreadyRolledBack");
        assert!(ended.well || done, "{what}, then rollback: {}", ended.text);
        assert!(
            !ended.nothing || state == "old",
            "{what}: nothing to undo in {state}"
        );
        self.assert_is(&self.old, what);
    }
}

fn backend(folder: &Path) -> Arc<dyn Backend> {
    Arc::new(LocalBackend::new(
        folder.join("repository"),
        Arc::new(OsDisk),
        Arc::new(SystemRng),
    ))
}

fn registry(folder: &Path) -> Registry {
    Registry::new(folder.join("state"))
}

fn snapshot(folder: &Path) -> Snapshot {
    snapshots(&backend(folder)).remove(0)
}

fn restore(folder: &Path, disk: &dyn Disk) -> Result<()> {
    let (backend, snapshot) = (backend(folder), snapshot(folder));
    restore_in_place(&backend, &snapshot, Path::new("/"), &registry(folder), disk).map(drop)
}

/// What `rollback` does; whether there was anything to do.
fn roll_back(folder: &Path, disk: &dyn Disk) -> Result<bool> {
    let by_registry = Kept::find(None, Some(&registry(folder)), disk).pop();
    let shop = folder.join("live/srv/shop");
    let kept = by_registry.or_else(|| Kept::find(Some(&shop), None, disk).pop());
    match kept {
        None => Ok(false),
        Some(kept) => kept?
            .roll_back(Some(&registry(folder)), disk, &Quiet::default())
            .map(|_| true),
    }
}

fn discard(folder: &Path, disk: &dyn Disk) -> Result<()> {
    let registry = registry(folder);
    for kept in Kept::find(None, Some(&registry), disk) {
        kept?.discard(Some(&registry), disk)?;
    }
    Ok(())
}

/// Leaves a write-ahead log with orders in it beside the database, as a crash of the application does.
fn leave_a_log(till: &Shop) {
    let connection = Connection::open(&till.database).unwrap();
    connection
        .execute_batch("PRAGMA wal_autocheckpoint = 0; UPDATE orders SET item = item || '!'")
        .unwrap();
    let aside = till.folder.with_extension("aside");
    copy_folder(&till.folder, &aside);
    drop(connection);
    fs::remove_dir_all(&till.folder).unwrap();
    fs::rename(aside, &till.folder).unwrap();
    assert!(till.folder.join("shop.db-wal").metadata().unwrap().len() > 0);
}

/// Not a test of its own: the process that the others run and kill.
#[test]
fn child() {
    let Ok(verb) = std::env::var(VERB) else {
        return;
    };
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let at = std::env::var(AT).unwrap().parse().unwrap();
    let fault = match std::env::var(FAULT).unwrap().as_str() {
        "kill" => Fault::killing(at),
        "once" => Fault::once(at),
        "from there on" => Fault::from_there_on(at),
        _ => Fault::once(u64::MAX),
    };
    let disk = FaultyDisk::new(OsDisk, Arc::clone(&fault));
    let result = match verb.as_str() {
        "restore" => restore(&folder, &disk),
        "rollback" => roll_back(&folder, &disk).map(|undone| {
            if !undone {
                println!("{NOTHING}");
            }
        }),
        "discard" => discard(&folder, &disk),
        other => panic!("{other}"),
    };
    if fault.fired() {
        println!("{FIRED}");
    }
    match result {
        Ok(()) => println!("{WELL}"),
        Err(cause) => println!("{cause:?}"),
    }
}

/// Kills a restore before each operation, and then has it finished or undone.
fn kill_restore(kind: Kind) -> u64 {
    let scene = Scene::new(kind);
    let (mut kills, mut complete, mut seen) = (0, 0, BTreeMap::new());
    for at in 1.. {
        for recovery in ["restore", "rollback"] {
            // One is enough where there are only two states.
            if kind == Kind::Folder && (recovery == "restore") == (at % 2 == 0) {
                continue;
            }
            scene.reset();
            let ended = scene.run("restore", "kill", at);
            let what = format!("{kind:?}, killed before operation {at}, then {recovery}");
            let state = scene.assert_no_mix(&what);
            *seen.entry(state).or_insert(0) += 1;
            if !ended.fired {
                scene.assert_is(&scene.new, &what);
                assert!(complete <= 3, "{complete}");
                println!("restore of {kind:?}: {kills} kills; found afterwards: {seen:?}");
                return kills;
            }
            kills += 1;
            if recovery == "rollback" {
                scene.undo(state, &what);
                scene.do_well("discard", &what);
            }
            scene.do_well("restore", &what);
            scene.assert_is(&scene.new, &what);
            let left = scene.left(".tillsafe-stage-") + scene.left(".tillsafe-swap-");
            assert_eq!(left, 0, "{what}");
            // And back: all that was replaced is still there. Killed between its last operation and
            // its exit, it was complete, and the same command was another restore.
            scene.do_well("rollback", &what);
            if state == "new" && scene.state() == scene.new {
                complete += 1;
            } else {
                scene.assert_is(&scene.old, &what);
            }
        }
    }
    unreachable!("it ends when no operation is left")
}

#[test]
fn a_killed_restore_leaves_the_old_or_the_new_or_is_completed() {
    let kills = kill_restore(Kind::Folder) + kill_restore(Kind::FolderAndDatabase);
    assert!(kills >= 100, "{kills}");
}

#[test]
fn a_killed_rollback_is_completed_by_the_same_command() {
    for kind in [Kind::Folder, Kind::FolderAndDatabase] {
        let scene = Scene::new(kind);
        let mut kills = 0;
        for at in 1.. {
            scene.reset();
            scene.do_well("restore", "at first");
            let ended = scene.run("rollback", "kill", at);
            let what = format!("{kind:?}, rollback killed before operation {at}");
            let state = scene.assert_no_mix(&what);
            if !ended.fired {
                scene.assert_is(&scene.old, &what);
                break;
            }
            kills += 1;
            let again = scene.run("rollback", "none", 1);
            // Its last operations only make durable what has come about.
            let done = again.text.contains("AlreadyRolledBack") && state == "old";
            assert!(again.well || done, "{what}: {}", again.text);
            scene.assert_is(&scene.old, &what);
            // What it displaced is kept, and goes only on request.
            assert!(scene.left(".tillsafe-kept-") > 0, "{what}");
            scene.do_well("discard", &what);
            assert_eq!(scene.left(".tillsafe-"), 0, "{what}");
            scene.assert_is(&scene.old, &what);
        }
        println!("rollback of {kind:?}: {kills} kills");
        assert!(kills >= 5, "{kills}");
    }
}

/// The recovery is killed too. A sample: all pairs are thousands.
#[test]
fn a_second_kill_in_the_recovery_costs_nothing_either() {
    let mut pairs = 0;
    for (kind, every) in [(Kind::Folder, 3), (Kind::FolderAndDatabase, 11)] {
        let scene = Scene::new(kind);
        // The swap itself is at the end.
        let swap = if kind == Kind::Folder { 52 } else { 64 };
        for at in (swap..).step_by(every) {
            let mut more = true;
            for recovery in ["rollback", "restore"] {
                for second in (1..60).step_by(5) {
                    scene.reset();
                    more = scene.run("restore", "kill", at).fired;
                    let is_undone = recovery == "rollback" && scene.state() == scene.old;
                    if !more || is_undone {
                        break;
                    }
                    let what = format!("{kind:?}, killed at {at}, then {recovery} at {second}");
                    let again = scene.run(recovery, "kill", second);
                    scene.assert_no_mix(&what);
                    pairs += 1;
                    if recovery == "rollback" {
                        scene.undo("old", &what);
                    } else {
                        scene.do_well("restore", &what);
                        scene.assert_is(&scene.new, &what);
                    }
                    if !again.fired {
                        break;
                    }
                }
            }
            if !more {
                break;
            }
        }
    }
    println!("{pairs} pairs of kills");
    assert!(pairs >= 30, "{pairs}");
}

#[test]
fn a_killed_discard_costs_nothing_live() {
    let scene = Scene::new(Kind::FolderAndDatabase);
    for at in 1.. {
        scene.reset();
        scene.do_well("restore", "at first");
        let ended = scene.run("discard", "kill", at);
        let what = format!("discard killed before operation {at}");
        scene.assert_is(&scene.new, &what);
        if !ended.fired {
            assert_eq!(scene.left(".tillsafe-"), 0, "{what}");
            break;
        }
        // The next restore works beside whatever is left.
        scene.do_well("restore", &what);
        scene.assert_is(&scene.new, &what);
        scene.do_well("discard", &what);
        assert_eq!(scene.left(".tillsafe-"), 0, "{what}");
    }
}

#[test]
fn a_failing_disk_leaves_the_old_state_or_the_new_one() {
    for kind in [Kind::Folder, Kind::FolderAndDatabase] {
        let scene = Scene::new(kind);
        for how in ["once", "from there on"] {
            let (mut operations, mut seen) = (0, BTreeMap::new());
            for at in 1.. {
                scene.reset();
                let ended = scene.run("restore", how, at);
                let what = format!("{kind:?}, {how}, operation {at}: {}", ended.text);
                let state = scene.assert_no_mix(&what);
                if !ended.fired {
                    assert!(ended.well, "{what}");
                    operations = at - 1;
                    break;
                }
                *seen.entry(state).or_insert(0) += 1;
                assert!(!ended.well || state == "new", "exit 0 means done: {what}");
                // A disk that fails once is good enough to take the swap back.
                assert!(how != "once" || state != "missing", "{what}");
                if at % 2 == 0 {
                    scene.do_well("restore", &what);
                    scene.assert_is(&scene.new, &what);
                } else {
                    scene.undo(state, &what);
                }
            }
            println!(
                "restore of {kind:?}, {how}: {operations} operations failed in turn; found afterwards: {seen:?}"
            );
            assert!(operations >= 25, "the sweep saw too little: {operations}");
        }
    }
}
