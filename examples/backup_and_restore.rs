//! A small shop into a repository in memory, and back: the whole way out and in, through the library.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use tillsafe::backend::{Backend, MemBackend};
use tillsafe::backup::{self, Options, Recognition};
use tillsafe::chunker::PageChunks;
use tillsafe::durable::OsDisk;
use tillsafe::monitor::{Monitor, Quiet};
use tillsafe::repository::{Repository, Services, keys::Cost};
use tillsafe::restore::{Plan, ProofLevel, Selection, Target};
use tillsafe::secret::Secret;
use tillsafe::source::files::exclude::Excludes;
use tillsafe::source::sqlite::{self, sample};

fn main() -> Result<()> {
    let place = tempfile::tempdir()?;
    let shop = place.path().join("shop.db");
    sample::create(&shop, 1000)?;

    let monitor: Arc<dyn Monitor> = Arc::new(Quiet::default());
    let backend: Arc<dyn Backend> = Arc::new(MemBackend::default());
    let (services, password) = (Services::system(), Secret::new(b"celadon".to_vec()));
    let repository = Repository::create(
        backend,
        services.clone(),
        &password,
        Cost::DEFAULT,
        monitor.as_ref(),
    )?;

    let disk = Arc::new(OsDisk);
    let options = Options {
        paths: vec![shop.clone()],
        excluded: Vec::new(),
        excludes: Excludes::default(),
        recognition: Recognition::default(),
        compression: backup::Compression::default(),
        tags: Vec::new(),
        host: "till".to_owned(),
        memory: None,
        servers: Vec::new(),
        sqlite: sqlite::Options {
            chunks: PageChunks::BySize,
            scratch: place.path().to_owned(),
            page_table: true,
            disk: Arc::clone(&disk) as _,
            rng: services.rng,
            clock: services.clock,
            limits: sqlite::Limits::default(),
            on_a_network: sqlite::is_on_a_network,
            watch: None,
        },
    };
    let outcome = backup::backup(&repository, &options, monitor.as_ref())?;

    let target = place.path().join("restored");
    let index = repository.load_index(monitor.as_ref())?;
    let plan = Plan::make(
        &repository,
        &index,
        outcome.snapshot,
        Selection::whole(Path::new("/")),
        monitor.as_ref(),
    )?;
    let target = Target::look_at(&target, disk.as_ref())?;
    let staged = plan.fetch(&repository, &index, target, disk.as_ref(), monitor.as_ref())?;
    let restored = staged.verify(&index, &monitor)?.swap_in(&monitor)?;

    ensure!(restored.level == ProofLevel::Matched);
    let copy = restored.path.join(shop.strip_prefix("/")?);
    ensure!(sample::count(&copy)? == (1000, 1000));
    println!(
        "1000 orders came back, proof level {}",
        restored.level.name()
    );
    Ok(())
}
