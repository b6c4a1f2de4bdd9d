//! Pages on their way to a repository that may be slow.
//!
//! In WAL mode an application's RESTART or TRUNCATE of its log waits for the end of our read. As long as the
//! repository takes what is read, that is how long reading takes; after [`Limits::read`](super::Limits::read) what
//! is left goes to a spool at the speed of the disk, the read ends, and the repository takes its time.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::census::Census;
use super::options::Options;
use super::sink::Sink;
use crate::durable::File;
use crate::durable::scratch::Scratch;
use crate::error::{Error, Result};
use crate::monitor::go_on;

/// Takes chunks and hands them on in their order, at once or from a spool.
pub(super) struct Relay<'a> {
    options: &'a Options,
    sink: &'a mut dyn Sink,
    begun: Instant,
    way: Way,
}

/// What was read and not handed on yet: nobody waits for it any more.
#[derive(Debug)]
pub struct Rest(Spool);

impl Rest {
    /// Hands it on, to the sink that has all before it.
    ///
    /// # Errors
    /// Those of the sink, [`Error::File`] for the spool.
    pub fn drain(self, sink: &mut dyn Sink) -> Result<()> {
        self.0.drain(sink)
    }
}

enum Way {
    /// Fast enough so far.
    Straight,
    /// Not fast enough.
    Spooled(Spool),
    /// There is no room for a spool: whoever waits has to. Why.
    Unbounded(String),
}

#[derive(Debug)]
struct Spool {
    /// Removes the file with itself.
    _scratch: Scratch,
    file: Box<dyn File>,
    place: PathBuf,
    lengths: Vec<usize>,
    bytes: u64,
}

impl<'a> Relay<'a> {
    /// For a read that has `begun`.
    pub(super) fn new(options: &'a Options, begun: Instant, sink: &'a mut dyn Sink) -> Self {
        Self {
            options,
            sink,
            begun,
            way: Way::Straight,
        }
    }

    /// Takes one chunk.
    ///
    /// # Errors
    /// Those of the sink, [`Error::Interrupted`].
    pub(super) fn take(&mut self, chunk: Vec<u8>) -> Result<()> {
        let is_late = self.begun.elapsed() >= self.options.limits.read;
        if matches!(self.way, Way::Straight) && is_late {
            self.way = match Spool::create(self.options) {
                Ok(spool) => Way::Spooled(spool),
                Err(cause) => Way::Unbounded(cause.to_string()),
            };
        }
        let Way::Spooled(spool) = &mut self.way else {
            return self.sink.take(chunk);
        };
        if let Some(watch) = &self.options.watch {
            go_on(watch.as_ref())?;
        }
        if let Err(cause) = spool.write(&chunk) {
            // What is in the spool is whole.
            spool.drain(self.sink)?;
            self.way = Way::Unbounded(cause.to_string());
            return self.sink.take(chunk);
        }
        Ok(())
    }

    /// Whether all of the image is stored anew.
    pub(super) fn is_whole(&self) -> bool {
        self.sink.is_whole()
    }

    /// What its pages say of themselves, if somebody has looked at all of them already.
    ///
    /// # Errors
    /// Those of the sink.
    pub(super) fn census(&mut self) -> Result<Option<Census>> {
        match self.way {
            Way::Spooled(_) => Ok(None),
            Way::Straight | Way::Unbounded(_) => self.sink.census(),
        }
    }

    /// All is read. Returns what is still in a spool, or why the read lasted longer than it should.
    pub(super) fn finish(self) -> (Option<Rest>, Option<String>) {
        match self.way {
            Way::Straight => (None, None),
            Way::Spooled(spool) => (Some(Rest(spool)), None),
            Way::Unbounded(cause) => (None, Some(cause)),
        }
    }
}

impl Spool {
    fn create(options: &Options) -> Result<Self> {
        const NAME: &str = "rest";
        let scratch = options.spool_folder()?;
        let place = scratch.path().join(NAME);
        let file = scratch
            .folder()
            .create_file(Path::new(NAME), 0o600)
            .map_err(Error::file("creating", &place))?;
        Ok(Self {
            _scratch: scratch,
            file,
            place,
            lengths: Vec::new(),
            bytes: 0,
        })
    }

    fn write(&mut self, chunk: &[u8]) -> Result<()> {
        self.file
            .write_all_at(chunk, self.bytes)
            .map_err(Error::file("spooling to", &self.place))?;
        self.bytes += chunk.len() as u64;
        self.lengths.push(chunk.len());
        Ok(())
    }

    fn drain(&self, sink: &mut dyn Sink) -> Result<()> {
        let mut offset = 0;
        for length in &self.lengths {
            let mut chunk = vec![0; *length];
            self.file
                .read_exact_at(&mut chunk, offset)
                .map_err(Error::file("reading", &self.place))?;
            offset += *length as u64;
            sink.take(chunk)?;
        }
        Ok(())
    }
}
