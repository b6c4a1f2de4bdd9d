//! The words of the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

mod backup;
mod look;
mod upkeep;

pub use backup::{LeftOut, Reading, Storing};
pub use look::{ArchiveFormat, Cat, Diff, Dump, Find, List, ListKind, Stats, StatsMode};
pub use upkeep::{
    Cache, Forget, Keep, Key, KeyAction, KeyRemove, Password, Prune, Repair, RepairIndex,
    RepairPacks, RepairSnapshots, Tag, Unlock,
};

use super::color::When;
use crate::units::duration;

const RESTORE: &str = "Restore a snapshot into a new or empty folder, or in place: staged, proved, and only then named

With --target files keep their full path below it; with SNAPSHOT:PATH the content of that folder lands directly in it, \
and a new target gets that folder's owner, mode and time.
With --database a database that a server held is loaded into a new one, and counted: it is never loaded over one that is there.
With --in-place the original paths are replaced: stop the shop, look at the plan (--dry-run), then give its hash to --plan or \
type the path when asked. What was there is kept aside, and `tillsafe rollback` brings it back.";
const ROLLBACK: &str = "Undo the last restore in place, keeping what it displaces

The old data gets its names back; what was restored is kept aside in turn. Needs neither repository nor password. \
Without an argument it is the last restore in place on this machine that is meant, with --discard too.";

const FORGET: &str = "Remove the snapshots that a policy does not keep, or that are named

Snapshots are judged by series: those with a tag shop=NAME together, all others by machine and paths. Of each hour, day, week, \
month and year (UTC) the newest is kept, as many of them as the rule says. Without a rule here it is each shop's own, from the \
configuration. Never removed: the last good and the last proven \
snapshot of a series, what came in since the last run, and what is not plausibly dated.";

const SETUP: &str = "Look at this machine, propose a configuration, write it, create the repository

