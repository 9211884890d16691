//! Steps, byte for byte. The layouts are those of `include/uapi/linux/ip_vs.h`; the messages
//! were accepted by Linux 6.1, whose `/proc/net/ip_vs` then listed what they say.

use super::{dns, ip, lower, maglev, node, service};
use crate::{Change, Command, Ipvs, Patch, Program};
use nfc_backend::{Backend, Fault, Step};
use nfc_ir::{Family, Node, Service, ServiceName};
use nfc_netlink::genl::GenlMessage;
use nfc_netlink::route;

/// Kinds of the steps, in order.
fn kinds(patch: &Patch) -> Vec<&'static str> {
    Ipvs.encode(patch).iter().map(Step::kind).collect()
}

fn messages(patch: &Patch) -> Vec<GenlMessage> {
    let steps = Ipvs.encode(patch).into_iter().filter_map(|step| match step {
        Step::Genetlink { messages, .. } => Some(messages),
        _ => None,
    });
    steps.flatten().collect()
}

fn commands(patch: &Patch) -> Vec<u8> {
    messages(patch).iter().map(|m| m.command).collect()
}

fn from_nothing(program: &Program) -> Patch {
    Ipvs.diff(&Ipvs.empty(program.family), program)
}

fn v4(services: Vec<Service>) -> Program {
    lower(Family::Ipv4, node(), services)
}

/// `-A -u 10.96.0.11:53 -s rr -p 10800`
/// `-a -u 10.96.0.11:53 -r 10.64.1.3:53 -m -w 1`
#[cfg(target_endian = "little")]
#[test]
fn a_virtual_server_of_ipv4_with_persistence() {
    let [_hello, server, real] =
        messages(&from_nothing(&v4(vec![dns()]))).try_into().expect("three messages");
    #[rustfmt::skip]
    let expected = [
        84, 0, 1, 0x80,                             // IPVS_CMD_ATTR_SERVICE, nested
            6, 0, 1, 0,  2, 0, 0, 0,                // AF: AF_INET
            6, 0, 2, 0,  17, 0, 0, 0,               // PROTOCOL: UDP
            20, 0, 3, 0,  10, 96, 0, 11,            // ADDR: 10.96.0.11, and room for IPv6
                0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
            6, 0, 4, 0,  0, 53, 0, 0,               // PORT: 53, in network order
            7, 0, 6, 0,  b'r', b'r', 0, 0,          // SCHED_NAME
            12, 0, 7, 0,  1, 0, 0, 0,               // FLAGS: persistent,
                0xff, 0xff, 0xff, 0xff,             //   and all of them are meant
            8, 0, 8, 0,  0x30, 0x2a, 0, 0,          // TIMEOUT: 10,800 s
            8, 0, 9, 0,  0xff, 0xff, 0xff, 0xff,    // NETMASK: 255.255.255.255
    ];
    assert_eq!((server.command, server.version, server.flags), (1, 1, 0));
    assert_eq!(server.attrs, expected);
    #[rustfmt::skip]
    let expected = [
        48, 0, 1, 0x80,                             // the virtual server, to find it
            6, 0, 1, 0,  2, 0, 0, 0,
            6, 0, 2, 0,  17, 0, 0, 0,
            20, 0, 3, 0,  10, 96, 0, 11,  0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
            6, 0, 4, 0,  0, 53, 0, 0,
        72, 0, 2, 0x80,                             // IPVS_CMD_ATTR_DEST, nested
            20, 0, 1, 0,  10, 64, 1, 3,             // ADDR: 10.64.1.3
                0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
            6, 0, 2, 0,  0, 53, 0, 0,               // PORT: 53
            8, 0, 3, 0,  0, 0, 0, 0,                // FWD_METHOD: masquerading, which is NAT
            8, 0, 4, 0,  1, 0, 0, 0,                // WEIGHT: 1
            8, 0, 5, 0,  0, 0, 0, 0,                // U_THRESH: none
            8, 0, 6, 0,  0, 0, 0, 0,                // L_THRESH: none
            6, 0, 11, 0,  2, 0, 0, 0,               // ADDR_FAMILY: AF_INET
    ];
    assert_eq!((real.command, real.attrs.as_slice()), (5, &expected[..]));
}

