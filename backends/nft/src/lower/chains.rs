//! The chains: three base chains with the same few rules whatever the Services are, and one
//! chain for each class.
//!
//! Invariant: rules name sets and chains, never an address of a Service.

use super::{Settings, ids};
use crate::Layout;
use crate::names::{self, Class, Door, Pick, Policy};
use ipnet::IpNet;
use nfc_ir::node::NodePortMatch;
use nfc_ir::{Family, Ir, LocalDetector, ProxyMode};
use nfc_ruleset::expr::{Expr, Generator, Match, Statement, Transport, Verdict};
use nfc_ruleset::{Base, Fields, Hook, Key, Rule, Set, Table, Type, Value};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Adds the base chains, and what they need besides the Services' sets. `sticky` is whether
/// there is session affinity.
pub(crate) fn add_base(table: &mut Table, settings: Settings<'_>, sticky: bool) {
    let ir = settings.ir;
    if sticky {
        table.add_set(names::AFFINITY, clients(ir.family()));
    }
    let rules = entry(table, settings);
    table.add_chain(names::PREROUTING, Some(Base::nat(Hook::Prerouting)), rules.clone());
    table.add_chain(names::OUTPUT, Some(Base::nat(Hook::Output)), rules);
    let leaving = masquerade(ir, sticky);
    table.add_chain(names::POSTROUTING, Some(Base::nat(Hook::Postrouting)), leaving);
    table.add_chain(names::NO_ENDPOINTS, None, vec![Rule::new([Statement::Reject])]);
}

/// What the first packet of a connection meets, received or sent by the node.
fn entry(table: &mut Table, settings: Settings<'_>) -> Vec<Rule> {
    let ir = settings.ir;
    let services = frontend_key(Door::Address);
    let mut rules = vec![
        Rule::new(dispatch(settings.layout, services, names::SERVICES, names::CLASSES)),
        node_ports(table, settings),
        Rule::new([is_in(vec![Expr::Daddr], names::CLUSTER_IPS), Statement::Reject]),
    ];
    rules.extend(ir.node().service_blocks.iter().map(|block| {
        let inside = Match::Daddr { not: false, block: *block };
        Rule::new([inside.into(), Verdict::Drop.into()])
    }));
    rules
}

fn node_ports(table: &mut Table, settings: Settings<'_>) -> Rule {
    let ir = settings.ir;
    let key = frontend_key(Door::NodePort);
    let look_up = dispatch(settings.layout, key, names::NODEPORTS, names::CLASSES);
    match ir.node().node_port_match(ProxyMode::Nftables, ir.family()) {
        NodePortMatch::Exactly(addresses) => {
            let key = Fields::Types(vec![Type::Address]);
            let mut set = Set::new(ir.family(), key, Value::None);
            for address in addresses {
                set.add(&Key::new().addr(address));
            }
            table.add_set(names::NODEPORT_IPS, set);
            let asked = is_in(vec![Expr::Daddr], names::NODEPORT_IPS);
            Rule::new([vec![asked], look_up].concat())
        }
        NodePortMatch::AllLocal { loopback } => {
            let mut statements = vec![Match::DaddrLocal.into()];
            if !loopback {
                let block = loopback_block(ir.family());
                statements.push(Match::Daddr { not: true, block }.into());
            }
            statements.extend(look_up);
            Rule::new(statements)
        }
    }
}

fn loopback_block(family: Family) -> IpNet {
    let block = match family {
        Family::Ipv4 => IpNet::new(Ipv4Addr::new(127, 0, 0, 0).into(), 8),
        Family::Ipv6 => IpNet::new(Ipv6Addr::LOCALHOST.into(), 128),
    };
    block.unwrap_or_else(|_| unreachable!("8 and 128 are lengths of prefixes"))
}

/// What the first packet meets when it leaves: the mark is ours to clear again, and an
/// endpoint that talks to itself must not see itself as the client.
fn masquerade(ir: &Ir, sticky: bool) -> Vec<Rule> {
    let mask = ir.node().masquerade_mask();
    let clean = sticky.then(|| Rule::new([ids::is_id().into(), Statement::ClearPriority]));
    let masquerade = [
        Rule::new([Match::Mark(mask).into(), Statement::ClearMark(mask), Statement::Masquerade]),
        Rule::new([
            Match::CtStatusDnat.into(),
            is_in(vec![Expr::Saddr, Expr::Daddr], names::HAIRPIN),
            Statement::Masquerade,
        ]),
    ];
    clean.into_iter().chain(masquerade).collect()
}

