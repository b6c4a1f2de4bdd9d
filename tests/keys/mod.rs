//! Who can open the repository: several passwords, one after the other or at the same time.

mod crash;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tillsafe::id::Id;
use tillsafe::monitor::Quiet;
use tillsafe::repository::Repository;
use tillsafe::repository::crypto::Key;
use tillsafe::repository::key_ring::MOST;
use tillsafe::repository::keys::{Cost, KeyFile};
use tillsafe::rng::SystemRng;
use tillsafe::secret::Secret;

use crate::common::Place;
use crate::common::files::names_with;
use crate::common::library::{self, PASSWORD, services};
use crate::common::program::{Program, Run, bare};
use crate::common::restic::Restic;
use crate::common::terminal::type_hidden;
use crate::common::tools::skipped;

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

/// The same program with another password, as the file has it.
fn with_password(program: &Program, folder: &Path, name: &str, text: &str) -> Program {
    let file = folder.join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    Program {
        repository: program.repository.clone(),
        password_file: file,
    }
}

fn as_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn key_files(program: &Program) -> Vec<PathBuf> {
    let folder = program.repository.join("keys");
    let mut names = names_with(&folder, "");
    names.sort();
    names.iter().map(|name| folder.join(name)).collect()
}

/// What `key list` says of each key.
fn listed(program: &Program) -> Vec<Value> {
    let (code, mut objects) = program.json(&["key", "list"]);
    assert_eq!(code, 0, "{objects:?}");
    objects.retain(|object| object["message_type"] == "key");
    objects
}

fn add(program: &Program, new: &Program) -> Run {
    let file = as_text(&new.password_file);
    program.run(&["key", "add", "--new-password-file", file])
}

#[test]
fn stock_restic_opens_what_we_add_and_we_open_what_it_adds() {
    /// As a file holds them, and as some are hard to hold.
    const HARD: [&str; 3] = [
        "two words",
        "Töpferei 陶芸 ☕\n",
        "  blanks around '\"$(reboot)`\\ \r\n",
    ];
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    for (number, stock) in Restic::all_on(&program).iter().enumerate() {
        for (index, text) in HARD.iter().enumerate() {
            let name = |whose: &str| format!("{whose}-{number}-{index}");
            let text = |whose: &str| format!("{whose} {number} {text}");
            let ours = with_password(&program, place.path(), &name("ours"), &text("ours"));
            assert_eq!(add(&program, &ours).code, 0);
            stock.with_password(&ours.password_file).ok(&["snapshots"]);
            let theirs = with_password(&program, place.path(), &name("theirs"), &text("theirs"));
            assert_eq!(theirs.run(&["snapshots"]).code, 12);
            let file = as_text(&theirs.password_file);
            stock.with_password(&ours.password_file).ok(&[
                "key",
                "add",
                "--new-password-file",
                file,
            ]);
            theirs.ok(&["snapshots"]);
            // It changes ours, we change its.
            let later = with_password(&program, place.path(), &name("later"), &text("later"));
            let file = as_text(&later.password_file);
            stock.with_password(&ours.password_file).ok(&[
                "key",
                "passwd",
                "--new-password-file",
                file,
            ]);
            assert_eq!(ours.run(&["snapshots"]).code, 12);
            later.ok(&["snapshots"]);
            let last = with_password(&program, place.path(), &name("last"), &text("last"));
            let file = as_text(&last.password_file);
            theirs.ok(&["key", "passwd", "--new-password-file", file]);
            assert_ne!(
                stock
                    .with_password(&theirs.password_file)
                    .run(&["snapshots"])
                    .code,
                0
            );
            stock.with_password(&last.password_file).ok(&["snapshots"]);
            // It removes one of ours, we remove one of its.
            let id = |program: &Program| {
                let in_use = listed(program)
                    .into_iter()
                    .find(|key| key["in_use"] == true);
                in_use.unwrap()["id"].as_str().unwrap().to_owned()
            };
            stock
                .with_password(&program.password_file)
                .ok(&["key", "remove", &id(&last)]);
            assert_eq!(last.run(&["snapshots"]).code, 12);
            program.ok(&["key", "remove", &id(&later)[..9]]);
            assert_ne!(
                stock
                    .with_password(&later.password_file)
                    .run(&["snapshots"])
                    .code,
                0
            );
        }
        stock.with_password(&program.password_file).ok(&["check"]);
    }
    assert_eq!(key_files(&program).len(), 1);
}

