//! Who is measured: our backends, their text in the hands of its own tool, the shapes of a
//! peer, and the least that anybody can do, behind one face.
//!
//! A peer is not a backend: there is a script that loads everything and a script for each
//! change, and no program to compare or trace. What it cost the peer to make a script is
//! not known here, so only carrying scripts out is timed.
//!
//! Invariant: finds and names contenders; what they do to a kernel is timed elsewhere.

use crate::peers::{self, Shape};
use nfc_backend::{AnyBackend, AnyProgram, Process, Step};
use nfc_ir::{Family, Ir, ProxyMode, Service};

/// Somebody to measure.
pub struct Contender {
    name: String,
    /// What it is.
    pub kind: Kind,
}

/// What a contender is.
pub enum Kind {
    /// One of our backends.
    Backend(Box<dyn AnyBackend>),
    /// The same rules as text, loaded as a whole by the backend's own tool.
    Text(Box<dyn AnyBackend>),
    /// The ruleset of a release of kube-proxy's nftables mode.
    KubeProxy(Shape),
    /// One table with one rule, which sends one Service to one endpoint: the floor. Whatever
    /// is dearer chooses among Services and endpoints, and masquerades.
    StaticDnat,
}

/// Name of the floor.
pub const STATIC: &str = "static-dnat";

/// What follows a backend's name when its text is meant.
const TEXT: &str = "/text";

impl Contender {
    /// The contender of this name: a backend's, such a name with `/text` for the backend's text loaded by its own tool, or
    /// `kube-proxy-1.36` for the ruleset of that release.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let shape = || Shape::ALL.into_iter().find(|shape| kube_proxy(*shape) == name);
        let text = || name.strip_suffix(TEXT).and_then(nfc::registry::find);
        let text = || text().filter(|backend| has_a_tool(backend.as_ref()));
        let fixed = || (name == STATIC).then_some(Kind::StaticDnat);
        let backend = nfc::registry::find(name).map(Kind::Backend).or_else(fixed);
        let kind = backend.or_else(|| text().map(Kind::Text));
        let kind = kind.or_else(|| shape().map(Kind::KubeProxy))?;
        Some(Self { name: name.to_owned(), kind })
    }

    /// The name in scenarios and records.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// The mode of kube-proxy whose promises it keeps.
    #[must_use]
    pub fn mode(&self) -> ProxyMode {
        match &self.kind {
            Kind::Backend(backend) | Kind::Text(backend) => backend.mode(),
            Kind::KubeProxy(_) => ProxyMode::Nftables,
            // A single rule says nothing about other ports, as in this mode.
            Kind::StaticDnat => ProxyMode::Iptables,
        }
    }

    /// What of `ir` it can say: all of it, or as much as a single rule can.
    #[must_use]
    pub fn share_of(&self, ir: Ir) -> Ir {
        let Kind::StaticDnat = self.kind else { return ir };
        let one = |service: &Service| {
            let mut service = service.clone();
            service.endpoints.truncate(1);
            service
        };
        let services = ir.services().iter().take(1).map(one).collect();
        // A part of what is valid is valid.
        Ir::new(ir.family(), ir.node().clone(), services).unwrap_or(ir)
    }

    /// Whether nfc itself loads it.
    #[must_use]
    pub fn is_backend(&self) -> bool {
        matches!(self.kind, Kind::Backend(_))
    }

    /// Whether it is loaded by the `nft` tool.
    #[must_use]
    pub fn needs_nft(&self) -> bool {
        match self.kind {
            Kind::Backend(_) => false,
            Kind::Text(_) => self.mode() == ProxyMode::Nftables,
            Kind::KubeProxy(_) | Kind::StaticDnat => true,
        }
    }
}

/// IPVS has text for people only; two tools would have to load it.
fn has_a_tool(backend: &dyn AnyBackend) -> bool {
    backend.name() != "none" && backend.mode() != ProxyMode::Ipvs
}

/// The step in which the backend's own tool loads all of `program`, in place of whatever
/// there is in the tables it names.
#[must_use]
pub fn text_step(backend: &dyn AnyBackend, program: AnyProgram, family: Family) -> Step {
    let text = backend.render(&[program]);
    if backend.mode() == ProxyMode::Nftables {
        return peers::step(text);
    }
    let program = match family {
        Family::Ipv4 => "iptables-legacy-restore",
        Family::Ipv6 => "ip6tables-legacy-restore",
    };
    Step::Process(Process { program, args: vec!["-w".to_owned(), "5".to_owned()], stdin: text })
}

/// The floor: the first Service of `ir`, to its first endpoint. `None` when there is none.
#[must_use]
pub fn static_dnat(ir: &Ir) -> Option<String> {
    let service = ir.services().first()?;
    let Service { protocol, cluster_ip, port, .. } = service;
    let ip = if ir.family() == Family::Ipv4 { "ip" } else { "ip6" };
    let endpoint = service.endpoints.first()?.address;
    Some(format!(
        "add table {ip} {STATIC}\n\
         add chain {ip} {STATIC} prerouting {{ type nat hook prerouting priority dstnat; }}\n\
         add rule {ip} {STATIC} prerouting {ip} daddr {cluster_ip} {protocol} dport {port} \
         dnat to {endpoint}\n"
    ))
}

fn kube_proxy(shape: Shape) -> String {
    format!("kube-proxy-{}", shape.release())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_found_by_their_names() {
        let names = [
            "none",
            "nft",
            "iptables",
            "ipvs",
            "nft/text",
            "iptables/text",
            "kube-proxy-1.33",
            "kube-proxy-1.37",
            STATIC,
        ];
        for name in names {
            assert_eq!(Contender::find(name).map(|c| c.name()).as_deref(), Some(name));
        }
        for name in ["kube-proxy-0.1", "ipvs/text", "none/text", "kube-proxy-1.33/text"] {
            assert!(Contender::find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn the_floor_is_one_rule_for_one_endpoint() {
        let contender = Contender::find(STATIC).expect("it is always there");
        let all = nfc_ir::synth::cluster_ips(
            Family::Ipv4,
            nfc_ir::Protocol::Tcp,
            5,
            3,
            nfc_ir::Node::default(),
        );
        let ir = contender.share_of(all.expect("few Services"));
        assert_eq!((ir.services().len(), ir.services()[0].endpoints.len()), (1, 1));
        let text = static_dnat(&ir).expect("a Service");
        assert!(
            text.ends_with("ip daddr 172.16.0.1 tcp dport 80 dnat to 10.0.0.1:8080\n"),
            "{text}"
        );
    }

    #[test]
    fn text_goes_to_the_tool_of_the_backend() {
        for (name, tool) in [("nft", "nft"), ("iptables", "iptables-legacy-restore")] {
            let backend = nfc::registry::find(name).expect("a backend");
            let empty = backend.empty(Family::Ipv4);
            let Step::Process(process) = text_step(backend.as_ref(), empty, Family::Ipv4) else {
                panic!("no process");
            };
            assert_eq!(process.program, tool);
            assert!(!process.args.contains(&"--noflush".to_owned()), "{:?}", process.args);
        }
    }
}
