//! Stock restic on a repository, with a password file for each command.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::program::Run;
use super::tools::{restics, skipped};

/// A restic of one version on one repository.
pub struct Stock {
    path: PathBuf,
    repository: PathBuf,
}

impl Stock {
    /// Runs it with the password in a file.
    pub fn run(&self, password_file: &Path, words: &[&str]) -> Run {
        let mut command = Command::new(&self.path);
        command.env_clear().env("TMPDIR", std::env::temp_dir());
        command.args(["--no-cache", "-r"]).arg(&self.repository);
        command.arg("--password-file").arg(password_file);
        Run::of(command.args(words))
    }

    /// Runs, and expects exit code 0.
    pub fn ok(&self, password_file: &Path, words: &[&str]) -> Run {
        let run = self.run(password_file, words);
        assert_eq!(run.code, 0, "restic {words:?}: {}", run.text());
        run
    }
}

/// Each restic there is, on the repository; in CI both must be there.
pub fn each_stock(repository: &Path) -> Vec<Stock> {
    let found = restics();
    if found.len() < 2 {
        skipped(
            "one of two versions of restic",
            "`make tools` installs them",
        );
    }
    let on = |(_, path)| Stock {
        path,
        repository: repository.to_owned(),
    };
    found.into_iter().map(on).collect()
}
