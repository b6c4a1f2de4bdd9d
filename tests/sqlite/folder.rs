//! After a capture a foreign shop's folder is as it was: names, owners, modes, sizes, times, contents; and no lock
//! of ours is left.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tillsafe::source::sqlite::capture;

use super::{application, image, options, run};
use crate::common::Place;
use crate::common::files::files_below;
use crate::common::mount::SmallDisk;
use crate::common::program::{Program, Run};
use crate::common::shop::Shop;
use crate::common::tools::skipped;

/// All of a file that may not change: owner, group, mode, size, time, content.
type Facts = (u32, u32, u32, u64, (i64, i64), Vec<u8>);

/// The files of a folder. Of the side files the shared memory's content may change.
fn picture(folder: &Path) -> BTreeMap<PathBuf, Facts> {
    let files = files_below(folder).into_iter().map(|path| {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let is_shared = path.to_str().unwrap().ends_with("-shm");
        let (content, times) = if is_shared || !metadata.is_file() {
            (Vec::new(), (0, 0))
        } else {
            (
                fs::read(&path).unwrap(),
                (metadata.mtime(), metadata.mtime_nsec()),
            )
        };
        let facts = (
            metadata.uid(),
            metadata.gid(),
            metadata.mode(),
            metadata.len(),
            times,
            content,
        );
        (path, facts)
    });
    files.collect()
}

/// The locks in this kernel that are held on a file.
fn locks_on(path: &Path) -> Vec<String> {
    let inode = format!(":{} ", fs::metadata(path).unwrap().ino());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    locks
        .lines()
        .filter(|line| line.contains(&inode))
        .map(str::to_owned)
        .collect()
}

/// The ways in which an application may have left its database. Returns what must stay open meanwhile.
const WAYS: [&str; 10] = [
    "in WAL mode, closed",
    "in WAL mode, at work",
    "in WAL mode, crashed",
    "in WAL mode, closed, with side files that a reader left",
    "in WAL mode, crashed, without shared memory",
    "in WAL mode, closed, with the shared memory of a crash",
    "in WAL mode, closed, with an empty log",
    "in WAL mode, crashed before its first commit",
    "in rollback mode",
    "in persistent rollback mode",
];

fn leave(way: &str, shop: &Shop) -> Option<Connection> {
    match way {
        "in WAL mode, at work" => {
            let open = shop.connect();
            shop.sell(3);
            return Some(open);
        }
        "in WAL mode, crashed" | "in WAL mode, crashed, without shared memory" => {
            let connection = shop.connect();
            let keep = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            connection.set_db_config(keep, true).unwrap();
            connection
                .execute("INSERT INTO customers VALUES (9, 'Uta')", [])
                .unwrap();
            drop(connection);
            if way.ends_with("without shared memory") {
                fs::remove_file(shop.folder.join("shop.db-shm")).unwrap();
            }
        }
        "in WAL mode, closed, with the shared memory of a crash" => {
            fs::write(shop.folder.join("shop.db-shm"), vec![7; 32768]).unwrap();
        }
        "in WAL mode, closed, with an empty log" => {
            fs::write(shop.folder.join("shop.db-wal"), []).unwrap();
        }
        "in WAL mode, crashed before its first commit" => {
            fs::write(shop.folder.join("shop.db-wal"), [0; 512]).unwrap();
        }
        "in WAL mode, closed, with side files that a reader left" => {
            let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
            let reader = Connection::open_with_flags(&shop.database, flags).unwrap();
            reader
                .query_row("SELECT count(*) FROM orders", [], |_| Ok(()))
                .unwrap();
        }
        _ => {}
    }
    None
}

fn mode_of(way: &str) -> &'static str {
    match way {
        "in rollback mode" => "delete",
        "in persistent rollback mode" => "persist",
        _ => "wal",
    }
}

