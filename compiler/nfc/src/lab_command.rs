//! The subcommand `lab`: a throwaway world to sit in, with the rules of some Services.
//!
//! Invariant: puts together what the lab room and the backends give; knows no link and no
//! rule.

use crate::args::{BackendArg, Input};
use crate::{Exit, backend, read_services, refused, screen, warn_unsupported};
use clap::Args;
use nfc::load;
use nfc_backend::counted;
use nfc_ir::{Family, Frontend, Ir, Protocol};
use nfc_kernel::inhabitants::Signal;
use nfc_kernel::{Kernel, Namespace};
use nfc_lab::{Answered, Cluster, LabError, Pod, Session, session};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many Services the greeting lists.
const LISTED_MAX: usize = 12;

/// Run a command, or a shell, inside a throwaway world that has these Services
///
/// The world is a client, a node and a pod for each endpoint, all network namespaces of this
/// machine, and the node has the rules. Endpoints answer over TCP, HTTP and UDP with their
/// address, their Services and who asked. Nothing outside of the world is touched, and when
/// the command ends the world is gone, with everybody who lives there.
///
/// The command runs on this machine's files, in another network only. Its environment has
/// `NFC_CLIENT`, `NFC_NODE` and `NFC_BACKEND`: paths that `nsenter --net=` takes, from other
/// terminals too. The node has 192.0.2.1 and fd00:192:0:2::1 besides the addresses that
/// manifests or --node-ip give it; the client has 192.0.2.2 and fd00:192:0:2::2.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  sudo nfc lab examples/web.yaml    # a shell; try: curl 10.96.45.123
  sudo nfc lab examples/web.yaml -- curl -s 10.96.45.123
  unshare -Urn nfc lab examples/web.yaml -- curl -s 10.96.45.123  # without root
  sudo nfc lab --in node examples/web.yaml -- nft list table ip nfc
  sudo nfc lab --in 10.244.1.5 examples/web.yaml -- curl -s 10.96.45.123
  sudo nfc lab --backend iptables --watch examples/web.yaml \\
      -- sh -c 'while sleep 0.1; do curl -so /dev/null 10.96.45.123; done'

Exit code: that of the command, or 128 and the number of the signal that ended it; 127 when
there is no such command, 126 when it cannot be run. Where the world cannot be had: 1 input
refused, 2 the environment lacks something, 3 the kernel refused the rules.")]
pub(crate) struct Lab {
    #[command(flatten)]
    backend: BackendArg,
    /// Where to run the command: client, node, backend (the first endpoint), or an endpoint's
    /// address.
    #[arg(long = "in", value_name = "PLACE", default_value = "client")]
    place: Room,
    /// Show how often each endpoint has answered, once a second where standard error is a
    /// terminal, and at the end. Without a command there is no shell then: it goes on until
    /// Ctrl-C.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    input: Input,
    /// What to run, after -- [default: a shell].
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// One of the world's namespaces, as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Room {
    Client,
    Node,
    Backend,
    Endpoint(IpAddr),
}

impl FromStr for Room {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "client" => Ok(Self::Client),
            "node" => Ok(Self::Node),
            "backend" => Ok(Self::Backend),
            _ => text.parse().map(Self::Endpoint).map_err(|_| {
                "expected client, node, backend or the address of an endpoint".to_owned()
            }),
        }
    }
}

/// Runs it.
pub(crate) fn run(args: &Lab) -> Result<(), Exit> {
    let backend = backend(&args.backend)?;
    let irs = read_services(&args.input, backend.as_ref())?.irs;
    let cluster = Cluster::of(irs.values()).map_err(|error| unbuilt(&error))?;
    for ir in irs.values() {
        let load = || load::apply(backend.as_ref(), ir, &mut Kernel::new());
        let loaded = cluster.world().node().run(load).map_err(environment)?.map_err(refused)?;
        warn_unsupported(backend.name(), &loaded.unsupported);
    }
    let inside = find(&cluster, &args.place)?;
    if args.command.is_empty() && io::stderr().is_terminal() {
        eprint!("{}", greeting(backend.name(), &cluster, &irs));
    }
    let ended = live(args, &cluster, inside)?;
    match ended {
        0 => Ok(()),
        code => Err(Exit::Code(code)),
    }
}

