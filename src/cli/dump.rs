//! `dump`: a file's bytes, or a folder as a tar archive, to stdout or into a new file.

use std::path::{Component, Path, PathBuf};

use serde_json::json;

use super::Done;
use super::args::{self, ArchiveFormat};
use super::choose::one;
use super::output::Output;
use super::session::{Session, snapshot_and_path};
use crate::config;
use crate::error::{Error, ExitCode, Result};
use crate::look::{self, Dump, NewFile, Sink, Written};
use crate::monitor::{Monitor, Step};
use crate::restore::Images;
use crate::units::{ByteSize, is_plain, shown};

/// Bytes that are gathered before they are written.
const GATHERED: usize = 256 * 1024;

pub fn run(session: &Session, args: &args::Dump) -> Result<Done> {
    let output = &session.output;
    let usage = |finding: &str, next: &str| {
        Err(Error::Usage {
            finding: finding.to_owned(),
            next: next.to_owned(),
        })
    };
    if output.is_json() && args.target.is_none() {
        return usage(
            "the bytes of a dump and --json do not go to one stdout",
            "leave --json away, or write into a file: --target FILE",
        );
    }
    // So far there is one; a second would be told apart here.
    let ArchiveFormat::Tar = args.archive;
    let (request, base) = snapshot_and_path(&args.snapshot, &args.filter)?;
    let path = inner_path(&base, args.inner.as_deref())?;
    let repository = session.open()?;
    let target = args.target.as_deref().map(new_file).transpose()?;
    let _lock = session.lock_if_possible(&repository);
    let monitor = session.output.as_ref();
    let snapshot = one(session, &request, repository.snapshots(monitor)?)?;
    let index = repository.load_index(monitor)?;
    let found = look::locate(&repository, &index, &snapshot, &path)?;
    let whole = Images::below(
        &path,
        &snapshot,
        (&repository, &index),
        &Session::scratch_folder(),
        session.disk.as_ref(),
        monitor,
    )?;
    let opened = whole.as_ref().map(Images::open).transpose()?;
    let dump = Dump {
        snapshot: &snapshot,
        base,
        path: path.clone(),
        found,
        images: opened.unwrap_or_default(),
    };
    let is_archive = dump.is_archive();
    if is_archive && target.is_none() && Output::is_terminal() {
        return usage(
            "an archive is not written to a terminal",
            "send it to a program or a file: `… | tar -t`, `--target FILE`",
        );
    }
    monitor.step(Step::Dumping, None);
    let write = |sink: Sink<'_>| dump.write(&repository, &index, sink, monitor);
    let written = match target {
        Some(target) => {
            let (disk, rng) = (session.disk.as_ref(), session.services.rng.as_ref());
            let written = target.fill(disk, rng, write, monitor)?;
            output.good_news(format!(
                "wrote {} of {} in snapshot {} from {} to {}",
                ByteSize(written.bytes),
                shown(&path),
                snapshot.id.short(),
                repository.location(),
                shown(target.path())
            ));
            written
        }
        None => to_stdout(output, is_archive, write)?,
    };
    output.finish();
    Ok(Done {
        code: if output.is_incomplete() {
            ExitCode::Incomplete
        } else {
            ExitCode::Done
        },
        fields: json!({
            "repository": repository.location(),
            "snapshot_id": snapshot.id,
            "written_bytes": written.bytes,
        }),
    })
}

fn new_file(path: &Path) -> Result<NewFile> {
    NewFile::at(config::absolute(path)?)
}

/// The path below `base` that is meant.
fn inner_path(base: &Path, inner: Option<&Path>) -> Result<PathBuf> {
    let mut path = base.to_owned();
    for part in inner.into_iter().flat_map(Path::components) {
        match part {
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => {
                return Err(Error::Usage {
                    finding: format!("{} has `..` in it", shown(inner.unwrap_or(base))),
                    next: "write the path as it stands in the snapshot; `tillsafe ls` shows it"
                        .to_owned(),
                });
            }
        }
    }
    Ok(path)
}

fn to_stdout(
    output: &Output,
    is_archive: bool,
    write: impl FnOnce(Sink<'_>) -> Result<Written>,
) -> Result<Written> {
    let is_terminal = !is_archive && Output::is_terminal();
    let mut gathered = Vec::with_capacity(GATHERED);
    let result = write(&mut |bytes| {
        if is_terminal {
            require_text(bytes)?;
        }
        gathered.extend_from_slice(bytes);
        if gathered.len() < GATHERED {
            return Ok(true);
        }
        let wants_more = output.bytes(&gathered);
        gathered.clear();
        wants_more
    });
    // What was verified goes out, also where the rest cannot be read.
    let has_reader = output.bytes(&gathered)?;
    match result {
        Ok(written) if written.is_cut || !has_reader => Err(Error::OutputClosed),
        other => other,
    }
}

/// Fails for what a terminal would obey.
fn require_text(bytes: &[u8]) -> Result<()> {
    let is_control = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\n' | b'\t' | b'\r');
    let is_text = !bytes.iter().any(is_control);
    // Control characters beyond ASCII, and what turns the direction of writing.
    let is_harmless = String::from_utf8_lossy(bytes)
        .chars()
        .all(|letter| letter.is_ascii() || is_plain(letter));
    if is_text && is_harmless {
        return Ok(());
    }
    Err(Error::Usage {
        finding: "the file is no plain text, and is not written to a terminal".to_owned(),
        next: "send it to a program or a file: `… | less`, `--target FILE`".to_owned(),
    })
}
