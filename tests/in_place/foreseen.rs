//! What a plan says before anything is done: what cannot be brought back, what would be lost, what comes back.

use std::fs;
use std::path::PathBuf;

use rusqlite::Connection;

use super::{Scene, field, text};
use crate::common::compare::describe;
use crate::common::files::files_below;
use crate::common::shop::noise;

impl Scene {
    /// Saves one more picture, whose bytes lie in a pack of their own; returns that.
    fn pack_of_one_more_picture(&self) -> PathBuf {
        // What has changed till now lies in other packs.
        self.program.ok(&["backup", text(&self.shop.folder)]);
        let packs = || files_below(&self.program.repository.join("data"));
        let before = packs();
        let pictures = self.shop.folder.join("pictures");
        fs::write(pictures.join("new.jpg"), noise(9, 40_000)).unwrap();
        self.program.ok(&["backup", text(&self.shop.folder)]);
        let mut new = packs();
        new.retain(|path| !before.contains(path));
        // Folders have packs of their own, and shorter ones.
        new.sort_by_key(|path| fs::metadata(path).unwrap().len());
        new.pop().unwrap()
    }
}

#[test]
fn a_plan_names_what_cannot_be_brought_back_and_ends_as_the_restore_would() {
    for (damage, finding) in [
        ("gone", "is not there, or ends too early"),
        ("cut", "is not there, or ends too early"),
        ("flipped", "is damaged"),
    ] {
        let scene = Scene::new();
        let pack = scene.pack_of_one_more_picture();
        let from = scene.latest_of_shop();
        let hash = scene.plan(&[&from]);
        let bytes = fs::read(&pack).unwrap();
        match damage {
            "gone" => fs::remove_file(&pack).unwrap(),
            "cut" => fs::write(&pack, &bytes[..bytes.len() / 2]).unwrap(),
            _ => {
                let mut bytes = bytes;
                bytes[20_000] ^= 1;
                fs::write(&pack, bytes).unwrap();
            }
        }
        let stands = describe(&scene.shop.folder, &|_| false);
        let plan = scene
            .program
            .run(&["restore", &from, "--in-place", "--dry-run"]);
        assert_eq!(plan.code, 4, "{damage}: {}", plan.text());
        let lost = |text: &str| {
            let mut lines = text.lines();
            let line = lines
                .find(|line| line.starts_with("lost: "))
                .unwrap_or_default();
            line.contains("pictures/new.jpg") && line.contains("in no other snapshot")
        };
        assert!(lost(&plan.stdout), "{damage}: {}", plan.stdout);
        assert!(plan.stdout.contains(finding), "{damage}: {}", plan.stdout);
        assert!(
            plan.stdout.contains("1 item CANNOT be brought back"),
            "{}",
            plan.stdout
        );
        assert!(!plan.stdout.contains("to do it"), "{}", plan.stdout);
        // The restore itself ends in the same way.
        let run = scene
            .program
            .run(&["restore", &from, "--in-place", "--plan", &hash]);
        assert_eq!(run.code, 4, "{damage}: {}", run.text());
        assert!(lost(&run.stdout), "{damage}: {}", run.stdout);
        assert_eq!(describe(&scene.shop.folder, &|_| false), stands, "{damage}");
        // Without it all is well.
        let without = [from.as_str(), "--exclude", "new.jpg"];
        scene.plan(&without);
        // To a new folder, all else comes back, and the code says that it is not all.
        let target = scene.place.join("target");
        let words = ["restore", &from, "--target", text(&target)];
        let plan = scene.program.run(&[&words[..], &["--dry-run"]].concat());
        assert_eq!(plan.code, 4, "{damage}: {}", plan.text());
        assert!(
            lost(&plan.stdout) && plan.stdout.contains("to do it"),
            "{}",
            plan.stdout
        );
        let (code, objects) = scene.program.json(&[&words[..], &["-n"]].concat());
        assert_eq!((code, field(&objects, "plan", "lost_items")), (4, 1.into()));
        let run = scene.program.run(&words);
        assert_eq!(run.code, 4, "{damage}: {}", run.text());
        assert!(lost(&run.stdout) && target.exists(), "{}", run.stdout);
    }
}

#[test]
fn nothing_is_stopped_for_a_restore_that_cannot_be_carried_out() {
    let scene = Scene::new();
    let pack = scene.pack_of_one_more_picture();
    let from = scene.latest_of_shop();
    let hash = scene.plan(&[&from]);
    let target = scene.place.join("target");
    let whole = scene
        .program
        .ok(&["-v", "restore", &from, "--target", text(&target)]);
    assert!(whole.stderr.contains("restoring"), "{}", whole.stderr);
    fs::remove_file(pack).unwrap();
    let run = scene
        .program
        .run(&["-v", "restore", &from, "--in-place", "--plan", &hash]);
    assert_eq!(run.code, 4, "{}", run.text());
    assert!(!run.text().contains("restoring"), "{}", run.text());
}

#[test]
fn rows_that_are_in_the_log_alone_and_files_with_an_older_time_count_as_changed() {
    let scene = Scene::new();
    scene.program.ok(&["backup", text(&scene.shop.folder)]);
    let from = scene.latest_of_shop();
    let changed = || {
        let words = ["restore", &from, "--in-place", "-n"];
        let (_, objects) = scene.program.json(&words);
        field(&objects, "plan", "replaces")[0]["changed"]["first"].to_string()
    };
    assert_eq!(changed(), "[]");
    let database = scene.shop.folder.join("shop.db");
    let before = fs::read(&database).unwrap();
    let till = Connection::open(&database).unwrap();
    till.execute_batch("PRAGMA wal_autocheckpoint = 0; CREATE TABLE later(x);")
        .unwrap();
    assert_eq!(fs::read(&database).unwrap(), before, "it is in the log");
    assert!(changed().contains("shop.db\""), "{}", changed());
    drop(till);
    let notes = scene.shop.folder.join("notes.txt");
    let time = fs::metadata(&notes).unwrap().modified().unwrap();
    fs::write(
        &notes,
        "another text, put there with the time of the old one",
    )
    .unwrap();
    let file = fs::File::options().write(true).open(&notes).unwrap();
    file.set_modified(time).unwrap();
    assert!(changed().contains("notes.txt"), "{}", changed());
}

#[test]
fn what_was_deleted_since_is_in_the_plan_and_so_is_a_single_file() {
    let scene = Scene::new();
    let cup = scene.shop.folder.join("pictures/old/cup.jpg");
    for from in [scene.latest_of_shop(), format!("latest:{}", cup.display())] {
        let words = ["restore", &from, "--in-place", "--dry-run"];
        let plan = scene.program.run(&words);
        assert_eq!(plan.code, 0, "{}", plan.text());
        let (_, objects) = scene.program.json(&words);
        let back = &field(&objects, "plan", "replaces")[0]["comes_back"];
        assert_eq!(back["count"], 1, "{back}");
        assert!(
            back["first"][0].as_str().unwrap().ends_with("old/cup.jpg"),
            "{back}"
        );
    }
    let plan = scene
        .program
        .ok(&["restore", "latest", "--in-place", "--dry-run"]);
    let line = format!("comes back, nothing stands there now: {}", cup.display());
    assert!(plan.stdout.contains(&line), "{}", plan.stdout);
}
