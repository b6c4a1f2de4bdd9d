//! Which known word a mistyped one may mean.

/// The known word that is at most two keystrokes away, and no more than a third of its length.
#[must_use]
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    /// Longer than any word that we know: not worth the comparison.
    const MAX_LETTERS: usize = 40;
    if word.len() > MAX_LETTERS {
        return None;
    }
    let distance = |known: &&str| distance(word, known);
    known
        .iter()
        .map(|known| (distance(known), *known))
        .filter(|(distance, known)| *distance <= 2 && distance * 3 <= known.len())
        .min()
        .map(|(_, known)| known)
}

/// How many letters must be put in, taken away, exchanged or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1)
                .min(row[j - 1] + 1)
                .min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_finger_is_understood_and_another_word_is_not() {
        let known = ["location", "password_file", "password_command", "run"];
        for (word, meant) in [
            ("locaton", Some("location")),
            ("loaction", Some("location")),
            ("passwordfile", Some("password_file")),
            ("password_flie", Some("password_file")),
            ("rnu", Some("run")),
            ("path", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, &known), meant, "{word}");
        }
        assert_eq!(nearest(&"location".repeat(1000), &known), None);
    }
}
