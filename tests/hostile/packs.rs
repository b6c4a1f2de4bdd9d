//! Packs and indexes that contradict each other, or themselves.

use std::fs;

use serde_json::{Value, json};
use tillsafe::id::Id;

use super::{Class, Codes, play};
use crate::common::forge::Forge;
use crate::common::raw::{RawBlob, entry, file_node, tree_json};

/// The one file that needs it is lost.
const LOST: Codes = [&[4], &[0], &[0, 4], &[4], &[4], &[0]];
/// Found by a check; nothing needs it.
const FOUND: Codes = [&[4], &[0], &[0], &[0], &[0], &[0]];

/// A file of one blob, whose index entry is what `change` makes of it.
fn with_entry(forge: &Forge, size: u64, change: impl FnOnce(&mut Value)) {
    let data = forge.blob(2, &[(b"evil", 1)]);
    let pack = forge.pack(std::slice::from_ref(&data));
    let mut indexed = data.indexed(0);
    change(&mut indexed);
    forge.index(pack, &[indexed]);
    let file = file_node("a", size, &[data.id]);
    forge.snapshot_of_tree(&tree_json(&[file]), &[]);
}

/// The same, where pack and index agree on the lie.
fn with_plain_length(forge: &Forge, plain_length: u32) {
    let data = RawBlob {
        plain_length,
        ..forge.blob(2, &[(b"evil", 1)])
    };
    let file = file_node("a", plain_length.into(), &[data.id]);
    forge.snapshot_of_tree(&tree_json(&[file]), &[data]);
}

fn two(forge: &Forge) -> [RawBlob; 2] {
    [&b"tea"[..], b"cup"].map(|text| forge.blob(2, &[(text, 1)]))
}

/// Two files of a blob each.
fn of_two(forge: &Forge, blobs: &[RawBlob; 2]) {
    let nodes = ["a", "b"].map(|name| (name, blobs[usize::from(name == "b")].id));
    let nodes = nodes.map(|(name, id)| file_node(name, 3, &[id]));
    forge.snapshot_of_tree(&tree_json(&nodes), &[]);
}

/// Each blob is where the other should be: right codes, wrong bytes.
fn swapped_blobs(forge: &Forge) {
    let blobs = two(forge);
    let pack = forge.pack(&blobs);
    let second = blobs[0].sealed.len();
    forge.index(pack, &[blobs[0].indexed(second), blobs[1].indexed(0)]);
    of_two(forge, &blobs);
}

fn overlapping(forge: &Forge) {
    let blobs = two(forge);
    let pack = forge.pack(&blobs);
    let mut first = blobs[0].indexed(0);
    first["length"] = (blobs[0].sealed.len() + 10).into();
    let second = blobs[1].indexed(blobs[0].sealed.len());
    forge.index(pack, &[first, second]);
    of_two(forge, &blobs);
}

fn swapped_packs(forge: &Forge) {
    let blobs = two(forge);
    let packs = [0, 1].map(|at| forge.store(&blobs[at..=at]));
    let [a, b] = packs.map(|id| forge.path(&format!("data/{}/{id}", &id.to_string()[..2])));
    let other = forge.path("other");
    fs::rename(&a, &other).unwrap();
    fs::rename(&b, &a).unwrap();
    fs::rename(&other, &b).unwrap();
    of_two(forge, &blobs);
}

fn data_as_tree(forge: &Forge) {
    let tree = forge.blob(2, &[(&tree_json(&[file_node("a", 0, &[])]), 1)]);
    let pack = forge.pack(std::slice::from_ref(&tree));
    let mut indexed = tree.indexed(0);
    indexed["type"] = "tree".into();
    forge.index(pack, &[indexed]);
    forge.put_snapshot(&forge.next_snapshot(tree.id));
}

/// A pack of one blob that nothing needs, with a header of any bytes.
fn with_header(forge: &Forge, header: &[u8]) {
    forge.pack_with_header(&two(forge)[..1], header);
}

/// A pack that claims one blob of four gigabytes, and has them: as a hole.
fn a_pack_of_four_gigabytes(forge: &Forge, indexed: bool) {
    const LENGTH: u32 = 0xf000_0000;
    let id = Id::of(b"four gigabytes");
    let header = forge.seal_bytes(&entry(0, LENGTH, 0, id));
    let pack = forge.object_named("data", Id::of(b"a pack"), b"");
    let file = fs::OpenOptions::new().write(true).open(&pack).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &header, LENGTH.into()).unwrap();
    let length = u32::try_from(header.len()).unwrap().to_le_bytes();
    let at = u64::from(LENGTH) + header.len() as u64;
    std::os::unix::fs::FileExt::write_all_at(&file, &length, at).unwrap();
    if indexed {
        let blob = json!({"id": id, "type": "data", "offset": 0, "length": LENGTH});
        forge.index(Id::of(b"a pack"), &[blob]);
        let file = file_node("a", u64::from(LENGTH) - 32, &[id]);
        forge.snapshot_of_tree(&tree_json(&[file]), &[]);
    }
}

