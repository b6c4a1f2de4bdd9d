//! Which file is found, and whether it is believed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use super::{USB, World, as_text};
use crate::common::files::make_pipe;
use crate::common::program::{Run, bare};
use crate::common::tools::{find, skipped};

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// What a refusal of the file says; `None` if it is believed.
fn refusal(world: &World) -> Option<String> {
    let run = world.run(&["config", "show"]);
    if run.code == 0 {
        return None;
    }
    assert_eq!(run.code, 2, "{}", run.text());
    assert!(run.stderr.contains("nothing was done"), "{}", run.stderr);
    Some(run.stderr)
}

#[test]
fn a_file_that_others_can_write_is_not_believed() {
    let world = World::new();
    world.write(USB);
    assert_eq!(refusal(&world), None);
    for bad in [0o666, 0o664, 0o646, 0o622] {
        mode(&world.file, bad);
        let said = refusal(&world).expect("it is refused");
        assert!(
            said.contains(&format!("others can write it (mode {bad:o})")),
            "{said}"
        );
        assert!(said.contains("chmod go-w"), "{said}");
    }
    mode(&world.file, 0o600);
    assert_eq!(refusal(&world), None);
}

#[test]
fn nor_is_one_in_a_folder_that_others_can_write() {
    let world = World::new();
    let folder = world.path("etc");
    fs::create_dir_all(folder.join("tillsafe")).unwrap();
    let file = folder.join("tillsafe/tillsafe.toml");
    world.write(USB);
    fs::rename(&world.file, &file).unwrap();
    let there = World {
        file: file.clone(),
        ..world
    };
    assert_eq!(refusal(&there), None);
    mode(&folder, 0o777);
    let said = refusal(&there).expect("it is refused");
    assert!(
        said.contains(&format!("because of {} on the way to it", folder.display())),
        "{said}"
    );
    // As in /tmp: only its owner can rename a file there.
    mode(&folder, 0o1777);
    assert_eq!(refusal(&there), None);
    // A link is followed, and every folder on its way is looked at.
    let link = there.place.path().join("link.toml");
    symlink("etc/../etc/tillsafe/tillsafe.toml", &link).unwrap();
    let linked = World {
        file: link,
        ..there
    };
    assert_eq!(refusal(&linked), None);
    mode(&folder.join("tillsafe"), 0o775);
    assert!(refusal(&linked).is_some());
    mode(&folder.join("tillsafe"), 0o755);
    let open = linked.place.path().join("open");
    fs::create_dir(&open).unwrap();
    mode(&open, 0o777);
    symlink(&file, open.join("link.toml")).unwrap();
    let through = World {
        file: open.join("link.toml"),
        ..linked
    };
    assert!(
        refusal(&through).is_some(),
        "whoever can write there can turn the link"
    );
}

