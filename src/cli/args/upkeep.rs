//! The words of what keeps a repository in order.

use clap::{Args, Subcommand};

use super::Filter;
use crate::cli::exit_codes;

#[derive(Debug, Args)]
pub struct Unlock {
    /// All locks, also those whose holder may live: make sure that nobody works on the repository
    #[arg(long)]
    pub remove_all: bool,
}

#[derive(Debug, Subcommand)]
pub enum Repair {
    /// Name every pack that is there in one index file, as it is
    ///
    /// Index files that cannot be read go, packs that no index names are named by their own headers, and packs that
    /// are gone are named no longer. What is right stays as it is.
    #[command(after_help = exit_codes())]
    Index(RepairIndex),
    /// Store what is whole in broken packs anew, and remove those
    ///
    /// Reads every byte of every pack, or of those given. What is lost is named with the snapshots and paths that it costs.
    #[command(after_help = exit_codes())]
    Packs(RepairPacks),
    /// Make new snapshots, without what is lost, beside those that lack something
    ///
    /// A lost file is left out, a lost folder with all below it. The new snapshot has the old one's time and the mark
    /// `incomplete`; the old one is kept unless --forget. Run `repair index` and `repair packs` first: they find what is lost.
    #[command(after_help = exit_codes())]
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
