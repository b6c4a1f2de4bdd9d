//! `dump`: the bytes that were stored, in archives that GNU tar and Python read, and never half of them
//! with exit code 0.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use tillsafe::durable::OsDisk;
use tillsafe::durable::faults::{Fault, FaultyDisk};
use tillsafe::look::{Dump, NewFile, Sink, locate};
use tillsafe::monitor::Quiet;
use tillsafe::rng::SystemRng;

use super::compare::difficult_shop;
use super::{bytes, word};
use crate::common::Place;
use crate::common::compare::{difference, is_database};
use crate::common::files::{files_below, make_pipe, names_with};
use crate::common::forge::{Forge, Thing};
use crate::common::library::{back_up, open};
use crate::common::program::Program;
use crate::common::restic::Restic;
use crate::common::shop::{Shop, count_orders, noise};
use crate::common::terminal::shown;
use crate::common::tools::{find, skipped};

fn stored() -> (Place, Shop, Program) {
    let place = Place::new();
    let shop = difficult_shop(&place.join("shop"));
    let program = Program::with_cheap_repository(place.path());
    back_up(&program.backend(), &shop.folder).unwrap();
    (place, shop, program)
}

/// Unpacks an archive with GNU tar into a new folder.
fn unpack(archive: &[u8], folder: &Path, options: &[&str]) {
    fs::create_dir(folder).unwrap();
    let mut tar = Command::new(find("tar").expect("GNU tar is everywhere"));
    tar.env_clear()
        .args(["-x", "-p", "-f", "-", "-C"])
        .arg(folder);
    let mut tar = tar
        .args(options)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = tar.stdin.take().unwrap();
    input.write_all(archive).unwrap();
    drop(input);
    let output = tar.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // It finds any time before 1970 worth a word.
    let mut others = said
        .lines()
        .filter(|line| !line.contains("implausibly old time"));
    assert!(
        output.status.success() && others.next().is_none(),
        "tar: {said}"
    );
}

/// What Python's tarfile makes of an archive: a line a member.
fn python_lists(archive: &[u8]) -> Option<Vec<String>> {
    const LIST: &str = "
import hashlib, os, sys, tarfile
with tarfile.open(fileobj=sys.stdin.buffer, mode='r|') as archive:
    for member in archive:
        content = archive.extractfile(member).read() if member.isreg() else b''
        print(os.fsencode(member.name).hex(), member.type.decode(), oct(member.mode), member.size,
              os.fsencode(member.linkname).hex(), round(member.mtime, 6), hashlib.sha256(content).hexdigest(), sep='|')
";
    let mut python = Command::new(find("python3")?);
    let mut python = python
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .args(["-I", "-c", LIST])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = python.stdin.take().unwrap();
    let archive = archive.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&archive));
    let output = python.wait_with_output().unwrap();
    // Python may close its end after the end marker.
    let _ = writer.join().unwrap();
    assert!(output.status.success());
    Some(
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect(),
    )
}

