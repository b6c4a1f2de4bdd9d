//! A restore in place where somebody works against it: names that are swapped under it, folders that
//! cannot be moved, the same restore twice at once. Nothing outside is touched, and nothing is lost.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Scene, kept, text};
use crate::common::compare::describe;
use crate::common::files::files_below;
use crate::common::program::{Run, Started};
use crate::common::shop::count_orders;
use crate::common::tools::{find, skipped};

/// Renames the shop away and back, and leaves a link to the canaries in its place, until told to stop.
fn swap_names(srv: &Path, canaries: &Path, enough: &AtomicBool) {
    let (shop, away) = (srv.join("shop"), srv.join("away"));
    // The plan is made: from now on it is the copy and the swap that are disturbed.
    while kept(srv).is_empty() && !enough.load(Ordering::Relaxed) {
        std::thread::yield_now();
    }
    while !enough.load(Ordering::Relaxed) {
        if fs::rename(&shop, &away).is_ok() {
            let _ = symlink(canaries, &shop);
            std::thread::yield_now();
            // Only our own link is taken away.
            if shop.is_symlink() {
                let _ = fs::remove_file(&shop);
            }
            if !shop.exists() {
                let _ = fs::rename(&away, &shop);
            }
        }
        std::thread::yield_now();
    }
}

/// How many files below a folder are the one that only the live shop has.
fn live_notes(folder: &Path) -> usize {
    let files = files_below(folder).into_iter();
    let is_it = |path: &Path| fs::read(path).is_ok_and(|text| text == b"since the backup");
    files.filter(|path| is_it(path)).count()
}

#[test]
fn somebody_who_renames_under_it_gains_nothing() {
    let mut codes = Vec::new();
    for round in 0..12 {
        let scene = Scene::new();
        let srv = scene.place.join("srv");
        let canaries = scene.place.join("outside");
        fs::create_dir_all(canaries.join("shop")).unwrap();
        fs::write(canaries.join("canary"), "yellow").unwrap();
        let before = describe(&canaries, &|_| false);
        let hash = scene.plan(&["latest"]);
        let enough = AtomicBool::new(false);
        let words = ["restore", "latest", "--in-place", "--plan", &hash];
        let run = std::thread::scope(|scope| {
            scope.spawn(|| swap_names(&srv, &canaries, &enough));
            let run = scene.program.run(&words);
            enough.store(true, Ordering::Relaxed);
            run
        });
        let what = format!("round {round}: {}", run.text());
        assert!([0, 1, 20].contains(&run.code), "{what}");
        assert!(!run.text().contains("panicked"), "{what}");
        assert_eq!(describe(&canaries, &|_| false), before, "{what}");
        assert_eq!(live_notes(&srv), 1, "what stood there is there: {what}");
        codes.push(run.code);
    }
    println!("exit codes of the rounds: {codes:?}");
}

#[test]
fn a_folder_that_cannot_be_moved_stays_whole() {
    let (Some(chattr), true) = (find("chattr"), rustix::process::geteuid().is_root()) else {
        return skipped("an immutable folder", "chattr needs root");
    };
    let scene = Scene::new();
    let change = |flag: &str| {
        let changed = Command::new(&chattr)
            .arg(flag)
            .arg(&scene.shop.folder)
            .output()
            .unwrap();
        changed.status.success()
    };
    if !change("+i") {
        return skipped("an immutable folder", "this file system has none");
    }
    let run = scene.restore("latest");
    assert!(change("-i"));
    assert_eq!(run.code, 1, "{}", run.text());
    scene.assert_old();
    assert_eq!(kept(&scene.place.join("srv")), [""; 0], "it was taken back");
    assert_eq!(scene.restore("latest").code, 0);
    scene.assert_restored();
}

/// Two engineers type the same: one after the other, or one is told.
#[test]
fn two_at_once_do_not_mix() {
    for _ in 0..4 {
        let scene = Scene::new();
        let hash = scene.plan(&["latest"]);
        let words = ["restore", "latest", "--in-place", "--plan", &hash];
        let mut others: Vec<Started> = (0..2)
            .map(|_| Started::of(&mut scene.program.command(&words)))
            .collect();
        let runs: Vec<Run> = others.drain(..).map(Started::finish).collect();
        let codes: Vec<i32> = runs.iter().map(|run| run.code).collect();
        let texts: Vec<String> = runs.iter().map(Run::text).collect();
        assert!(codes.contains(&0), "{texts:?}");
        assert!(codes.iter().all(|code| [0, 20].contains(code)), "{texts:?}");
        scene.assert_restored();
        let srv = scene.place.join("srv");
        assert_eq!(live_notes(&srv), 1, "what stood there is kept: {texts:?}");
        let all = kept(&srv);
        let old = all
            .iter()
            .map(|name| srv.join(name).join("old/shop/shop.db"));
        let orders: Vec<u32> = old.map(|database| count_orders(&database)).collect();
        assert!(orders.contains(&25), "{orders:?}");
        assert!(text(&srv).len() > 1);
    }
}
