//! One Service changed: what kube-proxy sends then.
//!
//! Only the chains of the Kubernetes Service that changed are flushed and filled again, all
//! its ports together; elements are compared with those of before, one by one. That is the
//! partial sync of 1.32 and later.
//!
//! Invariant: compares two Irs, and asks the kernel nothing.

use super::script::{Element, Script, Set};
use super::service::{Content, shared_elements};
use super::{PeerError, Shape};
use nfc_backend::Unsupported;
use nfc_ir::{Ir, Service, ServiceName};
use std::collections::{BTreeMap, BTreeSet};

/// What kube-proxy sends when a Service has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The transaction that makes packets go the new way.
    pub transaction: String,
    /// Deletes the chains that the transaction has emptied; nothing when there are none.
    /// kube-proxy sends it with a later sync, at least a second after the first, because
    /// kernels before 6.2 count a chain as used a moment longer than it is.
    pub clean_up: String,
}

/// What has happened to a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    EndpointAdded,
    EndpointsChanged,
    ServiceAdded,
    ServiceRemoved,
}

impl Event {
    fn has_happened(self, old: &[&Service], new: &[&Service]) -> bool {
        match self {
            Self::ServiceAdded => old.is_empty() && !new.is_empty(),
            Self::ServiceRemoved => !old.is_empty() && new.is_empty(),
            Self::EndpointsChanged => {
                let kept = |s: &Service| Service { endpoints: Vec::new(), ..s.clone() };
                let same = |(old, new): (&&Service, &&Service)| kept(old) == kept(new);
                old.len() == new.len() && old != new && old.iter().zip(new).all(same)
            }
            Self::EndpointAdded => {
                let grown = |old: &Service, new: &Service| {
                    let kept = |s: &Service| Service { endpoints: Vec::new(), ..s.clone() };
                    kept(old) == kept(new)
                        && old.endpoints.iter().all(|e| new.endpoints.contains(e))
                };
                let count =
                    |ports: &[&Service]| -> usize { ports.iter().map(|s| s.endpoints.len()).sum() };
                old.len() == new.len()
                    && old.iter().zip(new).all(|(old, new)| grown(old, new))
                    && count(old) < count(new)
            }
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::EndpointAdded => "got an endpoint",
            Self::EndpointsChanged => "has other endpoints",
            Self::ServiceAdded => "was added",
            Self::ServiceRemoved => "was removed",
        }
    }
}

/// What is sent for `event`, once it is sure that nothing else happened.
pub(super) fn told(
    shape: Shape,
    (old, new): (&Ir, &Ir),
    service: &ServiceName,
    event: Event,
) -> Result<Change, PeerError> {
    if (old.family(), old.node()) != (new.family(), new.node()) {
        return Err(PeerError::FullSync);
    }
    if !others(old, service).eq(others(new, service)) {
        return Err(PeerError::OthersChanged { service: service.clone() });
    }
    let ports = |ir| ports(ir, service).collect::<Vec<_>>();
    if !event.has_happened(&ports(old), &ports(new)) {
        let service = service.clone();
        return Err(PeerError::Otherwise { service, words: event.words() });
    }
    Ok(sync(shape, old, new, service)?)
}

/// The partial sync after `service` became what it is in `new`.
pub(super) fn sync(
    shape: Shape,
    old: &Ir,
    new: &Ir,
    service: &ServiceName,
) -> Result<Change, Unsupported> {
    let (before, after) = (contents(shape, old, service)?, contents(shape, new, service)?);
    let elsewhere = others(new, service).flat_map(|s| shared_elements(shape, new, s));
    let elsewhere: BTreeSet<_> = elsewhere.collect();
    let own = |e: &&Element| !elsewhere.contains(&(e.set, e.key.clone()));

    let mut script = Script::new(new.family());
    let mut known = Known::new(before.iter().flat_map(|c| &c.elements).filter(own));
    for content in &after {
        content.chains.iter().for_each(|chain| script.chain(chain));
        content.elements.iter().filter(own).for_each(|e| known.ensure(e, &mut script));
        content.rules.iter().for_each(|rule| script.rule(&rule.chain, &rule.text));
    }
    let wanted: BTreeSet<_> = after.iter().flat_map(|c| &c.chains).collect();
    let stale = || before.iter().flat_map(|c| &c.chains).filter(|c| !wanted.contains(c));
    stale().for_each(|chain| script.flush(chain));
    known.left_over.iter().for_each(|(set, key)| script.delete_element(*set, key));

    let mut clean_up = Script::new(new.family());
    stale().for_each(|chain| clean_up.delete_chain(chain));
    Ok(Change { transaction: script.into_text(), clean_up: clean_up.into_text() })
}

/// The elements that are there, and those that nobody has asked for yet.
struct Known<'a> {
    verdicts: BTreeMap<(Set, &'a str), Option<&'a str>>,
    left_over: BTreeSet<(Set, &'a str)>,
}

impl<'a> Known<'a> {
    fn new(elements: impl Iterator<Item = &'a Element>) -> Self {
        let verdicts: BTreeMap<_, _> =
            elements.map(|e| ((e.set, e.key.as_str()), e.verdict.as_deref())).collect();
        let left_over = verdicts.keys().copied().collect();
        Self { verdicts, left_over }
    }

    /// Sees to it that `element` is there with its verdict.
    fn ensure(&mut self, element: &'a Element, script: &mut Script) {
        let (key, verdict) = ((element.set, element.key.as_str()), element.verdict.as_deref());
        self.left_over.remove(&key);
        let before = self.verdicts.insert(key, verdict);
        // What a key stands for cannot be changed, only deleted and added again.
        if before.is_some_and(|before| before != verdict) {
            script.delete_element(element.set, &element.key);
        }
        if before != Some(verdict) {
            script.element(element);
        }
    }
}

fn contents(shape: Shape, ir: &Ir, service: &ServiceName) -> Result<Vec<Content>, Unsupported> {
    ports(ir, service).map(|port| Content::of(shape, ir, port)).collect()
}

/// The ports of the Kubernetes Service that `service` is a port of: kube-proxy notes changes
/// by namespace and name.
fn ports<'a>(ir: &'a Ir, service: &'a ServiceName) -> impl Iterator<Item = &'a Service> {
    ir.services().iter().filter(move |s| is_of(s, service))
}

/// All other Services.
fn others<'a>(ir: &'a Ir, service: &'a ServiceName) -> impl Iterator<Item = &'a Service> {
    ir.services().iter().filter(move |s| !is_of(s, service))
}

fn is_of(port: &Service, service: &ServiceName) -> bool {
    (&port.name.namespace, &port.name.name) == (&service.namespace, &service.name)
}