#[test]
fn a_file_comes_out_as_it_was_stored() {
    let (place, shop, program) = stored();
    let stock = Restic::newest_on(&program);
    for path in files_below(&shop.folder) {
        if is_database(&path) || path.is_symlink() {
            continue;
        }
        let stored = fs::read(&path).unwrap();
        let mut command = program.command(&["dump", "latest"]);
        let output = command.arg(&path).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stdout == stored, "{}", path.display());
        if let (Some(stock), Some(path)) = (&stock, path.to_str()) {
            assert!(stock.bytes(&["dump", "latest", path]) == stored, "{path}");
        }
    }
    // A database is the image that was captured: whole, without its log.
    let image = place.join("image.db");
    let database = format!("latest:{}", shop.database.display());
    let run = program.ok(&["dump", &database, "--target", word(&image)]);
    assert!(run.stdout.starts_with("wrote "), "{}", run.stdout);
    assert_eq!(count_orders(&image), 300);
    assert_eq!(fs::metadata(&image).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn an_archive_is_read_by_gnu_tar_and_is_the_folder() {
    let (place, shop, program) = stored();
    let folder = format!("latest:{}", shop.folder.display());
    let (code, archive, said) = bytes(&program, &["dump", &folder]);
    assert_eq!((code, said.as_str()), (0, ""));
    let target = place.join("target");
    unpack(&archive, &target, &[]);
    assert_eq!(difference(&shop.folder, &target, &is_database), None);
    assert_eq!(count_orders(&target.join("shop.db")), 300);
    let inode = |name: &str| fs::metadata(target.join(name)).unwrap().ino();
    assert_eq!(inode("large"), inode("large too"), "one file");
    assert_eq!(inode("notes.txt"), inode("names/notes"), "one file");
    // Whole paths, and what lies on the way is there with its own mode.
    let (_, whole, _) = bytes(&program, &["dump", "latest"]);
    let target = place.join("whole");
    unpack(&whole, &target, &[]);
    let inner = target.join(shop.folder.strip_prefix("/").unwrap());
    assert_eq!(difference(&shop.folder, &inner, &is_database), None);
    assert!(
        !target.join(".tillsafe").exists(),
        "our own facts are no part of the shop"
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().mode();
    assert_eq!(mode(&inner), mode(&shop.folder));
    // The same with a path after the snapshot.
    let pictures = shop.folder.join("pictures");
    let (_, archive, _) = bytes(&program, &["dump", &folder, "pictures"]);
    let target = place.join("pictures");
    unpack(&archive, &target, &[]);
    assert_eq!(
        difference(&pictures, &target.join("pictures"), &|_| false),
        None
    );
    assert_eq!(names_with(&target, ""), ["pictures"]);
}

#[test]
fn an_archive_is_read_by_python_and_holds_what_restics_holds() {
    let (_place, shop, program) = stored();
    let (_, ours, _) = bytes(&program, &["dump", "latest", word(&shop.folder)]);
    let Some(ours) = python_lists(&ours) else {
        return skipped("an archive for Python", "there is no python3");
    };
    let folder = shop.folder.strip_prefix("/").unwrap();
    let hex = |path: &Path| -> String {
        let bytes = path.as_os_str().as_bytes().iter();
        let digits: Vec<String> = bytes.map(|byte| format!("{byte:02x}")).collect();
        digits.concat()
    };
    for path in files_below(&shop.folder) {
        if is_database(&path) {
            continue;
        }
        let name = hex(&folder.join(path.strip_prefix(&shop.folder).unwrap()));
        let line = ours
            .iter()
            .find(|line| line.starts_with(&format!("{name}|")));
        assert!(line.is_some(), "{} is missing", path.display());
    }
    let Some(stock) = Restic::newest_on(&program) else {
        return;
    };
    let theirs = stock.bytes(&["dump", "latest", word(&shop.folder)]);
    let theirs = python_lists(&theirs).unwrap();
    let mut compared = 0;
    for line in &theirs {
        let name = line.split('|').next().unwrap();
        let found = ours
            .iter()
            .find(|line| line.split('|').next() == Some(name));
        let found = found.unwrap_or_else(|| panic!("{line} is missing"));
        let kind = |line: &str| line.split('|').nth(1).unwrap().to_owned();
        // A further name of a file is a file of its own there.
        if kind(found) == "1" {
            continue;
        }
        // Its times are whole seconds.
        let all_but_time = |line: &str| -> Vec<String> {
            let mut fields: Vec<String> = line.split('|').map(str::to_owned).collect();
            fields.remove(5);
            fields
        };
        assert_eq!(all_but_time(found), all_but_time(line));
        let time = |line: &str| line.split('|').nth(5).unwrap().parse::<f64>().unwrap();
        assert!((time(found) - time(line)).abs() <= 1.0, "{found} {line}");
        compared += 1;
    }
    assert!(compared > 15, "only {compared}");
}

#[test]
fn pipes_devices_and_attributes_are_in_the_archive() {
    use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 5, "delete");
    let program = Program::with_cheap_repository(place.path());
    make_pipe(&shop.folder.join("pipe"));
    let null = shop.folder.join("null");
    let made = mknodat(
        CWD,
        &null,
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        makedev(1, 259),
    );
    let notes = shop.folder.join("notes.txt");
    let marked = setxattr(&notes, "user.glaze", b"cela\0don\xff", XattrFlags::empty());
    program.ok(&["backup", word(&shop.folder)]);
    let folder = format!("latest:{}", shop.folder.display());
    let (code, archive, said) = bytes(&program, &["dump", &folder]);
    assert_eq!((code, said.as_str()), (0, ""));
    let target = place.join("target");
    unpack(&archive, &target, &["--xattrs"]);
    let kind = |name: &str| fs::symlink_metadata(target.join(name)).unwrap().mode() & 0o170_000;
    assert_eq!(kind("pipe"), 0o010_000);
    if made.is_ok() {
        assert_eq!(kind("null"), 0o020_000);
        let number = |path: &Path| fs::symlink_metadata(path).unwrap().rdev();
        assert_eq!(number(&target.join("null")), number(&null));
    } else {
        skipped("a device in an archive", "making one needs root");
    }
    if marked.is_ok() {
        let mut value = [0; 64];
        let length =
            rustix::fs::getxattr(target.join("notes.txt"), "user.glaze", &mut value).unwrap();
        assert_eq!(&value[..length], b"cela\0don\xff");
    } else {
        skipped("an attribute in an archive", "this file system takes none");
    }
}

#[test]
fn what_an_archive_cannot_hold_is_named() {
    let (_place, _shop, program) = stored();
    let forge = Forge::open(&program.repository);
    forge.snapshot_of_all(&[
        ("odd", &Thing::Special("irregular")),
        ("socket", &Thing::Special("socket")),
    ]);
    let (code, archive, said) = bytes(&program, &["dump", "latest"]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("/odd") && said.contains("/socket"), "{said}");
    assert_eq!(python_lists(&archive), Some(vec![]));
}

#[test]
fn a_file_of_more_than_8_gib_has_its_size() {
    let (_place, _shop, program) = stored();
    let thing = Thing::File {
        bytes: vec![0; 8 << 20],
        times: 1025,
    };
    Forge::open(&program.repository).snapshot_of("huge", &thing);
    let mut dump = program.command(&["dump", "latest"]);
    let mut dump = dump
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = vec![0; 4096];
    dump.stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    // Whoever has seen enough goes away: what they have is not all, and no script may take it for all.
    drop(dump.stdout.take());
    let output = dump.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("whoever reads it has stopped"), "{said}");
    let text = String::from_utf8_lossy(&first);
    assert!(
        text.contains(&format!("size={}\n", 1025_u64 << 23)),
        "{text}"
    );
}

