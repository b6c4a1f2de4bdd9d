//! What each key means.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use super::database::{Database, database};
use super::section::{Finding, Findings, MAX_FINDINGS, Placed, Section, listed, shown};
use super::{
    Configuration, FilesSource, HOOK_TIMEOUT, Password, RepositoryEntry, Shop, is_name, nearest,
};
use crate::config::location;
use crate::hook::{Hook, When};
use crate::retention::{Policy, Rules};
use crate::source::files::exclude::{fits, may_fit_below, require_pattern};

/// Longest time that a hook may be given.
const MAX_TIMEOUT: Duration = Duration::from_hours(24);

/// Reads the text of `file`.
///
/// # Errors
/// All that is wrong with it, in the order of the file.
pub fn parse(file: &Path, text: &str) -> Result<Configuration, Vec<Finding>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let findings = Findings::new(text);
    let (root, broken) = DeTable::parse_recoverable(text);
    for error in broken.iter().take(MAX_FINDINGS) {
        let at = error.span().unwrap_or(0..0);
        findings.add(&at, format!("this is no TOML: {}", error.message()));
    }
    if !broken.is_empty() {
        // What could be read of the rest would be guesses.
        return Err(findings.take());
    }
    let top = Section::new(String::new(), 0..0, root.get_ref(), &findings);
    let configuration = whole(file, top);
    match (configuration, findings.take()) {
        (configuration, found) if found.is_empty() => Ok(configuration),
        (_, found) => Err(found),
    }
}

fn whole(file: &Path, mut top: Section<'_>) -> Configuration {
    match top.number("version") {
        None => top.missing("version", "version = 1"),
        Some(Placed { value: 1, .. }) => {}
        Some(other) => top.wrong_at(
            &other.at,
            "this version of tillsafe reads `version = 1` alone; the file is for a later one",
        ),
    }
    let mut repositories = BTreeMap::new();
    // Also of those in which something is wrong: a shop that names one is right.
    let mut names = BTreeSet::new();
    for (name, section) in top.named("repository") {
        require_name(&name, &section);
        names.insert(name.value.clone());
        if let Some(entry) = repository(section) {
            repositories.insert(name.value, entry);
        }
    }
    let mut shops = BTreeMap::new();
    for (name, section) in top.named("shop") {
        require_name(&name, &section);
        if let Some(shop) = shop(section, &names) {
            shops.insert(name.value, shop);
        }
    }
    top.not_yet(
        &["alert"],
        "cron mails what is printed, and -q prints nothing on success",
    );
    top.not_yet(
        &["monitor"],
        "watch the exit code, or the summary of --json",
    );
    top.finish();
    Configuration {
        file: file.to_owned(),
        repositories,
        shops,
    }
}

fn require_name(name: &Placed<String>, section: &Section<'_>) {
    if !is_name(&name.value) {
        section.wrong_at(
            &name.at,
            "a name is made of a-z, 0-9, _ and -, begins with a letter or digit, and is neither `latest` nor `proven`",
        );
    }
}

fn repository(mut section: Section<'_>) -> Option<RepositoryEntry> {
    let example = "location = \"/media/backup/shop\"";
    let path = match section.text("location") {
        None => {
            section.missing("location", example);
            None
        }
        Some(text) => match location(&text.value) {
            Err(finding) => {
                section.wrong_at(&text.at, &finding);
                None
            }
            Ok(folder) => absolute(&section, "location", &text, &folder),
        },
    };
    let password = password(&mut section);
    section.never(
        &["password"],
        "would be a secret in this file: put it into a file of its own (chmod 600) and name that with password_file",
    );
    section.not_yet(
        &["credentials_file"],
        "a repository is a folder of this machine so far",
    );
    section.finish();
    Some(RepositoryEntry {
        path: path?,
        password: password?,
    })
}

fn password(section: &mut Section<'_>) -> Option<Password> {
    let mut found = Vec::new();
    if let Some(text) = section.text("password_file") {
        let path = absolute(section, "password_file", &text, Path::new(&text.value));
        found.push((text.at, path.map(Password::File)));
    }
    if let Some(words) = section.texts("password_command") {
        let command = program(section, "password_command", &words);
        found.push((words.at, command.map(Password::Command)));
    }
    if let Some(name) = section.text("password_credential") {
        let is_plain = !name.value.contains('/') && !name.value.starts_with('.');
        if !is_plain {
            section.wrong_at(
                &name.at,
                "`password_credential` is the name of a credential, not a path",
            );
        }
        found.push((
            name.at,
            is_plain.then_some(Password::Credential(name.value)),
        ));
    }
    if let Some((at, _)) = found.get(1) {
        section.wrong_at(at, "more than one key names the password: keep one of them");
    }
    match found.into_iter().next() {
        Some((_, password)) => password,
        None if section.has("password_command") || section.has("password_credential") => None,
        None => {
            section.missing(
                "password_file",
                "password_file = \"/etc/tillsafe/shop.pass\" (or password_command, password_credential)",
            );
            None
        }
    }
}

