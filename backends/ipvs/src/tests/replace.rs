//! From whatever is there to what is wanted.

use super::{dns, ip, lower, node, service};
use crate::{Command, Draining, Ipvs, LinkChange, Patch, Program};
use nfc_backend::{Answer, Backend, Fault, Question, Step};
use nfc_ir::{Family, IpvsScheduler, Node, Protocol, Scheduler, Service};
use nfc_netlink::attr::Writer;
use nfc_netlink::message::{self, Messages};
use nfc_netlink::route::{LinkEnd, RouteWriter};
use nfc_ruleset::Table;
use std::collections::BTreeMap;
use std::num::NonZeroU16;

/// What a node looks like.
#[derive(Clone, Default)]
struct Found<'a> {
    /// The text of `/proc/net/ip_vs`.
    servers: &'a str,
    /// The program whose settings of virtual servers, companion and sysctls are there.
    said: Option<Program>,
    /// The addresses that routes make its own.
    routed: &'a [&'a str],
    /// Those on a dummy link, if there is one.
    on_link: Option<&'a [&'a str]>,
}

impl Found<'_> {
    fn answers(&self) -> Vec<Answer> {
        let mut links = RouteWriter::new();
        let name = |name: &str| name.to_owned();
        links.dummy(&LinkEnd { index: Some(2), name: name("eth0"), mac: None });
        let mut addresses = RouteWriter::new();
        addresses.address(2, ip("192.0.2.10"), 24);
        if let Some(on_link) = self.on_link {
            links.dummy(&LinkEnd { index: Some(7), name: name("kube-ipvs0"), mac: None });
            for address in on_link {
                let length = if address.contains(':') { 128 } else { 32 };
                addresses.address(7, ip(address), length);
            }
        }
        let mut routes = RouteWriter::new();
        routes.own(ip("10.96.0.77"), 3);
        self.routed.iter().for_each(|address| routes.own(ip(address), 110));
        let said = self.said.as_ref();
        let companion = said.and_then(|program| program.companion.as_ref());
        let mut answers = vec![
            Answer(self.servers.as_bytes().to_vec()),
            Answer(said.map_or_else(Vec::new, settings)),
            Answer(companion.map_or_else(nothing_listed, listed)),
            Answer(links.into_bytes()),
            Answer(addresses.into_bytes()),
            Answer(routes.into_bytes()),
        ];
        let sysctls = said.iter().flat_map(|program| program.sysctls.values());
        answers.extend(sysctls.map(|value| Answer(value.as_bytes().to_vec())));
        answers
    }

    fn patch(&self, wanted: &Program) -> Patch {
        Ipvs.replace(&self.answers(), wanted)
    }
}

/// Virtual servers are listed in messages like those that make them, with a flag of the
/// kernel's own (`ip_vs_genl_fill_service`).
fn settings(program: &Program) -> Vec<u8> {
    const HASHED: u8 = 0x2;
    let mut w = Writer::new();
    for step in Ipvs.encode(&Ipvs.diff(&Ipvs.empty(program.family), program)) {
        let Step::Genetlink { messages, .. } = step else { continue };
        for mut message in messages.into_iter().filter(|message| message.command == 1) {
            let flags = message.attrs.windows(4).position(|w| w == [12, 0, 7, 0]);
            message.attrs[flags.expect("flags") + 4] |= HASHED;
            message.write(&mut w, 30, 1);
        }
    }
    w.into_bytes()
}

const NEW_TABLE: u16 = 0x0a00;
const NEW_GENERATION: u16 = 0x0a0f;

/// What nf_tables says in generation 7 of a table that is not there.
fn nothing_listed() -> Vec<u8> {
    let mut w = Writer::new();
    message::write(&mut w, NEW_GENERATION, 0, 1, |w| {
        w.raw(&[0; 4]);
        w.be32(1, 7);
    });
    w.into_bytes()
}

