//! A database back into a server: a new one, counted, and never over one that is there.

use super::{World, path, source, with_fake};
use crate::common::postgres::{SUPERUSER, server};

/// What the live database holds, as one text.
const STATE: &str = "SELECT string_agg(o::text, ',' ORDER BY id) FROM orders o";

#[test]
fn a_database_comes_back_under_a_new_name_and_the_live_one_stays_as_it_is() {
    let Some(server) = server() else { return };
    let database = server.database("live").shop(2000);
    let world = World::of(&database, "");
    world.ok(&["backup"]);
    database.run("UPDATE orders SET item = 'changed since' WHERE id < 100; INSERT INTO customers(name) VALUES ('new')");
    let state: String = database.connect().query_one(STATE, &[]).unwrap().get(0);
    let go = world.ok(&[
        "restore",
        "latest",
        "--database",
        "till",
        "--as",
        "back a=b",
        "--dry-run",
    ]);
    assert!(go.stdout.contains("GO: database till"), "{}", go.text());
    let run = world.ok(&[
        "restore",
        "latest",
        "--database",
        "till",
        "--as",
        "back a=b",
    ]);
    assert!(
        run.stdout.contains("proof level: matched"),
        "{}",
        run.text()
    );
    world.assert_clean();
    let mut back = server.connect(SUPERUSER, "back a=b");
    let orders: i64 = back
        .query_one("SELECT count(*) FROM orders WHERE item LIKE 'item %'", &[])
        .unwrap()
        .get(0);
    assert_eq!(orders, 2000);
    let next: i64 = back
        .query_one("SELECT nextval('orders_id_seq')", &[])
        .unwrap()
        .get(0);
    assert_eq!(next, 2001);
    let now: String = database.connect().query_one(STATE, &[]).unwrap().get(0);
    assert_eq!(now, state);
    // The same again: there is one of that name.
    drop(back);
    let again = world.run(&[
        "restore",
        "latest",
        "--database",
        "till",
        "--as",
        "back a=b",
    ]);
    assert_eq!(again.code, 20, "{}", again.text());
    assert!(
        again
            .stderr
            .contains("there is a database back a=b already"),
        "{}",
        again.stderr
    );
    server
        .connect(SUPERUSER, "postgres")
        .batch_execute("DROP DATABASE \"back a=b\"")
        .unwrap();
    // Without a name it has one that says what it is.
    let objects =
        super::Run::of(&mut world.command(&["--json", "restore", "latest", "--database", "till"]))
            .objects();
    let summary = objects.last().unwrap();
    assert_eq!(summary["proof_level"], "matched", "{summary}");
    let name = summary["database"].as_str().unwrap();
    assert!(name.starts_with("till_restored_"), "{name}");
    server
        .connect(SUPERUSER, "postgres")
        .batch_execute(&format!("DROP DATABASE {name}"))
        .unwrap();
}

#[test]
fn what_is_in_the_way_is_told_before_anything_is_made() {
    let Some(server) = server() else { return };
    let database = server.database("needs").shop(10);
    let role = format!("gone_{}", database.name);
    database.run(&format!(
        "CREATE ROLE {role}; ALTER TABLE orders OWNER TO {role}"
    ));
    let world = World::of(&database, "");
    world.ok(&["backup"]);
    database.run(&format!(
        "REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}; DROP ROLE {role}"
    ));
    // Others make databases beside us.
    let databases = || -> i64 {
        server
            .connect(SUPERUSER, "postgres")
            .query_one(
                "SELECT count(*) FROM pg_database WHERE datname = 'needed' OR datname LIKE 'xxxx%'",
                &[],
            )
            .unwrap()
            .get(0)
    };
    let run = world.run(&["restore", "latest", "--database", "till", "--as", "needed"]);
    assert_eq!(run.code, 20, "{}", run.text());
    assert!(
        run.stderr.contains(&format!("\"{role}\"")),
        "{}",
        run.stderr
    );
    let run = world.run(&[
        "restore",
        "latest",
        "--database",
        "till",
        "--as",
        &"x".repeat(64),
    ]);
    assert_eq!(run.code, 20, "{}", run.text());
    let run = world.run(&[
        "restore",
        "latest",
        "--database",
        "till",
        "--as",
        "needed",
        "--port",
        "9",
    ]);
    assert_eq!(run.code, 20, "{}", run.text());
    assert!(run.stderr.contains("no connection"), "{}", run.stderr);
    let run = world.run(&["restore", "latest", "--database", "other", "--as", "needed"]);
    assert_eq!(run.code, 13, "{}", run.text());
    assert!(
        run.stderr.contains("of servers it holds: till"),
        "{}",
        run.stderr
    );
    assert_eq!(databases(), 0);
    world.assert_clean();
}

