//! Rules of others that drop packets on their way to an endpoint, or keep them from being
//! rewritten.
//!
//! `apply` never reads what is not nfc's; this does, and only when the user says so.
//!
//! Invariant: reads text and judges by what a rule names: addresses, ports, states. A rule
//! that names anything else is taken to match: the finding shows it, and a person decides.

use ipnet::IpNet;
use nfc_ir::{Frontend, Ir};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A place in somebody else's rules where packets come to grief.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// Table and chain.
    pub place: String,
    /// The rule or policy, as it stands in the listing.
    pub rule: String,
    /// How.
    pub harm: Harm,
}

/// What happens to packets in a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// A rule drops them.
    Drop,
    /// A rule has connection tracking leave them alone, and what is not tracked is not
    /// rewritten.
    Untracked,
    /// The policy of a chain drops what no rule accepts.
    Policy,
}

/// What packets to Services look like, before and after the rewriting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    to_frontends: Destinations,
    to_endpoints: Destinations,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Destinations {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
}

/// Where on its way a chain meets a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// In `forward` or `postrouting`: its destination is an endpoint.
    Rewritten,
    /// Anywhere else, or in a chain that others jump to.
    Any,
}

impl Stage {
    fn of_hook(hook: &str) -> Self {
        match hook {
            "forward" | "postrouting" | "FORWARD" | "POSTROUTING" => Self::Rewritten,
            _ => Self::Any,
        }
    }
}

impl Traffic {
    /// The traffic of all Services of `irs`: to their frontends, and to their endpoints.
    #[must_use]
    pub fn of<'a>(irs: impl IntoIterator<Item = &'a Ir>) -> Self {
        let (mut to_frontends, mut to_endpoints) = <(Destinations, Destinations)>::default();
        for service in irs.into_iter().flat_map(Ir::services) {
            for endpoint in &service.endpoints {
                to_endpoints.addresses.insert(endpoint.address.ip());
                to_endpoints.ports.insert(endpoint.address.port());
            }
            for frontend in service.frontends() {
                match frontend {
                    Frontend::ClusterIp(ip)
                    | Frontend::ExternalIp(ip)
                    | Frontend::LoadBalancerIp(ip) => drop(to_frontends.addresses.insert(ip)),
                    Frontend::NodePort(port) => drop(to_frontends.ports.insert(port.get())),
                }
            }
            to_frontends.ports.insert(service.port.get());
        }
        Self { to_frontends, to_endpoints }
    }

    /// Whether a rule of these words may match. Addresses and ports that it names have to be
    /// among the traffic's at that stage; those after a `!` say nothing.
    fn may_meet(&self, words: &[&str], stage: Stage) -> bool {
        if words.contains(&"invalid") || words.contains(&"INVALID") {
            return false;
        }
        let mut blocks = Vec::new();
        let mut ports = Vec::new();
        for (i, word) in words.iter().enumerate() {
            // nft negates with the word before, iptables with the one before that.
            if words[i.saturating_sub(2)..i].iter().any(|word| word.starts_with('!')) {
                continue;
            }
            if let Some(block) = block(word) {
                blocks.push(block);
            }
            let ports_named = word.split(',').map_while(|port| port.parse::<u16>().ok());
            if follows_port(&words[..i]) {
                ports.extend(ports_named);
            }
        }
        let before = (stage == Stage::Any).then_some(&self.to_frontends);
        let mut met = before.into_iter().chain([&self.to_endpoints]);
        met.any(|destinations| destinations.are_named(&blocks, &ports))
    }
}

impl Destinations {
    /// Whether a rule that names these, or none, may be about one of them.
    fn are_named(&self, blocks: &[IpNet], ports: &[u16]) -> bool {
        let meets = |block: &IpNet| self.addresses.iter().any(|ip| block.contains(ip));
        (blocks.is_empty() || blocks.iter().any(meets))
            && (ports.is_empty() || ports.iter().any(|port| self.ports.contains(port)))
    }
}

