//! Taking over whatever is in the tables.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test panics to keep its backtrace")]

use nfc_backend::{Answer, Backend, Step};
use nfc_iptables::{Iptables, Patch, Program, render_onto};
use nfc_ir::synth::cluster_ips;
use nfc_ir::{Family, Node, Protocol};

fn program(services: u32) -> Program {
    let ir = cluster_ips(Family::Ipv4, Protocol::Tcp, services, 2, Node::default()).unwrap();
    Iptables.lower(&ir).program
}

/// What `iptables-save` would print after `text` was loaded on a fresh node. Words aside,
/// the difference is that rules at the head of built-in chains are ordinary rules.
fn dump(text: &str) -> String {
    let as_rule = |line: &str| match line.strip_prefix("-I ") {
        Some(rule) => {
            let (chain, rest) = rule.split_once(' ').unwrap();
            let (_, rule) = rest.split_once(' ').unwrap();
            format!("-A {chain} {rule}\n")
        }
        None => format!("{line}\n"),
    };
    text.lines().map(as_rule).collect()
}

fn replace(dump: &str, new: &Program) -> Patch {
    Iptables.replace(&[Answer(dump.as_bytes().to_vec())], new)
}

fn lines<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(start)).collect()
}

#[test]
fn on_a_fresh_node_all_is_made() {
    let new = program(3);
    assert_eq!(render_onto("", &new), Iptables.render(std::slice::from_ref(&new)));
    assert_eq!(replace("", &new), Iptables.diff(&Program::empty(Family::Ipv4), &new));
}

#[test]
fn jumps_are_made_once() {
    let new = program(3);
    let text = render_onto(&dump(&Iptables.render(std::slice::from_ref(&new))), &new);
    assert_eq!(lines(&text, "-I"), Vec::<&str>::new());
    assert_eq!(lines(&text, "-D"), Vec::<&str>::new());
    assert_eq!(lines(&text, "-X"), Vec::<&str>::new());
    let rules = |text: &str| lines(text, "-A").len();
    assert_eq!(rules(&text), rules(&Iptables.render(&[new])));
}

#[test]
fn a_missing_jump_is_put_at_the_head() {
    let new = program(1);
    let all = dump(&Iptables.render(std::slice::from_ref(&new)));
    let gone = "-A INPUT -j KUBE-FIREWALL\n";
    assert!(all.contains(gone));
    let text = render_onto(&all.replace(gone, ""), &new);
    assert_eq!(lines(&text, "-I"), ["-I INPUT 1 -j KUBE-FIREWALL"]);
    assert_eq!(lines(&text, "-D"), Vec::<&str>::new());
}

