//! Cases: Services and a node, packets and what becomes of them, and rules by chain. The
//! form is one fact a line; a line that is not understood fails the test that reads it.
//!
//! The rules in `kube_proxy/` were written by kube-proxy 1.30.3, those in `listings/` were
//! seen on nodes of clusters. Rules of chains that all Services share stand in the order of
//! the Services' names; kube-proxy takes the order of its map.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test panics to keep its backtrace")]

use nfc_ir::{
    Affinity, Choice, Endpoint, Family, Ingress, Ir, LocalDetector, Node, NodePortAddresses,
    Outcome, Packet, Port, Protocol, Scheduler, Service, ServiceName, TrafficPolicy,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Chain text, by table and chain.
pub(crate) type Chains = BTreeMap<(String, String), Vec<String>>;

/// A case.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) ir: Ir,
    pub(crate) packets: Vec<(Packet, Outcome)>,
    pub(crate) chains: Chains,
}

/// All cases of a folder of `tests/`, by name.
pub(crate) fn all(folder: &str) -> Vec<Case> {
    let folder = format!("{}/tests/{folder}", env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no cases in {folder}");
    paths
        .iter()
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            parse(name, &std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// The chains and their rules in restore text; jumps that are put at the head of built-in
/// chains are rules of those.
pub(crate) fn chains(text: &str) -> Chains {
    let mut table = String::new();
    let mut chains = Chains::new();
    for line in text.lines() {
        let mut add = |chain: &str, rule: Option<&str>| {
            let rules = chains.entry((table.clone(), chain.to_owned()));
            rules.or_default().extend(rule.map(str::to_owned));
        };
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut table);
        } else if let Some(declared) = line.strip_prefix(':') {
            add(declared.strip_suffix(" - [0:0]").unwrap(), None);
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let (chain, rule) = rule.split_once(' ').unwrap();
            add(chain, Some(rule));
        } else if let Some(rule) = line.strip_prefix("-I ") {
            let mut parts = rule.splitn(3, ' ');
            let [chain, _position, rule] = [(); 3].map(|()| parts.next().unwrap());
            add(chain, Some(rule));
        } else {
            assert!(line == "COMMIT" || line.starts_with("# "), "{line}");
        }
    }
    chains
}

fn parse(name: String, text: &str) -> Case {
    let mut reader = Reader::default();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            [] | ["#", ..] => {}
            ["chain", table, chain] => {
                let key = ((*table).to_owned(), (*chain).to_owned());
                reader.chains.insert(key.clone(), Vec::new());
                reader.chain = Some(key);
            }
            _ if reader.chain.is_some() => {
                let rules = reader.chains.get_mut(reader.chain.as_ref().unwrap());
                rules.unwrap().push(line.trim().to_owned());
            }
            ["service", name, protocol, address] => {
                let service = new_service(name, protocol, address);
                reader.services.push(service);
            }
            ["packet", rest @ ..] => reader.packets.push(packet(rest)),
            _ if line.starts_with("  ") => {
                service_line(reader.services.last_mut().unwrap(), &words);
            }
            _ => reader.node_line(&words),
        }
    }
    Case {
        ir: Ir::new(reader.family.unwrap(), reader.node, reader.services)
            .unwrap_or_else(|flaws| panic!("{name}: {flaws:?}")),
        name,
        packets: reader.packets,
        chains: reader.chains,
    }
}

#[derive(Default)]
struct Reader {
    family: Option<Family>,
    node: Node,
    services: Vec<Service>,
    packets: Vec<(Packet, Outcome)>,
    chains: Chains,
    chain: Option<(String, String)>,
}

impl Reader {
    fn node_line(&mut self, words: &[&str]) {
        let node = &mut self.node;
        match words {
            ["family", "ipv4"] => self.family = Some(Family::Ipv4),
            ["family", "ipv6"] => self.family = Some(Family::Ipv6),
            ["node", addresses @ ..] => {
                node.addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
            }
            ["zone", zone] => node.zone = Some((*zone).to_owned()),
            ["pods", block] => {
                node.local_detector = LocalDetector::SourceBlock(block.parse().unwrap());
            }
            ["pods-interface", prefix] => {
                node.local_detector = LocalDetector::InterfacePrefix((*prefix).to_owned());
            }
            ["masquerade-all"] => node.masquerade_all = true,
            ["no-localhost-node-ports"] => node.localhost_node_ports = false,
            ["node-port-addresses", blocks @ ..] => {
                let blocks = blocks.iter().map(|b| b.parse().unwrap()).collect();
                node.node_port_addresses = NodePortAddresses::Blocks(blocks);
            }
            _ => panic!("not understood: {words:?}"),
        }
    }
}

