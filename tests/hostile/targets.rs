//! Where a restore is sent to: links, loops, pipes, closed folders, and somebody who moves things about
//! while it works.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{Honest, Scene, assert_same, landscape};
use crate::common::files::{files_below, make_pipe, names_with};
use crate::common::tools::{find, skipped};

/// A kind of target, and the exit codes that are right for it.
struct Kind {
    name: &'static str,
    make: fn(&Scene, &Path),
    codes: &'static [i32],
}

#[rustfmt::skip]
const KINDS: &[Kind] = &[
    Kind { name: "a link to a full folder elsewhere", make: |scene, target| symlink(scene.place.join("outside"), target).unwrap(), codes: &[20] },
    Kind { name: "a link to a file", make: |scene, target| symlink(scene.place.join("outside/canary.txt"), target).unwrap(), codes: &[20] },
    Kind { name: "a link to nowhere", make: |scene, target| symlink(scene.place.join("outside/nothing"), target).unwrap(), codes: &[20] },
    Kind { name: "a link to itself", make: |_, target| symlink(target, target).unwrap(), codes: &[20] },
    Kind { name: "a link to the repository", make: |scene, target| symlink(&scene.program.repository, target).unwrap(), codes: &[20] },
    Kind { name: "a pipe", make: |_, target| make_pipe(target), codes: &[20] },
    Kind { name: "a socket", make: |_, target| drop(std::os::unix::net::UnixListener::bind(target).unwrap()), codes: &[20] },
    Kind { name: "a file", make: |_, target| fs::write(target, "mine").unwrap(), codes: &[20] },
    Kind { name: "a folder with a hidden file", make: |_, target| { fs::create_dir(target).unwrap(); fs::write(target.join(".mine"), "mine").unwrap(); }, codes: &[20] },
    Kind { name: "a hard link to a canary", make: |scene, target| fs::hard_link(scene.place.join("outside/canary.txt"), target).unwrap(), codes: &[20] },
];

#[test]
fn targets_that_are_none_are_refused_and_nothing_is_touched() {
    let honest = Honest::new();
    for kind in KINDS {
        let scene = Scene::new(&honest);
        (kind.make)(&scene, &scene.target());
        let before = landscape(scene.place.path(), &[]);
        let (code, text) = scene.run(kind.name, "restore");
        assert!(kind.codes.contains(&code), "{}: {code}: {text}", kind.name);
        assert_same(&before, &landscape(scene.place.path(), &[]), kind.name);
    }
}

/// A link to a folder of one's own is what its owner meant.
#[test]
fn a_link_to_an_empty_folder_and_a_parent_that_is_a_link_are_followed() {
    let honest = Honest::new();
    for through in ["target", "parent"] {
        let scene = Scene::new(&honest);
        let real = scene.place.join("real");
        fs::create_dir(&real).unwrap();
        let around = scene.place.join("around");
        let found = if through == "target" {
            symlink(&real, scene.target()).unwrap();
            real.clone()
        } else {
            fs::remove_file(around.join("beside.txt")).unwrap();
            fs::remove_dir(&around).unwrap();
            symlink(&real, &around).unwrap();
            real.join("target")
        };
        let before = landscape(scene.place.path(), std::slice::from_ref(&real));
        let (code, text) = scene.run(through, "restore");
        assert_eq!(code, 0, "{through}: {text}");
        assert!(files_below(&found).len() > 3, "{through}");
        let after = landscape(scene.place.path(), &[real]);
        assert_same(&before, &after, through);
    }
}

#[test]
fn a_parent_that_nothing_can_be_written_to_is_refused() {
    const WHAT: &str = "a restore into an immutable folder";
    let honest = Honest::new();
    let scene = Scene::new(&honest);
    let around = scene.place.join("around");
    let chattr = |flag: &str| {
        let chattr = find("chattr").map(|path| Command::new(path).arg(flag).arg(&around).output());
        chattr.is_some_and(|output| output.is_ok_and(|output| output.status.success()))
    };
    if !chattr("+i") {
        skipped(WHAT, "chattr +i needs root and a file system that knows it");
        return;
    }
    let before = landscape(scene.place.path(), &[]);
    let (code, text) = scene.run(WHAT, "restore");
    // First, or the test's own folder could not be removed.
    assert!(chattr("-i"));
    assert_eq!(code, 20, "{text}");
    assert_same(&before, &landscape(scene.place.path(), &[]), WHAT);
}

