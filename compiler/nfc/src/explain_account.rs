//! One packet in a throwaway world, and what the kernel itself says of it.
//!
//! Invariant: asks the kernel and its tools inside of the world; what they print is read in the
//! library. What is lacking is said in the account, and spoils nothing else.

use nfc::explain::{Account, Met, counted, traced};
use nfc_backend::{AnyBackend, Apply as _, Process, Question, Step};
use nfc_ir::{Family, Packet};
use nfc_kernel::conntrack::{self, Connection};
use nfc_kernel::{Kernel, Namespace, Reporter, statistics};
use nfc_lab::{Judge, WitnessError, World};
use std::fmt::Display;
use std::time::{Duration, Instant};

/// The table whose rule has the packet traced.
const TABLE: &str = "nfc-trace";

/// The backend whose rules tell what they met by counting.
const IPTABLES: &str = "iptables";

/// `NETLINK_NETFILTER` (`linux/netlink.h`), and in it `NFNLGRP_NFTRACE`
/// (`linux/netfilter/nfnetlink.h`).
const TRACE_GROUP: (u8, u8) = (12, 9);

/// How long `nft` may take until it listens: it reads all rules first.
const LISTENING: Duration = Duration::from_secs(10);

/// How long the first line of a trace may take.
const FIRST_LINE: Duration = Duration::from_secs(2);

/// After how long without a line a trace has come to its end. The kernel says all of it while
/// the packet is on its way, so this is `nft`'s time for a line.
const LAST_LINE: Duration = Duration::from_millis(500);

/// Somebody who takes notice of the rules that a packet meets.
enum Watch {
    /// Of nft's rules: the kernel says each of them.
    Trace(Reporter),
    /// Of iptables' rules: the counters as they were before.
    Counters(String),
}

/// Sends `packet` into `world`, whose node has the rules of `backend`, and asks the kernel.
pub(crate) fn account(
    backend: &dyn AnyBackend,
    world: &World,
    judge: &mut Judge,
    packet: &Packet,
) -> Result<Account, WitnessError> {
    let mut skipped = Vec::new();
    let node = world.node();
    let watch = inside(node, || watch(backend, packet));
    let landing = judge.send_as_is(packet)?.to_string();
    let rules = watch.and_then(|watch| inside(node, || rules(backend, packet, watch)));
    let rules = rules.map_err(|why| skipped.push(why)).ok();
    let entries = inside(node, || entries(packet)).map_err(|why| skipped.push(why)).ok();
    Ok(Account { packet: packet.clone(), landing, entries, rules, skipped })
}

fn inside<T>(node: &Namespace, ask: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    node.run(ask).map_err(words)?
}

fn words(error: impl Display) -> String {
    error.to_string()
}

fn watch(backend: &dyn AnyBackend, packet: &Packet) -> Result<Watch, String> {
    if backend.name() == IPTABLES {
        counters(backend, packet).map(Watch::Counters)
    } else {
        // The companion of IPVS is a table of nf_tables too.
        listen(packet).map(Watch::Trace).map_err(|why| format!("nft trace: {why}"))
    }
}

fn rules(backend: &dyn AnyBackend, packet: &Packet, watch: Watch) -> Result<Met, String> {
    match watch {
        Watch::Counters(before) => Ok(Met::Counters(counted(&before, &counters(backend, packet)?))),
        Watch::Trace(listener) => {
            let lines = heard(&listener);
            if lines.is_empty() {
                return Err("nft trace: nft said nothing of the packet".to_owned());
            }
            Ok(Met::Trace(traced(lines.iter().map(String::as_str), TABLE)))
        }
    }
}

/// What connection tracking knows of `packet`.
fn entries(packet: &Packet) -> Result<Vec<Connection>, String> {
    let is_its = |c: &Connection| {
        let ends = (c.client, c.destination) == (packet.source, packet.destination);
        ends && c.protocol == packet.protocol.number()
    };
    let mut all = conntrack::list().map_err(|why| format!("conntrack: {why}"))?;
    all.retain(is_its);
    Ok(all)
}

/// The rules with their counters.
fn counters(backend: &dyn AnyBackend, packet: &Packet) -> Result<String, String> {
    let mut questions = backend.listing(Family::of(packet.destination.ip()));
    for question in &mut questions {
        if let Question::Process(process) = question {
            process.args.push("--counters".to_owned());
        }
    }
    let answers = Kernel::new().ask(&questions).map_err(|why| format!("counters: {why}"))?;
    Ok(answers.iter().map(|answer| String::from_utf8_lossy(&answer.0)).collect())
}

/// Has `packet` traced from the first hook on, and somebody listen before it is sent.
fn listen(packet: &Packet) -> Result<Reporter, String> {
    let args = ["-f", "-"].map(str::to_owned).to_vec();
    let order = Step::Process(Process { program: "nft", args, stdin: order(packet) });
    Kernel::new().apply(&[order]).map_err(words)?;
    let listener = Reporter::start("nft", &["monitor", "trace"]).map_err(words)?;
    let deadline = Instant::now() + LISTENING;
    let (protocol, group) = TRACE_GROUP;
    while !statistics::is_listened_to(protocol, group).map_err(words)? {
        if Instant::now() > deadline {
            return Err(format!("nft does not listen after {} s", LISTENING.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(listener)
}

/// A table with a chain before all others at each hook where a packet may begin.
fn order(packet: &Packet) -> String {
    let family = if packet.destination.is_ipv4() { "ip" } else { "ip6" };
    let (from, to, protocol) = (packet.source, packet.destination, packet.protocol);
    let rule = format!(
        "{family} saddr {} {family} daddr {} {protocol} sport {} {protocol} dport {} \
         meta nftrace set 1",
        from.ip(),
        to.ip(),
        from.port(),
        to.port()
    );
    let chain = |hook| {
        format!(" chain {hook} {{\n  type filter hook {hook} priority raw - 10;\n  {rule}\n }}\n")
    };
    format!("table {family} {TABLE} {{\n{}{}}}\n", chain("prerouting"), chain("output"))
}

/// What is said of the packet, until it has been quiet for a while.
fn heard(listener: &Reporter) -> Vec<String> {
    let first = listener.line(FIRST_LINE);
    let others = std::iter::from_fn(|| listener.line(LAST_LINE));
    first.into_iter().chain(others).collect()
}
