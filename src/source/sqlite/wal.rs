//! A genuine write-ahead log (<https://sqlite.org/fileformat2.html#walformat>), written and read without `SQLite`: the
//! pages of a database that changed since a base.
//!
//! The whole log is *one* transaction: only its last frame is a commit, and that frame holds page 1. A longer log drops
//! that one frame and goes on after the others, so they stay an exact prefix; and a log that is cut
//! anywhere holds no commit at all.

/// Bytes of a log's header.
pub const HEADER: usize = 32;
/// Bytes before each page.
pub const FRAME_HEAD: usize = 24;

/// What marks a log whose checksums run over little-endian words.
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;

/// What a base has instead of `SQLite format 3\0`: `SQLite` refuses it without a log that holds page 1, and whoever looks
/// at it reads what is missing.
const REFUSING: &[u8; 16] = b"base, needs -wal";

/// The bytes of a page by what a database's first bytes say; none if that is no size of pages.
#[must_use]
pub fn page_bytes(first: &[u8]) -> Option<usize> {
    let size = match first.get(16..18)? {
        [0, 1] => 65536,
        [high, low] => usize::from(*high) << 8 | usize::from(*low),
        _ => return None,
    };
    (size.is_power_of_two() && size >= 512).then_some(size)
}

/// The first page of a base, so that nothing opens it without its log.
#[must_use]
pub fn refusing(page_one: &[u8]) -> Vec<u8> {
    let mut page = page_one.to_vec();
    let length = page.len().min(REFUSING.len());
    page[..length].copy_from_slice(&REFUSING[..length]);
    page
}

/// Whether a file that begins so is a base that needs its log.
#[must_use]
pub fn is_refusing(head: &[u8]) -> bool {
    head.starts_with(REFUSING)
}

/// The running checksum of a log, with what each of its frames repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// What tells this log's frames from those of another.
    pub salts: [u32; 2],
    /// Over all that was written so far.
    pub sums: [u32; 2],
}

impl Chain {
    /// Begins a log of pages of so many bytes: appends its header to `bytes`.
    #[must_use]
    pub fn begin(salts: [u32; 2], page_bytes: u32, bytes: &mut Vec<u8>) -> Self {
        let begin = bytes.len();
        for word in [MAGIC, VERSION, page_bytes, 0, salts[0], salts[1]] {
            bytes.extend(word.to_be_bytes());
        }
        let sums = add([0; 2], &bytes[begin..]);
        let chain = Self { salts, sums };
        push(sums, bytes);
        chain
    }

    /// What the header of a log of pages of so many bytes begins; none if it is no such header, or its checksums run over words of
    /// the other order of bytes.
    #[must_use]
    pub fn of(header: &[u8; HEADER], page_bytes: usize) -> Option<Self> {
        let word =
            |at: usize| u32::from_be_bytes(std::array::from_fn(|byte| header[4 * at + byte]));
        let chain = Self {
            salts: [word(4), word(5)],
            sums: add([0; 2], &header[..24]),
        };
        let is_known = word(0) == MAGIC && word(1) == VERSION && word(2) as usize == page_bytes;
        (is_known && chain.sums == [word(6), word(7)]).then_some(chain)
    }

    /// The page's number in the next frame, and the chain after it; none if the frame does not go on from here.
    #[must_use]
    pub fn after(self, frame: &[u8]) -> Option<(u32, Self)> {
        let (head, page) = frame.split_first_chunk::<FRAME_HEAD>()?;
        let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|byte| head[4 * at + byte]));
        let sums = add(add(self.sums, &head[..8]), page);
        let goes_on = [word(2), word(3)] == self.salts && [word(4), word(5)] == sums;
        goes_on.then_some((word(0), Self { sums, ..self }))
    }

    /// Appends a frame to `bytes`: a page by its number, from 1; `pages` is the database's size in pages if the frame is
    /// a commit, else 0.
    #[must_use]
    pub fn frame(self, number: u32, pages: u32, page: &[u8], bytes: &mut Vec<u8>) -> Self {
        let begin = bytes.len();
        bytes.extend(number.to_be_bytes());
        bytes.extend(pages.to_be_bytes());
        let sums = add(add(self.sums, &bytes[begin..]), page);
        push(self.salts, bytes);
        push(sums, bytes);
        bytes.extend_from_slice(page);
        Self { sums, ..self }
    }
}