#[test]
fn a_parent_that_is_closed_to_us_is_refused() {
    const WHAT: &str = "a restore by nobody";
    let honest = Honest::new();
    let scene = Scene::new(&honest);
    let Some(setpriv) = find("setpriv").filter(|_| rustix::process::geteuid().is_root()) else {
        skipped(WHAT, "becoming somebody else needs root and setpriv");
        return;
    };
    // All but the target's parent is open to nobody: the repository, the password, the way to them.
    let open =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open(scene.place.path(), 0o755);
    for file in files_below(&scene.program.repository) {
        open(&file, 0o444);
        for folder in file
            .ancestors()
            .skip(1)
            .take_while(|folder| folder.starts_with(scene.place.path()))
        {
            open(folder, 0o755);
        }
    }
    open(&scene.place.join("password"), 0o444);
    // The program lies where nobody may not look.
    let program = scene.place.join("tillsafe");
    fs::copy(env!("CARGO_BIN_EXE_tillsafe"), &program).unwrap();
    let before = landscape(scene.place.path(), &[]);
    let words = scene.words("restore");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let command = scene.program.command(&words);
    let mut nobody = Command::new(setpriv);
    nobody
        .env_clear()
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    nobody.arg(program).args(command.get_args());
    let run = crate::common::program::Run::of(&mut nobody);
    assert_eq!(run.code, 20, "{}", run.text());
    crate::cli::assert_three_parts(&run.stderr);
    assert_same(&before, &landscape(scene.place.path(), &[]), WHAT);
}

/// Somebody with our own rights puts links to the canaries in the place of whatever is staged, for a
/// number of times: so that some restores get far.
fn race(around: &Path, outside: &Path, times: usize, stop: &AtomicBool, moved: &AtomicUsize) {
    let begun = moved.load(Ordering::Relaxed);
    let is_over = || moved.load(Ordering::Relaxed) >= begun + times;
    while !stop.load(Ordering::Relaxed) && !is_over() {
        for stage in names_with(around, ".tillsafe-stage-") {
            let stage = around.join(stage);
            let mut waiting = vec![stage.clone()];
            while let Some(folder) = waiting.pop() {
                let Ok(listed) = fs::read_dir(&folder) else {
                    continue;
                };
                for item in listed.flatten() {
                    let path = item.path();
                    if !item.file_type().is_ok_and(|kind| kind.is_dir()) {
                        continue;
                    }
                    let aside = path.with_extension("aside");
                    if path.extension().is_none() && fs::rename(&path, &aside).is_ok() {
                        // Whoever follows the link now writes beside the canaries.
                        let _ = symlink(outside, &path);
                        moved.fetch_add(1, Ordering::Relaxed);
                        std::thread::yield_now();
                        let _ = fs::remove_file(&path);
                        let _ = fs::rename(&aside, &path);
                    }
                    waiting.push(path);
                }
            }
            // And the whole of it, for a moment.
            let aside = stage.with_file_name("aside");
            if fs::rename(&stage, &aside).is_ok() {
                let _ = symlink(outside, &stage);
                moved.fetch_add(1, Ordering::Relaxed);
                std::thread::yield_now();
                let _ = fs::remove_file(&stage);
                let _ = fs::rename(&aside, &stage);
            }
        }
    }
}

#[test]
fn somebody_who_swaps_folders_for_links_meanwhile_moves_nothing_outside() {
    const ROUNDS: usize = 18;
    let honest = Honest::new();
    let (stop, moved) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut codes = Vec::new();
    for round in 0..ROUNDS {
        let scene = Scene::new(&honest);
        let around = scene.place.join("around");
        // The racing thread leaves much behind in there, but nothing of ours may be anywhere else.
        let left_out = [around.clone()];
        let outside = scene.place.join("outside");
        let before = landscape(scene.place.path(), &left_out);
        stop.store(false, Ordering::Relaxed);
        let (around, outside, stop, moved) = (&around, &outside, &stop, &moved);
        let code = std::thread::scope(|scope| {
            let times = if round % 3 == 2 {
                usize::MAX / 2
            } else {
                round
            };
            scope.spawn(move || race(around, outside, times, stop, moved));
            let played = std::panic::AssertUnwindSafe(|| scene.run("a race", "restore"));
            let played = std::panic::catch_unwind(played);
            stop.store(true, Ordering::Relaxed);
            played
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                .0
        });
        codes.push(code);
        let beside = fs::read_to_string(around.join("beside.txt")).unwrap();
        assert_eq!(beside, "canary around/beside.txt");
        assert_same(
            &before,
            &landscape(scene.place.path(), &left_out),
            &format!("round {round}"),
        );
    }
    eprintln!(
        "{ROUNDS} races, {} folders swapped, exit codes {codes:?}",
        moved.into_inner()
    );
    // 7: in the moment in which SQLite was to prove it, something else stood there.
    assert!(
        codes.iter().all(|code| [0, 1, 7, 20, 21].contains(code)),
        "{codes:?}"
    );
}
