//! restic counts as we do, and each takes the other's snapshot for its parent.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::Place;
use crate::common::program::Program;
use crate::common::restic::{self, Restic};
use crate::common::shop::noise;

/// Counts of files and folders: new, changed, unmodified.
type Counts = [i64; 6];

const FIELDS: [&str; 6] = [
    "files_new",
    "files_changed",
    "files_unmodified",
    "dirs_new",
    "dirs_changed",
    "dirs_unmodified",
];

fn theirs(restic: &Restic, folder: &Path) -> Counts {
    let objects = restic.json(&["backup", folder.to_str().unwrap()]);
    let summary = objects.last().unwrap();
    assert_eq!(summary["message_type"], "summary");
    FIELDS.map(|field| summary[field].as_i64().unwrap())
}

/// Ours, but for the manifest and its folder, which restic has not.
fn ours(program: &Program, folder: &Path, manifest_is_new: bool) -> Counts {
    program.ok(&["backup", folder.to_str().unwrap()]);
    let snapshot = program.ok(&["cat", "snapshot", "latest"]).stdout;
    let snapshot: Value = serde_json::from_str(&snapshot).unwrap();
    assert_eq!(snapshot["parent"].is_null(), manifest_is_new);
    let mut counts = FIELDS.map(|field| snapshot["summary"][field].as_i64().unwrap());
    let at = usize::from(!manifest_is_new);
    counts[at] -= 1;
    counts[3 + at] -= 1;
    counts
}

fn make(folder: &Path) {
    fs::create_dir_all(folder.join("pictures/old")).unwrap();
    for (number, name) in ["a.txt", "b.txt", "pictures/c.jpg", "pictures/old/d.jpg"]
        .into_iter()
        .enumerate()
    {
        fs::write(folder.join(name), noise(number as u64, 3000)).unwrap();
    }
    std::os::unix::fs::symlink("a.txt", folder.join("link")).unwrap();
}

/// Changes something, of each sort.
fn change(folder: &Path) {
    fs::write(folder.join("a.txt"), "another").unwrap();
    fs::write(folder.join("new.txt"), "new").unwrap();
    fs::remove_file(folder.join("b.txt")).unwrap();
    fs::create_dir(folder.join("b.txt")).unwrap();
    fs::write(folder.join("b.txt/inner"), "inner").unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    fs::remove_file(folder.join("link")).unwrap();
    std::os::unix::fs::symlink("new.txt", folder.join("link")).unwrap();
}

#[test]
fn our_counts_are_restics() {
    restic::each(|path| {
        let place = Place::new();
        let [mine, other] = ["ours", "theirs"].map(|name| {
            fs::create_dir(place.join(name)).unwrap();
            Program::with_cheap_repository(&place.join(name))
        });
        let restic = Restic::on(path, &other);
        let folder = place.join("srv");
        make(&folder);
        let compare = |what: &str, expected: Counts| {
            let is_first = what == "first";
            for counts in [ours(&mine, &folder, is_first), theirs(&restic, &folder)] {
                assert_eq!(counts[..4], expected[..4], "{what}: {counts:?}");
                let folders = |counts: &Counts| counts[4] + counts[5];
                assert_eq!(folders(&counts), folders(&expected), "{what}: {counts:?}");
                // Others may change the two folders above meanwhile.
                let unmodified = expected[5] - 2..=expected[5];
                assert!(unmodified.contains(&counts[5]), "{what}: {counts:?}");
            }
        };
        compare("first", [4, 0, 0, 5, 0, 0]);
        compare("same", [0, 0, 4, 0, 0, 5]);
        change(&folder);
        // The file that became a folder is a changed folder; its inner file and `empty` are new.
        compare("changed", [2, 1, 2, 1, 2, 4]);
    });
}

#[test]
fn each_takes_the_others_snapshot_for_its_parent() {
    restic::each(|path| {
        let place = Place::new();
        let program = Program::with_cheap_repository(place.path());
        let restic = Restic::on(path, &program);
        let folder = place.join("srv");
        make(&folder);
        let host = tillsafe::repository::lock::host_name();
        let word = folder.to_str().unwrap();
        program.ok(&["backup", word]);
        let run = restic.ok(&["backup", "--host", &host, word, "-v"]);
        assert!(
            run.text().contains("using parent snapshot"),
            "{}",
            run.text()
        );
        assert!(
            run.stdout
                .contains("0 new,     0 changed,     4 unmodified"),
            "{}",
            run.stdout
        );
        // And back: there is no manifest yet.
        let (code, objects) = program.json(&["backup", word]);
        assert_eq!(code, 0);
        let summary = objects.last().unwrap();
        let counts = ["files_new", "files_changed", "files_unmodified"]
            .map(|field| summary[field].as_u64().unwrap());
        assert_eq!(counts, [1, 0, 4]);
        assert!(summary["parent_id"].is_string());
        restic.assert_clean();
    });
}
