//! Zstandard: one frame a blob, with its content size, without checksum or dictionary.

use std::cell::RefCell;

use zstd::bulk::Compressor;
use zstd::zstd_safe::{self, CParameter, DCtx};

/// How much work is spent on making data smaller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// [`DATA_LEVEL`].
    #[default]
    Auto,
    /// [`FAST_LEVEL`].
    Fast,
}

impl Compression {
    /// The level of data that shrinks.
    #[must_use]
    pub const fn level(self) -> i32 {
        match self {
            Self::Auto => DATA_LEVEL,
            Self::Fast => FAST_LEVEL,
        }
    }
}

/// Level for data: a shop's day costs what has changed, and what is stored is kept for months.
pub const DATA_LEVEL: i32 = 3;
/// The same where time or processors are short.
pub const FAST_LEVEL: i32 = 1;
/// Level for trees and indexes: their hexadecimal digits do not shrink further at a higher one.
pub const METADATA_LEVEL: i32 = 1;

/// Level for data that does not shrink, as pictures: what repeats in it is found all the same.
pub const NOISE_LEVEL: i32 = -1;

/// Returns a compressor for one thread.
///
/// # Errors
/// If the library has no memory for it.
pub fn compressor(level: i32) -> std::io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(level)?;
    compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
    // The container's authentication code and the blob's hash cover every bit already.
    compressor.set_parameter(CParameter::ChecksumFlag(false))?;
    Ok(compressor)
}

/// Whether bytes look like those that were compressed or encrypted before: by a sample, each byte value is as
/// frequent as any other.
#[must_use]
pub fn is_noise(plain: &[u8]) -> bool {
    /// Less is not worth the look.
    const LEAST: usize = 8 * 1024;
    // Pairs of equal bytes in a sample of n bytes: n + n²/256 of noise, with a deviation of 9 % and 0.5 %. Noise beyond the
    // second limit has less than zstd needs to bother about: Huffman's codes, which it drops unless they save 1.6 %.
    plain.len() >= LEAST && pairs::<16, 16>(plain) < 700 && pairs::<64, 64>(plain) < 72_000
}

/// How many pairs of equal bytes, each with itself too, are in `COUNT` stretches of `LENGTH` bytes.
fn pairs<const COUNT: usize, const LENGTH: usize>(plain: &[u8]) -> u32 {
    let mut met = [0_u32; 256];
    let apart = plain.len().saturating_sub(LENGTH) / COUNT;
    for stretch in 0..COUNT {
        let from = plain.get(stretch * apart..).unwrap_or_default();
        for byte in from.iter().take(LENGTH) {
            met[usize::from(*byte)] += 1;
        }
    }
    met.iter().map(|count| count * count).sum()
}

thread_local! {
    /// Each call starts anew in it: to make one for each blob costs more than many a blob.
    static DECOMPRESSION: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// Decompresses `frames` to at most `limit` bytes; memory is taken for no more than that.
///
/// # Errors
/// If they are no frames, or hold more.
pub fn decompress(frames: &[u8], limit: usize) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(limit);
    decompress_to(frames, &mut plain)?;
    Ok(plain)
}

/// The same, into `plain` instead of what it held, and at most as much as it has room for.
///
/// # Errors
/// As [`decompress`].
pub fn decompress_to(frames: &[u8], plain: &mut Vec<u8>) -> std::io::Result<()> {
    plain.clear();
    DECOMPRESSION
        .with_borrow_mut(|context| context.decompress(plain, frames))
        .map_err(|code| std::io::Error::other(zstd_safe::get_error_name(code)))?;
    Ok(())
}

/// Decompresses frames of an unknown size, up to `limit` bytes.
///
/// # Errors
/// If they are no frames, or hold more.
pub fn decompress_unsized(frames: &[u8], limit: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    // Who says how long it is has memory taken once, and not twice as much while it grows.
    let said = zstd_safe::get_frame_content_size(frames).ok().flatten();
    let said = said.filter(|bytes| *bytes <= limit);
    if let Some(bytes) = said.and_then(|bytes| usize::try_from(bytes).ok())
        && let Ok(plain) = decompress(frames, bytes)
    {
        return Ok(plain);
    }
    let mut plain = Vec::new();
    let mut decoder = zstd::Decoder::with_buffer(frames)?.take(limit + 1);
    decoder.read_to_end(&mut plain)?;
    if plain.len() as u64 > limit {
        return Err(std::io::Error::other(
            "it decompresses to more than is allowed",
        ));
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let bomb = compressor(19)
            .unwrap()
            .compress(&vec![0; 64 << 20])
            .unwrap();
        assert!(bomb.len() < 20_000);
        assert!(decompress(&bomb, 1 << 20).is_err());
        assert!(decompress_unsized(&bomb, 1 << 20).is_err());
        assert_eq!(decompress(&bomb, 64 << 20).unwrap().len(), 64 << 20);
        assert_eq!(decompress_unsized(&bomb, 64 << 20).unwrap().len(), 64 << 20);
    }

    #[test]
    fn frames_of_any_size_one_after_the_other_are_read() {
        let frame = |text: &[u8]| compressor(1).unwrap().compress(text).unwrap();
        let streamed = zstd::stream::encode_all(&b"pot"[..], 1).unwrap();
        let all = [frame(b"tea"), streamed, frame(b"cups")].concat();
        assert_eq!(decompress_unsized(&all, 10).unwrap(), b"teapotcups");
        assert!(decompress_unsized(&all, 9).is_err());
        assert!(decompress_unsized(&all[..all.len() - 1], 10).is_err());
    }

    /// Seeded bytes of a plain generator (xorshift), of which only some bits are used.
    fn noise(length: usize, mask: u8) -> Vec<u8> {
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[0] & mask
        })
        .take(length)
        .collect()
    }

    #[test]
    fn only_what_would_not_shrink_is_noise() {
        let shrinks = |bytes: &[u8]| {
            let small = compressor(DATA_LEVEL).unwrap().compress(bytes).unwrap();
            small.len() < bytes.len()
        };
        let text = "please ring twice; leave with the neighbour. ".repeat(1000);
        let mut mostly = noise(64 * 1024, 0xff);
        mostly[20_000..40_000].fill(7);
        // Only the larger sample meets it.
        let mut nearly = noise(100_000, 0xff);
        nearly[700..5_700].fill(7);
        for (bytes, expected) in [
            (noise(100_000, 0xff), true),
            (noise(8 * 1024, 0xff), true),
            (noise(8 * 1024 - 1, 0xff), false),
            (noise(100_000, 0x7f), false),
            (text.into_bytes(), false),
            (mostly, false),
            (nearly, false),
            (Vec::new(), false),
        ] {
            assert_eq!(is_noise(&bytes), expected, "{} bytes", bytes.len());
            assert!(!expected || !shrinks(&bytes));
        }
    }

    #[test]
    fn what_repeats_in_noise_is_found() {
        let mut bytes = noise(250_000, 0xff);
        bytes.extend_from_within(..100_000);
        assert!(is_noise(&bytes));
        let small = compressor(NOISE_LEVEL).unwrap().compress(&bytes).unwrap();
        assert!(small.len() < 251_000, "{}", small.len());
    }
}