/// `-A --sctp-service [fd00:96::a]:80 -s mh -b mh-fallback,mh-port`
#[cfg(target_endian = "little")]
#[test]
fn a_virtual_server_of_ipv6_by_maglev() {
    let program = lower(Family::Ipv6, Node::default(), vec![maglev()]);
    let server = messages(&from_nothing(&program)).remove(1);
    #[rustfmt::skip]
    let expected = [
        84, 0, 1, 0x80,
            6, 0, 1, 0,  10, 0, 0, 0,               // AF: AF_INET6
            6, 0, 2, 0,  132, 0, 0, 0,              // PROTOCOL: SCTP
            20, 0, 3, 0,  0xfd, 0, 0, 0x96,         // ADDR: fd00:96::a
                0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 10,
            6, 0, 4, 0,  0, 80, 0, 0,               // PORT: 80
            7, 0, 6, 0,  b'm', b'h', 0, 0,          // SCHED_NAME
            12, 0, 7, 0,  0x18, 0, 0, 0,            // FLAGS: fallback, and the port is hashed too
                0xff, 0xff, 0xff, 0xff,
            8, 0, 8, 0,  0, 0, 0, 0,                // TIMEOUT: no persistence
            8, 0, 9, 0,  128, 0, 0, 0,              // NETMASK: a prefix of 128 bits
    ];
    assert_eq!((server.command, server.attrs.as_slice()), (1, &expected[..]));
}

/// A real server is found by its address and port.
#[cfg(target_endian = "little")]
#[test]
fn a_real_server_is_deleted_by_address_alone() {
    let two = service("a", "10.96.0.1", 80, &[("10.64.0.1:80", 1), ("10.64.0.2:80", 1)]);
    let one = service("a", "10.96.0.1", 80, &[("10.64.0.1:80", 1)]);
    let [delete] =
        messages(&Ipvs.diff(&v4(vec![two]), &v4(vec![one]))).try_into().expect("one message");
    #[rustfmt::skip]
    let expected = [
        40, 0, 2, 0x80,
            20, 0, 1, 0,  10, 64, 0, 2,  0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
            6, 0, 2, 0,  0, 80, 0, 0,
            6, 0, 11, 0,  2, 0, 0, 0,
    ];
    assert_eq!((delete.command, &delete.attrs[48..]), (7, &expected[..]));
}

#[test]
fn what_is_new_comes_companion_first_and_addresses_last() {
    let expected =
        ["IPVS", "sysctl", "sysctl", "sysctl", "sysctl", "nftables", "IPVS", "rtnetlink"];
    assert_eq!(kinds(&from_nothing(&v4(vec![dns()]))), expected);
}

#[test]
fn what_goes_goes_addresses_first_and_companion_last() {
    let patch = Ipvs.diff(&v4(vec![dns()]), &v4(Vec::new()));
    assert_eq!(kinds(&patch), ["rtnetlink", "IPVS", "nftables"]);
    assert_eq!(commands(&patch), [3]);
}

#[test]
fn a_new_real_server_is_there_before_an_old_one_goes() {
    let before = service("a", "10.96.0.1", 80, &[("10.64.0.1:80", 1), ("10.64.0.3:80", 1)]);
    let after = service("a", "10.96.0.1", 80, &[("10.64.0.2:80", 2), ("10.64.0.3:80", 5)]);
    let patch = Ipvs.diff(&v4(vec![before]), &v4(vec![after]));
    // Weights differ now, so that the scheduler changes; then NEW, SET and DEL of real
    // servers.
    assert_eq!(commands(&patch), [2, 5, 6, 7]);
}

