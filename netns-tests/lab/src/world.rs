//! The world: where everything is and how it is connected.
//!
//! ```text
//!   client                    node                          backend
//!   eth0 192.0.2.2 ---- eth0 192.0.2.1
//!                       cbr0 198.51.100.1 ---- eth0 198.51.100.2
//!   default via node    default via client                  default via node
//!                       10.0.0.0/8 via backend
//! ```
//!
//! and the same for IPv6. The node is the machine that Services are compiled for; the
//! backend stands for all pods and all their addresses, the client for everybody outside of
//! the cluster. Whatever the node does not send to an endpoint leaves it towards the client.
//!
//! Invariant: links, addresses, routes and sysctls only.

use nfc_backend::Refusal;
use nfc_ir::{AddrBlock, Family, Ir};
use nfc_kernel::netns::NamespaceError;
use nfc_kernel::sysctl::{self, SysctlError};
use nfc_kernel::{Namespace, conntrack, link};
use nfc_netlink::route::{LinkEnd, Mac, RouteWriter, Via};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// How long links may take to come up; it is a matter of microseconds on an idle machine.
const LINK_PATIENCE: Duration = Duration::from_secs(10);

/// One of the world's three namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Outside of the cluster.
    Client,
    /// The machine whose rules are under test.
    Node,
    /// All pods.
    Backend,
}

/// What happens to packets once they have arrived at the client or the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Delivery {
    /// They end at the link: the host behind it sees nothing and answers nothing, so that
    /// what is measured or observed is the node alone.
    #[default]
    Captured,
    /// They reach ordinary sockets; the backend owns every address of the endpoint blocks.
    Answered,
}

/// How a world is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What happens at the ends.
    pub delivery: Delivery,
    /// Addresses that the node has beside those of its links. Loopback addresses, which it
    /// has anyway, are passed over.
    pub node_addresses: Vec<IpAddr>,
    /// Blocks that the node sends to the backend.
    pub endpoint_blocks: Vec<AddrBlock>,
    /// The name of the node's link towards the client.
    pub uplink: String,
    /// The name of the node's link towards the backend.
    pub pod_link: String,
}

impl Default for Settings {
    /// 10.0.0.0/8 and fd00:10::/32 at the backend, links `eth0` and `cbr0`, packets captured.
    fn default() -> Self {
        let v4 = AddrBlock::new(Ipv4Addr::new(10, 0, 0, 0).into(), 8);
        let v6 = AddrBlock::new(Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0).into(), 32);
        Self {
            delivery: Delivery::default(),
            node_addresses: Vec::new(),
            endpoint_blocks: [v4, v6].into_iter().flatten().collect(),
            uplink: "eth0".to_owned(),
            pod_link: "cbr0".to_owned(),
        }
    }
}

