//! What a restore makes of hard cases: odd databases, poor file systems, folders filled in place.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rusqlite::Connection;
use tillsafe::backend::{Backend, MemBackend};
use tillsafe::durable::faults::{Fault, FaultyDisk};
use tillsafe::durable::{Disk, OsDisk};
use tillsafe::error::{Error, ExitCode, Result};
use tillsafe::id::Id;
use tillsafe::monitor::{Monitor, Problem, Quiet};
use tillsafe::repository::snapshot::Snapshot;
use tillsafe::restore::{Plan, ProofLevel, Restored, Selection, Target};
use tillsafe::source::sqlite;

use crate::common::Place;
use crate::common::compare::{difference, is_database};
use crate::common::library::{back_up, create, open, restore, snapshots};
use crate::common::program::{Program, Run, bare};
use crate::common::restic::Restic;
use crate::common::shop::{Shop, count_orders};
use crate::common::tools::{find, skipped};

/// What a restore that was killed left in a folder: it makes the folder one that is filled in place.
const LEFT: &str = ".tillsafe-stage-of-a-crash";

fn stored(folder: &Path) -> Arc<dyn Backend> {
    let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
    create(&backend);
    back_up(&backend, folder).unwrap();
    backend
}

/// Restores the only snapshot's `base`, with the plan changed by `change`; and what was told.
fn restore_changed(
    backend: &Arc<dyn Backend>,
    base: &Path,
    target: &Path,
    disk: &dyn Disk,
    change: impl FnOnce(&mut Plan),
) -> (Result<Restored>, Vec<Problem>) {
    let quiet = Arc::new(Quiet::default());
    let monitor: Arc<dyn Monitor> = Arc::clone(&quiet) as Arc<dyn Monitor>;
    let repository = open(backend).unwrap();
    let index = repository.load_index(monitor.as_ref()).unwrap();
    let snapshot = snapshots(backend).remove(0);
    let mut plan = Plan::make(
        &repository,
        &index,
        snapshot,
        Selection::whole(base),
        monitor.as_ref(),
    )
    .unwrap();
    change(&mut plan);
    let target = Target::look_at(target, disk).unwrap();
    let restored = plan
        .fetch(&repository, &index, target, disk, monitor.as_ref())
        .and_then(|staged| staged.verify(&index, &monitor))
        .and_then(|verified| verified.swap_in(&monitor));
    (restored, quiet.problems())
}

/// A database with a NULL in a column that says NOT NULL: `SQLite` finds it, and can live with it.
fn make_odd_database(path: &Path) {
    Connection::open(path)
        .unwrap()
        .execute_batch(
            "CREATE TABLE goods(name TEXT, price INT); INSERT INTO goods VALUES ('cup', NULL);
             PRAGMA writable_schema = 1;
             UPDATE sqlite_schema SET sql = 'CREATE TABLE goods(name TEXT, price INT NOT NULL)'",
        )
        .unwrap();
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_copy_equal_to_its_capture_is_kept_whatever_sqlite_finds_in_it() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 30, "wal");
    make_odd_database(&shop.folder.join("odd.db"));
    let program = Program::with_repository(place.path());
    let run = program.run(&["backup", text(&shop.folder)]);
    assert_eq!(run.code, 6, "{}", run.text());
    let target = place.join("target");
    let from = format!("latest:{}", shop.folder.display());
    let run = program.run(&["restore", &from, "--target", text(&target)]);
    assert_eq!(run.code, 7, "{}{}", run.stdout, run.stderr);
    assert!(
        run.stderr.contains(
            "SQLite finds in it: NULL value in goods.price; it was so when it was captured"
        ),
        "{}",
        run.stderr
    );
    assert!(
        run.stdout.contains("proof level: restored"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("shop.db: matched"), "{}", run.stdout);
    assert_eq!(
        fs::read(target.join("odd.db")).unwrap(),
        fs::read(shop.folder.join("odd.db")).unwrap()
    );
    assert_eq!(difference(&shop.folder, &target, &is_database), None);
    assert_eq!(count_orders(&target.join("shop.db")), 30);
    assert_eq!(program.run(&["verify"]).code, 7);
}

