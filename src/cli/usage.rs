//! Words that do not fit, told as every error is: what does not fit, that nothing was done, and what to type.

use std::error::Error as _;
use std::ffi::OsString;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::args::Cli;
use crate::error::Error;

/// Commands of the contract that are not part of this version. They are refused by name, so that
/// nobody believes that they did something.
const NOT_YET: [&str; 16] = [
    "drill", "report", "status", "probe", "metrics", "copy", "schedule", "run", "alert", "wal",
    "incident", "runbook", "kit", "migrate", "mount", "rewrite",
];

/// Options that every command takes with a value.
const TAKES_A_VALUE: [&str; 10] = [
    "--color",
    "-c",
    "--config",
    "--cache-dir",
    "--retry-lock",
    "-r",
    "--repo",
    "-p",
    "--password-file",
    "--password-command",
];

/// The refusal as an error of ours.
pub fn error(words: &[OsString], refusal: &clap::Error) -> Error {
    let command = command_words(words);
    let help = match command.as_slice() {
        [] => "`tillsafe --help` lists the commands and options".to_owned(),
        path => format!("`tillsafe {} --help` shows what it takes", path.join(" ")),
    };
    let (finding, next) = match refusal.kind() {
        ErrorKind::InvalidSubcommand => unknown_command(refusal, &command, &help),
        ErrorKind::UnknownArgument => unknown_argument(refusal, &command, &help),
        ErrorKind::MissingRequiredArgument => missing(refusal, &command, &help),
        ErrorKind::ArgumentConflict => conflict(refusal, &help),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => value(refusal, help),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            no_command(&command, help)
        }
        ErrorKind::InvalidUtf8 => (
            "a word is no text: it has bytes that are not UTF-8".to_owned(),
            "only paths may have any bytes; write names, tags and patterns in UTF-8".to_owned(),
        ),
        _ => (as_clap_has_it(refusal), help),
    };
    Error::Usage { finding, next }
}

/// The name of the command that was meant, as far as anybody can tell.
pub fn command(words: &[OsString], refusal: &clap::Error) -> Option<String> {
    unknown(refusal).or_else(|| command_words(words).into_iter().next())
}

/// The command of the words, and the one within it.
fn command_words(words: &[OsString]) -> Vec<String> {
    let mut path = Vec::new();
    let mut within = Cli::command();
    for pair in words.windows(2) {
        // A folder named after -r may be called backup.
        if TAKES_A_VALUE.iter().any(|flag| pair[0] == **flag) {
            continue;
        }
        let found = pair[1]
            .to_str()
            .and_then(|word| within.find_subcommand(word));
        if let Some(found) = found.cloned() {
            path.push(found.get_name().to_owned());
            within = found;
        }
    }
    path
}

/// The word that stands where a command should.
fn unknown(refusal: &clap::Error) -> Option<String> {
    one(refusal, ContextKind::InvalidSubcommand)
}

fn unknown_command(refusal: &clap::Error, command: &[String], help: &str) -> (String, String) {
    let name = unknown(refusal).unwrap_or_default();
    if NOT_YET.contains(&name.as_str()) {
        return (
            format!("`{name}` is not part of this version of tillsafe"),
            "`tillsafe --help` lists what is; on the same repository, stock restic does the rest"
                .to_owned(),
        );
    }
    let meant = did_you_mean(&several(refusal, ContextKind::SuggestedSubcommand));
    let finding = match command {
        [] => format!("there is no command {name:?}"),
        path => format!(
            "`tillsafe {}` has no {name:?}, but {}",
            path.join(" "),
            within(path).join(", ")
        ),
    };
    (finding, meant + help)
}

fn unknown_argument(refusal: &clap::Error, command: &[String], help: &str) -> (String, String) {
    let word = one(refusal, ContextKind::InvalidArg).unwrap_or_default();
    let of = match command {
        [] => String::new(),
        path => format!(" of `tillsafe {}`", path.join(" ")),
    };
    if !word.starts_with('-') {
        let too_many = format!("{word:?} is a word too many{of}");
        return (too_many, help.to_owned());
    }
    let meant = several(refusal, ContextKind::SuggestedArg);
    (
        format!("there is no option {word:?}{of}"),
        format!("{}{help}", did_you_mean(&meant)),
    )
}

fn missing(refusal: &clap::Error, command: &[String], help: &str) -> (String, String) {
    let lacking = several(refusal, ContextKind::InvalidArg);
    let next = if lacking == ["--target <DIR>"] {
        "add --target DIR for a new folder, or --in-place --dry-run to see what would be replaced"
            .to_owned()
    } else {
        let usage = refusal.get(ContextKind::Usage).map(ToString::to_string);
        let usage = usage.unwrap_or_default();
        let usage = usage.trim().trim_start_matches("Usage:").trim();
        format!("type {usage}; {help}")
    };
    let of = command.join(" ");
    let lacking = lacking.join(" and ");
    (format!("`tillsafe {of}` lacks {lacking}"), next)
}

fn conflict(refusal: &clap::Error, help: &str) -> (String, String) {
    let one = one(refusal, ContextKind::InvalidArg).unwrap_or_default();
    let others = several(refusal, ContextKind::PriorArg);
    if others.is_empty() || others == [one.as_str()] {
        return (
            format!("{one} is given more than once"),
            "give it once".to_owned(),
        );
    }
    // Of a policy every rule would be named.
    let named = others
        .iter()
        .take(2)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let more = if others.len() > 2 { " …" } else { "" };
    let finding = format!("{one} and {named}{more} do not go together");
    (finding, format!("leave one of them away; {help}"))
}

