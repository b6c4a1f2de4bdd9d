//! rustic, the other program that writes the format, takes no locks, and deletes in two steps.
//!
//! `make interop` builds it and runs these; without it they are skipped.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::kinds::every_kind;
use super::{Restic, difficult_shop};
use crate::common::Place;
use crate::common::compare::{difference, is_database};
use crate::common::files::files_below;
use crate::common::library::PASSWORD;
use crate::common::program::{Program, Run};
use crate::common::shop::{Shop, noise};
use crate::common::tools::{restics, tools_folder};

/// rustic on one repository.
struct Rustic {
    path: PathBuf,
    repository: PathBuf,
    password_file: PathBuf,
    /// Where it looks for settings.
    home: PathBuf,
}

impl Rustic {
    /// Nothing if it is not there; `make interop` has built it.
    fn find(place: &Place, program: &Program) -> Option<Self> {
        let path = tools_folder().join("rustic/bin/rustic");
        if !path.is_file() {
            let must = std::env::var_os("INTEROP").is_some();
            assert!(!must, "{} is not there", path.display());
            eprintln!("SKIPPED: what rustic says: `make interop` builds it");
            return None;
        }
        let home = place.join("home");
        fs::create_dir_all(home.join(".config/rustic")).unwrap();
        Some(Self {
            path,
            repository: program.repository.clone(),
            password_file: program.password_file.clone(),
            home,
        })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.env_clear().env("HOME", &self.home);
        command.args(["--no-progress", "--no-cache", "--log-level", "warn"]);
        command.arg("-r").arg(&self.repository);
        command.arg("-p").arg(&self.password_file);
        command.args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Run {
        Run::of(&mut self.command(words))
    }

    /// Runs, and expects exit code 0 and no word of warning.
    fn ok(&self, words: &[&str]) -> Run {
        let run = self.run(words);
        assert_eq!(run.code, 0, "rustic {words:?}: {}", run.text());
        let said = run.text();
        for word in ["[WARN]", "[ERROR]"] {
            assert!(!said.contains(word), "rustic {words:?}: {said}");
        }
        run
    }

    /// Makes the repository.
    fn init(&self, program: &Program, options: &[&str]) {
        program.write_password(PASSWORD);
        self.ok(&[&["init"], options].concat());
    }
}

fn restic_is_content(program: &Program) {
    for (_, path) in restics() {
        let restic = Restic::on(&path, program);
        restic.ok(&["check", "--read-data", "--no-lock"]);
    }
}

fn level(program: &Program, words: &[&str]) -> String {
    let (code, verified) = program.json(&[&["verify"], words].concat());
    assert_eq!(code, 0, "{verified:?}");
    let level = &verified.last().unwrap()["proof_level"];
    level.as_str().unwrap().to_owned()
}

#[test]
fn rustic_reads_checks_and_restores_what_we_wrote() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let Some(rustic) = Rustic::find(&place, &program) else {
        return;
    };
    let judge = Restic::on(&restics().pop().unwrap().1, &program);
    let shop = difficult_shop(&place.join("shop"), &judge);
    let folder = shop.folder.to_str().unwrap();
    rustic.ok(&["check", "--read-data"]);
    program.ok(&["backup", folder]);
    shop.sell(10);
    program.ok(&["backup", folder]);
    rustic.ok(&["check", "--read-data"]);
    let listed: serde_json::Value =
        serde_json::from_str(&rustic.ok(&["snapshots", "--json"]).stdout).unwrap();
    assert_eq!(
        listed[0]["snapshots"].as_array().unwrap().len(),
        2,
        "{listed}"
    );
    let names = rustic.ok(&["ls", "latest"]).stdout;
    assert!(names.contains("/pictures/teapot.jpg"), "{names}");
    let target = place.join("restored");
    let from = format!("latest:{folder}");
    rustic.ok(&["restore", &from, target.to_str().unwrap()]);
    // To rustic a mode of 0 is none, and the folder itself has no time.
    let left_out =
        |path: &Path| is_database(path) || path.ends_with("m0000") || path.as_os_str().is_empty();
    assert_eq!(difference(&shop.folder, &target, &left_out), None);
    let restored = crate::common::shop::count_orders(&target.join("shop.db"));
    assert_eq!(restored, shop.orders());
    let dumped = rustic.command(&["dump", &format!("{from}/large")]).output();
    assert!(dumped.unwrap().stdout == fs::read(shop.folder.join("large")).unwrap());
}

