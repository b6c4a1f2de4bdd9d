//! Headers of tar: POSIX ustar, and a pax header before it for whatever that cannot say.
//!
//! Names that are not UTF-8 stand in it as they are. GNU tar and Python take them so; a record that says
//! it (`hdrcharset=BINARY`) makes GNU tar warn.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

use jiff::Timestamp;

use crate::entry::{Attribute, Entry};

/// Tar counts in blocks of so many bytes.
pub const BLOCK: usize = 512;
/// What ends an archive: two empty blocks.
pub const END: usize = 2 * BLOCK;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member<'a> {
    /// A file of so many bytes.
    File(u64),
    /// A further name of the file that stands under this one.
    HardLink(&'a OsStr),
    /// A symbolic link and its text.
    Symlink(&'a OsStr),
    /// A folder.
    Folder,
    /// A character device, by its number.
    CharacterDevice(u64),
    /// A block device, by its number.
    BlockDevice(u64),
    /// A named pipe.
    Pipe,
}

impl Member<'_> {
    const fn type_flag(self) -> u8 {
        match self {
            Self::File(_) => b'0',
            Self::HardLink(_) => b'1',
            Self::Symlink(_) => b'2',
            Self::CharacterDevice(_) => b'3',
            Self::BlockDevice(_) => b'4',
            Self::Folder => b'5',
            Self::Pipe => b'6',
        }
    }
}

/// The header of a member: the blocks that stand before its content.
#[must_use]
pub fn header(name: &OsStr, member: Member<'_>, entry: &Entry) -> Vec<u8> {
    let mut pax = Pax::default();
    let mut name = name.as_bytes().to_vec();
    if member == Member::Folder {
        name.push(b'/');
    }
    let (link, size) = match member {
        Member::HardLink(target) | Member::Symlink(target) => (target.as_bytes(), 0),
        Member::File(size) => (&b""[..], size),
        _ => (&b""[..], 0),
    };
    let device = match member {
        Member::CharacterDevice(device) | Member::BlockDevice(device) => device,
        _ => 0,
    };
    pax.text("path", &name, 100);
    pax.text("linkpath", link, 100);
    pax.text("uname", entry.owner.user.as_bytes(), 31);
    pax.text("gname", entry.owner.group.as_bytes(), 31);
    let seconds = entry.modified.as_second();
    if entry.modified.subsec_nanosecond() != 0 || !fits(seconds.unsigned_abs(), 11) || seconds < 0 {
        pax.add("mtime", decimal(entry.modified).as_bytes());
    }
    for (key, value, digits) in [
        ("size", size, 11),
        ("uid", entry.owner.uid.into(), 7),
        ("gid", entry.owner.gid.into(), 7),
    ] {
        if !fits(value, digits) {
            pax.add(key, value.to_string().as_bytes());
        }
    }
    // A further name has what the file has.
    let attributes = match member {
        Member::HardLink(_) => &[][..],
        _ => &entry.attributes,
    };
    for Attribute { name, value } in attributes {
        // A name that would end the key, or the record, is none that a kernel takes.
        if !name.is_empty() && !name.contains(['=', '\0', '\n']) {
            pax.add(&format!("SCHILY.xattr.{name}"), value);
        }
    }
    let fields = Fields {
        name: &name,
        link,
        mode: u64::from(entry.mode),
        owner: (entry.owner.uid.into(), entry.owner.gid.into()),
        size,
        modified: u64::try_from(seconds).unwrap_or(0),
        type_flag: member.type_flag(),
        names: (entry.owner.user.as_bytes(), entry.owner.group.as_bytes()),
        device,
    };
    let mut bytes = pax.blocks(&fields);
    bytes.extend(fields.block());
    bytes
}

/// Zeroes that fill the last block of a content.
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "a remainder of 512 fits")]
pub const fn padding(size: u64) -> usize {
    let over = (size % BLOCK as u64) as usize;
    if over == 0 { 0 } else { BLOCK - over }
}

/// Whether a number fits into so many octal digits.
const fn fits(number: u64, digits: u32) -> bool {
    number < 1 << (3 * digits)
}

/// A time as pax writes it: seconds with nine decimals.
fn decimal(time: Timestamp) -> String {
    let (seconds, nanoseconds) = (time.as_second(), time.subsec_nanosecond());
    let sign = if seconds < 0 || nanoseconds < 0 {
        "-"
    } else {
        ""
    };
    format!(
        "{sign}{}.{:09}",
        seconds.unsigned_abs(),
        nanoseconds.unsigned_abs()
    )
}

