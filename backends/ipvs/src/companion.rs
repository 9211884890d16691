//! The companion table: what IPVS cannot say, as sets and a dozen rules over them.
//!
//! IPVS takes the node's packets at LOCAL_IN (priority 99) and at LOCAL_OUT (-98)
//! (`net/netfilter/ipvs/ip_vs_core.c`, `ip_vs_ops4` and `ip_vs_ops6`). What has to see the
//! virtual address stands before that; what has to see the real server, in POSTROUTING.
//!
//! Invariant: the rules depend on the node alone; Services come and go as set elements.

use crate::lower::{Masquerade, Plan};
use crate::names::{self, chains, sets};
use crate::program::ServerKey;
use ipnet::IpNet;
use nfc_ir::{Family, Ir, LocalDetector, Node, Port, Protocol};
use nfc_ruleset::{
    Base, Expr, Fields, Hook, Key, Match, Row, Rule, Set, Statement, Table, Transport, Type, Value,
    Verdict,
};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// Just before destinations are rewritten, and so before IPVS takes the node's own packets.
const BEFORE_OUTPUT: i32 = -110;

/// Where filters stand, and so before IPVS takes packets that come in.
const BEFORE_INPUT: i32 = 0;

/// The companion of these virtual servers and bound addresses.
pub(crate) fn table(ir: &Ir, plan: &Plan, addresses: &BTreeSet<IpAddr>) -> Table {
    let mut table = Table::new(ir.family(), names::TABLE);
    add_server_sets(&mut table, plan);
    add_firewall_sets(&mut table, plan);
    add_other_sets(&mut table, ir, plan, addresses);
    add_chains(&mut table, ir.node());
    table
}

/// What a companion has in any case: the record of what nfc owns.
pub(crate) fn record(family: Family) -> Table {
    let mut table = Table::new(family, names::TABLE);
    let all = Set::new(family, server_fields(), Value::None);
    table.add_set(sets::VIRTUAL_SERVERS, all);
    table
}

/// Sets whose elements are virtual servers.
fn add_server_sets(table: &mut Table, plan: &Plan) {
    let family = table.family;
    let mut all = Set::new(family, server_fields(), Value::None);
    let mut masqueraded = Set::new(family, server_fields(), Value::None);
    let mut cluster_ips = Set::new(family, server_fields(), Value::None);
    for (key, planned) in plan {
        let element = server_key(key);
        all.map(&element, &[], &planned.server.service);
        match planned.masquerade {
            Masquerade::Always => masqueraded.add(&element),
            Masquerade::AsClusterIp => cluster_ips.add(&element),
            Masquerade::Never => (),
        }
    }
    table.add_set(sets::VIRTUAL_SERVERS, all);
    table.add_set(sets::MASQUERADED, masqueraded);
    table.add_set(sets::CLUSTER_IPS, cluster_ips);
}

fn add_firewall_sets(table: &mut Table, plan: &Plan) {
    let family = table.family;
    let mut firewalled = Set::new(family, server_fields(), Value::None);
    let mut fields = server_types();
    fields.push(Type::Address);
    let mut admitted = Set::new(family, Fields::Types(fields), Value::None).with_interval();
    for (key, planned) in plan.iter().filter(|(_, planned)| !planned.admitted.is_empty()) {
        let element = server_key(key);
        firewalled.add(&element);
        for block in &planned.admitted {
            admitted.add(&range(&element, block));
        }
    }
    table.add_set(sets::FIREWALLED, firewalled);
    table.add_set(sets::ADMITTED, admitted);
}

/// From the block's first address to its last, all for one virtual server.
fn range(server: &Key, block: &IpNet) -> Key {
    let first = server.addr(block.network());
    let last = server.addr(block.broadcast());
    first.then(&last)
}

