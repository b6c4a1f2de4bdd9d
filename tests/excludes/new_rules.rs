//! Rules by which nothing was left out before may be a slip of the keyboard: no whole snapshot goes for them.

use serde_json::Value;

use super::World;

/// What `forget --keep-last 1` would do: each snapshot, newest first, with whether it goes and why not.
fn decided(world: &World) -> Vec<(bool, String)> {
    let words = ["forget", "--keep-last", "1", "--dry-run"];
    let (code, objects) = world.program.json(&words);
    assert_eq!(code, 0, "{objects:#?}");
    let decisions = objects
        .iter()
        .filter(|object| object["message_type"] == "decision");
    decisions
        .map(|one| {
            let why = format!("{} {}", one["reasons"], one["not_good_because"]);
            (one["removed"].as_bool().unwrap(), why)
        })
        .collect()
}

fn is_new(summary: &Value) -> bool {
    summary["new_rules"].as_bool().unwrap()
}

#[test]
fn a_whole_snapshot_goes_only_once_new_rules_are_used_again() {
    let world = World::new(&["till.txt", "a.log", "old.log"]);
    assert!(!is_new(&world.backed_up(&[])));
    let said = world.program.ok(&["backup", world.path(), "-e", "*.log"]);
    assert!(
        said.stdout.contains("these rules are new here"),
        "{}",
        said.text()
    );
    let list = world.program.ok(&["snapshots"]).stdout;
    assert_eq!(list.matches("new-rules").count(), 1, "{list}");
    let [thin, whole] = &decided(&world)[..] else {
        panic!("two");
    };
    assert!(!thin.0 && thin.1.contains("new-rules"), "{thin:?}");
    assert!(!whole.0 && whole.1.contains("the last good"), "{whole:?}");
    let told = world
        .program
        .ok(&["forget", "--keep-last", "1", "--dry-run"]);
    assert!(
        told.stdout.contains("not good (new-rules); "),
        "{}",
        told.text()
    );
    // Used again they are meant, and what is by them is an ordinary snapshot.
    assert!(!is_new(&world.backed_up(&["-e", "*.log"])));
    let goes: Vec<bool> = decided(&world).into_iter().map(|one| one.0).collect();
    assert_eq!(goes, [false, true, true]);
    // Taking turns makes none of them new.
    assert!(!is_new(&world.backed_up(&[])));
    assert!(!is_new(&world.backed_up(&["-e", "*.log"])));
}

#[test]
fn what_is_new_about_rules_is_told_from_what_is_not() {
    let world = World::new(&["till.txt", "a.log"]);
    // There is nothing that the first of a series could hold less than.
    assert!(!is_new(&world.backed_up(&["-e", "*.log"])));
    // What leaves nothing out takes nothing away.
    assert!(!is_new(&world.backed_up(&["-e", "*.tmp"])));
    world.write("large.bin", &"x".repeat(5000));
    assert!(!is_new(&world.backed_up(&[])));
    // A limit is no pattern, and is in no other list of restic's.
    let limit = ["--exclude-larger-than", "1K"];
    assert!(is_new(&world.backed_up(&limit)));
    // Another limit is another rule; `--force` reads all files, and asks for the rules all the same.
    let other = ["--exclude-larger-than", "2K", "--force"];
    assert!(is_new(&world.backed_up(&other)));
    assert!(!is_new(&world.backed_up(&limit)));
}

/// Its owner can say at once that it is meant.
#[test]
fn the_mark_goes_by_its_name_alone() {
    let world = World::new(&["till.txt", "a.log"]);
    world.backed_up(&[]);
    world.backed_up(&["-e", "*.log"]);
    world.program.ok(&["tag", "--set", "sunday", "latest"]);
    assert!(decided(&world)[0].1.contains("new-rules"));
    world
        .program
        .ok(&["tag", "--remove", "new-rules", "latest"]);
    let goes: Vec<bool> = decided(&world).into_iter().map(|one| one.0).collect();
    assert_eq!(goes, [false, true]);
}
