//! One flipped bit in a repository: `check` names the object, and goes on.

use std::sync::Arc;

use anyhow::{Result, ensure};
use tillsafe::backend::{Backend, Class, MemBackend, Object};
use tillsafe::monitor::Quiet;
use tillsafe::repository::check::{Extent, check};
use tillsafe::repository::pack::BlobKind;
use tillsafe::repository::writer::Writer;
use tillsafe::repository::{Repository, Services, keys::Cost};
use tillsafe::secret::Secret;

fn main() -> Result<()> {
    let monitor = Quiet::default();
    let storage = Arc::new(MemBackend::default());
    let backend = Arc::clone(&storage) as Arc<dyn Backend>;
    let password = Secret::new(b"celadon".to_vec());
    let repository = Repository::create(
        Arc::clone(&backend),
        Services::system(),
        &password,
        Cost::DEFAULT,
        &monitor,
    )?;
    let writer = Writer::begin(&repository, Arc::default())?;
    writer.store(BlobKind::Data, b"tea bowl, raku\n".repeat(1000))?;
    writer.commit()?;
    ensure!(
        check(&repository, Extent::Everything, &monitor)?
            .damage
            .is_empty()
    );

    let pack = Object::Named(Class::Data, backend.list(Class::Data)?.objects[0].0);
    storage.damage(pack, |bytes| bytes[20] ^= 1);

    let report = check(&repository, Extent::Everything, &monitor)?;
    ensure!(report.damage.len() == 1 && report.damage[0].object == pack.to_string());
    println!(
        "found: {}: {}",
        report.damage[0].object, report.damage[0].finding
    );
    Ok(())
}
