//! One page of a b-tree (<https://sqlite.org/fileformat2.html#b_tree_pages>): what it holds, and whether it is sound.

/// Bytes of the database's header, before the b-tree of page 1.
const FILE_HEADER: usize = 100;

/// What a page of a b-tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    IndexInterior = 2,
    TableInterior = 5,
    IndexLeaf = 10,
    TableLeaf = 13,
}

impl Kind {
    pub(super) const fn of(byte: u8) -> Option<Self> {
        match byte {
            2 => Some(Self::IndexInterior),
            5 => Some(Self::TableInterior),
            10 => Some(Self::IndexLeaf),
            13 => Some(Self::TableLeaf),
            _ => None,
        }
    }

    pub(super) const fn is_leaf(self) -> bool {
        matches!(self, Self::IndexLeaf | Self::TableLeaf)
    }

    pub(super) const fn is_of_a_table(self) -> bool {
        matches!(self, Self::TableInterior | Self::TableLeaf)
    }
}

/// A cell: an entry of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    /// The page below, on the left; 0 in a leaf.
    pub(super) child: u32,
    /// Of a table: the row's number.
    pub(super) rowid: i64,
    /// Bytes that it takes in the page.
    bytes: usize,
    /// Where its payload begins in the page, how much of it lies there, and how much there is.
    payload: (usize, usize, u64),
    /// The first page and the number of pages of what does not fit; 0 if all fits.
    pub(super) overflow: (u32, u64),
}

/// A sound page of a b-tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page<'a> {
    pub(super) kind: Kind,
    pub(super) cells: u16,
    bytes: &'a [u8],
    header: usize,
    usable: usize,
}

impl<'a> Page<'a> {
    /// What the page of this number says of itself; `usable` are its bytes without those that are reserved at its end.
    pub(super) fn parse(bytes: &'a [u8], number: u32, usable: usize) -> Option<Self> {
        let header = if number == 1 { FILE_HEADER } else { 0 };
        Some(Self {
            kind: Kind::of(*bytes.get(header)?)?,
            cells: two(bytes, header + 3)?,
            bytes: bytes.get(..usable)?,
            header,
            usable,
        })
    }

    /// The page below, right of all cells; of an interior page.
    pub(super) fn right(&self) -> Option<u32> {
        four(self.bytes, self.header + 8)
    }

    /// Where the pointers to the cells begin.
    const fn pointers(&self) -> usize {
        self.header + if self.kind.is_leaf() { 8 } else { 12 }
    }

    /// The cells in the order of their keys; none for one that does not lie within the page.
    pub(super) fn cells(&self) -> impl Iterator<Item = Option<Cell>> {
        (0..self.cells).map(|number| self.cell(self.pointer(number)?))
    }

    /// Where a cell begins.
    #[inline]
    fn pointer(&self, number: u16) -> Option<usize> {
        two(self.bytes, self.pointers() + 2 * usize::from(number)).map(usize::from)
    }

    #[inline]
    fn cell(&self, at: usize) -> Option<Cell> {
        let begin = at;
        let mut at = at;
        let mut cell = Cell {
            child: 0,
            rowid: 0,
            bytes: 0,
            payload: (0, 0, 0),
            overflow: (0, 0),
        };
        if !self.kind.is_leaf() {
            cell.child = four(self.bytes, at)?;
            at += 4;
        }
        let mut payload = 0;
        if self.kind != Kind::TableInterior {
            payload = variable(self.bytes, &mut at)?;
        }
        if self.kind.is_of_a_table() {
            cell.rowid = variable(self.bytes, &mut at)?.cast_signed();
        }
        let local = self.local(payload)?;
        cell.payload = (at, local, payload);
        at += local;
        let rest = payload - local as u64;
        if rest > 0 {
            let pages = rest.div_ceil(self.usable as u64 - 4);
            cell.overflow = (four(self.bytes, at)?, pages);
            at += 4;
        }
        // Smaller ones are given the place of a free block.
        cell.bytes = (at - begin).max(4);
        (begin + cell.bytes <= self.usable).then_some(cell)
    }

    /// The first and the last row's number of a sound page; none if it is of an index, or has no rows.
    pub(super) fn rowids(&self) -> Option<(i64, i64)> {
        let rowid = |number| Some(self.cell(self.pointer(number)?)?.rowid);
        if !self.kind.is_of_a_table() {
            return None;
        }
        let last = self.cells.checked_sub(1)?;
        Some((rowid(0)?, rowid(last)?))
    }

    /// Whether a payload has as much content as its header says: a size of each column. One whose header does not fit into
    /// the page is taken for one.
    fn is_record(&self, (begin, local, payload): (usize, usize, u64)) -> bool {
        let Some(record) = self.bytes.get(begin..begin + local) else {
            return false;
        };
        let mut at = 0;
        let Some(length) = variable(record, &mut at) else {
            return false;
        };
        if length > local as u64 {
            return length <= payload;
        }
        // No longer than the page.
        let header = &record[..usize::try_from(length).unwrap_or(local)];
        let mut content = 0_u64;
        while at < header.len() {
            let Some(kind) = variable(header, &mut at) else {
                return false;
            };
            content = match kind {
                0 | 8 | 9 => content,
                1..=4 => content + kind,
                5 => content + 6,
                6 | 7 => content + 8,
                10 | 11 => return false,
                12.. => content.saturating_add((kind - 12) / 2),
            };
        }
        at == header.len() && length.checked_add(content) == Some(payload)
    }

