//! What the contract promises and the program does not do yet. Each test is ignored until the room
//! that it names is mended; `cargo test -- --ignored cli::known` shows them all.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::process::Signal;

use super::Original;
use crate::common::files::names_with;
use crate::common::forge::Thing;
use crate::common::program::Started;

#[test]
#[ignore = "restore: verify does not look at what a restore would leave out, and says 0 where restore says 3"]
fn verify_says_what_restore_would_say() {
    let original = Original::new();
    let scene = original.scene("scene", true);
    let device = Thing::Special("chardev");
    scene.forge().snapshot_of("null", &device);
    assert_eq!(scene.usual("restore").code, 3);
    assert_eq!(scene.usual("verify").code, 3);
}

#[test]
#[ignore = "restore: signals are looked at between runs of blobs, and one blob may go to a million places"]
fn a_restore_of_a_sparse_file_stops_when_it_is_told_to() {
    let original = Original::new();
    let scene = original.scene("scene", true);
    let thing = Thing::File {
        bytes: vec![0; 1 << 20],
        times: 3 << 10,
    };
    scene.forge().snapshot_of("zeroes", &thing);
    let target = scene.text("target");
    let mut restore = Started::of(&mut scene.command(&["restore", "latest", "--target", &target]));
    let staged = || names_with(&scene.folder, ".tillsafe-stage-");
    let written = || {
        let copy = scene.path(staged().first()?).join("zeroes");
        Some(fs::metadata(copy).ok()?.blocks() * 512)
    };
    restore.wait_until("its first bytes", || written() > Some(0));
    restore.signal(Signal::TERM);
    let mut seen = 0;
    while !restore.has_ended() {
        seen = written().unwrap_or(seen);
        std::thread::yield_now();
    }
    assert_eq!(restore.finish().code, 143);
    assert!(seen < 1 << 30, "it went on writing up to {seen} bytes");
}
