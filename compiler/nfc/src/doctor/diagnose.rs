//! From facts to findings: the checklist for a Service that cannot be reached.
//!
//! Invariant: pure; each check looks at one thing and says what it saw.

use super::connections;
use super::facts::{self, Facts, Proxy};
use super::finding::{Finding, Kind};
use super::foreign::{Harm, Trap};
use super::knock::Answer;
use super::standing::Standing;
use crate::listing::Difference;
use nfc_backend::counted;
use nfc_ir::{
    Family, Ir, LocalDetector, Node, ProxyMode, Selection, Service, ServiceName, TrafficPolicy,
    select,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// A node: what it should do, and what was found there.
#[derive(Clone, Copy, Debug)]
pub struct Patient<'a> {
    /// Name of the backend.
    pub backend: &'static str,
    /// The mode whose promises it keeps.
    pub mode: ProxyMode,
    /// The Services of each family.
    pub irs: &'a BTreeMap<Family, Ir>,
    /// What was found.
    pub facts: &'a Facts,
}

/// Everything that is wrong, the causes first.
#[must_use]
pub fn diagnose(patient: Patient<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    findings.extend(patient.proxies());
    findings.extend(patient.rules());
    findings.extend(patient.left_over());
    findings.extend(patient.forwarding());
    findings.extend(patient.traps());
    findings.extend(patient.reverse_path());
    findings.extend(patient.connection_room());
    findings.extend(patient.endpoints());
    findings.extend(patient.doors());
    findings.extend(connections::findings(patient));
    findings.extend(patient.pods());
    findings.extend(patient.loopback());
    findings.extend(patient.bridge());
    findings.sort_by_key(|finding| finding.kind);
    findings
}

impl<'a> Patient<'a> {
    pub(super) fn services(self) -> impl Iterator<Item = (&'a Node, &'a Service)> {
        self.irs.values().flat_map(|ir| ir.services().iter().map(|s| (ir.node(), s)))
    }

    fn own_proxy(self) -> Proxy {
        Proxy::of(self.mode)
    }

    pub(super) fn apply_command(self) -> String {
        let layout = match self.backend {
            "nft-constant-time" => "nft --layout constant-time",
            name => name,
        };
        format!("nfc apply --backend {layout} MANIFESTS")
    }

    fn proxies(self) -> Option<Finding> {
        let own = self.own_proxy();
        let others: Vec<_> = self.facts.proxies.iter().filter(|proxy| **proxy != own).collect();
        if others.is_empty() || !self.facts.proxies.contains(&own) {
            return None;
        }
        let says = format!("{} proxies have rules for Services here", others.len() + 1);
        let mut finding = Finding::new(Kind::TwoProxies, says).seen("the node", own.trace());
        for other in others {
            finding = finding.seen("the node", other.trace()).remedy(other.removal());
        }
        Some(finding)
    }

    fn rules(self) -> Vec<Finding> {
        let mut missing = Finding::new(Kind::RulesMissing, "the node has no rules of nfc's");
        let mut findings = Vec::new();
        for (family, standing) in &self.facts.rules {
            match standing {
                Standing::AsCompiled => {}
                Standing::Missing => {
                    missing = missing.seen(format!("{} rules, {family}", self.backend), "none");
                }
                Standing::Drifted(differences) => {
                    findings.push(self.drift(*family, differences));
                }
            }
        }
        if !missing.evidence.is_empty() {
            for other in &self.facts.proxies {
                missing = missing.seen("instead", other.trace());
            }
            findings.push(missing.remedy(self.apply_command()));
        }
        findings
    }

    fn drift(self, family: Family, differences: &[Difference]) -> Finding {
        let lacks = |d: &Difference| !d.is_there && d.line.to_lowercase().contains("masquerade");
        let mut finding = if differences.iter().any(lacks) {
            let says = format!("rules that masquerade are missing, {family}");
            Finding::new(Kind::MasqueradeMissing, says)
        } else {
            let says = format!("the {family} rules are not those of the manifests");
            Finding::new(Kind::RulesDrifted, says)
        };
        for difference in differences {
            let Difference { place, is_there, line } = difference;
            let sign = if *is_there { "there, but should not be" } else { "missing" };
            finding = finding.seen(place, format!("{sign}: {line}"));
        }
        let mentioned = Mentioned::of(differences.iter().map(|d| d.line.as_str()));
        let services = self.irs.get(&family).map_or(&[][..], Ir::services);
        let named = services.iter().filter(|service| mentioned.is_about(service));
        finding.about(named.map(|s| s.name.clone())).remedy(self.apply_command())
    }

