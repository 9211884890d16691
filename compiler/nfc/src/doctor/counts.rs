//! What rules and virtual servers have counted, read from the text of the backend's tool.
//!
//! iptables counts at every rule. Its nat table sees the first packet of a connection only,
//! so what it counted are connections; so does IPVS. The rules of nftables have no counters,
//! because each would cost every packet.
//!
//! Invariant: reads text, and passes over what it does not know; which Service a frontend
//! belongs to is known elsewhere.

use super::frontends::{self, At};
use nfc_ir::{Family, FrontendKey, Port, Protocol};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many connections were asked for at each frontend.
    pub frontends: BTreeMap<At, u64>,
    /// How many were led to each endpoint, by a frontend of the Service.
    pub endpoints: BTreeMap<(At, SocketAddr), u64>,
}

/// Chains whose rules name frontends, and refuse there or jump to a Service's own chains.
const SHARED: [&str; 3] = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES"];

/// The names of a Service's own chains before the hash that they have in common.
const OWN: [&str; 4] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-"];

impl Counts {
    /// What `iptables-save --counters` printed for `family`.
    #[must_use]
    pub fn in_iptables(text: &str, family: Family) -> Self {
        let rules: Vec<_> = text.lines().filter_map(|line| Rule::parse(line, family)).collect();
        let mut counts = Self::default();
        let mut services = BTreeMap::new();
        for rule in rules.iter().filter(|rule| SHARED.contains(&rule.chain)) {
            let Some(at) = rule.frontend(family) else { continue };
            if let Some(hash) = rule.target.and_then(service_hash) {
                services.entry(hash).or_insert(at);
            }
            // A packet that nat found no endpoint for meets the refusal in filter as well.
            let count = counts.frontends.entry(at).or_default();
            *count = rule.packets.max(*count);
        }
        let picks = rules.iter().filter_map(|rule| {
            let endpoint = rule.target.filter(|target| target.starts_with("KUBE-SEP-"))?;
            Some((endpoint, *services.get(service_hash(rule.chain)?)?))
        });
        let picks: BTreeMap<_, _> = picks.collect();
        for rule in &rules {
            let rewrites = rule.rewritten_to.zip(picks.get(rule.chain));
            counts.endpoints.extend(rewrites.map(|(end, at)| ((*at, end), rule.packets)));
        }
        counts
    }

    /// What `ipvsadm --list --numeric --stats --exact` printed, for both families.
    #[must_use]
    pub fn in_ipvs(text: &str) -> Self {
        let mut counts = Self::default();
        let mut server = None;
        for line in text.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            let [kind, address, count, ..] = words[..] else { continue };
            let (Ok(end), Ok(count)) = (address.parse::<SocketAddr>(), count.parse()) else {
                server = server.filter(|_| kind == "->");
                continue;
            };
            if kind == "->" {
                counts.endpoints.extend(server.map(|at| ((at, end), count)));
            } else {
                let named = |p: &Protocol| p.name().eq_ignore_ascii_case(kind);
                let protocol = Protocol::ALL.into_iter().find(named);
                server = protocol.and_then(|p| frontends::at(p.number(), end));
                counts.frontends.extend(server.map(|at| (at, count)));
            }
        }
        counts
    }

    /// Takes in those of another family.
    pub fn extend(&mut self, other: Self) {
        self.frontends.extend(other.frontends);
        self.endpoints.extend(other.endpoints);
    }

    /// What was counted since `before`. A counter that stands lower began anew meanwhile.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            frontends: differences(&self.frontends, &before.frontends),
            endpoints: differences(&self.endpoints, &before.endpoints),
        }
    }
}

fn differences<K: Ord + Copy>(
    now: &BTreeMap<K, u64>,
    before: &BTreeMap<K, u64>,
) -> BTreeMap<K, u64> {
    let difference = |key: &K, count: u64| {
        let before = before.get(key).copied().unwrap_or(0);
        count.checked_sub(before).unwrap_or(count)
    };
    now.iter().map(|(key, count)| (*key, difference(key, *count))).collect()
}

/// The hash in the name of a Service's own chain.
fn service_hash(chain: &str) -> Option<&str> {
    OWN.iter().find_map(|head| chain.strip_prefix(head))
}

/// A rule of `iptables-save --counters`, as far as it matters here.
struct Rule<'a> {
    packets: u64,
    chain: &'a str,
    target: Option<&'a str>,
    protocol: Option<Protocol>,
    destination: Option<IpAddr>,
    port: Option<Port>,
    rewritten_to: Option<SocketAddr>,
}

