//! What this machine cannot do faster, whoever works on it: the limits that `benches/peers` holds our figures against.
//!
//! `cargo bench --locked --bench limits -- --scratch DIR [--database FILE] [--files DIR]`
//!
//! Prints JSON. Each figure is the best of three. Rates are in millions of bytes a second, of one core and of all cores
//! at once; what has a number of its own of bytes or files is in seconds. What was made in the scratch folder is emptied
//! and stays: whoever makes files after thousands were removed pays for them.
#![allow(
    clippy::disallowed_methods,
    reason = "a bench makes and breaks files as it likes"
)]

mod database;
mod disk;
mod files;
mod measure;
mod processor;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

struct Options {
    database: Option<PathBuf>,
    files: Option<PathBuf>,
    scratch: PathBuf,
}

impl Options {
    fn read() -> Result<Self> {
        let mut options = Self {
            database: None,
            files: None,
            scratch: PathBuf::new(),
        };
        // Cargo adds this one.
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            let value = words
                .next()
                .with_context(|| format!("{word} needs a value"))?;
            match word.as_str() {
                "--database" => options.database = Some(value.into()),
                "--files" => options.files = Some(value.into()),
                "--scratch" => options.scratch = value.into(),
                _ => bail!("unknown option {word}"),
            }
        }
        if !options.scratch.is_dir() {
            bail!("say --scratch: a folder on the disk that is measured");
        }
        Ok(options)
    }
}

fn main() -> Result<()> {
    let options = Options::read()?;
    let mut found = Map::new();
    found.insert("cores".into(), json!(measure::cores()));
    found.append(&mut processor::limits()?);
    let mut largest = 0;
    if let Some(path) = &options.database {
        found.append(&mut database::limits(path)?);
        largest = path.metadata()?.len();
    }
    if let Some(folder) = &options.files {
        found.append(&mut files::limits(folder, &options.scratch)?);
        largest = largest.max(files::bytes_below(folder)?);
    }
    if largest > 0 {
        found.append(&mut disk::limits(largest, &options.scratch)?);
    }
    println!("{:#}", Value::Object(found));
    Ok(())
}
