//! Restores over what is there: planned, consented to, swapped in, rolled back.

mod crash;
mod discard;
mod foreseen;
mod hostile;
mod meanwhile;
mod unsaved;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rusqlite::Connection;
use serde_json::Value;

use crate::cli::assert_three_parts;
use crate::common::Place;
use crate::common::compare::{describe, is_database};
use crate::common::files::{copy_folder, names_with};
use crate::common::mount::SmallDisk;
use crate::common::program::{Program, Run, Started, bare};
use crate::common::shop::{Shop, count_orders};
use crate::common::terminal::type_shown;
use crate::common::tools::{find, skipped};

/// A shop that was backed up, and went on selling.
struct Scene {
    place: Place,
    program: Program,
    shop: Shop,
}

impl Scene {
    fn new() -> Self {
        Self::in_folder("srv/shop")
    }

    fn in_folder(folder: &str) -> Self {
        let place = Place::new();
        let folder = place.join(folder);
        let shop = Shop::open(&folder, 20, "wal");
        let program = Program::with_cheap_repository(place.path());
        program.ok(&["backup", text(&folder)]);
        let scene = Self {
            place,
            program,
            shop,
        };
        scene.go_on();
        scene
    }

    /// What happens after the backup.
    fn go_on(&self) {
        self.shop.sell(5);
        fs::write(self.shop.folder.join("new.txt"), "since the backup").unwrap();
        fs::write(self.shop.folder.join("notes.txt"), "glaze: raku\n").unwrap();
        fs::remove_file(self.shop.folder.join("pictures/old/cup.jpg")).unwrap();
    }

    /// The hash that `--dry-run` prints.
    fn plan(&self, words: &[&str]) -> String {
        self.program.plan_in_place(words)
    }

    fn restore(&self, from: &str) -> Run {
        let hash = self.plan(&[from]);
        self.program
            .run(&["restore", from, "--in-place", "--plan", &hash])
    }

    fn latest_of_shop(&self) -> String {
        format!("latest:{}", self.shop.folder.display())
    }

    /// Everything as it was at the backup.
    fn assert_restored(&self) {
        assert_eq!(self.shop.orders(), 20);
        assert!(!self.shop.folder.join("new.txt").exists());
        assert!(self.shop.folder.join("pictures/old/cup.jpg").exists());
    }

    /// Everything as it was before the restore.
    fn assert_old(&self) {
        assert_eq!(self.shop.orders(), 25);
        assert_eq!(
            fs::read(self.shop.folder.join("new.txt")).unwrap(),
            b"since the backup"
        );
        assert!(!self.shop.folder.join("pictures/old/cup.jpg").exists());
    }
}

