//! What is left out by rule: its owner's words, and what they make of each item of a walk.
//!
//! The rules are restic's, so that they choose the same files there (docs/design/excludes.md has the few
//! exceptions). The same [`Judge`] serves both walks of a backup, and the look at what stands where a
//! snapshot is to go: what was left out of it is not gone from there.

mod component;
mod judge;
mod pattern;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use judge::{Judge, Named};
use pattern::Pattern;

use crate::units::{ByteSize, Shown};

/// Most patterns that one walk judges by: each is asked about each item.
pub const MAX_PATTERNS: usize = 10_000;
/// The file that marks a folder as a cache, and how it must begin (bford.info/cachedir).
const CACHE_TAG: (&str, &[u8]) = (
    "CACHEDIR.TAG",
    b"Signature: 8a477f597d28d172789f06886806bc55",
);

/// What is left out, in its owner's words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rules {
    /// Patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<String>,
    /// Patterns for which capital and small letters are the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub any_case_patterns: Vec<String>,
    /// The content of folders that are marked as caches.
    #[serde(skip_serializing_if = "is_false")]
    pub caches: bool,
    /// The content of folders with such a file in them: `NAME`, or `NAME:HEADER` for how it must begin.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub if_present: Vec<String>,
    /// What lies on another file system than its root.
    #[serde(skip_serializing_if = "is_false")]
    pub one_file_system: bool,
    /// Files of more bytes than these, but for databases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub larger_than_bytes: Option<u64>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Rules {
    /// Whether nothing is left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One of the rules, by its place among [`Excludes::names`].
pub type Rule = usize;

/// What is left out, ready to judge by.
#[derive(Debug, Clone, Default)]
pub struct Excludes {
    rules: Rules,
    lists: [List; 2],
    marks: Vec<Mark>,
    /// How each rule is called.
    names: Vec<String>,
    other_file_system: Option<Rule>,
    larger: Option<(Rule, u64)>,
}

/// Patterns of one kind: one that is negated takes back what those before it in its list leave out.
#[derive(Debug, Clone, Default)]
struct List {
    patterns: Vec<(Rule, Pattern)>,
    any_case: bool,
}

/// A file whose presence leaves out what lies beside it.
#[derive(Debug, Clone)]
struct Mark {
    rule: Rule,
    name: OsString,
    /// How it must begin.
    header: Vec<u8>,
}

/// A rule that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The rule.
    pub rule: String,
    /// What is wrong with it.
    pub finding: &'static str,
}

/// Looks whether a text is a pattern.
///
/// # Errors
/// What is wrong with it.
pub fn require_pattern(text: &str) -> Result<(), &'static str> {
    Pattern::parse(text).map(drop)
}

/// Whether a pattern can fit anything below `folder`. It is never wrong to say so.
#[must_use]
pub fn may_fit_below(text: &str, folder: &Path) -> bool {
    Pattern::parse(text).is_ok_and(|pattern| pattern.read(folder) != 0)
}

/// Whether a pattern fits a path, or a folder on the way to it.
#[must_use]
pub fn fits(text: &str, path: &Path) -> bool {
    Pattern::parse(text).is_ok_and(|pattern| pattern.is_met(pattern.read(path)))
}

/// A pattern for what lies below `folder`, from one that is looked for only there.
#[must_use]
pub fn below(folder: &str, pattern: &str) -> String {
    let (mark, inner) = match pattern.strip_prefix('!') {
        Some(inner) => ("!", inner),
        None => ("", pattern),
    };
    format!("{mark}{}/**/{inner}", literal(folder.trim_end_matches('/')))
}