#[test]
fn who_has_seen_enough_of_a_list_ends_it_quietly_and_a_dump_is_cut() {
    let (_place, shop, program) = stored();
    for (code, words) in [
        (1, &["dump", "latest"][..]),
        (1, &["dump", "latest", word(&shop.folder.join("large"))]),
        (0, &["find", "*"]),
        (0, &["list", "blobs"]),
        (0, &["ls", "latest"]),
    ] {
        let command = program.command(words);
        let mut shell = Command::new("/bin/sh");
        shell.env_clear().args([
            "-c",
            "{ \"$@\"; echo $? >&2; } | head -c 10 >/dev/null",
            "sh",
        ]);
        shell.arg(command.get_program()).args(command.get_args());
        let output = shell.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last();
        assert_eq!(last, Some(code.to_string().as_str()), "{words:?}: {said}");
        assert_eq!(said.contains("error: "), code == 1, "{words:?}: {said}");
    }
}

#[test]
fn at_the_first_damage_it_ends_and_says_so() {
    let (place, shop, program) = stored();
    let large = shop.folder.join("large");
    let stored = fs::read(&large).unwrap();
    for pack in files_below(&program.repository.join("data")) {
        if fs::metadata(&pack).unwrap().len() > 1 << 20 {
            // In places that are not all another file's, in whatever order their blobs were stored.
            let mut bytes = fs::read(&pack).unwrap();
            for quarter in 1..4 {
                let at = bytes.len() / 4 * quarter;
                bytes[at] ^= 1;
            }
            fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
            fs::write(&pack, bytes).unwrap();
        }
    }
    let (code, stdout, said) = bytes(&program, &["dump", "latest", word(&large)]);
    assert_eq!(code, 4, "{said}");
    assert!(
        stdout.len() < stored.len() && stored.starts_with(&stdout),
        "only what was verified"
    );
    assert!(
        said.contains("the output is not whole") && said.contains("/large"),
        "{said}"
    );
    let (code, archive, said) = bytes(&program, &["dump", "latest"]);
    assert_eq!(code, 4, "{said}");
    assert!(!archive.ends_with(&[0; 1024]), "no end that looks whole");
    let target = place.join("large");
    let run = program.run(&["dump", "latest", word(&large), "--target", word(&target)]);
    assert_eq!(run.code, 4, "{}", run.text());
    assert!(!target.exists(), "nothing under the name");
    assert_eq!(
        names_with(place.path(), ".tillsafe-dump"),
        Vec::<String>::new()
    );
    // What lies in other packs is whole.
    let notes = shop.folder.join("pictures/old/cup.jpg");
    let (code, stdout, _) = bytes(&program, &["dump", "latest", word(&notes)]);
    assert!(code == 4 || (code == 0 && stdout == fs::read(&notes).unwrap()));
}