    fn left_over(self) -> Vec<Finding> {
        let finding = |(family, services): (&Family, &Vec<String>)| {
            let says = format!("no Service is {family}, and rules for such are left over");
            let place = format!("{} rules, {family}", self.backend);
            let seen = |f: Finding, service: &String| f.seen(&place, service);
            let option = family.to_string().to_lowercase();
            let remedy = format!("{} --family {option}", self.own_proxy().removal());
            services.iter().fold(Finding::new(Kind::RulesLeftOver, says), seen).remedy(remedy)
        };
        self.facts.left_over.iter().map(finding).collect()
    }

    fn forwarding(self) -> Vec<Finding> {
        let switches = [(Family::Ipv4, facts::FORWARD_V4), (Family::Ipv6, facts::FORWARD_V6)];
        let is_off = |name| self.facts.sysctls.get(name).is_some_and(|value| value == "0");
        let needs = |family: &Family| {
            let services = self.irs.get(family).map_or(&[][..], Ir::services).iter();
            services.flat_map(|s| &s.endpoints).any(|e| !self.is_own(e.address.ip()))
        };
        let off = switches.into_iter().filter(|(family, name)| needs(family) && is_off(*name));
        let finding = |(family, name): (Family, &str)| {
            Finding::new(Kind::ForwardingOff, format!("the node does not forward {family}"))
                .seen(format!("sysctl {name}"), "0")
                .remedy(format!("sysctl -w {name}=1"))
        };
        off.map(finding).collect()
    }

    fn is_own(self, ip: IpAddr) -> bool {
        self.facts.addresses.contains(&ip)
    }

    fn traps(self) -> Vec<Finding> {
        let drop = Finding::new(Kind::ForeignDrop, "rules of others may drop packets to Services");
        let untracked = Finding::new(
            Kind::ForeignUntracked,
            "rules of others may let packets to Services go untracked, and so unchanged",
        );
        let policy = Finding::new(
            Kind::ForeignPolicy,
            "a chain of somebody else drops what it does not accept by name",
        );
        let kinds = [(Harm::Drop, drop), (Harm::Untracked, untracked), (Harm::Policy, policy)];
        let mut findings = Vec::new();
        for (harm, finding) in kinds {
            let traps: Vec<_> = self.facts.traps.iter().filter(|t| t.harm == harm).collect();
            if let Some(first) = traps.first() {
                let remedy = format!("see who wrote {}: nft -a list ruleset", first.place);
                let seen = |f: Finding, trap: &&Trap| f.seen(&trap.place, &trap.rule);
                findings.push(traps.iter().fold(finding, seen).remedy(remedy));
            }
        }
        findings
    }

    fn reverse_path(self) -> Option<Finding> {
        let Facts { strict_links, reverse_path_drops, .. } = self.facts;
        if strict_links.is_empty() || *reverse_path_drops == 0 {
            return None;
        }
        let packets = usize::try_from(*reverse_path_drops).unwrap_or(usize::MAX);
        let packets = counted(packets, "packet");
        let says = format!("{packets} came in where no answer would go out");
        let counter = format!("TcpExt{}", facts::REVERSE_PATH_COUNTER);
        let mut finding = Finding::new(Kind::ReversePath, says)
            .seen(counter, reverse_path_drops.to_string())
            .remedy("nstat -az TcpExtIPReversePathFilter, twice: does it grow?");
        for link in strict_links {
            finding = finding.seen(format!("sysctl net.ipv4.conf.{link}.rp_filter"), "1 (strict)");
        }
        // Names of links may hold dots, which sysctl(8) takes for slashes.
        Some(finding.remedy("sysctl -w net.ipv4.conf.all.rp_filter=2"))
    }

    fn connection_room(self) -> Option<Finding> {
        let number = |name| self.facts.sysctls.get(name)?.parse::<u64>().ok();
        let (count, max) = (number(facts::CONNECTIONS)?, number(facts::CONNECTIONS_MAX)?);
        if max == 0 || count < max - max / 20 {
            return None;
        }
        let finding = Finding::new(Kind::ConnectionsFull, "the table of connections is full")
            .seen(format!("sysctl {}", facts::CONNECTIONS), count.to_string())
            .seen(format!("sysctl {}", facts::CONNECTIONS_MAX), max.to_string());
        Some(finding.remedy(format!("sysctl -w {}={}", facts::CONNECTIONS_MAX, max * 2)))
    }

