//! The words of `backup` that say what is read.

use clap::Args;

use crate::backup::Recognition;

/// Which files are read.
#[derive(Debug, Args)]
pub struct Reading {
    /// Read all files, also those that have not changed since the last snapshot
    #[arg(long)]
    pub force: bool,
    /// A file may be unchanged though its inode is another: for network and FUSE file systems
    #[arg(long)]
    pub ignore_inode: bool,
}

impl Reading {
    /// What of a file must be as it was.
    pub const fn recognition(&self) -> Recognition {
        Recognition {
            force: self.force,
            ignore_inode: self.ignore_inode,
        }
    }
}
