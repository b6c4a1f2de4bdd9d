//! Every line that can be typed: each command, those within others, and what a flag makes of it; and the world
//! that they are typed in. What holds for all commands is tested over this table.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{Scene, as_text};
use crate::common::Place;
use crate::common::files::{copy_folder, names_with};
use crate::common::program::{Program, Run};
use crate::common::shop::Shop;

/// The machine that the world's snapshots are of.
pub const HOST: &str = "till";

/// What a line says with `-q` when all goes well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quiet {
    /// Nothing: it was done.
    Silent,
    /// What was asked for.
    Speaks,
}

/// How what it says to people ends, and which repository it names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Last {
    /// With a word on how it went, which names the repository.
    Named,
    /// With the last of what was asked for: another program may read it.
    Data,
    /// With a word on how it went; it works on no repository.
    NoRepository,
}

use Last::{Data, Named, NoRepository};
use Quiet::{Silent, Speaks};

/// One line. In its words, `{…}` stands for something of the world.
pub struct Line {
    pub words: &'static [&'static str],
    pub quiet: Quiet,
    pub last: Last,
    /// What must be so before.
    before: Before,
}

/// What a line needs that the world does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    NoRepository,
    ARestoreInPlace,
    ASecondKey,
    ADeadLock,
    AConfiguration,
}
use Before::{
    AConfiguration, ADeadLock, ARestoreInPlace, ASecondKey, NoRepository as Gone, Nothing,
};

const fn line(words: &'static [&'static str], quiet: Quiet, last: Last, before: Before) -> Line {
    Line {
        words,
        quiet,
        last,
        before,
    }
}

impl Line {
    /// Whether what must be so before cannot be made so where the repository is damaged or locked.
    pub fn wants_a_sound_world(&self) -> bool {
        matches!(self.before, ARestoreInPlace | ASecondKey) || self.words.contains(&"{plan}")
    }

    /// Whether programs may ask for it: bytes and JSON do not go to one stdout.
    pub fn speaks_json(&self) -> bool {
        self.words[0] != "dump" || self.words.contains(&"--target")
    }

    /// Whether it wants the password.
    pub fn wants_the_password(&self) -> bool {
        self.opens()
            && self.words[0] != "cache"
            && !self
                .words
                .starts_with(&["setup", "-c", "{new}", "--dry-run"])
    }

    /// Whether it works on the repository.
    pub fn opens(&self) -> bool {
        let is_without = matches!(self.words[0], "completions" | "man" | "version" | "config");
        self.last == Named || (self.last == Data && !is_without)
    }
}

