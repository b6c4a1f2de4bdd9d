//! Trees that have no end, and files that are not what they say.

use serde_json::{Value, json};
use tillsafe::id::Id;

use super::{Class, Codes, play};
use crate::common::forge::Forge;
use crate::common::raw::{RawBlob, file_node, folder_node, tree_json};

const DAMAGED: Codes = [&[4], &[0], &[4], &[4], &[4], &[0]];
/// A file's size or blob is wrong: its folder can be listed.
const LOST: Codes = [&[4], &[0], &[0, 4], &[4], &[4], &[0]];
const HARMLESS: Codes = [&[0], &[0], &[0], &[0], &[0], &[0]];
/// Endless in places, but no blob is damaged.
const ENDLESS: Codes = [&[0], &[0], &[4], &[4], &[4], &[0]];

fn with_nodes(forge: &Forge, nodes: &[Value]) {
    forge.snapshot_of_tree(&tree_json(nodes), &[]);
}

fn without_subtree(forge: &Forge) {
    let mut folder = folder_node("a", Id::of(b""));
    folder.as_object_mut().unwrap().remove("subtree");
    with_nodes(forge, &[folder]);
}

/// A file whose node has one field changed.
fn with_field(forge: &Forge, field: &str, value: Value) {
    let mut file = file_node("a", 0, &[]);
    file[field] = value;
    with_nodes(forge, &[file]);
}

/// A chain of trees, innermost first; each is made of the one below it.
fn chain(forge: &Forge, length: usize, nodes: impl Fn(Id, usize) -> Vec<Value>) -> Id {
    let mut trees: Vec<RawBlob> = vec![forge.blob(3, &[(b"{\"nodes\":[]}\n", 1)])];
    for depth in 0..length {
        let below = trees.last().unwrap().id;
        trees.push(forge.blob(3, &[(&tree_json(&nodes(below, depth)), 1)]));
    }
    forge.store(&trees);
    let top = trees.last().unwrap().id;
    forge.put_snapshot(&forge.next_snapshot(top));
    top
}

fn two_to_the_28(forge: &Forge) {
    chain(forge, 28, |below, _| {
        vec![folder_node("a", below), folder_node("b", below)]
    });
}

fn two_to_the_40_with_long_names(forge: &Forge) {
    let (a, b) = ("a".repeat(250), "b".repeat(250));
    chain(forge, 40, move |below, _| {
        vec![folder_node(&a, below), folder_node(&b, below)]
    });
}

/// Two thousand folders in each other, each with files, and all names as long as they may be.
fn long_paths(forge: &Forge) {
    let long = "n".repeat(250);
    chain(forge, 2000, move |below, depth| {
        let mut nodes = vec![folder_node(&long, below)];
        nodes.extend((0..150).map(|file| file_node(&format!("{depth}-{file}"), 0, &[])));
        nodes
    });
}

fn with_size(forge: &Forge, size: u64) {
    let data = forge.blob(2, &[(b"evil", 1)]);
    let file = file_node("a", size, &[data.id]);
    forge.snapshot_of_tree(&tree_json(&[file]), &[data]);
}

fn with_sizes_beyond_any_sum(forge: &Forge) {
    let data = forge.blob(2, &[(b"evil", 1)]);
    let files = ["a", "b", "c"].map(|name| file_node(name, u64::MAX, &[data.id]));
    forge.snapshot_of_tree(&tree_json(&files), &[data]);
}

/// A file of one blob again and again.
fn references(forge: &Forge, blob_bytes: usize, times: usize) {
    let data = forge.blob(2, &[(&vec![7; blob_bytes], 1)]);
    let id = data.id;
    // One before the blocks.
    let text = tree_json(&[file_node("a", (blob_bytes * (times + 1)) as u64, &[])]);
    let text = std::str::from_utf8(&text).unwrap();
    let (before, after) = text.split_once("\"content\":[").unwrap();
    let before = format!("{before}\"content\":[\"{id}\"");
    let block = format!(",\"{id}\"").repeat(1000);
    let pieces = [
        (before.as_bytes(), 1),
        (block.as_bytes(), times / 1000),
        (after.as_bytes(), 1),
    ];
    forge.snapshot_of_pieces(&pieces, &[data]);
}