fn add_other_sets(table: &mut Table, ir: &Ir, plan: &Plan, addresses: &BTreeSet<IpAddr>) {
    let family = table.family;
    let mut bound = Set::new(family, Fields::Types(vec![Type::Address]), Value::None);
    for address in addresses {
        bound.add(&Key::new().addr(*address));
    }
    table.add_set(sets::BOUND_ADDRESSES, bound);
    table.add_set(sets::HAIRPINS, hairpins(family, plan));
    let mut health_checks = Set::new(family, Fields::Types(vec![Type::Port]), Value::None);
    for port in ir.services().iter().filter_map(|s| s.health_check_port) {
        health_checks.add(&Key::new().port(port));
    }
    table.add_set(sets::HEALTH_CHECKS, health_checks);
}

/// Real servers as their own clients.
fn hairpins(family: Family, plan: &Plan) -> Set {
    let fields = vec![Type::Address, Type::Address, Type::Protocol, Type::Port];
    let mut hairpins = Set::new(family, Fields::Types(fields), Value::None);
    for (key, planned) in plan {
        for real in &planned.hairpins {
            if let Some(port) = Port::new(real.port()) {
                let both = Key::new().addr(real.ip()).addr(real.ip());
                hairpins.add(&both.proto(key.protocol).port(port));
            }
        }
    }
    hairpins
}

fn server_types() -> Vec<Type> {
    vec![Type::Address, Type::Protocol, Type::Port]
}

fn server_fields() -> Fields {
    Fields::Types(server_types())
}

/// A virtual server as the key of a set. Virtual servers have a port: it is a Service's.
fn server_key(key: &ServerKey) -> Key {
    let port = Port::new(key.address.port()).unwrap_or(Port::MIN);
    Key::new().addr(key.address.ip()).proto(key.protocol).port(port)
}

/// Reads what [`server_key`] wrote.
pub(crate) fn read_key(row: &Row<'_>) -> Option<ServerKey> {
    let (port, rest) = row.key.split_last_chunk::<4>().map(|(rest, port)| (port, rest))?;
    let (ip, protocol) = rest.split_last_chunk::<4>()?;
    let ip = match ip.len() {
        4 => IpAddr::from(*ip.first_chunk::<4>()?),
        _ => IpAddr::from(*ip.first_chunk::<16>()?),
    };
    let protocol = Protocol::ALL.into_iter().find(|p| p.number() == protocol[0])?;
    let port = u16::from_be_bytes([port[0], port[1]]);
    Some(ServerKey { address: SocketAddr::new(ip, port), protocol })
}

fn add_chains(table: &mut Table, node: &Node) {
    let new_to = |chain: &str| {
        let jump = Verdict::Jump(chain.to_owned());
        Rule::new([Match::CtStateNew.into(), jump.into()])
    };
    let jump = |chain: &str| Rule::new([Verdict::Jump(chain.to_owned()).into()]);
    let mask = node.masquerade_mask();

    table.add_chain(chains::FIREWALL, None, vec![firewall()]);
    table.add_chain(chains::MARK, None, marks(node));
    let mark = || vec![jump(chains::MARK)];
    table.add_chain(chains::PREROUTING, Some(Base::nat(Hook::Prerouting)), mark());
    table.add_chain(chains::OUTPUT, Some(Base::nat(Hook::Output)), mark());
    let output = Base::filter(Hook::Output, BEFORE_OUTPUT);
    table.add_chain(chains::FILTER_OUTPUT, Some(output), vec![new_to(chains::FIREWALL)]);
    let input = Base::filter(Hook::Input, BEFORE_INPUT);
    let input_rules = vec![new_to(chains::FIREWALL), health_check(), unknown_port()];
    table.add_chain(chains::FILTER_INPUT, Some(input), input_rules);
    let postrouting = vec![masquerade_marked(mask), masquerade_hairpins()];
    table.add_chain(chains::POSTROUTING, Some(Base::nat(Hook::Postrouting)), postrouting);
}

