//! The rules of what is left out: from the command line, from files of patterns, from the configuration.
//! Each is read before anything is done, and one that cannot be followed is named with its place.

use std::path::{Path, PathBuf};

use super::Variables;
use super::file::Shop;
use crate::error::{Error, Result};
use crate::source::files::exclude::{Excludes, Rules, below, require_pattern};
use crate::units::{Shown, shown};

/// Longest file of patterns that is read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;
/// What to do about a pattern that cannot be read.
const NEXT: &str = "mend that pattern: a name (`*.log`) is left out wherever it lies, one that begins with / is a whole path; the rules: docs/backup.md";

/// What the command line says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said<'a> {
    /// `--exclude`.
    pub exclude: &'a [String],
    /// `--iexclude`.
    pub iexclude: &'a [String],
    /// `--exclude-file`.
    pub exclude_file: &'a [PathBuf],
    /// `--exclude-caches`.
    pub caches: bool,
    /// `--exclude-if-present`.
    pub if_present: &'a [String],
    /// `--one-file-system`.
    pub one_file_system: bool,
    /// `--exclude-larger-than`.
    pub larger_than_bytes: Option<u64>,
}

/// The rules of the command line, with those of the `shop` that is backed up. A shop's own come first, so that
/// what is typed can take something back.
///
/// # Errors
/// [`Error::Usage`] for a pattern that cannot be read, with its place; [`Error::File`].
pub fn excludes(
    said: &Said<'_>,
    shop: Option<&Shop>,
    variables: Variables<'_>,
) -> Result<Excludes> {
    let mut patterns: Vec<String> = shop.map_or(Vec::new(), of_shop);
    for pattern in said.exclude {
        require(pattern, "--exclude")?;
        patterns.push(pattern.clone());
    }
    for file in said.exclude_file {
        patterns.extend(of_file(file, variables)?);
    }
    for pattern in said.iexclude {
        require(pattern, "--iexclude")?;
    }
    let rules = Rules {
        patterns,
        any_case_patterns: said.iexclude.to_vec(),
        caches: said.caches,
        if_present: said.if_present.to_vec(),
        one_file_system: said.one_file_system,
        larger_than_bytes: said.larger_than_bytes,
    };
    Excludes::new(rules).map_err(|wrong| usage(&wrong.rule, "", wrong.finding))
}

/// The patterns of a shop, each for what lies below its source only.
fn of_shop(shop: &Shop) -> Vec<String> {
    let files = shop.files.iter().flat_map(|source| {
        let folder = source.path.to_string_lossy();
        let patterns = source.exclude.iter();
        patterns.map(move |pattern| {
            if pattern.trim_start_matches('!').starts_with('/') {
                pattern.clone()
            } else {
                below(&folder, pattern)
            }
        })
    });
    files.collect()
}

fn require(pattern: &str, place: &str) -> Result<()> {
    require_pattern(pattern).map_err(|finding| usage(pattern, place, finding))
}

fn usage(pattern: &str, place: &str, finding: &str) -> Error {
    /// Most bytes of a pattern that are shown.
    const MOST: usize = 200;
    let end = pattern.floor_char_boundary(MOST);
    let mut text = Shown(&pattern.as_bytes()[..end]).to_string();
    if end < pattern.len() {
        text.push('…');
    }
    let place = if place.is_empty() {
        String::new()
    } else {
        format!("{place}: ")
    };
    Error::Usage {
        finding: format!("{place}the pattern `{text}` {finding}"),
        next: NEXT.to_owned(),
    }
}

/// The patterns of a file as restic reads it: one a line, without blanks at both ends; lines that are empty or
/// begin with `#` mean nothing; `$NAME` and `${NAME}` stand for a variable of the environment, `$$` for a
/// dollar. A variable that is not there is no empty text: `$TRASH/*` would then leave out everything.
fn of_file(file: &Path, variables: Variables<'_>) -> Result<Vec<String>> {
    let text = text_of(file)?;
    let mut patterns = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{}:{}", shown(file), number + 1);
        let pattern = expanded(line, variables).map_err(|finding| usage(line, &place, &finding))?;
        require(&pattern, &place)?;
        patterns.push(pattern);
    }
    Ok(patterns)
}

fn text_of(file: &Path) -> Result<String> {
    use std::io::Read;
    let failed = || Error::file("reading", file);
    let opened = std::fs::File::open(file).map_err(failed())?;
    let mut bytes = Vec::new();
    let mut limited = opened.take(MAX_BYTES + 1);
    limited.read_to_end(&mut bytes).map_err(failed())?;
    let usage = |finding: &str| Error::Usage {
        finding: format!("{} {finding}", shown(file)),
        next: "give --exclude-file a text with one pattern a line".to_owned(),
    };
    if bytes.len() as u64 > MAX_BYTES {
        return Err(usage("is longer than 1 MiB, and so no list of patterns"));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        usage("is not UTF-8 (a name that is not can be written with `?` for each odd letter)")
    })?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

/// A line with its variables put in.
fn expanded(line: &str, variables: Variables<'_>) -> std::result::Result<String, String> {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            text.push('$');
            rest = after;
            continue;
        }
        let (name, after) = if let Some(inner) = after.strip_prefix('{') {
            inner.split_once('}').unwrap_or(("", after))
        } else {
            let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            let end = after.find(|letter| !is_part(letter));
            after.split_at(end.unwrap_or(after.len()))
        };
        let name_text = Shown(name.as_bytes());
        if name.is_empty() {
            return Err("has a `$` that begins no variable: write `$$` for the letter".to_owned());
        }
        let value = variables(name).and_then(|value| value.into_string().ok());
        let value = value.ok_or_else(|| {
            format!("names the variable {name_text}, which is not in the environment (cron has few): write its value")
        })?;
        text.push_str(&value);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_put_in_as_restic_does_but_never_an_empty_one() {
        let variables = |name: &str| (name == "HOME").then(|| "/home/mara".into());
        for (line, expected) in [
            ("$HOME/.cache", "/home/mara/.cache"),
            ("${HOME}x", "/home/marax"),
            ("a$$b", "a$b"),
            ("plain", "plain"),
        ] {
            assert_eq!(
                expanded(line, &variables).as_deref(),
                Ok(expected),
                "{line}"
            );
        }
        for line in ["$TRASH/*", "${HOME", "a$", "$/x", "${}"] {
            assert!(expanded(line, &variables).is_err(), "{line}");
        }
    }
}