#[test]
fn there_are_at_most_twenty_and_each_opens_for_both_programs() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let repository = library::open(&program.backend()).unwrap();
    for number in 1..MOST {
        let password = secret(&format!("number {number}"));
        let added = repository.add_key(&password, Cost::CHEAP, &Quiet::default());
        assert!(added.unwrap().is_new);
    }
    let file = place.join("one too many");
    let run = program.run(&["key", "add", "--new-password-file", as_text(&file)]);
    assert_eq!(run.code, 20, "{}", run.text());
    assert!(run.stderr.contains("20 key files"), "{}", run.text());
    assert!(!file.exists(), "no password is made for nothing");
    let added = repository.add_key(&secret("too many"), Cost::CHEAP, &Quiet::default());
    assert_eq!(i32::from(added.unwrap_err().exit_code().number()), 20);
    assert_eq!(key_files(&program).len(), MOST);
    for number in 1..MOST {
        let text = format!("number {number}");
        let other = with_password(&program, place.path(), "other", &text);
        other.ok(&["snapshots"]);
        for stock in Restic::all_on(&program) {
            stock.with_password(&other.password_file).ok(&["snapshots"]);
        }
    }
    // A change does not need room for one more.
    program.ok(&["key", "passwd", "--new-password-file", as_text(&file)]);
    assert_eq!(key_files(&program).len(), MOST);
    assert_eq!(program.run(&["snapshots"]).code, 12);
}

#[test]
fn a_change_puts_a_strong_key_in_the_place_of_a_weak_one() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let before = listed(&program);
    assert_eq!(before.len(), 1);
    assert_eq!(before[0]["weak"], true);
    assert_eq!(before[0]["in_use"], true);
    let text = program.ok(&["key", "list"]).stdout;
    assert!(text.contains("weak: below (32768,8,1)"), "{text}");
    assert!(
        text.contains("(256,1,1)") && text.contains("in use"),
        "{text}"
    );
    // The same password: only what a guess costs changes.
    let file = as_text(&program.password_file).to_owned();
    program.ok(&["key", "passwd", "--new-password-file", &file]);
    let after = listed(&program);
    assert_eq!(after.len(), 1);
    assert_ne!(after[0]["id"], before[0]["id"]);
    assert_eq!(after[0]["weak"], false);
    let cost = &after[0]["cost"];
    assert_eq!(
        (&cost["N"], &cost["r"], &cost["p"]),
        (&32768.into(), &8.into(), &2.into())
    );
    assert!(after[0]["time"].is_string(), "{after:?}");
    // What opens already is not added again.
    let run = add(&program, &program);
    assert_eq!(run.code, 0);
    assert!(run.stdout.contains("already"), "{}", run.text());
    assert_eq!(key_files(&program).len(), 1);
    for stock in Restic::all_on(&program) {
        stock
            .with_password(&program.password_file)
            .ok(&["snapshots"]);
    }
}

/// Nobody believes that a password was changed when it was not.
#[test]
fn a_change_to_no_new_password_says_so() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let strong = with_password(
        &program,
        place.path(),
        "strong.pass",
        "celadon on porcelain",
    );
    let other = with_password(&program, place.path(), "other.pass", "tenmoku on stoneware");
    program.ok(&[
        "key",
        "passwd",
        "--new-password-file",
        as_text(&strong.password_file),
    ]);
    let before = key_files(&program);
    let same = strong.run(&[
        "key",
        "passwd",
        "--new-password-file",
        as_text(&strong.password_file),
    ]);
    assert_eq!(same.code, 20, "{}", same.text());
    assert!(
        same.stderr.contains("opens the repository already"),
        "{}",
        same.stderr
    );
    assert_eq!(key_files(&program), before);
    // That of another key, weak or strong: two ways in do not become one unasked.
    let weak = with_password(&program, place.path(), "weak.pass", "earthenware");
    let repository = Repository::open(
        program.backend(),
        services(),
        &secret("celadon on porcelain"),
        &Quiet::default(),
    );
    let cheap = repository.unwrap();
    cheap
        .add_key(&secret("earthenware"), Cost::CHEAP, &Quiet::default())
        .unwrap();
    assert_eq!(add(&strong, &other).code, 0);
    let before = key_files(&program);
    let mut next = String::new();
    for theirs in [&weak, &other] {
        let run = strong.run(&[
            "key",
            "passwd",
            "--new-password-file",
            as_text(&theirs.password_file),
        ]);
        assert_eq!(run.code, 20, "{}", run.text());
        assert!(
            run.stderr.contains("opens another key already"),
            "{}",
            run.stderr
        );
        assert_eq!(key_files(&program), before, "nothing is removed");
        next = run.stderr;
    }
    strong.ok(&["snapshots"]);
    // If that was meant, the message says how.
    let typed = next.split("finish it: tillsafe ").nth(1).unwrap();
    let run = Run::of(bare().args(typed.split_whitespace()));
    assert_eq!(run.code, 0, "{}", run.text());
    assert_eq!(strong.run(&["snapshots"]).code, 12);
}

