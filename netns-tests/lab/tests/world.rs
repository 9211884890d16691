//! Worlds: up in milliseconds, connected as drawn, gone without a trace.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use nfc_ir::Family;
use nfc_kernel::{Feature, Namespace, link};
use nfc_lab::{Delivery, Place, Settings, World, need};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

fn answered() -> World {
    let settings = Settings { delivery: Delivery::Answered, ..Settings::default() };
    World::with(settings).expect("a world")
}

/// Sends a datagram from the client to `server` and returns the answer.
fn ask(world: &World, server: SocketAddr) -> Vec<u8> {
    let client = SocketAddr::new(world.address(Place::Client, Family::of(server.ip())), 0);
    let socket = world.client().run(|| UdpSocket::bind(client)).expect("a namespace");
    let socket = socket.expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
    socket.send_to(b"ping", server).expect("a route");
    let mut answer = [0; 64];
    let (length, from) = socket.recv_from(&mut answer).expect("an answer");
    assert_eq!(from, server);
    answer[..length].to_vec()
}

#[test]
fn a_datagram_goes_through_the_node_and_back() {
    if !need("a datagram goes through the node and back", &[Feature::Namespaces]) {
        return;
    }
    let world = answered();
    for ip in ["10.9.8.7", "fd00:10::9:8"] {
        let server = SocketAddr::new(ip.parse().expect("an address"), 5353);
        let socket = world.backend().run(|| UdpSocket::bind(server)).expect("a namespace");
        let socket = socket.expect("every endpoint address is the backend's own");
        let echo = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            let (length, from) = socket.recv_from(&mut buffer).expect("a datagram");
            socket.send_to(&buffer[..length], from).expect("a way back");
        });
        assert_eq!(ask(&world, server), b"ping");
        echo.join().expect("no panic");
    }
}

#[test]
fn a_world_is_up_within_milliseconds() {
    if !need("a world is up within milliseconds", &[Feature::Namespaces]) {
        return;
    }
    let fastest = (0..5).map(|_| {
        let start = Instant::now();
        let world = World::new().expect("a world");
        let elapsed = start.elapsed();
        drop(world);
        elapsed
    });
    let fastest = fastest.min().expect("five worlds");
    // A few milliseconds on an idle machine; other tests may run beside this one.
    assert!(fastest < Duration::from_millis(100), "{fastest:?}");
    println!("fastest of five: {fastest:?}");
}

#[test]
fn the_node_has_its_links_and_addresses() {
    if !need("the node has its links and addresses", &[Feature::Namespaces]) {
        return;
    }
    let extra = "172.31.0.9".parse().expect("an address");
    let settings = Settings { node_addresses: vec![extra], ..Settings::default() };
    let world = World::with(settings).expect("a world");
    let (links, addresses) = world
        .node()
        .run(|| (link::list().expect("links"), link::addresses().expect("addresses")))
        .expect("a namespace");
    let names: Vec<_> = links.iter().map(|l| l.name.as_str()).collect();
    assert!(["lo", "eth0", "cbr0"].iter().all(|name| names.contains(name)), "{names:?}");
    for family in Family::ALL {
        for ip in world.node_addresses(family) {
            assert!(addresses.iter().any(|a| a.ip == ip), "{ip} in {addresses:?}");
        }
    }
    assert_eq!(world.node_addresses(Family::Ipv4).last(), Some(&extra));
}

#[test]
fn a_thread_comes_back_from_nested_namespaces() {
    if !need("a thread comes back from nested namespaces", &[Feature::Namespaces]) {
        return;
    }
    let identity = || Namespace::current().and_then(|n| n.identity()).expect("an identity");
    let outside = identity();
    let (a, b) = (Namespace::new().expect("a"), Namespace::new().expect("b"));
    {
        let _in_a = a.enter().expect("entering");
        assert_eq!(identity(), a.identity().expect("an identity"));
        {
            let _in_b = b.enter().expect("entering");
            assert_eq!(identity(), b.identity().expect("an identity"));
        }
        assert_eq!(identity(), a.identity().expect("an identity"));
    }
    assert_eq!(identity(), outside);
    let unwound = std::panic::catch_unwind(|| a.run(|| panic!("on purpose")));
    assert!(unwound.is_err());
    assert_eq!(identity(), outside, "a panic brings the thread back too");
}

#[test]
fn a_world_goes_with_its_thread_when_that_panics() {
    if !need("a world goes with its thread when that panics", &[Feature::Namespaces]) {
        return;
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let world = World::new().expect("a world");
        sender.send(world.client().duplicate().expect("a handle")).expect("a listener");
        let _guard = world.node().enter().expect("entering");
        panic!("on purpose");
    });
    assert!(thread.join().is_err());
    let client: Namespace = receiver.recv().expect("a handle");
    // Deleting links is work for the kernel's own threads (`cleanup_net`).
    let deadline = Instant::now() + Duration::from_secs(10);
    while client.run(link::list).expect("a namespace").expect("links").len() > 1 {
        assert!(Instant::now() < deadline, "the wire is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}
