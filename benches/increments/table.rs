//! The figures as a Markdown table.

use crate::measure::Figures;

const MIB: u64 = 1024 * 1024;

/// Prints one row a way.
pub fn print(rows: &[(String, Figures)]) {
    let days = rows
        .first()
        .map_or(0, |(_, figures)| figures.sizes.len().saturating_sub(1));
    let each: String = (1..=days).map(|day| format!(" day {day} |")).collect();
    println!(
        "\nSizes in MiB, times in seconds (medians).\n\n| way | full |{each} of it trees and index, full / last day | blobs | tree JSON, KiB | backup full | backup day | restore and prove | restore by restic |"
    );
    println!("|---|{}", "---:|".repeat(days + 8));
    for (name, figures) in rows {
        print_row(name, figures);
    }
}

fn print_row(name: &str, figures: &Figures) {
    let first = figures.sizes.first().copied().unwrap_or_default();
    let last = figures.sizes.last().copied().unwrap_or_default();
    let steps = || figures.sizes.windows(2).map(|pair| (pair[0], pair[1]));
    let grown: String = steps()
        .map(|(before, after)| format!(" {} |", mib(after.bytes - before.bytes)))
        .collect();
    let (metadata, blobs) = match (last.blobs, steps().last()) {
        (1.., Some((before, after))) => (
            format!(
                "{} / {}",
                mib(first.metadata_bytes),
                mib(after.metadata_bytes - before.metadata_bytes)
            ),
            last.blobs.to_string(),
        ),
        _ => ("–".to_owned(), "–".to_owned()),
    };
    let tree = figures
        .tree_bytes
        .map_or("–".to_owned(), |bytes| bytes.div_ceil(1024).to_string());
    println!(
        "| {name} | {} |{grown} {metadata} | {blobs} | {tree} | {} | {} | {} | {} |",
        mib(first.bytes),
        median(&figures.full_seconds),
        median(&figures.day_seconds),
        median(&figures.restore_seconds),
        median(&figures.restic_seconds),
    );
}

/// Whole tenths of a MiB.
fn mib(bytes: u64) -> String {
    let tenths = bytes * 10 / MIB;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Hundredths of a percent.
pub fn percent(part: u64, whole: u64) -> String {
    let hundredths = part * 10_000 / whole.max(1);
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

fn median(seconds: &[f64]) -> String {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
        .get(sorted.len() / 2)
        .map_or("–".to_owned(), |middle| format!("{middle:.1}"))
}
