//! Names of the table, its chains and its sets.
//!
//! Invariant: names only; every name is at most [`nfc_ruleset::elements::CHAIN_NAME_MAX`]
//! bytes long.

use nfc_ir::Protocol;

/// The table, one for each family.
pub const TABLE: &str = "nfc";

/// Base chain of received packets.
pub const PREROUTING: &str = "prerouting";
/// Base chain of packets that the node sends itself.
pub const OUTPUT: &str = "output";
/// Base chain of packets about to leave.
pub const POSTROUTING: &str = "postrouting";
/// Refuses whatever is for a Service without endpoints.
pub const NO_ENDPOINTS: &str = "no-endpoints";

/// Address, protocol and port of a Service -> what to do, or in the constant-time layout the
/// number of its class.
pub const SERVICES: &str = "services";
/// Protocol and node port -> the same.
pub const NODEPORTS: &str = "nodeports";
/// Addresses that answer on node ports, where not all do.
pub const NODEPORT_IPS: &str = "nodeport-ips";
/// All cluster IPs, whose other ports are refused.
pub const CLUSTER_IPS: &str = "cluster-ips";
/// Who may come in: address, protocol and port of a Service, and a range of sources.
pub const SOURCE_RANGES: &str = "source-ranges";
/// Address, protocol and port of a Service under `externalTrafficPolicy: Local` -> its
/// endpoints on this node.
pub const LOCAL_SERVICES: &str = "local-services";
/// The same for node ports.
pub const LOCAL_NODEPORTS: &str = "local-nodeports";
/// An endpoint's address twice: the connections of an endpoint to itself.
pub const HAIRPIN: &str = "hairpin";

/// With session affinity, the number of an endpoint -> the endpoint.
pub const STICKY_ENDPOINTS: &str = "sticky-endpoints";
/// The same for endpoints on this node.
pub const LOCAL_STICKY_ENDPOINTS: &str = "local-sticky-endpoints";
/// A Service and a client -> the number of the client's endpoint. Filled by packets.
pub const AFFINITY: &str = "affinity";

/// The chains that are always there.
pub const FIXED_CHAINS: [&str; 4] = [PREROUTING, OUTPUT, POSTROUTING, NO_ENDPOINTS];

/// All sets whose elements are Services', whether or not they are in use.
#[must_use]
pub fn all_sets() -> Vec<String> {
    let fixed = [
        SERVICES,
        NODEPORTS,
        NODEPORT_IPS,
        CLUSTER_IPS,
        SOURCE_RANGES,
        LOCAL_SERVICES,
        LOCAL_NODEPORTS,
        HAIRPIN,
        STICKY_ENDPOINTS,
        LOCAL_STICKY_ENDPOINTS,
        CLASSES,
        LOCAL_CLASSES,
    ];
    let maps = [Door::Address, Door::NodePort].into_iter().flat_map(|door| {
        let of = move |local| Protocol::ALL.map(|protocol| Maps { door, local, protocol });
        [false, true].into_iter().flat_map(of)
    });
    let maps = maps.flat_map(|maps| [maps.endpoints(), maps.ids()]);
    fixed.iter().map(|name| (*name).to_owned()).chain(maps).collect()
}

/// In the constant-time layout, class -> what to do.
pub const CLASSES: &str = "classes";
/// The same for classes that only chains lead to.
pub const LOCAL_CLASSES: &str = "local-classes";

/// The way a packet came to a Service: at an address of the Service, or at a node port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    /// At the cluster IP, an external IP or a load balancer IP.
    Address,
    /// At a node port.
    NodePort,
}

/// What a class of frontends has in common besides its protocol and number of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// A cluster IP: all endpoints.
    Cluster,
    /// A cluster IP under `internalTrafficPolicy: Local`: endpoints on this node.
    ClusterLocal,
    /// An outside address: all endpoints, always masqueraded.
    External,
    /// An outside address under `externalTrafficPolicy: Local`: it depends on the sender.
    ExternalLocal,
    /// All endpoints, the source left alone: where `ExternalLocal` sends the node's own.
    Spread,
    /// Endpoints on this node, the source left alone: where `ExternalLocal` sends others.
    Local,
}

/// How a slot is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pick {
    /// At random.
    Random,
    /// In turn, by one counter for the class.
    RoundRobin,
    /// By a hash of the source address.
    SourceHash,
    /// By a hash of source address and port, into a Maglev table.
    Maglev,
}

/// What all frontends have in common that one chain serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// The way in.
    pub door: Door,
    /// The policy.
    pub policy: Policy,
    /// The protocol.
    pub protocol: Protocol,
    /// How many slots the endpoints take.
    pub slots: u32,
    /// How one of them is picked.
    pub pick: Pick,
    /// Session affinity: how long a client keeps its endpoint, in seconds.
    pub affinity: Option<u32>,
}

impl Class {
    /// The name of the class's chain: `cluster-tcp-3`, `nodeport-external-udp-2-sh`. The
    /// endings are what IPVS calls its schedulers.
    #[must_use]
    pub fn chain(&self) -> String {
        let door = self.door.prefix();
        let policy = match self.policy {
            Policy::Cluster => "cluster",
            Policy::ClusterLocal => "cluster-local",
            Policy::External => "external",
            Policy::ExternalLocal => "external-local",
            Policy::Spread => "spread",
            Policy::Local => "local",
        };
        let pick = match self.pick {
            Pick::Random => "",
            Pick::RoundRobin => "-rr",
            Pick::SourceHash => "-sh",
            Pick::Maglev => "-mh",
        };
        let sticky = self.affinity.map_or(String::new(), |seconds| format!("-sticky-{seconds}"));
        format!("{door}{policy}-{}-{}{pick}{sticky}", self.protocol, self.slots)
    }

    /// Whether only endpoints on this node are in question.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.policy, Policy::ClusterLocal | Policy::Local)
    }

    /// The maps of the class's endpoints.
    #[must_use]
    pub fn maps(&self) -> Maps {
        Maps { door: self.door, local: self.is_local(), protocol: self.protocol }
    }

    /// With session affinity, the map from an endpoint's number to the endpoint.
    #[must_use]
    pub fn sticky(&self) -> &'static str {
        if self.is_local() { LOCAL_STICKY_ENDPOINTS } else { STICKY_ENDPOINTS }
    }
}

impl Door {
    /// The beginning of the names of what belongs to the door.
    fn prefix(self) -> &'static str {
        match self {
            Self::Address => "",
            Self::NodePort => "nodeport-",
        }
    }
}

/// The endpoints of one door and protocol, all or those on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Maps {
    /// The way in.
    pub door: Door,
    /// Whether only endpoints on this node are in question.
    pub local: bool,
    /// The protocol.
    pub protocol: Protocol,
}

impl Maps {
    /// The map from a frontend and a slot to an endpoint: `endpoints-tcp`,
    /// `nodeport-local-endpoints-udp`.
    #[must_use]
    pub fn endpoints(&self) -> String {
        self.name("endpoints")
    }

    /// With session affinity, the map from a frontend and a slot to an endpoint's number:
    /// `ids-tcp`.
    #[must_use]
    pub fn ids(&self) -> String {
        self.name("ids")
    }

    fn name(&self, what: &str) -> String {
        let local = if self.local { "local-" } else { "" };
        format!("{}{local}{what}-{}", self.door.prefix(), self.protocol)
    }
}

/// The chain that keeps strangers out before it goes on to `chain`.
#[must_use]
pub fn firewall(chain: &str) -> String {
    format!("firewall-{chain}")
}
