//! Counting the rows of a database, and looking whether its pages are sound, while they pass by to be stored.
//!
//! `SQLite` counts by going through all leaves of a b-tree and adding up how many cells each has, and its quick check
//! reads all pages once more. Whoever stores an image has each page in hand already: what each says of itself is
//! noted here (20 bytes a page), and in the end [`Census::finish`] goes through the trees, for which only their
//! interior pages are read again, one in a hundred. Of a page that is as it was it is enough to know what was seen of it then.
//!
//! It is strict: whatever it does not understand is for `SQLite` to judge, and to count.

mod page;
mod walk;

use std::collections::BTreeMap;

use rusqlite::Connection;

use self::page::{Kind, Page, Taken, four};
use self::walk::Walk;

/// The most pages that are noted: what is larger is left to `SQLite`, so that memory stays small (60 MiB).
const MOST: usize = 3 << 20;

/// The pages of an image as they pass by.
#[derive(Debug)]
pub struct Census {
    page_bytes: usize,
    /// Bytes of a page without those that are reserved at its end; 0 before the first page.
    usable: usize,
    /// Pages that passed by.
    count: usize,
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

/// What a look at all of a page has found, and is true of it as long as it does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look(u8);

impl Look {
    const SOUND: u8 = 1;
    const OVERFLOWS: u8 = 2;

    /// As it was [kept](Self::byte).
    #[must_use]
    pub const fn of(byte: u8) -> Self {
        Self(byte)
    }

    /// To be kept.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// Whether it is a sound page of a b-tree.
    const fn is_sound(self) -> bool {
        self.0 & Self::SOUND != 0
    }

    /// Whether one of its cells goes on elsewhere.
    const fn overflows(self) -> bool {
        self.0 & Self::OVERFLOWS != 0
    }
}

/// Rows by the first page of their b-tree.
pub(super) type Counts = BTreeMap<u32, u64>;

impl Census {
    /// For an image in pages of so many bytes.
    #[must_use]
    pub fn new(page_bytes: usize) -> Self {
        Self {
            page_bytes,
            usable: 0,
            count: 0,
            pages: Vec::new(),
            first_rows: Vec::new(),
            row_spans: Vec::new(),
            taken: Taken::new(page_bytes),
        }
    }

    /// Notes what the next page says of itself. All of it is looked at, unless it is known to be as it was when somebody has; what
    /// was found is returned.
    pub fn see(&mut self, bytes: &[u8], before: Option<Look>) -> Look {
        if self.count == 0 {
            // Of the header: bytes that are left to extensions.
            let reserved = bytes.get(20).copied().map_or(0, usize::from);
            self.usable = self.page_bytes.saturating_sub(reserved);
        }
        self.count += 1;
        let number = u32::try_from(self.count).unwrap_or(u32::MAX);
        // SQLite allows no fewer.
        let parsed = (self.usable >= 480).then(|| Page::parse(bytes, number, self.usable));
        let parsed = parsed.flatten();
        let (look, rowids) = match (parsed, before) {
            (Some(page), Some(look)) if look.is_sound() => (look, page.rowids()),
            (_, Some(look)) => (look, None),
            (page, None) => match page.and_then(|page| page.look(&mut self.taken)) {
                Some(found) if found.overflows => {
                    (Look(Look::SOUND | Look::OVERFLOWS), found.rowids)
                }
                Some(found) => (Look(Look::SOUND), found.rowids),
                None => (Look::default(), None),
            },
        };
        if self.count > MOST {
            self.forget();
            return look;
        }
        let sound = parsed.filter(|_| look.is_sound());
        self.pages.push(Seen {
            next: four(bytes, 0).unwrap_or(0),
            cells: sound.map_or(0, |page| page.cells),
            kind: sound.map(|page| page.kind),
            overflows: look.overflows(),
        });
        let (first, last) = rowids.unwrap_or((0, 0));
        self.first_rows.push(first);
        let span = u32::try_from(last.abs_diff(first)).unwrap_or(u32::MAX);
        self.row_spans.push(span);
        look
    }

    /// They are too many.
    fn forget(&mut self) {
        self.pages = Vec::new();
        self.first_rows = Vec::new();
        self.row_spans = Vec::new();
    }

    /// Goes through all trees, inside the transaction of which all pages were seen. None if anything is not as it should be: then
    /// `SQLite` is to say what.
    pub(super) fn finish(&self, connection: &Connection) -> Option<Counts> {
        if self.pages.len() != self.count {
            return None;
        }
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
        let counts = Walk::new(self, &mut fetch).all(&roots)?;
        // An entry for each row, in each index that is of all of them.
        let mut indexes = connection
            .prepare(
                "SELECT i.rootpage, t.rootpage FROM sqlite_schema t, pragma_index_list(t.name) l, sqlite_schema i
                 WHERE t.type = 'table' AND i.type = 'index' AND i.name = l.name AND NOT l.partial",
            )
            .ok()?;
        let pairs = indexes.query_map([], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, u32>(1)?)));
        let pairs: Vec<(u32, u32)> = pairs.ok()?.collect::<Result<_, _>>().ok()?;
        let agree = |(index, table): &(u32, u32)| counts.get(index) == counts.get(table);
        pairs.iter().all(agree).then_some(counts)
    }
}

#[cfg(test)]
mod tests;
