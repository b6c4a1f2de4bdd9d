//! An image in the making: one stretch of it after the other is put together in memory, and written once.
//!
//! For each page the number of the newest frame is kept, so an older one, or the base, never comes over a newer one, in
//! whatever order frames come. Those of pages that were written already go to their places at once.

use std::ops::Range;

use crossbeam_channel::{Receiver, Sender};

use crate::durable::PageBuffer;
use crate::error::{Error, Result};

/// Bytes of a stretch: whole pages of any size, and worth a way of the disk's heads.
pub(super) const STRETCH: usize = 4 * 1024 * 1024;

/// Bytes on their way to the disk.
pub(super) struct Stretch {
    /// Where they belong.
    pub offset: usize,
    pub bytes: PageBuffer,
    /// Which of them are to be written.
    pub parts: Vec<Range<usize>>,
}

/// An image of which the pages before `begin` were handed on.
pub(super) struct Image {
    page_bytes: usize,
    /// For each page the newest frame that was met: its number in the log from 1, or 0.
    newest: Vec<u32>,
    /// Bytes that were handed on.
    begin: usize,
    /// The stretch that comes next.
    bytes: PageBuffer,
    /// Which of its pages are frames by now.
    merged: Vec<bool>,
    out: Sender<Stretch>,
    /// Memory of stretches that are written.
    back: Receiver<PageBuffer>,
}

impl Image {
    pub(super) fn new(
        page_bytes: usize,
        image_bytes: u64,
        out: Sender<Stretch>,
        back: Receiver<PageBuffer>,
    ) -> Self {
        let pages = usize::try_from(image_bytes).unwrap_or(usize::MAX) / page_bytes;
        Self {
            page_bytes,
            newest: vec![0; pages],
            begin: 0,
            bytes: PageBuffer::with_capacity(STRETCH),
            merged: vec![false; STRETCH / page_bytes],
            out,
            back,
        }
    }

    /// Bytes that the next stretch has still room for.
    fn room(&self) -> usize {
        let size = self.newest.len() * self.page_bytes;
        STRETCH.min(size - self.begin) - self.bytes.len()
    }

    /// Takes what comes next of the base, as much of it as the stretch has room for. Says whether that is full: then it
    /// wants its frames, and to be written.
    pub(super) fn fill(&mut self, bytes: &mut &[u8]) -> bool {
        let room = self.room();
        let (taken, rest) = bytes.split_at(room.min(bytes.len()));
        self.bytes.extend_from_slice(taken);
        *bytes = rest;
        taken.len() == room && room > 0
    }

    /// The same where the base has no more; what no frame comes to is zeros then.
    pub(super) fn fill_with_zeros(&mut self) -> bool {
        let room = self.room();
        let length = self.bytes.len() + room;
        self.bytes.resize(length);
        length > 0
    }

    /// Takes a frame, by its number in the log and that of its page, both from 1. Says whether its turn has come: that of
    /// a page beyond the stretch has not.
    pub(super) fn put(&mut self, number: u32, page: u32, bytes: &[u8]) -> Result<bool> {
        let first = self.begin / self.page_bytes;
        let end = first + self.bytes.len() / self.page_bytes;
        let page = (page as usize).wrapping_sub(1);
        if (end..self.newest.len()).contains(&page) {
            return Ok(false);
        }
        if !(first..end).contains(&page) {
            return self.put_late(number, page, bytes).map(|()| true);
        }
        let newest = &mut self.newest[page];
        if *newest < number {
            *newest = number;
            self.merged[page - first] = true;
            let at = (page - first) * self.page_bytes;
            self.bytes[at..at + self.page_bytes].copy_from_slice(bytes);
        }
        Ok(true)
    }

    /// Has the frame written to its place, whichever stretch comes next.
    pub(super) fn put_at_once(&mut self, number: u32, page: u32, bytes: &[u8]) -> Result<()> {
        self.put_late(number, (page as usize).wrapping_sub(1), bytes)
    }

    fn put_late(&mut self, number: u32, page: usize, bytes: &[u8]) -> Result<()> {
        // Beyond the end lies what was cut off since.
        let Some(newest) = self.newest.get_mut(page).filter(|newest| **newest < number) else {
            return Ok(());
        };
        *newest = number;
        let mut stretch = Stretch {
            offset: page * self.page_bytes,
            bytes: PageBuffer::default(),
            parts: std::iter::once(0..bytes.len()).collect(),
        };
        stretch.bytes.extend_from_slice(bytes);
        self.send(stretch)
    }

