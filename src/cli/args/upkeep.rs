//! The words of what keeps a repository in order.

use clap::Args;

use super::Filter;

#[derive(Debug, Args)]
pub struct Unlock {
    /// All locks, also those whose holder may live: make sure that nobody works on the repository
    #[arg(long)]
    pub remove_all: bool,
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
