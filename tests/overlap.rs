//! Cron starts the next run before the last one is done: both end well.

use std::fs;

use crate::common::Place;
use crate::common::program::{Program, Started};
use crate::common::restic::Restic;
use crate::common::shop::{Shop, noise};

/// Rounds of two at once; each finds something new to store.
const ROUNDS: u64 = 4;

#[test]
fn two_backups_at_once_both_end_well_also_beside_a_prune() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 200, "wal");
    let program = Program::with_cheap_repository(place.path());
    let folder = shop.folder.to_str().unwrap();
    program.ok(&["backup", folder]);
    for round in 0..ROUNDS {
        shop.sell(20);
        fs::write(
            shop.folder.join("pictures/new.jpg"),
            noise(round + 10, 3_000_000),
        )
        .unwrap();
        let mut runs = vec![vec!["--retry-lock", "1m", "backup", folder]; 2];
        if round % 2 == 1 {
            runs.push(vec!["--retry-lock", "1m", "prune", "--now"]);
        }
        let started: Vec<Started> = runs
            .iter()
            .map(|words| Started::of(&mut program.command(words)))
            .collect();
        for (words, started) in runs.iter().zip(started) {
            let run = started.finish();
            assert_eq!(run.code, 0, "{words:?}: {}", run.text());
        }
    }
    let listed = program.ok(&["--json", "snapshots"]).objects();
    let snapshots = listed
        .iter()
        .filter(|one| one["message_type"] == "snapshot")
        .count();
    assert_eq!(snapshots as u64, 1 + 2 * ROUNDS);
    program.ok(&["verify"]);
    program.ok(&["prune", "--now"]);
    program.ok(&["check", "--read-data"]);
    for restic in Restic::all_on(&program) {
        restic.assert_clean();
    }
}
