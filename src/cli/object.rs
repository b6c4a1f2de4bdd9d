//! Which object is meant by the first digits of its id.

use crate::error::{Error, Result};
use crate::id::Id;

/// Fewest digits that name an object.
const MIN_DIGITS: usize = 4;

/// The one of `ids` that begins with `digits`.
///
/// # Errors
/// [`Error::NoSuchObject`]; [`Error::Usage`] if there are too few digits, or several ids fit.
pub fn resolve(kind: &str, digits: &str, ids: impl Iterator<Item = Id>) -> Result<Id> {
    let usage = |finding: String| Error::Usage {
        finding,
        next: format!("type more digits of the id (at least {MIN_DIGITS}), or all 64"),
    };
    if digits.len() < MIN_DIGITS {
        return Err(usage(format!("{digits:?} is too short for an id")));
    }
    let whole: std::result::Result<Id, _> = digits.parse();
    let fits = |id: &Id| match whole {
        Ok(whole) => whole == *id,
        Err(_) => id.to_string().starts_with(digits),
    };
    let mut found: Vec<Id> = ids.filter(fits).collect();
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [id] => Ok(*id),
        [] => Err(Error::NoSuchObject {
            object: format!("{kind} {digits:?}"),
        }),
        several => Err(usage(format!(
            "{} objects of the kind {kind} begin with {digits}",
            several.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_digits_name_one_object_or_none() {
        let ids = [b"1", b"2", b"3"].map(|text| Id::of(text));
        let resolve = |digits: &str| resolve("pack", digits, ids.into_iter().chain(ids));
        let text = ids[1].to_string();
        for digits in [&text[..4], &text[..20], &text] {
            assert_eq!(resolve(digits).unwrap(), ids[1]);
        }
        assert!(matches!(resolve(&text[..3]), Err(Error::Usage { .. })));
        assert!(matches!(resolve(""), Err(Error::Usage { .. })));
        let absent = Id::of(b"4").to_string();
        assert!(matches!(resolve(&absent), Err(Error::NoSuchObject { .. })));
        assert!(matches!(resolve("zzzz"), Err(Error::NoSuchObject { .. })));
    }
}
