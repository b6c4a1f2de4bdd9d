//! The words of what looks inside a repository.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Filter;

pub const FIND: &str = "Find files by name, time or the objects that they are made of, in all snapshots

A pattern without a slash is a name at any depth, one with a slash a path, or the end of one; a star fits no slash, two stars fit any folders.";
pub const DIFF: &str = "Show what differs between two snapshots

+ added, - removed, M another content, T another kind, and with --metadata U another owner, mode or time.
Only folders that differ are read; bytes are those of blobs that only one side of them needs.";
pub const DUMP: &str = "Write a file to stdout, or a folder as a tar archive

Each blob is verified before it goes out; at the first thing that is damaged it ends, with exit code 4.";

#[derive(Debug, Args)]
pub struct Cat {
    /// config, key, lock, snapshot, index, pack, tree or blob
    #[arg(value_name = "KIND")]
    pub kind: String,
    /// The object: the first digits of its id; for a tree also SNAPSHOT:PATH
    #[arg(value_name = "ID")]
    pub id: Option<OsString>,
    #[command(flatten)]
    pub filter: Filter,
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

#[derive(Debug, Args)]
pub struct Stats {
    /// Snapshot ids or `latest`; without any, all that the filters below let through
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<String>,
    /// What is counted
    #[arg(long, value_name = "MODE", default_value = "restore-size")]
    pub mode: StatsMode,
    #[command(flatten)]
    pub filter: Filter,
}

/// What is counted: restic's modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StatsMode {
    /// What a restore of each snapshot would write
    RestoreSize,
    /// Files that differ in their content
    FilesByContents,
    /// Blobs, for each path once
    BlobsPerFile,
    /// What the blobs take in the repository
    RawData,
}

impl StatsMode {
    /// As it is typed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RestoreSize => "restore-size",
            Self::FilesByContents => "files-by-contents",
            Self::BlobsPerFile => "blobs-per-file",
            Self::RawData => "raw-data",
        }
    }
}

#[derive(Debug, Args)]
pub struct Diff {
    /// The earlier snapshot: an id or `latest`, with :PATH only what is below it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub before: OsString,
    /// The later one
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub after: OsString,
    /// Also what differs in owner, mode or time alone
    #[arg(long)]
    pub metadata: bool,
    #[command(flatten)]
    pub filter: Filter,
}

#[derive(Debug, Args)]
pub struct Find {
    /// A name at any depth (*.jpg), or with a slash a path (/srv/**/*.jpg)
    #[arg(value_name = "PATTERN", required_unless_present_any = ["blob", "tree", "pack"])]
    pub patterns: Vec<String>,
    /// Capital and small letters are alike
    #[arg(short, long)]
    pub ignore_case: bool,
    /// Only in this snapshot: an id or `latest`
    #[arg(long, value_name = "ID")]
    pub snapshot: Vec<String>,
    /// Only what was changed then or later: 2026-11-25, 2026-11-25T14:30 (UTC)
    #[arg(long, value_name = "TIME")]
    pub oldest: Option<String>,
    /// Only what was changed then or before; a day counts as a whole
    #[arg(long, value_name = "TIME")]
    pub newest: Option<String>,
    /// What this data blob is part of
    #[arg(long, value_name = "ID", conflicts_with = "patterns")]
    pub blob: Vec<String>,
    /// The folders that this tree describes
    #[arg(long, value_name = "ID", conflicts_with = "patterns")]
    pub tree: Vec<String>,
    /// What any blob of this pack is part of
    #[arg(long, value_name = "ID", conflicts_with = "patterns")]
    pub pack: Vec<String>,
    /// With mode, owner, size and time
    #[arg(short, long)]
    pub long: bool,
    #[command(flatten)]
    pub filter: Filter,
}

#[derive(Debug, Args)]
pub struct Dump {
    /// Snapshot id or `latest`, with :PATH only what is below it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub snapshot: OsString,
    /// A file or folder in it; names in an archive keep this path
    #[arg(value_name = "PATH")]
    pub inner: Option<PathBuf>,
    /// What a folder becomes
    #[arg(long, value_name = "FORMAT", default_value = "tar")]
    pub archive: ArchiveFormat,
    /// Write into this file, which must not exist; else to stdout
    #[arg(long, value_name = "FILE")]
    pub target: Option<PathBuf>,
    #[command(flatten)]
    pub filter: Filter,
}

/// What a folder can become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ArchiveFormat {
    Tar,
}
