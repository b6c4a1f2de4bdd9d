//! The traps of databases that are somebody else's, each by its name.

mod folder;
mod names;
mod others;
mod peculiar;
mod rollback;
mod shapes;
mod sick;
mod side_files;
mod together;
mod waits;

use std::path::Path;
use std::sync::Arc;

use tillsafe::durable::{Disk, OsDisk};
use tillsafe::error::Result;
use tillsafe::source::sqlite::{Captured, Options, capture};

use crate::common::library;

/// How captures are made, with spools in `scratch`.
fn options(scratch: &Path) -> Options {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    library::options(&[], scratch, &disk).sqlite
}

/// Captures one database; returns what was said of it, and its image.
fn image(path: &Path, options: &Options) -> Result<(Captured, Vec<u8>)> {
    let mut image = Vec::new();
    let captured = capture(path, options, &mut |chunk| {
        image.extend(chunk);
        Ok(())
    })?;
    Ok((captured, image))
}
