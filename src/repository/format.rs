//! The repository's `config`, and small encodings that several objects share.

use serde::{Deserialize, Serialize};

use crate::chunker::Polynomial;
use crate::error::Result;
use crate::id::Id;
use crate::rng::{self, Rng};

/// Largest object that is read whole (config, key, lock, snapshot, index) in bytes. restic's own
/// index files stay below 10 MiB; the limit keeps a hostile repository from taking our memory.
pub const MAX_OBJECT: u64 = 256 * 1024 * 1024;

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
