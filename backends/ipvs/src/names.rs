//! Names and numbers that other tools see: routes, links, the companion table with its
//! sets and chains, the generic netlink family, sysctls.
//!
//! Invariant: constants only.

/// Name of the generic netlink family (`IPVS_GENL_NAME`, `include/uapi/linux/ip_vs.h`).
pub(crate) const FAMILY: &str = "IPVS";

/// The protocol of the routes that make virtual addresses the node's own: the letter `n`,
/// which nobody else has (`include/uapi/linux/rtnetlink.h`, `etc/iproute2/rt_protos`).
pub(crate) const ROUTE_PROTOCOL: u8 = 110;

/// The dummy link to which kube-proxy binds virtual addresses. It goes when it is found.
pub(crate) const LINK: &str = "kube-ipvs0";

/// Name of the companion table, in the family `ip` or `ip6`.
pub(crate) const TABLE: &str = "nfc-ipvs";

/// Sets of the companion table.
pub(crate) mod sets {
    /// Every virtual server: the ports that bound addresses may be asked for, and the
    /// record of what nfc owns.
    pub(crate) const VIRTUAL_SERVERS: &str = "virtual-servers";
    /// The virtual addresses that are made the node's own.
    pub(crate) const BOUND_ADDRESSES: &str = "bound-addresses";
    /// Virtual servers whose every connection is masqueraded.
    pub(crate) const MASQUERADED: &str = "masqueraded";
    /// Virtual servers at cluster IPs.
    pub(crate) const CLUSTER_IPS: &str = "cluster-ips";
    /// Virtual servers with source ranges.
    pub(crate) const FIREWALLED: &str = "firewalled";
    /// Virtual servers with source ranges, each with a block that may come in.
    pub(crate) const ADMITTED: &str = "admitted-sources";
    /// Endpoints, each twice: as source and as destination.
    pub(crate) const HAIRPINS: &str = "hairpins";
    /// Health check node ports.
    pub(crate) const HEALTH_CHECKS: &str = "health-checks";

    /// All of them.
    pub(crate) const ALL: [&str; 8] = [
        VIRTUAL_SERVERS,
        BOUND_ADDRESSES,
        MASQUERADED,
        CLUSTER_IPS,
        FIREWALLED,
        ADMITTED,
        HAIRPINS,
        HEALTH_CHECKS,
    ];
}

/// Chains of the companion table.
pub(crate) mod chains {
    /// Drops what source ranges do not admit.
    pub(crate) const FIREWALL: &str = "firewall";
    /// Marks what must be masqueraded.
    pub(crate) const MARK: &str = "mark-for-masquerade";
    /// Base chain: packets that come in.
    pub(crate) const PREROUTING: &str = "nat-prerouting";
    /// Base chain: packets of the node itself.
    pub(crate) const OUTPUT: &str = "nat-output";
    /// Base chain: the node's own packets, before IPVS sees them.
    pub(crate) const FILTER_OUTPUT: &str = "filter-output";
    /// Base chain: packets for the node, before IPVS sees them.
    pub(crate) const FILTER_INPUT: &str = "filter-input";
    /// Base chain: packets that leave.
    pub(crate) const POSTROUTING: &str = "nat-postrouting";

    /// All of them.
    pub(crate) const ALL: [&str; 7] =
        [FIREWALL, MARK, PREROUTING, OUTPUT, FILTER_OUTPUT, FILTER_INPUT, POSTROUTING];
}

/// What IPVS needs from the kernel, as kube-proxy sets it
/// (`Documentation/networking/ipvs-sysctl.rst`).
pub(crate) const SYSCTLS: [(&str, &str); 3] = [
    // IPVS connections are tracked, which is what masquerading needs.
    ("net.ipv4.vs.conntrack", "1"),
    // A connection whose real server is gone ends at once, and the client's next packet
    // is scheduled anew.
    ("net.ipv4.vs.expire_nodest_conn", "1"),
    // A client that sticks to a real server of weight 0 is let go.
    ("net.ipv4.vs.expire_quiescent_template", "1"),
];

/// Forwarding, without which no answer of an endpoint finds its way back. Only for IPv4:
/// turning it on for IPv6 makes a host deaf to router advertisements, which is not for us
/// to decide.
pub(crate) const FORWARDING: (&str, &str) = ("net.ipv4.ip_forward", "1");
