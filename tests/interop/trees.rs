//! Random trees, stored and restored by each program there is: whoever restores what whoever stored, it is
//! what was there.

use std::fs;
use std::path::{Path, PathBuf};

use super::Restic;
use crate::common::Place;
use crate::common::dice::Dice;
use crate::common::program::Program;
use crate::common::tools::skipped;
use crate::common::tree::{allocated, describe_with, differences, grow};

const SEED: &str = "TILLSAFE_SEED";
/// Trees that one run grows, unless it repeats one.
const TREES: u64 = 2;
const ITEMS: usize = 130;

/// One of the programs that store and restore.
enum Tool<'a> {
    Ours(&'a Program),
    Restic(&'a Restic),
}

impl Tool<'_> {
    fn name(&self) -> String {
        match self {
            Self::Ours(_) => "tillsafe".to_owned(),
            Self::Restic(restic) => restic.path.display().to_string(),
        }
    }

    /// restic 0.14 stores another text of a link if it is not UTF-8, and restores no attributes of links.
    fn keeps_links_in_full(&self) -> bool {
        match self {
            Self::Ours(_) => true,
            Self::Restic(restic) => restic.is_current(),
        }
    }

    fn store(&self, folder: &Path) {
        let folder = folder.to_str().unwrap();
        match self {
            Self::Ours(program) => drop(program.ok(&["backup", folder])),
            Self::Restic(restic) => drop(restic.ok(&["backup", "--force", folder])),
        }
    }

    /// Restores all of a snapshot; returns where `folder` is then.
    fn restore(&self, snapshot: &str, folder: &Path, target: &Path) -> PathBuf {
        let to = target.to_str().unwrap();
        match self {
            Self::Ours(program) => drop(program.ok(&["restore", snapshot, "--target", to])),
            Self::Restic(restic) => drop(restic.ok(&["restore", snapshot, "--target", to])),
        }
        target.join(folder.strip_prefix("/").unwrap())
    }
}

#[test]
fn random_trees_come_back_equal_whoever_stored_and_whoever_restores() {
    if !rustix::process::geteuid().is_root() {
        return skipped("random trees", "owners and devices need root");
    }
    if let Ok(seed) = std::env::var(SEED) {
        return one_tree(seed.parse().unwrap());
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut dice = Dice::new(u64::try_from(now.unwrap().as_nanos() & 0xffff_ffff).unwrap());
    for _ in 0..TREES {
        one_tree(dice.below(1 << 32));
    }
}

fn one_tree(seed: u64) {
    println!("{SEED}={seed} repeats this tree");
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let restics = Restic::all_on(&program);
    let folder = place.join("tree");
    grow(&folder, seed, ITEMS);
    let mut tools = vec![Tool::Ours(&program)];
    tools.extend(restics.iter().map(Tool::Restic));
    for tool in &tools {
        tool.store(&folder);
    }
    let (_, listed) = program.json(&["snapshots"]);
    let wanted = [false, true].map(|links_in_full| describe_with(&folder, links_in_full));
    let blocks = allocated(&folder);
    assert!(blocks.len() > ITEMS / 8, "{}", blocks.len());
    for (number, by) in tools.iter().enumerate() {
        let id = listed[number]["id"].as_str().unwrap();
        for tool in &tools {
            let target = place.join("restored");
            let copy = tool.restore(id, &folder, &target);
            let in_full = by.keeps_links_in_full() && tool.keeps_links_in_full();
            let got = describe_with(&copy, in_full);
            let differ = differences(&wanted[usize::from(in_full)], &got);
            let who = format!("stored by {}, restored by {}", by.name(), tool.name());
            assert!(
                differ.is_empty(),
                "{SEED}={seed}: {who}: {}",
                differ.join("\n")
            );
            if let Tool::Ours(_) = tool {
                assert_no_larger(&blocks, &allocated(&copy), &who);
            }
            fs::remove_dir_all(&target).unwrap();
        }
    }
    program.ok(&["check", "--read-data"]);
    for restic in &restics {
        restic.assert_clean();
    }
}

/// Holes are holes again: no file takes more than it took.
fn assert_no_larger(
    wanted: &std::collections::BTreeMap<PathBuf, u64>,
    got: &std::collections::BTreeMap<PathBuf, u64>,
    who: &str,
) {
    /// Blocks of attributes and of the list of extents come and go.
    const SLACK: u64 = 8192;
    for (path, bytes) in wanted {
        assert!(
            got[path] <= bytes + SLACK,
            "{who}: {}: {} of {bytes}",
            path.display(),
            got[path]
        );
    }
}
