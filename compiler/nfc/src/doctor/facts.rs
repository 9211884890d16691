//! What there is to know about a node, read where the calling thread is.
//!
//! Invariant: reads, and changes nothing but what a knock at an endpoint's door leaves
//! behind; what it means is worked out elsewhere.

use super::counts::Counts;
use super::foreign::{self, Traffic, Trap};
use super::knock::{self, Door};
use super::movement::Reading;
use super::standing::{self, Standing};
use crate::inspect;
use crate::listing;
use nfc_backend::{Answer, AnyBackend, Apply, Process, Question, Refusal, addresses, counted};
use nfc_ir::{Family, Ir, ProxyMode, select};
use nfc_kernel::{Kernel, conntrack, link, statistics, sysctl, tables};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// Sysctls that decide about packets to Services.
const SYSCTLS: [&str; 8] = [
    FORWARD_V4,
    FORWARD_V6,
    ROUTE_LOCALNET,
    BRIDGE_V4,
    BRIDGE_V6,
    CONNECTIONS,
    CONNECTIONS_MAX,
    IPVS_CONNTRACK,
];

pub(super) const FORWARD_V4: &str = "net.ipv4.ip_forward";
pub(super) const FORWARD_V6: &str = "net.ipv6.conf.all.forwarding";
pub(super) const ROUTE_LOCALNET: &str = "net.ipv4.conf.all.route_localnet";
pub(super) const BRIDGE_V4: &str = "net.bridge.bridge-nf-call-iptables";
pub(super) const BRIDGE_V6: &str = "net.bridge.bridge-nf-call-ip6tables";
pub(super) const CONNECTIONS: &str = "net.netfilter.nf_conntrack_count";
pub(super) const CONNECTIONS_MAX: &str = "net.netfilter.nf_conntrack_max";
pub(super) const IPVS_CONNTRACK: &str = "net.ipv4.vs.conntrack";

/// What packets thrown away by `rp_filter` are counted as (`LINUX_MIB_IPRPFILTER`).
pub(super) const REVERSE_PATH_COUNTER: &str = "IPReversePathFilter";

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Families of which no rule should be there.
    pub bare: BTreeSet<Family>,
    /// How long to wait between two readings of what moves; `None` for one reading.
    pub watched: Option<Duration>,
    /// Whether to read other people's rules.
    pub foreign: bool,
    /// Whether to send nothing, not even a knock at an endpoint's door.
    pub passive: bool,
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// How the rules stand.
    pub rules: BTreeMap<Family, Standing>,
    /// Services that the rules of a family have, which should have none.
    pub left_over: BTreeMap<Family, Vec<String>>,
    /// Whose rules for Services there are.
    pub proxies: BTreeSet<Proxy>,
    /// The sysctls that exist.
    pub sysctls: BTreeMap<&'static str, String>,
    /// Links that take packets only from where they would answer to (`rp_filter` 1).
    pub strict_links: Vec<String>,
    /// How many packets such links have thrown away.
    pub reverse_path_drops: u64,
    /// All links.
    pub links: Vec<String>,
    /// The node's addresses.
    pub addresses: Vec<IpAddr>,
    /// Counters and tracked connections.
    pub now: Reading,
    /// The same from before, where it was waited between the two.
    pub before: Option<Reading>,
    /// How long that was.
    pub watched: Option<Duration>,
    /// What came of knocking at endpoints.
    pub doors: BTreeMap<Door, knock::Answer>,
    /// Where others drop packets; empty when nobody looked.
    pub traps: Vec<Trap>,
    /// What could not be read, or was not asked for.
    pub unread: Vec<String>,
}

/// Somebody who has rules for Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proxy {
    /// nfc, in nftables.
    Nft,
    /// nfc, in IPVS.
    Ipvs,
    /// kube-proxy or nfc, in iptables-legacy.
    IptablesLegacy,
    /// kube-proxy, by way of iptables-nft.
    IptablesNft,
    /// kube-proxy, in nftables.
    KubeProxyNft,
}

impl Proxy {
    /// All, in the order of the enum.
    pub const ALL: [Self; 5] =
        [Self::Nft, Self::Ipvs, Self::IptablesLegacy, Self::IptablesNft, Self::KubeProxyNft];

