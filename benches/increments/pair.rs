//! A restored base with its log: made whole by us, or opened by whatever `SQLite` is at hand.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use rusqlite::Connection;

use crate::shop;
use tillsafe::source::sqlite::wal::HEADER;

use crate::wal::{self, FRAME, PAGE, read_frame};
use crate::ways::{NAME, WAL_NAME};

/// Writes the log's pages into the base and removes the log, without `SQLite`.
pub fn fold(folder: &Path) -> Result<()> {
    let base = OpenOptions::new().write(true).open(folder.join(NAME))?;
    let mut log = BufReader::with_capacity(1 << 20, File::open(folder.join(WAL_NAME))?);
    let mut header = Vec::new();
    let mut chain = wal::begin(&mut header);
    let mut stored = [0; HEADER];
    log.read_exact(&mut stored)?;
    ensure!(header == stored, "the log's header is not ours");
    let mut bytes = vec![0; FRAME];
    let pages = loop {
        log.read_exact(&mut bytes)?;
        let frame = read_frame(&bytes, &mut chain)?;
        base.write_all_at(frame.page, u64::from(frame.number - 1) * PAGE as u64)?;
        if frame.pages > 0 {
            break frame.pages;
        }
    };
    base.set_len(u64::from(pages) * PAGE as u64)?;
    base.sync_all()?;
    fs::remove_file(folder.join(WAL_NAME))?;
    Ok(())
}

/// What a person does who has the two files and `SQLite`: opens them and asks. Closing folds the log in.
pub fn open(folder: &Path) -> rusqlite::Result<(i64, i64, i64)> {
    shop::answer(&Connection::open(folder.join(NAME))?)
}

/// Tries what may happen to a base and its log after a restore by other means than ours, and prints
/// what `SQLite` makes of it. Anything but the newest state or a refusal fails.
pub fn try_mishaps(pair: &Path, scratch: &Path, expected: (i64, i64, i64)) -> Result<()> {
    let length = fs::metadata(pair.join(WAL_NAME))?.len();
    let frames = (length - HEADER as u64) / FRAME as u64;
    let half = HEADER as u64 + frames / 2 * FRAME as u64;
    for (case, kept) in [
        ("base and log", Some(length)),
        ("base without the log", None),
        ("log empty", Some(0)),
        ("log without its last frame", Some(length - FRAME as u64)),
        ("log cut to half of its frames", Some(half)),
        ("log without its last byte", Some(length - 1)),
    ] {
        let folder = copy(pair, scratch, kept)?;
        let (whole, found) = match open(&folder) {
            Ok(answer) => (answer == expected, "the newest state"),
            Err(_) => (false, "refuses to open"),
        };
        ensure!(
            whole == (kept == Some(length)),
            "{case}: an old state that looks whole"
        );
        println!("- {case}: {found}");
        fs::remove_dir_all(&folder)?;
    }
    for program in ["sqlite3", "python3"] {
        let alone = ask(program, &copy(pair, scratch, None)?);
        let together = ask(program, &copy(pair, scratch, Some(length))?);
        println!(
            "- {program}: alone {}, with its log {}",
            verdict(alone, expected),
            verdict(together, expected)
        );
    }
    Ok(())
}

/// Copies base and log; of the log only the first `kept` bytes, or none of it.
fn copy(pair: &Path, scratch: &Path, kept: Option<u64>) -> Result<PathBuf> {
    if scratch.exists() {
        fs::remove_dir_all(scratch)?;
    }
    fs::create_dir(scratch)?;
    fs::copy(pair.join(NAME), scratch.join(NAME))?;
    if let Some(kept) = kept {
        fs::copy(pair.join(WAL_NAME), scratch.join(WAL_NAME))?;
        OpenOptions::new()
            .write(true)
            .open(scratch.join(WAL_NAME))?
            .set_len(kept)?;
    }
    Ok(scratch.to_owned())
}

/// Counts the orders with another program; none if it is not here, or refuses.
fn ask(program: &str, folder: &Path) -> Option<i64> {
    const COUNT: &str = "SELECT count(*) FROM orders";
    let path = folder.join(NAME);
    let mut command = Command::new(program);
    if program == "sqlite3" {
        command.arg(path).arg(COUNT);
    } else {
        let script = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])";
        command.arg("-c").arg(script).arg(path).arg(COUNT);
    }
    let output = command.output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

fn verdict(orders: Option<i64>, expected: (i64, i64, i64)) -> &'static str {
    match orders {
        None => "refuses",
        Some(orders) if orders == expected.0 => "the newest state",
        Some(_) => "an old state that looks whole",
    }
}
