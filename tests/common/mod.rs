//! What the tests share: a shop, a repository, the program, the tools.

pub mod child;
pub mod compare;
pub mod dice;
pub mod files;
pub mod forge;
pub mod fuse;
pub mod library;
pub mod masked;
pub mod meanwhile;
pub mod measure;
pub mod mount;
pub mod passed_on;
pub mod postgres;
pub mod program;
pub mod raw;
pub mod recording;
pub mod restic;
pub mod shop;
pub mod terminal;
pub mod tools;
pub mod tree;

use std::path::{Path, PathBuf};

/// A folder of its own for one test, removed at its end.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Self(
            tempfile::Builder::new()
                .prefix("tillsafe-test-")
                .tempdir()
                .expect("a temporary folder"),
        )
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}
