//! The pages of a view, straight into the pipeline.

use std::path::Path;

use rusqlite::Connection;

use super::captured::{Captured, Method};
use super::direct::Direct;
use super::fingerprint::Fingerprint;
use super::header::Header;
use super::options::Options;
use super::prove::quick_check;
use super::refusal::{refused, source_error};
use super::relay::{Relay, Rest};
use super::second::{Pace, Second, Seen};
use super::sink::Sink;
use super::standing::LogEnd;
use super::view::{Begun, View};
use crate::durable::claim::LockWatch;
use crate::error::Result;

/// A database that is open, with what is known of how it stands.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) connection: &'a Connection,
    /// Its file, and the end of its log in the transaction; none if pages are not to be read straight from it.
    pub(super) direct: Option<(&'a LockWatch, Option<&'a LogEnd>)>,
}

pub(super) fn capture_pages(
    source: &Source<'_>,
    begun: Option<Begun>,
    second: Option<Second>,
    options: &Options,
    sink: &mut dyn Sink,
) -> Result<(Captured, Option<Rest>)> {
    let (path, connection) = (source.path, source.connection);
    let engine = |cause: rusqlite::Error| refused(path, &cause);
    let view = match begun {
        Some(begun) => View::of(connection, begun),
        None => View::begin(connection, options.clock.as_ref()).map_err(engine)?,
    };
    let (image_bytes, page_bytes) = Fingerprint::size(connection).map_err(engine)?;
    let chunk_bytes = options.chunks.bytes(image_bytes, page_bytes);
    let mut header = None;
    let mut relay = Relay::new(options, view.begun, sink);
    let (mut pace, is_quick) = Pace::new();
    let (size_bytes, seen) = std::thread::scope(|scope| {
        let seeing = second.map(|second| scope.spawn(move || second.look(&is_quick)));
        let read = source.read(image_bytes, page_bytes, chunk_bytes, &mut |chunk| {
            pace.came(chunk.len(), || relay.is_whole());
            if header.is_none() {
                header = Header::parse(&chunk);
            }
            let taken = relay.take(chunk);
            pace.went();
            taken
        });
        // Where it was not quick, it has not begun.
        drop(pace);
        let seen = seeing.map(|seeing| match seeing.join() {
            Ok(seen) => seen,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        read.map(|bytes| (bytes, seen.flatten()))
    })?;
    // Of the very pages that were read. Nobody's ordinary commit waits.
    let counts = match (&seen, relay.is_whole()) {
        (None, false) => relay.census()?.and_then(|census| census.finish(connection)),
        _ => None,
    };
    let Seen {
        fingerprint,
        unsound,
    } = match seen {
        Some(seen) => seen,
        None => Seen {
            fingerprint: Fingerprint::with(connection, counts.as_ref()).map_err(engine)?,
            // All pages were found to be as they should be; else the engine says what is wrong.
            unsound: if counts.is_some() {
                None
            } else {
                quick_check(connection)
            },
        },
    };
    require_whole(path, &fingerprint, size_bytes)?;
    let (point, held) = (view.point, view.begun.elapsed());
    drop(view);
    let (rest, late) = relay.finish();
    let warnings = late.map(|cause| {
        format!(
            "its application's RESTART or TRUNCATE of the log had to wait up to {:.1} s, because the repository is slow and there was no room for a spool ({cause})",
            held.as_secs_f64()
        )
    });
    let captured = Captured {
        fingerprint,
        point,
        method: Method::Pages,
        journal_mode: String::new(),
        size_bytes,
        held,
        header,
        unsound,
        standing: None,
        warnings: warnings.into_iter().collect(),
    };
    Ok((captured, rest))
}

impl Source<'_> {
    /// Streams all pages of the open transaction in order; returns their bytes.
    fn read(
        &self,
        image_bytes: u64,
        page_bytes: u64,
        chunk_bytes: usize,
        sink: &mut dyn FnMut(Vec<u8>) -> Result<()>,
    ) -> Result<u64> {
        let direct = self.direct.and_then(|(file, log)| {
            let pages = u32::try_from(image_bytes.checked_div(page_bytes)?).ok()?;
            let page_bytes = usize::try_from(page_bytes).ok()?;
            let direct = Direct::begin(self.path, file, log, page_bytes)?;
            Some((direct, pages))
        });
        match direct {
            Some((direct, pages)) => {
                direct.read_pages(self.path, self.connection, pages, chunk_bytes, sink)
            }
            None => read_pages(self.path, self.connection, chunk_bytes, sink),
        }
    }
}

/// Streams the pages of the open transaction in order; returns their bytes.
pub(super) fn read_pages(
    path: &Path,
    connection: &Connection,
    chunk_bytes: usize,
    sink: &mut dyn FnMut(Vec<u8>) -> Result<()>,
) -> Result<u64> {
    let engine = |cause: rusqlite::Error| refused(path, &cause);
    let mut statement = connection
        .prepare("SELECT data FROM sqlite_dbpage")
        .map_err(engine)?;
    let mut rows = statement.query([]).map_err(engine)?;
    let mut chunk = Vec::with_capacity(chunk_bytes);
    let mut bytes = 0;
    while let Some(row) = rows.next().map_err(engine)? {
        let page = row
            .get_ref(0)
            .and_then(|value| Ok(value.as_blob()?))
            .map_err(engine)?;
        chunk.extend_from_slice(page);
        bytes += page.len() as u64;
        if chunk.len() >= chunk_bytes {
            sink(std::mem::replace(
                &mut chunk,
                Vec::with_capacity(chunk_bytes),
            ))?;
        }
    }
    if !chunk.is_empty() {
        sink(chunk)?;
    }
    Ok(bytes)
}

/// The end mark of an image: as many bytes as the engine counts pages.
pub(super) fn require_whole(path: &Path, fingerprint: &Fingerprint, bytes: u64) -> Result<()> {
    let expected = fingerprint.image_bytes();
    if bytes == expected {
        return Ok(());
    }
    Err(source_error(
        path,
        &format!("its image has {bytes} bytes, but the engine counts {expected}"),
    ))
}
