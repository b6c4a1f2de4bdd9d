//! Cutting a database image at page boundaries.

/// Size of a chunk in bytes: a day of a shop changes pages here and there, and a smaller chunk stores
/// fewer that did not change (figures: docs/design/increments.md).
const SMALL: usize = 16 * 1024;
/// Size of a chunk in bytes where the list of small ones would take more than it saves.
const LARGE: usize = 64 * 1024;
/// From this size of an image on, in bytes.
const LARGE_FROM: u64 = 16 * 1024 * 1024 * 1024;

/// How large the chunks of a database image are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageChunks {
    /// As suits the image's size.
    BySize,
    /// So many bytes, or one page if that is more.
    Fixed(usize),
}

impl PageChunks {
    /// Bytes of a chunk of an image of `image_bytes`, in pages of `page_bytes`: whole pages, since all
    /// are powers of two.
    #[must_use]
    pub fn bytes(self, image_bytes: u64, page_bytes: u64) -> usize {
        let chunk = match self {
            Self::BySize if image_bytes < LARGE_FROM => SMALL,
            Self::BySize => LARGE,
            Self::Fixed(bytes) => bytes,
        };
        chunk.max(usize::try_from(page_bytes).unwrap_or(LARGE))
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
}
