//! Stock restic, of each version that there is, on one repository: the judge that nobody here has written.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::program::{Program, Run};
use super::tools::{restics, skipped};

/// A restic of one version on one repository.
#[derive(Clone)]
pub struct Restic {
    pub path: PathBuf,
    repository: PathBuf,
    password_file: PathBuf,
}

/// Each restic there is; in CI both must be there.
fn both() -> Vec<(&'static str, PathBuf)> {
    let found = restics();
    if found.len() < 2 {
        skipped(
            "one of two versions of restic",
            "`make tools` installs them",
        );
    }
    found
}

/// Runs a test with each restic there is.
pub fn each(test: impl Fn(&Path)) {
    for (name, path) in both() {
        println!("{name}");
        test(&path);
    }
}

impl Restic {
    /// The one at `path`, on the repository of `program`.
    pub fn on(path: &Path, program: &Program) -> Self {
        Self {
            path: path.to_owned(),
            repository: program.repository.clone(),
            password_file: program.password_file.clone(),
        }
    }

    /// Each there is, on the repository of `program`.
    pub fn all_on(program: &Program) -> Vec<Self> {
        let found = both().into_iter();
        found.map(|(_, path)| Self::on(&path, program)).collect()
    }

    /// The newest there is.
    pub fn newest_on(program: &Program) -> Option<Self> {
        Self::all_on(program).pop()
    }

    /// The same with another password.
    pub fn with_password(&self, file: &Path) -> Self {
        Self {
            password_file: file.to_owned(),
            ..self.clone()
        }
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.env_clear().env("TMPDIR", std::env::temp_dir());
        command.args(["--no-cache", "-r"]).arg(&self.repository);
        command.arg("--password-file").arg(&self.password_file);
        command.args(words);
        command
    }

    pub fn run(&self, words: &[&str]) -> Run {
        Run::of(&mut self.command(words))
    }

    /// Runs, and expects exit code 0.
    pub fn ok(&self, words: &[&str]) -> Run {
        let run = self.run(words);
        assert_eq!(run.code, 0, "restic {words:?}: {}", run.text());
        run
    }

    /// The same; what it printed may be any bytes.
    pub fn bytes(&self, words: &[&str]) -> Vec<u8> {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(words).output().unwrap();
        let said = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "restic {words:?}: {said}");
        stdout
    }

    /// Runs with `--json` and returns the lines that are objects.
    pub fn json(&self, words: &[&str]) -> Vec<Value> {
        let run = self.ok(&[words, &["--json"]].concat());
        let lines = run.stdout.lines().map(serde_json::from_str);
        lines.map(|line| line.unwrap()).collect()
    }

    /// Whether it knows the commands that came after 0.14.
    pub fn is_current(&self) -> bool {
        let version = Run::of(Command::new(&self.path).arg("version")).stdout;
        !version.starts_with("restic 0.14")
    }

    /// Reads everything, and finds nothing to remark upon.
    pub fn assert_clean(&self) {
        let run = self.ok(&["check", "--read-data"]);
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(said.contains("no errors were found"), "{said}");
        for remark in [
            "additional file",
            "hint",
            "not referenced",
            "mixed",
            "duplicate",
        ] {
            assert!(!said.to_lowercase().contains(remark), "{remark}: {said}");
        }
    }
}
