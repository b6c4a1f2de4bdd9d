//! File names in trees: quoted as Go's `strconv.Quote` does, so that every byte survives JSON.

use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// Quotes a name, without the outer quotes.
#[must_use]
pub fn quote(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for part in name.utf8_chunks() {
        for character in part.valid().chars() {
            quote_character(&mut text, character);
        }
        for byte in part.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

// Writing to a String cannot fail, so the results of `write!` are dropped here.
fn quote_character(text: &mut String, character: char) {
    let code = u32::from(character);
    match character {
        '"' => text.push_str("\\\""),
        '\\' => text.push_str("\\\\"),
        '\u{7}' => text.push_str("\\a"),
        '\u{8}' => text.push_str("\\b"),
        '\u{c}' => text.push_str("\\f"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        '\u{b}' => text.push_str("\\v"),
        _ if is_printable(character) => text.push(character),
        '\0'..='\u{7f}' => drop(write!(text, "\\x{code:02x}")),
        _ if code < 0x1_0000 => drop(write!(text, "\\u{code:04x}")),
        _ => drop(write!(text, "\\U{code:08x}")),
    }
}

/// Go's `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols, and the ASCII space.
fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return (' '..='~').contains(&character);
    }
    matches!(
        character.general_category_group(),
        GeneralCategoryGroup::Letter
            | GeneralCategoryGroup::Mark
            | GeneralCategoryGroup::Number
            | GeneralCategoryGroup::Punctuation
            | GeneralCategoryGroup::Symbol
    )
}

/// Reads a quoted path back; `None` if it is not one.
#[must_use]
pub fn unquote_path(text: &str) -> Option<PathBuf> {
    unquote(text).map(|bytes| OsString::from_vec(bytes).into())
}

/// Reads a quoted name back; `None` if it is not one.
#[must_use]
pub fn unquote(text: &str) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            name.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match rest.next()? {
            'a' => name.push(7),
            'b' => name.push(8),
            'f' => name.push(12),
            'n' => name.push(b'\n'),
            'r' => name.push(b'\r'),
            't' => name.push(b'\t'),
            'v' => name.push(11),
            same @ ('\\' | '"' | '\'' | '`') => name.push(u8::try_from(same).ok()?),
            'x' => name.push(u8::try_from(digits(&mut rest, 2, 16, 0)?).ok()?),
            'u' => push_code(&mut name, digits(&mut rest, 4, 16, 0)?)?,
            'U' => push_code(&mut name, digits(&mut rest, 8, 16, 0)?)?,
            first @ '0'..='7' => {
                name.push(u8::try_from(digits(&mut rest, 2, 8, first.to_digit(8)?)?).ok()?);
            }
            _ => return None,
        }
    }
    Some(name)
}

fn digits(rest: &mut std::str::Chars<'_>, count: usize, radix: u32, begin: u32) -> Option<u32> {
    let mut value = begin;
    for _ in 0..count {
        value = value.checked_mul(radix)? + rest.next()?.to_digit(radix)?;
    }
    Some(value)
}

fn push_code(name: &mut Vec<u8>, code: u32) -> Option<()> {
    name.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_quoted_as_go_does() {
        for (name, expected) in [
            (&b"a\"b"[..], "a\\\"b"),
            (b"a\\b", "a\\\\b"),
            (b"\n\x07\x0b\x01\x7f", "\\n\\a\\v\\x01\\x7f"),
            (b"\xff", "\\xff"),
            (b"<&>'`", "<&>'`"),
            ("\u{a0}".as_bytes(), "\\u00a0"),
            ("é".as_bytes(), "é"),
            ("\u{200d}\u{ad}\u{feff}".as_bytes(), "\\u200d\\u00ad\\ufeff"),
            ("\u{2028}".as_bytes(), "\\u2028"),
            ("\u{e000}\u{378}".as_bytes(), "\\ue000\\u0378"),
            ("\u{e0001}".as_bytes(), "\\U000e0001"),
            ("\u{fffd}".as_bytes(), "\u{fffd}"),
            ("🏺".as_bytes(), "🏺"),
            (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
        ] {
            assert_eq!(quote(name), expected);
            assert_eq!(unquote(expected).unwrap(), name);
        }
    }

    #[test]
    fn what_is_no_quoted_name_is_refused() {
        for text in [
            "\\",
            "\\x1",
            "\\xg0",
            "\\u12",
            "\\ud800",
            "\\U00110000",
            "\\9",
            "\\777",
        ] {
            assert_eq!(unquote(text), None, "{text}");
        }
        assert_eq!(unquote("\\101").unwrap(), b"A");
    }

    proptest! {
        #[test]
        fn every_name_survives(name in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(unquote(&quote(&name)), Some(name));
        }
    }
}
