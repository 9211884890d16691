//! The configuration file of kube-proxy: KubeProxyConfiguration
//! (kubeproxy.config.k8s.io/v1alpha1).
//!
//! Fields that do not change what happens to a packet are let through unread.
//!
//! Invariant: one object into [`Settings`]; knows no Kubernetes objects beside it.

use crate::address::{longest_prefix, parse_address};
use crate::diagnostic::Finding;
use crate::place::At;
use crate::reader::{Fields, Reader, nearest};
use crate::settings::{DetectLocal, Ipvs, Masquerade, NodePortAddress, Settings};
use crate::tree::Tree;
use ipnet::IpNet;
use nfc_ir::{Family, IpvsScheduler, ProxyMode};

pub(crate) const KIND: &str = "KubeProxyConfiguration";
pub(crate) const VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
/// Where kubeadm's ConfigMap keeps the configuration.
pub(crate) const KEY: &str = "config.conf";

const MODES: [(&str, ProxyMode); 3] = [
    ("iptables", ProxyMode::Iptables),
    ("ipvs", ProxyMode::Ipvs),
    ("nftables", ProxyMode::Nftables),
];

const DETECT_LOCAL: [(&str, DetectLocal); 4] = [
    ("ClusterCIDR", DetectLocal::ClusterCidr),
    ("NodeCIDR", DetectLocal::NodeCidr),
    ("BridgeInterface", DetectLocal::BridgeInterface),
    ("InterfaceNamePrefix", DetectLocal::InterfaceNamePrefix),
];

/// All fields of the configuration, up to v1.36.
const FIELDS: [&str; 30] = [
    "apiVersion",
    "kind",
    "featureGates",
    "clientConnection",
    "logging",
    "hostnameOverride",
    "bindAddress",
    "healthzBindAddress",
    "metricsBindAddress",
    "bindAddressHardFail",
    "enableProfiling",
    "showHiddenMetricsForVersion",
    "mode",
    "iptables",
    "ipvs",
    "nftables",
    "winkernel",
    "detectLocalMode",
    "detectLocal",
    "clusterCIDR",
    "nodePortAddresses",
    "oomScoreAdj",
    "conntrack",
    "configSyncPeriod",
    "portRange",
    "windowsRunAsService",
    "udpIdleTimeout",
    "resourceContainer",
    "linux",
    "windows",
];

const IPTABLES_FIELDS: [&str; 6] = [
    "masqueradeBit",
    "masqueradeAll",
    "localhostNodePorts",
    "snatNodeInternalIP",
    "syncPeriod",
    "minSyncPeriod",
];

const NFTABLES_FIELDS: [&str; 4] =
    ["masqueradeBit", "masqueradeAll", "syncPeriod", "minSyncPeriod"];

const IPVS_FIELDS: [&str; 8] = [
    "syncPeriod",
    "minSyncPeriod",
    "scheduler",
    "excludeCIDRs",
    "strictARP",
    "tcpTimeout",
    "tcpFinTimeout",
    "udpTimeout",
];

const DETECT_LOCAL_FIELDS: [&str; 2] = ["bridgeInterface", "interfaceNamePrefix"];

/// Reads the configuration at `tree`.
pub(crate) fn read(reader: &mut Reader<'_>, tree: &Tree<'_>) -> Settings {
    let mut settings = Settings::default();
    let Some(root) = reader.fields(tree) else {
        return settings;
    };
    root.check(reader, &FIELDS);
    let mode = root.word(reader, "mode", &MODES);
    settings.mode = mode.unwrap_or(settings.mode);
    if let Some(name) = root.optional_text(reader, "hostnameOverride") {
        name.value.clone_into(&mut settings.hostname);
    }
    read_bind_address(reader, &root, &mut settings);
    read_node_port_addresses(reader, &root, &mut settings);
    settings.cluster_cidrs = comma_separated(reader, &root, "clusterCIDR");
    read_detect_local(reader, &root, &mut settings);
    if let Some(iptables) = root.fields(reader, "iptables") {
        iptables.check(reader, &IPTABLES_FIELDS);
        settings.iptables = masquerade(reader, &iptables);
        let localhost = iptables.truth(reader, "localhostNodePorts");
        settings.localhost_node_ports = localhost.unwrap_or(true);
    }
    if let Some(nftables) = root.fields(reader, "nftables") {
        nftables.check(reader, &NFTABLES_FIELDS);
        settings.nftables = masquerade(reader, &nftables);
    }
    if let Some(ipvs) = root.fields(reader, "ipvs") {
        settings.ipvs = read_ipvs(reader, &ipvs);
    }
    let conntrack = root.fields(reader, "conntrack");
    let liberal = conntrack.and_then(|c| c.truth(reader, "tcpBeLiberal"));
    settings.conntrack_liberal = liberal.unwrap_or(false);
    settings
}

/// `bindAddress` names the node's primary address, unless it is the unspecified one. With
/// it, the node's other addresses are not known.
fn read_bind_address(reader: &mut Reader<'_>, root: &Fields<'_, '_>, settings: &mut Settings) {
    let written = root.get("bindAddress").filter(|tree| !tree.is_text(""));
    let address = written.and_then(|tree| reader.address(tree));
    let specified = address.filter(|a| !a.value.is_unspecified());
    settings.node_ips = specified.map(|a| a.value).into_iter().collect();
}

fn read_node_port_addresses(
    reader: &mut Reader<'_>,
    root: &Fields<'_, '_>,
    settings: &mut Settings,
) {
    for item in root.list(reader, "nodePortAddresses") {
        let Some(text) = reader.text(item) else {
            continue;
        };
        match text.value.parse::<NodePortAddress>() {
            Ok(address) => settings.node_port_addresses.push(address),
            Err(_) => reader.find(no_node_port_address(text)),
        }
    }
}

