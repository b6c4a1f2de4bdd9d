//! Every key that is known, and every way to be wrong, with its line.

use std::fmt::Write;

use super::World;

/// What `config check` says of each file below; a golden file holds it.
const WRONG: &[(&str, &str)] = &[
    ("nothing", ""),
    ("another version", "version = 2"),
    ("a version that is no number", "version = \"1\""),
    ("no TOML", "version = 1\n[shop\n"),
    (
        "no TOML in a text that may be secret",
        "version = 1\n[repository.usb]\npassword_command = [\"echo\", \"hunter2]\n",
    ),
    ("a key twice", "version = 1\nversion = 1\n"),
    ("a table twice", "version = 1\n[shop.a]\n[shop.a]\n"),
    (
        "unknown at the top",
        "version = 1\n[repositry.usb]\nlocation = \"/r\"\n",
    ),
    (
        "a slip of the finger",
        "version = 1\n[repository.usb]\nlocaton = \"/r\"\npassword_file = \"/p\"\n",
    ),
    (
        "unknown and unlike anything",
        "version = 1\n[repository.usb]\nlocation = \"/r\"\npassword_file = \"/p\"\n\ncolour = \"red\"\n",
    ),
    (
        "later parts of the contract",
        "version = 1\n[monitor]\ntextfile = \"/x\"\n[[alert.channel]]\ntype = \"ntfy\"\n",
    ),
    (
        "repositories elsewhere",
        "version = 1\n[repository.a]\nlocation = \"s3:https://s3.example.net/x\"\npassword_file = \"/p\"\n[repository.b]\nlocation = \"sftp:mara@host:/x\"\npassword_file = \"/p\"\ncredentials_file = \"/c\"\n",
    ),
    (
        "a secret in a location",
        "version = 1\n[repository.a]\nlocation = \"rest:https://mara:hunter2@host/x\"\npassword_file = \"/p\"\n",
    ),
    (
        "a secret as a value",
        "version = 1\n[repository.a]\nlocation = \"/r\"\npassword = \"hunter2\"\n",
    ),
    (
        "no whole path",
        "version = 1\n[repository.a]\nlocation = \"backup\"\npassword_file = \"~/p\"\n[repository.b]\nlocation = \"/a/../b\"\npassword_file = \"/p\"\n",
    ),
    (
        "passwords of many kinds",
        "version = 1\n[repository.a]\nlocation = \"/r\"\npassword_file = \"/p\"\npassword_command = [\"pass\"]\n[repository.b]\nlocation = \"/r\"\npassword_command = \"pass show x\"\n[repository.c]\nlocation = \"/r\"\npassword_credential = \"../c\"\n[repository.d]\nlocation = \"/r\"\npassword_command = []\n",
    ),
    (
        "names",
        "version = 1\n[repository.USB]\nlocation = \"/r\"\npassword_file = \"/p\"\n[shop.latest]\nfiles = [{ path = \"/a\" }]\n[shop.\"\\u001b[2J\"]\nfiles = [{ path = \"/a\" }]\n",
    ),
    (
        "a table that is none",
        "version = 1\nrepository = 3\nshop.mara = \"x\"\n",
    ),
    (
        "a list that is none",
        "version = 1\n[repository.usb]\nlocation = \"/r\"\npassword_file = \"/p\"\n[shop.a]\nfiles = \"/a\"\n[shop.b.files]\npath = \"/b\"\n",
    ),
    (
        "a shop without anything",
        "version = 1\n[repository.usb]\nlocation = \"/r\"\npassword_file = \"/p\"\n[shop.mara]\n",
    ),
    (
        "a shop without a repository",
        "version = 1\n[shop.mara]\nfiles = [{ path = \"/a\" }]\n",
    ),
    (
        "a shop with too many",
        "version = 1\n[repository]\nusb = { location = \"/r\", password_file = \"/p\" }\nnas = { location = \"/s\", password_file = \"/p\" }\n[shop.mara]\nfiles = [{ path = \"/a\" }]\n[shop.ilse]\nrepository = \"ubs\"\nfiles = [{ path = \"/a\" }]\n",
    ),
    (
        "later keys of a shop",
        "version = 1\n[repository.usb]\nlocation = \"/r\"\npassword_file = \"/p\"\n[shop.mara]\nrpo = \"26h\"\nrto = \"1h\"\ncopies = [\"nas\"]\nfiles = [{ path = \"/a\" }]\n[shop.mara.schedule]\nbackup = \"15 3 * * *\"\n[[shop.mara.drill.check]]\nname = \"x\"\n",
    ),
    (
        "databases",
        "version = 1\n[repository.usb]\nlocation = \"/r\"\npassword_file = \"/p\"\n[[shop.mara.database]]\nengine = \"mariadb\"\nsocket = \"/s\"\n[[shop.mara.database]]\nengine = \"oracle\"\npath = \"/a\"\n[[shop.mara.database]]\nengine = \"postgresql\"\nname = \"Till 1\"\npath = \"/a\"\nhost = \"db\"\nport = 70000\nmethod = \"physical\"\nsocket = \"run\"\npassword = \"hunter2\"\ncontinuous = \"wal\"\n[[shop.mara.database]]\nengine = \"postgresql\"\ndatabase = \"a\\u0000b\"\nmethod = \"copy\"\n[[shop.mara.database]]\npath = \"/b\"\nmethod = \"dump\"\n",
    ),
    (
        "sources that are one",
        "version = 1\n[repository.usb]\nlocation = \"/r\"\npassword_file = \"/p\"\n[[shop.mara.database]]\nengine = \"sqlite\"\npath = \"/a/shop.db\"\n[[shop.mara.files]]\nname = \"shop.db\"\npath = \"/b\"\n[[shop.mara.files]]\nname = \"all\"\npath = \"/b/\"\n",
    ),
    (
        "patterns",
        "version = 1\n[repository.usb]\nlocation = \"/r\"\npassword_file = \"/p\"\n[[shop.a.files]]\npath = \"/srv/a\"\nexclude = [\n  \"*.log\",\n  \"a[\",\n  \"[!a]\",\n  \"./x\",\n  \"/cache\",\n  \"/srv\",\n  \"/srv/*/cache\",\n  \"!/b\",\n]\n[[shop.a.files]]\npath = \"/srv/b\"\nexclude = \"*.log\"\n",
    ),
    (
        "rules that keep nothing",
        "version = 1\n[repository.usb]\nlocation = \"/r\"\npassword_file = \"/p\"\n[shop.a]\nfiles = [{ path = \"/a\" }]\n[shop.a.keep]\ndaily = 0\n[shop.b]\nfiles = [{ path = \"/a\" }]\n[shop.b.keep]\ndaly = 7\ndaily = -1\nlast = 4294967296\nwithin = \"5w\"\ntags = [\"a,b\"]\n",
    ),
    (
        "hooks",
        "version = 1\n[repository.usb]\nlocation = \"/r\"\npassword_file = \"/p\"\n[shop.a]\nfiles = [{ path = \"/a\" }]\n[[shop.a.hook]]\nwhen = \"before\"\nrun = \"systemctl stop shop\"\n[[shop.a.hook]]\nwhen = \"before-backup\"\nrun = []\ntimeout = 10\n[[shop.a.hook]]\nwhen = \"after-backup\"\nrun = [\"\"]\ntimeout = \"2d\"\n[[shop.a.hook]]\n",
    ),
];

