//! Somebody at a terminal.

use std::process::{Command, Stdio};

use super::program::Run;
use super::tools::find;

/// Sits at a terminal, types the next word when the next question is asked, and prints everything that was shown.
/// Questions and words are separated by `|`; where the words end first, nothing more is typed.
const TYPE: &str = "
import os, pty, sys, termios, time
questions, words = (argument.encode().split(b'|') for argument in sys.argv[1:3])
hidden, command = sys.argv[3] == 'hidden', sys.argv[4:]
child, master = pty.fork()
if child == 0:
    os.execv(command[0], command)
shown = b''
while True:
    try:
        part = os.read(master, 65536)
    except OSError:
        break
    if not part:
        break
    shown += part
    if questions and words and questions[0] in shown:
        questions.pop(0)
        # The terminal shows what is typed until the program has told it not to.
        deadline = time.monotonic() + 60
        while hidden and termios.tcgetattr(master)[3] & termios.ECHO and time.monotonic() < deadline:
            time.sleep(0.001)
        os.write(master, words.pop(0) + b'\\n')
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";

/// Runs a command as the script wants it, with words for the script; `None` without python3.
pub fn at_a_terminal(script: &str, words: &[&str], command: &Command) -> Option<Run> {
    let mut python = Command::new(find("python3")?);
    python.env_clear().env("TERM", "xterm");
    python.args(["-c", script]).args(words);
    python.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            python.env(name, value);
        }
    }
    Some(Run::of(python.stdin(Stdio::null())))
}

/// Shows what a command writes to a terminal that nobody types at; `None` without python3.
pub fn shown(command: &Command) -> Option<Run> {
    type_shown(command, "never asked", "")
}

/// Types `word` when the command asks `question`; `None` without python3.
pub fn type_shown(command: &Command, question: &str, word: &str) -> Option<Run> {
    at_a_terminal(TYPE, &[question, word, "shown"], command)
}

/// The same for words that must not be shown.
pub fn type_hidden(command: &Command, question: &str, word: &str) -> Option<Run> {
    at_a_terminal(TYPE, &[question, word, "hidden"], command)
}

/// Shows everything that a command writes to a terminal of so many columns, both its streams.
const WATCH: &str = "
import fcntl, os, pty, struct, sys, termios
child, master = pty.fork()
if child == 0:
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack('HHHH', 24, int(sys.argv[1]), 0, 0))
    os.execv(sys.argv[2], sys.argv[2:])
shown = b''
while True:
    try:
        part = os.read(master, 65536)
    except OSError:
        break
    if not part:
        break
    shown += part
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";

/// What a terminal was given, byte for byte.
pub struct Shown {
    pub code: i32,
    pub bytes: Vec<u8>,
}

/// Runs a command at a terminal of so many columns; `None` without python3.
pub fn watched(columns: u16, command: &Command) -> Option<Shown> {
    let mut python = Command::new(find("python3")?);
    python.env_clear().args(["-c", WATCH, &columns.to_string()]);
    python.arg(command.get_program()).args(command.get_args());
    let given = command.get_envs();
    python.envs(given.filter_map(|(name, value)| value.map(|value| (name, value))));
    let output = python.stdin(Stdio::null()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    Some(Shown {
        code: output.status.code().unwrap(),
        bytes: output.stdout,
    })
}

/// The lines that stay on a terminal, without their colour: all else that it was told must be progress, which
/// draws a line, and takes it away again.
pub fn without_progress(bytes: &[u8], what: &str) -> String {
    let text = std::str::from_utf8(bytes).unwrap_or_else(|_| panic!("{what}: no text"));
    let mut stays = String::new();
    let mut line = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\r' if letters.peek() == Some(&'\n') => {}
            // The line is drawn anew.
            '\r' => line.clear(),
            '\n' => {
                stays.push_str(&std::mem::take(&mut line));
                stays.push('\n');
            }
            '\u{1b}' => {
                let mut told = String::new();
                for letter in letters.by_ref() {
                    told.push(letter);
                    if letter != '[' && !letter.is_ascii_digit() && !matches!(letter, ';' | '?') {
                        break;
                    }
                }
                let is_color = told.starts_with('[') && told.ends_with('m');
                let is_progress =
                    matches!(told.as_str(), "[2K" | "[1A" | "[1B" | "[?25l" | "[?25h");
                assert!(is_color || is_progress, "{what}: {told:?} in {text:?}");
            }
            other => line.push(other),
        }
    }
    stays + &line
}