/// Whether what comes after `words` is a port, or one of a set of ports.
fn follows_port(words: &[&str]) -> bool {
    let last = words.iter().rev().find(|word| word.parse::<u16>().is_err());
    last.is_some_and(|word| ["dport", "--dport", "--dports"].contains(word))
}

fn block(word: &str) -> Option<IpNet> {
    word.parse().ok().or_else(|| word.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Tables of proxies, which are looked at elsewhere.
const OURS: [&str; 3] = ["nfc", "nfc-ipvs", "kube-proxy"];

/// The traps in the output of `nft list ruleset`.
#[must_use]
pub fn in_nft(listing: &str, traffic: &Traffic) -> Vec<Trap> {
    let mut traps = Vec::new();
    let (mut table, mut chain, mut stage) = (String::new(), None, Stage::Any);
    for line in listing.lines().map(str::trim) {
        if let Some(head) = line.strip_prefix("table ").and_then(|l| l.strip_suffix(" {")) {
            head.clone_into(&mut table);
        } else if let Some(name) = line.strip_prefix("chain ").and_then(|l| l.strip_suffix(" {")) {
            (chain, stage) = (Some(name.to_owned()), Stage::Any);
        } else if line == "}" {
            chain = None;
        } else if let Some(chain) = &chain {
            let name = table.split(' ').nth(1).unwrap_or_default();
            if OURS.contains(&name) || chain.starts_with("KUBE-") {
                continue;
            }
            let words = words(line);
            let place = || format!("table {table}, chain {chain}");
            let is_base = line.starts_with("type ");
            if is_base {
                stage = hook(&words).map_or(Stage::Any, Stage::of_hook);
            }
            let is_policy = is_base && line.contains("policy drop") && is_on_the_way(&words);
            let harm = if is_base { None } else { harm_in_nft(&words) };
            let harm = harm.filter(|_| traffic.may_meet(&words, stage));
            if let Some(harm) = is_policy.then_some(Harm::Policy).or(harm) {
                traps.push(Trap { place: place(), rule: line.to_owned(), harm });
            }
        }
    }
    traps
}

fn harm_in_nft(words: &[&str]) -> Option<Harm> {
    let says = |statement| words.contains(&statement);
    if says("drop") || says("reject") {
        Some(Harm::Drop)
    } else {
        says("notrack").then_some(Harm::Untracked)
    }
}

/// Whether a base chain sees packets that go through the node.
fn is_on_the_way(words: &[&str]) -> bool {
    hook(words).is_some_and(|hook| ["prerouting", "forward", "postrouting"].contains(&hook))
}

fn hook<'a>(words: &[&'a str]) -> Option<&'a str> {
    let at = words.iter().position(|word| *word == "hook")?;
    words.get(at + 1).copied()
}

/// The traps in the output of `iptables-save`.
#[must_use]
pub fn in_iptables(listing: &str, traffic: &Traffic) -> Vec<Trap> {
    let mut traps = Vec::new();
    let mut table = "";
    for line in listing.lines() {
        let (place, is_policy) = if let Some(name) = line.strip_prefix('*') {
            table = name;
            continue;
        } else if let Some(declared) = line.strip_prefix(":FORWARD ") {
            ("FORWARD", declared.starts_with("DROP"))
        } else {
            let rule = line.strip_prefix("-A ").and_then(|l| l.split(' ').next());
            (rule.unwrap_or_default(), false)
        };
        let words = words(line);
        let is_others = !place.is_empty() && !place.starts_with("KUBE-");
        let meets = || is_others && traffic.may_meet(&words, Stage::of_hook(place));
        let harm = harm_in_iptables(&words).filter(|_| meets());
        if let Some(harm) = is_policy.then_some(Harm::Policy).or(harm) {
            let place = format!("iptables table {table}, chain {place}");
            traps.push(Trap { place, rule: line.to_owned(), harm });
        }
    }
    traps
}