/// Why a world could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// No namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// No link, address or route.
    #[error("cannot lay out the {place:?} namespace: {refusal}: {detail}")]
    Layout {
        /// Where.
        place: Place,
        /// What the kernel said.
        refusal: Refusal,
        /// The first fault, spelled out.
        detail: String,
    },
    /// A link stays down.
    #[error("link {name} of the {place:?} namespace does not come up")]
    LinkDown {
        /// Where.
        place: Place,
        /// Its name there.
        name: String,
    },
    /// No sysctl.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// No connection tracking.
    #[error("cannot forget connections (CONFIG_NF_CT_NETLINK): {0}")]
    Conntrack(#[source] io::Error),
    /// No socket.
    #[error("cannot open a socket: {0}")]
    Socket(#[from] io::Error),
    /// A pod cannot have an address that the world itself has.
    #[error("an endpoint has the address {address}, which the lab's own links have")]
    Taken {
        /// The address.
        address: IpAddr,
    },
    /// More pods than a world has room for.
    #[error("{count} endpoint addresses are more than the lab has room for: {max}")]
    Crowded {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
}

impl LabError {
    pub(crate) fn layout(place: Place, refusal: Refusal) -> Self {
        let detail = match &refusal {
            Refusal::Refused { faults, .. } => {
                faults.first().map(|f| format!("{f:?}")).unwrap_or_default()
            }
            _ => String::new(),
        };
        Self::Layout { place, refusal, detail }
    }
}

/// One end of one of the world's two wires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Number of the link in its namespace.
    pub(crate) link: u32,
    /// Its Ethernet address.
    pub(crate) mac: Mac,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl End {
    /// Side 1 of both wires is the node's. The networks are those for documentation
    /// (RFC 5737), and IPv6 ones with the same digits.
    const fn new(link: u32, wire: u8, side: u8) -> Self {
        let host = side as u16;
        let (v4, v6) = if wire == 0 {
            (Ipv4Addr::new(192, 0, 2, side), Ipv6Addr::new(0xfd00, 0x192, 0, 2, 0, 0, 0, host))
        } else {
            let v6 = Ipv6Addr::new(0xfd00, 0x198, 0x51, 0x100, 0, 0, 0, host);
            (Ipv4Addr::new(198, 51, 100, side), v6)
        };
        Self { link, mac: [2, 0, 0, 0, wire, side], v4, v6 }
    }

    pub(crate) fn ip(&self, family: Family) -> IpAddr {
        match family {
            Family::Ipv4 => self.v4.into(),
            Family::Ipv6 => self.v6.into(),
        }
    }

    /// An Ethernet address on this wire that is nobody's: frames to it are seen by packet
    /// sockets and thrown away by the host (`PACKET_OTHERHOST` in `ip_rcv_core`).
    fn nobody(&self) -> Mac {
        let mut mac = self.mac;
        mac[5] = 0xff;
        mac
    }
}

pub(crate) const CLIENT: End = End::new(2, 0, 2);
pub(crate) const NODE_UPLINK: End = End::new(2, 0, 1);
pub(crate) const NODE_POD_LINK: End = End::new(3, 1, 1);
pub(crate) const BACKEND: End = End::new(2, 1, 2);

/// The number that the loopback link has in every namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// Three namespaces and two wires. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct World {
    client: Namespace,
    node: Namespace,
    backend: Namespace,
    settings: Settings,
}

impl World {
    /// A world as [`Settings::default`] describes it.
    ///
    /// # Errors
    ///
    /// [`LabError`], as without root.
    pub fn new() -> Result<Self, LabError> {
        Self::with(Settings::default())
    }

    /// A world whose node has the addresses that `ir` says.
    ///
    /// # Errors
    ///
    /// [`LabError`], as without root.
    pub fn of(ir: &Ir) -> Result<Self, LabError> {
        let node_addresses = ir.node().addresses.clone();
        Self::with(Settings { node_addresses, ..Settings::default() })
    }

    /// A world of these settings.
    ///
    /// # Errors
    ///
    /// [`LabError`], as without root.
    pub fn with(settings: Settings) -> Result<Self, LabError> {
        let world = Self {
            client: Namespace::new()?,
            node: Namespace::new()?,
            backend: Namespace::new()?,
            settings,
        };
        // Sysctls first: a link takes its settings from the defaults when it is born.
        for place in [Place::Client, Place::Node, Place::Backend] {
            world.at(place).run(|| quieten(place))??;
        }
        if world.settings.delivery == Delivery::Answered {
            // IPv6 does not let a socket take an address that only a local route grants.
            let bind_anywhere = || sysctl::write("net.ipv6.ip_nonlocal_bind", "1");
            world.backend.run(bind_anywhere)??;
        }
        world.lay_out(Place::Node, |w| world.lay_out_node(w))?;
        world.lay_out(Place::Client, |w| world.lay_out_end(w, CLIENT, NODE_UPLINK))?;
        world.lay_out(Place::Backend, |w| {
            world.lay_out_end(w, BACKEND, NODE_POD_LINK);
            world.own_endpoints(w);
        })?;
        world.wait_for_links()?;
        Ok(world)
    }

    /// The namespace of the client.
    #[must_use]
    pub fn client(&self) -> &Namespace {
        &self.client
    }

    /// The namespace of the node: rules go here.
    #[must_use]
    pub fn node(&self) -> &Namespace {
        &self.node
    }

    /// The namespace of the backend.
    #[must_use]
    pub fn backend(&self) -> &Namespace {
        &self.backend
    }

    /// The namespace at this place.
    #[must_use]
    pub fn at(&self, place: Place) -> &Namespace {
        match place {
            Place::Client => &self.client,
            Place::Node => &self.node,
            Place::Backend => &self.backend,
        }
    }

    /// How the world is.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The address that a place has on its wire; the node's is that towards the client.
    #[must_use]
    pub fn address(&self, place: Place, family: Family) -> IpAddr {
        let end = match place {
            Place::Client => CLIENT,
            Place::Node => NODE_UPLINK,
            Place::Backend => BACKEND,
        };
        end.ip(family)
    }

    /// All addresses of the node but loopback: that towards the client first, then that
    /// towards the backend, then those of the settings.
    #[must_use]
    pub fn node_addresses(&self, family: Family) -> Vec<IpAddr> {
        let own = [NODE_UPLINK.ip(family), NODE_POD_LINK.ip(family)];
        let extra = self.extra_addresses().filter(|ip| Family::of(*ip) == family);
        own.into_iter().chain(extra).collect()
    }

    /// The addresses on both wires, whoever has them.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        let ends = [CLIENT, NODE_UPLINK, NODE_POD_LINK, BACKEND];
        ends.iter().flat_map(|end| Family::ALL.map(|family| end.ip(family))).collect()
    }

    /// Changes what happens to packets at the ends.
    ///
    /// # Errors
    ///
    /// [`LabError::Layout`].
    pub fn deliver(&mut self, delivery: Delivery) -> Result<(), LabError> {
        self.settings.delivery = delivery;
        self.lay_out(Place::Node, |w| {
            for (near, far) in [(NODE_UPLINK, CLIENT), (NODE_POD_LINK, BACKEND)] {
                let mac = self.mac_for_node(far);
                Family::ALL.iter().for_each(|f| w.neighbour(near.link, far.ip(*f), mac));
            }
        })?;
        // Once its own, the blocks stay the backend's: nothing is delivered that would ask.
        self.lay_out(Place::Backend, |w| self.own_endpoints(w))
    }

    /// Forgets all connections, so that the next packet of each is a first packet again.
    ///
    /// # Errors
    ///
    /// [`LabError::Conntrack`] when the kernel has none.
    pub fn forget_flows(&self) -> Result<(), LabError> {
        self.node.run(conntrack::forget)?.map_err(LabError::Conntrack)
    }

    fn extra_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.settings.node_addresses.iter().copied().filter(|ip| !ip.is_loopback())
    }

    fn lay_out(&self, place: Place, fill: impl FnOnce(&mut RouteWriter)) -> Result<(), LabError> {
        let changed = self.at(place).run(|| link::change(fill))?;
        changed.map_err(|refusal| LabError::layout(place, refusal))
    }

    /// The end of a wire that is brought up first gets its queue only when the kernel has
    /// noticed that the other is up too, on a thread of the kernel's own (`linkwatch_event`).
    fn wait_for_links(&self) -> Result<(), LabError> {
        let Settings { uplink, pod_link, .. } = &self.settings;
        let far = [Place::Client, Place::Backend].map(|place| (place, "eth0"));
        let near = [uplink, pod_link].map(|name| (Place::Node, name.as_str()));
        let mut all = far.into_iter().chain(near);
        all.try_for_each(|(place, name)| wait_for_link(self.at(place), place, name))
    }

    fn lay_out_node(&self, w: &mut RouteWriter) {
        let Settings { uplink, pod_link, endpoint_blocks, .. } = &self.settings;
        w.up(LOOPBACK);
        wire(w, NODE_UPLINK, uplink, CLIENT, &self.client);
        wire(w, NODE_POD_LINK, pod_link, BACKEND, &self.backend);
        for family in Family::ALL {
            for (near, far) in [(NODE_UPLINK, CLIENT), (NODE_POD_LINK, BACKEND)] {
                let far_mac = self.mac_for_node(far);
                own(w, near.link, near.ip(family));
                w.route(far.ip(family), host_len(family), Via::Link(near.link));
                w.neighbour(near.link, far.ip(family), far_mac);
            }
            w.route(unspecified(family), 0, Via::Gateway(CLIENT.ip(family), NODE_UPLINK.link));
        }
        for block in endpoint_blocks {
            let gateway = BACKEND.ip(Family::of(block.addr()));
            let via = Via::Gateway(gateway, NODE_POD_LINK.link);
            w.route(block.network(), block.prefix_len(), via);
        }
        for ip in self.extra_addresses() {
            own(w, NODE_UPLINK.link, ip);
        }
    }

    /// The Ethernet address to which the node sends what is for `far`.
    fn mac_for_node(&self, far: End) -> Mac {
        match self.settings.delivery {
            Delivery::Captured => far.nobody(),
            Delivery::Answered => far.mac,
        }
    }

    fn lay_out_end(&self, w: &mut RouteWriter, near: End, node: End) {
        w.up(LOOPBACK);
        w.up(near.link);
        for family in Family::ALL {
            own(w, near.link, near.ip(family));
            w.route(node.ip(family), host_len(family), Via::Link(near.link));
            w.neighbour(near.link, node.ip(family), node.mac);
            w.route(unspecified(family), 0, Via::Gateway(node.ip(family), near.link));
        }
    }

    fn own_endpoints(&self, w: &mut RouteWriter) {
        if self.settings.delivery == Delivery::Answered {
            for block in &self.settings.endpoint_blocks {
                w.route(block.network(), block.prefix_len(), Via::Local(LOOPBACK));
            }
        }
    }
}

