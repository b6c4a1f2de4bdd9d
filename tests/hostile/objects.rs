//! Objects under wrong names, in wrong places, and things that are none.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;
use tillsafe::id::Id;

use super::{Class, Codes, play};
use crate::common::files::make_pipe;
use crate::common::forge::Forge;
use crate::common::raw::frames;

const CLASSES_OF_OBJECTS: [&str; 5] = ["keys", "index", "snapshots", "locks", "data"];

/// Named and passed over.
const STRAY: Codes = [&[0], &[0], &[0], &[0], &[0], &[0]];
/// One index or key less or more: found by a check.
const FOUND: Codes = [&[4], &[0], &[0], &[0], &[0], &[0]];
/// Which snapshot is the latest is not certain.
const UNCERTAIN: Codes = [&[4], &[4], &[4], &[4], &[4], &[0]];
/// Nothing can be opened.
const CLOSED: Codes = [&[4], &[4], &[4], &[4], &[4], &[4]];

fn swap(a: &Path, b: &Path) {
    let other = a.with_extension("other");
    fs::rename(a, &other).unwrap();
    fs::rename(b, a).unwrap();
    fs::rename(&other, b).unwrap();
}

fn swapped_snapshots(forge: &Forge) {
    let first = forge.honest("snapshots").remove(0);
    let bytes = forge.open_bytes(&fs::read(&first).unwrap());
    // The same snapshot once more is another object, for it is sealed anew.
    forge.object("snapshots", &forge.seal_bytes(&bytes));
    let both = forge.honest("snapshots");
    swap(&both[0], &both[1]);
}

