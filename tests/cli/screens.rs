//! Every screen as a golden file in tests/golden/screens: the help of every command, and what each says on
//! one repository. Words with digits (ids, times, sizes, counts) are `#`, for they differ from run to run.
//!
//! `make renew` writes them anew; then look at the difference before you commit it.

use std::fs;
use std::path::PathBuf;

use super::schemas::is_renewing;
use super::words::{commands_of, help};
use super::{Original, Scene, as_text};
use crate::common::masked::shape;
use crate::common::program::Run;

fn golden(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/screens");
    PathBuf::from(folder).join(name)
}

/// Compares with the golden file, or renews it; says what differs.
fn compare(name: &str, text: &str, wrong: &mut Vec<String>) {
    let path = golden(name);
    if is_renewing() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if text != expected {
        let mut lines = text.lines().zip(expected.lines());
        let first = lines.find(|(found, expected)| found != expected);
        wrong.push(format!("{name}: {first:?}"));
    }
}

fn assert_all(wrong: &[String]) {
    let found = wrong.join("\n");
    assert!(
        wrong.is_empty(),
        "screens differ; if that is meant: make renew\n{found}"
    );
}

/// The names in the list of a help that is not in groups.
pub fn inner_commands(help: &str) -> Vec<String> {
    let Some(list) = help.split("Commands:\n").nth(1) else {
        return Vec::new();
    };
    let rows = list.lines().take_while(|line| !line.is_empty());
    let rows = rows.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    rows.map(|row| row.split_whitespace().next().unwrap().to_owned())
        .collect()
}

#[test]
fn every_help_is_as_it_was_reviewed() {
    let mut wrong = Vec::new();
    let whole = help(&[]);
    compare("help/tillsafe.txt", &whole, &mut wrong);
    for command in commands_of(&whole) {
        let text = help(&[command]);
        compare(&format!("help/{command}.txt"), &text, &mut wrong);
        for inner in inner_commands(&text) {
            let text = help(&[command, &inner]);
            compare(&format!("help/{command}-{inner}.txt"), &text, &mut wrong);
        }
    }
    assert_all(&wrong);
}

/// What differs from run to run is `#`; the width of columns too.
fn masked(text: &str, scene: &Scene) -> String {
    let text = text.replace(scene.folder.to_str().unwrap(), "/PLACE");
    let line = |line: &str| {
        let indent: String = line.chars().take_while(|letter| *letter == ' ').collect();
        indent + &shape(line) + "\n"
    };
    text.lines().map(line).collect()
}

fn screen(scene: &Scene, words: &[&str], run: &Run) -> String {
    let mut text = format!("$ tillsafe {}\n", words.join(" "));
    text.push_str(&run.stdout);
    if !run.stderr.is_empty() {
        text = format!("{}\n--- stderr\n{}", text.trim_end(), run.stderr);
    }
    text = format!("{}\n--- exit code\n", text.trim_end());
    masked(&text, scene) + &format!("{}\n", run.code)
}

#[test]
fn every_screen_is_as_it_was_reviewed() {
    if !rustix::process::geteuid().is_root() {
        return crate::common::tools::skipped("screens", "owners are told otherwise than to root");
    }
    let original = Original::new();
    let scene = original.scene("scene", false);
    let (shop, target) = (scene.text("shop"), scene.text("target"));
    let (pass, second) = (scene.text("new.pass"), scene.text("second.pass"));
    let in_snapshot = format!("latest:{shop}");
    let dumped = scene.text("dumped");
    let mut wrong = Vec::new();
    let mut number = 0;
    let mut take = |scene: &Scene, words: &[&str]| {
        number += 1;
        let run = scene.run(words);
        let name: Vec<&str> = words
            .iter()
            .take_while(|word| !word.starts_with(['/', '*']) && !word.contains(['.', ':']))
            .copied()
            .collect();
        let name = format!("{number:02}-{}.txt", name.join("-").replace("--", ""));
        compare(&name, &screen(scene, words, &run), &mut wrong);
    };
    take(&scene, &["version"]);
    take(&scene, &["demo"]);
    take(&scene, &["init"]);
    take(&scene, &["backup", &shop, "--host", "till"]);
    take(&scene, &["snapshots", "--host", "till"]);
    fs::write(scene.shop.join("added.txt"), "tenmoku\n").unwrap();
    take(&scene, &["backup", "-v", &shop, "--host", "till"]);
    let till = ["--host", "till"];
    for words in [
        &["ls", &in_snapshot][..],
        &["find", "added.txt"],
        &["stats", "latest"],
        &["dump", &format!("{in_snapshot}/added.txt")],
        &["dump", &in_snapshot, "--target", &dumped],
        &["restore", &in_snapshot, "--target", &target],
        &["restore", &in_snapshot, "--target", &target],
        &["restore", &in_snapshot, "--in-place", "--dry-run"],
        &["verify", &in_snapshot],
        &["forget", "--keep-last", "1", "--dry-run"],
        &["tag", "--add", "sunday", "latest"],
    ] {
        take(&scene, &[words, &till].concat());
    }
    scene.forge().lock_exclusively("elsewhere");
    for words in [
        &["backup", &shop][..],
        &["unlock"],
        &["unlock", "--remove-all"],
    ] {
        take(&scene, words);
    }
    for words in [
        &["rollback", "--list"][..],
        &["check"],
        &["check", "--read-data"],
        &["list", "keys"],
        &["cat", "config"],
        &["key", "list"],
        &["key", "add", "--new-password-file", &second],
        &["key", "remove", "00000000"],
        &["key", "passwd", "--new-password-file", &pass],
        &["ls", "latest"],
    ] {
        take(&scene, words);
    }
    let scene = Scene {
        program: crate::common::program::Program {
            repository: scene.program.repository.clone(),
            password_file: scene.path("new.pass"),
        },
        ..scene
    };
    for words in [
        &["prune", "--dry-run"][..],
        &["prune"],
        &["repair", "index"],
        &["repair", "packs"],
        &["repair", "snapshots"],
        &["cache", "--cache-dir", as_text(&scene.path("cache"))],
        &["ls", "00000000"],
        &["nonsense"],
        &["drill"],
    ] {
        take(&scene, words);
    }
    scene.program.write_password("wrong");
    take(&scene, &["snapshots"]);
    assert_all(&wrong);
}
