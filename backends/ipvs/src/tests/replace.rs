//! From whatever is there to what is wanted.

use super::{dns, ip, lower, node, service};
use crate::{Command, Ipvs, LinkChange, Patch, Program};
use nfc_backend::{Answer, Backend, Question, Step};
use nfc_ir::Family;
use nfc_netlink::route::{LinkEnd, RouteWriter};
use std::num::NonZeroU16;

/// What a node looks like: the text of `/proc/net/ip_vs`, the companion's record, the
/// number of the dummy link, its addresses.
fn answers(servers: &str, record: &str, link: Option<u32>, bound: &[&str]) -> Vec<Answer> {
    let mut links = RouteWriter::new();
    let name = |name: &str| name.to_owned();
    links.dummy(&LinkEnd { index: Some(2), name: name("eth0"), mac: None });
    if let Some(index) = link {
        links.dummy(&LinkEnd { index: Some(index), name: name("kube-ipvs0"), mac: None });
    }
    let mut addresses = RouteWriter::new();
    addresses.address(2, ip("192.0.2.10"), 24);
    for address in bound {
        let length = if address.contains(':') { 128 } else { 32 };
        addresses.address(link.unwrap_or(2), ip(address), length);
    }
    vec![
        Answer(servers.as_bytes().to_vec()),
        Answer(record.as_bytes().to_vec()),
        Answer(links.into_bytes()),
        Answer(addresses.into_bytes()),
    ]
}

const OURS: u32 = 0x6970_7673;

const SERVERS: &str = "\
TCP  0A600001:0050 rr persistent 1080000 FFFFFFFF
  -> 0A400001:0050      Masq    1      0          0
  -> 0A400002:0050      Masq    0      0          0
  -> 0A400003:0050      Masq    1      0          0
TCP  0A600063:0050 rr
TCP  C000020A:7580 rr
TCP  C000020A:0050 wlc
";

fn wanted() -> Program {
    let endpoints = [("10.64.0.1:80", 1), ("10.64.0.2:80", 1)];
    lower(Family::Ipv4, node(), vec![service("a", "10.96.0.1", 80, &endpoints)])
}

/// The virtual servers that change, with what is said about them.
fn said(patch: &Patch) -> Vec<(String, Vec<Command>)> {
    let text = |key: &crate::ServerKey| key.address.to_string();
    patch.servers.iter().map(|(key, change)| (text(key), change.commands.clone())).collect()
}

#[test]
fn questions_are_asked_in_the_order_in_which_answers_are_read() {
    let kinds: Vec<_> = Ipvs
        .questions(Family::Ipv6)
        .iter()
        .map(|question| match question {
            Question::Process(process) => process.args.join(" "),
            Question::Route(_) => "route".to_owned(),
            Question::Genetlink { .. } => "genetlink".to_owned(),
            Question::Nftables(_) => "nftables".to_owned(),
        })
        .collect();
    let record = "list set ip6 nfc-ipvs virtual-servers";
    assert_eq!(kinds, ["LC_ALL=C cat /proc/net/ip_vs", record, "route", "route"]);
}

#[test]
fn only_what_is_nfcs_is_touched() {
    let record = "elements = { 192.0.2.10 . tcp . 30080 }";
    let found = answers(SERVERS, record, Some(OURS), &["10.96.0.1", "10.96.0.99"]);
    let patch = Ipvs.replace(&found, &wanted());
    let one = NonZeroU16::MIN;
    let real = |text: &str| text.parse().expect("an address");
    let edit = vec![
        Command::SetServer,
        Command::SetReal(real("10.64.0.2:80"), one),
        Command::DeleteReal(real("10.64.0.3:80")),
    ];
    // The stray at a bound address goes, and the node port of the record; port 80 of the
    // node's own address is somebody else's.
    let expected = [
        ("10.96.0.1:80".to_owned(), edit),
        ("10.96.0.99:80".to_owned(), vec![Command::DeleteServer]),
        ("192.0.2.10:30080".to_owned(), vec![Command::DeleteServer]),
    ];
    assert_eq!(said(&patch), expected);
    assert_eq!((patch.bound.len(), patch.unbound), (0, [ip("10.96.0.99")].into()));
    assert_eq!(patch.link, LinkChange::Keep);
}

#[test]
fn an_untouched_node_gets_everything() {
    let found = answers("", "", None, &[]);
    let patch = Ipvs.replace(&found, &wanted());
    assert_eq!(patch.link, LinkChange::Make);
    assert_eq!(patch.bound, wanted().addresses);
    assert_eq!(Ipvs.patched(&Ipvs.empty(Family::Ipv4), &patch), wanted());
}

#[test]
fn a_link_of_another_number_is_made_again_and_keeps_the_other_family() {
    let found = answers("", "", Some(7), &["10.96.0.1", "fd00:96::1"]);
    let patch = Ipvs.replace(&found, &wanted());
    assert_eq!(patch.link, LinkChange::Remake([ip("fd00:96::1")].into()));
    assert_eq!((patch.bound, patch.unbound.len()), ([ip("10.96.0.1")].into(), 0));
}

#[test]
fn with_nothing_wanted_nothing_is_left() {
    let empty = Ipvs.empty(Family::Ipv4);
    let found = answers(SERVERS, "", Some(OURS), &["10.96.0.1", "10.96.0.99"]);
    let patch = Ipvs.replace(&found, &empty);
    assert_eq!((patch.link.clone(), patch.servers.len()), (LinkChange::Delete, 2));
    let kinds: Vec<_> = Ipvs.encode(&patch).iter().map(Step::kind).collect();
    assert_eq!(kinds, ["rtnetlink", "IPVS", "nftables"]);
}

#[test]
fn the_link_stays_while_the_other_family_needs_it() {
    let found = answers("", "", Some(OURS), &["10.96.0.1", "fd00:96::1"]);
    let patch = Ipvs.replace(&found, &Ipvs.empty(Family::Ipv4));
    assert_eq!((patch.link, patch.unbound), (LinkChange::Keep, [ip("10.96.0.1")].into()));
}

/// What was said once need not be said again: only settings are, because a timeout cannot
/// be read.
#[test]
fn replacing_a_program_by_itself_says_settings_only() {
    let program = lower(Family::Ipv4, node(), vec![dns()]);
    let listing =
        "UDP  0A60000B:0035 rr persistent 1080000 FFFFFFFF\n  -> 0A400103:0035 Masq 1 0 0\n";
    let found = answers(listing, "", Some(OURS), &["10.96.0.11"]);
    let patch = Ipvs.replace(&found, &program);
    assert_eq!(said(&patch), [("10.96.0.11:53".to_owned(), vec![Command::SetServer])]);
    assert!(patch.bound.is_empty() && patch.unbound.is_empty());
}
