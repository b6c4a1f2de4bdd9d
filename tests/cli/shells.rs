//! What shells and `man` are given: completion scripts that complete, and pages that can be read.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use tillsafe::units::quoted;

use super::as_text;
use super::words::{commands_of, help};
use crate::common::Place;
use crate::common::library::{self, PASSWORD};
use crate::common::program::{Program, Run, bare};
use crate::common::shop::Shop;
use crate::common::tools::skipped;

fn script(shell: &str) -> String {
    let run = Run::of(bare().args(["completions", shell]));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{shell}");
    run.stdout
}

#[test]
fn every_shell_is_told_all_commands() {
    let whole = help(&[]);
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = script(shell);
        for command in commands_of(&whole) {
            assert!(script.contains(command), "{shell}: {command}");
        }
        assert!(script.contains("retry-lock"), "{shell}");
    }
}

/// What bash offers for the last of these words.
fn completed(script: &str, folder: &str, words: &[&str]) -> Option<Vec<String>> {
    let last = words.len() - 1;
    let array: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let ask = format!(
        "{script}\ncd '{folder}'\nCOMP_WORDS=({})\nCOMP_CWORD={last}\n_tillsafe tillsafe '{}' '{}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
        array.join(" "),
        words[last],
        words[last - 1],
    );
    let output = Command::new("bash").args(["-c", &ask]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.lines().map(str::to_owned).collect())
}

#[test]
fn bash_completes_commands_flags_and_files() {
    let place = Place::new();
    fs::write(place.join("shop.pass"), "").unwrap();
    let script = script("bash");
    let folder = as_text(place.path());
    for (words, expected) in [
        (&["tillsafe", "rep"][..], "repair"),
        (&["tillsafe", "repair", "pa"], "packs"),
        (&["tillsafe", "key", "pass"], "passwd"),
        (&["tillsafe", "backup", "--ta"], "--tag"),
        (&["tillsafe", "--password-file", "sho"], "shop.pass"),
        (&["tillsafe", "check", "--color", "ne"], "never"),
    ] {
        let Some(found) = completed(&script, folder, words) else {
            return skipped("completions in bash", "there is no bash");
        };
        assert!(
            found.iter().any(|word| word == expected),
            "{words:?}: {found:?}"
        );
    }
}

#[test]
fn there_is_a_page_for_each_command_and_man_reads_it() {
    let place = Place::new();
    let folder = place.join("man1");
    let run = Run::of(bare().args(["man", "--dir", as_text(&folder)]));
    assert_eq!(run.code, 0, "{}", run.text());
    let whole = help(&[]);
    let mut names: Vec<String> = commands_of(&whole)
        .iter()
        .map(|command| format!("tillsafe-{command}"))
        .collect();
    names.extend(["tillsafe", "tillsafe-key-add", "tillsafe-repair-packs"].map(str::to_owned));
    for name in &names {
        let page = fs::read_to_string(folder.join(format!("{name}.1"))).unwrap();
        assert!(
            page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"),
            "{name}"
        );
        assert!(page.contains("Exit codes"), "{name}");
        let words: Vec<&str> = match name.strip_prefix("tillsafe-") {
            Some(words) => words.split('-').collect(),
            None => Vec::new(),
        };
        let printed = Run::of(bare().arg("man").args(&words));
        assert_eq!(printed.stdout.trim_end(), page.trim_end(), "{name}");
    }
    // Nothing that is there is overwritten, and nothing that is not there has a page.
    let again = Run::of(bare().args(["man", "--dir", as_text(&folder)]));
    assert_eq!(again.code, 20, "{}", again.text());
    assert_eq!(Run::of(bare().args(["man", "nonsense"])).code, 2);
    let page = folder.join("tillsafe-restore.1");
    let Ok(output) = Command::new("man")
        .arg("-l")
        .arg(&page)
        .env("MANWIDTH", "80")
        .output()
    else {
        return skipped("reading a page", "there is no man");
    };
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && !text.is_empty() {
        assert!(text.contains("--in-place"), "{text}");
    }
}

/// Names that a shell, a terminal or cron would make something else of.
const HOSTILE: [&[u8]; 12] = [
    b"two\nlines",
    b"ends\n\n",
    b"it's \"here\"",
    b"back\\slash\\",
    b"\\%n 100%",
    b"caf\xe9 1",
    b"-n",
    b"$HOME `id` $(id) !x",
    b"a;b|c&d>e<f*?[x]{y}~#",
    b"\x1b[2Jred\x07\ttab",
    "T\u{f6}pfe\u{202e}".as_bytes(),
    b"%d\xff%s\\012",
];

