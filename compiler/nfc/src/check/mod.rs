//! Manifests, judged by what kube-proxy would make of them.
//!
//! What loading refuses or warns of are findings here too, so that one answer holds all
//! there is to say about an input.
//!
//! Invariant: pure; places are those of the text, and nothing is judged that no traffic or
//! no operator would notice.

mod loaded;
mod object;
pub mod rules;
mod sarif;
mod services;
mod slices;
mod text;

pub use rules::{Rule, Severity};
pub use sarif::{document, sarif};
pub use text::text;

use nfc_ir::{Family, Ir, ProxyMode, Service};
use nfc_manifest::{Document, Loaded, Place, Settings, written};
use object::Objects;
use std::collections::BTreeMap;

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which rule.
    pub rule: &'static Rule,
    /// Where, when it is about a place.
    pub place: Option<Place>,
    /// How many bytes are meant there.
    pub length: usize,
    /// What is wrong, with names and numbers.
    pub message: String,
    /// What to do, where more is known than the rule says.
    pub help: Option<String>,
}

impl Finding {
    fn new(rule: &'static Rule, place: &Place, length: usize, message: String) -> Self {
        Self { rule, place: Some(place.clone()), length, message, help: None }
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> &str {
        self.help.as_deref().unwrap_or(self.rule.remedy)
    }
}

/// Everything that is found in `documents`, by file and line, under kube-proxy's mode in the
/// settings.
#[must_use]
pub fn check(documents: &[Document], settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let irs = match nfc_manifest::load(documents, settings) {
        Ok(Loaded { irs, warnings, .. }) => {
            findings.extend(warnings.iter().filter_map(loaded::of_warning));
            irs
        }
        Err(diagnostics) => {
            findings.extend(diagnostics.iter().map(loaded::of_diagnostic));
            BTreeMap::new()
        }
    };
    let written = written(documents);
    let objects = Objects::of(&written);
    let case = Case { objects: &objects, irs: &irs, mode: settings.mode };
    for service in &objects.services {
        services::check(&case, service, &mut findings);
    }
    for slice in objects.slices() {
        slices::check(&case, slice, &mut findings);
    }
    findings.sort_by(|a, b| (&a.place, a.rule.code).cmp(&(&b.place, b.rule.code)));
    findings.dedup();
    findings
}

/// What rules look at.
struct Case<'a> {
    objects: &'a Objects<'a>,
    /// What the input means; nothing when it was refused.
    irs: &'a BTreeMap<Family, Ir>,
    /// Whose promises count where kube-proxy's modes differ.
    mode: ProxyMode,
}

impl<'a> Case<'a> {
    /// What became of a Service's ports, in each family.
    fn service_ports(&self, name: &str) -> impl Iterator<Item = (&'a Ir, &'a Service)> {
        let (namespace, name) = name.split_once('/').unwrap_or_default();
        let wanted = (namespace.to_owned(), name.to_owned());
        self.irs.values().flat_map(move |ir| {
            // Services of an Ir are sorted by name.
            let key = (wanted.0.as_str(), wanted.1.as_str());
            let all = ir.services();
            let first = all.partition_point(|service| owner(service) < key);
            let last = all.partition_point(|service| owner(service) <= key);
            all[first..last].iter().map(move |service| (ir, service))
        })
    }
}

/// The Service that a port belongs to, as namespace and name.
fn owner(service: &Service) -> (&str, &str) {
    (&service.name.namespace, &service.name.name)
}

/// Whether any finding is an error.
#[must_use]
pub fn has_errors(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.rule.severity == Severity::Error)
}