fn no_node_port_address(text: At<&str>) -> Finding {
    let mut finding = Finding::new(
        text.span,
        format!("`{}` is not a block of addresses", text.value),
        "expected one like 192.168.0.0/16, or primary, localhost or all",
    );
    let keyword = nearest(text.value, &["primary", "localhost", "all"]);
    finding.help = match (keyword, parse_address(text.value)) {
        (Some(keyword), _) => Some(format!("did you mean `{keyword}`?")),
        (None, Ok(address)) => {
            let longest = longest_prefix(Family::of(address));
            Some(format!("write {address}/{longest} for this one address"))
        }
        (None, Err(_)) => None,
    };
    finding
}

fn comma_separated(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, key: &str) -> Vec<IpNet> {
    let Some(text) = fields.optional_text(reader, key) else {
        return Vec::new();
    };
    let mut blocks = Vec::new();
    for part in text.value.split(',').filter(|p| !p.trim().is_empty()) {
        let place = At { value: part, span: reader.view().part(text, part) };
        blocks.extend(reader.block_in(place).map(|b| b.value));
    }
    blocks
}

/// The interface modes need the interface's name; kube-proxy does not start without it
/// (`validateDetectLocalConfiguration`).
fn read_detect_local(reader: &mut Reader<'_>, root: &Fields<'_, '_>, settings: &mut Settings) {
    let mode = root.word(reader, "detectLocalMode", &DETECT_LOCAL);
    settings.detect_local = mode.unwrap_or_default();
    let fields = root.fields(reader, "detectLocal");
    if let Some(fields) = fields {
        fields.check(reader, &DETECT_LOCAL_FIELDS);
    }
    let mut text = |key| {
        let text = fields.and_then(|f| f.optional_text(reader, key));
        text.map(|t| t.value.to_owned()).unwrap_or_default()
    };
    settings.bridge_interface = text("bridgeInterface");
    settings.interface_name_prefix = text("interfaceNamePrefix");
    let (needed, empty) = match settings.detect_local {
        DetectLocal::BridgeInterface => ("bridgeInterface", settings.bridge_interface.is_empty()),
        DetectLocal::InterfaceNamePrefix => {
            ("interfaceNamePrefix", settings.interface_name_prefix.is_empty())
        }
        _ => return,
    };
    if empty {
        let title = format!("detectLocalMode {} names no interface", settings.detect_local);
        let span = root.get("detectLocalMode").map_or(root.span(), |m| m.span);
        reader.find(
            Finding::new(span, title, format!("this needs `detectLocal.{needed}`"))
                .help(format!("add `detectLocal: {{{needed}: ...}}`")),
        );
    }
}

fn masquerade(reader: &mut Reader<'_>, fields: &Fields<'_, '_>) -> Masquerade {
    let bit = fields
        .get("masqueradeBit")
        .and_then(|tree| reader.integer(tree, 0..=31, "bit of a packet mark"));
    let all = fields.truth(reader, "masqueradeAll");
    let default = Masquerade::default();
    Masquerade {
        all: all.unwrap_or(default.all),
        bit: bit.and_then(|b| u8::try_from(b).ok()).unwrap_or(default.bit),
    }
}

fn read_ipvs(reader: &mut Reader<'_>, fields: &Fields<'_, '_>) -> Ipvs {
    fields.check(reader, &IPVS_FIELDS);
    let scheduler = fields.optional_text(reader, "scheduler").filter(|s| !s.value.is_empty());
    let choices = IpvsScheduler::ALL.map(|s| (s.name(), s));
    let scheduler = scheduler.and_then(|s| reader.word_in(s, "scheduler of IPVS", &choices));
    let excluded = fields.list(reader, "excludeCIDRs").iter();
    Ipvs {
        scheduler: scheduler.unwrap_or_default(),
        exclude_cidrs: excluded.filter_map(|item| reader.block(item)).map(|b| b.value).collect(),
        strict_arp: fields.truth(reader, "strictARP").unwrap_or(false),
        tcp_timeout_seconds: seconds(reader, fields, "tcpTimeout"),
        tcp_fin_timeout_seconds: seconds(reader, fields, "tcpFinTimeout"),
        udp_timeout_seconds: seconds(reader, fields, "udpTimeout"),
    }
}

fn seconds(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, key: &str) -> u32 {
    let Some(text) = fields.optional_text(reader, key) else {
        return 0;
    };
    duration(text.value).unwrap_or_else(|| {
        reader.find(
            Finding::new(
                text.span,
                format!("`{}` is not a duration", text.value),
                "expected one like 30s, 15m or 1h30m",
            )
            .help("0s leaves the kernel's own timeout"),
        );
        0
    })
}

/// A duration as Go's `time.ParseDuration` reads it, in whole seconds; fractions are cut.
fn duration(text: &str) -> Option<u32> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() && rest != "0" {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[end..];
    }
    whole_seconds(total)
}

fn whole_seconds(seconds: f64) -> Option<u32> {
    let duration = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    u32::try_from(duration.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_does() {
        for (text, seconds) in [
            ("0s", Some(0)),
            ("0", Some(0)),
            ("15m0s", Some(900)),
            ("1h30m", Some(5400)),
            ("1500ms", Some(1)),
            ("2.5h", Some(9000)),
            ("15", None),
            ("s", None),
            ("15 m", None),
            ("five minutes", None),
        ] {
            assert_eq!(duration(text), seconds, "{text}");
        }
    }
}
