//! Which key file opens with the password. Whoever can write to the storage can put any number of key
//! files there: they must not keep the owner out.

use super::keys::{self, KeyFailure, KeyFile};
use super::{Problems, left_out, report_strays};
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

/// Tries the key files: the cheapest first, for it is the dear ones that somebody would plant. A file
/// that is none stops nobody: it is told and passed over. One whose bytes are not those it is named after
/// is tried last: what is wrong in it may be a date, and its own authentication code tells whether the
/// key in it is whole.
pub(super) fn find_key(
    backend: &dyn Backend,
    password: &Secret,
    monitor: &dyn Monitor,
) -> Result<Key> {
    let listing = backend
        .list(Class::Keys)
        .map_err(|cause| cause.on("listing", Class::Keys.folder()))?;
    report_strays(monitor, Class::Keys, &listing);
    let mut problems = Problems::new(monitor, Class::Keys);
    let mut candidates = Vec::new();
    // What nobody can derive costs nothing, and says why it cannot be.
    let cost = |file: &KeyFile| file.work().unwrap_or(0).max(MIN_WORK);
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
        // Read once more: very many are not kept.
        if is_doubtful {
            match read_doubtful(backend, id).map(|file| file.unwrap_with(password)) {
                Ok(Ok(key)) => return Ok(key),
                _ => continue,
            }
        }
        tried += 1;
        match read_key_file(backend, id).map(|file| file.unwrap_with(password)) {
            Ok(Ok(key)) => return Ok(key),
            Ok(Err(KeyFailure::WrongPassword)) => {}
            Ok(Err(KeyFailure::Unusable(finding))) => problems.tell(|| Problem {
                item: Object::Named(Class::Keys, id).to_string(),
                finding,
                incomplete: false,
            }),
            Err(cause) => problems.tell(|| left_out(&Object::Named(Class::Keys, id), &cause)),
        }
    }
    if tried == 0 {
        return Err(Error::NoKey {
            location: backend.location(),
        });
    }
    Err(Error::WrongPassword {
        location: backend.location(),
        tried,
        left: count - tried,
    })
}

/// Reads a key file, and checks that its bytes are those it is named after.
pub(super) fn read_key_file(backend: &dyn Backend, id: Id) -> Result<KeyFile> {
    let bytes = read_bytes(backend, id)?;
    if Id::of(&bytes) != id {
        return Err(damaged(
            id,
            "its bytes are not those it is named after".into(),
        ));
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

fn damaged(id: Id, finding: String) -> Error {
    Error::Damaged {
        object: Object::Named(Class::Keys, id).to_string(),
        finding,
    }
}
