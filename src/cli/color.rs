//! Colour, with restraint: the first word of a line says how it stands, on a terminal that wants to see it.

use std::borrow::Cow;
use std::io::IsTerminal;

use clap::ValueEnum;

use crate::config;

/// When there is colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless `NO_COLOR` is set, `CLICOLOR` is 0, or it is a dumb one
    #[default]
    Auto,
    Always,
    Never,
}

impl When {
    /// What the words ask for, before they are understood: also a refusal has a colour, or none.
    pub fn of(words: &[std::ffi::OsString]) -> Self {
        let mut pairs = words.iter().zip(words.iter().skip(1));
        let apart = pairs.find(|(flag, _)| *flag == "--color");
        let joined = words.iter().filter_map(|word| word.to_str());
        let joined = { joined }.find_map(|word| word.strip_prefix("--color="));
        let value = apart.and_then(|(_, value)| value.to_str()).or(joined);
        value
            .and_then(|value| Self::from_str(value, false).ok())
            .unwrap_or_default()
    }

    /// The same for help, which goes to stdout: decided here, for the parser has rules of its own.
    pub fn for_clap(self) -> clap::ColorChoice {
        if self.is_wanted(&std::io::stdout()) {
            clap::ColorChoice::Always
        } else {
            clap::ColorChoice::Never
        }
    }

    fn is_wanted(self, stream: &impl IsTerminal) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => stream.is_terminal() && !is_unwanted() && !is_dumb(),
        }
    }
}

/// Whether the environment says that nobody wants colour.
fn is_unwanted() -> bool {
    config::environment("NO_COLOR").is_some()
        || config::environment("CLICOLOR").is_some_and(|value| value == "0")
}

/// Whether the terminal understands nothing but text.
pub fn is_dumb() -> bool {
    config::environment("TERM").is_some_and(|term| term == "dumb")
}

/// Which stream has colour.
#[derive(Debug, Clone, Copy, Default)]
pub struct Colors {
    pub stdout: bool,
    pub stderr: bool,
}

impl Colors {
    pub fn new(when: When) -> Self {
        Self {
            stdout: when.is_wanted(&std::io::stdout()),
            stderr: when.is_wanted(&std::io::stderr()),
        }
    }
}

const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const GREEN: &str = "\u{1b}[32m";
const PLAIN: &str = "\u{1b}[0m";

/// How lines begin that have a colour.
const WORDS: [(&str, &str); 6] = [
    ("error:", RED),
    ("damaged:", RED),
    ("lost:", RED),
    ("warning:", YELLOW),
    ("no damage found", GREEN),
    ("proof level:", GREEN),
];

/// Colours the first word of a line that says how it stands.
pub fn painted(text: &str, is_on: bool) -> Cow<'_, str> {
    let word = WORDS.iter().find(|(word, _)| text.starts_with(word));
    let Some((word, color)) = word.filter(|_| is_on) else {
        return text.into();
    };
    format!("{color}{word}{PLAIN}{}", &text[word.len()..]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_has_a_colour_and_only_if_asked() {
        assert_eq!(painted("error: no", true), "\u{1b}[31merror:\u{1b}[0m no");
        assert_eq!(painted("error: no", false), "error: no");
        assert_eq!(painted("an error: no", true), "an error: no");
    }

    #[test]
    fn the_flag_is_seen_wherever_it_stands() {
        let when = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(std::ffi::OsString::from).collect();
            When::of(&words)
        };
        assert_eq!(when(&["x", "--color", "never"]), When::Never);
        assert_eq!(when(&["x", "--color=always", "ls"]), When::Always);
        assert_eq!(when(&["x", "--color"]), When::Auto);
        assert_eq!(when(&["x", "--color", "blue"]), When::Auto);
    }
}
