//! What stands in the text, beyond what kube-proxy's own cases show.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test panics to keep its backtrace")]

use nfc_backend::{Backend, Fault, Reason, Step};
use nfc_iptables::{Iptables, Program};
use nfc_ir::synth::{self, cluster_ips, sample};
use nfc_ir::{Family, Ir, Node, Protocol, Scheduler, Service};
use std::num::NonZeroU16;

fn lower(node: Node, services: Vec<Service>) -> Program {
    let ir = Ir::new(Family::Ipv4, node, services).unwrap();
    Iptables.lower(&ir).program
}

fn service(index: u32, endpoints: u32) -> Service {
    synth::service(Family::Ipv4, Protocol::Tcp, index, endpoints)
}

#[test]
fn weights_are_shares_of_what_remains() {
    let mut weighted = service(0, 3);
    for (endpoint, weight) in weighted.endpoints.iter_mut().zip([1, 2, 1]) {
        endpoint.weight = NonZeroU16::new(weight).unwrap();
    }
    let text = Iptables.render(&[lower(Node::default(), vec![weighted])]);
    let shares: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once("--probability ")?.1.split(' ').next())
        .collect();
    assert_eq!(shares, ["0.2500000000", "0.6666666667"]);
}

#[test]
fn turns_are_counted_by_the_rules() {
    let mut even = service(0, 3);
    even.scheduler = Scheduler::RoundRobin;
    let text = Iptables.render(&[lower(Node::default(), vec![even])]);
    let turns: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once("--mode nth ")?.1.split_once(" -j"))
        .map(|(turn, _)| turn)
        .collect();
    assert_eq!(turns, ["--every 3 --packet 0", "--every 2 --packet 0"]);
}

#[test]
fn other_schedulers_are_declined() {
    let mut services = [0, 1, 2, 3].map(|i| service(i, 2));
    let asked =
        [Scheduler::Random, Scheduler::RoundRobin, Scheduler::SourceHash, Scheduler::Maglev];
    services[1].endpoints[0].weight = 2.try_into().unwrap();
    for (service, scheduler) in services.iter_mut().zip(asked) {
        service.scheduler = scheduler;
    }
    let ir = Ir::new(Family::Ipv4, Node::default(), services.to_vec()).unwrap();
    let lowered = Iptables.lower(&ir);
    let declined: Vec<_> =
        lowered.unsupported.iter().map(|u| (u.service.name.as_str(), u.reason.feature)).collect();
    assert_eq!(
        declined,
        [
            ("svc-000001", "scheduler round-robin with weights"),
            ("svc-000002", "scheduler source-hash"),
            ("svc-000003", "scheduler maglev")
        ]
    );
    assert!(lowered.unsupported.iter().all(|u| {
        let Reason { why, .. } = u.reason;
        why.ends_with("are picked at random")
    }));
}

/// kube-proxy's threshold is more than 1000 endpoints, over all Services.
#[test]
fn large_clusters_go_without_comments_on_endpoints() {
    let text = |endpoints| {
        let ir = cluster_ips(Family::Ipv4, Protocol::Tcp, 1, endpoints, Node::default()).unwrap();
        Iptables.render(&[Iptables.lower(&ir).program])
    };
    let (small, large) = (text(1000), text(1001));
    let arrows = |text: &str| text.matches(" -> ").count();
    assert_eq!((arrows(&small), arrows(&large)), (1000, 0));
    assert_eq!(large.matches("--comment synth/").count(), 0);
    assert!(large.contains("--comment \"synth/svc-000000 cluster IP\""));
}

/// One file for both tools: each must meet no rule of the other family unmarked.
#[test]
fn two_families_make_one_file() {
    let programs = Family::ALL.map(|family| Iptables.lower(&sample(3, family).ir).program);
    let together = Iptables.render(&programs);
    for (family, program) in Family::ALL.into_iter().zip(&programs) {
        let mark = if family == Family::Ipv4 { "-4 " } else { "-6 " };
        let alone = Iptables.render(std::slice::from_ref(program));
        let rules = |text: &str| -> Vec<_> {
            text.lines().filter(|l| l.starts_with('-')).map(str::to_owned).collect()
        };
        let marked: Vec<_> = together.lines().filter_map(|l| l.strip_prefix(mark)).collect();
        assert_eq!(marked, rules(&alone));
        for chain in alone.lines().filter(|line| line.starts_with(':')) {
            assert!(together.lines().any(|line| line == chain), "{chain}");
        }
    }
    let unmarked = |line: &&str| line.starts_with("-A") || line.starts_with("-I");
    assert_eq!(together.lines().filter(unmarked).count(), 0);
    let mut table = Vec::new();
    for line in together.lines() {
        match line.chars().next() {
            Some('*') => table.clear(),
            Some(':') => {
                assert!(!table.contains(&line), "{line} stands twice");
                table.push(line);
            }
            _ => {}
        }
    }
}

