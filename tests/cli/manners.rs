//! How every line behaves: silent where it should be, naming what it worked on, coloured only where that is wanted.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;

use super::assert_three_parts;
use super::every::{EVERY, Last, Quiet, World};
use super::output::beside_owners;
use super::{as_text, words};
use crate::common::program::{Run, bare};
use crate::common::terminal::{watched, without_progress};
use crate::common::tools::skipped;

#[test]
fn quiet_says_nothing_but_what_is_asked_for() {
    let world = World::new();
    for line in EVERY {
        let run = world.run(line, &["-q"]);
        let (what, text) = (line.words, run.text());
        assert_eq!(run.code, 0, "{what:?}: {text}");
        match line.quiet {
            Quiet::Silent => assert_eq!(beside_owners(&run), "", "{what:?}"),
            Quiet::Speaks => {
                assert_eq!(run.stderr, "", "{what:?}");
                assert!(!run.stdout.is_empty(), "{what:?}");
            }
        }
    }
}

#[test]
fn quiet_is_not_silent_about_errors_and_warnings() {
    let world = World::new();
    let file = &world.scene.program.password_file;
    for line in EVERY.iter().filter(|line| line.wants_the_password()) {
        let what = line.words;
        world
            .scene
            .program
            .write_password(crate::common::library::PASSWORD);
        let mut command = world.command(line, &["-q"]);
        let is_init = what[0] == "init";
        set_permissions(file, Permissions::from_mode(0o644)).unwrap();
        let run = Run::of(&mut command);
        let text = run.text();
        if what[0] == "doctor" {
            assert!(text.contains("chmod 600"), "{what:?}: {text}");
        } else {
            assert!(run.stderr.contains("warning: "), "{what:?}: {text}");
        }
        world
            .scene
            .program
            .write_password(crate::common::library::PASSWORD);
        let mut command = world.command(line, &["-q"]);
        world
            .scene
            .program
            .write_password(if is_init { "" } else { "tenmoku" });
        let run = Run::of(&mut command);
        assert_ne!(run.code, 0, "{what:?}");
        assert_three_parts(&run.stderr);
    }
}

#[test]
fn what_is_said_last_names_the_repository() {
    let mut world = World::new();
    let repository = as_text(&world.scene.program.repository).to_owned();
    for line in EVERY {
        let what = line.words;
        world.scene.json = false;
        let run = world.run(line, &[]);
        let is_named = run.text().contains(&repository);
        match line.last {
            Last::Named => assert!(is_named, "{what:?}: {}", run.text()),
            // It is in the configuration that is shown.
            Last::Data if what[0] == "config" => {}
            Last::Data | Last::NoRepository => assert!(!is_named, "{what:?}: {}", run.text()),
        }
        if !line.speaks_json() {
            continue;
        }
        world.scene.json = true;
        let objects = world.run(line, &[]).objects();
        let summary = objects.last().unwrap();
        if !line.opens() {
            assert!(summary["repository"].is_null(), "{what:?}: {summary}");
            continue;
        }
        assert_eq!(summary["repository"], *repository, "{what:?}");
        assert!(summary["duration_seconds"].is_f64(), "{what:?}");
        let mut command = world.command(line, &[]);
        let password = if what[0] == "init" { "" } else { "tenmoku" };
        world.scene.program.write_password(password);
        let objects = Run::of(&mut command).objects();
        let summary = objects.last().unwrap();
        assert_eq!(summary["repository"], *repository, "{what:?}: {summary}");
        world
            .scene
            .program
            .write_password(crate::common::library::PASSWORD);
    }
}

/// What asks for colour without being asked for: none of it is a terminal.
const COLORFUL: [(&str, &str); 5] = [
    ("TERM", "xterm-256color"),
    ("COLORTERM", "truecolor"),
    ("CLICOLOR", "1"),
    ("CLICOLOR_FORCE", "1"),
    ("FORCE_COLOR", "1"),
];

