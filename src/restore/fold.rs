//! A database that is stored as a base and a log, made whole in the order of its pages.
//!
//! The blobs of the base stand in that order, and so do the frames of each increment. All of them are read side by side, some
//! blobs ahead and on all cores, so the image comes out in its order too: a disk with heads wants that, and what is written
//! past the cache. No log lies on the disk, and no page is read for it.
//!
//! Where an increment ends is told by a blob that is shorter than others. Where that is wrong, or a log is not what
//! it says, frames come late, and the [`Image`] takes them all the same. Increments that are too many to be read side by
//! side come first, the newest of them before all.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::image::{Image, Stretch};
use super::item::{Item, Log};
use super::run::{Run, Span};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::parallel::{cores, lock};
use crate::repository::Repository;
use crate::repository::index::{Index, Location};
use crate::repository::pack::BlobKind;
use crate::repository::tree::Content;
use crate::source::sqlite::wal;

/// Plain bytes of a run of the base, unless one blob has more.
const BASE_RUN: u64 = 4 * 1024 * 1024;
/// Runs of it that are opened ahead.
const BASE_AHEAD: usize = 4;
/// Plain bytes that are held of a log: of each increment the run that is merged, and the one after it.
const LOG_HELD: u64 = 48 * 1024 * 1024;
/// Stretches that wait for the disk.
const WAITING: usize = 3;

/// A blob, and where it stands in its file.
#[derive(Debug, Clone)]
struct Part {
    location: Location,
    offset: u64,
}

/// Blobs that are opened at once.
type Parts = Vec<Part>;

/// What they hold, each with where it stands in its file.
type Plain = Vec<(u64, Vec<u8>)>;

/// A run that is wanted.
struct Job<'a> {
    run: &'a [Part],
    reply: Sender<Result<Plain>>,
}

/// All that a database is made of.
pub(super) struct Fold {
    page_bytes: usize,
    image_bytes: u64,
    base: Vec<Parts>,
    /// Increments that are read side by side.
    increments: Vec<Vec<Parts>>,
    /// What of the log comes first, the newest before all.
    first: Vec<Parts>,
}

impl Fold {
    /// Of a database to which the index leads; none if it is one file.
    pub(super) fn new(item: &Item, index: &Index) -> Option<Self> {
        let (Some(log), Content::File { blobs, size }) = (&item.log, &item.content) else {
            return None;
        };
        let mut increments = increments(log, index);
        let all = increments.iter().flatten();
        let longest = all.map(|part| part.location.plain_length()).max();
        let most = (LOG_HELD / 2 / longest.unwrap_or(1).max(1)).max(1);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let last = increments.split_off(increments.len().saturating_sub(most));
        let mut first = runs(increments.into_iter().flatten(), BASE_RUN);
        first.reverse();
        let bytes = (LOG_HELD / 2 / last.len().max(1) as u64).min(BASE_RUN);
        let last = last.into_iter().map(|increment| runs(increment, bytes));
        Some(Self {
            page_bytes: log.described.page_bytes as usize,
            image_bytes: *size,
            base: runs(parts(blobs, index), BASE_RUN),
            increments: last.collect(),
            first,
        })
    }

