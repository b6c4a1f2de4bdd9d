//! A mixed life: operations of both programs on one repository in an order that chance gives, and after
//! each of them both read every byte. Now and then both restore a snapshot, and it is what it was.
//!
//! `TILLSAFE_SEED` repeats a life; `TILLSAFE_OPERATIONS` makes it longer.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::{Restic, setting};
use crate::common::Place;
use crate::common::compare::{describe, is_database};
use crate::common::dice::Dice;
use crate::common::program::{Program, Started};
use crate::common::shop::{Shop, count_orders, noise};
use crate::common::tools::{restics, skipped};

/// What the shop was when a snapshot was made.
struct State {
    items: BTreeMap<PathBuf, String>,
    orders: u32,
}

struct Life {
    place: Place,
    program: Program,
    /// Where snapshots are copied to.
    second: Program,
    restics: Vec<PathBuf>,
    turn: usize,
    dice: Dice,
    shop: Shop,
    /// By the time of the snapshot: its id changes with its tags.
    states: BTreeMap<Timestamp, State>,
}

/// Something that one of the two does, and how often in comparison with the others.
type Operation = (&'static str, u32, fn(&mut Life));

const OPERATIONS: &[Operation] = &[
    ("ours: backup", 8, |life| {
        life.change();
        life.backed_up(|life| {
            life.program
                .ok(&["backup", life.shop.folder.to_str().unwrap()]);
        });
    }),
    ("restic: backup", 5, |life| {
        life.change();
        life.backed_up(|life| {
            life.restic()
                .ok(&["backup", life.shop.folder.to_str().unwrap()]);
        });
    }),
    ("restic: forget", 2, |life| {
        if let Some(id) = life.any_but_the_last() {
            life.restic().ok(&["forget", &id]);
        }
    }),
    ("ours: forget", 2, |life| {
        if let Some(id) = life.any_but_the_last() {
            let run = life.program.run(&["forget", &id]);
            // The last one that `verify` has proved is not given up.
            let is_proven = run.text().contains("it is the last proven snapshot");
            assert_eq!(run.code, if is_proven { 20 } else { 0 }, "{}", run.text());
        }
    }),
    ("restic: prune", 2, |life| {
        life.restic().ok(&["prune", "--max-unused", "0"]);
    }),
    ("ours: prune", 2, |life| {
        life.program.ok(&["prune", "--max-unused", "0%"]);
    }),
    ("ours: prune, at once", 2, |life| {
        life.program.ok(&["prune", "--now", "--max-unused", "0%"]);
    }),
    ("restic: tag", 2, |life| {
        let id = life.any();
        life.restic().ok(&["tag", "--add", "theirs", &id]);
    }),
    ("ours: tag", 2, |life| {
        let id = life.any();
        life.program.ok(&["tag", &id, "--add", "ours"]);
    }),
    ("restic: key", 1, |life| {
        let file = life.new_password();
        life.restic()
            .ok(&["key", "add", "--new-password-file", &file]);
        life.drop_the_new_key();
    }),
    ("ours: key", 1, |life| {
        let file = life.new_password();
        life.program
            .ok(&["key", "add", "--new-password-file", &file]);
        life.drop_the_new_key();
    }),
    ("restic: rewrite", 1, |life| {
        let (restic, id) = (life.restic(), life.any());
        if restic.is_current() {
            restic.ok(&["rewrite", "--forget", "--exclude", "*.tmp", &id]);
        }
    }),
    ("restic: repair index", 1, |life| {
        let restic = life.restic();
        if restic.is_current() {
            restic.ok(&["repair", "index"]);
        } else {
            restic.ok(&["rebuild-index"]);
        }
    }),
    ("ours: repair index", 1, |life| {
        life.program.ok(&["repair", "index"]);
    }),
    ("restic: copy", 1, |life| {
        let id = life.any();
        let path = life.restic().path;
        Restic::on(&path, &life.second).ok(&[
            "copy",
            "--from-repo",
            life.program.repository.to_str().unwrap(),
            "--from-password-file",
            life.program.password_file.to_str().unwrap(),
            &id,
        ]);
        life.second.ok(&["check", "--read-data"]);
    }),
    ("ours: backup, killed", 2, |life| {
        life.change();
        let words = ["backup", life.shop.folder.to_str().unwrap()];
        let command = life.program.command(&words);
        life.killed(command, |life| {
            if life.dice.throw(2) == 0 {
                life.restic().ok(&["unlock"]);
            } else {
                life.program.ok(&["unlock"]);
            }
        });
    }),
    ("restic: backup, killed", 1, |life| {
        life.change();
        let restic = life.restic();
        let command = restic.command(&["backup", life.shop.folder.to_str().unwrap()]);
        life.killed(command, |life| {
            life.restic().ok(&["unlock"]);
        });
    }),
    ("ours: verify", 1, |life| {
        let id = life.any();
        life.program.ok(&["verify", &id]);
    }),
    ("both: restore", 4, |life| {
        let id = life.any();
        life.assert_restores(&id);
    }),
];

impl Life {
    /// One restic after the other.
    fn restic(&mut self) -> Restic {
        self.turn += 1;
        Restic::on(&self.restics[self.turn % self.restics.len()], &self.program)
    }

    /// The shop sells, and a few files come, go and change.
    fn change(&mut self) {
        self.shop
            .sell(1 + u32::try_from(self.dice.throw(20)).unwrap());
        for _ in 0..3 {
            let kind = ["jpg", "txt", "tmp"][self.dice.throw(3)];
            let path = self
                .shop
                .folder
                .join(format!("{}.{kind}", self.dice.throw(8)));
            if self.dice.throw(4) == 0 {
                let _ = fs::remove_file(path);
            } else {
                let size = self.dice.throw(200_000);
                fs::write(path, noise(self.dice.state(), size)).unwrap();
            }
        }
    }

    /// Runs a backup and keeps in mind what the new snapshot holds.
    fn backed_up(&mut self, back_up: impl FnOnce(&mut Self)) {
        let before = self.snapshots();
        back_up(self);
        let mut after = self.snapshots();
        after.retain(|time, _| !before.contains_key(time));
        assert_eq!(after.len(), 1, "one new snapshot");
        let state = State {
            items: describe(&self.shop.folder, &left_out),
            orders: self.shop.orders(),
        };
        self.states.insert(*after.keys().next().unwrap(), state);
    }

    /// Kills a backup at a moment that chance gives. It may have come to its end.
    fn killed(&mut self, mut command: std::process::Command, then: impl FnOnce(&mut Self)) {
        let wait = Duration::from_millis(self.dice.throw(500) as u64);
        self.backed_up_or_not(|_| {
            let mut backup = Started::of(&mut command);
            let begun = std::time::Instant::now();
            backup.comes("its moment", || begun.elapsed() >= wait);
            // Giving it up is kill -9.
        });
        then(self);
    }

    fn backed_up_or_not(&mut self, back_up: impl FnOnce(&mut Self)) {
        let before = self.snapshots().len();
        let mut finished = false;
        let items = describe(&self.shop.folder, &left_out);
        back_up(self);
        for (time, _) in self.snapshots().into_iter().skip(before) {
            finished = true;
            let (items, orders) = (items.clone(), self.shop.orders());
            self.states.insert(time, State { items, orders });
        }
        println!("  it {}", if finished { "was done" } else { "was killed" });
    }

    /// Time and id of every snapshot.
    fn snapshots(&self) -> BTreeMap<Timestamp, String> {
        let (code, listed) = self.program.json(&["snapshots"]);
        assert_eq!(code, 0, "{listed:?}");
        let snapshots = listed
            .iter()
            .filter(|one| one["message_type"] == "snapshot");
        snapshots
            .map(|one| {
                let text = |field: &str| one[field].as_str().unwrap().to_owned();
                (text("time").parse().unwrap(), text("id"))
            })
            .collect()
    }

    fn any(&mut self) -> String {
        let mut ids: Vec<String> = self.snapshots().into_values().collect();
        ids.swap_remove(self.dice.throw(ids.len()))
    }

    fn any_but_the_last(&mut self) -> Option<String> {
        let mut ids: Vec<String> = self.snapshots().into_values().collect();
        ids.pop();
        (ids.len() > 3).then(|| ids.swap_remove(self.dice.throw(ids.len())))
    }

    fn new_password(&self) -> String {
        let other = self.other();
        other.write_password("tenmoku");
        other.password_file.to_str().unwrap().to_owned()
    }

    fn other(&self) -> Program {
        Program {
            repository: self.program.repository.clone(),
            password_file: self.place.join("other"),
        }
    }

    /// Both open with the new key, and one of them removes it.
    fn drop_the_new_key(&mut self) {
        let other = self.other();
        other.ok(&["snapshots"]);
        let path = self.restic().path;
        let keys = Restic::on(&path, &other).json(&["key", "list"]);
        let mut keys = keys[0].as_array().unwrap().iter();
        let new = keys.find(|key| key["current"] == true).unwrap();
        let id = new["id"].as_str().unwrap();
        if self.dice.throw(2) == 0 {
            self.program.ok(&["key", "remove", id]);
        } else {
            self.restic().ok(&["key", "remove", id]);
        }
        assert_eq!(other.run(&["snapshots"]).code, 12);
    }

    fn assert_restores(&mut self, id: &str) {
        let snapshots = self.snapshots();
        let (time, _) = snapshots.iter().find(|(_, known)| *known == id).unwrap();
        let folder = self.shop.folder.to_str().unwrap().to_owned();
        let target = self.place.join("restored");
        let to = target.to_str().unwrap();
        let from = format!("{id}:{folder}");
        self.program.ok(&["restore", &from, "--target", to]);
        self.assert_is(*time, &target, "ours");
        let restic = self.restic();
        restic.ok(&["restore", "--no-lock", id, "--target", to]);
        let copy = target.join(folder.trim_start_matches('/'));
        self.assert_is(*time, &copy, "restic's");
        let _ = fs::remove_dir_all(&target);
    }

    /// Compares a restored folder with what it was, and removes it.
    fn assert_is(&self, time: Timestamp, folder: &Path, whose: &str) {
        let state = &self.states[&time];
        let found = describe(folder, &left_out);
        assert_eq!(found, state.items, "{whose} of {time}");
        let orders = count_orders(&folder.join("shop.db"));
        assert_eq!(orders, state.orders, "{whose} of {time}");
        fs::remove_dir_all(folder).unwrap();
    }

    fn both_read_everything(&mut self) {
        self.program.ok(&["check", "--read-data"]);
        self.restic().ok(&["check", "--read-data", "--no-lock"]);
    }
}

/// Databases are compared by their orders; temporary files may have been written out of a snapshot.
fn left_out(path: &Path) -> bool {
    is_database(path) || path.extension().is_some_and(|kind| kind == "tmp")
}

#[test]
fn a_mixed_life_leaves_every_snapshot_whole() {
    let restics: Vec<PathBuf> = restics().into_iter().map(|(_, path)| path).collect();
    if restics.len() < 2 {
        return skipped(
            "a mixed life with two versions of restic",
            "`make tools` installs them",
        );
    }
    let seed = setting("TILLSAFE_SEED")
        .unwrap_or_else(|| Timestamp::now().as_millisecond().unsigned_abs());
    println!("TILLSAFE_SEED={seed}");
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let elsewhere = place.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let second = Program::with_cheap_repository(&elsewhere);
    let shop = Shop::open(&place.join("shop"), 20, "delete");
    let mut life = Life {
        place,
        program,
        second,
        restics,
        turn: 0,
        dice: Dice::new(seed),
        shop,
        states: BTreeMap::new(),
    };
    (OPERATIONS[0].2)(&mut life);
    let weights: usize = OPERATIONS
        .iter()
        .map(|(_, weight, _)| *weight as usize)
        .sum();
    for number in 0..setting("TILLSAFE_OPERATIONS").unwrap_or(50) {
        let mut thrown = life.dice.throw(weights);
        let mut choice = OPERATIONS.iter();
        let (name, _, run) = choice
            .find(
                |(_, weight, _)| match thrown.checked_sub(*weight as usize) {
                    Some(rest) => {
                        thrown = rest;
                        false
                    }
                    None => true,
                },
            )
            .unwrap();
        println!("{number}: {name}");
        run(&mut life);
        life.both_read_everything();
    }
    for id in life.snapshots().into_values() {
        life.assert_restores(&id);
    }
    for id in life
        .second
        .json(&["snapshots"])
        .1
        .iter()
        .filter_map(|one| one["id"].as_str())
    {
        life.second.ok(&["verify", id]);
    }
}
