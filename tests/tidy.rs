//! The house as drawn in docs/design/architecture.md: a module imports only from floors below.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms by floor, lowest first. On the ground floor each may use those before it.
const FLOORS: [&[&str]; 8] = [
    &[
        "units", "error", "glob", "id", "clock", "rng", "entry", "point", "secret", "monitor",
        "parallel", "durable",
    ],
    &["chunker", "backend"],
    &["source", "repository"],
    &["capture", "host", "records", "retention"],
    &["backup", "look", "restore", "forget", "hook"],
    &["doctor"],
    &["config"],
    &["cli"],
];

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = waiting.pop() {
        for item in fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The room of a source file: the first part of its path below `src`.
fn room(path: &Path) -> String {
    let inner = path
        .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .unwrap();
    let first = inner.iter().next().unwrap().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}

/// The rooms that a file names as `crate::ROOM`, tests at its foot included.
fn used_rooms(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for line in text.lines() {
        let code = line.split("//").next().unwrap_or_default();
        for rest in code.split("crate::").skip(1) {
            let names = rest
                .strip_prefix('{')
                .and_then(|list| list.split('}').next())
                .unwrap_or(rest);
            for name in names.split(',') {
                let name: String = name
                    .trim()
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if !name.is_empty() {
                    rooms.push(name);
                }
                if !rest.starts_with('{') {
                    break;
                }
            }
        }
    }
    rooms
}

fn may_import(from: &str, to: &str) -> bool {
    let (Some(high), Some(low)) = (floor(from), floor(to)) else {
        return false;
    };
    let position = |room: &str| FLOORS[0].iter().position(|other| *other == room);
    from == to || low < high || (low == 0 && high == 0 && position(to) < position(from))
}

#[test]
fn imports_only_go_down() {
    let mut wrong = Vec::new();
    for path in sources() {
        let from = room(&path);
        if from == "lib" || from == "main" {
            continue;
        }
        assert!(
            floor(&from).is_some(),
            "{from} has no floor: put it into FLOORS and the drawing"
        );
        for to in used_rooms(&fs::read_to_string(&path).unwrap()) {
            if !may_import(&from, &to) {
                wrong.push(format!("{}: {from} imports {to}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_rule_can_fail() {
    assert!(!may_import("source", "repository"));
    assert!(!may_import("backend", "backup"));
    assert!(!may_import("error", "monitor"));
    assert!(may_import("monitor", "error"));
    assert!(may_import("cli", "units"));
    assert_eq!(
        used_rooms("use crate::{cli, backup::x}; crate::id::Id"),
        ["cli", "backup", "id"]
    );
}

#[test]
fn each_dependency_has_one_room() {
    const HOMES: [(&str, &str); 13] = [
        ("clap", "cli"),
        ("clap_complete", "cli"),
        ("clap_mangen", "cli"),
        ("indicatif", "cli"),
        ("globset", "glob.rs"),
        ("toml", "config/file"),
        ("postgres", "source/postgres"),
        ("rusqlite", "source/sqlite"),
        ("walkdir", "source/files"),
        ("zstd", "repository"),
        ("sha2", "id.rs"),
        ("scrypt", "repository/keys.rs"),
        ("signal_hook", "cli"),
    ];
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        for (dependency, home) in HOMES {
            let used = [
                format!("use {dependency}::"),
                format!(" {dependency}::"),
                format!("({dependency}::"),
                format!("<{dependency}::"),
            ]
            .iter()
            .any(|word| text.contains(word));
            assert!(
                !used || path.starts_with(source.join(home)),
                "{} uses {dependency}, whose room is {home}",
                path.display()
            );
        }
    }
}

#[test]
fn files_hold_one_idea() {
    for path in sources() {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 600, "{} has {lines} lines", path.display());
    }
}

#[test]
fn nothing_is_left_open_and_no_path_of_a_machine_is_named() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let marks = ["TO", "DO"].concat();
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        for word in [marks.as_str(), "unimplemented!", "FIXME", "/work/"] {
            assert!(
                !text.contains(word),
                "{} holds {word}",
                path.strip_prefix(root).unwrap().display()
            );
        }
    }
}
