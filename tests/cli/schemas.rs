//! Every line for programs is of a published schema: docs/schemas.json, JSON Schema 2020-12, one for each
//! `message_type`, and for the summary of each command. `make renew` adds what is new to it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};

use serde_json::{Map, Value, json};

static PUBLISHED: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&fs::read_to_string(file()).unwrap()).unwrap());

fn file() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schemas.json"))
}

/// What was seen by a run that renews, a line each.
fn observed() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/target/observed.jsonl"
    ))
}

/// Whether what is published is to be renewed, not compared: never where nobody looks at the difference.
pub fn is_renewing() -> bool {
    let asked = std::env::var_os("TILLSAFE_RENEW").is_some();
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!(asked && in_ci), "nothing is renewed in CI");
    asked
}

/// The name of the schema that an object should be of.
fn name(object: &Value) -> String {
    let kind = object["message_type"].as_str().unwrap_or("?");
    match object["command"].as_str() {
        Some(command) if kind == "summary" => {
            let name = format!("summary-{command}");
            // Words that do not fit may name no command that there is.
            let is_known = object["exit_code"] != 2 || PUBLISHED["$defs"][&name].is_object();
            if is_known { name } else { kind.to_owned() }
        }
        _ => kind.to_owned(),
    }
}

/// Keeps what a run of any test has said, if it is to be published.
pub fn observe(objects: &[Value]) {
    static ONE: Mutex<()> = Mutex::new(());
    if !is_renewing() {
        return;
    }
    let _one = ONE.lock();
    let mut file = fs::OpenOptions::new();
    let mut file = file.create(true).append(true).open(observed()).unwrap();
    for object in objects {
        writeln!(file, "{object}").unwrap();
    }
}

/// Fails unless each object is of its schema.
pub fn assert_published(objects: &[Value], what: &str) {
    if is_renewing() {
        return;
    }
    for object in objects {
        let name = name(object);
        let schema = &PUBLISHED["$defs"][&name];
        assert!(
            schema.is_object(),
            "{what}: {name} is in no schema: `make renew`"
        );
        if let Some(wrong) = mismatch(schema, object, &name) {
            panic!("{what}: {wrong}; `make renew` adds what is new\n{object}");
        }
    }
}

/// Where a value is not as its schema says, of those words of JSON Schema that ours are made of.
fn mismatch(schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(constant) = schema.get("const")
        && constant != value
    {
        return Some(format!("{at} is not {constant}"));
    }
    let types = types_of(schema);
    if !types.is_empty() && !types.iter().any(|kind| is_of(value, kind)) {
        return Some(format!("{at} is none of {types:?}"));
    }
    if let Some(object) = value.as_object() {
        for field in schema["required"].as_array().into_iter().flatten() {
            if !object.contains_key(field.as_str().unwrap()) {
                return Some(format!("{at} has no {field}"));
            }
        }
        for (field, value) in object {
            match schema["properties"].get(field) {
                Some(inner) => {
                    if let Some(wrong) = mismatch(inner, value, &format!("{at}.{field}")) {
                        return Some(wrong);
                    }
                }
                None if schema["additionalProperties"] == false => {
                    return Some(format!("{at}.{field} is not published"));
                }
                None => {}
            }
        }
    }
    let items = schema.get("items")?;
    let mut values = value.as_array()?.iter();
    values.find_map(|value| mismatch(items, value, &format!("{at}[]")))
}

fn types_of(schema: &Value) -> BTreeSet<String> {
    match &schema["type"] {
        Value::String(one) => BTreeSet::from([one.clone()]),
        Value::Array(several) => several
            .iter()
            .filter_map(|one| one.as_str().map(str::to_owned))
            .collect(),
        _ => BTreeSet::new(),
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        _ => value.is_object(),
    }
}

/// The schema of one value.
fn seen(value: &Value) -> Value {
    match value {
        Value::Null => json!({"type": "null"}),
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Number(number) if number.is_f64() => json!({"type": "number"}),
        Value::Number(_) => json!({"type": "integer"}),
        Value::String(_) => json!({"type": "string"}),
        Value::Array(values) => {
            let items = values
                .iter()
                .map(seen)
                .reduce(|one, other| both(&one, &other));
            items.map_or_else(
                || json!({"type": "array"}),
                |items| json!({"type": "array", "items": items}),
            )
        }
        Value::Object(fields) => {
            let properties: Map<String, Value> = fields
                .iter()
                .map(|(name, value)| (name.clone(), seen(value)))
                .collect();
            let required: Vec<&String> = fields.keys().collect();
            json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
        }
    }
}

/// What fits either of two schemas; words of the first, such as a description, stay.
fn both(one: &Value, other: &Value) -> Value {
    let mut merged = one.clone();
    let (first, second) = (types_of(one), types_of(other));
    // What is open stays open.
    if first.is_empty() {
        return merged;
    }
    let mut types: BTreeSet<String> = first.union(&second).cloned().collect();
    if types.contains("number") {
        types.remove("integer");
    }
    merged["type"] = match types.len() {
        1 => json!(types.first()),
        _ => json!(types),
    };
    if let (Some(mine), Some(theirs)) = (one.get("properties"), other.get("properties")) {
        let mut properties = mine.as_object().unwrap().clone();
        for (name, schema) in theirs.as_object().unwrap() {
            let known = properties.get(name);
            let schema = known.map_or_else(|| schema.clone(), |known| both(known, schema));
            properties.insert(name.clone(), schema);
        }
        merged["properties"] = properties.into();
        let names = |schema: &Value| -> BTreeSet<String> {
            let names = schema["required"].as_array().into_iter().flatten();
            names
                .map(|name| name.as_str().unwrap().to_owned())
                .collect()
        };
        let required: Vec<String> = names(one).intersection(&names(other)).cloned().collect();
        merged["required"] = required.into();
    } else if let Some(properties) = other
        .get("properties")
        .filter(|_| !first.contains("object"))
    {
        merged["properties"] = properties.clone();
        merged["required"] = other["required"].clone();
        merged["additionalProperties"] = false.into();
    }
    if let Some(theirs) = other.get("items") {
        let items = one
            .get("items")
            .map_or_else(|| theirs.clone(), |mine| both(mine, theirs));
        merged["items"] = items;
    }
    merged
}

