//! What may be typed: help, words that are refused, and what wins if several name a repository.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use tillsafe::error::ExitCode;

use super::{Original, READING, assert_error_object, assert_three_parts};
use crate::common::Place;
use crate::common::library::PASSWORD;
use crate::common::program::{Program, Run, bare};

/// Commands of the contract that are still to come.
const TO_COME: [&str; 16] = [
    "drill", "report", "status", "probe", "metrics", "copy", "schedule", "run", "alert", "wal",
    "incident", "runbook", "kit", "migrate", "mount", "rewrite",
];

pub fn help(words: &[&str]) -> String {
    let run = Run::of(bare().args(words).arg("--help"));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{words:?}");
    run.stdout
}

/// The commands that a help lists: those of the program in groups.
pub fn commands_of(help: &str) -> BTreeSet<&str> {
    let list = help.split("Commands:\n").nth(1).unwrap();
    list.lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap())
        .collect()
}

#[test]
fn every_help_lists_every_exit_code() {
    let whole = help(&[]);
    let mut all = vec![vec![]];
    all.extend(commands_of(&whole).into_iter().map(|command| vec![command]));
    assert_eq!(all.len(), 29);
    for words in all {
        let text = help(&words);
        for (code, meaning) in ExitCode::TABLE {
            let row = format!("{:>5}  {meaning}", code.number());
            assert!(text.lines().any(|line| line == row), "{words:?}: {row}");
        }
        assert!(text.contains("--json"), "{words:?}");
        assert!(!text.contains('\u{1b}'), "{words:?}");
    }
}

#[test]
fn a_version_can_be_asked_for_in_both_ways() {
    for words in [["--version"], ["version"]] {
        let run = Run::of(bare().args(words));
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
        let expected = concat!("tillsafe ", env!("CARGO_PKG_VERSION"), "\n");
        assert!(run.stdout.starts_with(expected), "{}", run.stdout);
    }
}

#[test]
fn what_is_still_to_come_is_refused_by_name() {
    let whole = help(&[]);
    let there = commands_of(&whole);
    for name in TO_COME {
        assert!(!there.contains(name), "{name} has come: strike it off here");
        let run = Run::of(bare().args([name, "something", "--more"]));
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{name}");
        assert_three_parts(&run.stderr);
        let said = format!("`{name}` is not part of this version");
        assert!(run.stderr.contains(&said), "{name}: {}", run.stderr);
        let run = Run::of(bare().args(["--json", name]));
        let objects = run.objects();
        assert_error_object(&objects, 2);
        assert!(objects[0]["error"].as_str().unwrap().contains(&said));
    }
}

