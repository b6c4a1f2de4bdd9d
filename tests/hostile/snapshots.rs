//! Snapshots, what they say about themselves, and locks.

use std::fs;

use serde_json::{Value, json};
use tillsafe::id::Id;

use super::{Class, Codes, play};
use crate::common::forge::Forge;
use crate::common::raw::{Pieces, RawBlob, file_node, folder_node, tree_json};

const HARMLESS: Codes = [&[0], &[0], &[0], &[0], &[0], &[0]];
/// Which snapshot is the latest is not certain.
const UNCERTAIN: Codes = [&[4], &[4], &[4], &[4], &[4], &[0]];
/// Reading goes on without a lock, writing waits for the owner.
/// A lock that cannot be read: it may be an exclusive one.
const LOCK_FOUND: Codes = [&[4], &[0], &[0], &[0], &[0], &[11]];
const LOCKED: Codes = [&[0], &[0], &[0], &[0], &[0], &[11]];
/// The capture said something else than what is there.
const NOT_PROVED: Codes = [&[0], &[0], &[0], &[21], &[21], &[0]];

/// The honest snapshot once more, with something else in it.
fn changed(forge: &Forge, change: impl FnOnce(&mut Value)) {
    let last = forge.next_snapshot(Id::of(b""));
    let mut snapshot = honest_tree(forge);
    snapshot["time"] = last["time"].clone();
    change(&mut snapshot);
    forge.put_snapshot(&snapshot);
}

fn honest_tree(forge: &Forge) -> Value {
    let mut snapshot = forge.next_snapshot(Id::of(b""));
    let tree = forge.last_tree();
    snapshot["tree"] = json!(tree);
    snapshot
}

fn with_time(forge: &Forge, time: &str) {
    changed(forge, |snapshot| snapshot["time"] = time.into());
}

/// A million strings in a list of a snapshot.
fn with_a_million(forge: &Forge, list: &str) {
    changed(forge, |snapshot| {
        let strings: Vec<String> = (0..1_000_000).map(|number| format!("/{number}")).collect();
        snapshot[list] = json!(strings);
        // Or it would be a series of its own, and `latest` of two is refused.
        snapshot["hostname"] = "test".into();
    });
}

/// The honest snapshot, with a manifest of these bytes.
fn with_manifest(forge: &Forge, pieces: Pieces) {
    let data = forge.blob(2, pieces);
    with_manifest_of(forge, u64::from(data.plain_length), &[data]);
}

fn with_manifest_of(forge: &Forge, size: u64, blobs: &[RawBlob]) {
    let content: Vec<Id> = blobs.iter().map(|blob| blob.id).collect();
    let file = file_node("manifest.json", size, &content);
    let inner = forge.blob(3, &[(&tree_json(&[file]), 1)]);
    let ours = folder_node(".tillsafe", inner.id);
    forge.store(&[inner]);
    forge.snapshot_of_tree(&tree_json(&[ours, file_node("a", 0, &[])]), blobs);
}

fn lock(forge: &Forge, text: &Value) {
    let text = serde_json::to_vec(text).unwrap();
    forge.json_object("locks", &[(&text, 1)]);
}

fn exclusive(forge: &Forge, time: &str) {
    lock(
        forge,
        &json!({"time": time, "exclusive": true, "hostname": "\u{1b}[2J", "username": "\u{202e}x", "pid": -1}),
    );
}

/// The numbers of a manifest add up beyond 2^64.
fn beyond_any_sum(manifest: &mut Value) {
    manifest["files"] = json!({"files": u64::MAX, "folders": u64::MAX, "bytes": u64::MAX});
    for database in manifest["databases"].as_array_mut().unwrap() {
        database["size_bytes"] = u64::MAX.into();
    }
}

fn rows_beyond_any_sum(manifest: &mut Value) {
    let tables = &mut manifest["databases"][0]["fingerprint"]["tables"];
    for name in ["customers", "orders", "\u{1b}[2J"] {
        tables[name] = u64::MAX.into();
    }
    manifest["databases"][0]["fingerprint"]["page_count"] = u64::MAX.into();
}

fn speaks(manifest: &mut Value) {
    let note = json!([{"item": "/\u{1b}[2J", "finding": "\u{202e}x\u{9b}\n"}]);
    manifest["incomplete"] = note.clone();
    manifest["warnings"] = note;
    manifest["host"] = "\u{1b}[2J".into();
}