fn destination() -> Vec<Expr> {
    vec![Expr::Daddr, Expr::L4proto, Expr::Dport(Transport::Any)]
}

fn is_in(set: &str, key: Vec<Expr>) -> Statement {
    Match::In { not: false, key, set: set.to_owned() }.into()
}

fn is_not_in(set: &str, key: Vec<Expr>) -> Statement {
    Match::In { not: true, key, set: set.to_owned() }.into()
}

fn firewall() -> Rule {
    let mut from = destination();
    from.push(Expr::Saddr);
    let statements = [
        is_in(sets::FIREWALLED, destination()),
        is_not_in(sets::ADMITTED, from),
        Verdict::Drop.into(),
    ];
    Rule::new(statements).with_comment("source ranges")
}

/// What is masqueraded is decided by the virtual address, and done when that is gone: a
/// mark carries the decision there.
fn marks(node: &Node) -> Vec<Rule> {
    let mark = Statement::SetMark(node.masquerade_mask());
    let external = Rule::new([is_in(sets::MASQUERADED, destination()), mark.clone()]);
    let mut statements = Vec::new();
    let comment = if node.masquerade_all {
        statements.push(is_in(sets::CLUSTER_IPS, destination()));
        "masqueradeAll"
    } else if let Some(stranger) = stranger(&node.local_detector) {
        statements.extend([is_in(sets::CLUSTER_IPS, destination()), stranger]);
        "strangers at cluster IPs"
    } else {
        // A process of the node reaches a cluster IP with that very address as source,
        // since it is bound here; every other node has it too, so that no answer would
        // come back.
        let source = vec![Expr::Saddr, Expr::L4proto, Expr::Dport(Transport::Any)];
        statements.push(is_in(sets::CLUSTER_IPS, source));
        "the node at cluster IPs"
    };
    statements.push(mark);
    vec![external, Rule::new(statements).with_comment(comment)]
}

/// The packet is not from one of the node's own pods; `None` when nothing is known.
fn stranger(detector: &LocalDetector) -> Option<Statement> {
    let iifname = |name: &String, prefix| Match::Iifname { not: true, name: name.clone(), prefix };
    let test = match detector {
        LocalDetector::None => return None,
        LocalDetector::SourceBlock(block) => Match::Saddr { not: true, block: *block },
        LocalDetector::Bridge(name) => iifname(name, false),
        LocalDetector::InterfacePrefix(name) => iifname(name, true),
    };
    Some(test.into())
}

/// A bound address is the node's own, and so would be every port that a process listens on
/// at all addresses.
fn unknown_port() -> Rule {
    let statements = [
        Match::CtStateNew.into(),
        is_in(sets::BOUND_ADDRESSES, vec![Expr::Daddr]),
        is_not_in(sets::VIRTUAL_SERVERS, destination()),
        Statement::Reject,
    ];
    Rule::new(statements).with_comment("unknown ports of bound addresses")
}

/// Health checks come to the node's addresses, or in some clouds to the load balancer's:
/// there they would be an unknown port of a bound address.
fn health_check() -> Rule {
    let statements = [
        Match::L4proto(Protocol::Tcp).into(),
        is_in(sets::HEALTH_CHECKS, vec![Expr::Dport(Transport::Any)]),
        Verdict::Accept.into(),
    ];
    Rule::new(statements).with_comment("health check node ports")
}

fn masquerade_marked(mask: u32) -> Rule {
    let statements = [Match::Mark(mask).into(), Statement::ClearMark(mask), Statement::Masquerade];
    Rule::new(statements)
}

/// An endpoint that reaches itself through its Service would answer itself directly.
fn masquerade_hairpins() -> Rule {
    let key = vec![Expr::Saddr, Expr::Daddr, Expr::L4proto, Expr::Dport(Transport::Any)];
    Rule::new([is_in(sets::HAIRPINS, key), Statement::Masquerade]).with_comment("hairpins")
}
