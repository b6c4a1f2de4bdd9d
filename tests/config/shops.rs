//! `backup` of shops: one, several, all, and what becomes of the others if one fails.

use std::fs;

use rustix::process::Signal;

use super::{USB, World, as_text};
use crate::common::library::snapshots;
use crate::common::program::{Run, Started, bare};

const MARA: &str = "[shop.mara]
repository = \"usb\"
[[shop.mara.database]]
engine = \"sqlite\"
path = \"PLACE/mara/shop.db\"
[[shop.mara.files]]
path = \"PLACE/mara/pictures\"
";
const ILSE: &str = "[shop.ilse]
repository = \"usb\"
files = [{ path = \"PLACE/ilse\" }]
";

#[test]
fn a_shop_is_backed_up_by_its_name_and_restored_by_it() {
    let world = World::new();
    let usb = world.repository("usb");
    world.shop("mara", 20);
    world.write(&(USB.to_owned() + MARA));
    let run = world.ok(&["backup", "mara"]);
    assert!(run.stdout.contains("shop.db: "), "{}", run.text());
    assert!(
        run.stdout.contains(as_text(&usb.repository)),
        "{}",
        run.text()
    );
    let all = snapshots(&usb.backend());
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].file.tags, ["shop=mara"]);
    let paths = [world.text("mara/pictures"), world.text("mara/shop.db")];
    assert_eq!(all[0].file.paths, paths);
    world.ok(&[
        "restore",
        "latest",
        "--shop",
        "mara",
        "--target",
        &world.text("back"),
    ]);
    let back = format!(
        "{}{}",
        world.text("back"),
        world.text("mara/pictures/teapot.jpg")
    );
    assert_eq!(
        fs::read(back).unwrap(),
        fs::read(world.path("mara/pictures/teapot.jpg")).unwrap()
    );
}

#[test]
fn all_shops_are_tried_and_the_worst_is_the_end() {
    let world = World::new();
    let usb = world.repository("usb");
    world.shop("ilse", 5);
    world.write(&(USB.to_owned() + MARA + ILSE));
    let run = world.run(&["backup"]);
    assert_eq!(run.code, 14, "{}", run.text());
    assert!(run.stderr.contains("error: shop mara: "), "{}", run.text());
    assert!(
        run.stdout
            .contains("1 of 2 shops saved; look at: mara (exit code 14)"),
        "{}",
        run.text()
    );
    assert_eq!(snapshots(&usb.backend()).len(), 1);
    // The first that occurs in the contract's order, whatever the order of the shops.
    fs::write(world.path("ilse/broken.db"), b"SQLite format 3\0broken").unwrap();
    let objects = Run::of(&mut world.command(&["--json", "backup", "ilse", "mara"])).objects();
    let summary = objects.last().unwrap();
    assert_eq!(summary["exit_code"], 14);
    assert_eq!(summary["repository"], as_text(&usb.repository));
    let codes: Vec<_> = summary["shops"]
        .as_array()
        .unwrap()
        .iter()
        .map(|shop| (shop["shop"].clone(), shop["exit_code"].clone()))
        .collect();
    assert_eq!(
        codes,
        [("ilse".into(), 3.into()), ("mara".into(), 14.into())]
    );
    let quiet = world.run(&["-q", "backup", "ilse"]);
    assert_eq!(quiet.code, 3);
}