#[test]
fn a_backup_leaves_it_as_it_was() {
    for way in WAYS {
        for owner in [0, 65534] {
            let place = Place::new();
            let shop = Shop::open(&place.join("shop"), 40, mode_of(way));
            let open = leave(way, &shop);
            if owner != 0 && !rustix::process::geteuid().is_root() {
                skipped(way, "only root can back up the shop of another");
                continue;
            }
            for path in files_below(&shop.folder) {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).ok();
                std::os::unix::fs::lchown(&path, Some(owner), Some(owner)).unwrap();
            }
            chown(&shop.folder, Some(owner), Some(owner)).unwrap();
            let before = picture(&shop.folder);
            if way.ends_with("closed") {
                assert!(
                    !before
                        .keys()
                        .any(|path| path.to_str().unwrap().contains(".db-"))
                );
            }
            let program = Program::with_cheap_repository(place.path());
            let run = program.run(&["backup", shop.folder.to_str().unwrap()]);
            assert_eq!(run.code, 0, "{way}: {}", run.text());
            let after = picture(&shop.folder);
            let names =
                |picture: &BTreeMap<PathBuf, Facts>| picture.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&before), names(&after), "{way}, owner {owner}");
            assert!(
                before == after,
                "{way}, owner {owner}: something has changed"
            );
            let run = program.run(&["verify"]);
            assert!(run.stdout.contains("matched"), "{way}: {}", run.text());
            drop(open);
        }
    }
}

/// Asked while the process that captured lives on: its end would drop any lock.
#[test]
fn a_capture_leaves_no_lock() {
    for way in WAYS {
        let place = Place::new();
        let shop = Shop::open(&place.join("shop"), 40, mode_of(way));
        if leave(way, &shop).is_some() {
            // A connection of this very process: whose locks would it be?
            continue;
        }
        let before = picture(&shop.folder);
        let (captured, _) = image(&shop.database, &options(place.path())).unwrap();
        assert!(captured.fingerprint.tables["orders"] >= 40, "{way}");
        assert!(before == picture(&shop.folder), "{way}");
        for path in files_below(&shop.folder) {
            assert_eq!(locks_on(&path), [""; 0], "{way}: {}", path.display());
        }
    }
}

#[test]
fn an_application_that_comes_while_we_read_keeps_its_log() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 4000, "wal");
    // It crashes after its commit.
    let script = "import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute('INSERT INTO customers VALUES (9, \"Uta\")')
os._exit(0)";
    let Some(mut application) = application(script, &[&shop.database]) else {
        return;
    };
    let mut is_done = false;
    let captured = capture(&shop.database, &options(place.path()), &mut |_: Vec<u8>| {
        if !std::mem::replace(&mut is_done, true) {
            run(&mut application);
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(
        captured.fingerprint.tables["customers"], 2,
        "as of the moment before"
    );
    let log = fs::metadata(shop.folder.join("shop.db-wal")).unwrap();
    assert!(log.len() > 0, "its log is its own");
    let count = "SELECT count(*) FROM customers";
    let now: i64 = shop
        .connect()
        .query_row(count, [], |row| row.get(0))
        .unwrap();
    assert_eq!(now, 3);
}

/// POSIX drops all locks of a process on a file when it closes any descriptor of it.
#[test]
fn no_stray_close_drops_our_locks() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 4000, "wal");
    fs::hard_link(&shop.database, shop.folder.join("another-name.db")).unwrap();
    let pid = std::process::id().to_string();
    let mut seen = 0;
    capture(&shop.database, &options(place.path()), &mut |_: Vec<u8>| {
        let held = locks_on(&shop.database);
        assert!(
            held.iter()
                .any(|line| line.contains("READ") && line.contains(&pid)),
            "{held:?}"
        );
        seen += 1;
        Ok(())
    })
    .unwrap();
    assert!(seen > 1);
}

#[test]
fn on_a_read_only_medium_a_closed_database_is_captured() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(&place.join("disk"), "size=8m") else {
        return skipped("a read-only medium", "mounting a small disk needs root");
    };
    let shop = Shop::open(&disk.path().join("shop"), 40, "wal");
    disk.protect();
    let before = picture(&shop.folder);
    let (captured, bytes) = image(&shop.database, &options(place.path())).unwrap();
    assert_eq!(captured.fingerprint.tables["orders"], 40);
    assert_eq!(bytes, fs::read(&shop.database).unwrap());
    assert!(before == picture(&shop.folder));
}

#[test]
fn a_log_on_a_read_only_medium_is_refused_with_a_cure() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(&place.join("disk"), "size=8m") else {
        return skipped("a read-only medium", "mounting a small disk needs root");
    };
    let shop = Shop::open(&disk.path().join("shop"), 40, "wal");
    leave("in WAL mode, crashed", &shop);
    fs::remove_file(shop.folder.join("shop.db-shm")).unwrap();
    disk.protect();
    let program = Program::with_cheap_repository(place.path());
    let run: Run = program.run(&["backup", shop.folder.to_str().unwrap()]);
    assert_eq!(run.code, 3, "{}", run.text());
    assert!(run.stderr.contains("copy the folder"), "{}", run.stderr);
}
