//! `setup` and `doctor`, as their owner types them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::Place;
use crate::common::program::{Program, Run, bare};
use crate::common::restic::Restic;
use crate::common::shop::Shop;
use crate::common::tools::skipped;

/// A machine of one test: a shop, and places for configuration and repository.
struct Scene {
    place: Place,
    shop: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let place = Place::new();
        let shop = place.join("Tea & Pots");
        drop(Shop::open(&shop, 20, "wal"));
        fs::create_dir_all(shop.join("uploads")).unwrap();
        fs::write(shop.join("uploads/cup.jpg"), b"a cup").unwrap();
        Self { place, shop }
    }

    fn file(&self) -> PathBuf {
        self.place.join("etc/tillsafe.toml")
    }

    fn password(&self) -> PathBuf {
        self.file().with_file_name("repository.pass")
    }

    fn repository(&self) -> PathBuf {
        self.place.join("disk/backup")
    }

    fn run(&self, words: &[&str]) -> Run {
        Run::of(bare().arg("-c").arg(self.file()).args(words))
    }

    fn ok(&self, words: &[&str]) -> Run {
        let run = self.run(words);
        assert_eq!(run.code, 0, "{words:?}: {}", run.text());
        run
    }

    fn setup(&self, more: &[&str]) -> Run {
        let mut command = bare();
        command.arg("-c").arg(self.file());
        command.arg("-r").arg(self.repository());
        Run::of(command.arg("setup").arg(&self.shop).args(more))
    }

    fn set_up(&self) {
        let run = self.setup(&["--yes"]);
        assert_eq!(run.code, 0, "{}", run.text());
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn one_line_leads_to_a_backup_that_is_proved() {
    let scene = Scene::new();
    scene.set_up();
    assert_eq!(mode(&scene.file()), 0o600);
    assert_eq!(mode(&scene.password()), 0o600);

    scene.ok(&["config", "check"]);
    assert_eq!(scene.ok(&["-q", "backup"]).text(), "");
    let run = scene.ok(&["verify"]);
    assert!(
        run.stdout.contains("proof level: matched"),
        "{}",
        run.stdout
    );
    let run = scene.ok(&["snapshots"]);
    assert!(run.stdout.contains("shop=tea---pots"), "{}", run.stdout);
    let program = Program {
        repository: scene.repository(),
        password_file: scene.password(),
    };
    for restic in Restic::all_on(&program) {
        let listed = restic.ok(&["ls", "latest"]).stdout;
        assert!(listed.contains("uploads/cup.jpg"), "{listed}");
    }

    // The same again has nothing to add, and what is there is left as it is.
    let before = fs::read(scene.file()).unwrap();
    let run = scene.setup(&["--yes"]);
    assert_eq!(run.code, 0, "{}", run.text());
    assert!(
        run.stdout.contains("all that was found is in"),
        "{}",
        run.stdout
    );
    assert_eq!(fs::read(scene.file()).unwrap(), before);
}

#[test]
fn nothing_is_written_before_somebody_says_yes() {
    let scene = Scene::new();
    for (more, code) in [(&["--dry-run"][..], 0), (&[][..], 2)] {
        let run = scene.setup(more);
        assert_eq!(run.code, code, "{}", run.text());
        assert!(run.stdout.contains("[shop.tea---pots]"), "{}", run.stdout);
        assert!(!scene.place.join("etc").exists());
        assert!(!scene.place.join("disk").exists());
    }
}

#[test]
fn what_is_proposed_is_a_configuration_that_is_right() {
    let scene = Scene::new();
    let run = scene.setup(&["--dry-run"]);
    let text = run.stdout.split_once("# ").unwrap().1;
    let text = text.split_once("nothing was written").unwrap().0;
    fs::create_dir(scene.place.join("etc")).unwrap();
    fs::write(scene.file(), format!("# {text}")).unwrap();
    scene.ok(&["config", "check"]);
}

#[test]
fn folders_that_can_be_made_again_are_left_out_of_what_is_proposed() {
    let scene = Scene::new();
    let shop = scene.shop.canonicalize().unwrap();
    let mut folders = vec!["cache [1]/cache".to_owned(), "tmp".to_owned()];
    folders.extend((0..4).map(|number| format!("lib{number}/node_modules")));
    for folder in &folders {
        fs::create_dir_all(shop.join(folder)).unwrap();
        fs::write(shop.join(folder).join("x"), "x").unwrap();
    }
    scene.set_up();
    let text = fs::read_to_string(scene.file()).unwrap();
    let line = text.lines().find(|line| line.starts_with("exclude"));
    let place = scene.shop.to_str().unwrap();
    let expected = format!(
        "exclude = [\"{place}/cache \\\\[1\\\\]/cache\", \"node_modules\", \"{place}/tmp\"]"
    );
    assert_eq!(line, Some(expected.as_str()), "{text}");
    scene.ok(&["backup"]);
    let listed = scene.ok(&["ls", "latest"]).stdout;
    assert!(
        listed.contains("cup.jpg") && listed.contains("cache [1]"),
        "{listed}"
    );
    for folder in &folders {
        assert!(!listed.contains(&format!("{place}/{folder}")), "{listed}");
    }
}

#[test]
fn what_a_configuration_lacks_is_printed_and_can_be_added() {
    let scene = Scene::new();
    scene.set_up();
    let other = scene.place.join("other");
    drop(Shop::open(&other, 5, "delete"));
    let lines = scene.ok(&["-q", "setup", other.to_str().unwrap()]).stdout;
    let text = fs::read_to_string(scene.file()).unwrap();
    fs::write(scene.file(), text + &lines).unwrap();
    let run = scene.ok(&["backup"]);
    assert!(
        run.stdout.contains("all 2 shops are saved"),
        "{}",
        run.stdout
    );
}

#[test]
fn an_interrupted_setup_goes_on_with_what_is_there() {
    let scene = Scene::new();
    scene.set_up();
    fs::remove_file(scene.file()).unwrap();
    let run = scene.setup(&["--yes"]);
    assert_eq!(run.code, 0, "{}", run.text());
    assert!(run.stdout.contains("is there, and opens"), "{}", run.stdout);
    scene.ok(&["backup"]);
}

#[test]
fn doctor_names_each_fault_with_its_cure() {
    let scene = Scene::new();
    scene.set_up();
    let expect = |code: i32, words: &[&str]| {
        let run = scene.run(&["doctor"]);
        assert_eq!(run.code, code, "{}", run.text());
        for word in words {
            assert!(run.text().contains(word), "{word}: {}", run.text());
        }
    };
    let none = "snapshots of shop=tea---pots: there is no good one";
    expect(1, &[none, "cure: `tillsafe -c "]);
    scene.ok(&["backup"]);
    expect(
        0,
        &["none was ever proved", " verify`", "whatever kills it"],
    );
    scene.ok(&["verify"]);
    expect(0, &["was proved on"]);

    set_mode(&scene.password(), 0o644);
    expect(
        1,
        &["others on this machine may read the password", "chmod 600"],
    );
    set_mode(&scene.password(), 0o600);

    let away = scene.place.join("away");
    fs::rename(&scene.shop, &away).unwrap();
    expect(1, &["cannot be read", " config check`"]);
    fs::rename(&away, &scene.shop).unwrap();

    fs::rename(scene.place.join("disk"), &away).unwrap();
    expect(1, &["ERROR    repository"]);
    fs::rename(&away, scene.place.join("disk")).unwrap();

    fs::write(scene.file(), "version = 1\nshops = 3\n").unwrap();
    expect(1, &["ERROR    configuration"]);
}

/// What a cron line has cron run: without its five times and its user.
fn commands_of(installing: &str) -> Vec<String> {
    let print = installing.split_once("printf ").unwrap().1;
    let print = print
        .split_once(" > /etc/cron.d/")
        .or(print.split_once(") |"));
    let print = format!("printf {}", print.unwrap().0);
    let lines = Run::of(Command::new("/bin/sh").arg("-c").arg(print)).stdout;
    let words = if rustix::process::geteuid().is_root() {
        6
    } else {
        5
    };
    let command = |line: &str| {
        let mut rest = line;
        for _ in 0..words {
            rest = rest.split_once(' ').unwrap().1;
        }
        rest.replace("\\%", "%")
    };
    lines.lines().map(command).collect()
}

/// From another folder, without any environment, as cron does.
fn run_each(commands: &[String], state: &Path) {
    for command in commands {
        let mut shell = Command::new("/bin/sh");
        shell.env_clear().env("XDG_STATE_HOME", state);
        let run = Run::of(shell.current_dir("/").arg("-c").arg(command));
        assert_eq!(run.code, 0, "{command}: {}", run.text());
        assert_eq!(run.text(), "", "{command}");
    }
}

/// A repository that was made by hand, before there was a configuration.
fn by_hand(scene: &Scene, password_file: &str) -> Program {
    let program = Program {
        repository: scene.repository(),
        password_file: scene.place.join(password_file),
    };
    fs::create_dir_all(scene.place.join("disk")).unwrap();
    program.ok(&["init"]);
    program
}

/// `setup` with that repository.
fn set_up_after_a_backup_by_hand(scene: &Scene, program: &Program) -> Run {
    let mut command = bare();
    command.arg("-c").arg(scene.file());
    command.arg("-r").arg(&program.repository);
    command.arg("-p").arg(&program.password_file);
    let run = Run::of(command.arg("setup").arg(&scene.shop).arg("--yes"));
    assert_eq!(run.code, 0, "{}", run.text());
    run
}

#[test]
fn what_setup_says_to_type_can_be_typed_also_after_a_backup_by_hand() {
    let scene = Scene::new();
    let program = by_hand(&scene, "by hand.pass");
    program.ok(&["backup", scene.shop.to_str().unwrap()]);
    let run = set_up_after_a_backup_by_hand(&scene, &program);
    let typed = run
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("  tillsafe "));
    let program = env!("CARGO_BIN_EXE_tillsafe");
    let typed: Vec<String> = typed.map(|words| format!("{program} {words}")).collect();
    let [backup, verify, doctor] = &typed[..] else {
        panic!("three commands: {typed:?}");
    };
    assert!(verify.ends_with(" verify --shop tea---pots") && doctor.ends_with(" doctor"));
    for command in [backup, verify, doctor] {
        let run = Run::of(Command::new("/bin/sh").env_clear().arg("-c").arg(command));
        assert_eq!(run.code, 0, "{command}: {}", run.text());
    }
    let lines = commands_of(run.stdout.lines().last().unwrap());
    assert_eq!(lines.len(), 4, "{lines:?}");
    run_each(&lines, &scene.place.join("state"));
    // Another configuration has a file of its own.
    let other = scene.place.join("other/tillsafe.toml");
    let mut command = bare();
    command.arg("-c").arg(&other).arg("-r");
    command.arg(scene.place.join("disk/other"));
    let second = Run::of(command.arg("setup").arg(&scene.shop).arg("--yes"));
    assert_eq!(second.code, 0, "{}", second.text());
    let file = |run: &Run| {
        let line = run.stdout.lines().last().unwrap().to_owned();
        line.split_once(" > ").map(|(_, file)| file.to_owned())
    };
    if rustix::process::geteuid().is_root() {
        assert_ne!(file(&run), file(&second));
    }
}

