//! Somebody who may write in a folder of uploads exchanges folders for links while root's backup walks
//! through them: nothing from outside comes in.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tillsafe::backup::Outcome;

use super::moving::{Scene, the_one};
use crate::common::files::{files_below, make_pipe};
use crate::common::library::back_up;
use crate::common::meanwhile::{back_up_and_act, back_up_meanwhile};
use crate::common::shop::noise;

const SECRET: &str = "root:$6$secret";

/// A folder of uploads in which everything lies that also lies in a secret folder beside the shop.
fn uploads(scene: &Scene) -> (PathBuf, PathBuf) {
    let (uploads, secret) = (scene.shop.join("uploads"), scene.place.join("etc"));
    for (folder, text) in [(&uploads, "upload"), (&secret, SECRET)] {
        fs::create_dir_all(folder.join("inner")).unwrap();
        for name in ["first", "shadow", "inner/shadow"] {
            fs::write(folder.join(name), format!("{text} {name}")).unwrap();
        }
    }
    (uploads, secret)
}

/// Exchanges `folder` for a link to `to`, and keeps it aside.
fn exchange(folder: &Path, to: &Path, aside: &Path) {
    fs::rename(folder, aside).unwrap();
    symlink(to, folder).unwrap();
}

fn assert_no_secret(scene: &Scene) {
    for path in files_below(&scene.restored()) {
        if fs::symlink_metadata(&path).unwrap().is_file() {
            let bytes = fs::read(&path).unwrap();
            let is_secret = bytes.starts_with(SECRET.as_bytes());
            assert!(!is_secret, "{} is the secret", path.display());
        }
    }
}

fn back_up_when_read(scene: &Scene, path: &Path, act: impl FnOnce() + Send) -> Outcome {
    // Files come in order: so many are read up to this one.
    let before = scene_files(scene)
        .iter()
        .filter(|other| **other < *path)
        .count();
    let (mut files, mut act) = (0, Some(act));
    let outcome = back_up_and_act(&scene.backend, &scene.shop, move |progress| {
        files += progress.files;
        if files == before as u64 + 1
            && let Some(act) = act.take()
        {
            act();
        }
    });
    outcome.unwrap()
}

fn scene_files(scene: &Scene) -> Vec<PathBuf> {
    let mut files = files_below(&scene.shop);
    files.sort();
    files
}

#[test]
fn a_folder_that_becomes_a_link_while_it_is_walked_through_leads_nowhere() {
    let scene = Scene::new();
    let (uploads, secret) = uploads(&scene);
    let aside = scene.place.join("aside");
    let outcome = back_up_when_read(&scene, &uploads.join("first"), || {
        exchange(&uploads, &secret, &aside);
    });
    assert_no_secret(&scene);
    // What was met is walked to its end, wherever it has been put.
    assert!(outcome.is_complete(), "{:?}", outcome.manifest.incomplete);
    let stored = scene.restored().join("uploads");
    for name in ["first", "shadow", "inner/shadow"] {
        let text = fs::read_to_string(stored.join(name)).unwrap();
        assert_eq!(text, format!("upload {name}"));
    }
    scene.assert_next_is_whole();
}

#[test]
fn a_folder_that_becomes_a_link_before_it_is_entered_is_stored_as_a_link() {
    let scene = Scene::new();
    let (uploads, secret) = uploads(&scene);
    let aside = scene.place.join("aside");
    let outcome = back_up_meanwhile(&scene.backend, &scene.shop, || {
        exchange(&uploads, &secret, &aside);
    });
    assert!(outcome.unwrap().is_complete());
    let stored = scene.restored().join("uploads");
    assert_eq!(fs::read_link(stored).unwrap(), secret);
}

#[test]
fn an_outer_folder_that_becomes_a_link_leads_nowhere() {
    let scene = Scene::new();
    let (uploads, secret) = uploads(&scene);
    let aside = scene.place.join("aside");
    let outcome = back_up_when_read(&scene, &uploads.join("inner/shadow"), || {
        exchange(&uploads, &secret, &aside);
    });
    assert_no_secret(&scene);
    let stored = scene.restored().join("uploads/shadow");
    assert_eq!(fs::read_to_string(stored).unwrap(), "upload shadow");
    assert!(outcome.is_complete(), "{:?}", outcome.manifest.incomplete);
}

