//! The pages of a view, straight into the pipeline.

use std::path::Path;

use rusqlite::Connection;

use super::captured::{Captured, Method};
use super::fingerprint::Fingerprint;
use super::header::Header;
use super::options::Options;
use super::prove::quick_check;
use super::refusal::{refused, source_error};
use super::relay::{Relay, Rest};
use super::second::{Pace, Second, Seen};
use super::view::{Begun, View};
use crate::error::Result;

pub(super) fn capture_pages(
    path: &Path,
    connection: &Connection,
    begun: Option<Begun>,
    second: Option<Second>,
    options: &Options,
    sink: &mut dyn FnMut(Vec<u8>) -> Result<()>,
) -> Result<(Captured, Option<Rest>)> {
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
        let read = read_pages(path, connection, chunk_bytes, &mut |chunk| {
            pace.came(chunk.len());
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
    // Of the very pages that were read, which are still in memory. Nobody's ordinary commit waits.
    let Seen {
        fingerprint,
        unsound,
    } = match seen {
        Some(seen) => seen,
        None => Seen {
            fingerprint: Fingerprint::take(connection).map_err(engine)?,
            unsound: quick_check(connection),
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