Looks for folders with SQLite databases and uploads where applications are kept (/srv, /var/www, /opt, /usr/local, /var/lib, homes, \
Docker's volumes), or in the folders that are named. Prints the configuration that it proposes, asks, and only then writes: a password \
file, the repository, the configuration. One that is there already is never changed: what it lacks is printed.";
const DOCTOR: &str = "What is not as it should be, each finding with its cure: this machine, the shops, the repositories

Changes nothing; in the folder of a repository a file is written, read back and removed. Exit code 1 if there is an error.";

/// What every command understands.
#[derive(Debug, Parser)]
#[command(
    name = "tillsafe",
    version,
    about = "Gets a shop open again: consistent, encrypted, proven backups of SQLite databases and files",
    max_term_width = 100,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags as they are typed")]
pub struct Global {
    /// The configuration; default: the file of `TILLSAFE_CONFIG`, else (not for root) ~/.config/tillsafe/tillsafe.toml, else /etc/tillsafe/tillsafe.toml
    #[arg(short, long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// The repository: a name of the configuration, or a folder, in the restic format
    #[arg(short, long, value_name = "NAME|LOCATION", global = true)]
    pub repo: Option<String>,
    /// File that holds the repository's password
    #[arg(short, long, value_name = "FILE", global = true)]
    pub password_file: Option<PathBuf>,
    /// Command that prints the repository's password
    #[arg(long, value_name = "COMMAND", global = true)]
    pub password_command: Option<String>,
    /// One JSON object a line on stdout, the last a `summary`
    #[arg(long, global = true)]
    pub json: bool,
    /// Nothing on success
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Name each step as it begins, on stderr
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Colour in what people read
    #[arg(long, value_name = "WHEN", global = true, default_value = "auto")]
    pub color: When,
    /// Never ask anything
    #[arg(long, global = true)]
    pub no_input: bool,
    /// Keep copies of index and snapshots there, for a repository on a slow storage
    #[arg(long, value_name = "DIR", global = true)]
    pub cache_dir: Option<PathBuf>,
    /// Keep no such copies, and no table of a large index
    #[arg(long, global = true)]
    pub no_cache: bool,
    /// Wait so long for a lock that somebody else holds: 30s, 15m, 2h
    #[arg(long, value_name = "DURATION", global = true, value_parser = duration)]
    pub retry_lock: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a small shop, back it up, destroy, restore and prove it; each step is shown
    Demo,
    /// Create a repository
    ///
    /// With -p and a file that does not exist, a strong password is made in it (mode 0600).
    Init,
    /// Look at this machine, propose a configuration, write it, create the repository
    #[command(long_about = SETUP)]
    Setup(Setup),
    /// What is not as it should be, each finding with its cure: this machine, the shops, the repositories
    #[command(long_about = DOCTOR)]
    Doctor,
    /// Back up files, folders and the SQLite databases in them into one consistent snapshot
    ///
    /// Databases are found by their header and captured through SQLite, while the shop goes on
    /// selling.
    Backup(Backup),
    /// List the snapshots
    Snapshots(Snapshots),
    /// List what a snapshot holds
    Ls(Ls),
    /// Restore a snapshot into a new or empty folder, or in place: staged, proved, and only then named
    #[command(long_about = RESTORE)]
    Restore(Restore),
    /// Undo the last restore in place, keeping what it displaces
    #[command(long_about = ROLLBACK)]
    Rollback(Rollback),
    /// Check the repository: its structure, and with --read-data every byte
    Check(Check),
    /// Do everything that a restore would do, in a scratch folder, and say how far it is proved
    ///
    /// What a whole snapshot has shown is recorded in the repository: `snapshots` lists it, and `proven`
    /// means the last one.
    Verify(Verify),
    /// Free the room that no snapshot needs any more
    ///
    /// What nobody needs is marked, and removed by the first prune a day later: somebody may be at work
    /// who takes no locks. With --now it is removed at once.
    Prune(Prune),
    /// Remove the snapshots that a policy does not keep, or that are named
    #[command(long_about = FORGET)]
    Forget(Forget),
    /// Remove locks that dead processes have left
    ///
    /// A lock is taken for dead when it was not refreshed for 30 minutes, or when it is of this machine and its process is gone.
    Unlock(Unlock),
    /// Show what --cache-dir keeps of a repository
    Cache(Cache),
    /// Repair what `check` finds: the index, packs, snapshots
    ///
    /// In this order: `repair index`, `repair packs`, `repair snapshots`. Nothing that can be restored is given up,
    /// and one that was interrupted is run again. Nobody else may work in the repository meanwhile.
    #[command(subcommand, disable_help_subcommand = true)]
    Repair(Repair),
    /// Give snapshots other tags
    ///
    /// The snapshot is stored anew under the new tags, and so gets a new id; `original` in it is the first one.
    /// Our own marks `incomplete`, `suspect` and `new-rules` go only with --remove.
    Tag(Tag),
    /// Find files by name, time or the objects that they are made of, in all snapshots
    #[command(long_about = look::FIND)]
    Find(Find),
    /// Show what differs between two snapshots
    #[command(long_about = look::DIFF)]
    Diff(Diff),
    /// Write a file to stdout, or a folder as a tar archive
    #[command(long_about = look::DUMP)]
    Dump(Dump),
    /// Count what snapshots hold
    Stats(Stats),
    /// Print an object of the repository, verified: JSON, or bytes as they are
    ///
    /// Of a key all is shown but the key itself. Bytes (a blob, a pack) are not written to a terminal.
    Cat(Cat),
    /// List the objects of the repository
    List(List),
    /// Who can open the repository: list, add and remove keys, change a password
    Key(Key),
    /// The configuration: check it, or show it
    Config(Config),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print the manual, of the program or of a command
    ///
    /// In roff, as `man -l -` reads it. --dir writes a page for each command.
    Man(Man),
    /// Print the versions of tillsafe and its engines
    Version,
}

#[derive(Debug, Args)]
pub struct Backup {
    /// Shops of the configuration; or files, folders and databases, each with a slash (./shop, not shop); default: all shops
    #[arg(value_name = "SHOP|PATH")]
    pub what: Vec<PathBuf>,
    /// Mark the snapshot
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Name of the machine in the snapshot, instead of its own
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    #[command(flatten)]
    pub left_out: LeftOut,
    #[command(flatten)]
    pub reading: Reading,
    #[command(flatten)]
    pub storing: Storing,
}

#[derive(Debug, Args)]
pub struct Snapshots {
    /// Those of tillsafe's own records as well
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub filter: Filter,
}

#[derive(Debug, Clone, Default, Args)]
pub struct Filter {
    /// Only snapshots of this shop
    #[arg(long, value_name = "NAME")]
    pub shop: Option<String>,
    /// Only snapshots of this machine
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Only snapshots of this path; given several times, of all of them
    #[arg(long, value_name = "PATH")]
    pub path: Vec<PathBuf>,
    /// Only snapshots with this mark
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
}

impl Filter {
    /// Whether it lets everything through.
    pub fn is_empty(&self) -> bool {
        self.shop.is_none() && self.host.is_none() && self.path.is_empty() && self.tag.is_none()
    }
}

/// Which items of a snapshot.
#[derive(Debug, Default, Args)]
pub struct Choice {
    /// Only what fits, with all below it; a name at any depth, or with a slash a path from the restored folder
    #[arg(long, value_name = "PATTERN")]
    pub include: Vec<String>,
    /// All but what fits, and what is below it; wins over --include
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Ls {
    /// Snapshot id, `latest` or `proven` (the last that passed verify), with :PATH only what is below it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub snapshot: OsString,
    #[command(flatten)]
    pub choice: Choice,
    /// With mode, owner, size and time
    #[arg(short, long)]
    pub long: bool,
    #[command(flatten)]
    pub filter: Filter,
}

#[derive(Debug, Args)]
pub struct Restore {
    /// Snapshot id, `latest` or `proven` (the last that passed verify), with :PATH only what is below it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub snapshot: OsString,
    /// Folder to restore into: one that does not exist, or is empty
    #[arg(long, value_name = "DIR", required_unless_present_any = ["in_place", "database"])]
    pub target: Option<PathBuf>,
    /// Replace what stands at the original paths; it is kept aside
    #[arg(long, conflicts_with = "target")]
    pub in_place: bool,
    /// Load this database of a server into a new one; by default on the server of the configuration
    #[arg(long, value_name = "SOURCE", conflicts_with_all = ["target", "in_place", "plan", "include", "exclude"])]
    pub database: Option<String>,
    /// With --database: name of the new database; default: `SOURCE_restored_ID`
    #[arg(long = "as", value_name = "NEWNAME", requires = "database")]
    pub new_name: Option<String>,
    /// With --database: the folder of the server's socket
    #[arg(long, value_name = "PATH", requires = "database")]
    pub socket: Option<PathBuf>,
    /// With --database: the server's port
    #[arg(long, value_name = "N", requires = "database", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// With --database: the role that loads it
    #[arg(long, value_name = "NAME", requires = "database")]
    pub user: Option<String>,
    /// With --in-place: of an incomplete snapshot, move aside even what it failed to save
    #[arg(long, requires = "in_place")]
    pub accept_incomplete: bool,
    /// Print the plan and its hash, and do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Do what this plan says, if it still holds: its hash, from --dry-run
    #[arg(long, value_name = "HASH", conflicts_with = "dry_run")]
    pub plan: Option<String>,
    #[command(flatten)]
    pub choice: Choice,
    #[command(flatten)]
    pub filter: Filter,
}

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags as they are typed")]
pub struct Rollback {
    /// What was replaced (a path), or the restore's own name; default: the last one
    #[arg(value_name = "PATH|NAME")]
    pub which: Option<OsString>,
    /// Show what restores in place have replaced and keep, and do nothing
    #[arg(long, conflicts_with = "discard")]
    pub list: bool,
    /// Remove what is kept instead
    #[arg(long)]
    pub discard: bool,
    /// With --discard: not of one restore, but of all, or of all that replaced the path
    #[arg(long, requires = "discard")]
    pub all: bool,
    /// With --discard: remove what no snapshot holds, too
    #[arg(long, requires = "discard")]
    pub accept_loss: bool,
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// With --discard: do not ask
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Check {
    /// Read every byte of every pack as well
    #[arg(long)]
    pub read_data: bool,
    /// Read every byte of so many of the packs, at least one, chosen by chance
    #[arg(long, value_name = "N%", conflicts_with = "read_data")]
    pub read_data_subset: Option<Share>,
    /// Choose the same packs as the run that printed this number
    #[arg(long, value_name = "NUMBER", requires = "read_data_subset")]
    pub seed: Option<u32>,
}

/// A share of a whole, in hundredths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(pub u32);

impl std::str::FromStr for Share {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "give a percentage: 5%, 0.25%, 100%";
        let number = text.strip_suffix('%').ok_or(WRONG)?;
        let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(rest) || rest.len() > 2 {
            return Err(WRONG);
        }
        let whole: u32 = whole.parse().map_err(|_| WRONG)?;
        let rest: u32 = format!("{rest:0<2}").parse().map_err(|_| WRONG)?;
        match whole.checked_mul(100).map(|whole| whole + rest) {
            Some(share @ 1..=10_000) => Ok(Self(share)),
            _ => Err(WRONG),
        }
    }
}

#[derive(Debug, Args)]
pub struct Verify {
    /// Snapshot id, `latest` or `proven` (the last that passed verify), with :PATH only what is below it
    #[arg(value_name = "SNAPSHOT[:PATH]", default_value = "latest")]
    pub snapshot: OsString,
    /// Folder for the scratch copy; default: $TMPDIR, else /var/tmp
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    #[command(flatten)]
    pub choice: Choice,
    #[command(flatten)]
    pub filter: Filter,
}

#[derive(Debug, Args)]
pub struct Setup {
    /// Folders of shops; default: where applications are kept
    pub paths: Vec<PathBuf>,
    /// Print the proposal, write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Write without asking
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Config {
    #[command(subcommand)]
    pub action: ConfigAction,
}

#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Name all that is wrong in the file, with its line; and warn of what this machine lacks
    Check,
    /// Show what the file means, with defaults filled in and secrets hidden
    Show,
}

#[derive(Debug, Args)]
pub struct Man {
    /// The command, word by word (key add); without one the program
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Write the pages of all commands there: tillsafe.1, tillsafe-backup.1 and so on
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn a_share_is_a_percentage_above_nothing() {
        for (text, share) in [("5%", 500), ("0.25%", 25), ("2.5%", 250), ("100%", 10_000)] {
            assert_eq!(text.parse(), Ok(Share(share)), "{text}");
        }
        for wrong in [
            "5",
            "0%",
            "101%",
            "-1%",
            "%",
            "1.234%",
            "1e1%",
            "5 %",
            "99999999%",
            "+5%",
        ] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }
}