/// Deeper than folders are held open: the way back up is looked for again, and found or not.
#[test]
fn a_way_back_up_that_leads_elsewhere_by_now_is_named_and_not_gone() {
    let scene = Scene::new();
    let (uploads, secret) = uploads(&scene);
    let way = |base: &Path| base.join("b/".repeat(200));
    for base in [&uploads, &secret] {
        fs::create_dir_all(way(base)).unwrap();
        fs::write(way(base).join("deepest"), "upload").unwrap();
        // It comes after the way down, with the name of a secret.
        fs::write(
            base.join("b/c"),
            if base == &secret { SECRET } else { "upload" },
        )
        .unwrap();
    }
    let outcome = back_up_when_read(&scene, &way(&uploads).join("deepest"), || ());
    assert!(outcome.is_complete(), "{:?}", outcome.manifest.incomplete);
    let stored = scene.restored().join("uploads");
    assert_eq!(fs::read_to_string(stored.join("b/c")).unwrap(), "upload");

    // All of it is read anew, or nobody would come past the moment.
    fs::write(way(&uploads).join("deepest"), "changed").unwrap();
    let aside = scene.place.join("aside");
    let outcome = back_up_when_changed(&scene, || {
        exchange(&uploads.join("b"), &secret.join("b"), &aside);
    });
    assert_no_secret(&scene);
    let finding = the_one(&outcome, "uploads/b");
    assert!(
        finding.starts_with("was moved away or exchanged while it was walked through"),
        "{finding}"
    );
    let stored = scene.restored().join("uploads");
    assert!(!stored.join("b/c").exists());
    assert_eq!(
        fs::read_to_string(stored.join("shadow")).unwrap(),
        "upload shadow"
    );
    scene.assert_next_is_whole();
}

/// Acts when the one file has been read that is changed.
fn back_up_when_changed(scene: &Scene, act: impl FnOnce() + Send) -> Outcome {
    let mut act = Some(act);
    let outcome = back_up_and_act(&scene.backend, &scene.shop, move |progress| {
        if progress.bytes == "changed".len() as u64
            && let Some(act) = act.take()
        {
            act();
        }
    });
    outcome.unwrap()
}

/// Between the list and the look a file becomes whatever waits for ever, or leads away.
#[test]
fn a_file_that_becomes_a_pipe_a_device_or_a_link_is_stored_as_that_and_holds_nobody() {
    type Become = fn(&Path, &Path);
    let becomes: [(&str, Become); 3] = [
        ("fifo", |path, _| make_pipe(path)),
        ("link", |path, secret| {
            symlink(secret.join("shadow"), path).unwrap();
        }),
        ("socket", |path, _| crate::common::files::make_socket(path)),
    ];
    for (kind, become_it) in becomes {
        let scene = Scene::new();
        let (_, secret) = uploads(&scene);
        let outcome = back_up_meanwhile(&scene.backend, &scene.shop, || {
            fs::remove_file(scene.shop.join("z")).unwrap();
            become_it(&scene.shop.join("z"), &secret);
        });
        assert!(outcome.unwrap().is_complete(), "{kind}");
        let stored = fs::symlink_metadata(scene.restored().join("z"));
        assert!(
            stored.map_or(kind == "socket", |stored| !stored.is_file()),
            "{kind}"
        );
        assert_no_secret(&scene);
    }
}

/// Somebody exchanges two folders for links and back as fast as the machine goes.
#[test]
fn links_that_come_and_go_all_the_time_let_nothing_in() {
    let scene = Scene::new();
    let (uploads, secret) = uploads(&scene);
    for base in [&uploads, &secret] {
        for number in 0..200 {
            let text = if base == &secret { SECRET } else { "upload" };
            fs::write(base.join(format!("file {number}")), text).unwrap();
        }
    }
    let links = ["link", "inner link"].map(|name| scene.place.join(name));
    symlink(&secret, &links[0]).unwrap();
    symlink(secret.join("inner"), &links[1]).unwrap();
    let ended = AtomicBool::new(false);
    let mut swaps = 0_u64;
    std::thread::scope(|scope| {
        let rival = scope.spawn(|| {
            let mut swaps = 0_u64;
            while !ended.load(Ordering::SeqCst) {
                // Twice is back.
                for (folder, link) in [
                    (uploads.join("inner"), &links[1]),
                    (uploads.clone(), &links[0]),
                ] {
                    for _ in 0..2 {
                        let flags = RenameFlags::EXCHANGE;
                        renameat_with(CWD, &folder, CWD, link, flags).unwrap();
                        swaps += 1;
                    }
                }
            }
            swaps
        });
        for round in 0..20 {
            // Each time it is read anew.
            fs::write(scene.shop.join("a"), noise(round, 100)).unwrap();
            let stored = back_up(&scene.backend, &scene.shop);
            stored.unwrap();
            assert_no_secret(&scene);
        }
        ended.store(true, Ordering::SeqCst);
        swaps = rival.join().unwrap();
    });
    println!("{swaps} exchanges in 20 backups");
    scene.assert_next_is_whole();
}