#[rustfmt::skip]
pub const CLASSES: &[Class] = &[
    Class { name: "snapshot: of the year 9999", make: |f| with_time(f, "9999-12-31T23:59:59.999999999Z"), codes: HARMLESS },
    Class { name: "snapshot: of the year 0", make: |f| with_time(f, "0000-01-01T00:00:00Z"), codes: HARMLESS },
    Class { name: "snapshot: of no time", make: |f| with_time(f, "\u{1b}[2J"), codes: UNCERTAIN },
    Class { name: "snapshot: without a tree", make: |f| changed(f, |snapshot| snapshot["tree"] = Value::Null), codes: UNCERTAIN },
    Class { name: "snapshot: a tree that is not there", make: |f| changed(f, |snapshot| snapshot["tree"] = json!(Id::of(b"no tree"))), codes: [&[4], &[0], &[4], &[4], &[4], &[0]] },
    Class { name: "snapshot: a tag, a path and a host that speak to the terminal", make: |f| changed(f, |snapshot| { snapshot["tags"] = json!(["\u{1b}[2J"]); snapshot["paths"] = json!(["/\u{202e}x", "/a\nb"]); snapshot["hostname"] = "\u{9b}2J".into(); }), codes: [&[0], &[0], &[2], &[2], &[2], &[0]] },
    Class { name: "snapshot: a million tags", make: |f| with_a_million(f, "tags"), codes: HARMLESS },
    Class { name: "snapshot: a million paths", make: |f| with_a_million(f, "paths"), codes: [&[0], &[0], &[2], &[2], &[2], &[0]] },
    Class { name: "snapshot: negative and broken counts", make: |f| changed(f, |snapshot| snapshot["summary"]["files_new"] = (-1.5).into()), codes: UNCERTAIN },
    Class { name: "snapshot: counts of 2^64 - 1", make: |f| changed(f, |snapshot| snapshot["summary"]["total_bytes_processed"] = u64::MAX.into()), codes: HARMLESS },
    Class { name: "manifest: JSON nested 100,000 deep", make: |f| with_manifest(f, &[(b"[", 100_000)]), codes: HARMLESS },
    Class { name: "manifest: of schema 999", make: |f| f.snapshot_with_manifest(|manifest| manifest["schema"] = 999.into()), codes: HARMLESS },
    Class { name: "manifest: of 1 GB", make: |f| with_manifest(f, &[(&[b' '; 1 << 20], 1000)]), codes: [&[4], &[0], &[0, 4], &[0, 4], &[0, 4], &[0]] },
    Class { name: "manifest: of 60 MB, all notes", make: |f| with_manifest(f, &[(br#"{"schema":1,"program":"","host":"","begun":"2026-01-01T00:00:00Z","ended":"2026-01-01T00:00:00Z","databases":[],"files":{"files":1,"folders":0,"bytes":0},"warnings":[],"incomplete":["#, 1), (&br#"{"item":"x","finding":""},"#.repeat(1000), 2200), (br#"{"item":"x","finding":""}]}"#, 1)]), codes: [&[0], &[0], &[0, 4], &[0, 3, 4], &[0, 3, 4], &[0]] },
    Class { name: "manifest: numbers beyond any sum", make: |f| f.snapshot_with_manifest(beyond_any_sum), codes: NOT_PROVED },
    Class { name: "manifest: rows beyond any sum, and a table's name that speaks", make: |f| f.snapshot_with_manifest(rows_beyond_any_sum), codes: NOT_PROVED },
    Class { name: "manifest: notes that speak to the terminal", make: |f| f.snapshot_with_manifest(speaks), codes: [&[0], &[0], &[0], &[3], &[3], &[0]] },
    Class { name: "manifest: a database of another place", make: |f| f.snapshot_with_manifest(|manifest| manifest["databases"][0]["path"] = "/../../outside/canary.db".into()), codes: NOT_PROVED },
    Class { name: "lock: garbage", make: |f| { f.object("locks", &[7; 100]); }, codes: LOCK_FOUND },
    Class { name: "lock: exclusive, of the year 9999", make: |f| exclusive(f, "9999-12-30T00:00:00Z"), codes: LOCKED },
    Class { name: "lock: exclusive, of the year 0", make: |f| exclusive(f, "0000-01-01T00:00:00Z"), codes: LOCKED },
    Class { name: "lock: exclusive, of no time", make: |f| exclusive(f, "\u{1b}[2J"), codes: LOCK_FOUND },
    Class { name: "lock: of 200 MB", make: |f| { let path = f.object_named("locks", Id::of(b"large"), b""); fs::File::options().write(true).open(path).unwrap().set_len(200 << 20).unwrap(); }, codes: LOCK_FOUND },
];

#[test]
fn snapshots_manifests_and_locks_that_lie() {
    play(CLASSES);
}
