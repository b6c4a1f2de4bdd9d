//! A backup while others work, and while it is disturbed: what counts as good is whole and of one moment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::gate::lying;
use super::{Run, World};
use crate::common::dice::Dice;
use crate::common::postgres::{Database, SUPERUSER, server};
use crate::common::program::{PATIENCE, Started};

/// Accounts between which money goes to and fro: the sum stays.
fn accounts(database: Database) -> Database {
    database.run(
        "CREATE TABLE accounts(id int PRIMARY KEY, money bigint NOT NULL, note text);
         INSERT INTO accounts SELECT i, 1000, repeat('x', 2000) FROM generate_series(1, 2000) i;
         CREATE TABLE moves(id bigserial PRIMARY KEY, amount bigint);",
    );
    database
}

/// Moves money until it is told to stop.
fn move_money(database: &Database, seed: u64, stop: &AtomicBool) {
    let (mut client, mut dice) = (database.connect(), Dice::new(seed));
    while !stop.load(Ordering::Relaxed) {
        let (from, to, amount) = (1 + dice.below(2000), 1 + dice.below(2000), dice.below(50));
        client
            .batch_execute(&format!(
                "BEGIN; UPDATE accounts SET money = money - {amount} WHERE id = {from};
                 UPDATE accounts SET money = money + {amount} WHERE id = {to};
                 INSERT INTO moves(amount) VALUES ({amount}); COMMIT"
            ))
            .unwrap();
    }
}

#[test]
fn under_load_each_capture_is_of_one_moment_and_comes_back_matched() {
    const CAPTURES: usize = 5;
    let Some(server) = server() else { return };
    let database = accounts(server.database("load"));
    let world = World::of(&database, "");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (database, stop) = (&database, &stop);
            scope.spawn(move || move_money(database, seed, stop));
        }
        // The writers end also if this fails.
        let _guard = Stop(&stop);
        for number in 0..CAPTURES {
            world.ok(&["backup"]);
            let name = format!("{}_back_{number}", database.name);
            let run = world.ok(&["restore", "latest", "--database", "till", "--as", &name]);
            assert!(
                run.stdout.contains("proof level: matched"),
                "{}",
                run.text()
            );
            let sum: i64 = server
                .connect(SUPERUSER, &name)
                .query_one("SELECT sum(money)::int8 FROM accounts", &[])
                .unwrap()
                .get(0);
            assert_eq!(sum, 2_000_000, "capture {number}");
            let drop = format!("DROP DATABASE {name}");
            server
                .connect(SUPERUSER, "postgres")
                .batch_execute(&drop)
                .unwrap();
        }
    });
    let moves: i64 = database
        .connect()
        .query_one("SELECT count(*) FROM moves", &[])
        .unwrap()
        .get(0);
    assert!(moves > 100, "there was no load: {moves}");
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_tool_or_a_session_that_is_killed_at_any_moment_leaves_no_snapshot_that_is_not_whole() {
    const TRIES: u64 = 12;
    let Some(server) = server() else { return };
    let database = accounts(server.database("killed"));
    let (mut good, mut failed) = (0, 0);
    for seed in 0..TRIES {
        let mut dice = Dice::new(seed);
        let wait = dice.below(400);
        // A tool that is killed, and whoever called it says that all is well.
        let script = format!(
            "$REAL \"$@\" & pid=$!; sleep 0.{wait:03}; kill -9 $pid 2>/dev/null; wait $pid; exit 0"
        );
        let world = lying(
            &database,
            "pg_dump",
            if seed % 2 == 0 {
                &script
            } else {
                "exec $REAL \"$@\""
            },
        );
        let mut run = Started::of(&mut world.command(&["backup"]));
        if seed % 2 == 1 {
            std::thread::sleep(Duration::from_millis(wait));
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()";
            server
                .connect(SUPERUSER, "postgres")
                .execute(sql, &[&database.name])
                .unwrap();
        }
        let ended = run.has_ended();
        let run = run.finish();
        match run.code {
            0 => {
                good += 1;
                let name = format!("{}_back", database.name);
                world.ok(&["restore", "latest", "--database", "till", "--as", &name]);
                let drop = format!("DROP DATABASE {name}");
                server
                    .connect(SUPERUSER, "postgres")
                    .batch_execute(&drop)
                    .unwrap();
            }
            14 => {
                failed += 1;
                assert_eq!(world.snapshots(), 0, "seed {seed}");
            }
            _ => panic!("seed {seed}, {wait} ms, {ended}: {}", run.text()),
        }
        world.assert_clean();
    }
    println!("of {TRIES}: {good} good, {failed} failed");
    assert!(failed > 0, "none was disturbed");
}

