//! What restic wrote, in our hands: every way in which it writes, and snapshots built on each other's.

use std::fs;
use std::process::Command;

use super::{Restic, difficult_shop, each, made_by, paths};
use crate::common::Place;
use crate::common::compare::{difference, is_database};
use crate::common::program::{Program, Run};
use crate::common::shop::noise;

#[test]
fn we_check_list_and_restore_what_restic_wrote() {
    each(|path| {
        for (version, options) in [
            ("1", &[][..]),
            ("2", &["--compression", "off"]),
            ("2", &["--compression", "auto", "--pack-size", "4"]),
            ("2", &["--compression", "max", "--pack-size", "128"]),
        ] {
            let what = format!("version {version}, {options:?}");
            let place = Place::new();
            let program = Program::in_folder(place.path());
            let restic = Restic::on(path, &program);
            let shop = difficult_shop(&place.join("shop"), &restic);
            made_by(&restic, &program, version);
            let backup = [
                "backup",
                "--host",
                "till",
                "--tag",
                "a,b",
                shop.folder.to_str().unwrap(),
            ];
            restic.ok(&[options, &backup].concat());
            shop.sell(50);
            restic.ok(&[options, &backup].concat());

            program.ok(&["check", "--read-data"]);
            let (_, listed) = program.json(&["snapshots", "--host", "till"]);
            assert_eq!(listed.last().unwrap()["snapshots"], 2, "{what}");
            let (_, ours) = program.json(&["ls", "latest"]);
            let theirs = restic.json(&["ls", "latest"]);
            assert_eq!(
                paths(&ours, &shop.folder),
                paths(&theirs, &shop.folder),
                "{what}"
            );
            let target = place.join("restored");
            let from = format!("latest:{}", shop.folder.display());
            program.ok(&["restore", &from, "--target", target.to_str().unwrap()]);
            assert_eq!(
                difference(&shop.folder, &target, &is_database),
                None,
                "{what}"
            );
            assert_eq!(
                crate::common::shop::count_orders(&target.join("shop.db")),
                350,
                "{what}"
            );
            let (_, verified) = program.json(&["verify"]);
            assert_eq!(verified.last().unwrap()["proof_level"], "opened", "{what}");

            let ours = program.run(&["backup", shop.folder.to_str().unwrap()]);
            if version == "1" {
                assert_eq!(ours.code, 1, "{}", ours.stderr);
                assert!(ours.stderr.contains("migrate"), "{}", ours.stderr);
            } else {
                assert_eq!(ours.code, 0, "{what}: {}", ours.stderr);
            }
            restic.ok(&["check", "--read-data"]);
        }
    });
}

#[test]
fn the_two_build_on_each_others_snapshots() {
    each(|path| {
        let place = Place::new();
        let program = Program::with_cheap_repository(place.path());
        let restic = Restic::on(path, &program);
        let shop = difficult_shop(&place.join("shop"), &restic);
        let files = shop.folder.join("names");
        fs::write(files.join("large"), noise(9, 6 << 20)).unwrap();
        let (code, first) = program.json(&["backup", files.to_str().unwrap()]);
        assert_eq!(code, 0);
        assert!(first.last().unwrap()["added_bytes"].as_u64().unwrap() > 6 << 20);
        // The same cuts, the same trees: their parent is our snapshot, and nothing is new to them.
        let host = Run::of(&mut Command::new("/bin/hostname")).stdout;
        let theirs = restic.json(&["backup", "--host", host.trim(), files.to_str().unwrap()]);
        let summary = theirs.last().unwrap();
        assert_eq!(summary["files_unmodified"], 15, "{summary}");
        assert_eq!(summary["files_new"], 0, "{summary}");
        assert_eq!(summary["data_blobs"], 0, "{summary}");
        let (_, ours) = program.json(&["backup", files.to_str().unwrap()]);
        let added = ours.last().unwrap()["added_bytes"].as_u64().unwrap();
        assert!(added < 100_000, "{added} bytes");
        restic.assert_clean();
        // What restic drops and repacks, we go on reading.
        program.ok(&["backup", shop.folder.to_str().unwrap()]);
        restic.ok(&["forget", "--keep-last", "1", "--prune"]);
        program.ok(&["check", "--read-data"]);
        let (_, listed) = program.json(&["snapshots"]);
        assert_eq!(listed.last().unwrap()["snapshots"], 2);
        let (_, verified) = program.json(&["verify", "--path", shop.folder.to_str().unwrap()]);
        assert_eq!(verified.last().unwrap()["proof_level"], "matched");
        restic.assert_clean();
    });
}
