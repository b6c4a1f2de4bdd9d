//! How long an application waits for us in WAL mode: never for an ordinary commit; behind its own RESTART or
//! TRUNCATE checkpoint as long as we read, which is reported.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use tillsafe::source::sqlite::capture;

use super::options;
use crate::common::Place;
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
        let captured = capture(&shop.database, &options(place.path()), &mut |_| {
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
