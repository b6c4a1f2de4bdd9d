//! What many small files ask: to be walked through, read, and made.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use tillsafe::rng::{Rng, SystemRng};
use walkdir::WalkDir;

use crate::database::noise;
use crate::measure::{Seconds, best, on_all_cores};

/// Bytes of memory to read into and to write from.
const MEMORY: usize = 256 * 1024;
/// Bytes of files that stand for all where it is about compression.
const SAMPLE: u64 = 32 * 1024 * 1024;

/// One folder with its files: the work of one core.
struct Folder {
    path: PathBuf,
    files: Vec<(PathBuf, u64)>,
    bytes: u64,
}

/// Bytes of all files below a folder.
pub fn bytes_below(source: &Path) -> Result<u64> {
    Ok(folders(source)?.iter().map(|folder| folder.bytes).sum())
}

/// Of the files themselves, in the page cache; and as many of the same sizes made in the scratch folder.
pub fn limits(source: &Path, scratch: &Path) -> Result<Map<String, Value>> {
    let folders = folders(source)?;
    let bytes = folders.iter().map(|folder| folder.bytes).sum();
    let count: usize = folders.iter().map(|folder| folder.files.len()).sum();
    let mut found = noise(&sample(&folders)?)?;
    let mut note = |name: &str, seconds: Seconds| {
        let mut value = seconds.of_bytes(bytes);
        value["files"] = json!(count);
        found.insert(name.to_owned(), value);
    };
    let walk = || each(&folders, |folder| look_at(&folder.path));
    walk()?;
    note("files_walked", best(walk)?);
    let read = || each(&folders, read);
    read()?;
    note("files_read", best(read)?);
    let mut targets = Vec::new();
    let made = best(|| {
        let target = scratch.join(format!("made-{}", targets.len()));
        make(&folders, source, &target)?;
        targets.push(target);
        Ok(())
    })?;
    note("files_made", made);
    for target in targets {
        empty(&target)?;
    }
    Ok(found)
}

/// Gives back the room of what was made, but not the names.
fn empty(folder: &Path) -> Result<()> {
    for item in WalkDir::new(folder) {
        let item = item?;
        if item.file_type().is_file() {
            File::create(item.path())?;
        }
    }
    Ok(())
}

/// All folders, those with the most bytes first.
fn folders(source: &Path) -> Result<Vec<Folder>> {
    let mut folders = Vec::new();
    for item in WalkDir::new(source) {
        let item = item?;
        if !item.file_type().is_dir() {
            continue;
        }
        let mut files = Vec::new();
        for inner in fs::read_dir(item.path())? {
            let (inner, kind) =
                inner.and_then(|inner| inner.file_type().map(|kind| (inner, kind)))?;
            if kind.is_file() {
                files.push((inner.path(), inner.metadata()?.len()));
            }
        }
        folders.push(Folder {
            path: item.into_path(),
            bytes: files.iter().map(|(_, bytes)| bytes).sum(),
            files,
        });
    }
    folders.sort_by_key(|folder| std::cmp::Reverse(folder.bytes));
    Ok(folders)
}

/// Whole files from the largest folders that are none of logs: of each folder a part.
fn sample(folders: &[Folder]) -> Result<Vec<u8>> {
    let files = folders.iter().flat_map(|folder| &folder.files);
    let mut sample = Vec::new();
    for (path, _) in files.filter(|(_, bytes)| *bytes < MEMORY as u64) {
        if sample.len() as u64 >= SAMPLE {
            break;
        }
        File::open(path)?.read_to_end(&mut sample)?;
    }
    Ok(sample)
}

/// Each core takes the next folder as soon as it has done one.
fn each(folders: &[Folder], work: impl Fn(&Folder) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    on_all_cores(|_| {
        while let Some(folder) = folders.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(folder)?;
        }
        Ok(())
    })
}

fn look_at(folder: &Path) -> Result<()> {
    for item in fs::read_dir(folder)? {
        item?.metadata()?;
    }
    Ok(())
}

fn read(folder: &Folder) -> Result<()> {
    let mut memory = vec![0; MEMORY];
    for (path, _) in &folder.files {
        let mut file = File::open(path)?;
        while file.read(&mut memory)? > 0 {}
    }
    Ok(())
}

/// Makes and writes them, and has the file system put them to disk once.
fn make(folders: &[Folder], source: &Path, target: &Path) -> Result<()> {
    let mut memory = vec![0; MEMORY];
    SystemRng.fill(&mut memory)?;
    for folder in folders {
        fs::create_dir_all(target.join(folder.path.strip_prefix(source)?))?;
    }
    each(folders, |folder| {
        let inner = target.join(folder.path.strip_prefix(source)?);
        for (path, bytes) in &folder.files {
            let mut file = File::create_new(inner.join(path.file_name().context("a name")?))?;
            let mut left = usize::try_from(*bytes)?;
            while left > 0 {
                let piece = left.min(memory.len());
                file.write_all(&memory[..piece])?;
                left -= piece;
            }
        }
        Ok(())
    })?;
    Ok(rustix::fs::syncfs(File::open(target)?)?)
}