fn field(objects: &[Value], message_type: &str, name: &str) -> Value {
    let object = objects
        .iter()
        .find(|object| object["message_type"] == message_type);
    object.unwrap_or_else(|| panic!("no {message_type} in {objects:?}"))[name].clone()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn kept(folder: &Path) -> Vec<String> {
    names_with(folder, ".tillsafe-")
}

#[test]
fn a_shop_is_replaced_and_rolled_back_and_nothing_is_lost() {
    let scene = Scene::new();
    let before = describe(&scene.shop.folder, &is_database);
    let run = scene.restore("latest");
    assert_eq!(run.code, 0, "{}", run.text());
    assert!(
        run.stdout.contains("proof level: matched"),
        "{}",
        run.stdout
    );
    scene.assert_restored();
    let old = scene
        .place
        .join("srv")
        .join(&kept(&scene.place.join("srv"))[0]);
    assert_eq!(fs::metadata(&old).unwrap().mode() & 0o777, 0o700);
    assert_eq!(count_orders(&old.join("old/shop/shop.db")), 25);
    let list = scene.program.ok(&["rollback", "--list"]);
    assert!(
        list.stdout.contains("what stood there before is kept"),
        "{}",
        list.stdout
    );
    scene.shop.sell(3);
    scene.program.ok(&["rollback"]);
    scene.assert_old();
    assert_eq!(describe(&scene.shop.folder, &is_database), before);
    // What the rollback displaced has the three orders that came in between.
    assert_eq!(count_orders(&old.join("new/shop/shop.db")), 23);
    let again = scene.program.run(&["rollback"]);
    assert_eq!(again.code, 20, "{}", again.text());
    assert!(
        again.stderr.contains("already rolled back"),
        "{}",
        again.stderr
    );
    scene.assert_old();
    scene.program.ok(&["rollback", "--discard", "--yes"]);
    assert_eq!(kept(&scene.place.join("srv")), [""; 0]);
    assert_eq!(scene.program.run(&["rollback"]).code, 20);
    scene.assert_old();
}

#[test]
fn a_plan_says_what_would_be_lost_and_nothing_is_written() {
    let scene = Scene::new();
    let before = describe(&scene.place.join("srv"), &|_| false);
    let from = scene.latest_of_shop();
    let run = scene
        .program
        .ok(&["restore", &from, "--in-place", "--dry-run"]);
    for word in [
        "not in the snapshot: ",
        "shop/new.txt",
        "table orders: 25 rows now, 20 in the snapshot",
        "--in-place --plan ",
        " free",
        "  time ",
    ] {
        assert!(run.stdout.contains(word), "{word}: {}", run.stdout);
    }
    assert_eq!(describe(&scene.place.join("srv"), &|_| false), before);
    let (_, objects) = scene.program.json(&["restore", &from, "--in-place", "-n"]);
    let replaces = &field(&objects, "plan", "replaces")[0];
    assert_eq!(replaces["not_in_snapshot"]["count"], 1);
    assert_eq!(
        replaces["databases"][0]["changed_tables"][0]["rows_now"],
        25
    );
    // A plan for a new target has a hash too, and holds as long as the target is as it was.
    let target = scene.place.join("target");
    let (_, objects) = scene
        .program
        .json(&["restore", &from, "--target", text(&target), "-n"]);
    let hash = field(&objects, "plan", "plan");
    let words = [
        "restore",
        &from,
        "--target",
        text(&target),
        "--plan",
        hash.as_str().unwrap(),
    ];
    fs::create_dir(&target).unwrap();
    assert_eq!(scene.program.run(&words).code, 20);
    fs::remove_dir(&target).unwrap();
    scene.program.ok(&words);
}

#[test]
fn without_consent_or_with_a_stale_plan_nothing_is_touched() {
    let scene = Scene::new();
    let from = scene.latest_of_shop();
    let run = scene.program.run(&["restore", &from, "--in-place"]);
    assert_eq!(run.code, 20, "{}", run.text());
    assert!(run.stderr.contains("nobody has agreed"), "{}", run.stderr);
    let hash = scene.plan(&[&from]);
    let wrong = "0".repeat(16);
    for (hash, code) in [(wrong.as_str(), 20), ("12ab", 2)] {
        let run = scene
            .program
            .run(&["restore", &from, "--in-place", "--plan", hash]);
        assert_eq!(run.code, code, "{}", run.text());
    }
    // What would be replaced has changed: a file's bytes, a name more, another mode.
    let note = scene.shop.folder.join("notes.txt");
    let changes: [&dyn Fn(); 3] = [
        &|| fs::write(&note, "sold out").unwrap(),
        &|| fs::write(scene.shop.folder.join("pictures/x"), "").unwrap(),
        &|| fs::set_permissions(&note, fs::Permissions::from_mode(0o600)).unwrap(),
    ];
    let mut stale = hash;
    for change in changes {
        change();
        let run = scene
            .program
            .run(&["restore", &from, "--in-place", "--plan", &stale]);
        assert_eq!(run.code, 20, "{}", run.text());
        assert!(run.stderr.contains("no longer holds"), "{}", run.stderr);
        stale = scene.plan(&[&from]);
    }
    // Another snapshot is another plan.
    scene.program.ok(&["backup", text(&scene.shop.folder)]);
    assert_eq!(
        scene
            .program
            .run(&["restore", &from, "--in-place", "--plan", &stale])
            .code,
        20
    );
    scene.assert_old();
    assert_eq!(kept(&scene.place.join("srv")), [""; 0]);
}

#[test]
fn consent_is_the_name_typed_at_a_terminal() {
    let scene = Scene::new();
    let from = scene.latest_of_shop();
    let answer = |typed: &str, more: &[&str]| {
        let words = [&["--color", "never", "restore", &from, "--in-place"], more].concat();
        type_shown(&scene.program.command(&words), "to replace it: ", typed)
    };
    let folder = text(&scene.shop.folder);
    for (typed, more) in [
        ("yes", &[][..]),
        ("", &[]),
        ("/", &[]),
        (folder, &["--no-input"]),
    ] {
        let Some(run) = answer(typed, more) else {
            return skipped("a typed consent", "there is no python3");
        };
        assert_eq!(run.code, 20, "{typed:?}: {}", run.text());
        let answered = format!("(the answer was {typed})");
        let is_wrong = more.is_empty() && !typed.is_empty();
        assert_eq!(run.text().contains(&answered), is_wrong, "{}", run.text());
        scene.assert_old();
    }
    // Ctrl-C is an answer too.
    let run = answer("\u{3}", &[]).unwrap();
    assert_eq!(run.code, 130, "{}", run.text());
    assert_three_parts(&run.text().replace('\r', ""));
    scene.assert_old();
    // As a shell completes it.
    let run = answer(&format!("{folder}/"), &[]).unwrap();
    assert_eq!(run.code, 0, "{}", run.text());
    scene.assert_restored();
}

/// Killed, it is at work no more, and nobody knows yet what its log holds.
#[test]
fn a_plan_says_why_rows_are_not_counted_and_how_they_are() {
    let scene = Scene::new();
    let Some(sqlite3) = find("sqlite3") else {
        return skipped("rows that are not counted", "sqlite3 is needed to close it");
    };
    let planned = || scene.program.ok(&["restore", "latest", "--in-place", "-n"]);
    leave_as_after_a_crash(&scene.shop, &scene.place.join("crashed"), "wal");
    let run = planned();
    assert!(
        run.stdout
            .contains("nobody has it open, but it was not closed"),
        "{}",
        run.stdout
    );
    let (_, objects) = scene
        .program
        .json(&["restore", "latest", "--in-place", "-n"]);
    let database = &field(&objects, "plan", "replaces")[0]["databases"][0];
    assert_eq!(database["not_counted"], "log_left", "{database}");
    // As the plan says.
    let command = run.stdout.split("as its owner, sqlite3 ").nth(1).unwrap();
    let command = command.split(" brings them in").next().unwrap();
    let closed = Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("{} {command}", sqlite3.display()))
        .output()
        .unwrap();
    assert!(closed.status.success(), "{closed:?}");
    let run = planned();
    assert!(
        run.stdout
            .contains("table orders: 25 rows now, 20 in the snapshot"),
        "{}",
        run.stdout
    );
}

