//! What an application or its owner does between the plan, the swap and the rollback.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use tillsafe::durable::OsDisk;
use tillsafe::error::{Error, Result};
use tillsafe::monitor::{Monitor, Problem, Progress, Step};
use tillsafe::restore::Selection;
use tillsafe::restore::in_place::{InPlace, Registry, Swapped};

use super::{Scene, kept, text};
use crate::common::Place;
use crate::common::library::{back_up_all, create, open, services, snapshots};
use crate::common::mount::SmallDisk;
use crate::common::program::Program;
use crate::common::shop::{Shop, count_orders};
use crate::common::tools::{find, skipped};

/// Does something when the swap is about to begin: when all copies are proved, and made durable.
struct Meanwhile<F> {
    /// At the beginning of this step.
    when: Step,
    act: F,
    /// Whether a signal comes then.
    stops: bool,
    came: AtomicBool,
    problems: Mutex<Vec<Problem>>,
}

impl<F> std::fmt::Debug for Meanwhile<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl<F: Fn() + Send + Sync> Monitor for Meanwhile<F> {
    fn step(&self, step: Step, _bytes: Option<u64>) {
        if step == self.when && !self.came.swap(true, Ordering::SeqCst) {
            (self.act)();
        }
    }

    fn progress(&self, _progress: Progress) {}

    fn problem(&self, problem: Problem) {
        self.problems.lock().unwrap().push(problem);
    }

    fn signal(&self) -> Option<i32> {
        (self.stops && self.came.load(Ordering::SeqCst)).then_some(2)
    }
}

/// Backs `live` up, spoils it, and restores it in place while `act` happens.
fn restore_while(
    place: &Place,
    live: &Path,
    when: Step,
    stops: bool,
    act: impl Fn() + Send + Sync + 'static,
) -> Result<Swapped> {
    let backend = Program::in_folder(place.path()).backend();
    let monitor: Arc<dyn Monitor> = Arc::new(Meanwhile {
        when,
        act,
        stops,
        came: AtomicBool::new(false),
        problems: Mutex::default(),
    });
    let snapshot = snapshots(&backend).remove(0);
    let repository = open(&backend)?;
    let index = repository.load_index(monitor.as_ref())?;
    let whole = Selection::whole(Path::new("/"));
    let planned = InPlace::plan(
        &repository,
        &index,
        &snapshot,
        &whole,
        &OsDisk,
        monitor.as_ref(),
    )?;
    assert!(planned.roots[0].spot.live.starts_with(live));
    let ready = planned.stage(&repository, &index, &OsDisk, &monitor)?;
    let registry = Registry::new(place.join("state"));
    ready.swap(&services(), Some(&registry), &OsDisk, &monitor)
}

fn back_up(place: &Place, paths: &[&Path]) {
    let backend = Program::in_folder(place.path()).backend();
    create(&backend);
    back_up_all(&backend, paths, place.path()).unwrap();
}

/// A mount point is replaced name by name; what its owner makes there meanwhile is no part of that.
#[test]
fn what_comes_up_while_a_swap_is_given_up_stays() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(&place.join("mnt"), "size=64m") else {
        return skipped("a mount point in place", "mounting needs root");
    };
    let shop = Shop::open(disk.path(), 20, "delete");
    back_up(&place, &[disk.path()]);
    shop.sell(5);
    let order = disk.path().join("order.pdf");
    let late = order.clone();
    let end = restore_while(&place, disk.path(), Step::Syncing, true, move || {
        fs::write(&late, "an order").unwrap();
    });
    assert!(matches!(end, Err(Error::Interrupted { .. })), "{end:?}");
    assert_eq!(shop.orders(), 25);
    assert_eq!(fs::read(&order).unwrap(), b"an order");
    assert_eq!(kept(disk.path()), [""; 0]);
}

/// A process that has the database open, until it is dropped.
struct Holder(Child);