#[test]
fn a_change_is_no_larger_than_what_changed() {
    let many: Vec<Service> = (0..200)
        .map(|i| service(&format!("s{i}"), &format!("10.96.1.{i}"), 80, &[("10.64.0.1:80", 1)]))
        .collect();
    let mut fewer = many.clone();
    fewer.remove(100);
    let patch = Ipvs.diff(&v4(many), &v4(fewer));
    assert_eq!((patch.servers.len(), patch.unbound.len()), (1, 1));
    let bytes: usize = Ipvs.encode(&patch).iter().map(Step::byte_count).sum();
    assert!(bytes < 1000, "{bytes} bytes");
}

#[test]
fn a_new_name_says_nothing_to_ipvs() {
    let named = |name: &str| v4(vec![service(name, "10.96.0.1", 80, &[("10.64.0.1:80", 1)])]);
    let (old, new) = (named("a"), named("b"));
    let patch = Ipvs.diff(&old, &new);
    assert!(commands(&patch).is_empty());
    assert_eq!(Ipvs.patched(&old, &patch), new);
}

#[test]
fn addresses_become_the_nodes_own_one_by_one() {
    let patch = from_nothing(&v4(vec![dns()]));
    let Some(Step::Route(bytes)) = Ipvs.encode(&patch).pop() else {
        panic!("addresses come last");
    };
    assert_eq!(route::owned(&bytes, 110).collect::<Vec<_>>(), [ip("10.96.0.11")]);
}

#[test]
fn a_fault_is_somebodys() {
    let patch = from_nothing(&v4(vec![dns()]));
    let fault = |step, message| Fault {
        step,
        message: Some(message),
        offset: None,
        errno: 17,
        words: String::new(),
    };
    let blamed = |step, message| Ipvs.blame(&patch, &fault(step, message)).to_string();
    assert_eq!(blamed(0, 0), "IPVS");
    assert_eq!(blamed(1, 0), "sysctl net.ipv4.ip_forward");
    assert_eq!(blamed(5, 0), "nfc-ipvs: add table nfc-ipvs");
    assert_eq!(blamed(6, 0), "default/dns: add virtual server 10.96.0.11:53/udp");
    let real = "default/dns: add real server 10.64.1.3:53 to virtual server 10.96.0.11:53/udp";
    assert_eq!(blamed(6, 1), real);
    assert_eq!(blamed(7, 0), "add local route 10.96.0.11");
    assert_eq!(blamed(8, 0), "");
}

#[test]
fn an_element_of_the_companion_is_its_services() {
    let patch = from_nothing(&v4(vec![dns()]));
    let Some(Step::Nftables(batch)) =
        Ipvs.encode(&patch).into_iter().find(|s| s.kind() == "nftables")
    else {
        panic!("a companion");
    };
    let offsets = (0..batch.message_count()).flat_map(|message| {
        let fault = move |offset| Fault {
            step: 5,
            message: Some(message),
            offset: Some(offset),
            errno: 17,
            words: String::new(),
        };
        (0..400).step_by(4).map(fault)
    });
    let dns = ServiceName { namespace: "default".into(), name: "dns".into(), port: String::new() };
    let found = offsets.map(|fault| Ipvs.blame(&patch, &fault)).find(|o| o.service.is_some());
    let found = found.expect("an element with a comment");
    assert_eq!(found.service, Some(dns));
    let object = "nfc-ipvs: add element virtual-servers { 10.96.0.11 . udp . 53 }";
    assert_eq!(found.object, object);
}

#[test]
fn a_change_that_deletes_says_so_once() {
    let patch = Ipvs.diff(&v4(vec![dns()]), &v4(Vec::new()));
    let service = Some(dns().name);
    let expected = Change { after: None, service, commands: vec![Command::DeleteServer] };
    assert_eq!(patch.servers.into_values().collect::<Vec<_>>(), [expected]);
}