#[test]
fn a_copy_that_differs_from_its_capture_is_refused_whatever_sqlite_finds_in_it() {
    let place = Place::new();
    for odd in [true, false] {
        let folder = place.join(&format!("shop-{odd}"));
        fs::create_dir(&folder).unwrap();
        if odd {
            make_odd_database(&folder.join("shop.db"));
        } else {
            drop(Shop::open(&folder, 5, "delete"));
        }
        let backend = stored(&folder);
        let target = place.join(&format!("target-{odd}"));
        let (refused, _) = restore_changed(&backend, &folder, &target, &OsDisk, |plan| {
            let manifest = plan.manifest.as_mut().unwrap();
            manifest.databases[0].image_sha256 = Id::of(b"another");
        });
        let refused = refused.unwrap_err();
        assert_eq!(refused.exit_code(), ExitCode::NotVerified, "{refused}");
        assert!(!target.exists());
    }
}

#[test]
fn refused_metadata_is_told_and_the_content_restored() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 30, "wal");
    let backend = stored(&shop.folder);
    for (kind, how) in [
        ("new", ErrorKind::PermissionDenied),
        ("empty", ErrorKind::Unsupported),
        ("inside", ErrorKind::InvalidInput),
    ] {
        let target = place.join(kind);
        match kind {
            "empty" => fs::create_dir(&target).unwrap(),
            "inside" => fs::create_dir_all(target.join(LEFT)).unwrap(),
            _ => {}
        }
        let disk = FaultyDisk::new(OsDisk, Fault::refusing_metadata(how));
        let (restored, problems) = restore_changed(&backend, &shop.folder, &target, &disk, |_| {});
        assert_eq!(restored.unwrap().level, ProofLevel::Matched, "{kind}");
        for name in ["pictures/teapot.jpg", "pictures/old/cup.jpg", "notes.txt"] {
            assert_eq!(
                fs::read(target.join(name)).unwrap(),
                fs::read(shop.folder.join(name)).unwrap()
            );
        }
        assert_eq!(count_orders(&target.join("shop.db")), 30);
        let told = |finding: &str| {
            let told = problems.iter().find(|told| told.finding.contains(finding));
            told.unwrap_or_else(|| panic!("{kind}: {finding} in {problems:?}"))
        };
        let link = told("the link could not be made");
        assert!(link.item.ends_with(&format!("{kind}/main.jpg")), "{link:?}");
        assert!(
            told("its mode could not be set")
                .finding
                .contains(" others)")
        );
        assert!(
            told("its time could not be set")
                .finding
                .contains(" others)")
        );
        if rustix::process::geteuid().is_root() {
            told("its owner could not be set");
        }
        let refused = problems
            .iter()
            .filter(|told| told.finding.contains("could not be"));
        assert!(refused.clone().all(|told| told.incomplete));
        assert!(
            refused.count() <= 8,
            "a line a kind, not an item: {problems:?}"
        );
    }
}

/// In a container, say, that may not give files away: and nobody's program runs as somebody else.
#[test]
fn without_the_right_to_give_files_away_a_restore_says_so_and_drops_set_id_bits() {
    let (Some(setpriv), true) = (find("setpriv"), rustix::process::geteuid().is_root()) else {
        return skipped("a restore without CAP_CHOWN", "taking it away needs root");
    };
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 5, "delete");
    let tool = shop.folder.join("tool");
    fs::write(&tool, "#!/bin/sh").unwrap();
    chown(&tool, Some(1234), Some(1234)).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o4755)).unwrap();
    let program = Program::with_repository(place.path());
    program.ok(&["backup", text(&shop.folder)]);
    let target = place.join("target");
    let from = format!("latest:{}", shop.folder.display());
    let mut command = Command::new(setpriv);
    command
        .env_clear()
        .args(["--bounding-set=-chown", "--inh-caps=-chown"]);
    let inner = program.command(&["restore", &from, "--target", text(&target)]);
    command.arg(inner.get_program()).args(inner.get_args());
    let run = Run::of(&mut command);
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    assert!(
        run.stderr
            .contains("target/tool: its owner could not be set"),
        "{}",
        run.stderr
    );
    let metadata = fs::metadata(target.join("tool")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o755, 0));
}

/// Leaves out of the plan what `restic rewrite` or `repair snapshots` may leave out of a snapshot.
fn leave_out(plan: &mut Plan, name: &str) {
    plan.items.retain(|item| {
        let goes = item.entry.name == name;
        if goes && let tillsafe::repository::tree::Content::File { size, .. } = item.content {
            plan.files -= 1;
            plan.bytes -= size;
        }
        !goes
    });
}

