//! Who is measured: our backends, and the shapes of a peer, behind one face.
//!
//! A peer is not a backend: there is a script that loads everything and a script for each
//! change, and no program to compare or trace. What it cost the peer to make a script is
//! not known here, so only carrying scripts out is timed.
//!
//! Invariant: finds and names contenders; what they do to a kernel is timed elsewhere.

use crate::peers::Shape;
use nfc_backend::AnyBackend;
use nfc_ir::ProxyMode;

/// Somebody to measure.
pub enum Contender {
    /// One of our backends.
    Backend(Box<dyn AnyBackend>),
    /// The ruleset of a release of kube-proxy's nftables mode.
    KubeProxy(Shape),
}

impl Contender {
    /// The contender of this name: a backend's, or `kube-proxy-1.36` for the ruleset of
    /// that release.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let shape = || Shape::ALL.into_iter().find(|shape| kube_proxy(*shape) == name);
        let backend = nfc::registry::find(name).map(Self::Backend);
        backend.or_else(|| shape().map(Self::KubeProxy))
    }

    /// The name in scenarios and records.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Backend(backend) => backend.name().to_owned(),
            Self::KubeProxy(shape) => kube_proxy(*shape),
        }
    }

    /// The mode of kube-proxy whose promises it keeps.
    #[must_use]
    pub fn mode(&self) -> ProxyMode {
        match self {
            Self::Backend(backend) => backend.mode(),
            Self::KubeProxy(_) => ProxyMode::Nftables,
        }
    }
}

fn kube_proxy(shape: Shape) -> String {
    format!("kube-proxy-{}", shape.release())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_found_by_their_names() {
        let names = ["none", "nft", "iptables", "ipvs", "kube-proxy-1.33", "kube-proxy-1.37"];
        for name in names {
            assert_eq!(Contender::find(name).map(|c| c.name()).as_deref(), Some(name));
        }
        assert!(Contender::find("kube-proxy-0.1").is_none());
    }
}
