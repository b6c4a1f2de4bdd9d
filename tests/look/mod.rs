//! What is in a repository, and under which tags: compared with what stock restic says of the same one.

mod compare;
mod dump;
mod hostile;
mod objects;
mod tag;

use std::path::Path;

use serde_json::Value;

use crate::common::program::Program;

/// The objects of one type that a run with `--json` printed; it must end with this exit code.
fn objects(program: &Program, words: &[&str], kind: &str, code: i32) -> Vec<Value> {
    let (ended, objects) = program.json(words);
    assert_eq!(ended, code, "{words:?}: {objects:?}");
    let of_kind = |object: &Value| object["message_type"] == kind;
    objects.into_iter().filter(of_kind).collect()
}

/// What the program wrote, as it is.
fn bytes(program: &Program, words: &[&str]) -> (i32, Vec<u8>, String) {
    let output = program.command(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), output.stdout, said)
}

/// A path as a word.
fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}
