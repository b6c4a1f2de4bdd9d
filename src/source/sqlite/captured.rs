//! What a capture has read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fingerprint::Fingerprint;
use super::header::Header;
use super::standing::Standing;
use crate::point::ConsistencyPoint;

/// How a database was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Its pages, straight from a read transaction.
    Pages,
    /// Its pages into a spool, to keep the lock short.
    SpooledPages,
    /// `SQLite`'s online backup call into a spool.
    OnlineBackup,
    /// One that a later version wrote into a manifest.
    #[serde(other)]
    Unknown,
}

/// What a capture has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// What the database held.
    pub fingerprint: Fingerprint,
    /// Which moment the image is of.
    pub point: ConsistencyPoint,
    /// How it was read.
    pub method: Method,
    /// Its journal mode: `wal`, `delete` …
    pub journal_mode: String,
    /// Bytes of the image.
    pub size_bytes: u64,
    /// How long our read transaction lasted.
    pub held: Duration,
    /// What its header says.
    pub header: Option<Header>,
    /// What the engine finds wrong in it: it was so before we came.
    pub unsound: Option<String>,
    /// How it stood, if that could be told.
    pub standing: Option<Standing>,
    /// What its owner should know.
    pub warnings: Vec<String>,
}
