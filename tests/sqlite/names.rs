//! One database under several names (hard links): its log lies beside one of them only.

use std::fs;
use std::process::{Child, Command};

use rusqlite::config::DbConfig;
use tillsafe::source::sqlite::capture;

use super::{application, begun, finding, image, options, run};
use crate::common::Place;
use crate::common::files::files_below;
use crate::common::program::Program;
use crate::common::shop::{Shop, count_orders};
use crate::common::tools::skipped;

/// A shop whose database has a second name, the way `cp -al` or a careless admin makes it.
fn linked(place: &Place, name: &str) -> Shop {
    let shop = Shop::open(&place.join("shop"), 500, "wal");
    fs::hard_link(&shop.database, shop.folder.join(name)).unwrap();
    shop
}

/// An application that has committed, and goes on.
fn at_work(shop: &Shop, place: &Place) -> Option<Child> {
    let ready = place.join("ready");
    let script = "
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute('INSERT INTO customers VALUES (9, \"Uta\")')
open(sys.argv[2], 'w').close()
time.sleep(600)
";
    let application = application(script, &[&shop.database, &ready])?;
    Some(begun(application, &ready))
}

fn crash(shop: &Shop) {
    let connection = shop.connect();
    let keep = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(keep, true).unwrap();
    connection
        .execute("INSERT INTO customers VALUES (9, 'Uta')", [])
        .unwrap();
}

/// The other name sorts before or after that of the application.
#[test]
fn every_name_of_a_database_at_work_gives_its_newest_rows() {
    for name in ["another.db", "zebra.db"] {
        let place = Place::new();
        let shop = linked(&place, name);
        let open = shop.connect();
        shop.sell(30);
        let before = files_below(&shop.folder);
        let program = Program::with_cheap_repository(place.path());
        let run = program.run(&["backup", shop.folder.to_str().unwrap()]);
        assert_eq!(run.code, 0, "{}", run.text());
        assert_eq!(before, files_below(&shop.folder), "{name}");
        drop(open);
        let target = place.join("restored");
        let run = program.run(&["restore", "latest", "--target", target.to_str().unwrap()]);
        assert_eq!(run.code, 0, "{}", run.text());
        assert!(run.stdout.contains("matched"), "{}", run.text());
        for restored in ["shop.db", name] {
            let found = files_below(&target);
            let found = found.iter().find(|path| path.ends_with(restored));
            assert_eq!(count_orders(found.unwrap()), 530, "{restored}");
        }
    }
}

