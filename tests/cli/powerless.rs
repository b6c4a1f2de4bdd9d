//! Nothing that somebody else has named has power over who reads it: no control character, no mark that turns
//! the direction of writing, no byte that is no text, and no line that only looks like ours. Every line is typed in
//! a world that is hostile in all its names, sound and damaged, for people, at a terminal, and for programs.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tillsafe::id::Id;

use super::every::{EVERY, Line, World, toml_text};
use super::{Scene, assert_error_object, assert_three_parts};
use crate::common::files::{files_below, flip_a_bit, make_broken_database};
use crate::common::library::snapshots;
use crate::common::program::Run;
use crate::common::terminal::{watched, without_progress};
use crate::common::tools::skipped;

/// What a line of ours never begins with.
const MARK: &str = "FORGED";

/// A name with all that a terminal obeys, and lines of its own.
const EVIL: &str = "x\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{85}\u{202e}\u{2066}\u{2028}\u{200f}\u{7f}\u{8}\rFORGED\nFORGED";

/// The same, and no text.
fn evil_name() -> OsString {
    OsString::from_vec([EVIL.as_bytes(), b"\xff\xc3\x9b"].concat())
}

/// What a run wrote, as it is.
struct Said {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Said {
    fn by(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: output.stderr,
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&[&self.stdout[..], &self.stderr].concat()).into_owned()
    }
}

/// Whether a terminal obeys the letter, or shows others because of it.
fn is_obeyed(letter: char) -> bool {
    letter.is_control() && !matches!(letter, '\n' | '\t')
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(letter, '\u{2028}' | '\u{2029}')
}

fn assert_powerless(bytes: &[u8], what: &str) {
    let text = std::str::from_utf8(bytes)
        .unwrap_or_else(|_| panic!("{what}: no text: {:?}", String::from_utf8_lossy(bytes)));
    if let Some(at) = text.find(is_obeyed) {
        let from = text[..at]
            .char_indices()
            .rev()
            .nth(60)
            .map_or(0, |(from, _)| from);
        panic!(
            "{what}: obeyed: {:?}",
            text[from..].chars().take(120).collect::<String>()
        );
    }
    for line in text.lines() {
        let is_forged = line.trim_start().starts_with(MARK);
        assert!(
            !is_forged,
            "{what}: a line that is not ours: {line:?} in {text}"
        );
    }
}

/// A run for people.
fn assert_harmless(said: &Said, what: &str) {
    assert_powerless(&said.stdout, &format!("{what}: stdout"));
    assert_powerless(&said.stderr, &format!("{what}: stderr"));
    assert!(!said.text().contains("panicked"), "{what}: {}", said.text());
}

/// A shop in which everything has an evil name.
fn furnish(scene: &Scene) {
    let evil = evil_name();
    let inner = scene.shop.join(&evil);
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join(&evil), "evil").unwrap();
    let named = |end: &str| {
        let mut name = evil.clone();
        name.push(end);
        scene.shop.join(name)
    };
    std::os::unix::fs::symlink(&evil, named(".link")).unwrap();
    for (end, kind) in [(".pipe", FileType::Fifo), (".sock", FileType::Socket)] {
        mknodat(CWD, named(end), kind, Mode::from_raw_mode(0o600), 0).unwrap();
    }
    make_broken_database(&named(".old.db"));
    make_evil_database(&named(".db"));
    make_malformed_database(&named(".bad.db"));
}

/// Tables, columns and indexes with evil names, and rows that break what they promise: what SQLite finds names them.
fn make_evil_database(path: &Path) {
    let evil = EVIL.replace('"', "");
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA foreign_keys = OFF;
             CREATE TABLE \"{evil}\"(id INTEGER PRIMARY KEY, \"{evil}\" TEXT);
             CREATE TABLE \"{evil}2\"(id INTEGER PRIMARY KEY, \"{evil}\" INTEGER REFERENCES \"{evil}\"(id));
             CREATE INDEX \"{evil}3\" ON \"{evil}\"(\"{evil}\");
             INSERT INTO \"{evil}\" VALUES (1, NULL), (2, NULL);
             INSERT INTO \"{evil}2\" VALUES (1, 4711);
             PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = replace(sql, ' TEXT)', ' TEXT NOT NULL)');"
        ))
        .unwrap();
}

/// A schema that SQLite cannot read, and says so with its name.
fn make_malformed_database(path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(&format!(
            "CREATE TABLE \"{EVIL}\"(id INTEGER PRIMARY KEY);
             PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = 'CREATE TABLE {EVIL}(';"
        ))
        .unwrap();
}

