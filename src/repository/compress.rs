//! Zstandard: one frame a blob, with its content size, without checksum or dictionary.

use std::cell::RefCell;

use zstd::bulk::Compressor;
use zstd::zstd_safe::{self, CParameter, DCtx};

/// Level for data.
pub const DATA_LEVEL: i32 = 3;
/// Level for trees and indexes: their hexadecimal digits do not shrink further at a higher one.
pub const METADATA_LEVEL: i32 = 1;

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
    DECOMPRESSION
        .with_borrow_mut(|context| context.decompress(&mut plain, frames))
        .map_err(|code| std::io::Error::other(zstd_safe::get_error_name(code)))?;
    Ok(plain)
}

/// Decompresses frames of an unknown size, up to `limit` bytes.
///
/// # Errors
/// If they are no frames, or hold more.
pub fn decompress_unsized(frames: &[u8], limit: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
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
    }
}
