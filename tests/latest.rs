//! Which snapshot a word means: never one of several series, and told what a clock that was wrong has left.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use jiff::{SignedDuration, Timestamp};

use crate::common::Place;
use crate::common::library;
use crate::common::program::{Program, Run, bare};
use crate::common::shop::Shop;

#[test]
fn a_snapshot_of_the_future_is_told_wherever_a_word_means_it() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 5, "delete");
    let program = Program::with_cheap_repository(place.path());
    program.ok(&["backup", shop.folder.to_str().unwrap()]);
    let backend = program.backend();
    let first = library::snapshots(&backend).remove(0);
    let mut file = first.file.clone();
    file.time = Timestamp::now() + SignedDuration::from_hours(48);
    let repository = library::open(&backend).unwrap();
    let later = repository.save_snapshot(file).unwrap().id.short();
    let target = place.join("target");
    let target = target.to_str().unwrap();
    let dumped = format!("latest:{}/notes.txt", shop.folder.display());
    for words in [
        &["snapshots"][..],
        &["verify"],
        &["ls", "latest"],
        &["dump", &dumped],
        &["stats", "latest"],
        &["restore", "latest", "--target", target],
    ] {
        let run = program.ok(words);
        assert!(
            run.stderr.contains(&format!("snapshot {later}: is of "))
                && run.stderr.contains("clock says"),
            "{words:?}: {}",
            run.stderr
        );
    }
    let run = program.ok(&["verify", &first.id.short()]);
    assert!(!run.stderr.contains("clock says"), "{}", run.stderr);
}

#[test]
fn of_several_series_none_is_guessed_and_the_flags_that_are_listed_choose_one() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 5, "delete");
    let program = Program::with_cheap_repository(place.path());
    // By hand first, and from a configuration later.
    program.ok(&["backup", shop.folder.to_str().unwrap()]);
    let entry = |name: &str| {
        format!(
            "[shop.{name}]\nrepository = \"disk\"\n[[shop.{name}.files]]\nname = \"all\"\npath = \"{}\"\n",
            shop.folder.display()
        )
    };
    let head = format!(
        "version = 1\n[repository.disk]\nlocation = \"{}\"\npassword_file = \"{}\"\n",
        program.repository.display(),
        program.password_file.display()
    );
    let file = place.join("tillsafe.toml");
    let write = |text: String| {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let run = |words: &[&str]| Run::of(bare().arg("-c").arg(&file).args(words));
    write(head.clone() + &entry("mara"));
    let saved = run(&["backup"]);
    assert_eq!(saved.code, 0, "{}", saved.text());
    let newest = library::snapshots(&program.backend()).pop().unwrap();
    assert_eq!(newest.file.tags, ["shop=mara"]);
    shop.sell(1);
    program.ok(&["backup", shop.folder.to_str().unwrap()]);

    let refused = run(&["verify"]);
    assert_eq!(refused.code, 2, "{}", refused.text());
    assert!(refused.stderr.contains("--shop mara"), "{}", refused.stderr);
    let verified = run(&["verify", "--shop", "mara"]);
    assert_eq!(verified.code, 0, "{}", verified.text());
    let said = format!("snapshot {} ", newest.id.short());
    assert!(verified.stdout.contains(&said), "{}", verified.text());
    write(head + &entry("mara") + &entry("ilse"));
    let saved = run(&["backup", "ilse"]);
    assert_eq!(saved.code, 0, "{}", saved.text());
    let refused = run(&["verify"]);
    assert_eq!(refused.code, 2, "{}", refused.text());
    assert!(
        refused.stderr.contains("--shop ilse; --shop mara"),
        "{}",
        refused.stderr
    );
}
