//! How the help is laid out: the commands in groups, and below each its examples and the exit codes.

use std::fmt::Write;

use clap::CommandFactory;

use super::args::Cli;
use crate::error::ExitCode;

/// The commands in the order of need. One that is not part of this version is left out.
const GROUPS: [(&str, &[&str]); 8] = [
    ("Begin", &["demo", "init", "setup", "doctor", "config"]),
    ("Back up", &["backup", "run", "schedule"]),
    (
        "Look inside",
        &["snapshots", "ls", "find", "diff", "stats", "dump"],
    ),
    ("Restore", &["restore", "rollback"]),
    (
        "Prove and watch",
        &["check", "verify", "drill", "report", "status"],
    ),
    ("Keep and free", &["forget", "prune", "copy"]),
    (
        "Upkeep",
        &["key", "unlock", "tag", "cat", "list", "repair", "cache"],
    ),
    ("Shell", &["completions", "man", "version"]),
];

/// What may be typed, by command.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("demo", &["tillsafe demo"]),
    (
        "init",
        &["tillsafe -r /media/backup/shop -p /root/shop.pass init"],
    ),
    ("setup", &["tillsafe setup"]),
    ("doctor", &["tillsafe doctor"]),
    (
        "backup",
        &[
            "tillsafe backup                      every shop of the configuration",
            "tillsafe -r /media/backup/shop -p /root/shop.pass backup /srv/shop",
            "tillsafe backup -e '*.log' --exclude-caches",
        ],
    ),
    (
        "snapshots",
        &[
            "tillsafe snapshots",
            "tillsafe snapshots --shop mara --json",
        ],
    ),
    (
        "ls",
        &[
            "tillsafe ls latest:/srv/shop",
            "tillsafe ls --long 1a2b3c4d",
        ],
    ),
    (
        "find",
        &[
            "tillsafe find '*.jpg' --oldest 2026-11-01",
            "tillsafe find /srv/shop/shop.db",
        ],
    ),
    ("diff", &["tillsafe diff 1a2b3c4d latest"]),
    (
        "stats",
        &["tillsafe stats", "tillsafe stats latest --mode raw-data"],
    ),
    (
        "dump",
        &[
            "tillsafe dump latest:/srv/shop/shop.db --target /tmp/shop.db",
            "tillsafe dump latest:/srv/shop | tar -x",
        ],
    ),
    (
        "restore",
        &[
            "tillsafe restore latest:/srv/shop --target /srv/restored",
            "tillsafe restore proven:/srv/shop --in-place --dry-run",
            "tillsafe restore latest:/srv/shop --target /srv/one --include shop.db",
            "tillsafe restore latest --database till --as till_new",
        ],
    ),
    (
        "rollback",
        &["tillsafe rollback --list", "tillsafe rollback /srv/shop"],
    ),
    (
        "check",
        &["tillsafe check", "tillsafe check --read-data-subset 5%"],
    ),
    (
        "verify",
        &["tillsafe verify", "tillsafe verify latest:/srv/shop"],
    ),
    (
        "forget",
        &[
            "tillsafe forget --keep-daily 14 --keep-monthly 12 --dry-run",
            "tillsafe forget 1a2b3c4d",
        ],
    ),
    ("prune", &["tillsafe prune --dry-run", "tillsafe prune"]),
    ("unlock", &["tillsafe unlock"]),
    ("tag", &["tillsafe tag --add before-the-move latest"]),
    (
        "cat",
        &["tillsafe cat config", "tillsafe cat snapshot latest"],
    ),
    ("list", &["tillsafe list packs"]),
    ("cache", &["tillsafe cache --cache-dir /var/cache/tillsafe"]),
    (
        "repair",
        &["tillsafe repair index", "tillsafe repair packs --dry-run"],
    ),
    ("repair index", &["tillsafe repair index"]),
    (
        "repair packs",
        &["tillsafe repair packs --dry-run", "tillsafe repair packs"],
    ),
    (
        "repair snapshots",
        &[
            "tillsafe repair snapshots",
            "tillsafe repair snapshots --forget",
        ],
    ),
    (
        "key",
        &[
            "tillsafe key list",
            "tillsafe key add --new-password-file /root/second.pass",
        ],
    ),
    ("key list", &["tillsafe key list"]),
    (
        "key add",
        &["tillsafe key add --new-password-file /root/second.pass"],
    ),
    ("key remove", &["tillsafe key remove 5e0f7c1b"]),
    (
        "key passwd",
        &["tillsafe key passwd --new-password-file /root/new.pass"],
    ),
    ("config", &["tillsafe config check", "tillsafe config show"]),
    ("config check", &["tillsafe config check"]),
    ("config show", &["tillsafe config show"]),
    (
        "completions",
        &["tillsafe completions bash >/etc/bash_completion.d/tillsafe"],
    ),
    (
        "man",
        &[
            "tillsafe man restore | man -l -",
            "tillsafe man --dir /usr/local/share/man/man1",
        ],
    ),
    ("version", &["tillsafe version"]),
];

