//! The power is cut the moment a command has said that it is done: nothing of what it did is lost.
//!
//! The cut is the file system's own (`xfs_io -x -c shutdown`, without a last flush): whatever was not
//! synced never reaches the disk. It cannot show a disk that lies about its own cache. And both file
//! systems keep one journal in order: a name that nobody synced is durable with the next one that is.

use std::fs::{self, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::common::Place;
use crate::common::compare::difference;
use crate::common::files::names_with;
use crate::common::mount::{FileSystem, LoopDisk};
use crate::common::program::{Program, Run};
use crate::common::shop::{Shop, count_orders, noise};
use crate::common::tools::skipped;

/// Rounds of each command, on so many fresh file systems one after the other.
const ROUNDS: u64 = 20;
const DISKS: u64 = 4;

/// One round: runs a command of the program, which must end with 0, and cuts the power of the disk
/// that it wrote to. The disk is mounted again; what it holds is the caller's to judge.
fn run_then_cut(program: &Program, words: &[&str], disk: &LoopDisk) -> Run {
    let run = program.ok(words);
    disk.cut_power();
    run
}

/// What a round restores to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    New,
    Empty,
    MountPoint,
}

/// A shop outside of the disk, and how many of the careless copies were lost.
struct Scene {
    // Before the place that it lies in: fields are dropped in this order.
    disk: Option<LoopDisk>,
    place: Place,
    shop: Shop,
    lost_copies: u64,
}

impl Scene {
    fn new(journal_mode: &str) -> Self {
        let place = Place::new();
        Self {
            shop: Shop::open(&place.join("shop"), 100, journal_mode),
            place,
            disk: None,
            lost_copies: 0,
        }
    }

    fn disk(&self) -> &LoopDisk {
        self.disk.as_ref().expect("`begin` has made it")
    }

    /// New goods in the shop; in the first round of each disk, a fresh file system. Or why not.
    fn begin(&mut self, round: u64, kind: FileSystem) -> Result<(), String> {
        change(&self.shop, round);
        if round.is_multiple_of(ROUNDS / DISKS) {
            self.disk = None;
            self.disk = Some(LoopDisk::make(self.place.path(), kind)?);
        }
        Ok(())
    }

    /// The control: copies the folder `from` as a program does that trusts the system, cuts the
    /// power, and notes whether anything is lost. Where nothing ever is, the rounds prove nothing.
    fn copy_carelessly_then_cut(&mut self, from: &Path, round: u64) {
        let copy = self.disk().path().join(format!("careless-{round}"));
        copy_carelessly(from, &copy);
        assert_eq!(difference_in_bytes(from, &copy), None, "it was written");
        self.disk().cut_power();
        self.lost_copies += u64::from(difference_in_bytes(from, &copy).is_some());
    }

    /// Ends the rounds of a command.
    fn finish(self, command: &str, kind: FileSystem) {
        let lost = self.lost_copies;
        println!("{command}, {kind:?}: {ROUNDS} of {ROUNDS}; control lost {lost} of {ROUNDS}");
        assert!(lost > 0, "a careless program lost nothing: no proof");
    }
}

/// Makes the shop another one: new orders, a new folder with files of all sizes, modes and times, a
/// link, a picture that changes, one that goes.
fn change(shop: &Shop, seed: u64) {
    let random = |which: u64, below: u64| {
        let bytes = noise(seed * 1000 + which, 8);
        u64::from_le_bytes(bytes.try_into().unwrap()) % below
    };
    let small = |which, below| u32::try_from(random(which, below)).unwrap();
    println!("round with seed {seed}");
    shop.sell(1 + small(1, 300));
    let folder = shop.folder.join(format!("delivery-{seed}"));
    fs::create_dir(&folder).unwrap();
    for number in 0..5 + random(2, 40) {
        let length = usize::try_from(random(3 + number, 20_000)).unwrap();
        let path = folder.join(format!("slip-{number}"));
        fs::write(&path, noise(seed * 1000 + number, length)).unwrap();
        let mode = [0o600, 0o644, 0o444, 0o755][small(50 + number, 4) as usize];
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        set_old(&path, random(100 + number, 1_000_000_000));
    }
    symlink("slip-0", folder.join("first")).unwrap();
    set_old(&folder, random(200, 1_000_000_000));
    let mode = [0o700, 0o755, 0o2750][small(201, 3) as usize];
    fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
    let picture = noise(seed, usize::try_from(random(202, 3 << 20)).unwrap());
    fs::write(shop.folder.join("pictures/teapot.jpg"), picture).unwrap();
    if seed > 1 {
        fs::remove_dir_all(shop.folder.join(format!("delivery-{}", seed - 2))).unwrap();
    }
    set_old(&shop.folder, random(203, 1_000_000_000));
}

