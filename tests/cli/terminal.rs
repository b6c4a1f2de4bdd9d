//! On a terminal: progress while it works, the result where it always is, a password that is typed.

use std::fs;
use std::process::{Command, Stdio};

use super::output::beside_owners;
use super::{Original, as_text};
use crate::common::library::PASSWORD;
use crate::common::program::{Run, bare};
use crate::common::tools::{find, skipped};

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

/// Sits at a terminal, types the first word when it is asked for a password, and prints everything
/// that was shown.
const TYPE_A_PASSWORD: &str = "
import os, pty, sys, termios, time
child, master = pty.fork()
if child == 0:
    os.execv(sys.argv[2], sys.argv[2:])
shown, typed = b'', False
while True:
    try:
        part = os.read(master, 65536)
    except OSError:
        break
    if not part:
        break
    shown += part
    if b'password of the repository' in shown and not typed:
        typed = True
        # The terminal shows what is typed until the program has told it not to.
        deadline = time.monotonic() + 60
        while termios.tcgetattr(master)[3] & termios.ECHO and time.monotonic() < deadline:
            time.sleep(0.001)
        os.write(master, sys.argv[1].encode() + b'\\n')
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";

/// Runs a command as the script wants it, with one word for the script; `None` without python3.
fn at_a_terminal(script: &str, word: &str, command: &Command) -> Option<Run> {
    let mut python = Command::new(find("python3")?);
    python.env_clear().env("TERM", "xterm");
    python.args(["-c", script, word]);
    python.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            python.env(name, value);
        }
    }
    Some(Run::of(python.stdin(Stdio::null())))
}

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
                at_a_terminal(WATCH_A_TERMINAL, &columns.to_string(), &command)
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

#[test]
fn json_stays_json_on_a_terminal() {
    let original = Original::new();
    let scene = original.scene("scene", true);
    let command = scene.command(&["backup", &scene.text("shop")]);
    let Some(run) = at_a_terminal(WATCH_A_TERMINAL, "80", &command) else {
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
        let asked = at_a_terminal(TYPE_A_PASSWORD, password, bare().args(words));
        let Some(run) = asked else {
            return skipped("a typed password", "there is no python3");
        };
        assert_eq!(run.code, code, "{}", run.text());
        assert!(!run.text().contains(password), "{}", run.text());
    }
}
