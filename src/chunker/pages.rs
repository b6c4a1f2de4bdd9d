//! Cutting a database image at page boundaries.

/// Size of a chunk in bytes: a day of a shop changes pages here and there, and a smaller chunk stores
/// fewer that did not change (figures: docs/design/increments.md).
const SMALL: usize = 16 * 1024;
/// Size of a chunk in bytes where the list of small ones would take more than it saves.
const LARGE: usize = 64 * 1024;
/// From this size of an image on, in bytes.
const LARGE_FROM: u64 = 16 * 1024 * 1024 * 1024;
/// Size of a chunk of a base in bytes: only pages that change are stored again, and large chunks compress better.
const BASE: usize = 256 * 1024;
/// The same where the list of them would be long.
const LARGE_BASE: usize = 1024 * 1024;
/// From this size of an image on it is a base, in bytes: a smaller one gains little by it.
pub const BASE_FROM: u64 = 4 * 1024 * 1024;

/// How large the chunks of a database image are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageChunks {
    /// As suits the image's size.
    BySize,
    /// The same, but an image that is large enough is a [base](Self::is_of_a_base).
    WithBases,
    /// So many bytes, or one page if that is more.
    Fixed(usize),
}

impl PageChunks {
    /// Bytes of a chunk of an image of `image_bytes`, in pages of `page_bytes`: whole pages, since all
    /// are powers of two.
    #[must_use]
    pub fn bytes(self, image_bytes: u64, page_bytes: u64) -> usize {
        let chunk = match self {
            Self::WithBases if image_bytes >= LARGE_FROM => LARGE_BASE,
            Self::WithBases if image_bytes >= BASE_FROM => BASE,
            Self::WithBases | Self::BySize if image_bytes < LARGE_FROM => SMALL,
            Self::WithBases | Self::BySize => LARGE,
            Self::Fixed(bytes) => bytes,
        };
        chunk.max(usize::try_from(page_bytes).unwrap_or(LARGE))
    }

    /// Whether an image whose first chunk has so many bytes is a base, of which only pages that change are stored again.
    #[must_use]
    pub fn is_of_a_base(self, first_chunk: usize) -> bool {
        self == Self::WithBases && first_chunk >= BASE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_whole_pages() {
        for (image, page, chunk) in [
            (0, 4096, 16 << 10),
            (1 << 30, 512, 16 << 10),
            (1 << 30, 65536, 64 << 10),
            (16 << 30, 4096, 64 << 10),
        ] {
            assert_eq!(PageChunks::BySize.bytes(image, page), chunk);
        }
        assert_eq!(PageChunks::Fixed(4096).bytes(1 << 40, 8192), 8192);
    }

    #[test]
    fn a_base_is_told_by_its_first_chunk() {
        let with = PageChunks::WithBases;
        for (image, page, chunk, is_base) in [
            (0, 4096, 16 << 10, false),
            ((4 << 20) - 65536, 65536, 64 << 10, false),
            (4 << 20, 65536, 256 << 10, true),
            (1 << 30, 512, 256 << 10, true),
            (16 << 30, 4096, 1 << 20, true),
        ] {
            assert_eq!(with.bytes(image, page), chunk);
            assert_eq!(with.is_of_a_base(chunk), is_base);
        }
        assert!(!PageChunks::BySize.is_of_a_base(1 << 20));
    }
}
