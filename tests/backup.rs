//! What a backup reads: which files, which databases, and what it makes of hard cases.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use tillsafe::backend::{Backend, Class, MemBackend, Object};
use tillsafe::backup::{self, Outcome};
use tillsafe::capture::manifest::Note;
use tillsafe::durable::{Disk, OsDisk};
use tillsafe::monitor::Quiet;
use tillsafe::restore::ProofLevel;
use tillsafe::source::sqlite::Method;

use crate::common::Place;
use crate::common::compare::{difference, is_database};
use crate::common::dice::Dice;
use crate::common::files::{files_below, flip_a_bit};
use crate::common::library::{back_up, create, open, options, restore, snapshots};
use crate::common::meanwhile::back_up_meanwhile;
use crate::common::program::{Program, Run};
use crate::common::shop::{Shop, count_orders};
use crate::common::tools::find;

fn repository() -> Arc<dyn Backend> {
    let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
    create(&backend);
    backend
}

/// The one item that the snapshot lacks.
fn the_one_left_out(outcome: &Outcome) -> &Note {
    let [note] = outcome.manifest.incomplete.as_slice() else {
        panic!("{:?}", outcome.manifest.incomplete);
    };
    note
}

/// Backs `path` up, restores what it stored of it to `target`, and returns both words on it.
fn round_trip(path: &Path, target: &Path) -> (Outcome, ProofLevel) {
    let backend = repository();
    let outcome = back_up(&backend, path).unwrap();
    let snapshot = snapshots(&backend).remove(0);
    let restored = restore(&backend, snapshot, path, target, &OsDisk).unwrap();
    (outcome, restored.level)
}

#[test]
fn a_folder_behind_a_link_is_stored_under_the_name_it_was_given() {
    let place = Place::new();
    let shop = Shop::open(&place.join("release-7/shop"), 30, "wal");
    symlink("release-7", place.join("current")).unwrap();
    symlink("current/shop", place.join("shop")).unwrap();
    for (number, named) in ["current/shop", "shop"].into_iter().enumerate() {
        let target = place.join(&format!("target-{number}"));
        let (outcome, level) = round_trip(&place.join(named), &target);
        assert_eq!(level, ProofLevel::Matched, "{named}");
        assert!(outcome.is_complete(), "{:?}", outcome.manifest.incomplete);
        let [database] = outcome.manifest.databases.as_slice() else {
            panic!("{named}: the database was captured");
        };
        assert!(
            database.path.ends_with(&format!("{named}/shop.db")),
            "{}",
            database.path
        );
        assert_eq!(
            difference(&shop.folder, &target, &is_database),
            None,
            "{named}"
        );
        assert_eq!(count_orders(&target.join("shop.db")), 30, "{named}");
    }
}

#[test]
fn a_database_that_is_named_through_a_link_is_captured_with_its_log() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 30, "wal");
    symlink("shop/shop.db", place.join("link.db")).unwrap();
    let open = shop.connect();
    shop.sell(5);
    let (_, level) = round_trip(&place.join("link.db"), &place.join("target"));
    drop(open);
    assert_eq!(level, ProofLevel::Matched);
    assert_eq!(count_orders(&place.join("target/link.db")), 35);
}

/// SQLite deletes the log of a database whose file is empty. It may be all that is left of a shop.
#[test]
fn an_empty_file_with_a_full_log_is_named_and_not_opened() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 10, "wal");
    let open = shop.connect();
    shop.sell(5);
    let log = fs::read(shop.folder.join("shop.db-wal")).unwrap();
    let copy = place.join("copy");
    fs::create_dir(&copy).unwrap();
    fs::write(copy.join("shop.db"), "").unwrap();
    fs::write(copy.join("shop.db-wal"), &log).unwrap();
    drop(open);

    let backend = repository();
    let outcome = back_up(&backend, &copy).unwrap();
    assert!(outcome.manifest.databases.is_empty());
    let note = the_one_left_out(&outcome);
    assert!(
        note.item.ends_with("shop.db") && note.finding.contains("left out"),
        "{note:?}"
    );
    assert_eq!(
        outcome.manifest.files.files, 0,
        "neither file is stored as it is"
    );
    let refused = back_up(&backend, &copy.join("shop.db")).unwrap_err();
    assert_eq!(refused.exit_code().number(), 14, "{refused}");
    assert_eq!(
        fs::read(copy.join("shop.db-wal")).unwrap(),
        log,
        "the log is untouched"
    );
}

