//! The moment that a capture holds.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Between these two moments lies the instant whose state a capture holds: everything committed
/// before `not_before` is in it, nothing begun after `not_after` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsistencyPoint {
    /// Taken just before the read transaction began.
    pub not_before: Timestamp,
    /// Taken just after it held its view.
    pub not_after: Timestamp,
}
