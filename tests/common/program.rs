//! The built program, run as a user would.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The program under test with the repository and password of one test.
pub struct Program {
    pub repository: PathBuf,
    pub password_file: PathBuf,
}

/// What a run left.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    /// A repository and a password file below `folder`; neither is made yet.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            repository: folder.join("repository"),
            password_file: folder.join("password"),
        }
    }

    /// The same, with the repository made.
    pub fn with_repository(folder: &Path) -> Self {
        let program = Self::in_folder(folder);
        program.ok(&["init"]);
        program
    }

    /// The command with repository and password, without any environment.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = bare();
        command.arg("-r").arg(&self.repository);
        command.arg("-p").arg(&self.password_file);
        command.args(words);
        command
    }

    pub fn run(&self, words: &[&str]) -> Run {
        Run::of(&mut self.command(words))
    }

    /// Runs, and expects exit code 0.
    pub fn ok(&self, words: &[&str]) -> Run {
        let run = self.run(words);
        assert_eq!(run.code, 0, "{words:?}: {}{}", run.stdout, run.stderr);
        run
    }

    /// Runs with `--json` and returns the summary; every line must be JSON, and it the last.
    pub fn json(&self, words: &[&str]) -> (i32, Vec<Value>) {
        let run = self.run(&[&["--json"], words].concat());
        let objects = run.objects();
        (run.code, objects)
    }
}

/// The program with no arguments and an empty environment: no HOME, no PATH, no terminal.
pub fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tillsafe"));
    command.env_clear().stdin(std::process::Stdio::null());
    command
}

impl Run {
    pub fn of(command: &mut Command) -> Self {
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().expect("the program starts");
        Self {
            code: status.code().expect("ends by itself"),
            stdout: String::from_utf8(stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }

    /// The lines of `--json`: each parses, each says its type, the last is the summary.
    pub fn objects(&self) -> Vec<Value> {
        let objects: Vec<Value> = self
            .stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|cause| panic!("{cause}: {line}"))
            })
            .collect();
        for object in &objects {
            assert!(object["message_type"].is_string(), "{object}");
        }
        let last = objects.last().expect("there is a summary");
        assert_eq!(last["message_type"], "summary", "{last}");
        assert_eq!(last["exit_code"], self.code, "{last}");
        let summaries = objects
            .iter()
            .filter(|object| object["message_type"] == "summary");
        assert_eq!(summaries.count(), 1);
        objects
    }
}