fn add([mut a, mut b]: [u32; 2], bytes: &[u8]) -> [u32; 2] {
    let (words, _) = bytes.as_chunks::<4>();
    let (pairs, _) = words.as_chunks::<2>();
    for [one, other] in pairs {
        a = a.wrapping_add(u32::from_le_bytes(*one)).wrapping_add(b);
        b = b.wrapping_add(u32::from_le_bytes(*other)).wrapping_add(a);
    }
    [a, b]
}

fn push(words: [u32; 2], bytes: &mut Vec<u8>) {
    bytes.extend(words[0].to_be_bytes());
    bytes.extend(words[1].to_be_bytes());
}

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The page's number, from 1.
    pub number: u32,
    /// The page.
    pub page: &'a [u8],
}

/// The frames in a stretch of a log that begins with one; what is left at its end is none. Their checksums are not looked
/// at: whoever reads them compares all that they make with what it should be.
pub fn frames(bytes: &[u8], page_bytes: usize) -> impl Iterator<Item = Frame<'_>> {
    bytes
        .chunks_exact(FRAME_HEAD + page_bytes)
        .map(|frame| Frame {
            number: u32::from_be_bytes(std::array::from_fn(|at| frame[at])),
            page: &frame[FRAME_HEAD..],
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let (one, two) = ([7; 512], [9; 512]);
        let mut bytes = Vec::new();
        let chain = Chain::begin([1, 2], 512, &mut bytes);
        assert_eq!(bytes.len(), HEADER);
        let chain = chain.frame(2, 0, &two, &mut bytes);
        let chain = chain.frame(1, 2, &one, &mut bytes);
        bytes.push(0);
        let found: Vec<_> = frames(&bytes[HEADER..], 512)
            .map(|frame| (frame.number, frame.page[0]))
            .collect();
        assert_eq!(found, [(2, 9), (1, 7)]);
        let (header, frames) = bytes.split_first_chunk().unwrap();
        let mut read = Chain::of(header, 512).unwrap();
        let mut numbers = Vec::new();
        for frame in frames.chunks_exact(FRAME_HEAD + 512) {
            let (number, next) = read.after(frame).unwrap();
            numbers.push(number);
            read = next;
            for at in 0..frame.len() {
                let mut hurt = frame.to_vec();
                hurt[at] ^= 1;
                assert_eq!(next.after(&hurt), None, "{at}");
            }
        }
        assert_eq!((numbers, read), (vec![2, 1], chain));
        assert_eq!(Chain::of(header, 1024), None);
    }

    #[test]
    fn only_sizes_of_pages_are_sizes() {
        let with = |high, low| {
            let mut bytes = [0; 100];
            (bytes[16], bytes[17]) = (high, low);
            page_bytes(&bytes)
        };
        assert_eq!(with(0x10, 0), Some(4096));
        assert_eq!(with(0, 1), Some(65536));
        assert_eq!(with(2, 0), Some(512));
        for (high, low) in [(0, 0), (1, 0), (0x10, 1), (0x30, 0)] {
            assert_eq!(with(high, low), None);
        }
        assert_eq!(page_bytes(&[0; 17]), None);
    }

    #[test]
    fn a_base_says_what_it_needs() {
        let mut page = b"SQLite format 3\0".to_vec();
        page.extend([0x10, 0]);
        let base = refusing(&page);
        assert!(base.starts_with(b"base, needs -wal\x10\0"));
        assert!(is_refusing(&base) && !is_refusing(&page));
        assert_eq!(refusing(b"SQL"), b"bas");
    }
}