#[test]
fn doctor_without_a_configuration_has_commands_that_can_be_typed() {
    let scene = Scene::new();
    let program = Program {
        repository: scene.repository(),
        password_file: scene.place.join("shop.pass"),
    };
    fs::create_dir_all(scene.place.join("disk")).unwrap();
    program.ok(&["init"]);
    program.ok(&["backup", scene.shop.to_str().unwrap()]);
    let run = program.run(&["doctor"]);
    let of = |item: &str| {
        let mut lines = run.stdout.lines().skip_while(|line| !line.contains(item));
        let cure = lines.nth(1).unwrap_or_default().trim();
        cure.strip_prefix("cure: ").unwrap_or_default().to_owned()
    };
    let verify = of("none was ever proved");
    let verify = verify.trim_matches('`').strip_prefix("tillsafe ").unwrap();
    assert!(verify.contains(" -p ") && verify.ends_with(" verify"));
    let typed = format!("{} {verify}", env!("CARGO_BIN_EXE_tillsafe"));
    let verified = Run::of(Command::new("/bin/sh").env_clear().arg("-c").arg(typed));
    assert_eq!(verified.code, 0, "{}", verified.text());
    let timer = of(" timer: ");
    if timer.is_empty() {
        return skipped("lines for cron", "something here calls `tillsafe backup`");
    }
    let lines = commands_of(&timer);
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(
        lines[0].contains(" --retry-lock 2h backup ") && lines[0].contains("Tea & Pots"),
        "{lines:?}"
    );
    run_each(&lines, &scene.place.join("state"));
}

