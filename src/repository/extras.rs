//! What trees of other programs say of an item beyond what ours hold: extended attributes, and which
//! device a special file stands for. A restore of this version leaves both; a dump hands them on.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use serde::Deserialize;

use super::format::base64_bytes;
use super::name;

/// What an item has beyond its entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra {
    /// Number of the device that a special file stands for (`st_rdev`).
    pub device: u64,
    /// Extended attributes: name and value.
    pub attributes: Vec<(String, Vec<u8>)>,
}

#[derive(Deserialize)]
struct RawTree {
    #[serde(default)]
    nodes: Option<Vec<RawNode>>,
}

#[derive(Deserialize)]
struct RawNode {
    name: String,
    #[serde(default)]
    device: u64,
    #[serde(default)]
    extended_attributes: Option<Vec<RawAttribute>>,
}

#[derive(Deserialize)]
struct RawAttribute {
    name: String,
    #[serde(default)]
    value: Option<RawValue>,
}

#[derive(Deserialize)]
struct RawValue(#[serde(with = "base64_bytes")] Vec<u8>);

/// Reads what a tree says of its items, by their names; of most it says nothing.
///
/// # Errors
/// What is wrong with it.
pub fn from_bytes(bytes: &[u8]) -> Result<HashMap<OsString, Extra>, String> {
    let says = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    if !says(b"\"device\"") && !says(b"\"extended_attributes\"") {
        return Ok(HashMap::new());
    }
    let tree: RawTree = serde_json::from_slice(bytes).map_err(|cause| cause.to_string())?;
    let extra = |node: RawNode| {
        let attributes = node.extended_attributes.unwrap_or_default().into_iter();
        let extra = Extra {
            device: node.device,
            attributes: attributes
                .map(|raw| {
                    (
                        raw.name,
                        raw.value.map_or(Vec::new(), |RawValue(value)| value),
                    )
                })
                .collect(),
        };
        let name = OsString::from_vec(name::unquote(&node.name)?);
        (extra != Extra::default()).then_some((name, extra))
    };
    let nodes = tree.nodes.unwrap_or_default();
    Ok(nodes.into_iter().filter_map(extra).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_found_under_the_name_of_its_item() {
        let tree = r#"{"nodes":[{"name":"a","type":"file"},
            {"name":"b\\n","type":"file","extended_attributes":[{"name":"user.x","value":"AP8="},{"name":"user.y","value":null}]},
            {"name":"c","type":"chardev","device":259}]}"#;
        let found = from_bytes(tree.as_bytes()).unwrap();
        assert_eq!(found.len(), 2);
        let attributes = &found[&OsString::from("b\n")].attributes;
        assert_eq!(attributes[0], ("user.x".to_owned(), vec![0, 255]));
        assert_eq!(attributes[1], ("user.y".to_owned(), vec![]));
        assert_eq!(found[&OsString::from("c")].device, 259);
        assert_eq!(from_bytes(br#"{"nodes":[]}"#), Ok(HashMap::new()));
        assert!(from_bytes(br#"{"nodes":[{"device":"#).is_err());
    }
}
