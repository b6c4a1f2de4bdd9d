//! What wins if several places name a repository: flags, the shop, our variables, the file, restic's.

use std::fs;

use super::{World, as_text};
use crate::common::program::{Program, Run, bare};

/// Five repositories, each with a password of its own, so that none opens with another's.
struct Five {
    world: World,
    programs: Vec<(&'static str, Program)>,
}

const NAMES: [&str; 5] = ["usb", "nas", "flag", "ours", "restics"];

impl Five {
    fn new() -> Self {
        let world = World::new();
        let make = |name: &'static str| {
            let folder = world.path(name);
            fs::create_dir(&folder).unwrap();
            let program = Program::in_folder(&folder);
            program.write_password(name);
            crate::common::library::create_with(&program.backend(), name);
            (name, program)
        };
        let programs = NAMES.map(make).into_iter().collect();
        Self { world, programs }
    }

    fn program(&self, name: &str) -> &Program {
        &self
            .programs
            .iter()
            .find(|(other, _)| *other == name)
            .unwrap()
            .1
    }

    /// `[repository.NAME]` for each of these.
    fn write(&self, names: &[&str], more: &str) {
        let entry = |name: &&str| {
            format!(
                "[repository.{name}]\nlocation = \"PLACE/{name}/repository\"\npassword_file = \"PLACE/{name}/password\"\n"
            )
        };
        let entries: String = names.iter().map(entry).collect();
        self.world.write(&format!("version = 1\n{entries}{more}"));
    }

    /// Which repository a run speaks of, or its exit code.
    fn asked(&self, variables: &[&str], words: &[&str]) -> String {
        let mut command = self.world.command(&["--json"]);
        for name in variables {
            let program = self.program(name);
            let prefix = if *name == "ours" {
                "TILLSAFE"
            } else {
                "RESTIC"
            };
            command.env(format!("{prefix}_REPOSITORY"), &program.repository);
            command.env(format!("{prefix}_PASSWORD_FILE"), &program.password_file);
        }
        let run = Run::of(command.args(words));
        let summary = run.objects().pop().unwrap();
        if run.code != 0 {
            return format!("{}", run.code);
        }
        let named = summary["repository"].as_str().unwrap();
        let fits = |(_, program): &&(&str, Program)| as_text(&program.repository) == named;
        self.programs.iter().find(fits).unwrap().0.to_owned()
    }
}

const SHOPS: &str = "[shop.mara]\nrepository = \"nas\"\nfiles = [{ path = \"PLACE/mara\" }]\n";

#[test]
fn what_wins_is_what_the_contract_says() {
    let all = Five::new();
    fs::create_dir(all.world.path("mara")).unwrap();
    let flag = all.program("flag");
    let (location, file) = (as_text(&flag.repository), as_text(&flag.password_file));
    let both = &["ours", "restics"][..];
    all.write(&["usb", "nas"], SHOPS);
    for (variables, words, wanted) in [
        // -r NAME and LOCATION before all else; a password of flags goes with a repository of flags.
        (both, &["-r", location, "-p", file, "snapshots"][..], "flag"),
        (both, &["-r", "nas", "snapshots"], "nas"),
        (both, &["-r", "nas", "-p", file, "snapshots"], "12"),
        (both, &["-r", location, "snapshots"], "2"),
        (both, &["-p", file, "snapshots"], "2"),
        (&[], &["-r", "nsa", "-p", file, "snapshots"], "10"),
        (both, &["-r", "nsa", "snapshots"], "2"),
        // A shop's own, whatever the variables say; only -r overrides it.
        (both, &["snapshots", "--shop", "mara"], "nas"),
        (both, &["backup", "mara"], "nas"),
        (both, &["backup"], "nas"),
        (both, &["-r", "usb", "backup", "mara"], "usb"),
        (both, &["-r", location, "-p", file, "backup"], "flag"),
        // A shop that the file does not know is of wherever the rest says.
        (both, &["snapshots", "--shop", "ilse"], "ours"),
        // Our variables before the file; that before restic's, also if it names too many.
        (both, &["snapshots"], "ours"),
        (&["restics"], &["snapshots"], "2"),
        (&[], &["snapshots"], "2"),
    ] {
        assert_eq!(
            all.asked(variables, words),
            wanted,
            "{variables:?} {words:?}"
        );
    }
    all.write(&["usb"], "");
    assert_eq!(all.asked(&["restics"], &["snapshots"]), "usb");
    assert_eq!(
        all.asked(&["restics"], &["backup", as_text(&all.world.path("mara"))]),
        "usb"
    );
    all.write(&[], "");
    assert_eq!(all.asked(&["restics"], &["snapshots"]), "restics");
    assert_eq!(all.asked(&[], &["snapshots"]), "2");
}