/// On a node with a kubelet its own jump is there first, and so ends up below ours.
#[test]
fn a_jump_that_is_there_stays_where_it_is() {
    let kubelet = "*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:KUBE-FIREWALL - [0:0]\n\
                   -A INPUT -j KUBE-FIREWALL\n-A OUTPUT -j KUBE-FIREWALL\nCOMMIT\n";
    let text = render_onto(kubelet, &program(1));
    assert_eq!(lines(&text, "-D"), Vec::<&str>::new());
    let input: Vec<_> =
        lines(&text, "-I INPUT").iter().map(|line| line.rsplit_once(' ').unwrap().1).collect();
    assert_eq!(input, ["KUBE-PROXY-FIREWALL", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES"]);
}

/// kubelet guards loopback with a chain of the same name, and would not notice its loss.
#[test]
fn what_is_kubelets_stays() {
    let own = dump(&Iptables.render(&[program(1)]));
    let empty = Program::empty(Family::Ipv4);
    let is_guard = |text: &str| text.contains("KUBE-FIREWALL");
    let alone = replace(&own, &empty);
    assert!(is_guard(&alone.to_string()));
    assert_eq!(alone.route_localnet, Some(false), "nothing guards loopback any more");
    let with_kubelet =
        replace(&format!("*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n{own}"), &empty);
    assert!(!is_guard(&with_kubelet.to_string()));
    assert_eq!(with_kubelet.route_localnet, None);
    assert!(with_kubelet.to_string().contains("-X KUBE-FORWARD\n"));
}

#[test]
fn a_jump_of_another_shape_and_a_second_one_go() {
    let twice = "*nat\n-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
                 -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
                 -A PREROUTING -p tcp -m comment --comment \"an older form\" -j KUBE-SERVICES\nCOMMIT\n";
    let text = render_onto(twice, &program(1));
    let gone = [
        "-D PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
        "-D PREROUTING -p tcp -m comment --comment \"an older form\" -j KUBE-SERVICES",
    ];
    assert_eq!(lines(&text, "-D"), gone);
    assert_eq!(lines(&text, "-I PREROUTING"), Vec::<&str>::new());
}

#[test]
fn stale_chains_go_and_nothing_else_does() {
    let (old, new) = (program(2), program(1));
    let foreign = "*nat\n:PREROUTING ACCEPT [1:2]\n:KUBE-PROXY-CANARY - [0:0]\n\
                   :CNI-HOSTPORT - [0:0]\n-A PREROUTING -j CNI-HOSTPORT\nCOMMIT\n\
                   *mangle\n:KUBE-SVC-2CMXP7HKUVJN7L6M - [0:0]\nCOMMIT\n";
    let both = foreign.to_owned() + &dump(&Iptables.render(std::slice::from_ref(&old)));
    let text = render_onto(&both, &new);
    let stale: Vec<_> = lines(&Iptables.render(&[old]), ":KUBE-S")
        .into_iter()
        .filter(|line| !Iptables.render(std::slice::from_ref(&new)).contains(line))
        .map(|line| line.trim_start_matches(':').trim_end_matches(" - [0:0]").to_owned())
        .collect();
    assert_eq!(stale.len(), 3, "a Service and two endpoints");
    assert_eq!(lines(&text, "-X").len(), stale.len());
    for chain in stale {
        assert!(text.contains(&format!(":{chain} - [0:0]\n")), "emptied before");
        assert!(text.contains(&format!("-X {chain}\n")));
    }
    for name in ["CANARY", "CNI-", "mangle"] {
        assert!(!text.contains(name), "{name}");
    }
}

#[test]
fn nothing_of_ours_is_left_behind() {
    let own = dump(&Iptables.render(&[program(2)]));
    let empty = Program::empty(Family::Ipv4);
    let text = render_onto(&own, &empty);
    assert_eq!(lines(&text, "-A"), Vec::<&str>::new());
    let chains = |start| lines(&own, start).len();
    assert_eq!(lines(&text, "-X").len(), chains(":KUBE-"));
    let jumps: usize = ["-A INPUT", "-A FORWARD", "-A OUTPUT", "-A PREROUTING", "-A POSTROUTING"]
        .map(chains)
        .iter()
        .sum();
    assert_eq!(lines(&text, "-D").len(), jumps);
    let untouched = replace("*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n", &empty);
    assert!(Iptables.is_empty(&untouched));
    assert_eq!(Iptables.encode(&untouched), Vec::<Step>::new());
}

/// The kernel refuses to delete a chain that a rule leads to.
#[test]
fn a_chain_that_others_use_is_only_emptied() {
    let own = dump(&Iptables.render(&[program(1)]));
    let others = "*nat\n:KUBE-HOSTPORTS - [0:0]\n\
                  -A KUBE-HOSTPORTS -m comment --comment \"-j x\" -j KUBE-MARK-MASQ\nCOMMIT\n";
    let text = render_onto(&(own + others), &Program::empty(Family::Ipv4));
    assert!(text.contains(":KUBE-MARK-MASQ - [0:0]\n"));
    assert!(!text.contains("-X KUBE-MARK-MASQ\n"));
    assert!(text.contains("-X KUBE-POSTROUTING\n"));
}

#[test]
fn each_family_asks_its_own_tool() {
    for (family, save, restore) in [
        (Family::Ipv4, "iptables-legacy-save", "iptables-legacy-restore"),
        (Family::Ipv6, "ip6tables-legacy-save", "ip6tables-legacy-restore"),
    ] {
        let questions = Iptables.questions(family);
        assert!(matches!(
            questions.as_slice(),
            [nfc_backend::Question::Process(process)] if process.program == save
        ));
        let ir = cluster_ips(family, Protocol::Udp, 1, 1, Node::default()).unwrap();
        let steps = Iptables.encode(&Iptables.replace(&[], &Iptables.lower(&ir).program));
        let [Step::Process(process)] = steps.as_slice() else {
            panic!("one process: {steps:?}");
        };
        assert_eq!(process.program, restore);
        assert_eq!(process.args, ["-w", "5", "--noflush"]);
        assert!(process.stdin.contains("*filter\n") && process.stdin.contains("*nat\n"));
    }
}
