//! The words of what keeps a repository in order.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Filter;
use crate::repository::prune::MaxUnused;
use crate::retention::Within;

#[derive(Debug, Args)]
pub struct Forget {
    /// Snapshots to remove, by the first digits of their ids; instead of a policy
    #[arg(value_name = "SNAPSHOT", conflicts_with_all = ["Keep", "trust_history"])]
    pub snapshots: Vec<String>,
    #[command(flatten)]
    pub keep: Keep,
    /// Say what would be removed and why each of the others stays, and do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// What came in since the last run is real, however much it is and however old it says to be
    #[arg(long)]
    pub trust_history: bool,
    #[command(flatten)]
    pub filter: Filter,
}

/// What is to be kept of each series.
#[derive(Debug, Args)]
pub struct Keep {
    /// The last N snapshots
    #[arg(short = 'l', long = "keep-last", value_name = "N")]
    pub last: Option<u32>,
    /// The newest of each of the last N hours that have any
    #[arg(short = 'H', long = "keep-hourly", value_name = "N")]
    pub hourly: Option<u32>,
    /// The newest of each of the last N days that have any
    #[arg(short = 'd', long = "keep-daily", value_name = "N")]
    pub daily: Option<u32>,
    /// The newest of each of the last N weeks that have any
    #[arg(short = 'w', long = "keep-weekly", value_name = "N")]
    pub weekly: Option<u32>,
    /// The newest of each of the last N months that have any
    #[arg(short = 'm', long = "keep-monthly", value_name = "N")]
    pub monthly: Option<u32>,
    /// The newest of each of the last N years that have any
    #[arg(short = 'y', long = "keep-yearly", value_name = "N")]
    pub yearly: Option<u32>,
    /// All that are at most so much older than the newest: 30d, 1y5m7d2h
    #[arg(long = "keep-within", value_name = "SPAN")]
    pub within: Option<Within>,
    /// All with this tag; TAG,TAG for all with both
    #[arg(long = "keep-tag", value_name = "TAG")]
    pub tags: Vec<String>,
}

impl Keep {
    /// Whether it says nothing. A rule of nought says something: that its owner has slipped.
    pub fn is_empty(&self) -> bool {
        let numbers = [
            self.last,
            self.hourly,
            self.daily,
            self.weekly,
            self.monthly,
            self.yearly,
        ];
        numbers.iter().all(Option::is_none) && self.within.is_none() && self.tags.is_empty()
    }
}

#[derive(Debug, Args)]
pub struct Unlock {
    /// All locks, also those whose holder may live: make sure that nobody works on the repository
    #[arg(long)]
    pub remove_all: bool,
}

#[derive(Debug, Args)]
pub struct Cache {
    /// Remove it; the next run reads from the repository and keeps copies anew
    #[arg(long)]
    pub clear: bool,
}

