//! Snapshots made on Windows: drive letters as folders, nobody's files, the time of another zone, attributes that
//! mean nothing here. The trees are written by hand, letter for letter as restic on Windows writes them; stock
//! restic is the judge that they are such.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tillsafe::backend::{Class, Object};
use tillsafe::id::Id;
use tillsafe::monitor::Quiet;
use tillsafe::repository::pack::BlobKind;
use tillsafe::repository::tree::Content;

use super::{Restic, each, paths};
use crate::common::Place;
use crate::common::compare::difference;
use crate::common::forge::Forge;
use crate::common::library::open;
use crate::common::program::Program;
use crate::common::raw::RawBlob;
use crate::common::shop::{Shop, count_orders, noise};

/// Where the shop lies for everybody who is not Windows.
const SHOP: &str = "/C/Users/mara/shop";
/// Where it lay.
const ON_WINDOWS: &str = r"C:\Users\mara\shop";

const TIMES: &str = r#""mtime":"2026-03-01T20:15:50.2744859+01:00","atime":"2026-03-01T20:15:50.2744859+01:00","ctime":"2026-03-01T20:15:50.2744859+01:00""#;
const ATTRIBUTES: &str = r#","generic_attributes":{"windows.creation_time":{"LowDateTime":1459617792,"HighDateTime":31131203},"windows.file_attributes":32,"windows.security_descriptor":"AQAEgBQAAAAwAAAAAAAAAEwAAAABBQAAAAAABRUAAAA="}"#;

