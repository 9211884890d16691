//! kube-proxy's three modes, and the questions on which they deliberately differ.
//!
//! Every difference is a method here, so that "the modes differ" is an entry in one table
//! and never an exception somewhere in a lowering or a test. Sources: kube-proxy's three
//! proxiers; KEP-3866 lists the differences of the nftables mode.
//!
//! Invariant: knows what modes promise, not how a backend keeps the promise.

use std::fmt;

/// A mode of kube-proxy, and so the promise that a backend keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProxyMode {
    /// iptables mode.
    Iptables,
    /// nftables mode.
    Nftables,
    /// IPVS mode.
    Ipvs,
}

impl ProxyMode {
    /// All modes, in the order of the enum.
    pub const ALL: [Self; 3] = [Self::Iptables, Self::Nftables, Self::Ipvs];

    /// Whether a packet to a cluster IP but to no port of its Services is rejected.
    /// iptables mode lets it pass.
    #[must_use]
    pub fn rejects_unknown_ports(self) -> bool {
        !matches!(self, Self::Iptables)
    }

    /// Whether a packet to an unallocated address of the service CIDRs is dropped.
    #[must_use]
    pub fn drops_unallocated(self) -> bool {
        matches!(self, Self::Nftables)
    }

    /// Whether node ports answer on the node's primary address only, when
    /// `nodePortAddresses` is not set. The other modes answer on every local address.
    #[must_use]
    pub fn node_ports_on_primary_only(self) -> bool {
        matches!(self, Self::Nftables)
    }

    /// Whether node ports can answer on loopback addresses (IPv4 only, and only when
    /// `localhostNodePorts` is on).
    #[must_use]
    pub fn can_serve_localhost(self) -> bool {
        matches!(self, Self::Iptables)
    }

    /// Whether a `Local` policy without local endpoints falls back to all endpoints. The
    /// other modes drop.
    #[must_use]
    pub fn local_falls_back_to_all(self) -> bool {
        matches!(self, Self::Ipvs)
    }

    /// Whether, under `externalTrafficPolicy: Local`, the node's own pods and processes may
    /// use endpoints on other nodes. In IPVS mode they get what strangers get.
    #[must_use]
    pub fn short_circuits_own_traffic(self) -> bool {
        !matches!(self, Self::Ipvs)
    }

    /// Whether the addresses of Services are bound to a link of the node. They are the
    /// node's own then: unknown ports are rejected at external and load balancer addresses
    /// too, the health check port answers there, and the node may use one as its source.
    #[must_use]
    pub fn binds_addresses(self) -> bool {
        matches!(self, Self::Ipvs)
    }

    /// Whether source ranges are enforced for a Service that has no endpoint at all, so
    /// that a stranger's packet is dropped where a friend's is rejected.
    #[must_use]
    pub fn firewalls_without_endpoints(self) -> bool {
        !matches!(self, Self::Iptables)
    }

    /// Whether packets that the node itself sends to an external or load balancer address
    /// of a Service without endpoints are refused. iptables mode checks those addresses in
    /// INPUT and FORWARD only, so such a packet leaves the node.
    #[must_use]
    pub fn refuses_own_packets_to_external(self) -> bool {
        !matches!(self, Self::Iptables)
    }

    /// Whether a node port without endpoints is refused at every local address, also where
    /// node ports do not answer. The refusing rules of iptables mode ask only whether the
    /// address is local (`--dst-type LOCAL`), whatever `nodePortAddresses` says.
    #[must_use]
    pub fn refuses_node_ports_at_all_local_addresses(self) -> bool {
        matches!(self, Self::Iptables)
    }

    /// Whether an endpoint on another node that reaches itself through a Service is
    /// masqueraded too. Its packets do not come through this node unless somebody routes
    /// them here, so that the other modes keep to the node's own endpoints.
    #[must_use]
    pub fn masquerades_hairpins_elsewhere(self) -> bool {
        matches!(self, Self::Iptables)
    }

    /// Whether the mode accepts the health check node port in the filter table.
    #[must_use]
    pub fn accepts_health_check_port(self) -> bool {
        !matches!(self, Self::Nftables)
    }
}

/// A question that the modes answer differently.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// The question, as a sentence that is true or false of a mode.
    pub statement: &'static str,
    /// Whether it is true.
    pub holds: fn(ProxyMode) -> bool,
}

/// All differences, for the table in the docs.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        statement: "A packet to a port that no Service has at a cluster IP is rejected",
        holds: ProxyMode::rejects_unknown_ports,
    },
    Difference {
        statement: "All addresses of Services are bound to a link of the node, and unknown ports there are \
                    rejected",
        holds: ProxyMode::binds_addresses,
    },
    Difference {
        statement: "A packet to an unallocated address of the service CIDRs is dropped",
        holds: ProxyMode::drops_unallocated,
    },
    Difference {
        statement: "By default node ports answer on the node's primary address only",
        holds: ProxyMode::node_ports_on_primary_only,
    },
    Difference {
        statement: "Node ports can answer on 127.0.0.0/8",
        holds: ProxyMode::can_serve_localhost,
    },
    Difference {
        statement: "A node port without endpoints is refused at every local address, also where \
                    node ports do not answer",
        holds: ProxyMode::refuses_node_ports_at_all_local_addresses,
    },
    Difference {
        statement: "A Local policy without local endpoints falls back to all endpoints",
        holds: ProxyMode::local_falls_back_to_all,
    },
    Difference {
        statement: "Under `externalTrafficPolicy: Local` the node's own pods and processes may \
                    use endpoints on other nodes",
        holds: ProxyMode::short_circuits_own_traffic,
    },
    Difference {
        statement: "Source ranges are enforced for a Service without endpoints",
        holds: ProxyMode::firewalls_without_endpoints,
    },
    Difference {
        statement: "Packets of the node itself to an outside address without endpoints are refused",
        holds: ProxyMode::refuses_own_packets_to_external,
    },
    Difference {
        statement: "An endpoint on another node that reaches itself through a Service is \
                    masqueraded",
        holds: ProxyMode::masquerades_hairpins_elsewhere,
    },
    Difference {
        statement: "The health check node port is accepted in the filter hooks",
        holds: ProxyMode::accepts_health_check_port,
    },
];

impl fmt::Display for ProxyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
            Self::Ipvs => "ipvs",
        })
    }
}
