//! The command line from outside: exit codes, output, signals, and how little it needs around it.

mod environment;
mod every;
mod exit_codes;
mod manners;
mod output;
mod powerless;
mod provoke;
pub mod schemas;
mod screens;
mod shells;
mod signals;
mod terminal;
mod words;

use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;

use crate::common::Place;
use crate::common::files::{copy_folder, make_pipe};
use crate::common::forge::Forge;
use crate::common::library::{PASSWORD, back_up};
use crate::common::program::{Program, Run, Started, bare};
use crate::common::shop::Shop;

/// The commands that open a repository.
const OPENING: [&str; 18] = [
    "prune",
    "backup",
    "snapshots",
    "ls",
    "restore",
    "check",
    "verify",
    "unlock",
    "repair",
    "tag",
    "cat",
    "list",
    "forget",
    "key",
    "find",
    "diff",
    "dump",
    "stats",
];
/// Those of them that only read it.
const READING: [&str; 11] = [
    "snapshots",
    "ls",
    "restore",
    "check",
    "verify",
    "cat",
    "list",
    "find",
    "diff",
    "dump",
    "stats",
];

/// A shop with one snapshot, made once for a test and copied for each of its scenes.
struct Original {
    place: Place,
    shop: Shop,
    program: Program,
}

impl Original {
    fn new() -> Self {
        let place = Place::new();
        let shop = Shop::open(&place.join("shop"), 50, "delete");
        let program = Program::with_cheap_repository(place.path());
        back_up(&program.backend(), &shop.folder).unwrap();
        Self {
            place,
            shop,
            program,
        }
    }

    /// A scene of its own, with a copy of shop, repository and password.
    fn scene(&self, name: &str, json: bool) -> Scene {
        let folder = self.place.join(name);
        std::fs::create_dir(&folder).unwrap();
        let program = Program::in_folder(&folder);
        copy_folder(&self.program.repository, &program.repository);
        program.write_password(PASSWORD);
        let shop = folder.join("shop");
        copy_folder(&self.shop.folder, &shop);
        Scene {
            folder,
            shop,
            program,
            json,
        }
    }
}

/// One run of one command, and what lies around it.
struct Scene {
    folder: PathBuf,
    /// A shop that may be changed; the snapshot is of the original.
    shop: PathBuf,
    program: Program,
    /// Whether the command speaks to programs, not to people.
    json: bool,
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The same as words take it.
    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn forge(&self) -> Forge {
        Forge::open(&self.program.repository)
    }

    /// Makes the backup of the shop wait at its database until the returned connection commits.
    fn hold_the_database(&self) -> Connection {
        let connection = Connection::open(self.shop.join("shop.db")).unwrap();
        connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
        connection
    }

    /// A command's words when nothing is special.
    fn words(&self, command: &str) -> Vec<String> {
        let (shop, target) = (self.text("shop"), self.text("target"));
        let new = self.text("new.pass");
        let configuration = self.text("new.toml");
        let words: &[&str] = match command {
            "backup" => &["backup", &shop],
            "ls" => &["ls", "latest"],
            "restore" => &["restore", "latest", "--target", &target],
            "verify" => &["verify", "--scratch", self.folder.to_str().unwrap()],
            "check" => &["check", "--read-data"],
            "rollback" => &["rollback", &shop],
            "cache" => &["cache", "--cache-dir", &target],
            "repair" => &["repair", "index"],
            "repair packs" => &["repair", "packs"],
            "repair snapshots" => &["repair", "snapshots"],
            "tag" => &["tag", "--add", "sunday", "latest"],
            "cat" => &["cat", "tree", "latest"],
            "list" => &["list", "blobs"],
            "forget" => &["forget", "--keep-last", "1"],
            "key" => &["key", "add", "--new-password-file", &new],
            "find" => &["find", "*", "--snapshot", "latest"],
            "diff" => &["diff", "latest", "latest"],
            "dump" => &["dump", "latest", "--target", &target],
            "stats" => &["stats", "latest"],
            "config" => &["config", "check"],
            "setup" => &["-c", &configuration, "setup", "--yes", &shop],
            "completions" => &["completions", "bash"],
            other => &[other],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// The command as words, with repository and password where it takes them.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = bare();
        if !matches!(words[0], "demo" | "version" | "completions" | "man") {
            command = self.program.command(&[]);
        }
        // Spools and scratch copies stay in the test's own place.
        command.env("TMPDIR", &self.folder);
        if self.json {
            command.arg("--json");
        }
        command.args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Run {
        Run::of(&mut self.command(words))
    }

    /// Runs a command with its usual words.
    fn usual(&self, command: &str) -> Run {
        self.usual_with(command, &[])
    }

    /// The same, with more words after them.
    fn usual_with(&self, command: &str, more: &[&str]) -> Run {
        let words = self.words(command);
        let words: Vec<&str> = words
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        self.run(&words)
    }

    /// Runs a command and sends it a signal while it surely runs: it waits for its password, which
    /// comes through a pipe, and gets it after the signal.
    fn signalled(&mut self, command: &str, signal: Signal) -> Run {
        let pipe = self.path("pipe");
        make_pipe(&pipe);
        self.program.password_file.clone_from(&pipe);
        let words = self.words(command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut started = Started::of(&mut self.command(&words));
        started.feed(&pipe, PASSWORD, |started| started.signal(signal));
        started.finish()
    }
}

/// The three parts of an error: what happened, what is safe, what to do next.
pub fn assert_three_parts(text: &str) {
    for part in ["error: ", "\n  safe: ", "\n  next: "] {
        let after = text.split(part).nth(1);
        let line = after.and_then(|after| after.lines().next());
        assert!(
            line.is_some_and(|line| line.len() > 3),
            "no {part:?} in {text}"
        );
    }
}

/// The same for programs.
fn assert_error_object(objects: &[Value], code: i32) {
    let error = objects
        .iter()
        .find(|object| object["message_type"] == "error" && object["safe"].is_string())
        .unwrap_or_else(|| panic!("no error in {objects:?}"));
    for part in ["error", "safe", "next"] {
        assert!(
            error[part].as_str().is_some_and(|text| text.len() > 3),
            "no {part} in {error}"
        );
    }
    assert_eq!(error["exit_code"], code, "{error}");
}

/// A program of the shell, for what `Command` cannot do: closed streams, pipes to programs.
fn shell(script: &str, command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.env_clear().args(["-c", script, "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    shell.stdin(std::process::Stdio::null());
    shell
}

/// The path as text; those of the tests always are.
fn as_text(path: &Path) -> &str {
    path.to_str().unwrap()
}
