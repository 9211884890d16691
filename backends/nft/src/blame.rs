//! From an element's comment back to the Service that is written there.
//!
//! Invariant: reads what `lower` wrote into comments, and nothing else.

use nfc_backend::Origin;
use nfc_ir::ServiceName;
use nfc_ruleset::encode::Blamed;

/// What is to blame, in the user's terms.
pub(crate) fn origin(blamed: Blamed) -> Origin {
    Origin {
        service: blamed.comment.as_deref().and_then(ServiceName::of_display),
        object: blamed.object,
    }
}
