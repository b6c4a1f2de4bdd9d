//! What every error says: text, what is safe, what to do next. The golden file is what people read.

use std::fmt::Write;
use std::path::PathBuf;

use tillsafe::error::Error;

/// At least one of each.
#[allow(clippy::too_many_lines, reason = "a table")]
fn every() -> Vec<Error> {
    let text = |word: &str| word.to_owned();
    let path = PathBuf::from("/srv/shop");
    let io = |kind: std::io::ErrorKind| std::io::Error::from(kind);
    vec![
        Error::Usage {
            finding: text("no repository is named"),
            next: text("tillsafe -r …"),
        },
        Error::File {
            doing: "writing",
            path: path.clone(),
            cause: io(std::io::ErrorKind::PermissionDenied),
        },
        Error::File {
            doing: "writing",
            path: path.clone(),
            cause: io(std::io::ErrorKind::StorageFull),
        },
        Error::Storage {
            doing: "writing",
            object: text("index/ab"),
            cause: text("gone"),
            full: false,
        },
        Error::Storage {
            doing: "writing",
            object: text("index/ab"),
            cause: text("no room"),
            full: true,
        },
        Error::FolderMissing {
            location: text("/backup"),
            folder: "index",
        },
        Error::FolderMissing {
            location: text("/backup"),
            folder: "data",
        },
        Error::NoRepository {
            location: text("/backup"),
        },
        Error::RepositoryExists {
            location: text("/backup"),
        },
        Error::Unsupported {
            location: text("/backup"),
            finding: text("has format version 3"),
        },
        Error::ServerUnfit {
            name: text("the database till"),
            finding: text("there is a database till already"),
        },
        Error::Locked {
            holder: text("root on till, process 7, since noon"),
        },
        Error::WrongPassword {
            whose: text("in the file /etc/shop.pass"),
            location: text("/backup"),
            tried: 2,
            left: 0,
        },
        Error::NoSuchObject {
            object: text("pack 12ab34cd"),
        },
        Error::OutputCut {
            written_bytes: 4096,
            finding: text("damaged"),
        },
        Error::OutputClosed,
        Error::FileExists { path: path.clone() },
        Error::NoSnapshot {
            wanted: text("\"latest\""),
        },
        Error::ProofsUncertain,
        Error::LatestUncertain {
            object: text("snapshots/ab"),
            readable: Some(text("1a2b3c4d")),
        },
        Error::NoKey {
            location: text("/backup"),
        },
        Error::KeyRefused {
            finding: text("there are 20 key files, and restic tries no more than 20"),
            next: text("`tillsafe key list` shows them"),
        },
        Error::KeyTaken {
            other: text("1a2b3c4d"),
            old: text("5e0f7c1b"),
            flags: text("-r /backup -p /etc/new.pass"),
        },
        Error::NoSuchPath {
            snapshot: text("1a2b3c4d"),
            path: text("/srv/x"),
            finding: Some(text("database is locked")),
        },
        Error::NothingSelected {
            snapshot: text("1a2b3c4d"),
            base: text("/srv/shop"),
            words: text("--include *.jpeg"),
        },
        Error::ItemsLost {
            count: 2,
            rest: text("everything else is restored and proved at /srv/shop"),
        },
        Error::HookBeforeBackup {
            hook: text("/usr/bin/systemctl stop shop"),
            finding: text("ended with exit code 5; it said nothing"),
        },
        Error::HookBeforeRestore {
            hook: text("/usr/bin/systemctl stop shop"),
            finding: text("ended with exit code 5; it said nothing"),
        },
        Error::HookAfter {
            when: "after-backup",
            hook: text("/usr/bin/systemctl start shop"),
            finding: text("had not ended after 10 min 0 s and was stopped; it said nothing"),
        },
        Error::Source {
            name: text("/srv/shop.db"),
            finding: text("database is locked"),
        },
        Error::Damaged {
            object: text("config"),
            finding: text("it is not there"),
        },
        Error::Damaged {
            object: text("data/ab"),
            finding: text("it is not there"),
        },
        Error::SealFailed {
            finding: text("it opens to other bytes"),
        },
        Error::Internal {
            finding: text("a name comes out of order"),
        },
        Error::LockLost {
            finding: text("somebody has removed it"),
        },
        Error::TargetNotEmpty { path: path.clone() },
        Error::TargetUnfit {
            path: path.clone(),
            finding: text("it is not a folder"),
        },
        Error::UnfinishedRestore {
            path: path.clone(),
            finding: text("of another snapshot or path"),
        },
        Error::Unsaved {
            snapshot: text("1a2b3c4d"),
            path: PathBuf::from("/srv/shop/shop.db"),
            others: 2,
        },
        Error::PruneNeedsRoom {
            freed_bytes: 0,
            frees_bytes: 1 << 20,
            needed_bytes: 900_000,
        },
        Error::NothingToFree {
            freed_bytes: 1 << 20,
            unused_bytes: 5000,
        },
        Error::NothingToForget,
        Error::OnlyCopy {
            id: text("20261124T235217Z-66cb19"),
            snapshot: text("1a2b3c4d"),
            path: PathBuf::from("/srv/.tillsafe-kept-20261124T235217Z-66cb19/old/shop/secret.key"),
            others: 2,
        },
        Error::InUse {
            path: path.join("shop.db"),
            holder: text("till (process 7)"),
        },
        Error::PlanChanged {
            wanted: text("1da9c7308ac86862"),
        },
        Error::NoConsent {
            what: text("replace /srv/shop"),
            next: "give the hash of the plan to --plan",
        },
        Error::NotWhole {
            count: 2,
            first: text("/srv/shop/cup.jpg"),
        },
        Error::TargetChanged {
            path: path.clone(),
            finding: text("its name was taken meanwhile"),
        },
        Error::HalfSwapped {
            path: PathBuf::from("/srv/.tillsafe-kept-1"),
            cause: Box::new(Error::File {
                doing: "swapping",
                path: path.clone(),
                cause: io(std::io::ErrorKind::PermissionDenied),
            }),
        },
        Error::NothingKept {
            finding: text("on this machine"),
        },
        Error::KeptMissing {
            id: text("20261124T235217Z-66cb19"),
            path: PathBuf::from("/srv/.tillsafe-kept-20261124T235217Z-66cb19"),
        },
        Error::KeptInside {
            id: text("20261124T235217Z-66cb19"),
            other: text("20261125T001500Z-0ab1c2"),
            path: PathBuf::from(
                "/srv/.tillsafe-kept-20261125T001500Z-0ab1c2/old/shop/.tillsafe-kept-20261124T235217Z-66cb19",
            ),
        },
        Error::LaterRestore {
            id: text("20261124T235217Z-66cb19"),
            later: text("20261125T001500Z-0ab1c2"),
        },
        Error::AlreadyRolledBack {
            id: text("20261124T235217Z-66cb19"),
            kept: PathBuf::from("/srv/.tillsafe-kept-1"),
        },
        Error::NoRoom {
            path,
            needed_bytes: 3000,
            free_bytes: 1000,
        },
        Error::NotVerified {
            name: text("/srv/shop.db"),
            finding: text("table \"orders\" is missing"),
        },
        Error::RemovalStopped {
            removed: 1,
            count: 3,
            cause: Box::new(Error::Storage {
                doing: "removing",
                object: text("snapshots/ab"),
                cause: text("gone"),
                full: false,
            }),
        },
        Error::LastSnapshot {
            snapshot: text("1a2b3c4d"),
            reason: text("the last good snapshot"),
            group: text("shop=mara"),
        },
        Error::ImplausibleHistory {
            group: text("shop=mara"),
            finding: text("1000 snapshots came in"),
            others: 0,
        },
        Error::NoRandomness {
            cause: text("not permitted"),
        },
        Error::Interrupted { signal: 2 },
        Error::Interrupted { signal: 15 },
    ]
}