fn harm_in_iptables(words: &[&str]) -> Option<Harm> {
    let target = words.iter().position(|w| *w == "-j").and_then(|i| words.get(i + 1))?;
    match *target {
        "DROP" | "REJECT" => Some(Harm::Drop),
        "NOTRACK" => Some(Harm::Untracked),
        "CT" => words.contains(&"--notrack").then_some(Harm::Untracked),
        _ => None,
    }
}

/// The words of a rule, without the marks of sets.
fn words(line: &str) -> Vec<&str> {
    let is_gap = |c: char| c.is_whitespace() || c == '{' || c == '}';
    let words = line.split(is_gap).map(|word| word.trim_end_matches([',', ';']));
    words.filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nfc_ir::{Endpoint, Family, Node, Protocol, synth};

    fn traffic() -> Traffic {
        let mut service = synth::service(Family::Ipv4, Protocol::Tcp, 0, 1);
        service.cluster_ip = "10.96.0.10".parse().expect("an address");
        service.endpoints = vec![Endpoint::ready("10.244.1.5:8080".parse().expect("an end"))];
        let ir = Ir::new(Family::Ipv4, Node::default(), vec![service]).expect("valid");
        Traffic::of([&ir])
    }

    #[test]
    fn drops_that_may_meet_a_service_are_found_in_nft() {
        let listing = "\
table inet fw {
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state invalid drop
		ip daddr 10.244.1.0/24 tcp dport 8080 counter packets 3 bytes 180 drop
		ip daddr 10.9.9.9 drop
		ip daddr 10.96.0.10 drop
		tcp dport { 22, 23 } drop
		ip saddr != 192.0.2.0/24 drop
		iifname \"eth9\" drop
	}
	chain early {
		type filter hook prerouting priority raw; policy accept;
		ip daddr 10.96.0.10 drop
		tcp dport 80 notrack
		ip daddr 10.9.9.9 notrack
	}
}
table ip nfc {
	chain a {
		drop
	}
}
";
        let found = in_nft(listing, &traffic());
        let rules: Vec<_> = found.iter().map(|t| t.rule.as_str()).collect();
        let expected = [
            "type filter hook forward priority filter; policy drop;",
            "ip daddr 10.244.1.0/24 tcp dport 8080 counter packets 3 bytes 180 drop",
            "ip saddr != 192.0.2.0/24 drop",
            "iifname \"eth9\" drop",
            "ip daddr 10.96.0.10 drop",
            "tcp dport 80 notrack",
        ];
        assert_eq!(rules, expected);
        assert_eq!(found[4].place, "table inet fw, chain early", "forward meets no cluster IP");
        assert_eq!(found[0].place, "table inet fw, chain forward");
        let harms = [0, 1, 5].map(|i: usize| found[i].harm);
        assert_eq!(harms, [Harm::Policy, Harm::Drop, Harm::Untracked]);
    }

    #[test]
    fn drops_that_may_meet_a_service_are_found_in_iptables() {
        let listing = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
-A FORWARD -d 10.244.1.5/32 -j DROP
-A FORWARD ! -s 10.0.0.0/8 -p tcp -m tcp --dport 443 -j DROP
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -d 10.9.9.9/32 -j REJECT --reject-with icmp-port-unreachable
-A FORWARD -d 10.96.0.10/32 -j DROP
-A KUBE-FORWARD -j DROP
COMMIT
*raw
-A PREROUTING -d 10.96.0.0/16 -j CT --notrack
-A PREROUTING -d 10.96.0.10/32 -j CT --zone 1
COMMIT
";
        let found = in_iptables(listing, &traffic());
        let rules: Vec<_> = found.iter().map(|t| t.rule.as_str()).collect();
        let notrack = "-A PREROUTING -d 10.96.0.0/16 -j CT --notrack";
        let expected = [":FORWARD DROP [0:0]", "-A FORWARD -d 10.244.1.5/32 -j DROP", notrack];
        assert_eq!(rules, expected);
        assert_eq!(found[2].place, "iptables table raw, chain PREROUTING");
    }
}
