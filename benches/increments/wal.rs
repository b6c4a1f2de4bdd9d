//! The log's sizes in this bench, and a reader that checks what the library has written.

use anyhow::{Result, ensure};
use tillsafe::source::sqlite::wal::{Chain, FRAME_HEAD};

/// Bytes of a page in this bench.
pub const PAGE: usize = 4096;
/// Bytes of a frame.
pub const FRAME: usize = FRAME_HEAD + PAGE;
/// Tells this log's frames from those of an older one in the same file; here there is none.
const SALTS: [u32; 2] = [0x7469_6c6c, 0x7361_6665];

/// Begins a log: appends its header to `bytes`.
pub fn begin(bytes: &mut Vec<u8>) -> Chain {
    let page_bytes = u32::try_from(PAGE).unwrap_or(0);
    Chain::begin(SALTS, page_bytes, bytes)
}

/// One frame as it is read back.
#[derive(Debug)]
pub struct Frame<'a> {
    /// The page's number, from 1.
    pub number: u32,
    /// The database's size in pages if the frame is a commit, else 0.
    pub pages: u32,
    /// The page.
    pub page: &'a [u8],
}

/// Reads a frame and checks that it continues `chain`.
pub fn read_frame<'a>(bytes: &'a [u8], chain: &mut Chain) -> Result<Frame<'a>> {
    let (head, page) = bytes.split_at(FRAME_HEAD);
    let word = |at: usize| {
        let mut word = [0; 4];
        word.copy_from_slice(&head[at..at + 4]);
        u32::from_be_bytes(word)
    };
    let (number, pages) = (word(0), word(4));
    let mut expected = Vec::with_capacity(FRAME);
    *chain = chain.frame(number, pages, page, &mut expected);
    ensure!(expected == bytes, "a frame does not continue the log");
    Ok(Frame {
        number,
        pages,
        page,
    })
}