/// What a crash leaves in rollback mode: the file alone holds rows that were never committed.
#[test]
fn a_database_with_a_hot_journal_is_named_and_never_copied_as_it_is() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 500, "delete");
    let copy = place.join("copy");
    fs::create_dir(&copy).unwrap();
    let open = shop.connect();
    // With so small a cache, the transaction spills into the file before it is committed.
    open.execute_batch(
        "PRAGMA cache_size = 2; BEGIN; UPDATE orders SET item = item || ' sold twice'",
    )
    .unwrap();
    for name in ["shop.db", "shop.db-journal"] {
        fs::copy(shop.folder.join(name), copy.join(name)).unwrap();
    }
    drop(open);
    let backend = repository();
    let outcome = back_up(&backend, &copy).unwrap();
    assert!(outcome.manifest.databases.is_empty());
    let note = the_one_left_out(&outcome);
    assert!(
        note.finding.contains("start the application once"),
        "{note:?}"
    );
    assert_eq!(outcome.manifest.files.files, 0);
    assert_eq!(
        back_up(&backend, &copy.join("shop.db"))
            .unwrap_err()
            .exit_code()
            .number(),
        14
    );
    assert!(
        copy.join("shop.db-journal").is_file(),
        "the journal is untouched"
    );
}

#[test]
fn roots_may_lie_inside_each_other_and_be_single_files() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 10, "delete");
    let (outcome, _) = round_trip(&shop.database, &place.join("one"));
    assert_eq!(
        (
            outcome.manifest.files.files,
            outcome.manifest.databases.len()
        ),
        (0, 1)
    );
    assert_eq!(outcome.manifest.databases[0].method, Method::SpooledPages);
    let (_, _) = round_trip(&shop.folder.join("notes.txt"), &place.join("two"));
    assert_eq!(
        fs::read(place.join("two/notes.txt")).unwrap(),
        fs::read(shop.folder.join("notes.txt")).unwrap()
    );
}

/// Without the page table (a build without `.cargo/config.toml`) SQLite's backup call does the work.
#[test]
fn a_build_without_the_page_table_captures_the_same_image_and_says_how() {
    let place = Place::new();
    for mode in ["wal", "delete"] {
        let shop = Shop::open(&place.join(mode), 200, mode);
        let connection = shop.connect();
        shop.sell(20);
        let backend = repository();
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let mut options = options(&[&shop.folder], place.path(), &disk);
        let by_pages =
            backup::backup(&open(&backend).unwrap(), &options, &Quiet::default()).unwrap();
        options.sqlite.page_table = false;
        let by_call =
            backup::backup(&open(&backend).unwrap(), &options, &Quiet::default()).unwrap();
        let database = |outcome: &Outcome| outcome.manifest.databases[0].clone();
        assert_eq!(database(&by_call).method, Method::OnlineBackup);
        assert_eq!(
            database(&by_call).fingerprint,
            database(&by_pages).fingerprint,
            "{mode}"
        );
        assert_eq!(
            by_call.added.data_blobs, 2,
            "{mode}: the page with the header, and the manifest"
        );
        assert!(
            by_call
                .manifest
                .warnings
                .iter()
                .any(|note| note.finding.contains("page table"))
        );
        drop(connection);
    }
}

/// What applications do with SQLite beyond plain tables.
#[test]
fn unusual_schemas_are_captured_and_proved() {
    const SCHEMAS: [(&str, &str); 8] = [
        ("nothing", "PRAGMA user_version = 3"),
        (
            "full text",
            "CREATE VIRTUAL TABLE f USING fts5(body); INSERT INTO f VALUES ('raku tea bowl')",
        ),
        (
            "r-tree",
            "CREATE VIRTUAL TABLE r USING rtree(id, a, b); INSERT INTO r VALUES (1, 2, 3)",
        ),
        (
            "strict, without rowid",
            "CREATE TABLE s(a TEXT PRIMARY KEY, b INT) STRICT, WITHOUT ROWID; INSERT INTO s VALUES ('x', 1)",
        ),
        (
            "generated",
            "CREATE TABLE g(a INT, b INT AS (a * 2) STORED, c AS (a || '!')); CREATE INDEX gi ON g(c, a) WHERE a > 0; INSERT INTO g(a) VALUES (1), (2)",
        ),
        (
            "hostile names",
            "CREATE TABLE \"a'; DROP TABLE x; --\"(\"\"\"q\"); CREATE VIEW \"v\n\" AS SELECT nonsense(1) AS n",
        ),
        (
            "utf-16",
            "PRAGMA encoding = 'UTF-16le'; CREATE TABLE u(t); INSERT INTO u VALUES ('Töpferei')",
        ),
        (
            "large pages, trigger",
            "PRAGMA page_size = 65536; CREATE TABLE p(a); CREATE TRIGGER t AFTER INSERT ON p BEGIN DELETE FROM p; END; INSERT INTO p VALUES (1)",
        ),
    ];
    let place = Place::new();
    for (number, (name, sql)) in SCHEMAS.into_iter().enumerate() {
        let folder = place.join(&format!("shop-{number}"));
        fs::create_dir(&folder).unwrap();
        let connection = Connection::open(folder.join("shop.db")).unwrap();
        connection.execute_batch(sql).unwrap();
        drop(connection);
        let (outcome, level) = round_trip(&folder, &place.join(&format!("target-{number}")));
        assert_eq!(
            outcome.manifest.databases.len(),
            1,
            "{name}: {:?}",
            outcome.manifest.incomplete
        );
        assert_eq!(level, ProofLevel::Matched, "{name}");
    }
}

