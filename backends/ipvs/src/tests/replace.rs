//! From whatever is there to what is wanted.

use super::{dns, ip, lower, node, service};
use crate::{Command, Ipvs, LinkChange, Patch, Program};
use nfc_backend::{Answer, Backend, Fault, Question, Step};
use nfc_ir::Family;
use nfc_netlink::route::{LinkEnd, RouteWriter};
use std::num::NonZeroU16;

/// What a node looks like: the text of `/proc/net/ip_vs`, the companion's record, the
/// addresses that routes make its own, and those on a dummy link, if there is one.
fn answers(servers: &str, record: &str, routed: &[&str], on_link: Option<&[&str]>) -> Vec<Answer> {
    let mut links = RouteWriter::new();
    let name = |name: &str| name.to_owned();
    links.dummy(&LinkEnd { index: Some(2), name: name("eth0"), mac: None });
    let mut addresses = RouteWriter::new();
    addresses.address(2, ip("192.0.2.10"), 24);
    if let Some(on_link) = on_link {
        links.dummy(&LinkEnd { index: Some(7), name: name("kube-ipvs0"), mac: None });
        for address in on_link {
            let length = if address.contains(':') { 128 } else { 32 };
            addresses.address(7, ip(address), length);
        }
    }
    let mut routes = RouteWriter::new();
    routes.own(ip("10.96.0.77"), 3);
    routed.iter().for_each(|address| routes.own(ip(address), 110));
    vec![
        Answer(servers.as_bytes().to_vec()),
        Answer(record.as_bytes().to_vec()),
        Answer(links.into_bytes()),
        Answer(addresses.into_bytes()),
        Answer(routes.into_bytes()),
    ]
}

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
    assert_eq!(kinds, ["LC_ALL=C cat /proc/net/ip_vs", record, "route", "route", "route"]);
}

#[test]
fn only_what_is_nfcs_is_touched() {
    let record = "elements = { 192.0.2.10 . tcp . 30080 }";
    let found = answers(SERVERS, record, &["10.96.0.1", "10.96.0.99"], None);
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
    let found = answers("", "", &[], None);
    let patch = Ipvs.replace(&found, &wanted());
    assert_eq!(patch.link, LinkChange::Keep);
    assert_eq!(patch.bound, wanted().addresses);
    assert_eq!(Ipvs.patched(&Ipvs.empty(Family::Ipv4), &patch), wanted());
}

/// What kube-proxy bound to its link is ours: it goes, after there is a route in its place.
#[test]
fn a_dummy_link_gives_way_to_routes() {
    let found = answers(SERVERS, "", &[], Some(&["10.96.0.1", "10.96.0.99"]));
    let patch = Ipvs.replace(&found, &wanted());
    assert_eq!(patch.link, LinkChange::Delete);
    assert_eq!((patch.bound.clone(), patch.unbound.len()), ([ip("10.96.0.1")].into(), 0));
    let stray = patch.servers.iter().find(|(key, _)| key.address.ip() == ip("10.96.0.99"));
    assert!(stray.is_some_and(|(_, change)| change.commands == [Command::DeleteServer]));
    let blamed = |message| {
        let step = Ipvs.encode(&patch).iter().position(|step| step.kind() == "rtnetlink");
        let step = step.expect("routes");
        let words = String::new();
        let fault = Fault { step, message: Some(message), offset: None, errno: 17, words };
        Ipvs.blame(&patch, &fault).to_string()
    };
    assert_eq!([blamed(0), blamed(1)], ["add local route 10.96.0.1", "delete link kube-ipvs0"]);
}

#[test]
fn a_dummy_link_keeps_the_addresses_of_the_other_family() {
    let found = answers("", "", &[], Some(&["10.96.0.1", "fd00:96::1"]));
    for program in [wanted(), Ipvs.empty(Family::Ipv4)] {
        let patch = Ipvs.replace(&found, &program);
        let addresses = [ip("10.96.0.1")].into();
        assert_eq!(patch.link, LinkChange::Strip { index: 7, addresses });
    }
    let found = answers("", "", &[], Some(&["fd00:96::1"]));
    assert_eq!(Ipvs.replace(&found, &wanted()).link, LinkChange::Keep);
}

#[test]
fn with_nothing_wanted_nothing_is_left() {
    let empty = Ipvs.empty(Family::Ipv4);
    let found = answers(SERVERS, "", &["10.96.0.1", "10.96.0.99"], None);
    let patch = Ipvs.replace(&found, &empty);
    assert_eq!((patch.unbound.len(), patch.servers.len()), (2, 2));
    let kinds: Vec<_> = Ipvs.encode(&patch).iter().map(Step::kind).collect();
    assert_eq!(kinds, ["rtnetlink", "IPVS", "nftables"]);
}

#[test]
fn routes_of_the_other_family_stay() {
    let found = answers("", "", &["10.96.0.1", "fd00:96::1"], None);
    let patch = Ipvs.replace(&found, &Ipvs.empty(Family::Ipv4));
    assert_eq!(patch.unbound, [ip("10.96.0.1")].into());
}

/// What was said once need not be said again: only settings are, because a timeout cannot
/// be read.
#[test]
fn replacing_a_program_by_itself_says_settings_only() {
    let program = lower(Family::Ipv4, node(), vec![dns()]);
    let listing =
        "UDP  0A60000B:0035 rr persistent 1080000 FFFFFFFF\n  -> 0A400103:0035 Masq 1 0 0\n";
    let found = answers(listing, "", &["10.96.0.11"], None);
    let patch = Ipvs.replace(&found, &program);
    assert_eq!(said(&patch), [("10.96.0.11:53".to_owned(), vec![Command::SetServer])]);
    assert!(patch.bound.is_empty() && patch.unbound.is_empty());
}
