//! Both at once on one repository: who waits for whom, and what a killed run costs.

use std::fs;

use tillsafe::monitor::Quiet;
use tillsafe::repository::lock::Access;

use super::{Restic, each, made_by};
use crate::common::Place;
use crate::common::compare::difference;
use crate::common::library::open;
use crate::common::program::{Program, Run, Started};
use crate::common::shop::{Shop, noise};

/// While we read, somebody lists: our lock must be one that restic of that version understands.
#[test]
fn our_lock_is_understood_and_respected_in_both_versions() {
    each(|path| {
        for version in ["1", "2"] {
            let place = Place::new();
            let program = Program::in_folder(place.path());
            let restic = Restic::on(path, &program);
            made_by(&restic, &program, version);
            let lock = open(&program.backend())
                .unwrap()
                .lock(Access::Shared, &Quiet::default())
                .unwrap();
            restic.ok(&["snapshots"]);
            let refused = Run::of(&mut restic.command(&["prune"]));
            assert_ne!(refused.code, 0, "{version}: {}", refused.stdout);
            assert!(
                refused.stderr.contains("already locked"),
                "{version}: {}",
                refused.stderr
            );
            drop(lock);
            restic.ok(&["prune"]);
        }
    });
}

/// A shop whose database is locked, so that a backup of it waits with its own lock in the repository.
struct Held {
    program: Program,
    shop: Shop,
    connection: rusqlite::Connection,
}

impl Held {
    fn new(place: &Place) -> Self {
        let program = Program::with_cheap_repository(place.path());
        let shop = Shop::open(&place.join("shop"), 50, "delete");
        program.ok(&["backup", shop.folder.to_str().unwrap()]);
        let connection = shop.connect();
        let held = Self {
            program,
            shop,
            connection,
        };
        held.hold();
        held
    }

    fn hold(&self) {
        self.connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
    }

    fn let_go(&self) {
        self.connection.execute_batch("COMMIT").unwrap();
    }

    /// A backup that has its lock and waits.
    fn backup(&self) -> Started {
        let words = ["backup", self.shop.folder.to_str().unwrap()];
        let mut backup = Started::of(&mut self.program.command(&words));
        backup.wait_until("its lock", || self.program.has_lock());
        backup
    }
}

fn assert_refused(restic: &Restic) {
    let refused = Run::of(&mut restic.command(&["prune"]));
    assert_ne!(refused.code, 0, "{}", refused.stdout);
    assert!(
        refused.stderr.contains("already locked"),
        "{}",
        refused.stderr
    );
}

#[test]
fn restic_prune_keeps_away_from_our_backup() {
    each(|path| {
        let place = Place::new();
        let held = Held::new(&place);
        let restic = Restic::on(path, &held.program);
        let backup = held.backup();
        assert_refused(&restic);
        // Later versions can wait.
        let waiting = restic
            .is_current()
            .then(|| Started::of(&mut restic.command(&["prune", "--retry-lock", "2m"])));
        held.let_go();
        assert_eq!(backup.finish().code, 0);
        let waited = waiting.map(Started::finish);
        assert!(waited.is_none_or(|run| run.code == 0));
        restic.ok(&["prune"]);
        restic.assert_clean();
        let (_, verified) = held.program.json(&["verify"]);
        assert_eq!(verified.last().unwrap()["proof_level"], "matched");
    });
}

#[test]
fn a_killed_backup_of_ours_blocks_restic_until_unlock_or_our_next_run() {
    each(|path| {
        let place = Place::new();
        let held = Held::new(&place);
        let restic = Restic::on(path, &held.program);
        // Giving it up is kill -9.
        drop(held.backup());
        assert!(held.program.has_lock());
        assert_refused(&restic);
        restic.ok(&["unlock"]);
        restic.ok(&["prune"]);

        drop(held.backup());
        assert_refused(&restic);
        held.let_go();
        let words = ["backup", held.shop.folder.to_str().unwrap()];
        held.program.ok(&words);
        assert!(!held.program.has_lock(), "its next run removes it at once");
        restic.ok(&["prune"]);
        restic.assert_clean();
        held.program.ok(&["check", "--read-data"]);
    });
}

/// Both store the same new content at the same time; what is stored twice harms nobody.
#[test]
fn backups_by_both_at_the_same_time_are_whole() {
    each(|path| {
        let place = Place::new();
        let program = Program::with_cheap_repository(place.path());
        let restic = Restic::on(path, &program);
        let folder = place.join("pictures");
        fs::create_dir(&folder).unwrap();
        let words = ["backup", folder.to_str().unwrap()];
        for round in 0..3 {
            for name in 0..5 {
                let picture = noise(round * 10 + name, 2 << 20);
                fs::write(folder.join(format!("{round}-{name}.jpg")), picture).unwrap();
            }
            let ours = Started::of(&mut program.command(&words));
            let theirs = Started::of(&mut restic.command(&words));
            assert_eq!(ours.finish().code, 0);
            assert_eq!(theirs.finish().code, 0);
        }
        program.ok(&["check", "--read-data"]);
        restic.ok(&["check", "--read-data"]);
        let listed = restic.json(&["snapshots"]);
        let listed = listed[0].as_array().unwrap();
        assert_eq!(listed.len(), 6);
        for (number, snapshot) in listed.iter().rev().take(2).enumerate() {
            let target = place.join(&format!("restored-{number}"));
            let from = format!(
                "{}:{}",
                snapshot["short_id"].as_str().unwrap(),
                folder.display()
            );
            program.ok(&["restore", &from, "--target", target.to_str().unwrap()]);
            assert_eq!(difference(&folder, &target, &|_| false), None);
        }
    });
}
