//! One part of a pattern, between two slashes, and the names that it fits: as Go's `filepath.Match`
//! has it, which is what restic uses, so that one list of patterns leaves out the same files in both.
//!
//! `*` any bytes, `?` one letter, `[a-z]` one of these, `[^a-z]` none of these, a backslash takes the
//! meaning from what follows. Braces mean nothing. A byte that is no UTF-8 counts as one letter.

/// What a part asks for, from left to right.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// Any bytes, or none.
    Star,
    /// One letter.
    Any,
    /// This letter's bytes.
    Plain(Vec<u8>),
    /// One letter that lies in one of the ranges, or in none of them.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// A part with wildcards in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    tokens: Vec<Token>,
}

/// Whether a part is more than a name: only then it must be read.
pub fn has_wildcard(part: &str) -> bool {
    part.contains(['*', '?', '[', ']', '\\'])
}

impl Component {
    /// Reads a part.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(part: &str) -> Result<Self, &'static str> {
        let mut tokens = Vec::new();
        let mut letters = part.chars();
        while let Some(letter) = letters.next() {
            let token = match letter {
                '*' if tokens.last() == Some(&Token::Star) => continue,
                '*' => Token::Star,
                '?' => Token::Any,
                '[' => class(&mut letters)?,
                '\\' => plain(
                    letters
                        .next()
                        .ok_or("ends in a backslash, which takes the meaning from nothing")?,
                ),
                other => plain(other),
            };
            tokens.push(token);
        }
        Ok(Self { tokens })
    }

    /// The one name that it fits, if nothing in it has a meaning of its own.
    pub fn only_name(&self) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        for token in &self.tokens {
            match token {
                Token::Plain(bytes) => name.extend(bytes),
                Token::Class {
                    negated: false,
                    ranges,
                } => match ranges.as_slice() {
                    [(low, high)] if low == high => {
                        name.extend(low.encode_utf8(&mut [0; 4]).bytes());
                    }
                    _ => return None,
                },
                _ => return None,
            }
        }
        Some(name)
    }

    /// Whether all of a name fits. Costs at most as many steps as the name has bytes, times the length of
    /// the part: when something does not fit, only the last star takes one byte more.
    pub fn fits(&self, name: &[u8]) -> bool {
        let (mut at, mut token) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        loop {
            match self.tokens.get(token) {
                Some(Token::Star) => {
                    token += 1;
                    star = Some((token, at));
                    continue;
                }
                None if at == name.len() => return true,
                Some(wanted) => {
                    if let Some(length) = wanted.takes(&name[at..]) {
                        at += length;
                        token += 1;
                        continue;
                    }
                }
                None => {}
            }
            match star {
                Some((after, from)) if from < name.len() => {
                    star = Some((after, from + 1));
                    (token, at) = (after, from + 1);
                }
                _ => return false,
            }
        }
    }
}

impl Token {
    /// How many bytes it takes from the front of what is left of a name.
    fn takes(&self, rest: &[u8]) -> Option<usize> {
        match self {
            Self::Plain(bytes) => rest.starts_with(bytes).then_some(bytes.len()),
            Self::Any => first(rest).map(|(_, length)| length),
            Self::Class { negated, ranges } => {
                let (letter, length) = first(rest)?;
                let is_in = ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&letter));
                (is_in != *negated).then_some(length)
            }
            Self::Star => Some(0),
        }
    }
}

fn plain(letter: char) -> Token {
    Token::Plain(letter.to_string().into_bytes())
}

/// The first letter of a name, and its length in bytes. What is no UTF-8 is one byte long.
fn first(name: &[u8]) -> Option<(char, usize)> {
    /// Longest letter in UTF-8, in bytes.
    const LONGEST: usize = 4;
    let head = &name[..name.len().min(LONGEST)];
    let chunk = head.utf8_chunks().next()?;
    Some(
        chunk
            .valid()
            .chars()
            .next()
            .map_or((char::REPLACEMENT_CHARACTER, 1), |letter| {
                (letter, letter.len_utf8())
            }),
    )
}

/// Reads what stands between `[` and `]`.
fn class(letters: &mut std::str::Chars<'_>) -> Result<Token, &'static str> {
    let mut ahead = letters.clone();
    let negated = match ahead.next() {
        // A shell's, and .gitignore's; restic and Go would take it for one of the letters.
        Some('!') => {
            return Err(
                "has `[!`, which restic takes for an exclamation mark: write `[^` for none of these letters, `[\\!` for the mark itself",
            );
        }
        Some('^') => {
            *letters = ahead;
            true
        }
        _ => false,
    };
    let mut ranges = Vec::new();
    loop {
        let low = match letters.next() {
            Some(']') if !ranges.is_empty() => return Ok(Token::Class { negated, ranges }),
            other => end_of_range(other, letters)?,
        };
        let mut ahead = letters.clone();
        let high = if ahead.next() == Some('-') {
            *letters = ahead;
            let high = letters.next();
            end_of_range(high, letters)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

fn end_of_range(
    letter: Option<char>,
    letters: &mut std::str::Chars<'_>,
) -> Result<char, &'static str> {
    const WRONG: &str = "has a `[` that no `]` closes, or nothing sound between them: write `[a-z]`, and a backslash before a letter that is meant as it stands";
    match letter {
        None | Some(']' | '-') => Err(WRONG),
        Some('\\') => letters.next().ok_or(WRONG),
        Some(letter) => Ok(letter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Go 1.26 answers.
    #[test]
    fn names_fit_as_they_do_in_go() {
        for (part, yes, no) in [
            (
                "*.log",
                &["a.log", ".log", "a.b.log"][..],
                &["a.logs", "log"][..],
            ),
            ("a?c", &["abc", "a\u{e9}c"], &["ac", "abbc"]),
            ("*?", &["a", "\u{e9}"], &[""]),
            ("[a-cx]*", &["a", "cz", "x"], &["d", "-"]),
            ("[^a-c]", &["d", "\u{e9}", "^"], &["a", "", "dd"]),
            ("[\\]]", &["]"], &["\\"]),
            ("[\\-x]", &["-", "x"], &["y"]),
            ("a\\*b", &["a*b"], &["axb", "a\\*b"]),
            ("{a,b}", &["{a,b}"], &["a", "b"]),
            ("[z-a]", &[], &["a", "z", "m"]),
            ("a**b", &["ab", "axxb"], &["a"]),
            ("*a*b*", &["ab", "xaxbx", "aab"], &["ba", "a"]),
            ("[\u{e4}-\u{fc}]x", &["\u{f6}x"], &["ox"]),
        ] {
            let component = Component::parse(part).unwrap();
            for name in yes {
                assert!(component.fits(name.as_bytes()), "{part} {name}");
            }
            for name in no {
                assert!(!component.fits(name.as_bytes()), "{part} {name}");
            }
        }
        let fits = |part: &str, name: &[u8]| Component::parse(part).unwrap().fits(name);
        assert!(fits("caf?", b"caf\xe9") && fits("caf[^a]", b"caf\xe9") && fits("*", b"\xff"));
    }

    #[test]
    fn what_go_does_not_take_is_refused() {
        for part in ["[", "[a", "[]", "[^]", "[a-]", "[-a]", "x\\", "[\\", "[!a]"] {
            assert!(Component::parse(part).is_err(), "{part}");
        }
    }

    #[test]
    fn a_hostile_part_costs_no_more_than_its_length_times_the_names() {
        let part = "a*".repeat(120) + "b";
        let component = Component::parse(&part).unwrap();
        assert!(!component.fits("a".repeat(255).as_bytes()));
    }
}