/// Whoever has the password has made everything in the repository say what is evil, rightly sealed.
fn forge(scene: &Scene) {
    let forge = scene.forge();
    let repository = &scene.program.repository;
    for old in snapshots(&scene.program.backend()) {
        let mut file = old.file.clone();
        EVIL.clone_into(&mut file.hostname);
        EVIL.clone_into(&mut file.username);
        EVIL.clone_into(&mut file.program_version);
        file.tags.push(EVIL.replace(',', ""));
        file.excludes = vec![EVIL.to_owned()];
        forge.repository.save_snapshot(file).unwrap();
        fs::remove_file(repository.join("snapshots").join(old.id.to_string())).unwrap();
    }
    forge.snapshot_with_manifest(|manifest| {
        manifest["host"] = EVIL.into();
        manifest["program"] = EVIL.into();
        let note = serde_json::json!({"item": EVIL, "finding": EVIL});
        for notes in ["warnings", "incomplete"] {
            manifest[notes].as_array_mut().unwrap().push(note.clone());
        }
        for database in manifest["databases"].as_array_mut().unwrap() {
            database["engine_version"] = EVIL.into();
            database["journal_mode"] = EVIL.into();
        }
    });
    sign_the_key(repository);
    for folder in ["keys", "index", "snapshots", "locks", "data"] {
        let folder = repository.join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(evil_name()), EVIL).unwrap();
    }
}

/// The key says who made it, in words that no code protects.
fn sign_the_key(repository: &Path) {
    let old = files_below(&repository.join("keys")).remove(0);
    let mut key: serde_json::Value = serde_json::from_slice(&fs::read(&old).unwrap()).unwrap();
    key["hostname"] = EVIL.into();
    key["username"] = EVIL.into();
    let key = serde_json::to_vec(&key).unwrap();
    fs::remove_file(&old).unwrap();
    fs::write(old.with_file_name(Id::of(&key).to_string()), key).unwrap();
}

fn hostile(harm: impl Fn(&Scene)) -> World {
    World::with(EVIL, furnish, |scene| {
        forge(scene);
        harm(scene);
    })
}

/// The line in an environment that is as hostile as the rest.
fn command(world: &World, line: &Line) -> Command {
    let mut command = world.command(line, &[]);
    for name in [
        "HOME", "USER", "LOGNAME", "HOSTNAME", "PATH", "LANG", "TERM",
    ] {
        command.env(name, EVIL);
    }
    command
}

/// What another program reads is given as it is; that our words are harmless there is seen at the terminal.
fn is_exact(line: &Line) -> bool {
    matches!(line.words[0], "cat" | "dump")
}

/// Checks each line by itself, and names all that are wrong.
fn check_each<'a>(lines: impl Iterator<Item = &'a Line>, mut check: impl FnMut(&Line)) {
    let mut wrong = Vec::new();
    for line in lines {
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(line)));
        if checked.is_err() {
            wrong.push(format!("{:?}", line.words));
        }
    }
    assert!(wrong.is_empty(), "see above: {}", wrong.join(", "));
}

/// Types every line that can be typed here, for people and for programs.
fn type_all(mut world: World, what: &str, is_sound: bool) {
    let mut meant = 0;
    let lines = EVERY.iter();
    let lines = lines.filter(|line| is_sound || !line.wants_a_sound_world());
    check_each(lines, |line| {
        let what = format!("{what}: {:?}", line.words);
        world.scene.json = false;
        let said = Said::by(&mut command(&world, line));
        if is_exact(line) {
            assert_powerless(&said.stderr, &what);
        } else {
            assert_harmless(&said, &what);
        }
        meant += usize::from(said.text().contains(MARK));
        // What is no text cannot stand in a configuration: `setup` names it, and refuses.
        let is_refused = said.code == Some(2) && line.words[0] != "setup";
        assert!(!is_refused, "{what}: {}", said.text());
        if said.stderr.starts_with(b"error: ") {
            assert_three_parts(&said.text());
        }
        if line.speaks_json() {
            world.scene.json = true;
            assert_published(&Said::by(&mut command(&world, line)), &what);
        }
    });
    assert!(
        meant > EVERY.len() / 2,
        "{what}: only {meant} lines have met what is evil"
    );
}

/// A run for programs: powerless too, and each line of a published schema. Returns its objects.
fn assert_published(said: &Said, what: &str) -> Vec<serde_json::Value> {
    assert_powerless(&said.stdout, what);
    assert_eq!(String::from_utf8_lossy(&said.stderr), "", "{what}");
    let run = Run {
        code: said.code.unwrap(),
        stdout: String::from_utf8(said.stdout.clone()).unwrap(),
        stderr: String::new(),
    };
    let objects = run.objects();
    super::schemas::assert_published(&objects, what);
    objects
}

