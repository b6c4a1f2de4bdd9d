//! `stats`, `diff` and `find`, beside stock restic on the same snapshots: ours and its own.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{objects, word};
use crate::common::Place;
use crate::common::library::{back_up, snapshots};
use crate::common::program::Program;
use crate::common::restic::Restic;
use crate::common::shop::{Shop, noise};
use crate::common::tools::skipped;

/// A shop with names, links, modes and times that are hard to tell.
pub fn difficult_shop(folder: &Path) -> Shop {
    let shop = Shop::open(folder, 300, "wal");
    let names = folder.join("names");
    fs::create_dir(&names).unwrap();
    for name in [
        &b"line\nbreak"[..],
        b"quote\"d",
        b"back\\slash",
        b"\xff\xfebytes",
        b"\x01\x1b[2Jctl\x7f",
        b"-dash",
        "Töpferei".as_bytes(),
        "\u{202e}gnp.exe".as_bytes(),
    ] {
        fs::write(names.join(OsStr::from_bytes(name)), name).unwrap();
    }
    let long = "long".repeat(60);
    fs::create_dir(folder.join(&long)).unwrap();
    fs::write(folder.join(&long).join(&long), "deep").unwrap();
    fs::write(folder.join("large"), noise(9, (9 << 20) + 7)).unwrap();
    fs::write(folder.join("same.jpg"), noise(2, 40_000)).unwrap();
    fs::hard_link(folder.join("large"), folder.join("large too")).unwrap();
    fs::hard_link(folder.join("notes.txt"), names.join("notes")).unwrap();
    fs::write(folder.join("setuid"), "x").unwrap();
    fs::set_permissions(folder.join("setuid"), fs::Permissions::from_mode(0o4751)).unwrap();
    let epoch = SystemTime::UNIX_EPOCH;
    for (name, time) in [
        ("old", epoch - Duration::new(100, 1)),
        ("ns", epoch + Duration::new(1_000_000_000, 1)),
    ] {
        let file = fs::File::create(folder.join(name)).unwrap();
        file.set_modified(time).unwrap();
    }
    shop
}