#[test]
fn a_table_cannot_be_emptied_between_the_view_and_the_dump() {
    let Some(server) = server() else { return };
    let database = server.database("truncate").shop(50);
    let script = format!(
        "{}/psql -X -q -h $PGHOST -U $PGUSER -d $PGDATABASE -c \"SET lock_timeout = '200ms'\" -c 'TRUNCATE cups_rest' >&2 && echo 'it was emptied' >&2; exec $REAL \"$@\"",
        server.programs.display()
    );
    let world = lying(&database, "pg_dump", &script);
    world.ok(&["backup"]);
    let log = world
        .ok(&["dump", "latest:/tillsafe/mara/till/dump.log"])
        .stdout;
    assert!(
        log.contains("canceling statement due to lock timeout") && !log.contains("it was emptied"),
        "{log}"
    );
}

#[test]
fn a_signal_ends_a_backup_that_waits_for_a_tool() {
    let Some(server) = server() else { return };
    let database = server.database("signal").shop(50);
    let world = lying(
        &database,
        "pg_dump",
        "echo $$ >\"${PGPASSFILE%/*}/began\"; sleep 1000",
    );
    let scratch = world.scratch();
    let mut run = Started::of(&mut world.command(&["backup"]));
    run.wait_until("the tool runs", || {
        let folders = std::fs::read_dir(&scratch).unwrap().flatten();
        folders
            .into_iter()
            .any(|one| one.path().join("began").exists())
    });
    let begun = Instant::now();
    run.signal(Signal::TERM);
    let run = run.finish();
    assert_eq!(run.code, 143, "{}", run.text());
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    assert_eq!(world.snapshots(), 0);
    world.assert_clean();
}

#[test]
fn a_whole_dump_of_a_database_that_was_emptied_is_kept_as_suspect() {
    let Some(server) = server() else { return };
    let database = server.database("emptied").shop(2000);
    let world = World::of(&database, "");
    world.ok(&["backup"]);
    database.run("CREATE TABLE kept AS SELECT * FROM orders; DELETE FROM orders");
    for _ in 0..2 {
        // As long as nobody says that it is meant.
        let run = world.run(&["backup"]);
        assert_eq!(run.code, 6, "{}", run.text());
        assert!(
            run.stderr
                .contains("the table public.orders is empty or gone, and held 2000 rows before"),
            "{}",
            run.stderr
        );
    }
    let tags = crate::common::library::snapshots(&world.program.backend())
        .pop()
        .unwrap()
        .file
        .tags;
    assert!(tags.contains(&"suspect".to_owned()), "{tags:?}");
    world.ok(&["tag", "--shop", "mara", "--remove", "suspect", "latest"]);
    world.ok(&["backup"]);
    // A table that was empty in the last good one may go.
    database.run("DROP TABLE orders CASCADE");
    assert_eq!(world.run(&["backup"]).code, 0);
    database.run("TRUNCATE kept, customers, cups");
    let objects = Run::of(&mut world.command(&["--json", "backup"])).objects();
    assert_eq!(objects.last().unwrap()["exit_code"], 6, "{objects:?}");
}