#[test]
fn a_snapshot_that_lacks_what_was_captured_is_refused_unless_it_was_written_anew() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 30, "wal");
    let backend = stored(&shop.folder);
    for (name, word) in [
        ("notes.txt", "bytes were captured"),
        ("shop.db", "shop.db, which"),
    ] {
        let target = place.join(name);
        let root = Path::new("/");
        let (refused, _) = restore_changed(&backend, root, &target, &OsDisk, |plan| {
            leave_out(plan, name);
            if name == "shop.db" {
                // Not even if the counts are right by accident.
                plan.files += 1;
                plan.bytes += plan.manifest.as_ref().unwrap().databases[0].size_bytes;
            }
        });
        let refused = refused.unwrap_err();
        assert_eq!(refused.exit_code(), ExitCode::NotVerified, "{refused}");
        assert!(refused.to_string().contains(word), "{refused}");
        let (restored, problems) = restore_changed(&backend, root, &target, &OsDisk, |plan| {
            leave_out(plan, name);
            plan.snapshot.file.original = Some(plan.snapshot.id);
        });
        assert_eq!(restored.unwrap().level, ProofLevel::Opened, "{name}");
        let told = problems.iter().find(|told| told.finding.contains(word));
        assert!(!told.unwrap().incomplete);
    }
}

#[test]
fn what_restic_rewrite_left_of_a_snapshot_restores() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 30, "wal");
    let program = Program::with_repository(place.path());
    program.ok(&["backup", text(&shop.folder)]);
    let mut rewritten = false;
    for restic in Restic::all_on(&program) {
        let run = restic.run(&["rewrite", "--forget", "--exclude", "notes.txt", "latest"]);
        // restic 0.14 has no such command.
        rewritten |= run.code == 0;
    }
    if !rewritten {
        return skipped(
            "restic rewrite",
            "`make tools` installs a restic that has it",
        );
    }
    let run = program.ok(&["verify"]);
    assert!(run.stdout.contains("proof level: opened"), "{}", run.stdout);
    assert!(run.stdout.contains("shop.db: matched"), "{}", run.stdout);
    assert!(
        run.stderr.contains("written this snapshot anew"),
        "{}",
        run.stderr
    );
    let target = place.join("target");
    program.ok(&["restore", "latest", "--target", text(&target)]);
}

#[test]
fn without_room_nothing_is_written() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 5, "delete");
    let backend = stored(&shop.folder);
    let left = place.join(LEFT);
    for target in ["one/two/target", "target"] {
        fs::create_dir_all(&left).unwrap();
        let path = place.join(target);
        let (refused, _) = restore_changed(&backend, &shop.folder, &path, &OsDisk, |plan| {
            plan.bytes = u64::MAX / 2;
        });
        let refused = refused.unwrap_err();
        assert!(matches!(refused, Error::NoRoom { .. }), "{refused}");
        assert_eq!(refused.exit_code(), ExitCode::Refused);
        assert!(!place.join("one").exists() && !path.exists());
    }
    assert!(
        !left.exists(),
        "what a killed run left must not be in the way"
    );
}

/// Restores to a folder that is filled in place, and fails for good once some of its names, but not
/// all, stand there.
fn interrupted(backend: &Arc<dyn Backend>, snapshot: &Snapshot, base: &Path, target: &Path) {
    for number in 1.. {
        fs::create_dir_all(target.join(LEFT)).unwrap();
        let fault = Fault::from_there_on(number);
        let disk = FaultyDisk::new(OsDisk, Arc::clone(&fault));
        let result = restore(backend, snapshot.clone(), base, target, &disk);
        assert!(fault.fired() && result.is_err(), "no such moment");
        let there = |name: &str| target.join(name).exists();
        if ready(target).is_some() && (there("notes.txt") || there("shop.db")) {
            assert!(!(there("notes.txt") && there("shop.db") && there("pictures")));
            return;
        }
        fs::remove_dir_all(target).unwrap();
    }
}

/// The ready folder in a target.
fn ready(target: &Path) -> Option<PathBuf> {
    fs::read_dir(target)
        .unwrap()
        .map(|item| item.unwrap().path())
        .find(|path| text(path).contains(".tillsafe-ready-"))
}

