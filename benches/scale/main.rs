//! Makes a repository of very many blobs, for `benches/peers` to run the tools on:
//!
//! `cargo bench --locked --bench scale -- --blobs 3000000 --repository DIR --password WORD`
//!
//! No snapshot needs the blobs: they are in the index, which every tool reads.
#![allow(
    clippy::disallowed_methods,
    reason = "a bench makes and breaks files as it likes"
)]

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tillsafe::backend::{Backend, LocalBackend};
use tillsafe::durable::OsDisk;
use tillsafe::monitor::Quiet;
use tillsafe::repository::keys::Cost;
use tillsafe::repository::pack::BlobKind;
use tillsafe::repository::writer::Writer;
use tillsafe::repository::{Repository, Services};
use tillsafe::rng::SystemRng;
use tillsafe::secret::Secret;

struct Options {
    blobs: u64,
    repository: PathBuf,
    password: String,
}

impl Options {
    fn read() -> Result<Self> {
        let mut options = Self {
            blobs: 3_000_000,
            repository: PathBuf::new(),
            password: String::new(),
        };
        // Cargo adds this one.
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            let value = words
                .next()
                .with_context(|| format!("{word} needs a value"))?;
            match word.as_str() {
                "--blobs" => options.blobs = value.parse()?,
                "--repository" => options.repository = value.into(),
                "--password" => options.password = value,
                _ => bail!("unknown option {word}"),
            }
        }
        if options.repository.as_os_str().is_empty() || options.password.is_empty() {
            bail!("say --repository and --password");
        }
        Ok(options)
    }
}

fn main() -> Result<()> {
    let options = Options::read()?;
    let (disk, rng) = (Arc::new(OsDisk), Arc::new(SystemRng));
    let backend: Arc<dyn Backend> = Arc::new(LocalBackend::new(options.repository, disk, rng));
    let password = Secret::new(options.password.into_bytes());
    let (services, quiet) = (Services::system(), Quiet::default());
    let repository = Repository::create(backend, services, &password, Cost::DEFAULT, &quiet)?;
    let index = Arc::new(repository.load_index(&quiet)?);
    let writer = Writer::begin(&repository, index)?;
    for number in 0..options.blobs {
        // What comes of it is known by its commit.
        let _ = writer.store(BlobKind::Data, number.to_le_bytes().to_vec())?;
    }
    let stored = writer.commit()?;
    println!("{} blobs", stored.data_blobs);
    Ok(())
}