#[test]
fn a_load_that_fails_or_is_not_what_was_captured_leaves_no_database() {
    let Some(server) = server() else { return };
    let database = server.database("load").shop(100);
    let world = World::of(&database, "");
    world.ok(&["backup"]);
    let sql = "\"UPDATE orders SET paid = 1 WHERE id = 7\"";
    let psql = format!(
        "{}/psql -X -q -h $PGHOST -U $PGUSER",
        server.programs.display()
    );
    for (script, words) in [
        (
            "echo 'no room' >&2; exit 1".to_owned(),
            "pg_restore ended with exit code 1: no room",
        ),
        ("exit 0".to_owned(), "it is not there"),
        (
            format!("$REAL \"$@\" || exit; {psql} -d till_bad -c {sql}"),
            "the table public.orders: what is in its rows differs",
        ),
        (
            format!("$REAL \"$@\" || exit; {psql} -d till_bad -c 'DROP VIEW unpaid'"),
            "of the kind",
        ),
        (
            format!(
                "$REAL \"$@\" || exit; {psql} -d till_bad -c \"SELECT setval('orders_id_seq', 5)\" >&2"
            ),
            "the sequence public.orders_id_seq is at 5",
        ),
    ] {
        let folder = world.path("fake");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        let programs = with_fake(&folder, &server.programs, "pg_restore", &script);
        world.write(&source(
            server,
            SUPERUSER,
            &database.name,
            &format!("programs = {}", path(&programs)),
        ));
        let run = world.run(&[
            "restore",
            "latest",
            "--database",
            "till",
            "--as",
            "till_bad",
        ]);
        assert_eq!(run.code, 21, "{script}: {}", run.text());
        assert!(run.stderr.contains(words), "{script}: {}", run.stderr);
        let left: i64 = server
            .connect(SUPERUSER, "postgres")
            .query_one(
                "SELECT count(*) FROM pg_database WHERE datname = 'till_bad'",
                &[],
            )
            .unwrap()
            .get(0);
        assert_eq!(left, 0, "{script}");
        world.assert_clean();
    }
}

#[test]
fn a_restore_of_files_brings_the_dump_and_one_in_place_leaves_it_out() {
    let Some(server) = server() else { return };
    let database = server.database("files").shop(10);
    let world = World::of(&database, "");
    let site = world.path("site");
    std::fs::create_dir(&site).unwrap();
    std::fs::write(site.join("index.html"), "tea").unwrap();
    let files = format!("[[shop.mara.files]]\npath = {}\n", path(&site));
    world.write(&(source(server, SUPERUSER, &database.name, "") + &files));
    world.ok(&["backup"]);
    let target = world.path("target");
    let run = world.run(&["restore", "latest", "--target", target.to_str().unwrap()]);
    assert_eq!(run.code, 7, "{}", run.text());
    assert!(
        run.stdout.contains("database till: restored") && run.stdout.contains("--database till"),
        "{}",
        run.text()
    );
    assert!(target.join("tillsafe/mara/till/dump.pgdump").is_file());
    let plan = world.run(&["restore", "latest", "--in-place", "--dry-run"]);
    assert_eq!(plan.code, 0, "{}", plan.text());
    assert!(
        plan.stderr.contains("not a part of a restore in place")
            && !plan.stdout.contains("/tillsafe/mara"),
        "{}",
        plan.text()
    );
    let alone = world.run(&[
        "restore",
        "latest:/tillsafe/mara/till",
        "--in-place",
        "--dry-run",
    ]);
    assert_eq!(alone.code, 2, "{}", alone.text());
    assert!(alone.stderr.contains("--database"), "{}", alone.stderr);
    // Of a part without it nothing is unproved.
    let part = world.path("part");
    world.ok(&[
        "restore",
        &format!("latest:{}", site.display()),
        "--target",
        part.to_str().unwrap(),
    ]);
}
