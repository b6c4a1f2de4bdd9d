//! What is said, where, and what never is: results on stdout, the rest on stderr, nothing that a
//! terminal would obey, no password.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Original, Scene, as_text, shell};
use crate::common::files::{files_below, flip_a_bit, make_broken_database, make_socket};
use crate::common::program::{Run, Started, bare};
use crate::common::tools::{restics, skipped};

/// Names that somebody who means no good, or another century, has given.
const NAMES: [&[u8]; 8] = [
    b"two\nlines",
    b"\x1b[2J\x1b]0;owned\x07",
    b"caf\xe9 \xff",
    b"-rf",
    b"back\\slash \"quoted\"",
    b"\r\x08\x08over",
    "\u{202e}gnp.exe".as_bytes(),
    "Töpferei".as_bytes(),
];

/// No byte that a terminal obeys, but for line ends.
fn assert_harmless(run: &Run) {
    let text = run.text();
    let obeyed = |letter: char| {
        (letter.is_control() && letter != '\n') || ('\u{202a}'..='\u{202e}').contains(&letter)
    };
    assert!(!text.contains(obeyed), "{text:?}");
}

/// A scene whose shop holds only files of [`NAMES`], backed up.
fn hostile(original: &Original, name: &str) -> Scene {
    let scene = original.scene(name, false);
    fs::remove_dir_all(&scene.shop).unwrap();
    fs::create_dir(&scene.shop).unwrap();
    for name in NAMES {
        fs::write(scene.shop.join(OsStr::from_bytes(name)), name).unwrap();
    }
    scene
}

#[test]
fn hostile_names_are_listed_quoted_and_given_exactly_to_programs() {
    let original = Original::new();
    let scene = hostile(&original, "scene");
    let backup = scene.run(&["backup", &scene.text("shop"), "--host", "\u{1b}host"]);
    assert_eq!(backup.code, 0, "{}", backup.text());
    assert_harmless(&backup);
    let from = format!("latest:{}", scene.text("shop"));
    let filter = ["--host", "\u{1b}host"];
    for list in [&["ls", &from][..], &["ls", "--long", &from]] {
        let run = scene.program.ok(&[list, &filter].concat());
        assert_harmless(&run);
        assert_eq!(run.stdout.lines().count(), NAMES.len(), "{}", run.stdout);
    }
    let run = scene.program.ok(&["ls", &from, filter[0], filter[1]]);
    for quoted in [
        "two\\nlines",
        "\\u{1b}[2J\\u{1b}]0;owned\\u{7}",
        "caf\\xe9 \\xff",
        "/-rf",
        "Töpferei",
    ] {
        assert!(run.stdout.contains(quoted), "{quoted}: {}", run.stdout);
    }
    assert_harmless(&scene.program.ok(&["snapshots"]));
    let (_, objects) = scene.program.json(&["ls", &from, filter[0], filter[1]]);
    let given: BTreeSet<PathBuf> = objects
        .iter()
        .filter(|object| object["message_type"] == "node")
        .map(|object| match object["path_base64"].as_str() {
            Some(exact) => PathBuf::from(std::ffi::OsString::from_vec(
                STANDARD.decode(exact).unwrap(),
            )),
            None => PathBuf::from(object["path"].as_str().unwrap()),
        })
        .collect();
    let expected = NAMES.map(|name| scene.shop.join(OsStr::from_bytes(name)));
    assert_eq!(given, BTreeSet::from(expected));
    let target = scene.text("target");
    scene
        .program
        .ok(&["restore", &from, "--target", &target, filter[0], filter[1]]);
    for name in NAMES {
        let restored = scene.path("target").join(OsStr::from_bytes(name));
        assert_eq!(fs::read(restored).unwrap(), name);
    }
}

#[test]
fn hostile_names_in_warnings_and_errors_are_quoted() {
    let original = Original::new();
    let mut scene = original.scene("scene", false);
    let name = OsStr::from_bytes(b"\x1b[2J\nerror: \xff");
    make_socket(&scene.shop.join(name));
    let mut database = name.to_owned();
    database.push(".db");
    make_broken_database(&scene.shop.join(&database));
    for json in [false, true] {
        scene.json = json;
        let run = scene.usual("backup");
        assert_eq!(run.code, 3, "{}", run.text());
        assert_harmless(&run);
        assert!(!run.stderr.contains("\nerror: "), "{}", run.stderr);
        let mut command = scene.command(&["backup"]);
        let run = Run::of(command.arg(scene.shop.join(&database)));
        assert_eq!(run.code, 14, "{}", run.text());
        assert_harmless(&run);
        let mut command = scene.command(&["restore", "latest", "--host", "test", "--target"]);
        let run = Run::of(command.arg(scene.shop.join(name)));
        assert_eq!(run.code, 20, "{}", run.text());
        assert_harmless(&run);
        let run = scene.run(&["ls", "\u{1b}[2J", "--host", "\u{1b}[2J"]);
        assert_eq!(run.code, 13, "{}", run.text());
        assert_harmless(&run);
    }
}

