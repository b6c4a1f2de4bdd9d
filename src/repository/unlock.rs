//! Which key file opens with the password. Whoever can write to the storage can put any number of key
//! files there: they must not keep the owner out.

use super::keys::{self, KeyFailure, KeyFile};
use super::{Problems, left_out, list};
use crate::backend::{Backend, Class, Object};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::monitor::{Monitor, Problem, go_on};
use crate::repository::crypto::Key;
use crate::secret::Secret;

/// Most work of all derivations together, in `N·r·p`: about 22 s. Of restic's own keys that is some 20.
const MAX_WORK: u64 = 1 << 26;
/// What any derivation takes at least, in the same unit: 20 µs.
const MIN_WORK: u64 = 64;

/// The master key, and the key file that gave it.
#[derive(Debug)]
pub(super) struct Opened {
    pub master: Key,
    pub file: InUse,
}

/// The key file that the repository was opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InUse {
    /// Its name.
    pub id: Id,
    /// The hash of its bytes: its name, unless it is damaged.
    pub content: Id,
}

impl Opened {
    /// With a key file that is what it is named after.
    pub const fn new(master: Key, id: Id) -> Self {
        let file = InUse { id, content: id };
        Self { master, file }
    }
}

/// Tries the key files: the cheapest first, for it is the dear ones that somebody would plant. A file
/// that is none stops nobody: it is told and passed over. One whose bytes are not those it is named after
/// is tried last: what is wrong in it may be a date, and its own authentication code tells whether the
/// key in it is whole.
pub(super) fn find_key(
    backend: &dyn Backend,
    password: &Secret,
    monitor: &dyn Monitor,
) -> Result<Opened> {
    let listing = list(backend, Class::Keys)?;
    let mut problems = Problems::new(monitor, Class::Keys);
    let mut candidates = Vec::new();
    // What nobody can derive costs nothing, and says why it cannot be.
    let cost = |file: &KeyFile| file.cost().work().unwrap_or(0).max(MIN_WORK);
    for (id, _) in listing.objects {
        go_on(monitor)?;
        match read_key_file(backend, id) {
            Ok(file) => candidates.push((false, cost(&file), id)),
            Err(cause) => {
                problems.tell(|| left_out(&Object::Named(Class::Keys, id), &cause));
                if let Ok(file) = read_doubtful(backend, id) {
                    candidates.push((true, cost(&file), id));
                }
            }
        }
    }
    candidates.sort_unstable();
    let sound = candidates.iter().filter(|(is_doubtful, ..)| !is_doubtful);
    let (mut tried, mut work, count) = (0, 0, sound.count());
    for (is_doubtful, costs, id) in candidates {
        work += costs;
        if work > MAX_WORK && tried > 0 {
            break;
        }
        go_on(monitor)?;
        tried += usize::from(!is_doubtful);
        // Read once more: very many are not kept.
        match open_key_file(backend, id, is_doubtful, password) {
            Ok(Ok(opened)) => return Ok(opened),
            Ok(Err(KeyFailure::Unusable(finding))) if !is_doubtful => problems.tell(|| Problem {
                item: Object::Named(Class::Keys, id).to_string(),
                finding,
                incomplete: false,
            }),
            Err(cause) if !is_doubtful => {
                problems.tell(|| left_out(&Object::Named(Class::Keys, id), &cause));
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
    if tried == 0 {
        return Err(Error::NoKey {
            location: backend.location(),
        });
    }
    Err(Error::WrongPassword {
        whose: "that was given".to_owned(),
        location: backend.location(),
        tried,
        left: count - tried,
    })
}

/// Reads a key file and opens it with the password; a doubtful one need not be what it is named after.
pub(super) fn open_key_file(
    backend: &dyn Backend,
    id: Id,
    is_doubtful: bool,
    password: &Secret,
) -> Result<std::result::Result<Opened, KeyFailure>> {
    let bytes = read_bytes(backend, id)?;
    let content = Id::of(&bytes);
    if content != id && !is_doubtful {
        return Err(misnamed(id));
    }
    let opened = parse(id, &bytes)?.unwrap_with(password);
    Ok(opened.map(|master| Opened {
        master,
        file: InUse { id, content },
    }))
}

/// Reads a key file, and checks that its bytes are those it is named after.
pub(super) fn read_key_file(backend: &dyn Backend, id: Id) -> Result<KeyFile> {
    let bytes = read_bytes(backend, id)?;
    if Id::of(&bytes) != id {
        return Err(misnamed(id));
    }
    parse(id, &bytes)
}

/// The same for one that is not what it is named after.
fn read_doubtful(backend: &dyn Backend, id: Id) -> Result<KeyFile> {
    parse(id, &read_bytes(backend, id)?)
}

fn read_bytes(backend: &dyn Backend, id: Id) -> Result<Vec<u8>> {
    let object = Object::Named(Class::Keys, id);
    let bytes = backend.get(object, keys::MAX_FILE);
    bytes.map_err(|cause| cause.on("reading", object))
}

fn parse(id: Id, bytes: &[u8]) -> Result<KeyFile> {
    serde_json::from_slice(bytes).map_err(|cause| damaged(id, cause.to_string()))
}

fn misnamed(id: Id) -> Error {
    damaged(id, "its bytes are not those it is named after".into())
}

fn damaged(id: Id, finding: String) -> Error {
    Error::Damaged {
        object: Object::Named(Class::Keys, id).to_string(),
        finding,
    }
}
