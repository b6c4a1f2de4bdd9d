//! The encryption container of every object and blob: `IV ‖ AES-256-CTR ciphertext ‖ Poly1305-AES tag`.
//!
//! The tag covers the ciphertext alone; the initial vector is bound through the one-time key.
//! It is compared in constant time, before anything is decrypted.

use aes::cipher::{BlockCipherEncrypt, KeyInit, KeyIvInit, StreamCipher};
use poly1305::universal_hash::UniversalHash;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::format::base64_bytes;
use crate::error::Result;
use crate::id::{Hasher, Id};
use crate::rng::{self, Rng};

/// Bytes that the container adds.
pub const OVERHEAD: usize = HEAD + TAG;
/// Bytes of it before the ciphertext.
pub const HEAD: usize = IV;
/// Bytes of it after the ciphertext.
pub const TAG: usize = 16;
const IV: usize = 16;
const FOUR_BLOCKS: usize = 4 * poly1305::BLOCK_SIZE;

/// The container does not open: wrong key, or changed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its authentication code does not fit (changed bytes, or another key)")]
pub struct NotAuthentic;

/// The three keys of a container. Kept exactly as found: `mac.r` is clamped only in use.
#[derive(Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
pub struct Key {
    mac: MacKey,
    #[serde(with = "base64_bytes")]
    encrypt: [u8; 32],
}

#[derive(Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
struct MacKey {
    #[serde(with = "base64_bytes")]
    k: [u8; 16],
    #[serde(with = "base64_bytes")]
    r: [u8; 16],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(***)")
    }
}