/// All that was said, but that only root can restore owners, where that is so.
pub fn beside_owners(run: &Run) -> String {
    let is_root = rustix::process::geteuid().is_root();
    let text = run.text();
    let lines = text
        .lines()
        .filter(|line| is_root || !line.starts_with("warning: owners: "));
    lines.collect()
}

#[test]
fn quiet_is_not_silent_about_what_goes_wrong() {
    let original = Original::new();
    let scene = original.scene("scene", false);
    make_broken_database(&scene.shop.join("old.db"));
    let run = scene.usual_with("backup", &["-q"]);
    assert_eq!(run.code, 3);
    assert!(run.stderr.contains("old.db"), "{}", run.stderr);
    for pack in files_below(&scene.program.repository.join("data")) {
        flip_a_bit(&pack);
    }
    let run = scene.usual_with("check", &["-q"]);
    assert_eq!(run.code, 4);
    assert!(run.stdout.contains("damaged: data/"), "{}", run.text());
    let run = scene.usual_with("restore", &["-q", "--host", "test"]);
    assert_eq!(run.code, 4);
    super::assert_three_parts(&run.stderr);
}

#[test]
fn results_go_to_stdout_and_warnings_to_stderr() {
    let original = Original::new();
    let scene = original.scene("scene", false);
    make_broken_database(&scene.shop.join("old.db"));
    scene.forge().lock_exclusively("elsewhere");
    let ls = scene.usual("ls");
    assert_eq!((ls.code, ls.stderr.as_str()), (0, ""));
    assert!(
        ls.stdout.lines().all(|line| line.starts_with('/')),
        "{}",
        ls.stdout
    );
    let snapshots = scene.usual("snapshots");
    assert_eq!((snapshots.code, snapshots.stderr.as_str()), (0, ""));
    assert_eq!(snapshots.stdout.lines().count(), 3, "head, snapshot, sum");
    let check = scene.usual("check");
    assert_eq!(check.code, 0);
    assert!(
        check.stderr.starts_with("warning: lock"),
        "{}",
        check.stderr
    );
    assert!(check.stdout.contains("no damage found"), "{}", check.stdout);
    assert!(!check.stdout.contains("warning"), "{}", check.stdout);
}

#[test]
fn a_password_is_never_shown() {
    let original = Original::new();
    let scene = original.scene("scene", false);
    let repository = as_text(&scene.program.repository);
    let wrong = "tenmoku-0xC0FFEE";
    for (variable, value) in [
        ("TILLSAFE_PASSWORD", wrong.to_owned()),
        ("RESTIC_PASSWORD", wrong.to_owned()),
        ("TILLSAFE_PASSWORD_COMMAND", format!("echo {wrong}")),
    ] {
        let (level, _) = variable.split_once('_').unwrap();
        for words in [&["snapshots"][..], &["--json", "snapshots"]] {
            let mut command = bare();
            command.env(variable, &value);
            command.env(format!("{level}_REPOSITORY"), repository);
            let run = Run::of(command.args(words));
            assert_eq!(run.code, 12, "{}", run.text());
            assert!(!run.text().contains(wrong), "{}", run.text());
        }
    }
    fs::remove_dir_all(&scene.program.repository).unwrap();
    fs::remove_file(&scene.program.password_file).unwrap();
    let run = scene.run(&["init"]);
    let made = fs::read_to_string(&scene.program.password_file).unwrap();
    assert!(made.trim().len() > 30, "a strong one");
    assert!(!run.text().contains(made.trim()), "{}", run.text());
}

