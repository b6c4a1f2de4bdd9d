//! The words of what keeps a repository in order.

use clap::Args;

use super::Filter;
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
    pub tag: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Unlock {
    /// All locks, also those whose holder may live: make sure that nobody works on the repository
    #[arg(long)]
    pub remove_all: bool,
}