    fn endpoints(self) -> Vec<Finding> {
        let mut none = Finding::new(Kind::NoEndpoints, "Services have no endpoint to send to");
        let says = "Services keep to endpoints of this node, and there is none";
        let mut no_local = Finding::new(Kind::NoLocalEndpoints, says);
        for (node, service) in self.services() {
            let name = &service.name;
            let selection = select(service, node);
            if !selection.any {
                none = none
                    .seen(format!("manifests, {name}"), endpoint_counts(service))
                    .about([name.clone()]);
            } else if let Some(policy) = self.lacks_local(service, &selection) {
                let on = if node.name.is_empty() { "a node without a name" } else { &node.name };
                let elsewhere = format!("{policy}: Local, and no endpoint on {on}");
                let ServiceName { namespace, name: bare, .. } = name;
                no_local = no_local
                    .seen(format!("manifests, {name}"), elsewhere)
                    .about([name.clone()])
                    .remedy(format!(
                        "kubectl patch service -n {namespace} {bare} -p \
                         '{{\"spec\":{{\"{policy}\":\"Cluster\"}}}}'"
                    ));
            }
        }
        let mut findings = Vec::new();
        if let Some(ServiceName { namespace, name, .. }) = none.services.first().cloned() {
            let slices = "kubectl get endpointslices";
            let label = format!("kubernetes.io/service-name={name}");
            let pods = format!("kubectl describe service -n {namespace} {name}");
            findings.push(none.remedy(format!("{slices} -n {namespace} -l {label}")).remedy(pods));
        }
        if !no_local.services.is_empty() {
            no_local.remedy.truncate(1);
            findings.push(no_local);
        }
        findings
    }

