//! Repositories of other days and other hands: old ones, upgraded ones, odd indexes and odd packs.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tillsafe::id::Id;

use super::{Restic, each, made_by};
use crate::common::Place;
use crate::common::compare::{difference, is_database};
use crate::common::files::files_below;
use crate::common::forge::Forge;
use crate::common::program::Program;
use crate::common::raw::{RawBlob, file_node, tree_json};
use crate::common::shop::{Shop, noise};

/// Restores the latest snapshot of the shop and compares it, but for the database.
fn assert_restores(program: &Program, shop: &Shop, target: &Path) {
    let from = format!("latest:{}", shop.folder.display());
    program.ok(&["restore", &from, "--target", target.to_str().unwrap()]);
    assert_eq!(difference(&shop.folder, target, &is_database), None);
    fs::remove_dir_all(target).unwrap();
}

#[test]
fn a_repository_of_version_1_is_read_and_once_upgraded_written_as_well() {
    each(|path| {
        let place = Place::new();
        let program = Program::in_folder(place.path());
        let restic = Restic::on(path, &program);
        made_by(&restic, &program, "1");
        let shop = Shop::open(&place.join("shop"), 50, "wal");
        let folder = shop.folder.to_str().unwrap();
        restic.ok(&["backup", "--host", "till", folder]);
        program.ok(&["check", "--read-data"]);
        let (_, verified) = program.json(&["verify"]);
        assert_eq!(verified.last().unwrap()["proof_level"], "opened");
        assert_restores(&program, &shop, &place.join("restored"));
        assert_eq!(program.run(&["backup", folder]).code, 1);

        restic.ok(&["migrate", "upgrade_repo_v2"]);
        program.ok(&["check", "--read-data"]);
        // From here on compressed beside not compressed.
        fs::write(shop.folder.join("notes.txt"), "glaze: shino\n".repeat(3000)).unwrap();
        program.ok(&["backup", "--host", "till", folder]);
        restic.ok(&["check", "--read-data"]);
        program.ok(&["check", "--read-data"]);
        assert_restores(&program, &shop, &place.join("restored"));
        restic.ok(&["prune", "--repack-uncompressed"]);
        program.ok(&["check", "--read-data"]);
        let (_, verified) = program.json(&["verify"]);
        assert_eq!(verified.last().unwrap()["proof_level"], "matched");
        restic.assert_clean();
    });
}