/// Streams that take nothing. What exit code a lost result should have: see `known`.
#[test]
fn a_full_or_closed_stream_is_no_panic() {
    let original = Original::new();
    for (number, script) in [
        "exec \"$@\" >/dev/full",
        "exec \"$@\" >/dev/full 2>/dev/full",
        "exec \"$@\" >&-",
        "exec \"$@\" >&- 2>&-",
    ]
    .iter()
    .enumerate()
    {
        for (json, command) in [
            (false, "backup"),
            (true, "backup"),
            (false, "restore"),
            (true, "check"),
            (false, "snapshots"),
            (true, "ls"),
            (false, "completions"),
            (true, "version"),
        ] {
            let scene = original.scene(&format!("{number}-{json}-{command}"), json);
            let words = scene.words(command);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            for (words, expected) in [
                (&words[..], 0),
                (&[words[0], "--no-such-flag"], 2),
                (&[words[0], "--help"], 0),
            ] {
                let run = Run::of(&mut shell(script, &scene.command(words)));
                let may_fail = script.contains("full") && expected == 0;
                assert!(
                    run.code == expected || (may_fail && matches!(run.code, 1 | 15)),
                    "{script}: {words:?}: {}, {}",
                    run.code,
                    run.text()
                );
                assert!(!run.stderr.contains("panicked"), "{script}: {}", run.stderr);
            }
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let original = Original::new();
    for command in ["snapshots", "ls", "check", "version", "completions"] {
        let scene = original.scene(command, false);
        let words = scene.words(command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut child = scene
            .command(&words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Gone before the first line: no luck is needed.
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert_eq!(output.stderr, b"", "{command}");
    }
}

#[test]
fn a_long_backup_tells_programs_how_far_it_is() {
    let original = Original::new();
    let scene = original.scene("scene", true);
    let zeroes = fs::File::create(scene.shop.join("film")).unwrap();
    zeroes.set_len(1 << 40).unwrap();
    let told = scene.path("told");
    let script = format!("exec \"$@\" >'{}'", as_text(&told));
    let command = scene.command(&["backup", &scene.text("shop")]);
    let mut backup = Started::of(&mut shell(&script, &command));
    backup.wait_until("a status", || {
        fs::read_to_string(&told).is_ok_and(|text| text.contains("\"status\""))
    });
    backup.signal(rustix::process::Signal::TERM);
    let mut run = backup.finish();
    run.stdout = fs::read_to_string(&told).unwrap();
    assert_eq!(run.code, 143, "{}", run.text());
    let objects = run.objects();
    let status = objects
        .iter()
        .find(|object| object["message_type"] == "status")
        .unwrap();
    for field in ["bytes_done", "bytes_total", "files_done", "step_seconds"] {
        assert!(status[field].is_number(), "{field}: {status}");
    }
    assert_eq!(status["step"], "backing_up");
}

/// The real thing, where the table of exit codes has a forged one.
#[test]
fn a_broken_database_that_restic_stored_comes_back_as_not_proved() {
    let restics = restics();
    if restics.is_empty() {
        return skipped("a snapshot by restic", "restic is not installed");
    }
    let original = Original::new();
    for (name, restic) in restics {
        let scene = original.scene(name, true);
        make_broken_database(&scene.shop.join("old.db"));
        let stored = Command::new(restic)
            .env_clear()
            .env("RESTIC_REPOSITORY", &scene.program.repository)
            .env("RESTIC_PASSWORD_FILE", &scene.program.password_file)
            .args(["--no-cache", "backup", "--host", "restic"])
            .arg(&scene.shop)
            .output()
            .unwrap();
        assert!(
            stored.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&stored.stderr)
        );
        for command in ["verify", "restore"] {
            let run = scene.usual_with(command, &["--host", "restic"]);
            assert_eq!(run.code, 7, "{name}: {}", run.text());
            let objects = run.objects();
            assert_eq!(objects.last().unwrap()["proof_level"], "restored");
        }
        let target = scene
            .path("target")
            .join(scene.shop.strip_prefix("/").unwrap());
        let restored = fs::read(target.join("old.db")).unwrap();
        assert_eq!(restored, fs::read(scene.shop.join("old.db")).unwrap());
    }
}

#[test]
fn a_result_that_cannot_be_written_is_not_0() {
    let original = Original::new();
    for json in [false, true] {
        for command in ["snapshots", "ls", "check", "verify"] {
            let scene = original.scene(&format!("{json}-{command}"), json);
            let words = scene.words(command);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let full = shell("exec \"$@\" >/dev/full", &scene.command(&words));
            let run = Run::of(&mut { full });
            assert_ne!(run.code, 0, "{command}");
        }
    }
}