#[derive(Debug, Args)]
pub struct Prune {
    /// Free at once, under an exclusive lock all the time: a backup meanwhile waits (--retry-lock) or ends with 11
    #[arg(long)]
    pub now: bool,
    /// How much that nobody needs may stay beside what is needed: a part of all, a size, or `unlimited`
    #[arg(long, value_name = "N%|SIZE|unlimited", default_value = "5%", value_parser = max_unused)]
    pub max_unused: MaxUnused,
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub enum Repair {
    /// Name every pack that is there in one index file, as it is
    ///
    /// Index files that cannot be read go, packs that no index names are named by their own headers, and packs that
    /// are gone are named no longer. What is right stays as it is.
    Index(RepairIndex),
    /// Store what is whole in broken packs anew, and remove those
    ///
    /// Reads every byte of every pack, or of those given. What is lost is named with the snapshots and paths that it costs.
    Packs(RepairPacks),
    /// Make new snapshots, without what is lost, beside those that lack something
    ///
    /// A lost file is left out, a lost folder with all below it. The new snapshot has the old one's time and the mark
    /// `incomplete`; the old one is kept unless --forget. Run `repair index` and `repair packs` first: they find what is lost.
    Snapshots(RepairSnapshots),
}

#[derive(Debug, Args)]
pub struct RepairIndex {
    /// Compare the header of every pack with its index, not only of those that are in doubt
    #[arg(long)]
    pub read_all_packs: bool,
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct RepairPacks {
    /// Only these packs: first digits of their ids, or their paths as `check` prints them
    #[arg(value_name = "PACK")]
    pub packs: Vec<String>,
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct RepairSnapshots {
    /// Only these snapshots: ids, or `latest`
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<String>,
    /// Remove each snapshot that lacks something, once the one with what is left is there
    #[arg(long)]
    pub forget: bool,
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub filter: Filter,
}

#[derive(Debug, Args)]
pub struct Tag {
    /// Snapshot ids or `latest`; without any, all that the filters below let through
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<String>,
    /// Add this tag
    #[arg(long, value_name = "TAG", required_unless_present_any = ["remove", "set"])]
    pub add: Vec<String>,
    /// Remove this tag
    #[arg(long, value_name = "TAG")]
    pub remove: Vec<String>,
    /// Replace all tags by this one (given several times, by all of them)
    #[arg(long, value_name = "TAG", conflicts_with_all = ["add", "remove"])]
    pub set: Vec<String>,
    #[command(flatten)]
    pub filter: Filter,
}

#[derive(Debug, Args)]
pub struct Key {
    #[command(subcommand)]
    pub action: KeyAction,
}

#[derive(Debug, Subcommand)]
pub enum KeyAction {
    /// List the keys: when each was made, what a guess at its password costs, which one is in use
    List,
    /// Add a key, so that one more password opens the repository
    Add(Password),
    /// Remove a key: its password opens nothing from then on
    ///
    /// Not the key that this run opens the repository with, so one always stays.
    Remove(KeyRemove),
    /// Change the password that this run opens the repository with
    ///
    /// The new password must open before the old key goes; in between both do. Whoever had the old one and
    /// a copy of the repository's keys can still read what they copied: docs/keys.md.
    Passwd(Password),
}

#[derive(Debug, Args)]
pub struct Password {
    /// File that holds the new password; one that does not exist is made, with a strong password in it
    #[arg(long, value_name = "FILE", conflicts_with = "new_password_command")]
    pub new_password_file: Option<PathBuf>,
    /// Command that prints the new password
    #[arg(long, value_name = "COMMAND")]
    pub new_password_command: Option<String>,
}

#[derive(Debug, Args)]
pub struct KeyRemove {
    /// First digits of the key's name; of a file that is no key, the full name
    #[arg(value_name = "ID")]
    pub key: String,
}

fn max_unused(text: &str) -> Result<MaxUnused, &'static str> {
    const WRONG: &str = "give a part (5%), a size with its unit (500M, 2G) or `unlimited`";
    if text == "unlimited" {
        return Ok(MaxUnused::Unlimited);
    }
    if text == "0%" || text == "0" {
        return Ok(MaxUnused::Bytes(0));
    }
    if let Ok(super::Share(part)) = text.parse() {
        return Ok(MaxUnused::Part(part));
    }
    // A bare number: of bytes, or of a hundred?
    let (at, unit) = text.char_indices().last().ok_or(WRONG)?;
    let number = &text[..at];
    let shift = match unit.to_ascii_uppercase() {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => return Err(WRONG),
    };
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(WRONG);
    }
    let number: u64 = number.parse().map_err(|_| WRONG)?;
    let bytes = number.checked_mul(1 << shift).ok_or(WRONG)?;
    Ok(MaxUnused::Bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_stay_unneeded_is_a_part_or_a_size() {
        for (text, wanted) in [
            ("5%", MaxUnused::Part(500)),
            ("0%", MaxUnused::Bytes(0)),
            ("0", MaxUnused::Bytes(0)),
            ("2G", MaxUnused::Bytes(2 << 30)),
            ("500m", MaxUnused::Bytes(500 << 20)),
            ("unlimited", MaxUnused::Unlimited),
        ] {
            assert_eq!(max_unused(text), Ok(wanted), "{text}");
        }
        for wrong in [
            "",
            "M",
            "5",
            "-1",
            "1.5G",
            "5 %",
            "101%",
            "9999999999T",
            "5€",
            "+5M",
        ] {
            assert!(max_unused(wrong).is_err(), "{wrong}");
        }
    }
}
