//! Patterns of a configured shop: each is for its own source, whatever lies above it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::World;
use crate::common::program::{Run, bare};
use crate::common::restic::Restic;
use crate::common::shop::Shop;

#[test]
fn each_source_has_patterns_of_its_own_and_what_is_typed_comes_after() {
    // The shop lies in a folder of a name that is left out below it.
    let world = World::new(&[
        "cache/one/cache/x",
        "cache/one/a.log",
        "cache/one/b.tmp",
        "two/cache/y",
        "two/a.log",
    ]);
    let (one, two) = (world.shop.join("cache/one"), world.shop.join("two"));
    drop(Shop::open(&one.join("data"), 3, "delete"));
    let file = world.place.join("tillsafe.toml");
    let text = format!(
        "version = 1\n[repository.usb]\nlocation = {:?}\npassword_file = {:?}\n\
         [[shop.mara.database]]\nengine = \"sqlite\"\npath = {:?}\n\
         [[shop.mara.files]]\npath = {one:?}\nexclude = [\"cache\", \"data\", \"*.log\"]\n\
         [[shop.mara.files]]\npath = {two:?}\nexclude = []\n",
        world.program.repository,
        world.program.password_file,
        one.join("data/shop.db"),
    );
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let run = |words: &[&str]| Run::of(bare().arg("-c").arg(&file).args(words));
    let saved = run(&["backup"]);
    assert_eq!(saved.code, 0, "{}", saved.text());
    let all = [
        "cache",
        "cache/one",
        "cache/one/b.tmp",
        "cache/one/data",
        "cache/one/data/shop.db",
        "two",
        "two/a.log",
        "two/cache",
        "two/cache/y",
    ];
    // The database has a source of its own, and is named whatever its folder's pattern says.
    assert_eq!(world.stored(), all);
    for restic in Restic::all_on(&world.program) {
        let listed = restic.json(&["snapshots"]);
        let scoped =
            ["cache", "data", "*.log"].map(|pattern| format!("{}/**/{pattern}", one.display()));
        assert_eq!(listed[0][0]["excludes"], serde_json::json!(scoped));
    }
    let saved = run(&["backup", "-e", "*.tmp", "-e", "!a.log"]);
    assert_eq!(saved.code, 0, "{}", saved.text());
    let mut expected: Vec<&str> = all
        .into_iter()
        .filter(|name| !name.contains(".tmp"))
        .collect();
    expected.push("cache/one/a.log");
    expected.sort_unstable();
    assert_eq!(world.stored(), expected);
    assert_eq!(run(&["backup", "-e", "["]).code, 2);
}