#[test]
fn streams_hosts_tags_excludes_and_other_times_are_read() {
    each(|path| {
        let place = Place::new();
        let program = Program::in_folder(place.path());
        let restic = Restic::on(path, &program);
        made_by(&restic, &program, "2");
        let shop = Shop::open(&place.join("shop"), 50, "delete");
        let folder = shop.folder.to_str().unwrap();
        let mut stream = restic
            .command(&[
                "backup",
                "--stdin",
                "--stdin-filename",
                "orders.csv",
                "--tag",
                "stream",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let orders = noise(4, 3_000_000);
        stream.stdin.take().unwrap().write_all(&orders).unwrap();
        assert!(stream.wait().unwrap().success());
        for (host, tags, time) in [
            ("till", "a,b", "1995-06-07 08:09:10"),
            ("till", "c", "2020-02-29 23:59:59"),
            ("office", "a", "2038-01-19 03:14:08"),
        ] {
            restic.ok(&[
                "backup",
                "--host",
                host,
                "--tag",
                tags,
                "--time",
                time,
                "--with-atime",
                "--exclude",
                "*.jpg",
                "--pack-size",
                "128",
                "--compression",
                "max",
                folder,
            ]);
        }
        program.ok(&["check", "--read-data"]);
        for (filter, count) in [
            (&["--tag", "stream"][..], 1),
            (&["--host", "till"], 2),
            (&["--tag", "a"], 2),
            (&["--host", "till", "--tag", "a"], 1),
            (&["--path", folder], 3),
            (&[], 4),
        ] {
            let (_, listed) = program.json(&[&["snapshots"], filter].concat());
            assert_eq!(listed.last().unwrap()["snapshots"], count, "{filter:?}");
        }
        let target = place.join("restored");
        let to = ["--target", target.to_str().unwrap()];
        program.ok(&[&["restore", "latest:/", "--tag", "stream"], &to[..]].concat());
        assert_eq!(fs::read(target.join("orders.csv")).unwrap(), orders);
        fs::remove_dir_all(&target).unwrap();
        let from = format!("latest:{folder}");
        program.ok(&[&["restore", &from, "--host", "office"], &to[..]].concat());
        let left_out = |path: &Path| {
            is_database(path) || path.to_str().unwrap().contains("jpg")
            // It keeps its time, but not its files.
            || path.starts_with("pictures")
        };
        assert_eq!(difference(&shop.folder, &target, &left_out), None);
        assert!(!target.join("pictures/teapot.jpg").exists());
        let (_, verified) = program.json(&["verify", "--host", "office"]);
        assert_eq!(verified.last().unwrap()["proof_level"], "opened");
    });
}

/// A way to store a file that no version of ours stores so.
struct Odd {
    name: &'static str,
    /// Stores the latest snapshot with a file `odd`, and returns what is in it.
    make: fn(&Forge) -> Vec<u8>,
}

const ODD: &[Odd] = &[
    Odd {
        name: "an index that says which it replaces",
        make: |f| {
            with_indexes(f, |f, index| {
                let old: Vec<Id> = names(f, "index");
                index["supersedes"] = json!(old);
                put_index(f, index);
            })
        },
    },
    Odd {
        name: "every pack in three index files",
        make: |f| {
            with_indexes(f, |f, index| {
                put_index(f, index);
                put_index(f, &json!({"packs": index["packs"], "of": "no interest"}));
            })
        },
    },
    Odd {
        name: "an index file for each pack, and the old ones gone",
        make: |f| {
            with_indexes(f, |f, index| {
                remove_all(f, "index");
                for pack in index["packs"].as_array().unwrap() {
                    put_index(f, &json!({"packs": [pack]}));
                }
            })
        },
    },
    Odd {
        name: "one index file, not compressed, and the old ones gone",
        make: |f| {
            with_indexes(f, |f, index| {
                remove_all(f, "index");
                f.object("index", &f.seal_bytes(&serde_json::to_vec(index).unwrap()));
            })
        },
    },
    Odd {
        name: "a snapshot that is not compressed",
        make: |f| {
            let content = store(f, &[compressed(f, b"tea")], b"tea".to_vec());
            let snapshot = f.next_snapshot(f.last_tree());
            f.object(
                "snapshots",
                &f.seal_bytes(&serde_json::to_vec(&snapshot).unwrap()),
            );
            content
        },
    },
    Odd {
        name: "a blob in three packs",
        make: |f| {
            for _ in 0..2 {
                f.store(&[compressed(f, b"tea")]);
            }
            store(f, &[compressed(f, b"tea")], b"tea".to_vec())
        },
    },
    Odd {
        name: "two packs of the same blobs",
        make: |f| {
            let blobs = [compressed(f, b"tea, "), compressed(f, b"cups")];
            f.store(&blobs);
            store(f, &blobs, b"tea, cups".to_vec())
        },
    },
    Odd {
        name: "raw blobs, and raw trees",
        make: |f| {
            let data = raw(f, 0, b"tea");
            f.store(std::slice::from_ref(&data));
            let tree = raw(f, 1, &tree_json(&[file_node("odd", 3, &[data.id])]));
            f.store(std::slice::from_ref(&tree));
            f.put_snapshot(&f.next_snapshot(tree.id));
            b"tea".to_vec()
        },
    },
    Odd {
        name: "a pack of raw and compressed data and trees",
        make: |f| {
            let blobs = [raw(f, 0, b"tea, "), compressed(f, b"cups")];
            let ids = [blobs[0].id, blobs[1].id];
            let tree = f.blob(3, &[(&tree_json(&[file_node("odd", 9, &ids)]), 1)]);
            let other = raw(f, 1, b"{\"nodes\":[]}\n");
            let id = tree.id;
            let [first, second] = blobs;
            f.store(&[first, tree, second, other]);
            f.put_snapshot(&f.next_snapshot(id));
            b"tea, cups".to_vec()
        },
    },
    Odd {
        name: "a file whose folder does not say its size",
        make: |f| {
            let blobs = [compressed(f, b"tea, "), compressed(f, b"cups")];
            let mut file = file_node("odd", 0, &[blobs[0].id, blobs[1].id]);
            file.as_object_mut().unwrap().remove("size");
            f.snapshot_of_tree(&tree_json(&[file]), &blobs);
            b"tea, cups".to_vec()
        },
    },
    Odd {
        name: "zstd streams of every level, without their size, and in two frames",
        make: |f| {
            let (mut blobs, mut content) = (Vec::new(), Vec::new());
            for level in [-7_i32, -1, 1, 3, 12, 19, 22] {
                let plain = [
                    noise(u64::from(level.unsigned_abs()), 9000),
                    b"glaze ".repeat(3000),
                ]
                .concat();
                let mut frames = zstd::stream::encode_all(&plain[..10_000], level).unwrap();
                frames.extend(zstd::stream::encode_all(&plain[10_000..], level).unwrap());
                blobs.push(sealed(f, 2, &plain, &frames));
                content.extend(plain);
            }
            store(f, &blobs, content)
        },
    },
    Odd {
        name: "blobs of a byte, and one of 40 MiB",
        make: |f| {
            let plain = b"celadon ".repeat(5 << 20);
            let mut blobs: Vec<RawBlob> = (0..=255).map(|byte| compressed(f, &[byte])).collect();
            blobs.push(compressed(f, &plain));
            let content = (0..=255).chain(plain).collect();
            store(f, &blobs, content)
        },
    },
];

fn sealed(forge: &Forge, kind: u8, plain: &[u8], stored: &[u8]) -> RawBlob {
    RawBlob {
        kind,
        id: Id::of(plain),
        sealed: forge.seal_bytes(stored),
        plain_length: u32::try_from(plain.len()).unwrap(),
    }
}

fn raw(forge: &Forge, kind: u8, plain: &[u8]) -> RawBlob {
    sealed(forge, kind, plain, plain)
}

fn compressed(forge: &Forge, plain: &[u8]) -> RawBlob {
    forge.blob(2, &[(plain, 1)])
}

/// Stores a snapshot whose file `odd` is made of `blobs`.
fn store(forge: &Forge, blobs: &[RawBlob], content: Vec<u8>) -> Vec<u8> {
    let ids: Vec<Id> = blobs.iter().map(|blob| blob.id).collect();
    let file = file_node("odd", content.len() as u64, &ids);
    forge.snapshot_of_tree(&tree_json(&[file]), blobs);
    content
}

/// Stores a snapshot in the usual way, then hands over all index files as one.
fn with_indexes(forge: &Forge, change: impl FnOnce(&Forge, &mut Value)) -> Vec<u8> {
    let content = store(forge, &[compressed(forge, b"tea")], b"tea".to_vec());
    let mut packs = Vec::new();
    for path in files_below(&forge.path("index")) {
        let plain = forge.open_bytes(&fs::read(path).unwrap());
        let json = zstd::stream::decode_all(&plain[1..]).unwrap();
        let index: Value = serde_json::from_slice(&json).unwrap();
        packs.extend(index["packs"].as_array().unwrap().clone());
    }
    change(forge, &mut json!({"packs": packs}));
    content
}

fn put_index(forge: &Forge, index: &Value) {
    forge.json_object("index", &[(&serde_json::to_vec(index).unwrap(), 1)]);
}

fn names(forge: &Forge, class: &str) -> Vec<Id> {
    let files = files_below(&forge.path(class));
    let names = files
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap());
    names.map(|name| name.parse().unwrap()).collect()
}

fn remove_all(forge: &Forge, class: &str) {
    for path in files_below(&forge.path(class)) {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn what_is_legal_is_read_however_oddly_it_is_stored() {
    for odd in ODD {
        let place = Place::new();
        let program = Program::with_cheap_repository(place.path());
        let shop = place.join("shop");
        fs::create_dir(&shop).unwrap();
        fs::write(shop.join("notes.txt"), "glaze: celadon").unwrap();
        program.ok(&["backup", shop.to_str().unwrap()]);
        let content = (odd.make)(&Forge::open(&program.repository));
        program.ok(&["check", "--read-data"]);
        let target = place.join("restored");
        program.ok(&["restore", "latest:/", "--target", target.to_str().unwrap()]);
        assert!(
            fs::read(target.join("odd")).unwrap() == content,
            "{}",
            odd.name
        );
        // The judge that it is legal.
        each(|path| {
            let restic = Restic::on(path, &program);
            restic.ok(&["check", "--read-data", "--no-lock"]);
            let dumped = restic
                .command(&["dump", "--no-lock", "latest", "/odd"])
                .output()
                .unwrap();
            assert!(dumped.stdout == content, "{}", odd.name);
        });
        // What is there is built upon.
        let added = program.json(&["backup", shop.to_str().unwrap()]).1;
        let added = added.last().unwrap()["added_bytes"].as_u64().unwrap();
        assert!(added < 5000, "{}: {added}", odd.name);
        program.ok(&["check", "--read-data"]);
    }
}