    /// The policy that has nobody to send to on this node, in a mode that then sends nowhere.
    fn lacks_local(self, service: &Service, selection: &Selection<'_>) -> Option<&'static str> {
        let is_lost = selection.local.is_empty() && !self.mode.local_falls_back_to_all();
        local_policy(service).filter(|_| is_lost)
    }

    fn doors(self) -> Vec<Finding> {
        let kinds = [
            (Answer::Closed, Kind::NothingListens, "nothing listens at the port of an endpoint"),
            (Answer::Silent, Kind::Unreachable, "endpoints do not answer"),
        ];
        let mut findings = Vec::new();
        for (answer, kind, says) in kinds {
            let shut = self.facts.doors.iter().filter(|(_, found)| **found == answer);
            let mut finding = Finding::new(kind, says);
            for ((endpoint, protocol), _) in shut {
                let leads = |s: &&Service| {
                    s.protocol == *protocol && s.endpoints.iter().any(|e| e.address == *endpoint)
                };
                let named = self.services().map(|(_, s)| s).filter(leads);
                let read = match answer {
                    Answer::Closed => "the port is closed",
                    _ => "no answer within a second",
                };
                finding = finding
                    .seen(format!("{protocol} {endpoint}, asked from here"), read)
                    .about(named.map(|s| s.name.clone()));
            }
            let Some(service) = finding.services.first().cloned() else { continue };
            let remedy = match kind {
                Kind::NothingListens => format!(
                    "compare spec.ports[].targetPort with the container: kubectl get service -n {} \
                     {} -o yaml",
                    service.namespace, service.name
                ),
                _ => "is there a way to the pod? ip route get ENDPOINT".to_owned(),
            };
            findings.push(finding.remedy(remedy));
        }
        findings
    }

    fn pods(self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (family, ir) in self.irs {
            let endpoints = ir.services().iter().flat_map(|s| &s.endpoints);
            let pods: BTreeSet<_> =
                endpoints.map(|e| e.address.ip()).filter(|ip| !self.is_own(*ip)).collect();
            if pods.is_empty() {
                continue;
            }
            findings.extend(self.detector(*family, ir.node(), &pods));
        }
        findings
    }

    fn detector(self, family: Family, node: &Node, pods: &BTreeSet<IpAddr>) -> Option<Finding> {
        let links = &self.facts.links;
        let (setting, is_right) = match &node.local_detector {
            LocalDetector::None if node.masquerade_all => return None,
            LocalDetector::None => {
                let says =
                    format!("nothing tells {family} pods from strangers, who are masqueraded");
                let read = "no cluster CIDR, bridge or interface prefix";
                let finding = Finding::new(Kind::PodsUnknown, says).seen("settings", read);
                return Some(finding.remedy("pass --cluster-cidr, or --config kube-proxy.yaml"));
            }
            LocalDetector::SourceBlock(block) => {
                let inside = pods.iter().any(|ip| block.contains(ip));
                (format!("cluster CIDR {block}"), inside)
            }
            LocalDetector::Bridge(name) => (format!("bridge {name}"), links.contains(name)),
            LocalDetector::InterfacePrefix(prefix) => {
                let named = links.iter().any(|link| link.starts_with(prefix.as_str()));
                (format!("interface prefix {prefix}"), named)
            }
        };
        if is_right {
            return None;
        }
        let shown: Vec<_> = pods.iter().take(3).map(IpAddr::to_string).collect();
        let says = format!("by the settings no {family} endpoint is a pod of this cluster");
        let finding = Finding::new(Kind::PodsNotRecognised, says)
            .seen("settings", setting)
            .seen("manifests", format!("endpoints {}", shown.join(", ")));
        Some(finding.remedy("kubectl cluster-info dump | grep -m1 cluster-cidr"))
    }

    fn loopback(self) -> Option<Finding> {
        let ir = self.irs.get(&Family::Ipv4)?;
        let is_served = ir.node().serves_localhost(self.mode, Family::Ipv4);
        let has_port = |s: &&Service| s.node_port.is_some();
        let named: Vec<_> = ir.services().iter().filter(has_port).collect();
        let is_closed = self.facts.sysctls.get(facts::ROUTE_LOCALNET).is_some_and(|v| v == "0");
        if !is_served || named.is_empty() || !is_closed {
            return None;
        }
        let finding = Finding::new(Kind::LoopbackClosed, "node ports do not answer on 127.0.0.1")
            .seen(format!("sysctl {}", facts::ROUTE_LOCALNET), "0")
            .about(named.iter().map(|s| s.name.clone()));
        Some(finding.remedy(format!("sysctl -w {}=1", facts::ROUTE_LOCALNET)))
    }

    /// The sysctl exists where the module is loaded; without a bridge nobody needs it.
    fn bridge(self) -> Option<Finding> {
        let switches = [(Family::Ipv4, facts::BRIDGE_V4), (Family::Ipv6, facts::BRIDGE_V6)];
        let says = "packets between pods of one bridge do not meet the rules";
        let mut finding = Finding::new(Kind::BridgeUnfiltered, says);
        for (family, name) in switches {
            let Some(ir) = self.irs.get(&family) else { continue };
            let has_bridge = matches!(ir.node().local_detector, LocalDetector::Bridge(_));
            match self.facts.sysctls.get(name).map(String::as_str) {
                Some("0") => finding = finding.seen(format!("sysctl {name}"), "0"),
                None if has_bridge => {
                    finding = finding.seen(format!("sysctl {name}"), "not there: no br_netfilter");
                }
                _ => continue,
            }
            finding = finding.remedy(format!("modprobe br_netfilter; sysctl -w {name}=1"));
        }
        (!finding.evidence.is_empty()).then_some(finding)
    }
}

fn endpoint_counts(service: &Service) -> String {
    let total = counted(service.endpoints.len(), "endpoint");
    let ready = service.endpoints.iter().filter(|e| e.ready).count();
    format!("{total}, {ready} of them ready")
}

/// The policy that keeps to this node, if one does.
fn local_policy(service: &Service) -> Option<&'static str> {
    if service.internal_policy == TrafficPolicy::Local {
        Some("internalTrafficPolicy")
    } else if service.external_policy == TrafficPolicy::Local && service.is_external() {
        Some("externalTrafficPolicy")
    } else {
        None
    }
}

/// The names and addresses that lines of a listing hold.
#[derive(Debug, Default)]
struct Mentioned<'a> {
    words: BTreeSet<&'a str>,
    addresses: BTreeSet<IpAddr>,
}

impl<'a> Mentioned<'a> {
    fn of(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut mentioned = Self::default();
        let is_gap = |c: char| c.is_whitespace() || matches!(c, '"' | ',');
        for word in lines.flat_map(|line| line.split(is_gap)).filter(|word| !word.is_empty()) {
            let block = word.split('/').next().and_then(|ip| ip.parse::<IpAddr>().ok());
            let end = || word.parse::<SocketAddr>().ok().map(|end| end.ip());
            mentioned.addresses.extend(block.or_else(end));
            mentioned.words.insert(word);
        }
        mentioned
    }

    /// Whether they name `service`, one of its addresses, or one of its endpoints.
    fn is_about(&self, service: &Service) -> bool {
        let outside = service.external_ips.iter().chain(&service.load_balancer_ips).copied();
        let endpoints = service.endpoints.iter().map(|e| e.address.ip());
        let mut own = outside.chain(endpoints).chain([service.cluster_ip]);
        self.words.contains(service.name.to_string().as_str())
            || own.any(|ip| self.addresses.contains(&ip))
    }
}
