//! Sizes, durations and names as people read them.

mod shell;

use std::fmt::{self, Write};
use std::time::Duration;

pub use shell::{in_quotes, quoted};

/// A number of bytes, printed with a binary unit: `1.04 GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    #[allow(clippy::cast_precision_loss, reason = "three digits are printed")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        let digits = if value < 10.0 {
            2
        } else {
            usize::from(value < 100.0)
        };
        f.pad(&format!("{value:.digits$} {}", UNITS[unit]))
    }
}

/// A duration, printed with at most two units: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
#[derive(Debug, Clone, Copy)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let text = match seconds {
            0..=9 => format!("{:.1} s", self.0.as_secs_f64()),
            10..=59 => format!("{seconds} s"),
            60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
            _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        };
        f.pad(&text)
    }
}

/// A span as it is typed: a number and a unit.
///
/// # Errors
/// What to give instead.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    const WRONG: &str = "give a number and a unit: 30s, 15m, 2h, 1d";
    let at = text.len().saturating_sub(1);
    let (number, unit) = text.split_at_checked(at).ok_or(WRONG)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(WRONG),
    };
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(WRONG);
    }
    let number: u64 = number.parse().map_err(|_| WRONG)?;
    let seconds = number.checked_mul(seconds).ok_or(WRONG)?;
    Ok(Duration::from_secs(seconds))
}

/// A size as it is typed: a number of bytes, or of their binary multiples.
///
/// # Errors
/// What to give instead.
pub fn size(text: &str) -> Result<u64, &'static str> {
    const WRONG: &str = "give a number of bytes, or with a unit: 500K, 100M, 2G, 1T";
    let (number, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        Some(b't' | b'T') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(WRONG);
    }
    let number: u64 = number.parse().map_err(|_| WRONG)?;
    number.checked_mul(1 << shift).ok_or(WRONG)
}

/// A number of things: `1 file`, `2 files`. Only for nouns whose plural ends in `s`.
#[must_use]
pub fn counted(number: u64, noun: &str) -> String {
    let plural = match number {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{number} {noun}{plural}")
}

/// A name from somebody's disk, made safe to print: control characters, quotes and bytes that are
/// not UTF-8 come out escaped, so that a terminal shows the name and obeys nothing in it.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escaped(self.0, |character| {
            character != '\\' && is_plain(character)
        }))
    }
}

/// A message that may quote what somebody else has written. Its own lines and tabs stay, and so do
/// backslashes: what it quotes with [`Shown`] is not quoted twice. All else that a terminal would obey comes
/// out escaped.
#[derive(Debug, Clone, Copy)]
pub struct Plain<'a>(pub &'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escaped(self.0.as_bytes(), |character| {
            matches!(character, '\n' | '\t') || is_plain(character)
        }))
    }
}

/// What was found, as part of a line of ours: as [`Plain`], and a line end in it ends no line.
#[derive(Debug, Clone, Copy)]
pub struct OneLine<'a>(pub &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escaped(self.0.as_bytes(), is_plain))
    }
}

/// The same text, with all characters escaped that are not `kept`, and all bytes that are no text.
fn escaped(bytes: &[u8], kept: impl Fn(char) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for part in bytes.utf8_chunks() {
        for character in part.valid().chars() {
            if kept(character) {
                text.push(character);
            } else {
                text.extend(character.escape_default());
            }
        }
        for byte in part.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Whether a terminal shows `character` as itself: no control, nothing that turns the direction of
/// writing, nothing that cannot be seen at all.
#[must_use]
pub fn is_plain(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Shows a path; see [`Shown`].
#[must_use]
pub fn shown(path: &std::path::Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    Shown(path.as_os_str().as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (15 * 1024 * 1024, "15.0 MiB"),
            (1_117_000_000, "1.04 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }

    #[test]
    fn a_span_has_a_unit() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("30m", 1800),
            ("2h", 7200),
            ("1d", 86_400),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in [
            "",
            "5",
            "m",
            "-1m",
            "1.5h",
            "5 m",
            "+5m",
            "99999999999999999999d",
            "9999999999999999d",
            "5é",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_is_one_and_all_else_is_many() {
        assert_eq!(counted(1, "file"), "1 file");
        assert_eq!(counted(0, "file"), "0 files");
        assert_eq!(counted(20, "file"), "20 files");
        assert_eq!(counted(2, "process"), "2 processes");
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in [
            (0.44, "0.4 s"),
            (12.3, "12 s"),
            (200.0, "3 min 20 s"),
            (7500.0, "2 h 5 min"),
        ] {
            assert_eq!(Span(Duration::from_secs_f64(seconds)).to_string(), text);
        }
    }

    #[test]
    fn a_hostile_name_cannot_speak_to_the_terminal() {
        assert_eq!(
            Shown(b"a\x1b[2Jb\xffc\n\\").to_string(),
            "a\\u{1b}[2Jb\\xffc\\n\\\\"
        );
        assert_eq!(
            Shown("\u{202e}gnp.exe".as_bytes()).to_string(),
            "\\u{202e}gnp.exe"
        );
        assert_eq!(
            Shown("Töpferei Mara".as_bytes()).to_string(),
            "Töpferei Mara"
        );
        assert_eq!(
            Shown("a\u{9b}2J\u{e0041}".as_bytes()).to_string(),
            "a\\u{9b}2J\\u{e0041}"
        );
    }

    #[test]
    fn a_message_keeps_its_lines_and_what_it_has_quoted() {
        let quoted = Shown(b"a\nb\\").to_string();
        let message = format!("error: {quoted}\n\tsafe: \u{1b}[2J\r\u{202e}");
        assert_eq!(
            Plain(&message).to_string(),
            "error: a\\nb\\\\\n\tsafe: \\u{1b}[2J\\r\\u{202e}"
        );
        assert_eq!(OneLine("a\nb\\\t").to_string(), "a\\nb\\\\t");
    }
}