#[test]
fn names_that_are_not_there_are_refused_with_those_that_are() {
    let world = World::new();
    world.write(&(USB.to_owned() + MARA + ILSE));
    let run = world.run(&["backup", "mrara"]);
    assert_eq!(run.code, 2, "{}", run.text());
    assert!(
        run.stderr.contains("did you mean mara? it has: ilse, mara"),
        "{}",
        run.stderr
    );
    let run = world.run(&["backup", "mara", "/srv"]);
    assert_eq!(run.code, 2, "{}", run.text());
    assert!(run.stderr.contains("one after the other"), "{}", run.stderr);
    world.write(USB);
    let run = world.run(&["backup"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("has no shop"), "{}", run.stderr);
    let run = Run::of(bare().arg("backup"));
    assert_eq!(run.code, 2);
    for line in [
        "tillsafe -r /media/backup/shop -p /root/shop.pass init",
        "tillsafe -r /media/backup/shop -p /root/shop.pass backup /srv/shop",
    ] {
        assert!(run.stderr.contains(line), "{line}: {}", run.stderr);
    }
}

/// Two shops in one repository are two series, and a rebuilt machine goes on with each.
#[test]
fn shops_that_share_a_repository_are_told_apart() {
    let world = World::new();
    let usb = world.repository("usb");
    world.shop("mara", 5);
    world.shop("ilse", 7);
    world.write(&(USB.to_owned() + MARA + ILSE));
    world.ok(&["backup"]);
    world.ok(&["backup", "mara", "--host", "rebuilt"]);
    for command in [
        &["ls", "latest"][..],
        &["restore", "latest", "--target", &world.text("back")],
        &["verify"],
        &["find", "*.db", "--snapshot", "latest"],
        &["dump", "latest", "--target", &world.text("dumped")],
        &["stats", "latest"],
        &["cat", "snapshot", "latest"],
        &["cat", "tree", "latest:/"],
        &["diff", "latest", "latest"],
        &["tag", "--add", "x", "latest"],
    ] {
        let run = world.run(command);
        assert_eq!(run.code, 2, "{command:?}: {}", run.text());
        assert!(
            run.stderr.contains("--shop ilse; --shop mara"),
            "{command:?}: {}",
            run.stderr
        );
        if command[0] == "restore" {
            continue;
        }
        let words = [command, &["--shop", "mara"]].concat();
        assert_eq!(
            world.run(&words).code,
            0,
            "{words:?}: {}",
            world.run(&words).text()
        );
    }
    // What only one of them holds says which is meant.
    let inner = format!("latest:{}", world.text("ilse/pictures"));
    world.ok(&["restore", &inner, "--target", &world.text("back")]);
    let objects = world
        .run(&["--json", "snapshots", "--shop", "mara"])
        .objects();
    assert_eq!(objects.last().unwrap()["snapshots"], 2);
    assert_eq!(world.run(&["ls", "latest", "--shop", "nobody"]).code, 13);
    assert_eq!(
        snapshots(&usb.backend())
            .iter()
            .filter(|one| !one.is_record())
            .count(),
        3
    );
}

#[test]
fn a_repository_inside_of_a_source_is_no_part_of_it() {
    let world = World::new();
    let usb = world.repository("usb");
    world.repository("nas");
    fs::write(world.path("till.txt"), "42").unwrap();
    let nas = "[repository.nas]\nlocation = \"PLACE/nas/repository\"\npassword_file = \"PLACE/nas/password\"\n";
    world.write(&format!(
        "{USB}{nas}[shop.all]\nrepository = \"usb\"\nfiles = [{{ path = \"PLACE\" }}]\n"
    ));
    world.ok(&["backup", "all"]);
    assert_eq!(snapshots(&usb.backend()).len(), 1);
    let listed = world.ok(&["-r", "usb", "ls", "latest"]).stdout;
    assert!(listed.contains("/till.txt"), "{listed}");
    assert!(!listed.contains("/repository/"), "{listed}");
    // So a restore in place would move it aside, and a later `rollback --discard` remove it.
    for name in ["usb", "nas"] {
        let from = format!("latest:{}", world.text(name));
        let words = ["-r", "usb", "restore", &from, "--in-place", "--dry-run"];
        let run = world.run(&words);
        assert_eq!(run.code, 20, "{}", run.text());
        let said = format!(
            "the repository {} lies there",
            world.text(&format!("{name}/repository"))
        );
        assert!(run.stderr.contains(&said), "{}", run.stderr);
    }
}

#[test]
fn forget_keeps_of_each_shop_what_its_own_rules_keep() {
    let world = World::new();
    let usb = world.repository("usb");
    world.shop("mara", 5);
    world.shop("ilse", 7);
    let third = "[shop.otto]\nrepository = \"usb\"\nfiles = [{ path = \"PLACE/ilse/pictures\" }]\n";
    let shops = |keep: &str| {
        format!(
            "{USB}{MARA}[shop.mara.keep]\nlast = {keep}\n{ILSE}[shop.ilse.keep]\nlast = 2\n{third}"
        )
    };
    world.write(&shops("1"));
    for _ in 0..4 {
        world.ok(&["backup"]);
    }
    let of = |shop: &str| {
        let tag = format!("shop={shop}");
        let all = snapshots(&usb.backend());
        all.iter()
            .filter(|one| one.file.tags.contains(&tag))
            .count()
    };
    let run = world.ok(&["forget", "--dry-run"]);
    assert!(
        run.stdout.contains("shop=mara: keep 1, would remove 3"),
        "{}",
        run.text()
    );
    assert!(
        run.stdout.contains("shop=ilse: keep 2, would remove 2"),
        "{}",
        run.text()
    );
    assert!(
        run.stderr
            .contains("shop otto: nothing is removed, for it has no [shop.otto.keep]"),
        "{}",
        run.text()
    );
    assert_eq!((of("mara"), of("ilse"), of("otto")), (4, 4, 4));
    world.ok(&["forget", "--shop", "ilse"]);
    assert_eq!((of("mara"), of("ilse"), of("otto")), (4, 2, 4));
    let objects = world.run(&["--json", "forget"]).objects();
    let summary = objects.last().unwrap();
    assert_eq!(summary["shops"].as_array().unwrap().len(), 2);
    assert_eq!(summary["repository"], as_text(&usb.repository));
    assert_eq!((of("mara"), of("ilse"), of("otto")), (1, 2, 4));
    // Rules that are typed are for all that the filters leave.
    world.ok(&["forget", "--shop", "otto", "--keep-last", "3"]);
    assert_eq!(of("otto"), 3);
    world.write(&(USB.to_owned() + MARA));
    let run = world.run(&["forget"]);
    assert_eq!(run.code, 2, "{}", run.text());
    assert!(run.stderr.contains("[shop.NAME.keep]"), "{}", run.stderr);
}

/// Whatever took its place must not be stored as a plain file under its name, with exit code 0.
#[test]
fn a_database_that_is_none_any_more_costs_the_snapshot() {
    let world = World::new();
    let usb = world.repository("usb");
    world.shop("mara", 5);
    world.write(&(USB.to_owned() + MARA));
    let database = world.path("mara/shop.db");
    for content in [&b""[..], b"SQLite format 4\0", b"gone"] {
        fs::write(&database, content).unwrap();
        let run = world.run(&["backup"]);
        assert_eq!(run.code, 14, "{}", run.text());
        assert!(
            run.stderr
                .contains("does not begin as a SQLite database does"),
            "{}",
            run.stderr
        );
    }
    let run = world.ok(&["config", "check"]);
    assert!(
        run.stderr.contains("is no SQLite database now"),
        "{}",
        run.stderr
    );
    fs::remove_file(&database).unwrap();
    assert_eq!(world.run(&["backup"]).code, 14);
    assert_eq!(snapshots(&usb.backend()).len(), 0);
}

#[test]
fn a_signal_ends_all_of_it_and_what_was_not_tried_is_named() {
    let world = World::new();
    let usb = world.repository("usb");
    world.shop("ilse", 5);
    world.shop("mara", 5);
    let hook = |when: &str, script: &str, shop: &str| {
        format!("[[shop.{shop}.hook]]\nwhen = {when:?}\nrun = [\"/bin/sh\", \"-c\", {script:?}]\n")
    };
    world.write(
        &[
            USB,
            ILSE,
            &hook("before-backup", "echo >PLACE/begun; sleep 1000", "ilse"),
            &hook("after-backup", "echo >PLACE/ended", "ilse"),
            MARA,
            &hook("after-backup", "echo >PLACE/never", "mara"),
        ]
        .concat(),
    );
    let mut started = Started::of(&mut world.command(&["backup"]));
    started.wait_until("the hook runs", || world.path("begun").exists());
    started.signal(Signal::TERM);
    let run = started.finish();
    assert_eq!(run.code, 143, "{}", run.text());
    assert!(
        run.stdout
            .contains("ilse (exit code 143), mara (not tried)"),
        "{}",
        run.text()
    );
    assert!(world.path("ended").exists());
    assert!(!world.path("never").exists(), "it never began");
    assert_eq!(snapshots(&usb.backend()).len(), 0);
}