fn protocol(word: &str) -> Protocol {
    let known = Protocol::ALL.into_iter().find(|p| p.name() == word);
    known.unwrap_or_else(|| panic!("no protocol: {word}"))
}

fn new_service(name: &str, proto: &str, address: &str) -> Service {
    let (namespace, rest) = name.split_once('/').unwrap();
    let (name, port) = rest.split_once(':').unwrap_or((rest, ""));
    let address: SocketAddr = address.parse().unwrap();
    Service {
        name: ServiceName {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            port: port.to_owned(),
        },
        protocol: protocol(proto),
        cluster_ip: address.ip(),
        port: Port::new(address.port()).unwrap(),
        node_port: None,
        external_ips: BTreeSet::new(),
        load_balancer_ips: BTreeSet::new(),
        source_ranges: BTreeSet::new(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity: None,
        health_check_port: None,
        scheduler: Scheduler::Random,
        endpoints: Vec::new(),
    }
}

fn service_line(service: &mut Service, words: &[&str]) {
    match words {
        ["external-ip", ip] => {
            service.external_ips.insert(ip.parse().unwrap());
        }
        ["load-balancer-ip", ip] => {
            service.load_balancer_ips.insert(ip.parse().unwrap());
        }
        ["source-range", range] => {
            service.source_ranges.insert(range.parse().unwrap());
        }
        ["node-port", port] => service.node_port = Some(port.parse().unwrap()),
        ["internal-policy-local"] => service.internal_policy = TrafficPolicy::Local,
        ["external-policy-local"] => service.external_policy = TrafficPolicy::Local,
        ["health-check-port", port] => service.health_check_port = Some(port.parse().unwrap()),
        ["affinity", seconds] => {
            let timeout_seconds = seconds.parse().unwrap();
            service.affinity = Some(Affinity { timeout_seconds });
        }
        ["endpoint", address, facts @ ..] => {
            let mut endpoint = Endpoint::ready(address.parse().unwrap());
            facts.iter().for_each(|fact| endpoint_fact(&mut endpoint, fact));
            service.endpoints.push(endpoint);
        }
        _ => panic!("not understood: {words:?}"),
    }
}

fn endpoint_fact(endpoint: &mut Endpoint, fact: &str) {
    match fact.split_once('=') {
        Some(("zone", zone)) => {
            endpoint.hints.zones.insert(zone.to_owned());
        }
        None if fact == "local" => endpoint.local = true,
        None if fact == "not-ready" => endpoint.ready = false,
        None if fact == "not-serving" => endpoint.serving = false,
        None if fact == "terminating" => endpoint.terminating = true,
        _ => panic!("not understood: {fact}"),
    }
}

fn packet(words: &[&str]) -> (Packet, Outcome) {
    let [proto, via, source, destination, "=", result @ ..] = words else {
        panic!("not understood: {words:?}");
    };
    let packet = Packet {
        protocol: protocol(proto),
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        ingress: match *via {
            "node" => Ingress::Local,
            interface => Ingress::Interface(interface.to_owned()),
        },
    };
    (packet, outcome(result))
}

fn outcome(words: &[&str]) -> Outcome {
    let (masquerade, endpoints) = match words {
        ["pass"] => return Outcome::Pass,
        ["drop"] => return Outcome::Drop,
        ["reject"] => return Outcome::Reject,
        ["accept"] => return Outcome::Accept,
        ["masquerade", endpoints @ ..] => (true, endpoints),
        endpoints => (false, endpoints),
    };
    let share = 1.0 / f64::from(u32::try_from(endpoints.len()).unwrap());
    let choices = endpoints.iter().map(|endpoint| {
        let endpoint = endpoint.parse().unwrap();
        (Choice { endpoint, masquerade }, share)
    });
    Outcome::Balance(choices.collect())
}
