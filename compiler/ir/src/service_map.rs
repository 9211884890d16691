//! Services that come, change and go one at a time.
//!
//! Invariant: what is done for a change is bounded by the change, not by how many Services
//! there are.

use crate::Service;

/// What became of one Service: it came, it went, or it is another than before. Name and
/// protocol of the two are the same; one of them is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The Service as it was; `None` when it is new.
    pub before: Option<Service>,
    /// The Service as it is now; `None` when it is gone.
    pub after: Option<Service>,
}
