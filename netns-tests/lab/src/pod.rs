//! A pod: an address with a namespace and a link to the node of its own.
//!
//! ```text
//!   node                     pod
//!   pod3 ------------------- eth0 10.244.1.5
//!   10.244.1.5 via pod3      default via 198.51.100.1, the node's address towards pods
//! ```
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

/// A pod of a world. Its link goes with it.
#[derive(Debug)]
pub struct Pod {
    namespace: Namespace,
}

impl Pod {
    /// The `number`th pod of `world`, counted from 0, with this address. Its link at the node
    /// is called `prefix` and its number, counted from 1.
    ///
    /// # Errors
    ///
    /// [`LabError`], as without root or when the world has such a pod already.
    pub fn new(world: &World, number: u16, prefix: &str, ip: IpAddr) -> Result<Self, LabError> {
        let pod = Self { namespace: Namespace::new()? };
        pod.namespace.run(|| world::quieten(Place::Backend))??;
        let name = format!("{prefix}{}", u32::from(number) + 1);
        let near = FIRST_LINK + u32::from(number);
        let (at_node, at_pod) = (mac(0, number), mac(1, number));
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
            w.up(near);
            w.route(ip, world::host_len(family), Via::Link(near));
            w.neighbour(near, ip, at_pod);
        })?;
        lay_out(&pod.namespace, Place::Backend, |w| {
            w.up(LOOPBACK);
            w.up(OWN_LINK);
            world::own(w, OWN_LINK, ip);
            w.route(gateway, world::host_len(family), Via::Link(OWN_LINK));
            w.neighbour(OWN_LINK, gateway, at_node);
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
