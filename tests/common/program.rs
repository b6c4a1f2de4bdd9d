//! The built program, run as a user would.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tillsafe::backend::{Backend, LocalBackend};
use tillsafe::durable::OsDisk;
use tillsafe::rng::SystemRng;

use super::files::names_with;
use super::library::{self, PASSWORD};

/// How long a test waits for something that is sure to come, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_mins(1);

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

    /// The same, made by the library with a key that costs next to nothing.
    pub fn with_cheap_repository(folder: &Path) -> Self {
        let program = Self::in_folder(folder);
        program.write_password(PASSWORD);
        library::create(&program.backend());
        program
    }

    /// The repository as the library sees it.
    pub fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(LocalBackend::new(
            self.repository.clone(),
            Arc::new(OsDisk),
            Arc::new(SystemRng),
        ))
    }

    /// Whether anybody holds a lock.
    pub fn has_lock(&self) -> bool {
        let locks = names_with(&self.repository.join("locks"), "");
        locks.iter().any(|name| !name.contains("-tmp-"))
    }

    /// Puts a password into the password file, for its owner's eyes only.
    pub fn write_password(&self, password: &str) {
        fs::write(&self.password_file, format!("{password}\n")).unwrap();
        fs::set_permissions(&self.password_file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// The command with repository and password, without any environment.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = bare();
        // Where restores in place are remembered, and tables of large indexes kept: not this machine's own folders.
        let own = self.password_file.parent().unwrap();
        command.env("XDG_STATE_HOME", own.join("state"));
        command.env("XDG_CACHE_HOME", own.join("cache"));
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

    /// The hash that `restore WORDS --in-place --dry-run` prints.
    pub fn plan_in_place(&self, words: &[&str]) -> String {
        self.plan_that_ends_with(0, words)
    }

    /// The same of a plan that cannot be carried out, and says so with this exit code.
    pub fn plan_that_ends_with(&self, expected: i32, words: &[&str]) -> String {
        let words = [&["restore"], words, &["--in-place", "--dry-run"]].concat();
        let (code, objects) = self.json(&words);
        assert_eq!(code, expected, "{objects:?}");
        let is_plan = |object: &&Value| object["message_type"] == "plan";
        let plan = objects.iter().find(is_plan).expect("a plan is printed");
        plan["plan"].as_str().unwrap().to_owned()
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
        Self::from_output(command.output().expect("the program starts"))
    }

    fn from_output(output: Output) -> Self {
        let Output {
            status,
            stdout,
            stderr,
        } = output;
        Self {
            code: status.code().expect("ends by itself"),
            stdout: String::from_utf8(stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }

    /// Both outputs, for the message of a failed test.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
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
        crate::cli::schemas::observe(&objects);
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

/// A program that runs. It is killed if the test gives it up.
pub struct Started(Option<Child>);

impl Started {
    pub fn of(command: &mut Command) -> Self {
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        Self(Some(child))
    }

    fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("finish() takes the whole")
    }

    /// Waits for something that the program does; it must not end before.
    pub fn wait_until(&mut self, what: &str, has_come: impl FnMut() -> bool) {
        assert!(self.comes(what, has_come), "it ended before {what}");
    }

    /// Waits for something that the program does; `false` if it ended before we saw it.
    pub fn comes(&mut self, what: &str, mut has_come: impl FnMut() -> bool) -> bool {
        let begun = Instant::now();
        while !has_come() {
            if self.has_ended() {
                return has_come();
            }
            assert!(begun.elapsed() < PATIENCE, "waited too long for {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    pub fn has_ended(&mut self) -> bool {
        self.child().try_wait().unwrap().is_some()
    }

    /// Sends a signal; one to a program that has just ended is lost.
    pub fn signal(&mut self, signal: Signal) {
        if !self.has_ended() {
            let pid = Pid::from_child(self.child());
            rustix::process::kill_process(pid, signal).unwrap();
        }
    }

    /// Writes `text` to the pipe that the program reads, once it has opened it.
    pub fn feed(&mut self, pipe: &Path, text: &str, before: impl FnOnce(&mut Self)) {
        let mut end = None;
        self.wait_until("the pipe was opened", || {
            // Without a reader this fails, and never hangs.
            let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
            end = fs::OpenOptions::new()
                .write(true)
                .custom_flags(flags)
                .open(pipe)
                .ok();
            end.is_some()
        });
        before(self);
        end.expect("it was opened")
            .write_all(text.as_bytes())
            .unwrap();
    }

    /// Whether a signal ended it, now that it has ended.
    pub fn was_killed(&mut self) -> bool {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child().try_wait().unwrap();
        status.is_some_and(|status| status.signal().is_some())
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Run {
        let child = self.0.take().expect("finish() takes the whole");
        Run::from_output(child.wait_with_output().unwrap())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It has ended if this fails.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
