//! What patterns take of a snapshot.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tillsafe::backend::{Backend, MemBackend};
use tillsafe::durable::OsDisk;
use tillsafe::error::{Error, ExitCode};
use tillsafe::restore::{Filter, ProofLevel, Selection};

use super::{locations_at, names_below, plan_of, quiet, recording, restored};
use crate::common::Place;
use crate::common::forge::{Forge, Thing};
use crate::common::library::{back_up, create, snapshots};
use crate::common::program::Program;
use crate::common::shop::{Shop, count_orders, noise};

fn selection(base: &Path, include: &[&str], exclude: &[&str]) -> Selection {
    let owned = |patterns: &[&str]| -> Vec<String> {
        patterns.iter().map(|text| (*text).to_owned()).collect()
    };
    Selection {
        base: base.to_owned(),
        filter: Filter::new(&owned(include), &owned(exclude)).unwrap(),
    }
}

/// A shop with two databases.
fn shop(place: &Place) -> (Shop, Arc<dyn Backend>) {
    let shop = Shop::open(&place.join("shop"), 30, "delete");
    drop(Shop::open(&shop.folder.join("branch"), 7, "delete"));
    let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
    create(&backend);
    back_up(&backend, &shop.folder).unwrap();
    (shop, backend)
}

#[test]
fn what_is_selected_is_restored_and_nothing_else() {
    let place = Place::new();
    let (shop, backend) = shop(&place);
    let snapshot = snapshots(&backend).remove(0);
    let from_root = shop.folder.join("notes.txt");
    let all = names_below(&shop.folder);
    let beginning = |begins: &str| -> Vec<&str> {
        let names = all.iter().map(String::as_str);
        names.filter(|name| name.starts_with(begins)).collect()
    };
    for (base, include, exclude, expected) in [
        ("", vec![], vec![], beginning("")),
        (
            "",
            vec!["notes.txt"],
            vec![],
            vec!["branch", "branch/notes.txt", "notes.txt"],
        ),
        ("", vec!["/notes.txt"], vec![], vec!["notes.txt"]),
        ("", vec!["branch"], vec![], beginning("branch")),
        ("", vec!["*.db"], vec!["branch"], vec!["shop.db"]),
        (
            "",
            vec!["pictures/old", "/shop.db"],
            vec![],
            vec![
                "pictures",
                "pictures/old",
                "pictures/old/cup.jpg",
                "shop.db",
            ],
        ),
        (
            "",
            vec!["branch/**/*.jpg"],
            vec!["old"],
            vec![
                "branch",
                "branch/main.jpg",
                "branch/pictures",
                "branch/pictures/teapot.jpg",
            ],
        ),
        (
            "",
            vec![],
            vec!["branch", "pictures", "*.txt", "main.*"],
            vec!["shop.db"],
        ),
        (
            "branch",
            vec!["pictures/*"],
            vec![],
            vec![
                "pictures",
                "pictures/old",
                "pictures/old/cup.jpg",
                "pictures/teapot.jpg",
            ],
        ),
        ("branch", vec!["/shop.db"], vec![], vec!["shop.db"]),
        ("notes.txt", vec!["*.txt"], vec![], vec!["notes.txt"]),
    ] {
        let what = format!("{base}: {include:?} without {exclude:?}");
        let target = place.join("target");
        let (told, monitor) = quiet();
        let base = shop.folder.join(base);
        let base: &Path = &base.components().collect::<std::path::PathBuf>();
        let chosen = selection(base, &include, &exclude);
        let restored = restored(&backend, &snapshot, chosen, &target, &OsDisk, &monitor)
            .unwrap_or_else(|cause| panic!("{what}: {cause}"));
        assert_eq!(restored.level, ProofLevel::Matched, "{what}");
        assert_eq!(restored.lost, []);
        assert!(
            told.problems().iter().all(|told| !told.incomplete),
            "{what}: {:?}",
            told.problems()
        );
        assert_eq!(names_below(&target), expected, "{what}");
        for name in &expected {
            let modes = [base, &target].map(|folder| {
                let path = if folder.is_dir() {
                    folder.join(name)
                } else {
                    folder.to_owned()
                };
                let metadata = fs::symlink_metadata(path).unwrap();
                (metadata.permissions(), metadata.modified().unwrap())
            });
            assert_eq!(modes[0], modes[1], "{what}: {name}");
        }
        if expected.contains(&"shop.db") {
            let orders = if base.ends_with("branch") { 7 } else { 30 };
            assert_eq!(count_orders(&target.join("shop.db")), orders);
        }
        fs::remove_dir_all(&target).unwrap();
    }
    // From the root, a pattern with a slash is a full path.
    let target = place.join("target");
    let chosen = selection(Path::new("/"), &[from_root.to_str().unwrap()], &[]);
    let (_, monitor) = quiet();
    restored(&backend, &snapshot, chosen, &target, &OsDisk, &monitor).unwrap();
    let inner = target.join(shop.folder.strip_prefix("/").unwrap());
    assert_eq!(names_below(&inner), ["notes.txt"]);
}

