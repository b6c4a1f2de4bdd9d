//! `dump` of what no honest tool stores: no end, no bottom, more than any disk takes. The other commands
//! that look are played with every kind of hostile repository in `tests/hostile`.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tillsafe::id::Id;

use crate::common::Place;
use crate::common::forge::{Forge, Thing};
use crate::common::library::back_up;
use crate::common::measure::measured;
use crate::common::program::Program;
use crate::common::raw::{RawBlob, folder_node, tree_json};
use crate::common::shop::Shop;

/// A chain of trees, each made of the one below it.
fn chain(forge: &Forge, length: usize, nodes: impl Fn(Id) -> Vec<Value>) {
    let mut trees: Vec<RawBlob> = vec![forge.blob(3, &[(b"{\"nodes\":[]}\n", 1)])];
    for _ in 0..length {
        let below = trees.last().unwrap().id;
        trees.push(forge.blob(3, &[(&tree_json(&nodes(below)), 1)]));
    }
    forge.store(&trees);
    let top = trees.last().unwrap().id;
    forge.put_snapshot(&forge.next_snapshot(top));
}

fn two_to_the_40(forge: &Forge) {
    chain(forge, 40, |below| {
        vec![folder_node("a", below), folder_node("b", below)]
    });
}

fn three_thousand_deep(forge: &Forge) {
    chain(forge, 3000, |below| vec![folder_node("a", below)]);
}

fn long_paths(forge: &Forge) {
    let name = "n".repeat(250);
    chain(forge, 100, move |below| vec![folder_node(&name, below)]);
}

fn sixty_gibibytes(forge: &Forge) {
    let zeroes = Thing::File {
        bytes: vec![0; 64 << 20],
        times: 1000,
    };
    forge.snapshot_of("zeroes", &zeroes);
}

#[test]
fn a_dump_has_an_end() {
    const PATIENCE: Duration = Duration::from_mins(1);
    for (what, make, code) in [
        ("2^40 paths", two_to_the_40 as fn(&Forge), 4),
        ("3000 folders in each other", three_thousand_deep, 4),
        ("paths of 25,000 bytes", long_paths, 4),
        // As much as somebody reads of it.
        ("60 GiB of zeroes", sixty_gibibytes, 1),
    ] {
        let place = Place::new();
        let shop = Shop::open(&place.join("shop"), 5, "delete");
        let program = Program::with_cheap_repository(place.path());
        back_up(&program.backend(), &shop.folder).unwrap();
        make(&Forge::open(&program.repository));
        let dump = program.command(&["dump", "latest"]);
        let mut shell = Command::new("/bin/sh");
        let script = "{ \"$@\"; echo $? >&2; } | head -c 300000000 >/dev/null";
        shell
            .args(["-c", script, "sh"])
            .arg(dump.get_program())
            .args(dump.get_args());
        shell.stdin(Stdio::null());
        let begun = Instant::now();
        let measured = measured(&shell, PATIENCE);
        let said = &measured.run.stderr;
        assert_eq!(
            said.trim_end().lines().last(),
            Some(code.to_string().as_str()),
            "{what}: {said}"
        );
        assert_eq!(
            said.contains("error: the output is not whole"),
            code != 0,
            "{what}: {said}"
        );
        assert!(
            measured.peak < 512 << 20,
            "{what}: {} MiB",
            measured.peak >> 20
        );
        println!(
            "{what}: {} MiB, {:.1?}",
            measured.peak >> 20,
            begun.elapsed()
        );
    }
}