#[test]
fn no_name_has_power_in_a_sound_world() {
    type_all(hostile(|_| {}), "sound", true);
}

#[test]
fn no_name_has_power_where_every_pack_is_damaged() {
    let harm = |scene: &Scene| {
        for pack in files_below(&scene.program.repository.join("data")) {
            if pack.file_name() != Some(&evil_name()) {
                flip_a_bit(&pack);
            }
        }
    };
    type_all(hostile(harm), "damaged packs", false);
}

#[test]
fn no_name_has_power_where_a_snapshot_and_all_indexes_are_damaged() {
    let harm = |scene: &Scene| {
        let repository = &scene.program.repository;
        let newest = snapshots(&scene.program.backend()).pop().unwrap();
        flip_a_bit(&repository.join("snapshots").join(newest.id.to_string()));
        for index in files_below(&repository.join("index")) {
            flip_a_bit(&index);
        }
    };
    type_all(hostile(harm), "damaged indexes", false);
}

#[test]
fn no_holder_of_a_lock_has_power() {
    type_all(
        hostile(|scene| scene.forge().lock_exclusively(EVIL)),
        "locked",
        false,
    );
}

#[test]
fn no_name_has_power_at_a_terminal() {
    let world = hostile(|_| {});
    check_each(EVERY.iter(), |line| {
        let Some(shown) = watched(80, &command(&world, line)) else {
            return skipped("hostile names at a terminal", "there is no python3");
        };
        let what = format!("at a terminal: {:?}", line.words);
        let text = without_progress(&shown.bytes, &what);
        assert_powerless(text.as_bytes(), &what);
    });
}

/// Words, and what they name: files, machines, patterns.
#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn no_word_that_is_typed_comes_back_with_power() {
    let world = World::new();
    let whole = super::words::help(&[]);
    let evil = evil_name();
    let joined = |before: &str| {
        let mut whole = OsString::from(before);
        whole.push(&evil);
        whole
    };
    let path = joined("/nowhere/");
    let repository = world.scene.program.repository.as_os_str();
    let password = world.scene.program.password_file.as_os_str();
    for command in super::words::commands_of(&whole) {
        let here: [&std::ffi::OsStr; 5] = [
            "-r".as_ref(),
            repository,
            "-p".as_ref(),
            password,
            command.as_ref(),
        ];
        let mut lines: Vec<Vec<OsString>> = vec![
            vec![command.into(), evil.clone()],
            vec![command.into(), path.clone()],
            vec![command.into(), joined("--")],
            vec![command.into(), joined("-")],
            vec![joined("--"), command.into()],
            vec![command.into(), EVIL.into(), EVIL.into(), EVIL.into()],
            vec![
                "-r".into(),
                EVIL.into(),
                "-p".into(),
                path.clone(),
                command.into(),
            ],
            vec!["-r".into(), evil.clone(), command.into()],
            vec!["-c".into(), path.clone(), command.into()],
            // What such a command says itself is between it and its owner: this one says nothing.
            vec![
                "--password-command".into(),
                format!(": '{EVIL}'; false").into(),
                "-r".into(),
                EVIL.into(),
                command.into(),
            ],
            vec!["--color".into(), EVIL.into(), command.into()],
            vec!["--retry-lock".into(), EVIL.into(), command.into()],
        ];
        for more in [
            vec![evil.clone()],
            vec![EVIL.into()],
            vec![joined("latest:/")],
            vec!["latest".into(), EVIL.into()],
            vec!["latest".into(), "--host".into(), EVIL.into()],
            vec!["latest".into(), "--tag".into(), EVIL.into()],
            vec!["latest".into(), "--path".into(), evil.clone()],
            vec!["latest".into(), "--shop".into(), EVIL.into()],
            vec![
                "latest".into(),
                "--include".into(),
                EVIL.into(),
                "--target".into(),
                path.clone(),
            ],
            vec!["latest".into(), "--target".into(), joined("./")],
            vec!["--keep-tag".into(), EVIL.into()],
            vec!["--keep-daily".into(), EVIL.into()],
            vec!["--snapshot".into(), EVIL.into(), EVIL.into()],
            vec!["--oldest".into(), EVIL.into(), "*".into()],
            vec!["--read-data-subset".into(), EVIL.into()],
        ] {
            if super::OPENING.contains(&command) {
                let here = here.iter().map(|word| OsString::from(*word));
                lines.push(here.chain(more).collect());
            }
        }
        for words in lines {
            let what = format!("{words:?}");
            let typed = |json: bool| {
                let mut command = crate::common::program::bare();
                command.current_dir(&world.scene.folder);
                command.env("XDG_STATE_HOME", world.scene.path("state"));
                if json {
                    command.arg("--json");
                }
                Said::by(command.args(&words))
            };
            let said = typed(false);
            assert_harmless(&said, &what);
            if said.code == Some(2) {
                assert_three_parts(&said.text());
            }
            let said = typed(true);
            let objects = assert_published(&said, &what);
            if said.code == Some(2) {
                assert_error_object(&objects, 2);
            }
        }
    }
}