/// Adds the chain of a class.
pub(super) fn add_class(table: &mut Table, settings: Settings<'_>, class: Class) {
    let ir = settings.ir;
    let mark = Statement::SetMark(ir.node().masquerade_mask());
    let rules = match class.policy {
        Policy::Cluster | Policy::ClusterLocal => {
            let strangers = mark_strangers(ir, mark);
            strangers.into_iter().chain(dnat(settings, class)).collect()
        }
        Policy::External => [Rule::new([mark])].into_iter().chain(dnat(settings, class)).collect(),
        Policy::Spread | Policy::Local => dnat(settings, class),
        Policy::ExternalLocal => by_sender(settings, mark, class),
    };
    table.add_chain(class.chain(), None, rules);
}

/// Marks packets to a cluster IP that did not come from a pod of this node.
fn mark_strangers(ir: &Ir, mark: Statement) -> Option<Rule> {
    if ir.node().masquerade_all {
        return Some(Rule::new([mark]));
    }
    let not_a_pod = from_pod(&ir.node().local_detector, true)?;
    Some(Rule::new([not_a_pod.into(), mark]))
}

/// Under `externalTrafficPolicy: Local` the node's own pods and processes may use any
/// endpoint; others get those of this node, with their own source address.
fn by_sender(settings: Settings<'_>, mark: Statement, class: Class) -> Vec<Rule> {
    let Settings { ir, layout } = settings;
    let spread = Class { policy: Policy::Spread, ..class }.chain();
    let spread: Statement = Verdict::Goto(spread).into();
    let local = match class.door {
        Door::Address => names::LOCAL_SERVICES,
        Door::NodePort => names::LOCAL_NODEPORTS,
    };
    let pods = from_pod(&ir.node().local_detector, false)
        .map(|pod| Rule::new([pod.into(), spread.clone()]));
    let others = [
        Rule::new([Match::SaddrLocal.into(), mark, spread]),
        Rule::new(dispatch(layout, frontend_key(class.door), local, names::LOCAL_CLASSES)),
        Rule::new([Verdict::Drop.into()]),
    ];
    pods.into_iter().chain(others).collect()
}

fn from_pod(detector: &LocalDetector, not: bool) -> Option<Match> {
    let interface = |name: &String, prefix| Match::Iifname { not, name: name.clone(), prefix };
    match detector {
        LocalDetector::None => None,
        LocalDetector::SourceBlock(block) => Some(Match::Saddr { not, block: *block }),
        LocalDetector::Bridge(name) => Some(interface(name, false)),
        LocalDetector::InterfacePrefix(name) => Some(interface(name, true)),
    }
}

/// Sends the packet to an endpoint. The number of its class has done its work by then.
fn dnat(settings: Settings<'_>, class: Class) -> Vec<Rule> {
    let generator = match class.pick {
        Pick::Random => Generator::Random,
        Pick::RoundRobin => Generator::Next,
        Pick::SourceHash => Generator::Hash(vec![Expr::Saddr]),
        // The rest of the connection, address and port of the Service, picks the table.
        Pick::Maglev => {
            let sport = Expr::Sport(Transport::Of(class.protocol));
            Generator::Hash(vec![Expr::Saddr, sport])
        }
    };
    let slot = Expr::Number { generator, modulus: class.slots };
    if let Some(timeout) = class.affinity {
        return sticky_dnat(settings.ir.family(), class, slot, timeout);
    }
    let used = (settings.layout == Layout::ConstantTime).then_some(Statement::ClearPriority);
    let dnat = Statement::Dnat { key: endpoint_key(class, slot), map: class.maps().endpoints() };
    vec![Rule::new(used.into_iter().chain([dnat]).collect::<Vec<_>>())]
}