/// The wrong file, named by accident, would make a password that nobody has chosen.
#[test]
fn a_text_of_several_lines_becomes_no_password_and_one_that_opens_goes_on_opening() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let script = with_password(&program, place.path(), "till.py", "import os\nsell()\n\n");
    let file = as_text(&script.password_file);
    let before = key_files(&program);
    for words in [
        &["key", "add", "--new-password-file", file][..],
        &["key", "passwd", "--new-password-file", file],
        &["key", "add", "--new-password-command", "printf 'a\\nb'"],
    ] {
        let run = program.run(words);
        assert_eq!(run.code, 2, "{words:?}: {}", run.text());
        assert!(run.stderr.contains("has 2 lines"), "{}", run.stderr);
        assert_eq!(key_files(&program), before);
    }
    let new = Program {
        repository: place.join("new"),
        password_file: script.password_file.clone(),
    };
    assert_eq!(new.run(&["init"]).code, 2);
    assert!(!new.repository.join("config").exists());
    // restic takes the whole text: what was made with it opens.
    let repository = library::open(&program.backend()).unwrap();
    let text = secret("import os\nsell()");
    repository
        .add_key(&text, Cost::CHEAP, &Quiet::default())
        .unwrap();
    script.ok(&["snapshots"]);
}

#[test]
fn a_wrong_password_is_told_with_where_it_came_from() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let wrong = with_password(&program, place.path(), "wrong.pass", "porridge\n");
    let file = as_text(&wrong.password_file);
    let repository = as_text(&program.repository);
    for (words, variables, said) in [
        (
            &["-r", repository, "-p", file, "snapshots"][..],
            &[][..],
            file,
        ),
        (
            &[
                "-r",
                repository,
                "--password-command",
                "echo no",
                "snapshots",
            ],
            &[],
            "that the password command prints",
        ),
        (
            &["snapshots"],
            &[
                ("TILLSAFE_REPOSITORY", repository),
                ("TILLSAFE_PASSWORD", "no"),
            ],
            "in the variable TILLSAFE_PASSWORD",
        ),
    ] {
        let run = Run::of(bare().args(words).envs(variables.iter().copied()));
        assert_eq!(run.code, 12, "{}", run.text());
        assert!(run.stderr.contains(said), "{}", run.stderr);
    }
}

/// A stray is the business of who looks after keys.
#[test]
fn what_lies_among_the_keys_is_named_by_who_looks_there() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    fs::write(program.repository.join("keys/notes.txt"), "").unwrap();
    for (words, told) in [
        (&["snapshots"][..], false),
        (&["key", "list"], true),
        (&["check"], true),
    ] {
        let run = program.ok(words);
        assert_eq!(
            run.stderr.contains("keys/notes.txt"),
            told,
            "{words:?}: {}",
            run.stderr
        );
    }
}

#[test]
fn a_new_password_is_made_if_its_file_does_not_exist() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let safe = place.join("safe.pass");
    let (code, objects) = program.json(&["key", "add", "--new-password-file", as_text(&safe)]);
    assert_eq!(code, 0, "{objects:?}");
    let summary = objects.last().unwrap();
    assert_eq!(summary["password_made"], true);
    assert_eq!(summary["key_added"], true);
    assert_eq!(safe.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let accountant = Program {
        repository: program.repository.clone(),
        password_file: safe.clone(),
    };
    accountant.ok(&["snapshots"]);
    let text = fs::read_to_string(&safe).unwrap();
    assert!(text.trim().len() >= 39, "160 bits");
    // It exists now: it is taken, not made anew.
    let again = add(&program, &accountant);
    assert!(again.stdout.contains("already"), "{}", again.text());
    assert_eq!(fs::read_to_string(&safe).unwrap(), text);
    for run in [again, program.run(&["key", "list"])] {
        assert!(!run.text().contains(text.trim()) && !run.text().contains(PASSWORD));
    }
}