    /// What of it is there.
    #[must_use]
    pub fn trace(self) -> &'static str {
        match self {
            Self::Nft => "table nfc (nftables)",
            Self::Ipvs => "table nfc-ipvs (nftables), which goes with nfc's virtual servers",
            Self::IptablesLegacy => "chain KUBE-SERVICES in the nat table of iptables-legacy",
            Self::IptablesNft => "chain KUBE-SERVICES in the nat table of iptables-nft",
            Self::KubeProxyNft => "table kube-proxy (nftables)",
        }
    }

    /// A command that takes it away.
    #[must_use]
    pub fn removal(self) -> &'static str {
        match self {
            Self::Nft => "nfc delete --backend nft",
            Self::Ipvs => "nfc delete --backend ipvs",
            Self::IptablesLegacy => "nfc delete --backend iptables",
            Self::IptablesNft | Self::KubeProxyNft => "kube-proxy --cleanup",
        }
    }

    /// That of nfc which keeps the promises of `mode`.
    #[must_use]
    pub fn of(mode: ProxyMode) -> Self {
        match mode {
            ProxyMode::Nftables => Self::Nft,
            ProxyMode::Ipvs => Self::Ipvs,
            ProxyMode::Iptables => Self::IptablesLegacy,
        }
    }

    fn is_there(self, family: Family, kernel: &mut Kernel) -> Result<bool, io::Error> {
        let ipv6 = family == Family::Ipv6;
        match self.chain() {
            Some((table, chain)) => tables::has_chain(ipv6, table, chain),
            None => {
                let nat = legacy_rules(ipv6, &["-t", "nat"], kernel)?;
                Ok(nat.is_some_and(|text| text.contains("\n:KUBE-SERVICES ")))
            }
        }
    }

    /// A chain of nftables that it always has: the table and the name.
    fn chain(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Nft => Some(("nfc", "prerouting")),
            Self::Ipvs => Some(("nfc-ipvs", "nat-postrouting")),
            Self::IptablesNft => Some(("nat", "KUBE-SERVICES")),
            Self::KubeProxyNft => Some(("kube-proxy", "services")),
            Self::IptablesLegacy => None,
        }
    }
}

/// Reads everything.
///
/// # Errors
///
/// [`Refusal`] when the backend's own rules cannot be read. What else cannot be read is told
/// in [`Facts::unread`].
pub fn read(
    backend: &dyn AnyBackend,
    irs: &BTreeMap<Family, Ir>,
    request: &Request,
) -> Result<Facts, Refusal> {
    let mut facts = Facts { watched: request.watched, ..Facts::default() };
    let kernel = &mut Kernel::new();
    if let Some(watched) = request.watched {
        facts.before = Some(facts.read_traffic(backend.mode(), irs, kernel));
        // What could not be read is told once, of the second reading.
        facts.unread.clear();
        std::thread::sleep(watched);
    }
    for (family, ir) in irs {
        facts.rules.insert(*family, standing::read(backend, ir, kernel)?);
    }
    for family in &request.bare {
        facts.read_left_over(backend, *family, kernel)?;
    }
    let answers = kernel.ask(&[addresses::question()])?;
    facts.addresses = answers.first().map(addresses::read).unwrap_or_default();
    facts.links = link::list()?.into_iter().map(|link| link.name).collect();
    facts.read_sysctls();
    facts.now = facts.read_traffic(backend.mode(), irs, kernel);
    for family in irs.keys() {
        facts.read_proxies(*family, kernel);
    }
    if request.foreign {
        facts.read_foreign(&Traffic::of(irs.values()), kernel);
    } else {
        facts.unread.push("rules of others, which --look-at-foreign reads".to_owned());
    }
    if request.passive {
        facts.unread.push("whether endpoints listen, for --passive sends nothing".to_owned());
    } else {
        facts.knock(&doors(irs.values()));
    }
    Ok(facts)
}

/// The endpoints in use.
fn doors<'a>(irs: impl Iterator<Item = &'a Ir>) -> Vec<Door> {
    let mut doors = BTreeSet::new();
    for ir in irs {
        for service in ir.services() {
            let selection = select(service, ir.node());
            let used = selection.cluster.iter().chain(&selection.local);
            doors.extend(used.map(|endpoint| (endpoint.address, service.protocol)));
        }
    }
    doors.into_iter().collect()
}

impl Facts {
    fn read_sysctls(&mut self) {
        let found = SYSCTLS.iter().filter_map(|name| Some((*name, sysctl::read(name).ok()?)));
        self.sysctls = found.collect();
        let filter = |link: &str| sysctl::read(&format!("net/ipv4/conf/{link}/rp_filter")).ok();
        // The stricter of the two counts (`IN_DEV_RPFILTER`), and 2 is the looser.
        let value = |link: &str| filter(link)?.parse::<u8>().ok();
        let all = value("all").unwrap_or(0);
        let is_strict = |link: &&String| value(link).is_some_and(|own| own.max(all) == 1);
        self.strict_links = self.links.iter().filter(is_strict).cloned().collect();
        match statistics::tcp_extended(REVERSE_PATH_COUNTER) {
            Ok(count) => self.reverse_path_drops = count.unwrap_or(0),
            Err(error) => self.unread.push(format!("packets dropped by rp_filter: {error}")),
        }
    }