/// An index as it was before, under the name of the current one.
fn an_old_index(forge: &Forge) {
    let index = forge.honest("index").remove(0);
    let old = forge.json_object("index", &[(br#"{"packs":[]}"#, 1)]);
    swap(&index, &forge.path(&format!("index/{old}")));
}

/// Copies the first object of one class into the folder of another.
fn moved(forge: &Forge, from: &str, to: &str) {
    let bytes = fs::read(forge.honest(from).remove(0)).unwrap();
    forge.object(to, &bytes);
}

/// A data blob of our own, which is a zstd frame, planted as an object.
fn planted(forge: &Forge, class: &str, json: &str) {
    let blob = forge.seal_bytes(&frames(&[(json.as_bytes(), 1)]));
    if class == "config" {
        let config = forge.path("config");
        fs::remove_file(&config).unwrap();
        fs::write(config, blob).unwrap();
    } else {
        forge.object(class, &blob);
    }
}

/// A data blob that is not compressed, as restic can write them, is an object to whoever reads it.
fn planted_plain(forge: &Forge, class: &str) {
    let text = match class {
        "index" => json!({"packs": [{"id": Id::of(b"no pack"), "blobs": []}]}),
        _ => forge.next_snapshot(Id::of(b"no tree")),
    };
    forge.object(
        class,
        &forge.seal_bytes(&serde_json::to_vec(&text).unwrap()),
    );
}

/// A name of an object in each class.
fn names(forge: &Forge, of: &str) -> Vec<PathBuf> {
    let id = Id::of(of.as_bytes());
    let names = CLASSES_OF_OBJECTS.map(|class| match class {
        "data" => format!("data/{}/{id}", &id.to_string()[..2]),
        other => format!("{other}/{id}"),
    });
    let paths = names.map(|name| forge.path(&name));
    fs::create_dir_all(paths[4].parent().unwrap()).unwrap();
    paths.to_vec()
}

fn things_that_are_no_files(forge: &Forge) {
    for path in names(forge, "pipe") {
        make_pipe(&path);
    }
    for path in names(forge, "loop") {
        symlink(&path, &path).unwrap();
    }
    for path in names(forge, "link") {
        symlink("/etc/passwd", &path).unwrap();
    }
    for path in names(forge, "folder") {
        fs::create_dir(path).unwrap();
    }
    for path in names(forge, "socket") {
        drop(std::os::unix::net::UnixListener::bind(path));
    }
}

fn strange_names(forge: &Forge) {
    for class in CLASSES_OF_OBJECTS {
        for name in [
            "\u{1b}[2J",
            "\u{202e}x",
            "a\nb",
            "ABCDEF",
            &"a".repeat(63),
            &"A".repeat(64),
            &"g".repeat(64),
        ] {
            fs::write(forge.path(class).join(name), "x").unwrap();
        }
    }
    fs::create_dir_all(forge.path("more/deep")).unwrap();
    fs::create_dir_all(forge.path("data/zz/deeper")).unwrap();
}

fn empty_objects(forge: &Forge, classes: &[&str]) {
    for class in classes {
        forge.object(class, b"");
    }
}

/// Something that is no file stands for the config.
fn config_is(forge: &Forge, make: impl FnOnce(&Path)) {
    let config = forge.path("config");
    fs::remove_file(&config).unwrap();
    make(&config);
}

/// A class's folder is something else.
fn folder_is(forge: &Forge, class: &str, make: impl FnOnce(&Path)) {
    let folder = forge.path(class);
    fs::remove_dir_all(&folder).unwrap();
    make(&folder);
}

#[rustfmt::skip]
pub const CLASSES: &[Class] = &[
    Class { name: "names: two snapshots swapped", make: swapped_snapshots, codes: UNCERTAIN },
    Class { name: "names: an old index under the name of the current one", make: an_old_index, codes: [&[4], &[0], &[0, 4], &[0, 4], &[0, 4], &[0]] },
    Class { name: "places: a snapshot among the indexes", make: |f| moved(f, "snapshots", "index"), codes: FOUND },
    Class { name: "places: an index among the snapshots", make: |f| moved(f, "index", "snapshots"), codes: UNCERTAIN },
    Class { name: "places: a snapshot among the locks", make: |f| moved(f, "snapshots", "locks"), codes: [&[4], &[0], &[0], &[0], &[0], &[11]] },
    Class { name: "places: a snapshot among the packs", make: |f| moved(f, "snapshots", "data"), codes: FOUND },
    Class { name: "places: a snapshot among the keys", make: |f| moved(f, "snapshots", "keys"), codes: FOUND },
    Class { name: "places: a key among the snapshots", make: |f| moved(f, "keys", "snapshots"), codes: UNCERTAIN },
    Class { name: "planted: a data blob as a snapshot", make: |f| planted(f, "snapshots", r#"{"time":"2030-01-01T00:00:00Z"}"#), codes: UNCERTAIN },
    Class { name: "planted: a data blob as an index", make: |f| planted(f, "index", r#"{"packs":[]}"#), codes: FOUND },
    Class { name: "planted: a data blob as the config", make: |f| planted(f, "config", r#"{"version":2,"id":"00","chunker_polynomial":"3da3358b4dc173"}"#), codes: [&[4], &[0, 4], &[0, 4], &[0, 4], &[0, 4], &[4]] },
    Class { name: "planted: an uncompressed data blob as a snapshot", make: |f| planted_plain(f, "snapshots"), codes: [&[4], &[0], &[4], &[4], &[4], &[0]] },
    Class { name: "planted: an uncompressed data blob as an index", make: |f| planted_plain(f, "index"), codes: FOUND },
    Class { name: "garbage: pipes, loops, links, folders, sockets with an object's name", make: things_that_are_no_files, codes: STRAY },
    Class { name: "garbage: strange names in every folder", make: strange_names, codes: STRAY },
    Class { name: "garbage: a lock of 0 bytes", make: |f| empty_objects(f, &["locks"]), codes: FOUND },
    Class { name: "garbage: keys, indexes and packs of 0 bytes", make: |f| empty_objects(f, &["keys", "index", "data"]), codes: FOUND },
    Class { name: "garbage: a snapshot of 0 bytes", make: |f| empty_objects(f, &["snapshots"]), codes: UNCERTAIN },
    Class { name: "garbage: objects of 31 bytes everywhere", make: |f| for class in CLASSES_OF_OBJECTS { f.object(class, &[7; 31]); }, codes: [&[4], &[4], &[4], &[4], &[4], &[11]] },
    Class { name: "config: of 0 bytes", make: |f| config_is(f, |path| fs::write(path, "").unwrap()), codes: [&[4], &[0, 4], &[0, 4], &[0, 4], &[0, 4], &[4]] },
    Class { name: "config: a pipe", make: |f| config_is(f, make_pipe), codes: [&[4, 15], &[0, 4, 15], &[0, 4, 15], &[0, 4, 15], &[0, 4, 15], &[4, 15]] },
    Class { name: "config: a link to itself", make: |f| config_is(f, |path| symlink(path, path).unwrap()), codes: [&[4, 15], &[0, 4, 15], &[0, 4, 15], &[0, 4, 15], &[0, 4, 15], &[4, 15]] },
    Class { name: "keys: the folder is a file", make: |f| folder_is(f, "keys", |path| fs::write(path, "").unwrap()), codes: [&[15]; 6] },
    Class { name: "keys: the folder is a pipe", make: |f| folder_is(f, "keys", make_pipe), codes: [&[15]; 6] },
    Class { name: "keys: the folder is a link to another", make: |f| folder_is(f, "keys", |path| symlink("/etc", path).unwrap()), codes: [&[15]; 6] },
    Class { name: "keys: none", make: |f| folder_is(f, "keys", |path| fs::create_dir(path).unwrap()), codes: CLOSED },
];

#[test]
fn objects_under_wrong_names_and_things_that_are_none() {
    play(CLASSES);
}
