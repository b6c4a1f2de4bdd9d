//! Hooks: their order, what they are told, and what becomes of a run if one fails, hangs or is stopped.

use std::fmt::Write;
use std::fs;
use std::time::Instant;

use rustix::process::Signal;

use super::{USB, World};
use crate::common::library::snapshots;
use crate::common::program::{Program, Run, Started};

/// A shop whose hooks write into `log` what they are told; `HOOKS` of them stand in the file.
fn world(hooks: &[(&str, &str)]) -> (World, Program) {
    let world = World::new();
    let usb = world.repository("usb");
    world.shop("mara", 5);
    let mut text = USB.to_owned() + "[shop.mara]\nfiles = [{ path = \"PLACE/mara\" }]\n";
    for (when, script) in hooks {
        let script = script.replace(
            "LOG",
            "echo $0 $TILLSAFE_SHOP $TILLSAFE_REPOSITORY [$TILLSAFE_SNAPSHOT_ID] [$TILLSAFE_EXIT_CODE] >>PLACE/log",
        );
        let _ = write!(
            text,
            "[[shop.mara.hook]]\nwhen = \"{when}\"\nrun = [\"/bin/sh\", \"-c\", {script:?}, \"{when}\"]\ntimeout = \"1s\"\n"
        );
    }
    world.write(&text);
    (world, usb)
}

impl World {
    /// What the hooks have written, a line each, without the place.
    fn log(&self) -> Vec<String> {
        let place = format!("{}/", self.file.parent().unwrap().display());
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        log.lines().map(|line| line.replace(&place, "")).collect()
    }
}

#[test]
fn hooks_are_run_in_their_order_and_told_how_it_went() {
    let (world, usb) = world(&[
        ("after-backup", "LOG"),
        ("before-backup", "LOG; test -z \"$TILLSAFE_PASSWORD\""),
        ("before-backup", "echo said; LOG"),
        ("before-restore", "LOG"),
    ]);
    let run = Run::of(
        world
            .command(&["backup"])
            .env("TILLSAFE_PASSWORD", "hunter2"),
    );
    assert_eq!(run.code, 0, "{}", run.text());
    let id = snapshots(&usb.backend())[0].id;
    let expected = [
        "before-backup mara usb/repository [] []".to_owned(),
        "before-backup mara usb/repository [] []".to_owned(),
        format!("after-backup mara usb/repository [{id}] [0]"),
    ];
    assert_eq!(world.log(), expected);
    let objects = world.run(&["--json", "backup", "mara"]).objects();
    let hooks: Vec<_> = objects
        .iter()
        .filter(|object| object["message_type"] == "hook")
        .collect();
    assert_eq!(hooks.len(), 3);
    assert_eq!(hooks[1]["output"], "said\n");
    assert_eq!(hooks[2]["hook_exit_code"], 0);
}

#[test]
fn a_failed_hook_before_costs_the_snapshot_and_those_after_run_all_the_same() {
    let (world, usb) = world(&[
        (
            "before-backup",
            "LOG; printf 'no such \\033[2J service' >&2; exit 7",
        ),
        ("before-backup", "LOG; exit 9"),
        ("after-backup", "LOG"),
        ("after-backup", "LOG"),
    ]);
    let run = world.run(&["backup", "mara"]);
    assert_eq!(run.code, 14, "{}", run.text());
    for words in [
        "shop mara: the hook before-backup `/bin/sh -c ",
        "ended with exit code 7; it said: no such",
        "safe: no snapshot was made",
    ] {
        assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
    }
    assert!(!run.text().contains('\u{1b}'));
    assert_eq!(snapshots(&usb.backend()).len(), 0);
    let after = "after-backup mara usb/repository [] [14]";
    assert_eq!(
        world.log(),
        ["before-backup mara usb/repository [] []", after, after]
    );
}

#[test]
fn a_failed_hook_after_is_no_success_and_the_snapshot_stays() {
    let (world, usb) = world(&[("after-backup", "LOG; kill -9 $$"), ("after-backup", "LOG")]);
    let run = world.run(&["-q", "backup"]);
    assert_eq!(run.code, 1, "{}", run.text());
    assert!(
        run.stderr
            .contains("was ended by signal 9; it said nothing"),
        "{}",
        run.stderr
    );
    assert_eq!(snapshots(&usb.backend()).len(), 1);
    assert_eq!(world.log().len(), 2);
}

#[test]
fn hooks_after_run_also_if_the_repository_cannot_be_opened() {
    let (world, usb) = world(&[("before-backup", "LOG"), ("after-backup", "LOG")]);
    usb.write_password("another");
    let run = world.run(&["backup"]);
    assert_eq!(run.code, 12, "{}", run.text());
    assert_eq!(world.log(), ["after-backup mara usb/repository [] [12]"]);
}