    fn read_traffic(
        &mut self,
        mode: ProxyMode,
        irs: &BTreeMap<Family, Ir>,
        kernel: &mut Kernel,
    ) -> Reading {
        let mut reading = Reading::default();
        match counts(mode, irs.keys().copied(), kernel) {
            Ok(counts) => reading.counts = counts,
            Err(error) => self.unread.push(format!("what the rules counted: {error}")),
        }
        match conntrack::list() {
            Ok(connections) => reading.connections = connections,
            Err(error) => self.unread.push(format!("tracked connections: {error}")),
        }
        reading
    }

    /// Rules that are there but name no Service, as those of a node that has none, do no harm.
    fn read_left_over(
        &mut self,
        backend: &dyn AnyBackend,
        family: Family,
        kernel: &mut Kernel,
    ) -> Result<(), Refusal> {
        match Proxy::of(backend.mode()).is_there(family, kernel) {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) => {
                self.unread.push(format!("{family} rules that may be left over: {error}"));
                return Ok(());
            }
        }
        let listings = [(family, listing::read(backend, family, kernel)?)].into();
        let services = inspect::inspect(&listings, &[], &[]).services.into_iter();
        let services: Vec<_> = services.map(|usage| usage.service).collect();
        if !services.is_empty() {
            self.left_over.insert(family, services);
        }
        Ok(())
    }

    fn read_proxies(&mut self, family: Family, kernel: &mut Kernel) {
        for proxy in Proxy::ALL {
            match proxy.is_there(family, kernel) {
                Ok(true) => drop(self.proxies.insert(proxy)),
                Ok(false) => {}
                Err(error) => self.unread.push(format!("{}, {family}: {error}", proxy.trace())),
            }
        }
    }

    fn knock(&mut self, doors: &[Door]) {
        self.doors = knock::knock(doors);
        if let Some(spared) = doors.len().checked_sub(knock::ASKED_MAX).filter(|n| *n > 0) {
            let spared = counted(spared, "more endpoint");
            self.unread.push(format!("who listens at {spared}"));
        }
    }

    fn read_foreign(&mut self, traffic: &Traffic, kernel: &mut Kernel) {
        match ask(kernel, "nft", &["list", "ruleset"]) {
            Ok(text) => self.traps.extend(foreign::in_nft(&text, traffic)),
            Err(error) => self.unread.push(format!("other tables of nftables: {error}")),
        }
        for (ipv6, program) in [(false, "iptables-legacy-save"), (true, "ip6tables-legacy-save")] {
            if statistics::legacy_tables(ipv6).is_ok_and(|tables| tables.is_empty()) {
                continue;
            }
            match ask(kernel, program, &[]) {
                Ok(text) => self.traps.extend(foreign::in_iptables(&text, traffic)),
                Err(error) => self.unread.push(format!("rules of {program}: {error}")),
            }
        }
    }
}

/// What rules and virtual servers counted; `None` where they do not.
fn counts(
    mode: ProxyMode,
    families: impl Iterator<Item = Family>,
    kernel: &mut Kernel,
) -> Result<Option<Counts>, io::Error> {
    match mode {
        ProxyMode::Nftables => Ok(None),
        ProxyMode::Ipvs => {
            let args = ["--list", "--numeric", "--stats", "--exact"];
            let text = ask(kernel, "ipvsadm", &args).map_err(io::Error::other)?;
            Ok(Some(Counts::in_ipvs(&text)))
        }
        ProxyMode::Iptables => {
            let mut counts = Counts::default();
            for family in families {
                let text = legacy_rules(family == Family::Ipv6, &["--counters"], kernel)?;
                counts.extend(Counts::in_iptables(&text.unwrap_or_default(), family));
            }
            Ok(Some(counts))
        }
    }
}

/// What `iptables-legacy-save` prints, `None` where there is no nat table. The tool would
/// make the tables by listing them, so it is asked only where they are.
fn legacy_rules(
    ipv6: bool,
    args: &[&str],
    kernel: &mut Kernel,
) -> Result<Option<String>, io::Error> {
    if !statistics::legacy_tables(ipv6)?.iter().any(|table| table == "nat") {
        return Ok(None);
    }
    let program = if ipv6 { "ip6tables-legacy-save" } else { "iptables-legacy-save" };
    ask(kernel, program, args).map(Some).map_err(io::Error::other)
}

fn ask(kernel: &mut Kernel, program: &'static str, args: &[&str]) -> Result<String, Refusal> {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    let process = Process { program, args, stdin: String::new() };
    let answers = kernel.ask(&[Question::Process(process)])?;
    let text = answers.first().map(|Answer(bytes)| String::from_utf8_lossy(bytes).into_owned());
    Ok(text.unwrap_or_default())
}
