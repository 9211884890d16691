//! A pod: an address with a namespace and a link to the node of its own.
//!
//! ```text
//!   node                     pod
//!   pod3 ------------------- eth0 10.244.1.5
//!   10.244.1.5 via pod3      default via 198.51.100.1, the node's address towards pods
//! ```
//!
//! Where the node tells its pods by a bridge, `pod3` is a port of it, and the bridge stands
//! in its place: packets of the pod come in through the bridge.
//!
//! Two pods can talk through a Service only like this: in one namespace the second would
//! answer the first directly, and the node would never see the answer.
//!
//! Invariant: a link, an address and routes; who is a pod is decided elsewhere.

use crate::world::{self, LOOPBACK, NODE_POD_LINK, wait_for_link};
use crate::{LabError, Place, World};
use nfc_ir::Family;
use nfc_kernel::{Namespace, link};
use nfc_netlink::route::{LinkEnd, Mac, RouteWriter, Via};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

/// The number that a pod's link has in the pod.
const OWN_LINK: u32 = 2;

/// The number that the first pod's link has at the node.
const FIRST_LINK: u32 = 16;

/// The number that the bridge has at the node.
const BRIDGE_LINK: u32 = 8;

/// A bridge of a world's node, whose ports are pods.
#[derive(Debug)]
pub struct Bridge {
    name: String,
}

impl Bridge {
    const MAC: Mac = [2, 0, 1, 2, 0, 0];

    /// A bridge of this name, without ports. There is one to a world.
    ///
    /// # Errors
    ///
    /// [`LabError::Layout`], as when the kernel has no bridges (CONFIG_BRIDGE).
    pub fn new(world: &World, name: &str) -> Result<Self, LabError> {
        let end = LinkEnd { index: Some(BRIDGE_LINK), name: name.to_owned(), mac: Some(Self::MAC) };
        lay_out(world.node(), Place::Node, |w| {
            w.bridge(&end);
            w.up(BRIDGE_LINK);
        })?;
        Ok(Self { name: name.to_owned() })
    }

    /// Waits until packets go out of it, which takes a port.
    ///
    /// # Errors
    ///
    /// [`LabError::LinkDown`].
    pub fn wait(&self, world: &World) -> Result<(), LabError> {
        wait_for_link(world.node(), Place::Node, &self.name)
    }
}

/// A pod of a world. Its link goes with it.
#[derive(Debug)]
pub struct Pod {
    namespace: Namespace,
}

impl Pod {
    /// The `number`th pod of `world`, counted from 0, with this address. Its link at the node
    /// is called `prefix` and its number, counted from 1, and is a port of `bridge`, if any.
    ///
    /// # Errors
    ///
    /// [`LabError`], as without root or when the world has such a pod already.
    pub fn new(
        world: &World,
        number: u16,
        prefix: &str,
        bridge: Option<&Bridge>,
        ip: IpAddr,
    ) -> Result<Self, LabError> {
        let pod = Self { namespace: Namespace::new()? };
        pod.namespace.run(|| world::quieten(Place::Backend))??;
        let name = format!("{prefix}{}", u32::from(number) + 1);
        let near = FIRST_LINK + u32::from(number);
        let (at_node, at_pod) = (mac(0, number), mac(1, number));
        // What the node sends to, and whom the pod sends to.
        let (way, gateway_mac) = match bridge {
            Some(_) => (BRIDGE_LINK, Bridge::MAC),
            None => (near, at_node),
        };
        let family = Family::of(ip);
        let gateway = NODE_POD_LINK.ip(family);
        let end = |index, name: &str, mac| LinkEnd {
            index: Some(index),
            name: name.to_owned(),
            mac: Some(mac),
        };
        let fd = u32::try_from(pod.namespace.as_fd().as_raw_fd()).ok();
        lay_out(world.node(), Place::Node, |w| {
            w.veth(&end(near, &name, at_node), &end(OWN_LINK, "eth0", at_pod), fd);
            if bridge.is_some() {
                w.port(near, way);
                // With br_netfilter a packet of a pod to itself is bridged, not routed; the
                // kubelet and the bridge of CNI do the same for it.
                w.hairpin(near);
            }
            w.up(near);
            w.route(ip, world::host_len(family), Via::Link(way));
            w.neighbour(way, ip, at_pod);
        })?;
        lay_out(&pod.namespace, Place::Backend, |w| {
            w.up(LOOPBACK);
            w.up(OWN_LINK);
            world::own(w, OWN_LINK, ip);
            w.route(gateway, world::host_len(family), Via::Link(OWN_LINK));
            w.neighbour(OWN_LINK, gateway, gateway_mac);
            w.route(world::unspecified(family), 0, Via::Gateway(gateway, OWN_LINK));
        })?;
        wait_for_link(world.node(), Place::Node, &name)?;
        wait_for_link(&pod.namespace, Place::Backend, "eth0")?;
        Ok(pod)
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

/// The Ethernet address of an end of a pod's link.
fn mac(end: u8, number: u16) -> Mac {
    let [high, low] = number.to_be_bytes();
    [2, 0, 1, end, high, low]
}

fn lay_out(
    namespace: &Namespace,
    place: Place,
    fill: impl FnOnce(&mut RouteWriter),
) -> Result<(), LabError> {
    let changed = namespace.run(|| link::change(fill))?;
    changed.map_err(|refusal| LabError::layout(place, refusal))
}