/// What cron gives to the shell of the rest of a line; cron programs differ in whether a backslash takes the
/// meaning from a backslash, too.
fn through_cron(line: &str, takes_backslashes: bool) -> Option<String> {
    let mut command = String::new();
    let mut is_escaped = false;
    for letter in line.chars() {
        if is_escaped {
            is_escaped = false;
            if letter == '%' || (takes_backslashes && letter == '\\') {
                command.pop();
            }
        } else if letter == '%' {
            return None;
        } else {
            is_escaped = letter == '\\';
        }
        command.push(letter);
    }
    Some(command)
}

#[test]
fn a_quoted_word_is_the_same_word_in_each_shell() {
    for shell in ["dash", "bash", "sh", "zsh"] {
        let mut tried = 0;
        for word in HOSTILE {
            let word = OsStr::from_bytes(word);
            let line = format!("printf '<%s>' {}", quoted(word));
            let Ok(output) = Command::new(shell).args(["-c", &line]).output() else {
                break;
            };
            let expected = [b"<", word.as_bytes(), b">"].concat();
            assert_eq!(output.stdout, expected, "{shell}: {line}");
            tried += 1;
        }
        if tried == 0 && shell != "zsh" {
            skipped(shell, "it is not installed");
        }
    }
}

#[test]
fn the_lines_for_cron_do_what_they_say_whatever_the_names() {
    for name in HOSTILE {
        let place = Place::new();
        let folder = place.path().join(OsStr::from_bytes(name));
        fs::create_dir(&folder).unwrap();
        // A location, and the paths that a snapshot keeps, are text.
        let is_text = folder.to_str().is_some();
        let inner = if is_text {
            folder.as_path()
        } else {
            place.path()
        };
        let shop = Shop::open(&inner.join("shop"), 3, "delete");
        let mut program = Program::with_cheap_repository(inner);
        let password = folder.join("password of ours");
        fs::rename(&program.password_file, &password).unwrap();
        program.password_file = password;
        let backup = || {
            let mut command = program.command(&["backup"]);
            Run::of(command.arg(&shop.folder))
        };
        let run = backup();
        assert_eq!(run.code, 0, "{}", run.text());
        let (_, objects) = program.json(&["doctor"]);
        let cure = objects
            .iter()
            .filter_map(|one| one["cure"].as_str())
            .find(|cure| cure.contains("printf '%s"))
            .unwrap_or_else(|| panic!("{objects:#?}"));
        let print = &cure[cure.find("printf '%s").unwrap()..];
        let end = print
            .find(" > /etc/cron.d")
            .or_else(|| print.find(") | crontab -"));
        let print = &print[..end.unwrap()];
        let printed = Command::new("sh").args(["-c", print]).output().unwrap();
        let lines = String::from_utf8(printed.stdout).expect("a crontab is text");
        assert_eq!(lines.lines().count(), 4, "{lines}");
        let line = lines.lines().next().unwrap();
        // Five times, and for root the user.
        let from = line.find('/').unwrap();
        let from = line[from..].find(char::is_alphabetic).unwrap() + from - 1;
        let before = library::snapshots(&program.backend()).len();
        for takes_backslashes in [false, true] {
            let command = through_cron(&line[from..], takes_backslashes)
                .unwrap_or_else(|| panic!("cut short: {line}"));
            let mut shell = Command::new("sh");
            shell.env_clear().args(["-c", &command]);
            let run = Run::of(&mut shell);
            assert_eq!(
                (run.code, run.stdout.as_str()),
                (0, ""),
                "{line}: {}",
                run.text()
            );
        }
        let after = library::snapshots(&program.backend()).len();
        assert_eq!(after, before + 2, "{line}");
    }
}

/// Cron has neither an environment nor anybody who types.
#[test]
fn without_a_file_for_the_password_there_is_no_line_but_what_to_do() {
    let place = Place::new();
    let shop = Shop::open(&place.join("shop"), 3, "delete");
    let program = Program::with_cheap_repository(place.path());
    program.ok(&["backup", as_text(&shop.folder)]);
    let mut command = bare();
    command.env("TILLSAFE_REPOSITORY", &program.repository);
    command.env("TILLSAFE_PASSWORD", PASSWORD);
    let run = Run::of(command.arg("doctor"));
    assert!(!run.text().contains("-p FILE"), "{}", run.text());
    assert!(!run.text().contains("cron.d/tillsafe"), "{}", run.text());
    assert!(
        run.stdout
            .contains("put the password into a file that only you can read"),
        "{}",
        run.text()
    );
    assert!(Path::new(&program.password_file).exists());
}
