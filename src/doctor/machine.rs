//! This machine: the build, the kernel, what runs regularly, and what nobody backs up.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Finding;
use super::databases::databases;
use crate::clock::Clock;
use crate::error::Result;
use crate::host;
use crate::monitor::Monitor;
use crate::source::sqlite;
use crate::units::{ByteSize, Shown, counted, quoted, shown};

/// The oldest kernel that has all that we rely on: `openat2`.
const KERNEL: [u64; 2] = [5, 6];
/// Most folders that are named one by one.
const MOST_NAMED: usize = 10;

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Machine<'a> {
    /// The machine's root folder: `/`.
    pub root: &'a Path,
    /// Absolute paths that are backed up.
    pub covered: &'a [PathBuf],
    /// Sockets of the servers whose databases are backed up, or their folders; one for each database.
    pub captured_sockets: &'a [PathBuf],
    /// Where spools are made.
    pub scratch: &'a Path,
    /// The command that installs the lines for cron, or how to get it.
    pub cron_line: &'a str,
}

/// Looks at this machine.
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub fn machine(
    machine: &Machine<'_>,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<Vec<Finding>> {
    let mut findings = vec![build(), kernel(&release())];
    findings.extend(timers(machine));
    for (name, socket) in host::servers(machine.root) {
        findings.push(if name == host::POSTGRESQL {
            postgresql(machine, &socket)
        } else {
            Finding::warning(
                name,
                format!("a server runs here ({}); this version does not capture it", shown(&socket)),
                "dump it into a folder that is backed up (mariadb-dump), and watch that the dump ends well",
            )
        });
    }
    findings.extend(uncovered(machine, clock, monitor)?);
    findings.push(scratch(machine));
    Ok(findings)
}

/// Whether the configuration names a database of this server. What else it holds is not asked.
fn postgresql(machine: &Machine<'_>, socket: &Path) -> Finding {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = socket.parent().map(real);
    let is_of_it = |named: &&PathBuf| {
        let named = real(named);
        Some(&named) == folder.as_ref() || named == real(socket)
    };
    let count = machine.captured_sockets.iter().filter(is_of_it).count();
    if count > 0 {
        let databases = counted(count as u64, "database");
        return Finding::good(
            host::POSTGRESQL,
            format!("{databases} of {} in the backup", shown(socket)),
        );
    }
    Finding::warning(
        host::POSTGRESQL,
        format!(
            "a server runs here ({}), and the configuration names no database of it",
            shown(socket)
        ),
        "name each: [[shop.NAME.database]] with engine = \"postgresql\" (docs/sources/postgresql.md)",
    )
}

fn build() -> Finding {
    let version = format!("SQLite {} is built in", sqlite::engine_version());
    if sqlite::has_page_table() {
        Finding::good("tillsafe", version + ", databases are read in place")
    } else {
        Finding::warning(
            "tillsafe",
            version + " without its page table: each database is copied before it is backed up",
            "build it inside a checkout, or take the binary of `make dist`",
        )
    }
}

fn release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

fn kernel(release: &str) -> Finding {
    let mut numbers = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    let version = [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)];
    let finding = format!("Linux {}", Shown(release.as_bytes()));
    if version >= KERNEL {
        Finding::good("kernel", finding)
    } else {
        Finding::error(
            "kernel",
            finding + " is older than 5.6: restores cannot hold themselves to their target",
            "restore on a newer machine; backups work",
        )
    }
}

fn timers(machine: &Machine<'_>) -> Vec<Finding> {
    let timers = host::timers(machine.root);
    if timers.is_empty() {
        return vec![Finding::warning(
            "timer",
            "no crontab and no systemd unit that this user can read calls `tillsafe backup`",
            machine.cron_line,
        )];
    }
    let called = |timer: host::Timer| {
        let line = Shown(timer.line.as_bytes()).to_string();
        Finding::good("timer", format!("{}: {line}", shown(&timer.file)))
    };
    timers.into_iter().map(called).collect()
}

