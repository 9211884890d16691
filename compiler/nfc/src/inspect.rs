//! What is in the kernel, and who uses it: rules and elements by place, connections by
//! Service and endpoint.
//!
//! Names of Services are those that the rules carry as comments; where rules have none, the
//! address stands in their place.
//!
//! Invariant: counts what a listing and the connections say; judges nothing.

use crate::listing::{self, Listing};
use nfc_backend::counted;
use nfc_ir::{Family, Protocol};
use nfc_kernel::conntrack::Connection;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Rules and elements of each family.
    pub tables: BTreeMap<Family, Totals>,
    /// Services that the rules name, and those without a name that have connections; most
    /// connections first.
    pub services: Vec<Usage>,
    /// Connections that no rule of nfc's explains.
    pub others: usize,
}

/// Rules and elements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many chains there are.
    pub chains: usize,
    /// How many rules are in them.
    pub rules: usize,
    /// Virtual and real servers (IPVS).
    pub servers: usize,
    /// Real servers that are left until their connections are over (IPVS).
    pub draining: usize,
    /// Sets and maps.
    pub sets: Vec<SetTotals>,
}

/// One set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetTotals {
    /// What it is and its name: `map services`.
    pub name: String,
    /// Elements of the program.
    pub elements: usize,
    /// Elements that packets added.
    pub learnt: usize,
    /// How many fit in, where that is fixed.
    pub size: Option<usize>,
}

/// What a Service is used for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Its name, or its address.
    pub service: String,
    /// Its protocol; `None` when it has none that is known.
    pub protocol: Option<Protocol>,
    /// At how many addresses, or node ports, it answers.
    pub frontends: usize,
    /// Connections that are not over.
    pub connections: usize,
    /// Packets of these, both ways; `None` where the kernel does not count them.
    pub packets: Option<u64>,
    /// Connections by endpoint.
    pub endpoints: BTreeMap<SocketAddr, usize>,
    /// Connections by client.
    pub clients: BTreeMap<IpAddr, usize>,
}

/// A frontend as rules know it: protocol, address or none for a node port, and port.
type Key = (u8, Option<IpAddr>, u16);

/// Puts listings of each family together with the connections of a node that has these
/// addresses.
#[must_use]
pub fn inspect(
    listings: &BTreeMap<Family, Listing>,
    connections: &[Connection],
    addresses: &[IpAddr],
) -> Inspection {
    let mut frontends = BTreeMap::new();
    let mut inspection = Inspection::default();
    for (family, listing) in listings {
        inspection.tables.insert(*family, totals(listing));
        let keys = listing
            .places
            .iter()
            .flat_map(|(place, p)| p.lines.iter().filter_map(move |line| frontend(place, line)));
        frontends.extend(keys.map(|(key, name)| ((*family, key), name)));
    }
    let mut usages = BTreeMap::new();
    for ((_, (protocol, ..)), name) in &frontends {
        usage(&mut usages, name, *protocol).frontends += 1;
    }
    for connection in connections.iter().filter(|c| !c.is_over()) {
        let (ip, port) = (connection.destination.ip(), connection.destination.port());
        let family = Family::of(ip);
        let at = |ip| frontends.get(&(family, (connection.protocol, ip, port)));
        let node_port = || at(None).filter(|_| addresses.contains(&ip));
        match at(Some(ip)).or_else(node_port) {
            Some(name) => usage(&mut usages, name, connection.protocol).count(connection),
            None => inspection.others += 1,
        }
    }
    inspection.services = usages.into_values().collect();
    inspection.services.sort_by_key(|usage| std::cmp::Reverse(usage.connections));
    inspection
}

fn usage<'a>(
    usages: &'a mut BTreeMap<(String, u8), Usage>,
    name: &str,
    protocol: u8,
) -> &'a mut Usage {
    let known = Protocol::ALL.into_iter().find(|p| p.number() == protocol);
    let fresh = || Usage { service: name.to_owned(), protocol: known, ..Usage::default() };
    usages.entry((name.to_owned(), protocol)).or_insert_with(fresh)
}

