//! Which endpoints of a Service are in use: conditions, topology hints, policies.
//!
//! The rules are kube-proxy's (`pkg/proxy/topology.go`, `CategorizeEndpoints`), with node
//! hints as since 1.33 (KEP-3015).
//!
//! Invariant: a pure function of one Service and one Node; shared by [`eval`](crate::eval)
//! and every lowering, so that they cannot disagree about which endpoints exist.

use crate::{Endpoint, Node, Service, TrafficPolicy};

/// The endpoints in use.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Selection<'a> {
    /// Endpoints that `Cluster` traffic is spread over.
    pub cluster: Vec<&'a Endpoint>,
    /// Endpoints that `Local` traffic is spread over; empty when no policy is `Local`.
    pub local: Vec<&'a Endpoint>,
    /// Whether anything in the cluster could answer. Without it traffic is rejected, not
    /// dropped.
    pub any: bool,
}

/// Picks the endpoints of `service` that `node` uses.
#[must_use]
pub fn select<'a>(service: &'a Service, node: &Node) -> Selection<'a> {
    let mut selection = Selection::default();
    if uses_cluster(service) {
        selection.cluster = cluster_endpoints(service, node);
    }
    if uses_local(service) {
        selection.local = or_terminating(&service.endpoints, |e| e.local);
    }
    selection.any = service.endpoints.iter().any(|e| e.ready || is_last_resort(e));
    selection
}

/// Cluster endpoints are needed by the cluster IP, and by outside addresses even under a
/// `Local` policy: the node's own pods may use them.
fn uses_cluster(service: &Service) -> bool {
    service.internal_policy == TrafficPolicy::Cluster || service.is_external()
}

fn uses_local(service: &Service) -> bool {
    service.internal_policy == TrafficPolicy::Local
        || (service.external_policy == TrafficPolicy::Local && service.is_external())
}

fn cluster_endpoints<'a>(service: &'a Service, node: &Node) -> Vec<&'a Endpoint> {
    let topology = Topology::of(service, node);
    let near: Vec<_> =
        service.endpoints.iter().filter(|e| e.ready && topology.admits(e, node)).collect();
    if near.is_empty() { last_resorts(&service.endpoints, |_| true) } else { near }
}

/// The ready endpoints that pass `filter`, or, when there are none, those that are going
/// down but still answer (KEP-1669).
fn or_terminating(endpoints: &[Endpoint], filter: fn(&Endpoint) -> bool) -> Vec<&Endpoint> {
    let ready: Vec<_> = endpoints.iter().filter(|e| e.ready && filter(e)).collect();
    if ready.is_empty() { last_resorts(endpoints, filter) } else { ready }
}

fn last_resorts(endpoints: &[Endpoint], filter: fn(&Endpoint) -> bool) -> Vec<&Endpoint> {
    endpoints.iter().filter(|e| is_last_resort(e) && filter(e)).collect()
}

fn is_last_resort(endpoint: &Endpoint) -> bool {
    endpoint.serving && endpoint.terminating
}

/// How topology hints narrow the ready endpoints.
enum Topology {
    Anywhere,
    SameZone,
    SameNode,
}

impl Topology {
    /// Hints count only when every ready endpoint has one and at least one names this
    /// place; a half-written set of hints would send traffic to the wrong share of them.
    fn of(service: &Service, node: &Node) -> Self {
        let ready = || service.endpoints.iter().filter(|e| e.ready);
        let all_name_nodes = ready().all(|e| !e.hints.nodes.is_empty());
        if all_name_nodes && ready().any(|e| e.hints.nodes.contains(&node.name)) {
            return Self::SameNode;
        }
        let Some(zone) = &node.zone else {
            return Self::Anywhere;
        };
        let all_name_zones = ready().all(|e| !e.hints.zones.is_empty());
        if all_name_zones && ready().any(|e| e.hints.zones.contains(zone)) {
            return Self::SameZone;
        }
        Self::Anywhere
    }

    fn admits(&self, endpoint: &Endpoint, node: &Node) -> bool {
        match self {
            Self::Anywhere => true,
            Self::SameNode => endpoint.hints.nodes.contains(&node.name),
            Self::SameZone => {
                node.zone.as_ref().is_some_and(|zone| endpoint.hints.zones.contains(zone))
            }
        }
    }
}
