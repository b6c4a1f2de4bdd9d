//! Key files, and the config that they open.

use std::fs;

use serde_json::{Value, json};
use tillsafe::id::Id;

use super::{Class, Codes, play};
use crate::common::forge::Forge;

/// The owner gets in all the same; a check names what is no key.
const OPENS: Codes = [&[0], &[0], &[0], &[0], &[0], &[0]];
const FOUND: Codes = [&[4], &[0], &[0], &[0], &[0], &[0]];
/// Not one key is left that could be tried.
const CLOSED: Codes = [&[4], &[4], &[4], &[4], &[4], &[4]];
const WRONG: Codes = [&[12]; 6];
/// Of a later or impossible format.
const UNSUPPORTED: Codes = [&[1]; 6];

fn key_file(forge: &Forge) -> Value {
    serde_json::from_slice(&fs::read(forge.honest("keys").remove(0)).unwrap()).unwrap()
}

/// A key file with fields changed, beside the honest one or in its place.
fn with_key(forge: &Forge, alone: bool, fields: &[(&str, Value)]) {
    let mut file = key_file(forge);
    for (field, value) in fields {
        file[*field] = value.clone();
    }
    if alone {
        fs::remove_file(forge.honest("keys").remove(0)).unwrap();
    }
    forge.object("keys", &serde_json::to_vec(&file).unwrap());
}

fn with_cost(forge: &Forge, alone: bool, n: u64, r: u64, p: u64) {
    with_key(
        forge,
        alone,
        &[("N", json!(n)), ("r", json!(r)), ("p", json!(p))],
    );
}

/// Keys of other passwords, whose names come before that of the honest one.
fn many(forge: &Forge, count: usize, n: u64) {
    let honest = forge.honest("keys").remove(0);
    let honest = honest.file_name().unwrap().to_str().unwrap().to_owned();
    let mut file = key_file(forge);
    // Of the same length, but sealed by nobody.
    file["data"] = file["salt"].clone();
    file["N"] = n.into();
    let (mut made, mut number) = (0, 0);
    while made < count {
        file["username"] = json!(number.to_string());
        number += 1;
        let bytes = serde_json::to_vec(&file).unwrap();
        if Id::of(&bytes).to_string() < honest || number > 10 * count {
            forge.object("keys", &bytes);
            made += 1;
        }
    }
}

/// The most expensive keys that may be.
fn expensive(forge: &Forge) {
    let mut file = key_file(forge);
    file["data"] = file["salt"].clone();
    for (field, value) in [("N", 1 << 18), ("r", 8), ("p", 16)] {
        file[field] = value.into();
    }
    for number in 0..20 {
        file["username"] = json!(number.to_string());
        forge.object("keys", &serde_json::to_vec(&file).unwrap());
    }
}

fn config(forge: &Forge, change: impl FnOnce(&mut Value)) {
    let path = forge.path("config");
    let mut config = serde_json::from_slice(&forge.open_bytes(&fs::read(&path).unwrap())).unwrap();
    change(&mut config);
    config_of(forge, &serde_json::to_vec(&config).unwrap());
}

fn config_of(forge: &Forge, plain: &[u8]) {
    let path = forge.path("config");
    fs::remove_file(&path).unwrap();
    fs::write(path, forge.seal_bytes(plain)).unwrap();
}

fn polynomial(forge: &Forge, digits: &str) {
    config(forge, |config| config["chunker_polynomial"] = digits.into());
}

#[rustfmt::skip]
pub const CLASSES: &[Class] = &[
    Class { name: "key: N of 2^40, beside the honest one", make: |f| with_cost(f, false, 1 << 40, 8, 1), codes: OPENS },
    Class { name: "key: N of 2^40, alone", make: |f| with_cost(f, true, 1 << 40, 8, 1), codes: WRONG },
    Class { name: "key: N·r·p beyond 2^64", make: |f| with_cost(f, true, 1 << 62, 1 << 30, 1 << 30), codes: WRONG },
    Class { name: "key: r of 0", make: |f| with_cost(f, true, 256, 0, 1), codes: WRONG },
    Class { name: "key: p of 0", make: |f| with_cost(f, true, 256, 1, 0), codes: WRONG },
    Class { name: "key: N of 0", make: |f| with_cost(f, true, 0, 1, 1), codes: WRONG },
    Class { name: "key: N of 1", make: |f| with_cost(f, true, 1, 1, 1), codes: WRONG },
    Class { name: "key: N that is no power of two", make: |f| with_cost(f, true, 255, 1, 1), codes: WRONG },
    Class { name: "key: r beyond 2^32", make: |f| with_cost(f, true, 256, 1 << 40, 1), codes: CLOSED },
    Class { name: "key: a salt of 1 byte", make: |f| with_key(f, true, &[("salt", json!("AA=="))]), codes: WRONG },
    Class { name: "key: a derivation that speaks to the terminal", make: |f| with_key(f, true, &[("kdf", json!("\u{1b}[2J"))]), codes: WRONG },
    Class { name: "key: data that is no base64", make: |f| with_key(f, true, &[("data", json!("\u{1b}[2J"))]), codes: WRONG },
    Class { name: "key: data of 3 bytes", make: |f| with_key(f, true, &[("data", json!("AAAA"))]), codes: WRONG },
    Class { name: "key: JSON nested 10,000 deep", make: |f| { f.object("keys", "[".repeat(10_000).as_bytes()); }, codes: FOUND },
    Class { name: "key: of 100 MB, beside the honest one", make: |f| { let path = f.object_named("keys", Id::of(b"large"), b""); fs::File::options().write(true).open(path).unwrap().set_len(100 << 20).unwrap(); }, codes: FOUND },
    Class { name: "keys: 30, the right one last", make: |f| many(f, 30, 256), codes: OPENS },
    Class { name: "keys: 20 that take 20 s each", make: expensive, codes: OPENS },
    Class { name: "config: of version 3", make: |f| config(f, |config| config["version"] = 3.into()), codes: UNSUPPORTED },
    Class { name: "config: of version 0", make: |f| config(f, |config| config["version"] = 0.into()), codes: UNSUPPORTED },
    Class { name: "config: of version -1", make: |f| config(f, |config| config["version"] = (-1).into()), codes: [&[4], &[0, 4], &[0, 4], &[0, 4], &[0, 4], &[4]] },
    Class { name: "config: a polynomial that is reducible", make: |f| polynomial(f, "20000000000002"), codes: UNSUPPORTED },
    Class { name: "config: a polynomial of zero", make: |f| polynomial(f, "0"), codes: UNSUPPORTED },
    Class { name: "config: a polynomial of degree 63", make: |f| polynomial(f, "ffffffffffffffff"), codes: UNSUPPORTED },
    Class { name: "config: a polynomial that speaks to the terminal", make: |f| polynomial(f, "\u{1b}[2J"), codes: UNSUPPORTED },
    Class { name: "config: JSON nested 100,000 deep", make: |f| config_of(f, "[".repeat(100_000).as_bytes()), codes: [&[4], &[0, 4], &[0, 4], &[0, 4], &[0, 4], &[4]] },
    Class { name: "config: of 300 MB", make: |f| config_of(f, &vec![b' '; 300 << 20]), codes: [&[4], &[0, 4], &[0, 4], &[0, 4], &[0, 4], &[4]] },
];

#[test]
fn keys_that_are_none_or_too_dear_and_configs_that_cannot_be() {
    play(CLASSES);
}