#[test]
fn every_finding_is_the_one_in_the_golden_file() {
    let mut found = String::new();
    for (what, text) in WRONG {
        let world = World::new();
        world.write(text);
        let run = world.run(&["config", "check"]);
        assert_eq!(run.code, 2, "{what}: {}", run.text());
        assert!(!run.text().contains("hunter2"), "{what}: {}", run.text());
        let objects = world.run(&["--json", "config", "check"]).objects();
        let findings = objects
            .iter()
            .filter(|object| object["message_type"] == "finding");
        assert_eq!(findings.count(), run.stdout.lines().count(), "{what}");
        let place = format!("{}/", world.file.parent().unwrap().display());
        writeln!(found, "## {what}\n{}", run.stdout.replace(&place, "")).unwrap();
    }
    assert_eq!(found, include_str!("../golden/config.txt"), "\n{found}");
}

#[test]
fn a_file_with_every_key_is_right_and_is_shown_as_it_was_meant() {
    let world = World::new();
    world.write(
        "version = 1

[repository.nas]
location = \"local:/media/nas\"
password_credential = \"nas\"

[repository.usb]
location = \"/media/usb/\"
password_command = [\"/usr/bin/pass\", \"show\", \"hunter2\"]

[shop.mara]
title = \"Mara's \\\"Tea\\\" & Pottery\"
repository = \"usb\"

[[shop.mara.database]]
name = \"shop\"
engine = \"sqlite\"
path = \"/srv/mara/shop.db\"

[[shop.mara.files]]
path = \"/srv/mara/pictures\"
exclude = [\"*.tmp\", '!\\*.tmp', \"/srv/mara/pictures/cache\"]

[shop.mara.keep]
last = 3
hourly = 1
daily = 14
weekly = 8
monthly = 12
yearly = 2
within = \"1y5d\"
tags = [\"paid\"]

[[shop.mara.hook]]
when = \"before-backup\"
run = [\"/usr/bin/true\", \"https://mara:hunter2@hc.example.net/hunter2\"]
timeout = \"2m\"

[[shop.mara.hook]]
when = \"after-restore\"
run = [\"/usr/bin/true\"]
",
    );
    let run = world.ok(&["config", "check"]);
    assert!(
        run.stdout.contains("2 repositories, 1 shop"),
        "{}",
        run.text()
    );
    let shown = world.ok(&["config", "show"]).stdout;
    assert!(!shown.contains("hunter2"), "{shown}");
    for line in [
        "location = \"/media/usb\"",
        "password_command = [\"/usr/bin/pass\", \"***\"]",
        "title = \"Mara's \\\"Tea\\\" & Pottery\"",
        "name = \"pictures\"",
        "exclude = [\"*.tmp\", \"!\\\\*.tmp\", \"/srv/mara/pictures/cache\"]",
        "within = \"1y5d\"",
        "timeout = \"120s\"",
        "timeout = \"600s\"",
        "run = [\"/usr/bin/true\", \"https://hc.example.net/***\"]",
    ] {
        assert!(shown.lines().any(|found| found == line), "{line}: {shown}");
    }
    // What is shown is a configuration that means the same.
    world.write(&shown);
    let again = world.ok(&["config", "show"]).stdout;
    assert_eq!(again, shown);
    let objects = world.run(&["--json", "config", "show"]).objects();
    let whole = &objects[0];
    assert_eq!(whole["shop"]["mara"]["keep"]["daily"], 14);
    assert_eq!(whole["repository"]["nas"]["location"], "/media/nas");
}

#[test]
fn every_key_that_is_known_stands_in_the_owner_s_book() {
    let world = World::new();
    world.write("x = 1\nversion = 1\n[repository.a]\nx = 1\n[shop.a]\nx = 1\nkeep = { x = 1 }\ndatabase = [{ x = 1 }]\nfiles = [{ x = 1 }]\nhook = [{ x = 1 }]\n");
    let said = world.run(&["config", "check"]).stdout;
    let book = include_str!("../../docs/configuration.md");
    let mut lists = 0;
    for line in said
        .lines()
        .filter_map(|line| line.split("unknown key `x` (known: ").nth(1))
    {
        lists += 1;
        for key in line.trim_end_matches(')').split(", ") {
            let is_there = [
                format!("`{key}`"),
                format!("[{key}.NAME]"),
                format!(".NAME.{key}]"),
            ];
            assert!(
                is_there.iter().any(|text| book.contains(text)),
                "{key} is not in docs/configuration.md"
            );
        }
    }
    assert_eq!(lists, 7, "{said}");
}
