//! A tool that does not tell the truth makes no snapshot: real streams, cut by a script in the tool's place.

use super::{World, path, source, with_fake};
use crate::common::postgres::{Database, SUPERUSER, server};

/// A world in which `name` is a script around the real one.
pub fn lying(database: &Database, name: &str, script: &str) -> World {
    let world = World::bare();
    let programs = with_fake(world.place.path(), &database.server.programs, name, script);
    let more = format!("programs = {}", path(&programs));
    world.write(&source(database.server, SUPERUSER, &database.name, &more));
    world
}

#[test]
fn a_stream_that_ends_too_early_makes_no_snapshot_whatever_its_exit_code() {
    let Some(server) = server() else { return };
    let database = server.database("cut").shop(300);
    let whole = lying(&database, "pg_dump", "exec $REAL \"$@\"");
    whole.ok(&["backup"]);
    let size = whole.manifest()["servers"][0]["dump_bytes"]
        .as_u64()
        .unwrap();
    let mut cuts: Vec<u64> = (1..40).map(|part| size * part / 40).collect();
    cuts.extend([0, 1, 5, 20, size - 20, size - 5, size - 1]);
    for bytes in cuts {
        let world = lying(
            &database,
            "pg_dump",
            &format!("$REAL \"$@\" | head -c {bytes}; exit 0"),
        );
        let said = world.refused();
        assert!(
            said.contains("what pg_dump wrote is not whole"),
            "{bytes} of {size}: {said}"
        );
    }
}

#[test]
fn a_tool_that_fails_after_a_whole_stream_makes_no_snapshot() {
    let Some(server) = server() else { return };
    let database = server.database("fails").shop(300);
    for (script, words) in [
        (
            "$REAL \"$@\"; echo 'the disk is on fire' >&2; exit 3",
            "ended with exit code 3: the disk is on fire",
        ),
        ("$REAL \"$@\"; kill -9 $$", "ended by signal 9"),
        ("exit 0", "is not whole"),
        ("echo nothing; exit 0", "is not whole"),
    ] {
        let said = lying(&database, "pg_dump", script).refused();
        assert!(said.contains(words), "{script}: {said}");
    }
    for (script, words) in [
        ("$REAL \"$@\" | head -c 300", "its last line is missing"),
        ("exit 0", "its last line is missing"),
        ("$REAL \"$@\"; exit 1", "pg_dumpall ended with exit code 1"),
    ] {
        let said = lying(&database, "pg_dumpall", script).refused();
        assert!(said.contains(words), "{script}: {said}");
    }
    // It says that all is well, and has read nothing of it.
    let said = lying(&database, "pg_restore", "exit 0").refused();
    assert!(said.contains("is not whole"), "{said}");
}

#[test]
fn a_whole_dump_of_other_content_makes_no_snapshot() {
    let Some(server) = server() else { return };
    let database = server.database("other").shop(50);
    for (script, words) in [
        (
            "$REAL --exclude-table-data=public.orders \"$@\"",
            "the table public.orders is not in it",
        ),
        (
            "$REAL --exclude-table=public.cups_rest \"$@\"",
            "the table public.cups_rest is not in it",
        ),
        ("$REAL --schema-only \"$@\"", "is not in it"),
    ] {
        let said = lying(&database, "pg_dump", script).refused();
        assert!(said.contains(words), "{script}: {said}");
    }
    // Not in our view, but in that of now: a row and a table more.
    let now = "for word in \"$@\"; do case $word in --snapshot=*) ;; *) set -- \"$@\" \"$word\";; esac; shift; done; ";
    let sql = "\"INSERT INTO customers(name) VALUES ('late')\"";
    let late = format!(
        "{}/psql -X -q -h $PGHOST -U $PGUSER -d $PGDATABASE -c {sql} >&2; {now} exec $REAL \"$@\"",
        server.programs.display()
    );
    let said = lying(&database, "pg_dump", &late).refused();
    assert!(
        said.contains("the table public.customers has 4 rows in it, and 3 were counted"),
        "{said}"
    );
}

#[test]
fn the_dump_is_of_the_moment_that_was_counted() {
    let Some(server) = server() else { return };
    let database = server.database("moment").shop(50);
    let sql = "\"INSERT INTO customers(name) VALUES ('late'); CREATE TABLE later(id int)\"";
    let script = format!(
        "{}/psql -X -q -h $PGHOST -U $PGUSER -d $PGDATABASE -c {sql} >&2; exec $REAL \"$@\"",
        server.programs.display()
    );
    let world = lying(&database, "pg_dump", &script);
    world.ok(&["backup"]);
    assert_eq!(
        world.manifest()["servers"][0]["fingerprint"]["tables"]["public.customers"]["rows"],
        3
    );
}