/// Order, functions and modules that only the application brings: the image is whole, its own engine
/// alone can say that its indexes are.
#[test]
fn what_needs_the_applications_own_order_is_restored_and_said_to_be_unproved() {
    const APPLICATION: &str = "import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.create_collation('pinyin', lambda a, b: (a < b) - (a > b))
db.execute('CREATE TABLE goods(name TEXT COLLATE pinyin UNIQUE, price INT)')
db.execute('INSERT INTO goods VALUES (?, 1), (?, 2)', ('cha', 'wan'))
db.commit()";
    let place = Place::new();
    let folder = place.join("shop");
    fs::create_dir(&folder).unwrap();
    let application = Run::of(
        Command::new(find("python3").expect("python3 is on every machine that runs these tests"))
            .args(["-c", APPLICATION])
            .arg(folder.join("shop.db")),
    );
    assert_eq!(application.code, 0, "{}", application.stderr);
    let target = place.join("target");
    let (outcome, level) = round_trip(&folder, &target);
    assert_eq!(outcome.manifest.databases[0].fingerprint.tables["goods"], 2);
    assert_eq!(level, ProofLevel::Restored);
    assert_eq!(
        fs::read(target.join("shop.db")).unwrap(),
        fs::read(folder.join("shop.db")).unwrap()
    );
}

#[test]
fn a_database_that_is_deleted_after_its_capture_is_named_and_not_claimed() {
    let place = Place::new();
    let folder = place.join("shop");
    for name in ["a", "b"] {
        Shop::open(&folder.join(name), 20, "delete");
    }
    let backend = repository();
    let gone = folder.join("a/shop.db");
    let outcome = back_up_meanwhile(&backend, &folder, || fs::remove_file(&gone).unwrap()).unwrap();
    assert!(!outcome.is_complete());
    assert!(outcome.manifest.incomplete[0].item.ends_with("a/shop.db"));
    assert_eq!(outcome.manifest.databases.len(), 1);
    let snapshot = snapshots(&backend).remove(0);
    let restored = restore(&backend, snapshot, &folder, &place.join("target"), &OsDisk).unwrap();
    assert_eq!(restored.level, ProofLevel::Matched);

    let alone = Shop::open(&place.join("alone"), 20, "delete").database;
    let refused = back_up_meanwhile(&backend, &alone, || fs::remove_file(&alone).unwrap());
    assert_eq!(refused.unwrap_err().exit_code().number(), 14);
    assert_eq!(snapshots(&backend).len(), 1);
}

#[test]
fn a_lock_that_was_taken_away_costs_the_snapshot_not_its_truth() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 20, "wal");
    let backend = repository();
    let refused = back_up_meanwhile(&backend, &shop.folder, || {
        // As `restic unlock --remove-all` and a prune would: what we wrote is no longer safe.
        for (id, _) in backend.list(Class::Locks).unwrap().objects {
            backend.delete(Object::Named(Class::Locks, id)).unwrap();
        }
    });
    assert_eq!(refused.unwrap_err().exit_code().number(), 11);
    assert!(snapshots(&backend).is_empty());
    assert!(back_up(&backend, &shop.folder).unwrap().is_complete());
}

#[test]
fn what_lay_in_a_lost_pack_is_stored_again() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 300, "wal");
    for lose in ["all", "cut"] {
        let mem = Arc::new(MemBackend::default());
        let backend: Arc<dyn Backend> = Arc::clone(&mem) as Arc<dyn Backend>;
        create(&backend);
        back_up(&backend, &shop.folder).unwrap();
        for (id, _) in backend.list(Class::Data).unwrap().objects {
            let pack = Object::Named(Class::Data, id);
            if lose == "all" {
                backend.delete(pack).unwrap();
            } else {
                mem.damage(pack, |bytes| bytes.truncate(bytes.len() / 2));
            }
        }
        let outcome = back_up(&backend, &shop.folder).unwrap();
        assert!(
            outcome
                .manifest
                .warnings
                .iter()
                .any(|note| note.finding.contains("gone")),
            "{lose}"
        );
        let newest = snapshots(&backend).pop().unwrap();
        let target = place.join(lose);
        restore(&backend, newest, &shop.folder, &target, &OsDisk).unwrap();
        assert_eq!(
            difference(&shop.folder, &target, &is_database),
            None,
            "{lose}"
        );
    }
}

