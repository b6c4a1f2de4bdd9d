//! The traps of databases that are somebody else's, each by its name.

mod direct;
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

use std::ffi::OsStr;
use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tillsafe::durable::{Disk, OsDisk};
use tillsafe::error::{Error, Result};
use tillsafe::source::sqlite::{Captured, Options, capture};

use crate::common::files::wait_for;
use crate::common::shop::count_orders;
use crate::common::tools::{find, skipped};
use crate::common::{Place, library};

/// How captures are made, with spools in `scratch`.
fn options(scratch: &Path) -> Options {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    library::options(&[], scratch, &disk).sqlite
}

/// Captures one database; returns what was said of it, and its image.
fn image(path: &Path, options: &Options) -> Result<(Captured, Vec<u8>)> {
    let mut image = Vec::new();
    let captured = capture(path, options, &mut |chunk: Vec<u8>| {
        image.extend(chunk);
        Ok(())
    })?;
    Ok((captured, image))
}

/// Why a capture was refused.
fn finding<T: Debug>(result: Result<T>) -> String {
    match result {
        Err(Error::Source { finding, .. }) => finding,
        other => panic!("{other:?}"),
    }
}

/// Orders in a captured image, as a database of its own.
fn orders(place: &Place, image: &[u8]) -> u32 {
    let copy = place.join("copy.db");
    fs::write(&copy, image).unwrap();
    let counted = count_orders(&copy);
    fs::remove_file(&copy).unwrap();
    counted
}

/// An application in a process of its own, whose locks ours cannot drop; `None` without python3, which is told.
fn application<A: AsRef<OsStr>>(script: &str, arguments: &[A]) -> Option<Command> {
    let Some(python) = find("python3") else {
        skipped("an application of its own", "there is no python3");
        return None;
    };
    let mut command = Command::new(python);
    command.args(["-c", script]).args(arguments);
    command.stdin(Stdio::null());
    Some(command)
}

/// One that says at `ready` that it has begun.
fn begun(mut application: Command, ready: &Path) -> Child {
    let child = application.spawn().unwrap();
    wait_for(ready);
    child
}

/// One that does its work and ends.
fn run(application: &mut Command) {
    assert!(application.status().unwrap().success());
}