#[test]
fn a_hook_that_hangs_is_ended_with_all_that_it_started() {
    let (world, usb) = world(&[
        (
            "before-backup",
            "trap 'echo asked >>PLACE/log; exit 0' TERM; sleep 1000 & echo $! >PLACE/child; wait",
        ),
        ("after-backup", "LOG"),
    ]);
    let begun = Instant::now();
    let run = world.run(&["backup"]);
    assert_eq!(run.code, 14, "{}", run.text());
    assert!(begun.elapsed().as_secs() < 9, "{:?}", begun.elapsed());
    assert!(
        run.stderr
            .contains("had not ended after 1.0 s and was stopped"),
        "{}",
        run.stderr
    );
    assert_eq!(
        world.log(),
        ["asked", "after-backup mara usb/repository [] [14]"]
    );
    assert_eq!(snapshots(&usb.backend()).len(), 0);
    let child = fs::read_to_string(world.path("child")).unwrap();
    let state = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
}

#[test]
fn a_hook_that_prints_without_end_and_leaves_something_behind_is_no_endless_wait() {
    let (world, _usb) = world(&[(
        "before-backup",
        "head -c 3000000 /dev/zero | tr '\\0' x; echo the end; (sleep 20) & exit 3",
    )]);
    let begun = Instant::now();
    let objects = world.run(&["--json", "backup"]).objects();
    assert!(begun.elapsed().as_secs() < 15, "{:?}", begun.elapsed());
    let hook = objects
        .iter()
        .find(|object| object["message_type"] == "hook")
        .unwrap();
    let output = hook["output"].as_str().unwrap();
    assert_eq!(output.len(), 8192);
    assert!(output.ends_with("xthe end\n"));
    assert_eq!(hook["output_cut_bytes"], 3_000_008 - 8192);
    assert_eq!(hook["hook_exit_code"], 3);
}

#[test]
fn a_signal_ends_what_comes_before_and_what_comes_after_still_runs() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let (world, usb) = world(&[
            ("before-backup", "LOG; exec sleep 1000"),
            ("before-backup", "LOG"),
            ("after-backup", "LOG"),
        ]);
        let text = fs::read_to_string(&world.file).unwrap();
        fs::write(&world.file, text.replace("\"1s\"", "\"10m\"")).unwrap();
        let mut started = Started::of(&mut world.command(&["backup"]));
        started.wait_until("the hook runs", || !world.log().is_empty());
        started.signal(signal);
        let run = started.finish();
        assert_eq!(run.code, code, "{}", run.text());
        let after = format!("after-backup mara usb/repository [] [{code}]");
        assert_eq!(
            world.log(),
            ["before-backup mara usb/repository [] []", after.as_str()]
        );
        assert_eq!(snapshots(&usb.backend()).len(), 0);
        assert!(!usb.has_lock());
    }
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let (world, _usb) = world(&[]);
    let text = fs::read_to_string(&world.file).unwrap();
    let hook = "[[shop.mara.hook]]\nwhen = \"before-backup\"\nrun = [\"/no/such/program\"]\n";
    fs::write(&world.file, text + hook).unwrap();
    let run = world.run(&["backup"]);
    assert_eq!(run.code, 14, "{}", run.text());
    assert!(
        run.stderr
            .contains("`/no/such/program` cannot be started: "),
        "{}",
        run.stderr
    );
    let run = world.ok(&["config", "check"]);
    assert!(
        run.stderr
            .contains("warning: [shop.mara]: /no/such/program is no program here"),
        "{}",
        run.stderr
    );
}

/// The hook closes what has the database open, so that it can be replaced.
#[test]
fn a_restore_in_place_runs_the_hooks_of_the_shop_that_the_snapshot_is_of() {
    let (world, usb) = world(&[
        (
            "before-restore",
            "LOG; kill $(cat PLACE/holder); while kill -0 $(cat PLACE/holder) 2>/dev/null; do sleep 0.01; done",
        ),
        ("after-restore", "LOG"),
        ("before-backup", ":"),
    ]);
    world.ok(&["backup", "mara"]);
    let id = snapshots(&usb.backend())[0].id;
    let database = world.path("mara/shop.db");
    let mut holder = std::process::Command::new("/bin/sh")
        .args(["-c", "exec sleep 1000 <\"$0\"", database.to_str().unwrap()])
        .spawn()
        .unwrap();
    fs::write(world.path("holder"), holder.id().to_string()).unwrap();
    // Its end is taken note of, or it would stay as a zombie.
    let waiter = std::thread::spawn(move || holder.wait());
    let run = world.ok(&["restore", "latest", "--in-place", "--dry-run"]);
    assert!(run.stdout.contains("before-restore"), "{}", run.text());
    let plan = run
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("plan "))
        .unwrap();
    assert_eq!(world.log(), Vec::<String>::new(), "a plan runs nothing");
    world.ok(&["restore", "latest", "--in-place", "--plan", plan]);
    waiter.join().unwrap().unwrap();
    let expected = [
        format!("before-restore mara usb/repository [{id}] []"),
        format!("after-restore mara usb/repository [{id}] [0]"),
    ];
    assert_eq!(world.log(), expected);
    // Without a configuration that can be read, a restore goes on without hooks, and says so.
    fs::write(&world.file, "version = 1\nbroken").unwrap();
    let (repository, password) = (world.text("usb/repository"), world.text("usb/password"));
    let flags = [
        "-r",
        &repository,
        "-p",
        &password,
        "restore",
        "latest",
        "--in-place",
        "--dry-run",
    ];
    let run = world.ok(&flags);
    assert!(
        run.stderr.contains("warning: hooks: none is run: "),
        "{}",
        run.stderr
    );
}
