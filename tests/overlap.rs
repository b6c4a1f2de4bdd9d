//! Cron starts the next run before the last one is done: both end well.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;

use tillsafe::backend::{self, Backend, Class, Listing, Object};
use tillsafe::error::Error;
use tillsafe::monitor::Quiet;
use tillsafe::repository::lock::{Access, Lock};

use crate::common::Place;
use crate::common::files::names_with;
use crate::common::forge::Forge;
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

/// A storage on which another machine locks all out in the moment after we have written our lock.
#[derive(Debug)]
struct Contested {
    backend: Arc<dyn Backend>,
    repository: PathBuf,
}

impl Backend for Contested {
    fn location(&self) -> String {
        self.backend.location()
    }

    fn create(&self) -> backend::Result<()> {
        self.backend.create()
    }

    fn put_new(&self, object: Object, bytes: &[u8]) -> backend::Result<()> {
        self.backend.put_new(object, bytes)?;
        if matches!(object, Object::Named(Class::Locks, _)) {
            Forge::open(&self.repository).lock_exclusively("depot");
        }
        Ok(())
    }

    fn get(&self, object: Object, limit: u64) -> backend::Result<Vec<u8>> {
        self.backend.get(object, limit)
    }

    fn get_range(&self, object: Object, offset: u64, length: usize) -> backend::Result<Vec<u8>> {
        self.backend.get_range(object, offset, length)
    }

    fn list(&self, class: Class) -> backend::Result<Listing> {
        self.backend.list(class)
    }

    fn delete(&self, object: Object) -> backend::Result<()> {
        self.backend.delete(object)
    }
}

/// What is done while others get to see our lock is not done under a lock that we turn out not to have; and who only
/// reads does not wait, and hears of it.
#[test]
fn who_was_there_at_the_same_moment_has_the_lock() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let locks = || names_with(&program.repository.join("locks"), "").len();
    let backend: Arc<dyn Backend> = Arc::new(Contested {
        backend: program.backend(),
        repository: program.repository.clone(),
    });
    let repository = open(&backend).unwrap();
    let mut done = 0;
    let taken = repository.lock_meanwhile(Access::Shared, &Quiet::default(), || {
        done += 1;
        Ok(())
    });
    let taken = taken.map(drop);
    assert!(matches!(taken, Err(Error::Locked { .. })), "{taken:?}");
    assert_eq!((done, locks()), (1, 1), "ours is taken back");
    fs::remove_dir_all(program.repository.join("locks")).unwrap();
    let (told, heard) = channel();
    let lock = Lock::take_to_read(&repository, move |cause| {
        told.send(cause.to_string()).unwrap();
    });
    let finding = heard.recv().unwrap();
    assert!(finding.contains("depot"), "{finding}");
    drop(lock.unwrap());
    assert_eq!(locks(), 1, "ours is taken back");
}
