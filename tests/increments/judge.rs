//! Who has nothing but restic and SQLite: the pair opens as the newest state, and half of it as nothing.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use tillsafe::monitor::Quiet;
use tillsafe::repository::pack::BlobKind;

use super::{Night, Scene, assert_image};
use crate::common::dice::Dice;
use crate::common::library::open;
use crate::common::restic::Restic;
use crate::common::tools::find;

/// The two files as any tool would restore them.
fn pair(scene: &Scene, night: &Night) -> (Vec<u8>, Vec<u8>) {
    let repository = open(&scene.backend).unwrap();
    let index = repository.load_index(&Quiet::default()).unwrap();
    let stored = scene.stored(night);
    let read = |blobs: &[tillsafe::id::Id]| {
        let read = |id| repository.read_blob(&index, BlobKind::Data, id).unwrap();
        blobs.iter().flat_map(|id| read(*id)).collect()
    };
    (read(&stored.base), read(&stored.log.unwrap()))
}

fn put(folder: &Path, base: &[u8], log: Option<&[u8]>) -> PathBuf {
    if folder.exists() {
        fs::remove_dir_all(folder).unwrap();
    }
    fs::create_dir(folder).unwrap();
    let path = folder.join("shop.db");
    fs::write(&path, base).unwrap();
    if let Some(log) = log {
        fs::write(folder.join("shop.db-wal"), log).unwrap();
    }
    path
}

fn count(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT count(*) FROM orders", [], |row| row.get(0))
}

#[test]
fn sqlite_opens_the_pair_as_it_was_and_refuses_everything_less() {
    for (mode, page_bytes) in [("wal", 4096), ("delete", 512), ("delete", 65536)] {
        let mut scene = Scene::new(mode, page_bytes);
        scene.back_up();
        scene.trade();
        scene.back_up();
        scene.trade();
        let night = scene.back_up();
        let rows = count(&Connection::open(&scene.database).unwrap()).unwrap();
        let (base, log) = pair(&scene, &night);
        let folder = scene.place.join("pair");
        let what = format!("{mode}, pages of {page_bytes} bytes");

        let path = put(&folder, &base, Some(&log));
        let connection = Connection::open(&path).unwrap();
        assert_eq!(count(&connection).unwrap(), rows, "{what}");
        let check: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(check, "ok");
        drop(connection);
        // The last connection folds the log in.
        assert_image(&path, &night.image);

        let refuses = |log: Option<&[u8]>, case: &str| {
            let path = put(&folder, &base, log);
            let opened = Connection::open(&path).and_then(|connection| count(&connection));
            assert!(opened.is_err(), "{what}: {case}: {opened:?}");
        };
        refuses(None, "alone");
        refuses(Some(&[]), "an empty log");
        let frame = 24 + page_bytes as usize;
        refuses(Some(&log[..log.len() - frame]), "without the commit");
        let mut dice = Dice::new(11);
        println!("seed 11");
        for _ in 0..20 {
            let end = dice.throw(log.len());
            refuses(Some(&log[..end]), &format!("cut to {end} bytes"));
            let mut turned = log.clone();
            // Bytes 12..16 number the checkpoints; nothing is read of them.
            let at = [dice.throw(12), 16 + dice.throw(log.len() - 16)][dice.throw(2)];
            turned[at] ^= 1 << dice.throw(8);
            if at < log.len() {
                refuses(Some(&turned), &format!("byte {at} turned"));
            }
        }
        let path = put(&folder, &base, Some(&log));
        let uri = format!("file:{}?immutable=1", path.display());
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let opened = Connection::open_with_flags(uri, flags).and_then(|one| count(&one));
        assert!(opened.is_err(), "{what}: immutable: {opened:?}");
        // Whoever has lost the log for good has the base of then, knowingly.
        let mut mended = base.clone();
        mended[..16].copy_from_slice(b"SQLite format 3\0");
        let path = put(&folder, &mended, None);
        assert!(count(&Connection::open(&path).unwrap()).unwrap() < rows);
    }
}

