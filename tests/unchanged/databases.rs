//! Which databases are not read again, and that none which holds something else is among them.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use jiff::SignedDuration;
use tillsafe::backend::Class;
use tillsafe::backend::Object;
use tillsafe::backup::Outcome;
use tillsafe::chunker::PageChunks;
use tillsafe::durable::OsDisk;

use super::{LATER, Scene};
use crate::common::library::{restore, snapshots};
use crate::common::shop::{Shop, count_orders};
use crate::common::tools::find;

/// An application in a process of its own: what it is told, it does with its one connection.
struct Application {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Application {
    fn of(database: &Path) -> Self {
        const PROGRAM: &str = "import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute('SELECT count(*) FROM sqlite_schema').fetchone()
for line in sys.stdin:
    connection.execute(line).fetchall()
    print('done', flush=True)";
        let python = find("python3").expect("python3 is on every machine that runs these tests");
        let mut child = Command::new(python)
            .args(["-I", "-c", PROGRAM])
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            orders,
            answers,
        }
    }

    fn run(&mut self, sql: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{sql}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n", "{sql}");
    }

    /// Killed, or ended as an application ends.
    fn end(mut self, killed: bool) {
        if killed {
            self.child.kill().unwrap();
        }
        self.orders = None;
        self.child.wait().unwrap();
    }
}

/// A shop that has a day behind it, backed up long after.
struct Day {
    scene: Scene,
    database: PathBuf,
    backups: i32,
}

const SALE: &str = "INSERT INTO orders(item) VALUES ('celadon')";
const RENAMED: &str = "UPDATE orders SET item = 'crackled' WHERE id = 1";

impl Day {
    fn new(mode: &str) -> Self {
        let scene = Scene::new();
        let database = scene.folder.join("shop.db");
        let python = find("python3").expect("python3 is on every machine that runs these tests");
        let script = format!(
            "import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute('PRAGMA journal_mode = {mode}')
c.execute('CREATE TABLE orders(id INTEGER PRIMARY KEY, item TEXT)')
c.execute('BEGIN')
for n in range(2000): c.execute('INSERT INTO orders(item) VALUES (hex(randomblob(30)))')
c.execute('COMMIT')
c.close()"
        );
        let status = Command::new(python)
            .args(["-I", "-c", &script])
            .arg(&database)
            .status();
        assert!(status.unwrap().success());
        Self {
            scene,
            database,
            backups: 0,
        }
    }

    /// Backs up, each time in other chunks: an image that is read again is stored again.
    fn back_up(&mut self) -> Outcome {
        self.backups += 1;
        let mut options = self.scene.options();
        let pages = usize::try_from(self.backups + 1).unwrap();
        options.sqlite.chunks = PageChunks::Fixed(pages * 4096);
        self.scene
            .back_up_by(LATER * self.backups, usize::MAX, &options)
    }

    /// Whether a backup reads it; whatever it does, the newest rows are in the newest snapshot.
    fn is_read(&mut self) -> bool {
        let outcome = self.back_up();
        let newest = snapshots(&self.scene.backend).pop().unwrap();
        assert_eq!(newest.id, outcome.snapshot.id);
        let target = self.scene.place.join("restored");
        restore(
            &self.scene.backend,
            newest,
            &self.scene.folder,
            &target,
            &OsDisk,
        )
        .unwrap();
        let python = find("python3").unwrap();
        let compare = "import sqlite3, sys
rows = [sqlite3.connect(path).execute('SELECT * FROM orders ORDER BY id').fetchall() for path in sys.argv[1:]]
sys.exit(rows[0] != rows[1])";
        let same = Command::new(python)
            .args(["-I", "-c", compare])
            .args([&self.database, &target.join("shop.db")])
            .status();
        assert!(
            same.unwrap().success(),
            "the newest snapshot holds older rows"
        );
        fs::remove_dir_all(target).unwrap();
        outcome.added.data_blobs > 1
    }
}

#[test]
fn a_database_that_stands_as_it_did_is_not_read_again() {
    for mode in ["wal", "delete"] {
        let mut day = Day::new(mode);
        assert!(day.is_read(), "{mode}");
        assert!(!day.is_read(), "{mode}");
        assert!(!day.is_read(), "{mode}");
        let described = |outcome: Outcome| outcome.manifest.databases[0].clone();
        let (one, other) = (described(day.back_up()), described(day.back_up()));
        assert!(one.point.not_before < other.point.not_before, "{mode}");
        assert_eq!(one.fingerprint, other.fingerprint);
    }
}

