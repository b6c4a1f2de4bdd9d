//! Cron starts the next run before the last one is done: both end well.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tillsafe::backend::{self, Backend, Class, Listing, MemBackend, Object};
use tillsafe::error::Error;
use tillsafe::monitor::Quiet;
use tillsafe::repository::lock::{Access, Lock};
use tillsafe::repository::prune;

use crate::common::Place;
use crate::common::dice::Dice;
use crate::common::files::names_with;
use crate::common::forge::Forge;
use crate::common::library::{back_up, create, full_check, open};
use crate::common::passed_on::passed_on;
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

/// What a run of ours does, and another machine sees.
enum Seen<'a> {
    Written(Object, &'a [u8]),
    Listed(Class),
}

/// A storage on which another machine acts at some moment of ours.
struct Shared {
    backend: Arc<dyn Backend>,
    other: Box<dyn Fn(&Seen<'_>) + Send + Sync>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Backend for Shared {
    passed_on!(backend: location create get get_range delete);

    fn put_new(&self, object: Object, bytes: &[u8]) -> backend::Result<()> {
        self.backend.put_new(object, bytes)?;
        (self.other)(&Seen::Written(object, bytes));
        Ok(())
    }

    fn list(&self, class: Class) -> backend::Result<Listing> {
        (self.other)(&Seen::Listed(class));
        self.backend.list(class)
    }
}

/// We were stopped between our look at the locks and the writing of ours: a prune has begun beside us, does not see us, and
/// is done before we look again. What we have read of the index meanwhile names what is no more.
#[test]
fn a_prune_that_ends_while_we_take_our_lock_costs_no_snapshot_its_blobs() {
    let place = Place::new();
    let memory: Arc<dyn Backend> = Arc::new(MemBackend::default());
    create(&memory);
    let folder = place.join("pictures");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("cup.jpg"), noise(3, 300_000)).unwrap();
    // One snapshot stays.
    let other = place.join("texts");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("terms.txt"), "no returns").unwrap();
    back_up(&memory, &other).unwrap();
    let forgotten = back_up(&memory, &folder).unwrap().snapshot.id;
    let snapshot = Object::Named(Class::Snapshots, forgotten);
    memory.delete(snapshot).unwrap();
    let (raw, ours) = (Arc::clone(&memory), Mutex::new(None));
    let pruned = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&pruned);
    let shared: Arc<dyn Backend> = Arc::new(Shared {
        backend: Arc::clone(&memory),
        other: Box::new(move |seen| match seen {
            Seen::Written(lock @ Object::Named(Class::Locks, _), bytes) => {
                *ours.lock().unwrap() = Some((*lock, bytes.to_vec()));
            }
            // After the index was read.
            Seen::Listed(Class::Snapshots) => {
                let Some((lock, bytes)) = ours.lock().unwrap().take() else {
                    return;
                };
                // It has looked before our lock was there.
                raw.delete(lock).unwrap();
                let options = prune::Options {
                    now: true,
                    max_unused: prune::MaxUnused::Bytes(0),
                    dry_run: false,
                };
                let report = prune::prune(&open(&raw).unwrap(), &options, &Quiet::default());
                counted.fetch_add(report.unwrap().removed_packs, Ordering::SeqCst);
                raw.put_new(lock, &bytes).unwrap();
            }
            _ => {}
        }),
    });
    back_up(&shared, &folder).unwrap();
    assert!(pruned.load(Ordering::SeqCst) > 0, "there was no prune");
    let report = full_check(&memory);
    assert!(report.damage.is_empty(), "{report:?}");
}

