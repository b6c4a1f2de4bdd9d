//! Passwords: wiped when dropped, never printed.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A password. Neither `Debug` nor an error ever shows it.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes as they are.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Takes what a file or a command gave, as restic reads it: a UTF-8 byte order mark is dropped,
    /// UTF-16 with a mark is converted, white space at both ends is trimmed.
    #[must_use]
    pub fn from_text(mut bytes: Vec<u8>) -> Self {
        let text = match bytes.as_slice() {
            [0xef, 0xbb, 0xbf, rest @ ..] => rest.trim_ascii().to_vec(),
            [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
            [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
            rest => trim(rest).to_vec(),
        };
        bytes.zeroize();
        Self(text)
    }

    /// The bytes, for the key derivation alone.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is no password at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Trims Unicode white space where the text is UTF-8, ASCII white space where it is not.
fn trim(bytes: &[u8]) -> &[u8] {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.trim_ascii(), |text| text.trim().as_bytes())
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Vec<u8> {
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| unit([pair[0], pair[1]]))
        .collect();
    String::from_utf16_lossy(&units).trim().as_bytes().to_vec()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_as_restic_reads_it() {
        for (given, meant) in [
            (&b"mara\n"[..], &b"mara"[..]),
            (b"  two words \r\n", b"two words"),
            (b"\xef\xbb\xbfmara\n", b"mara"),
            (b"\xff\xfem\0a\0\n\0", b"ma"),
            (b"\xfe\xff\0m\0a", b"ma"),
            (b"\xffraw \n", b"\xffraw"),
            (b"", b""),
        ] {
            assert_eq!(Secret::from_text(given.to_vec()).expose(), meant);
        }
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new(b"mara".to_vec())), "***");
    }
}
