//! From Services to rules: kube-proxy's iptables mode, rule for rule.
//!
//! The Services come in the order of the Ir, which is sorted by name; kube-proxy takes
//! them as its map yields them. Everything within a chain that belongs to one Service has
//! kube-proxy's own order.
//!
//! Invariant: reads the Ir and makes values; knows no text and no older state.

mod chains;
mod endpoints;
mod fixed;
mod frontends;
mod plan;

use crate::names::{ChainName, Table};
use crate::program::{Chain, Program, Rule};
use nfc_backend::{Lowered, Reason, Unsupported};
use nfc_ir::{Ir, ProxyMode, Scheduler, Service};
use plan::Plan;

/// With more endpoints than this, kube-proxy leaves out the comments of which there is one
/// for each endpoint (`largeClusterEndpointsThreshold`).
const ENDPOINTS_WITH_COMMENTS: usize = 1000;

/// The program that does what `ir` means.
pub(crate) fn lower(ir: &Ir) -> Lowered<Program> {
    let count: usize = ir.services().iter().map(|s| s.endpoints.len()).sum();
    let has_comments = count <= ENDPOINTS_WITH_COMMENTS;
    let mut out = Output(Program::empty(ir.family()));
    out.0.local_addresses = ir.node().addresses.iter().copied().collect();
    out.0.routes_loopback = routes_loopback(ir);
    fixed::head(&mut out, ir);
    for service in ir.services() {
        let plan = Plan::new(service, ir.node());
        frontends::write(&mut out, &plan);
        chains::write(&mut out, &plan, ir.node());
        endpoints::write(&mut out, &plan, has_comments);
    }
    fixed::tail(&mut out, ir);
    Lowered { program: out.0, unsupported: unsupported(ir) }
}

/// kube-proxy has loopback addresses routed whenever its settings allow node ports on them.
/// It costs the node a protection, so here it also takes a node port.
fn routes_loopback(ir: &Ir) -> bool {
    ir.node().serves_localhost(ProxyMode::Iptables, ir.family())
        && ir.services().iter().any(|service| service.node_port.is_some())
}

/// The program under construction.
struct Output(Program);

impl Output {
    /// Appends to a chain that all Services share.
    fn append(&mut self, table: Table, chain: ChainName, rule: Rule) {
        let chains = &mut self.0.tables.get_mut(table).chains;
        chains.entry(chain).or_default().rules.push(rule);
    }

    /// Puts a Service's own chain into the nat table.
    fn insert(&mut self, name: ChainName, chain: Chain) {
        self.0.tables.nat.chains.insert(name, chain);
    }
}

fn unsupported(ir: &Ir) -> Vec<Unsupported> {
    let missing = ir.services().iter().filter_map(|service| {
        let reason = missing_scheduler(service)?;
        Some(Unsupported { service: service.name.clone(), protocol: service.protocol, reason })
    });
    let mut missing: Vec<_> = missing.collect();
    missing.sort();
    missing
}

/// What of the Service's scheduler iptables cannot say.
fn missing_scheduler(service: &Service) -> Option<Reason> {
    const NO_HASH: &str = "no match of iptables hashes addresses into a choice of targets; \
                           endpoints are picked at random";
    let (feature, why) = match service.scheduler {
        Scheduler::Random => return None,
        Scheduler::RoundRobin if endpoints::weigh_the_same(service.endpoints.iter()) => {
            return None;
        }
        Scheduler::RoundRobin => (
            "scheduler round-robin with weights",
            "a rule counts to one packet in so many, not to several; endpoints of different \
             weights are picked at random",
        ),
        Scheduler::SourceHash => ("scheduler source-hash", NO_HASH),
        Scheduler::Maglev => ("scheduler maglev", NO_HASH),
    };
    Some(Reason { feature, why })
}