#[test]
fn what_rustic_forgets_prunes_repairs_and_copies_of_ours_stays_whole() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let Some(rustic) = Rustic::find(&place, &program) else {
        return;
    };
    let shop = Shop::open(&place.join("shop"), 100, "wal");
    let folder = shop.folder.to_str().unwrap();
    for number in 0..4 {
        shop.sell(300);
        fs::write(shop.folder.join("picture"), noise(number, 900_000)).unwrap();
        program.ok(&["backup", folder]);
    }
    let elsewhere = place.join("elsewhere");
    let profile = format!(
        "[repository]\nrepository = {elsewhere:?}\npassword-file = {:?}\nno-cache = true\n",
        program.password_file
    );
    fs::write(rustic.home.join(".config/rustic/elsewhere.toml"), profile).unwrap();
    rustic.ok(&["copy", "--init", "--target", "elsewhere"]);
    let copy = Program {
        repository: elsewhere,
        password_file: program.password_file.clone(),
    };
    copy.ok(&["check", "--read-data"]);
    assert_eq!(level(&copy, &[]), "matched");

    // In two steps, as it does by default: packs are marked, still there, and nothing is built on them.
    rustic.ok(&["forget", "--keep-last", "2"]);
    let all = [
        "prune",
        "--max-unused",
        "0",
        "--max-repack",
        "unlimited",
        "--keep-pack",
        "0s",
    ];
    rustic.ok(&all);
    program.ok(&["check", "--read-data"]);
    assert_eq!(level(&program, &[]), "matched");
    program.ok(&["backup", folder]);
    rustic.ok(&["check", "--read-data"]);
    restic_is_content(&program);
    // Then at once.
    rustic.ok(&[&all[..], &["--instant-delete"]].concat());
    program.ok(&["check", "--read-data"]);
    assert_eq!(level(&program, &[]), "matched");
    for file in files_below(&program.repository.join("index")) {
        fs::remove_file(file).unwrap();
    }
    // It names the packs that it finds, loudly.
    assert_eq!(rustic.run(&["repair", "index"]).code, 0);
    program.ok(&["check", "--read-data"]);
    assert_eq!(level(&program, &[]), "matched");
    restic_is_content(&program);
    rustic.ok(&["check", "--read-data"]);
}

#[test]
fn we_check_list_restore_and_build_on_what_rustic_wrote() {
    for options in [
        &[][..],
        &["--set-chunker", "fixed_size", "--set-chunk-size", "64KiB"],
        &["--set-compression", "0"],
        &["--set-compression", "19", "--set-datapack-size", "1MiB"],
        &["--set-compression", "22"],
        // Every file is one blob.
        &["--set-chunker", "fixed_size", "--set-chunk-size", "64MiB"],
    ] {
        let place = Place::new();
        let program = Program::in_folder(place.path());
        let Some(rustic) = Rustic::find(&place, &program) else {
            return;
        };
        let judge = Restic::on(&restics().pop().unwrap().1, &program);
        let shop = difficult_shop(&place.join("shop"), &judge);
        let folder = shop.folder.to_str().unwrap();
        rustic.init(&program, options);
        rustic.ok(&["backup", "--label", "spring", "--tag", "a,b", folder]);
        shop.sell(50);
        rustic.ok(&["backup", folder]);
        program.ok(&["check", "--read-data"]);
        let (_, listed) = program.json(&["snapshots"]);
        assert_eq!(listed.last().unwrap()["snapshots"], 2, "{options:?}");
        program.ok(&["ls", "latest"]);
        let target = place.join("restored");
        let from = format!("latest:{folder}");
        program.ok(&["restore", &from, "--target", target.to_str().unwrap()]);
        assert_eq!(
            difference(&shop.folder, &target, &is_database),
            None,
            "{options:?}"
        );
        assert_eq!(level(&program, &[]), "opened", "{options:?}");
        program.ok(&["backup", folder]);
        rustic.ok(&["check", "--read-data"]);
        restic_is_content(&program);
    }
}

/// Snapshots alone, then every tree, then trees without a file: all in rustic's own letters.
#[test]
fn what_rustic_writes_anew_of_ours_is_read_and_built_upon() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let Some(rustic) = Rustic::find(&place, &program) else {
        return;
    };
    let judge = Restic::on(&restics().pop().unwrap().1, &program);
    let shop = difficult_shop(&place.join("shop"), &judge);
    let folder = shop.folder.to_str().unwrap();
    program.ok(&["backup", folder]);
    let target = place.join("restored");
    for words in [
        &["--tags-rewritten", "anew"][..],
        &["--all-trees"],
        &["--glob", "!**/large"],
    ] {
        rustic.ok(&[&["rewrite", "--forget"], words].concat());
        program.ok(&["check", "--read-data"]);
        let (_, listed) = program.json(&["snapshots"]);
        assert_eq!(listed.last().unwrap()["snapshots"], 1, "{words:?}");
        // The manifest is one of the files, and still tells what was captured: also that a file is no longer there.
        let is_left_out = words[0] == "--glob";
        let wanted = if is_left_out { "opened" } else { "matched" };
        assert_eq!(level(&program, &[]), wanted, "{words:?}");
        let from = format!("latest:{folder}");
        program.ok(&["restore", &from, "--target", target.to_str().unwrap()]);
        assert_eq!(target.join("large").exists(), !is_left_out);
        let left_out = |path: &Path| is_database(path) || (is_left_out && path.ends_with("large"));
        assert_eq!(difference(&shop.folder, &target, &left_out), None);
        fs::remove_dir_all(&target).unwrap();
        restic_is_content(&program);
    }
    // What it left out is stored again, and what nobody needs goes.
    program.ok(&["backup", folder]);
    program.ok(&["forget", "--keep-last", "1"]);
    program.ok(&["prune", "--now"]);
    rustic.ok(&["check", "--read-data"]);
    restic_is_content(&program);
    assert_eq!(level(&program, &[]), "matched");
}