/// The shop twice by us and twice by restic, before and after the same changes.
fn stored() -> Option<(Place, Shop, Program, Restic, [String; 4])> {
    let place = Place::new();
    let shop = difficult_shop(&place.join("shop"));
    let program = Program::with_cheap_repository(place.path());
    let stock = Restic::newest_on(&program)?;
    let both = || {
        back_up(&program.backend(), &shop.folder).unwrap();
        stock.bytes(&["backup", "--host", "stock", word(&shop.folder)]);
    };
    both();
    let folder = &shop.folder;
    fs::remove_dir_all(folder.join("pictures/old")).unwrap();
    fs::create_dir_all(folder.join("pictures/new/deep")).unwrap();
    fs::write(folder.join("pictures/new/deep/pot.jpg"), noise(11, 30_000)).unwrap();
    fs::write(folder.join("pictures/teapot.jpg"), noise(12, 650_000)).unwrap();
    fs::set_permissions(folder.join("ns"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(folder.join("empty.txt")).unwrap();
    symlink("ns", folder.join("empty.txt")).unwrap();
    fs::remove_file(
        folder
            .join("names")
            .join(OsStr::from_bytes(b"\xff\xfebytes")),
    )
    .unwrap();
    both();
    let all = snapshots(&program.backend());
    let of = |host: &str| {
        let mut of_host = all
            .iter()
            .filter(|one| (one.file.hostname == "stock") == (host == "stock"));
        [(); 2].map(|()| of_host.next().unwrap().id.to_string())
    };
    let ([a, b], [c, d]) = (of("test"), of("stock"));
    Some((place, shop, program, stock, [a, b, c, d]))
}

#[test]
fn every_way_of_counting_gives_restics_figures() {
    let Some((_place, _shop, program, stock, ids)) = stored() else {
        return;
    };
    if !stock.is_current() {
        return skipped(
            "counting",
            "only an old restic is there, which does not count uncompressed bytes",
        );
    }
    for mode in [
        "restore-size",
        "files-by-contents",
        "blobs-per-file",
        "raw-data",
    ] {
        let all: &[&str] = &[];
        for snapshots in [all, &[&ids[0]], &[&ids[3]], &[&ids[0], &ids[1], &ids[2]]] {
            let words = [&["stats", "--mode", mode], snapshots].concat();
            let theirs = stock.json(&words).pop().unwrap();
            let ours = objects(&program, &words, "stats", 0).remove(0);
            for (our, their) in [
                ("total_bytes", "total_size"),
                ("total_files", "total_file_count"),
                ("total_blobs", "total_blob_count"),
                ("total_uncompressed_bytes", "total_uncompressed_size"),
                ("snapshots", "snapshots_count"),
            ] {
                let number = |object: &Value, field: &str| object[field].as_u64().unwrap_or(0);
                let (our, their) = (number(&ours, our), number(&theirs, their));
                assert_eq!(our, their, "{words:?}: {ours} {theirs}");
            }
            for (our, their) in [
                ("compression_ratio", "compression_ratio"),
                ("compression_progress_percent", "compression_progress"),
                (
                    "compression_space_saving_percent",
                    "compression_space_saving",
                ),
            ] {
                let number = |object: &Value, field: &str| object[field].as_f64().unwrap_or(0.0);
                let (our, their) = (number(&ours, our), number(&theirs, their));
                assert!((our - their).abs() < 1e-9, "{words:?}: {ours} {theirs}");
            }
        }
        let run = program.ok(&["stats", "--mode", mode, "latest", "--host", "test"]);
        assert!(
            run.stdout.starts_with(&format!("{mode}:\n")),
            "{}",
            run.stdout
        );
    }
}

#[test]
fn differences_have_restics_letters_and_figures() {
    let Some((_place, shop, program, newest, ids)) = stored() else {
        return;
    };
    let within = format!("{}:{}", ids[2], shop.folder.display());
    for stock in Restic::all_on(&program) {
        for (a, b) in [(0, 1), (1, 0), (2, 3), (3, 2), (0, 2), (1, 1)] {
            for metadata in [&[][..], &["--metadata"]] {
                let words = [&["diff", &ids[a], &ids[b]], metadata].concat();
                let theirs = stock.json(&words);
                let ours = objects(&program, &words, "change", 0);
                let expected: BTreeSet<(String, String)> = theirs
                    .iter()
                    .filter(|line| line["message_type"] == "change")
                    .map(|line| (text(line, "path"), text(line, "modifier")))
                    .filter(|(path, _)| !path.starts_with("/.tillsafe"))
                    .collect();
                let found = ours.iter().map(|line| {
                    let slash = if line["type"] == "dir" { "/" } else { "" };
                    (text(line, "path") + slash, text(line, "modifier"))
                });
                let found: BTreeSet<(String, String)> = found.collect();
                assert_eq!(found, expected, "{} {words:?}", stock.path.display());
                assert!(
                    !found.is_empty() || a == b || (a == 0 && b == 2),
                    "{words:?}"
                );
                let is_foreign = a >= 2 && b >= 2;
                if is_foreign && stock.path == newest.path {
                    let summary = program.json(&words).1.pop().unwrap();
                    assert_same_figures(&summary, theirs.last().unwrap());
                }
            }
        }
    }
    let (code, objects) = program.json(&[
        "diff",
        &within,
        &format!("{}:{}", ids[3], shop.folder.display()),
    ]);
    assert_eq!(code, 0);
    assert!(
        objects
            .iter()
            .any(|line| line["path"] == "/pictures/new/deep/pot.jpg")
    );
    let run = program.ok(&["diff", &ids[2], &ids[3]]);
    for line in ["M    ", "+    ", "-    ", "T    "] {
        assert!(
            run.stdout.lines().any(|found| found.starts_with(line)),
            "{line} {}",
            run.stdout
        );
    }
    let gone = run
        .stdout
        .lines()
        .find(|line| line.contains("bytes") && line.starts_with('-'));
    assert!(gone.unwrap().ends_with("names/\\xff\\xfebytes"), "{gone:?}");
}

fn text(object: &Value, field: &str) -> String {
    object[field].as_str().unwrap().to_owned()
}

fn assert_same_figures(ours: &Value, theirs: &Value) {
    assert_eq!(
        ours["changed_files"], theirs["changed_files"],
        "{ours} {theirs}"
    );
    for side in ["added", "removed"] {
        for (our, their) in [
            ("files", "files"),
            ("folders", "dirs"),
            ("others", "others"),
            ("data_blobs", "data_blobs"),
            ("tree_blobs", "tree_blobs"),
            ("bytes", "bytes"),
        ] {
            assert_eq!(
                ours[side][our], theirs[side][their],
                "{side} {our}: {ours} {theirs}"
            );
        }
    }
}

/// What restic finds: snapshot and path.
fn found_by(stock: &Restic, words: &[&str]) -> BTreeSet<(String, String)> {
    let found = stock.json(&[&["find"], words].concat());
    let mut places = BTreeSet::new();
    for group in found.iter().flat_map(|found| found.as_array().unwrap()) {
        let snapshot = text(group, "snapshot");
        match group["matches"].as_array() {
            Some(matches) => {
                let paths = matches
                    .iter()
                    .map(|one| (snapshot.clone(), text(one, "path")));
                places.extend(paths);
            }
            None => {
                places.insert((snapshot, text(group, "path")));
            }
        }
    }
    places
}

fn found_by_us(program: &Program, words: &[&str]) -> BTreeSet<(String, String)> {
    let found = objects(program, &[&["find"], words].concat(), "match", 0);
    let place = |one: &Value| (text(one, "snapshot_id"), text(one, "path"));
    found.iter().map(place).collect()
}

#[test]
fn what_is_found_is_what_restic_finds() {
    let Some((_place, shop, program, stock, ids)) = stored() else {
        return;
    };
    for (words, at_least) in [
        (&["*.jpg"][..], 8),
        (&["teapot.jpg"], 4),
        (&["TEAPOT.*"], 0),
        (&["-i", "TEAPOT.*"], 4),
        (&["no such name"], 0),
        (&["*.jpg", "*.txt"], 12),
        (&["*.jpg", "--snapshot", &ids[1]], 3),
        (&["*.jpg", "--host", "stock"], 4),
        (&["*", "--newest", "2001-09-09 12:00:00"], 8),
        (&["*.jpg", "--oldest", "2001-09-09 12:00:00"], 8),
    ] {
        let ours = found_by_us(&program, words);
        let theirs = found_by(&stock, words);
        assert_eq!(ours, theirs, "{words:?}");
        assert!(
            ours.len() >= at_least && (at_least > 0 || ours.is_empty()),
            "{words:?}: {ours:?}"
        );
    }
    // To restic a folder that fits brings all below it.
    let names = found_by_us(&program, &["names"]);
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(found_by(&stock, &["names"]).is_superset(&names));
    // Paths: two stars fit folders, one does not.
    let inner = format!("{}/**/*.jpg", shop.folder.display());
    assert_eq!(
        found_by_us(&program, &[&inner]),
        found_by_us(&program, &["*.jpg"])
    );
    let one = format!("{}/*.jpg", shop.folder.display());
    let flat = found_by_us(&program, &[&one]);
    assert!(
        flat.iter().all(|(_, path)| !path.contains("pictures")) && flat.len() == 8,
        "{flat:?}"
    );
    let run = program.ok(&["find", "*bytes", "-l", "--snapshot", &ids[0]]);
    let line = run
        .stdout
        .lines()
        .find(|line| line.contains("bytes"))
        .unwrap();
    assert!(
        line.starts_with("-0") && line.ends_with("\\xff\\xfebytes"),
        "{line}"
    );
    let odd = objects(
        &program,
        &["find", "*bytes", "--snapshot", &ids[0]],
        "match",
        0,
    );
    assert!(odd[0]["path_base64"].is_string(), "{odd:?}");
    let short = &ids[1][..8];
    assert!(
        program
            .ok(&["find", "pot.jpg"])
            .stdout
            .contains(&format!("in snapshot {short} of "))
    );
}

#[test]
fn objects_lead_to_the_paths_that_need_them() {
    let Some((_place, shop, program, stock, ids)) = stored() else {
        return;
    };
    let nodes = |path: &str| -> Value {
        let folder = format!("{}:{}", ids[0], shop.folder.join(path).display());
        serde_json::from_str(&program.ok(&["cat", "tree", &folder]).stdout).unwrap()
    };
    let named = |nodes: &Value, name: &str| -> Value {
        let nodes = nodes["nodes"].as_array().unwrap();
        nodes
            .iter()
            .find(|node| node["name"] == name)
            .unwrap()
            .clone()
    };
    // The same bytes stand under two names; the folder under one.
    let cup = named(&nodes("pictures/old"), "cup.jpg");
    let blob = cup["content"][0].as_str().unwrap();
    let ours = found_by_us(&program, &["--blob", &blob[..16]]);
    let theirs = found_by(&stock, &["--blob", blob]);
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), 6, "{ours:?}");
    let tree = named(&nodes("pictures"), "old");
    let tree = tree["subtree"].as_str().unwrap();
    let ours = found_by_us(&program, &["--tree", tree]);
    assert_eq!(ours, found_by(&stock, &["--tree", tree]));
    assert!(!ours.is_empty());
    let blobs = objects(&program, &["list", "blobs"], "object", 0);
    let pack = blobs.iter().find(|one| one["id"] == blob).unwrap();
    let of_pack = found_by_us(&program, &["--pack", pack["pack_id"].as_str().unwrap()]);
    let of_blob = found_by_us(&program, &["--blob", blob]);
    assert!(of_pack.is_superset(&of_blob), "{of_pack:?}");
    let found = objects(&program, &["find", "--blob", blob], "match", 0);
    assert_eq!(
        (&found[0]["object_type"], &found[0]["object_id"]),
        (&json!("data"), &json!(blob))
    );
    let none = "0123456789".repeat(7)[..64].to_owned();
    for (words, code) in [
        (&["find", "--blob", &none][..], 13),
        (&["find", "--pack", "zzzz"], 13),
        (&["find", "--tree", "ab"], 2),
        (&["find"], 2),
        (&["find", ""], 2),
        (&["find", "[a"], 2),
        (&["find", "*.jpg", "--blob", &none], 2),
        (&["find", "x", "--oldest", "yesterday"], 2),
        (&["find", "x", "--snapshot", "0123456789"], 13),
        (&["diff", "latest"], 2),
        (&["diff", &ids[0], "0123456789"], 13),
        (&["diff", &ids[0], &format!("{}:/no/such", ids[1])], 13),
        (&["stats", "--mode", "guess"], 2),
        (&["stats", "0123456789"], 13),
    ] {
        let run = program.run(words);
        assert_eq!(run.code, code, "{words:?}: {}", run.text());
    }
}
