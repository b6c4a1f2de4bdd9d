//! `forget` from outside: what it says, what it removes, what it refuses.

use std::fs;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tillsafe::id::Id;
use tillsafe::repository::snapshot::SnapshotFile;

use crate::common::Place;
use crate::common::files::{files_below, flip_a_bit, names_with};
use crate::common::forge::Forge;
use crate::common::library::{back_up, full_check, snapshots};
use crate::common::program::Program;
use crate::common::restic::Restic;

const DAY: i64 = 24 * 60;

/// A repository whose snapshots are all of one small folder, with any dates, marks and machines.
pub struct Forged {
    pub place: Place,
    pub program: Program,
    forge: Forge,
    file: SnapshotFile,
    now: Timestamp,
}

impl Forged {
    /// With no snapshot.
    pub fn new() -> Self {
        let place = Place::new();
        let program = Program::with_cheap_repository(place.path());
        let folder = place.join("shop");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("till.txt"), "42").unwrap();
        let first = back_up(&program.backend(), &folder).unwrap().snapshot;
        let forge = Forge::open(&program.repository);
        forge.repository.remove_snapshot(first.id).unwrap();
        Self {
            place,
            program,
            forge,
            file: first.file,
            now: Timestamp::now(),
        }
    }

    /// With one a day, the newest of yesterday.
    pub fn daily(count: i64) -> (Self, Vec<Id>) {
        let forged = Self::new();
        let one = |day: i64| forged.add_days_ago(count - day, |_| {});
        let ids = (0..count).map(one).collect();
        (forged, ids)
    }

    pub fn add_minutes_ago(&self, minutes: i64, change: impl FnOnce(&mut SnapshotFile)) -> Id {
        let mut file = self.file.clone();
        file.time = self.now - SignedDuration::from_mins(minutes);
        "till".clone_into(&mut file.hostname);
        change(&mut file);
        self.forge.repository.save_snapshot(file).unwrap().id
    }

    pub fn add_days_ago(&self, days: i64, change: impl FnOnce(&mut SnapshotFile)) -> Id {
        self.add_minutes_ago(days * DAY, change)
    }

    /// The snapshots that are there, oldest first.
    pub fn there(&self) -> Vec<Id> {
        snapshots(&self.program.backend())
            .iter()
            .map(|one| one.id)
            .collect()
    }

    fn state(&self) -> std::path::PathBuf {
        let mut found = files_below(&self.place.join("state/tillsafe/retention"));
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }
}

fn decisions(objects: &[Value]) -> Vec<&Value> {
    let is_decision = |object: &&Value| object["message_type"] == "decision";
    objects.iter().filter(is_decision).collect()
}

#[test]
fn a_dry_run_explains_each_snapshot_and_the_run_does_just_that() {
    let (forged, ids) = Forged::daily(9);
    let words = [
        "forget",
        "--keep-last",
        "2",
        "--keep-weekly",
        "1",
        "--dry-run",
    ];
    let run = forged.program.ok(&words);
    for id in &ids {
        let line = run
            .stdout
            .lines()
            .find(|line| line.contains(&id.short()))
            .unwrap();
        assert!(
            line.contains("snapshot") || line.contains("no rule keeps it"),
            "{line}"
        );
    }
    assert!(run.stdout.contains("would remove"), "{}", run.stdout);
    assert!(run.stderr.contains("the first run"), "{}", run.stderr);
    assert_eq!(forged.there(), ids, "nothing is done");
    assert!(
        !forged.place.join("state").exists(),
        "and nothing is remembered"
    );
    let (code, objects) = forged.program.json(&words);
    assert_eq!(code, 0);
    let would = decisions(&objects);
    assert_eq!(would.len(), 9);
    let stays = |one: &&&Value| one["removed"] == false;
    let stay: Vec<&str> = would
        .iter()
        .filter(stays)
        .map(|one| one["id"].as_str().unwrap())
        .collect();
    assert!((2..=3).contains(&stay.len()), "{stay:?}");
    for one in &would {
        let reasons = one["reasons"].as_array().unwrap();
        assert_eq!(reasons.is_empty(), one["removed"] == true, "{one}");
    }
    let run = forged
        .program
        .ok(&["-q", "forget", "--keep-last", "2", "--keep-weekly", "1"]);
    assert_eq!(run.stdout, "");
    let mut there: Vec<String> = forged.there().iter().map(Id::to_string).collect();
    there.reverse();
    assert_eq!(there, stay);
    assert!(full_check(&forged.program.backend()).damage.is_empty());
    let run = forged
        .program
        .ok(&["-q", "forget", "--keep-last", "2", "--keep-weekly", "1"]);
    assert_eq!(run.text(), "", "silent on success");
    assert_eq!(forged.there().len(), stay.len());
    assert!(!forged.program.has_lock());
}

