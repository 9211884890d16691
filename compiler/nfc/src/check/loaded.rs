//! What loading said, as findings.
//!
//! Invariant: decides nothing but which rule a word of the manifest room belongs to.

use super::Finding;
use super::rules::{self, Rule};
use nfc_manifest::{Diagnostic, Place, SliceProblem, Warning};

/// The finding for an error.
pub(super) fn of_diagnostic(diagnostic: &Diagnostic) -> Finding {
    let Diagnostic { place, length, title, label, help, .. } = diagnostic;
    let (message, place) = (format!("{title}: {label}"), place.clone());
    Finding { rule: rules::REFUSED, place, length: *length, message, help: help.clone() }
}

/// The finding for a warning; none for what is no flaw of the input.
pub(super) fn of_warning(warning: &Warning) -> Option<Finding> {
    let (rule, place): (&'static Rule, Option<&Place>) = match warning {
        Warning::UnknownKinds { .. } => return None,
        Warning::StrayConfiguration { place } => (rules::NODE_UNKNOWN, Some(place)),
        Warning::Misspelt { place, .. } => (rules::MISSPELT, Some(place)),
        Warning::NoClusterIp { place, .. } => (rules::NO_CLUSTER_IP, Some(place)),
        Warning::Slice { place, problem, .. } => (of_slice(problem), Some(place)),
        Warning::OldEndpoints { .. } => (rules::OLD_ENDPOINTS, None),
        Warning::UselessNodePort { place, .. } => (rules::USELESS_NODE_PORT, Some(place)),
        Warning::Node(_) => (rules::NODE_UNKNOWN, None),
        Warning::Shadowed(_) => (rules::SHADOWED, None),
    };
    // The words of a warning begin with its place.
    let words = warning.to_string();
    let message = match place {
        Some(place) => words.trim_start_matches(&format!("{place}: ")).to_owned(),
        None => words,
    };
    Some(Finding { rule, place: place.cloned(), length: 1, message, help: None })
}

fn of_slice(problem: &SliceProblem) -> &'static Rule {
    match problem {
        SliceProblem::Orphan { .. } => rules::ORPHAN,
        SliceProblem::Unlabelled => rules::UNLABELLED,
        SliceProblem::UnmatchedPort { .. } => rules::UNMATCHED_PORT,
        SliceProblem::Portless | SliceProblem::Fqdn | SliceProblem::SpareAddresses => {
            rules::ODD_SLICE
        }
    }
}
