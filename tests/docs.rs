//! Every session that the docs show is played: the same commands, on a shop of the same kind. What is
//! printed must be what the page says, but for words with digits in them (ids, times, sizes, counts).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::Place;
use crate::common::files::{files_below, flip_a_bit};
use crate::common::masked::shape;
use crate::common::shop::{Shop, noise};
use crate::common::tools::{find, skipped};

/// One command of a session, and what the page says it prints.
struct Step {
    command: String,
    expected: Vec<String>,
}

/// The sessions of a page: its blocks marked `console`, commands behind `$ `.
fn sessions(page: &str) -> Vec<Vec<Step>> {
    let mut sessions = Vec::new();
    let mut open: Option<Vec<Step>> = None;
    for line in page.lines() {
        match (&mut open, line) {
            (None, "```console") => open = Some(Vec::new()),
            (Some(_), "```") => sessions.extend(open.take()),
            (Some(steps), line) => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step {
                    command: command.to_owned(),
                    expected: Vec::new(),
                }),
                (None, Some(step)) => step.expected.push(line.to_owned()),
                (None, None) => panic!("output before the first command: {line}"),
            },
            (None, _) => {}
        }
    }
    sessions
}

/// Plays a page's sessions in a home of its own, which the page calls `/home/mara`.
fn play(page: &str) {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let sessions = sessions(&text);
    assert!(!sessions.is_empty(), "{page} shows no session");
    if let Some(tool) = ["restic", "sqlite3"]
        .iter()
        .find(|tool| find(tool).is_none())
    {
        return skipped(
            page,
            &format!("its sessions use {tool}; `make tools` installs it"),
        );
    }
    let place = Place::new();
    let home = place.path();
    Shop::open(&home.join("shop"), 1200, "wal");
    if matches!(
        page,
        "docs/restore.md" | "docs/leaving.md" | "docs/keys.md" | "docs/look.md"
    ) {
        // They begin where the first page ends.
        let words = ["init", "backup ./shop"]
            .map(|words| format!("tillsafe -q -r backup -p shop.pass {words}"));
        prepare(&words.join(" && "), home);
    }
    if page == "docs/configuration.md" {
        let example = text.split("```toml\n").nth(1).unwrap();
        let example = example.split("```").next().unwrap();
        let example = example.replace("/home/mara", home.to_str().unwrap());
        fs::write(home.join("tillsafe.toml"), example).unwrap();
    }
    if page == "docs/damage.md" {
        lose_a_picture(home);
    }
    if page == "docs/retention.md" {
        let back_up = "backup ./shop";
        let words = ["init", back_up, back_up, back_up, back_up]
            .map(|words| format!("tillsafe -q -r backup -p shop.pass {words}"));
        prepare(&words.join(" && "), home);
    }
    let program = PathBuf::from(env!("CARGO_BIN_EXE_tillsafe"));
    let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    let mut plan = String::new();
    let mut ids = Vec::new();
    for step in sessions.into_iter().flatten() {
        let command = with_ids(&with_plan(&step.command, &plan), &ids);
        let output = Command::new("/bin/sh")
            .args(["-c", &format!("{{ {command}; }} 2>&1")])
            .current_dir(home)
            .env_clear()
            .env("HOME", home)
            .env("XDG_STATE_HOME", home.join(".local/state"))
            .env("PATH", &path)
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let printed = printed.replace(home.to_str().unwrap(), "/home/mara");
        if let Some(line) = printed.lines().find(|line| line.starts_with("plan ")) {
            line["plan ".len()..].clone_into(&mut plan);
        }
        note_ids(&mut ids, &step.expected, &printed);
        let found: Vec<String> = printed.lines().map(shape).collect();
        let expected: Vec<String> = step.expected.iter().map(|line| shape(line)).collect();
        assert_eq!(found, expected, "{page}: $ {}\n{printed}", step.command);
    }
}

/// What has happened before a page begins.
fn prepare(command: &str, home: &Path) {
    let program = Path::new(env!("CARGO_BIN_EXE_tillsafe")).parent().unwrap();
    let status = Command::new("/bin/sh")
        .args(["-c", command])
        .current_dir(home)
        .env_clear()
        .env("PATH", program)
        .status()
        .unwrap();
    assert!(status.success());
}

/// Two backups; then the disk loses a bit of the one copy of a picture that the shop no longer has.
fn lose_a_picture(home: &Path) {
    let back_up = "tillsafe -q -r backup -p shop.pass backup ./shop";
    prepare(
        &format!("tillsafe -q -r backup -p shop.pass init && {back_up}"),
        home,
    );
    let picture = home.join("shop/pictures/plate.jpg");
    fs::write(&picture, noise(7, 60_000)).unwrap();
    prepare(back_up, home);
    fs::remove_file(picture).unwrap();
    let packs = files_below(&home.join("backup/data")).into_iter();
    let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
    let mut packs = packs.filter(|path| (60_000..90_000).contains(&size(path)));
    flip_a_bit(&packs.next().unwrap());
    assert_eq!(packs.next(), None);
}

/// The command with the plan that was printed here in the place of the page's.
fn with_plan(command: &str, plan: &str) -> String {
    match command.split_once("--plan ") {
        Some((before, _)) => format!("{before}--plan {plan}"),
        None => command.to_owned(),
    }
}

/// Takes down which id was printed here where the page shows another.
fn note_ids(ids: &mut Vec<(String, String)>, page: &[String], printed: &str) {
    let is_id = |word: &str| word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    for (shown, here) in page.iter().zip(printed.lines()) {
        for (shown, here) in shown.split_whitespace().zip(here.split_whitespace()) {
            if is_id(shown) && is_id(here) {
                ids.push((shown.to_owned(), here.to_owned()));
            }
        }
    }
}

/// The command with the ids that were printed here in the place of the page's.
fn with_ids(command: &str, ids: &[(String, String)]) -> String {
    let replaced = |command: String, (shown, here): &(String, String)| command.replace(shown, here);
    ids.iter().fold(command.to_owned(), replaced)
}

#[test]
fn the_readme_shows_what_happens() {
    play("README.md");
}

#[test]
fn the_first_page_shows_what_happens() {
    play("docs/start.md");
}

#[test]
fn the_page_on_setup_shows_what_happens() {
    play("docs/setup.md");
}

#[test]
fn the_page_for_the_night_shows_what_happens() {
    play("docs/restore.md");
}

#[test]
fn the_page_for_damage_shows_what_happens() {
    play("docs/damage.md");
}

#[test]
fn the_page_for_who_leaves_shows_what_happens() {
    play("docs/leaving.md");
}

#[test]
fn the_page_about_passwords_shows_what_happens() {
    play("docs/keys.md");
}

#[test]
fn the_page_of_what_is_in_a_backup_shows_what_happens() {
    play("docs/look.md");
}

#[test]
fn the_page_about_the_configuration_shows_what_happens() {
    play("docs/configuration.md");
}

#[test]
fn the_page_on_retention_shows_what_happens() {
    play("docs/retention.md");
}

/// A page may name another; it must be there.
#[test]
fn every_link_between_pages_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    for folder in ["docs", "docs/design"] {
        let listed = fs::read_dir(root.join(folder)).unwrap();
        let paths = listed.map(|item| item.unwrap().path());
        pages.extend(paths.filter(|path| path.extension().is_some_and(|kind| kind == "md")));
    }
    let mut links = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            links += 1;
            let path = page.parent().unwrap().join(target);
            assert!(path.exists(), "{} links to {target}", page.display());
        }
    }
    assert!(links >= 5, "only {links} links were seen");
}
