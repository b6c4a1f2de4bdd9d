//! JSON strings as Go writes them. restic compares trees byte for byte after writing them anew, so
//! this escaping is part of the format.

use std::fmt::Write;

/// Appends `bytes` as a JSON string, quotes included. Each byte that is not UTF-8 becomes U+FFFD.
pub fn push_string(text: &mut String, bytes: &[u8]) {
    text.push('"');
    for part in bytes.utf8_chunks() {
        for character in part.valid().chars() {
            push_character(text, character);
        }
        for _ in part.invalid() {
            text.push_str("\\ufffd");
        }
    }
    text.push('"');
}

fn push_character(text: &mut String, character: char) {
    match character {
        '"' => text.push_str("\\\""),
        '\\' => text.push_str("\\\\"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        '\u{8}' => text.push_str("\\b"),
        '\u{c}' => text.push_str("\\f"),
        // Go keeps JSON safe inside HTML and JavaScript.
        '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\u{:04x}", u32::from(character));
        }
        _ => text.push(character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_does() {
        for (bytes, expected) in [
            (&b"plain"[..], "\"plain\""),
            (b"<&>", "\"\\u003c\\u0026\\u003e\""),
            (b"a\"b\\", "\"a\\\"b\\\\\""),
            (b"\n\r\t\x01", "\"\\n\\r\\t\\u0001\""),
            ("é\u{2028}".as_bytes(), "\"é\\u2028\""),
            (b"\xff\xfe", "\"\\ufffd\\ufffd\""),
            ("\u{fffd}".as_bytes(), "\"\u{fffd}\""),
            ("\u{7f}".as_bytes(), "\"\u{7f}\""),
        ] {
            let mut text = String::new();
            push_string(&mut text, bytes);
            assert_eq!(text, expected);
        }
    }
}
