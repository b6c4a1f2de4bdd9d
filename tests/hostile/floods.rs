//! Little that becomes much: bombs, and very many of a thing.

use std::fs;

use serde_json::json;
use tillsafe::id::Id;

use super::{Class, Codes, play};
use crate::common::forge::Forge;
use crate::common::raw::{Pieces, file_node, tree_json};

const DAMAGED: Codes = [&[4], &[0], &[4], &[4], &[4], &[0]];
const LOST: Codes = [&[4], &[0], &[0, 4], &[4], &[4], &[0]];
const FOUND: Codes = [&[4], &[0], &[0], &[0], &[0], &[0]];
const UNCERTAIN: Codes = [&[4], &[4], &[4], &[4], &[4], &[0]];
const HARMLESS: Codes = [&[0], &[0], &[0], &[0], &[0], &[0]];

const ZEROES: &[u8] = &[0; 64 << 20];
/// A gibibyte of zeroes, in about 33 KB.
const GIBIBYTE: Pieces = &[(ZEROES, 16)];

fn data(forge: &Forge, pieces: Pieces, size: u64) {
    let data = forge.blob(2, pieces);
    let file = file_node("a", size, &[data.id]);
    forge.snapshot_of_tree(&tree_json(&[file]), &[data]);
}

/// Blobs of the most that a blob may be: read on all cores at once.
fn two_of_the_largest(forge: &Forge) {
    let nodes = [("a", 1_u8), ("b", 2)].map(|(name, first)| {
        let pieces: Pieces = &[(&[first], 1), (&ZEROES[1..], 1), (ZEROES, 3)];
        let blob = forge.blob(2, pieces);
        // Packs of their own, or one run would read them one after the other.
        forge.store(std::slice::from_ref(&blob));
        file_node(name, 1 << 28, &[blob.id])
    });
    forge.snapshot_of_tree(&tree_json(&nodes), &[]);
}