#[test]
fn restic_finds_nothing_wrong_afterwards() {
    let (forged, _) = Forged::daily(9);
    forged.program.ok(&["forget", "--keep-last", "3"]);
    for restic in Restic::all_on(&forged.program) {
        restic.ok(&["check", "--read-data"]);
    }
}

#[test]
fn what_came_in_since_the_last_run_stays_until_the_next() {
    let (forged, _) = Forged::daily(5);
    forged.program.ok(&["forget", "--keep-last", "1"]);
    assert_eq!(forged.there().len(), 1);
    let new: Vec<Id> = (1..=3)
        .map(|minutes| forged.add_minutes_ago(10 - minutes, |_| {}))
        .collect();
    let run = forged
        .program
        .ok(&["forget", "--keep-last", "1", "--dry-run"]);
    assert!(
        run.stdout.contains("came in since the last run"),
        "{}",
        run.stdout
    );
    forged.program.ok(&["forget", "--keep-last", "1"]);
    assert_eq!(
        forged.there().len(),
        4,
        "and what was the last good one stays as well"
    );
    forged.program.ok(&["forget", "--keep-last", "1"]);
    assert_eq!(forged.there(), new[2..]);
}

#[test]
fn a_shop_is_one_series_whatever_machine_it_was_on_and_filters_choose() {
    let forged = Forged::new();
    for day in 1..=4 {
        for shop in ["mara", "ilse"] {
            forged.add_days_ago(day, |file| {
                file.hostname = format!("machine-{day}");
                file.tags = vec![format!("shop={shop}")];
                file.time += SignedDuration::from_secs(i64::from(shop == "ilse"));
            });
        }
        forged.add_days_ago(day, |_| {});
    }
    forged
        .program
        .ok(&["forget", "--keep-last", "2", "--tag", "shop=mara"]);
    assert_eq!(forged.there().len(), 10);
    forged
        .program
        .ok(&["forget", "--keep-last", "2", "--host", "till"]);
    assert_eq!(forged.there().len(), 8);
    let run = forged.program.ok(&["forget", "--keep-last", "2"]);
    assert!(
        run.stdout.contains("shop=ilse: keep 2, remove 2"),
        "{}",
        run.stdout
    );
    assert_eq!(forged.there().len(), 6);
    let folder = forged.place.join("shop");
    forged.program.ok(&[
        "forget",
        "--keep-last",
        "1",
        "--path",
        folder.to_str().unwrap(),
    ]);
    assert_eq!(forged.there().len(), 3);
}

#[test]
fn named_snapshots_go_but_for_the_last_good_one() {
    let (forged, ids) = Forged::daily(4);
    let (first, second) = (ids[0].to_string(), ids[1].short());
    forged.program.ok(&["forget", &first, &second, "--dry-run"]);
    assert_eq!(forged.there(), ids);
    forged.program.ok(&["forget", &first, &second]);
    assert_eq!(forged.there(), ids[2..]);
    let last = ids[3].short();
    let run = forged.program.run(&["forget", &ids[2].short(), &last]);
    assert_eq!(run.code, 20);
    assert!(
        run.stderr.contains("the last good snapshot"),
        "{}",
        run.stderr
    );
    assert_eq!(forged.there(), ids[2..], "and nothing else was removed");
    for (word, code) in [("latest", 2), ("abc", 2), (&first, 13)] {
        assert_eq!(forged.program.run(&["forget", word]).code, code, "{word}");
    }
    let bad = forged.add_minutes_ago(5, |file| file.tags = vec!["incomplete".to_owned()]);
    forged.program.ok(&["forget", &bad.short()]);
    assert_eq!(forged.there(), ids[2..]);
}

#[test]
fn incomplete_and_suspect_snapshots_age_no_good_one_out() {
    let (forged, ids) = Forged::daily(3);
    for (minutes, mark) in [(30, "incomplete"), (20, "suspect"), (10, "incomplete")] {
        forged.add_minutes_ago(minutes, |file| file.tags = vec![mark.to_owned()]);
    }
    forged.program.ok(&["forget", "--keep-last", "1"]);
    let there = forged.there();
    assert_eq!(there.len(), 2, "the last good one, and the last as it is");
    assert_eq!(there[0], ids[2]);
}