#[rustfmt::skip]
pub const EVERY: &[Line] = &[
    line(&["demo"], Silent, NoRepository, Nothing),
    line(&["init"], Silent, Named, Gone),
    line(&["setup", "-c", "{new}", "--yes", "{shop}"], Silent, Named, Nothing),
    line(&["setup", "-c", "{new}", "--dry-run", "{shop}"], Speaks, Named, Nothing),
    line(&["doctor"], Silent, Named, Nothing),
    line(&["config", "check", "-c", "{config}"], Silent, NoRepository, AConfiguration),
    line(&["config", "show", "-c", "{config}"], Speaks, Data, AConfiguration),
    line(&["backup", "{shop}", "--host", "till"], Silent, Named, Nothing),
    line(&["backup", "-c", "{config}"], Silent, Named, AConfiguration),
    line(&["backup", "{shop}", "--host", "till", "--exclude", "*.jpg"], Silent, Named, Nothing),
    line(&["snapshots"], Speaks, Named, Nothing),
    line(&["snapshots", "--all"], Speaks, Named, Nothing),
    line(&["ls", "latest"], Speaks, Data, Nothing),
    line(&["ls", "--long", "latest:{shop}"], Speaks, Data, Nothing),
    line(&["find", "*"], Speaks, Named, Nothing),
    line(&["find", "--long", "*", "--snapshot", "latest"], Speaks, Named, Nothing),
    line(&["diff", "{first}", "latest"], Speaks, Named, Nothing),
    line(&["stats"], Speaks, Named, Nothing),
    line(&["stats", "latest", "--mode", "raw-data"], Speaks, Named, Nothing),
    line(&["dump", "latest:{shop}/notes.txt"], Speaks, Data, Nothing),
    line(&["dump", "latest", "--target", "{target}"], Silent, Named, Nothing),
    line(&["restore", "latest", "--target", "{target}"], Silent, Named, Nothing),
    line(&["restore", "latest", "--target", "{target}", "--dry-run"], Speaks, Named, Nothing),
    line(&["restore", "latest:{shop}", "--in-place", "--dry-run"], Speaks, Named, Nothing),
    line(&["restore", "latest:{shop}", "--in-place", "--accept-incomplete", "--plan", "{plan}"], Silent, Named, Nothing),
    line(&["rollback"], Silent, NoRepository, ARestoreInPlace),
    line(&["rollback", "{shop}", "--dry-run"], Speaks, NoRepository, ARestoreInPlace),
    line(&["rollback", "--list"], Speaks, NoRepository, ARestoreInPlace),
    line(&["rollback", "--discard", "--accept-loss", "--yes"], Silent, NoRepository, ARestoreInPlace),
    line(&["rollback", "--discard", "--accept-loss", "--dry-run"], Speaks, NoRepository, ARestoreInPlace),
    line(&["check"], Silent, Named, Nothing),
    line(&["check", "--read-data"], Silent, Named, Nothing),
    line(&["verify", "latest", "--scratch", "{folder}"], Silent, Named, Nothing),
    line(&["forget", "--keep-last", "1"], Silent, Named, Nothing),
    line(&["forget", "--keep-last", "1", "--dry-run"], Speaks, Named, Nothing),
    line(&["forget", "{first}"], Silent, Named, Nothing),
    line(&["forget", "{first}", "--dry-run"], Speaks, Named, Nothing),
    line(&["prune", "--now"], Silent, Named, Nothing),
    line(&["prune", "--dry-run"], Speaks, Named, Nothing),
    line(&["key", "list"], Speaks, Named, Nothing),
    line(&["key", "add", "--new-password-file", "{new}"], Silent, Named, Nothing),
    line(&["key", "remove", "{key}"], Silent, Named, ASecondKey),
    line(&["key", "passwd", "--new-password-file", "{new}"], Silent, Named, Nothing),
    line(&["unlock"], Silent, Named, ADeadLock),
    line(&["tag", "--add", "sunday", "latest"], Silent, Named, Nothing),
    line(&["cat", "config"], Speaks, Data, Nothing),
    line(&["cat", "snapshot", "latest"], Speaks, Data, Nothing),
    line(&["cat", "tree", "latest:{shop}"], Speaks, Data, Nothing),
    line(&["cat", "key", "{key}"], Speaks, Data, Nothing),
    line(&["list", "blobs"], Speaks, Data, Nothing),
    line(&["list", "snapshots"], Speaks, Data, Nothing),
    line(&["repair", "index"], Silent, Named, Nothing),
    line(&["repair", "packs", "--dry-run"], Silent, Named, Nothing),
    line(&["repair", "packs"], Silent, Named, Nothing),
    line(&["repair", "snapshots"], Silent, Named, Nothing),
    line(&["cache", "--cache-dir", "{target}"], Speaks, Named, Nothing),
    line(&["cache", "--cache-dir", "{target}", "--clear"], Silent, Named, Nothing),
    line(&["completions", "bash"], Speaks, Data, Nothing),
    line(&["man", "key", "add"], Speaks, Data, Nothing),
    line(&["man", "--dir", "{target}"], Silent, NoRepository, Nothing),
    line(&["version"], Speaks, Data, Nothing),
];

/// A shop, its repository with two snapshots, and what lies around them.
pub struct World {
    _place: Place,
    pub scene: Scene,
    /// The repository and the shop as they were, to begin anew with.
    saved: PathBuf,
    first: String,
}

impl World {
    /// One in which nobody means any harm.
    pub fn new() -> Self {
        Self::with("world", |_| {}, |_| {})
    }

    /// One whose folder has this name, whose shop is what `furnish` makes of it, and whose repository is what
    /// `forge` makes of it.
    pub fn with(name: &str, furnish: impl Fn(&Scene), forge: impl Fn(&Scene)) -> Self {
        let place = Place::new();
        let folder = place.join(name);
        fs::create_dir(&folder).unwrap();
        let program = Program::with_cheap_repository(&folder);
        let shop = Shop::open(&folder.join("shop"), 50, "delete").folder;
        let saved = place.join("saved");
        fs::create_dir(&saved).unwrap();
        let scene = Scene {
            folder,
            shop,
            program,
            json: false,
        };
        furnish(&scene);
        let shop = scene.text("shop");
        for text in ["one", "two"] {
            fs::write(scene.shop.join("added.txt"), text).unwrap();
            let run = scene.run(&["backup", &shop, "--host", HOST]);
            assert!(matches!(run.code, 0 | 3 | 6), "{}", run.text());
        }
        forge(&scene);
        copy_folder(&scene.program.repository, &saved.join("repository"));
        let mut all = crate::common::library::snapshots(&scene.program.backend());
        all.sort_by_key(|snapshot| snapshot.file.time);
        let first = all[0].id.short();
        Self {
            _place: place,
            scene,
            saved,
            first,
        }
    }

    /// All is again as it was at first, but for the shop, which only restores of itself have replaced.
    fn begin_anew(&self) {
        let scene = &self.scene;
        let repository = &scene.program.repository;
        let _ = fs::remove_dir_all(repository);
        copy_folder(&self.saved.join("repository"), repository);
        for name in ["target", "state"] {
            let _ = fs::remove_dir_all(scene.path(name));
            let _ = fs::remove_file(scene.path(name));
        }
        let _ = fs::remove_file(scene.path("new"));
        for kept in names_with(&scene.folder, ".tillsafe-") {
            fs::remove_dir_all(scene.path(&kept)).unwrap();
        }
    }

