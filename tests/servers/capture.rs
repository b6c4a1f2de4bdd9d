//! What a backup of a server's database stores, and what it says of it.

use std::fs;
use std::process::Command;

use super::{World, path, source};
use crate::common::postgres::{SUPERUSER, server};
use crate::common::program::Run;
use crate::common::restic;

#[test]
fn a_database_becomes_files_that_its_own_tools_take() {
    let Some(server) = server() else { return };
    let database = server.database("shop").shop(5000);
    let world = World::of(&database, "");
    let run = world.ok(&["backup"]);
    assert!(run.stdout.contains("database till (shop"), "{}", run.text());
    assert_eq!(run.stderr, "", "{}", run.text());
    world.assert_clean();
    let manifest = world.manifest();
    let objects = Run::of(&mut world.command(&["--json", "backup"])).objects();
    let fields = &objects.last().unwrap()["shops"][0]["servers"][0];
    assert_eq!(fields["rows"], 5006, "{fields}");
    let till = &manifest["servers"][0];
    assert_eq!(manifest["schema"], 2);
    assert_eq!(till["path"], "/tillsafe/mara/till");
    assert_eq!(till["fingerprint"]["tables"]["public.orders"]["rows"], 5000);
    assert_eq!(till["fingerprint"]["tables"]["public.cups_rest"]["rows"], 2);
    assert_eq!(till["fingerprint"]["large_objects"]["rows"], 1);
    assert_eq!(till["has_passwords"], true);
    // Stock restic and the engine's own tools bring it back.
    restic::each(|restic| {
        let target = world.path("back");
        let _ = fs::remove_dir_all(&target);
        let restic = restic::Restic::on(restic, &world.program);
        restic.ok(&["restore", "latest", "--target", target.to_str().unwrap()]);
        let folder = target.join("tillsafe/mara/till");
        let globals = fs::read_to_string(folder.join("globals.sql")).unwrap();
        assert!(globals.contains("CREATE ROLE postgres;"), "{globals}");
        assert!(
            fs::read_to_string(folder.join("README.txt"))
                .unwrap()
                .contains("pg_restore")
        );
        let back = server.database("back");
        let loaded = Command::new(server.programs.join("pg_restore"))
            .args(["--exit-on-error", "-U", SUPERUSER, "-h"])
            .arg(&server.socket)
            .args(["-d", &back.name])
            .arg(folder.join("dump.pgdump"))
            .output()
            .unwrap();
        assert!(loaded.status.success(), "{loaded:?}");
        let orders: i64 = back
            .connect()
            .query_one("SELECT count(*) FROM orders", &[])
            .unwrap()
            .get(0);
        assert_eq!(orders, 5000);
        restic.assert_clean();
    });
}

#[test]
fn names_that_would_be_something_else_are_names() {
    let Some(server) = server() else { return };
    let database = server.database("a=b host='x' \"; \\! touch\n--");
    database.run(
        "CREATE SCHEMA \"Say \"\"hi\"\"\";
         CREATE TABLE \"Say \"\"hi\"\"\".\"COPY x FROM stdin;\n\\.\n\"(\"a\nb\" text, one_row text, t text);
         INSERT INTO \"Say \"\"hi\"\"\".\"COPY x FROM stdin;\n\\.\n\" VALUES (E'1\\n2', 'x', 'y'), (E'\\\\.', NULL, '\\N');
         CREATE TABLE \"two.parts\"(); INSERT INTO \"two.parts\" DEFAULT VALUES; INSERT INTO \"two.parts\" DEFAULT VALUES;
         CREATE SEQUENCE \"it's\n\";",
    );
    let world = World::of(&database, "");
    world.ok(&["backup"]);
    let manifest = world.manifest();
    let tables = &manifest["servers"][0]["fingerprint"]["tables"];
    assert_eq!(
        tables["\"Say \"\"hi\"\"\".\"COPY x FROM stdin;\n\\.\n\""]["rows"], 2,
        "{tables}"
    );
    assert_eq!(tables["public.\"two.parts\""]["rows"], 2, "{tables}");
}

#[test]
fn what_stands_in_a_database_runs_nothing_with_our_rights() {
    let Some(server) = server() else { return };
    let database = server.database("hostile");
    let role = format!("owner_{}", database.name);
    database.run(&format!(
        "CREATE ROLE {role} LOGIN; GRANT CREATE ON SCHEMA public TO {role}; CREATE TABLE caught(who text); GRANT INSERT ON caught TO public;"
    ));
    let mut owner = server.connect(&role, &database.name);
    owner
        .batch_execute(
            "CREATE TABLE bait(x int); INSERT INTO bait VALUES (1), (2);
             CREATE FUNCTION steal(bait) RETURNS text LANGUAGE plpgsql AS
                'BEGIN RAISE EXCEPTION ''run as %'', current_user; END';
             CREATE CAST (bait AS text) WITH FUNCTION steal(bait);
             CREATE FUNCTION public.count(anyelement) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''count''; END';",
        )
        .unwrap();
    let world = World::of(&database, "");
    world.ok(&["backup"]);
    assert_eq!(
        world.manifest()["servers"][0]["fingerprint"]["tables"]["public.bait"]["rows"],
        2
    );
    drop(owner);
    drop(database);
    server
        .connect(SUPERUSER, "postgres")
        .batch_execute(&format!("DROP ROLE {role}"))
        .unwrap();
}

