//! The words of what keeps a repository in order.

use clap::Args;

#[derive(Debug, Args)]
pub struct Unlock {
    /// All locks, also those whose holder may live: make sure that nobody works on the repository
    #[arg(long)]
    pub remove_all: bool,
}
