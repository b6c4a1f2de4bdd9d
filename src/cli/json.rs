//! JSON that a terminal shows and does not obey.

use std::borrow::Cow;
use std::fmt::Write;

use crate::units::is_plain;

/// The same JSON, without a character in it that has power over a terminal. JSON itself asks only for the
/// escape of those below a blank; beyond ASCII there are more.
pub fn powerless(json: &str) -> Cow<'_, str> {
    let stays = |character: char| character == '\n' || is_plain(character);
    if json.chars().all(stays) {
        return json.into();
    }
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if stays(character) {
            text.push(character);
            continue;
        }
        let mut units = [0; 2];
        for unit in character.encode_utf16(&mut units) {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\u{unit:04x}");
        }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn json_on_a_terminal_is_the_same_json_without_power() {
        let value = json!({"a\u{1b}[2J": "b\u{202e}\u{9b}\u{7f}ö\\\"\u{e0001}"});
        for json in [format!("{value:#}"), value.to_string()] {
            let text = powerless(&json);
            assert!(
                text.chars()
                    .all(|letter| letter == '\n' || is_plain(letter))
            );
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
        assert!(matches!(powerless("{\"a\": \"ö\"}\n"), Cow::Borrowed(_)));
    }
}
