//! What it costs to store a database again after a day of trading, one way and another
//! (docs/design/increments.md).
//!
//! `cargo bench --locked --bench increments -- --size-mib 1024 --days 3 --runs 3 --seed 7 --only log`
//!
//! Each way stores the same images through the library's own writer into a repository of its own, and
//! the newest image is restored and compared with its source. Times are medians.
#![allow(
    clippy::disallowed_methods,
    reason = "a bench makes and breaks files as it likes"
)]

mod library;
mod measure;
mod pair;
mod restic;
mod shop;
mod table;
mod wal;
mod ways;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rusqlite::Connection;
use tillsafe::id::{Hasher, Id};

use shop::Shop;
use wal::PAGE;
use ways::Way;

const WAYS: [Way; 13] = [
    Way::Fixed { chunk_bytes: 4096 },
    Way::Fixed { chunk_bytes: 8192 },
    Way::Fixed {
        chunk_bytes: 16 << 10,
    },
    Way::Fixed {
        chunk_bytes: 32 << 10,
    },
    Way::Fixed {
        chunk_bytes: 64 << 10,
    },
    Way::Fixed {
        chunk_bytes: 128 << 10,
    },
    Way::Fixed {
        chunk_bytes: 256 << 10,
    },
    Way::Fixed {
        chunk_bytes: 1 << 20,
    },
    Way::Split {
        chunk_bytes: 256 << 10,
    },
    Way::Split {
        chunk_bytes: 1 << 20,
    },
    Way::Content,
    Way::Log {
        chunk_bytes: 256 << 10,
    },
    Way::Log {
        chunk_bytes: 1 << 20,
    },
];

/// What to measure.
#[derive(Debug)]
struct Options {
    size_mib: u64,
    days: u64,
    runs: u64,
    seed: u64,
    /// Only ways whose name holds this.
    only: String,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            size_mib: 256,
            days: 3,
            runs: 3,
            seed: 7,
            only: String::new(),
        };
        while let Some(argument) = arguments.next() {
            if argument == "--bench" {
                // What cargo itself adds.
                continue;
            }
            let value = arguments.next().context("an option wants a value")?;
            match argument.as_str() {
                "--size-mib" => options.size_mib = value.parse()?,
                "--days" => options.days = value.parse()?,
                "--runs" => options.runs = value.parse()?,
                "--seed" => options.seed = value.parse()?,
                "--only" => options.only = value,
                other => bail!("unknown option {other}"),
            }
        }
        Ok(options)
    }
}

/// The database as it is on the evening of a day.
#[derive(Debug)]
struct Image {
    /// Where it lies.
    path: PathBuf,
    /// SHA-256 of its bytes.
    id: Id,
}

fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let scratch = tempfile::tempdir()?;
    println!(
        "seed {}, {} MiB, {} days, {} runs\n",
        options.seed, options.size_mib, options.days, options.runs
    );
    let images = make_images(&options, scratch.path())?;
    table::print_head(options.days);
    let wanted = |name: &str| name.contains(&options.only);
    for way in WAYS.iter().filter(|way| wanted(&way.to_string())) {
        let figures = measure::way(*way, &images, options.runs, scratch.path())?;
        table::print_row(&way.to_string(), &figures);
    }
    if restic::is_here() && wanted("restic itself") {
        let figures = measure::restic(&images, options.runs, scratch.path())?;
        table::print_row("restic itself", &figures);
    }
    println!("\nA base and its log, {} days:", options.days);
    measure::mishaps(&images, scratch.path())
}

/// Trades for some days and keeps an image of each evening, then for a quiet hour of one more.
fn make_images(options: &Options, scratch: &Path) -> Result<Vec<Image>> {
    let path = scratch.join("trading.db");
    let mut shop = Shop::create(&path, options.size_mib, options.seed)?;
    let mut images = vec![keep_image(&shop, &path, scratch, 0)?];
    let mut before = page_hashes(&images[0].path)?;
    println!(
        "{} pages of {PAGE} bytes on the first evening",
        before.len()
    );
    for day in 1..=options.days + 1 {
        let (name, part) = if day > options.days {
            ("a quiet hour".to_owned(), 100)
        } else {
            (format!("day {day}"), 1)
        };
        let (touched, rows) = shop.trade(part)?;
        let image = keep_image(&shop, &path, scratch, day)?;
        let after = page_hashes(&image.path)?;
        let old: HashSet<(usize, &Id)> = before.iter().enumerate().collect();
        let dirty = after
            .iter()
            .enumerate()
            .filter(|page| !old.contains(page))
            .count();
        println!(
            "{name}: {} of the rows changed, {} of the pages",
            table::percent(touched, rows),
            table::percent(dirty as u64, after.len() as u64)
        );
        images.push(image);
        before = after;
    }
    Ok(images)
}

fn keep_image(shop: &Shop, path: &Path, scratch: &Path, day: u64) -> Result<Image> {
    shop.settle()?;
    let kept = scratch.join(format!("day-{day}.db"));
    fs::copy(path, &kept)?;
    let id = image_id(&kept)?;
    Ok(Image { path: kept, id })
}

fn page_hashes(path: &Path) -> Result<Vec<Id>> {
    Ok(fs::read(path)?.chunks(PAGE).map(Id::of).collect())
}

/// SHA-256 of a file.
fn image_id(path: &Path) -> Result<Id> {
    let mut hasher = Hasher::default();
    hasher.update(&fs::read(path)?);
    Ok(hasher.finish())
}

/// What a person would ask an image.
fn answer(image: &Image) -> Result<(i64, i64, i64)> {
    let uri = format!("file:{}?immutable=1", image.path.display());
    Ok(shop::answer(&Connection::open(uri)?)?)
}