#[test]
fn every_message_is_the_one_in_the_golden_file() {
    let mut found = String::new();
    for error in every() {
        let (advice, code) = (error.advice(), error.exit_code().number());
        let (safe, next) = (advice.safe, advice.next);
        writeln!(found, "{code}: {error}\n  safe: {safe}\n  next: {next}").unwrap();
    }
    assert_eq!(found, include_str!("golden/errors.txt"), "\n{found}");
}

#[test]
fn no_error_is_missing_from_the_golden_file() {
    let source = include_str!("../src/error/mod.rs");
    let (_, variants) = source.split_once("pub enum Error {").unwrap();
    let (variants, _) = variants.split_once("\n}").unwrap();
    let names = variants
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.strip_suffix(" {"))
        .filter(|name| name.chars().all(char::is_alphanumeric));
    let shown: Vec<String> = every().iter().map(|error| format!("{error:?}")).collect();
    let mut count = 0;
    for name in names {
        let begins = |text: &String| text.starts_with(&format!("{name} {{"));
        assert!(shown.iter().any(begins), "{name} is missing here");
        count += 1;
    }
    assert!(count > 20, "only {count} variants were seen");
}

/// What a heading of the page by message stands for: `…` is anything.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    for (number, part) in parts.iter().enumerate() {
        if number + 1 == parts.len() {
            return rest.ends_with(part) && rest.len() >= part.len();
        }
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

#[test]
fn every_message_has_its_paragraph_in_the_page_by_message() {
    let page = include_str!("../docs/troubleshooting.md");
    let headings = page.lines().filter_map(|line| line.strip_prefix("### `"));
    let headings: Vec<(&str, Vec<u8>)> = headings
        .map(|line| {
            let (pattern, codes) = line.split_once("` (").expect("a message, and its codes");
            let codes = codes.trim_end_matches(')').split(", ");
            (pattern, codes.map(|code| code.parse().unwrap()).collect())
        })
        .collect();
    for error in every() {
        let (text, code) = (error.to_string(), error.exit_code().number());
        let found = headings
            .iter()
            .any(|(pattern, codes)| fits(pattern, &text) && codes.contains(&code));
        assert!(
            found,
            "docs/troubleshooting.md has no paragraph for {code}: {text}"
        );
    }
}

#[test]
fn the_page_for_scripts_has_the_table_of_exit_codes() {
    let page = include_str!("../docs/scripting.md");
    let rows: Vec<String> = tillsafe::error::ExitCode::TABLE
        .iter()
        .map(|(code, meaning)| format!("| {} | {meaning} |", code.number()))
        .collect();
    assert!(
        page.contains(&rows.join("\n")),
        "it should be\n{}",
        rows.join("\n")
    );
}
