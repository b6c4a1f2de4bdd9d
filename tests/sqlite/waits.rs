//! How long an application waits for us in WAL mode: never for an ordinary commit; behind its own RESTART or
//! TRUNCATE checkpoint as long as we read, which is reported.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tillsafe::backend::{Backend, MemBackend};
use tillsafe::durable::OsDisk;
use tillsafe::durable::faults::{Fault, FaultyDisk};
use tillsafe::restore::ProofLevel;
use tillsafe::source::sqlite::capture;

use super::{options, orders};
use crate::common::Place;
use crate::common::library::{back_up, create, restore};
use crate::common::shop::Shop;
use crate::common::tools::{find, skipped};

/// Commits, then runs a checkpoint that waits for readers; says how long each took.
const APPLICATION: &str = "
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
commits = []
for number in range(20):
    begun = time.monotonic()
    connection.execute('INSERT INTO customers(name) VALUES (?)', (number,))
    commits.append(time.monotonic() - begun)
connection.execute('PRAGMA busy_timeout = 30000')
begun = time.monotonic()
busy = connection.execute(f'PRAGMA wal_checkpoint({sys.argv[2]})').fetchone()[0]
with open(sys.argv[3], 'w') as said:
    said.write(f'{max(commits)} {time.monotonic() - begun} {busy}')
";

#[test]
fn ordinary_commits_never_wait_and_a_restart_waits_for_the_end_of_our_read() {
    const READING: Duration = Duration::from_millis(1500);
    let Some(python) = find("python3") else {
        return skipped("an application's own checkpoint", "there is no python3");
    };
    for checkpoint in ["RESTART", "TRUNCATE"] {
        let place = Place::new();
        let shop = Shop::open(&place.join("shop"), 4000, "wal");
        let _open = shop.connect();
        // Something in the log, so that our snapshot is of the log and a restart has to wait.
        shop.sell(1);
        let said = place.join("said");
        let mut child = None;
        let captured = capture(&shop.database, &options(place.path()), &mut |_: Vec<u8>| {
            if child.is_none() {
                let application = Command::new(&python)
                    .args(["-c", APPLICATION])
                    .arg(&shop.database)
                    .args([checkpoint])
                    .arg(&said)
                    .stdin(Stdio::null())
                    .spawn()
                    .unwrap();
                child = Some(application);
                // A slow repository.
                std::thread::sleep(READING);
            }
            Ok(())
        })
        .unwrap();
        assert!(
            child.unwrap().wait().unwrap().success(),
            "a commit was refused"
        );
        let numbers: Vec<f64> = fs::read_to_string(&said)
            .unwrap()
            .split(' ')
            .map(|word| word.parse().unwrap())
            .collect();
        let [commit, waited, busy] = numbers[..] else {
            panic!("{numbers:?}");
        };
        assert!(busy.abs() < 0.5, "{checkpoint} gave up");
        assert!(
            commit < READING.as_secs_f64() / 2.0,
            "{checkpoint}: a commit took {commit} s"
        );
        assert!(captured.held >= READING, "{:?}", captured.held);
        // It goes on when our read has ended; a busy machine may take its time for that.
        let bound = captured.held + Duration::from_secs(5);
        assert!(
            waited <= bound.as_secs_f64(),
            "{checkpoint}: {waited} s, held {:?}",
            captured.held
        );
    }
}

/// Whether the application's own RESTART gets through at once while the repository takes the image.
fn restarts_meanwhile(read: Duration) -> bool {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 4000, "wal");
    let application = shop.connect();
    application.busy_timeout(Duration::ZERO).unwrap();
    shop.sell(1);
    let mut options = options(place.path());
    options.limits.read = read;
    let mut busy = None;
    let mut image = Vec::new();
    let captured = capture(&shop.database, &options, &mut |chunk: Vec<u8>| {
        let restart = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        if busy.is_none() {
            let said = application.query_row("PRAGMA wal_checkpoint(RESTART)", [], restart);
            busy = Some(said.unwrap() != 0);
        }
        image.extend(chunk);
        Ok(())
    })
    .unwrap();
    assert_eq!(captured.fingerprint.tables["orders"], 4001);
    assert_eq!(captured.warnings, [""; 0]);
    assert_eq!(orders(&place, &image), 4001);
    !busy.unwrap()
}

#[test]
fn a_read_that_lasts_too_long_goes_on_from_a_spool_and_nobody_waits() {
    assert!(!restarts_meanwhile(Duration::from_hours(1)));
    assert!(restarts_meanwhile(Duration::ZERO));
}

/// Each operation of the spool fails in turn: the image is whole, and it is said that somebody had to wait.
#[test]
fn without_room_for_a_spool_the_read_goes_on_without_a_bound() {
    let (mut failed, mut waited) = (0, 0);
    for number in 1.. {
        let place = Place::new();
        let shop = Shop::open(&place.join("shop"), 4000, "wal");
        let _open = shop.connect();
        let fault = Fault::from_there_on(number);
        let mut options = options(place.path());
        options.disk = Arc::new(FaultyDisk::new(OsDisk, Arc::clone(&fault)));
        options.limits.read = Duration::ZERO;
        let mut image = Vec::new();
        let captured = capture(&shop.database, &options, &mut |chunk: Vec<u8>| {
            image.extend(chunk);
            Ok(())
        });
        if !fault.fired() {
            captured.unwrap();
            break;
        }
        failed += 1;
        match captured {
            Ok(captured) => {
                assert_eq!(orders(&place, &image), 4000, "{number}");
                let told = |text: &String| text.contains("had to wait");
                waited += usize::from(captured.warnings.iter().any(told));
            }
            // What is in the spool cannot be read back: no image.
            Err(cause) => println!("operation {number}: {cause}"),
        }
    }
    println!("{failed} operations failed in turn; {waited} times the read had no bound");
    // The last ones only remove the spool.
    assert!(failed >= 5 && waited >= failed / 2, "{waited} of {failed}");
}

/// A large database is counted and checked on a second connection while the first reads its pages: both are of one moment,
/// however busy the shop is, or there is no second.
#[test]
fn what_is_counted_beside_the_pages_is_of_their_moment() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 1000, "wal");
    shop.connect()
        .execute_batch(
            "CREATE TABLE photos(id INTEGER PRIMARY KEY, data BLOB);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
             INSERT INTO photos SELECT i, randomblob(12000) FROM n;",
        )
        .unwrap();
    assert!(fs::metadata(&shop.database).unwrap().len() > 40 << 20);
    let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
    create(&backend);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                shop.sell(3);
            }
        });
        for number in 0..6 {
            let outcome = back_up(&backend, &shop.database).unwrap();
            let target = place.join(&number.to_string());
            let restored = restore(&backend, outcome.snapshot, Path::new("/"), &target, &OsDisk);
            assert_eq!(restored.unwrap().level, ProofLevel::Matched);
        }
        is_done.store(true, Ordering::Relaxed);
    });
}