#[test]
fn a_change_of_one_endpoint_is_a_change_of_its_chains() {
    let (whole, mut one) = ([0, 1, 2].map(|i| service(i, 3)), [0, 1, 2].map(|i| service(i, 3)));
    one[1].endpoints.pop();
    let [old, new] = [whole, one].map(|s| lower(Node::default(), s.to_vec()));
    let patch = Iptables.diff(&old, &new);
    assert!(patch.tables.filter.is_empty());
    let nat = &patch.tables.nat;
    let names: Vec<_> = nat.written.keys().map(ToString::to_string).collect();
    assert!(matches!(names.as_slice(), [one] if one.starts_with("KUBE-SVC-")), "{names:?}");
    let names: Vec<_> = nat.deleted.keys().map(ToString::to_string).collect();
    assert!(matches!(names.as_slice(), [one] if one.starts_with("KUBE-SEP-")), "{names:?}");
    assert!(nat.hooked.is_empty() && nat.unhooked.is_empty());
    let steps = Iptables.encode(&patch);
    assert!(matches!(steps.as_slice(), [Step::Process(p)] if !p.stdin.contains("*filter")));
}

#[test]
fn loopback_is_opened_for_node_ports_only_and_after_the_rules() {
    let empty = Program::empty(Family::Ipv4);
    let mut with_port = service(0, 1);
    with_port.node_port = NonZeroU16::new(30_000);
    let opens = |node: Node, service: &Service| {
        let program = lower(node, vec![service.clone()]);
        let steps = Iptables.encode(&Iptables.diff(&empty, &program));
        assert!(matches!(steps[0], Step::Process(_)));
        matches!(&steps[1..], [Step::Sysctl { name, value }]
            if name == "net.ipv4.conf.all.route_localnet" && value == "1")
    };
    assert!(opens(Node::default(), &with_port));
    assert!(!opens(Node::default(), &service(0, 1)));
    assert!(!opens(Node { localhost_node_ports: false, ..Node::default() }, &with_port));

    let program = lower(Node::default(), vec![with_port]);
    let steps = Iptables.encode(&Iptables.diff(&program, &empty));
    assert!(
        matches!(&steps[..], [Step::Sysctl { value, .. }, Step::Process(_)] if value == "0"),
        "closed before the guard goes"
    );
}

/// Every line that carries a Service's name is blamed on that Service.
#[test]
fn blame_finds_the_service_of_a_line() {
    let mut named_lines = 0;
    for seed in 0..20 {
        let program = Iptables.lower(&sample(seed, Family::Ipv4).ir).program;
        let patch = Iptables.diff(&Program::empty(Family::Ipv4), &program);
        let steps = Iptables.encode(&patch);
        let Some(Step::Process(process)) = steps.first() else {
            panic!("one process: {steps:?}");
        };
        for (number, line) in process.stdin.lines().enumerate() {
            let fault = Fault {
                step: 0,
                message: Some(number),
                offset: None,
                errno: 0,
                words: String::new(),
            };
            let origin = Iptables.blame(&patch, &fault);
            assert!(origin.object.ends_with(line), "{origin} for {line}");
            let comment = line.split_once("--comment ").map_or("", |(_, c)| c);
            let name = comment.split([' ', '"']).find(|word| word.starts_with("ns"));
            let Some(name) = name else { continue };
            named_lines += 1;
            assert_eq!(origin.service.map(|s| s.to_string()).as_deref(), Some(name), "{line}");
        }
    }
    assert!(named_lines > 200, "{named_lines}");
}

/// A name is only ever text: it can end neither its comment nor its line.
#[test]
fn names_stay_inside_their_comments() {
    let mut odd = service(0, 1);
    odd.name.name = "a\" -j ACCEPT\n-A KUBE-SERVICES -j DROP".to_owned();
    let text = Iptables.render(&[lower(Node::default(), vec![odd])]);
    assert!(!text.lines().any(|line| line.starts_with("-A KUBE-SERVICES -j DROP")));
    assert!(text.contains(r#""synth/a\" -j ACCEPT -A KUBE-SERVICES -j DROP cluster IP""#));
}
