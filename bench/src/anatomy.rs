//! What a first packet's cost is made of: rules are taken away layer by layer, and the same
//! packet is sent through what is left.
//!
//! A layer costs what the packet costs with it, less what it costs without it. Only
//! differences of whole rulesets are taken, so that nothing has to be known about the kernel.
//!
//! | up to | what is there |
//! |---|---|
//! | filter | everything |
//! | leaving | everything but filter chains |
//! | endpoint | no rules where the packet leaves either |
//! | service | the Service's chain has one rule: rewrite to one endpoint |
//! | dnat | the first chain has that rule, and nothing is looked up |
//! | nat | base chains without rules |
//! | conntrack | no chain; connections are tracked |
//! | path | nothing |
//!
//! iptables' tables have their hooks until they are unloaded: up to *nat* it still walks empty
//! filter chains. IPVS finds, chooses and rewrites at once: that is one layer, *ipvs*, in place
//! of three.
//!
//! Invariant: takes rules away and sends packets; what a layer costs is worked out by the
//! report.

use crate::contender::{Contender, Kind};
use crate::load;
use crate::measure;
use crate::metric::{Layer, Metric};
use crate::peers;
use crate::plan::Cell;
use crate::probe::Bench;
use crate::scenario::{Anatomy, Scenario};
use crate::tally::CellSamples;
use crate::topology;
use anyhow::Context as _;
use nfc_backend::{Apply as _, Process, Step};
use nfc_ir::{Ir, Protocol};
use nfc_kernel::Kernel;
use nfc_lab::{Sender, World};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Makes the kernel track connections, without any hook of its own: a rule in a chain that
/// nobody calls asks for it.
const TRACKING: &str = "add table ip tracking\nadd chain ip tracking unused\n\
                        add rule ip tracking unused ct state new\n";

/// What is done before a packet is sent, and which layers are there then.
struct Peel {
    up_to: Layer,
    step: Option<Step>,
    to: SocketAddr,
}

/// The one Service that packets are sent to.
struct Aim {
    service: SocketAddr,
    endpoint: SocketAddr,
    protocol: Protocol,
}

/// Sends packets through the rules of `contender`, and through what is left of them.
///
/// # Errors
///
/// When rules cannot be loaded or taken away, or a packet comes out at the wrong endpoint.
pub fn layers(
    scenario: &Scenario,
    asked: &Anatomy,
    cell: &Cell,
    contender: &Contender,
) -> anyhow::Result<CellSamples> {
    let world = topology::world()?;
    let ir = measure::services(scenario, cell, contender, &world)?;
    let middle = cell.services / 2;
    let service = ir.services().get(usize::try_from(middle)?).context("no Services")?;
    let endpoint = service.endpoints.first().context("no endpoints")?.address;
    let aim = Aim { service: load::service(middle), endpoint, protocol: service.protocol };
    let peels = peels(contender, &ir, &aim).context("nothing is known of its rules")?;
    measure::load_rules(contender, &world, &ir)?;
    let meaning = (&ir, contender.mode());
    let mut samples = send(scenario, asked, &world, meaning, peels)?;
    let bare = topology::world()?;
    let straight = |up_to, script: &str| Peel {
        up_to,
        step: Some(peers::step(script.to_owned())),
        to: endpoint,
    };
    let below = vec![
        straight(Layer::Conntrack, TRACKING),
        straight(Layer::Path, "delete table ip tracking\n"),
    ];
    samples.extend(send(scenario, asked, &bare, meaning, below)?);
    Ok(samples)
}

/// Takes one layer after the other away and sends packets through the rest. All packets come
/// from one probe, since IPVS remembers its connections whatever conntrack forgets.
fn send(
    scenario: &Scenario,
    asked: &Anatomy,
    world: &World,
    meaning: (&Ir, nfc_ir::ProxyMode),
    peels: Vec<Peel>,
) -> anyhow::Result<CellSamples> {
    let mut bench = Bench::verified(scenario.scope.protocol, world, meaning, &BTreeSet::new())?;
    let packets = usize::try_from(scenario.warm_up.saturating_add(asked.packets))?;
    let mut samples = CellSamples::new();
    for Peel { up_to, step, to } in peels {
        let name = up_to.name();
        let steps: Vec<Step> = step.into_iter().collect();
        let applied = world.node().run(|| Kernel::new().apply(&steps))?;
        applied.with_context(|| format!("taking away all above {name}"))?;
        let sent = bench.first_packets(Sender::Pod, &vec![to; packets]);
        let times = sent.with_context(|| format!("up to {name}"))?.arrival_ns;
        let warm_up = usize::try_from(scenario.warm_up)?;
        samples.insert(Metric::UpTo(up_to), times.into_iter().skip(warm_up).collect());
    }
    Ok(samples)
}

