//! Several at work on one repository, with clocks that disagree; one of them stopped, taken for dead, and
//! continued. No snapshot ever refers to a blob that is gone, or the run refuses.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tillsafe::backend::{self, Backend, Object};
use tillsafe::backup;
use tillsafe::durable::{Disk, OsDisk};

use super::*;
use crate::common::library::options;
use crate::common::passed_on::passed_on;

/// A backend that does something else before one of its mutating operations, while all others wait.
struct Interrupted {
    backend: Arc<dyn Backend>,
    at: u64,
    count: AtomicU64,
    turn: Mutex<()>,
    act: Box<dyn Fn() + Send + Sync>,
}

impl Interrupted {
    fn strike(&self) {
        let _turn = self.turn.lock().unwrap();
        if self.count.fetch_add(1, Ordering::SeqCst) + 1 == self.at {
            (self.act)();
        }
    }
}

impl fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupted")
    }
}

impl Backend for Interrupted {
    passed_on!(backend: location create get get_range list);

    fn put_new(&self, object: Object, bytes: &[u8]) -> backend::Result<()> {
        self.strike();
        self.backend.put_new(object, bytes)
    }

    fn delete(&self, object: Object) -> backend::Result<()> {
        self.strike();
        self.backend.delete(object)
    }
}

fn back_up_at(
    backend: &Arc<dyn Backend>,
    clock: &Arc<Skewed>,
    folder: &Path,
    host: &str,
) -> Result<Id> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let mut options = options(&[folder], folder.parent().unwrap(), &disk);
    host.clone_into(&mut options.host);
    let repository = open_at(backend, clock);
    let outcome = backup::backup(&repository, &options, &Quiet::default())?;
    Ok(outcome.snapshot.id)
}

/// Another machine, a year ahead: its owner removes the lock of the one that hangs, forgets all but the
/// last snapshot, and frees at once.
fn take_over(backend: &Arc<dyn Backend>) {
    let repository = open_at(backend, &Skewed::by(365 * DAY));
    for lock in repository.locks().unwrap() {
        repository.remove_lock(lock.id).unwrap();
    }
    let mut all = repository.snapshots(&Quiet::default()).unwrap().readable;
    all.pop();
    for snapshot in all {
        repository.remove_snapshot(snapshot.id).unwrap();
    }
    prune(&repository, &AT_ONCE, &Quiet::default()).unwrap();
}

#[test]
fn one_that_was_stopped_and_taken_for_dead_does_no_harm() {
    type Verb = fn(&History, &Arc<dyn Backend>, &Arc<Skewed>) -> Result<()>;
    let verbs: [(&str, Verb); 3] = [
        ("backup", |history, backend, clock| {
            back_up_at(backend, clock, &history.folder, "test").map(drop)
        }),
        ("prune", |_, backend, clock| {
            prune(&open_at(backend, clock), &THOROUGH, &Quiet::default()).map(drop)
        }),
        ("prune --now", |_, backend, clock| {
            prune(&open_at(backend, clock), &AT_ONCE, &Quiet::default()).map(drop)
        }),
    ];
    let mut history = History::in_memory();
    history.waste();
    history.change();
    history.back_up();
    // A backup now builds upon what only the older snapshots need.
    fs::write(history.folder.join("changes.bin"), noise(3, 120_000)).unwrap();
    for (verb, run) in verbs {
        // Stopped for longer than a lock is believed; or only taken for dead.
        for minutes in [40, 0] {
            let mut refused = 0;
            let operations = (1..10_000)
                .find(|at| {
                    let backend = history.copied();
                    let clock = Skewed::by(0);
                    let (other, own) = (Arc::clone(&backend), Arc::clone(&clock));
                    let interrupted = Arc::new(Interrupted {
                        backend: Arc::clone(&backend),
                        at: *at,
                        count: AtomicU64::new(0),
                        turn: Mutex::default(),
                        act: Box::new(move || {
                            take_over(&other);
                            own.advance(minutes);
                        }),
                    });
                    let through: Arc<dyn Backend> = interrupted.clone();
                    let result = run(&history, &through, &clock);
                    let is_over = interrupted.count.load(Ordering::SeqCst) < *at;
                    let what = format!("{verb}, operation {at}, {minutes} min: {result:?}");
                    assert!(
                        matches!(
                            result,
                            Ok(())
                                | Err(Error::LockLost { .. }
                                    | Error::Damaged { .. }
                                    | Error::Storage { .. })
                        ),
                        "{what}"
                    );
                    refused += u32::from(result.is_err());
                    history.assert_all_whole(&backend, &what);
                    // And nobody has to do anything before the next run.
                    back_up_at(&backend, &clock, &history.folder, "test").unwrap();
                    history.assert_all_whole(&backend, &what);
                    is_over
                })
                .unwrap();
            println!(
                "{verb}: stopped before each of {} operations for {minutes} min, refused {refused} times",
                operations - 1
            );
            assert!(refused > 0, "{verb}");
        }
    }
}

/// Each of three machines does what it likes, in any order.
#[test]
fn three_hosts_with_clocks_that_disagree_lose_nothing() {
    let seed = std::env::var("TILLSAFE_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()));
    println!("TILLSAFE_TEST_SEED={seed}");
    let history = History::in_memory();
    let backend = &history.backend;
    let tally = Mutex::new(BTreeMap::<String, u32>::new());
    std::thread::scope(|scope| {
        for (number, minutes) in [(0_u64, -10 * 60), (1, 0), (2, 400 * DAY)] {
            let tally = &tally;
            scope.spawn(move || {
                let clock = Skewed::by(minutes);
                let place = Place::new();
                let folder = place.join("shop");
                fs::create_dir_all(&folder).unwrap();
                let host = format!("host{number}");
                let mut state = seed.wrapping_mul(31).wrapping_add(number);
                let mut own: Vec<Id> = Vec::new();
                for round in 0..40_u64 {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    let chance = state >> 33;
                    fs::write(folder.join("a"), noise(chance % 5, 30_000)).unwrap();
                    fs::write(folder.join("b"), noise(100 + round, 3_000)).unwrap();
                    let (verb, result) = match chance % 10 {
                        0..=4 => {
                            let done = back_up_at(backend, &clock, &folder, &host);
                            ("backup", done.map(|id| own.push(id)))
                        }
                        5 | 6 if own.len() > 1 => {
                            let id = own.remove(0);
                            ("forget", open_at(backend, &clock).remove_snapshot(id))
                        }
                        5..=7 => (
                            "prune",
                            prune(&open_at(backend, &clock), &THOROUGH, &Quiet::default())
                                .map(drop),
                        ),
                        _ => (
                            "prune --now",
                            prune(&open_at(backend, &clock), &AT_ONCE, &Quiet::default()).map(drop),
                        ),
                    };
                    let end = match result {
                        Ok(()) => "done",
                        Err(Error::Locked { .. }) => "locked",
                        Err(cause) => panic!("seed {seed}, {host}, {verb}: {cause}"),
                    };
                    *tally
                        .lock()
                        .unwrap()
                        .entry(format!("{verb} {end}"))
                        .or_default() += 1;
                }
            });
        }
    });
    println!("{:?}", tally.into_inner().unwrap());
    let report = full_check(backend);
    assert!(report.damage.is_empty(), "seed {seed}: {:?}", report.damage);
    assert!(report.snapshots > 0 && report.lost_paths == 0);
}