fn find<'a>(cluster: &'a Cluster, place: &Room) -> Result<&'a Namespace, Exit> {
    let pod = match place {
        Room::Client => return Ok(cluster.world().client()),
        Room::Node => return Ok(cluster.world().node()),
        Room::Backend => cluster.pods().values().next(),
        Room::Endpoint(ip) => cluster.pods().get(ip),
    };
    pod.map(Pod::namespace).ok_or_else(|| {
        let known: Vec<_> = cluster.pods().keys().take(LISTED_MAX).map(IpAddr::to_string).collect();
        eprintln!("error: no pod is there; pods: {}", known.join(", "));
        Exit::Input
    })
}

/// Runs the command to its end, and returns its exit code.
fn live(args: &Lab, cluster: &Cluster, inside: &Namespace) -> Result<u8, Exit> {
    let mut asked = requests().map_err(environment)?;
    let mut table = Table { is_redrawn: io::stderr().is_terminal(), drawn: 0, before: Vec::new() };
    let mut watch = |cluster: &Cluster| {
        if args.watch && table.is_redrawn {
            eprint!("{}", table.redrawn(&cluster.answered(), screen::lines(io::stderr())));
        }
    };
    let ended = if args.watch && args.command.is_empty() {
        session::stay(&cluster.namespaces(), &mut asked, || watch(cluster)).map(|()| 0)
    } else {
        visit(args, cluster, inside).run(&mut asked, || watch(cluster))
    };
    if args.watch {
        // All of them: nothing is drawn over the last.
        eprint!("{}", table.redrawn(&cluster.answered(), None));
    }
    ended.map_err(|error| {
        eprintln!("error: {error}");
        error.code().map_or(Exit::Environment, Exit::Code)
    })
}

/// The command, or the user's shell.
fn visit<'a>(args: &Lab, cluster: &'a Cluster, inside: &'a Namespace) -> Session<'a> {
    let shell = || std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
    let mut words = args.command.iter().cloned();
    let program = words.next().unwrap_or_else(shell);
    let backend = cluster.pods().values().next().map_or(inside, Pod::namespace);
    let rooms = [
        ("NFC_CLIENT", cluster.world().client()),
        ("NFC_NODE", cluster.world().node()),
        ("NFC_BACKEND", backend),
    ];
    let variables = rooms.map(|(variable, namespace)| (variable, path(namespace))).to_vec();
    Session { program, args: words.collect(), variables, inside, world: cluster.namespaces() }
}

/// A path to the namespace that is good for as long as this process lives.
fn path(namespace: &Namespace) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.as_fd().as_raw_fd())
}

/// From now on signals that would end this process are only noted: it has a world to take
/// down. What is returned tells the latest that came.
fn requests() -> io::Result<impl FnMut() -> Option<Signal>> {
    let latest = Arc::new(AtomicUsize::new(0));
    let known =
        [(SIGINT, Signal::Interrupt), (SIGHUP, Signal::Hangup), (SIGTERM, Signal::Terminate)];
    for (place, (number, _)) in (1..).zip(known) {
        signal_hook::flag::register_usize(number, Arc::clone(&latest), place)?;
    }
    let take = move || {
        let place = latest.swap(0, Ordering::Relaxed).checked_sub(1)?;
        known.get(place).map(|(_, signal)| *signal)
    };
    Ok(take)
}

fn environment(error: impl std::fmt::Display) -> Exit {
    eprintln!("error: {error}");
    Exit::Environment
}

fn unbuilt(error: &LabError) -> Exit {
    eprintln!("error: {error}");
    match error {
        LabError::Taken { .. } | LabError::Crowded { .. } => Exit::Input,
        _ => Exit::Environment,
    }
}

