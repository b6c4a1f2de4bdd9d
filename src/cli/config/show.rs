//! What the file means: defaults filled in, secrets hidden. What is printed is itself a configuration,
//! but for what is hidden.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::Done;
use super::super::session::Session;
use crate::config::file::{Configuration, Password, RepositoryEntry, ServerEntry, Shop};
use crate::hook::Hook;
use crate::retention::Policy;
use crate::units::{is_plain, shown};

/// What stands in the place of a secret.
const HIDDEN: &str = "***";

pub fn run(session: &Session, configuration: &Configuration) -> Done {
    let repositories = configuration
        .repositories
        .iter()
        .map(|(name, entry)| (name.clone(), repository(entry)));
    let repositories: Map<String, Value> = repositories.collect();
    let shops = configuration.shops.iter();
    let shops: Map<String, Value> = shops.map(|(name, one)| (name.clone(), shop(one))).collect();
    let file = shown(&configuration.file);
    let fields = json!({"file": file, "repositories": repositories.len(), "shops": shops.len()});
    let whole = json!({"version": 1, "repository": repositories, "shop": shops});
    session.output.line(format!("# {file}"));
    session.output.line(text(&whole).trim_end());
    session.output.object("configuration", whole);
    Done::well(fields)
}

fn repository(entry: &RepositoryEntry) -> Value {
    let mut object = json!({"location": lossless(&entry.path)});
    match &entry.password {
        Password::File(file) => object["password_file"] = lossless(file).into(),
        Password::Command(words) => object["password_command"] = json!([words[0], HIDDEN]),
        Password::Credential(name) => object["password_credential"] = name.as_str().into(),
    }
    object
}

fn shop(shop: &Shop) -> Value {
    let mut object = json!({"repository": shop.repository});
    if let Some(title) = &shop.title {
        object["title"] = title.as_str().into();
    }
    let databases = shop
        .databases
        .iter()
        .map(|one| json!({"name": one.name, "engine": "sqlite", "path": lossless(&one.path)}));
    object["database"] = databases.chain(shop.servers.iter().map(server)).collect();
    let files = shop.files.iter();
    object["files"] = files
        .map(|one| {
            let mut source = json!({"name": one.name, "path": lossless(&one.path)});
            if !one.exclude.is_empty() {
                source["exclude"] = one.exclude.as_slice().into();
            }
            source
        })
        .collect();
    if let Some(policy) = &shop.keep {
        object["keep"] = keep(policy);
    }
    object["hook"] = shop.hooks.iter().map(hook).collect();
    object
}

fn server(one: &ServerEntry) -> Value {
    let mut object = json!({
        "name": one.name,
        "engine": "postgresql",
        "method": "dump",
        "socket": lossless(&one.socket),
        "database": one.database,
    });
    if let Some(port) = one.port {
        object["port"] = port.into();
    }
    if let Some(user) = &one.user {
        object["user"] = user.as_str().into();
    }
    for (key, path) in [
        ("password_file", &one.password_file),
        ("programs", &one.programs),
    ] {
        if let Some(path) = path {
            object[key] = lossless(path).into();
        }
    }
    object
}

/// A path that came from a text.
fn lossless(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn keep(policy: &Policy) -> Value {
    let rules = policy.rules();
    let mut object = json!({
        "last": rules.last,
        "hourly": rules.hourly,
        "daily": rules.daily,
        "weekly": rules.weekly,
        "monthly": rules.monthly,
        "yearly": rules.yearly,
    });
    if let Some(within) = rules.within {
        object["within"] = within.to_string().into();
    }
    if !rules.tags.is_empty() {
        object["tags"] = rules.tags.concat().into();
    }
    object
}

fn hook(hook: &Hook) -> Value {
    let words = hook.run.iter().map(|word| without_address(word));
    json!({
        "when": hook.when.name(),
        "run": words.collect::<Vec<_>>(),
        "timeout": format!("{}s", hook.timeout.as_secs()),
    })
}

/// An address often is the secret itself: whoever knows it may call it.
fn without_address(word: &str) -> String {
    let Some((before, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    format!("{before}://{host}/{HIDDEN}")
}

/// The same as TOML: plain keys first, then tables.
pub fn text(whole: &Value) -> String {
    let mut text = String::new();
    table(&mut text, "", whole);
    text
}

fn table(text: &mut String, path: &str, value: &Value) {
    let Value::Object(entries) = value else {
        return;
    };
    // Writing to a String cannot fail.
    for (key, value) in entries.iter().filter(|(_, value)| !is_table(value)) {
        let _ = writeln!(text, "{key} = {}", plain(value));
    }
    for (key, value) in entries.iter().filter(|(_, value)| is_table(value)) {
        let inner = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        match value {
            Value::Array(items) => {
                for item in items {
                    let _ = write!(text, "\n[[{inner}]]\n");
                    table(text, &inner, item);
                }
            }
            // Only a table of tables has no head of its own.
            _ if path.is_empty() => table(text, &inner, value),
            _ => {
                let _ = write!(text, "\n[{inner}]\n");
                table(text, &inner, value);
            }
        }
    }
}

fn is_table(value: &Value) -> bool {
    match value {
        Value::Object(_) => true,
        Value::Array(items) => items.is_empty() || items.iter().all(Value::is_object),
        _ => false,
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// A text as TOML writes it, harmless on a terminal.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
            quoted.push(character);
        } else if is_plain(character) {
            quoted.push(character);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(quoted, "\\U{:08x}", u32::from(character));
        }
    }
    quoted.push('"');
    quoted
}
