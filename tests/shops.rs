//! Whole shops, through the built program: a real sample database, and a generated one of 1 GiB.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;
use tillsafe::id::{Hasher, Id};

use crate::common::Place;
use crate::common::compare::describe;
use crate::common::measure::{Measured, measured};
use crate::common::program::{Program, Run};
use crate::common::shop::noise;
use crate::common::tools::skipped;

/// The most memory that any process of ours may take for any shop.
const MEMORY_LIMIT: u64 = 200 << 20;
/// It takes seconds; this is for a machine that does much else.
const PATIENCE: Duration = Duration::from_mins(10);

fn hash(path: &Path) -> Id {
    use std::io::Read;
    let mut file = fs::File::open(path).unwrap();
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer).unwrap();
        if length == 0 {
            return hasher.finish();
        }
        hasher.update(&buffer[..length]);
    }
}

#[test]
fn the_chinook_shop_comes_back() {
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/chinook/Chinook_Sqlite.sqlite");
    if !source.is_file() {
        // Not part of the project, so no machine owes it to us: loud, but no failure even in CI.
        eprintln!("SKIPPED: the Chinook shop: its sample data does not lie beside the checkout");
        return;
    }
    let place = Place::new();
    let shop = place.join("chinook");
    fs::create_dir(&shop).unwrap();
    fs::copy(&source, shop.join("Chinook.sqlite")).unwrap();
    let before = hash(&source);
    let program = Program::with_repository(place.path());
    program.ok(&["backup", shop.to_str().unwrap()]);
    fs::remove_dir_all(&shop).unwrap();
    let from = format!("latest:{}", shop.display());
    program.ok(&["restore", &from, "--target", shop.to_str().unwrap()]);
    assert_eq!(hash(&shop.join("Chinook.sqlite")), before);
    let (code, objects) = program.json(&["verify"]);
    let summary = objects.last().unwrap();
    assert_eq!(
        (code, summary["proof_level"].as_str()),
        (0, Some("matched"))
    );
    assert_eq!(summary["databases"][0]["rows"], 15_607);
    let tracks: i64 = Connection::open(shop.join("Chinook.sqlite"))
        .unwrap()
        .query_row("SELECT count(*) FROM Track", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tracks, 3503);
}

/// A shop in WAL mode, a little over 1 GiB: so that the page that SQLite keeps for its locks, at
/// exactly 1 GiB, is in it. Returns its number of orders.
fn make_large_shop(database: &Path) -> i64 {
    const BYTES: i64 = (1 << 30) + (40 << 20);
    let words = String::from_utf8_lossy(&noise(3, 40_000))
        .replace(|letter: char| !letter.is_ascii_alphabetic(), " ");
    let mut connection = Connection::open(database).unwrap();
    connection.execute_batch("PRAGMA journal_mode = off; PRAGMA synchronous = off; CREATE TABLE orders(id INTEGER PRIMARY KEY, customer INTEGER, note TEXT, slip BLOB); CREATE TABLE notes(text TEXT)").unwrap();
    let transaction = connection.transaction().unwrap();
    let mut orders = 0;
    {
        let mut insert = transaction
            .prepare("INSERT INTO orders(customer, note, slip) VALUES (?1, ?2, ?3)")
            .unwrap();
        let mut bytes = 0;
        while bytes < BYTES {
            let number = usize::try_from(orders).unwrap();
            let note = &words[number * 7 % 30_000..][..600 + number % 400];
            insert
                .execute((orders % 5000, note, noise(number as u64, 120)))
                .unwrap();
            bytes += i64::try_from(note.len()).unwrap() + 135;
            orders += 1;
        }
    }
    transaction.commit().unwrap();
    connection
        .execute_batch("CREATE INDEX orders_by_customer ON orders(customer)")
        .unwrap();
    connection
        .query_row("PRAGMA journal_mode = wal", [], |_| Ok(()))
        .unwrap();
    orders
}

/// A memory cgroup of the limit, removed at the end; `None` where none can be made.
struct Cage(PathBuf);

impl Cage {
    fn make() -> Option<Self> {
        let name = format!("tillsafe-test-{}", std::process::id());
        for (root, limit) in [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ] {
            let folder = Path::new(root).join(&name);
            if fs::create_dir(&folder).is_ok() {
                let cage = Self(folder);
                if fs::write(cage.0.join(limit), MEMORY_LIMIT.to_string()).is_ok() {
                    return Some(cage);
                }
            }
        }
        None
    }

    /// The command, started inside.
    fn command(&self, inner: &Command) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            .env_clear()
            .args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""])
            .arg(&self.0);
        command.arg(inner.get_program()).args(inner.get_args());
        command
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Nobody sits before "100 %" and waits: no step does more than its total, none tells of the same for
/// seconds once its total is reached, and each that takes long has a name.
fn assert_progress(objects: &[Value]) {
    let mut still = 0;
    let (mut steps, mut last): (Vec<String>, Value) = (Vec::new(), Value::Null);
    let statuses = objects
        .iter()
        .filter(|object| object["message_type"] == "status");
    for status in statuses {
        let step = status["step"].as_str().unwrap().to_owned();
        let (done, total) = (&status["bytes_done"], &status["bytes_total"]);
        if let (Some(done), Some(total)) = (done.as_u64(), total.as_u64()) {
            assert!(done <= total, "{status}");
        }
        let is_full = done == total && status["step"] == last["step"];
        still = if is_full { still + 1 } else { 0 };
        // A status comes twice a second.
        assert!(still < 6, "100 % and nothing goes on: {status}");
        if steps.last() != Some(&step) {
            steps.push(step);
        }
        last = status.clone();
    }
    println!("steps told: {steps:?}");
    assert!(steps.len() >= 2, "{steps:?}");
}