/// Gives a file or folder a time in the past, odd to the nanosecond.
fn set_old(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789);
    let file = fs::File::open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
}

/// Writes each file under a temporary name and renames it, without any sync.
fn copy_carelessly(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let (item, copy) = {
            let item = item.unwrap();
            (item.path(), to.join(item.file_name()))
        };
        if item.is_symlink() {
            symlink(fs::read_link(&item).unwrap(), &copy).unwrap();
        } else if item.is_dir() {
            copy_carelessly(&item, &copy);
        } else {
            let temporary = copy.with_extension("tmp");
            fs::write(&temporary, fs::read(&item).unwrap()).unwrap();
            fs::rename(&temporary, &copy).unwrap();
        }
    }
}

/// The first file, folder or link of `from` that `copy` lacks or has otherwise.
fn difference_in_bytes(from: &Path, copy: &Path) -> Option<PathBuf> {
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let (left, right) = (item.path(), copy.join(item.file_name()));
        let inner = if left.is_symlink() {
            fs::read_link(&left).ok() == fs::read_link(&right).ok()
        } else if left.is_dir() {
            match difference_in_bytes(&left, &right) {
                None => right.is_dir(),
                found => return found,
            }
        } else {
            fs::read(&left).ok() == fs::read(&right).ok()
        };
        if !inner {
            return Some(right);
        }
    }
    None
}

/// The whole shop is there: every file in bytes, mode, owner and time, every link; and its database
/// is sound and holds every order.
fn assert_whole(shop: &Shop, target: &Path, what: &str) {
    // A new disk has one of its own; the side files of a closed database hold nothing.
    let of_no_account = |path: &Path| {
        ["lost+found", "shop.db-wal", "shop.db-shm"]
            .iter()
            .any(|name| path == Path::new(name))
    };
    assert_eq!(
        difference(&shop.folder, target, &of_no_account),
        None,
        "{what}"
    );
    let copy = target.join("shop.db");
    assert_eq!(count_orders(&copy), shop.orders(), "{what}");
    let sound: String = rusqlite::Connection::open(&copy)
        .unwrap()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok", "{what}");
}

/// The repository is on the disk, the shop is not.
fn rounds_of_backup(kind: FileSystem) -> Result<(), String> {
    let mut scene = Scene::new("wal");
    let mut snapshots = Vec::new();
    let mut program = Program::in_folder(scene.place.path());
    for round in 0..ROUNDS {
        scene.begin(round, kind)?;
        let what = format!("backup, {kind:?}, round {round}");
        if names_with(scene.disk().path(), "repository").is_empty() {
            program = Program::with_cheap_repository(scene.disk().path());
            // How the test makes it is not the subject; its password is no part of it.
            scene.disk().sync();
            snapshots.clear();
        }
        let shop = scene.shop.folder.to_str().unwrap().to_owned();
        let run = run_then_cut(&program, &["--json", "backup", &shop], scene.disk());
        let summary = run.objects().pop().unwrap();
        snapshots.push(summary["snapshot_id"].clone());

        assert!(!program.has_lock(), "{what}");
        program.ok(&["check", "--read-data"]);
        let (_, mut listed) = program.json(&["snapshots"]);
        listed.pop();
        let listed: Vec<_> = listed
            .into_iter()
            .map(|object| object["id"].clone())
            .collect();
        assert_eq!(listed, snapshots, "{what}");
        let target = scene.place.join(&format!("restored-{round}"));
        let from = format!("latest:{shop}");
        program.ok(&["restore", &from, "--target", target.to_str().unwrap()]);
        assert_whole(&scene.shop, &target, &what);
        fs::remove_dir_all(&target).unwrap();

        let repository = program.repository.clone();
        scene.copy_carelessly_then_cut(&repository, round);
    }
    scene.finish("backup", kind);
    Ok(())
}