#[test]
fn a_root_that_would_not_be_stored_where_it_was_named_is_refused() {
    let place = Place::new();
    let shop = Shop::open(&place.join("srv/shop"), 5, "delete");
    Shop::open(&place.join("elsewhere/shop"), 5, "delete");
    symlink(place.join("elsewhere"), place.join("srv/current")).unwrap();
    fs::create_dir_all(place.join("srv/.tillsafe-stage-1/x")).unwrap();
    let srv = place.join("srv");
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let run = |paths: &[&Path], excluded: &[&Path]| {
        let mut options = options(paths, place.path(), &disk);
        options.excluded = excluded.iter().map(|path| path.to_path_buf()).collect();
        let backend = repository();
        let code = backup::backup(&open(&backend).unwrap(), &options, &Quiet::default())
            .map_or_else(|cause| cause.exit_code().number(), |_| 0);
        assert_eq!(snapshots(&backend).len(), usize::from(code == 0));
        code
    };
    assert_eq!(run(&[&srv, &shop.folder], &[]), 0);
    assert_eq!(run(&[&srv, &place.join("srv/current/shop")], &[]), 2);
    assert_eq!(run(&[&srv, &place.join("srv/.tillsafe-stage-1/x")], &[]), 2);
    assert_eq!(run(&[&place.join("srv/.tillsafe-stage-1")], &[]), 2);
    assert_eq!(run(&[&shop.folder], &[&srv]), 2);
    assert_eq!(run(&[&place.join("srv/none")], &[]), 14);
}

/// Killed between the key and the config: the same command, with the same password, goes on.
#[test]
fn a_creation_that_was_interrupted_is_completed_by_the_next() {
    let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
    create(&backend);
    backend.delete(Object::Config).unwrap();
    create(&backend);
    assert_eq!(backend.list(Class::Keys).unwrap().objects.len(), 1);
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 5, "wal");
    assert!(back_up(&backend, &shop.folder).unwrap().is_complete());
}

#[test]
fn a_root_of_any_name_is_read_and_an_unfinished_restore_in_it_is_named() {
    let place = Place::new();
    let shop = Shop::open(&place.join(".tillsafe-old"), 5, "delete");
    symlink(&shop.folder, place.join("shop")).unwrap();
    let waiting = shop.folder.join(".tillsafe-ready-matched-0123456789abcdef");
    fs::create_dir(&waiting).unwrap();
    fs::write(waiting.join("orders.txt"), "x").unwrap();
    let (outcome, _) = round_trip(&place.join("shop"), &place.join("target"));
    assert_eq!(outcome.manifest.databases.len(), 1);
    let note = the_one_left_out(&outcome);
    assert!(note.finding.contains("interrupted restore"), "{note:?}");
    assert_eq!(outcome.snapshot.file.tags, ["incomplete"]);
    assert!(
        !place
            .join("target")
            .join(waiting.file_name().unwrap())
            .exists()
    );
}

#[test]
fn an_empty_root_is_worth_a_word() {
    let place = Place::new();
    let folder = place.join("shop");
    fs::create_dir(&folder).unwrap();
    let outcome = back_up(&repository(), &folder).unwrap();
    assert!(outcome.is_complete());
    assert!(outcome.manifest.warnings[0].finding.contains("is empty"));
}

