//! A file that has been cut, flipped and stirred is refused or read, and never more.

use std::path::Path;

use proptest::prelude::*;
use tillsafe::config::file::read;

use super::World;

const WHOLE: &str = include_str!("whole.toml");

/// What may be put into a file: what TOML is made of, and what it is not.
const PIECES: [&str; 24] = [
    "[",
    "]",
    "[[",
    "]]",
    "=",
    "\"",
    "\"\"\"",
    "'",
    ".",
    ",",
    "{",
    "}",
    "#",
    "\n",
    "\\u0000",
    "\\U0010ffff",
    "-1",
    "99999999999999999999",
    "1979-05-27",
    "inf",
    "true",
    "\u{202e}",
    "\u{feff}",
    "shop.mara.keep",
];

fn judge(world: &World, text: &str) {
    world.write(text);
    let lines = text.lines().count().max(1) + 1;
    // Whatever it is, it ends, and a finding has a line that is there.
    if let Ok(Err(findings)) = read(Path::new(&world.file)) {
        assert!(!findings.is_empty());
        for finding in findings {
            assert!((1..=lines).contains(&finding.line), "{finding:?}: {text}");
            assert!(finding.text.len() < 2000, "{finding:?}");
        }
    }
}

#[test]
fn the_whole_file_is_right() {
    let world = World::new();
    world.write(WHOLE);
    let read = read(&world.file).unwrap();
    assert!(read.is_ok(), "{read:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutilated_file_is_never_a_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0usize..40, prop::sample::select(&PIECES[..])), 1..6),
    ) {
        let world = World::new();
        let mut letters: Vec<char> = WHOLE.chars().collect();
        for (at, length, piece) in changes {
            let at = at.index(letters.len() + 1);
            let end = (at + length).min(letters.len());
            letters.splice(at..end, piece.chars());
        }
        judge(&world, &letters.into_iter().collect::<String>());
    }

    #[test]
    fn nor_is_one_whose_lines_stand_in_another_order(seed in prop::collection::vec(any::<prop::sample::Index>(), 1..30)) {
        let world = World::new();
        let mut lines: Vec<&str> = WHOLE.lines().collect();
        for at in seed {
            let line = lines.remove(at.index(lines.len()));
            lines.insert(at.index(lines.len() + 1) / 2, line);
        }
        judge(&world, &lines.join("\n"));
    }
}