    /// How much of a payload lies in the page itself.
    fn local(&self, payload: u64) -> Option<usize> {
        let usable = self.usable as u64;
        let most = match self.kind {
            Kind::TableInterior => return Some(0),
            Kind::TableLeaf => usable - 35,
            Kind::IndexLeaf | Kind::IndexInterior => (usable - 12) * 64 / 255 - 23,
        };
        let local = if payload <= most {
            payload
        } else {
            let least = (usable - 12) * 32 / 255 - 23;
            let fits = least + (payload - least) % (usable - 4);
            if fits <= most { fits } else { least }
        };
        usize::try_from(local).ok()
    }

    /// Looks at all of it: whether each byte belongs to one cell, one free block or to nothing, as the header counts, and
    /// whether the rows of a table stand in order, and all entries are records.
    pub(super) fn look(&self, taken: &mut Taken) -> Option<Found> {
        let content = match two(self.bytes, self.header + 5)? {
            0 => 65536,
            content => usize::from(content),
        };
        let end = self.pointers() + 2 * usize::from(self.cells);
        if content < end || content > self.usable {
            return None;
        }
        taken.clear(self.usable);
        let mut found = Found {
            rowids: None,
            overflows: false,
        };
        let is_of_a_table = self.kind.is_of_a_table();
        for number in 0..self.cells {
            let at = self.pointer(number)?;
            let cell = self.cell(at)?;
            if at < content || !taken.take(at, cell.bytes) {
                return None;
            }
            found.overflows |= cell.overflow.1 > 0;
            if self.kind != Kind::TableInterior && !self.is_record(cell.payload) {
                return None;
            }
            if is_of_a_table {
                let first = match found.rowids {
                    Some((_, last)) if last >= cell.rowid => return None,
                    Some((first, _)) => first,
                    None => cell.rowid,
                };
                found.rowids = Some((first, cell.rowid));
            }
        }
        let mut block = usize::from(two(self.bytes, self.header + 1)?);
        while block != 0 {
            let next = usize::from(two(self.bytes, block)?);
            let bytes = usize::from(two(self.bytes, block + 2)?);
            // They stand in order, and none touches the next.
            let is_sound = block >= content
                && bytes >= 4
                && block + bytes <= self.usable
                && (next == 0 || next > block + bytes + 3);
            if !is_sound || !taken.take(block, bytes) {
                return None;
            }
            block = next;
        }
        let fragments = usize::from(*self.bytes.get(self.header + 7)?);
        (taken.free(content) == fragments).then_some(found)
    }
}

/// What is found in a sound page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// The first and the last row's number; none if it is of an index, or has no rows.
    pub(super) rowids: Option<(i64, i64)>,
    /// Whether any of its cells goes on elsewhere.
    pub(super) overflows: bool,
}

/// Which bytes of a page are taken. A page that was filled in the order of its keys has its cells one before the other,
/// up to its end: as long as that is so, it is enough to know where they begin.
#[derive(Debug)]
pub(super) struct Taken {
    usable: usize,
    begin: usize,
    /// Otherwise each byte has a bit.
    bits: Vec<u64>,
    is_scattered: bool,
}

impl Taken {
    /// None, for pages of so many bytes.
    pub(super) fn new(page_bytes: usize) -> Self {
        Self {
            usable: page_bytes,
            begin: page_bytes,
            bits: vec![0; page_bytes.div_ceil(64)],
            is_scattered: false,
        }
    }

    fn clear(&mut self, usable: usize) {
        (self.usable, self.begin) = (usable, usable);
        self.is_scattered = false;
    }

    /// Takes bytes within a page; `false` if one of them is taken already.
    #[inline]
    fn take(&mut self, at: usize, bytes: usize) -> bool {
        if !self.is_scattered {
            if at + bytes == self.begin {
                self.begin = at;
                return true;
            }
            self.is_scattered = true;
            self.bits.fill(0);
            self.mark(self.begin, self.usable - self.begin);
        }
        self.mark(at, bytes)
    }

    fn mark(&mut self, at: usize, bytes: usize) -> bool {
        let (mut at, end) = (at, at + bytes);
        while at < end {
            let (word, bit) = (at / 64, at % 64);
            let count = (64 - bit).min(end - at);
            let mask = (u64::MAX >> (64 - count)) << bit;
            if self.bits[word] & mask != 0 {
                return false;
            }
            self.bits[word] |= mask;
            at += count;
        }
        true
    }

    /// How many bytes from there to the end of the page are not taken.
    fn free(&self, begin: usize) -> usize {
        if !self.is_scattered {
            return self.begin.saturating_sub(begin);
        }
        let taken: u32 = self.bits[begin / 64..]
            .iter()
            .map(|word| word.count_ones())
            .sum();
        (self.usable - begin).saturating_sub(taken as usize)
    }
}

#[inline]
fn two(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([two[0], two[1]]))
}

#[inline]
pub(super) fn four(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

/// A number of one to nine bytes.
#[inline]
fn variable(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let rest = bytes.get(*at..)?;
    let (number, length) = match rest {
        [one @ ..0x80, ..] => (u64::from(*one), 1),
        [one, two @ ..0x80, ..] => (u64::from(one & 0x7f) << 7 | u64::from(*two), 2),
        [one, two, three @ ..0x80, ..] => {
            let high = u64::from(one & 0x7f) << 14 | u64::from(two & 0x7f) << 7;
            (high | u64::from(*three), 3)
        }
        _ => long(rest)?,
    };
    *at += length;
    Some(number)
}

/// The same of any length, and how many bytes it has.
fn long(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0;
    for length in 1..9 {
        let byte = *bytes.get(length - 1)?;
        number = number << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((number, length));
        }
    }
    Some((number << 8 | u64::from(*bytes.get(8)?), 9))
}