#[test]
fn the_last_one_that_verify_has_proved_stays() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let shop = crate::common::shop::Shop::open(&place.join("shop"), 20, "wal");
    let folder = shop.folder.to_str().unwrap().to_owned();
    let mut ids = Vec::new();
    for _ in 0..3 {
        shop.sell(2);
        program.ok(&["backup", &folder]);
        ids.push(snapshots(&program.backend()).pop().unwrap().id);
    }
    program.ok(&["verify", &ids[0].short()]);
    let run = program.ok(&["forget", "--keep-last", "1"]);
    let all = snapshots(&program.backend());
    let there = all.iter().filter(|one| !one.is_record()).map(|one| one.id);
    assert_eq!(
        there.collect::<Vec<Id>>(),
        [ids[0], ids[2]],
        "{}",
        run.text()
    );
    let refused = program.run(&["forget", &ids[0].short()]);
    assert_eq!(refused.code, 20, "{}", refused.text());
    // A later one is proved: it may go once a run has seen that.
    program.ok(&["verify", &ids[2].short()]);
    program.ok(&["forget", "--keep-last", "1"]);
    program.ok(&["forget", "--keep-last", "1"]);
    program.ok(&["prune", "--now"]);
    program.ok(&["check", "--read-data"]);
    assert_eq!(program.run(&["verify", &ids[0].short()]).code, 13);
    program.ok(&["verify", "proven"]);
}

/// One that has lost its root has nothing that could be restored: it makes no whole one go.
#[test]
fn a_snapshot_that_is_hollow_makes_no_good_one_go() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let shop = crate::common::shop::Shop::open(&place.join("shop"), 20, "wal");
    let folder = shop.folder.to_str().unwrap().to_owned();
    program.ok(&["backup", &folder]);
    let whole = snapshots(&program.backend()).pop().unwrap().id;
    let before = files_below(&program.repository.join("data"));
    shop.sell(2);
    program.ok(&["backup", &folder]);
    for pack in files_below(&program.repository.join("data")) {
        if !before.contains(&pack) {
            fs::remove_file(pack).unwrap();
        }
    }
    let run = program.ok(&["forget", "--keep-last", "1"]);
    assert!(
        run.stderr.contains("nothing of it can be restored"),
        "{}",
        run.text()
    );
    let there = snapshots(&program.backend());
    assert!(there.iter().any(|one| one.id == whole), "{}", run.text());
}

/// A record that cannot be read may be the proof that counts.
#[test]
fn with_a_damaged_record_no_policy_removes_anything() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let shop = crate::common::shop::Shop::open(&place.join("shop"), 20, "wal");
    let folder = shop.folder.to_str().unwrap().to_owned();
    program.ok(&["backup", &folder]);
    let first = snapshots(&program.backend()).pop().unwrap().id;
    let before = files_below(&program.repository.join("data"));
    program.ok(&["verify"]);
    for pack in files_below(&program.repository.join("data")) {
        if !before.contains(&pack) {
            flip_a_bit(&pack);
        }
    }
    for _ in 0..2 {
        shop.sell(2);
        program.ok(&["backup", &folder]);
    }
    let run = program.run(&["forget", "--keep-last", "1"]);
    assert_eq!(run.code, 4, "{}", run.text());
    let there = snapshots(&program.backend());
    assert!(there.iter().any(|one| one.id == first), "{}", run.text());
}

