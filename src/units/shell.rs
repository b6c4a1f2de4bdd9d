//! Words as a shell takes them: what we tell people to type does what we mean.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::is_plain;

/// A word as a shell takes it, whatever is in it: what a terminal would obey, and what is no text, is written
/// as `$'…'` has it (bash, zsh, ksh, POSIX of 2024).
#[must_use]
pub fn quoted(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref();
    let is_bare = |letter: char| letter.is_alphanumeric() || "/._-:,+@%".contains(letter);
    match word.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(is_bare) => text.to_owned(),
        Some(text) if text.chars().all(is_plain) => format!("'{}'", text.replace('\'', "'\\''")),
        _ => format!("$'{}'", in_octal(word)),
    }
}

/// The inside of a `$'…'`. Octal, for it ends after three digits, whatever follows.
fn in_octal(word: &OsStr) -> String {
    let mut text = String::new();
    for part in word.as_bytes().utf8_chunks() {
        for letter in part.valid().chars() {
            if matches!(letter, '\'' | '\\') {
                text.extend(['\\', letter]);
            } else if is_plain(letter) {
                text.push(letter);
            } else {
                let mut bytes = [0; 4];
                text.extend(letter.encode_utf8(&mut bytes).bytes().map(octal));
            }
        }
        text.extend(part.invalid().iter().copied().map(octal));
    }
    text
}

fn octal(byte: u8) -> String {
    format!("\\{byte:03o}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_where_it_must_be() {
        for (word, quoted) in [
            (&b"/srv/shop"[..], "/srv/shop"),
            (b"", "''"),
            (b"Mara's pots", "'Mara'\\''s pots'"),
            (b"back\\slash", "'back\\slash'"),
            (b"two\nlines'\\", "$'two\\012lines\\'\\\\'"),
            (b"caf\xe91", "$'caf\\3511'"),
            (
                "T\u{f6}pfe\u{202e}".as_bytes(),
                "$'T\u{f6}pfe\\342\\200\\256'",
            ),
        ] {
            assert_eq!(super::quoted(OsStr::from_bytes(word)), quoted);
        }
    }
}
