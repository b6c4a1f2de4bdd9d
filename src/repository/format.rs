//! The repository's `config`, and small encodings that several objects share.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::chunker::Polynomial;
use crate::error::Result;
use crate::id::Id;
use crate::rng::{self, Rng};

/// Largest index file, stored and plain, in bytes. restic's own stay below 70 MiB; the limit keeps a
/// hostile repository from taking our memory.
pub const MAX_INDEX: u64 = 128 * 1024 * 1024;
/// How many times longer than stored an index may be. Its names are hashes, which no compression
/// makes less than half as long.
pub const MAX_INDEX_RATIO: u64 = 16;
/// Largest index that is read whatever its ratio, in bytes.
pub const SMALL_INDEX: u64 = 1024 * 1024;
/// Largest snapshot in bytes: with the paths of 200,000 files that were named one by one.
pub const MAX_SNAPSHOT: u64 = 16 * 1024 * 1024;
/// Largest lock in bytes: it names a process.
pub const MAX_LOCK: u64 = 64 * 1024;

/// Largest blob, in plain bytes, that is written or read. Chunks have at most 8 MiB; a tree reaches it
/// with about 600,000 files in one folder.
pub const MAX_BLOB: u64 = 256 * 1024 * 1024;

/// The `config` object: encrypted, never compressed, written last at init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Version of the format: 1 or 2. Only 2 is written.
    pub version: u32,
    /// Random; names the repository.
    pub id: String,
    /// Hexadecimal digits of an irreducible polynomial of degree 53.
    pub chunker_polynomial: String,
}

impl Config {
    /// Makes a new one.
    ///
    /// # Errors
    /// As [`Rng::fill`].
    pub fn random(rng: &dyn Rng) -> Result<Self> {
        Ok(Self {
            version: 2,
            id: Id::from_bytes(rng::array(rng)?).to_string(),
            chunker_polynomial: format!("{:x}", Polynomial::random(rng)?.bits()),
        })
    }

    /// The chunker's polynomial, or why it cannot be used.
    ///
    /// # Errors
    /// A sentence's end: what is wrong with it.
    pub fn polynomial(&self) -> std::result::Result<Polynomial, String> {
        u64::from_str_radix(&self.chunker_polynomial, 16)
            .ok()
            .map(Polynomial::new)
            .filter(|polynomial| polynomial.is_usable())
            .ok_or_else(|| {
                format!(
                    "has a chunker polynomial that is not irreducible of degree 53 ({:?})",
                    self.chunker_polynomial
                )
            })
    }
}

/// Largest config: it has about 200 bytes.
pub const MAX_CONFIG: u64 = 64 * 1024;

/// Reads a time that may lie where only the format knows times: restic writes the years 0 to 9999 to
/// their last second, we know all but the last day. That day is no reason to lose a folder.
///
/// # Errors
/// If it is no time.
pub fn lenient_time<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Timestamp>, D::Error> {
    use serde::de::Error;
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let time = text.parse::<Timestamp>().or_else(|cause| {
        let date = text.get(..19).map(str::parse::<jiff::civil::DateTime>);
        let is_a_date = date.is_some_and(|date| date.is_ok());
        if text.starts_with("9999-12-3") && is_a_date {
            Ok(Timestamp::MAX)
        } else {
            Err(cause)
        }
    });
    time.map(Some).map_err(D::Error::custom)
}

/// The same, of a time that must be there.
///
/// # Errors
/// If it is no time.
pub fn lenient_required_time<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Timestamp, D::Error> {
    lenient_time(deserializer)?.ok_or_else(|| serde::de::Error::custom("it has no time"))
}

/// Base64 (standard, padded) for byte arrays in JSON.
pub mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes bytes as base64.
    ///
    /// # Errors
    /// As the serializer's.
    pub fn serialize<S: Serializer>(
        bytes: &impl AsRef<[u8]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    /// Reads base64 of exactly the length that the type holds.
    ///
    /// # Errors
    /// If it is no base64, or of another length.
    pub fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<Vec<u8>>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        T::try_from(bytes).map_err(|_| D::Error::custom("base64 of another length than expected"))
    }
}
