//! What the scripts say, without a kernel.

use super::change::sync;
use super::*;
use nfc_ir::{
    Affinity, Endpoint, Family, LocalDetector, Node, Port, Protocol, Scheduler, Service,
    TrafficPolicy, synth,
};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// A node that can tell its pods: 10.0.0.0/8, or fd00:10::/32.
fn node(family: Family) -> Node {
    let block = match family {
        Family::Ipv4 => "10.0.0.0/8",
        Family::Ipv6 => "fd00:10::/32",
    };
    let detector = LocalDetector::SourceBlock(block.parse().expect("a block"));
    let address = match family {
        Family::Ipv4 => "192.0.2.1",
        Family::Ipv6 => "fd00:192:0:2::1",
    };
    Node {
        local_detector: detector,
        addresses: vec![address.parse().expect("an address")],
        ..Node::default()
    }
}

fn ir(services: Vec<Service>) -> Ir {
    Ir::new(Family::Ipv4, node(Family::Ipv4), services).expect("valid Services")
}

/// `synth/svc-000000`, with endpoints of these numbers.
fn service(endpoints: &[u32]) -> Service {
    let made = synth::service(Family::Ipv4, Protocol::Tcp, 0, 0);
    let endpoint = |i: &u32| Endpoint::ready(synth::endpoint(Family::Ipv4, *i));
    Service { endpoints: endpoints.iter().map(endpoint).collect(), ..made }
}

/// A Service that is there in every Ir here, so that there is something to leave alone.
fn bystander() -> Service {
    synth::service(Family::Ipv4, Protocol::Tcp, 9, 2)
}

fn with(services: impl IntoIterator<Item = Service>) -> Ir {
    ir(services.into_iter().chain([bystander()]).collect())
}

/// The numbers of a Service's endpoints; none when there is no Service.
type State<'a> = Option<&'a [u32]>;

fn changed(shape: Shape, old: State, new: State) -> Change {
    let [old, new] = [old, new].map(|endpoints| with(endpoints.map(service)));
    sync(shape, &old, &new, &service(&[]).name).expect("nothing that cannot be said")
}

/// The numbers of operations that kube-proxy's own test of partial syncs demands (1.34,
/// `TestSyncProxyRulesRepeated`), for Services that have a cluster IP only.
#[test]
fn partial_syncs_are_as_long_as_those_of_kube_proxy() {
    let demanded: &[(&str, State, State, usize)] = &[
        ("a new Service with one endpoint", None, Some(&[1]), 10),
        ("that Service is deleted", Some(&[1]), None, 4),
        ("a new Service without endpoints", None, Some(&[]), 2),
        ("its first endpoint", Some(&[]), Some(&[1]), 10),
        ("an endpoint is replaced", Some(&[1]), Some(&[2]), 9),
        ("a second endpoint", Some(&[2]), Some(&[2, 3]), 12),
        ("all endpoints are gone", Some(&[2, 3]), Some(&[]), 5),
        ("they are back again", Some(&[]), Some(&[2, 3]), 14),
    ];
    for (what, old, new, operations) in demanded {
        let change = changed(Shape::ChainPerEndpoint, *old, *new);
        assert_eq!(change.transaction.lines().count(), *operations, "{what}:\n{change:?}");
    }
}

#[test]
fn a_change_names_only_the_service_that_changed() {
    for shape in Shape::ALL {
        let (one, two): (&[u32], &[u32]) = (&[1], &[1, 2]);
        for (old, new) in [(None, Some(one)), (Some(two), Some(one)), (Some(one), None)] {
            let Change { transaction, clean_up } = changed(shape, old, new);
            assert!(!transaction.is_empty());
            let bystander = bystander();
            let script = transaction + &clean_up;
            assert!(!script.contains(&bystander.name.name), "{script}");
            assert!(!script.contains(&bystander.cluster_ip.to_string()), "{script}");
        }
    }
}