#[test]
fn a_database_that_is_open_is_not_replaced_and_its_holder_named() {
    let scene = Scene::new();
    let Some(sqlite3) = find("sqlite3") else {
        return skipped("an open database", "sqlite3 is needed to hold it open");
    };
    for from in [
        "latest".to_owned(),
        format!("latest:{}", scene.shop.database.display()),
    ] {
        let hash = scene.plan(&[&from]);
        let mut holder = Command::new(&sqlite3)
            .arg(&scene.shop.database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        {
            use std::io::{BufRead, BufReader, Write};
            let stdin = holder.stdin.as_mut().unwrap();
            writeln!(stdin, "SELECT count(*) FROM orders;").unwrap();
            let mut line = String::new();
            BufReader::new(holder.stdout.as_mut().unwrap())
                .read_line(&mut line)
                .unwrap();
            assert_eq!(line.trim(), "25");
        }
        for words in [["--plan", hash.as_str()].as_slice(), &["--dry-run"]] {
            let run = scene
                .program
                .run(&[&["restore", &from, "--in-place"], words].concat());
            assert_eq!(run.code, 20, "{}", run.text());
            if words[0] == "--dry-run" {
                let name = format!("sqlite3 (process {})", holder.id());
                assert!(run.stderr.contains(&name), "{}", run.text());
            }
        }
        drop(holder.stdin.take());
        holder.wait().unwrap();
        scene.assert_old();
    }
    let run = scene.restore("latest");
    assert_eq!(run.code, 0, "{}", run.text());
    // Nor does a rollback take it away from under somebody.
    let held = scene.shop.connect();
    let run = scene.program.run(&["rollback"]);
    assert_eq!(run.code, 20, "{}", run.text());
    assert!(
        run.stderr
            .contains(&format!("process {}", std::process::id())),
        "{}",
        run.stderr
    );
    drop(held);
    scene.program.ok(&["rollback"]);
    scene.assert_old();
}

/// The old log belongs to the old database: beside the new one it would be played into it.
#[test]
fn a_database_alone_is_replaced_with_its_log_and_journal() {
    for mode in ["wal", "delete"] {
        let place = Place::new();
        let shop = Shop::open(&place.join("shop"), 20, mode);
        let program = Program::with_cheap_repository(place.path());
        program.ok(&["backup", text(&shop.folder)]);
        shop.sell(5);
        // As after a crash of the application: a log with orders in it, or a hot journal.
        let crashed = place.join("crashed");
        leave_as_after_a_crash(&shop, &crashed, mode);
        let names = names_with(&shop.folder, "shop.db");
        assert!(names.len() >= 2, "{names:?}");
        let from = format!("latest:{}", shop.database.display());
        let hash = program.plan_in_place(&[&from]);
        program.ok(&["restore", &from, "--in-place", "--plan", &hash]);
        assert_eq!(names_with(&shop.folder, "shop.db"), ["shop.db"]);
        assert_eq!(shop.orders(), 20, "{mode}");
        shop.sell(1);
        let held = shop.connect();
        shop.sell(1);
        drop(held);
        program.ok(&["rollback", text(&shop.database)]);
        assert_eq!(shop.orders(), 25, "{mode}");
        let integrity: String = Connection::open(&shop.database)
            .unwrap()
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(integrity, "ok");
    }
}

/// Puts the database in a state that only its side file makes whole: the files of a connection in the
/// middle of its work.
fn leave_as_after_a_crash(shop: &Shop, aside: &Path, mode: &str) {
    let connection = Connection::open(&shop.database).unwrap();
    if mode == "wal" {
        // The five orders are in the log only.
        connection.execute_batch("PRAGMA wal_autocheckpoint = 0; BEGIN IMMEDIATE; UPDATE orders SET item = item || '!'; COMMIT;").unwrap();
    } else {
        connection.execute_batch("PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN IMMEDIATE; UPDATE orders SET item = 'gone'; DELETE FROM orders WHERE id > 2;").unwrap();
    }
    copy_folder(&shop.folder, aside);
    drop(connection);
    fs::remove_dir_all(&shop.folder).unwrap();
    fs::rename(aside, &shop.folder).unwrap();
}

#[test]
fn one_file_or_a_link_is_replaced_and_the_rest_stays() {
    let scene = Scene::new();
    let note = scene.shop.folder.join("notes.txt");
    let link = scene.shop.folder.join("main.jpg");
    fs::remove_file(&link).unwrap();
    symlink("elsewhere", &link).unwrap();
    for path in [&note, &link] {
        let from = format!("latest:{}", path.display());
        let run = scene.restore(&from);
        assert_eq!(run.code, 0, "{}", run.text());
    }
    assert_eq!(
        fs::read_to_string(&note).unwrap(),
        "glaze: celadon\n".repeat(2000)
    );
    assert_eq!(
        fs::read_link(&link).unwrap(),
        Path::new("pictures/teapot.jpg")
    );
    assert_eq!(scene.shop.orders(), 25, "the database stays");
    assert!(scene.shop.folder.join("new.txt").exists());
    // The file that was deleted comes back; nothing stood there, so nothing is kept of it.
    let cup = scene.shop.folder.join("pictures/old/cup.jpg");
    let run = scene.restore(&format!("latest:{}", cup.display()));
    assert_eq!(run.code, 0, "{}", run.text());
    assert!(cup.exists() && kept(cup.parent().unwrap()).is_empty());
    scene.program.ok(&["rollback", text(&link)]);
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("elsewhere"));
    assert_eq!(
        fs::read_to_string(&note).unwrap(),
        "glaze: celadon\n".repeat(2000)
    );
    scene.program.ok(&["rollback", text(&note)]);
    assert_eq!(fs::read_to_string(&note).unwrap(), "glaze: raku\n");
}

