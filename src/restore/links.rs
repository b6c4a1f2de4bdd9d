//! Files with several names.

use std::collections::HashMap;

use super::item::Item;
use crate::entry::Kind;

/// Further names of files: the number of each such item, with that of the first name of the same file.
///
/// The snapshot says which items had one inode. It is believed only where all else is equal too: its
/// word may be wrong (a number was given to another file while the capture went on), or a lie.
pub(super) fn further_names(items: &[Item]) -> HashMap<usize, usize> {
    let (mut first, mut further) = (HashMap::new(), HashMap::new());
    for (number, item) in items.iter().enumerate() {
        let place = item.entry.place;
        if item.entry.kind != Kind::File || place.links < 2 || place.inode == 0 || place.device == 0
        {
            continue;
        }
        let first = *first.entry((place.device, place.inode)).or_insert(number);
        if first != number && is_same_file(&items[first], item) {
            further.insert(number, first);
        }
    }
    further
}

fn is_same_file(one: &Item, other: &Item) -> bool {
    let (a, b) = (&one.entry, &other.entry);
    (&one.content, &one.log) == (&other.content, &other.log)
        && (a.mode, a.modified, &a.owner, &a.attributes)
            == (b.mode, b.modified, &b.owner, &b.attributes)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use jiff::Timestamp;

    use super::*;
    use crate::entry::{Entry, Owner, Place};
    use crate::id::Id;
    use crate::repository::tree::Content;

    fn item(inode: u64, change: impl FnOnce(&mut Item)) -> Item {
        let mut item = Item {
            log: None,
            path: PathBuf::new(),
            entry: Entry {
                name: "a".into(),
                kind: Kind::File,
                mode: 0o644,
                modified: Timestamp::UNIX_EPOCH,
                changed: Timestamp::UNIX_EPOCH,
                owner: Owner::default(),
                place: Place {
                    device: 1,
                    inode,
                    links: 2,
                },
                attributes: Vec::new(),
            },
            content: Content::File {
                blobs: vec![Id::of(b"x")],
                size: 1,
            },
        };
        change(&mut item);
        item
    }

    #[test]
    fn only_items_that_are_equal_in_all_are_one_file() {
        let items = [
            item(7, |_| {}),
            item(8, |_| {}),
            item(7, |_| {}),
            item(7, |item| item.entry.mode = 0o666),
            item(7, |item| item.entry.place.device = 2),
            item(7, |item| {
                item.content = Content::File {
                    blobs: vec![Id::of(b"y")],
                    size: 1,
                };
            }),
            item(7, |item| item.entry.place.links = 1),
            item(0, |_| {}),
            item(0, |_| {}),
            item(7, |item| item.entry.name = "b".into()),
        ];
        let further = further_names(&items);
        assert_eq!(further, HashMap::from([(2, 0), (9, 0)]));
    }
}
