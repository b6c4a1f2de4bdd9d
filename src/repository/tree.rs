//! Tree blobs: one folder each, as canonical JSON.
//!
//! "Canonical" is a contract: restic writes a tree anew and refuses to touch a snapshot whose bytes
//! then differ. So field order, omitted zeroes, escapes and the final newline are part of the format.

use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use jiff::Timestamp;
use serde::Deserialize;

use super::format::{base64_bytes, lenient_time};
use super::{json, name};
use crate::entry::{Attribute, Entry, Kind, Owner, Place};
use crate::id::Id;

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file's blobs in order, and the sum of their plain lengths in bytes.
    File {
        /// The blobs.
        blobs: Vec<Id>,
        /// Bytes.
        size: u64,
    },
    /// A folder's tree.
    Folder {
        /// The tree blob.
        tree: Id,
    },
    /// Nothing (links, devices …).
    Nothing,
}

impl Content {
    /// Bytes of a file; nothing else has any.
    #[must_use]
    pub const fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            Self::Folder { .. } | Self::Nothing => 0,
        }
    }

    /// Says how many bytes a file has that is more than its blobs; nothing else has any.
    pub const fn set_size(&mut self, bytes: u64) {
        if let Self::File { size, .. } = self {
            *size = bytes;
        }
    }
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Name and metadata.
    pub entry: Entry,
    /// Content.
    pub content: Content,
}

/// Writes a tree. `nodes` must be sorted by the raw bytes of their names, each name once.
#[must_use]
pub fn to_bytes(nodes: &[Node]) -> Vec<u8> {
    let mut text = String::from("{\"nodes\":[");
    for (index, node) in nodes.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_node(&mut text, node);
    }
    text.push_str("]}\n");
    text.into_bytes()
}

// Writing to a String cannot fail, so the results of `write!` are dropped here.
fn push_node(text: &mut String, node: &Node) {
    let entry = &node.entry;
    text.push_str("{\"name\":");
    json::push_string(text, name::quote(entry.name.as_bytes()).as_bytes());
    let _ = write!(text, ",\"type\":\"{}\"", entry.kind.name());
    push_number(text, "mode", go_mode(&entry.kind, entry.mode));
    // As restic does unless asked for access times: they would make every snapshot differ.
    for (field, time) in [
        ("mtime", entry.modified),
        ("atime", entry.modified),
        ("ctime", entry.changed),
    ] {
        let _ = write!(text, ",\"{field}\":\"{}\"", encodable(time));
    }
    let _ = write!(
        text,
        ",\"uid\":{},\"gid\":{}",
        entry.owner.uid, entry.owner.gid
    );
    for (field, owner) in [("user", &entry.owner.user), ("group", &entry.owner.group)] {
        if !owner.is_empty() {
            let _ = write!(text, ",\"{field}\":");
            json::push_string(text, owner.as_bytes());
        }
    }
    push_number(text, "inode", entry.place.inode);
    push_number(text, "device_id", entry.place.device);
    if let Content::File { size, .. } = node.content {
        push_number(text, "size", size);
    }
    if !matches!(entry.kind, Kind::Folder | Kind::Pipe | Kind::Socket) {
        push_number(text, "links", entry.place.links);
    }
    if let Kind::Symlink { target } = &entry.kind {
        text.push_str(",\"linktarget\":");
        json::push_string(text, target.as_bytes());
        if target.to_str().is_none() {
            let _ = write!(
                text,
                ",\"linktarget_raw\":\"{}\"",
                base64(target.as_bytes())
            );
        }
    }
    push_attributes(text, &entry.attributes);
    if let Kind::BlockDevice { number } | Kind::CharacterDevice { number } = entry.kind {
        push_number(text, "device", number);
    }
    match &node.content {
        Content::File { blobs, .. } => push_blobs(text, blobs),
        Content::Folder { tree } => {
            let _ = write!(text, ",\"content\":null,\"subtree\":\"{tree}\"");
        }
        Content::Nothing => text.push_str(",\"content\":null"),
    }
    text.push('}');
}

fn push_number(text: &mut String, field: &str, number: u64) {
    if number != 0 {
        let _ = write!(text, ",\"{field}\":{number}");
    }
}

