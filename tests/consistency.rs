//! A capture is one moment of a busy database: what was acknowledged before it began is in it, what
//! began after it ended is not, and the books balance.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;

use rusqlite::Connection;
use tillsafe::backend::{Backend, MemBackend};
use tillsafe::durable::OsDisk;
use tillsafe::point::ConsistencyPoint;
use tillsafe::source::sqlite::Method;

use crate::common::Place;
use crate::common::library::{back_up, create, restore, snapshots};
use crate::common::tools::find;

const CAPTURES: usize = 100;
const WRITERS: usize = 2;
const ACCOUNTS: i64 = 500;

fn make_bank(database: &Path, journal_mode: &str) {
    let connection = Connection::open(database).unwrap();
    connection
        .query_row(&format!("PRAGMA journal_mode = {journal_mode}"), [], |_| {
            Ok(())
        })
        .unwrap();
    connection
        .execute_batch(
            "CREATE TABLE accounts(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
             CREATE TABLE transfers(id INTEGER PRIMARY KEY AUTOINCREMENT, writer TEXT, number INTEGER);
             CREATE TABLE ballast(id INTEGER PRIMARY KEY, touched INTEGER NOT NULL, text TEXT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
               INSERT INTO accounts SELECT i, 1000 FROM n;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
               INSERT INTO ballast SELECT i, 0, hex(randomblob(400)) FROM n;",
        )
        .unwrap();
}

/// Two processes of the system's own SQLite.
struct Writers {
    children: Vec<Child>,
    logs: Vec<PathBuf>,
}

/// One acknowledged transfer: its number, and the moments before BEGIN and after COMMIT.
struct Transfer {
    number: i64,
    begun: i128,
    acknowledged: i128,
}

impl Writers {
    fn begin(place: &Place, database: &Path, journal_mode: &str) -> Self {
        let script = place.join("writer.py");
        fs::write(&script, include_str!("common/writer.py")).unwrap();
        let python = find("python3").expect("python3 is on every machine that runs these tests");
        let logs: Vec<PathBuf> = (0..WRITERS)
            .map(|writer| place.join(&format!("log-{writer}")))
            .collect();
        let children = logs
            .iter()
            .enumerate()
            .map(|(writer, log)| {
                Command::new(&python)
                    .arg(&script)
                    .args([database, log, &place.join("turn")])
                    .args([&writer.to_string(), journal_mode])
                    .spawn()
                    .unwrap()
            })
            .collect();
        Self { children, logs }
    }

    /// Waits until each has made some transfers. A look into the database would itself be a
    /// connection that comes and goes, and could keep them out.
    fn wait_for_sales(&self) {
        while !self
            .logs
            .iter()
            .all(|log| log.with_extension("begun").exists())
        {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Stops them; returns each one's transfers, and how often somebody kept them out.
    fn end(mut self) -> (Vec<Vec<Transfer>>, u64) {
        for log in &self.logs {
            fs::write(log.with_extension("stop"), "").unwrap();
        }
        for child in &mut self.children {
            assert!(child.wait().unwrap().success());
        }
        let mut busy = 0;
        let mut all = Vec::new();
        for log in &self.logs {
            let mut transfers = Vec::new();
            for line in fs::read_to_string(log).unwrap().lines() {
                if let Some(count) = line.strip_prefix("busy ") {
                    busy += count.parse::<u64>().unwrap();
                    continue;
                }
                let fields: Vec<i128> = line
                    .split(' ')
                    .map(|field| field.parse().unwrap())
                    .collect();
                transfers.push(Transfer {
                    number: i64::try_from(fields[0]).unwrap(),
                    begun: fields[1],
                    acknowledged: fields[2],
                });
            }
            all.push(transfers);
        }
        (all, busy)
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a restored copy says.
fn transfers_in(copy: &Path, writer: usize) -> BTreeSet<i64> {
    let connection = Connection::open(copy).unwrap();
    let one = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    assert_eq!(one("SELECT sum(balance) FROM accounts"), ACCOUNTS * 1000);
    assert_eq!(
        one("SELECT sum(touched) FROM ballast"),
        one("SELECT count(*) FROM transfers")
    );
    let mut statement = connection
        .prepare("SELECT number FROM transfers WHERE writer = ?1")
        .unwrap();
    let numbers = statement
        .query_map([writer.to_string()], |row| row.get(0))
        .unwrap();
    numbers.map(Result::unwrap).collect()
}

fn captures_are_consistent(journal_mode: &str, methods: &[Method]) -> u64 {
    let place = Place::new();
    let database = place.join("bank.db");
    make_bank(&database, journal_mode);
    let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
    create(&backend);
    let writers = Writers::begin(&place, &database, journal_mode);
    writers.wait_for_sales();
    let mut points: Vec<ConsistencyPoint> = Vec::new();
    for _ in 0..CAPTURES {
        let outcome = back_up(&backend, &database).unwrap();
        let [captured] = outcome.manifest.databases.as_slice() else {
            panic!("one database");
        };
        assert!(methods.contains(&captured.method), "{:?}", captured.method);
        points.push(captured.point);
    }
    let (logs, busy) = writers.end();
    let (mut seen_least, mut seen_most) = (usize::MAX, 0);
    let kept = snapshots(&backend);
    assert_eq!(kept.len(), CAPTURES);
    for (snapshot, point) in kept.into_iter().zip(points) {
        let target = place.join("copy");
        restore(&backend, snapshot, &database, &target, &OsDisk).unwrap();
        for (writer, log) in logs.iter().enumerate() {
            let there = transfers_in(&target.join("bank.db"), writer);
            let (before, after) = (
                point.not_before.as_nanosecond(),
                point.not_after.as_nanosecond(),
            );
            for transfer in log {
                let is_in = there.contains(&transfer.number);
                assert!(
                    is_in || transfer.acknowledged >= before,
                    "transfer {} was lost",
                    transfer.number
                );
                assert!(
                    !is_in || transfer.begun <= after,
                    "transfer {} is from the future",
                    transfer.number
                );
            }
            seen_least = seen_least.min(there.len());
            seen_most = seen_most.max(there.len());
        }
        fs::remove_dir_all(target).unwrap();
    }
    let transfers: usize = logs.iter().map(Vec::len).sum();
    println!(
        "{journal_mode}: {CAPTURES} captures, {transfers} transfers, a writer saw \"locked\" {busy} times; captures held {seen_least} to {seen_most} a writer"
    );
    assert!(
        seen_most > seen_least + 50,
        "the shop stood still: nothing was tested"
    );
    busy
}

#[test]
fn in_wal_mode_every_capture_is_one_moment_and_nobody_waits() {
    let busy = captures_are_consistent("wal", &[Method::Pages]);
    // The writers' timeout is zero, so a single wait for us would have been an error of theirs.
    assert_eq!(busy, 0);
}

#[test]
fn in_rollback_mode_every_capture_is_one_moment() {
    // On a busy machine one may take too long, and be copied in steps.
    captures_are_consistent("delete", &[Method::SpooledPages, Method::OnlineBackup]);
}
