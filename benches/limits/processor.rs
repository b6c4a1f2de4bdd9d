//! What the format asks of a processor whatever the data: hashing, encryption, codes, the derivation of a key.

use std::hint::black_box;

use aes::cipher::{KeyInit, KeyIvInit, StreamCipher};
use anyhow::{Result, anyhow};
use jiff::Timestamp;
use poly1305::universal_hash::UniversalHash;
use serde_json::{Map, Value};
use tillsafe::id::Id;
use tillsafe::repository::crypto::Key;
use tillsafe::repository::keys::{Cost, KeyFile};
use tillsafe::rng::{Rng, SystemRng};
use tillsafe::secret::Secret;

use crate::measure::{best, rate};

/// Bytes of the block that is worked on again and again, in the processor's cache.
const BLOCK: usize = 256 * 1024;
/// How often.
const TIMES: u64 = 800;

/// Of bytes that do not repeat.
pub fn limits() -> Result<Map<String, Value>> {
    let mut block = vec![0; BLOCK];
    SystemRng.fill(&mut block)?;
    let bytes = BLOCK as u64 * TIMES;
    let mut found = Map::new();
    let mut note = |name: &str, value| found.insert(name.to_owned(), value);
    let hash = || again(|| black_box(Id::of(&block)));
    note("sha256", rate(bytes, hash)?);
    let encrypt = || {
        let mut text = block.clone();
        let mut cipher = ctr::Ctr128BE::<aes::Aes256>::new(&[7; 32].into(), &[9; 16].into());
        again(|| cipher.apply_keystream(black_box(&mut text)))
    };
    note("aes256_ctr", rate(bytes, encrypt)?);
    let code = || {
        let mut poly = poly1305::Poly1305::new(&[7; 32].into());
        again(|| poly.update(black_box(poly1305::Block::slice_as_chunks(&block).0)))
    };
    note("poly1305", rate(bytes, code)?);
    let (password, master) = (Secret::new(b"teapot".to_vec()), Key::random(&SystemRng)?);
    let derive = || {
        KeyFile::wrap(
            &master,
            &password,
            Cost::DEFAULT,
            Timestamp::UNIX_EPOCH,
            &SystemRng,
        )
        .map(|key| drop(black_box(key)))
        .map_err(|cause| anyhow!(cause))
    };
    note("key", best(derive)?.alone());
    Ok(found)
}

#[allow(clippy::unnecessary_wraps, reason = "other work can fail")]
fn again<T>(mut work: impl FnMut() -> T) -> Result<()> {
    for _ in 0..TIMES {
        work();
    }
    Ok(())
}