fn value(refusal: &clap::Error, help: String) -> (String, String) {
    let option = one(refusal, ContextKind::InvalidArg).unwrap_or_default();
    let given = one(refusal, ContextKind::InvalidValue).unwrap_or_default();
    let valid = several(refusal, ContextKind::ValidValue);
    let next = if valid.is_empty() {
        help
    } else {
        let meant = several(refusal, ContextKind::SuggestedValue);
        format!("{}give one of: {}", did_you_mean(&meant), valid.join(", "))
    };
    let finding = match refusal.source() {
        Some(cause) => format!("{given:?} is no value for {option}: {cause}"),
        None if given.is_empty() => format!("{option} is given without a value"),
        None => format!("{given:?} is no value for {option}"),
    };
    (finding, next)
}

fn no_command(command: &[String], help: String) -> (String, String) {
    match command {
        [] => ("no command is given".to_owned(), help),
        path => {
            let name = path.join(" ");
            let finding = match within(path).as_slice() {
                [] => format!("`tillsafe {name}` lacks what it is to work on"),
                names => format!(
                    "`tillsafe {name}` does nothing by itself; it has {}",
                    names.join(", ")
                ),
            };
            (finding, help)
        }
    }
}

/// The commands that a command holds.
fn within(path: &[String]) -> Vec<String> {
    let whole = Cli::command();
    let holder = { path.iter() }.try_fold(&whole, |within, name| within.find_subcommand(name));
    let inner = holder.into_iter().flat_map(clap::Command::get_subcommands);
    inner.map(|one| one.get_name().to_owned()).collect()
}

/// The message of the parser in one line, without what it says of usage.
fn as_clap_has_it(refusal: &clap::Error) -> String {
    let text = refusal.to_string();
    let lines = text.lines().map(str::trim);
    let lines = lines.take_while(|line| !line.starts_with("Usage:"));
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

fn did_you_mean(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("did you mean {}? ", names.join(" or ")),
    }
}

fn one(refusal: &clap::Error, kind: ContextKind) -> Option<String> {
    several(refusal, kind).into_iter().next()
}

fn several(refusal: &clap::Error, kind: ContextKind) -> Vec<String> {
    match refusal.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::help;

    fn told(words: &[&str]) -> (String, String) {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let refusal = help::program().try_get_matches_from(&words).unwrap_err();
        match error(&words, &refusal) {
            Error::Usage { finding, next } => (finding, next),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_kind_of_misfit_is_told_with_what_to_type() {
        for (words, finding, next) in [
            (
                &["tillsafe", "snapshot"][..],
                "there is no command \"snapshot\"",
                "did you mean snapshots? `tillsafe --help`",
            ),
            (
                &["tillsafe", "-r", "backup", "key", "chang"],
                "`tillsafe key` has no \"chang\", but list, add, remove, passwd",
                "`tillsafe key --help`",
            ),
            (
                &["tillsafe", "backup", "--tags", "x"],
                "there is no option \"--tags\" of `tillsafe backup`",
                "did you mean --tag? `tillsafe backup --help`",
            ),
            (
                &["tillsafe", "check", "surplus"],
                "\"surplus\" is a word too many of `tillsafe check`",
                "`tillsafe check --help`",
            ),
            (
                &["tillsafe", "restore", "latest"],
                "`tillsafe restore` lacks --target <DIR>",
                "add --target DIR",
            ),
            (
                &["tillsafe", "ls"],
                "`tillsafe ls` lacks <SNAPSHOT[:PATH]>",
                "type tillsafe ls <SNAPSHOT[:PATH]>; `tillsafe ls --help`",
            ),
            (
                &["tillsafe", "check", "-v", "-q"],
                "--verbose and --quiet do not go together",
                "leave one of them away",
            ),
            (
                &["tillsafe", "-r", "/a", "-r", "/b", "check"],
                "--repo <NAME|LOCATION> is given more than once",
                "give it once",
            ),
            (
                &["tillsafe", "completions", "cobol"],
                "\"cobol\" is no value for <SHELL>",
                "give one of: bash, elvish, fish",
            ),
            (
                &["tillsafe", "check", "--color", "nevr"],
                "\"nevr\" is no value for --color <WHEN>",
                "did you mean never? give one of: auto, always, never",
            ),
            (
                &["tillsafe", "check", "--retry-lock", "5w"],
                "\"5w\" is no value for --retry-lock <DURATION>: give a number and a unit",
                "`tillsafe check --help`",
            ),
            (
                &["tillsafe", "check", "-r"],
                "--repo <NAME|LOCATION> is given without a value",
                "`tillsafe check --help`",
            ),
            (
                &["tillsafe", "repair"],
                "`tillsafe repair` does nothing by itself; it has index, packs, snapshots",
                "`tillsafe repair --help`",
            ),
            (&["tillsafe"], "no command is given", "`tillsafe --help`"),
        ] {
            let (found, after) = told(words);
            assert!(found.starts_with(finding), "{words:?}: {found}");
            assert!(after.starts_with(next), "{words:?}: {after}");
        }
    }
}
