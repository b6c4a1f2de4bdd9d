//! What a disk and its page cache ask of one large file.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Result;
use rustix::fs::{FallocateFlags, OFlags};
use serde_json::{Map, Value};
use tillsafe::rng::{Rng, SystemRng};

use crate::measure::{Seconds, best, cores, on_all_cores};

const MIB: usize = 1024 * 1024;
/// What a direct write has to be aligned to, and more than most disks ask.
const ALIGNED: usize = 4096;
/// Bytes of a write through the page cache: larger ones make the kernel put memory together.
const PIECE: usize = 64 * 1024;

/// Of a file with so many bytes in the scratch folder: written through the page cache and past it, each with one sync at
/// the end, and read.
pub fn limits(bytes: u64, scratch: &Path) -> Result<Map<String, Value>> {
    let path = scratch.join("written");
    let mut found = Map::new();
    let mut note = |name: &str, value| found.insert(name.to_owned(), value);
    let direct = best(|| write_direct(&path, bytes));
    note("write_direct", or_none(direct, bytes)?);
    let buffered = best(|| write_buffered(&path, bytes))?;
    note("write_buffered", buffered.of_bytes(bytes));
    note("read_hot", read_hot(&path)?.of_bytes(bytes));
    for (name, piece) in [("read_direct_1", MIB), ("read_direct_4", 4 * MIB)] {
        note(name, or_none(best(|| read_direct(&path, piece)), bytes)?);
    }
    fs::remove_file(path)?;
    found.insert("object".into(), best(|| put_object(scratch))?.alone());
    Ok(found)
}

/// One small object of a repository: written, synced, named, its folder synced.
fn put_object(scratch: &Path) -> Result<()> {
    let (temporary, path) = (scratch.join("object-tmp"), scratch.join("object"));
    let mut file = File::create(&temporary)?;
    file.write_all(&[7; 500])?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    Ok(File::open(scratch)?.sync_all()?)
}

/// Nothing where the file system knows no such thing.
fn or_none(measured: Result<Seconds>, bytes: u64) -> Result<Value> {
    match measured {
        Ok(seconds) => Ok(seconds.of_bytes(bytes)),
        Err(cause)
            if cause
                .downcast_ref::<std::io::Error>()
                .is_some_and(is_refusal) =>
        {
            Ok(Value::Null)
        }
        Err(cause) => Err(cause),
    }
}

fn is_refusal(cause: &std::io::Error) -> bool {
    matches!(
        cause.kind(),
        ErrorKind::InvalidInput | ErrorKind::Unsupported
    )
}

/// Each core its part, with memory that stays in the processor's cache.
fn read_hot(path: &Path) -> Result<Seconds> {
    warm(path)?;
    let bytes = path.metadata()?.len();
    best(|| {
        let file = File::open(path)?;
        on_all_cores(|number| {
            let mut memory = vec![0; 4 * PIECE];
            let (mut at, step) = (number as u64 * MIB as u64, (cores() * MIB) as u64);
            while at < bytes {
                let end = bytes.min(at + MIB as u64);
                let mut from = at;
                while from < end {
                    let wanted = usize::try_from(end - from)?.min(memory.len());
                    file.read_exact_at(&mut memory[..wanted], from)?;
                    from += wanted as u64;
                }
                at += step;
            }
            Ok(())
        })
    })
}

/// Reads it once, so that it is in the page cache.
fn warm(path: &Path) -> Result<()> {
    let (mut file, mut memory) = (File::open(path)?, vec![0; MIB]);
    while file.read(&mut memory)? > 0 {}
    Ok(())
}

/// As many pieces under way as there are cores.
fn read_direct(path: &Path, piece: usize) -> Result<()> {
    let file = direct(OpenOptions::new().read(true)).open(path)?;
    let bytes = path.metadata()?.len();
    on_all_cores(|number| {
        let mut memory = Aligned::new(piece);
        let mut at = (number * piece) as u64;
        // The last piece is shorter than what is asked for.
        while at < bytes {
            file.read_at(memory.bytes(), at)?;
            at += (cores() * piece) as u64;
        }
        Ok(())
    })
}

fn write_buffered(target: &Path, bytes: u64) -> Result<()> {
    let mut memory = vec![0; PIECE];
    SystemRng.fill(&mut memory)?;
    let mut file = File::create(target)?;
    for _ in 0..bytes.div_ceil(PIECE as u64) {
        file.write_all(&memory)?;
    }
    Ok(file.sync_all()?)
}

fn write_direct(target: &Path, bytes: u64) -> Result<()> {
    const PIECE: usize = 4 * MIB;
    let options = &mut OpenOptions::new();
    let file = direct(options.write(true).create(true).truncate(true)).open(target)?;
    let pieces = bytes.div_ceil(PIECE as u64);
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, pieces * PIECE as u64)
        .map_err(std::io::Error::from)?;
    on_all_cores(|number| {
        let mut memory = Aligned::new(PIECE);
        SystemRng.fill(memory.bytes())?;
        let mut piece = number as u64;
        while piece < pieces {
            file.write_all_at(memory.bytes(), piece * PIECE as u64)?;
            piece += cores() as u64;
        }
        Ok(())
    })?;
    Ok(file.sync_all()?)
}

fn direct(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(i32::try_from(OFlags::DIRECT.bits()).unwrap_or_default())
}

/// Memory that begins where a direct read or write may.
struct Aligned {
    memory: Vec<u8>,
    length: usize,
}

impl Aligned {
    fn new(length: usize) -> Self {
        let memory = vec![0; length + ALIGNED];
        Self { memory, length }
    }

    fn bytes(&mut self) -> &mut [u8] {
        let from = self.memory.as_ptr().align_offset(ALIGNED);
        &mut self.memory[from..from + self.length]
    }
}
