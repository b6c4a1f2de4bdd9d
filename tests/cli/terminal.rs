//! On a terminal: progress while it works, the result where it always is, a password that is typed.

use std::fs;

use super::output::beside_owners;
use super::{Original, as_text};
use crate::common::library::PASSWORD;
use crate::common::program::bare;
use crate::common::terminal::{at_a_terminal, shown, type_hidden};
use crate::common::tools::skipped;

/// Shows what is written to a terminal of so many columns on stderr, the result on stdout.
const WATCH_A_TERMINAL: &str = "
import fcntl, os, pty, struct, subprocess, sys, termios, threading
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('HHHH', 24, int(sys.argv[1]), 0, 0))
child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave)
os.close(slave)
shown = []
def watch():
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            return
        if not part:
            return
        shown.append(part)
watcher = threading.Thread(target=watch)
watcher.start()
result = child.stdout.read()
code = child.wait()
watcher.join()
sys.stdout.buffer.write(result)
sys.stderr.buffer.write(b''.join(shown))
sys.exit(code)
";

#[test]
fn progress_is_shown_on_a_terminal_of_any_width_and_the_result_stays_on_stdout() {
    let original = Original::new();
    for columns in [1, 20, 80, 500] {
        for command in ["backup", "check", "restore", "verify"] {
            let scene = original.scene(&format!("{columns}-{command}"), false);
            let words = scene.words(command);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let terminal = |words: &[&str]| {
                let command = scene.command(words);
                at_a_terminal(WATCH_A_TERMINAL, &[&columns.to_string()], &command)
            };
            let Some(run) = terminal(&words) else {
                return skipped("progress on a terminal", "there is no python3");
            };
            assert_eq!(run.code, 0, "{columns}: {}", run.text());
            assert!(!run.stdout.contains('\u{1b}'), "{}", run.stdout);
            assert!(run.stdout.lines().count() >= 2, "{}", run.stdout);
            if columns >= 80 {
                assert!(
                    run.stderr.contains("opening the repository"),
                    "{command}: {:?}",
                    run.stderr
                );
            }
            let mut quiet = words.clone();
            quiet.push("-q");
            if command == "restore" {
                fs::remove_dir_all(scene.path("target")).unwrap();
            }
            let run = terminal(&quiet).unwrap();
            assert_eq!(
                (run.code, beside_owners(&run).as_str()),
                (0, ""),
                "{command} -q"
            );
        }
    }
}

/// Colour only where it is wanted: on a terminal that takes it, or when asked for.
#[test]
fn colour_is_for_a_terminal_that_wants_it() {
    let original = Original::new();
    let repository = as_text(&original.program.repository);
    let password = as_text(&original.program.password_file);
    // The program's own words, and those on words that do not fit.
    for words in [&["check"][..], &["ls", "00000000"], &["ls"], &["nonsense"]] {
        for (name, value, flags, expected) in [
            ("TERM", "xterm", &[][..], true),
            ("TERM", "dumb", &[], false),
            ("NO_COLOR", "1", &[], false),
            ("TERM", "xterm", &["--color", "never"], false),
            ("NO_COLOR", "1", &["--color=always"], true),
            ("TERM", "xterm", &["--json"], false),
            ("TERM", "xterm", &["--json", "--color=always"], false),
        ] {
            let mut command = bare();
            command.env(name, value);
            command.args(["-r", repository, "-p", password]);
            command.args(flags).args(words);
            let Some(run) = shown(&command) else {
                return skipped("colour on a terminal", "there is no python3");
            };
            let is_colored = run.stdout.contains("\u{1b}[31m") || run.stdout.contains("\u{1b}[32m");
            let what = format!("{words:?} {flags:?} {name}={value}");
            assert_eq!(is_colored, expected, "{what}: {:?}", run.stdout);
            // Nothing else that a dumb terminal would show as garbage.
            if value == "dumb" {
                assert!(!run.stdout.contains('\u{1b}'), "{what}: {:?}", run.stdout);
            }
        }
        // No terminal, no colour: unless somebody asks for it.
        for (flags, expected) in [(&[][..], false), (&["--color=always"], true)] {
            let run = original.program.run(&[flags, words].concat());
            assert_eq!(run.text().contains('\u{1b}'), expected, "{words:?}");
        }
    }
}

#[test]
fn every_step_is_named_for_who_wants_to_hear_of_it() {
    let original = Original::new();
    let scene = original.scene("scene", false);
    let run = scene.usual_with("backup", &["-v"]);
    assert_eq!(run.code, 0, "{}", run.text());
    assert!(run.stderr.lines().count() >= 2, "{}", run.stderr);
    let run = scene.usual_with("backup", &["-v", "-q"]);
    assert_eq!(run.code, 2, "both cannot be meant");
}

#[test]
fn json_stays_json_on_a_terminal() {
    let original = Original::new();
    let scene = original.scene("scene", true);
    let command = scene.command(&["backup", &scene.text("shop")]);
    let Some(run) = at_a_terminal(WATCH_A_TERMINAL, &["80"], &command) else {
        return skipped("JSON on a terminal", "there is no python3");
    };
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    run.objects();
}

#[test]
fn a_password_can_be_typed_and_is_not_shown() {
    let original = Original::new();
    let repository = as_text(&original.program.repository);
    let words = ["-r", repository, "snapshots"];
    for (password, code) in [(PASSWORD, 0), ("tenmoku", 12)] {
        let asked = type_hidden(bare().args(words), "password of the repository", password);
        let Some(run) = asked else {
            return skipped("a typed password", "there is no python3");
        };
        assert_eq!(run.code, code, "{}", run.text());
        assert!(!run.text().contains(password), "{}", run.text());
    }
}