#[test]
fn everything_that_a_role_cannot_read_is_told_at_once_and_then_it_can() {
    let Some(server) = server() else { return };
    let database = server.database("rights").shop(10);
    let role = format!("reader_{}", database.name);
    database.run(&format!(
        "CREATE ROLE {role} LOGIN; CREATE SCHEMA closed; CREATE TABLE closed.ledger(id int);
         ALTER TABLE customers ENABLE ROW LEVEL SECURITY; GRANT SELECT ON customers TO {role};"
    ));
    let world = World::bare();
    world.write(&source(server, &role, &database.name, ""));
    let said = world.refused();
    for word in [
        "table closed.ledger",
        "table public.orders",
        "sequence public.orders_id_seq",
        "1 large objects",
        "GRANT pg_read_all_data",
        "BYPASSRLS",
        "public.customers",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let objects = "DO $$DECLARE o oid; BEGIN FOR o IN SELECT oid FROM pg_largeobject_metadata LOOP EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO ROLE', o); END LOOP; END$$";
    database.run(&format!(
        "GRANT pg_read_all_data TO {role}; ALTER ROLE {role} BYPASSRLS; {}",
        objects.replace("ROLE'", &format!("{role}'"))
    ));
    let run = world.ok(&["backup"]);
    assert!(
        run.stdout.contains("without their passwords"),
        "{}",
        run.text()
    );
    assert_eq!(world.manifest()["servers"][0]["has_passwords"], false);
    drop(database);
    server
        .connect(SUPERUSER, "postgres")
        .batch_execute(&format!("DROP ROLE {role}"))
        .unwrap();
}

#[test]
fn a_password_comes_from_its_file_and_is_seen_nowhere() {
    const CANARY: &str = "ce:la\\don 'canary'";
    let Some(server) = server() else { return };
    let database = server.database("secret").shop(10);
    server
        .connect(SUPERUSER, "postgres")
        .batch_execute(&format!(
            "CREATE ROLE with_password SUPERUSER LOGIN PASSWORD '{}'",
            CANARY.replace('\'', "''")
        ))
        .unwrap();
    let world = World::bare();
    let file = world.path("role.pass");
    fs::write(&file, "wrong\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&file, mode).unwrap();
    // A script that writes down what everybody can see of it.
    let seen = world.path("seen");
    let script = format!(
        "{{ tr '\\0' ' ' </proc/$$/cmdline; env; ls -l \"$PGPASSFILE\"; }} >>{}; exec $REAL \"$@\"",
        seen.display()
    );
    let programs = super::with_fake(world.place.path(), &server.programs, "pg_dump", &script);
    world.write(&source(
        server,
        "with_password",
        &database.name,
        &format!(
            "password_file = {}\nprograms = {}",
            path(&file),
            path(&programs)
        ),
    ));
    let said = world.refused();
    assert!(said.contains("password authentication failed"), "{said}");
    fs::write(&file, format!("{CANARY}\n")).unwrap();
    let run = world.ok(&["-v", "backup"]);
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains("-rw------- "), "{seen}");
    for text in [&seen, &run.stdout, &run.stderr] {
        assert!(!text.contains("canary"), "{text}");
    }
    world.assert_clean();
    drop(database);
    server
        .connect(SUPERUSER, "postgres")
        .batch_execute("DROP ROLE with_password")
        .unwrap();
}

#[test]
fn a_server_that_is_not_there_and_a_database_that_is_not() {
    let Some(server) = server() else { return };
    let world = World::bare();
    world.write(&source(server, SUPERUSER, "no such database", ""));
    let said = world.refused();
    assert!(
        said.contains("\"no such database\" does not exist"),
        "{said}"
    );
    world.write(&source(server, SUPERUSER, "postgres", "port = 9"));
    let said = world.refused();
    assert!(
        said.contains("no connection to the database postgres") && said.contains("port 9"),
        "{said}"
    );
    world.write(&source(
        server,
        SUPERUSER,
        "postgres",
        "programs = \"/nowhere\"",
    ));
    let said = world.refused();
    assert!(said.contains("there is no /nowhere/pg_dump"), "{said}");
}