#[test]
fn bad_passwords_are_refused_before_anything_is_written() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let empty = with_password(&program, place.path(), "empty", " \n");
    let empty = as_text(&empty.password_file);
    let cases: [&[&str]; 6] = [
        &["--new-password-file", empty],
        &["--new-password-command", "true"],
        &["--new-password-command", "exit 3"],
        &["--new-password-file", ""],
        &[
            "--new-password-file",
            empty,
            "--new-password-command",
            "echo x",
        ],
        // Nobody sits at a terminal.
        &[],
    ];
    for verb in ["add", "passwd"] {
        for words in cases {
            let run = program.run(&[&["key", verb], words].concat());
            assert_eq!(run.code, 2, "{verb} {words:?}: {}", run.text());
            crate::cli::assert_three_parts(&run.stderr);
        }
        // A password is no word of the command line.
        assert_eq!(program.run(&["key", verb, "secret"]).code, 2);
    }
    assert_eq!(key_files(&program).len(), 1);
    program.ok(&[
        "key",
        "add",
        "--new-password-command",
        "echo from a command",
    ]);
    with_password(&program, place.path(), "told", "from a command").ok(&["snapshots"]);
}

#[test]
fn a_new_password_that_others_can_read_is_a_warning() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let open = with_password(&program, place.path(), "open", "for all to see");
    fs::set_permissions(&open.password_file, fs::Permissions::from_mode(0o644)).unwrap();
    let run = add(&program, &open);
    assert_eq!(run.code, 0);
    assert!(run.stderr.contains("chmod 600"), "{}", run.text());
    assert!(!run.text().contains("for all to see"));
}

#[test]
fn the_key_in_use_is_never_removed_and_others_only_by_a_name_that_is_theirs_alone() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let own = listed(&program)[0]["id"].as_str().unwrap().to_owned();
    let run = program.run(&["key", "remove", &own]);
    assert_eq!(run.code, 20, "{}", run.text());
    assert!(
        run.stderr.contains("opened the repository with"),
        "{}",
        run.text()
    );
    let repository = library::open(&program.backend()).unwrap();
    for number in 1..18 {
        let password = secret(&format!("number {number}"));
        repository
            .add_key(&password, Cost::CHEAP, &Quiet::default())
            .unwrap();
    }
    for wanted in ["", "x", "ABC", "\u{1b}[2J", &"0".repeat(64)] {
        let run = program.run(&["key", "remove", wanted]);
        assert_eq!(run.code, 2, "{wanted:?}: {}", run.text());
        assert!(!run.text().contains('\u{1b}'));
    }
    // Eighteen names begin with sixteen digits: two of them alike.
    let mut ids: Vec<String> = listed(&program)
        .iter()
        .map(|key| key["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    let shared = ids
        .windows(2)
        .find(|pair| pair[0][..1] == pair[1][..1])
        .unwrap();
    let run = program.run(&["key", "remove", &shared[0][..1]]);
    assert_eq!(run.code, 2, "{}", run.text());
    assert!(run.stderr.contains("keys begin with"), "{}", run.text());
    assert_eq!(key_files(&program).len(), 18);
    let other = ids.iter().find(|id| **id != own).unwrap();
    program.ok(&["key", "remove", other]);
    assert!(!program.repository.join("keys").join(other).exists());
}

#[test]
fn what_is_no_key_stops_nobody_is_named_and_goes_by_its_full_name() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let honest = key_files(&program).remove(0);
    let keys = program.repository.join("keys");
    let garbage = "5".repeat(64);
    fs::write(keys.join(&garbage), b"\x1b[2Jno key at all").unwrap();
    let greedy = fs::read_to_string(&honest)
        .unwrap()
        .replace("256", "1099511627776");
    let greedy_id = Id::of(greedy.as_bytes()).to_string();
    fs::write(keys.join(&greedy_id), greedy).unwrap();
    let found = listed(&program);
    assert_eq!(found.len(), 3);
    let named = |id: &str| found.iter().find(|key| key["id"] == *id).unwrap();
    assert!(
        named(&garbage)["finding"]
            .as_str()
            .unwrap()
            .contains("named after")
    );
    assert!(
        named(&greedy_id)["finding"]
            .as_str()
            .unwrap()
            .contains("scrypt")
    );
    let text = program.ok(&["key", "list"]).stdout;
    assert!(
        text.contains("no sound key") && text.contains(&garbage),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'));
    let new = with_password(&program, place.path(), "new", "new");
    assert_eq!(add(&program, &new).code, 0);
    for id in [&garbage, &greedy_id] {
        let run = program.run(&["key", "remove", &id[..20]]);
        assert_eq!(run.code, 2, "{}", run.text());
        assert!(run.stderr.contains("full name"), "{}", run.text());
        program.ok(&["key", "remove", id]);
    }
    assert_eq!(key_files(&program).len(), 2);
}

#[test]
fn whoever_was_removed_meanwhile_removes_and_adds_nothing() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let monitor = Quiet::default();
    let first = library::open(&program.backend()).unwrap();
    let theirs = secret("theirs");
    let added = first.add_key(&theirs, Cost::CHEAP, &monitor).unwrap();
    let second = Repository::open(program.backend(), services(), &theirs, &monitor).unwrap();
    let own = first
        .keys(&monitor)
        .unwrap()
        .into_iter()
        .find(|key| key.in_use)
        .unwrap();
    first.remove_key(&added.id.to_string(), &monitor).unwrap();
    // Each alone would be right: together they would leave no key.
    let refused = [
        second.remove_key(&own.id.to_string(), &monitor).map(drop),
        second
            .add_key(&secret("x"), Cost::CHEAP, &monitor)
            .map(drop),
        second
            .change_password(&secret("x"), Cost::CHEAP, &monitor)
            .map(drop),
    ];
    for result in refused {
        let cause = result.unwrap_err();
        assert_eq!(i32::from(cause.exit_code().number()), 20, "{cause}");
    }
    assert_eq!(key_files(&program).len(), 1);
    library::open(&program.backend()).unwrap();
}