/// The program as its help shows it.
pub fn program() -> clap::Command {
    let program = Cli::command();
    let layout = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\nCommands:\n{}Options:\n{{options}}{{after-help}}",
        in_groups(&program)
    );
    program
        .help_template(layout)
        .after_help(
            exit_codes()
                + "\nA first backup and a first restore: docs/start.md, or `tillsafe demo`. Of a command: tillsafe COMMAND --help.",
        )
        .mut_subcommands(|command| completed(command, ""))
}

/// A command with its examples and the exit codes, and so each that it holds.
fn completed(command: clap::Command, parent: &str) -> clap::Command {
    let name = format!("{parent} {}", command.get_name());
    let name = name.trim_start().to_owned();
    let examples = EXAMPLES.iter().find(|(of, _)| *of == name);
    let mut text = String::new();
    if let Some((_, lines)) = examples {
        text.push_str("Examples:\n");
        for line in *lines {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {line}");
        }
        text.push('\n');
    }
    command
        .disable_help_subcommand(true)
        .after_help(text + &exit_codes())
        .mut_subcommands(|inner| completed(inner, &name))
}

fn in_groups(program: &clap::Command) -> String {
    let names = program
        .get_subcommands()
        .map(|command| command.get_name().len());
    let width = names.max().unwrap_or(0);
    let mut text = String::new();
    for (heading, names) in GROUPS {
        let there: Vec<_> = names
            .iter()
            .filter_map(|name| program.find_subcommand(name))
            .collect();
        if there.is_empty() {
            continue;
        }
        let _ = writeln!(text, " {heading}");
        for command in there {
            let about = command.get_about().map(ToString::to_string);
            let _ = writeln!(
                text,
                "  {:width$}  {}",
                command.get_name(),
                about.unwrap_or_default()
            );
        }
    }
    text + "\n"
}

/// The table of exit codes, for every `--help`.
pub fn exit_codes() -> String {
    let mut text = String::from("Exit codes:\n");
    for (code, meaning) in ExitCode::TABLE {
        let _ = writeln!(text, "  {:>3}  {meaning}", code.number());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command, those within others too.
    fn names(command: &clap::Command, parent: &str, found: &mut Vec<String>) {
        for inner in command.get_subcommands() {
            let name = format!("{parent} {}", inner.get_name());
            let name = name.trim_start().to_owned();
            names(inner, &name, found);
            found.push(name);
        }
    }

    #[test]
    fn every_command_stands_in_one_group() {
        let program = Cli::command();
        for command in program.get_subcommands() {
            let name = command.get_name();
            let groups = GROUPS.iter().filter(|(_, names)| names.contains(&name));
            assert_eq!(groups.count(), 1, "{name}: put it into GROUPS");
        }
    }

    #[test]
    fn every_command_has_examples_that_may_be_typed() {
        let mut found = Vec::new();
        names(&Cli::command(), "", &mut found);
        for name in found {
            let examples = EXAMPLES.iter().find(|(of, _)| *of == name);
            let (_, lines) = examples.unwrap_or_else(|| panic!("{name}: put one into EXAMPLES"));
            for line in *lines {
                // Up to what the shell does with it, or what it means.
                let words = line.split("  ").next().unwrap_or(line);
                let words = words
                    .split([' '])
                    .take_while(|word| !word.starts_with(['|', '>']));
                let words: Vec<String> = words.map(|word| word.replace('\'', "")).collect();
                let parsed = program().try_get_matches_from(&words);
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
                assert!(line.contains(&format!(" {name}")), "{name}: {line}");
            }
        }
    }
}