/// The repository and the shop are not on the disk, the target is.
fn rounds_of_restore(kind: FileSystem) -> Result<(), String> {
    let mut scene = Scene::new("delete");
    let program = Program::with_cheap_repository(scene.place.path());
    for round in 0..ROUNDS {
        scene.begin(round, kind)?;
        // With five rounds a disk, each way is once the first on a fresh one.
        let way = [Way::New, Way::Empty, Way::MountPoint][usize::try_from(round % 3).unwrap()];
        let what = format!("restore, {kind:?}, round {round}, {way:?}");
        let shop = scene.shop.folder.to_str().unwrap().to_owned();
        program.ok(&["backup", &shop]);
        let target = make_target(scene.disk(), way);
        let from = format!("latest:{shop}");
        let words = ["restore", &from, "--target", target.to_str().unwrap()];
        run_then_cut(&program, &words, scene.disk());

        assert!(target.is_dir(), "{what}: it is gone");
        if way == Way::New {
            // A target that was there keeps its own.
            let of = |path: &Path| {
                let metadata = fs::metadata(path).unwrap();
                (metadata.mode(), metadata.mtime(), metadata.mtime_nsec())
            };
            assert_eq!(of(&target), of(&scene.shop.folder), "{what}");
        }
        assert_whole(&scene.shop, &target, &what);
        let stays = target.parent().unwrap();
        assert_eq!(names_with(stays, ".tillsafe"), [""; 0], "{what}");
        let source = scene.shop.folder.clone();
        scene.copy_carelessly_then_cut(&source, round);
    }
    scene.finish("restore", kind);
    Ok(())
}

/// The repository is not on the disk; the shop is, and is replaced there, and put back.
fn rounds_in_place(kind: FileSystem) -> Result<(), String> {
    let mut scene = Scene::new("delete");
    let program = Program::with_cheap_repository(scene.place.path());
    for round in 0..ROUNDS / 2 {
        scene.begin(round * 2, kind)?;
        let way = [Way::Empty, Way::MountPoint][usize::try_from(round % 2).unwrap()];
        let what = format!("restore in place, {kind:?}, round {round}, {way:?}");
        let stands = make_target(scene.disk(), way);
        for item in fs::read_dir(&scene.shop.folder).unwrap() {
            let item = item.unwrap();
            let copy = stands.join(item.file_name());
            if item.file_type().unwrap().is_dir() {
                copy_carelessly(&item.path(), &copy);
            } else if !item.file_type().unwrap().is_symlink() {
                fs::copy(item.path(), copy).unwrap();
            }
        }
        let path = stands.to_str().unwrap();
        let (_, objects) = program.json(&["backup", path]);
        let id = objects.last().unwrap()["snapshot_id"].clone();
        let aside = scene.place.join("as-it-was");
        copy_carelessly(&stands, &aside);
        let later = stands.join("later.txt");
        fs::write(&later, "since the backup").unwrap();
        fs::remove_file(stands.join("notes.txt")).unwrap();
        scene.disk().sync();
        let from = format!("{}:{path}", id.as_str().unwrap());
        let plan = program.plan_in_place(&[&from]);
        let words = ["restore", &from, "--in-place", "--plan", &plan];
        run_then_cut(&program, &words, scene.disk());
        assert_eq!(difference_in_bytes(&aside, &stands), None, "{what}");
        assert!(!later.exists(), "{what}");
        assert_eq!(
            count_orders(&stands.join("shop.db")),
            scene.shop.orders(),
            "{what}"
        );

        run_then_cut(&program, &["rollback", path], scene.disk());
        assert!(
            later.exists() && !stands.join("notes.txt").exists(),
            "{what}: rollback"
        );
        assert_eq!(
            count_orders(&stands.join("shop.db")),
            scene.shop.orders(),
            "{what}"
        );
        fs::remove_dir_all(&aside).unwrap();
    }
    println!(
        "restore in place and rollback, {kind:?}: {0} of {0}",
        ROUNDS / 2
    );
    Ok(())
}

/// Clears the disk, and makes durable what a target of this kind is before the restore.
fn make_target(disk: &LoopDisk, way: Way) -> PathBuf {
    for item in fs::read_dir(disk.path()).unwrap() {
        let path = item.unwrap().path();
        if !path.ends_with("lost+found") {
            fs::remove_dir_all(&path)
                .or_else(|_| fs::remove_file(&path))
                .unwrap();
        }
    }
    let target = match way {
        // Its parents are missing too.
        Way::New => disk.path().join("srv/shops/mara"),
        Way::Empty => disk.path().join("mara"),
        Way::MountPoint => disk.path().to_owned(),
    };
    if way == Way::Empty {
        fs::create_dir(&target).unwrap();
    }
    disk.sync();
    target
}

fn all_rounds(kind: FileSystem) {
    let done = rounds_of_backup(kind)
        .and_then(|()| rounds_of_restore(kind))
        .and_then(|()| rounds_in_place(kind));
    if let Err(why) = done {
        skipped(&format!("a power cut on {kind:?}"), &why);
    }
}

#[test]
fn a_power_cut_right_after_exit_0_loses_nothing_on_ext4() {
    all_rounds(FileSystem::Ext4);
}

#[test]
fn a_power_cut_right_after_exit_0_loses_nothing_on_xfs() {
    all_rounds(FileSystem::Xfs);
}