#[test]
fn an_unfinished_restore_is_finished_by_the_same_restore_and_no_other() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 30, "wal");
    let backend = stored(&shop.folder);
    let snapshot = snapshots(&backend).remove(0);
    shop.sell(1);
    back_up(&backend, &shop.folder).unwrap();
    let all = snapshots(&backend);
    let other = all
        .into_iter()
        .find(|other| other.id != snapshot.id)
        .unwrap();
    let target = place.join("target");
    interrupted(&backend, &snapshot, &shop.folder, &target);
    let waiting = ready(&target).unwrap();
    let names = || {
        let names = |path: &Path| {
            let listed = fs::read_dir(path).unwrap();
            let mut names: Vec<_> = listed.map(|item| item.unwrap().file_name()).collect();
            names.sort();
            names
        };
        (names(&target), names(&waiting))
    };
    let before = names();
    let refused = |snapshot: &Snapshot, base: &Path, word: &str| {
        let refused = restore(&backend, snapshot.clone(), base, &target, &OsDisk).unwrap_err();
        assert!(
            matches!(refused, Error::UnfinishedRestore { .. }),
            "{refused}"
        );
        assert_eq!(refused.exit_code(), ExitCode::Refused);
        assert!(refused.to_string().contains(word), "{refused}");
        assert_eq!(names(), before, "nothing was touched: {refused}");
    };
    refused(&other, &shop.folder, "of another snapshot or path");
    refused(&snapshot, Path::new("/"), "of another snapshot or path");

    let lock = OsDisk.open(&waiting).unwrap();
    assert!(lock.try_lock().unwrap());
    refused(&snapshot, &shop.folder, "at work right now");
    drop(lock);

    let is_moved = |name: &&std::ffi::OsString| !name.to_string_lossy().starts_with('.');
    let moved = target.join(before.0.iter().find(is_moved).unwrap());
    let away = place.join("away");
    fs::rename(&moved, &away).unwrap();
    let gone = restore(&backend, snapshot.clone(), &shop.folder, &target, &OsDisk).unwrap_err();
    assert!(gone.to_string().contains("is gone"), "{gone}");
    fs::rename(&away, &moved).unwrap();

    let file = waiting.join("notes.txt");
    let file = if file.exists() {
        file
    } else {
        target.join("notes.txt")
    };
    let (notes, time) = (
        fs::read(&file).unwrap(),
        fs::metadata(&file).unwrap().modified().unwrap(),
    );
    fs::write(&file, "changed").unwrap();
    refused(&snapshot, &shop.folder, "was changed since");
    fs::write(&file, notes).unwrap();
    let file = fs::File::options().write(true).open(&file).unwrap();
    file.set_modified(time).unwrap();

    let taken = target.join(&before.1[0]);
    fs::write(&taken, "mine").unwrap();
    let refusal = restore(&backend, snapshot.clone(), &shop.folder, &target, &OsDisk).unwrap_err();
    assert_eq!(refusal.exit_code(), ExitCode::Refused, "{refusal}");
    assert!(
        refusal.to_string().contains("taken by something else"),
        "{refusal}"
    );
    assert_eq!(fs::read(&taken).unwrap(), b"mine");
    fs::remove_file(&taken).unwrap();
    assert_eq!(names(), before);

    let restored = restore(&backend, snapshot, &shop.folder, &target, &OsDisk).unwrap();
    assert_eq!(restored.level, ProofLevel::Matched);
    assert_eq!(ready(&target), None);
    assert_eq!(difference(&shop.folder, &target, &is_database), None);
    assert_eq!(count_orders(&target.join("shop.db")), 30);
}

#[test]
fn finishing_a_restore_may_be_interrupted_too() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 30, "wal");
    let backend = stored(&shop.folder);
    let snapshot = snapshots(&backend).remove(0);
    let mut operations = 0;
    for number in 1.. {
        let target = place.join(&format!("target-{number}"));
        interrupted(&backend, &snapshot, &shop.folder, &target);
        let fault = Fault::once(number);
        let disk = FaultyDisk::new(OsDisk, Arc::clone(&fault));
        let second = restore(&backend, snapshot.clone(), &shop.folder, &target, &disk);
        if second.is_err() {
            restore(&backend, snapshot.clone(), &shop.folder, &target, &OsDisk)
                .unwrap_or_else(|cause| panic!("operation {number}: {cause}"));
        }
        assert_eq!(difference(&shop.folder, &target, &is_database), None);
        assert_eq!(count_orders(&target.join("shop.db")), 30);
        if !fault.fired() {
            operations = number - 1;
            break;
        }
    }
    assert!(operations >= 5, "the sweep saw too little: {operations}");
}

