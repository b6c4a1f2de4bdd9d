//! What is printed, without what differs from run to run.

/// A line as it is compared: runs of blanks are one, words with digits are alike, rules of any length too.
pub fn shape(line: &str) -> String {
    let words = line.split_whitespace().map(|word| {
        if word.contains(|letter: char| letter.is_ascii_digit()) {
            "#"
        } else if word.trim_matches('-').is_empty() {
            "-"
        } else {
            word
        }
    });
    words.collect::<Vec<_>>().join(" ")
}
