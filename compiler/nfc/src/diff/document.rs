//! Differences as JSON for a program.
//!
//! Invariant: docs/diff.md lists every member; a member may be added, none changes its
//! meaning.

use super::{Change, Difference, Fate};
use nfc_ir::Family;
use serde_json::{Value, json};

/// The differences, and the patches that carry them out: for each its backend, its family
/// and its text.
#[must_use]
pub fn document(
    differences: Option<&[Difference]>,
    patches: &[(&'static str, Family, String)],
) -> Value {
    let list = |all: &[Difference]| all.iter().map(difference).collect::<Value>();
    json!({
        "differences": differences.map(list),
        "patches": patches.iter().map(patch).collect::<Value>(),
    })
}

fn patch((backend, family, text): &(&str, Family, String)) -> Value {
    json!({ "backend": backend, "family": family.to_string(), "text": text })
}

fn difference(difference: &Difference) -> Value {
    let fate = match difference.fate {
        Fate::Added => "added",
        Fate::Removed => "removed",
        Fate::Changed => "changed",
    };
    let service = difference.service.as_ref();
    json!({
        "family": difference.family.to_string(),
        "service": service.map(|(name, _)| name.to_string()),
        "protocol": service.map(|(_, protocol)| protocol.name()),
        "fate": fate,
        "changes": difference.changes.iter().map(change).collect::<Value>(),
    })
}

fn change(Change { subject, old, new }: &Change) -> Value {
    json!({
        "kind": subject.kind(),
        "address": subject.address(),
        "endpoint": subject.endpoint(),
        "old": old,
        "new": new,
    })
}