#[test]
fn words_that_do_not_fit_are_2_and_say_what_to_type() {
    for words in [
        &[][..],
        &["nonsense"],
        &["backup"],
        &["restore", "latest"],
        &["restore"],
        &["ls"],
        &["completions", "cobol"],
        &["check", "surplus"],
        &["-r", "/r", "-p", "/p", "forget"],
        &["-r", "/r", "-p", "/p", "forget", "--keep-daily", "0"],
        &["-r", "/r", "-p", "/p", "forget", "--keep-daily", "-1"],
        &["-r", "/r", "-p", "/p", "forget", "--keep-daily=-1"],
        &["-r", "/r", "-p", "/p", "forget", "--keep-daily", "all"],
        &["-r", "/r", "-p", "/p", "forget", "--keep-daily", ""],
        &[
            "-r",
            "/r",
            "-p",
            "/p",
            "forget",
            "--keep-daily",
            "4294967296",
        ],
        &["-r", "/r", "-p", "/p", "forget", "--keep-nightly", "7"],
        &["-r", "/r", "-p", "/p", "forget", "--keep-within", "0d"],
        &["-r", "/r", "-p", "/p", "forget", "--keep-within", "5w"],
        &["-r", "/r", "-p", "/p", "forget", "--keep-tag", ""],
        &["-r", "/r", "-p", "/p", "forget", "--keep-tag", "a,,b"],
        &[
            "-r",
            "/r",
            "-p",
            "/p",
            "forget",
            "1a2b3c4d",
            "--keep-last",
            "3",
        ],
        &[
            "-r",
            "/r",
            "-p",
            "/p",
            "forget",
            "1a2b3c4d",
            "--trust-history",
        ],
        &["-r", "/r", "-p", "/p", "forget", "--dry-run"],
        &["config"],
        &["config", "write"],
        &["-c", "/no/such/file.toml", "config", "check"],
        &["key"],
        &["key", "change"],
        &["key", "remove"],
        &["-r"],
        &["backup", "/srv", "--dry-run"],
        &["snapshots"],
        &["-r", "/r", "snapshots"],
        &["-p", "/p", "snapshots"],
        &[
            "-r",
            "/r",
            "-p",
            "/p",
            "--password-command",
            "true",
            "snapshots",
        ],
        &["-r", "sftp:host:/r", "-p", "/p", "snapshots"],
        &["-r", "s3:https://s3.example.net/r", "-p", "/p", "init"],
        &["-r", "", "-p", "/p", "snapshots"],
        &["-r", "/r", "-p", "/p", "ls", ":/srv"],
        &["-r", "/r", "-p", "/p", "ls", "latest:/srv/../../etc"],
        &["-r", "/r", "-p", "/p", "backup", "mara"],
        &["-r", "/r", "-p", "/p", "backup", "/srv", "--tag", "a,b"],
        &["-r", "/r", "-p", "/p", "backup", "/srv", "--tag", ""],
        &["-r", "/r", "-p", "/no/such/file", "snapshots"],
        &["-r", "/r", "--password-command", "exit 1", "snapshots"],
        &["-r", "/r", "--password-command", "true", "snapshots"],
    ] {
        let run = Run::of(bare().args(words));
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{words:?}");
        assert_three_parts(&run.stderr);
        let run = Run::of(bare().arg("--json").args(words));
        assert_eq!(run.code, 2, "{words:?}");
        assert_error_object(&run.objects(), 2);
    }
}

#[test]
fn without_a_repository_the_two_lines_to_type_are_shown() {
    let run = Run::of(bare().args(["backup", "/srv/shop"]));
    assert_eq!(run.code, 2);
    for word in ["-r ", "-p ", "init", "backup /srv/shop"] {
        assert!(run.stderr.contains(word), "{word}: {}", run.stderr);
    }
}

#[test]
fn words_that_are_not_text_are_refused_and_not_a_panic() {
    use std::os::unix::ffi::OsStrExt;
    for word in [&b"\xff\xfe"[..], b"\x1b[2J", b"--\xff", b"-\xff"] {
        let word = std::ffi::OsStr::from_bytes(word);
        let run = Run::of(bare().arg(word));
        assert_eq!(run.code, 2, "{word:?}");
        assert_three_parts(&run.stderr);
        assert!(!run.stderr.contains('\u{1b}'), "{word:?}");
    }
}

/// Two repositories with passwords of their own, and a third place with none.
struct Two {
    _place: Place,
    ours: Program,
    theirs: Program,
}

impl Two {
    fn new() -> Self {
        let place = Place::new();
        let [ours, theirs] = ["ours", "theirs"].map(|name| {
            let folder = place.join(name);
            fs::create_dir(&folder).unwrap();
            let program = Program::in_folder(&folder);
            program.write_password(name);
            crate::common::library::create_with(&program.backend(), name);
            program
        });
        Self {
            _place: place,
            ours,
            theirs,
        }
    }
}

/// Runs `snapshots` and returns its exit code, and the repository that its summary names.
fn asked(variables: &[(&str, &str)], words: &[&str]) -> (i32, String) {
    let mut command = bare();
    command.envs(variables.iter().copied());
    let run = Run::of(command.args(words).args(["--json", "snapshots"]));
    let summary = run.objects().pop().unwrap();
    let named = summary["repository"].as_str().unwrap_or_default();
    (run.code, named.to_owned())
}