fn push_attributes(text: &mut String, attributes: &[Attribute]) {
    for (index, attribute) in attributes.iter().enumerate() {
        text.push_str(match index {
            0 => ",\"extended_attributes\":[{\"name\":",
            _ => ",{\"name\":",
        });
        json::push_string(text, attribute.name.as_bytes());
        let _ = write!(text, ",\"value\":\"{}\"}}", base64(&attribute.value));
    }
    if !attributes.is_empty() {
        text.push(']');
    }
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn push_blobs(text: &mut String, blobs: &[Id]) {
    text.reserve(blobs.len() * 67 + 16);
    text.push_str(",\"content\":[");
    for (index, blob) in blobs.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(text, "{comma}\"{blob}\"");
    }
    text.push(']');
}

/// Go's `os.FileMode` of our kind and permission bits.
fn go_mode(kind: &Kind, mode: u32) -> u64 {
    let kind_bit = match kind {
        Kind::Folder => 1 << 31,
        Kind::Symlink { .. } => 1 << 27,
        Kind::BlockDevice { .. } => 1 << 26,
        Kind::CharacterDevice { .. } => 1 << 26 | 1 << 21,
        Kind::Pipe => 1 << 25,
        Kind::Socket => 1 << 24,
        Kind::File | Kind::Other(_) => 0_u64,
    };
    let mut bits = kind_bit | u64::from(mode & 0o777);
    for (unix, go) in SPECIAL_BITS {
        if mode & unix != 0 {
            bits |= u64::from(go);
        }
    }
    bits
}

/// Set-user-id, set-group-id and sticky: `st_mode`'s bit and Go's.
const SPECIAL_BITS: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

fn unix_mode(go: u32) -> u32 {
    SPECIAL_BITS
        .iter()
        .filter(|(_, bit)| go & bit != 0)
        .fold(go & 0o777, |mode, (unix, _)| mode | unix)
}

/// Go can write the years 0 to 9999 only.
fn encodable(time: Timestamp) -> Timestamp {
    const YEAR_0: i64 = -62_167_219_200;
    if time.as_second() < YEAR_0 {
        return Timestamp::from_second(YEAR_0).unwrap_or(time);
    }
    time
}

/// A node as JSON holds it; everything that some writer leaves out has a default.
#[derive(Deserialize)]
struct RawNode {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    mode: u32,
    #[serde(default, deserialize_with = "lenient_time")]
    mtime: Option<Timestamp>,
    #[serde(default, deserialize_with = "lenient_time")]
    ctime: Option<Timestamp>,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    group: Option<String>,
    #[serde(default)]
    inode: u64,
    #[serde(default)]
    device_id: u64,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    links: u64,
    #[serde(default)]
    linktarget: Option<String>,
    #[serde(default)]
    linktarget_raw: Option<RawBytes>,
    #[serde(default)]
    extended_attributes: Option<Vec<RawAttribute>>,
    #[serde(default)]
    device: u64,
    #[serde(default)]
    content: Option<Vec<Id>>,
    #[serde(default)]
    subtree: Option<Id>,
}

#[derive(Deserialize)]
struct RawBytes(#[serde(with = "base64_bytes")] Vec<u8>);

#[derive(Deserialize)]
struct RawAttribute {
    name: String,
    #[serde(default)]
    value: Option<RawBytes>,
}

impl From<RawAttribute> for Attribute {
    fn from(raw: RawAttribute) -> Self {
        Self {
            name: raw.name,
            value: raw.value.map_or(Vec::new(), |RawBytes(value)| value),
        }
    }
}

#[derive(Deserialize)]
struct RawTree {
    #[serde(default)]
    nodes: Option<Nodes>,
}

/// Most nodes of a tree. An honest node takes some 350 bytes, so that a tree of the largest size holds
/// fewer; one of very many very short nodes would take twenty times its size in memory.
const MAX_NODES: usize = 800_000;

/// The nodes, each taken in as it is read: never all of them raw. What is wrong with the first that is
/// wrong ends it.
#[derive(Default)]
struct Nodes(Vec<Node>);

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Nodes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of nodes")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<Nodes, A::Error> {
                use serde::de::Error;
                let mut nodes = Vec::new();
                while let Some(raw) = list.next_element()? {
                    if nodes.len() == MAX_NODES {
                        return Err(A::Error::custom(format_args!(
                            "it holds more than {MAX_NODES} items"
                        )));
                    }
                    nodes.push(node(raw).map_err(A::Error::custom)?);
                }
                Ok(Nodes(nodes))
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}