/// A tree of very many nodes of almost no bytes each.
fn nodes(forge: &Forge) {
    let node = br#"{"name":"a","type":"fifo"},"#.repeat(1000);
    forge.snapshot_of_pieces(
        &[
            (b"{\"nodes\":[", 1),
            (&node, 9500),
            (br#"{"name":"b","type":"fifo"}]}"#, 1),
        ],
        &[],
    );
}

/// Strings of almost no bytes each.
fn tags(forge: &Forge) {
    let snapshot = forge.next_snapshot(forge.last_tree()).to_string();
    let (before, after) = snapshot.split_at(snapshot.len() - 1);
    let before = format!("{before},\"tags\":[");
    let pieces: Pieces = &[
        (before.as_bytes(), 1),
        (&b"\"\",".repeat(100_000), 800),
        (b"\"\"]", 1),
        (after.as_bytes(), 1),
    ];
    forge.json_object("snapshots", pieces);
}

/// Index entries, each of which differs from the one before in a few digits.
fn entries(forge: &Forge, count: usize, entry: impl Fn(usize) -> String) {
    let mut json = format!(
        "{{\"packs\":[{{\"id\":\"{}\",\"blobs\":[",
        Id::of(b"a pack")
    );
    for number in 0..count {
        if number > 0 {
            json.push(',');
        }
        json.push_str(&entry(number));
    }
    json.push_str("]}]}");
    forge.json_object("index", &[(json.as_bytes(), 1)]);
}

fn different_blobs(forge: &Forge) {
    entries(forge, 1_000_000, |number| {
        format!(r#"{{"id":"{number:064x}","type":"data","offset":{number},"length":1}}"#)
    });
}

fn one_blob_in_many_places(forge: &Forge) {
    let id = Id::of(b"evil");
    entries(forge, 1_000_000, |number| {
        format!(r#"{{"id":"{id}","type":"data","offset":{number},"length":1}}"#)
    });
}

/// One blob in very many packs.
fn one_blob_in_many_packs(forge: &Forge) {
    let id = Id::of(b"evil");
    let packs = (0..300_000).map(|number| format!(r#"{{"id":"{number:064x}","blobs":[{{"id":"{id}","type":"data","offset":0,"length":1}}]}}"#));
    let json = format!("{{\"packs\":[{}]}}", packs.collect::<Vec<_>>().join(","));
    forge.json_object("index", &[(json.as_bytes(), 1)]);
}

/// Empty packs of almost no bytes each.
fn empty_packs(forge: &Forge) {
    let packs = format!(r#"{{"id":"{}"}},"#, Id::of(b"a pack")).repeat(1000);
    forge.json_object(
        "index",
        &[
            (b"{\"packs\":[", 1),
            (packs.as_bytes(), 3500),
            (
                br#"{"id":"0000000000000000000000000000000000000000000000000000000000000000"}]}"#,
                1,
            ),
        ],
    );
}

/// Very many key files that are none: 100,000 here. What they cost is a listing and one open each, so
/// a million takes ten times as long.
fn names_in_keys(forge: &Forge) {
    let file = forge.path("keys").join("junk");
    fs::write(&file, "no key").unwrap();
    for number in 0..100_000 {
        // Hard links are quicker to make than files, and a file may have 65,000.
        let id = format!("{number:064x}");
        if number % 50_000 == 0 {
            fs::write(&file, format!("no key {number}")).unwrap();
            fs::rename(&file, file.with_file_name(format!("junk-{number}"))).unwrap();
        }
        let from = file.with_file_name(format!("junk-{}", number / 50_000 * 50_000));
        fs::hard_link(from, file.with_file_name(id)).unwrap();
    }
}

/// Key files that are whole, named after their bytes, and of other passwords.
fn whole_keys(forge: &Forge) {
    let honest = fs::read(forge.honest("keys").remove(0)).unwrap();
    let mut file: serde_json::Value = serde_json::from_slice(&honest).unwrap();
    file["data"] = file["salt"].clone();
    for number in 0..20_000 {
        file["username"] = json!(number.to_string());
        forge.object("keys", &serde_json::to_vec(&file).unwrap());
    }
}

fn names_in(forge: &Forge, class: &str) {
    for number in 0..20_000 {
        fs::write(forge.path(class).join(format!("stray-{number}")), "").unwrap();
    }
}

/// Very many snapshots that cannot be read.
fn broken_snapshots(forge: &Forge) {
    for number in 0..20_000 {
        fs::write(forge.path("snapshots").join(format!("{number:064x}")), "").unwrap();
    }
}

#[rustfmt::skip]
const BOMBS: &[Class] = &[
    Class { name: "bomb: a data blob of 1 GiB", make: |f| data(f, GIBIBYTE, 1 << 30), codes: LOST },
    Class { name: "bomb: a data blob of 1 GiB that claims 4 bytes", make: |f| { let mut blob = f.blob(2, GIBIBYTE); blob.plain_length = 4; let file = file_node("a", 4, &[blob.id]); f.snapshot_of_tree(&tree_json(&[file]), &[blob]); }, codes: LOST },
    Class { name: "bomb: two data blobs of 256 MiB, the most that is granted", make: two_of_the_largest, codes: HARMLESS },
    Class { name: "bomb: a tree of 1 GiB", make: |f| { f.snapshot_of_pieces(GIBIBYTE, &[]); }, codes: DAMAGED },
    Class { name: "bomb: a tree of 250 MiB of zeroes", make: |f| { f.snapshot_of_pieces(&[(&ZEROES[..1 << 20], 250)], &[]); }, codes: DAMAGED },
    Class { name: "bomb: a tree of 9 million nodes", make: nodes, codes: DAMAGED },
    Class { name: "bomb: an index of 1 GiB", make: |f| { f.json_object("index", GIBIBYTE); }, codes: FOUND },
    Class { name: "bomb: an index of 3.5 million empty packs", make: empty_packs, codes: FOUND },
    Class { name: "bomb: a snapshot of 1 GiB", make: |f| { f.json_object("snapshots", GIBIBYTE); }, codes: UNCERTAIN },
    Class { name: "bomb: a snapshot of 80 million tags", make: tags, codes: UNCERTAIN },
    Class { name: "bomb: a lock of 1 GiB", make: |f| { f.json_object("locks", GIBIBYTE); }, codes: [&[4], &[0], &[0], &[0], &[0], &[11]] },
];

#[rustfmt::skip]
const FLOODS: &[Class] = &[
    Class { name: "flood: an index of a million blobs in one pack", make: different_blobs, codes: FOUND },
    Class { name: "flood: an index of one blob at a million places", make: one_blob_in_many_places, codes: FOUND },
    Class { name: "flood: an index of one blob in 300,000 packs", make: one_blob_in_many_packs, codes: FOUND },
    Class { name: "flood: 100,000 key files that are none", make: names_in_keys, codes: FOUND },
    Class { name: "flood: 20,000 keys of other passwords", make: whole_keys, codes: HARMLESS },
    Class { name: "flood: 20,000 strange names among the locks", make: |f| names_in(f, "locks"), codes: HARMLESS },
    Class { name: "flood: 20,000 strange names among the packs", make: |f| names_in(f, "data"), codes: HARMLESS },
    Class { name: "flood: 20,000 snapshots that cannot be read", make: broken_snapshots, codes: UNCERTAIN },
];

#[test]
fn bombs() {
    play(BOMBS);
}

#[test]
fn floods() {
    play(FLOODS);
}
