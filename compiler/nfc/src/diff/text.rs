//! Differences as text for a person: `+` came, `-` went, `~` changed.
//!
//! Invariant: words and layout; nothing is worked out here.

use super::{Change, Difference, Fate};
use nfc_ir::Family;
use std::fmt::Write as _;

/// The differences, one paragraph for each Service.
#[must_use]
pub fn text(differences: &[Difference]) -> String {
    let mut text = String::new();
    for difference in differences {
        write_difference(&mut text, difference);
    }
    text
}

fn write_difference(text: &mut String, difference: &Difference) {
    let sign = match difference.fate {
        Fate::Added => '+',
        Fate::Removed => '-',
        Fate::Changed => '~',
    };
    let family = match difference.family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    };
    // Writing to a String cannot fail.
    let _ = match &difference.service {
        Some((name, protocol)) => writeln!(text, "{sign} {name} ({protocol}, {family})"),
        None => writeln!(text, "{sign} the node ({family})"),
    };
    for Change { subject, old, new } in &difference.changes {
        let _ = match (old, new) {
            (Some(old), Some(new)) => writeln!(text, "    ~ {subject}: {old} -> {new}"),
            (Some(old), None) => writeln!(text, "    - {subject}: {old}"),
            (None, Some(new)) => writeln!(text, "    + {subject}: {new}"),
            (None, None) => Ok(()),
        };
    }
}