fn a_missing_pack(forge: &Forge) {
    let data = forge.blob(2, &[(b"evil", 1)]);
    forge.index(Id::of(b"no pack"), &[data.indexed(0)]);
    let file = file_node("a", 4, &[data.id]);
    forge.snapshot_of_tree(&tree_json(&[file]), &[]);
}

/// Two indexes describe one pack, and only one of them is right.
fn a_contradiction(forge: &Forge) {
    let data = forge.blob(2, &[(b"evil", 1)]);
    let pack = forge.store(std::slice::from_ref(&data));
    let mut wrong = data.indexed(0);
    wrong["length"] = 33.into();
    forge.index(pack, &[wrong]);
    let file = file_node("a", 4, &[data.id]);
    forge.snapshot_of_tree(&tree_json(&[file]), &[]);
}

#[rustfmt::skip]
pub const CLASSES: &[Class] = &[
    Class { name: "index: an offset beyond the pack", make: |f| with_entry(f, 4, |e| e["offset"] = 1_000_000.into()), codes: LOST },
    Class { name: "index: offset and length beyond 2^32", make: |f| with_entry(f, 4, |e| { e["offset"] = u32::MAX.into(); e["length"] = u32::MAX.into(); }), codes: LOST },
    Class { name: "index: a length of 0", make: |f| with_entry(f, 4, |e| e["length"] = 0.into()), codes: LOST },
    Class { name: "index: a length of 31", make: |f| with_entry(f, 4, |e| e["length"] = 31.into()), codes: LOST },
    Class { name: "index: a negative length", make: |f| with_entry(f, 4, |e| e["length"] = (-1).into()), codes: FOUND },
    Class { name: "index: an unknown type that speaks to the terminal", make: |f| with_entry(f, 4, |e| e["type"] = "\u{1b}[2J".into()), codes: FOUND },
    Class { name: "index: a plain length that is one too small", make: |f| with_entry(f, 3, |e| e["uncompressed_length"] = 3.into()), codes: LOST },
    Class { name: "index: a plain length that is one too large", make: |f| with_entry(f, 5, |e| e["uncompressed_length"] = 5.into()), codes: LOST },
    Class { name: "index: a plain length of 0", make: |f| with_entry(f, 13, |e| e["uncompressed_length"] = 0.into()), codes: LOST },
    Class { name: "index and pack: a plain length of 1", make: |f| with_plain_length(f, 1), codes: LOST },
    Class { name: "index and pack: a plain length of 2^28", make: |f| with_plain_length(f, 1 << 28), codes: LOST },
    Class { name: "index and pack: a plain length of 2^32 - 1", make: |f| with_plain_length(f, u32::MAX), codes: LOST },
    Class { name: "index: blobs that overlap", make: overlapping, codes: LOST },
    Class { name: "index: two blobs swapped", make: swapped_blobs, codes: LOST },
    Class { name: "index: a pack that does not exist", make: a_missing_pack, codes: LOST },
    Class { name: "index: two of them contradict each other", make: a_contradiction, codes: [&[4], &[0], &[0], &[0, 4], &[0, 4], &[0]] },
    Class { name: "index: a data blob as a tree", make: data_as_tree, codes: [&[4], &[0], &[0], &[0], &[0], &[0]] },
    Class { name: "pack: two of them swapped", make: swapped_packs, codes: LOST },
    Class { name: "pack: no header", make: |f| with_header(f, b""), codes: FOUND },
    Class { name: "pack: an unknown type of blob", make: |f| with_header(f, &entry(4, 1, 1, Id::of(b""))), codes: FOUND },
    Class { name: "pack: lengths beyond the file", make: |f| with_header(f, &entry(2, 1000, 1, Id::of(b""))), codes: FOUND },
    Class { name: "pack: lengths beyond 2^32", make: |f| with_header(f, &entry(2, u32::MAX, 1, Id::of(b"")).repeat(3)), codes: FOUND },
    Class { name: "pack: a header that is cut off", make: |f| with_header(f, &[2, 0, 0]), codes: FOUND },
    Class { name: "pack: a header of length 0", make: |f| { f.pack_with_tail(&two(f), b"", 0); }, codes: FOUND },
    Class { name: "pack: a header of 4 GiB", make: |f| { f.pack_with_tail(&two(f), b"", u32::MAX); }, codes: FOUND },
    Class { name: "pack: of 3 bytes, of none", make: |f| { f.object("data", b"abc"); f.object("data", b""); }, codes: FOUND },
    Class { name: "pack: a blob of 4 GB that is a hole", make: |f| a_pack_of_four_gigabytes(f, false), codes: FOUND },
    Class { name: "pack: a blob of 4 GB that is a hole, and is needed", make: |f| a_pack_of_four_gigabytes(f, true), codes: LOST },
];

#[test]
fn packs_and_indexes_that_contradict_each_other() {
    play(CLASSES);
}
