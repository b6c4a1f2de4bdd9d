//! Several databases of one moment: each transaction of an application that attaches them is in all or in none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use tillsafe::clock::{Clock, SystemClock};
use tillsafe::source::sqlite::{Options, Prepared, together};

use super::{application, begun, options};
use crate::common::Place;
use crate::common::files::files_below;
use crate::common::program::Program;

/// Two databases in WAL mode that one application changes together, and never waits for anybody: the second
/// gets many pages, so that its commit is visible long after the first one's.
const APPLICATION: &str = "
import os, sqlite3, sys, time
one, other, ready, end, pause = sys.argv[1:]
connection = sqlite3.connect(one, timeout=0, isolation_level=None)
connection.execute('ATTACH ? AS other', (other,))
connection.execute('PRAGMA synchronous = FULL')
connection.execute('PRAGMA other.synchronous = FULL')
number = 0
while not os.path.exists(end):
    connection.execute('BEGIN IMMEDIATE')
    connection.execute('INSERT INTO main.sold VALUES (NULL)')
    connection.execute('INSERT INTO other.sold VALUES (NULL)')
    connection.execute('UPDATE other.ballast SET touched = touched + 1')
    connection.execute('COMMIT')
    number += 1
    if number == 3:
        open(ready, 'w').close()
    time.sleep(float(pause))
";

struct Scene {
    place: Place,
    shop: PathBuf,
    databases: [PathBuf; 2],
}

impl Scene {
    fn new() -> Self {
        let place = Place::new();
        let shop = place.join("shop");
        fs::create_dir(&shop).unwrap();
        let databases = ["orders.db", "stock.db"].map(|name| shop.join(name));
        for database in &databases {
            let connection = Connection::open(database).unwrap();
            connection
                .query_row("PRAGMA journal_mode = wal", [], |_| Ok(()))
                .unwrap();
            connection
                .execute_batch(
                    "CREATE TABLE sold(id INTEGER PRIMARY KEY);
                     CREATE TABLE ballast(id INTEGER PRIMARY KEY, touched INTEGER, text TEXT);
                     WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
                       INSERT INTO ballast SELECT i, 0, hex(randomblob(1500)) FROM n;",
                )
                .unwrap();
        }
        Self {
            place,
            shop,
            databases,
        }
    }

    fn run(&self, script: &str, pause: &str) -> Option<Child> {
        let [ready, end] = ["ready", "end"].map(|name| self.place.join(name));
        let [one, other] = &self.databases;
        let paths = [one, other, &ready, &end].map(|path| path.as_os_str());
        let words = [&paths[..], &[pause.as_ref()]].concat();
        Some(begun(application(script, &words)?, &ready))
    }

    fn sold(&self, image: &[u8]) -> i64 {
        let copy = self.place.join("copy.db");
        fs::write(&copy, image).unwrap();
        let connection = Connection::open(&copy).unwrap();
        let count = "SELECT count(*) FROM sold";
        connection.query_row(count, [], |row| row.get(0)).unwrap()
    }

    /// What each database has sold, by captures that share a moment or follow one another.
    fn capture(&self, options: &Options, share: bool) -> Option<[i64; 2]> {
        let mut shared = together(&self.databases, options).unwrap();
        if !share {
            shared.prepared.clear();
        } else if shared.prepared.is_empty() {
            return None;
        }
        let mut moments = Vec::new();
        let sold = self.databases.each_ref().map(|path| {
            let shared = shared.prepared.remove(path);
            let prepared = shared.unwrap_or_else(|| Prepared::open(path, options).unwrap());
            let mut image = Vec::new();
            let captured = prepared.capture(options, &mut |chunk: Vec<u8>| {
                image.extend(chunk);
                Ok(())
            });
            moments.push(captured.unwrap().point);
            self.sold(&image)
        });
        assert_eq!(share, moments[0] == moments[1]);
        Some(sold)
    }
}

#[test]
fn a_transaction_over_two_databases_is_in_both_or_in_none() {
    const CAPTURES: usize = 60;
    let scene = Scene::new();
    let Some(mut application) = scene.run(APPLICATION, "0.002") else {
        return;
    };
    let options = options(scene.place.path());
    let (mut common, mut torn) = (0, 0);
    for _ in 0..CAPTURES {
        if let Some([orders, stock]) = scene.capture(&options, true) {
            assert_eq!(orders, stock, "after {common} whole ones");
            common += 1;
        }
        let [orders, stock] = scene.capture(&options, false).unwrap();
        torn += usize::from(orders != stock);
    }
    fs::write(scene.place.join("end"), b"").unwrap();
    // It has a busy timeout of zero: a lock of ours in its way would have ended it.
    assert!(application.wait().unwrap().success());
    println!(
        "{common} of {CAPTURES} had a moment in common; one after the other, {torn} were torn"
    );
    assert!(common > CAPTURES / 2, "{common}");
    assert!(torn > 0, "the application is too slow to tell anything");
}

/// A clock at whose ticks something happens: the library asks for the time between its steps.
#[derive(Debug)]
struct Meanwhile {
    tick: AtomicUsize,
    /// By the number of the tick: what is done to which database.
    acts: Vec<(usize, PathBuf, &'static str)>,
}

impl Clock for Meanwhile {
    fn now(&self) -> Timestamp {
        let tick = self.tick.fetch_add(1, Ordering::SeqCst);
        for (_, path, act) in self.acts.iter().filter(|(when, ..)| *when == tick) {
            Connection::open(path).unwrap().execute_batch(act).unwrap();
        }
        SystemClock.now()
    }