impl Usage {
    fn count(&mut self, connection: &Connection) {
        self.connections += 1;
        if let Some([sent, answered]) = connection.packets {
            self.packets = Some(self.packets.unwrap_or(0) + sent + answered);
        }
        if connection.is_rewritten() {
            *self.endpoints.entry(connection.answerer).or_default() += 1;
        }
        *self.clients.entry(connection.client.ip()).or_default() += 1;
    }
}

fn totals(listing: &Listing) -> Totals {
    let mut totals = Totals::default();
    for (name, place) in &listing.places {
        if name == listing::SERVERS {
            totals.servers = place.lines.len();
        } else if name == listing::DRAINING {
            totals.draining = place.lines.len();
        } else if name.starts_with("map ") || name.starts_with("set ") {
            let (elements, learnt) = (place.elements, place.learnt);
            totals.sets.push(SetTotals { name: name.clone(), elements, learnt, size: place.size });
        } else {
            let is_declared = |line: &&String| line.starts_with("type ");
            totals.chains += usize::from(place.is_ordered);
            totals.rules += place.lines.len() - place.lines.iter().filter(is_declared).count();
        }
    }
    totals
}

/// The frontend that a line of a listing is about, and the name of its Service.
fn frontend(place: &str, line: &str) -> Option<(Key, String)> {
    match place {
        "map services" | "map nodeports" => element(line),
        listing::SERVERS => virtual_server(line),
        _ if place.ends_with(" KUBE-SERVICES") || place.ends_with(" KUBE-NODEPORTS") => rule(line),
        _ => None,
    }
}

fn protocol(word: &str) -> Option<u8> {
    let named = Protocol::ALL.into_iter().find(|p| p.name() == word);
    named.map(Protocol::number)
}

/// `10.96.0.10 . tcp . 80 comment "shop/web" : goto cluster-tcp-2`, and for node ports the
/// same without an address.
fn element(line: &str) -> Option<(Key, String)> {
    let (key, rest) = line.split_once(" comment \"")?;
    let name = rest.split('"').next()?.to_owned();
    let fields: Vec<_> = key.split(" . ").collect();
    let (ip, proto, port) = match fields[..] {
        [ip, proto, port] => (Some(ip.parse().ok()?), proto, port),
        [proto, port] => (None, proto, port),
        _ => return None,
    };
    Some(((protocol(proto)?, ip, port.parse().ok()?), name))
}

/// `-d 10.96.0.10/32 -p tcp -m comment --comment "shop/web cluster IP" -m tcp --dport 80 -j
/// KUBE-SVC-...`
fn rule(line: &str) -> Option<(Key, String)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let after = |option: &str| {
        let place = words.iter().position(|word| *word == option)?;
        words.get(place + 1).copied()
    };
    let name = after("--comment")?.trim_matches('"').to_owned();
    let ip = match after("-d") {
        Some(block) => Some(block.split('/').next()?.parse().ok()?),
        None => None,
    };
    after("-j")?.strip_prefix("KUBE-")?;
    Some(((protocol(after("-p")?)?, ip, after("--dport")?.parse().ok()?), name))
}

/// `-A -t 10.96.0.10:80 -s rr`
fn virtual_server(line: &str) -> Option<(Key, String)> {
    let mut words = line.split_whitespace();
    let ("-A", kind, at) = (words.next()?, words.next()?, words.next()?) else { return None };
    let protocol = match kind {
        "-t" => Protocol::Tcp,
        "-u" => Protocol::Udp,
        "--sctp-service" => Protocol::Sctp,
        _ => return None,
    };
    let end: SocketAddr = at.parse().ok()?;
    Some(((protocol.number(), Some(end.ip()), end.port()), at.to_owned()))
}

