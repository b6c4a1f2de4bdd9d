//! A restore in place: what a rule has left out of the snapshot stays where it is, and what is merely not in
//! it moves aside.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::Value;

use super::World;
use crate::common::mount::SmallDisk;
use crate::common::restic::Restic;
use crate::common::shop::{Shop, count_orders};
use crate::common::tools::skipped;

impl World {
    /// Restores the last snapshot in place, by its plan; returns what the plan says of the shop.
    fn put_back(&self, words: &[&str]) -> Value {
        let from = format!("latest:{}", self.path());
        let words = [&[from.as_str()], words].concat();
        let dry = [&["restore"], &words[..], &["--in-place", "--dry-run"]].concat();
        let (code, objects) = self.program.json(&dry);
        assert_eq!(code, 0, "{objects:#?}");
        let plan = objects
            .iter()
            .find(|object| object["message_type"] == "plan")
            .unwrap();
        let hash = plan["plan"].as_str().unwrap();
        let restore = [&["restore"], &words[..], &["--in-place", "--plan", hash]].concat();
        self.program.ok(&restore);
        plan["replaces"][0].clone()
    }

    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.shop.join(file)).ok()
    }
}

fn first(paths: &Value) -> Vec<&str> {
    let first = paths["first"].as_array().unwrap().iter();
    first
        .map(|path| path.as_str().unwrap().rsplit("/shop/").next().unwrap())
        .collect()
}

const RULES: [&str; 8] = [
    "-e",
    "*.log",
    "-e",
    "cache",
    "--exclude-caches",
    "--iexclude",
    "*.TMP",
    "-x",
];

#[test]
fn what_was_left_out_stays_and_what_is_new_moves_aside_until_it_is_taken_back() {
    let world = World::new(&[
        "a",
        "sub/b",
        "sub/deep/c",
        "whole/d",
        "x.log",
        "sub/y.log",
        "cache/z",
        "t.tmp",
        "tagged/k",
    ]);
    world.write(
        "tagged/CACHEDIR.TAG",
        "Signature: 8a477f597d28d172789f06886806bc55",
    );
    world.backed_up(&RULES);
    for (file, text) in [
        ("a", "changed"),
        ("sub/b", "changed"),
        ("x.log", "later"),
        ("cache/z", "later"),
    ] {
        world.write(file, text);
    }
    for new in [
        "new",
        "sub/new",
        "unknown/cache/n",
        "whole/new",
        "sub/deep/w.log",
    ] {
        world.write(new, "new");
    }
    fs::remove_file(world.shop.join("whole/d")).unwrap();
    let plan = world.put_back(&[]);
    let stays = [
        "cache",
        "sub/deep/w.log",
        "sub/y.log",
        "t.tmp",
        "tagged/k",
        "x.log",
    ];
    assert_eq!(first(&plan["stays_left_out"]), stays);
    let moves = [
        "new",
        "sub/new",
        "unknown",
        "unknown/cache",
        "unknown/cache/n",
        "whole/new",
    ];
    assert_eq!(first(&plan["not_in_snapshot"]), moves);
    let now = |file: &str| world.read(file);
    for (file, text) in [
        ("a", "x"),
        ("sub/b", "x"),
        ("whole/d", "x"),
        ("x.log", "later"),
        ("cache/z", "later"),
        ("sub/y.log", "x"),
        ("sub/deep/w.log", "new"),
        ("t.tmp", "x"),
        ("tagged/k", "x"),
    ] {
        assert_eq!(now(file).as_deref(), Some(text), "{file}");
    }
    for gone in ["new", "sub/new", "unknown", "whole/new"] {
        assert!(!world.shop.join(gone).exists(), "{gone}");
    }
    // What stayed may go on meanwhile.
    world.write("x.log", "at work");
    world.program.ok(&["rollback"]);
    for (file, text) in [
        ("a", "changed"),
        ("sub/b", "changed"),
        ("new", "new"),
        ("sub/new", "new"),
        ("unknown/cache/n", "new"),
        ("whole/new", "new"),
        ("x.log", "at work"),
        ("cache/z", "later"),
        ("sub/deep/c", "x"),
    ] {
        assert_eq!(now(file).as_deref(), Some(text), "{file}");
    }
    assert!(!world.shop.join("whole/d").exists());
}