/// Databases and shops that nothing covers: the most common way to lose one.
fn uncovered(
    machine: &Machine<'_>,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<Vec<Finding>> {
    let found = host::find(&[], machine.root, clock, monitor)?;
    let is_covered = |path: &Path| {
        machine
            .covered
            .iter()
            .any(|covered| path.starts_with(covered))
    };
    let mut findings = covered_databases(machine, &found);
    let said = findings.len();
    let mut more = 0;
    let all = found.shops.len();
    for shop in &found.shops {
        let missing: Vec<&host::Database> = shop
            .databases
            .iter()
            .filter(|database| !is_covered(&database.path))
            .collect();
        let uploads = shop
            .uploads
            .iter()
            .filter(|folder| !is_covered(folder))
            .count();
        if missing.is_empty() && uploads == 0 {
            continue;
        }
        if findings.len() - said == MOST_NAMED {
            more += 1;
            continue;
        }
        let folder = shown(&shop.folder);
        let mut what: Vec<String> = Vec::new();
        if let Some(first) = missing.first() {
            let count = counted(missing.len() as u64, "database");
            what.push(format!(
                "{count} ({} …, {})",
                shown(&first.path),
                ByteSize(first.size_bytes)
            ));
        }
        if uploads > 0 {
            what.push(counted(uploads as u64, "folder") + " of uploads");
        }
        findings.push(Finding::warning(
            &folder,
            format!("{} in it are in no backup", what.join(" and ")),
            format!(
                "add it to the configuration: `tillsafe setup {}` proposes the lines",
                quoted(&shop.folder)
            ),
        ));
    }
    if more > 0 {
        findings.push(Finding::warning(
            "shops",
            format!("and {more} more folders of which something is in no backup"),
            "`tillsafe setup --dry-run`",
        ));
    }
    if findings.len() == said {
        let seen = match all {
            0 => "none is where applications are usually kept".to_owned(),
            _ => format!(
                "{} with databases or uploads, all of it in the backup",
                counted(all as u64, "folder")
            ),
        };
        findings.push(Finding::good("shops", seen));
    }
    if found.cut_short {
        findings.push(Finding::warning(
            "shops",
            "there are too many files here to see all of them within a minute",
            "name the folders that matter: `tillsafe setup --dry-run /srv/shop`",
        ));
    }
    if let Some(first) = found.unreadable.first() {
        findings.push(Finding::warning(
            "shops",
            format!(
                "{} could not be looked into, {} first",
                counted(found.unreadable.len() as u64, "folder"),
                shown(first)
            ),
            "run doctor as root",
        ));
    }
    Ok(findings)
}

/// Those that are backed up: named, or found in what is.
fn covered_databases(machine: &Machine<'_>, found: &host::Found) -> Vec<Finding> {
    let named = machine
        .covered
        .iter()
        .filter(|path| sqlite::is_database(path))
        .cloned();
    let found = found
        .shops
        .iter()
        .flat_map(|shop| &shop.databases)
        .map(|database| database.path.clone());
    let covered = found.filter(|path| machine.covered.iter().any(|outer| path.starts_with(outer)));
    let all: BTreeSet<PathBuf> = named.chain(covered).collect();
    databases(&all.into_iter().collect::<Vec<_>>())
}

/// A database in rollback mode is read into a spool there.
fn scratch(machine: &Machine<'_>) -> Finding {
    let item = format!("temporary folder {}", shown(machine.scratch));
    let largest = machine
        .covered
        .iter()
        .filter(|path| path.is_file())
        .filter_map(|path| std::fs::metadata(path).ok())
        .map(|metadata| metadata.len())
        .max()
        .unwrap_or(0);
    match host::storage(machine.scratch) {
        Ok(storage) if storage.free_bytes < largest => Finding::warning(
            item,
            format!(
                "{} are free, the largest database has {}",
                ByteSize(storage.free_bytes),
                ByteSize(largest)
            ),
            "point TMPDIR to a folder with more room: a database that is not in WAL mode is copied there",
        ),
        Ok(storage) => Finding::good(item, format!("{} are free", ByteSize(storage.free_bytes))),
        Err(cause) => Finding::error(
            item,
            cause.to_string(),
            "point TMPDIR to a folder that can be written",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn kernels_are_compared_by_number() {
        for (release, level) in [
            ("5.6.0-1-amd64", Level::Good),
            ("6.1.0", Level::Good),
            ("10.0", Level::Good),
            ("5.5.19", Level::Error),
            ("4.19.0-21", Level::Error),
            ("nonsense", Level::Error),
        ] {
            assert_eq!(kernel(release).level, level, "{release}");
        }
    }
}