/// How the rules of `contender` are taken away, from the top; `None` when that is not known.
fn peels(contender: &Contender, ir: &Ir, aim: &Aim) -> Option<Vec<Peel>> {
    match (&contender.kind, contender.name().as_str()) {
        (Kind::Backend(backend), "nft" | "nft-constant-time") => {
            let text = backend.render(&[backend.lower(ir).program]);
            Some(of_nft(aim, &behind(&text, "", "goto cluster-")?))
        }
        (Kind::Backend(backend), "iptables") => {
            let text = backend.render(&[backend.lower(ir).program]);
            let chain = behind(&text, &format!("-d {} ", aim.service.ip()), "-j KUBE-SVC-")?;
            Some(of_iptables(aim, &chain))
        }
        (Kind::Backend(_), "ipvs") => Some(of_ipvs(aim)),
        (Kind::KubeProxy(shape), _) => {
            let text = peers::table(*shape, ir).ok()?;
            let chain = behind(&text, &format!(" {} . ", aim.service.ip()), "goto service-")?;
            Some(of_kube_proxy(aim, &chain))
        }
        _ => None,
    }
}

/// The chain that the first line about `subject` leads to, by a verdict that begins like this.
fn behind(text: &str, subject: &str, verdict: &str) -> Option<String> {
    let mut lines = text.lines().filter(|line| line.contains(subject));
    let line = lines.find(|line| line.contains(verdict))?;
    let (_, prefix) = verdict.split_once(' ')?;
    let (_, rest) = line.split_once(verdict)?;
    let rest = rest.split([' ', ',', ';']).next()?;
    Some(format!("{prefix}{rest}"))
}

impl Aim {
    /// Through the rules as they are loaded.
    fn whole(&self, up_to: Layer) -> Peel {
        Peel { up_to, step: None, to: self.service }
    }

    fn nft(&self, up_to: Layer, script: String) -> Peel {
        Peel { up_to, step: Some(peers::step(script)), to: self.to(up_to) }
    }

    fn restore(&self, up_to: Layer, script: String) -> Peel {
        let args = ["--noflush", "-w", "5"].map(str::to_owned).to_vec();
        let program = "iptables-legacy-restore";
        let step = Step::Process(Process { program, args, stdin: script });
        Peel { up_to, step: Some(step), to: self.to(up_to) }
    }

    /// Where nothing rewrites the destination, packets go where they would be sent.
    fn to(&self, up_to: Layer) -> SocketAddr {
        if up_to > Layer::Nat { self.service } else { self.endpoint }
    }

    /// One rule for whatever comes, in place of those of `chain`.
    fn fixed(&self, table: &str, chain: &str) -> String {
        let Self { endpoint, protocol, .. } = self;
        format!(
            "flush chain ip {table} {chain}\n\
             add rule ip {table} {chain} meta l4proto {protocol} dnat to {endpoint}\n"
        )
    }
}

fn of_nft(aim: &Aim, class: &str) -> Vec<Peel> {
    vec![
        aim.whole(Layer::Leaving),
        aim.nft(Layer::Endpoint, "flush chain ip nfc postrouting\n".to_owned()),
        aim.nft(Layer::Service, aim.fixed("nfc", class)),
        aim.nft(Layer::Dnat, aim.fixed("nfc", "prerouting")),
        aim.nft(Layer::Nat, "flush chain ip nfc prerouting\n".to_owned()),
    ]
}

fn of_kube_proxy(aim: &Aim, service: &str) -> Vec<Peel> {
    let filters =
        ["prerouting-pre-dnat", "output-pre-dnat", "input", "forward", "output"].map(|hook| {
            let chain = format!("ip kube-proxy filter-{hook}");
            format!("flush chain {chain}\ndelete chain {chain}\n")
        });
    vec![
        aim.whole(Layer::Filter),
        aim.nft(Layer::Leaving, filters.concat()),
        aim.nft(Layer::Endpoint, "flush chain ip kube-proxy nat-postrouting\n".to_owned()),
        aim.nft(Layer::Service, aim.fixed("kube-proxy", service)),
        aim.nft(Layer::Dnat, aim.fixed("kube-proxy", "nat-prerouting")),
        aim.nft(Layer::Nat, "flush chain ip kube-proxy nat-prerouting\n".to_owned()),
    ]
}