#[test]
fn restores_are_taken_back_last_to_first() {
    let scene = Scene::new();
    assert_eq!(scene.restore("latest").code, 0);
    scene.shop.sell(2);
    let database = format!("latest:{}", scene.shop.database.display());
    assert_eq!(scene.restore(&database).code, 0);
    assert_eq!(scene.shop.orders(), 20);
    // The one of the database lies in the folder that the other would take away.
    let run = scene.program.run(&["rollback", text(&scene.shop.folder)]);
    assert_eq!(run.code, 20, "{}", run.text());
    assert!(run.stderr.contains("last to first"), "{}", run.stderr);
    assert_eq!(scene.shop.orders(), 20);
    // It is not a part of the next backup, and no news for cron.
    let run = scene
        .program
        .ok(&["-q", "backup", text(&scene.shop.folder)]);
    assert_eq!(run.text(), "");
    scene.program.ok(&["rollback"]);
    assert_eq!(scene.shop.orders(), 22);
    scene.program.ok(&["rollback", text(&scene.shop.folder)]);
    scene.assert_old();
    // The other's copy went along; nobody misses it.
    let listed = scene.program.ok(&["rollback", "--list"]);
    assert_eq!(listed.stderr, "");
    assert!(
        listed.stdout.contains("1 restore in place"),
        "{}",
        listed.stdout
    );
}

