//! Sizes at the edge of what others write: blobs of 64 MiB, and a folder of very many files.
//!
//! `TILLSAFE_FILES=200000` makes that folder as large as docs/design/interop.md asks for.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Restic, each, made_by, setting};
use crate::common::Place;
use crate::common::compare::difference;
use crate::common::files::files_below;
use crate::common::forge::Forge;
use crate::common::measure::measured;
use crate::common::program::Program;
use crate::common::raw::{RawBlob, file_node, tree_json};
use crate::common::shop::noise;
use crate::common::tools::restics;

const LARGE: usize = 64 << 20;
/// Nothing that we do with such blobs takes more memory, in bytes: no more than any hostile repository may cost.
const MEMORY: u64 = 512 << 20;

/// Runs a command of ours in bounded memory, and expects exit code 0.
fn bounded(program: &Program, words: &[&str]) {
    let measured = measured(&program.command(words), Duration::from_mins(10));
    println!("{words:?}: {} MiB", measured.peak >> 20);
    let said = measured.run.text();
    assert_eq!(measured.run.code, 0, "{words:?}: {said}");
    assert!(measured.peak < MEMORY, "{words:?}: {}", measured.peak);
}

/// Stores the file `film`, of three blobs of 64 MiB: one that does not shrink, in zstd; one as old repositories
/// hold it; one that shrinks to nothing. In their pack lies one more that nobody needs.
fn store_film(forge: &Forge) -> Vec<u8> {
    let plain = [noise(1, LARGE), noise(2, LARGE), vec![7; LARGE]];
    let raw = RawBlob {
        kind: 0,
        id: tillsafe::id::Id::of(&plain[1]),
        sealed: forge.seal_bytes(&plain[1]),
        plain_length: u32::try_from(LARGE).unwrap(),
    };
    let zstd = |plain: &[u8]| forge.blob(2, &[(plain, 1)]);
    let blobs = [
        zstd(&plain[0]),
        raw,
        zstd(&plain[2]),
        zstd(&noise(3, LARGE)),
    ];
    let ids = [blobs[0].id, blobs[1].id, blobs[2].id];
    let file = file_node("film", 3 * LARGE as u64, &ids);
    forge.snapshot_of_tree(&tree_json(&[file]), &blobs);
    plain.concat()
}

#[test]
fn blobs_of_64_mib_are_read_moved_and_mended_in_bounded_memory() {
    let place = Place::new();
    let program = Program::with_cheap_repository(place.path());
    let shop = place.join("shop");
    fs::create_dir(&shop).unwrap();
    program.ok(&["backup", shop.to_str().unwrap()]);
    let content = store_film(&Forge::open(&program.repository));
    // The judge that they are legal.
    for (_, path) in restics() {
        let restic = Restic::on(&path, &program);
        restic.ok(&["check", "--read-data", "--no-lock"]);
        let dumped = restic.bytes(&["dump", "--no-lock", "latest", "/film"]);
        assert!(dumped == content, "{}", path.display());
    }
    let target = place.join("restored");
    let assert_is_whole = || {
        bounded(&program, &["check", "--read-data"]);
        let to = target.to_str().unwrap();
        bounded(&program, &["restore", "latest:/", "--target", to]);
        assert!(fs::read(target.join("film")).unwrap() == content);
        fs::remove_dir_all(&target).unwrap();
    };
    assert_is_whole();
    bounded(&program, &["verify"]);
    let dumped = place.join("dumped");
    let to = ["--target", dumped.to_str().unwrap()];
    bounded(&program, &[&["dump", "latest", "/film"], &to[..]].concat());
    assert!(fs::read(&dumped).unwrap() == content);
    bounded(&program, &["prune", "--now", "--max-unused", "0"]);
    let packs = || files_below(&program.repository.join("data"));
    let bytes = |packs: &[PathBuf]| -> u64 {
        packs
            .iter()
            .map(|pack| fs::metadata(pack).unwrap().len())
            .sum()
    };
    let left = bytes(&packs());
    assert!(left < 3 * LARGE as u64, "one is gone: {left}");
    assert_is_whole();
    // A pack that is longer than it was holds a whole blob, which is stored anew.
    let size = |pack: &PathBuf| fs::metadata(pack).unwrap().len();
    let pack = packs().into_iter().max_by_key(size).unwrap();
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(&pack).unwrap();
    file.write_all(b"!").unwrap();
    bounded(&program, &["repair", "packs"]);
    assert!(!pack.exists());
    assert_is_whole();
    for (_, path) in restics() {
        Restic::on(&path, &program).assert_clean();
    }
}

/// A folder of as many files as nobody should keep in one.
fn many(folder: &Path) -> u64 {
    let count = setting("TILLSAFE_FILES").unwrap_or(10_000);
    fs::create_dir(folder).unwrap();
    for number in 0..count {
        let text = if number % 1000 == 0 { "celadon" } else { "" };
        fs::write(folder.join(format!("{number:07}.txt")), text).unwrap();
    }
    count
}

#[test]
fn a_folder_of_very_many_files_goes_both_ways() {
    each(|path| {
        for ours_stores in [true, false] {
            let place = Place::new();
            let program = Program::in_folder(place.path());
            let restic = Restic::on(path, &program);
            made_by(&restic, &program, "2");
            let folder = place.join("many");
            let count = many(&folder);
            let source = folder.to_str().unwrap();
            if ours_stores {
                program.ok(&["backup", source]);
            } else {
                restic.ok(&["backup", source]);
            }
            restic.assert_clean();
            program.ok(&["check", "--read-data"]);
            let target = place.join("restored");
            let to = target.to_str().unwrap();
            let copy = if ours_stores {
                restic.ok(&["restore", "latest", "--target", to]);
                target.join(source.trim_start_matches('/'))
            } else {
                let from = format!("latest:{source}");
                bounded(&program, &["restore", &from, "--target", to]);
                target
            };
            assert_eq!(fs::read_dir(&copy).unwrap().count() as u64, count);
            assert_eq!(difference(&folder, &copy, &|_| false), None);
            // Each finds all of it unchanged in what the other stored.
            let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
            let again = restic.json(&["backup", "--host", host.trim(), source]);
            let summary = again.last().unwrap();
            assert_eq!(summary["files_unmodified"], count, "{summary}");
            let (_, again) = program.json(&["backup", source]);
            let summary = again.last().unwrap();
            assert_eq!(summary["files_unmodified"], count, "{summary}");
        }
    });
}