#[test]
fn emptied_chains_are_deleted_later() {
    let change = changed(Shape::ChainPerEndpoint, Some(&[1, 2]), Some(&[2]));
    let gone = "endpoint-";
    assert!(change.transaction.contains("flush chain"));
    assert!(!change.transaction.contains("delete chain"));
    let clean_up: Vec<_> = change.clean_up.lines().collect();
    assert_eq!(clean_up.len(), 1);
    let name = format!("delete chain ip kube-proxy {gone}");
    assert!(clean_up[0].starts_with(&name) && clean_up[0].ends_with("__10.0.0.2/8080"));
    assert_eq!(changed(Shape::MapPerService, Some(&[1, 2]), Some(&[2])).clean_up, "");
}

/// Two ports of one Kubernetes Service have its cluster IP in common, and two Services may
/// have an endpoint in common.
#[test]
fn what_services_share_stays_until_the_last_has_gone() {
    let shared = |index: u32, port: u16| {
        let mut service = service(&[1]);
        service.name.name = format!("sharer-{index}");
        service.port = Port::new(port).expect("not zero");
        service.endpoints[0].local = true;
        service
    };
    let (one, other) = (shared(1, 80), shared(2, 81));
    let both = with([one.clone(), other.clone()]);
    let text = table(Shape::MapPerService, &both).expect("a table");
    for set in ["cluster-ips { 172.16.0.1 }", "hairpin-connections { 10.0.0.2 . 10.0.0.2 . tcp"] {
        assert_eq!(text.matches(&format!("add element ip kube-proxy {set}")).count(), 1);
    }
    let alone = with([one.clone()]);
    let first = service_removed(Shape::MapPerService, &both, &alone, &other.name);
    let first = first.expect("a change").transaction;
    assert!(!first.contains("cluster-ips") && !first.contains("hairpin"), "{first}");
    let last = service_removed(Shape::MapPerService, &alone, &with([]), &one.name);
    let last = last.expect("a change").transaction;
    assert!(last.contains("delete element ip kube-proxy cluster-ips { 172.16.0.1 }"), "{last}");
    assert!(last.contains("delete element ip kube-proxy hairpin-connections"), "{last}");
}

#[test]
fn all_ports_of_a_kubernetes_service_are_written_again() {
    let port = |name: &str, number: u16, endpoints: &[u32]| {
        let mut service = service(endpoints);
        service.name.port = name.to_owned();
        service.port = Port::new(number).expect("not zero");
        service
    };
    let old = with([port("a", 80, &[1]), port("b", 81, &[2])]);
    let new = with([port("a", 80, &[1, 3]), port("b", 81, &[2])]);
    let name = port("b", 81, &[]).name;
    let change = endpoint_added(Shape::MapPerService, &old, &new, &name).expect("a change");
    for port in ["a", "b"] {
        let refilled = change
            .transaction
            .lines()
            .filter(|l| l.starts_with("add rule") && l.contains(&format!("/tcp/{port} ")));
        assert_eq!(refilled.count(), 1, "{change:?}");
    }
}

#[test]
fn a_change_that_is_another_one_is_refused() {
    let states: [State; 3] = [None, Some(&[1]), Some(&[1, 2])];
    let [none, one, two] = states.map(|endpoints| with(endpoints.map(service)));
    let name = service(&[]).name;
    let shape = Shape::SingleEndpointRule;
    let otherwise = |answer: Result<Change, PeerError>| {
        assert!(matches!(answer, Err(PeerError::Otherwise { .. })), "{answer:?}");
    };
    otherwise(endpoint_added(shape, &one, &one, &name));
    otherwise(endpoint_added(shape, &two, &one, &name));
    otherwise(endpoint_added(shape, &none, &one, &name));
    otherwise(service_added(shape, &one, &two, &name));
    otherwise(service_removed(shape, &none, &none, &name));
    assert!(endpoint_added(shape, &one, &two, &name).is_ok());

    let elsewhere = Ir::new(Family::Ipv4, Node::default(), two.services().to_vec());
    let elsewhere = elsewhere.expect("valid Services");
    let answer = endpoint_added(shape, &one, &elsewhere, &name);
    assert_eq!(answer, Err(PeerError::FullSync));
    let more = ir(vec![service(&[1, 2])]);
    let answer = endpoint_added(shape, &one, &more, &name);
    assert_eq!(answer, Err(PeerError::OthersChanged { service: name }));
}