/// What lies on a disk that is not mounted now may be the last: an earlier one is not undone for it.
#[test]
fn a_restore_whose_kept_copy_is_not_there_is_not_passed_over() {
    let place = Place::new();
    let earlier = Shop::open(&place.join("srv/shop"), 5, "delete");
    let later = Shop::open(&place.join("mnt/shop"), 7, "delete");
    let program = Program::with_cheap_repository(place.path());
    for shop in [&earlier, &later] {
        program.ok(&["backup", text(&shop.folder)]);
        shop.sell(1);
        let from = format!("latest:{}", shop.folder.display());
        let plan = program.plan_in_place(&[&from]);
        program.ok(&["restore", &from, "--in-place", "--plan", &plan]);
    }
    let (mounted, away) = (place.join("mnt"), place.join("away"));
    fs::rename(&mounted, &away).unwrap();
    fs::create_dir(&mounted).unwrap();
    let run = program.run(&["rollback"]);
    assert_eq!(run.code, 20, "{}", run.text());
    assert!(run.stderr.contains("mount its disk"), "{}", run.stderr);
    assert_eq!(earlier.orders(), 5);
    // Forgotten as the message says, the earlier one is the last that is known.
    let name = run.stderr.split("--discard ").nth(1).unwrap();
    let name = name.split('`').next().unwrap();
    program.ok(&["rollback", "--discard", name]);
    program.ok(&["rollback"]);
    assert_eq!(earlier.orders(), 6);
    fs::remove_dir(&mounted).unwrap();
    fs::rename(&away, &mounted).unwrap();
    program.ok(&["rollback", text(&later.folder)]);
    assert_eq!(later.orders(), 8);
}

#[test]
fn what_is_gone_altogether_is_restored_in_place() {
    let scene = Scene::new();
    fs::remove_dir_all(scene.place.join("srv")).unwrap();
    let run = scene.restore("latest");
    assert_eq!(run.code, 0, "{}", run.text());
    scene.assert_restored();
    assert_eq!(
        kept(&scene.place.join("srv")),
        [""; 0],
        "nothing stood there"
    );
}

#[test]
fn a_root_behind_a_link_is_replaced_where_it_really_is() {
    let place = Place::new();
    let shop = Shop::open(&place.join("disk/shop"), 20, "delete");
    fs::create_dir(place.join("srv")).unwrap();
    let link = place.join("srv/shop");
    symlink(&shop.folder, &link).unwrap();
    let program = Program::with_cheap_repository(place.path());
    program.ok(&["backup", text(&link)]);
    shop.sell(5);
    let hash = program.plan_in_place(&["latest"]);
    program.ok(&["restore", "latest", "--in-place", "--plan", &hash]);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(shop.orders(), 20);
    assert_eq!(kept(&place.join("srv")), [""; 0]);
    program.ok(&["rollback", text(&link)]);
    assert_eq!(shop.orders(), 25);
}