/// Snapshots from before there was a shop are in none, and its rules never look at them: that is said, with a
/// command that makes them the shop's.
#[test]
fn what_was_backed_up_by_hand_before_is_named_until_it_is_in_a_shop() {
    let scene = Scene::new();
    let program = by_hand(&scene, "by-hand.pass");
    for _ in 0..2 {
        program.ok(&["backup", scene.shop.to_str().unwrap()]);
    }
    // Another machine's are its own.
    program.ok(&["backup", scene.shop.to_str().unwrap(), "--host", "other"]);
    set_up_after_a_backup_by_hand(&scene, &program);
    scene.ok(&["backup"]);
    let said = scene.ok(&["forget", "--dry-run"]);
    let doctor = scene.run(&["doctor"]).stdout;
    for text in [&said.stdout, &doctor] {
        assert_eq!(text.matches("2 snapshots in no shop").count(), 1, "{text}");
    }
    assert!(!said.stdout.contains("other:"), "{}", said.text());
    let objects = scene.run(&["--json", "forget", "--dry-run"]).objects();
    assert_eq!(objects.last().unwrap()["in_no_shop"], 2);
    assert_eq!(scene.ok(&["-q", "forget"]).text(), "");
    // What it says to type is typed.
    let quoted: Vec<&str> = said.stdout.split('`').collect();
    let is_meant = |words: &&&str| words.contains(" tag --add shop=tea---pots ");
    let words = quoted
        .iter()
        .find(is_meant)
        .expect("a command")
        .strip_prefix("tillsafe");
    let command = format!("{}{}", env!("CARGO_BIN_EXE_tillsafe"), words.unwrap());
    let run = Run::of(Command::new("/bin/sh").env_clear().arg("-c").arg(&command));
    assert_eq!(run.code, 0, "{command}: {}", run.text());
    let said = scene.ok(&["forget", "--dry-run"]);
    assert!(!said.stdout.contains("in no shop"), "{}", said.text());
    assert!(
        said.stdout.contains("shop=tea---pots: keep 3"),
        "{}",
        said.text()
    );
    assert!(!scene.run(&["doctor"]).stdout.contains("in no shop"));
}