#[test]
fn nor_is_one_of_somebody_else() {
    if !rustix::process::geteuid().is_root() {
        return skipped("a file of somebody else", "changing owners needs root");
    }
    let world = World::new();
    world.write(USB);
    chown(&world.file, Some(65534), None).unwrap();
    let said = refusal(&world).expect("it is refused");
    assert!(said.contains("it belongs to the user 65534"), "{said}");
    chown(&world.file, Some(0), None).unwrap();
    let folder = world.file.parent().unwrap();
    chown(folder, Some(65534), None).unwrap();
    assert!(refusal(&world).is_some());
    chown(folder, Some(0), None).unwrap();
    // In a folder as /tmp, the owner of a link turns it where he likes.
    let shared = world.path("shared");
    fs::create_dir(&shared).unwrap();
    mode(&shared, 0o1777);
    let link = shared.join("link.toml");
    symlink(&world.file, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
    let linked = World {
        file: link,
        ..world
    };
    assert!(refusal(&linked).is_some());
}

#[test]
fn what_is_no_file_or_too_long_or_no_text_is_refused_at_once() {
    let world = World::new();
    assert!(
        refusal(&world)
            .expect("there is none")
            .contains("cannot be read")
    );
    fs::create_dir(&world.file).unwrap();
    assert!(refusal(&world).unwrap().contains("no regular file"));
    fs::remove_dir(&world.file).unwrap();
    make_pipe(&world.file);
    assert!(
        refusal(&world).unwrap().contains("no regular file"),
        "nobody writes into it"
    );
    fs::remove_file(&world.file).unwrap();
    world.write(&"#".repeat(1024 * 1024 + 1));
    assert!(refusal(&world).unwrap().contains("longer than 1.00 MiB"));
    fs::write(&world.file, b"version = 1\n# \xff\n").unwrap();
    assert!(refusal(&world).unwrap().contains("line 2 is not UTF-8"));
    // A thousand levels of tables and of lists.
    for deep in [
        format!("version = 1\n[a{}]\n", ".a".repeat(100_000)),
        format!("version = 1\nx = {}", "[".repeat(100_000)),
    ] {
        world.write(&deep);
        assert!(refusal(&world).is_some());
    }
}

#[test]
fn a_file_in_which_all_is_wrong_is_told_in_a_hundred_short_lines() {
    let world = World::new();
    let many = |line: &dyn Fn(usize) -> String| {
        let mut text = "version = 1\n".to_owned();
        let mut number = 0;
        while text.len() < 1_000_000 {
            text += &line(number);
            number += 1;
        }
        text
    };
    for text in [
        many(&|number| format!("a{number} = 1\n")),
        many(&|_| "= 1\n".to_owned()),
        many(&|number| format!("[repository.a{number}]\n")),
        many(&|number| format!("[shop.a{number}]\nrepository = \"x\"\n")),
        many(&|number| {
            format!("[repository.a{number}]\nlocation = \"/r\"\npassword_file = \"/p\"\n")
        }) + "[shop.b]\nrepository = \"c\"\n",
        format!("version = 1\nx = \"{}\"\n", "y".repeat(1_000_000)),
        format!("version = 1\n{} = 1\n", "y".repeat(1_000_000)),
    ] {
        world.write(&text);
        let run = world.run(&["config", "check"]);
        assert_eq!(run.code, 2, "{}", &text[..60]);
        assert!(run.text().len() < 200_000, "{}", run.text().len());
        assert!(run.stdout.lines().count() <= 100);
    }
}

#[test]
fn the_file_is_found_where_the_contract_says_and_never_in_the_current_folder() {
    let world = World::new();
    world.write(USB);
    // Both names that anybody might think of, in the current folder.
    fs::create_dir_all(world.path(".config/tillsafe")).unwrap();
    fs::copy(&world.file, world.path(".config/tillsafe/tillsafe.toml")).unwrap();
    let here = |variables: &[(&str, &str)], words: &[&str]| {
        let mut command = bare();
        command.current_dir(world.file.parent().unwrap());
        Run::of(command.envs(variables.iter().copied()).args(words))
    };
    let file = as_text(&world.file);
    let has_own = Path::new("/etc/tillsafe/tillsafe.toml").exists();
    if !has_own {
        let run = here(&[], &["config", "show"]);
        assert_eq!(run.code, 2, "{}", run.text());
        assert!(
            run.stderr.contains("there is no configuration"),
            "{}",
            run.stderr
        );
    }
    assert_eq!(
        here(&[("TILLSAFE_CONFIG", file)], &["config", "show"]).code,
        0
    );
    assert_eq!(
        here(&[], &["-c", "tillsafe.toml", "config", "show"]).code,
        0
    );
    let flag_wins = here(
        &[("TILLSAFE_CONFIG", "/no/such")],
        &["-c", file, "config", "show"],
    );
    assert_eq!(flag_wins.code, 0);
    assert_eq!(
        here(&[("TILLSAFE_CONFIG", "/no/such")], &["config", "show"]).code,
        2
    );
    if !rustix::process::geteuid().is_root() {
        return skipped("the files of another user", "changing the user needs root");
    }
    let home = as_text(world.file.parent().unwrap());
    if !has_own {
        // For root, a HOME that sudo has kept is nobody's word.
        assert_eq!(here(&[("HOME", home)], &["config", "show"]).code, 2);
    }
    let Some(setpriv) = find("setpriv") else {
        return skipped("the files of another user", "there is no setpriv");
    };
    let copy = world.path("tillsafe");
    let copied = Command::new("/bin/cp")
        .args([env!("CARGO_BIN_EXE_tillsafe"), as_text(&copy)])
        .status();
    assert!(copied.unwrap().success());
    mode(world.place.path(), 0o755);
    let as_nobody = |variables: &[(&str, &str)]| {
        let mut command = Command::new(&setpriv);
        command
            .env_clear()
            .envs(variables.iter().copied())
            .current_dir("/");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        Run::of(command.arg(&copy).args(["config", "show"]))
    };
    assert_eq!(as_nobody(&[("HOME", home)]).code, 0, "root's is believed");
    let config = world.text(".config");
    assert_eq!(
        as_nobody(&[("XDG_CONFIG_HOME", &config), ("HOME", "/no/such")]).code,
        0
    );
    assert_eq!(
        as_nobody(&[("HOME", ".")]).code == 0,
        has_own,
        "no home is none"
    );
    chown(
        world.path(".config/tillsafe/tillsafe.toml"),
        Some(65534),
        None,
    )
    .unwrap();
    assert_eq!(as_nobody(&[("HOME", home)]).code, 0, "his own");
    chown(world.path(".config/tillsafe/tillsafe.toml"), Some(1), None).unwrap();
    assert_eq!(as_nobody(&[("HOME", home)]).code, 2, "a third one's");
}