#[test]
fn flags_win_over_our_variables_and_those_over_restics() {
    let two = Two::new();
    let (ours, theirs) = (
        two.ours.repository.to_str().unwrap(),
        two.theirs.repository.to_str().unwrap(),
    );
    let (our_file, their_file) = (
        two.ours.password_file.to_str().unwrap(),
        two.theirs.password_file.to_str().unwrap(),
    );
    let of_restic = [
        ("RESTIC_REPOSITORY", theirs),
        ("RESTIC_PASSWORD_FILE", their_file),
    ];
    assert_eq!(asked(&of_restic, &[]), (0, theirs.to_owned()));
    let both = [
        ("TILLSAFE_REPOSITORY", ours),
        ("TILLSAFE_PASSWORD_FILE", our_file),
        ("RESTIC_REPOSITORY", theirs),
        ("RESTIC_PASSWORD_FILE", their_file),
    ];
    assert_eq!(asked(&both, &[]), (0, ours.to_owned()));
    let flags = ["-r", theirs, "-p", their_file];
    assert_eq!(asked(&both, &flags), (0, theirs.to_owned()));
    for variables in [
        [
            ("TILLSAFE_REPOSITORY", ours),
            ("TILLSAFE_PASSWORD_COMMAND", "echo ours"),
        ],
        [("TILLSAFE_REPOSITORY", ours), ("TILLSAFE_PASSWORD", "ours")],
        [("RESTIC_REPOSITORY", ours), ("RESTIC_PASSWORD", "ours")],
        // An empty variable is none.
        [("TILLSAFE_REPOSITORY", ""), ("RESTIC_REPOSITORY", "")],
    ] {
        let expected = if variables[0].1.is_empty() {
            (2, "")
        } else {
            (0, ours)
        };
        assert_eq!(
            asked(&variables, &[]),
            (expected.0, expected.1.to_owned()),
            "{variables:?}"
        );
    }
    let command = ["-r", ours, "--password-command", "echo ours"];
    assert_eq!(asked(&[], &command), (0, ours.to_owned()));
    assert_eq!(asked(&[], &["-r", ours, "-p", their_file]).0, 12);
}

#[test]
fn a_password_is_never_taken_from_another_level_than_the_repository() {
    let two = Two::new();
    let ours = two.ours.repository.to_str().unwrap();
    for (variables, words) in [
        (
            &[
                ("TILLSAFE_REPOSITORY", "/other"),
                ("TILLSAFE_PASSWORD", "ours"),
            ][..],
            &["-r", ours][..],
        ),
        (&[("TILLSAFE_PASSWORD", "ours")], &["-r", ours]),
        (&[("RESTIC_PASSWORD", "ours")], &["-r", ours]),
        (
            &[("TILLSAFE_REPOSITORY", ours), ("RESTIC_PASSWORD", "ours")],
            &[],
        ),
        (
            &[("RESTIC_REPOSITORY", ours), ("TILLSAFE_PASSWORD", "ours")],
            &[],
        ),
        (
            &[("TILLSAFE_REPOSITORY", ours), ("TILLSAFE_PASSWORD", "ours")],
            &["-p", two.ours.password_file.to_str().unwrap()],
        ),
    ] {
        let (code, _) = asked(variables, words);
        assert_eq!(code, 2, "{variables:?} {words:?}");
    }
}

#[test]
fn a_password_file_that_others_can_read_is_a_warning() {
    let original = Original::new();
    let file = &original.program.password_file;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    let shop = super::as_text(&original.shop.folder);
    let run = original.program.ok(&["backup", shop]);
    assert!(run.stderr.contains("warning: "), "{}", run.stderr);
    assert!(run.stderr.contains("chmod 600"), "{}", run.stderr);
    let (code, objects) = original.program.json(&["backup", shop]);
    assert_eq!(code, 0);
    let warning = objects
        .iter()
        .find(|object| object["message_type"] == "warning");
    let warning = warning.expect("a warning");
    assert_eq!(warning["item"], super::as_text(file));
}

#[test]
fn an_exclusive_lock_stops_no_reading_command() {
    let original = Original::new();
    for command in READING {
        let scene = original.scene(command, false);
        scene.forge().lock_exclusively("elsewhere");
        let run = scene.usual(command);
        assert_eq!(run.code, 0, "{command}: {}", run.text());
        assert!(!run.text().contains(PASSWORD));
    }
}
