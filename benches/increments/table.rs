//! The figures as a Markdown table.

use crate::library::Size;
use crate::measure::{Figures, Seconds};

const MIB: u64 = 1024 * 1024;

/// Prints what stands above the rows.
pub fn print_head(days: u64) {
    let each: Vec<String> = (1..=days).map(|day| format!("day {day}")).collect();
    println!(
        "\nSizes in MiB. Times in seconds: on the clock / of the processors; medians.\n\n| way | full | {} | hour | of it trees and index, full / day / hour | blobs | tree JSON, KiB | backup full | day | hour | restore and prove | restore by restic |",
        each.join(" | ")
    );
    println!("|---|{}", "---:|".repeat(each.len() + 10));
}

/// Prints the row of one way.
pub fn print_row(name: &str, figures: &Figures) {
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

fn median(times: &[Seconds]) -> String {
    let middle = |part: fn(&Seconds) -> f64| {
        let mut sorted: Vec<f64> = times.iter().map(part).collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    };
    match (
        middle(|seconds| seconds.wall),
        middle(|seconds| seconds.processor),
    ) {
        (Some(wall), Some(processor)) => format!("{wall:.1} / {processor:.1}"),
        _ => unknown(),
    }
}