/// What is done while others get to see our lock is not done under a lock that we turn out not to have; and who only
/// reads does not wait, and hears of it.
#[test]
fn who_was_there_at_the_same_moment_has_the_lock() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let locks = || names_with(&program.repository.join("locks"), "").len();
    let path = program.repository.clone();
    // Another machine locks all out in the moment after we have written our lock.
    let backend: Arc<dyn Backend> = Arc::new(Shared {
        backend: program.backend(),
        other: Box::new(move |seen| {
            if matches!(seen, Seen::Written(Object::Named(Class::Locks, _), _)) {
                Forge::open(&path).lock_exclusively("depot");
            }
        }),
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
    // A backup has read all by then, and has written nothing.
    let folder = place.join("pictures");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("cup.jpg"), noise(3, 300_000)).unwrap();
    let refused = back_up(&backend, &folder).map(drop);
    assert!(matches!(refused, Err(Error::Locked { .. })), "{refused:?}");
    let packs = names_with(&program.repository.join("data"), "");
    assert!(packs.iter().all(|name| name.len() == 2), "{packs:?}");
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

/// Sources are read while others get to see our lock; but until we have looked again nothing is written.
#[test]
fn nothing_is_written_before_our_lock_holds() {
    let place = Place::new();
    let memory: Arc<dyn Backend> = Arc::new(MemBackend::default());
    create(&memory);
    fs::write(place.join("cup.jpg"), noise(3, 40_000_000)).unwrap();
    let (tell, told) = channel();
    let (looks, told) = (AtomicU64::new(0), Mutex::new(told));
    let early = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&early);
    let shared: Arc<dyn Backend> = Arc::new(Shared {
        backend: Arc::clone(&memory),
        other: Box::new(move |seen| match seen {
            // The second look takes its time: two packs are full by then.
            Seen::Listed(Class::Locks) if looks.fetch_add(1, Ordering::SeqCst) == 1 => {
                let written = told.lock().unwrap().recv_timeout(Duration::from_secs(1));
                counted.fetch_add(u64::from(written.is_ok()), Ordering::SeqCst);
            }
            Seen::Written(Object::Named(class, _), _) if *class != Class::Locks => {
                let _ = tell.send(());
            }
            _ => {}
        }),
    });
    back_up(&shared, place.path()).unwrap();
    assert_eq!(early.load(Ordering::SeqCst), 0);
    assert!(full_check(&memory).damage.is_empty());
}

/// On a disk of this machine nobody waits before the second look, and still never are two inside who exclude each other.
#[test]
fn locks_that_nobody_waits_for_exclude_each_other() {
    /// Who is inside: the ones that share, and a thousand for each that does not.
    const ALONE: u64 = 1000;
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let backend = program.backend();
    if !backend.lists_at_once() {
        return skipped(
            "locks without a wait",
            "it is not on a disk of this machine",
        );
    }
    let inside = AtomicU64::new(0);
    let taken = [AtomicU64::new(0), AtomicU64::new(0)];
    let clashes = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (backend, inside, taken, clashes) = (&backend, &inside, &taken, &clashes);
            scope.spawn(move || {
                let (mut dice, repository) = (Dice::new(seed), open(backend).unwrap());
                for _ in 0..250 {
                    let is_alone = dice.below(3) == 0;
                    let access = if is_alone {
                        Access::Exclusive
                    } else {
                        Access::Shared
                    };
                    match repository.lock(access, &Quiet::default()) {
                        Ok(lock) => {
                            let mine = if is_alone { ALONE } else { 1 };
                            let before = inside.fetch_add(mine, Ordering::SeqCst);
                            assert!(
                                before < if is_alone { 1 } else { ALONE },
                                "seed {seed}: {before} inside"
                            );
                            std::thread::yield_now();
                            inside.fetch_sub(mine, Ordering::SeqCst);
                            taken[usize::from(is_alone)].fetch_add(1, Ordering::SeqCst);
                            drop(lock);
                        }
                        Err(Error::Locked { .. }) => drop(clashes.fetch_add(1, Ordering::SeqCst)),
                        Err(other) => panic!("seed {seed}: {other}"),
                    }
                }
            });
        }
    });
    let counts = [&taken[0], &taken[1], &clashes].map(|one| one.load(Ordering::SeqCst));
    // Whoever wants to be alone among four seldom is.
    assert!(
        counts[0] > 20 && counts[1] > 0 && counts[2] > 20,
        "{counts:?}"
    );
}
