//! The figures as a Markdown table.

use crate::library::Size;
use crate::measure::Figures;

const MIB: u64 = 1024 * 1024;

/// Prints one row a way.
pub fn print(rows: &[(String, Figures)]) {
    let days = rows
        .first()
        .map_or(0, |(_, figures)| figures.sizes.len().saturating_sub(2));
    let each: Vec<String> = (1..=days).map(|day| format!("day {day}")).collect();
    println!(
        "\nSizes in MiB, times in seconds (medians).\n\n| way | full | {} | hour | of it trees and index, full / day / hour | blobs | tree JSON, KiB | backup full | day | hour | restore and prove | restore by restic |",
        each.join(" | ")
    );
    println!("|---|{}", "---:|".repeat(days + 10));
    for (name, figures) in rows {
        print_row(name, figures);
    }
}

fn print_row(name: &str, figures: &Figures) {
    let (Some(first), Some(last)) = (figures.sizes.first(), figures.sizes.last()) else {
        return;
    };
    // What each backup added.
    let added = |bytes: fn(&Size) -> u64| -> Vec<String> {
        let later = figures.sizes.windows(2);
        std::iter::once(bytes(first))
            .chain(later.map(|pair| bytes(&pair[1]) - bytes(&pair[0])))
            .map(mib)
            .collect()
    };
    let metadata = added(|size| size.metadata_bytes);
    let (metadata, blobs) = match metadata.as_slice() {
        [full, .., day, hour] if last.blobs > 0 => {
            (format!("{full} / {day} / {hour}"), last.blobs.to_string())
        }
        _ => (unknown(), unknown()),
    };
    println!(
        "| {name} | {} | {metadata} | {blobs} | {} | {} | {} | {} | {} | {} |",
        added(|size| size.bytes).join(" | "),
        figures
            .tree_bytes
            .map_or_else(unknown, |bytes| bytes.div_ceil(1024).to_string()),
        median(&figures.full_seconds),
        median(&figures.day_seconds),
        median(&figures.hour_seconds),
        median(&figures.restore_seconds),
        median(&figures.restic_seconds),
    );
}

fn unknown() -> String {
    "–".to_owned()
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
        .map_or_else(unknown, |middle| format!("{middle:.1}"))
}