fn greeting(backend: &str, cluster: &Cluster, irs: &BTreeMap<Family, Ir>) -> String {
    let services = || irs.values().flat_map(Ir::services);
    let count = services().count();
    let ports = counted(count, "service port");
    let pods = counted(cluster.pods().len(), "pod");
    let mut text = format!("{ports} in {backend} rules, {pods}, a client.\n");
    for service in services().take(LISTED_MAX) {
        let at = service.frontends().map(|frontend| match frontend {
            Frontend::ClusterIp(ip) | Frontend::ExternalIp(ip) | Frontend::LoadBalancerIp(ip) => {
                std::net::SocketAddr::new(ip, service.port.get()).to_string()
            }
            Frontend::NodePort(port) => format!("node port {port}"),
        });
        let at: Vec<_> = at.collect();
        let _ = writeln!(text, "  {} {}  {}", service.name, service.protocol, at.join(", "));
    }
    if count > LISTED_MAX {
        let _ = writeln!(text, "  and {} more", count - LISTED_MAX);
    }
    let example = services().find(|s| s.protocol == Protocol::Tcp);
    if let Some(service) = example {
        let at = std::net::SocketAddr::new(service.cluster_ip, service.port.get());
        let _ = writeln!(text, "Ask one:         curl {at}");
    }
    let node = path(cluster.world().node());
    let _ = writeln!(text, "See the node:    nsenter --net={node} ip route");
    text + "Leave:           exit\n"
}

/// Counters that are drawn over each other on a terminal.
#[derive(Debug)]
struct Table {
    is_redrawn: bool,
    /// How many lines were drawn last.
    drawn: usize,
    before: Vec<Answered>,
}

impl Table {
    /// The counters as text that goes over what was drawn last, in so many lines at most.
    fn redrawn(&mut self, now: &[Answered], lines_max: Option<usize>) -> String {
        let up = match self.drawn {
            0 => String::new(),
            // Up to the heading, and clear from there to the end (ECMA-48 CPL, ED).
            lines => format!("\x1b[{lines}F\x1b[J"),
        };
        let names: Vec<_> = now.iter().map(|a| format!("{} {}", a.endpoint, a.protocol)).collect();
        let heading = "endpoint";
        let width = names.iter().map(String::len).max().unwrap_or(0).max(heading.len());
        let mut text = format!("{heading:<width$} {:>8} {:>9}\n", "answers", "latest");
        for (place, (name, Answered { count, .. })) in names.iter().zip(now).enumerate() {
            let before = self.before.get(place).map_or(0, |before| before.count);
            let _ = writeln!(text, "{name:<width$} {count:>8} {:>+9}", count - before);
        }
        self.before = now.to_vec();
        let text = screen::fitted(&text, lines_max, "endpoint");
        self.drawn = text.lines().count();
        if self.is_redrawn {
            // On a narrow terminal a line that wraps would be two to go up (DECAWM off, and on).
            return format!("\x1b[?7l{up}{text}\x1b[?7h");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_drawn_over_each_other_where_lines_do_not_wrap() {
        let answered = |count| {
            let endpoint = "10.0.0.1:80".parse().expect("an endpoint");
            [Answered { endpoint, protocol: Protocol::Tcp, count }]
        };
        let mut table = Table { is_redrawn: true, drawn: 0, before: Vec::new() };
        for (count, begin, end) in
            [(3, "\x1b[?7lendpoint", "+3\n\x1b[?7h"), (7, "\x1b[?7l\x1b[2F\x1b[J", "+4\n\x1b[?7h")]
        {
            let text = table.redrawn(&answered(count), Some(24));
            assert!(text.starts_with(begin) && text.ends_with(end), "{text:?}");
        }
        let mut log = Table { is_redrawn: false, drawn: 0, before: Vec::new() };
        let text = log.redrawn(&answered(3), None);
        assert!(!text.contains('\x1b') && text.ends_with("+3\n"), "{text:?}");
    }
}
