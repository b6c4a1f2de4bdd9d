//! One table of the file, read key by key. What is asked for is known; what is left over is a finding.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::suggest::nearest;
use crate::units::{Shown, duration};

/// Something in the file that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its line, counted from 1.
    pub line: usize,
    /// What is wrong, and what is known instead. Never a value: it may be a secret.
    pub text: String,
}

/// The text of a file, and what was found wrong with it so far.
#[derive(Debug)]
pub struct Findings<'a> {
    text: &'a str,
    found: RefCell<Vec<Finding>>,
}

impl<'a> Findings<'a> {
    pub const fn new(text: &'a str) -> Self {
        Self {
            text,
            found: RefCell::new(Vec::new()),
        }
    }

    /// Notes what is wrong at a place.
    pub fn add(&self, at: &Range<usize>, text: String) {
        if self.is_full() {
            return;
        }
        let line = super::line_of(self.text.as_bytes(), at.start);
        self.found.borrow_mut().push(Finding { line, text });
    }

    /// Whether there are as many as anybody reads: to find the line of each of a million would take hours.
    pub fn is_full(&self) -> bool {
        self.found.borrow().len() >= MAX_FINDINGS
    }

    /// All of it, in the order of the file.
    pub fn take(self) -> Vec<Finding> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|finding| finding.line);
        found
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Placed<T> {
    pub value: T,
    pub at: Range<usize>,
}

/// A table of the file.
#[derive(Debug)]
pub struct Section<'a> {
    /// As its head is written: `[shop.mara]`. Empty for the whole file.
    pub name: String,
    /// Where it stands.
    pub at: Range<usize>,
    findings: &'a Findings<'a>,
    table: &'a DeTable<'a>,
    asked: Vec<&'static str>,
    refused: Vec<&'static str>,
    sound: Cell<bool>,
}

impl<'a> Section<'a> {
    pub fn new(
        name: String,
        at: Range<usize>,
        table: &'a DeTable<'a>,
        findings: &'a Findings<'a>,
    ) -> Self {
        Self {
            name,
            at,
            findings,
            table,
            asked: Vec::new(),
            refused: Vec::new(),
            sound: Cell::new(true),
        }
    }

    /// Notes what is wrong with the section.
    pub fn wrong(&self, text: &str) {
        self.wrong_at(&self.at, text);
    }

    /// Notes what is wrong at a place in it.
    pub fn wrong_at(&self, at: &Range<usize>, text: &str) {
        self.sound.set(false);
        let text = if self.name.is_empty() {
            text.to_owned()
        } else {
            format!("{}: {text}", self.name)
        };
        self.findings.add(at, text);
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.push(key);
        self.table.get(key)
    }

    fn of_kind<T>(
        &mut self,
        key: &'static str,
        kind: &str,
        read: impl FnOnce(&'a DeValue<'a>) -> Option<T>,
    ) -> Option<Placed<T>> {
        let value = self.value(key)?;
        let read = read(value.get_ref());
        if read.is_none() {
            self.wrong_at(&value.span(), &format!("`{key}` must be {kind}"));
        }
        read.map(|read| Placed {
            value: read,
            at: value.span(),
        })
    }

    /// A text that is not empty.
    pub fn text(&mut self, key: &'static str) -> Option<Placed<String>> {
        self.of_kind(key, "a text in quotes", |value| match value {
            DeValue::String(text) if !text.is_empty() => Some(text.to_string()),
            _ => None,
        })
    }

    /// A number that fits 32 bits.
    pub fn number(&mut self, key: &'static str) -> Option<Placed<u32>> {
        self.of_kind(key, "a whole number, nought or more", |value| match value {
            DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        })
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &'static str) -> Option<Placed<Vec<String>>> {
        let kind = "a list of texts: [\"one\", \"two\"]";
        self.of_kind(key, kind, |value| match value {
            DeValue::Array(list) => list
                .iter()
                .map(|item| match item.get_ref() {
                    DeValue::String(text) => Some(text.to_string()),
                    _ => None,
                })
                .collect(),
            _ => None,
        })
    }

    /// The same, each text with its place.
    pub fn placed_texts(&mut self, key: &'static str) -> Vec<Placed<String>> {
        let kind = "a list of texts: [\"one\", \"two\"]";
        let found = self.of_kind(key, kind, |value| match value {
            DeValue::Array(list) => list
                .iter()
                .map(|item| match item.get_ref() {
                    DeValue::String(text) => Some(Placed {
                        value: text.to_string(),
                        at: item.span(),
                    }),
                    _ => None,
                })
                .collect(),
            _ => None,
        });
        found.map_or(Vec::new(), |found| found.value)
    }

    /// A span of time.
    pub fn span(&mut self, key: &'static str) -> Option<Placed<Duration>> {
        let kind = "a span with its unit: \"30s\", \"15m\", \"2h\", \"1d\"";
        self.of_kind(key, kind, |value| match value {
            DeValue::String(text) => duration(text).ok(),
            _ => None,
        })
    }

