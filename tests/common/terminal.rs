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