    /// Reads all of it, and has `write` write the image, stretch by stretch. Notes of each blob whether there is a whole
    /// copy.
    ///
    /// # Errors
    /// [`Error::Damaged`] if of one there is none; [`Error::Storage`]; what `write` returned.
    pub(super) fn make(
        &self,
        (repository, index): (&Repository, &Index),
        write: impl Fn(&Stretch) -> Result<()> + Sync,
        known: &Mutex<HashMap<Id, bool>>,
    ) -> Result<()> {
        let (jobs, queue) = unbounded::<Job<'_>>();
        let (out, stretches) = bounded::<Stretch>(WAITING);
        let (give_back, back) = unbounded();
        let open = || {
            for job in queue.clone() {
                // Nobody waits for it any more where something has failed.
                let _ = job.reply.send(open((repository, index), job.run, known));
            }
        };
        let write_all = || {
            for stretch in stretches {
                write(&stretch)?;
                let _ = give_back.send(stretch.bytes);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            for _ in 0..cores() {
                scope.spawn(open);
            }
            let writer = scope.spawn(write_all);
            let image = Image::new(self.page_bytes, self.image_bytes, out, back);
            let merged = self.merge(image, &jobs);
            // What was asked for and is not wanted any more.
            drop(jobs);
            while queue.try_recv().is_ok() {}
            match writer.join() {
                Ok(written) => written.and(merged),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn merge<'a>(&'a self, mut image: Image, jobs: &Sender<Job<'a>>) -> Result<()> {
        let mut first = self.frames(Feed::new(jobs, &self.first, BASE_AHEAD));
        while let Some((number, page, bytes)) = first.peek()? {
            image.put_at_once(number, page, bytes)?;
            first.skip();
        }
        let mut base = Feed::new(jobs, &self.base, BASE_AHEAD);
        let increments = self.increments.iter();
        let mut increments: Vec<_> = increments
            .map(|runs| self.frames(Feed::new(jobs, runs, 1)))
            .collect();
        let mut write = |image: &mut Image| {
            for increment in &mut increments {
                while let Some((number, page, bytes)) = increment.peek()? {
                    if !image.put(number, page, bytes)? {
                        break;
                    }
                    increment.skip();
                }
            }
            image.write()
        };
        while let Some(run) = base.next()? {
            for (_, bytes) in run {
                let mut bytes = bytes.as_slice();
                while image.fill(&mut bytes) {
                    write(&mut image)?;
                }
            }
        }
        while image.fill_with_zeros() {
            write(&mut image)?;
        }
        Ok(())
    }

    fn frames<'a, 'b>(&self, feed: Feed<'a, 'b>) -> Frames<'a, 'b> {
        Frames {
            page_bytes: self.page_bytes,
            feed,
            blobs: Vec::new().into_iter(),
            blob: Vec::new(),
            at: 0,
            number: 0,
        }
    }
}

/// Blobs, with where they stand in their file.
fn parts(blobs: &[Id], index: &Index) -> Parts {
    let mut offset = 0_u64;
    // Files that the index does not lead to are lost already.
    let found = blobs
        .iter()
        .filter_map(|id| index.find(BlobKind::Data, *id));
    found
        .map(|location| {
            let part = Part { location, offset };
            offset = offset.saturating_add(part.location.plain_length());
            part
        })
        .collect()
}

/// The log, cut after each blob that is shorter than others.
fn increments(log: &Log, index: &Index) -> Vec<Parts> {
    let frame = u64::from(log.described.page_bytes) + wal::FRAME_HEAD as u64;
    // The first begins with the header, which is no frame.
    let frames = |part: &Part| part.location.plain_length() / frame;
    let parts = parts(&log.blobs, index);
    let most = parts.iter().map(frames).max().unwrap_or(0);
    let mut increments = vec![Vec::new()];
    for part in parts {
        let is_last = frames(&part) < most;
        if let Some(increment) = increments.last_mut() {
            increment.push(part);
        }
        if is_last {
            increments.push(Vec::new());
        }
    }
    increments.retain(|increment| !increment.is_empty());
    increments
}

/// Joins what lies close together in one pack, in order, as long as it has no more bytes than that.
fn runs(parts: impl IntoIterator<Item = Part>, most: u64) -> Vec<Parts> {
    let mut runs: Vec<Parts> = Vec::new();
    let mut open: Option<(Id, Span, u64)> = None;
    for part in parts {
        let (pack, span) = (part.location.pack, Span::of(&part.location));
        let bytes = part.location.plain_length();
        let joined = open.and_then(|(last, begun, held)| {
            let span = begun.with(span)?;
            (last == pack && held + bytes <= most).then_some((pack, span, held + bytes))
        });
        match (runs.last_mut(), joined) {
            (Some(run), Some(_)) => run.push(part),
            _ => runs.push(vec![part]),
        }
        open = joined.or(Some((pack, span, bytes)));
    }
    runs
}

fn open(
    (repository, index): (&Repository, &Index),
    run: &[Part],
    known: &Mutex<HashMap<Id, bool>>,
) -> Result<Plain> {
    let Some(read) = Run::read(repository, index, run.iter().map(|part| &part.location)) else {
        return Ok(Vec::new());
    };
    let opened = run.iter().map(|part| {
        let plain = read.open(&part.location);
        let is_whole = match &plain {
            Ok(_) => Some(true),
            Err(Error::Damaged { .. }) => Some(false),
            Err(_) => None,
        };
        if let Some(is_whole) = is_whole {
            lock(known).insert(part.location.blob.id, is_whole);
        }
        Ok((part.offset, plain?))
    });
    opened.collect()
}

/// Runs in order, some of them opened ahead.
struct Feed<'a, 'b> {
    jobs: &'b Sender<Job<'a>>,
    runs: std::slice::Iter<'a, Parts>,
    asked: VecDeque<Receiver<Result<Plain>>>,
}

impl<'a, 'b> Feed<'a, 'b> {
    fn new(jobs: &'b Sender<Job<'a>>, runs: &'a [Parts], ahead: usize) -> Self {
        let mut feed = Self {
            jobs,
            runs: runs.iter(),
            asked: VecDeque::new(),
        };
        for _ in 0..ahead {
            feed.ask();
        }
        feed
    }

    fn ask(&mut self) {
        if let Some(run) = self.runs.next() {
            let (reply, answer) = bounded(1);
            // Who opens them listens as long as this lives.
            let _ = self.jobs.send(Job { run, reply });
            self.asked.push_back(answer);
        }
    }

    /// The next run; none after the last.
    fn next(&mut self) -> Result<Option<Plain>> {
        let Some(answer) = self.asked.pop_front() else {
            return Ok(None);
        };
        self.ask();
        match answer.recv() {
            Ok(opened) => opened.map(Some),
            Err(_) => Err(Error::internal(&"who opens blobs has ended")),
        }
    }
}

/// The frames of a part of the log, one after the other.
struct Frames<'a, 'b> {
    page_bytes: usize,
    feed: Feed<'a, 'b>,
    blobs: std::vec::IntoIter<(u64, Vec<u8>)>,
    blob: Vec<u8>,
    /// Where the next frame begins in it.
    at: usize,
    /// Its number in the log, from 1.
    number: u32,
}

impl Frames<'_, '_> {
    /// The next frame: its number, that of its page, and the page; none after the last.
    fn peek(&mut self) -> Result<Option<(u32, u32, &[u8])>> {
        let frame_bytes = wal::FRAME_HEAD + self.page_bytes;
        while self.blob.len() < self.at + frame_bytes {
            let Some((offset, blob)) = self.blobs.next() else {
                let Some(run) = self.feed.next()? else {
                    return Ok(None);
                };
                self.blobs = run.into_iter();
                continue;
            };
            self.blob = blob;
            self.at = if offset == 0 { wal::HEADER } else { 0 };
            let before = offset.saturating_sub(wal::HEADER as u64) / frame_bytes as u64;
            self.number = u32::try_from(before + 1).unwrap_or(u32::MAX);
        }
        let frame = &self.blob[self.at..self.at + frame_bytes];
        let found = wal::frames(frame, self.page_bytes).next();
        Ok(found.map(|frame| (self.number, frame.number, frame.page)))
    }

    fn skip(&mut self) {
        self.at += wal::FRAME_HEAD + self.page_bytes;
        self.number = self.number.saturating_add(1);
    }
}
