//! Random Services and the packets that probe them: input for property tests.
//!
//! Addresses come from small pools, so that Services meet: one endpoint serves several of
//! them, an external IP may be the node's own, a packet hits a port of somebody else.
//!
//! Invariant: everything follows from the seed; a sample is a valid Ir.

use super::Dice;
use crate::{
    AddrBlock, Affinity, Endpoint, Family, Frontend, Hints, Ingress, IpvsScheduler, Ir,
    LocalDetector, Node, NodePortAddresses, Packet, Port, Protocol, Scheduler, Service,
    ServiceName, TrafficPolicy,
};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};

/// An Ir, and packets that ask about every Service of it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The Services and their node.
    pub ir: Ir,
    /// Hits, misses, hairpins; from pods, strangers and the node itself.
    pub packets: Vec<Packet>,
}

/// The sample that belongs to `seed`.
#[must_use]
pub fn sample(seed: u64, family: Family) -> Sample {
    let mut maker = Maker { dice: Dice::new(seed), family };
    let node = maker.node();
    let count = 1 + maker.dice.below(6);
    let services: Vec<_> = (0..count).map(|i| maker.service(i)).collect();
    let ir = Ir::new(family, node, services)
        .unwrap_or_else(|flaws| unreachable!("the pools hand nothing out twice: {flaws:?}"));
    let packets = maker.packets(&ir);
    Sample { ir, packets }
}

struct Maker {
    dice: Dice,
    family: Family,
}

/// The pools. The last number picks one member.
#[derive(Clone, Copy)]
enum Pool {
    /// Members are handed out by Service, so that no two have the same.
    ClusterIp,
    ExternalIp,
    LoadBalancerIp,
    /// Pods, some of which are endpoints.
    Pod,
    NodeIp,
    Stranger,
}

impl Maker {
    fn address(&self, pool: Pool, member: u32) -> IpAddr {
        match self.family {
            Family::Ipv4 => Ipv4Addr::from(pool.ipv4_base() + member).into(),
            Family::Ipv6 => Ipv6Addr::from((pool.ipv6_base() << 64) + u128::from(member)).into(),
        }
    }

    fn block(&self, pool: Pool, (short, long): (u8, u8)) -> AddrBlock {
        let length = if self.family == Family::Ipv4 { short } else { long };
        let block = AddrBlock::new(self.address(pool, 0), length);
        block.map_or_else(|_| unreachable!("the lengths are fixed"), |block| block.trunc())
    }

    fn node(&mut self) -> Node {
        let local_detector = match self.dice.below(4) {
            0 => LocalDetector::None,
            1 => LocalDetector::Bridge("cbr0".to_owned()),
            2 => LocalDetector::InterfacePrefix("cbr".to_owned()),
            _ => LocalDetector::SourceBlock(self.block(Pool::Pod, (8, 48))),
        };
        let node_port_addresses = match self.dice.below(4) {
            0 => NodePortAddresses::Primary,
            1 => NodePortAddresses::Blocks(vec![self.block(Pool::NodeIp, (24, 64))]),
            _ => NodePortAddresses::ModeDefault,
        };
        let addresses = vec![
            self.address(Pool::NodeIp, 2),
            self.address(Pool::NodeIp, 259),
            self.address(Pool::ExternalIp, 1),
            self.loopback(),
        ];
        Node {
            name: "node-a".to_owned(),
            zone: self.dice.one_in(2).then(|| "zone-a".to_owned()),
            addresses,
            local_detector,
            masquerade_all: self.dice.one_in(4),
            masquerade_bit: if self.dice.one_in(4) { 3 } else { 14 },
            node_port_addresses,
            localhost_node_ports: !self.dice.one_in(3),
            service_blocks: self
                .dice
                .one_in(2)
                .then(|| self.block(Pool::ClusterIp, (16, 64)))
                .into_iter()
                .collect(),
            conntrack_liberal: self.dice.one_in(4),
            ipvs_scheduler: IpvsScheduler::default(),
        }
    }