/// Text about what is there.
#[must_use]
pub fn tables_text(backend: &str, inspection: &Inspection) -> String {
    let mut text = String::new();
    for (family, totals) in &inspection.tables {
        write_totals(&mut text, &format!("{backend} {family}"), totals);
    }
    text
}

/// Text about who uses it: the first `top` Services, and of each as many endpoints and clients.
#[must_use]
pub fn services_text(inspection: &Inspection, top: usize) -> String {
    let mut text = String::new();
    let used = inspection.services.iter().filter(|usage| usage.connections > 0);
    let ports = counted(inspection.services.len(), "service port");
    let own: usize = inspection.services.iter().map(|usage| usage.connections).sum();
    let [own, others] = [own, inspection.others].map(|count| counted(count, "connection"));
    let _ = writeln!(text, "{ports}, {own}; {others} of others");
    for usage in used.take(top) {
        write_usage(&mut text, usage, top);
    }
    text
}

fn write_totals(text: &mut String, head: &str, totals: &Totals) {
    let Totals { chains, rules, servers, draining, sets } = totals;
    let elements = sets.iter().map(|set| set.elements + set.learnt).sum();
    let counts = [
        (*chains, "chain"),
        (*rules, "rule"),
        (*servers, "virtual or real server"),
        (*draining, "draining real server"),
        (sets.len(), "set"),
        (elements, "element"),
    ];
    let there = counts.into_iter().filter(|(count, _)| *count > 0);
    let there: Vec<_> = there.map(|(count, noun)| counted(count, noun)).collect();
    let _ = writeln!(text, "{head}: {}", there.join(", "));
    for SetTotals { name, elements, learnt, size } in sets {
        let room = size.map_or_else(String::new, |size| format!(" of {size}"));
        let learnt = if *learnt > 0 { format!(", {learnt} by packets") } else { String::new() };
        let _ = writeln!(text, "  {name:<28} {elements:>8}{room}{learnt}");
    }
}

fn write_usage(text: &mut String, usage: &Usage, top: usize) {
    let Usage { service, protocol, connections, packets, endpoints, clients, .. } = usage;
    let protocol = protocol.map_or("", Protocol::name);
    let packets = packets.map_or_else(String::new, |count| {
        format!(", {}", counted(usize::try_from(count).unwrap_or(usize::MAX), "packet"))
    });
    let name = format!("{service} {protocol}");
    let _ = writeln!(text, "  {name:<44} {connections:>8}{packets}");
    for (endpoint, count) in busiest(endpoints, top) {
        let _ = writeln!(text, "    to {:<39} {count:>8}", endpoint.to_string());
    }
    for (client, count) in busiest(clients, top) {
        let _ = writeln!(text, "    from {:<37} {count:>8}", client.to_string());
    }
}

fn busiest<K: Copy>(counts: &BTreeMap<K, usize>, top: usize) -> Vec<(K, usize)> {
    let mut counts: Vec<_> = counts.iter().map(|(key, count)| (*key, *count)).collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.truncate(top);
    counts
}

/// Everything as JSON.
#[must_use]
pub fn json(backend: &str, inspection: &Inspection) -> Value {
    json!({
        "backend": backend,
        "tables": inspection.tables.iter().map(of_totals).collect::<Value>(),
        "services": inspection.services.iter().map(of_usage).collect::<Value>(),
        "otherConnections": inspection.others,
    })
}

fn of_totals((family, totals): (&Family, &Totals)) -> Value {
    let Totals { chains, rules, servers, draining, sets } = totals;
    json!({
        "family": family.to_string(),
        "chains": chains,
        "rules": rules,
        "servers": servers,
        "draining": draining,
        "sets": sets.iter().map(of_set).collect::<Value>(),
    })
}