/// A configuration, right and wrong, that says what is evil wherever it may.
#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn no_configuration_has_power() {
    let mut world = World::with(EVIL, furnish, |_| {});
    let evil = toml_text(EVIL);
    let [repository, password, shop] =
        ["repository", "password", "shop"].map(|name| toml_text(&world.scene.text(name)));
    let usb = format!("[repository.usb]\nlocation = {repository}\npassword_file = {password}\n");
    let mara =
        format!("[shop.mara]\ntitle = {evil}\nfiles = [{{ name = \"f\", path = {shop} }}]\n");
    let print = format!("[\"/usr/bin/printf\", {evil}]");
    let fail = format!("[\"/bin/sh\", \"-c\", \"printf %s \\\"$1\\\"; exit 3\", {evil}, {evil}]");
    for (what, text) in [
        ("right", format!("{usb}{mara}")),
        (
            "a hook",
            format!("{usb}{mara}[[shop.mara.hook]]\nwhen = \"before-backup\"\nrun = {print}\n"),
        ),
        (
            "a hook that fails",
            format!(
                "{usb}{mara}[[shop.mara.hook]]\nwhen = \"before-backup\"\nrun = {fail}\n[[shop.mara.hook]]\nwhen = \"after-backup\"\nrun = {fail}\n"
            ),
        ),
        (
            "no program",
            format!("{usb}{mara}[[shop.mara.hook]]\nwhen = \"before-backup\"\nrun = [{evil}]\n"),
        ),
        ("a key", format!("{usb}{evil} = 1\n{mara}")),
        (
            "a repository",
            format!("[repository.{evil}]\nlocation = {evil}\n"),
        ),
        (
            "a shop",
            format!("{usb}[shop.{evil}]\nfiles = [{{ path = {shop} }}]\n"),
        ),
        (
            "a location",
            format!("[repository.usb]\nlocation = {evil}\npassword_file = {evil}\n"),
        ),
        (
            "a place",
            format!(
                "[repository.usb]\nlocation = \"/{0}\"\npassword_file = \"/{0}\"\n[shop.mara]\nfiles = [{{ path = \"/{0}\" }}]\n",
                &evil[1..evil.len() - 1]
            ),
        ),
        (
            "an engine",
            format!("{usb}[shop.mara]\ndatabase = [{{ engine = {evil}, path = {evil} }}]\n"),
        ),
        (
            "a name",
            format!(
                "{usb}[shop.mara]\nfiles = [{{ name = {evil}, path = {shop} }}, {{ name = {evil}, path = {shop} }}]\n"
            ),
        ),
        (
            "a rule",
            format!("{usb}{mara}[shop.mara.keep]\nwithin = {evil}\ntags = [{evil}]\n"),
        ),
        (
            "a command",
            format!(
                "[repository.usb]\nlocation = {repository}\npassword_command = [\"/bin/sh\", \"-c\", \"exit 3\", {evil}]\n{mara}"
            ),
        ),
        ("no TOML", format!("{usb}{EVIL}")),
        ("no text", format!("{usb}title = \"{EVIL}\"")),
    ] {
        let file = world.scene.path("config");
        fs::write(&file, format!("version = 1\n{text}")).unwrap();
        for json in [false, true] {
            world.scene.json = json;
            for words in [
                &["config", "check"][..],
                &["config", "show"],
                &["backup"],
                &["doctor"],
                &["forget"],
                &["snapshots", "--shop", "mara"],
                &["setup", "--dry-run"],
            ] {
                let what = format!("{what}: {words:?}");
                let mut command = crate::common::program::bare();
                command.env("XDG_STATE_HOME", world.scene.path("state"));
                command.env("TMPDIR", &world.scene.folder);
                command.arg("-c").arg(&file).args(words);
                if words[0] == "setup" {
                    command.arg(&world.scene.shop);
                }
                if json {
                    command.arg("--json");
                }
                let said = Said::by(&mut command);
                assert_harmless(&said, &what);
                if json {
                    assert_published(&said, &what);
                }
            }
        }
    }
}
