//! One record, as it is stored: a format for ever (docs/design/records.md).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Proof, ProofLevel};
use crate::error::{Error, Result};
use crate::id::Id;

/// The version that this program writes.
pub const SCHEMA: u32 = 1;
/// What a proof calls itself.
pub const PROOF: &str = "proof";
/// Most bytes of a record; one has about 600.
pub const MAX_BYTES: u64 = 64 * 1024;
/// Most records that one names as those before it: so many never stand side by side.
pub const MAX_PREVIOUS: usize = 64;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Says {
    /// Version of this description.
    pub schema: u32,
    /// What it is: `proof`; other kinds come later.
    pub kind: String,
    /// When it was written.
    pub time: Timestamp,
    /// The snapshot that it speaks of.
    pub snapshot: Id,
    /// That snapshot's first id, before it was marked or copied.
    pub origin: Id,
    /// That snapshot's tree: all that it holds.
    pub tree: Id,
    /// How far it was proved.
    #[serde(default)]
    pub level: String,
    /// Whether it held all that was to be in it.
    #[serde(default)]
    pub complete: bool,
    /// Program and version that proved it.
    #[serde(default)]
    pub program: String,
    /// The machine that it was proved on.
    #[serde(default)]
    pub host: String,
    /// The records before this one, by the SHA-256 of their bytes.
    #[serde(default)]
    pub previous: Vec<Id>,
}

impl Says {
    /// What it proves, if it is a proof. Only levels of at least `opened` are recorded, so one that a later
    /// version names is at least that.
    pub fn proof(&self) -> Option<Proof> {
        (self.kind == PROOF).then(|| Proof {
            level: ProofLevel::named(&self.level)
                .map_or(ProofLevel::Opened, |level| level.max(ProofLevel::Opened)),
            time: self.time,
            complete: self.complete,
        })
    }
}

/// A record with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The SHA-256 of its bytes: its name.
    pub id: Id,
    /// As stored.
    pub bytes: Vec<u8>,
    /// What they say.
    pub says: Says,
}

impl Record {
    /// Writes a record.
    ///
    /// # Errors
    /// [`Error::Internal`], which cannot happen.
    pub fn new(says: Says) -> Result<Self> {
        let mut bytes = serde_json::to_vec(&says).map_err(|cause| Error::internal(&cause))?;
        bytes.push(b'\n');
        Ok(Self {
            id: Id::of(&bytes),
            bytes,
            says,
        })
    }

    /// Reads a record.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(name: &str, bytes: Vec<u8>) -> std::result::Result<Self, String> {
        let id = Id::of(&bytes);
        if name != file_name(id) {
            return Err("its bytes are not those it is named after".to_owned());
        }
        let says: Says = serde_json::from_slice(&bytes).map_err(|cause| cause.to_string())?;
        if says.schema != SCHEMA {
            return Err(format!(
                "it is of schema {}, and this program knows {SCHEMA}",
                says.schema
            ));
        }
        if says.previous.len() > MAX_PREVIOUS {
            return Err(format!("it names {} before it", says.previous.len()));
        }
        Ok(Self { id, bytes, says })
    }

    /// Its name in a snapshot of records.
    pub fn file_name(&self) -> String {
        file_name(self.id)
    }
}

fn file_name(id: Id) -> String {
    format!("{id}.json")
}