/// The name of a ready folder is a format: what one version leaves, a later one finishes.
#[test]
fn the_program_finishes_what_waits_and_says_so() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 30, "wal");
    let program = Program::with_repository(place.path());
    program.ok(&["backup", text(&shop.folder)]);
    let target = place.join("target");
    let words = [
        "restore",
        &format!("latest:{}", shop.folder.display()),
        "--target",
        text(&target),
    ];
    let (code, objects) = program.json(&words);
    let summary = objects.last().unwrap();
    assert_eq!(code, 0);
    let id: Id = summary["snapshot_id"].as_str().unwrap().parse().unwrap();
    let of = [id.as_bytes().as_slice(), text(&shop.folder).as_bytes()].concat();
    let hash = &Id::of(&of).to_string()[..16];
    for (level, code) in [("matched", 0), ("opened", 0), ("restored", 7)] {
        let waiting = target.join(format!(".tillsafe-ready-{level}-{hash}"));
        fs::create_dir(&waiting).unwrap();
        for name in ["pictures", "shop.db"] {
            fs::rename(target.join(name), waiting.join(name)).unwrap();
        }
        let run = program.run(&words);
        assert_eq!(run.code, code, "{}{}", run.stdout, run.stderr);
        let said = format!(
            "finished the interrupted restore of snapshot {}",
            id.short()
        );
        assert!(run.stdout.contains(&said), "{}", run.stdout);
        assert!(run.stdout.contains(&format!("proof level: {level}")));
        assert!(!waiting.exists());
        assert_eq!(difference(&shop.folder, &target, &is_database), None);
    }
    let waiting = target.join(".tillsafe-ready-matched-0123456789abcdef");
    fs::create_dir(&waiting).unwrap();
    let run = program.run(&words);
    assert_eq!(run.code, 20, "{}", run.stderr);
    assert!(
        run.stderr.contains("next: run that same restore again"),
        "{}",
        run.stderr
    );
    assert!(waiting.is_dir());
}

/// A command of the program, run by somebody without rights if the test has any.
struct Nobody {
    program: PathBuf,
    setpriv: Option<PathBuf>,
}

impl Nobody {
    const ID: u32 = 65534;

    fn in_place(place: &Place) -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self {
                program: env!("CARGO_BIN_EXE_tillsafe").into(),
                setpriv: None,
            };
        }
        // The build may lie where only root can go. Copied by another process: a child that some
        // other test starts now would inherit our open file, and what is written to cannot be run.
        let program = place.join("tillsafe");
        let mut copy = Command::new(find("cp").unwrap());
        copy.args([env!("CARGO_BIN_EXE_tillsafe"), text(&program)]);
        assert!(copy.status().unwrap().success());
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            program,
            setpriv: Some(find("setpriv").unwrap()),
        }
    }

    /// Makes a path theirs.
    fn give(&self, path: &Path) {
        if self.setpriv.is_some() {
            std::os::unix::fs::lchown(path, Some(Self::ID), Some(Self::ID)).unwrap();
        }
    }

    fn run(&self, words: &Command) -> Run {
        let mut command = match &self.setpriv {
            None => bare(),
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.env_clear();
                command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
                command.arg(&self.program);
                command
            }
        };
        Run::of(command.args(words.get_args()))
    }
}

