//! The words of what looks inside a repository.

use std::ffi::OsString;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct Cat {
    /// config, key, lock, snapshot, index, pack, tree or blob
    #[arg(value_name = "KIND")]
    pub kind: String,
    /// The object: the first digits of its id; for a tree also SNAPSHOT:PATH
    #[arg(value_name = "ID")]
    pub id: Option<OsString>,
}

#[derive(Debug, Args)]
pub struct List {
    /// Which objects
    #[arg(value_name = "KIND")]
    pub kind: ListKind,
}

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListKind {
    Keys,
    Locks,
    Snapshots,
    Index,
    Packs,
    Blobs,
}