fn of_set(set: &SetTotals) -> Value {
    let SetTotals { name, elements, learnt, size } = set;
    json!({ "name": name, "elements": elements, "learnt": learnt, "size": size })
}

fn of_usage(usage: &Usage) -> Value {
    let endpoints = busiest(&usage.endpoints, usize::MAX).into_iter();
    let clients = busiest(&usage.clients, usize::MAX).into_iter();
    let to = |(endpoint, count)| json!({ "endpoint": endpoint, "connections": count });
    let from = |(client, count)| json!({ "client": client, "connections": count });
    json!({
        "service": usage.service,
        "protocol": usage.protocol.map(Protocol::name),
        "frontends": usage.frontends,
        "connections": usage.connections,
        "packets": usage.packets,
        "endpoints": endpoints.map(to).collect::<Value>(),
        "clients": clients.map(from).collect::<Value>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
table ip nfc {
	map services {
		type ipv4_addr . inet_proto . inet_service : verdict
		size 64
		elements = { 10.96.0.10 . tcp . 80 comment \"shop/web\" : goto cluster-tcp-2 }
	}

	map nodeports {
		type inet_proto . inet_service : verdict
		elements = { tcp . 30080 comment \"shop/web\" : goto external-tcp-2 }
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr . meta l4proto . th dport vmap @services
	}
}
";

    fn connection(client: &str, destination: &str, answerer: &str) -> Connection {
        let end = |text: &str| text.parse().expect("an end");
        Connection {
            protocol: 6,
            client: end(client),
            destination: end(destination),
            answerer: end(answerer),
            asker: end(client),
            tcp_state: Some(3),
            status: 0,
            packets: Some([3, 2]),
            id: None,
            zone: None,
        }
    }

    #[test]
    fn connections_are_counted_by_service_and_endpoint() {
        let listings = [(Family::Ipv4, Listing::parse(TABLE))].into();
        let connections = [
            connection("192.0.2.2:1", "10.96.0.10:80", "10.244.1.5:8080"),
            connection("192.0.2.2:2", "10.96.0.10:80", "10.244.1.5:8080"),
            connection("192.0.2.3:1", "192.0.2.1:30080", "10.244.2.8:8080"),
            connection("192.0.2.3:2", "192.0.2.9:30080", "192.0.2.9:30080"),
            Connection {
                tcp_state: Some(7),
                ..connection("1.1.1.1:1", "10.96.0.10:80", "2.2.2.2:2")
            },
        ];
        let node = ["192.0.2.1".parse().expect("an address")];
        let inspection = inspect(&listings, &connections, &node);
        let totals = &inspection.tables[&Family::Ipv4];
        assert_eq!((totals.chains, totals.rules, totals.sets.len()), (1, 1, 2));
        assert_eq!((inspection.services.len(), inspection.others), (1, 1));
        let web = &inspection.services[0];
        let counts = (web.frontends, web.connections, web.packets);
        assert_eq!((web.service.as_str(), counts), ("shop/web", (2, 3, Some(15))));
        let ends: Vec<_> = busiest(&web.endpoints, 9).iter().map(|(_, count)| *count).collect();
        assert_eq!(ends, [2, 1]);
    }

    #[test]
    fn frontends_are_read_from_every_tool() {
        let of = |place, line| frontend(place, line).map(|(key, name)| (key.2, name));
        let rule = "-d 10.96.0.10/32 -p tcp -m comment --comment \"shop/web:http cluster IP\" -m tcp \
                    --dport 80 -j KUBE-SVC-AAAA";
        assert_eq!(of("nat KUBE-SERVICES", rule), Some((80, "shop/web:http".to_owned())));
        let server = "-A -u [fd00::1]:53 -s rr";
        assert_eq!(of("virtual servers", server), Some((53, "[fd00::1]:53".to_owned())));
        assert_eq!(of("virtual servers", "-a -u [fd00::1]:53 -r [fd00::2]:53 -m -w 1"), None);
    }
}
