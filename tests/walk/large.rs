//! A folder of very many files, in bounded memory.

use std::fs;

use tillsafe::capture::Survey;
use tillsafe::monitor::Quiet;
use tillsafe::source::files::exclude::Excludes;

use crate::common::Place;
use crate::common::measure::measured;
use crate::common::program::{PATIENCE, Program};
use crate::common::shop::Shop;

/// How many files: a tenth of what the figures in docs/design/walk.md are of.
const FILES: usize = 20_000;

#[test]
fn very_many_files_in_one_folder_cost_little_memory() {
    /// Bytes of memory for each file, and what the program takes anyway.
    const EACH: u64 = 4_000;
    const ANYWAY: u64 = 96 << 20;
    let place = Place::new();
    let shop = place.join("shop");
    fs::create_dir(&shop).unwrap();
    for number in 0..FILES {
        fs::write(shop.join(format!("{number:06}.jpg")), number.to_string()).unwrap();
    }
    let program = Program::with_cheap_repository(place.path());
    let shop = shop.to_str().unwrap();
    let target = place.join("target");
    let from = format!("latest:{shop}");
    for words in [
        &["backup", shop][..],
        &["backup", shop],
        &["restore", &from, "--target", target.to_str().unwrap()],
    ] {
        let measured = measured(&program.command(words), PATIENCE * 5);
        assert_eq!(measured.run.code, 0, "{}", measured.run.text());
        println!(
            "{}: {} MiB, {:?}",
            words[0],
            measured.peak >> 20,
            measured.time
        );
        let most = ANYWAY + EACH * FILES as u64;
        assert!(measured.peak < most, "{} of {most} bytes", measured.peak);
    }
    assert_eq!(fs::read_dir(&target).unwrap().count(), FILES);
}

/// The survey finds a database by its log, whatever names and folders come between the two.
#[test]
fn a_database_is_found_whatever_comes_between_it_and_its_log() {
    let place = Place::new();
    let shop = place.join("shop");
    Shop::open(&shop, 20, "wal");
    let main = shop.join("shop.db");
    // What its header says is in its log.
    let log = [&[0x37, 0x7f, 0x06, 0x82][..], &[0; 28]].concat();
    for (name, bytes) in [
        ("other.db", &b""[..]),
        ("other.db-a", b"a"),
        ("other.db-a-wal", &log),
        ("other.db-b", b"b"),
        ("other.db-journal", b""),
        ("other.db-wal", &log),
        ("missing.db-wal", &log),
    ] {
        fs::write(shop.join(name), bytes).unwrap();
    }
    fs::create_dir(shop.join("other.db-folder")).unwrap();
    fs::write(shop.join("other.db-folder/other"), "x").unwrap();
    let survey = Survey::take(
        std::slice::from_ref(&shop),
        &[],
        &Excludes::default(),
        None,
        &Quiet::default(),
    )
    .unwrap();
    let found: Vec<_> = survey.databases.keys().cloned().collect();
    let expected = [shop.join("other.db"), shop.join("other.db-a"), main];
    assert_eq!(found, expected);
}
