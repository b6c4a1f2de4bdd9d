//! Every kind of item and of content, stored by one of the two and restored by the other.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tillsafe::entry::Kind;
use tillsafe::id::Id;
use tillsafe::monitor::Quiet;
use tillsafe::repository::pack::BlobKind;
use tillsafe::repository::tree::{self, Content, Node};
use tillsafe::repository::writer::Writer;

use super::{Restic, each, made_by, paths};
use crate::common::Place;
use crate::common::compare::difference;
use crate::common::forge::{Forge, entry};
use crate::common::library::open;
use crate::common::program::Program;
use crate::common::shop::noise;

const MIB: usize = 1 << 20;

/// A folder with all that a file system holds and both restore.
pub fn every_kind(folder: &Path) {
    fs::create_dir(folder).unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    let half = 512 << 10;
    for size in [
        0,
        1,
        half - 1,
        half,
        half + 1,
        8 * MIB - 1,
        8 * MIB,
        8 * MIB + 1,
    ] {
        fs::write(folder.join(size.to_string()), noise(size as u64, size)).unwrap();
    }
    let names = folder.join("names");
    fs::create_dir(&names).unwrap();
    for byte in (1..=255_u8).filter(|byte| *byte != b'/') {
        fs::write(names.join(OsStr::from_bytes(&[b'n', byte])), [byte]).unwrap();
    }
    for name in ["...", ".leading", "trailing.", &"n".repeat(255)] {
        fs::write(names.join(name), name).unwrap();
    }
    let links = folder.join("links");
    fs::create_dir(&links).unwrap();
    std::os::unix::fs::symlink("a/".repeat(2047) + "b", links.join("long")).unwrap();
    std::os::unix::fs::symlink(".", links.join("itself")).unwrap();
    for (name, of) in [("two", "8388608"), ("three", "8388608"), ("other", "1")] {
        fs::hard_link(folder.join(of), links.join(name)).unwrap();
    }
    let holes = fs::File::create(folder.join("holes")).unwrap();
    holes.set_len(64 * MIB as u64).unwrap();
    holes.write_all_at(b"island", 33 * MIB as u64 + 5).unwrap();
    for (number, mode) in [0o6711, 0o2755, 0o4755, 0o0777, 0].into_iter().enumerate() {
        let path = folder.join(format!("mode-{number}"));
        fs::write(&path, "m").unwrap();
        let owner = [0, 65_534, 4_294_967_294, 1, 12_345][number];
        chown(&path, Some(owner), Some(owner)).expect("the tests run as root");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let epoch = SystemTime::UNIX_EPOCH;
    for (name, time) in [
        ("epoch", epoch),
        ("before", epoch - Duration::from_secs(1)),
        ("just-before", epoch - Duration::from_nanos(1)),
        ("1901", epoch - Duration::from_secs(2_147_483_648)),
        ("2261", epoch + Duration::new(9_200_000_000, 999_999_999)),
    ] {
        let file = fs::File::create(folder.join(name)).unwrap();
        file.set_modified(time).unwrap();
    }
    let many = folder.join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..3000 {
        fs::write(many.join(format!("{number:04}")), "").unwrap();
    }
    let mut deep = folder.join("deep");
    fs::create_dir(&deep).unwrap();
    for _ in 0..1000 {
        deep.push("ab");
        fs::create_dir(&deep).unwrap();
    }
    fs::write(deep.join("end"), "the end").unwrap();
}

/// Names of one file are names of one file again.
fn assert_links_are_links(copy: &Path) {
    let inode = |name: &str| fs::metadata(copy.join(name)).unwrap().ino();
    assert_eq!(inode("8388608"), inode("links/two"));
    assert_eq!(inode("8388608"), inode("links/three"));
    assert_eq!(inode("1"), inode("links/other"));
}

fn below(target: &Path, folder: &Path) -> PathBuf {
    target.join(folder.strip_prefix("/").unwrap())
}

#[test]
fn restic_restores_every_kind_of_item_that_we_store() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let folder = place.join("kinds");
    every_kind(&folder);
    let nothing = place.join("nothing");
    fs::create_dir(&nothing).unwrap();
    program.ok(&["backup", nothing.to_str().unwrap()]);
    program.ok(&["backup", folder.to_str().unwrap()]);
    each(|path| {
        let restic = Restic::on(path, &program);
        restic.assert_clean();
        let target = place.join("restored");
        let words = ["restore", "latest", "--target", target.to_str().unwrap()];
        restic.ok(&[&words[..], &["--path", folder.to_str().unwrap()]].concat());
        let copy = below(&target, &folder);
        assert_eq!(difference(&folder, &copy, &|_| false), None);
        assert_links_are_links(&copy);
        fs::remove_dir_all(&target).unwrap();
        restic.ok(&[&words[..], &["--path", nothing.to_str().unwrap()]].concat());
        assert_eq!(fs::read_dir(below(&target, &nothing)).unwrap().count(), 0);
        fs::remove_dir_all(&target).unwrap();
        if restic.is_current() {
            for (words, says) in [
                (&["rewrite", "--exclude", "nothing-matches"][..], "were"),
                (&["repair", "snapshots", "--dry-run"], "would be"),
            ] {
                let said = restic.ok(words).stdout;
                let says = format!("no snapshots {says} modified");
                assert!(said.contains(&says), "{said}");
            }
        }
    });
}