/// Sends a client to the endpoint it had before, and makes its time begin anew; when it had
/// none, or that one is gone, picks one and keeps it. The number of the endpoint passes
/// from one lookup to the next in the packet's priority, since the packet's mark belongs
/// to the user. Whose endpoint it is can be read off any number of the Service, so the first
/// slot's tells what to look for.
fn sticky_dnat(family: Family, class: Class, slot: Expr, timeout: u32) -> Vec<Rule> {
    let map = || names::AFFINITY.to_owned();
    let key = || vec![Expr::PriorityBits(ids::SERVICE), client(family)];
    let number = |slot| {
        let (key, map) = (endpoint_key(class, slot), class.maps().ids());
        Rule::new([Statement::SetPriority { key, map }])
    };
    let recall = || Statement::SetPriority { key: key(), map: map() };
    let remember = || Statement::Remember { key: key(), map: map(), timeout };
    let forget = Statement::Forget { key: key(), map: map() };
    // nft wants to know the protocol before a port is rewritten.
    let known = || Match::L4proto(class.protocol).into();
    let dnat = || Statement::Dnat { key: vec![Expr::Priority], map: class.sticky().to_owned() };
    vec![
        number(Expr::Number { generator: Generator::Next, modulus: 1 }),
        Rule::new([known(), recall(), remember(), dnat()]),
        Rule::new([forget]),
        number(slot),
        Rule::new([remember()]),
        // Of two first packets at the same time the second goes where the first one went.
        Rule::new([recall()]),
        Rule::new([known(), dnat()]),
    ]
}

/// What a client is known by. The key of a dynamic map has room for 16 bytes in nft 1.0.6,
/// the first four for the Service: of an IPv6 address it is the last twelve.
fn client(family: Family) -> Expr {
    match family {
        Family::Ipv4 => Expr::Saddr,
        Family::Ipv6 => Expr::SaddrTail,
    }
}

/// The map in which Services remember their clients.
fn clients(family: Family) -> Set {
    let key = Fields::Typeof(vec![Expr::Priority, client(family)]);
    let number = Value::Data(Fields::Typeof(vec![Expr::Priority]));
    Set::new(family, key, number).filled_by_packets()
}

/// The key of a frontend's endpoints: its address and port, and which of them.
fn endpoint_key(class: Class, which: Expr) -> Vec<Expr> {
    let dport = Expr::Dport(Transport::Of(class.protocol));
    match class.door {
        Door::Address => vec![Expr::Daddr, dport, which],
        Door::NodePort => vec![dport, which],
    }
}

/// The name of the chain that lets only admitted sources through to `onward`.
pub(super) fn firewall_name(onward: &Verdict) -> String {
    match onward {
        Verdict::Goto(chain) | Verdict::Jump(chain) => names::firewall(chain),
        other => names::firewall(&other.to_string()),
    }
}

/// Adds that chain.
pub(super) fn add_firewall(table: &mut Table, onward: &Verdict) {
    let mut key = frontend_key(Door::Address);
    key.push(Expr::Saddr);
    let stranger = Match::In { not: true, key, set: names::SOURCE_RANGES.to_owned() };
    let rules = vec![
        Rule::new([stranger.into(), Verdict::Drop.into()]),
        Rule::new([onward.clone().into()]),
    ];
    table.add_chain(firewall_name(onward), None, rules);
}

fn frontend_key(door: Door) -> Vec<Expr> {
    let at_node = [Expr::L4proto, Expr::Dport(Transport::Any)];
    match door {
        Door::Address => [Expr::Daddr].into_iter().chain(at_node).collect(),
        Door::NodePort => at_node.to_vec(),
    }
}

/// Follows the verdict on a frontend. In the constant-time layout `map` leads to the number of
/// a class, and `classes` from there to the verdict. The number passes from one lookup to
/// the next in the packet's priority, within one rule: a packet for no Service keeps its
/// own, and no priority that a packet brings along can be taken for a class.
fn dispatch(layout: Layout, key: Vec<Expr>, map: &str, classes: &str) -> Vec<Statement> {
    match layout {
        Layout::Verdict => vec![vmap(key, map)],
        Layout::ConstantTime => {
            let class = Statement::SetPriority { key, map: map.to_owned() };
            vec![class, vmap(vec![Expr::Priority], classes)]
        }
    }
}

fn vmap(key: Vec<Expr>, map: &str) -> Statement {
    Statement::Vmap { key, map: map.to_owned() }
}

fn is_in(key: Vec<Expr>, set: &str) -> Statement {
    Match::In { not: false, key, set: set.to_owned() }.into()
}
