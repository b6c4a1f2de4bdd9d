//! One blob made ready for its pack: compressed, sealed, then opened again and compared.

use zstd::bulk::Compressor;

use super::Repository;
use super::compress::{self, Compression, METADATA_LEVEL, NOISE_LEVEL, is_noise};
use super::crypto::{HEAD, OVERHEAD};
use super::pack::BlobKind;
use crate::error::{Error, Result};

/// Bytes of memory that a buffer keeps from one blob to the next. More are for one blob alone.
const KEPT: usize = 1024 * 1024;

/// What one thread needs for it, blob after blob: memory that is there already costs neither the system a page
/// nor the processor its cache.
pub struct Sealer<'a> {
    repository: &'a Repository,
    data: Compressor<'static>,
    noise: Compressor<'static>,
    trees: Compressor<'static>,
    /// Compressed, then sealed in its place. Longer than what is in it.
    sealed: Vec<u8>,
    opened: Vec<u8>,
    again: Vec<u8>,
}

impl<'a> Sealer<'a> {
    /// For blobs of this repository.
    ///
    /// # Errors
    /// [`Error::Internal`] if there is no memory for it.
    pub fn new(repository: &'a Repository, compression: Compression) -> Result<Self> {
        let compressor =
            |level| compress::compressor(level).map_err(|cause| Error::internal(&cause));
        Ok(Self {
            repository,
            data: compressor(compression.level())?,
            noise: compressor(NOISE_LEVEL)?,
            trees: compressor(METADATA_LEVEL)?,
            sealed: Vec::new(),
            opened: Vec::new(),
            again: Vec::new(),
        })
    }

    /// Compresses and seals, then opens the result again and compares: what goes out can come back. `taken` gets
    /// the sealed bytes.
    ///
    /// # Errors
    /// [`Error::SealFailed`]; as [`Rng::fill`](crate::rng::Rng::fill).
    pub fn seal<T>(
        &mut self,
        kind: BlobKind,
        plain: &[u8],
        taken: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        let failed = |finding: String| Error::SealFailed { finding };
        let compressor = match kind {
            BlobKind::Tree => &mut self.trees,
            BlobKind::Data if is_noise(plain) => &mut self.noise,
            BlobKind::Data => &mut self.data,
        };
        let bound = zstd::compress_bound(plain.len());
        if self.sealed.len() < bound + OVERHEAD {
            self.sealed.resize(bound + OVERHEAD, 0);
        }
        let compressed = compressor
            .compress_to_buffer(plain, &mut self.sealed[HEAD..HEAD + bound])
            .map_err(|cause| failed(cause.to_string()))?;
        let sealed = &mut self.sealed[..compressed + OVERHEAD];
        let inner = &self.repository.inner;
        inner
            .key
            .seal_in_place(sealed, inner.services.rng.as_ref())?;
        inner
            .key
            .open_to(sealed, &mut self.opened)
            .map_err(|cause| failed(cause.to_string()))?;
        self.again.clear();
        self.again.reserve_exact(plain.len());
        compress::decompress_to(&self.opened, &mut self.again)
            .map_err(|cause| failed(cause.to_string()))?;
        if self.again != plain {
            return Err(failed("it opens to other bytes".to_owned()));
        }
        let taken = taken(sealed);
        self.give_back();
        Ok(taken)
    }

    /// Of several threads, each would else hold what the largest blob took.
    fn give_back(&mut self) {
        for buffer in [&mut self.sealed, &mut self.opened, &mut self.again] {
            buffer.truncate(KEPT);
            buffer.shrink_to(KEPT);
        }
    }
}