#[test]
fn what_was_seen_is_published() {
    if !is_renewing() {
        return;
    }
    let mut published = PUBLISHED.clone();
    for line in fs::read_to_string(observed()).unwrap_or_default().lines() {
        let object: Value = serde_json::from_str(line).unwrap();
        let name = name(&object);
        let mut schema = seen(&object);
        for fixed in ["message_type", "command"] {
            if let Some(text) = object
                .get(fixed)
                .filter(|_| fixed != "command" || name.starts_with("summary-"))
            {
                schema["properties"][fixed] = json!({"type": "string", "const": text});
            }
        }
        let schemas = published["$defs"].as_object_mut().unwrap();
        let known = schemas.get(&name);
        let schema = known.map_or_else(|| schema.clone(), |known| both(known, &schema));
        schemas.insert(name, schema);
    }
    let names: Vec<String> = published["$defs"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    let all: Vec<Value> = names
        .iter()
        .map(|name| json!({"$ref": format!("#/$defs/{name}")}))
        .collect();
    published["oneOf"] = all.into();
    let text = serde_json::to_string_pretty(&published).unwrap();
    fs::write(file(), text + "\n").unwrap();
}

#[test]
fn a_schema_says_no_to_what_it_should() {
    let schema = both(
        &seen(&json!({"a": 1, "b": [1], "c": null})),
        &seen(&json!({"a": 2, "b": [], "c": "x", "d": true})),
    );
    for right in [
        json!({"a": 1, "b": [], "c": null}),
        json!({"a": 1, "b": [3], "c": "y", "d": false}),
    ] {
        assert_eq!(mismatch(&schema, &right, "it"), None, "{schema}");
    }
    for wrong in [
        json!({"b": [], "c": null}),
        json!({"a": "1", "b": [], "c": null}),
        json!({"a": 1, "b": ["x"], "c": null}),
        json!({"a": 1, "b": [], "c": null, "e": 1}),
    ] {
        assert!(mismatch(&schema, &wrong, "it").is_some(), "{wrong}");
    }
}

/// The types of all objects that the source can write: the first argument of `Output::object`.
fn written() -> BTreeSet<String> {
    // Those of problems, which `Output` chooses itself.
    let mut types = BTreeSet::from(["error", "warning", "summary"].map(str::to_owned));
    let mut waiting = vec![PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/cli"
    ))];
    while let Some(folder) = waiting.pop() {
        for item in fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let text: String = fs::read_to_string(&path)
                .unwrap()
                .split_whitespace()
                .collect();
            for call in text.split("output.object(").skip(1) {
                let literal = call
                    .strip_prefix('"')
                    .and_then(|rest| rest.split('"').next());
                let name = literal.unwrap_or_else(|| {
                    panic!(
                        "{}: a type that is no literal: {:.40}",
                        path.display(),
                        call
                    )
                });
                types.insert(name.to_owned());
            }
            if path.ends_with("output.rs") {
                let own = text.split("self.object(\"").skip(1);
                types.extend(
                    own.filter_map(|rest| rest.split('"').next())
                        .map(str::to_owned),
                );
            }
        }
    }
    types
}

#[test]
fn what_the_source_can_write_is_what_is_published() {
    let schemas = PUBLISHED["$defs"].as_object().unwrap().keys();
    let (summaries, types): (BTreeSet<String>, BTreeSet<String>) = schemas
        .cloned()
        .partition(|name| name.starts_with("summary-"));
    assert_eq!(types, written());
    let whole = super::words::help(&[]);
    let commands = super::words::commands_of(&whole).into_iter();
    let expected: BTreeSet<String> = commands.map(|name| format!("summary-{name}")).collect();
    assert_eq!(summaries, expected);
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/scripting.md");
    let page = fs::read_to_string(page).unwrap();
    let table = page.split("| `message_type` | says |").nth(1).unwrap();
    let rows = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let told: BTreeSet<String> = rows.map(str::to_owned).collect();
    assert_eq!(types, told);
}

#[test]
fn every_field_ends_in_its_unit_and_every_schema_says_what_it_is() {
    for (name, schema) in PUBLISHED["$defs"].as_object().unwrap() {
        assert!(
            schema["description"].is_string(),
            "{name} has no description in docs/schemas.json"
        );
        for field in schema["properties"].as_object().unwrap().keys() {
            for (short, unit) in [
                ("size", "_bytes"),
                ("duration", "_seconds"),
                ("age", "_seconds"),
            ] {
                let is_bare = field == short || field.ends_with(&format!("_{short}"));
                assert!(!is_bare, "{name}.{field} has no {unit}");
            }
        }
    }
}