    fn sleep(&self, _: Duration) {}
}

impl Scene {
    /// Options with which that happens, counted from the first tick of the first try: 0 before any read
    /// transaction is begun, 3 between the two.
    fn options_with(&self, acts: Vec<(usize, PathBuf, &'static str)>) -> Options {
        Options {
            clock: Arc::new(Meanwhile {
                tick: AtomicUsize::new(0),
                acts,
            }),
            ..options(self.place.path())
        }
    }
}

#[test]
fn a_commit_between_the_two_beginnings_costs_that_try_and_the_next_has_both_sides() {
    const BETWEEN: usize = 3;
    let scene = Scene::new();
    let sale = "INSERT INTO sold VALUES (NULL)";
    let acts = scene.databases.iter();
    let acts = acts.map(|path| (BETWEEN, path.clone(), sale)).collect();
    let options = scene.options_with(acts);
    assert_eq!(scene.capture(&options, true), Some([1, 1]));
}

#[test]
fn what_sqlite_says_is_told_and_nobody_is_blamed_for_writing() {
    let scene = Scene::new();
    let broken = "INSERT INTO sold VALUES (NULL); PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = 'nonsense' WHERE name = 'ballast';
         PRAGMA schema_version = 1000;";
    let acts = vec![(0, scene.databases[1].clone(), broken)];
    let shared = together(&scene.databases, &scene.options_with(acts)).unwrap();
    assert!(shared.prepared.is_empty() && shared.count == 2);
    let said = shared.failed.unwrap_or_default();
    assert!(said.contains("malformed"), "{said:?}");
}

/// The repository may be slow: an application waits for none of what is in the spools.
#[test]
fn all_are_read_before_anything_that_is_spooled_is_stored() {
    let scene = Scene::new();
    let application = Connection::open(&scene.databases[1]).unwrap();
    application
        .execute("INSERT INTO sold VALUES (NULL)", [])
        .unwrap();
    let mut options = options(scene.place.path());
    options.limits.read = std::time::Duration::ZERO;
    let mut shared = together(&scene.databases, &options).unwrap();
    let restart = || -> i64 {
        let restart = "PRAGMA wal_checkpoint(RESTART)";
        application
            .query_row(restart, [], |row| row.get(0))
            .unwrap()
    };
    let mut rests = Vec::new();
    for path in &scene.databases {
        let prepared = shared.prepared.remove(path).unwrap();
        let (_, rest) = prepared
            .read(&options, &mut |_: Vec<u8>| panic!("it goes to the spool"))
            .unwrap();
        rests.extend(rest);
    }
    assert_eq!(rests.len(), 2);
    assert_eq!(restart(), 0, "nobody is in its way");
    for rest in rests {
        let mut image = Vec::new();
        rest.drain(&mut |chunk: Vec<u8>| {
            image.extend(chunk);
            Ok(())
        })
        .unwrap();
        assert!(scene.sold(&image) <= 1);
    }
}

/// Only those in WAL mode count.
#[test]
fn many_others_do_not_keep_two_from_agreeing() {
    let scene = Scene::new();
    let mut paths = scene.databases.to_vec();
    for number in 0..40 {
        let path = scene.shop.join(format!("profile-{number}.db"));
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE t(x);").unwrap();
        paths.push(path);
    }
    let shared = together(&paths, &options(scene.place.path())).unwrap();
    assert_eq!((shared.count, shared.prepared.len()), (2, 2));
}

#[test]
fn a_backup_says_which_databases_are_of_one_moment() {
    let scene = Scene::new();
    let Some(mut application) = scene.run(APPLICATION, "0.05") else {
        return;
    };
    let before = files_below(&scene.shop);
    let program = Program::with_cheap_repository(scene.place.path());
    let run = program.run(&["backup", scene.shop.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{}", run.text());
    assert!(
        run.stdout.contains("2 databases as of one moment"),
        "{}",
        run.stdout
    );
    assert_eq!(before, files_below(&scene.shop));
    let run = program.run(&["verify"]);
    assert_eq!(run.code, 0, "{}", run.text());
    fs::write(scene.place.join("end"), b"").unwrap();
    assert!(application.wait().unwrap().success());
    let manifest = manifest(&program);
    let databases = manifest["databases"].as_array().unwrap();
    assert_eq!(databases.len(), 2);
    for database in databases {
        assert_eq!(database["common_point"], true, "{database}");
        assert_eq!(database["point"], databases[0]["point"]);
    }
}

#[test]
fn where_somebody_always_writes_each_has_a_moment_of_its_own_and_that_is_said() {
    // A transaction that lasts: the writers' locks are held all the time.
    let endless = "
import os, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute('BEGIN IMMEDIATE')
connection.execute('INSERT INTO sold VALUES (NULL)')
open(sys.argv[3], 'w').close()
while not os.path.exists(sys.argv[4]):
    time.sleep(0.01)
";
    let scene = Scene::new();
    let Some(mut application) = scene.run(endless, "0") else {
        return;
    };
    let program = Program::with_cheap_repository(scene.place.path());
    let run = program.run(&["backup", scene.shop.to_str().unwrap()]);
    fs::write(scene.place.join("end"), b"").unwrap();
    assert!(application.wait().unwrap().success());
    assert_eq!(run.code, 0, "{}", run.text());
    assert!(run.stderr.contains("moment of its own"), "{}", run.stderr);
    for database in manifest(&program)["databases"].as_array().unwrap() {
        assert_eq!(database["common_point"], serde_json::Value::Null);
    }
}

/// What the last snapshot says of itself.
fn manifest(program: &Program) -> serde_json::Value {
    let place = Path::new("/").join(tillsafe::capture::manifest::FOLDER);
    let place = place.join(tillsafe::capture::manifest::FILE);
    let run = program.run(&["dump", "latest", place.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{}", run.text());
    serde_json::from_str(&run.stdout).unwrap()
}