/// The application's folder is not among what is backed up.
#[test]
fn a_name_elsewhere_of_a_database_at_work_is_refused() {
    let place = Place::new();
    let shop = linked(&place, "another.db");
    let elsewhere = place.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::rename(shop.folder.join("another.db"), elsewhere.join("another.db")).unwrap();
    let Some(mut application) = at_work(&shop, &place) else {
        return;
    };
    let program = Program::with_cheap_repository(place.path());
    let run = program.run(&["backup", elsewhere.to_str().unwrap()]);
    application.kill().unwrap();
    application.wait().unwrap();
    assert_eq!(run.code, 3, "{}", run.text());
    assert!(
        run.stderr.contains("at work under another name"),
        "{}",
        run.stderr
    );
    assert_eq!(files_below(&elsewhere), [elsewhere.join("another.db")]);
    // At rest, it is a database like any other.
    drop(shop.connect());
    let run = program.run(&["backup", elsewhere.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{}", run.text());
    assert_eq!(files_below(&elsewhere), [elsewhere.join("another.db")]);
}

#[test]
fn a_log_that_may_be_a_leftover_is_refused_by_every_name() {
    let place = Place::new();
    let shop = linked(&place, "another.db");
    crash(&shop);
    let program = Program::with_cheap_repository(place.path());
    let run = program.run(&["backup", shop.folder.to_str().unwrap()]);
    assert_eq!(run.code, 3, "{}", run.text());
    assert!(
        run.stderr.contains("start its application once"),
        "{}",
        run.stderr
    );
    for name in ["shop.db", "another.db"] {
        let line = format!("{name}: this database was left out");
        assert!(run.stderr.contains(&line), "{}", run.stderr);
    }
    // Its application comes back and folds the log.
    drop(shop.connect());
    let run = program.run(&["backup", shop.folder.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{}", run.text());
}

/// What `cp -al` and a later checkpoint leave: old frames beside the name that nobody works with.
#[test]
fn a_leftover_log_beside_another_name_is_never_read() {
    let place = Place::new();
    let shop = linked(&place, "another.db");
    let open = shop.connect();
    shop.sell(3);
    let leftover = shop.folder.join("another.db-wal");
    fs::copy(shop.folder.join("shop.db-wal"), &leftover).unwrap();
    shop.sell(30);
    let program = Program::with_cheap_repository(place.path());
    let newest_in_both = |sold: u32, target: &str| {
        let run = program.run(&["backup", shop.folder.to_str().unwrap()]);
        assert_eq!(run.code, 0, "{target}: {}", run.text());
        let target = place.join(target);
        program.ok(&["restore", "latest", "--target", target.to_str().unwrap()]);
        let found = files_below(&target);
        for name in ["shop.db", "another.db"] {
            let restored = found.iter().find(|path| path.ends_with(name)).unwrap();
            assert_eq!(count_orders(restored), sold, "{name}");
        }
    };
    newest_in_both(533, "first");
    // The log is folded and gone; the application comes back, and its new log has nothing yet.
    drop(open);
    let open = shop.connect();
    newest_in_both(533, "second");
    drop(open);
    let run = program.run(&["backup", shop.folder.to_str().unwrap()]);
    assert_eq!(run.code, 3, "{}", run.text());
    assert!(run.stderr.contains("cannot be told"), "{}", run.stderr);
    assert!(leftover.exists());
}

/// As a container has it: the file alone is mounted, its log lies where the application sees it.
#[test]
fn a_file_that_is_mounted_alone_is_refused_while_it_is_at_work() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 5, "wal");
    let elsewhere = place.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let mounted = elsewhere.join("shop.db");
    fs::write(&mounted, b"").unwrap();
    let mount = Command::new("mount")
        .arg("--bind")
        .args([&shop.database, &mounted])
        .status();
    if !mount.is_ok_and(|status| status.success()) {
        return skipped("a mounted file", "mounting needs root");
    }
    let application = at_work(&shop, &place);
    let program = Program::with_cheap_repository(place.path());
    let run = program.run(&["backup", elsewhere.to_str().unwrap()]);
    if let Some(mut application) = application {
        application.kill().unwrap();
        application.wait().unwrap();
    }
    let unmounted = Command::new("umount").arg(&mounted).status();
    assert!(unmounted.unwrap().success());
    assert_eq!(run.code, 3, "{}", run.text());
    assert!(
        run.stderr.contains("at work under another name"),
        "{}",
        run.stderr
    );
}

/// Whoever comes by the other name does not see our locks.
#[test]
fn an_application_that_comes_by_another_name_while_we_read_spoils_the_capture() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 4000, "wal");
    let other = shop.folder.join("another.db");
    fs::hard_link(&shop.database, &other).unwrap();
    let script = "
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute('UPDATE orders SET item = item || 1')
connection.execute('PRAGMA wal_checkpoint(TRUNCATE)')
connection.close()
";
    let Some(mut application) = application(script, &[&shop.database]) else {
        return;
    };
    let mut is_done = false;
    let result = capture(&other, &options(place.path()), &mut |_: Vec<u8>| {
        if !std::mem::replace(&mut is_done, true) {
            run(&mut application);
        }
        Ok(())
    });
    let text = finding(result);
    assert!(text.contains("may not have seen our locks"), "{text}");
}

/// The library refuses it, too, whoever asks.
#[test]
fn a_capture_by_the_wrong_name_is_refused() {
    let place = Place::new();
    let shop = linked(&place, "another.db");
    let Some(mut application) = at_work(&shop, &place) else {
        return;
    };
    let result = image(&shop.folder.join("another.db"), &options(place.path()));
    application.kill().unwrap();
    application.wait().unwrap();
    let text = finding(result);
    assert!(text.contains("at work under another name"), "{text}");
}
