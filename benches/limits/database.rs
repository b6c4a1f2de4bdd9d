//! What a database asks: compression of its pages, and what `SQLite` itself takes to count and check it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Map, Value, json};
use tillsafe::repository::compress::{DATA_LEVEL, NOISE_LEVEL, compressor, decompress_to};
use tillsafe::source::sqlite::Census;

use crate::measure::{best, rate};

/// Bytes of a piece that is compressed alone: as a blob of a database is.
const PIECE: usize = 256 * 1024;
/// One MiB in so many is in the sample.
const SAMPLE: u64 = 16;

/// Of the database itself, in the page cache.
pub fn limits(path: &Path) -> Result<Map<String, Value>> {
    let (whole, small) = (path.metadata()?.len(), compressed_whole(path)?);
    let mut found = compression(&sample(path)?)?;
    found.insert("zstd_3_whole_ratio".into(), ratio(whole, small));
    let uri = format!("file:{}?immutable=1", escaped(path)?);
    // Nothing is left beside it.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri, flags)?;
    let count = best(|| count_rows(&connection))?;
    found.insert("sqlite_count".into(), count.alone());
    let check = best(|| quick_check(&connection))?;
    found.insert("sqlite_quick_check".into(), check.alone());
    let page_bytes: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let census = best(|| look_at_pages(path, page_bytes as usize))?;
    found.insert("census".into(), census.alone());
    Ok(found)
}

/// How small the whole becomes as `zstd -3 FILE` makes it.
fn compressed_whole(path: &Path) -> Result<u64> {
    struct Counted(u64);
    impl Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counted = Counted(0);
    zstd::stream::copy_encode(File::open(path)?, &mut counted, DATA_LEVEL)?;
    Ok(counted.0)
}

/// Pieces from everywhere.
fn sample(path: &Path) -> Result<Vec<u8>> {
    const MIB: u64 = 1024 * 1024;
    let mut file = File::open(path)?;
    let mut sample = Vec::new();
    for start in (0..file.metadata()?.len()).step_by(usize::try_from(SAMPLE * MIB)?) {
        file.seek(SeekFrom::Start(start))?;
        (&mut file).take(MIB).read_to_end(&mut sample)?;
    }
    Ok(sample)
}

/// Piece for piece: at both levels, and back.
fn compression(sample: &[u8]) -> Result<Map<String, Value>> {
    let bytes = sample.len() as u64;
    let mut found = Map::new();
    for (name, level) in [("zstd_3", DATA_LEVEL), ("zstd_1", 1)] {
        found.insert(name.to_owned(), packing(sample, level)?);
    }
    let frames = frames(sample, DATA_LEVEL)?;
    let small = frames.iter().map(|frame| frame.len() as u64).sum();
    found.insert("zstd_3_pieces_ratio".into(), ratio(bytes, small));
    found.insert("zstd_back".into(), unpacking(&frames, bytes)?);
    Ok(found)
}

/// The same of files that do not compress.
pub fn noise(sample: &[u8]) -> Result<Map<String, Value>> {
    let frames = frames(sample, NOISE_LEVEL)?;
    let mut found = Map::new();
    found.insert("zstd_noise".into(), packing(sample, NOISE_LEVEL)?);
    found.insert(
        "zstd_noise_back".into(),
        unpacking(&frames, sample.len() as u64)?,
    );
    Ok(found)
}

fn packing(sample: &[u8], level: i32) -> Result<Value> {
    rate(sample.len() as u64, || {
        let mut compressor = compressor(level)?;
        let mut room = vec![0; zstd::zstd_safe::compress_bound(PIECE)];
        for piece in sample.chunks(PIECE) {
            compressor.compress_to_buffer(piece, &mut room)?;
        }
        Ok(())
    })
}

fn unpacking(frames: &[Vec<u8>], bytes: u64) -> Result<Value> {
    rate(bytes, || {
        let mut plain = Vec::with_capacity(PIECE);
        for frame in frames {
            decompress_to(frame, &mut plain)?;
        }
        Ok(())
    })
}

fn frames(sample: &[u8], level: i32) -> Result<Vec<Vec<u8>>> {
    let mut compressor = compressor(level)?;
    let frames = sample.chunks(PIECE).map(|piece| compressor.compress(piece));
    Ok(frames.collect::<io::Result<_>>()?)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "nobody has so many bytes that it counts"
)]
fn ratio(whole: u64, small: u64) -> Value {
    json!(whole as f64 / small as f64)
}

/// A path in a URI.
fn escaped(path: &Path) -> Result<String> {
    let text = path.to_str().context("a path that is no text")?;
    Ok(text
        .replace('%', "%25")
        .replace('?', "%3f")
        .replace('#', "%23"))
}

/// The rows of every table, as a fingerprint has them.
fn count_rows(connection: &Connection) -> Result<()> {
    let mut names = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let names: Vec<String> = names
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for name in names {
        let count = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
        connection.query_row(&count, [], |row| row.get::<_, i64>(0))?;
    }
    Ok(())
}

/// What ours notes of each page while it passes by: in a day's backup of those that have changed, instead of both.
fn look_at_pages(path: &Path, page_bytes: usize) -> Result<()> {
    let (mut file, mut memory) = (File::open(path)?, vec![0; page_bytes]);
    let mut census = Census::new(page_bytes);
    for _ in 0..path.metadata()?.len() / page_bytes as u64 {
        file.read_exact(&mut memory)?;
        census.see(&memory, None);
    }
    Ok(())
}

fn quick_check(connection: &Connection) -> Result<()> {
    let said: String = connection.query_row("PRAGMA quick_check", [], |row| row.get(0))?;
    ensure!(said == "ok", "quick_check: {said}");
    Ok(())
}