    /// Has the stretch written, but for pages that are there already and newer.
    pub(super) fn write(&mut self) -> Result<()> {
        let first = self.begin / self.page_bytes;
        let mut parts: Vec<Range<usize>> = Vec::new();
        for page in 0..self.bytes.len() / self.page_bytes {
            if self.newest[first + page] > 0 && !self.merged[page] {
                continue;
            }
            let begin = page * self.page_bytes;
            match parts.last_mut() {
                Some(last) if last.end == begin => last.end += self.page_bytes,
                _ => parts.push(begin..begin + self.page_bytes),
            }
        }
        self.merged.fill(false);
        // A single page had less.
        let mut back = self.back.try_iter();
        let next = back.find(|memory| memory.capacity() >= STRETCH);
        let mut next = next.unwrap_or_else(|| PageBuffer::with_capacity(STRETCH));
        next.clear();
        let bytes = std::mem::replace(&mut self.bytes, next);
        let offset = self.begin;
        self.begin += bytes.len();
        self.send(Stretch {
            offset,
            bytes,
            parts,
        })
    }

    fn send(&self, stretch: Stretch) -> Result<()> {
        let sent = self.out.send(stretch);
        sent.map_err(|_| Error::internal(&"who writes an image has ended"))
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;

    /// Pages as large as there are, so that a stretch has few.
    const PAGE: usize = 64 * 1024;
    const PAGES: usize = STRETCH / PAGE;

    /// What is written of an image of so many pages, of which the base has all but one; before each stretch frames come.
    fn made(pages: usize, before: &[(u32, u32)], frames: &[(u32, u32)]) -> (Vec<u8>, usize) {
        let ((out, written), (_, back)) = (unbounded(), unbounded());
        let mut image = Image::new(PAGE, (pages * PAGE) as u64, out, back);
        let page = |number: u32| vec![u8::try_from(number).unwrap(); PAGE];
        for (number, at) in before {
            image.put_at_once(*number, *at, &page(*number)).unwrap();
        }
        let mut frames = frames.iter().peekable();
        let mut write = |image: &mut Image| {
            while let Some((number, at)) = frames.peek() {
                if !image.put(*number, *at, &page(*number)).unwrap() {
                    break;
                }
                frames.next();
            }
            image.write().unwrap();
        };
        let base = vec![200; (pages - 1) * PAGE];
        for mut chunk in base.chunks(3 * PAGE) {
            while image.fill(&mut chunk) {
                write(&mut image);
            }
        }
        while image.fill_with_zeros() {
            write(&mut image);
        }
        drop(image);
        let (mut found, mut bytes) = (vec![100; pages * PAGE], 0);
        for stretch in written {
            for part in stretch.parts {
                let at = stretch.offset + part.start;
                found[at..at + part.len()].copy_from_slice(&stretch.bytes[part.clone()]);
                bytes += part.len();
            }
        }
        (
            found.chunks(PAGE).map(|page| page[0]).collect(),
            bytes / PAGE,
        )
    }

    fn expected(pages: usize, frames: &[(usize, u8)]) -> Vec<u8> {
        let mut expected = vec![200; pages];
        expected[pages - 1] = 0;
        for (page, with) in frames {
            expected[page - 1] = *with;
        }
        expected
    }

    #[test]
    fn in_order_each_page_is_written_once() {
        let pages = 2 * PAGES + 5;
        let (found, written) = made(pages, &[], &[]);
        assert_eq!((found, written), (expected(pages, &[]), pages));
        let last = u32::try_from(pages).unwrap();
        let frames = [
            (1, 2),
            (2, 64),
            (3, 65),
            (4, 66),
            (5, last),
            (6, last + 1),
            (7, 0),
        ];
        let (found, written) = made(pages, &[], &frames);
        let merged = [(2, 1), (64, 2), (65, 3), (66, 4), (pages, 5)];
        assert_eq!((found, written), (expected(pages, &merged), pages));
    }

    #[test]
    fn whatever_the_order_the_newest_frame_wins() {
        let pages = 2 * PAGES + 5;
        // The second is of a stretch that was written before it could come; the fourth is older than what is there.
        let frames = [(1, 70), (3, 2), (4, 70), (2, 70), (9, 71), (8, 71)];
        let (found, written) = made(pages, &[], &frames);
        let merged = [(2, 3), (70, 4), (71, 9)];
        assert_eq!((found, written), (expected(pages, &merged), pages + 1));
    }

    #[test]
    fn what_is_there_and_newer_is_left_out_of_its_stretch() {
        let pages = PAGES + 5;
        let before = [(5, 3), (4, 3), (5, 66), (6, 67)];
        let (found, written) = made(pages, &before, &[(4, 4), (3, 66), (8, 67)]);
        let merged = [(3, 5), (66, 5), (67, 8), (4, 4)];
        assert_eq!((found, written), (expected(pages, &merged), pages + 1));
    }
}
