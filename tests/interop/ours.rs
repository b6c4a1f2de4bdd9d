//! What we wrote, in restic's hands: read, looked into, tagged, copied, given other keys.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tillsafe::chunker::PageChunks;

use super::{Restic, difficult_shop, each, paths};
use crate::common::Place;
use crate::common::compare::{difference, is_database};
use crate::common::forge::Forge;
use crate::common::program::{Program, Run};
use crate::common::shop::{Shop, noise};
use crate::common::tools::{find, skipped};

#[test]
fn restic_reads_checks_and_restores_what_we_wrote() {
    each(|path| {
        let place = Place::new();
        let program = Program::with_repository(place.path());
        let restic = Restic::on(path, &program);
        let shop = difficult_shop(&place.join("shop"), &restic);
        restic.assert_clean();
        assert_eq!(restic.json(&["snapshots"]), [Value::Array(Vec::new())]);

        // With the connection open, the newest orders are in the -wal alone.
        let open = shop.connect();
        shop.sell(100);
        program.ok(&["backup", "--tag", "first", shop.folder.to_str().unwrap()]);
        shop.sell(10);
        let (_, said) = program.json(&["backup", shop.folder.to_str().unwrap()]);
        let newest = said.last().unwrap()["snapshot_id"]
            .as_str()
            .unwrap()
            .to_owned();
        drop(open);

        restic.assert_clean();
        let listed = restic.json(&["snapshots"]);
        let listed = listed[0].as_array().unwrap();
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[0]["tags"], serde_json::json!(["first"]));
        assert_eq!(listed[1]["id"], newest.as_str());
        assert_eq!(listed[1]["paths"][0], shop.folder.to_str().unwrap());

        let theirs = paths(&restic.json(&["ls", "latest"]), &shop.folder);
        let (_, ours) = program.json(&["ls", "latest"]);
        assert!(theirs.len() > 35, "{theirs:?}");
        assert_eq!(theirs, paths(&ours, &shop.folder));

        let target = place.join("restored");
        restic.ok(&["restore", "latest", "--target", target.to_str().unwrap()]);
        let copy = target.join(shop.folder.strip_prefix("/").unwrap());
        assert_eq!(difference(&shop.folder, &copy, &is_database), None);
        assert_eq!(
            Shop {
                folder: copy.clone(),
                database: copy.join("shop.db")
            }
            .orders(),
            410
        );
        let picture = shop.folder.join("large");
        let dumped = restic
            .command(&["dump", "latest", picture.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(dumped.status.success() && dumped.stdout == fs::read(&picture).unwrap());
        assert_manifest_is_true(&restic, &copy.join("shop.db"));

        if restic.is_current() {
            // Canonical trees and right totals: nothing to write anew.
            let run = restic.ok(&["rewrite", "--exclude", "nothing-matches", "latest"]);
            assert!(
                run.stdout.contains("no snapshots were modified"),
                "{}",
                run.stdout
            );
            let run = restic.ok(&["repair", "snapshots", "--dry-run"]);
            assert!(
                run.stdout.contains("no snapshots would be modified"),
                "{}",
                run.stdout
            );
        }
    });
}

/// The manifest, read by restic, against the copy that restic restored, judged by the system's SQLite.
fn assert_manifest_is_true(restic: &Restic, copy: &Path) {
    let dumped = restic.ok(&["dump", "latest", "/.tillsafe/manifest.json"]);
    let manifest: Value = serde_json::from_str(&dumped.stdout).unwrap();
    let described = &manifest["databases"][0];
    let judge = Run::of(
        Command::new(find("python3").expect("python3 is on every machine that runs these tests"))
            .args(["-c", include_str!("../common/fingerprint.py")])
            .arg(copy)
            .arg(PageChunks::BySize.bytes(0, 4096).to_string()),
    );
    assert_eq!(judge.code, 0, "{}", judge.stderr);
    let found: Value = serde_json::from_str(&judge.stdout).unwrap();
    assert_eq!(described["fingerprint"], found["fingerprint"]);
    assert_eq!(described["image_sha256"], found["image_sha256"]);
    if let Some(shell) = find("sqlite3") {
        let run = Run::of(
            Command::new(shell)
                .arg(copy)
                .arg("PRAGMA integrity_check; SELECT count(*) FROM orders"),
        );
        assert_eq!(run.stdout, "ok\n410\n");
    } else {
        skipped("the stock sqlite3 shell", "`make tools` installs it");
    }
}

/// A repository of ours with two snapshots of a small shop, and what restic calls its files.
fn two_snapshots(place: &Place) -> (Program, Shop) {
    let program = Program::with_cheap_repository(place.path());
    let shop = Shop::open(&place.join("shop"), 100, "wal");
    program.ok(&["backup", shop.folder.to_str().unwrap()]);
    shop.sell(10);
    fs::write(shop.folder.join("notes.txt"), "glaze: tenmoku\n").unwrap();
    program.ok(&["backup", shop.folder.to_str().unwrap()]);
    (program, shop)
}

#[test]
fn every_command_of_restic_that_looks_inside_looks_inside_ours() {
    each(|path| {
        let place = Place::new();
        let (program, shop) = two_snapshots(&place);
        let restic = Restic::on(path, &program);
        let folder = shop.folder.to_str().unwrap();
        let listed = restic.json(&["snapshots"]);
        let ids: Vec<&str> = listed[0]
            .as_array()
            .unwrap()
            .iter()
            .map(|snapshot| snapshot["id"].as_str().unwrap())
            .collect();
        let says = |words: &[&str], text: &str| {
            let run = restic.ok(words);
            assert!(run.stdout.contains(text), "{words:?}: {}", run.stdout);
            run.stdout
        };
        says(&["ls", "-l", "latest"], "/shop.db");
        says(&["find", "teapot.jpg"], "pictures/teapot.jpg");
        let changed = says(&["diff", ids[0], ids[1]], "shop.db");
        assert!(
            changed.contains(&format!("M    {folder}/notes.txt")),
            "{changed}"
        );
        assert!(!changed.contains("teapot"), "{changed}");
        says(&["stats", "--mode", "raw-data"], "Total Blob Count");
        says(
            &["stats", "--mode", "files-by-contents", "latest"],
            "Total File Count",
        );
        says(&["cat", "config"], "\"version\": 2");
        let snapshot: Value =
            serde_json::from_str(&says(&["cat", "snapshot", ids[1]], "tree")).unwrap();
        says(
            &["cat", "blob", snapshot["tree"].as_str().unwrap()],
            ".tillsafe",
        );
        for (class, least) in [
            ("packs", 4),
            ("index", 2),
            ("keys", 1),
            ("snapshots", 2),
            ("blobs", 8),
        ] {
            let names = restic.ok(&["list", class]).stdout;
            assert!(names.lines().count() >= least, "{class}: {names}");
            let Some(kind) = class
                .strip_suffix('s')
                .filter(|kind| *kind == "key")
                .or((class == "index").then_some("index"))
            else {
                continue;
            };
            says(&["cat", kind, names.lines().next().unwrap()], "{");
        }

        let archive = place.join("all.tar");
        let dumped = restic
            .command(&["dump", "latest", folder])
            .output()
            .unwrap();
        assert!(dumped.status.success());
        fs::write(&archive, dumped.stdout).unwrap();
        let unpacked = place.join("unpacked");
        fs::create_dir(&unpacked).unwrap();
        let tar = find("tar").expect("every system has tar");
        let mut command = Command::new(tar);
        command.arg("-xf").arg(&archive).arg("-C").arg(&unpacked);
        assert_eq!(Run::of(&mut command).code, 0);
        // 0.14 names the files from the root, later ones from the folder.
        let inner = unpacked.join(folder.strip_prefix('/').unwrap());
        let inner = if inner.is_dir() { inner } else { unpacked };
        for name in ["notes.txt", "pictures/teapot.jpg"] {
            assert_eq!(
                fs::read(inner.join(name)).unwrap(),
                fs::read(shop.folder.join(name)).unwrap()
            );
        }
    });
}

/// What restic adds, writes anew or copies keeps our trees bit by bit: the proof still holds.
#[test]
fn tagged_and_copied_by_restic_our_snapshots_still_prove_themselves() {
    each(|path| {
        let place = Place::new();
        let (program, _) = two_snapshots(&place);
        let restic = Restic::on(path, &program);
        restic.ok(&["tag", "--add", "kept", "latest"]);
        let (_, tagged) = program.json(&["snapshots", "--tag", "kept"]);
        assert_eq!(tagged.last().unwrap()["snapshots"], 1);
        restic.assert_clean();

        let elsewhere = place.join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let copy = Program::with_cheap_repository(&elsewhere);
        let theirs = Restic::on(path, &copy);
        theirs.ok(&[
            "copy",
            "--from-repo",
            program.repository.to_str().unwrap(),
            "--from-password-file",
            program.password_file.to_str().unwrap(),
        ]);
        let trees = |restic: &Restic| -> Vec<Value> {
            let listed = restic.json(&["snapshots"]);
            let listed = listed[0].as_array().unwrap();
            listed
                .iter()
                .map(|snapshot| snapshot["tree"].clone())
                .collect()
        };
        assert_eq!(trees(&restic), trees(&theirs));
        for program in [&program, &copy] {
            program.ok(&["check", "--read-data"]);
            let (_, verified) = program.json(&["verify"]);
            assert_eq!(verified.last().unwrap()["proof_level"], "matched");
        }
        theirs.assert_clean();
    });
}

#[test]
fn keys_that_restic_adds_changes_and_removes_are_keys_to_us() {
    each(|path| {
        let place = Place::new();
        let program = Program::with_cheap_repository(place.path());
        let restic = Restic::on(path, &program);
        let hard = "  tenmoku & Töpfer 🍵 ";
        let other = Program {
            repository: program.repository.clone(),
            password_file: place.join("other"),
        };
        other.write_password(hard);
        let file = other.password_file.to_str().unwrap();
        restic.ok(&["key", "add", "--new-password-file", file]);
        program.ok(&["snapshots"]);
        other.ok(&["snapshots"]);
        // The old password goes, and with it its key.
        let third = place.join("third");
        fs::write(&third, "shino\r\n").unwrap();
        restic.ok(&[
            "key",
            "passwd",
            "--new-password-file",
            third.to_str().unwrap(),
        ]);
        assert_eq!(program.run(&["snapshots"]).code, 12);
        other.ok(&["snapshots"]);
        other.write_password("shino");
        other.ok(&["snapshots"]);
        let theirs = Restic::on(path, &other);
        let keys = theirs.json(&["key", "list"]);
        let keys = keys[0].as_array().unwrap();
        assert_eq!(keys.len(), 2, "{keys:?}");
        let old = keys.iter().find(|key| key["current"] == false).unwrap();
        theirs.ok(&["key", "remove", old["id"].as_str().unwrap()]);
        other.ok(&["snapshots"]);
        other.write_password(hard);
        assert_eq!(other.run(&["snapshots"]).code, 12);
    });
}

/// Files beside the format, and fields that only other programs know, bother neither of the two.
#[test]
fn what_the_format_does_not_know_is_left_alone_by_both() {
    each(|path| {
        let place = Place::new();
        let (program, _) = two_snapshots(&place);
        let restic = Restic::on(path, &program);
        let forge = Forge::open(&program.repository);
        let mut snapshot = forge.next_snapshot(forge.last_tree());
        snapshot["label"] = "spring".into();
        snapshot["summary"]["glaze"] = 7.into();
        forge.put_snapshot(&snapshot);
        let extras = [
            program.repository.join("parity/x"),
            program.repository.join("data/aa/foo.par"),
            program.repository.join("README"),
        ];
        for extra in &extras {
            fs::create_dir_all(extra.parent().unwrap()).unwrap();
            fs::write(extra, noise(3, 100)).unwrap();
        }
        let (_, listed) = program.json(&["snapshots"]);
        assert_eq!(listed.last().unwrap()["snapshots"], 3);
        program.ok(&["check", "--read-data"]);
        restic.ok(&["check", "--read-data"]);
        restic.ok(&["forget", "--keep-last", "1", "--prune"]);
        for extra in &extras {
            assert!(extra.exists(), "{}", extra.display());
        }
        program.ok(&["check", "--read-data"]);
    });
}