/// The rules of the chain of the Service that all Irs here have.
fn rules(shape: Shape, ir: &Ir) -> Vec<String> {
    let script = table(shape, ir).expect("a table");
    let head = format!("add rule ip kube-proxy {} ", names::service(&service(&[])));
    script.lines().filter_map(|line| line.strip_prefix(&head)).map(str::to_owned).collect()
}

#[test]
fn shapes_pick_endpoints_in_their_own_ways() {
    let several = ir(vec![service(&[1, 2])]);
    let one = ir(vec![service(&[1])]);
    let to_two = "meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.0.0.2 \
                  . 8080 , 1 : 10.0.0.3 . 8080 }";
    let to_one = "meta l4proto tcp dnat ip addr . port to numgen random mod 1 map { 0 : 10.0.0.2 \
                  . 8080 }";
    assert_eq!(rules(Shape::MapPerService, &several), [to_two]);
    assert_eq!(rules(Shape::MapPerService, &one), [to_one]);
    assert_eq!(rules(Shape::SingleEndpointRule, &several), [to_two]);
    assert_eq!(rules(Shape::SingleEndpointRule, &one), ["meta l4proto tcp dnat to 10.0.0.2:8080"]);
    let rules = rules(Shape::ChainPerEndpoint, &several);
    let [mark, spread] = rules.as_slice() else { panic!("{rules:?}") };
    let stranger = "ip daddr 172.16.0.1 tcp dport 80 ip saddr != 10.0.0.0/8";
    assert_eq!(*mark, format!("{stranger} jump mark-for-masquerade"));
    assert!(spread.starts_with("numgen random mod 2 vmap { 0 : goto endpoint-"), "{spread}");
}

/// A feature, and how a Service comes to ask for it.
type Gap = (&'static str, fn(&mut Service));

#[test]
fn every_kind_of_gap_is_refused_with_its_reason() {
    let lb = "1.2.3.4".parse().expect("an address");
    let gaps: [Gap; 7] = [
        ("session affinity", |s| {
            s.affinity = Some(Affinity { timeout_seconds: NonZeroU32::MIN });
        }),
        ("traffic policy Local", |s| s.internal_policy = TrafficPolicy::Local),
        ("traffic policy Local", |s| s.external_policy = TrafficPolicy::Local),
        ("source ranges", |s| {
            s.source_ranges = ["10.0.0.0/8".parse().expect("a block")].into();
        }),
        ("weights", |s| s.endpoints[0].weight = 2.try_into().expect("not zero")),
        ("scheduler", |s| s.scheduler = Scheduler::Maglev),
        ("name", |s| s.name.name = "a b".to_owned()),
    ];
    for (feature, make) in gaps {
        let mut service = service(&[1]);
        service.load_balancer_ips = [lb].into();
        assert!(table(Shape::MapPerService, &ir(vec![service.clone()])).is_ok());
        make(&mut service);
        for shape in Shape::ALL {
            let answer = table(shape, &ir(vec![service.clone()]));
            let Err(PeerError::Unsupported(gap)) = answer else { panic!("{feature}: {answer:?}") };
            assert_eq!(gap.reason.feature, feature);
        }
    }
}

/// A policy `Local` for outside addresses says nothing about a Service that has none.
#[test]
fn a_policy_without_effect_is_no_gap() {
    let mut service = service(&[1]);
    service.external_policy = TrafficPolicy::Local;
    service.source_ranges = ["10.0.0.0/8".parse().expect("a block")].into();
    assert!(table(Shape::ChainPerEndpoint, &ir(vec![service])).is_ok());
}

/// An optimised build takes about a tenth of a second for the largest; the limit is for a
/// debug build on a busy machine, and is there to catch what grows with the square.
#[test]
fn ten_thousand_services_are_no_matter_of_seconds() {
    let limit = if cfg!(debug_assertions) { 20 } else { 1 };
    for family in Family::ALL {
        let made = synth::cluster_ips(family, Protocol::Tcp, 10_000, 3, node(family));
        let made = made.expect("few Services");
        for shape in Shape::ALL {
            let begun = Instant::now();
            let script = table(shape, &made).expect("a table");
            let elapsed = begun.elapsed();
            println!("{shape} {family}: {} bytes in {elapsed:?}", script.len());
            assert!(elapsed < Duration::from_secs(limit), "{shape} {family}: {elapsed:?}");
        }
    }
}
