//! Who is measured: our backends, their text in the hands of its own tool, and the shapes of
//! a peer, behind one face.
//!
//! A peer is not a backend: there is a script that loads everything and a script for each
//! change, and no program to compare or trace. What it cost the peer to make a script is
//! not known here, so only carrying scripts out is timed.
//!
//! Invariant: finds and names contenders; what they do to a kernel is timed elsewhere.

use crate::peers::{self, Shape};
use nfc_backend::{AnyBackend, AnyProgram, Process, Step};
use nfc_ir::{Family, ProxyMode};

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
}

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
        let backend = nfc::registry::find(name).map(Kind::Backend);
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
        }
    }

    /// Whether it is loaded by the `nft` tool.
    #[must_use]
    pub fn needs_nft(&self) -> bool {
        match self.kind {
            Kind::Backend(_) => false,
            Kind::Text(_) => self.mode() == ProxyMode::Nftables,
            Kind::KubeProxy(_) => true,
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
        ];
        for name in names {
            assert_eq!(Contender::find(name).map(|c| c.name()).as_deref(), Some(name));
        }
        for name in ["kube-proxy-0.1", "ipvs/text", "none/text", "kube-proxy-1.33/text"] {
            assert!(Contender::find(name).is_none(), "{name}");
        }
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