    fn loopback(&self) -> IpAddr {
        match self.family {
            Family::Ipv4 => Ipv4Addr::LOCALHOST.into(),
            Family::Ipv6 => Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// Every second Service shares its cluster IP with the one before, at another port.
    fn service(&mut self, index: u32) -> Service {
        let protocol = self.dice.pick(&Protocol::ALL);
        let has_node_port = self.dice.one_in(2);
        let external_ips = self.some_of(Pool::ExternalIp, 3);
        let load_balancer_ips = self.some_of(Pool::LoadBalancerIp, 3);
        let external_policy = self.policy();
        let source_ranges =
            if self.dice.one_in(2) { self.source_ranges() } else { BTreeSet::new() };
        let health_check = has_node_port && external_policy == TrafficPolicy::Local;
        Service {
            name: ServiceName {
                namespace: format!("ns{}", index % 2),
                name: format!("svc{index}"),
                port: if self.dice.one_in(2) { String::new() } else { "p".to_owned() },
            },
            protocol,
            cluster_ip: self.address(Pool::ClusterIp, 1 + index / 2),
            port: port(80 + index),
            node_port: has_node_port.then(|| port(30_000 + index)),
            external_ips,
            load_balancer_ips,
            source_ranges,
            internal_policy: self.policy(),
            external_policy,
            affinity: self
                .dice
                .one_in(6)
                .then(|| Affinity { timeout_seconds: NonZeroU32::MIN.saturating_add(99) }),
            health_check_port: health_check.then(|| port(31_000 + index)),
            scheduler: self.scheduler(),
            endpoints: self.endpoints(),
        }
    }

    /// Mostly kube-proxy's own. Maglev is left out: its table rounds the shares.
    fn scheduler(&mut self) -> Scheduler {
        let others = [Scheduler::RoundRobin, Scheduler::SourceHash];
        if self.dice.one_in(4) { self.dice.pick(&others) } else { Scheduler::Random }
    }

    fn policy(&mut self) -> TrafficPolicy {
        if self.dice.one_in(3) { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
    }

    /// Each of `count` members with a probability of one in four.
    fn some_of(&mut self, pool: Pool, count: u32) -> BTreeSet<IpAddr> {
        let picked: Vec<u32> = (1..=count).filter(|_| self.dice.one_in(4)).collect();
        picked.into_iter().map(|member| self.address(pool, member)).collect()
    }

    fn source_ranges(&mut self) -> BTreeSet<AddrBlock> {
        let strangers = self.block(Pool::Stranger, (25, 121));
        let nodes = self.block(Pool::NodeIp, (24, 64));
        let pods = self.block(Pool::Pod, (24, 64));
        [strangers, nodes, pods].into_iter().filter(|_| self.dice.one_in(2)).collect()
    }

    fn endpoints(&mut self) -> Vec<Endpoint> {
        let count = self.dice.below(5);
        let weighted = self.dice.one_in(4);
        let hinted = self.dice.one_in(4);
        (0..count).map(|_| self.endpoint(weighted, hinted)).collect()
    }

    fn endpoint(&mut self, weighted: bool, hinted: bool) -> Endpoint {
        let member = 1 + self.dice.below(8);
        let ip = self.address(Pool::Pod, member);
        let ready = !self.dice.one_in(4);
        let zone = if self.dice.one_in(2) { "zone-a" } else { "zone-b" };
        let zones = hinted.then(|| zone.to_owned()).into_iter().collect();
        let weight = if weighted { 1 + self.dice.below(4) } else { 1 };
        Endpoint {
            address: SocketAddr::new(ip, 8080),
            weight: u16::try_from(weight).ok().and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MIN),
            // A pod is on one node, whichever Services it belongs to.
            local: !member.is_multiple_of(2),
            ready,
            serving: ready || self.dice.one_in(2),
            terminating: !ready && self.dice.one_in(2),
            hints: Hints { zones, nodes: BTreeSet::new() },
        }
    }

    fn packets(&mut self, ir: &Ir) -> Vec<Packet> {
        let mut targets = self.strays();
        for service in ir.services() {
            for frontend in service.frontends() {
                targets.extend(self.targets(service, frontend));
            }
            // A port of nobody at an address of somebody, and the right port in another
            // protocol.
            let other = Protocol::ALL[(service.protocol as usize + 1) % 3];
            targets.push((service.protocol, SocketAddr::new(service.cluster_ip, 9)));
            targets.push((other, SocketAddr::new(service.cluster_ip, service.port.get())));
            if let Some(port) = service.health_check_port {
                let at = [ir.node().addresses[0], service.cluster_ip];
                targets.extend(at.map(|ip| (Protocol::Tcp, SocketAddr::new(ip, port.get()))));
            }
        }
        targets
            .into_iter()
            .flat_map(|(protocol, to)| self.asked_from_everywhere(protocol, to))
            .collect()
    }

    fn targets(&self, service: &Service, frontend: Frontend) -> Vec<(Protocol, SocketAddr)> {
        let protocol = service.protocol;
        match frontend {
            Frontend::ClusterIp(ip) | Frontend::ExternalIp(ip) | Frontend::LoadBalancerIp(ip) => {
                vec![(protocol, SocketAddr::new(ip, service.port.get()))]
            }
            Frontend::NodePort(port) => {
                let nodes = [2, 259].map(|i| self.address(Pool::NodeIp, i));
                let at = nodes.into_iter().chain([self.loopback()]);
                at.map(|ip| (protocol, SocketAddr::new(ip, port.get()))).collect()
            }
        }
    }

    /// Targets that belong to no Service.
    fn strays(&self) -> Vec<(Protocol, SocketAddr)> {
        let at = |pool, member, port| SocketAddr::new(self.address(pool, member), port);
        vec![
            (Protocol::Tcp, at(Pool::ClusterIp, 200, 80)),
            (Protocol::Udp, at(Pool::NodeIp, 2, 9)),
            (Protocol::Tcp, at(Pool::Stranger, 99, 80)),
            (Protocol::Tcp, at(Pool::LoadBalancerIp, 1, 9)),
        ]
    }

    fn asked_from_everywhere(&self, protocol: Protocol, destination: SocketAddr) -> Vec<Packet> {
        let outside = |name: &str| Ingress::Interface(name.to_owned());
        let sources = if destination.ip().is_loopback() {
            vec![(self.loopback(), Ingress::Local)]
        } else {
            vec![
                (self.address(Pool::Pod, 1), outside("cbr0")),
                // A pod of another node, which may be an endpoint too.
                (self.address(Pool::Pod, 2), outside("eth0")),
                (self.address(Pool::Pod, 99), outside("cbr0")),
                (self.address(Pool::Stranger, 2), outside("eth0")),
                (self.address(Pool::Stranger, 130), outside("eth0")),
                (self.address(Pool::NodeIp, 2), Ingress::Local),
                (self.address(Pool::LoadBalancerIp, 1), Ingress::Local),
                (self.address(Pool::ClusterIp, 1), Ingress::Local),
            ]
        };
        let packet = |(ip, ingress)| Packet {
            protocol,
            source: SocketAddr::new(ip, 40_000),
            destination,
            ingress,
        };
        sources.into_iter().map(packet).collect()
    }
}

impl Pool {
    fn ipv4_base(self) -> u32 {
        let base = match self {
            Self::ClusterIp => [172, 30, 0, 0],
            Self::ExternalIp => [192, 168, 99, 0],
            Self::LoadBalancerIp => [1, 2, 3, 0],
            Self::Pod => [10, 180, 0, 0],
            Self::NodeIp => [192, 168, 0, 0],
            Self::Stranger => [203, 0, 113, 0],
        };
        u32::from_be_bytes(base)
    }

    /// The upper 64 bits of the pool's addresses.
    fn ipv6_base(self) -> u128 {
        match self {
            Self::ClusterIp => 0xfd00_0172_0030_0000,
            Self::ExternalIp => 0x2001_0db8_0099_0000,
            Self::LoadBalancerIp => 0x2001_0db8_0001_0000,
            Self::Pod => 0xfd00_0010_0180_0000,
            Self::NodeIp => 0x2001_0db8_0000_0000,
            Self::Stranger => 0x2600_5200_0000_0000,
        }
    }
}

fn port(number: u32) -> Port {
    u16::try_from(number).ok().and_then(Port::new).unwrap_or(Port::MIN)
}
