//! What nfc wants in the kernel for one family: virtual servers with their real servers,
//! the addresses that make their packets the node's own, sysctls, and the companion table
//! for what IPVS cannot say.
//!
//! Invariant: knows nothing of Services but their names, which are kept to say whose fault
//! a refusal was.

use nfc_ir::{Family, IpvsScheduler, Protocol, ServiceName};
use nfc_ruleset::Table;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};

/// Everything nfc wants in the kernel for one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The family of every address in here.
    pub family: Family,
    /// Sysctls by name with dots, and their values. They are set and never set back.
    pub sysctls: BTreeMap<&'static str, &'static str>,
    /// The virtual servers.
    pub servers: BTreeMap<ServerKey, VirtualServer>,
    /// The virtual addresses that are made the node's own.
    pub addresses: BTreeSet<IpAddr>,
    /// The node's own addresses. Nothing is said with them: they decide which packets come
    /// by the companion's input chain.
    pub node_addresses: Vec<IpAddr>,
    /// The companion table; `None` where nfc owns nothing.
    pub companion: Option<Table>,
}

/// Where a virtual server answers. One port of one address of one protocol has at most one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerKey {
    /// Its address and port.
    pub address: SocketAddr,
    /// Its protocol.
    pub protocol: Protocol,
}

/// A virtual server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualServer {
    /// The Service it belongs to.
    pub service: ServiceName,
    /// How a real server is picked.
    pub scheduler: IpvsScheduler,
    /// How long a silent client keeps its real server, in seconds; `None`: no persistence.
    pub persistence: Option<NonZeroU32>,
    /// The real servers and their weights.
    pub reals: BTreeMap<SocketAddr, NonZeroU16>,
}

/// Persistence (`IP_VS_SVC_F_PERSISTENT`).
const PERSISTENT: u32 = 0x1;

/// A client whose real server takes nothing more gets another: `sh-fallback` and `mh-fallback`
/// of ipvsadm (`IP_VS_SVC_F_SCHED_SH_FALLBACK` and `IP_VS_SVC_F_SCHED_MH_FALLBACK`, which are
/// `IP_VS_SVC_F_SCHED1`).
const FALLBACK: u32 = 0x8;

/// The source port takes part in the hash: `mh-port` of ipvsadm
/// (`IP_VS_SVC_F_SCHED_MH_PORT`, which is `IP_VS_SVC_F_SCHED2`).
const HASH_PORT: u32 = 0x10;

impl ServerKey {
    /// The family of its address.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.address.ip())
    }
}

impl VirtualServer {
    /// Its flags (`IP_VS_SVC_F_*`).
    #[must_use]
    pub fn flags(&self) -> u32 {
        let persistent = if self.persistence.is_some() { PERSISTENT } else { 0 };
        let of_scheduler = match self.scheduler {
            IpvsScheduler::SourceHash => FALLBACK,
            IpvsScheduler::Maglev => FALLBACK | HASH_PORT,
            _ => 0,
        };
        persistent | of_scheduler
    }

    /// The flags of its scheduler in the words of ipvsadm; empty for none.
    pub(crate) fn scheduler_flags(&self) -> &'static str {
        match self.scheduler {
            IpvsScheduler::SourceHash => "sh-fallback",
            IpvsScheduler::Maglev => "mh-fallback,mh-port",
            _ => "",
        }
    }

    /// Whether the kernel sends new connections to other real servers than those of weight 0.
    /// `dh` refuses them: its table holds every real server, and it knows no fallback
    /// (`net/netfilter/ipvs/ip_vs_dh.c`). All virtual servers being at one address each, it
    /// would refuse all or none.
    pub(crate) fn passes_over_weight_0(&self) -> bool {
        self.scheduler != IpvsScheduler::DestinationHash
    }

    /// Whether the kernel knows both by the same scheduler, flags and timeout.
    pub(crate) fn is_set_like(&self, other: &Self) -> bool {
        (self.scheduler, self.persistence) == (other.scheduler, other.persistence)
    }
}

impl Program {
    /// The program of a node where nfc owns nothing.
    #[must_use]
    pub fn empty(family: Family) -> Self {
        Self {
            family,
            sysctls: BTreeMap::new(),
            servers: BTreeMap::new(),
            addresses: BTreeSet::new(),
            node_addresses: Vec::new(),
            companion: None,
        }
    }
}