impl Holder {
    fn of(database: &Path, sqlite3: &Path) -> Self {
        let mut child = Command::new(sqlite3)
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(
            child.stdin.as_mut().unwrap(),
            "SELECT count(*) FROM orders;"
        )
        .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// Making a large copy durable may take minutes.
#[test]
fn a_database_that_is_opened_just_before_the_swap_is_not_replaced() {
    let Some(sqlite3) = find("sqlite3") else {
        return skipped("an open database", "sqlite3 is needed to hold it open");
    };
    let place = Place::new();
    let shop = Shop::open(&place.join("srv/shop"), 20, "wal");
    back_up(&place, &[&shop.folder]);
    shop.sell(5);
    let holder: Arc<Mutex<Option<Holder>>> = Arc::default();
    let (held, database) = (Arc::clone(&holder), shop.database.clone());
    let end = restore_while(&place, &shop.folder, Step::Syncing, false, move || {
        *held.lock().unwrap() = Some(Holder::of(&database, &sqlite3));
    });
    assert!(matches!(end, Err(Error::InUse { .. })), "{end:?}");
    drop(holder.lock().unwrap().take());
    assert_eq!(shop.orders(), 25);
    assert_eq!(kept(&place.join("srv")), [""; 0]);
}

/// Moves what a swap of several names has brought in out again, as it was when all of the old was
/// aside and nothing of the new had come.
fn cut_short(program: &Program, roots: &[&Path]) {
    let (_, objects) = program.json(&["rollback", "--list"]);
    let id = objects[0]["restore_id"].as_str().unwrap().to_owned();
    for root in roots {
        let kept = root.parent().unwrap().join(format!(".tillsafe-kept-{id}"));
        let _ = fs::remove_file(kept.join("done"));
        let name = root.file_name().unwrap();
        fs::rename(root, kept.join("new").join(name)).unwrap();
    }
}

/// Two shops that are one restore, so that for a moment both names are missing.
struct Two {
    place: Place,
    program: Program,
    shop: Shop,
    till: Shop,
    /// The hash that the restore was consented to by.
    hash: String,
}

impl Two {
    /// Their restore has put everything aside, and was killed.
    fn cut_short() -> Self {
        let place = Place::new();
        let shop = Shop::open(&place.join("srv/shop"), 20, "wal");
        let till = Shop::open(&place.join("var/till"), 7, "delete");
        let program = Program::with_cheap_repository(place.path());
        program.ok(&["backup", text(&shop.folder), text(&till.database)]);
        shop.sell(5);
        till.sell(5);
        let hash = program.plan_in_place(&["latest"]);
        program.ok(&["restore", "latest", "--in-place", "--plan", &hash]);
        cut_short(&program, &[&shop.folder, &till.database]);
        Self {
            place,
            program,
            shop,
            till,
            hash,
        }
    }

    fn assert_old(&self) {
        assert_eq!((self.shop.orders(), self.till.orders()), (25, 12));
    }

    fn kept(&self, place: &str) -> PathBuf {
        let place = self.place.join(place);
        place.join(&kept(&place)[0])
    }

    /// The applications start with the machine, find nothing, and begin anew.
    fn begin_anew(&self) {
        fs::create_dir(&self.shop.folder).unwrap();
        fs::write(self.shop.folder.join("new.log"), "started").unwrap();
        let connection = Connection::open(&self.till.database).unwrap();
        connection
            .execute_batch(
                "PRAGMA journal_mode = wal; CREATE TABLE orders(id); INSERT INTO orders VALUES (1)",
            )
            .unwrap();
    }
}

#[test]
fn a_name_that_is_taken_while_it_is_missing_stops_no_rollback() {
    let two = Two::cut_short();
    two.begin_anew();
    two.program.ok(&["rollback"]);
    two.assert_old();
    // Again, in the middle of the rollback.
    cut_back(&two);
    two.begin_anew();
    two.program.ok(&["rollback"]);
    two.assert_old();
    assert!(
        two.kept("srv").join("new/shop/shop.db").exists(),
        "the copy"
    );
    assert!(two.kept("srv").join("late-1/shop/new.log").exists());
    let anew = two.kept("var/till").join("late-2/shop.db");
    let connection = Connection::open(anew).unwrap();
    let orders: u32 = connection
        .query_row("SELECT count(*) FROM orders", [], |row| row.get(0))
        .unwrap();
    assert_eq!(orders, 1);
}

/// Moves the old aside again, as it was in the middle of the rollback.
fn cut_back(two: &Two) {
    for root in [&two.shop.folder, &two.till.database] {
        let place = root.parent().unwrap();
        let old = place.join(&kept(place)[0]).join("old");
        fs::rename(root, old.join(root.file_name().unwrap())).unwrap();
    }
}

#[test]
fn a_name_that_is_taken_while_it_is_missing_is_told_by_the_same_restore() {
    let two = Two::cut_short();
    two.begin_anew();
    let run = two
        .program
        .run(&["restore", "latest", "--in-place", "--plan", &two.hash]);
    assert_eq!(run.code, 20, "{}", run.text());
    two.program.ok(&["rollback"]);
    two.assert_old();
}

/// Numbers of disks change when a machine starts anew, and names in a container at each start.
#[test]
fn a_disk_that_has_another_number_is_the_same_disk() {
    let scene = Scene::new();
    let run = scene.restore("latest");
    assert_eq!(run.code, 0, "{}", run.text());
    let srv = scene.place.join("srv");
    let journals = [
        srv.join(&kept(&srv)[0]),
        scene
            .place
            .join("state/tillsafe")
            .join(&kept(&scene.place.join("state/tillsafe"))[0]),
    ];
    for folder in journals {
        let path = folder.join("journal");
        let mut journal: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for which in ["staged", "replaced"] {
            let device = &mut journal["places"][0]["moves"][0][which]["device"];
            *device = (device.as_u64().unwrap() + 7).into();
        }
        fs::write(&path, serde_json::to_vec(&journal).unwrap()).unwrap();
    }
    let list = scene.program.ok(&["rollback", "--list"]);
    assert!(list.stdout.contains("restored; "), "{}", list.stdout);
    scene.program.ok(&["rollback"]);
    scene.assert_old();
    scene.program.ok(&["rollback", "--discard", "--yes"]);
    scene.assert_old();
}

/// In the middle of the swap the link leads nowhere.
#[test]
fn a_root_behind_a_link_is_found_again_while_it_is_missing() {
    let place = Place::new();
    let shop = Shop::open(&place.join("disk/shop"), 20, "wal");
    let till = Shop::open(&place.join("var/till"), 7, "delete");
    fs::create_dir(place.join("srv")).unwrap();
    let link = place.join("srv/shop");
    symlink("../disk/shop", &link).unwrap();
    let program = Program::with_cheap_repository(place.path());
    program.ok(&["backup", text(&link), text(&till.folder)]);
    shop.sell(5);
    till.sell(5);
    let hash = program.plan_in_place(&["latest"]);
    let words = ["restore", "latest", "--in-place", "--plan", &hash];
    program.ok(&words);
    cut_short(&program, &[&shop.folder, &till.folder]);
    let run = program.ok(&words);
    assert!(run.stdout.contains("finished"), "{}", run.text());
    assert_eq!((shop.orders(), till.orders()), (20, 7));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    cut_short(&program, &[&shop.folder, &till.folder]);
    program.ok(&["rollback", text(&link)]);
    assert_eq!((shop.orders(), till.orders()), (25, 12));
}

#[test]
fn roots_that_are_one_place_by_a_link_are_refused() {
    let place = Place::new();
    let shop = Shop::open(&place.join("srv/shop"), 20, "delete");
    let data = place.join("data");
    symlink(shop.folder.join("pictures"), &data).unwrap();
    let program = Program::with_cheap_repository(place.path());
    program.ok(&["backup", text(&shop.folder), text(&data)]);
    let run = program.run(&["restore", "latest", "--in-place", "--dry-run"]);
    assert_eq!(run.code, 20, "{}", run.text());
    assert!(run.stderr.contains("pictures"), "{}", run.stderr);
    let hash = program.plan_in_place(&[&format!("latest:{}", data.display())]);
    assert!(!hash.is_empty(), "each alone is fine");
}

/// It would be moved aside with the folder, and cleared away with it.
#[test]
fn a_disk_that_is_mounted_inside_is_never_moved_or_emptied() {
    let scene = Scene::new();
    let uploads = scene.shop.folder.join("uploads");
    let Some(disk) = SmallDisk::mount(&uploads, "size=1m") else {
        return skipped("a mount point inside", "mounting needs root");
    };
    fs::write(uploads.join("only copy"), "of it").unwrap();
    let from = scene.latest_of_shop();
    let run = scene
        .program
        .run(&["restore", &from, "--in-place", "--dry-run"]);
    assert_eq!(run.code, 20, "{}", run.text());
    assert!(run.stderr.contains("uploads"), "{}", run.stderr);
    // What is not replaced may be mounted.
    let words = [from.as_str(), "--exclude", "uploads"];
    let hash = scene.plan(&words);
    let words = [&["restore"], &words[..], &["--in-place", "--plan", &hash]].concat();
    scene.program.ok(&words);
    assert_eq!(scene.shop.orders(), 20);
    scene.program.ok(&["rollback"]);
    drop(disk);
    scene.program.ok(&["rollback", "--discard", "--yes"]);
    // One that was mounted into what is kept since.
    fs::remove_dir(&uploads).unwrap();
    let run = scene.restore("latest");
    assert_eq!(run.code, 0, "{}", run.text());
    let srv = scene.place.join("srv");
    let inside = srv.join(&kept(&srv)[0]).join("old/shop/mounted");
    let disk = SmallDisk::mount(&inside, "size=1m").unwrap();
    fs::write(disk.path().join("only copy"), "of it").unwrap();
    let run = scene.program.run(&["rollback", "--discard", "--yes"]);
    assert_eq!(run.code, 1, "{}", run.text());
    let left = srv.join(&kept(&srv)[0]).join("old/shop/mounted/only copy");
    assert!(left.exists(), "{}", left.display());
    crate::common::mount::unmount_at_last(left.parent().unwrap());
}

/// A file takes the place of a folder that has come up under its name.
#[test]
fn what_a_selected_file_displaces_is_named_and_part_of_the_plan() {
    let scene = Scene::new();
    let note = scene.shop.folder.join("notes.txt");
    fs::remove_file(&note).unwrap();
    let till = Shop::open(&note, 3, "delete");
    let from = scene.latest_of_shop();
    let words = [from.as_str(), "--include", "notes.txt"];
    let plan = [&["restore"], &words[..], &["--in-place", "--dry-run"]].concat();
    let shown = scene.program.ok(&plan);
    assert!(
        shown.stdout.contains("notes.txt/shop.db"),
        "{}",
        shown.stdout
    );
    let hash = scene.plan(&words);
    till.sell(1);
    assert_ne!(scene.plan(&words), hash);
    let _held = till.connect();
    assert_eq!(scene.program.run(&plan).code, 20, "it is open");
}

/// In the middle of a swap a folder is missing: it must not be made anew around one file of it.
#[test]
fn nothing_is_restored_into_a_folder_whose_own_restore_is_cut_short() {
    let two = Two::cut_short();
    let note = format!("latest:{}/notes.txt", two.shop.folder.display());
    let run = two
        .program
        .run(&["restore", &note, "--in-place", "--dry-run"]);
    assert_eq!(run.code, 20, "{}", run.text());
    assert!(run.stderr.contains("interrupted restore"), "{}", run.stderr);
    two.program.ok(&["rollback"]);
    two.assert_old();
}

/// A home that is replaced holds the list of what was replaced.
#[test]
fn a_restore_is_remembered_although_the_list_itself_is_replaced() {
    let scene = Scene::new();
    let state = scene.shop.folder.join("state");
    let run = |words: &[&str]| {
        let mut command = scene.program.command(words);
        crate::common::program::Run::of(command.env("XDG_STATE_HOME", &state))
    };
    let hash = scene.plan(&["latest"]);
    let done = run(&["restore", "latest", "--in-place", "--plan", &hash]);
    assert_eq!(done.code, 0, "{}", done.text());
    let undone = run(&["rollback"]);
    assert_eq!(undone.code, 0, "{}", undone.text());
    scene.assert_old();
}

/// Cut short after the exchange, and again at the beginning of its rollback: the old still waits where the
/// copy was.
#[test]
fn a_rollback_that_was_cut_short_before_its_first_rename_is_completed() {
    let scene = Scene::new();
    let run = scene.restore("latest");
    assert_eq!(run.code, 0, "{}", run.text());
    let srv = scene.place.join("srv");
    let kept = srv.join(&kept(&srv)[0]);
    fs::rename(kept.join("old/shop"), kept.join("new/shop")).unwrap();
    fs::write(kept.join("undo"), "").unwrap();
    let run = scene.program.run(&["rollback", "--discard", "--yes"]);
    assert_eq!(
        run.code,
        20,
        "it holds what is nowhere else: {}",
        run.text()
    );
    scene.program.ok(&["rollback"]);
    scene.assert_old();
    assert_eq!(count_orders(&kept.join("new/shop/shop.db")), 20);
}

/// In a folder of somebody else's, he can put another thing under the copy's name.
#[test]
fn what_stands_under_the_name_of_the_copy_gets_neither_its_rights_nor_its_place() {
    let place = Place::new();
    let shop = Shop::open(&place.join("srv/shop"), 20, "delete");
    fs::set_permissions(&shop.folder, fs::Permissions::from_mode(0o2775)).unwrap();
    back_up(&place, &[&shop.folder]);
    shop.sell(5);
    let srv = place.join("srv");
    let end = restore_while(&place, &shop.folder, Step::Finishing, false, move || {
        let copy = srv.join(&kept(&srv)[0]);
        fs::rename(&copy, srv.join("the copy")).unwrap();
        fs::write(&copy, "#!/bin/sh").unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        fs::hard_link(&copy, srv.join("program")).unwrap();
    });
    assert!(matches!(end, Err(Error::TargetChanged { .. })), "{end:?}");
    assert_eq!(shop.orders(), 25);
    let program = fs::metadata(place.join("srv/program")).unwrap();
    assert_eq!(program.mode() & 0o7777, 0o755);
}
