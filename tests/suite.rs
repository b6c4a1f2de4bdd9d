//! The benchmark suite: what it says of figures that are known. No test of ours asserts a time.

use std::path::Path;
use std::process::Command;

use crate::common::tools::{find, skipped};

#[test]
fn it_judges_and_cleans_up_as_it_says() {
    let Some(python) = find("python3") else {
        return skipped("benches/peers", "there is no python3");
    };
    let run = Command::new(python)
        .args(["-B", "-m", "unittest", "discover", "benches/peers"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    // Finding none would be no failure to it.
    assert!(!said.contains("Ran 0 tests"), "{said}");
}
