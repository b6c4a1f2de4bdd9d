//! Parts of sentences that several errors have, or that depend on a number.

use crate::units::ByteSize;

pub(super) fn untried(left: usize) -> String {
    match left {
        0 => String::new(),
        left => format!(" that were tried; {left} more would take too long"),
    }
}

pub(super) fn and_freed(bytes: u64) -> String {
    match bytes {
        0 => String::new(),
        bytes => format!(" again after {} were freed", ByteSize(bytes)),
    }
}

pub(super) fn but_unused(bytes: u64) -> String {
    match bytes {
        0 => String::new(),
        bytes => format!(
            " but {}, which lie in packs beside what is needed and are fewer than --max-unused",
            ByteSize(bytes)
        ),
    }
}

pub(super) fn and_others(others: u64) -> String {
    match others {
        0 => String::new(),
        others => format!(" (and {others} more)"),
    }
}

pub(super) fn and_more(others: u64) -> String {
    match others {
        0 => String::new(),
        others => format!("; and so with {others} more"),
    }
}

pub(super) fn signal_name(signal: i32) -> String {
    match signal {
        2 => "SIGINT".to_owned(),
        15 => "SIGTERM".to_owned(),
        other => format!("signal {other}"),
    }
}
