//! Stock restic judges what a repair leaves, and we repair what restic wrote.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tillsafe::repository::pack::BlobKind;

use crate::common::Place;
use crate::common::files::{copy_folder, files_below, flip_a_bit};
use crate::common::library::{back_up, open};
use crate::common::program::Program;
use crate::common::restic::{Restic, each};
use crate::common::shop::{Shop, noise};

/// A repository of restic's own with two snapshots, in which no pack holds two kinds of blobs.
fn of_restic(place: &Place, path: &Path) -> Program {
    let program = Program::with_cheap_repository(place.path());
    let restic = Restic::on(path, &program);
    let shop = Shop::open(&place.join("shop"), 100, "delete").folder;
    fs::write(shop.join("<a> & \"b\" \u{2028}"), "hard to write").unwrap();
    restic.ok(&["backup", shop.to_str().unwrap()]);
    fs::write(shop.join("plate.jpg"), noise(9, 300_000)).unwrap();
    fs::remove_file(shop.join("notes.txt")).unwrap();
    restic.ok(&["backup", shop.to_str().unwrap()]);
    program
}

fn hurt(path: &Path, how: &str) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let bytes = fs::read(path).unwrap();
    match how {
        "flipped" => flip_a_bit(path),
        "cut" => fs::write(path, &bytes[..bytes.len() / 2]).unwrap(),
        "extended" => fs::write(path, [bytes.as_slice(), b"more"].concat()).unwrap(),
        "emptied" => fs::write(path, "").unwrap(),
        _ => fs::remove_file(path).unwrap(),
    }
}

/// The paths of the packs with blobs of a kind, and index files: what is hurt in turn.
fn objects(program: &Program) -> Vec<PathBuf> {
    let repository = open(&program.backend()).unwrap();
    let index = repository
        .load_index(&tillsafe::monitor::Quiet::default())
        .unwrap();
    let packs = index.packs();
    let of = |kind| {
        let mut packs: Vec<String> = packs
            .iter()
            .filter(|(_, blobs)| blobs[0].kind == kind)
            .map(|(id, _)| format!("data/{}/{id}", &id.to_string()[..2]))
            .collect();
        packs.sort();
        packs.into_iter().take(2)
    };
    let packs = of(BlobKind::Data).chain(of(BlobKind::Tree));
    let mut paths: Vec<PathBuf> = packs.map(|name| program.repository.join(name)).collect();
    paths.extend(
        files_below(&program.repository.join("index"))
            .into_iter()
            .take(1),
    );
    paths
}

/// What restic lists of all snapshots: their files, by the snapshots' first ids.
fn listed(restic: &Restic) -> Vec<Value> {
    let snapshots = restic.json(&["snapshots"]);
    let mut found = Vec::new();
    for snapshot in snapshots[0].as_array().unwrap() {
        let first = snapshot.get("original").unwrap_or(&snapshot["id"]).clone();
        for node in restic.json(&["ls", snapshot["id"].as_str().unwrap()]) {
            if node["struct_type"] == "node" {
                found.push(Value::Array(vec![first.clone(), node]));
            }
        }
    }
    found
}

/// The same of our own: a database, and the manifests.
fn of_ours(place: &Place) -> Program {
    let program = Program::with_cheap_repository(place.path());
    let shop = Shop::open(&place.join("shop"), 100, "wal");
    back_up(&program.backend(), &shop.folder).unwrap();
    shop.sell(50);
    fs::write(shop.folder.join("plate.jpg"), noise(9, 300_000)).unwrap();
    back_up(&program.backend(), &shop.folder).unwrap();
    program
}

const WAYS: [&str; 5] = ["flipped", "cut", "extended", "emptied", "deleted"];

#[test]
fn restic_finds_nothing_to_remark_upon_after_a_repair() {
    each(|path| {
        let place = Place::new();
        let program = of_restic(&place, path);
        // What a newer one knows better is asked of that one alone.
        let ways = if Restic::on(path, &program).is_current() {
            &WAYS[..]
        } else {
            &WAYS[..2]
        };
        let with_loss = judge(&place, &program, path, ways);
        assert!(with_loss >= 4, "{with_loss}");
        let place = Place::new();
        let program = of_ours(&place);
        let with_loss = judge(&place, &program, path, &WAYS[..2]);
        assert!(with_loss >= 4, "{with_loss}");
    });
}

/// Hurts each object in each of some ways, and repairs; returns how many cost something.
fn judge(place: &Place, program: &Program, path: &Path, ways: &[&str]) -> usize {
    let restic = Restic::on(path, program);
    let before = listed(&restic);
    let whole = place.join("whole");
    copy_folder(&program.repository, &whole);
    let (mut with_loss, mut faults) = (0, 0);
    for object in objects(program) {
        for how in ways {
            let what = format!("{how}: {}", object.display());
            fs::remove_dir_all(&program.repository).unwrap();
            copy_folder(&whole, &program.repository);
            hurt(&object, how);
            // What packs lack is found by one, and what snapshots lose by the next.
            for word in ["index", "packs"] {
                let run = program.run(&["repair", word]);
                assert!(matches!(run.code, 0 | 4), "{what}: {}", run.text());
            }
            let (code, said) = program.json(&["repair", "snapshots", "--forget"]);
            assert_eq!(code, 0, "{what}: {said:?}");
            let lacks = said.last().unwrap()["forgotten_snapshots"] != 0;
            with_loss += usize::from(lacks);
            faults += 1;
            restic.assert_clean();
            program.ok(&["check", "--read-data"]);
            if restic.is_current() {
                // Canonical trees and right totals: nothing to write anew.
                for (words, said) in [
                    (
                        &["repair", "snapshots", "--dry-run"][..],
                        "no snapshots would be modified",
                    ),
                    (
                        &["rewrite", "--exclude", "nothing-matches"],
                        "no snapshots were modified",
                    ),
                ] {
                    let run = restic.ok(words);
                    assert!(run.stdout.contains(said), "{what}: {}", run.stdout);
                }
            }
            // Each item that is left is what it was, to the last field.
            let after = listed(&restic);
            assert!(after.iter().all(|node| before.contains(node)), "{what}");
            assert!(lacks || after.len() == before.len(), "{what}");
        }
    }
    println!("{with_loss} of {faults} faults cost something");
    with_loss
}