#[test]
fn what_is_not_plausibly_dated_is_named_and_stays() {
    let (forged, ids) = Forged::daily(3);
    let future = forged.add_days_ago(-10, |_| {});
    let run = forged.program.ok(&["forget", "--keep-last", "1"]);
    assert!(
        run.stderr.contains("it is dated in the future"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains(&future.short()), "{}", run.stderr);
    assert_eq!(forged.there(), [ids[2], future]);
    let past = forged.add_days_ago(100, |_| {});
    let (code, objects) = forged.program.json(&["forget", "--keep-last", "1"]);
    assert_eq!(
        (code, &objects.last().unwrap()["doubtful"]),
        (0, &Value::from(2))
    );
    assert_eq!(forged.there(), [past, ids[2], future]);
    // Their owner says that the past is real; the future never is.
    forged
        .program
        .ok(&["forget", "--keep-last", "1", "--trust-history"]);
    assert_eq!(forged.there(), [ids[2], future]);
    forged.program.ok(&["forget", &future.short()]);
    assert_eq!(forged.there(), [ids[2]]);
}

#[test]
fn a_flood_is_refused_and_the_other_series_are_done() {
    let (forged, ids) = Forged::daily(5);
    for day in 1..=3 {
        forged.add_days_ago(day, |file| file.tags = vec!["shop=ilse".to_owned()]);
    }
    forged.program.ok(&["forget", "--keep-last", "5"]);
    let forge =
        |number: i64| forged.add_minutes_ago(3, |file| file.uid = u32::try_from(number).unwrap());
    for number in 0..100 {
        forge(number);
    }
    let run = forged.program.run(&["forget", "--keep-last", "1"]);
    assert_eq!(run.code, 20);
    for word in [
        "100 snapshots came in",
        "20 would be plausible",
        "--trust-history",
        "safe: ",
    ] {
        assert!(run.stderr.contains(word), "{word}: {}", run.stderr);
    }
    let there = forged.there();
    assert_eq!(there.len(), 106, "the other shop went on");
    assert!(ids.iter().all(|id| there.contains(id)));
    let (code, objects) = forged
        .program
        .json(&["forget", "--keep-last", "1", "--dry-run"]);
    let summary = objects.last().unwrap();
    assert_eq!((code, &summary["refused_series"]), (20, &Value::from(1)));
    forged
        .program
        .ok(&["forget", "--keep-last", "1", "--trust-history"]);
    assert!(forged.there().len() <= 3, "{}", forged.there().len());
}

#[test]
fn a_snapshot_that_cannot_be_read_is_named_and_never_removed() {
    let (forged, ids) = Forged::daily(5);
    let path = forged
        .program
        .repository
        .join("snapshots")
        .join(ids[1].to_string());
    flip_a_bit(&path);
    let run = forged.program.run(&["forget", "--keep-last", "1"]);
    assert_eq!(run.code, 4, "{}", run.text());
    assert!(run.text().contains(&ids[1].to_string()), "{}", run.text());
    assert_eq!(forged.there(), ids[4..]);
    assert!(path.exists());
    let run = forged.program.run(&["forget", &ids[1].short()]);
    assert_eq!(run.code, 4, "{}", run.text());
    assert!(path.exists());
}

#[test]
fn our_own_records_are_no_backups() {
    let (forged, ids) = Forged::daily(3);
    let records: Vec<Id> = (1..=5)
        .map(|day| {
            forged.add_days_ago(day, |file| {
                file.paths = vec!["/.tillsafe/records".to_owned()];
            })
        })
        .collect();
    // Nor are they records: who knows what they stand for.
    let refused = forged.program.run(&["forget", "--keep-last", "1"]);
    assert_eq!(refused.code, 4, "{}", refused.text());
    assert_eq!(forged.there().len(), 8);
    let words = ["forget", "--keep-last", "1", "--trust-history"];
    forged.program.ok(&words);
    let there = forged.there();
    assert_eq!(there.len(), 6);
    assert!(records.iter().chain(&ids[2..]).all(|id| there.contains(id)));
}

#[test]
fn what_cannot_be_remembered_is_not_removed() {
    let (forged, ids) = Forged::daily(5);
    fs::write(forged.place.join("state"), "in the way").unwrap();
    let run = forged.program.run(&["forget", "--keep-last", "1"]);
    assert_eq!(run.code, 1, "{}", run.text());
    assert_eq!(forged.there(), ids);
    fs::remove_file(forged.place.join("state")).unwrap();
    forged.program.ok(&["forget", "--keep-last", "3"]);
    fs::write(forged.state(), "{").unwrap();
    let run = forged.program.ok(&["forget", "--keep-last", "2"]);
    assert!(run.stderr.contains("cannot be used"), "{}", run.stderr);
    assert_eq!(forged.there(), ids[3..]);
    // Without any place to remember, nothing is done either.
    let mut command = forged.program.command(&["forget", "--keep-last", "1"]);
    command.env_remove("XDG_STATE_HOME");
    if !rustix::process::geteuid().is_root() {
        let run = crate::common::program::Run::of(&mut command);
        assert_eq!(run.code, 2, "{}", run.text());
    }
    assert_eq!(forged.there(), ids[3..]);
    assert_eq!(
        names_with(&forged.program.repository.join("locks"), ""),
        [""; 0]
    );
}
