//! Every operation of `key add`, `passwd` and `remove` fails in turn, and the process is killed before
//! each: at every point a password opens, and the same command can be run again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tillsafe::backend::{Backend, LocalBackend};
use tillsafe::durable::OsDisk;
use tillsafe::durable::faults::{Fault, FaultyDisk};
use tillsafe::error::Result;
use tillsafe::monitor::Quiet;
use tillsafe::repository::Repository;
use tillsafe::repository::keys::Cost;
use tillsafe::rng::SystemRng;

use super::secret;
use crate::common::Place;
use crate::common::child::run_child;
use crate::common::files::{copy_folder, names_with};
use crate::common::library::{self, services};

const VERB: &str = "TILLSAFE_TEST_KEY_VERB";
const AT: &str = "TILLSAFE_TEST_KEY_AT";
const FOLDER: &str = "TILLSAFE_TEST_KEY_FOLDER";

const OLD: &str = library::PASSWORD;
const NEW: &str = "porcelain";
/// Of a third key, which `remove` removes.
const GONE: &str = "stoneware";

fn backend(folder: &Path, fault: Option<&Arc<Fault>>) -> Arc<dyn Backend> {
    let path = folder.join("repository");
    let rng = Arc::new(SystemRng);
    Arc::new(match fault {
        Some(fault) => {
            let disk = Arc::new(FaultyDisk::new(OsDisk, Arc::clone(fault)));
            LocalBackend::new(path, disk, rng)
        }
        None => LocalBackend::new(path, Arc::new(OsDisk), rng),
    })
}

fn open(backend: Arc<dyn Backend>, password: &str) -> Result<Repository> {
    Repository::open(backend, services(), &secret(password), &Quiet::default())
}

fn opens(folder: &Path, password: &str) -> bool {
    open(backend(folder, None), password).is_ok()
}

/// A repository with two keys.
fn prepare(folder: &Path) {
    let repository = library::create(&backend(folder, None));
    let added = repository.add_key(&secret(GONE), Cost::CHEAP, &Quiet::default());
    fs::write(folder.join("gone"), added.unwrap().id.to_string()).unwrap();
}

fn act(verb: &str, backend: Arc<dyn Backend>, folder: &Path) -> Result<()> {
    let repository = open(backend, OLD)?;
    // Not weak, so that what an interrupted run made is used; but no dearer than that.
    let (new, cost, quiet) = (secret(NEW), Cost::LEAST, Quiet::default());
    match verb {
        "add" => repository.add_key(&new, cost, &quiet).map(drop),
        "passwd" => repository.change_password(&new, cost, &quiet).map(drop),
        _ => {
            let id = fs::read_to_string(folder.join("gone")).unwrap();
            let there = backend_has(folder, &id);
            if there {
                repository.remove_key(&id, &quiet).map(drop)
            } else {
                Ok(())
            }
        }
    }
}

fn backend_has(folder: &Path, id: &str) -> bool {
    folder.join("repository/keys").join(id).exists()
}

/// What must hold wherever the verb stopped, and after it was run again.
fn judge(verb: &str, folder: &Path, done: bool, what: &str) {
    let (old, new) = (opens(folder, OLD), opens(folder, NEW));
    assert!(old || new, "{what}: nobody gets in");
    assert!(old || verb == "passwd", "{what}: the old password is gone");
    assert!(
        opens(folder, GONE) || verb == "remove",
        "{what}: a third key is gone"
    );
    if done {
        assert_eq!(new, verb != "remove", "{what}: the new password");
        assert_eq!(old, verb != "passwd", "{what}: the old password");
        assert_eq!(
            opens(folder, GONE),
            verb != "remove",
            "{what}: the third key"
        );
    }
    // Again, with the password that opens. Where both open, the message says how to finish.
    if old && new && verb == "passwd" {
        let refused = act(verb, backend(folder, None), folder).unwrap_err();
        let next = refused.advice().next;
        let id = next
            .split("key remove ")
            .nth(1)
            .unwrap()
            .trim_end_matches('`');
        let repository = open(backend(folder, None), NEW).unwrap();
        repository.remove_key(id, &Quiet::default()).unwrap();
    } else if old {
        act(verb, backend(folder, None), folder).unwrap_or_else(|cause| panic!("{what}: {cause}"));
    }
    let count = names_with(&folder.join("repository/keys"), "")
        .iter()
        .filter(|name| !name.contains("-tmp-"))
        .count();
    let expected = match verb {
        "add" => 3,
        "passwd" => 2,
        _ => 1,
    };
    assert_eq!(count, expected, "{what}: keys in the end");
    assert_eq!(opens(folder, NEW), verb != "remove", "{what}: in the end");
    assert_eq!(opens(folder, OLD), verb != "passwd", "{what}: in the end");
}

fn sweep(verb: &str, run: impl Fn(&Path, u64) -> (bool, bool)) -> u64 {
    let place = Place::new();
    let original = place.join("original");
    fs::create_dir(&original).unwrap();
    prepare(&original);
    for at in 1.. {
        let folder = place.join(&at.to_string());
        copy_folder(&original, &folder);
        let (fired, done) = run(&folder, at);
        judge(verb, &folder, done, &format!("{verb}, operation {at}"));
        if !fired {
            assert!(done);
            return at - 1;
        }
    }
    unreachable!("the sweep ends with a run that no fault meets")
}

#[test]
fn a_failing_disk_never_locks_anybody_out() {
    for verb in ["add", "passwd", "remove"] {
        for (how, fault_at) in [
            ("once", Fault::once as fn(u64) -> Arc<Fault>),
            ("from there on", Fault::from_there_on),
        ] {
            let operations = sweep(verb, |folder, at| {
                let fault = fault_at(at);
                let done = act(verb, backend(folder, Some(&fault)), folder).is_ok();
                // Its process would have ended: here it is we ourselves who live on.
                let locks = folder.join("repository/locks");
                for name in names_with(&locks, "") {
                    fs::remove_file(locks.join(name)).unwrap();
                }
                (fault.fired(), done)
            });
            println!("key {verb}, {how}: {operations} operations failed in turn");
            assert!(operations >= 5, "the sweep saw too little: {operations}");
        }
    }
}

#[test]
fn a_killed_process_never_locks_anybody_out() {
    for verb in ["add", "passwd", "remove"] {
        let operations = sweep(verb, |folder, at| {
            let ended = run_child(
                "keys::crash::child",
                &[
                    (VERB, verb.as_ref()),
                    (AT, at.to_string().as_ref()),
                    (FOLDER, folder.as_os_str()),
                ],
            );
            (ended.killed, !ended.killed)
        });
        println!("key {verb}: killed before each of {operations} operations");
        assert!(operations >= 5, "the sweep saw too little: {operations}");
    }
}

/// Not a test of its own: the process that the others run and kill.
#[test]
fn child() {
    let Ok(verb) = std::env::var(VERB) else {
        return;
    };
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let fault = Fault::killing(std::env::var(AT).unwrap().parse().unwrap());
    act(&verb, backend(&folder, Some(&fault)), &folder).unwrap();
}
