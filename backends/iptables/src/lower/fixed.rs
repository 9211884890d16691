//! The rules that are there whatever the Services are: jumps from the built-in chains, the
//! masquerading mark, forwarding, and the way to the node ports.
//!
//! Invariant: knows the node's settings, and no Service.

use super::Output;
use crate::names::{BuiltIn, ChainName, Table};
use crate::program::{Address, Match, Rule, Sense, State, Target};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nfc_ir::node::NodePortMatch;
use nfc_ir::{Family, Ir, Node, ProxyMode};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Everything that stands before the Services' rules.
pub(super) fn head(out: &mut Output, ir: &Ir) {
    let guards_loopback = ir.node().serves_localhost(ProxyMode::Iptables, ir.family());
    declare(out, guards_loopback);
    jumps(out, guards_loopback);
    if guards_loopback {
        out.append(Table::Filter, ChainName::Firewall, martian_rule());
    }
    masquerading(out, ir.node());
}

/// Everything that stands after them.
pub(super) fn tail(out: &mut Output, ir: &Ir) {
    node_ports(out, ir);
    forwarding(out, ir.node());
}

/// The shared chains exist even when they are empty: the jumps lead there.
fn declare(out: &mut Output, guards_loopback: bool) {
    let filter = [
        ChainName::Services,
        ChainName::ExternalServices,
        ChainName::Forward,
        ChainName::NodePorts,
        ChainName::ProxyFirewall,
    ];
    let nat =
        [ChainName::Services, ChainName::NodePorts, ChainName::Postrouting, ChainName::MarkMasq];
    let guard = guards_loopback.then_some(ChainName::Firewall);
    let tables = &mut out.0.tables;
    for chain in filter.into_iter().chain(guard) {
        tables.filter.chains.entry(chain).or_default();
    }
    for chain in nat {
        tables.nat.chains.entry(chain).or_default();
    }
}

/// The jumps from built-in chains, in the order that kube-proxy's insertions leave behind.
fn jumps(out: &mut Output, guards_loopback: bool) {
    let guard = || guards_loopback.then(|| jump(false, None, ChainName::Firewall));
    let firewall = || {
        let words = "kubernetes load balancer firewall";
        jump(true, Some(words), ChainName::ProxyFirewall)
    };
    let external = || {
        let words = "kubernetes externally-visible service portals";
        jump(true, Some(words), ChainName::ExternalServices)
    };
    let portals = |new| jump(new, Some("kubernetes service portals"), ChainName::Services);
    let health = "kubernetes health check service ports";
    let forwarding = "kubernetes forwarding rules";
    let postrouting = "kubernetes postrouting rules";

    let filter = &mut out.0.tables.filter.jumps;
    let input = [firewall(), jump(false, Some(health), ChainName::NodePorts), external()];
    filter.insert(BuiltIn::Input, guard().into_iter().chain(input).collect());
    let forward = vec![
        firewall(),
        jump(false, Some(forwarding), ChainName::Forward),
        portals(true),
        external(),
    ];
    filter.insert(BuiltIn::Forward, forward);
    let output = [firewall(), portals(true)];
    filter.insert(BuiltIn::Output, guard().into_iter().chain(output).collect());

    let nat = &mut out.0.tables.nat.jumps;
    nat.insert(BuiltIn::Prerouting, vec![portals(false)]);
    nat.insert(BuiltIn::Output, vec![portals(false)]);
    let masquerade = jump(false, Some(postrouting), ChainName::Postrouting);
    nat.insert(BuiltIn::Postrouting, vec![masquerade]);
}

fn jump(only_new: bool, comment: Option<&str>, to: ChainName) -> Rule {
    let state = only_new.then(|| Match::State(vec![State::New], Sense::Is));
    let comment = comment.map(Match::comment);
    rule(state.into_iter().chain(comment).collect(), Target::Jump(to))
}

fn rule(matches: Vec<Match>, target: Target) -> Rule {
    Rule { service: None, matches, target: Some(target) }
}

fn loopback(family: Family) -> Address {
    Address::Block(match family {
        Family::Ipv4 => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
        Family::Ipv6 => IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
    })
}

/// With `route_localnet` on, which node ports on loopback need, a neighbour could reach the
/// node's loopback services (CVE-2020-8558).
fn martian_rule() -> Rule {
    let answers = vec![State::Related, State::Established, State::Dnat];
    let matches = vec![
        Match::comment("block incoming localnet connections"),
        Match::Destination(loopback(Family::Ipv4), Sense::Is),
        Match::Source(loopback(Family::Ipv4), Sense::IsNot),
        Match::State(answers, Sense::IsNot),
    ];
    rule(matches, Target::Drop)
}

fn masquerading(out: &mut Output, node: &Node) {
    let mask = node.masquerade_mask();
    let words = Match::comment("kubernetes service traffic requiring SNAT");
    let rules = [
        rule(vec![Match::Mark(mask, Sense::IsNot)], Target::Return),
        // Without the mark, a packet that is routed twice is not masqueraded twice.
        rule(Vec::new(), Target::FlipMark(mask)),
        rule(vec![words], Target::Masquerade),
    ];
    for rule in rules {
        out.append(Table::Nat, ChainName::Postrouting, rule);
    }
    let mark = rule(Vec::new(), Target::SetMark(mask));
    out.append(Table::Nat, ChainName::MarkMasq, mark);
}

/// The last rules of `KUBE-SERVICES`: node ports come after all addresses.
fn node_ports(out: &mut Output, ir: &Ir) {
    let words = "kubernetes service nodeports; \
                 NOTE: this must be the last rule in this chain";
    let mut append = |places: Vec<Match>| {
        let matches = std::iter::once(Match::comment(words)).chain(places);
        let rule = rule(matches.collect(), Target::Jump(ChainName::NodePorts));
        out.append(Table::Nat, ChainName::Services, rule);
    };
    match ir.node().node_port_match(ProxyMode::Iptables, ir.family()) {
        NodePortMatch::AllLocal { loopback: true } => append(vec![Match::DestinationIsLocal]),
        NodePortMatch::AllLocal { loopback: false } => {
            let elsewhere = Match::Destination(loopback(ir.family()), Sense::IsNot);
            append(vec![Match::DestinationIsLocal, elsewhere]);
        }
        NodePortMatch::Exactly(addresses) => {
            for address in addresses {
                append(vec![Match::to_host(address)]);
            }
        }
    }
}

fn forwarding(out: &mut Output, node: &Node) {
    let answers = vec![State::Related, State::Established];
    let marked = vec![
        Match::comment("kubernetes forwarding rules"),
        Match::Mark(node.masquerade_mask(), Sense::Is),
    ];
    let known = vec![
        Match::comment("kubernetes forwarding conntrack rule"),
        Match::State(answers, Sense::Is),
    ];
    // A packet that conntrack gives up on would leave with its addresses as they are, and
    // the client would reset the connection (kubernetes/kubernetes#74839).
    let invalid = (!node.conntrack_liberal).then(|| {
        let state = Match::State(vec![State::Invalid], Sense::Is);
        rule(vec![state], Target::Drop)
    });
    let accepting = [rule(marked, Target::Accept), rule(known, Target::Accept)];
    for rule in invalid.into_iter().chain(accepting) {
        out.append(Table::Filter, ChainName::Forward, rule);
    }
}