impl Key {
    /// Takes 64 bytes as scrypt gives them: 32 to encrypt, 16 for `mac.k`, 16 for `mac.r`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        let part = |from: usize| std::array::from_fn(|index| bytes[from + index]);
        Self {
            encrypt: std::array::from_fn(|index| bytes[index]),
            mac: MacKey {
                k: part(32),
                r: part(48),
            },
        }
    }

    /// Makes a new key.
    ///
    /// # Errors
    /// As [`Rng::fill`].
    pub fn random(rng: &dyn Rng) -> Result<Self> {
        let mut bytes: [u8; 64] = rng::array(rng)?;
        let key = Self::from_bytes(&bytes);
        bytes.zeroize();
        Ok(key)
    }

    /// Another key that is made from this one for a purpose of its own: nothing that was ever sealed under this one,
    /// whoever has chosen its content, opens with it.
    #[must_use]
    pub fn for_purpose(&self, purpose: &str) -> Self {
        let mut bytes = [0; 64];
        for (half, number) in bytes
            .as_chunks_mut::<{ Id::LENGTH }>()
            .0
            .iter_mut()
            .zip(0..)
        {
            let mut hasher = Hasher::default();
            for part in [&self.encrypt[..], &self.mac.k, &self.mac.r, &[number]] {
                hasher.update(part);
            }
            hasher.update(purpose.as_bytes());
            *half = *hasher.finish().as_bytes();
        }
        let key = Self::from_bytes(&bytes);
        bytes.zeroize();
        key
    }

    /// Whether each part holds something: restic refuses a key with a part of zeroes.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.encrypt != [0; 32] && self.mac.k != [0; 16] && self.mac.r != [0; 16]
    }

    /// Whether the other is the same key. Both are ours: how long it takes tells nobody anything.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.encrypt == other.encrypt && self.mac.k == other.mac.k && self.mac.r == other.mac.r
    }

    /// Seals `plaintext` under a new initial vector.
    ///
    /// # Errors
    /// As [`Rng::fill`].
    pub fn seal(&self, plaintext: &[u8], rng: &dyn Rng) -> Result<Vec<u8>> {
        let mut sealed = Vec::with_capacity(plaintext.len() + OVERHEAD);
        sealed.extend_from_slice(&[0; IV]);
        sealed.extend_from_slice(plaintext);
        sealed.extend_from_slice(&[0; TAG]);
        self.seal_in_place(&mut sealed, rng)?;
        Ok(sealed)
    }

    /// Seals what stands in `container`, behind [`HEAD`] bytes and before [`TAG`] bytes that are given up.
    ///
    /// # Errors
    /// As [`Rng::fill`].
    pub fn seal_in_place(&self, container: &mut [u8], rng: &dyn Rng) -> Result<()> {
        let mut iv = [0; IV];
        while iv == [0; IV] {
            iv = rng::array(rng)?;
        }
        self.seal_with(container, iv);
        Ok(())
    }

    fn seal_with(&self, container: &mut [u8], iv: [u8; IV]) {
        let Some((head, rest)) = container.split_first_chunk_mut::<IV>() else {
            unreachable!("whoever seals leaves room for what a container adds");
        };
        let Some((text, end)) = rest.split_last_chunk_mut::<TAG>() else {
            unreachable!("whoever seals leaves room for what a container adds");
        };
        *head = iv;
        self.cipher(iv).apply_keystream(text);
        *end = self.tag(iv, text);
    }

    /// Opens a container.
    ///
    /// # Errors
    /// [`NotAuthentic`], also for one that is too short.
    pub fn open(&self, sealed: &[u8]) -> std::result::Result<Vec<u8>, NotAuthentic> {
        let mut plaintext = Vec::new();
        self.open_to(sealed, &mut plaintext)?;
        Ok(plaintext)
    }

    /// The same, into `plaintext` instead of what it held.
    ///
    /// # Errors
    /// [`NotAuthentic`], as [`Self::open`].
    pub fn open_to(
        &self,
        sealed: &[u8],
        plaintext: &mut Vec<u8>,
    ) -> std::result::Result<(), NotAuthentic> {
        let (iv, rest) = sealed.split_first_chunk::<IV>().ok_or(NotAuthentic)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG>().ok_or(NotAuthentic)?;
        if *iv == [0; IV] || !equal(&self.tag(*iv, ciphertext), tag) {
            return Err(NotAuthentic);
        }
        plaintext.resize(ciphertext.len(), 0);
        self.cipher(*iv).apply_keystream_b2b(ciphertext, plaintext);
        Ok(())
    }

    /// AES-256 in counter mode; the counter is the whole block, big-endian.
    fn cipher(&self, iv: [u8; IV]) -> ctr::Ctr128BE<aes::Aes256> {
        ctr::Ctr128BE::new(&self.encrypt.into(), &iv.into())
    }

    fn tag(&self, iv: [u8; IV], ciphertext: &[u8]) -> [u8; TAG] {
        let mut nonce = iv.into();
        aes::Aes128::new(&self.mac.k.into()).encrypt_block(&mut nonce);
        let mut one_time = [0; 32];
        one_time[..16].copy_from_slice(&self.mac.r);
        one_time[16..].copy_from_slice(&nonce);
        // Four blocks at a time while they last: alone, each of them is copied first.
        let (fours, rest) = ciphertext.split_at(ciphertext.len() - ciphertext.len() % FOUR_BLOCKS);
        let mut poly = poly1305::Poly1305::new(&one_time.into());
        poly.update(poly1305::Block::slice_as_chunks(fours).0);
        let tag = poly.compute_unpadded(rest);
        one_time.zeroize();
        tag.into()
    }
}

