//! Cron starts the next run before the last one is done: both end well.

use std::fs;
use std::process::Command;

use tillsafe::monitor::Quiet;
use tillsafe::repository::lock::Access;

use crate::common::Place;
use crate::common::library::open;
use crate::common::program::{Program, Run, Started};
use crate::common::restic::Restic;
use crate::common::shop::{Shop, noise};
use crate::common::tools::{find, skipped};

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

/// On a machine that hides the processes of one user from another (`hidepid`), a lock whose process nobody can see
/// is none of the dead.
#[test]
fn the_lock_of_somebody_whom_we_may_not_see_holds() {
    if !rustix::process::geteuid().is_root() {
        return skipped("a /proc that hides processes", "mounting one needs root");
    }
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let lock = open(&program.backend())
        .unwrap()
        .lock(Access::Shared, &Quiet::default());
    // The program may lie where nobody else may look.
    let copy = place.join("tillsafe");
    fs::copy(env!("CARGO_BIN_EXE_tillsafe"), &copy).unwrap();
    let chown = Command::new("/bin/chown")
        .args(["-R", "65534:65534"])
        .arg(place.path())
        .status();
    assert!(chown.unwrap().success());
    let mut hidden = Command::new(find("unshare").expect("util-linux is everywhere"));
    hidden.args(["--mount", "--", "/bin/sh", "-c"]);
    hidden.arg(
        "mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"",
    );
    hidden.arg("sh").arg(&copy);
    hidden.arg("-r").arg(&program.repository);
    hidden.arg("-p").arg(&program.password_file).arg("prune");
    let run = Run::of(&mut hidden);
    assert_eq!(run.code, 11, "{}", run.text());
    assert!(program.has_lock(), "it was not taken away");
    drop(lock);
    let run = Run::of(&mut hidden);
    assert_eq!(run.code, 0, "{}", run.text());
}