#[test]
fn an_application_that_only_waits_leaves_it_as_it_is() {
    let mut day = Day::new("wal");
    let mut application = Application::of(&day.database);
    application.run(SALE);
    assert!(day.is_read());
    assert!(!day.is_read());
    application.run("SELECT count(*) FROM orders");
    assert!(!day.is_read());
    // Killed, its log stays; the next one who comes reads it anew, and finds the same end.
    application.end(true);
    assert!(!day.is_read());
    assert_eq!(count_orders(&day.database), 2001);
}

/// Each ends with other rows than before, or other pages.
#[test]
fn every_commit_is_seen() {
    for mode in ["wal", "delete", "truncate", "persist"] {
        let mut day = Day::new(mode);
        let mut application = Application::of(&day.database);
        application.run(&format!("PRAGMA journal_mode = {mode}"));
        day.is_read();
        for sql in [
            SALE,
            RENAMED,
            "DELETE FROM orders WHERE id = 7",
            "VACUUM",
            SALE,
        ] {
            application.run(sql);
            assert!(day.is_read(), "{mode}: {sql}");
        }
        application.end(false);
        day.is_read();
        assert_eq!(
            day.is_read(),
            mode == "persist",
            "{mode}: a journal that stays is not believed"
        );
    }
}

/// A log that begins again and grows as long as it was: its salts are others.
#[test]
fn a_log_of_the_same_length_is_another() {
    let mut day = Day::new("wal");
    let mut application = Application::of(&day.database);
    application.run(RENAMED);
    // All of it is in the file now: the next commit begins the log again, and does not touch the file.
    application.run("PRAGMA wal_checkpoint(PASSIVE)");
    assert!(day.is_read());
    let log = || {
        fs::metadata(day.database.with_extension("db-wal"))
            .unwrap()
            .len()
    };
    let before = log();
    let written = fs::metadata(&day.database).unwrap().modified().unwrap();
    application.run("UPDATE orders SET item = 'unglazed' WHERE id = 1");
    assert_eq!(log(), before);
    assert_eq!(
        fs::metadata(&day.database).unwrap().modified().unwrap(),
        written
    );
    assert!(day.is_read());
}

#[test]
fn same_size_and_restored_times_hide_no_other_rows() {
    let mut day = Day::new("delete");
    assert!(day.is_read());
    let times = fs::metadata(&day.database).unwrap();
    let mut application = Application::of(&day.database);
    application.run(RENAMED);
    application.end(false);
    let restored = fs::FileTimes::new().set_modified(times.modified().unwrap());
    let file = fs::File::options().write(true).open(&day.database).unwrap();
    file.set_times(restored).unwrap();
    drop(file);
    let now = fs::metadata(&day.database).unwrap();
    assert_eq!(
        (now.len(), now.mtime_nsec()),
        (times.len(), times.mtime_nsec())
    );
    assert!(day.is_read());
    // Another file in its place.
    let copy = day.scene.place.join("copy");
    fs::copy(&day.database, &copy).unwrap();
    fs::rename(copy, &day.database).unwrap();
    assert!(day.is_read());
}

#[test]
fn what_was_written_just_before_is_read_again() {
    let mut day = Day::new("wal");
    let mut options = day.scene.options();
    options.sqlite.chunks = PageChunks::Fixed(4096);
    day.scene
        .back_up_by(SignedDuration::ZERO, usize::MAX, &options);
    assert!(day.is_read(), "its times do not tell yet");
    assert!(!day.is_read());
    let mut forced = day.scene.options();
    forced.recognition.force = true;
    forced.sqlite.chunks = PageChunks::Fixed(64 * 1024);
    let outcome = day.scene.back_up_by(LATER * 9, usize::MAX, &forced);
    assert!(outcome.added.data_blobs > 1, "forced");
}

#[test]
fn what_the_repository_has_lost_is_read_again() {
    let mut day = Day::new("wal");
    assert!(day.is_read());
    for (id, _) in day.scene.backend.list(Class::Data).unwrap().objects {
        day.scene
            .backend
            .delete(Object::Named(Class::Data, id))
            .unwrap();
    }
    assert!(day.is_read());
}

/// A damaged source stays suspect as long as nobody mends it.
#[test]
fn a_sick_database_is_told_each_time() {
    let scene = Scene::new();
    let shop = Shop::open(&scene.folder, 2000, "delete");
    shop.exchange_two_leaves();
    drop(shop);
    let mut findings = Vec::new();
    for number in 1..=3 {
        let outcome = scene.back_up_ahead(LATER * number);
        assert!(outcome.is_suspect(), "{number}");
        assert_eq!(outcome.added.data_blobs > 1, number == 1, "{number}");
        findings.push(outcome.manifest.warnings);
    }
    assert!(findings[0].len() == 1 && findings[1] == findings[0] && findings[2] == findings[0]);
}
