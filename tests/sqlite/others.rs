//! What an application may do with its database while we come by.

use std::fs;
use std::time::{Duration, Instant};

use tillsafe::error::Result;
use tillsafe::source::sqlite::{Captured, Options, capture};

use super::{application, begun, finding, image, options};
use crate::common::Place;
use crate::common::program::Program;
use crate::common::shop::{Shop, add_keyed};

/// A database that is replaced, or deleted, at the first chunk of its image.
fn disturbed(
    mode: &str,
    disturb: &dyn Fn(&Shop),
    options: &dyn Fn(&mut Options),
) -> Result<Captured> {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 2000, mode);
    let mut with = super::options(place.path());
    options(&mut with);
    let mut is_done = false;
    capture(&shop.database, &with, &mut |_: Vec<u8>| {
        if !is_done {
            disturb(&shop);
            is_done = true;
        }
        Ok(())
    })
}

#[test]
fn a_database_replaced_under_us_is_no_capture() {
    for mode in ["wal", "delete"] {
        let replace = |shop: &Shop| {
            let other = shop.folder.join("other.db");
            fs::copy(&shop.database, &other).unwrap();
            fs::rename(&other, &shop.database).unwrap();
        };
        let delete = |shop: &Shop| fs::remove_file(&shop.database).unwrap();
        let disturbances: [&dyn Fn(&Shop); 2] = [&replace, &delete];
        for disturb in disturbances {
            let text = finding(disturbed(mode, disturb, &|_| ()));
            assert!(
                text.contains("another file took its place"),
                "{mode}: {text}"
            );
        }
    }
}

#[test]
fn on_a_network_file_system_only_a_database_at_rest_is_captured() {
    let on_a_network = |options: &mut Options| options.on_a_network = |_| true;
    let quiet = disturbed("delete", &|_| (), &on_a_network).unwrap();
    assert_eq!(quiet.fingerprint.tables["orders"], 2000);
    // Somebody writes meanwhile: here the spool protects us, there nothing would.
    let text = finding(disturbed("delete", &|shop| shop.sell(1), &on_a_network));
    assert!(text.contains("network file system"), "{text}");
    // In WAL mode with its application at work.
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 5, "wal");
    let _open = shop.connect();
    let mut options = options(place.path());
    options.on_a_network = |_| true;
    let text = finding(image(&shop.database, &options).map(|(captured, _)| captured));
    assert!(text.contains("while its application is stopped"), "{text}");
}

#[test]
fn an_application_that_locks_everybody_out_is_named() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 5, "wal");
    let ready = place.join("ready");
    let script = "
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute('PRAGMA locking_mode = EXCLUSIVE')
connection.execute('INSERT INTO customers VALUES (3, \"Uta\")')
open(sys.argv[2], 'w').close()
time.sleep(60)
";
    let Some(application) = application(script, &[&shop.database, &ready]) else {
        return;
    };
    let mut application = begun(application, &ready);
    let begun = Instant::now();
    let text = finding(image(&shop.database, &options(place.path())).map(|(captured, _)| captured));
    application.kill().unwrap();
    application.wait().unwrap();
    assert!(text.contains("locking_mode = EXCLUSIVE"), "{text}");
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_keyed_database_with_a_log_is_named_and_not_copied_as_a_file() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 5, "delete");
    add_keyed(&shop.folder);
    let program = Program::with_cheap_repository(place.path());
    let run = program.run(&["backup", shop.folder.to_str().unwrap()]);
    assert_eq!(run.code, 3, "{}", run.text());
    assert!(
        run.stderr
            .contains("keyed.db: this database was left out: "),
        "{}",
        run.stderr
    );
    assert!(
        run.stderr.contains("encrypted or damaged"),
        "{}",
        run.stderr
    );
    let listed = program.run(&["ls", "latest"]).stdout;
    assert!(
        listed.contains("shop.db") && !listed.contains("keyed.db"),
        "{listed}"
    );
}