/// Compares in a time that does not depend on where two tags differ.
fn equal(a: &[u8; TAG], b: &[u8; TAG]) -> bool {
    let difference = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn sealed(plaintext: &[u8], iv: [u8; IV]) -> Vec<u8> {
        // What stood around it before has no say.
        let mut sealed = [&[0xaa; HEAD][..], plaintext, &[0xaa; TAG]].concat();
        key().seal_with(&mut sealed, iv);
        sealed
    }

    fn key() -> Key {
        Key::from_bytes(&std::array::from_fn(|index| u8::try_from(index).unwrap()))
    }

    #[test]
    fn containers_are_those_of_the_format() {
        // Vectors made with openssl and an independent Poly1305 for the format's description.
        let iv: [u8; 16] = std::array::from_fn(|index| 0x40 + u8::try_from(index).unwrap());
        let mut wrapping = [0xff; 16];
        wrapping[15] = 0xfe;
        for (iv, plaintext, ciphertext, tag) in [
            (
                iv,
                b"restic repository format v2".to_vec(),
                "d11bac4bfe399a9df60b0db4e42fde25c95578fcda830535ab9f8f",
                "856c7eb20a8d702cb103752c04c8804f",
            ),
            (iv, Vec::new(), "", "859469c07743c7e45b318d151d3d87e9"),
            (
                iv,
                vec![0; 64],
                "a37edf3f975abaef937b62c78d5bb157b0751e93a8ee64418be9bdce50565531e570a3ebade0a704edc9bece44f63d73b2f40102bb10e61d50371061e1008466",
                "2eb6ffee4fe27d0a096d05418254a537",
            ),
            (
                wrapping,
                vec![0; 48],
                "63e5b402b51e48ddfaedf9de99cc2744e999e41d4ca770da5387117b5d8f57eef29000b62a499fd0a9f39a6add2e7780",
                "849075fde4c3056090eb402b61d67f8e",
            ),
        ] {
            let sealed = sealed(&plaintext, iv);
            assert_eq!(sealed, [&iv[..], &hex(ciphertext), &hex(tag)].concat());
            assert_eq!(key().open(&sealed).unwrap(), plaintext);
        }
    }

    #[test]
    fn the_counter_runs_over_all_128_bits() {
        // A counter of 64 bits would give the same key stream for these two blocks' successors.
        let mut iv = [0; 16];
        iv[8..].fill(0xff);
        let long = sealed(&[0; 32], iv);
        iv = [0; 16];
        iv[7] = 1;
        let next = sealed(&[0; 16], iv);
        assert_eq!(long[32..48], next[16..32]);
    }

    #[test]
    fn a_key_for_a_purpose_opens_nothing_else() {
        let (one, other) = (key().for_purpose("one"), key().for_purpose("other"));
        assert!(!one.is_same(&other) && !one.is_same(&key()));
        assert!(one.is_sound() && one.is_same(&key().for_purpose("one")));
        let parts = [
            &one.encrypt[..16],
            &one.encrypt[16..],
            &one.mac.k,
            &one.mac.r,
        ];
        assert!((1..4).all(|at| !parts[..at].contains(&parts[at])));
        assert_eq!(one.open(&sealed(b"tea", [7; 16])), Err(NotAuthentic));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let sealed = sealed(b"forty cups", [7; 16]);
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key().open(&changed), Err(NotAuthentic), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(key().open(&sealed[..length]), Err(NotAuthentic));
        }
    }

    #[test]
    fn each_byte_of_any_length_counts_for_the_tag() {
        // Around four blocks and around one: where the tag is made in two ways.
        let bytes: [u8; 200] = std::array::from_fn(|index| u8::try_from(index).unwrap());
        for length in 0..bytes.len() {
            let one = |from: usize| {
                let mut poly = poly1305::Poly1305::new(&[0x55; 32].into());
                poly.update(poly1305::Block::slice_as_chunks(&bytes[..from]).0);
                poly.compute_unpadded(&bytes[from..length])
            };
            assert_eq!(one(0), one(length - length % FOUR_BLOCKS), "{length}");
            let mut sealed = sealed(&bytes[..length], [3; 16]);
            assert_eq!(key().open(&sealed).unwrap(), bytes[..length]);
            if let Some(last) = sealed.len().checked_sub(TAG + 1).filter(|_| length > 0) {
                sealed[last] ^= 1;
                assert_eq!(key().open(&sealed), Err(NotAuthentic), "{length}");
            }
        }
    }
}