#[test]
fn what_is_selected_is_replaced_and_what_is_not_stays() {
    let scene = Scene::new();
    let folder = &scene.shop.folder;
    fs::write(folder.join("pictures/new.jpg"), "since the backup").unwrap();
    fs::write(folder.join("pictures/teapot.jpg"), "broken").unwrap();
    fs::remove_dir_all(folder.join("pictures/old")).unwrap();
    let from = scene.latest_of_shop();
    let jpg: &[&str] = &[&from, "--include", "*.jpg"];
    let (_, objects) = scene
        .program
        .json(&[&["restore"], jpg, &["--in-place", "-n"]].concat());
    let replaces = &field(&objects, "plan", "replaces")[0];
    assert_eq!(replaces["not_in_snapshot"]["count"], 0, "{replaces}");
    let hash = field(&objects, "plan", "plan");
    let words = [
        &["restore"],
        jpg,
        &["--in-place", "--plan", hash.as_str().unwrap()],
    ]
    .concat();
    scene.program.ok(&words);
    assert_eq!(
        fs::metadata(folder.join("pictures/teapot.jpg"))
            .unwrap()
            .len(),
        700_000
    );
    assert!(
        folder.join("pictures/old/cup.jpg").exists(),
        "with its folder"
    );
    assert!(
        folder.join("pictures/new.jpg").exists(),
        "it was not asked for"
    );
    assert!(folder.join("new.txt").exists());
    assert_eq!(scene.shop.orders(), 25);
    scene.program.ok(&["rollback"]);
    assert_eq!(
        fs::read(folder.join("pictures/teapot.jpg")).unwrap(),
        b"broken"
    );
    assert!(!folder.join("pictures/old").exists());
    // One database out of many, and all but the pictures; patterns mean the same from `/`.
    for words in [
        &["latest", "--include", "shop.db"][..],
        &[&from, "--exclude", "pictures", "--exclude", "*.txt"],
    ] {
        let hash = scene.plan(words);
        scene
            .program
            .ok(&[&["restore"], words, &["--in-place", "--plan", &hash]].concat());
        assert_eq!(scene.shop.orders(), 20, "{words:?}");
        assert_eq!(
            fs::read(folder.join("pictures/teapot.jpg")).unwrap(),
            b"broken"
        );
        assert_eq!(
            fs::read_to_string(folder.join("notes.txt")).unwrap(),
            "glaze: raku\n"
        );
        scene.program.ok(&["rollback"]);
        assert_eq!(scene.shop.orders(), 25, "{words:?}");
        scene.program.ok(&["rollback", "--discard", "--all", "-y"]);
    }
    let run = scene
        .program
        .run(&["restore", &from, "--include", "*.gif", "--in-place", "-n"]);
    assert_eq!(run.code, 13, "{}", run.text());
    assert_eq!(kept(&scene.place.join("srv")), [""; 0]);
}

/// Hours may lie between the plan and the swap.
#[test]
fn a_restore_in_place_goes_on_from_what_was_staged() {
    let scene = Scene::new();
    let large = scene.shop.folder.join("large");
    fs::write(&large, crate::common::shop::noise(3, 60 << 20)).unwrap();
    scene.program.ok(&["backup", text(&scene.shop.folder)]);
    fs::write(&large, "gone").unwrap();
    let hash = scene.plan(&["latest"]);
    let words = ["restore", "latest", "--in-place", "--plan", &hash];
    let mut started = Started::of(&mut scene.program.command(&words));
    let srv = scene.place.join("srv");
    let staged = || {
        let stage = names_with(&srv, ".tillsafe-stage-");
        let large = stage.first().map(|stage| srv.join(stage).join("large"));
        large.is_some_and(|large| fs::metadata(large).is_ok_and(|large| large.len() > 8 << 20))
    };
    if started.comes("a part of the copy", staged) {
        started.signal(rustix::process::Signal::INT);
    }
    let run = started.finish();
    if run.code == 130 {
        assert!(run.stderr.contains("stay here"), "{}", run.stderr);
        assert_eq!(fs::read(&large).unwrap(), b"gone");
    }
    assert_eq!(
        scene.plan(&["latest"]) == hash,
        run.code == 130,
        "what is staged changes no plan"
    );
    if run.code == 130 {
        scene.program.ok(&words);
    }
    assert_eq!(fs::metadata(&large).unwrap().len(), 60 << 20);
}

