//! A source that is already damaged: told on the day it breaks, kept as suspect, and never a reason for a good
//! snapshot to go.

use crate::common::Place;
use crate::common::program::{Program, Run};
use crate::common::shop::Shop;

fn assert_code(run: &Run, code: i32) {
    assert_eq!(run.code, code, "{}", run.text());
}

#[test]
fn a_corrupt_source_is_told_at_once_and_never_ages_the_good_ones_out() {
    for mode in ["wal", "delete"] {
        let place = Place::new();
        let shop = Shop::open(&place.join("shop"), 2000, mode);
        let program = Program::with_cheap_repository(place.path());
        let folder = shop.folder.to_str().unwrap();
        assert_code(&program.run(&["backup", folder]), 0);
        let good = program.run(&["--json", "snapshots"]).objects()[0]["id"].clone();
        let good = good.as_str().unwrap();

        shop.exchange_two_leaves();
        for quiet in [&["-q"][..], &[]] {
            let words = [quiet, &["backup", folder]].concat();
            let run = program.run(&words);
            assert_code(&run, 6);
            assert!(
                run.stderr.contains("SQLite finds it damaged: "),
                "{mode}: {}",
                run.stderr
            );
            assert!(
                run.stdout.contains("saved, but suspect"),
                "{mode}: {}",
                run.stdout
            );
        }
        let summary = program
            .run(&["--json", "backup", folder])
            .objects()
            .pop()
            .unwrap();
        assert_eq!(summary["suspect"], true, "{summary}");
        assert_eq!(summary["exit_code"], 6, "{summary}");

        let listed = program.run(&["--json", "snapshots"]).objects();
        let suspect = |tags: &serde_json::Value| tags.to_string().contains("suspect");
        let marks: Vec<bool> = listed
            .iter()
            .filter(|one| one["message_type"] == "snapshot")
            .map(|one| suspect(&one["tags"]))
            .collect();
        assert_eq!(marks, [false, true, true, true], "{mode}");

        // By the rule alone the newest would stay, and the good one go.
        assert_code(&program.run(&["forget", "--keep-last", "1"]), 0);
        let listed = program.run(&["snapshots"]).stdout;
        assert!(listed.contains(&good[..8]), "{mode}: {listed}");
        let target = place.join("restored");
        let run = program.run(&["restore", good, "--target", target.to_str().unwrap()]);
        assert_code(&run, 0);

        // Of the suspect one all is restored as it was, and nobody calls it proved.
        let run = program.run(&["verify", "latest"]);
        assert_code(&run, 7);
    }
}
