//! Real servers of IPVS that go while they are in use, with real connections: those go on,
//! new ones avoid the real server, and a later apply deletes it once they are over. On a host
//! without `ip_vs` these tests skip themselves aloud; `scripts/guest-test` runs them where
//! they cannot.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc::load::Loaded;
use nfc_ir::{
    Affinity, Family, IpvsScheduler, Ir, LocalDetector, Node, Protocol, Scheduler, Service, synth,
};
use nfc_kernel::Feature;
use nfc_lab::{Delivery, Settings, World, need};
use stage::{backend, inside, needs, tool};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::num::{NonZeroU16, NonZeroU32};
use std::time::{Duration, Instant};

/// How long a packet may be on its way in an emulated machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// IPVS forgets a connection that was reset after 10 seconds (`IP_VS_TCP_S_CLOSE` in
/// `net/netfilter/ipvs/ip_vs_proto_tcp.c`).
const FORGOTTEN: Duration = Duration::from_secs(40);

fn ready(what: &str) -> bool {
    let tools = [Feature::NftTool, Feature::IpvsadmTool];
    need(what, &[needs("ipvs", Family::Ipv4), tools.to_vec()].concat())
}

/// A node with IPVS, and a backend that listens at every endpoint.
struct Ward {
    world: World,
    listener: TcpListener,
}

impl Ward {
    fn new(family: Family) -> Self {
        let settings = Settings { delivery: Delivery::Answered, ..Settings::default() };
        let world = World::with(settings).expect("a world");
        let all = SocketAddr::new(unspecified(family), synth::TARGET_PORT);
        let listener = inside(world.backend(), || TcpListener::bind(all)).expect("a listener");
        listener.set_nonblocking(true).expect("a socket");
        Self { world, listener }
    }

    fn apply(&self, ir: &Ir) -> Loaded {
        stage::apply(self.world.node(), backend("ipvs").as_ref(), ir)
    }

    /// Real servers and their weights, as `ipvsadm --save` prints them: `10.0.0.1:8080 1`.
    fn reals(&self) -> BTreeSet<String> {
        let saved = tool(self.world.node(), "ipvsadm", &["--save", "--numeric"], "");
        let lines = saved.lines().filter_map(|line| line.trim().split_once(" -r "));
        lines.map(|(_, real)| real.replace(" -m -w ", " ")).collect()
    }

    /// A connection of the client to a Service.
    fn connect(&self, ir: &Ir) -> Flow {
        let client = self.ask(ir).unwrap_or_else(|error| panic!("{error}\n{ir}"));
        let begin = Instant::now();
        let server = loop {
            match self.listener.accept() {
                Ok((server, _)) => break server,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(begin.elapsed() < PATIENCE, "nobody came");
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{error}"),
            }
        };
        for end in [&client, &server] {
            end.set_nonblocking(false).expect("a socket");
            end.set_read_timeout(Some(PATIENCE)).expect("a socket");
        }
        Flow { client, server }
    }

    /// The client's end of one.
    fn ask(&self, ir: &Ir) -> std::io::Result<TcpStream> {
        let at = cluster_ip(&ir.services()[0]);
        inside(self.world.client(), || TcpStream::connect_timeout(&at, PATIENCE))
    }

    /// Where so many new connections end, each of which is reset at once.
    fn landings(&self, ir: &Ir, count: usize) -> BTreeSet<SocketAddr> {
        let land = |_| {
            let flow = self.connect(ir);
            let endpoint = flow.endpoint();
            flow.reset();
            endpoint
        };
        (0..count).map(land).collect()
    }