fn shop(mut section: Section<'_>, repositories: &BTreeSet<String>) -> Option<Shop> {
    let title = section.text("title").map(|title| title.value);
    let repository = repository_of(&mut section, repositories);
    let mut sources = Sources::default();
    let (mut databases, mut servers) = (Vec::new(), Vec::new());
    for inner in section.list("database") {
        match database(inner, &mut sources) {
            Some(Database::File(source)) => databases.push(source),
            Some(Database::Server(source)) => servers.push(source),
            None => {}
        }
    }
    let files: Vec<_> = section.list("files");
    let files: Vec<_> = files
        .into_iter()
        .filter_map(|files_section| files_source(files_section, &mut sources))
        .collect();
    if !section.has("database") && !section.has("files") {
        let inside = section.name.trim_matches(['[', ']']);
        let text = format!(
            "there is nothing to back up: add [[{inside}.files]] with a path, or [[{inside}.database]]"
        );
        section.wrong(&text);
    }
    let keep = section.table("keep").and_then(keep);
    let hooks = section.list("hook").into_iter().filter_map(hook).collect();
    section.not_yet(
        &["copies"],
        "a second repository is backed up to with -r NAME",
    );
    section.not_yet(
        &["rpo", "rto", "drill"],
        "`tillsafe verify` proves a snapshot, from cron too",
    );
    section.not_yet(
        &["schedule"],
        "a crontab line runs it (docs/configuration.md)",
    );
    section.finish();
    Some(Shop {
        title,
        repository: repository?,
        databases,
        servers,
        files,
        keep,
        hooks,
    })
}

/// The shop's repository: the one that it names, or the only one.
fn repository_of(section: &mut Section<'_>, repositories: &BTreeSet<String>) -> Option<String> {
    let known: Vec<&str> = repositories.iter().map(String::as_str).collect();
    if let Some(named) = section.text("repository") {
        if repositories.contains(&named.value) {
            return Some(named.value);
        }
        let meant = nearest(&named.value, &known);
        let meant = meant.map_or(String::new(), |known| format!("; did you mean `{known}`?"));
        section.wrong_at(
            &named.at,
            &format!(
                "there is no [repository.{}]{meant} (known: {})",
                shown(&named.value),
                listed(&known)
            ),
        );
        return None;
    }
    match known[..] {
        [only] => Some(only.to_owned()),
        [] => {
            section.wrong(
                "it has no repository: add [repository.NAME] with location and password_file",
            );
            None
        }
        _ => {
            section.missing("repository", &format!("repository = \"{}\"", known[0]));
            None
        }
    }
}

/// The sources of a shop so far: no two of one name or path.
#[derive(Default)]
pub struct Sources {
    names: BTreeSet<String>,
    paths: BTreeSet<PathBuf>,
}

impl Sources {
    /// Name and path of a source; without a name it is called as the last part of its path.
    pub fn take(&mut self, section: &mut Section<'_>) -> Option<(String, PathBuf)> {
        let name = section.text("name");
        let Some(text) = section.text("path") else {
            section.missing("path", "path = \"/srv/shop\"");
            return None;
        };
        let path = absolute(section, "path", &text, Path::new(&text.value))?;
        let last = || {
            path.file_name()
                .map_or_else(|| "/".into(), |last| last.to_string_lossy().into_owned())
        };
        let (name, at) =
            name.map_or_else(|| (last(), text.at.clone()), |name| (name.value, name.at));
        self.take_name(section, &name, &at);
        if !self.paths.insert(path.clone()) {
            section.wrong_at(&text.at, "another source of this shop has the same path");
        }
        Some((name, path))
    }

    /// Takes a name, which no other source of the shop may have.
    pub fn take_name(&mut self, section: &Section<'_>, name: &str, at: &Range<usize>) {
        if !self.names.insert(name.to_owned()) {
            let text = format!(
                "two sources of this shop are called {:?}: give each a `name` of its own",
                shown(name)
            );
            section.wrong_at(at, &text);
        }
    }
}