    /// The line's words, once the world is as it needs it.
    pub fn words(&self, line: &Line) -> Vec<String> {
        self.begin_anew();
        let scene = &self.scene;
        let shop = scene.text("shop");
        let mut key = self.keys().remove(0);
        match line.before {
            Nothing => {}
            Gone => fs::remove_dir_all(&scene.program.repository).unwrap(),
            ARestoreInPlace => {
                let from = format!("latest:{shop}");
                // A hostile shop has databases that cannot be captured.
                let from = [from.as_str(), "--accept-incomplete"];
                let plan = scene.program.plan_in_place(&from);
                let words = [&["restore"], &from[..], &["--in-place", "--plan", &plan]].concat();
                let run = scene.program.run(&words);
                assert!(matches!(run.code, 0 | 3 | 7), "{}", run.text());
            }
            ASecondKey => {
                let new = scene.text("new");
                scene
                    .program
                    .ok(&["key", "add", "--new-password-file", &new]);
                let mut keys = self.keys();
                keys.retain(|name| *name != key);
                key = keys.remove(0);
            }
            ADeadLock => scene
                .forge()
                .lock_exclusively(&tillsafe::repository::lock::host_name()),
            AConfiguration => self.write_configuration(),
        }
        let from = format!("latest:{shop}");
        let plan = || {
            let words = [from.as_str(), "--accept-incomplete"];
            scene.program.plan_in_place(&words)
        };
        let given = |word: &&str| {
            let word = word.replace("{shop}", &shop);
            let word = word.replace("{folder}", as_text(&scene.folder));
            let word = word.replace("{first}", &self.first);
            let word = word.replace("{key}", &key[..8]);
            if word == "{plan}" {
                return plan();
            }
            match word
                .strip_prefix('{')
                .and_then(|word| word.strip_suffix('}'))
            {
                Some(name) => scene.text(name),
                None => word,
            }
        };
        line.words.iter().map(given).collect()
    }

    /// The key files: a stray file beside them is none.
    fn keys(&self) -> Vec<String> {
        let mut names = names_with(&self.scene.program.repository.join("keys"), "");
        names.retain(|name| name.parse::<tillsafe::id::Id>().is_ok());
        names
    }

    fn write_configuration(&self) {
        let texts = ["repository", "password", "shop"].map(|name| self.scene.text(name));
        let [repository, password, shop] = texts.map(|text| toml_text(&text));
        let text = format!(
            "version = 1\n[repository.usb]\nlocation = {repository}\npassword_file = {password}\n[shop.mara]\ntitle = \"Mara\"\nfiles = [{{ path = {shop} }}]\n"
        );
        fs::write(self.scene.path("config"), text).unwrap();
    }

    /// The line as a command; repository and password as the words or the configuration say.
    pub fn command(&self, line: &Line, more: &[&str]) -> Command {
        let words = self.words(line);
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        words.extend(more);
        if words.contains(&"-c") && words[0] != "setup" {
            let mut command = crate::common::program::bare();
            command.env("XDG_STATE_HOME", self.scene.path("state"));
            command.env("TMPDIR", &self.scene.folder);
            if self.scene.json {
                command.arg("--json");
            }
            command.args(words);
            return command;
        }
        self.scene.command(&words)
    }

    pub fn run(&self, line: &Line, more: &[&str]) -> Run {
        Run::of(&mut self.command(line, more))
    }
}

/// A text as TOML has it.
pub fn toml_text(text: &str) -> String {
    let escaped = text.chars().map(|letter| match letter {
        '"' | '\\' => format!("\\{letter}"),
        letter if letter.is_control() => format!("\\u{:04x}", u32::from(letter)),
        letter => letter.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

/// The commands of a help, with those within others as two words.
fn commands() -> BTreeSet<String> {
    let whole = super::words::help(&[]);
    let mut all = BTreeSet::new();
    for command in super::words::commands_of(&whole) {
        let inner = super::screens::inner_commands(&super::words::help(&[command]));
        if inner.is_empty() {
            all.insert(command.to_owned());
        }
        all.extend(inner.iter().map(|inner| format!("{command} {inner}")));
    }
    all
}

#[test]
fn no_command_is_forgotten() {
    for command in commands() {
        let words: Vec<&str> = command.split(' ').collect();
        let lines = EVERY.iter().filter(|line| line.words.starts_with(&words));
        assert!(lines.count() > 0, "{command}: put a line of it into EVERY");
    }
}

/// Nothing else in this file would be worth much: a line that is refused says little.
#[test]
fn every_line_does_what_it_is_for() {
    let mut world = World::new();
    for json in [false, true] {
        world.scene.json = json;
        for line in EVERY.iter().filter(|line| !json || line.speaks_json()) {
            let run = world.run(line, &[]);
            assert_eq!(run.code, 0, "{:?}: {}", line.words, run.text());
        }
    }
}