    /// Applies until nothing is left to a later apply.
    fn apply_until_finished(&self, ir: &Ir) -> Loaded {
        let begin = Instant::now();
        loop {
            let loaded = self.apply(ir);
            if loaded.unfinished.is_empty() {
                return loaded;
            }
            assert!(begin.elapsed() < FORGOTTEN, "{:?}", loaded.unfinished);
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

fn cluster_ip(service: &Service) -> SocketAddr {
    SocketAddr::new(service.cluster_ip, service.port.get())
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::Ipv6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Both ends of a TCP connection.
struct Flow {
    client: TcpStream,
    server: TcpStream,
}

impl Flow {
    fn endpoint(&self) -> SocketAddr {
        self.server.local_addr().expect("an address")
    }

    /// Bytes go there and back.
    #[track_caller]
    fn flows(&mut self) {
        for _ in 0..3 {
            let mut word = *b"word";
            self.client.write_all(&word).expect("the client sends");
            self.server.read_exact(&mut word).expect("the server receives");
            self.server.write_all(&word).expect("the server sends");
            self.client.read_exact(&mut word).expect("the client receives");
        }
    }

    /// Ends it by a reset, which a client sends that is gone before it has read everything.
    fn reset(mut self) {
        self.server.write_all(b"word").expect("the server sends");
        self.client.peek(&mut [0; 4]).expect("the client receives");
        drop(self.client);
    }
}

/// One Service of these endpoints.
fn ir(service: &Service, endpoints: &BTreeSet<SocketAddr>, scheduler: IpvsScheduler) -> Ir {
    let mut service = service.clone();
    service.endpoints.retain(|e| endpoints.contains(&e.address));
    let node =
        Node { local_detector: LocalDetector::None, ipvs_scheduler: scheduler, ..Node::default() };
    Ir::new(Family::of(service.cluster_ip), node, vec![service]).expect("valid")
}

fn endpoints(service: &Service) -> BTreeSet<SocketAddr> {
    service.endpoints.iter().map(|e| e.address).collect()
}

fn connections_survive(family: Family) {
    let service = synth::service(family, Protocol::Tcp, 0, 3);
    let all = endpoints(&service);
    let whole = ir(&service, &all, IpvsScheduler::RoundRobin);
    let ward = Ward::new(family);
    ward.apply(&whole);
    let mut flow = ward.connect(&whole);
    flow.flows();
    let leaving = flow.endpoint();
    let others: BTreeSet<_> = all.iter().copied().filter(|e| *e != leaving).collect();
    let fewer = ir(&service, &others, IpvsScheduler::RoundRobin);

    let drained = ward.apply(&fewer);
    let told = drained.unfinished.join("\n");
    let at = cluster_ip(&service);
    let line = format!("{} at {at}/tcp: {leaving} (1 connection)", service.name);
    assert!(
        told.starts_with("1 real server drains; apply again") && told.ends_with(&line),
        "{told}"
    );
    assert!(ward.reals().contains(&format!("{leaving} 0")), "{:?}", ward.reals());
    flow.flows();
    assert_eq!(ward.landings(&fewer, 6), others);

    // It is as it should be, and nothing is sent.
    let again = ward.apply(&fewer);
    assert!(again.unchanged && again.receipt.steps.is_empty(), "{again:?}");
    assert_eq!(again.unfinished, drained.unfinished);
    flow.flows();

    // It comes back, and goes again.
    let back = ward.apply(&whole);
    assert_eq!(back.unfinished, Vec::<String>::new());
    assert!(ward.reals().contains(&format!("{leaving} 1")), "{:?}", ward.reals());
    assert_eq!(ward.landings(&whole, 6), all);
    flow.flows();
    ward.apply(&fewer);
    flow.flows();
    flow.reset();
    let done = ward.apply_until_finished(&fewer);
    assert_eq!(ward.reals().len(), others.len(), "{:?}", ward.reals());
    assert!(
        done.changes.iter().any(|line| line.starts_with("real servers: 1 deleted")),
        "{done:?}"
    );
    assert!(ward.apply(&fewer).unchanged);
}

#[test]
fn connections_of_ipv4_survive_the_removal_of_their_endpoint() {
    if ready("connections of IPv4 survive the removal of their endpoint") {
        connections_survive(Family::Ipv4);
    }
}

#[test]
fn connections_of_ipv6_survive_the_removal_of_their_endpoint() {
    if ready("connections of IPv6 survive the removal of their endpoint") {
        connections_survive(Family::Ipv6);
    }
}

/// `sh` and `mh` find the draining real server by their tables, and without fallback would
/// refuse; `dh` would, so that there it does not drain.
fn new_connections_go_elsewhere(ward: &Ward, service: &Service, scheduler: IpvsScheduler) {
    let all = endpoints(service);
    let whole = ir(service, &all, scheduler);
    ward.apply(&whole);
    let mut flow = ward.connect(&whole);
    let leaving = flow.endpoint();
    let others: BTreeSet<_> = all.iter().copied().filter(|e| *e != leaving).collect();
    let fewer = ir(service, &others, scheduler);
    let loaded = ward.apply(&fewer);
    let landings = ward.landings(&fewer, 24);
    assert!(landings.is_subset(&others), "{scheduler}: {landings:?}");
    let drains = scheduler != IpvsScheduler::DestinationHash;
    assert_eq!(!loaded.unfinished.is_empty(), drains, "{scheduler}: {loaded:?}");
    if drains {
        flow.flows();
    }
    if scheduler == IpvsScheduler::SourceHash {
        let at = cluster_ip(service).to_string();
        tool(ward.world.node(), "ipvsadm", &["-E", "-t", &at, "-s", "sh"], "");
        let refused = ward.ask(&fewer).expect_err("the client is hashed to what drains");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}

#[test]
fn every_scheduler_sends_new_connections_elsewhere() {
    if !ready("every scheduler sends new connections elsewhere") {
        return;
    }
    // Debian's kernel has no `twos` (CONFIG_IP_VS_TWOS).
    let is_there = |s: &IpvsScheduler| *s != IpvsScheduler::TwoChoices;
    for family in Family::ALL {
        let ward = Ward::new(family);
        for (i, scheduler) in (0..).zip(IpvsScheduler::ALL.into_iter().filter(is_there)) {
            let mut service = synth::service(family, Protocol::Tcp, i, 3);
            if scheduler == IpvsScheduler::Overflow {
                // It takes a real server to be full that has as many connections as weight.
                let weight = NonZeroU16::new(40).expect("not zero");
                service.endpoints.iter_mut().for_each(|e| e.weight = weight);
            }
            service.scheduler = match scheduler {
                IpvsScheduler::SourceHash => Scheduler::SourceHash,
                IpvsScheduler::Maglev => Scheduler::Maglev,
                _ => Scheduler::Random,
            };
            new_connections_go_elsewhere(&ward, &service, scheduler);
        }
    }
}

/// A client that sticks to the real server keeps its connection, and sticks to another one
/// with new ones (`expire_quiescent_template`).
#[test]
fn clients_that_stick_to_it_are_let_go() {
    if !ready("clients that stick to a draining real server are let go") {
        return;
    }
    for family in Family::ALL {
        let timeout_seconds = NonZeroU32::new(10_800).expect("three hours");
        let affinity = Some(Affinity { timeout_seconds });
        let service = Service { affinity, ..synth::service(family, Protocol::Tcp, 0, 3) };
        let all = endpoints(&service);
        let whole = ir(&service, &all, IpvsScheduler::RoundRobin);
        let ward = Ward::new(family);
        ward.apply(&whole);
        let mut flow = ward.connect(&whole);
        let leaving = flow.endpoint();
        assert_eq!(ward.landings(&whole, 4), [leaving].into(), "{family}: the client sticks");
        let others = all.iter().copied().filter(|e| *e != leaving).collect();
        let fewer = ir(&service, &others, IpvsScheduler::RoundRobin);
        assert!(!ward.apply(&fewer).unfinished.is_empty());
        let landings = ward.landings(&fewer, 4);
        assert!(landings.len() == 1 && landings.is_subset(&others), "{family}: {landings:?}");
        flow.flows();
    }
}

/// UDP knows no end of a connection: the real server goes at once, and the client's datagrams
/// go to another one.
#[test]
fn datagrams_go_elsewhere_at_once() {
    if !ready("datagrams go elsewhere at once") {
        return;
    }
    for family in Family::ALL {
        let service = synth::service(family, Protocol::Udp, 0, 2);
        let all = endpoints(&service);
        let whole = ir(&service, &all, IpvsScheduler::RoundRobin);
        let ward = Ward::new(family);
        ward.apply(&whole);
        let bind = |at| UdpSocket::bind(at).expect("a socket");
        let servers: Vec<_> =
            inside(ward.world.backend(), || all.iter().map(|at| bind(*at)).collect());
        let client = inside(ward.world.client(), || bind(SocketAddr::new(unspecified(family), 0)));
        let at = cluster_ip(&service);
        let begin = Instant::now();
        let landing = || loop {
            assert!(begin.elapsed() < FORGOTTEN, "{family}: no datagram comes through");
            // An ICMP error about an earlier one comes back as an error of this one.
            drop(client.send_to(b"word", at));
            for server in &servers {
                server.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
                if server.recv(&mut [0; 4]).is_ok() {
                    return server.local_addr().expect("an address");
                }
            }
        };
        let leaving = landing();
        assert_eq!(landing(), leaving, "{family}: it is one connection");
        let others: BTreeSet<_> = all.iter().copied().filter(|e| *e != leaving).collect();
        let fewer = ir(&service, &others, IpvsScheduler::RoundRobin);
        assert_eq!(ward.apply(&fewer).unfinished, Vec::<String>::new());
        assert_eq!(ward.reals().len(), 1, "{:?}", ward.reals());
        assert_eq!([landing()].into_iter().collect::<BTreeSet<_>>(), others);
    }
}

/// A Service with two endpoints, each on a line of its own.
const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 172.16.0.1, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080, protocol: TCP}]
endpoints:
- {addresses: [10.0.0.1], conditions: {ready: true}}
- {addresses: [10.0.0.2], conditions: {ready: true}}
";

/// What a subcommand says, and its exit code.
fn nfc(ward: &Ward, args: &[&str], manifests: &str) -> (Option<i32>, String) {
    let node = stage::path(ward.world.node());
    let place = ["--backend", "ipvs", "--family", "ipv4", "--netns", &node];
    let output = stage::run(&[args, &place].concat(), manifests);
    (output.status.code(), stage::text(&[output.stdout, output.stderr].concat()))
}

#[test]
fn the_commands_tell_what_drains_and_call_it_right() {
    if !ready("the commands tell what drains and call it right") {
        return;
    }
    let ward = Ward::new(Family::Ipv4);
    let cidr = ["--cluster-cidr", "10.0.0.0/8"];
    let with_cidr = |args: &[&'static str]| [args, &cidr, &["-"]].concat();
    let apply = with_cidr(&["apply"]);
    assert_eq!(nfc(&ward, &apply, SHOP).0, Some(0));
    let service = synth::service(Family::Ipv4, Protocol::Tcp, 0, 2);
    let whole = ir(&service, &endpoints(&service), IpvsScheduler::RoundRobin);
    let mut flow = ward.connect(&whole);
    let leaving = flow.endpoint().ip().to_string();
    let fewer: Vec<_> = SHOP.lines().filter(|line| !line.contains(&leaving)).collect();
    let fewer = fewer.join("\n");

    let (code, text) = nfc(&ward, &apply, &fewer);
    assert_eq!(code, Some(0), "{text}");
    let line = format!("  shop/web at 172.16.0.1:80/tcp: {leaving}:8080 (1 connection)\n");
    assert!(text.contains("real servers: 1 from now on without new connections\n"), "{text}");
    assert!(text.ends_with(&line), "{text}");
    let (code, text) = nfc(&ward, &apply, &fewer);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("ipvs IPv4: 1 service port, unchanged\n"), "{text}");
    assert!(text.ends_with(&line), "{text}");
    assert_eq!(nfc(&ward, &with_cidr(&["diff", "--live"]), &fewer), (Some(0), String::new()));
    let (code, text) = nfc(&ward, &with_cidr(&["doctor"]), &fewer);
    assert!(code == Some(0) && text.starts_with("healthy: 1 service port"), "{text}");
    let (code, text) = nfc(&ward, &["inspect"], "");
    assert!(code == Some(0) && text.contains(", 1 draining real server,"), "{text}");
    flow.flows();
}
