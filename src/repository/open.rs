//! Opening: a key that the password opens, and the config.
//!
//! Whatever key opens, its data can be read: a damaged config costs only the right to write.

use std::sync::Arc;

use super::crypto::Key;
use super::format::{Config, MAX_OBJECT};
use super::keys::{KeyFailure, KeyFile};
use super::{Inner, Repository, Services, left_out, report_strays};
use crate::backend::{self, Backend, Class, Object};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Problem};
use crate::secret::Secret;

/// Most key files that are tried, as in restic: each costs a derivation.
const MAX_KEYS: usize = 20;
/// A key file has about 500 bytes; anything much longer is none.
const MAX_KEY_FILE: u64 = 64 * 1024;

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
        let sealed = match backend.get(Object::Config, MAX_OBJECT) {
            Err(backend::Error::NotFound) => {
                if what_is_there(backend.as_ref())? != Found::Repository {
                    return Err(Error::NoRepository {
                        location: backend.location(),
                    });
                }
                None
            }
            other => Some(other.map_err(|cause| cause.on("reading", Object::Config))?),
        };
        let key = find_key(backend.as_ref(), password, monitor)?;
        let config = match sealed {
            Some(sealed) => read_config(&key, &sealed),
            None => Err("it is not there".to_owned()),
        };
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
                config,
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
    match backend.get(Object::Config, MAX_OBJECT) {
        Err(backend::Error::NotFound) => {}
        Err(cause) => return Err(cause.on("reading", Object::Config)),
        Ok(_) => return Ok(Found::Repository),
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

/// Tries the key files in turn. A file that is none stops nobody: it is told and passed over. One whose
/// bytes are not those it is named after is tried last: what is wrong in it may be a date, and its own
/// authentication code tells whether the key in it is whole.
pub(super) fn find_key(
    backend: &dyn Backend,
    password: &Secret,
    monitor: &dyn Monitor,
) -> Result<Key> {
    let listing = backend
        .list(Class::Keys)
        .map_err(|cause| cause.on("listing", Class::Keys.folder()))?;
    report_strays(monitor, Class::Keys, &listing);
    let mut tried = 0;
    let mut doubtful = Vec::new();
    for (id, _) in listing.objects {
        let object = Object::Named(Class::Keys, id);
        let file = match read_key_file(backend, id) {
            Ok(file) => file,
            Err(cause) => {
                monitor.problem(left_out(&object, &cause));
                doubtful.push(object);
                continue;
            }
        };
        tried += 1;
        match file.unwrap_with(password) {
            Ok(key) => return Ok(key),
            Err(KeyFailure::WrongPassword) => {}
            Err(KeyFailure::Unusable(finding)) => monitor.problem(Problem {
                item: object.to_string(),
                finding,
                incomplete: false,
            }),
        }
        if tried == MAX_KEYS {
            break;
        }
    }
    let doubtful = doubtful.into_iter().take(MAX_KEYS);
    if let Some(key) = doubtful
        .filter_map(|object| backend.get(object, MAX_KEY_FILE).ok())
        .filter_map(|bytes| serde_json::from_slice::<KeyFile>(&bytes).ok())
        .find_map(|file| file.unwrap_with(password).ok())
    {
        return Ok(key);
    }
    if tried == 0 {
        return Err(Error::NoKey {
            location: backend.location(),
        });
    }
    Err(Error::WrongPassword {
        location: backend.location(),
        tried,
    })
}

/// Reads a key file and checks its hash and form.
pub(super) fn read_key_file(backend: &dyn Backend, id: Id) -> Result<KeyFile> {
    let object = Object::Named(Class::Keys, id);
    let damaged = |finding: String| Error::Damaged {
        object: object.to_string(),
        finding,
    };
    let bytes = backend
        .get(object, MAX_KEY_FILE)
        .map_err(|cause| cause.on("reading", object))?;
    if Id::of(&bytes) != id {
        return Err(damaged("its bytes are not those it is named after".into()));
    }
    serde_json::from_slice(&bytes).map_err(|cause| damaged(cause.to_string()))
}