#[test]
fn several_repositories_and_none_that_is_named_are_listed() {
    let all = Five::new();
    all.write(&["usb", "nas"], SHOPS);
    let run = all.world.run(&["snapshots"]);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("has several repositories: nas, usb"),
        "{}",
        run.stderr
    );
    assert!(
        run.stderr.contains("say which one: -r NAME"),
        "{}",
        run.stderr
    );
    let run = all.world.run(&["-r", "nsa", "snapshots"]);
    assert!(
        run.stderr.contains("did you mean nas? it has: nas, usb"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_summary_says_what_has_been_overridden_and_advice_can_be_typed() {
    let all = Five::new();
    fs::create_dir(all.world.path("mara")).unwrap();
    all.write(&["usb", "nas"], SHOPS);
    let run = all.world.ok(&["-r", "usb", "backup", "mara"]);
    assert!(
        run.stdout
            .contains("usb/repository (-r, instead of its own: nas)"),
        "{}",
        run.text()
    );
    let run = all
        .world
        .run(&["restore", "latest", "--shop", "mara", "--target", "x"]);
    assert_eq!(run.code, 13);
    let typed = format!(
        "`tillsafe -c {} -r nas snapshots`",
        all.world.file.display()
    );
    assert!(run.stderr.contains(&typed), "{}", run.stderr);
}

#[test]
fn a_broken_file_is_in_nobody_s_way_who_names_repository_and_password() {
    let all = Five::new();
    all.world.write("version = 1\n[repository");
    let flag = all.program("flag");
    let (location, file) = (as_text(&flag.repository), as_text(&flag.password_file));
    assert_eq!(
        all.asked(&[], &["-r", location, "-p", file, "snapshots"]),
        "flag"
    );
    assert_eq!(all.asked(&["ours"], &["snapshots"]), "ours");
    // Whatever could be decided by it is refused.
    assert_eq!(all.asked(&["restics"], &["snapshots"]), "2");
    assert_eq!(all.asked(&["ours"], &["-r", "usb", "snapshots"]), "2");
    assert_eq!(all.asked(&["ours"], &["snapshots", "--shop", "mara"]), "2");
}

#[test]
fn passwords_come_from_files_commands_and_credentials() {
    let all = Five::new();
    let file = all.world.text("nas/password");
    for (password, variable, wanted) in [
        (format!("password_file = {file:?}"), None, "nas"),
        (
            format!("password_command = [\"/bin/cat\", {file:?}]"),
            None,
            "nas",
        ),
        // No shell: what would be a command there is an argument here.
        (
            "password_command = [\"/bin/echo\", \"nas; true\"]".to_owned(),
            None,
            "12",
        ),
        ("password_command = [\"/bin/false\"]".to_owned(), None, "2"),
        (
            "password_credential = \"password\"".to_owned(),
            Some("nas"),
            "nas",
        ),
        (
            "password_credential = \"none\"".to_owned(),
            Some("nas"),
            "2",
        ),
        ("password_credential = \"password\"".to_owned(), None, "2"),
    ] {
        all.world.write(&format!(
            "version = 1\n[repository.nas]\nlocation = \"PLACE/nas/repository\"\n{password}\n"
        ));
        let mut command = all.world.command(&["--json", "snapshots"]);
        if let Some(folder) = variable {
            command.env("CREDENTIALS_DIRECTORY", all.world.path(folder));
        }
        let run = Run::of(&mut command);
        let code = if wanted == "nas" {
            0
        } else {
            wanted.parse().unwrap()
        };
        assert_eq!(run.code, code, "{password}: {}", run.text());
    }
}

#[test]
fn a_secret_in_a_location_is_refused_and_not_repeated() {
    for location in [
        "rest:https://mara:hunter2@backup.example.net/",
        "s3:https://mara:hunter2@s3.example.net/x",
        "https://mara:hunter2@backup.example.net/",
    ] {
        for json in [&[][..], &["--json"]] {
            let flags = Run::of(
                bare()
                    .args(["-r", location, "-p", "/p", "snapshots"])
                    .args(json),
            );
            let mut command = bare();
            let variables = Run::of(
                command
                    .env("TILLSAFE_REPOSITORY", location)
                    .arg("snapshots")
                    .args(json),
            );
            for run in [flags, variables] {
                assert_eq!(run.code, 2, "{}", run.text());
                assert!(
                    run.text().contains("a password stands in the location"),
                    "{}",
                    run.text()
                );
                assert!(!run.text().contains("hunter2"), "{}", run.text());
            }
        }
    }
    // A user alone is no secret.
    let run = Run::of(bare().args(["-r", "sftp:mara@host:/x", "-p", "/p", "snapshots"]));
    assert!(
        run.stderr.contains("sftp: repositories are not part"),
        "{}",
        run.stderr
    );
}