#[test]
fn folders_that_their_owner_cannot_write_to_are_moved_and_cleared_away_all_the_same() {
    let place = Place::new();
    let nobody = Nobody::in_place(&place);
    let shop = Shop::open(&place.join("shop"), 5, "delete");
    let close = |path: PathBuf, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir(shop.folder.join("closed")).unwrap();
    fs::write(shop.folder.join("closed/rules.txt"), "no glaze on the foot").unwrap();
    close(shop.folder.join("closed"), 0o555);
    close(shop.folder.join("pictures/old"), 0o555);
    let theirs = place.join("theirs");
    fs::create_dir(&theirs).unwrap();
    let program = Program::with_repository(&theirs);
    program.ok(&["backup", text(&shop.folder)]);
    // The target's parent is closed to us: it is filled in place.
    let parent = place.join("parent");
    let target = parent.join("target");
    let left = target.join(LEFT);
    fs::create_dir_all(left.join("closed/inner")).unwrap();
    fs::write(left.join("closed/inner/file"), "x").unwrap();
    let mut waiting = vec![theirs.clone(), target.clone()];
    while let Some(path) = waiting.pop() {
        nobody.give(&path);
        if path.is_dir() {
            waiting.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|item| item.unwrap().path()),
            );
        }
    }
    close(left.join("closed/inner"), 0o000);
    close(left.join("closed"), 0o555);
    close(left.clone(), 0o555);
    close(parent.clone(), 0o555);
    let from = format!("latest:{}", shop.folder.display());
    let run = nobody.run(&program.command(&["restore", &from, "--target", text(&target)]));
    close(parent, 0o755);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let mode = |path: &str| fs::metadata(target.join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("closed"), mode("pictures/old")), (0o555, 0o555));
    assert_eq!(
        fs::metadata(target.join("closed")).unwrap().mtime_nsec(),
        fs::metadata(shop.folder.join("closed"))
            .unwrap()
            .mtime_nsec()
    );
    assert!(!left.exists(), "what a crash left is cleared away");
    assert_eq!(ready(&target), None);
    // So that the place itself can be cleared away.
    for folder in [&shop.folder, &target] {
        close(folder.join("closed"), 0o755);
        close(folder.join("pictures/old"), 0o755);
    }
}

/// SQLite writes beside its database: whoever owns the shop must own its folder too.
#[test]
fn a_new_target_gets_owner_mode_and_time_of_the_folder_that_lands_in_it() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 5, "wal");
    fs::set_permissions(&shop.folder, fs::Permissions::from_mode(0o750)).unwrap();
    if rustix::process::geteuid().is_root() {
        chown(&shop.folder, Some(65534), Some(65534)).unwrap();
    } else {
        skipped(
            "the owner of a restored folder",
            "only root gives files away",
        );
    }
    let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
    create(&backend);
    back_up(&backend, &shop.folder).unwrap();
    let target = place.join("restored");
    let snapshot = snapshots(&backend).remove(0);
    restore(&backend, snapshot, &shop.folder, &target, &OsDisk).unwrap();
    let seen = |path: &Path| {
        let metadata = fs::metadata(path).unwrap();
        (
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        )
    };
    assert_eq!(seen(&target), seen(&shop.folder));
}

/// A database with a hot journal, stored as files by another program: each file is whole, and opened
/// alone it shows what was never committed.
#[test]
fn a_foreign_database_with_a_journal_beside_it_is_not_called_opened() {
    let place = Place::new();
    let (live, copy) = (place.join("live.db"), place.join("copy.db"));
    let open = Connection::open(&live).unwrap();
    open.execute_batch(
        "CREATE TABLE accounts(balance INT, note TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
           INSERT INTO accounts SELECT 100, hex(randomblob(200)) FROM n;
         PRAGMA cache_size = 2; BEGIN; UPDATE accounts SET balance = 99",
    )
    .unwrap();
    for suffix in ["", "-journal"] {
        fs::copy(sqlite::beside(&live, suffix), sqlite::beside(&copy, suffix)).unwrap();
    }
    drop(open);
    let monitor: Arc<dyn Monitor> = Arc::new(Quiet::default());
    let proof = sqlite::prove(&copy, "copy.db", &monitor).unwrap();
    assert!(proof.unchecked.unwrap().contains("journal"));
}

#[test]
fn latest_is_of_the_series_that_holds_what_is_wanted() {
    let place = Place::new();
    let shop = Shop::open(&place.join("srv/shop"), 5, "delete");
    let till = Shop::open(&place.join("srv/till"), 7, "delete");
    let program = Program::with_cheap_repository(place.path());
    program.ok(&["backup", text(&shop.folder)]);
    program.ok(&["backup", text(&till.folder)]);
    assert_eq!(program.run(&["verify", "latest"]).code, 2);
    for (shop, orders) in [(&shop, 5), (&till, 7)] {
        let target = place.join(&format!("target-{orders}"));
        let from = format!("latest:{}", shop.folder.display());
        program.ok(&["restore", &from, "--target", text(&target)]);
        assert_eq!(count_orders(&target.join("shop.db")), orders);
    }
    // With two that hold it, nobody can know.
    program.ok(&["backup", text(&place.join("srv"))]);
    let from = format!("latest:{}", shop.folder.display());
    let run = program.run(&["verify", &from]);
    assert_eq!(run.code, 2, "{}", run.text());
    assert!(run.stderr.contains("one of 2 series"), "{}", run.stderr);
}