#[test]
fn several_paths_are_one_restore() {
    let place = Place::new();
    let shop = Shop::open(&place.join("srv/shop"), 20, "wal");
    let till = Shop::open(&place.join("var/till"), 7, "delete");
    fs::create_dir_all(place.join("etc/shop")).unwrap();
    let settings = place.join("etc/shop/settings");
    fs::write(&settings, "open = true").unwrap();
    let program = Program::with_cheap_repository(place.path());
    program.ok(&[
        "backup",
        text(&shop.folder),
        text(&till.folder),
        text(&settings),
    ]);
    shop.sell(5);
    till.sell(5);
    fs::write(&settings, "open = false").unwrap();
    let hash = program.plan_in_place(&["latest"]);
    let run = program.ok(&["restore", "latest", "--in-place", "--plan", &hash]);
    assert!(run.stdout.contains("srv/shop, "), "{}", run.stdout);
    assert_eq!((shop.orders(), till.orders()), (20, 7));
    assert_eq!(fs::read_to_string(&settings).unwrap(), "open = true");
    program.ok(&["rollback"]);
    assert_eq!((shop.orders(), till.orders()), (25, 12));
    assert_eq!(fs::read_to_string(&settings).unwrap(), "open = false");
    // A path above replaces what the snapshot was made of, and nothing else that lies there.
    fs::write(place.join("srv/other"), "somebody else's").unwrap();
    let above = format!("latest:{}", place.join("srv").display());
    let hash = program.plan_in_place(&[&above]);
    program.ok(&["restore", &above, "--in-place", "--plan", &hash]);
    assert_eq!((shop.orders(), till.orders()), (20, 12));
    assert!(place.join("srv/other").exists());
}

#[test]
fn a_mount_point_is_replaced_name_by_name() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(&place.join("mnt"), "size=64m") else {
        return skipped("a mount point in place", "mounting needs root");
    };
    let shop = Shop::open(disk.path(), 20, "wal");
    let program = Program::with_cheap_repository(place.path());
    program.ok(&["backup", text(disk.path())]);
    shop.sell(5);
    fs::write(disk.path().join("new.txt"), "new").unwrap();
    fs::create_dir(disk.path().join("lost+found")).unwrap();
    let hash = program.plan_in_place(&["latest"]);
    program.ok(&["restore", "latest", "--in-place", "--plan", &hash]);
    assert_eq!(shop.orders(), 20);
    assert!(!disk.path().join("new.txt").exists());
    assert_eq!(kept(disk.path()).len(), 1);
    // The kept copy is not part of the next backup.
    let run = program.ok(&["backup", text(disk.path())]);
    assert!(!run.stderr.contains(".tillsafe"), "{}", run.text());
    let listed = program.ok(&["ls", "latest"]);
    assert!(
        !listed.stdout.contains(".tillsafe-kept"),
        "{}",
        listed.stdout
    );
    fs::write(disk.path().join("later.txt"), "later").unwrap();
    program.ok(&["rollback", text(disk.path())]);
    assert_eq!(shop.orders(), 25);
    assert!(disk.path().join("new.txt").exists());
    assert!(
        !disk.path().join("later.txt").exists(),
        "displaced with the rest"
    );
    let old = disk.path().join(&kept(disk.path())[0]);
    assert!(old.join("new/later.txt").exists());
}