/// And of one that is: objects are listed in messages like those that make them.
fn listed(table: &Table) -> Vec<u8> {
    let family = if table.family == Family::Ipv4 { 2 } else { 10 };
    let objects = u32::try_from(table.sets.len() + table.chains.len()).expect("few");
    let mut w = Writer::new();
    w.raw(&nothing_listed());
    message::write(&mut w, NEW_TABLE, 0, 1, |w| {
        w.raw(&[family, 0, 0, 0]);
        w.text(1, table.name);
        w.be32(2, 0);
        w.be32(3, objects);
    });
    let made = nfc_ruleset::Patch::replacing(table.family, table.name, Some(table));
    for step in nfc_ruleset::encode::encode(&made) {
        let Step::Nftables(batch) = step else { continue };
        let messages = Messages::new(batch.bytes());
        // Not the marks of the batch, nor the table itself: that is listed above.
        let objects = messages.filter(|m| m.kind >> 8 == 10 && m.kind & 0xff > 2);
        for object in objects {
            message::write(&mut w, object.kind, 0, 1, |w| w.raw(object.payload));
        }
    }
    w.into_bytes()
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
            Question::Genetlink { message, .. } => format!("genetlink {}", message.command),
            Question::Nftables(_) => "nftables".to_owned(),
            Question::Sysctl { name } => name.clone(),
        })
        .collect();
    let expected = [
        "LC_ALL=C cat /proc/net/ip_vs",
        "genetlink 4",
        "nftables",
        "route",
        "route",
        "route",
        "net.ipv4.vs.conntrack",
        "net.ipv4.vs.expire_nodest_conn",
        "net.ipv4.vs.expire_quiescent_template",
    ];
    assert_eq!(kinds, expected);
}

/// A Service whose node port is at 30080.
fn with_node_port() -> Program {
    let service = Service {
        node_port: nfc_ir::Port::new(30_080),
        ..service("old", "10.96.0.99", 80, &[("10.64.0.9:80", 1)])
    };
    lower(Family::Ipv4, node(), vec![service])
}

#[test]
fn only_what_is_nfcs_is_touched() {
    let routed = ["10.96.0.1", "10.96.0.99"];
    let found = Found {
        servers: SERVERS,
        said: Some(with_node_port()),
        routed: &routed,
        ..Found::default()
    };
    let patch = found.patch(&wanted());
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
    assert_eq!((patch.bound.len(), &patch.unbound), (0, &[ip("10.96.0.99")].into()));
    assert_eq!(patch.link, LinkChange::Keep);
    let summary = [
        "virtual servers: 1 set anew, 2 deleted",
        "real servers: 1 with another weight, 1 deleted",
        "local routes: 1 deleted",
    ];
    assert_eq!(Ipvs.summary(&patch)[..3], summary);
}

/// The companion keeps what belongs to virtual servers that are still there, and loses it
/// when they are gone; both build on what was read.
#[test]
fn a_companion_that_was_read_is_mended() {
    let before = with_node_port();
    let found = Found { said: Some(before.clone()), ..Found::default() };
    let patch = found.patch(&wanted());
    assert_eq!((patch.grow.generation, patch.shrink.generation), (Some(7), None));
    let old = before.companion.as_ref();
    let middle = nfc_ruleset::patched(old, &patch.grow).expect("a companion");
    assert_eq!(middle.sets["virtual-servers"].elements.len(), 3);
    assert_eq!(nfc_ruleset::patched(Some(&middle), &patch.shrink), wanted().companion);
    let told = Ipvs.summary(&patch);
    let of_record: Vec<_> = told.iter().filter(|line| line.contains("virtual-servers")).collect();
    assert_eq!(of_record, ["table nfc-ipvs, set virtual-servers: 2 elements deleted, 1 added"]);
}

/// Others may have added to it what no patch can mend; the record is read all the same.
#[test]
fn a_strange_companion_is_replaced_and_its_record_read() {
    let mut strange = with_node_port();
    let companion = strange.companion.as_mut().expect("a companion");
    companion.chains.get_mut("nat-output").expect("a chain").base = None;
    let found = Found { servers: SERVERS, said: Some(strange), ..Found::default() };
    let patch = found.patch(&wanted());
    let replacing =
        nfc_ruleset::Patch::replacing(Family::Ipv4, "nfc-ipvs", wanted().companion.as_ref());
    assert_eq!((patch.grow, patch.shrink.is_empty()), (replacing, true));
    let ports: Vec<_> = patch.servers.keys().map(|key| key.address.port()).collect();
    assert_eq!(ports, [80, 80, 30_080]);
}

#[test]
fn an_untouched_node_gets_everything() {
    let patch = Found::default().patch(&wanted());
    assert_eq!(patch.link, LinkChange::Keep);
    assert_eq!(patch.bound, wanted().addresses);
    assert_eq!(Ipvs.patched(&Ipvs.empty(Family::Ipv4), &patch), wanted());
}