#[test]
fn what_cannot_hold_anything_selected_is_not_read() {
    let place = Place::new();
    let (shop, backend) = shop(&place);
    let snapshot = snapshots(&backend).remove(0);
    let (recorded, backend) = recording(&backend);
    let tree = |name: &str| locations_at(&backend, &snapshot, &shop.folder.join(name))[0][0];
    let trees = ["pictures", "pictures/old", "branch"].map(tree);
    for (include, exclude, read) in [
        (
            vec!["/notes.txt", "branch/n*"],
            vec![],
            [false, false, true],
        ),
        (vec!["*.txt"], vec!["pictures"], [false, false, true]),
        (vec!["pictures/*.jpg"], vec!["branch"], [true, true, false]),
    ] {
        recorded.forget();
        let (_, monitor) = quiet();
        let chosen = selection(&shop.folder, &include, &exclude);
        plan_of(&backend, &snapshot, chosen, monitor.as_ref()).unwrap();
        assert_eq!(
            trees.map(|tree| recorded.has_read(&tree)),
            read,
            "{include:?}"
        );
    }
}

#[test]
fn a_selection_of_nothing_is_13_and_says_what_there_is() {
    let place = Place::new();
    let (shop, backend) = shop(&place);
    let snapshot = snapshots(&backend).remove(0);
    let full = shop.folder.join("notes.txt");
    for (include, exclude) in [
        (vec!["*.jpeg"], vec![]),
        (vec!["pictures"], vec!["pictures"]),
        (vec![full.to_str().unwrap()], vec![]),
        (vec![], vec!["*"]),
    ] {
        let (_, monitor) = quiet();
        let chosen = selection(&shop.folder, &include, &exclude);
        let refused = plan_of(&backend, &snapshot, chosen, monitor.as_ref()).unwrap_err();
        assert!(
            matches!(refused, Error::NothingSelected { .. }),
            "{refused}"
        );
        assert_eq!(refused.exit_code(), ExitCode::NoSnapshot);
        let advice = refused.advice().next;
        assert!(
            advice.contains(&format!("tillsafe ls {}:", snapshot.id.short())),
            "{advice}"
        );
    }
}

#[test]
fn the_program_takes_patterns_wherever_a_snapshot_is_read() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 5, "delete");
    let program = Program::with_cheap_repository(place.path());
    back_up(&program.backend(), &shop.folder).unwrap();
    let from = format!("latest:{}", shop.folder.display());
    let target = place.join("target");
    let target = target.to_str().unwrap();
    let scratch = place.path().to_str().unwrap();
    program.ok(&[
        "restore",
        &from,
        "--target",
        target,
        "--include",
        "*.jpg",
        "--exclude",
        "old",
    ]);
    assert_eq!(
        names_below(Path::new(target)),
        ["main.jpg", "pictures", "pictures/teapot.jpg"]
    );
    let run = program.ok(&["ls", &from, "--include", "*.txt"]);
    assert_eq!(run.stdout.lines().count(), 2, "{}", run.stdout);
    let run = program.ok(&[
        "verify",
        &from,
        "--scratch",
        scratch,
        "--include",
        "shop.db",
    ]);
    assert!(run.stdout.contains("1 file, "), "{}", run.stdout);
    assert!(
        run.stdout.contains("proof level: matched"),
        "{}",
        run.stdout
    );
    for (words, code, said) in [
        (["ls", &from, "--include", "[x"], 2, "\"[x\""),
        (["ls", &from, "--exclude", "../x"], 2, "\"../x\""),
        (
            ["verify", &from, "--include", "*.jpeg"],
            13,
            "--include *.jpeg selects nothing",
        ),
    ] {
        let run = program.run(&words);
        assert_eq!(run.code, code, "{}", run.text());
        assert!(run.stderr.contains(said), "{}", run.stderr);
    }
}

/// A database in WAL mode that another program stored as files.
#[test]
fn a_database_that_is_selected_without_its_log_is_not_called_whole() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 5, "delete");
    let program = Program::with_cheap_repository(place.path());
    back_up(&program.backend(), &shop.folder).unwrap();
    let database = Thing::File {
        bytes: fs::read(&shop.database).unwrap(),
        times: 1,
    };
    let log = Thing::File {
        bytes: noise(4, 5000),
        times: 1,
    };
    Forge::open(&program.repository).snapshot_of_all(&[("a.db", &database), ("a.db-wal", &log)]);
    for words in [
        &["latest", "--include", "a.db"][..],
        &["latest", "--exclude", "*-wal"],
        &["latest:/a.db"],
    ] {
        let target = place.join("target");
        let words = [&["restore", "--target", target.to_str().unwrap()], words].concat();
        let run = program.run(&words);
        assert_eq!(run.code, 3, "{}", run.text());
        assert!(
            run.stderr.contains("/a.db: a.db-wal lies beside it"),
            "{}",
            run.stderr
        );
        assert_eq!(names_below(&target), ["a.db"]);
        fs::remove_dir_all(&target).unwrap();
    }
}
