//! What a backup leaves out by rule, and what no rule can leave out.

mod configured;
mod databases;
mod in_place;
mod judge;
mod new_rules;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::Place;
use crate::common::mount::SmallDisk;
use crate::common::program::Program;
use crate::common::restic::Restic;
use crate::common::tools::skipped;

/// A repository, and a folder with files in it.
struct World {
    place: Place,
    program: Program,
    shop: PathBuf,
}

impl World {
    fn new(files: &[&str]) -> Self {
        let place = Place::new();
        let program = Program::with_cheap_repository(place.path());
        let shop = place.path().canonicalize().unwrap().join("shop");
        fs::create_dir(&shop).unwrap();
        let world = Self {
            place,
            program,
            shop,
        };
        for file in files {
            world.write(file, "x");
        }
        world
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.shop.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn path(&self) -> &str {
        self.shop.to_str().unwrap()
    }

    /// Backs the shop up with these words, well; returns the summary.
    fn backed_up(&self, words: &[&str]) -> Value {
        let words = [&["backup", self.path()], words].concat();
        let (code, objects) = self.program.json(&words);
        assert_eq!(code, 0, "{objects:#?}");
        objects.last().unwrap().clone()
    }

    /// What lies below the shop in the last snapshot.
    fn stored(&self) -> Vec<String> {
        self.stored_in("latest")
    }

    fn stored_in(&self, snapshot: &str) -> Vec<String> {
        let (code, objects) = self
            .program
            .json(&["ls", &format!("{snapshot}:{}", self.path())]);
        assert_eq!(code, 0, "{objects:#?}");
        let paths = objects.iter().filter_map(|object| object["path"].as_str());
        let inner = paths.filter_map(|path| Path::new(path).strip_prefix(&self.shop).ok());
        let inner = inner.filter(|inner| !inner.as_os_str().is_empty());
        let mut names: Vec<String> = inner
            .map(|inner| inner.to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn every_rule_leaves_out_what_it_says_and_is_counted() {
    let world = World::new(&[
        "a.log",
        "B.LOG",
        "keep.log",
        "cache/x",
        "cache/y/z",
        "marked/x",
        "marked/y/z",
        "marked/.nobackup",
        "other/.nobackup",
        "other/x",
        "browser/x",
        "plain",
    ]);
    world.write("marked/.nobackup", "yes\n");
    world.write(
        "browser/CACHEDIR.TAG",
        "Signature: 8a477f597d28d172789f06886806bc55\n",
    );
    world.write("large", &"x".repeat(3000));
    let list = world.place.join("list");
    fs::write(&list, "# what can be made again\n\n  cache/  \n").unwrap();
    let summary = world.backed_up(&[
        "-e",
        "*.log",
        "-e",
        "!keep.log",
        "--exclude-file",
        list.to_str().unwrap(),
        "--iexclude",
        "b.log",
        "--exclude-caches",
        "--exclude-if-present",
        ".nobackup:yes",
        "--exclude-larger-than",
        "2K",
    ]);
    let expected = [
        "browser",
        "browser/CACHEDIR.TAG",
        "keep.log",
        "marked",
        "marked/.nobackup",
        "other",
        "other/.nobackup",
        "other/x",
        "plain",
    ];
    assert_eq!(world.stored(), expected);
    let rules = summary["excluded"]["rules"].as_array().unwrap();
    let told: Vec<(&str, u64)> = rules
        .iter()
        .map(|rule| {
            (
                rule["rule"].as_str().unwrap(),
                rule["items"].as_u64().unwrap(),
            )
        })
        .collect();
    let counts = [
        ("*.log", 1),
        ("!keep.log", 0),
        ("cache/", 1),
        ("b.log", 1),
        ("--exclude-caches", 1),
        ("--exclude-if-present .nobackup:yes", 2),
        ("--exclude-larger-than 2.00 KiB", 1),
    ];
    assert_eq!(told, counts);
    assert_eq!(summary["excluded"]["items"], 7);
    assert_eq!(rules[2]["first"], format!("{}/cache", world.path()));
    // Where restic keeps them, and all of it in our own facts.
    for restic in Restic::all_on(&world.program) {
        let listed = restic.json(&["snapshots"]);
        assert_eq!(
            listed[0][0]["excludes"],
            serde_json::json!(["*.log", "!keep.log", "cache/"])
        );
    }
    let manifest = world
        .program
        .ok(&["dump", "latest:/.tillsafe/manifest.json"])
        .stdout;
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["excluded"]["items"], 7);
    let rules = &manifest["excluded"]["rules"];
    assert_eq!(rules["any_case_patterns"], serde_json::json!(["b.log"]));
    assert_eq!(rules["larger_than_bytes"], 2048);
    assert_eq!(rules["one_file_system"], Value::Null);
}

#[test]
fn what_is_left_out_is_said_in_one_line_and_nothing_is_said_without_rules() {
    let world = World::new(&["a.log", "b.log", "c.tmp", "d"]);
    let said = |words: &[&str]| {
        let run = world
            .program
            .ok(&[&["backup", world.path()], words].concat());
        let lines = run.stdout.lines().filter(|line| line.contains("left out"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        said(&["-e", "*.log", "-e", "*.tmp", "-e", "*.bak"]),
        ["left out by rule: 3 items (2 by *.log, 1 by *.tmp)"]
    );
    assert_eq!(
        said(&["-e", "*.bak"]),
        ["left out by rule: nothing: no rule fitted"]
    );
    assert!(said(&[]).is_empty() && said(&["-q", "-e", "*.log"]).is_empty());
}

#[test]
fn what_was_left_out_and_no_longer_is_comes_back_whole() {
    let world = World::new(&["a.log", "b"]);
    world.backed_up(&["-e", "*.log"]);
    assert_eq!(world.stored(), ["b"]);
    world.backed_up(&[]);
    assert_eq!(world.stored(), ["a.log", "b"]);
    // One series, whatever is left out.
    let (_, objects) = world.program.json(&["snapshots"]);
    let parents = objects
        .iter()
        .filter(|object| object["message_type"] == "snapshot");
    assert_eq!(parents.count(), 2);
    world.program.ok(&["check", "--read-data"]);
}

#[test]
fn another_file_system_is_left_out_and_the_folder_it_is_mounted_on_stays() {
    let world = World::new(&["a", "disk/hidden", "disk2/hidden"]);
    let Some(disk) = SmallDisk::mount(&world.shop.join("disk"), "size=1m") else {
        return skipped("a mounted file system", "we may not mount");
    };
    let Some(named) = SmallDisk::mount(&world.shop.join("disk2"), "size=1m") else {
        return skipped("a mounted file system", "we may not mount");
    };
    fs::write(disk.path().join("x"), "x").unwrap();
    fs::create_dir(named.path().join("inner")).unwrap();
    fs::write(named.path().join("inner/y"), "y").unwrap();
    let summary = world.backed_up(&["-x"]);
    assert_eq!(world.stored(), ["a", "disk", "disk2"]);
    assert_eq!(summary["excluded"]["items"], 2);
    // One that is named is not another.
    let inner = named.path().join("inner");
    let summary = world.backed_up(&["-x", inner.to_str().unwrap()]);
    assert_eq!(
        world.stored_in(&summary["snapshot_id"].as_str().unwrap()[..8]),
        ["a", "disk", "disk2", "disk2/inner", "disk2/inner/y"]
    );
    let summary = world.backed_up(&[]);
    assert_eq!(
        world.stored_in(&summary["snapshot_id"].as_str().unwrap()[..8]),
        [
            "a",
            "disk",
            "disk/x",
            "disk2",
            "disk2/inner",
            "disk2/inner/y"
        ]
    );
}
