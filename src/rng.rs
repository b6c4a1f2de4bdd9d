//! Randomness for keys, initial vectors and temporary names, injected.

use std::fmt::Debug;

use crate::error::{Error, Result};

/// Where keys, initial vectors and temporary names come from.
pub trait Rng: Debug + Send + Sync {
    /// Fills `bytes` with random ones.
    ///
    /// # Errors
    /// [`Error::NoRandomness`] if the source fails; nothing may be encrypted then.
    fn fill(&self, bytes: &mut [u8]) -> Result<()>;
}

/// The kernel's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    #[allow(clippy::disallowed_methods, reason = "this room is the one that asks")]
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        getrandom::fill(bytes).map_err(|cause| Error::NoRandomness {
            cause: cause.to_string(),
        })
    }
}

/// Returns `N` random bytes.
///
/// # Errors
/// As [`Rng::fill`].
pub fn array<const N: usize>(rng: &dyn Rng) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    rng.fill(&mut bytes)?;
    Ok(bytes)
}

/// Returns eight random hexadecimal digits, for temporary names.
///
/// # Errors
/// As [`Rng::fill`].
pub fn name(rng: &dyn Rng) -> Result<String> {
    Ok(format!("{:08x}", u32::from_be_bytes(array(rng)?)))
}