/// Reads a tree.
///
/// # Errors
/// What is wrong with it: broken JSON, or a name that must not reach a file system (empty, `.`,
/// `..`, with a slash or NUL, or one that stands twice).
pub fn from_bytes(bytes: &[u8]) -> Result<Vec<Node>, String> {
    let tree: RawTree = serde_json::from_slice(bytes).map_err(|cause| cause.to_string())?;
    let Nodes(mut nodes) = tree.nodes.unwrap_or_default();
    nodes.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
    for pair in nodes.windows(2) {
        if pair[0].entry.name == pair[1].entry.name {
            return Err(format!(
                "it holds the name {} twice",
                crate::units::shown(pair[0].entry.name.as_ref())
            ));
        }
    }
    Ok(nodes)
}

fn node(raw: RawNode) -> Result<Node, String> {
    let file_name = name::unquote(&raw.name)
        .ok_or_else(|| format!("it holds the undecodable name {:?}", raw.name))?;
    if file_name.is_empty()
        || file_name == b"."
        || file_name == b".."
        || file_name.iter().any(|byte| matches!(byte, b'/' | 0))
    {
        return Err(format!("it holds the forbidden name {:?}", raw.name));
    }
    let (kind, content) = match raw.kind.as_str() {
        "file" => (
            Kind::File,
            Content::File {
                blobs: raw.content.unwrap_or_default(),
                size: raw.size,
            },
        ),
        "dir" => (
            Kind::Folder,
            Content::Folder {
                tree: raw
                    .subtree
                    .ok_or_else(|| format!("its folder {:?} has no tree", raw.name))?,
            },
        ),
        "symlink" => {
            let target = match raw.linktarget_raw {
                Some(RawBytes(bytes)) => bytes,
                None => raw.linktarget.unwrap_or_default().into_bytes(),
            };
            let target = OsString::from_vec(target);
            (Kind::Symlink { target }, Content::Nothing)
        }
        "dev" => (Kind::BlockDevice { number: raw.device }, Content::Nothing),
        "chardev" => (
            Kind::CharacterDevice { number: raw.device },
            Content::Nothing,
        ),
        "fifo" => (Kind::Pipe, Content::Nothing),
        "socket" => (Kind::Socket, Content::Nothing),
        _ => (Kind::Other(raw.kind), Content::Nothing),
    };
    let modified = raw.mtime.unwrap_or(Timestamp::UNIX_EPOCH);
    let attributes = raw.extended_attributes.unwrap_or_default();
    Ok(Node {
        entry: Entry {
            name: OsString::from_vec(file_name),
            kind,
            mode: unix_mode(raw.mode),
            modified,
            changed: raw.ctime.unwrap_or(modified),
            owner: Owner {
                uid: raw.uid,
                gid: raw.gid,
                user: raw.user.unwrap_or_default(),
                group: raw.group.unwrap_or_default(),
            },
            place: Place {
                device: raw.device_id,
                inode: raw.inode,
                links: raw.links,
            },
            attributes: attributes.into_iter().map(Attribute::from).collect(),
        },
        content,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, kind: Kind, mode: u32) -> Entry {
        let is_folder = kind == Kind::Folder;
        Entry {
            name: name.into(),
            kind,
            mode,
            modified: Timestamp::new(1_700_000_000, 120_000_000).unwrap(),
            changed: Timestamp::new(1_700_000_001, 0).unwrap(),
            owner: Owner {
                uid: 0,
                gid: 33,
                user: "root".into(),
                group: String::new(),
            },
            place: Place {
                device: 7,
                inode: 9,
                // Folders' links are not stored.
                links: u64::from(!is_folder),
            },
            attributes: Vec::new(),
        }
    }

    #[test]
    fn an_empty_tree_has_the_known_id() {
        assert_eq!(
            Id::of(&to_bytes(&[])).to_string(),
            "ac08ce34ba4f8123618661bef2425f7028ffb9ac740578a3ee88684d2523fee8"
        );
    }

    #[test]
    fn nodes_are_canonical_and_read_back() {
        let nodes = vec![
            Node {
                entry: entry("a<b", Kind::File, 0o4755),
                content: Content::File {
                    blobs: vec![Id::of(b"x")],
                    size: 1,
                },
            },
            Node {
                entry: entry("d", Kind::Folder, 0o1777),
                content: Content::Folder { tree: Id::of(b"t") },
            },
            Node {
                entry: entry(
                    "l",
                    Kind::Symlink {
                        target: OsString::from_vec(b"/x\xff".to_vec()),
                    },
                    0o777,
                ),
                content: Content::Nothing,
            },
        ];
        let bytes = to_bytes(&nodes);
        let common = r#""mtime":"2023-11-14T22:13:20.12Z","atime":"2023-11-14T22:13:20.12Z","ctime":"2023-11-14T22:13:21Z","uid":0,"gid":33,"user":"root","inode":9,"device_id":7"#;
        let (x, t) = (Id::of(b"x"), Id::of(b"t"));
        let expected = format!(
            concat!(
                r#"{{"nodes":[{{"name":"a\u003cb","type":"file","mode":8389101,{common},"size":1,"links":1,"content":["{x}"]}},"#,
                r#"{{"name":"d","type":"dir","mode":2148532735,{common},"content":null,"subtree":"{t}"}},"#,
                r#"{{"name":"l","type":"symlink","mode":134218239,{common},"links":1,"linktarget":"/x\ufffd","linktarget_raw":"L3j/","content":null}}]}}"#,
                "\n"
            ),
            common = common,
            x = x,
            t = t
        );
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        assert_eq!(from_bytes(&bytes).unwrap(), nodes);
    }

    #[test]
    fn devices_pipes_and_attributes_are_canonical_and_read_back() {
        let attribute = |name: &str, value: &[u8]| Attribute {
            name: name.to_owned(),
            value: value.to_vec(),
        };
        let special = |name: &str, kind: Kind, links: u64| {
            let mut entry = entry(name, kind, 0o640);
            (entry.owner, entry.place.links) = (Owner::default(), links);
            entry
        };
        let mut device = special("c", Kind::CharacterDevice { number: 259 }, 1);
        device.attributes = vec![
            attribute("user.a&b", b"\0\xff"),
            attribute("user.none", b""),
        ];
        let entries = vec![
            special("b", Kind::BlockDevice { number: 0 }, 1),
            device,
            special("p", Kind::Pipe, 0),
            special("s", Kind::Socket, 0),
        ];
        let nodes: Vec<Node> = entries
            .into_iter()
            .map(|entry| Node {
                entry,
                content: Content::Nothing,
            })
            .collect();
        let common = r#""mtime":"2023-11-14T22:13:20.12Z","atime":"2023-11-14T22:13:20.12Z","ctime":"2023-11-14T22:13:21Z","uid":0,"gid":0,"inode":9,"device_id":7"#;
        let expected = format!(
            concat!(
                r#"{{"nodes":[{{"name":"b","type":"dev","mode":67109280,{common},"links":1,"content":null}},"#,
                r#"{{"name":"c","type":"chardev","mode":69206432,{common},"links":1,"extended_attributes":[{{"name":"user.a\u0026b","value":"AP8="}},{{"name":"user.none","value":""}}],"device":259,"content":null}},"#,
                r#"{{"name":"p","type":"fifo","mode":33554848,{common},"content":null}},"#,
                r#"{{"name":"s","type":"socket","mode":16777632,{common},"content":null}}]}}"#,
                "\n"
            ),
            common = common,
        );
        let bytes = to_bytes(&nodes);
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        assert_eq!(from_bytes(&bytes).unwrap(), nodes);
    }

    #[test]
    fn names_that_could_leave_the_target_are_refused() {
        for name in ["", ".", "..", "a/b", "/", "a\\\\x00"] {
            let tree = format!(r#"{{"nodes":[{{"name":"{name}","type":"file"}}]}}"#);
            assert!(from_bytes(tree.as_bytes()).is_err(), "{name:?}");
        }
        let twice = r#"{"nodes":[{"name":"a","type":"file"},{"name":"\\x61","type":"fifo"}]}"#;
        assert!(from_bytes(twice.as_bytes()).is_err());
    }

    #[test]
    fn other_writers_trees_are_read() {
        let tree = r#"{"nodes":[{"name":"f","type":"file","mtime":"2020-01-01T01:00:00+01:00","content":null,"extended_attributes":[{"name":"user.x","value":null}],"new":1}],"more":2}"#;
        let nodes = from_bytes(tree.as_bytes()).unwrap();
        assert_eq!(nodes[0].entry.modified.to_string(), "2020-01-01T00:00:00Z");
        assert_eq!(nodes[0].entry.attributes[0].value, b"");
        assert_eq!(from_bytes(br#"{"nodes":null}"#).unwrap(), []);
    }
}