#[rustfmt::skip]
pub const CLASSES: &[Class] = &[
    Class { name: "tree: a folder without a tree", make: without_subtree, codes: DAMAGED },
    Class { name: "tree: a folder that no index names", make: |f| with_nodes(f, &[folder_node("a", Id::of(b"nothing"))]), codes: DAMAGED },
    Class { name: "tree: irregular and unknown types", make: |f| with_nodes(f, &[json!({"name": "a", "type": "irregular"}), json!({"name": "b", "type": "\u{1b}[2J"}), json!({"name": "c", "type": ""})]), codes: [&[4], &[0], &[0], &[3], &[3], &[0]] },
    Class { name: "tree: a size with a fraction", make: |f| with_field(f, "size", json!(1.5)), codes: DAMAGED },
    Class { name: "tree: a negative size", make: |f| with_field(f, "size", json!(-1)), codes: DAMAGED },
    Class { name: "tree: a number of 2^70", make: |f| with_field(f, "inode", json!(1.2e21)), codes: DAMAGED },
    Class { name: "tree: a time that is none", make: |f| with_field(f, "mtime", json!("9999-99-99T99:99:99Z\u{1b}[2J")), codes: DAMAGED },
    Class { name: "tree: the last second of the year 9999", make: |f| with_field(f, "mtime", json!("9999-12-31T23:59:59.999999999Z")), codes: HARMLESS },
    Class { name: "tree: the first second of the year 0", make: |f| with_field(f, "mtime", json!("0000-01-01T00:00:00Z")), codes: HARMLESS },
    Class { name: "tree: all special mode bits and strange owners", make: |f| { let mut a = file_node("a", 0, &[]); a["mode"] = json!(u32::MAX); a["uid"] = json!(u32::MAX - 1); a["user"] = json!("\u{1b}[2J"); with_nodes(f, &[a]); }, codes: HARMLESS },
    Class { name: "tree: JSON nested 100,000 deep", make: |f| { f.snapshot_of_pieces(&[(b"{\"nodes\":[{\"name\":\"a\",\"type\":\"file\",\"more\":", 1), (&[b'['; 1000], 100), (&[b']'; 1000], 100), (b"}]}", 1)], &[]); }, codes: [&[0, 4], &[0], &[0, 4], &[0, 4], &[0, 4], &[0]] },
    Class { name: "tree: is not JSON", make: |f| { f.snapshot_of_tree(b"\x1b[2J", &[]); }, codes: DAMAGED },
    Class { name: "depth: 2^28 paths of 28 trees", make: two_to_the_28, codes: ENDLESS },
    Class { name: "depth: 2^40 paths with long names", make: two_to_the_40_with_long_names, codes: ENDLESS },
    Class { name: "depth: 20,000 folders in each other", make: |f| { chain(f, 20_000, |below, _| vec![folder_node("a", below)]); }, codes: ENDLESS },
    Class { name: "depth: 2,000 folders in each other, all alike", make: |f| { chain(f, 2000, |below, _| vec![folder_node("a", below)]); }, codes: HARMLESS },
    Class { name: "depth: 300,000 files on paths of up to 500 KB", make: long_paths, codes: ENDLESS },
    Class { name: "size: smaller than the blobs", make: |f| with_size(f, 3), codes: LOST },
    Class { name: "size: larger than the blobs", make: |f| with_size(f, 5), codes: LOST },
    Class { name: "size: 2^63", make: |f| with_size(f, 1 << 63), codes: LOST },
    Class { name: "size: of three files, beyond any sum", make: with_sizes_beyond_any_sum, codes: LOST },
    Class { name: "content: 3 million references, 24 TiB claimed", make: |f| references(f, 8 << 20, 3_000_000), codes: [&[0], &[0], &[0], &[20], &[20], &[0]] },
    Class { name: "content: 10 million references, 32 GiB claimed", make: |f| references(f, 3277, 10_000_000), codes: DAMAGED },
];

#[test]
fn trees_without_end_and_files_that_lie() {
    play(CLASSES);
}
