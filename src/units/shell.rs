//! Words as a shell takes them: what we tell people to type, and what cron is to run, does what we mean.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::is_plain;

/// A word as any POSIX shell takes it, dash and bash alike, whatever is in it, on one line. What a terminal would
/// obey, and what is no text, is written in octal for `printf`. So is each backslash: what cron makes of one
/// before a percent sign differs from cron to cron.
#[must_use]
pub fn quoted(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref();
    let is_bare = |letter: char| letter.is_alphanumeric() || "/._-:,+@%".contains(letter);
    match word.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(is_bare) => text.to_owned(),
        Some(text)
            if text
                .chars()
                .all(|letter| is_plain(letter) && letter != '\\') =>
        {
            in_quotes(text)
        }
        _ => printed(word.as_bytes()),
    }
}

/// Text on one line as a shell takes it, and as it can be read: in single quotes.
#[must_use]
pub fn in_quotes(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// What `printf` makes the word of. Line ends at the end are what `$(…)` drops: they follow as the third of
/// the letters that each shell begins with in `IFS`.
fn printed(word: &[u8]) -> String {
    let last = word.iter().rposition(|byte| *byte != b'\n');
    let (text, line_ends) = word.split_at(last.map_or(0, |last| last + 1));
    format!(
        "\"$(printf '{}'){}\"",
        as_format(text),
        "${IFS#??}".repeat(line_ends.len())
    )
}

/// A format for `printf`, inside single quotes. Octal, for it ends after three digits, whatever follows.
fn as_format(bytes: &[u8]) -> String {
    let mut text = String::new();
    for part in bytes.utf8_chunks() {
        for letter in part.valid().chars() {
            let is_octal = matches!(letter, '\'' | '\\') || !is_plain(letter);
            // A dash at the beginning would be a flag.
            if is_octal || (letter == '-' && text.is_empty()) {
                let mut bytes = [0; 4];
                text.extend(letter.encode_utf8(&mut bytes).bytes().map(octal));
            } else if letter == '%' {
                text.push_str("%%");
            } else {
                text.push(letter);
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
            (b"back\\slash", "\"$(printf 'back\\134slash')\""),
            (b"two\nlines'\\", "\"$(printf 'two\\012lines\\047\\134')\""),
            (b"-\n\n", "\"$(printf '\\055')${IFS#??}${IFS#??}\""),
            (b"caf\xe91", "\"$(printf 'caf\\3511')\""),
            (b"100%\xe9", "\"$(printf '100%%\\351')\""),
            (
                "T\u{f6}pfe\u{202e}".as_bytes(),
                "\"$(printf 'T\u{f6}pfe\\342\\200\\256')\"",
            ),
        ] {
            assert_eq!(super::quoted(OsStr::from_bytes(word)), quoted);
        }
    }
}
