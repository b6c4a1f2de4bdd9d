//! Opening: a key that the password opens, and the config.
//!
//! Whatever key opens, its data can be read: a damaged config costs only the right to write.

use std::sync::{Arc, OnceLock};

use super::crypto::Key;
use super::format::{Config, MAX_CONFIG};
use super::unlock::{Opened, find_key};
use super::{Budget, Inner, READ_MEMORY, Repository, Services};
use crate::backend::{self, Backend, Class, Object};
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Problem};
use crate::secret::Secret;

impl Repository {
    /// Opens a repository. With a config that is damaged, or gone while snapshots, packs or index files
    /// are there, it is open for reading only; `monitor` is told.
    ///
    /// # Errors
    /// [`Error::NoRepository`], [`Error::WrongPassword`], [`Error::NoKey`], [`Error::Unsupported`],
    /// [`Error::Storage`].
    pub fn open(
        backend: Arc<dyn Backend>,
        services: Services,
        password: &Secret,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let sealed = match backend.get(Object::Config, MAX_CONFIG) {
            Err(backend::Error::NotFound) => {
                if what_is_there(backend.as_ref())? != Found::Repository {
                    return Err(Error::NoRepository {
                        location: backend.location(),
                    });
                }
                Err("it is not there".to_owned())
            }
            Err(cause @ backend::Error::TooLong(_)) => Err(cause.to_string()),
            other => Ok(other.map_err(|cause| cause.on("reading", Object::Config))?),
        };
        let Opened { master: key, file } = find_key(backend.as_ref(), password, monitor)?;
        let config = sealed.and_then(|sealed| read_config(&key, &sealed));
        match &config {
            Ok(config) => {
                config
                    .require_known()
                    .map_err(|finding| Error::Unsupported {
                        location: backend.location(),
                        finding,
                    })?;
            }
            Err(finding) => monitor.problem(Problem {
                item: Object::Config.to_string(),
                finding: format!("{finding}; reading goes on without it, nothing is written"),
                incomplete: false,
            }),
        }
        Ok(Self {
            inner: Arc::new(Inner {
                backend,
                services,
                key,
                opened_with: file,
                config,
                memory: Arc::new(Budget::new(READ_MEMORY)),
                shelf: OnceLock::new(),
            }),
        })
    }
}

/// Opens the config; a version that is not known is the caller's to refuse.
fn read_config(key: &Key, sealed: &[u8]) -> std::result::Result<Config, String> {
    /// What every version says.
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    let plain = key.open(sealed).map_err(|cause| cause.to_string())?;
    match serde_json::from_slice::<Versioned>(&plain) {
        Ok(Versioned { version }) if !is_known(version) => Ok(Config {
            version,
            id: String::new(),
            chunker_polynomial: String::new(),
        }),
        _ => serde_json::from_slice(&plain).map_err(|cause| cause.to_string()),
    }
}

const fn is_known(version: u32) -> bool {
    matches!(version, 1 | 2)
}

impl Config {
    fn require_known(&self) -> std::result::Result<(), String> {
        if !is_known(self.version) {
            return Err(format!(
                "has format version {}; this program knows 1 and 2",
                self.version
            ));
        }
        self.polynomial().map(drop)
    }
}

/// What stands where a repository is to be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing of a repository.
    Nothing,
    /// Keys, and nothing that they could open: left by a creation that was interrupted.
    KeysAlone,
    /// A repository, or what is left of one.
    Repository,
}

/// Looks whether anything of a repository is there.
///
/// # Errors
/// [`Error::Storage`] if that cannot be told.
pub fn what_is_there(backend: &dyn Backend) -> Result<Found> {
    match backend.get(Object::Config, MAX_CONFIG) {
        Err(backend::Error::NotFound) => {}
        Ok(_) | Err(backend::Error::TooLong(_)) => return Ok(Found::Repository),
        Err(cause) => return Err(cause.on("reading", Object::Config)),
    }
    let mut found = Found::Nothing;
    for (class, meaning) in [
        (Class::Keys, Found::KeysAlone),
        (Class::Index, Found::Repository),
        (Class::Data, Found::Repository),
        (Class::Snapshots, Found::Repository),
    ] {
        match backend.list(class) {
            Ok(listing) if !listing.objects.is_empty() => found = meaning,
            Ok(_) | Err(backend::Error::NotFound) => {}
            Err(cause) => return Err(cause.on("listing", class.folder())),
        }
    }
    Ok(found)
}