/// Every kind of item, stored by one of the two and restored by the other.
#[test]
fn every_kind_of_item_goes_both_ways() {
    for ours_stores in [true, false] {
        let place = Place::new();
        let program = Program::in_folder(place.path());
        let Some(rustic) = Rustic::find(&place, &program) else {
            return;
        };
        rustic.init(&program, &[]);
        let folder = place.join("kinds");
        every_kind(&folder);
        let source = folder.to_str().unwrap();
        let target = place.join("restored");
        let from = format!("latest:{source}");
        let to = target.to_str().unwrap();
        if ours_stores {
            program.ok(&["backup", source]);
            rustic.ok(&["check", "--read-data"]);
            rustic.ok(&["restore", &from, to]);
        } else {
            rustic.ok(&["backup", source]);
            program.ok(&["check", "--read-data"]);
            program.ok(&["restore", &from, "--target", to]);
            restic_is_content(&program);
        }
        // To rustic a mode of 0 is none.
        let left_out = |path: &Path| path.ends_with("mode-4");
        assert_eq!(
            difference(&folder, &target, &left_out),
            None,
            "{ours_stores}"
        );
    }
}

/// All but the packs of content is stored twice: the cold repository is whole.
#[test]
fn the_cold_half_of_a_repository_of_rustic_is_whole() {
    let place = Place::new();
    let program = Program::in_folder(place.path());
    let Some(rustic) = Rustic::find(&place, &program) else {
        return;
    };
    let shop = Shop::open(&place.join("shop"), 50, "delete");
    let folder = shop.folder.to_str().unwrap();
    let hot = place.join("hot");
    let hot_words = ["--repo-hot", hot.to_str().unwrap()];
    rustic.init(&program, &hot_words);
    rustic.ok(&[&["backup"], &hot_words[..], &[folder]].concat());
    program.ok(&["check", "--read-data"]);
    assert_eq!(level(&program, &[]), "opened");
    // Of the hot half everything but content can be looked at.
    let hot = Program {
        repository: hot,
        password_file: program.password_file.clone(),
    };
    hot.ok(&["snapshots"]);
    hot.ok(&["ls", "latest"]);
    assert_eq!(hot.run(&["check"]).code, 4);
}

/// rustic takes no lock: what it has written and not yet indexed must outlive our prune.
#[test]
fn our_prune_leaves_what_a_running_rustic_has_just_written() {
    let place = Place::new();
    let program = Program::in_folder(place.path());
    let Some(rustic) = Rustic::find(&place, &program) else {
        return;
    };
    rustic.init(&program, &["--set-datapack-size", "1MiB"]);
    let shop = place.join("shop");
    fs::create_dir(&shop).unwrap();
    fs::write(shop.join("notes.txt"), "glaze: celadon").unwrap();
    program.ok(&["backup", shop.to_str().unwrap()]);
    let packs = || files_below(&program.repository.join("data")).len();
    let before = packs();
    let mut backup = rustic
        .command(&["backup", "--stdin-filename", "film", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // As much as it takes until some of it is stored, then a prune beside it, then the rest.
    let film = noise(5, 64 << 20);
    let mut pipe = backup.stdin.take().unwrap();
    let mut has_pruned = false;
    for part in film.chunks(1 << 20) {
        pipe.write_all(part).unwrap();
        if !has_pruned && packs() >= before + 2 {
            assert!(backup.try_wait().unwrap().is_none(), "it has not ended");
            for _ in 0..2 {
                program.ok(&["prune"]);
            }
            has_pruned = true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(has_pruned, "nothing was stored before the end");
    drop(pipe);
    assert!(backup.wait().unwrap().success());
    program.ok(&["check", "--read-data"]);
    let target = place.join("restored");
    let words = ["restore", "latest:/", "--path", "film", "--target"];
    program.ok(&[&words[..], &[target.to_str().unwrap()]].concat());
    assert!(fs::read(target.join("film")).unwrap() == film);
    rustic.ok(&["check", "--read-data"]);
}
