//! What shells and `man` are given: completion scripts that complete, and pages that can be read.

use std::fs;
use std::process::Command;

use super::as_text;
use super::words::{commands_of, help};
use crate::common::Place;
use crate::common::program::{Run, bare};
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