/// A pattern that fits just this path, or this name.
#[must_use]
pub fn literal(path: &str) -> String {
    let mut text = String::new();
    for letter in path.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

/// The same for a name that may be no text: what is none fits `?`. What has a meaning stands in brackets, for a
/// backslash would have to be written twice where it is shown.
#[must_use]
pub fn literal_name(name: &OsStr) -> String {
    let mut text = String::new();
    for part in name.as_bytes().utf8_chunks() {
        for letter in part.valid().chars() {
            match letter {
                '*' | '?' | '[' => text.extend(['[', letter, ']']),
                '\\' => text.push_str("[\\\\]"),
                '!' if text.is_empty() => text.push_str("\\!"),
                _ => text.push(letter),
            }
        }
        text.extend(part.invalid().iter().map(|_| '?'));
    }
    text
}

impl Excludes {
    /// Reads the rules.
    ///
    /// # Errors
    /// The first that cannot be followed.
    pub fn new(rules: Rules) -> Result<Self, Wrong> {
        let (excludes, wrong) = Self::as_far_as_sound(rules);
        wrong.into_iter().next().map_or(Ok(excludes), Err)
    }

    /// The same with whatever rules a snapshot has: what cannot be followed is said, and leaves nothing out.
    #[must_use]
    pub fn as_far_as_sound(rules: Rules) -> (Self, Vec<Wrong>) {
        let mut made = Self::default();
        let mut wrong = Vec::new();
        let mut count = 0;
        for (number, any_case) in [false, true].into_iter().enumerate() {
            let texts = if any_case {
                &rules.any_case_patterns
            } else {
                &rules.patterns
            };
            let mut list = List {
                patterns: Vec::new(),
                any_case,
            };
            for text in texts {
                count += 1;
                let folded = any_case.then(|| small(text));
                let parsed = if count > MAX_PATTERNS {
                    Err("comes after 10000 others, and no more are judged by")
                } else {
                    Pattern::parse(folded.as_ref().unwrap_or(text))
                };
                match parsed {
                    Ok(pattern) => list.patterns.push((made.name(text.clone()), pattern)),
                    Err(finding) => wrong.push(Wrong {
                        rule: text.clone(),
                        finding,
                    }),
                }
            }
            made.lists[number] = list;
        }
        if rules.caches {
            let rule = made.name("--exclude-caches".to_owned());
            made.marks.push(Mark {
                rule,
                name: CACHE_TAG.0.into(),
                header: CACHE_TAG.1.to_vec(),
            });
        }
        for word in &rules.if_present {
            let (name, header) = word.split_once(':').unwrap_or((word, ""));
            if name.is_empty() || name.contains('/') || matches!(name, "." | "..") {
                wrong.push(Wrong {
                    rule: word.clone(),
                    finding: "must be the name of a file, or NAME:HEADER for how it begins",
                });
                continue;
            }
            let rule = made.name(format!("--exclude-if-present {word}"));
            made.marks.push(Mark {
                rule,
                name: name.into(),
                header: header.into(),
            });
        }
        if rules.one_file_system {
            made.other_file_system = Some(made.name("--one-file-system".to_owned()));
        }
        if let Some(bytes) = rules.larger_than_bytes {
            let size = ByteSize(bytes);
            let rule = made.name(format!("--exclude-larger-than {size}"));
            made.larger = Some((rule, bytes));
        }
        made.rules = rules;
        (made, wrong)
    }

    fn name(&mut self, text: String) -> Rule {
        self.names.push(text);
        self.names.len() - 1
    }

    /// The rules, as they were given.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether nothing is left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// How each rule is called.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How a rule is called, made safe to print.
    #[must_use]
    pub fn shown(&self, rule: Rule) -> String {
        let name = self.names.get(rule).map_or("", String::as_str);
        Shown(name.as_bytes()).to_string()
    }

    /// The rule that leaves out a file of so many bytes, unless it is a database: that grows, and must not
    /// be left out from some night on.
    #[must_use]
    pub fn by_size(&self, bytes: u64) -> Option<Rule> {
        let (rule, most) = self.larger?;
        (bytes > most).then_some(rule)
    }

    /// Whether what lies on another file system than its root is left out.
    #[must_use]
    pub const fn stays_on_one_file_system(&self) -> bool {
        self.other_file_system.is_some()
    }

    /// Whether a rule is a pattern for which capital and small letters are the same: only one of that kind takes
    /// back what it leaves out.
    #[must_use]
    pub fn is_of_any_case(&self, rule: Rule) -> bool {
        let mut lists = self.lists.iter().filter(|list| list.any_case);
        lists.any(|list| list.patterns.iter().any(|(other, _)| *other == rule))
    }

    /// Whether the owner has meant the very items that this rule leaves out: a pattern whose last name is
    /// written out, or a mark that somebody put there.
    #[must_use]
    pub fn is_meant(&self, rule: Rule) -> bool {
        let mut patterns = self.lists.iter().flat_map(|list| &list.patterns);
        patterns
            .find(|(other, _)| *other == rule)
            .is_none_or(|(_, pattern)| pattern.names_its_last())
    }

    /// A judge for a walk through `roots`: those that were named, and where each really is.
    #[must_use]
    pub fn judge<'a>(&'a self, named: &'a Named) -> Judge<'a> {
        Judge::new(self, named)
    }
}

/// A text in small letters, letter by letter as Go does it.
fn small(text: &str) -> String {
    let one = |letter: char| {
        let mut lower = letter.to_lowercase();
        match (lower.next(), lower.next()) {
            (Some(only), None) => only,
            _ => letter,
        }
    };
    text.chars().map(one).collect()
}

/// A name in small letters, as far as it has letters.
fn small_name(name: &[u8]) -> Vec<u8> {
    match str::from_utf8(name) {
        Ok(text) => small(text).into_bytes(),
        Err(_) => name.to_ascii_lowercase(),
    }
}