#[test]
fn a_size_that_lies_stops_it_before_a_header_does() {
    let (_place, _shop, program) = stored();
    let lie = Thing::Lie {
        bytes: noise(6, 1000),
        size: 1001,
    };
    Forge::open(&program.repository).snapshot_of("lie", &lie);
    for words in [&["dump", "latest"][..], &["dump", "latest:/lie"]] {
        let (code, stdout, said) = bytes(&program, words);
        assert_eq!((code, stdout.len()), (4, 0), "{said}");
        assert!(said.contains("its folder says 1001"), "{said}");
    }
}

#[test]
fn nothing_is_overwritten_and_words_that_do_not_fit_are_refused() {
    let (place, shop, program) = stored();
    let notes = shop.folder.join("notes.txt");
    let taken = place.join("taken");
    fs::write(&taken, "mine").unwrap();
    let dangling = place.join("dangling");
    std::os::unix::fs::symlink(place.join("outside"), &dangling).unwrap();
    let link = shop.folder.join("main.jpg");
    for (words, code) in [
        (vec!["--target", word(&taken)], 20),
        (vec!["--target", word(&dangling)], 20),
        (vec!["--target", "/no/such/folder/file"], 1),
        (vec!["--json"], 2),
        (vec!["--archive", "zip"], 2),
    ] {
        let run = program.run(&[&["dump", "latest", word(&notes)], words.as_slice()].concat());
        assert_eq!(run.code, code, "{words:?}: {}", run.text());
    }
    assert_eq!(fs::read(&taken).unwrap(), b"mine");
    assert!(!place.join("outside").exists());
    for (path, code) in [("/no/such", 13), (word(&link), 13), ("../etc", 2)] {
        let run = program.run(&["dump", "latest", path]);
        assert_eq!(run.code, code, "{path}: {}", run.text());
    }
    let json = place.join("json");
    let (code, objects) = program.json(&["dump", "latest", word(&notes), "--target", word(&json)]);
    assert_eq!(code, 0);
    assert_eq!(
        objects.last().unwrap()["written_bytes"],
        fs::metadata(&notes).unwrap().len()
    );
}

#[test]
fn a_terminal_gets_text_and_nothing_that_it_would_obey() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 5, "delete");
    fs::write(shop.folder.join("evil.txt"), "a\x1b[2Jb").unwrap();
    let program = Program::with_cheap_repository(place.path());
    back_up(&program.backend(), &shop.folder).unwrap();
    for (name, code) in [
        ("notes.txt", 0),
        ("evil.txt", 2),
        ("pictures", 2),
        ("pictures/teapot.jpg", 2),
    ] {
        let path = shop.folder.join(name);
        let command = program.command(&["dump", "latest", word(&path)]);
        let Some(run) = shown(&command) else {
            return skipped("dump on a terminal", "there is no python3");
        };
        assert_eq!(run.code, code, "{name}: {:.300}", run.stdout);
        assert_eq!(run.stdout.contains("glaze: celadon"), code == 0);
        assert!(!run.stdout.contains("\x1b[2J"), "{name}");
    }
}

