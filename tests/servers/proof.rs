//! `verify` loads each dump into a private server of its own, and counts it.

use std::fs;

use rustix::process::Signal;

use super::World;
use crate::common::postgres::{Database, SUPERUSER, server};
use crate::common::program::{Run, Started};

/// A database whose owner is a role that no new server has, backed up.
fn backed_up(word: &str) -> Option<(World, Database)> {
    let database = server()?.database(word).shop(500);
    let role = format!("keeper_{}", database.name);
    database.run(&format!(
        "CREATE ROLE {role}; ALTER TABLE cups OWNER TO {role}; GRANT SELECT ON orders TO {role}; CREATE EXTENSION IF NOT EXISTS plpgsql"
    ));
    let backed_up = World::of(&database, "");
    backed_up.ok(&["backup"]);
    Some((backed_up, database))
}

fn end(database: Database) {
    let (server, role) = (database.server, format!("keeper_{}", database.name));
    drop(database);
    server
        .connect(SUPERUSER, "postgres")
        .batch_execute(&format!("DROP ROLE {role}"))
        .unwrap();
}

/// Processes whose command names this folder.
fn processes(folder: &std::path::Path) -> usize {
    let folder = folder.to_str().unwrap();
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter(|one| {
        fs::read(one.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(folder))
    })
    .count()
}

#[test]
fn a_dump_is_loaded_into_a_private_server_and_matches() {
    let Some((world, database)) = backed_up("proof") else {
        return;
    };
    let run = world.ok(&["verify"]);
    assert!(
        run.stdout.contains("database till: matched (4 tables"),
        "{}",
        run.text()
    );
    assert!(
        run.stdout.contains("proof level: matched"),
        "{}",
        run.text()
    );
    assert_eq!(run.stderr, "");
    let objects = Run::of(&mut world.command(&["--json", "verify"])).objects();
    let fields = &objects.last().unwrap()["servers"][0];
    assert_eq!(fields["proof_level"], "matched", "{fields}");
    world.assert_clean();
    assert_eq!(processes(&world.scratch()), 0);
    // What was proved of these very bytes is known afterwards.
    let target = world.path("target");
    let run = world.ok(&["restore", "proven", "--target", target.to_str().unwrap()]);
    assert!(
        run.stdout
            .contains("this very dump was loaded and counted at"),
        "{}",
        run.text()
    );
    end(database);
}

#[test]
fn a_killed_verify_leaves_no_server_and_the_next_one_clears_its_folder_away() {
    let Some((world, database)) = backed_up("killed") else {
        return;
    };
    let scratch = world.scratch();
    let mut run = Started::of(&mut world.command(&["verify"]));
    let has_socket = || {
        let folders = fs::read_dir(&scratch).unwrap().flatten();
        folders
            .into_iter()
            .any(|one| one.path().join(".s.PGSQL.5432").exists())
    };
    run.wait_until("the private server is there", has_socket);
    run.signal(Signal::KILL);
    while !run.has_ended() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let begun = std::time::Instant::now();
    while processes(&scratch) > 0 {
        assert!(
            begun.elapsed() < crate::common::program::PATIENCE,
            "a server has outlived us"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    world.ok(&["verify"]);
    world.assert_clean();
    end(database);
}
