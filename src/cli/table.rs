//! Rows under a head, each column as wide as its longest cell.

use super::output::Output;
use crate::units::Shown;

/// Prints `rows` under `head`.
pub fn print<const COLUMNS: usize>(
    output: &Output,
    head: [&str; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
) {
    let mut rows = rows;
    rows.insert(0, head.map(str::to_owned));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..COLUMNS)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        output.line(cells.join("  ").trim_end());
    }
}

/// Text of the repository as a table shows it. Its length is in nobody's hands, and all rows of a column
/// are as long as the longest: `--json` has the whole.
pub fn cell(text: &str) -> String {
    const MOST: usize = 1000;
    let cut = text
        .char_indices()
        .nth(MOST)
        .map_or(text, |(at, _)| &text[..at]);
    let mark = if cut.len() < text.len() { " …" } else { "" };
    format!("{}{mark}", Shown(cut.as_bytes()))
}
