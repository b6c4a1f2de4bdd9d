//! What is kept is given up one restore at a time, and found by its name wherever it went.

use super::{Scene, kept, text};

fn ids(scene: &Scene) -> Vec<String> {
    let (_, objects) = scene.program.json(&["rollback", "--list"]);
    let kept = objects
        .iter()
        .filter(|object| object["message_type"] == "kept");
    kept.map(|object| object["restore_id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn without_a_name_only_the_last_is_removed_and_all_only_by_that_word() {
    let scene = Scene::new();
    let note = scene.shop.folder.join("notes.txt");
    let picture = scene.shop.folder.join("pictures/teapot.jpg");
    for path in [&note, &picture, &scene.shop.database] {
        let run = scene.restore(&format!("latest:{}", path.display()));
        assert_eq!(run.code, 0, "{}", run.text());
    }
    let all = ids(&scene);
    assert_eq!(all.len(), 3, "{all:?}");
    let run = scene.program.ok(&["rollback", "--discard", "--yes"]);
    assert!(run.stdout.contains("of 1 restore\n"), "{}", run.stdout);
    // What is left is named, with whose it is; nothing proposes to remove all of it in one go.
    let left: Vec<&str> = run
        .stdout
        .lines()
        .filter(|line| line.starts_with("still kept: "))
        .collect();
    assert_eq!(left.len(), 2, "{}", run.stdout);
    for (line, (id, path)) in left.iter().zip([(&all[1], &picture), (&all[0], &note)]) {
        let words = format!("still kept: {id} of {}, ", path.display());
        assert!(line.starts_with(&words), "{line}");
    }
    assert!(!run.stdout.contains("--all"), "{}", run.stdout);
    assert_eq!(ids(&scene), all[..2]);
    // By its path it is that one; `--all` without `--discard` means nothing.
    scene
        .program
        .ok(&["rollback", "--discard", "--yes", text(&note)]);
    assert_eq!(ids(&scene), all[1..2]);
    assert_eq!(scene.program.run(&["rollback", "--all"]).code, 2);
    let run = scene.restore(&format!("latest:{}", note.display()));
    assert_eq!(run.code, 0, "{}", run.text());
    let run = scene
        .program
        .ok(&["rollback", "--discard", "--all", "--yes"]);
    assert!(run.stdout.contains("of 2 restores"), "{}", run.stdout);
    assert_eq!(ids(&scene), [""; 0]);
    assert_eq!(kept(&scene.shop.folder), [""; 0]);
}

/// A restore of the whole folder takes along what a restore inside it has kept.
#[test]
fn what_another_restore_has_taken_along_is_found_by_its_name() {
    let scene = Scene::new();
    let note = scene.shop.folder.join("notes.txt");
    let run = scene.restore(&format!("latest:{}", note.display()));
    assert_eq!(run.code, 0, "{}", run.text());
    let inner = ids(&scene).remove(0);
    let run = scene.restore("latest");
    assert_eq!(run.code, 0, "{}", run.text());
    let [outer] = &ids(&scene)[..] else {
        panic!("the inner one is a part of the outer one");
    };
    for words in [
        &["rollback", &inner][..],
        &["rollback", "--discard", "--yes", &inner],
    ] {
        let run = scene.program.run(words);
        assert_eq!(run.code, 20, "{}", run.text());
        assert!(
            run.stderr.contains(&format!(" rollback {outer}`")),
            "{}",
            run.stderr
        );
    }
    // As the message says: first the outer one, then the same command.
    scene.program.ok(&["rollback", outer]);
    scene
        .program
        .ok(&["rollback", "--discard", "--yes", &inner]);
    assert_eq!(kept(&scene.shop.folder), [""; 0]);
    // And what was removed is not known.
    let run = scene
        .program
        .run(&["rollback", "--discard", "--yes", &inner]);
    assert_eq!(run.code, 20, "{}", run.text());
    assert!(run.stderr.contains("no restore in place"), "{}", run.stderr);
}

/// What is gone is no reason to say that something is kept.
#[test]
fn a_kept_folder_that_is_gone_is_not_counted() {
    let scene = Scene::new();
    let disk = scene.place.join("disk");
    let other = disk.join("other");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("till.txt"), "one").unwrap();
    scene.program.ok(&["backup", text(&other)]);
    for path in [&other, &scene.shop.folder] {
        let run = scene.restore(&format!("latest:{}", path.display()));
        assert_eq!(run.code, 0, "{}", run.text());
    }
    let gone = ids(&scene).remove(0);
    // As a disk that is not mounted: another folder stands there, and whether it comes back nobody knows.
    std::fs::rename(&disk, scene.place.join("away")).unwrap();
    std::fs::create_dir(&disk).unwrap();
    let run = scene.program.ok(&["rollback", "--discard", "--yes"]);
    assert!(!run.stdout.contains("still kept"), "{}", run.stdout);
    let said = format!("not looked at: what the restore {gone} keeps in ");
    assert!(run.stdout.contains(&said), "{}", run.stdout);
    let list = scene.program.ok(&["rollback", "--list"]);
    assert!(
        list.stdout.starts_with("0 restores in place"),
        "{}",
        list.text()
    );
    assert!(list.stderr.contains(&gone), "{}", list.text());
}