impl<'a> Rule<'a> {
    /// `[7:420] -A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "shop/web
    /// cluster IP" -m tcp --dport 80 -j KUBE-SVC-...`
    fn parse(line: &'a str, family: Family) -> Option<Self> {
        let (counters, rule) = line.strip_prefix('[')?.split_once("] -A ")?;
        let packets = counters.split(':').next()?.parse().ok()?;
        let words: Vec<_> = rule.split_whitespace().collect();
        let after = |option: &str| {
            let place = words.iter().position(|word| *word == option)?;
            words.get(place + 1).copied()
        };
        let ip = |block: &str| block.split('/').next()?.parse().ok();
        let named = |name: &str| Protocol::ALL.into_iter().find(|p| p.name() == name);
        let rewritten = after("--to-destination").and_then(|end| end.parse::<SocketAddr>().ok());
        Some(Self {
            packets,
            chain: words.first()?,
            target: after("-j"),
            protocol: after("-p").and_then(named),
            destination: after("-d").and_then(ip),
            port: after("--dport").and_then(|port| port.parse().ok()),
            rewritten_to: rewritten.filter(|end| Family::of(end.ip()) == family),
        })
    }

    fn frontend(&self, family: Family) -> Option<At> {
        let (protocol, port) = (self.protocol?, self.port?);
        let key = match self.destination {
            Some(ip) => FrontendKey::Address(ip, protocol, port),
            None => FrontendKey::NodePort(protocol, port),
        };
        Some((family, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster_ip(end: &str, protocol: Protocol) -> At {
        frontends::at(protocol.number(), end.parse().expect("an end")).expect("a frontend")
    }

    fn end(text: &str) -> SocketAddr {
        text.parse().expect("an end")
    }

    /// With comments, and without as for many endpoints.
    const SAVED: &str = "\
*nat
:PREROUTING ACCEPT [9:540]
[9:540] -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
[2:120] -A KUBE-NODEPORTS -p tcp -m comment --comment \"shop/web\" -m tcp --dport 30080 -j KUBE-EXT-AAAA
[2:120] -A KUBE-EXT-AAAA -j KUBE-SVC-AAAA
[3:180] -A KUBE-SEP-BBBB -p tcp -m tcp -j DNAT --to-destination 10.244.1.5:8080
[0:0] -A KUBE-SEP-BBBB -s 10.244.1.5/32 -j KUBE-MARK-MASQ
[4:240] -A KUBE-SEP-CCCC -p tcp -m tcp -j DNAT --to-destination 10.244.2.8:8080
[5:300] -A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment \"shop/web cluster IP\" -m tcp --dport 80 -j KUBE-SVC-AAAA
[3:180] -A KUBE-SVC-AAAA -m statistic --mode random --probability 0.5 -j KUBE-SEP-BBBB
[4:240] -A KUBE-SVC-AAAA -j KUBE-SEP-CCCC
COMMIT
*filter
[6:360] -A KUBE-SERVICES -d 10.96.0.11/32 -p udp -m comment --comment \"shop/none has no endpoints\" -m udp --dport 53 -j REJECT
COMMIT
";

    #[test]
    fn rules_of_iptables_count_by_frontend_and_endpoint() {
        let counts = Counts::in_iptables(SAVED, Family::Ipv4);
        let web = cluster_ip("10.96.0.10:80", Protocol::Tcp);
        let port = Port::new(30080).expect("a port");
        let node_port = (Family::Ipv4, FrontendKey::NodePort(Protocol::Tcp, port));
        let none = cluster_ip("10.96.0.11:53", Protocol::Udp);
        assert_eq!(counts.frontends, [(web, 5), (none, 6), (node_port, 2)].into());
        let ends: Vec<_> =
            counts.endpoints.iter().map(|((_, end), count)| (*end, *count)).collect();
        assert_eq!(ends, [(end("10.244.1.5:8080"), 3), (end("10.244.2.8:8080"), 4)]);
        let before = Counts::in_iptables(&SAVED.replace("[5:300]", "[1:60]"), Family::Ipv4);
        assert_eq!(counts.since(&before).frontends[&web], 4);
        assert_eq!(before.since(&counts).frontends[&web], 1, "counters began anew");
    }

    const STATS: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  10.96.0.10:80                       3       18       12     1200     2000
  -> 10.244.1.5:8080                     2       12        8      800     1300
FWM  7                                   9       18       12     1200     2000
  -> 10.244.9.9:8080                     9       12        8      800     1300
UDP  [fd00:96::10]:53                    1        1        1       60       60
  -> [fd00:244::5]:53                    1        1        1       60       60
";

    #[test]
    fn virtual_servers_count_with_their_real_servers() {
        let counts = Counts::in_ipvs(STATS);
        let web = cluster_ip("10.96.0.10:80", Protocol::Tcp);
        let dns = cluster_ip("[fd00:96::10]:53", Protocol::Udp);
        assert_eq!(counts.frontends, [(web, 3), (dns, 1)].into());
        let expected = [((web, end("10.244.1.5:8080")), 2), ((dns, end("[fd00:244::5]:53")), 1)];
        assert_eq!(counts.endpoints, expected.into());
    }
}