#[test]
fn a_planted_key_with_the_new_password_does_not_take_the_place_of_the_true_one() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let new = with_password(&program, place.path(), "new", "known to the accountant");
    // Its password opens it, but to another master key.
    let planted = KeyFile::wrap(
        &Key::random(&SystemRng).unwrap(),
        &secret("known to the accountant"),
        Cost::LEAST,
        jiff::Timestamp::now(),
        &SystemRng,
    );
    let planted = serde_json::to_vec(&planted.unwrap()).unwrap();
    let id = Id::of(&planted).to_string();
    fs::write(program.repository.join("keys").join(&id), planted).unwrap();
    let file = as_text(&new.password_file);
    let (code, objects) = program.json(&["key", "passwd", "--new-password-file", file]);
    assert_eq!(code, 0, "{objects:?}");
    let summary = objects.last().unwrap();
    assert_eq!(summary["key_added"], true);
    assert_ne!(summary["key_id"], id);
    fs::remove_file(program.repository.join("keys").join(&id)).unwrap();
    new.ok(&["snapshots"]);
}

#[test]
fn at_a_terminal_the_new_password_is_asked_for_twice() {
    let questions = "new password: |new password again: ";
    for (answers, code, said) in [
        ("two cups|two cups", 0, "added key"),
        ("two cups|two cats", 2, "differ"),
        ("|", 2, "empty"),
        (" two cups| two cups", 2, "white space"),
    ] {
        let place = Place::new();
        let program = Program::with_cheap_repository(place.path());
        let command = program.command(&["key", "add"]);
        let Some(run) = type_hidden(&command, questions, answers) else {
            return skipped("a new password at a terminal", "python3 plays the person");
        };
        assert_eq!(run.code, code, "{answers}: {}", run.text());
        assert!(run.stdout.contains(said), "{answers}: {}", run.text());
        assert!(!run.stdout.contains("cups"), "{}", run.text());
        assert_eq!(key_files(&program).len(), 1 + usize::from(code == 0));
        if code == 0 {
            with_password(&program, place.path(), "typed", "two cups\n").ok(&["snapshots"]);
        }
    }
}
