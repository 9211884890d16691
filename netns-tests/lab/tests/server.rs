//! Ordinary clients reach ordinary servers through rules.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

mod rules;

use nfc_kernel::Feature;
use nfc_lab::{Delivery, Server, Settings, World, need};
use std::io::Read;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

const RULES: &str = "
table ip t {
    chain pre {
        type nat hook prerouting priority dstnat
        ip daddr 172.16.0.1 tcp dport 80 dnat to 10.0.0.1:8080
        ip daddr 172.16.0.1 udp dport 80 dnat to 10.0.0.2:8080
    }
}
";

fn world() -> World {
    let settings = Settings { delivery: Delivery::Answered, ..Settings::default() };
    let world = World::with(settings).expect("a world");
    rules::load(&world, RULES);
    world
}

#[test]
fn servers_say_at_which_address_they_were_reached() {
    let needed = [Feature::Namespaces, Feature::Nftables, Feature::NftTool];
    if !need("servers say at which address they were reached", &needed) {
        return;
    }
    let world = world();
    let endpoints = [1, 2].map(|n| SocketAddr::from(([10, 0, 0, n], 8080)));
    let server = Server::start(&world, &endpoints).expect("sockets");
    let service = SocketAddr::from(([172, 16, 0, 1], 80));

    let stream = world.client().run(|| TcpStream::connect(service)).expect("a namespace");
    let mut answer = String::new();
    stream.expect("a connection").read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "10.0.0.1:8080\n");

    let socket = world.client().run(|| UdpSocket::bind("192.0.2.2:0")).expect("a namespace");
    let socket = socket.expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    socket.send_to(b"who?", service).expect("a route");
    let mut answer = [0; 64];
    let (length, from) = socket.recv_from(&mut answer).expect("an answer");
    assert_eq!((&answer[..length], from), (&b"10.0.0.2:8080\n"[..], service));
    drop(server);

    // Whoever is gone does not answer any more.
    let again = world.client().run(|| TcpStream::connect(service)).expect("a namespace");
    assert!(again.is_err(), "{again:?}");
}
