//! Stock restic, in two versions, is the judge: it reads what we wrote, and we read what it wrote.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tillsafe::backend::{Backend, LocalBackend};
use tillsafe::chunker::PageChunks;
use tillsafe::durable::OsDisk;
use tillsafe::monitor::Quiet;
use tillsafe::repository::lock::Access;
use tillsafe::rng::SystemRng;

use crate::common::Place;
use crate::common::compare::{difference, is_database};
use crate::common::library::open;
use crate::common::program::{Program, Run};
use crate::common::shop::{Shop, noise};
use crate::common::tools::{find, restics, skipped};

/// A restic on one repository.
pub struct Restic {
    path: PathBuf,
    repository: PathBuf,
    password_file: PathBuf,
}

impl Restic {
    pub fn on(path: &Path, program: &Program) -> Self {
        Self {
            path: path.to_owned(),
            repository: program.repository.clone(),
            password_file: program.password_file.clone(),
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

    /// Runs, and expects exit code 0.
    pub fn ok(&self, words: &[&str]) -> Run {
        let run = Run::of(&mut self.command(words));
        assert_eq!(
            run.code, 0,
            "restic {words:?}: {}{}",
            run.stdout, run.stderr
        );
        run
    }

    /// Runs with `--json` and returns the lines that are objects.
    pub fn json(&self, words: &[&str]) -> Vec<Value> {
        let run = self.ok(&[words, &["--json"]].concat());
        run.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
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

/// Runs a test with each restic there is; in CI both must be there.
pub fn each(test: impl Fn(&Path)) {
    let found = restics();
    if found.len() < 2 {
        skipped(
            "one of two versions of restic",
            "`make tools` installs them",
        );
    }
    for (name, path) in found {
        println!("{name}");
        test(&path);
    }
}

/// A shop with all that a version-2 tree has pitfalls for.
///
/// restic keeps a link's target that is not UTF-8 only since 0.16, so it is there for those alone.
fn difficult_shop(folder: &Path, restic: &Restic) -> Shop {
    let shop = Shop::open(folder, 300, "wal");
    let names = folder.join("names");
    fs::create_dir(&names).unwrap();
    let hard: [&[u8]; 14] = [
        b"line\nbreak",
        b"tab\there",
        b"quote\"d",
        b"back\\slash",
        b"it's `so`",
        b"<a>&b",
        b"\xff\xfebytes",
        b"\x01\x1b[2Jctl\x7f",
        b"-dash",
        b" blank ",
        "Töpferei 🍵".as_bytes(),
        "nb\u{a0}sp\u{ad}hy".as_bytes(),
        "sep\u{2028}\u{2029}\u{200d}\u{feff}".as_bytes(),
        "\u{fffd}\u{e000}\u{378}".as_bytes(),
    ];
    for name in hard {
        fs::write(names.join(OsStr::from_bytes(name)), name).unwrap();
    }
    for (name, size) in [
        ("one", 1),
        ("below", (512 << 10) - 1),
        ("at", 512 << 10),
        ("above", (512 << 10) + 1),
        ("large", (9 << 20) + 7),
    ] {
        fs::write(folder.join(name), noise(size as u64, size)).unwrap();
    }
    fs::write(folder.join("zeroes"), vec![0; 3 << 20]).unwrap();
    for (name, mode) in [
        ("m0000", 0),
        ("m4755", 0o4755),
        ("m2711", 0o2711),
        ("m0777", 0o777),
    ] {
        let path = folder.join(name);
        fs::write(&path, name).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir(folder.join("sticky")).unwrap();
    fs::set_permissions(folder.join("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
    let bytes: &[u8] = if restic.is_current() {
        b"to\xff\"<\n"
    } else {
        b"to\"<\n"
    };
    for (name, target) in [
        ("dangling", &b"nowhere/at all"[..]),
        ("absolute", b"/etc"),
        ("bytes", bytes),
    ] {
        std::os::unix::fs::symlink(OsStr::from_bytes(target), folder.join(name)).unwrap();
    }
    let epoch = SystemTime::UNIX_EPOCH;
    for (name, time) in [
        ("old", epoch - Duration::from_nanos(1)),
        ("ns", epoch + Duration::new(1_000_000_000, 1)),
        ("late", epoch + Duration::from_secs(4_102_444_801)),
    ] {
        let file = fs::File::create(folder.join(name)).unwrap();
        file.set_modified(time).unwrap();
    }
    shop
}

/// The paths that a listing names, in a form that both programs' JSON shares.
fn paths(nodes: &[Value], below: &Path) -> BTreeSet<String> {
    let below = format!("{}/", below.display());
    nodes
        .iter()
        .filter_map(|node| node["path"].as_str())
        .filter(|path| path.starts_with(&below))
        .map(str::to_owned)
        .collect()
}

#[test]
fn restic_reads_checks_and_restores_what_we_wrote() {
    each(|path| {
        let place = Place::new();
        let program = Program::with_repository(place.path());
        let restic = Restic::on(path, &program);
        let shop = difficult_shop(&place.join("shop"), &restic);
        restic.assert_clean();
        assert_eq!(restic.json(&["snapshots"]), [Value::Array(Vec::new())]);

        // With the connection open, the newest orders are in the -wal alone.
        let open = shop.connect();
        shop.sell(100);
        program.ok(&["backup", "--tag", "first", shop.folder.to_str().unwrap()]);
        shop.sell(10);
        let (_, said) = program.json(&["backup", shop.folder.to_str().unwrap()]);
        let newest = said.last().unwrap()["snapshot_id"]
            .as_str()
            .unwrap()
            .to_owned();
        drop(open);

        restic.assert_clean();
        let listed = restic.json(&["snapshots"]);
        let listed = listed[0].as_array().unwrap();
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[0]["tags"], serde_json::json!(["first"]));
        assert_eq!(listed[1]["id"], newest.as_str());
        assert_eq!(listed[1]["paths"][0], shop.folder.to_str().unwrap());

        let theirs = paths(&restic.json(&["ls", "latest"]), &shop.folder);
        let (_, ours) = program.json(&["ls", "latest"]);
        assert!(theirs.len() > 35, "{theirs:?}");
        assert_eq!(theirs, paths(&ours, &shop.folder));

        let target = place.join("restored");
        restic.ok(&["restore", "latest", "--target", target.to_str().unwrap()]);
        let copy = target.join(shop.folder.strip_prefix("/").unwrap());
        assert_eq!(difference(&shop.folder, &copy, &is_database), None);
        assert_eq!(
            Shop {
                folder: copy.clone(),
                database: copy.join("shop.db")
            }
            .orders(),
            410
        );
        let picture = shop.folder.join("large");
        let dumped = restic
            .command(&["dump", "latest", picture.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(dumped.status.success() && dumped.stdout == fs::read(&picture).unwrap());
        assert_manifest_is_true(&restic, &copy.join("shop.db"));

        if restic.is_current() {
            // Canonical trees and right totals: nothing to write anew.
            let run = restic.ok(&["rewrite", "--exclude", "nothing-matches", "latest"]);
            assert!(
                run.stdout.contains("no snapshots were modified"),
                "{}",
                run.stdout
            );
            let run = restic.ok(&["repair", "snapshots", "--dry-run"]);
            assert!(
                run.stdout.contains("no snapshots would be modified"),
                "{}",
                run.stdout
            );
        }
    });
}

/// The manifest, read by restic, against the copy that restic restored, judged by the system's SQLite.
fn assert_manifest_is_true(restic: &Restic, copy: &Path) {
    let dumped = restic.ok(&["dump", "latest", "/.tillsafe/manifest.json"]);
    let manifest: Value = serde_json::from_str(&dumped.stdout).unwrap();
    let described = &manifest["databases"][0];
    let judge = Run::of(
        Command::new(find("python3").expect("python3 is on every machine that runs these tests"))
            .args(["-c", include_str!("common/fingerprint.py")])
            .arg(copy)
            .arg(PageChunks::BySize.bytes(0, 4096).to_string()),
    );
    assert_eq!(judge.code, 0, "{}", judge.stderr);
    let found: Value = serde_json::from_str(&judge.stdout).unwrap();
    assert_eq!(described["fingerprint"], found["fingerprint"]);
    assert_eq!(described["image_sha256"], found["image_sha256"]);
    if let Some(shell) = find("sqlite3") {
        let run = Run::of(
            Command::new(shell)
                .arg(copy)
                .arg("PRAGMA integrity_check; SELECT count(*) FROM orders"),
        );
        assert_eq!(run.stdout, "ok\n410\n");
    } else {
        skipped("the stock sqlite3 shell", "`make tools` installs it");
    }
}

#[test]
fn we_check_list_and_restore_what_restic_wrote() {
    each(|path| {
        for (version, options) in [
            ("1", &[][..]),
            ("2", &["--compression", "off"]),
            ("2", &["--compression", "auto", "--pack-size", "4"]),
            ("2", &["--compression", "max"]),
        ] {
            let what = format!("version {version}, {options:?}");
            let place = Place::new();
            let program = Program::in_folder(place.path());
            fs::write(&program.password_file, "celadon\n").unwrap();
            fs::set_permissions(&program.password_file, fs::Permissions::from_mode(0o600)).unwrap();
            let restic = Restic::on(path, &program);
            let shop = difficult_shop(&place.join("shop"), &restic);
            restic.ok(&["init", "--repository-version", version]);
            let backup = [
                "backup",
                "--host",
                "till",
                "--tag",
                "a,b",
                shop.folder.to_str().unwrap(),
            ];
            restic.ok(&[options, &backup].concat());
            shop.sell(50);
            restic.ok(&[options, &backup].concat());

            program.ok(&["check", "--read-data"]);
            let (_, listed) = program.json(&["snapshots", "--host", "till"]);
            assert_eq!(listed.last().unwrap()["snapshots"], 2, "{what}");
            let (_, ours) = program.json(&["ls", "latest"]);
            let theirs = restic.json(&["ls", "latest"]);
            assert_eq!(
                paths(&ours, &shop.folder),
                paths(&theirs, &shop.folder),
                "{what}"
            );
            let target = place.join("restored");
            let from = format!("latest:{}", shop.folder.display());
            program.ok(&["restore", &from, "--target", target.to_str().unwrap()]);
            assert_eq!(
                difference(&shop.folder, &target, &is_database),
                None,
                "{what}"
            );
            assert_eq!(
                crate::common::shop::count_orders(&target.join("shop.db")),
                350,
                "{what}"
            );
            let (_, verified) = program.json(&["verify"]);
            assert_eq!(verified.last().unwrap()["proof_level"], "opened", "{what}");

            let ours = program.run(&["backup", shop.folder.to_str().unwrap()]);
            if version == "1" {
                assert_eq!(ours.code, 1, "{}", ours.stderr);
                assert!(ours.stderr.contains("migrate"), "{}", ours.stderr);
            } else {
                assert_eq!(ours.code, 0, "{what}: {}", ours.stderr);
            }
            restic.ok(&["check", "--read-data"]);
        }
    });
}

#[test]
fn the_two_build_on_each_others_snapshots() {
    each(|path| {
        let place = Place::new();
        let program = Program::with_repository(place.path());
        let restic = Restic::on(path, &program);
        let shop = difficult_shop(&place.join("shop"), &restic);
        let files = shop.folder.join("names");
        fs::write(files.join("large"), noise(9, 6 << 20)).unwrap();
        let (code, first) = program.json(&["backup", files.to_str().unwrap()]);
        assert_eq!(code, 0);
        assert!(first.last().unwrap()["added_bytes"].as_u64().unwrap() > 6 << 20);
        // The same cuts, the same trees: their parent is our snapshot, and nothing is new to them.
        let host = Run::of(&mut Command::new("/bin/hostname")).stdout;
        let theirs = restic.json(&["backup", "--host", host.trim(), files.to_str().unwrap()]);
        let summary = theirs.last().unwrap();
        assert_eq!(summary["files_unmodified"], 15, "{summary}");
        assert_eq!(summary["files_new"], 0, "{summary}");
        assert_eq!(summary["data_blobs"], 0, "{summary}");
        let (_, ours) = program.json(&["backup", files.to_str().unwrap()]);
        let added = ours.last().unwrap()["added_bytes"].as_u64().unwrap();
        assert!(added < 100_000, "{added} bytes");
        restic.assert_clean();
        // What restic drops and repacks, we go on reading.
        program.ok(&["backup", shop.folder.to_str().unwrap()]);
        restic.ok(&["forget", "--keep-last", "1", "--prune"]);
        program.ok(&["check", "--read-data"]);
        let (_, listed) = program.json(&["snapshots"]);
        assert_eq!(listed.last().unwrap()["snapshots"], 2);
        let (_, verified) = program.json(&["verify", "--path", shop.folder.to_str().unwrap()]);
        assert_eq!(verified.last().unwrap()["proof_level"], "matched");
        restic.assert_clean();
    });
}

/// While we read, somebody lists: our lock must be one that restic of that version understands.
#[test]
fn our_lock_is_understood_and_respected_in_both_versions() {
    each(|path| {
        for version in ["1", "2"] {
            let place = Place::new();
            let program = Program::in_folder(place.path());
            fs::write(&program.password_file, "celadon\n").unwrap();
            let restic = Restic::on(path, &program);
            restic.ok(&["init", "--repository-version", version]);
            let backend: Arc<dyn Backend> = Arc::new(LocalBackend::new(
                program.repository.clone(),
                Arc::new(OsDisk),
                Arc::new(SystemRng),
            ));
            let lock = open(&backend)
                .unwrap()
                .lock(Access::Shared, &Quiet::default())
                .unwrap();
            restic.ok(&["snapshots"]);
            let refused = Run::of(&mut restic.command(&["prune"]));
            assert_ne!(refused.code, 0, "{version}: {}", refused.stdout);
            assert!(
                refused.stderr.contains("already locked"),
                "{version}: {}",
                refused.stderr
            );
            drop(lock);
            restic.ok(&["prune"]);
        }
    });
}
