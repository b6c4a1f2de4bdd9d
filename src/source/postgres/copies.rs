//! Rows of each table in a script that `pg_restore` writes: lines between `COPY … FROM stdin;` and `\.`.
//!
//! Each row is one line there, whatever it holds; and what stands outside is read as SQL, so that a name with a line end in it, or
//! quotes, is a name. A dump that would fool this count only fails the comparison.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::session::full_name;

/// Most bytes of a statement that are kept: the names of a table and all its columns are at its begin.
const MAX_STATEMENT: usize = 1024 * 1024;

/// Reads a script to its end.
pub fn count(mut script: impl Read) -> io::Result<BTreeMap<String, u64>> {
    let mut counter = Counter::default();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match script.read(&mut buffer) {
            Ok(0) => return Ok(counter.rows),
            Ok(read) => counter.take(&buffer[..read]),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
}

#[derive(Debug, Default)]
struct Counter {
    rows: BTreeMap<String, u64>,
    place: Place,
    statement: Vec<u8>,
    /// The table whose rows come now, and how many came.
    table: Option<(String, u64)>,
    /// The first bytes of the line that is open, as far as it may be the end mark.
    line: Vec<u8>,
    line_bytes: usize,
}

/// Where in the script we are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    /// Between two statements.
    #[default]
    Between,
    /// In a comment, or a line for `psql` alone: up to the end of the line.
    Skipped,
    /// In a statement.
    Statement,
    /// In a text or a name of it, which this byte ends.
    Quoted(u8),
    /// After the statement that rows follow: up to the end of its line.
    BeforeRows,
    /// Rows.
    Rows,
}

/// Bytes of the longest line that matters in rows: the mark and what may stand after it.
const MARK: usize = 3;

impl Counter {
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = if self.place == Place::Rows {
                self.rows_of(bytes)
            } else {
                self.script(bytes[0]);
                &bytes[1..]
            };
        }
    }

    /// Takes what there is of a line of rows; returns the rest.
    fn rows_of<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        let room = MARK.saturating_sub(self.line.len());
        self.line.extend(&part[..part.len().min(room)]);
        self.line_bytes += part.len();
        let Some(end) = end else {
            return &[];
        };
        if self.line_bytes == 2 && self.line == b"\\." {
            if let Some((table, rows)) = self.table.take() {
                *self.rows.entry(table).or_default() += rows;
            }
            self.place = Place::Between;
        } else if let Some((_, rows)) = &mut self.table {
            *rows += 1;
        }
        self.line.clear();
        self.line_bytes = 0;
        &bytes[end + 1..]
    }

    fn script(&mut self, byte: u8) {
        match self.place {
            Place::Between if byte.is_ascii_whitespace() => {}
            // `\restrict` and its like stand alone on a line.
            Place::Between if byte == b'\\' => self.place = Place::Skipped,
            Place::Between => {
                self.statement.clear();
                self.place = Place::Statement;
                self.in_statement(byte);
            }
            Place::Skipped => {
                if byte == b'\n' {
                    self.place = Place::Between;
                }
            }
            Place::Statement => self.in_statement(byte),
            Place::Quoted(end) => {
                self.keep(byte);
                // One that is doubled ends it and begins it again.
                if byte == end {
                    self.place = Place::Statement;
                }
            }
            Place::BeforeRows => {
                if byte == b'\n' {
                    self.place = Place::Rows;
                }
            }
            Place::Rows => unreachable!("rows are taken by the line"),
        }
    }

    fn in_statement(&mut self, byte: u8) {
        self.keep(byte);
        match byte {
            b'\'' | b'"' => self.place = Place::Quoted(byte),
            b'-' if self.statement.ends_with(b"--") => {
                self.statement.truncate(self.statement.len() - 2);
                // Only comments of a whole line stand in these scripts.
                self.place = Place::Skipped;
            }
            b';' => {
                self.table = copied(&self.statement).map(|table| (table, 0));
                self.place = match self.table {
                    Some(_) => Place::BeforeRows,
                    None => Place::Between,
                };
            }
            _ => {}
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.statement.len() < MAX_STATEMENT {
            self.statement.push(byte);
        }
    }
}

/// The table of `COPY schema.table (columns) FROM stdin;`.
fn copied(statement: &[u8]) -> Option<String> {
    let rest = statement.strip_prefix(b"COPY ")?;
    if !statement.ends_with(b"FROM stdin;") {
        return None;
    }
    let (schema, rest) = name(rest)?;
    let (table, rest) = name(rest.strip_prefix(b".")?)?;
    rest.starts_with(b" ").then(|| full_name(&schema, &table))
}

/// A name, and what stands after it.
fn name(text: &[u8]) -> Option<(String, &[u8])> {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let Some(mut rest) = text.strip_prefix(b"\"") else {
        let end = text
            .iter()
            .position(|byte| matches!(byte, b'.' | b' ' | b'(' | b';'))?;
        return Some((lossy(&text[..end]), &text[end..]));
    };
    let mut name = Vec::new();
    loop {
        let end = rest.iter().position(|byte| *byte == b'"')?;
        name.extend(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix(b"\"") {
            Some(more) => {
                name.push(b'"');
                rest = more;
            }
            None => return Some((lossy(&name), rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\nSET standard_conforming_strings = on;\n\
        SELECT pg_catalog.set_config('search_path', 'COPY x FROM stdin;', false);\n\n\
        --\n-- Data for Name: orders; Type: TABLE DATA\n--\n\n\
        COPY public.orders (id, item) FROM stdin;\n1\tcup\\nsaucer\n2\t\\\\.\n\\N\t--\n\\.\n\n\n\
        COPY public.empty (id) FROM stdin;\n\\.\n\n\
        COPY \"My \"\"Shop\"\"\n; COPY\".\"a.b\" (\"x;\ny\") FROM stdin;\n\n\n\\.\n\n\
        COPY public.nothing  FROM stdin;\n\n\\.\n\
        SELECT pg_catalog.setval('public.\"it''s\nCOPY a.b FROM stdin;\n\"', 3, true);\n\\unrestrict abc\n";

    fn expected() -> BTreeMap<String, u64> {
        [
            ("public.orders", 3),
            ("public.empty", 0),
            ("\"My \"\"Shop\"\"\n; COPY\".\"a.b\"", 2),
            ("public.nothing", 1),
        ]
        .map(|(name, rows)| (name.to_owned(), rows))
        .into()
    }

    #[test]
    fn rows_are_counted_whatever_names_and_texts_hold() {
        assert_eq!(count(SCRIPT.as_bytes()).unwrap(), expected());
    }

    #[test]
    fn it_does_not_matter_how_the_script_comes_in_pieces() {
        for size in 1..40 {
            let mut counter = Counter::default();
            for piece in SCRIPT.as_bytes().chunks(size) {
                counter.take(piece);
            }
            assert_eq!(counter.rows, expected(), "pieces of {size}");
        }
    }

    #[test]
    fn a_table_whose_end_does_not_come_is_not_counted() {
        let cut = "COPY public.orders (id) FROM stdin;\n1\n2\n";
        assert_eq!(count(cut.as_bytes()).unwrap(), BTreeMap::new());
    }
}
