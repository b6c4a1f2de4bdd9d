//! Counting the rows of a database, and looking whether its pages are sound, while they pass by to be stored.
//!
//! `SQLite` counts by going through all leaves of a b-tree and adding up how many cells each has, and its quick check
//! reads all pages once more. Whoever stores an image has each page in hand already: what each says of itself is
//! noted here (20 bytes a page), and in the end [`Census::finish`] goes through the trees, for which only their
//! interior pages are read again, one in a hundred.
//!
//! It is strict: whatever it does not understand is for `SQLite` to judge, and to count.

mod page;
mod walk;

use std::collections::BTreeMap;

use rusqlite::Connection;

use self::page::{Kind, Page, Taken, four};
use self::walk::Walk;

/// The most pages that are noted: what is larger is left to `SQLite`, so that memory stays small (60 MiB).
const MOST: u64 = 3 << 20;

/// The pages of an image as they pass by.
#[derive(Debug)]
pub(super) struct Census {
    page_bytes: usize,
    /// Bytes of a page without those that are reserved at its end; 0 before the first page.
    usable: usize,
    pages: Vec<Seen>,
    /// Of a leaf of a table the first row's number, and how far the last is from it; of all pages, so that each has its place.
    first_rows: Vec<i64>,
    row_spans: Vec<u32>,
    /// For one page after the other.
    taken: Taken,
}

/// What a page says of itself.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// What a page of overflow begins with: which one comes next.
    next: u32,
    cells: u16,
    /// None if it is no page of a b-tree, or no sound one.
    kind: Option<Kind>,
    overflows: bool,
}

/// Rows by the first page of their b-tree.
pub(super) type Counts = BTreeMap<u32, u64>;

impl Census {
    /// For an image of so many bytes; none if it is too large, or no image of a database.
    pub(super) fn of(image_bytes: u64, page_bytes: u64) -> Option<Self> {
        let size = usize::try_from(page_bytes).ok()?;
        let is_size = size.is_power_of_two() && (512..=65536).contains(&size);
        (is_size && image_bytes / page_bytes <= MOST).then(|| Self {
            page_bytes: size,
            usable: 0,
            pages: Vec::new(),
            first_rows: Vec::new(),
            row_spans: Vec::new(),
            taken: Taken::new(size),
        })
    }

    /// Notes what the next pages say of themselves.
    pub(super) fn see(&mut self, pages: &[u8]) {
        for page in pages.chunks(self.page_bytes) {
            if self.pages.is_empty() {
                // Of the header: bytes that are left to extensions.
                let reserved = page.get(20).copied().map_or(0, usize::from);
                self.usable = self.page_bytes.saturating_sub(reserved);
            }
            let number = u32::try_from(self.pages.len() + 1).unwrap_or(u32::MAX);
            let mut seen = Seen {
                next: four(page, 0).unwrap_or(0),
                cells: 0,
                kind: None,
                overflows: false,
            };
            let (mut first, mut span) = (0, 0);
            // SQLite allows no fewer.
            let parsed = (self.usable >= 480).then(|| Page::parse(page, number, self.usable));
            if let Some((parsed, look)) = parsed
                .flatten()
                .and_then(|page| Some((page, page.look(&mut self.taken)?)))
            {
                seen.cells = parsed.cells;
                seen.kind = Some(parsed.kind);
                seen.overflows = look.overflows;
                if let Some((lowest, highest)) = look.rowids {
                    first = lowest;
                    span = u32::try_from(highest.abs_diff(lowest)).unwrap_or(u32::MAX);
                }
            }
            self.pages.push(seen);
            self.first_rows.push(first);
            self.row_spans.push(span);
        }
    }

    /// Goes through all trees, inside the transaction of which all pages were seen. None if anything is not as it should be: then
    /// `SQLite` is to say what.
    pub(super) fn finish(&self, connection: &Connection) -> Option<Counts> {
        let mut roots = connection
            .prepare("SELECT rootpage FROM sqlite_schema WHERE rootpage > 0")
            .ok()?;
        let roots = roots.query_map([], |row| row.get::<_, u32>(0)).ok()?;
        let roots: Vec<u32> = roots.collect::<Result<_, _>>().ok()?;
        let mut page = connection
            .prepare("SELECT data FROM sqlite_dbpage WHERE pgno = ?")
            .ok()?;
        let mut fetch =
            |number: u32| -> Option<Vec<u8>> { page.query_row([number], |row| row.get(0)).ok() };
        Walk::new(self, &mut fetch).all(&roots)
    }
}

#[cfg(test)]
mod tests;