#[test]
fn we_restore_every_kind_of_item_that_restic_stores() {
    each(|path| {
        let place = Place::new();
        let program = Program::in_folder(place.path());
        let restic = Restic::on(path, &program);
        made_by(&restic, &program, "2");
        let folder = place.join("kinds");
        every_kind(&folder);
        restic.ok(&["backup", folder.to_str().unwrap()]);
        program.ok(&["check", "--read-data"]);
        let (_, ours) = program.json(&["ls", "latest"]);
        let theirs = restic.json(&["ls", "latest"]);
        assert_eq!(paths(&ours, &folder), paths(&theirs, &folder));
        let target = place.join("restored");
        let from = format!("latest:{}", folder.display());
        program.ok(&["restore", &from, "--target", target.to_str().unwrap()]);
        assert_eq!(difference(&folder, &target, &|_| false), None);
        assert_trees_are_canonical(&program);
    });
}

/// Each tree that restic wrote, read and written by us, is the same bytes again.
fn assert_trees_are_canonical(program: &Program) {
    let repository = open(&program.backend()).unwrap();
    let index = repository.load_index(&Quiet::default()).unwrap();
    let packs = index.packs();
    let blobs = packs.values().flatten();
    let trees: Vec<Id> = blobs
        .filter(|blob| blob.kind == BlobKind::Tree)
        .map(|blob| blob.id)
        .collect();
    assert!(trees.len() > 1000, "{}", trees.len());
    for id in trees {
        let bytes = repository.read_blob(&index, BlobKind::Tree, id).unwrap();
        let nodes = tree::from_bytes(&bytes).unwrap();
        assert_eq!(Id::of(&tree::to_bytes(&nodes)), id, "{nodes:?}");
    }
}

/// A file of these chunks, and the hash of the whole.
fn file_of(writer: &Writer, name: &str, chunks: &[Vec<u8>]) -> (Node, Id) {
    let stored: Vec<_> = chunks
        .iter()
        .map(|chunk| writer.store(BlobKind::Data, chunk.clone()).unwrap())
        .collect();
    let blobs = stored.into_iter().map(|blob| blob.wait().unwrap());
    let whole = chunks.concat();
    let content = Content::File {
        blobs: blobs.collect(),
        size: whole.len() as u64,
    };
    let entry = entry(name.as_ref(), Kind::File, 0o644);
    (Node { entry, content }, Id::of(&whole))
}

/// Chunks of any size, more of them than one index file lists, one of them very often; and times
/// that hardly a file system holds.
#[test]
fn restic_restores_files_cut_in_every_way() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let folder = place.join("shop");
    fs::create_dir(&folder).unwrap();
    program.ok(&["backup", folder.to_str().unwrap()]);
    let small = |number: u64| noise(number, 16);
    let files: [(&str, Vec<Vec<u8>>); 6] = [
        ("fixed", (0..40).map(|n| noise(n, 64 << 10)).collect()),
        (
            "large",
            vec![noise(7, 1000).repeat(16 * MIB / 1000), noise(8, 20 * MIB)],
        ),
        ("many", (0..60_000).map(small).collect()),
        (
            "mixed",
            [4096, MIB, 16_384, 1, 3 * MIB, 4096]
                .map(|size| noise(size as u64, size))
                .to_vec(),
        ),
        ("pages", (100..300).map(|n| noise(n, 4096)).collect()),
        ("same", vec![small(1); 100_000]),
    ];
    let mut expected = Vec::new();
    Forge::open(&program.repository).snapshot(|_, writer, root| {
        root.clear();
        for (name, chunks) in &files {
            let (node, hash) = file_of(writer, name, chunks);
            expected.push((*name, hash));
            root.push(node);
        }
    });
    Forge::open(&program.repository).snapshot(|_, _, root| {
        root.clear();
        for (name, second) in [
            ("1677", -9_223_372_036),
            ("2262", 9_223_372_036),
            ("9999", 253_402_207_200),
            ("year-0", -62_167_219_200),
        ] {
            let mut entry = entry(name.as_ref(), Kind::File, 0o644);
            entry.modified = Timestamp::from_second(second).unwrap();
            entry.changed = entry.modified;
            root.push(Node {
                entry,
                content: Content::File {
                    blobs: Vec::new(),
                    size: 0,
                },
            });
        }
    });
    let (_, listed) = program.json(&["snapshots"]);
    let id = |number: usize| listed[number]["id"].as_str().unwrap().to_owned();
    each(|path| {
        let restic = Restic::on(path, &program);
        restic.assert_clean();
        let target = place.join("restored");
        restic.ok(&["restore", &id(1), "--target", target.to_str().unwrap()]);
        for (name, hash) in &expected {
            assert_eq!(
                Id::of(&fs::read(target.join(name)).unwrap()),
                *hash,
                "{name}"
            );
        }
        fs::remove_dir_all(&target).unwrap();
        let times = restic.json(&["ls", &id(2)]);
        let of_9999 = times.iter().find(|node| node["name"] == "9999").unwrap();
        assert!(
            of_9999["mtime"].as_str().unwrap().starts_with("9999-12-3"),
            "{of_9999}"
        );
    });
    let target = place.join("restored");
    program.ok(&["restore", &id(1), "--target", target.to_str().unwrap()]);
    for (name, hash) in &expected {
        assert_eq!(
            Id::of(&fs::read(target.join(name)).unwrap()),
            *hash,
            "{name}"
        );
    }
}