fn files_source(mut section: Section<'_>, sources: &mut Sources) -> Option<FilesSource> {
    let found = sources.take(&mut section);
    let patterns = section.placed_texts("exclude");
    let path = found.as_ref().map(|(_, path)| path.as_path());
    for pattern in &patterns {
        if let Err(finding) = require_exclude(&pattern.value, path) {
            let text = shown(&pattern.value);
            section.wrong_at(&pattern.at, &format!("the pattern `{text}` {finding}"));
        }
    }
    section.finish();
    let (name, path) = found?;
    Some(FilesSource {
        name,
        path,
        exclude: patterns.into_iter().map(|pattern| pattern.value).collect(),
    })
}

/// Whether a pattern can leave out anything below `path`.
fn require_exclude(text: &str, path: Option<&Path>) -> Result<(), String> {
    require_pattern(text)?;
    let inner = text.trim_start_matches('!');
    match path {
        Some(path) if inner.starts_with('/') && !may_fit_below(text, path) => Err(format!(
            "begins with / and so is a whole path, which nothing below {} has: take the first / away",
            crate::units::shown(path)
        )),
        Some(path) if inner.starts_with('/') && fits(text, path) => {
            Err("leaves out the source itself".to_owned())
        }
        _ => Ok(()),
    }
}

fn keep(mut section: Section<'_>) -> Option<Policy> {
    let mut number = |key| section.number(key).map_or(0, |number| number.value);
    let mut rules = Rules {
        last: number("last"),
        hourly: number("hourly"),
        daily: number("daily"),
        weekly: number("weekly"),
        monthly: number("monthly"),
        yearly: number("yearly"),
        ..Rules::default()
    };
    if let Some(text) = section.text("within") {
        match text.value.parse() {
            Ok(within) => rules.within = Some(within),
            Err(wrong) => section.wrong_at(&text.at, &format!("`within`: {wrong}")),
        }
    }
    if let Some(tags) = section.texts("tags") {
        if tags.value.is_empty()
            || tags
                .value
                .iter()
                .any(|tag| tag.is_empty() || tag.contains(','))
        {
            section.wrong_at(
                &tags.at,
                "`tags` must be a list of tags, each without a comma",
            );
        }
        rules.tags = tags.value.into_iter().map(|tag| vec![tag]).collect();
    }
    let policy = Policy::new(rules);
    if policy.is_err() && section.is_sound() {
        section.wrong("it keeps nothing: give a number above nought, as in daily = 14");
    }
    section.finish();
    policy.ok()
}

fn hook(mut section: Section<'_>) -> Option<Hook> {
    let known = When::ALL.map(When::name);
    let when = match section.text("when") {
        None => {
            section.missing("when", "when = \"before-backup\"");
            None
        }
        Some(text) => {
            let when = When::ALL.into_iter().find(|when| when.name() == text.value);
            if when.is_none() {
                let text_known = known.join(", ");
                section.wrong_at(&text.at, &format!("`when` must be one of {text_known}"));
            }
            when
        }
    };
    let run = match section.texts("run") {
        None => {
            section.missing("run", "run = [\"/usr/bin/systemctl\", \"stop\", \"shop\"]");
            None
        }
        Some(words) => program(&section, "run", &words),
    };
    let timeout = section.span("timeout").map_or(HOOK_TIMEOUT, |timeout| {
        if timeout.value.is_zero() || timeout.value > MAX_TIMEOUT {
            section.wrong_at(
                &timeout.at,
                "`timeout` must be more than nothing and at most a day",
            );
        }
        timeout.value
    });
    section.finish();
    Some(Hook {
        when: when?,
        run: run?,
        timeout,
    })
}

/// A program and its arguments.
fn program(section: &Section<'_>, key: &str, words: &Placed<Vec<String>>) -> Option<Vec<String>> {
    let is_there = words
        .value
        .first()
        .is_some_and(|program| !program.is_empty());
    if !is_there || words.value.iter().any(|word| word.contains('\0')) {
        let text = format!("`{key}` must name a program and its arguments: [\"/usr/bin/true\"]");
        section.wrong_at(&words.at, &text);
        return None;
    }
    Some(words.value.clone())
}

/// A path that means the same for every user and in every folder.
pub fn absolute<T>(
    section: &Section<'_>,
    key: &str,
    text: &Placed<T>,
    path: &Path,
) -> Option<PathBuf> {
    let is_plain = path.is_absolute()
        && path.components().all(|part| part != Component::ParentDir)
        && !path.as_os_str().as_encoded_bytes().contains(&0);
    if !is_plain {
        let text_words = format!("`{key}` must be a whole path, from / on and without `..`");
        section.wrong_at(&text.at, &text_words);
        return None;
    }
    Some(path.components().collect())
}