/// The records of a pax header.
#[derive(Debug, Default)]
struct Pax {
    records: Vec<u8>,
}

impl Pax {
    /// Adds a text that is too long for its field, or not plain ASCII.
    fn text(&mut self, key: &str, value: &[u8], longest: usize) {
        if value.len() > longest || !value.is_ascii() {
            self.add(key, value);
        }
    }

    /// Adds a record: its own length with all of it, a blank, the key, the value.
    fn add(&mut self, key: &str, value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.records.extend(format!("{length} {key}=").as_bytes());
        self.records.extend(value);
        self.records.push(b'\n');
    }

    /// The header that stands before that of `fields`; nothing if there is no need.
    fn blocks(self, fields: &Fields<'_>) -> Vec<u8> {
        if self.records.is_empty() {
            return Vec::new();
        }
        let size = self.records.len();
        let own = Fields {
            name: b"././@PaxHeader",
            link: b"",
            type_flag: b'x',
            size: size as u64,
            mode: 0o644,
            owner: (0, 0),
            names: (b"", b""),
            device: 0,
            ..*fields
        };
        let mut bytes = own.block().to_vec();
        bytes.extend(self.records);
        bytes.resize(bytes.len() + padding(size as u64), 0);
        bytes
    }
}

/// The fields of a ustar header.
#[derive(Debug, Clone, Copy)]
struct Fields<'a> {
    name: &'a [u8],
    link: &'a [u8],
    mode: u64,
    owner: (u64, u64),
    size: u64,
    modified: u64,
    type_flag: u8,
    names: (&'a [u8], &'a [u8]),
    device: u64,
}

impl Fields<'_> {
    fn block(&self) -> [u8; BLOCK] {
        let device = (
            rustix::fs::major(self.device).into(),
            rustix::fs::minor(self.device).into(),
        );
        let mut block = [0; BLOCK];
        put(&mut block[0..100], self.name);
        octal(&mut block[100..108], self.mode);
        octal(&mut block[108..116], self.owner.0);
        octal(&mut block[116..124], self.owner.1);
        octal(&mut block[124..136], self.size);
        octal(&mut block[136..148], self.modified);
        block[148..156].fill(b' ');
        block[156] = self.type_flag;
        put(&mut block[157..257], self.link);
        put(&mut block[257..265], b"ustar\x0000");
        put(&mut block[265..296], self.names.0);
        put(&mut block[297..328], self.names.1);
        octal(&mut block[329..337], device.0);
        octal(&mut block[337..345], device.1);
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        octal(&mut block[148..155], sum);
        block
    }
}

/// Puts as much of a text as its field takes; the whole stands in the pax header.
fn put(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// Puts a number in octal digits and a zero byte. One that does not fit stands in the pax header.
fn octal(field: &mut [u8], number: u64) {
    let digits = field.len() - 1;
    let number = if fits(number, u32::try_from(digits).unwrap_or(11)) {
        number
    } else {
        0
    };
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(text, "{number:0digits$o}");
    put(field, text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for length in [
            1, 80, 90, 91, 92, 93, 94, 95, 96, 97, 980, 985, 990, 995, 9990,
        ] {
            let mut pax = Pax::default();
            pax.add("path", &vec![b'x'; length]);
            let text = String::from_utf8(pax.records.clone()).unwrap();
            let (said, _) = text.split_once(' ').unwrap();
            assert_eq!(said.parse(), Ok(pax.records.len()), "{length}");
        }
    }

    #[test]
    fn times_before_1970_have_one_sign() {
        for (nanoseconds, text) in [
            (1_500_000_000_i128, "1.500000000"),
            (-1_500_000_000, "-1.500000000"),
            (-500_000_000, "-0.500000000"),
            (-2_000_000_000, "-2.000000000"),
        ] {
            assert_eq!(
                decimal(Timestamp::from_nanosecond(nanoseconds).unwrap()),
                text
            );
        }
    }

    #[test]
    fn a_content_ends_with_its_block() {
        for (size, zeroes) in [
            (0, 0),
            (1, 511),
            (511, 1),
            (512, 0),
            (513, 511),
            (u64::MAX, 1),
        ] {
            assert_eq!(padding(size), zeroes, "{size}");
        }
    }
}