    /// A table in it.
    pub fn table(&mut self, key: &'static str) -> Option<Section<'a>> {
        let table = self.of_kind(key, "a table", |value| match value {
            DeValue::Table(table) => Some(table),
            _ => None,
        })?;
        Some(self.inner(key, table.at, table.value))
    }

    /// The tables in a table, with their names: `[shop.mara]`, `[shop.ilse]`.
    pub fn named(&mut self, key: &'static str) -> Vec<(Placed<String>, Section<'a>)> {
        let kind = &format!("a table of tables: [{key}.NAME]");
        let Some(tables) = self.of_kind(key, kind, |value| match value {
            DeValue::Table(tables) => Some(tables),
            _ => None,
        }) else {
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (name, value) in tables.value {
            let DeValue::Table(table) = value.get_ref() else {
                let text = format!("`{}` must be a table: [{key}.NAME]", shown(name.get_ref()));
                self.wrong_at(&name.span(), &text);
                continue;
            };
            let placed = Placed {
                value: name.get_ref().to_string(),
                at: name.span(),
            };
            let path = format!("{key}.{}", shown(name.get_ref()));
            sections.push((placed, self.inner(&path, name.span(), table)));
        }
        sections
    }

    /// The tables of a list of tables: `[[shop.mara.files]]`.
    pub fn list(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let inside = self.name.trim_matches(['[', ']']).to_owned();
        let kind = &format!("a list of tables: [[{inside}.{key}]]");
        let Some(items) = self.of_kind(key, kind, |value| match value {
            DeValue::Array(items) => items
                .iter()
                .map(|item| match item.get_ref() {
                    DeValue::Table(table) => Some((item.span(), table)),
                    _ => None,
                })
                .collect::<Option<Vec<_>>>(),
            _ => None,
        }) else {
            return Vec::new();
        };
        let section = |(at, table)| {
            let name = format!("[[{inside}.{key}]]");
            Section::new(name, at, table, self.findings)
        };
        items.value.into_iter().map(section).collect()
    }

    fn inner(&self, path: &str, at: Range<usize>, table: &'a DeTable<'a>) -> Section<'a> {
        let inside = self.name.trim_matches(['[', ']']);
        let name = if inside.is_empty() {
            format!("[{path}]")
        } else {
            format!("[{inside}.{path}]")
        };
        Section::new(name, at, table, self.findings)
    }

    /// Refuses keys that the contract names and this version does not know.
    pub fn not_yet(&mut self, keys: &[&'static str], instead: &str) {
        for key in keys {
            self.refused.push(key);
            let entry = self.table.get_key_value(*key);
            if let Some((key, _)) = entry {
                let key_text = key.get_ref();
                self.wrong_at(
                    &key.span(),
                    &format!("`{key_text}` is not part of this version of tillsafe; {instead}"),
                );
            }
        }
    }

    /// Refuses keys that there will never be, for a reason.
    pub fn never(&mut self, keys: &[&'static str], why: &str) {
        for key in keys {
            self.refused.push(key);
            if let Some((key, _)) = self.table.get_key_value(*key) {
                self.wrong_at(&key.span(), &format!("`{}` {why}", key.get_ref()));
            }
        }
    }

    /// Whether a key is there.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether nothing is wrong with it so far.
    pub fn is_sound(&self) -> bool {
        self.sound.get()
    }

    /// A key that must be there.
    pub fn missing(&self, key: &str, example: &str) {
        // One that is there and wrong has been named.
        if self.has(key) {
            return;
        }
        self.wrong(&format!("`{key}` is missing, as in {example}"));
    }

    /// Names every key that nobody asked for.
    pub fn finish(self) {
        for key in self.table.keys() {
            if self.findings.is_full() {
                return;
            }
            let word = key.get_ref().as_ref();
            if self.asked.contains(&word) || self.refused.contains(&word) {
                continue;
            }
            let meant = nearest(word, &self.asked);
            let meant = meant.map_or(String::new(), |known| format!("; did you mean `{known}`?"));
            self.wrong_at(
                &key.span(),
                &format!(
                    "unknown key `{}`{meant} (known: {})",
                    shown(word),
                    self.asked.join(", ")
                ),
            );
        }
    }
}

/// Most findings of a file that are kept.
pub const MAX_FINDINGS: usize = 100;

/// Names as they are listed: not endless.
#[must_use]
pub fn listed(names: &[&str]) -> String {
    const MAX_LISTED: usize = 20;
    let listed = names.iter().take(MAX_LISTED).map(|name| shown(name));
    let more = names.len().saturating_sub(MAX_LISTED);
    let mut listed: Vec<String> = listed.collect();
    if more > 0 {
        listed.push(format!("and {more} more"));
    }
    listed.join(", ")
}

/// A name from the file as it is shown: not endless.
pub fn shown(text: &str) -> String {
    const MAX_SHOWN: usize = 60;
    let end = text.char_indices().nth(MAX_SHOWN).map(|(at, _)| at);
    let cut = &text[..end.unwrap_or(text.len())];
    let mark = if end.is_some() { "…" } else { "" };
    format!("{}{mark}", Shown(cut.as_bytes()))
}