/// What kube-proxy bound to its link is ours: it goes, after there is a route in its place.
#[test]
fn a_dummy_link_gives_way_to_routes() {
    let on_link = Some(&["10.96.0.1", "10.96.0.99"][..]);
    let patch = Found { servers: SERVERS, on_link, ..Found::default() }.patch(&wanted());
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
    let found = Found { on_link: Some(&["10.96.0.1", "fd00:96::1"]), ..Found::default() };
    for program in [wanted(), Ipvs.empty(Family::Ipv4)] {
        let patch = found.patch(&program);
        let addresses = [ip("10.96.0.1")].into();
        assert_eq!(patch.link, LinkChange::Strip { index: 7, addresses });
    }
    let found = Found { on_link: Some(&["fd00:96::1"]), ..Found::default() };
    assert_eq!(found.patch(&wanted()).link, LinkChange::Keep);
}

#[test]
fn with_nothing_wanted_nothing_is_left() {
    let empty = Ipvs.empty(Family::Ipv4);
    let routed = ["10.96.0.1", "10.96.0.99"];
    let said = Some(wanted());
    let patch = Found { servers: SERVERS, said, routed: &routed, on_link: None }.patch(&empty);
    assert_eq!((patch.unbound.len(), patch.servers.len()), (2, 2));
    let kinds: Vec<_> = Ipvs.encode(&patch).iter().map(Step::kind).collect();
    assert_eq!(kinds, ["rtnetlink", "IPVS", "nftables"]);
    assert!(Ipvs.is_empty(&Found::default().patch(&empty)), "there is nothing to delete");
    assert!(!Ipvs.is_empty(&Ipvs.replace(&[], &empty)), "nobody looked");
}

#[test]
fn routes_of_the_other_family_stay() {
    let found = Found { routed: &["10.96.0.1", "fd00:96::1"], ..Found::default() };
    let patch = found.patch(&Ipvs.empty(Family::Ipv4));
    assert_eq!(patch.unbound, [ip("10.96.0.1")].into());
}

const DNS: &str = "UDP  0A60000B:0035 rr persistent 1080000 FFFFFFFF
  -> 0A400103:0035 Masq 1 0 0
";

/// What was said once need not be said again, and what differs is said alone.
#[test]
fn replacing_a_program_by_itself_says_nothing() {
    let program = lower(Family::Ipv4, node(), vec![dns()]);
    let said_before = Some(program.clone());
    let found =
        Found { servers: DNS, said: said_before, routed: &["10.96.0.11"], ..Found::default() };
    let patch = found.patch(&program);
    assert!(Ipvs.is_empty(&patch) && Ipvs.encode(&patch).is_empty(), "{patch:?}");
    assert_eq!(Ipvs.summary(&patch), Vec::<String>::new());

    let hour = nfc_ir::Affinity { timeout_seconds: 3_600.try_into().expect("not zero") };
    let shorter = Service { affinity: Some(hour), ..dns() };
    let patch = found.patch(&lower(Family::Ipv4, node(), vec![shorter]));
    assert_eq!(said(&patch), [("10.96.0.11:53".to_owned(), vec![Command::SetServer])]);
    let kinds: Vec<_> = Ipvs.encode(&patch).iter().map(Step::kind).collect();
    assert_eq!(kinds, ["IPVS"]);

    let mut off = program.clone();
    off.sysctls.insert("net.ipv4.vs.conntrack", "0");
    let patch = Found { said: Some(off), ..found }.patch(&program);
    assert_eq!(Ipvs.summary(&patch), ["sysctls: set"]);
}

/// Three real servers of which two are not wanted, with connections as they come.
fn in_use(protocol: &str, weights: [u32; 2], connections: [&str; 2]) -> String {
    let [one, two] = weights;
    let [of_one, of_two] = connections;
    format!(
        "{protocol}  0A600001:0050 rr\n  -> 0A400001:0050 Masq 1 9 9\n  \
         -> 0A400002:0050 Masq {one} {of_one}\n  -> 0A400003:0050 Masq {two} {of_two}\n"
    )
}

/// The program of one Service with one endpoint of three that were.
fn left_with_one(protocol: Protocol, scheduler: Scheduler) -> Program {
    let service = service("a", "10.96.0.1", 80, &[("10.64.0.1:80", 1)]);
    lower(Family::Ipv4, node(), vec![Service { protocol, scheduler, ..service }])
}

