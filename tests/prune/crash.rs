//! Prune, killed before each of its operations, and with each of them failing in turn: every snapshot
//! stays whole, and the next prune needs no help.

use tillsafe::backend::faults::FaultyBackend;
use tillsafe::durable::faults::{Fault, FaultyDisk};

use super::*;
use crate::common::child::run_child;
use crate::common::files::copy_folder;

const PATH: &str = "TILLSAFE_TEST_PRUNE";
const NOW: &str = "TILLSAFE_TEST_PRUNE_NOW";
const AT: &str = "TILLSAFE_TEST_PRUNE_AT";

/// A repository with all that a prune can meet: waste, packs that wait and are ripe, a pack in no index.
fn eventful() -> History {
    let mut history = History::with_waste();
    history.prune(-2 * DAY, &USUAL);
    history.waste();
    leave_a_pack(&history.backend);
    history
}

#[test]
fn a_failing_storage_costs_nothing_and_the_next_prune_completes() {
    let history = eventful();
    for (how, fault_at) in [
        ("once", Fault::once as fn(u64) -> Arc<Fault>),
        ("from there on", Fault::from_there_on),
    ] {
        for options in [THOROUGH, AT_ONCE] {
            let operations = (1..10_000)
                .find(|at| {
                    let backend = history.copied();
                    let fault = fault_at(*at);
                    let hurt: Arc<dyn Backend> =
                        Arc::new(FaultyBackend::new(Arc::clone(&backend), Arc::clone(&fault)));
                    let result = prune_at(&hurt, 0, &options);
                    let what = format!("{how}, {at}, {options:?}: {result:?}");
                    history.assert_all_whole(&backend, &what);
                    // The process has ended: its locks are known to be nobody's.
                    let repository = open_at(&backend, &Skewed::by(0));
                    for lock in repository.locks().unwrap() {
                        repository.remove_lock(lock.id).unwrap();
                    }
                    assert_completes(&history, &backend, &what);
                    !fault.fired()
                })
                .unwrap();
            println!(
                "{how}, now {}: {} operations failed in turn",
                options.now,
                operations - 1
            );
            assert!(operations > 8, "{operations}");
        }
    }
}

/// Two prunes later, a day apart, all that nobody needs is gone, whatever happened before.
fn assert_completes(history: &History, backend: &Arc<dyn Backend>, what: &str) {
    let done = |minutes| {
        prune_at(backend, minutes, &THOROUGH).unwrap_or_else(|cause| panic!("{what}: {cause}"))
    };
    done(0);
    done(DAY + 1);
    let last = done(2 * DAY + 2);
    let listed = backend.list(Class::Data).unwrap().objects.len() as u64;
    assert_eq!(
        (last.kept_packs, last.unused_bytes, last.waiting_packs),
        (listed, 0, 0),
        "{what}: {last:?}"
    );
    assert_eq!(backend.list(Class::Locks).unwrap().objects, [], "{what}");
    history.assert_all_whole(backend, what);
}

/// Not a test of its own: the process that is killed.
#[test]
fn child() {
    let Some(path) = std::env::var_os(PATH) else {
        return;
    };
    let at = std::env::var(AT).unwrap().parse().unwrap();
    let disk = FaultyDisk::new(OsDisk, Fault::killing(at));
    let backend: Arc<dyn Backend> = Arc::new(LocalBackend::new(
        PathBuf::from(path),
        Arc::new(disk),
        Arc::new(SystemRng),
    ));
    let options = if std::env::var_os(NOW).is_some() {
        AT_ONCE
    } else {
        THOROUGH
    };
    prune_at(&backend, 0, &options).unwrap();
}

#[test]
fn killed_before_each_operation_it_costs_nothing_and_needs_no_help() {
    let history = eventful();
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    };
    let template = folder.path().join("template");
    let backend = local(&template);
    backend.create().unwrap();
    for (object, bytes) in objects_of(&history.backend) {
        backend.put_new(object, &bytes).unwrap();
    }
    let mut kills = 0;
    for now in [false, true] {
        for at in 1.. {
            let path = folder.path().join("repository");
            copy_folder(&template, &path);
            let at_text = at.to_string();
            let mut variables = vec![(PATH, path.as_os_str()), (AT, at_text.as_ref())];
            if now {
                variables.push((NOW, "1".as_ref()));
            }
            let killed = run_child("prune::crash::child", &variables).killed;
            let what = format!("now {now}, killed before {at}");
            let backend = local(&path);
            history.assert_all_whole(&backend, &what);
            if at % 5 == 0 || !killed {
                assert_completes(&history, &backend, &what);
            } else {
                prune_at(&backend, 0, &AT_ONCE).unwrap_or_else(|cause| panic!("{what}: {cause}"));
                history.assert_all_whole(&backend, &what);
            }
            let left: Vec<PathBuf> = files_below(&path)
                .into_iter()
                .filter(|file| file.to_string_lossy().contains("-tmp-"))
                .collect();
            assert!(left.len() <= 1, "{what}: {left:?}");
            fs::remove_dir_all(&path).unwrap();
            if !killed {
                break;
            }
            kills += 1;
        }
    }
    println!("killed {kills} times");
    assert!(kills > 60, "{kills}");
}
