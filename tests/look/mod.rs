//! What is in a repository, and under which tags: compared with what stock restic says of the same one.

mod compare;
mod dump;
mod hostile;
mod objects;
mod tag;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::common::program::Program;
use crate::common::tools::{restics, skipped};

/// A restic of one version on a program's repository.
struct Stock {
    name: &'static str,
    path: PathBuf,
    repository: PathBuf,
    password_file: PathBuf,
}

impl Stock {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.env_clear().env("TMPDIR", std::env::temp_dir());
        command.args(["--no-cache", "-r"]).arg(&self.repository);
        command.arg("--password-file").arg(&self.password_file);
        command.args(words);
        command
    }

    /// Runs, and expects exit code 0; what it printed may be any bytes.
    fn bytes(&self, words: &[&str]) -> Vec<u8> {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(words).output().unwrap();
        let said = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "{} {words:?}: {said}", self.name);
        stdout
    }

    fn text(&self, words: &[&str]) -> String {
        String::from_utf8(self.bytes(words)).unwrap()
    }

    /// Runs with `--json` and returns the lines that are JSON.
    fn json(&self, words: &[&str]) -> Vec<Value> {
        let text = self.text(&[words, &["--json"]].concat());
        let lines = text.lines().map(serde_json::from_str);
        lines.map(|line| line.unwrap()).collect()
    }
}

/// Each restic there is, on the repository of `program`; in CI both must be there.
fn each_stock(program: &Program) -> Vec<Stock> {
    let found = restics();
    if found.len() < 2 {
        skipped(
            "one of two versions of restic",
            "`make tools` installs them",
        );
    }
    let on = |(name, path)| Stock {
        name,
        path,
        repository: program.repository.clone(),
        password_file: program.password_file.clone(),
    };
    found.into_iter().map(on).collect()
}

/// The newest restic there is.
fn newest_stock(program: &Program) -> Option<Stock> {
    each_stock(program).pop()
}

/// The objects of one type that a run with `--json` printed; it must end with this exit code.
fn objects(program: &Program, words: &[&str], kind: &str, code: i32) -> Vec<Value> {
    let (ended, objects) = program.json(words);
    assert_eq!(ended, code, "{words:?}: {objects:?}");
    let of_kind = |object: &Value| object["message_type"] == kind;
    objects.into_iter().filter(of_kind).collect()
}

/// What the program wrote, as it is.
fn bytes(program: &Program, words: &[&str]) -> (i32, Vec<u8>, String) {
    let output = program.command(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), output.stdout, said)
}

/// A path as a word.
fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}
