//! What `setup` and `doctor` see of a machine: one made in a folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use tillsafe::clock::SystemClock;
use tillsafe::durable::OsDisk;
use tillsafe::durable::faults::{Fault, FaultyDisk};
use tillsafe::error::Result;
use tillsafe::host::{self, Found};
use tillsafe::monitor::Quiet;
use tillsafe::rng::SystemRng;

fn database(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("CREATE TABLE orders(id)").unwrap();
}

fn file(path: &Path, bytes: usize) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, vec![b'x'; bytes]).unwrap();
}

fn find(root: &Path) -> Found {
    host::find(&[], root, &SystemClock, &Quiet::default()).unwrap()
}

#[test]
fn a_shop_is_an_applications_folder_with_a_database_or_uploads() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    database(&root.join("srv/tea/data/shop.db"));
    database(&root.join("srv/tea/data/no-ending"));
    file(&root.join("srv/tea/public/uploads/cup.jpg"), 1000);
    file(&root.join("srv/tea/public/uploads/images/pot.jpg"), 1000);
    file(&root.join("srv/tea/cache/big.db"), 1024 * 1024);
    file(&root.join("srv/code-only/main.py"), 10);
    file(&root.join("var/www/pictures-only/uploads/a.jpg"), 10);
    // A home's folder of pictures is no shop, one with a database is.
    file(&root.join("home/mara/holiday/images/sea.jpg"), 10);
    database(&root.join("home/mara/till/till.sqlite"));
    database(&root.join("home/mara/.mozilla/cookies.sqlite"));
    database(&root.join("var/lib/PackageKit/transactions.db"));
    database(&root.join("var/lib/docker/volumes/shop/_data/app.db"));
    // Looks like one by its name and its size only.
    file(&root.join("opt/app/fake.db"), 4096);
    symlink(root.join("srv/tea"), root.join("srv/link")).unwrap();

    let found = find(root);
    let folders: Vec<_> = found
        .shops
        .iter()
        .map(|shop| shop.folder.strip_prefix(root).unwrap().to_str().unwrap())
        .collect();
    let expected = [
        "home/mara/till",
        "srv/tea",
        "var/lib/docker/volumes/shop/_data",
        "var/www/pictures-only",
    ];
    assert_eq!(folders, expected);
    let tea = &found.shops[1];
    let names: Vec<_> = tea
        .databases
        .iter()
        .map(|database| database.path.file_name().unwrap())
        .collect();
    assert_eq!(names, ["no-ending", "shop.db"]);
    assert_eq!(tea.uploads, [root.join("srv/tea/public/uploads")]);
    assert_eq!(tea.caches, [root.join("srv/tea/cache")]);
    assert_eq!(tea.files, 4, "without what is in the cache");
    assert!(!found.cut_short && found.unreadable.is_empty(), "{found:?}");
}

#[test]
fn a_database_that_is_all_in_its_log_is_found_and_a_repository_is_not_looked_into() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let path = root.join("srv/shop/shop.db");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"").unwrap();
    fs::write(
        root.join("srv/shop/shop.db-wal"),
        [0x37, 0x7f, 0x06, 0x82, 0, 0],
    )
    .unwrap();
    for name in ["keys", "snapshots", "data"] {
        fs::create_dir_all(root.join("srv/shop/backup").join(name)).unwrap();
    }
    fs::write(root.join("srv/shop/backup/config"), b"").unwrap();
    database(&root.join("srv/shop/backup/data/not-ours.db"));

    let found = find(root);
    assert_eq!(found.shops.len(), 1);
    let databases = &found.shops[0].databases;
    assert_eq!(databases.len(), 1);
    assert_eq!(databases[0].path, path);
}

#[test]
fn what_calls_us_is_found_and_what_is_commented_out_is_not() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    file(&root.join("etc/crontab"), 0);
    fs::write(
        root.join("etc/crontab"),
        "# 1 2 * * * root tillsafe backup\n15 3 * * * root run-parts /etc\n",
    )
    .unwrap();
    assert!(host::timers(root).is_empty());
    let own = root.join("etc/cron.d/tillsafe");
    file(&own, 0);
    fs::write(
        &own,
        "MAILTO=mara\n15 3 * * * root /usr/local/bin/tillsafe -q backup\n",
    )
    .unwrap();
    let timers = host::timers(root);
    assert_eq!(timers.len(), 1);
    assert_eq!(timers[0].file, own);
    assert_eq!(
        timers[0].line,
        "15 3 * * * root /usr/local/bin/tillsafe -q backup"
    );
}

#[test]
fn servers_that_run_here_are_named() {
    let root = tempfile::tempdir().unwrap();
    assert!(host::servers(root.path()).is_empty());
    fs::create_dir_all(root.path().join("run/postgresql")).unwrap();
    let socket = root.path().join("run/postgresql/.s.PGSQL.5432");
    let _listening = UnixListener::bind(&socket).unwrap();
    assert_eq!(host::servers(root.path()), [("PostgreSQL", socket)]);
}

#[test]
fn a_storage_is_looked_at_also_before_its_folder_exists() {
    let root = tempfile::tempdir().unwrap();
    let here = host::storage(root.path()).unwrap();
    let later = host::storage(&root.path().join("not/there/yet")).unwrap();
    assert_eq!(here.device, later.device);
    assert!(here.free_bytes > 0 && here.free_bytes <= here.total_bytes);
    let memory = host::storage(Path::new("/dev/shm")).unwrap();
    assert!(memory.doubt.unwrap().contains("memory"), "{memory:?}");
}

#[test]
fn a_storage_that_breaks_a_promise_is_found_out_whichever_it_is() -> Result<()> {
    let root = tempfile::tempdir().unwrap();
    host::probe(root.path(), &OsDisk, &SystemRng)?;
    let mut found_out = 0;
    for operation in 1.. {
        let fault = Fault::once(operation);
        let disk = FaultyDisk::new(OsDisk, Arc::clone(&fault));
        let result = host::probe(root.path(), &disk, &SystemRng);
        if !fault.fired() {
            result?;
            break;
        }
        found_out += u32::from(result.is_err());
    }
    assert!(found_out >= 8, "{found_out}");
    host::probe(root.path(), &OsDisk, &SystemRng)?;
    let left = fs::read_dir(root.path()).unwrap().count();
    assert_eq!(
        left, 0,
        "the next probe cleans up after one that was interrupted"
    );
    Ok(())
}