#[test]
fn a_folder_of_very_many_files_takes_bounded_memory() {
    const FILES: usize = 20_000;
    let place = Place::new();
    let folder = place.join("many");
    fs::create_dir(&folder).unwrap();
    for number in 0..FILES {
        fs::write(folder.join(format!("{number:06}")), number.to_string()).unwrap();
    }
    let program = Program::with_cheap_repository(place.path());
    back_up(&program.backend(), &folder).unwrap();
    let target = place.join("many.tar");
    for words in [
        &["dump", "latest", "--target", word(&target)][..],
        &["find", "019999"],
        &["stats", "latest"],
    ] {
        let measured = crate::common::measure::measured(
            &program.command(words),
            std::time::Duration::from_mins(2),
        );
        assert_eq!(measured.run.code, 0, "{}", measured.run.text());
        println!(
            "{}: {} MiB, {:?}",
            words[0],
            measured.peak >> 20,
            measured.time
        );
        assert!(measured.peak < 200 << 20, "{} MiB", measured.peak >> 20);
    }
    let listed = python_lists(&fs::read(&target).unwrap());
    let files = listed.map_or(FILES, |lines| {
        lines
            .iter()
            .filter(|line| line.split('|').nth(1) == Some("0"))
            .count()
    });
    assert_eq!(files, FILES);
}

#[test]
fn a_failing_disk_leaves_nothing_under_the_name_that_is_not_whole() {
    let (place, shop, program) = stored();
    let quiet = Quiet::default();
    let repository = open(&program.backend()).unwrap();
    let index = repository.load_index(&quiet).unwrap();
    let snapshot = repository.snapshots(&quiet).unwrap().readable.remove(0);
    let path = shop.folder.join("large");
    let stored = fs::read(&path).unwrap();
    for fault_at in [Fault::once, Fault::from_there_on] {
        let (mut failed, mut operations) = (0, 0);
        for number in 1.. {
            let folder = place.join(&format!("disk-{failed}-{number}"));
            fs::create_dir(&folder).unwrap();
            let file = NewFile::at(folder.join("file")).unwrap();
            let fault = fault_at(number);
            let disk = FaultyDisk::new(OsDisk, Arc::clone(&fault));
            let dump = Dump {
                images: tillsafe::look::Images::default(),
                snapshot: &snapshot,
                base: "/".into(),
                path: path.clone(),
                found: locate(&repository, &index, &snapshot, &path).unwrap(),
            };
            let write = |sink: Sink<'_>| dump.write(&repository, &index, sink, &quiet);
            let result = file.fill(&disk, &SystemRng, write, &quiet);
            let is_there = file.path().exists();
            assert!(
                is_there || result.is_err(),
                "operation {number}: done, and not there"
            );
            assert!(
                !is_there || fs::read(file.path()).unwrap() == stored,
                "operation {number}"
            );
            if !fault.fired() {
                result.unwrap();
                operations = number - 1;
                break;
            }
            failed += usize::from(!is_there);
            // The same again, once the disk is well: the name is free, or holds the whole.
            match NewFile::at(folder.join("file")) {
                Ok(_) => assert!(!is_there),
                Err(cause) => assert!(is_there, "{cause}"),
            }
        }
        println!("{operations} operations failed in turn, {failed} left no file");
        // Create, several writes, sync, rename; the sync of the folder comes after the name.
        assert!(operations >= 6 && failed >= 5, "{operations} {failed}");
        for folder in names_with(place.path(), "disk-") {
            fs::remove_dir_all(place.join(&folder)).unwrap();
        }
    }
}

/// A path that is not UTF-8, as the test's own files have it.
#[test]
fn a_name_of_any_bytes_is_a_word() {
    let (_place, shop, program) = stored();
    let name = OsStr::from_bytes(b"\xff\xfebytes");
    let path: PathBuf = shop.folder.join("names").join(name);
    let mut command = program.command(&["dump", "latest"]);
    let output = command.arg(&path).output().unwrap();
    assert_eq!(output.stdout, fs::read(&path).unwrap());
}
