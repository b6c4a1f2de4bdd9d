//! The words of `backup` that say what is read, and how it is stored.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::backup::{Compression, Recognition};
use crate::config::excludes::Said;
use crate::units::size;

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

/// How it is stored.
#[derive(Debug, Args)]
pub struct Storing {
    /// How much work is spent on making new data smaller; what is stored already stays as it is
    #[arg(long, value_enum, default_value_t, value_name = "WAY")]
    pub compression: Way,
}

/// A way to compress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// Zstandard level 3; what is compressed already, as pictures, is only looked through
    #[default]
    Auto,
    /// Level 1: where the window is short or the processors are busy
    Fast,
}

impl Storing {
    /// As the engine names it.
    pub const fn compression(&self) -> Compression {
        match self.compression {
            Way::Auto => Compression::Auto,
            Way::Fast => Compression::Fast,
        }
    }
}

/// What is left out.
#[derive(Debug, Default, Args)]
pub struct LeftOut {
    /// Leave out what fits, with all below it: a name at any depth, or from / on a whole path; `**` any folders, `!` takes back
    #[arg(short, long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// The same, whether letters are capital or small
    #[arg(long, value_name = "PATTERN")]
    pub iexclude: Vec<String>,
    /// Leave out what the patterns in this file fit, one a line
    #[arg(long, value_name = "FILE")]
    pub exclude_file: Vec<PathBuf>,
    /// Leave out what lies in folders that are marked as caches (CACHEDIR.TAG)
    #[arg(long)]
    pub exclude_caches: bool,
    /// Leave out what lies in folders with such a file, which stays; with :HEADER only if it begins so
    #[arg(long, value_name = "NAME[:HEADER]")]
    pub exclude_if_present: Vec<String>,
    /// Leave out other file systems than those of the paths that are named; the folders they are mounted on stay
    #[arg(short = 'x', long)]
    pub one_file_system: bool,
    /// Leave out files of more bytes than this (100M, 2G), but no database
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub exclude_larger_than: Option<u64>,
}

impl LeftOut {
    /// As it was said, before any file is read.
    pub fn said(&self) -> Said<'_> {
        Said {
            exclude: &self.exclude,
            iexclude: &self.iexclude,
            exclude_file: &self.exclude_file,
            caches: self.exclude_caches,
            if_present: &self.exclude_if_present,
            one_file_system: self.one_file_system,
            larger_than_bytes: self.exclude_larger_than,
        }
    }
}
