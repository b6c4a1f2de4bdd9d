//! Names that would leave the target, collide, or speak to the terminal.

use serde_json::{Value, json};

use super::{Class, Codes, play};
use crate::common::forge::Forge;
use crate::common::raw::{file_node, folder_node, tree_json};

/// A tree that must not reach a file system: damage, but no hindrance for the next backup.
const DAMAGED: Codes = [&[4], &[0], &[4], &[4], &[4], &[0]];
/// Odd, but nobody's fault.
const HARMLESS: Codes = [&[0], &[0], &[0], &[0], &[0], &[0]];
/// What no file system takes is lost, and the rest restored; the repository is whole.
const UNFIT: Codes = [&[0], &[0], &[4], &[4], &[4], &[0]];

/// A snapshot that holds these nodes, each with the content `evil` if it is a file.
fn with_nodes(forge: &Forge, nodes: &[Value]) {
    let evil = forge.blob(2, &[(b"evil", 1)]);
    forge.snapshot_of_tree(&tree_json(nodes), &[evil]);
}

fn evil(forge: &Forge, name: &str) -> Value {
    file_node(name, 4, &[forge.blob(2, &[(b"evil", 1)]).id])
}

fn with_name(forge: &Forge, name: &str) {
    with_nodes(forge, &[evil(forge, name)]);
}

fn link(name: &str, target: &str) -> Value {
    json!({"name": name, "type": "symlink", "mode": 134_218_239, "linktarget": target, "content": null})
}

fn with_folder_up(forge: &Forge) {
    let inner = forge.blob(3, &[(&tree_json(&[evil(forge, "above.txt")]), 1)]);
    let up = folder_node("..", inner.id);
    forge.store(&[inner]);
    with_nodes(forge, &[up]);
}

fn with_link_and_folder(forge: &Forge) {
    let inner = forge.blob(3, &[(&tree_json(&[evil(forge, "canary.txt")]), 1)]);
    let folder = folder_node("a", inner.id);
    forge.store(&[inner]);
    with_nodes(forge, &[link("a", "../../outside"), folder]);
}

#[rustfmt::skip]
pub const CLASSES: &[Class] = &[
    Class { name: "name: ..", make: |f| with_name(f, ".."), codes: DAMAGED },
    Class { name: "name: .. as a folder", make: with_folder_up, codes: DAMAGED },
    Class { name: "name: ../above.txt", make: |f| with_name(f, "../above.txt"), codes: DAMAGED },
    Class { name: "name: an absolute path", make: |f| with_name(f, "/tmp/tillsafe-hostile"), codes: DAMAGED },
    Class { name: "name: with NUL", make: |f| with_name(f, "a\\x00b"), codes: DAMAGED },
    Class { name: "name: .", make: |f| with_name(f, "."), codes: DAMAGED },
    Class { name: "name: empty", make: |f| with_name(f, ""), codes: DAMAGED },
    Class { name: "name: that cannot be decoded", make: |f| with_name(f, "a\\q\u{1b}[2J"), codes: DAMAGED },
    Class { name: "name: twice", make: |f| with_nodes(f, &[evil(f, "a"), evil(f, "a")]), codes: DAMAGED },
    Class { name: "name: twice, quoted in two ways", make: |f| with_nodes(f, &[evil(f, "\\x1b[2J"), evil(f, "\\u001b[2J")]), codes: DAMAGED },
    Class { name: "name: of 300 bytes", make: |f| with_name(f, &"n".repeat(300)), codes: UNFIT },
    Class { name: "name: of 5,000 bytes", make: |f| with_name(f, &"n".repeat(5000)), codes: UNFIT },
    Class { name: "name: newline, escape, direction override", make: |f| with_nodes(f, &[evil(f, "a\\nb\\x1b[2J"), evil(f, "a\u{202e}gpj.exe"), evil(f, "a\\u009b2J"), evil(f, "a\\xff")]), codes: HARMLESS },
    Class { name: "link: then a folder of its name", make: with_link_and_folder, codes: DAMAGED },
    Class { name: "link: then a file through it", make: |f| with_nodes(f, &[link("a", "../../outside"), evil(f, "a/canary.txt")]), codes: DAMAGED },
    Class { name: "link: to the canaries, relative, absolute, to itself", make: |f| with_nodes(f, &[link("a", "../beside.txt"), link("b", "/etc/passwd"), link("c", "c")]), codes: HARMLESS },
    Class { name: "link: with a text of 10,000 bytes, of none, with NUL, with an escape", make: |f| with_nodes(f, &[link("a", &"x/".repeat(5000)), link("b", "x\0y"), link("c", "\u{1b}[2J"), link("d", "")]), codes: [&[0], &[0], &[0], &[3], &[0], &[0]] },
];

#[test]
fn names_that_would_leave_the_target() {
    play(CLASSES);
}
