//! A world made for Services: every endpoint is a pod that answers who it is.
//!
//! Invariant: reads of an Ir where endpoints and the node are, and how pods are told apart;
//! what Services do with packets is for whoever puts the rules in.

use crate::{Answered, Bridge, Delivery, LabError, Pod, Server, Settings, World};
use nfc_ir::{Endpoint, Ir, LocalDetector, Protocol};
use nfc_kernel::Namespace;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// How many pods there may be. Each takes the kernel about a hundredth of a second to make
/// and a few hundred kilobytes.
pub const PODS_MAX: usize = 512;

/// Client, node and pods. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Cluster {
    // First, so that servers stop before their namespaces go.
    server: Server,
    pods: BTreeMap<IpAddr, Pod>,
    world: World,
}

/// One endpoint with one protocol, and the Services that lead there.
type Doors = BTreeMap<(SocketAddr, Protocol), BTreeSet<String>>;

impl Cluster {
    /// The world of `irs`, one for each address family. Endpoints at an address of the node
    /// answer there; all others are pods, on whichever node they run. Endpoints that serve
    /// nobody are there and do not answer, and neither do those of SCTP.
    ///
    /// Where the node tells its pods by a bridge, or by the names of their links, those of this
    /// node are ports of such a bridge, or have links of such names, and those of other nodes
    /// are strangers. Where the node has no name, all pods are its own.
    ///
    /// # Errors
    ///
    /// [`LabError`], as without root.
    pub fn of<'a>(irs: impl IntoIterator<Item = &'a Ir> + Clone) -> Result<Self, LabError> {
        let nodes = irs.clone().into_iter().flat_map(|ir| ir.node().addresses.clone());
        let node_addresses: BTreeSet<IpAddr> = nodes.collect();
        let mut settings = Settings {
            delivery: Delivery::Answered,
            node_addresses: node_addresses.iter().copied().collect(),
            endpoint_blocks: Vec::new(),
            ..Settings::default()
        };
        let bridge = irs.clone().into_iter().find_map(bridge);
        if bridge == Some(settings.pod_link.as_str()) {
            // The name is taken; this link leads nowhere here.
            settings.pod_link.insert(0, 'x');
        }
        let mut cluster = Self {
            server: Server::default(),
            pods: BTreeMap::new(),
            world: World::with(settings)?,
        };
        cluster.add_pods(irs.clone(), &node_addresses)?;
        let doors = doors(irs);
        for ((endpoint, protocol), services) in doors {
            cluster.answer(endpoint, protocol, services)?;
        }
        Ok(cluster)
    }

    /// The world with client and node.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The pods by address.
    #[must_use]
    pub fn pods(&self) -> &BTreeMap<IpAddr, Pod> {
        &self.pods
    }

    /// All namespaces of the cluster.
    #[must_use]
    pub fn namespaces(&self) -> Vec<&Namespace> {
        let world = [self.world.client(), self.world.node(), self.world.backend()];
        world.into_iter().chain(self.pods.values().map(Pod::namespace)).collect()
    }

    /// How often each endpoint has answered.
    #[must_use]
    pub fn answered(&self) -> Vec<Answered> {
        self.server.answered()
    }

    fn add_pods<'a>(
        &mut self,
        irs: impl IntoIterator<Item = &'a Ir> + Clone,
        node_addresses: &BTreeSet<IpAddr>,
    ) -> Result<(), LabError> {
        let prefix = irs.clone().into_iter().find_map(interface_prefix);
        let bridge = irs.clone().into_iter().find_map(bridge);
        let bridge = bridge.map(|name| Bridge::new(&self.world, name)).transpose()?;
        let own_pods = own_pods(irs.clone());
        let addresses: BTreeSet<_> =
            irs.into_iter().flat_map(endpoints).map(|(_, e)| e.address.ip()).collect();
        let addresses: Vec<_> = addresses.difference(node_addresses).copied().collect();
        let own = self.world.own_addresses();
        if let Some(address) = addresses.iter().copied().find(|ip| own.contains(ip)) {
            return Err(LabError::Taken { address });
        }
        if addresses.len() > PODS_MAX {
            return Err(LabError::Crowded { count: addresses.len(), max: PODS_MAX });
        }
        for (number, ip) in (0..).zip(addresses) {
            let is_own = own_pods.contains(&ip);
            let name = if is_own { prefix.unwrap_or(POD) } else { name_of_others(prefix) };
            let bridge = bridge.as_ref().filter(|_| is_own);
            self.pods.insert(ip, Pod::new(&self.world, number, name, bridge, ip)?);
        }
        let has_port = self.pods.keys().any(|ip| own_pods.contains(ip));
        bridge.iter().filter(|_| has_port).try_for_each(|bridge| bridge.wait(&self.world))
    }

    fn answer(
        &mut self,
        endpoint: SocketAddr,
        protocol: Protocol,
        services: BTreeSet<String>,
    ) -> Result<(), LabError> {
        let pod = self.pods.get(&endpoint.ip()).map(Pod::namespace);
        let namespace = pod.unwrap_or(self.world.node());
        let services = services.into_iter().collect::<Vec<_>>().join(", ");
        let line = move |client| format!("{endpoint} answers for {services}, asked by {client}");
        self.server.open(namespace, endpoint, protocol, line)
    }
}

fn endpoints(ir: &Ir) -> impl Iterator<Item = (&nfc_ir::Service, &Endpoint)> {
    ir.services().iter().flat_map(|s| s.endpoints.iter().map(move |e| (s, e)))
}

fn doors<'a>(irs: impl IntoIterator<Item = &'a Ir>) -> Doors {
    let mut doors = Doors::new();
    for (service, endpoint) in irs.into_iter().flat_map(endpoints) {
        let serves = endpoint.ready || endpoint.serving;
        if serves && service.protocol != Protocol::Sctp {
            let key = (endpoint.address, service.protocol);
            doors.entry(key).or_default().insert(service.name.to_string());
        }
    }
    doors
}

/// The endpoints that are pods of this node. Of a node without a name nobody knows who is on
/// another.
fn own_pods<'a>(irs: impl IntoIterator<Item = &'a Ir>) -> BTreeSet<IpAddr> {
    let of = |ir: &'a Ir| {
        let is_own = |e: &&Endpoint| e.local || ir.node().name.is_empty();
        endpoints(ir).map(|(_, e)| e).filter(is_own).map(|e| e.address.ip())
    };
    irs.into_iter().flat_map(of).collect()
}

/// What names of pods' links begin with, where the node does not ask for another beginning.
const POD: &str = "pod";

/// What names begin with that are not to begin with `prefix`.
fn name_of_others(prefix: Option<&str>) -> &'static str {
    let is_apart = |name: &&&str| prefix.is_none_or(|prefix| !name.starts_with(prefix));
    [POD, "far"].iter().find(is_apart).copied().unwrap_or(POD)
}

/// Where pods are told by the names of their links, the links have such names.
fn interface_prefix(ir: &Ir) -> Option<&str> {
    match &ir.node().local_detector {
        LocalDetector::InterfacePrefix(prefix) => Some(prefix),
        _ => None,
    }
}

/// Where pods are told by their bridge, there is such a bridge.
fn bridge(ir: &Ir) -> Option<&str> {
    match &ir.node().local_detector {
        LocalDetector::Bridge(name) => Some(name),
        _ => None,
    }
}