/// A folder that is divided is not moved, at any depth: that it keeps its mode is said of each.
#[test]
fn a_folder_in_which_something_stays_keeps_its_mode_and_that_is_said() {
    let world = World::new(&["a", "sub/deep/b", "other/c"]);
    world.backed_up(&RULES);
    world.write("sub/deep/y.log", "later");
    for folder in ["sub/deep", "other"] {
        let mode = fs::Permissions::from_mode(0o711);
        fs::set_permissions(world.shop.join(folder), mode).unwrap();
    }
    let from = format!("latest:{}", world.path());
    let hash = world.program.plan_in_place(&[&from]);
    let words = ["restore", &from, "--in-place", "--plan", &hash];
    let run = world.program.ok(&words);
    let mode = |folder: &str| fs::metadata(world.shop.join(folder)).unwrap().mode() & 0o777;
    assert_eq!((mode("sub/deep"), mode("other")), (0o711, 0o755));
    let said: Vec<&str> = run
        .stderr
        .lines()
        .filter(|line| line.contains("keeps its"))
        .collect();
    assert_eq!(said.len(), 1, "{}", run.stderr);
    assert!(
        said[0].contains("sub/deep: ") && said[0].contains("0711"),
        "{said:?}"
    );
}

#[test]
fn without_anything_that_was_left_out_the_folder_is_exchanged_as_a_whole() {
    let world = World::new(&["a", "sub/b", "x.log"]);
    world.backed_up(&RULES);
    fs::remove_file(world.shop.join("x.log")).unwrap();
    let inode = |file: &str| {
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(world.shop.join(file)).unwrap())
    };
    let before = inode("");
    let plan = world.put_back(&[]);
    assert_eq!(plan["stays_left_out"]["count"], 0);
    assert_ne!(inode(""), before);
    // With something in it that stays, it is the same folder.
    world.write("x.log", "y");
    let before = inode("");
    world.put_back(&[]);
    assert_eq!(
        (inode(""), world.read("x.log").as_deref()),
        (before, Some("y"))
    );
}

#[test]
fn a_database_that_was_left_out_stays_with_all_that_belongs_to_it() {
    let world = World::new(&["a"]);
    let kept = Shop::open(&world.shop, 20, "wal");
    let other = Shop::open(&world.shop.join("data"), 5, "wal");
    world.backed_up(&["-e", "*-shm", "-e", "/**/shop/shop.db"]);
    other.sell(2);
    // A connection keeps the log of the one that stays; nobody has the other open.
    let at_work = kept.connect();
    kept.sell(3);
    let plan = world.put_back(&[]);
    assert_eq!(
        first(&plan["stays_left_out"]),
        ["shop.db", "shop.db-shm", "shop.db-wal"]
    );
    assert_eq!((kept.orders(), other.orders()), (23, 5));
    drop(at_work);
    assert_eq!(count_orders(&kept.database), 23);
}

#[test]
fn what_is_mounted_there_and_was_left_out_stays_mounted() {
    let world = World::new(&["a", "disk/below"]);
    let Some(disk) = SmallDisk::mount(&world.shop.join("disk"), "size=1m") else {
        return skipped("a mounted file system", "we may not mount");
    };
    world.backed_up(&["-x"]);
    world.write("a", "changed");
    fs::write(disk.path().join("orders"), "paid").unwrap();
    let plan = world.put_back(&[]);
    assert_eq!(first(&plan["stays_left_out"]), ["disk"]);
    assert_eq!(
        (
            world.read("a").as_deref(),
            world.read("disk/orders").as_deref()
        ),
        (Some("x"), Some("paid"))
    );
}

#[test]
fn the_rules_of_a_snapshot_that_restic_made_count_too() {
    let world = World::new(&["a", "b.log", "sub/[!x].tmp"]);
    let restic = Restic::newest_on(&world.program);
    let Some(restic) = restic else {
        return skipped("a snapshot of restic's", "there is no restic");
    };
    restic.ok(&[
        "backup",
        world.path(),
        "--exclude",
        "*.log",
        "--exclude",
        "[!x].tmp",
    ]);
    world.write("a", "changed");
    let from = format!("latest:{}", world.path());
    let run = world
        .program
        .ok(&["restore", &from, "--in-place", "--dry-run"]);
    // What we would refuse is said, and leaves nothing out.
    assert!(run.stderr.contains("1 of the rules"), "{}", run.text());
    assert!(
        run.stdout
            .contains("stays, left out of the snapshot by rule"),
        "{}",
        run.text()
    );
    world.put_back(&[]);
    assert_eq!(
        (world.read("a").as_deref(), world.read("b.log").as_deref()),
        (Some("x"), Some("x"))
    );
}