/// A cache may vanish, lie or be full: the result is the same, and it is no source.
#[test]
fn a_cache_is_believed_in_nothing() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let shop = Shop::open(&place.join("srv/shop"), 20, "wal");
    let srv = place.join("srv");
    let cache = srv.join("cache");
    let words = |rest: &[&str]| {
        let mut words = vec!["--cache-dir", cache.to_str().unwrap()];
        words.extend(rest);
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<String>>()
    };
    let run = |rest: &[&str]| {
        let words = words(rest);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        program.ok(&words)
    };
    run(&["backup", srv.to_str().unwrap()]);
    let kept = files_below(&cache);
    assert!(kept.len() >= 2, "index and snapshot: {kept:?}");
    let listed = run(&["ls", "latest"]).stdout;
    assert!(
        listed.contains("shop.db") && !listed.contains("cache/"),
        "{listed}"
    );
    // Nor is that of another repository, or one that is not in use.
    fs::create_dir(cache.join("of-another")).unwrap();
    fs::write(cache.join("of-another/file"), "kept").unwrap();
    run(&["--no-cache", "backup", srv.to_str().unwrap()]);
    let listed = run(&["ls", "latest"]).stdout;
    assert!(!listed.contains("of-another"), "{listed}");
    let first = run(&["snapshots"]).stdout;
    for damage in ["lie", "shorten", "vanish", "replace"] {
        for file in files_below(&cache) {
            match damage {
                "lie" => flip_a_bit(&file),
                "shorten" => {
                    fs::remove_file(&file).unwrap();
                    fs::write(&file, "").unwrap();
                }
                _ => fs::remove_file(&file).unwrap(),
            }
        }
        if damage == "replace" {
            fs::remove_dir_all(&cache).unwrap();
            fs::write(&cache, "no folder").unwrap();
        }
        assert_eq!(run(&["snapshots"]).stdout, first, "{damage}");
        assert_eq!(run(&["ls", "latest"]).stdout, listed, "{damage}");
    }
    fs::remove_file(&cache).unwrap();
    shop.sell(3);
    run(&["backup", srv.to_str().unwrap()]);
    run(&["check", "--read-data"]);
    // What the storage has lost is not made up for by the cache: `check` asks the storage itself.
    for file in files_below(&program.repository.join("index")) {
        fs::remove_file(file).unwrap();
    }
    let all = words(&["check"]);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(program.run(&all).code, 4);
    assert!(run(&["cache"]).stdout.contains("kept: "));
    run(&["cache", "--clear"]);
    assert!(files_below(&cache).is_empty());
}

/// In rollback mode each transaction makes and removes one; in WAL mode the last who closes.
#[test]
fn side_files_that_come_and_go_are_missed_by_nobody() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 20, "delete");
    // What only has such a name is kept.
    fs::create_dir(shop.folder.join("shop.db-shm")).unwrap();
    fs::write(shop.folder.join("shop.db-shm/inner.txt"), "kept").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for suffix in ["-wal", "-journal"] {
            let name = shop.folder.join(format!("shop.db{suffix}"));
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    fs::write(&name, "").unwrap();
                    fs::remove_file(&name).unwrap();
                }
            });
        }
        let backend = repository();
        let outcomes: Vec<_> = (0..20).map(|_| back_up(&backend, &shop.folder)).collect();
        done.store(true, Ordering::SeqCst);
        for outcome in outcomes {
            let outcome = outcome.unwrap();
            assert!(outcome.is_complete(), "{:?}", outcome.manifest.incomplete);
            // A picture in each of two folders, two texts, and the kept one.
            assert_eq!(outcome.manifest.files.files, 5);
        }
    });
}

/// What is stored faster is larger, and the same; and what is stored already is not stored again for it.
#[test]
fn the_faster_compression_stores_the_same_in_more_bytes() {
    let place = Place::new();
    let folder = place.join("shop");
    fs::create_dir(&folder).unwrap();
    let mut dice = Dice::new(7);
    let words: Vec<String> = (0..400)
        .map(|_| {
            let bits = 8 + 4 * dice.below(8);
            format!("{:x}", dice.below(1 << bits))
        })
        .collect();
    let text: Vec<&str> = (0..300_000)
        .map(|_| words[usize::try_from(dice.below(20) * dice.below(20)).unwrap()].as_str())
        .collect();
    fs::write(folder.join("orders.csv"), text.join(" ")).unwrap();
    let stored = ["auto", "fast"].map(|way| {
        fs::create_dir(place.join(way)).unwrap();
        let program = Program::with_cheap_repository(&place.join(way));
        let back_up = |way: &str| {
            let (folder, words) = (folder.to_str().unwrap(), ["backup", "--force"]);
            let (code, said) =
                program.json(&[&words[..], &["--compression", way, folder]].concat());
            assert_eq!(code, 0);
            said.last().unwrap()["stored_bytes"].as_u64().unwrap()
        };
        let bytes = back_up(way);
        let target = place.join(way).join("restored");
        let from = format!("latest:{}", folder.display());
        program.ok(&["restore", &from, "--target", target.to_str().unwrap()]);
        assert_eq!(difference(&folder, &target, &is_database), None);
        let again = back_up(if way == "auto" { "fast" } else { "auto" });
        assert!(again * 10 < bytes, "{way}: {again} of {bytes}");
        bytes
    });
    assert!(stored[1] > stored[0], "{stored:?}");
}
