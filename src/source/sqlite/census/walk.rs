//! Going through the b-trees of an image of which each page was seen.

use super::page::{Cell, Kind, Page, four};
use super::{Census, Counts};

/// The deepest tree that `SQLite` goes down.
const DEEPEST: usize = 20;
/// Where `SQLite` puts its locks: the page that holds this byte has no content.
const LOCKS: u64 = 0x4000_0000;

/// Where in page 1 the list of free pages begins, how many there are, and whether pages know who refers to them.
const FREE_FIRST: usize = 32;
const FREE_COUNT: usize = 36;
const HAS_POINTER_MAPS: usize = 52;

/// Reads a page by its number.
type Fetch<'a> = &'a mut dyn FnMut(u32) -> Option<Vec<u8>>;

/// A walk: each page is met once.
pub(super) struct Walk<'a> {
    census: &'a Census,
    fetch: Fetch<'a>,
    /// Pages that were met, a bit each.
    met: Vec<u64>,
    count: usize,
}

/// One tree.
struct Tree {
    is_of_a_table: bool,
    rows: u64,
    /// How deep its leaves lie; all as deep.
    depth: Option<usize>,
    /// The highest number of a row so far.
    last: Option<i64>,
}

impl Tree {
    /// Between two pages below an interior one.
    fn between(&mut self, kind: Kind, cell: &Cell) -> Option<()> {
        if kind == Kind::TableInterior {
            if self.last.is_some_and(|last| last > cell.rowid) {
                return None;
            }
            self.last = Some(cell.rowid);
        } else {
            // An interior page of an index has entries of its own.
            self.rows += 1;
        }
        Some(())
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(census: &'a Census, fetch: Fetch<'a>) -> Self {
        Self {
            met: vec![0; census.pages.len().div_ceil(64)],
            count: 0,
            census,
            fetch,
        }
    }

    /// Goes through the trees that begin at these pages, that of the schema, what is free and what `SQLite` keeps for itself. None
    /// if any page is met twice or never, or is not what it should be.
    pub(super) fn all(mut self, roots: &[u32]) -> Option<Counts> {
        let mut counts = Counts::new();
        for root in std::iter::once(1).chain(roots.iter().copied()) {
            counts.insert(root, self.tree(root)?);
        }
        let head = (self.fetch)(1)?;
        self.free(four(&head, FREE_FIRST)?, four(&head, FREE_COUNT)?)?;
        let locks = u32::try_from(LOCKS / self.census.page_bytes as u64 + 1).ok()?;
        if four(&head, HAS_POINTER_MAPS)? != 0 {
            let apart = u32::try_from(self.census.usable / 5 + 1).ok()?;
            let mut map = 2_u32;
            while map as usize <= self.census.pages.len() {
                self.meet(if map == locks { map + 1 } else { map })?;
                map = map.checked_add(apart)?;
            }
        }
        if locks as usize <= self.census.pages.len() {
            self.meet(locks)?;
        }
        (self.count == self.census.pages.len()).then_some(counts)
    }

    /// Meets a page: only once.
    fn meet(&mut self, number: u32) -> Option<usize> {
        let at = (number as usize).checked_sub(1)?;
        if at >= self.census.pages.len() {
            return None;
        }
        let (word, bit) = (&mut self.met[at / 64], 1 << (at % 64));
        if *word & bit != 0 {
            return None;
        }
        *word |= bit;
        self.count += 1;
        Some(at)
    }

    /// How many rows the tree has.
    fn tree(&mut self, root: u32) -> Option<u64> {
        let kind = self
            .census
            .pages
            .get((root as usize).checked_sub(1)?)?
            .kind?;
        let mut tree = Tree {
            is_of_a_table: kind.is_of_a_table(),
            rows: 0,
            depth: None,
            last: None,
        };
        self.node(root, 0, &mut tree)?;
        Some(tree.rows)
    }

    fn node(&mut self, number: u32, depth: usize, tree: &mut Tree) -> Option<()> {
        let at = self.meet(number)?;
        let seen = self.census.pages[at];
        let kind = seen.kind?;
        if kind.is_of_a_table() != tree.is_of_a_table || depth > DEEPEST {
            return None;
        }
        if kind.is_leaf() {
            if *tree.depth.get_or_insert(depth) != depth {
                return None;
            }
            tree.rows += u64::from(seen.cells);
            if kind == Kind::TableLeaf && seen.cells > 0 {
                let first = self.census.first_rows[at];
                if tree.last.is_some_and(|last| last >= first) {
                    return None;
                }
                tree.last = Some(first.saturating_add(self.census.row_spans[at].into()));
            }
            if !seen.overflows {
                return Some(());
            }
        }
        let bytes = (self.fetch)(number)?;
        let page = Page::parse(&bytes, number, self.census.usable)?;
        // Of the same transaction, so the same page.
        if (page.kind, page.cells) != (kind, seen.cells) {
            return None;
        }
        for cell in page.cells() {
            let cell = cell?;
            if !kind.is_leaf() {
                self.node(cell.child, depth + 1, tree)?;
                tree.between(kind, &cell)?;
            }
            self.overflow(cell.overflow)?;
        }
        if kind.is_leaf() {
            return Some(());
        }
        self.node(page.right()?, depth + 1, tree)
    }

    /// What does not fit into a page goes on in others.
    fn overflow(&mut self, (first, pages): (u32, u64)) -> Option<()> {
        let mut number = first;
        for _ in 0..pages {
            let at = self.meet(number)?;
            number = self.census.pages[at].next;
        }
        (number == 0).then_some(())
    }

    /// The free pages: a list of pages that list others.
    fn free(&mut self, first: u32, count: u32) -> Option<()> {
        let before = self.count;
        let mut number = first;
        while number != 0 {
            self.meet(number)?;
            let bytes = (self.fetch)(number)?;
            let listed = four(&bytes, 4)? as usize;
            if listed > self.census.usable / 4 - 2 {
                return None;
            }
            for at in 0..listed {
                self.meet(four(&bytes, 8 + 4 * at)?)?;
            }
            number = four(&bytes, 0)?;
        }
        (self.count - before == count as usize).then_some(())
    }
}