/// Text without its colours: `ESC [ … m`. Any other escape stays.
fn without_color(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|letter: char| !letter.is_ascii_digit() && letter != ';');
        match end.filter(|end| part[*end..].starts_with('m')) {
            Some(end) => plain.push_str(&part[end + 1..]),
            None => plain.extend(["\u{1b}[", part]),
        }
    }
    plain
}

#[test]
fn what_is_piped_has_no_colour_and_asked_for_it_has_nothing_else() {
    let world = World::new();
    let assert_plain = |run: &Run, what: &str| {
        assert!(!run.text().contains('\u{1b}'), "{what}: {:?}", run.text());
    };
    let assert_colored = |run: &Run, what: &str| {
        let plain = without_color(&run.text());
        assert!(!plain.contains('\u{1b}'), "{what}: {:?}", run.text());
    };
    let mut colored = 0;
    for line in EVERY {
        let what = format!("{:?}", line.words);
        let mut command = world.command(line, &[]);
        assert_plain(&Run::of(command.envs(COLORFUL)), &what);
        let run = world.run(line, &["--color", "always"]);
        assert_colored(&run, &what);
        colored += usize::from(run.text().contains('\u{1b}'));
    }
    assert!(colored >= 2, "what would be colour is seen as such");
    for command in words::commands_of(&words::help(&[])) {
        for more in ["--help", "--no-such-flag"] {
            let what = format!("{command} {more}");
            let typed =
                |color: &[&str]| Run::of(bare().envs(COLORFUL).args(color).args([command, more]));
            assert_plain(&typed(&[]), &what);
            assert_plain(&typed(&["--color", "never"]), &what);
            let run = typed(&["--color", "always"]);
            assert_colored(&run, &what);
            assert!(run.text().contains('\u{1b}'), "{what}: {:?}", run.text());
        }
    }
}

/// Widths that a person may have, and what a terminal or its owner may say of colours.
#[test]
fn a_terminal_of_any_width_and_kind_is_given_what_it_takes() {
    let world = World::new();
    let mut drawn = 0;
    for (columns, name, value) in [
        (20, "TERM", "xterm"),
        (300, "NO_COLOR", "1"),
        (300, "CLICOLOR", "0"),
        (80, "TERM", "dumb"),
    ] {
        for line in EVERY {
            let what = format!("{columns} columns, {name}={value}: {:?}", line.words);
            let mut command = world.command(line, &[]);
            // Neither bytes nor an archive are for a terminal.
            let Some(shown) = watched(columns, command.env(name, value)) else {
                return skipped("terminals of any kind", "there is no python3");
            };
            let text = std::str::from_utf8(&shown.bytes).unwrap();
            assert_eq!(shown.code, 0, "{what}: {text}");
            without_progress(&shown.bytes, &what);
            if name != "TERM" {
                let is_colored = without_color(text) != text;
                assert!(!is_colored, "{what}: {text:?}");
            }
            if value == "dumb" {
                let lines = text.replace("\r\n", "\n");
                assert!(!lines.contains(['\r', '\u{1b}']), "{what}: {text:?}");
            }
            drawn += progress(text)
                .iter()
                .filter(|drawn| !drawn.is_empty())
                .count();
            for drawn in progress(text) {
                let width = drawn.chars().count();
                assert!(width <= usize::from(columns), "{what}: {drawn:?}");
            }
        }
    }
    assert!(drawn > 0, "progress is seen as such");
}

/// What is drawn and taken away again: it begins where a line was cleared, and no line end comes after it.
fn progress(text: &str) -> Vec<&str> {
    let drawn = text.split("\u{1b}[2K").skip(1);
    let drawn = drawn.filter_map(|part| {
        let end = part.find(['\r', '\n', '\u{1b}']).unwrap_or(part.len());
        (!part[end..].starts_with("\r\n")).then_some(&part[..end])
    });
    drawn.collect()
}