#[test]
fn access_lists_are_those_of_the_snapshot() {
    use rustix::fs::{XattrFlags, getxattr, removexattr, setxattr};
    const NAME: &str = "system.posix_acl_access";
    // Version 2, then tag, rights and id of: owner rw-, user 65534 r--, group r--, mask r--, others ---
    let list = [
        0x02, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 0xfe, 0xff, 0, 0, 4, 0, 4, 0,
        255, 255, 255, 255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
    ];
    let scene = Scene::new();
    let note = scene.shop.folder.join("notes.txt");
    let set = |name: &str, value: &[u8]| setxattr(&note, name, value, XattrFlags::empty());
    if set(NAME, &list).is_err() {
        return skipped("access lists", "this file system has none");
    }
    let label = b"system_u:object_r:httpd_sys_content_t:s0\0";
    set("security.selinux", label).expect("the tests run as root");
    let there = |name: &str| {
        let mut value = [0; 256];
        let length = getxattr(&note, name, &mut value[..]).ok()?;
        Some(value[..length].to_vec())
    };
    scene.program.ok(&["backup", text(&scene.shop.folder)]);
    let run = scene.restore(
        &scene.program.json(&["snapshots"]).1[0]["id"]
            .as_str()
            .unwrap()[..8],
    );
    assert_eq!(run.code, 0, "{}", run.text());
    scene.assert_restored();
    assert_eq!(there(NAME), None, "nobody had it at the backup");
    // Nothing works without a label where labels count, so what is there is kept if the snapshot has none.
    assert_eq!(there("security.selinux"), Some(label.to_vec()));
    assert_eq!(fs::metadata(&note).unwrap().mode() & 0o777, 0o644);
    removexattr(&note, "security.selinux").unwrap();
    let run = scene.restore("latest");
    assert_eq!(run.code, 0, "{}", run.text());
    assert_eq!(there(NAME), Some(list.to_vec()));
    assert_eq!(there("security.selinux"), Some(label.to_vec()));
    assert_eq!(fs::metadata(&note).unwrap().mode() & 0o777, 0o640);
}

#[test]
fn too_little_room_is_told_before_anything_is_written() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(&place.join("mnt"), "size=1m") else {
        return skipped("a disk without room for both", "mounting needs root");
    };
    let folder = disk.path().join("shop");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("large"), vec![7; 700_000]).unwrap();
    let program = Program::with_cheap_repository(place.path());
    program.ok(&["backup", text(&folder)]);
    let run = program.run(&["restore", "latest", "--in-place", "--dry-run"]);
    assert_eq!(run.code, 20, "{}", run.text());
    assert!(run.stderr.contains("more"), "{}", run.stderr);
    assert_eq!(kept(disk.path()), [""; 0]);
}

#[test]
fn the_whole_machine_and_the_repository_itself_are_refused() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 5, "delete");
    let program = Program {
        repository: shop.folder.join("backup"),
        password_file: place.join("password"),
    };
    program.ok(&["init"]);
    program.ok(&["backup", text(&shop.folder)]);
    let run = program.run(&["restore", "latest", "--in-place", "--dry-run"]);
    assert_eq!(run.code, 20, "{}", run.text());
    assert!(run.stderr.contains("repository"), "{}", run.stderr);
    let run = Run::of(bare().args(["rollback", "/"]));
    assert_eq!(run.code, 20, "{}", run.text());
}

/// Another user's folder by that name is not obeyed.
#[test]
fn a_journal_that_somebody_else_could_have_written_is_not_obeyed() {
    let scene = Scene::new();
    let run = scene.restore("latest");
    assert_eq!(run.code, 0, "{}", run.text());
    let folder = scene.place.join("srv");
    let old: PathBuf = folder.join(&kept(&folder)[0]);
    fs::set_permissions(&old, fs::Permissions::from_mode(0o777)).unwrap();
    let run = scene.program.run(&["rollback", text(&scene.shop.folder)]);
    assert_eq!(run.code, 20, "{}", run.text());
    fs::set_permissions(&old, fs::Permissions::from_mode(0o700)).unwrap();
    // Nor one that speaks of another place than where it lies.
    let moved = scene.place.join("moved");
    fs::create_dir(&moved).unwrap();
    fs::rename(&old, moved.join(old.file_name().unwrap())).unwrap();
    let run = scene.program.run(&["rollback", text(&moved.join("shop"))]);
    assert_eq!(run.code, 20, "{}", run.text());
    scene.assert_restored();
}
