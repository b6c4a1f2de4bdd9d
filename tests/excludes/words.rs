//! Rules that cannot be followed are refused before anything is done, each with its place.

use std::fs;

use super::World;

#[test]
fn a_pattern_that_cannot_be_read_is_named_with_its_place() {
    let world = World::new(&["a"]);
    let list = world.place.join("list");
    let refused = |words: &[&str], parts: &[&str]| {
        let run = world
            .program
            .run(&[&["backup", world.path()], words].concat());
        assert_eq!(run.code, 2, "{words:?}: {}", run.text());
        for part in parts {
            assert!(
                run.stderr.contains(part),
                "{words:?}: {part}: {}",
                run.stderr
            );
        }
    };
    for pattern in ["", "!", "a[", "[!a]", "./cache", "a/../b", "x\\"] {
        refused(&["-e", pattern], &["--exclude: the pattern"]);
        refused(&["--iexclude", pattern], &["--iexclude: the pattern"]);
    }
    for (text, line, what) in [
        ("*.log\n# x\na[\n", 3, "`a[`"),
        ("$NO_SUCH_VARIABLE/x\n", 1, "NO_SUCH_VARIABLE"),
        ("\n\n!\n", 3, "is empty"),
    ] {
        fs::write(&list, text).unwrap();
        let file = list.to_str().unwrap();
        refused(
            &["--exclude-file", file],
            &[&format!("{file}:{line}: "), what],
        );
    }
    fs::write(&list, b"caf\xe9\n").unwrap();
    refused(
        &["--exclude-file", list.to_str().unwrap()],
        &["is not UTF-8"],
    );
    fs::write(&list, "x\n".repeat(600_000)).unwrap();
    refused(
        &["--exclude-file", list.to_str().unwrap()],
        &["longer than 1 MiB"],
    );
    fs::write(&list, "x\n".repeat(10_001)).unwrap();
    refused(&["--exclude-file", list.to_str().unwrap()], &["10000"]);
    refused(&["--exclude-if-present", ":x"], &["name of a file"]);
    refused(&["--exclude-larger-than", "1 GB"], &["500K"]);
    let long = format!("{}b", "a*".repeat(2000));
    world.program.ok(&["backup", world.path(), "-e", &long]);
}

#[test]
fn variables_of_the_environment_stand_in_a_list() {
    let world = World::new(&["a", "b$"]);
    let list = world.place.join("list");
    fs::write(&list, "${SHOP}/a\n*$$\n").unwrap();
    let mut command = world
        .program
        .command(&["backup", world.path(), "--exclude-file"]);
    command.arg(&list).env("SHOP", &world.shop);
    assert!(command.status().unwrap().success());
    assert_eq!(world.stored(), Vec::<String>::new());
}

#[test]
fn a_folder_that_is_named_and_left_out_is_refused() {
    let world = World::new(&["a", "inner/b"]);
    let inner = world.shop.join("inner");
    let inner = inner.to_str().unwrap();
    world.write("inner/.nobackup", "");
    for (words, rule) in [
        (vec!["-e", "shop"], "shop"),
        (vec!["-e", "*"], "*"),
        (vec![inner, "-e", "inner"], "inner"),
        (
            vec![inner, "--exclude-if-present", ".nobackup"],
            "--exclude-if-present .nobackup",
        ),
    ] {
        let run = world
            .program
            .run(&[&["backup", world.path()], &words[..]].concat());
        assert_eq!(run.code, 2, "{words:?}: {}", run.text());
        assert!(
            run.stderr.contains(&format!("left out by the rule {rule}")),
            "{}",
            run.stderr
        );
        assert!(run.stderr.contains("next:"), "{}", run.stderr);
    }
    // A folder above that a shop happens to lie in is no reason to leave out all of it, if it is said so.
    world.backed_up(&["-e", &format!("{}/**/shop", world.path())]);
    assert_eq!(world.stored(), ["a", "inner", "inner/.nobackup", "inner/b"]);
}