#[test]
fn the_systems_own_sqlite_opens_it_too() {
    let mut scene = Scene::new("wal", 4096);
    scene.back_up();
    scene.trade();
    let night = scene.back_up();
    let rows = count(&Connection::open(&scene.database).unwrap()).unwrap();
    let (base, log) = pair(&scene, &night);
    let python = find("python3").expect("python3 is on every machine that runs these tests");
    let ask = |path: &Path| {
        let script = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM orders').fetchone()[0])";
        let output = std::process::Command::new(&python)
            .args(["-I", "-c", script])
            .arg(path)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let folder = scene.place.join("pair");
    assert_eq!(ask(&put(&folder, &base, Some(&log))), rows.to_string());
    assert_eq!(ask(&put(&folder, &base, None)), "");
}

#[test]
fn stock_restic_restores_it_and_finds_nothing_wrong() {
    let mut scene = Scene::new("wal", 4096);
    scene.back_up();
    scene.trade();
    scene.back_up();
    scene.trade();
    let night = scene.back_up();
    let program = scene.program();
    for (number, restic) in Restic::all_on(&program).iter().enumerate() {
        restic.assert_clean();
        let target = scene.place.join(&format!("by-restic-{number}"));
        restic.ok(&["restore", "latest", "--target", target.to_str().unwrap()]);
        let inner = target.join(scene.folder.strip_prefix("/").unwrap());
        let path = inner.join("shop.db");
        let connection = Connection::open(&path).unwrap();
        assert!(count(&connection).unwrap() > 40_000);
        drop(connection);
        assert_image(&path, &night.image);
        // The main file alone is an error there, and not an older state.
        let alone = restic.bytes(&["dump", "latest", scene.database.to_str().unwrap()]);
        let alone = put(&scene.place.join("alone"), &alone, None);
        assert!(
            Connection::open(&alone)
                .and_then(|one| count(&one))
                .is_err()
        );
    }
}

#[test]
fn our_dump_of_the_file_and_of_its_folder_is_whole() {
    let mut scene = Scene::new("wal", 4096);
    scene.back_up();
    scene.trade();
    let night = scene.back_up();
    fs::write(scene.folder.join("notes.txt"), "glaze").unwrap();
    let later = scene.back_up();
    let program = scene.program();
    let file = scene.place.join("dumped.db");
    let id = night.outcome.snapshot.id.to_string();
    let database = scene.database.to_str().unwrap();
    program.ok(&["dump", &id, database, "--target", file.to_str().unwrap()]);
    assert_image(&file, &night.image);
    let archive = scene.place.join("dumped.tar");
    let (id, folder) = (
        later.outcome.snapshot.id.to_string(),
        scene.folder.to_str().unwrap(),
    );
    program.ok(&["dump", &id, folder, "--target", archive.to_str().unwrap()]);
    let out = scene.place.join("unpacked");
    fs::create_dir(&out).unwrap();
    let status = std::process::Command::new("tar")
        .args([
            "-xf",
            archive.to_str().unwrap(),
            "-C",
            out.to_str().unwrap(),
        ])
        .status()
        .unwrap();
    assert!(status.success());
    let inner = out.join(scene.folder.strip_prefix("/").unwrap());
    assert_image(&inner.join("shop.db"), &later.image);
    assert_eq!(fs::read(inner.join("notes.txt")).unwrap(), b"glaze");
    assert!(!inner.join("shop.db-wal").exists());
    // The log itself is a file like any other.
    let log = scene.place.join("dumped-wal");
    let wal = format!("{database}-wal");
    program.ok(&["dump", &id, &wal, "--target", log.to_str().unwrap()]);
    assert!(fs::read(log).unwrap().starts_with(&[0x37, 0x7f, 6, 0x82]));
}