pub(crate) fn wait_for_link(
    namespace: &Namespace,
    place: Place,
    name: &str,
) -> Result<(), LabError> {
    let deadline = Instant::now() + LINK_PATIENCE;
    loop {
        let found = namespace.run(|| link::find(name))?;
        let found = found.map_err(|refusal| LabError::layout(place, refusal))?;
        if found.is_some_and(|link| link.operational) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(LabError::LinkDown { place, name: name.to_owned() });
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A veth pair between the node and another namespace, its near end up.
fn wire(w: &mut RouteWriter, near: End, name: &str, far: End, namespace: &Namespace) {
    let end = |end: End, name: &str| LinkEnd {
        index: Some(end.link),
        name: name.to_owned(),
        mac: Some(end.mac),
    };
    let fd = u32::try_from(namespace.as_fd().as_raw_fd()).ok();
    w.veth(&end(near, name), &end(far, "eth0"), fd);
    w.up(near.link);
}

/// Gives a link an address. IPv6 adds the route that makes an address the host's own only
/// later, on a thread of the kernel's (`addrconf_dad_work`, even without duplicate address
/// detection), so it is added here as well.
pub(crate) fn own(w: &mut RouteWriter, link: u32, ip: IpAddr) {
    let length = host_len(Family::of(ip));
    w.address(link, ip, length);
    if ip.is_ipv6() {
        w.route(ip, length, Via::Local(link));
    }
}

pub(crate) fn host_len(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 32,
        Family::Ipv6 => 128,
    }
}

pub(crate) fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::Ipv6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Sysctls of every namespace: no packet but ours, and no packet refused for where it comes
/// from.
const EVERYWHERE: [(&str, &str); 7] = [
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.default.rp_filter", "0"),
    ("net.ipv6.conf.default.accept_dad", "0"),
    ("net.ipv6.conf.default.accept_ra", "0"),
    ("net.ipv6.conf.default.router_solicitations", "0"),
    // No link-local address, and so no traffic about it (IN6_ADDR_GEN_MODE_NONE).
    ("net.ipv6.conf.default.addr_gen_mode", "1"),
    ("net.ipv6.conf.default.mldv2_unsolicited_report_interval", "0"),
];

/// Sysctls of the node: it forwards, answers every refused packet, and takes packets with
/// its own or a loopback address as source.
const NODE: [(&str, &str); 10] = [
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv6.conf.all.forwarding", "1"),
    ("net.ipv4.conf.all.accept_local", "1"),
    ("net.ipv4.conf.all.route_localnet", "1"),
    ("net.ipv4.conf.all.send_redirects", "0"),
    ("net.ipv4.conf.default.send_redirects", "0"),
    ("net.ipv4.icmp_ratelimit", "0"),
    ("net.ipv4.icmp_ratemask", "0"),
    ("net.ipv6.icmp.ratelimit", "0"),
    // A host sends only so many errors a second after the first 50, whatever the limits of
    // each peer (`icmp_global_allow`, net/ipv4/icmp.c). This is the mask of the types that
    // are counted: none.
    ("net.ipv6.icmp.ratemask", "\n"),
];

pub(crate) fn quieten(place: Place) -> Result<(), SysctlError> {
    let own: &[_] = if place == Place::Node { &NODE } else { &[] };
    EVERYWHERE.iter().chain(own).try_for_each(|(name, value)| sysctl::write(name, value))
}