fn of_iptables(aim: &Aim, service: &str) -> Vec<Peel> {
    let in_table = |table: &str, lines: &str| format!("*{table}\n{lines}\nCOMMIT\n");
    let fixed = |chain: &str| {
        let Aim { endpoint, protocol, .. } = aim;
        let rule = format!("-A {chain} -p {protocol} -j DNAT --to-destination {endpoint}");
        in_table("nat", &format!("-F {chain}\n{rule}"))
    };
    vec![
        aim.whole(Layer::Filter),
        aim.restore(Layer::Leaving, in_table("filter", "-F INPUT\n-F FORWARD\n-F OUTPUT")),
        aim.restore(Layer::Endpoint, in_table("nat", "-F POSTROUTING")),
        aim.restore(Layer::Service, fixed(service)),
        aim.restore(Layer::Dnat, fixed("PREROUTING")),
        aim.restore(Layer::Nat, in_table("nat", "-F PREROUTING")),
    ]
}

fn of_ipvs(aim: &Aim) -> Vec<Peel> {
    let table = "ip nfc-ipvs";
    let filters = ["input", "output"].map(|hook| {
        format!("flush chain {table} filter-{hook}\ndelete chain {table} filter-{hook}\n")
    });
    let clear = Process { program: "ipvsadm", args: vec!["-C".to_owned()], stdin: String::new() };
    vec![
        aim.whole(Layer::Filter),
        // The rules that go are the only ones that have connections tracked.
        aim.nft(Layer::Leaving, filters.concat() + TRACKING),
        aim.nft(Layer::Service, format!("flush chain {table} nat-postrouting\n")),
        aim.nft(Layer::Ipvs, format!("flush chain {table} nat-prerouting\n")),
        Peel { up_to: Layer::Nat, step: Some(Step::Process(clear)), to: aim.endpoint },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use nfc_ir::{Family, Node, synth};

    fn peels_of(name: &str) -> Vec<Peel> {
        let contender = Contender::find(name).expect("it is always there");
        let ir = synth::cluster_ips(Family::Ipv4, Protocol::Tcp, 9, 3, Node::default());
        let endpoint = synth::endpoint(Family::Ipv4, 12);
        let aim = Aim { service: load::service(4), endpoint, protocol: Protocol::Tcp };
        peels(&contender, &ir.expect("few Services"), &aim).expect("it is known")
    }

    fn text(peel: &Peel) -> &str {
        match &peel.step {
            Some(Step::Process(process)) => &process.stdin,
            _ => "",
        }
    }

    #[test]
    fn everybody_is_taken_apart_from_the_top_down_to_the_hooks() {
        for name in ["nft", "nft-constant-time", "iptables", "ipvs", "kube-proxy-1.33"] {
            let peels = peels_of(name);
            assert!(peels.windows(2).all(|pair| pair[0].up_to > pair[1].up_to), "{name}");
            assert!(peels[0].step.is_none() && peels[1..].iter().all(|p| p.step.is_some()));
            let last = peels.last().expect("some");
            assert_eq!((last.up_to, last.to), (Layer::Nat, synth::endpoint(Family::Ipv4, 12)));
        }
    }

    /// Rules are put into the chain that the very Service leads to.
    #[test]
    fn the_chain_is_the_services_own() {
        let at = |name: &str| {
            let peels = peels_of(name);
            let peel = peels.iter().find(|p| p.up_to == Layer::Service).expect("a layer");
            text(peel).to_owned()
        };
        assert!(at("nft").contains("rule ip nfc cluster-tcp-3 meta l4proto tcp dnat to 10.0.0.13"));
        assert!(at("kube-proxy-1.36").contains("-synth/svc-000004/tcp/ meta l4proto"));
        let iptables = at("iptables");
        assert!(iptables.starts_with("*nat\n-F KUBE-SVC-"), "{iptables}");
        assert!(iptables.contains("-p tcp -j DNAT --to-destination 10.0.0.13:8080\n"));
    }
}