/// As many files as a shop with pictures has, small ones; and two logs.
#[test]
fn twenty_five_thousand_files_come_back() {
    let place = Place::new();
    let shop = place.join("shop");
    fs::create_dir(&shop).unwrap();
    for folder in 0..100_u64 {
        let path = shop.join(format!("pictures/{:02}/{folder:02}", folder % 10));
        fs::create_dir_all(&path).unwrap();
        for number in 0..250 {
            let seed = folder * 250 + number;
            let length = usize::try_from(100 + seed * 37 % 6000).unwrap();
            let file = path.join(format!("{number}.jpg"));
            fs::write(&file, noise(seed, length)).unwrap();
        }
    }
    for name in ["access.log", "error.log"] {
        fs::write(shop.join(name), "GET /teapot 200\n".repeat(1_000_000)).unwrap();
    }
    let program = Program::with_cheap_repository(place.path());
    program.ok(&["backup", shop.to_str().unwrap()]);
    let before = describe(&shop, &|_| false);
    assert!(before.len() > 25_000);
    let from = format!("latest:{}", shop.display());
    let target = place.join("target");
    let words = ["restore", &from, "--target", target.to_str().unwrap()];
    let (code, objects) = program.json(&words);
    assert_eq!(code, 0);
    assert_progress(&objects);
    assert_eq!(describe(&target, &|_| false), before);
    fs::remove_dir_all(&target).unwrap();
    fs::remove_dir_all(shop.join("pictures/03")).unwrap();
    fs::write(shop.join("error.log"), "").unwrap();
    let plan = program.plan_in_place(&[&from]);
    let words = ["restore", &from, "--in-place", "--plan", &plan];
    let (code, objects) = program.json(&words);
    assert_eq!(code, 0, "{objects:?}");
    assert_progress(&objects);
    assert_eq!(describe(&shop, &|_| false), before);
}

#[test]
fn a_shop_of_one_gibibyte_comes_back_in_bounded_memory() {
    let place = Place::new();
    let shop = place.join("shop");
    fs::create_dir(&shop).unwrap();
    let database = shop.join("shop.db");
    let orders = make_large_shop(&database);
    let size = fs::metadata(&database).unwrap().len();
    assert!(size > (1 << 30) + 4096, "the lock page is in it");
    let before = hash(&database);
    let program = Program::with_repository(place.path());
    let within_limit = |words: &[&str]| {
        let Measured { run, peak, .. } = measured(&program.command(words), PATIENCE);
        assert_eq!(run.code, 0, "{words:?}: {}{}", run.stdout, run.stderr);
        println!("{words:?}: peak {} MiB", peak >> 20);
        assert!(peak < MEMORY_LIMIT, "{words:?} took {peak} bytes");
        if words[0] == "--json" {
            assert_progress(&run.objects());
        }
    };
    within_limit(&["backup", shop.to_str().unwrap()]);
    // Over what stands there, and into a new place.
    let other = Connection::open(&database).unwrap();
    other
        .execute_batch("DELETE FROM orders WHERE id < 1000")
        .unwrap();
    drop(other);
    let from = format!("latest:{}", shop.display());
    let plan = program.plan_in_place(&[&from]);
    let words = ["--json", "restore", &from, "--in-place", "--plan", &plan];
    within_limit(&words);
    assert_eq!(hash(&database), before);
    fs::remove_dir_all(&shop).unwrap();
    within_limit(&["restore", &from, "--target", shop.to_str().unwrap()]);
    assert_eq!(fs::metadata(&database).unwrap().len(), size);
    assert_eq!(hash(&database), before);
    let connection = Connection::open(&database).unwrap();
    let found: i64 = connection
        .query_row("SELECT count(*) FROM orders", [], |row| row.get(0))
        .unwrap();
    assert_eq!(found, orders);
    drop(connection);
    within_limit(&["check", "--read-data"]);
    in_a_cage(&program, &shop, &place);
}

/// The same work again in a cgroup that counts page cache too.
fn in_a_cage(program: &Program, shop: &Path, place: &Place) {
    let Some(cage) = Cage::make() else {
        return skipped("the memory cgroup", "none can be made here (not root?)");
    };
    let second = Program {
        repository: place.join("second"),
        password_file: program.password_file.clone(),
    };
    second.ok(&["init"]);
    for words in [
        &["backup", shop.to_str().unwrap()][..],
        &["verify", "--scratch", place.path().to_str().unwrap()],
    ] {
        let run = Run::of(&mut cage.command(&second.command(words)));
        assert_eq!(run.code, 0, "{words:?}: {}{}", run.stdout, run.stderr);
        assert!(
            words[0] != "verify" || run.stdout.contains("proof level: matched"),
            "{}",
            run.stdout
        );
    }
}