/// A node: `rest` is what comes between its owner, who is nobody, and its end.
fn node(name: &str, kind: &str, mode: u32, rest: &str) -> String {
    format!(r#"{{"name":"{name}","type":"{kind}","mode":{mode},{TIMES},"uid":0,"gid":0{rest}}}"#)
}

fn file(name: &str, mode: u32, blob: &RawBlob) -> String {
    let (size, id) = (blob.plain_length, blob.id);
    let rest = format!(r#","size":{size}{ATTRIBUTES},"content":["{id}"]"#);
    node(name, "file", mode, &rest)
}

fn folder(name: &str, tree: &RawBlob) -> String {
    let rest = format!(r#"{ATTRIBUTES},"content":null,"subtree":"{}""#, tree.id);
    node(name, "dir", 0x8000_01ff, &rest)
}

fn tree(forge: &Forge, nodes: &[String]) -> RawBlob {
    let text = format!("{{\"nodes\":[{}]}}\n", nodes.join(","));
    forge.blob(3, &[(text.as_bytes(), 1)])
}

/// Stores a snapshot of a shop whose notes are `notes`, at a minute.
fn on_windows(forge: &Forge, minute: u32, notes: &str, database: &[u8]) {
    let data = |bytes: &[u8]| forge.blob(2, &[(bytes, 1)]);
    let picture = noise(4, 70_000);
    let [sheet, database, notes, teapot] =
        [&b"celadon;12"[..], database, notes.as_bytes(), &picture].map(data);
    let link = r#","linktarget":"..\\archive\\2025""#;
    let pictures = tree(forge, &[file("teapot.jpg", 0o666, &teapot)]);
    let empty = format!(r#"{ATTRIBUTES},"content":[]"#);
    let shop = tree(
        forge,
        &[
            file(r"Müller \u0026 Söhne.csv", 0o666, &sheet),
            node("empty.txt", "file", 0o666, &empty),
            node(
                "last year",
                "symlink",
                0x0800_01ff,
                &format!("{link}{ATTRIBUTES},\"content\":null"),
            ),
            file("notes.txt", 0o444, &notes),
            folder("pictures", &pictures),
            file("shop.db", 0o666, &database),
        ],
    );
    let mara = tree(forge, &[folder("shop", &shop)]);
    let users = tree(forge, &[folder("mara", &mara)]);
    let drive = tree(forge, &[folder("Users", &users)]);
    let root = tree(forge, &[folder("C", &drive)]);
    let id = root.id;
    let bytes: u32 = [&sheet, &database, &notes, &teapot]
        .iter()
        .map(|blob| blob.plain_length)
        .sum();
    forge.store(&[teapot]);
    forge.store(&[sheet, database, notes]);
    forge.store(&[pictures, shop, mara, users, drive, root]);
    forge.put_snapshot(&json!({
        "time": format!("2026-03-01T20:{minute:02}:50.2744859+01:00"), "tree": id, "paths": [ON_WINDOWS],
        "hostname": "TILL-PC", "username": r"TILL-PC\mara", "program_version": "restic 0.18.0",
        "summary": {
            "backup_start": "2026-03-01T20:14:01+01:00", "backup_end": "2026-03-01T20:14:02+01:00",
            "files_new": 5, "dirs_new": 5, "data_blobs": 4, "tree_blobs": 6, "data_added": bytes,
            "data_added_packed": bytes, "total_files_processed": 5, "total_bytes_processed": bytes,
        },
    }));
}

/// A repository with two such snapshots, and the shop whose database is in them.
fn two_snapshots(place: &Place) -> Program {
    let program = Program::with_cheap_repository(place.path());
    let shop = Shop::open(&place.join("original"), 50, "delete");
    let database = fs::read(&shop.database).unwrap();
    let forge = Forge::open(&program.repository);
    on_windows(&forge, 15, "glaze: celadon", &database);
    on_windows(&forge, 16, "glaze: tenmoku", &database);
    program
}

fn last(program: &Program, words: &[&str]) -> Value {
    let (code, mut said) = program.json(words);
    assert_eq!(code, 0, "{words:?}: {said:?}");
    said.pop().unwrap()
}

#[test]
fn what_windows_stored_is_listed_read_and_restored_as_restic_does_it_here() {
    each(|path| {
        let place = Place::new();
        let program = two_snapshots(&place);
        let restic = Restic::on(path, &program);
        if restic.is_current() {
            // Stored as restic itself stores it: it would write nothing anew.
            let said = restic
                .ok(&["rewrite", "--exclude", "nothing-matches"])
                .stdout;
            assert!(said.contains("no snapshots were modified"), "{said}");
        }
        program.ok(&["check", "--read-data"]);
        let (_, ours) = program.json(&["ls", "latest"]);
        let theirs = restic.json(&["ls", "latest"]);
        let listed = paths(&ours, Path::new(SHOP));
        assert_eq!(listed, paths(&theirs, Path::new(SHOP)));
        assert_eq!(listed.len(), 7, "{listed:?}");
        // Whoever reads it on a terminal sees each backslash as one that is meant.
        let shown = ON_WINDOWS.replace('\\', r"\\");
        assert!(program.ok(&["snapshots"]).stdout.contains(&shown));
        let found = last(&program, &["snapshots", "--path", ON_WINDOWS]);
        assert_eq!(found["snapshots"], 2, "{found}");

        let [target, other] = ["ours", "theirs"].map(|name| place.join(name));
        let from = format!("latest:{SHOP}");
        program.ok(&["restore", &from, "--target", target.to_str().unwrap()]);
        restic.ok(&["restore", "latest", "--target", other.to_str().unwrap()]);
        let theirs = other.join(SHOP.trim_start_matches('/'));
        assert_eq!(difference(&theirs, &target, &|_| false), None);
        assert_eq!(
            fs::read_to_string(target.join("notes.txt")).unwrap(),
            "glaze: tenmoku"
        );
        let mode = fs::metadata(target.join("notes.txt"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o444, "a read-only file stays one");
        let text = fs::read_link(target.join("last year")).unwrap();
        assert_eq!(text, PathBuf::from(r"..\archive\2025"));
        assert_eq!(count_orders(&target.join("shop.db")), 50);
        assert_eq!(last(&program, &["verify"])["proof_level"], "opened");

        let picture = format!("{SHOP}/pictures/teapot.jpg");
        let dumped = program.command(&["dump", "latest", &picture]).output();
        assert!(dumped.unwrap().stdout == noise(4, 70_000));
        let found = program.ok(&["find", "teapot.jpg"]).stdout;
        assert!(found.contains(&picture), "{found}");
        let (_, listed) = program.json(&["snapshots"]);
        let ids = [0, 1].map(|number| listed[number]["id"].as_str().unwrap());
        let changed = program.ok(&["diff", ids[0], ids[1]]).stdout;
        assert!(changed.contains("notes.txt"), "{changed}");
        assert!(!changed.contains("teapot"), "{changed}");

        // What goes and what stays is decided as for any other.
        program.ok(&["forget", "--keep-last", "1"]);
        program.ok(&["prune", "--now"]);
        restic.assert_clean();
        assert_eq!(last(&program, &["verify"])["proof_level"], "opened");
    });
}

/// The nodes of the shop's folder in the only snapshot, as they are written.
fn nodes_of_shop(program: &Program) -> Vec<Box<RawValue>> {
    let repository = open(&program.backend()).unwrap();
    let quiet = Quiet::default();
    let index = repository.load_index(&quiet).unwrap();
    let mut tree = repository.snapshots(&quiet).unwrap().readable[0].file.tree;
    for name in SHOP.split('/').skip(1) {
        let nodes = repository.read_tree(&index, tree).unwrap();
        let node = nodes.iter().find(|node| node.entry.name == name).unwrap();
        let Content::Folder { tree: inner } = node.content else {
            panic!("{name} is a folder");
        };
        tree = inner;
    }
    let text = repository.read_blob(&index, BlobKind::Tree, tree).unwrap();
    let mut tree: BTreeMap<String, Vec<Box<RawValue>>> = serde_json::from_slice(&text).unwrap();
    tree.remove("nodes").unwrap()
}

/// A repair writes trees anew. What means nothing to this machine means something to theirs.
#[test]
fn what_means_nothing_here_is_kept_by_a_repair() {
    let place = Place::new();
    let program = two_snapshots(&place);
    program.ok(&["forget", "--keep-last", "1"]);
    let before = nodes_of_shop(&program);
    let forge = Forge::open(&program.repository);
    let notes = Id::of(b"glaze: tenmoku");
    let index = forge.repository.load_index(&Quiet::default()).unwrap();
    let location = index.locations(BlobKind::Data, notes).remove(0);
    let pack = program
        .repository
        .join(Object::Named(Class::Data, location.pack).to_string());
    let mut bytes = fs::read(&pack).unwrap();
    bytes[location.blob.offset as usize + 20] ^= 1;
    fs::write(&pack, bytes).unwrap();
    // It names what is lost.
    assert_eq!(program.run(&["repair", "packs"]).code, 4);
    program.ok(&["repair", "snapshots", "--forget"]);
    let after: Vec<String> = nodes_of_shop(&program)
        .iter()
        .map(ToString::to_string)
        .collect();
    let kept = before.iter().map(ToString::to_string);
    let kept: Vec<String> = kept.filter(|node| !node.contains("notes.txt")).collect();
    assert_eq!(after, kept);
    assert_eq!(after.len(), 5);
    assert!(
        after
            .iter()
            .all(|node| node.contains("windows.security_descriptor"))
    );
    for restic in Restic::all_on(&program) {
        restic.assert_clean();
    }
}
