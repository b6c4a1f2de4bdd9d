//! Records that no honest run writes: each is named and ignored, and the honest one stays.

use std::path::Path;

use serde_json::{Value, json};
use tillsafe::id::Id;

use super::{Scene, levels, records, verify};
use crate::common::forge::{Forge, Thing};
use crate::common::library::snapshots;
use crate::common::raw::{folder_node, tree_json};

const PLACE: &str = "/.tillsafe/records";

/// A record of the shop's snapshot, with a field changed.
fn record(scene: &Scene, field: &str, value: Value) -> Vec<u8> {
    let all = snapshots(&scene.program.backend());
    let shop = all.iter().find(|snapshot| !snapshot.is_record()).unwrap();
    let mut record = json!({
        "schema": 1, "kind": "proof", "time": "2026-11-25T03:00:00Z", "snapshot": shop.id,
        "origin": shop.id, "tree": shop.file.tree, "level": "matched", "complete": true,
        "program": "forge", "host": "elsewhere", "previous": [],
    });
    record[field] = value;
    serde_json::to_vec(&record).unwrap()
}

fn name(bytes: &[u8]) -> String {
    format!("{}.json", Id::of(bytes))
}

/// A snapshot of records that holds one file.
fn plant(scene: &Scene, name: &str, thing: &Thing) {
    let forge = Forge::open(&scene.program.repository);
    forge.snapshot_at(Path::new(PLACE), &[(name, thing)]);
    as_record(&forge);
}

/// Says of the last snapshot that it holds records.
fn as_record(forge: &Forge) {
    let mut planted = forge.next_snapshot(forge.last_tree());
    planted["paths"] = json!([PLACE]);
    // Older than the shop's, or it would be the latest of another series.
    planted["time"] = json!("2020-01-01T00:00:00Z");
    forge.put_snapshot(&planted);
    let newest = snapshots_in(forge).pop().unwrap();
    std::fs::remove_file(forge.path("snapshots").join(newest)).unwrap();
}

fn snapshots_in(forge: &Forge) -> Vec<String> {
    let program = crate::common::program::Program {
        repository: forge.path(""),
        password_file: forge.path("none"),
    };
    let all = snapshots(&program.backend());
    all.iter().map(|snapshot| snapshot.id.to_string()).collect()
}

fn file(bytes: &[u8]) -> Thing {
    Thing::File {
        bytes: bytes.to_vec(),
        times: 1,
    }
}

/// What is planted, the level of the shop's snapshot then, and what is said.
fn assert_level(what: &str, level: &str, said: Option<&str>, make: impl FnOnce(&Scene)) {
    let scene = Scene::new();
    make(&scene);
    assert_eq!(records(&scene.program).len(), 1, "{what}");
    let run = scene.program.ok(&["snapshots"]);
    assert_eq!(levels(&scene.program), [level], "{what}: {}", run.text());
    match said {
        Some(said) => assert!(run.stderr.contains(said), "{what}: {}", run.text()),
        None => assert_eq!(run.stderr, "", "{what}"),
    }
    assert!(!run.text().contains('\u{1b}'), "{what}");
    // An honest one is written beside it, and counts.
    assert!(
        verify(&scene.program, &[])["record_id"].is_string(),
        "{what}"
    );
    assert_eq!(levels(&scene.program), ["matched"], "{what}");
}

#[test]
fn what_is_no_record_is_named_and_ignored() {
    type Make = fn(&Scene) -> (String, Thing);
    let cases: [(&str, &str, Make); 9] = [
        ("another name", "named after", |scene| {
            let bytes = record(scene, "kind", json!("proof"));
            ("\u{1b}[2J.json".to_owned(), file(&bytes))
        }),
        ("no JSON", "expected value", |_| {
            (name(b"\x1b[2J"), file(b"\x1b[2J"))
        }),
        ("deep JSON", "invalid type", |_| {
            let bytes = "[".repeat(10_000).into_bytes();
            (name(&bytes), file(&bytes))
        }),
        ("a later schema", "schema 2", |scene| {
            let bytes = record(scene, "schema", json!(2));
            (name(&bytes), file(&bytes))
        }),
        ("another tree", "holds something else", |scene| {
            let bytes = record(scene, "tree", json!(Id::of(b"another")));
            (name(&bytes), file(&bytes))
        }),
        ("a snapshot that is no id", "expected value", |scene| {
            let bytes = record(scene, "snapshot", json!("latest"));
            (name(&bytes), file(&bytes))
        }),
        ("too many before it", "before it", |scene| {
            let many: Vec<Id> = (0..100_u32).map(|n| Id::of(&n.to_le_bytes())).collect();
            let bytes = record(scene, "previous", json!(many));
            (name(&bytes), file(&bytes))
        }),
        ("a gigabyte", "no small file", |_| {
            let bytes = vec![b' '; 1 << 20];
            let thing = Thing::File { bytes, times: 1000 };
            ("large.json".to_owned(), thing)
        }),
        ("a gigabyte that says it is small", "longer than", |_| {
            let bytes = vec![b' '; 8 << 20];
            let thing = Thing::Lie { bytes, size: 500 };
            ("large.json".to_owned(), thing)
        }),
    ];
    for (what, said, make) in cases {
        let said = if what == "a snapshot that is no id" {
            "record"
        } else {
            said
        };
        assert_level(what, "-", Some(said), |scene| {
            let (name, thing) = make(scene);
            plant(scene, &name, &thing);
        });
    }
    assert_level("a device", "-", Some("no small file"), |scene| {
        plant(scene, "x.json", &Thing::Special("chardev"));
    });
}

#[test]
fn what_a_later_version_may_write_is_read_as_far_as_it_is_understood() {
    let plain: [(&str, &str, Value); 4] = [
        ("opened", "level", json!("opened")),
        ("opened", "level", json!("answered")),
        ("-", "kind", json!("drill")),
        ("matched", "colour", json!("celadon")),
    ];
    for (level, field, value) in plain {
        assert_level(field, level, None, |scene| {
            let bytes = record(scene, field, value);
            plant(scene, &name(&bytes), &file(&bytes));
        });
    }
    assert_level(
        "one before it is gone",
        "matched",
        Some("is not there"),
        |scene| {
            let bytes = record(scene, "previous", json!([Id::of(b"gone")]));
            plant(scene, &name(&bytes), &file(&bytes));
        },
    );
}

#[test]
fn a_snapshot_of_records_without_any_is_named() {
    assert_level(
        "no folder",
        "-",
        Some("holds no /.tillsafe/records"),
        |scene| {
            let forge = Forge::open(&scene.program.repository);
            forge.snapshot_of("x", &file(b"x"));
            as_record(&forge);
        },
    );
    assert_level("a tree that is gone", "-", Some("no index"), |scene| {
        let forge = Forge::open(&scene.program.repository);
        let tree = tree_json(&[folder_node(".tillsafe", Id::of(b"gone"))]);
        forge.snapshot_of_tree(&tree, &[]);
        as_record(&forge);
    });
}