fn found_in_use(program: &Program, servers: &str) -> Patch {
    let routed = ["10.96.0.1"];
    Found { servers, said: Some(program.clone()), routed: &routed, on_link: None }.patch(program)
}

fn commands(patch: &Patch) -> Vec<Command> {
    patch.servers.values().flat_map(|change| change.commands.clone()).collect()
}

#[test]
fn a_real_server_in_use_drains_and_goes_later() {
    let program = left_with_one(Protocol::Tcp, Scheduler::Random);
    let real = |text: &str| text.parse().expect("an address");
    let (two, three) = (real("10.64.0.2:80"), real("10.64.0.3:80"));
    let patch = found_in_use(&program, &in_use("TCP", [1, 1], ["2 1", "0 0"]));
    assert_eq!(commands(&patch), [Command::DrainReal(two), Command::DeleteReal(three)]);
    let Some(Draining { service, reals }) = patch.draining.values().next() else {
        panic!("something drains: {patch:?}");
    };
    assert_eq!((service.to_string().as_str(), reals), ("default/a", &BTreeMap::from([(two, 3)])));
    let expected = [
        "1 real server drains; apply again to delete it once its connections are over:",
        "default/a at 10.96.0.1:80/tcp: 10.64.0.2:80 (3 connections)",
    ];
    assert_eq!(Ipvs.unfinished(&patch), expected);

    // It drains already, and the other one as well: nothing to say to the kernel.
    let patch = found_in_use(&program, &in_use("TCP", [0, 0], ["0 1", "4 0"]));
    assert!(Ipvs.is_empty(&patch) && Ipvs.encode(&patch).is_empty(), "{patch:?}");
    let expected = [
        "2 real servers drain; apply again to delete those whose connections are over:",
        "default/a at 10.96.0.1:80/tcp: 10.64.0.2:80 (1 connection), 10.64.0.3:80 (4 connections)",
    ];
    assert_eq!(Ipvs.unfinished(&patch), expected);

    // Their connections are over.
    let patch = found_in_use(&program, &in_use("TCP", [0, 0], ["0 0", "0 0"]));
    assert_eq!(commands(&patch), [Command::DeleteReal(two), Command::DeleteReal(three)]);
    assert_eq!(Ipvs.unfinished(&patch), Vec::<String>::new());
}

#[test]
fn one_that_comes_back_gets_its_weight_again() {
    let all = [("10.64.0.1:80", 1), ("10.64.0.2:80", 1), ("10.64.0.3:80", 1)];
    let program = lower(Family::Ipv4, node(), vec![service("a", "10.96.0.1", 80, &all)]);
    let patch = found_in_use(&program, &in_use("TCP", [0, 1], ["2 1", "0 0"]));
    let two = "10.64.0.2:80".parse().expect("an address");
    assert_eq!(commands(&patch), [Command::SetReal(two, NonZeroU16::MIN)]);
    assert!(patch.draining.is_empty());
}

/// kube-proxy waits for TCP alone; `dh` would refuse new connections meanwhile; and with a
/// virtual server go its real servers.
#[test]
fn others_go_at_once() {
    let real = |text: &str| Command::DeleteReal(text.parse().expect("an address"));
    let both = [real("10.64.0.2:80"), real("10.64.0.3:80")];
    for (name, protocol) in [("UDP", Protocol::Udp), ("SCTP", Protocol::Sctp)] {
        let program = left_with_one(protocol, Scheduler::Random);
        let patch = found_in_use(&program, &in_use(name, [1, 0], ["2 1", "1 0"]));
        assert_eq!((commands(&patch), patch.draining.len()), (both.to_vec(), 0), "{name}");
    }
    let by_destination = Node { ipvs_scheduler: IpvsScheduler::DestinationHash, ..node() };
    let service = service("a", "10.96.0.1", 80, &[("10.64.0.1:80", 1)]);
    let program = lower(Family::Ipv4, by_destination, vec![service]);
    let patch = found_in_use(&program, &in_use("TCP", [1, 1], ["2 1", "1 0"]));
    assert_eq!((commands(&patch), patch.draining.len()), (both.to_vec(), 0));

    let nothing = Ipvs.empty(Family::Ipv4);
    let servers = in_use("TCP", [1, 1], ["2 1", "1 0"]);
    let routed = ["10.96.0.1"];
    let patch = Found { servers: &servers, routed: &routed, ..Found::default() }.patch(&nothing);
    assert_eq!((commands(&patch), patch.draining.len()), (vec![Command::DeleteServer], 0));
}
