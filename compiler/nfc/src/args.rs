//! What the user may type.
//!
//! Flags that kube-proxy has carry its names and mean the same.
//!
//! Invariant: words only; nothing here reads a file or knows what a setting does.

use crate::check_command::Check;
use crate::completions_command::Completions;
use crate::diff_command::Diff;
use crate::doctor_command::Doctor;
use crate::explain_command::Explain;
use crate::inspect_command::Inspect;
use crate::lab_command::Lab;
use crate::man_command::ManPages;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use nfc_ir::{Family, IpvsScheduler};
use nfc_manifest::{DetectLocal, NodePortAddress, Overrides};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

/// Compiles Kubernetes Services to kernel packet rules.
#[derive(Debug, Parser)]
#[command(name = "nfc", version, max_term_width = 110)]
#[command(long_about = "\
Compiles Kubernetes Services to kernel packet rules: nftables, iptables (legacy) or IPVS.

The same Services mean the same in every backend, and the same as in the kube-proxy mode of
that name. Objects that nfc does not know are passed over with a warning, so the output of
kubectl can be fed in as it is.")]
#[command(after_long_help = "\
Examples:
  nfc compile --backend nft svc.yaml
  kubectl get services,endpointslices,nodes -A -o yaml \\
      | nfc compile --backend iptables --node worker-1 -
  sudo nfc apply --netns lab --cluster-cidr 10.244.0.0/16 manifests/
  sudo nfc delete --netns lab
  nfc explain 'tcp 10.244.1.5 > 10.96.45.123:80' svc.yaml
  nfc diff old.yaml new.yaml
  nfc check manifests/
  sudo nfc lab svc.yaml -- curl -s 10.96.45.123
  sudo nfc doctor --cluster-cidr 10.244.0.0/16 manifests/
  sudo nfc inspect --watch
  sudo nfc man /usr/local/share/man/man1

Exit codes: 0 done, 1 input refused, 2 the environment lacks something, 3 the kernel refused,
4 what diff compared differs.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Compile(Compile),
    Apply(Apply),
    Delete(Delete),
    Explain(Explain),
    Diff(Diff),
    Check(Check),
    Lab(Lab),
    Doctor(Doctor),
    Inspect(Inspect),
    Completions(Completions),
    Man(ManPages),
}

/// Print the rules that Services compile to
///
/// What is printed loads: `nft -f -` takes the nft text, `iptables-legacy-restore
/// --noflush` the iptables text. Loading nft text replaces an older nfc table in the same
/// transaction and leaves other tables alone. iptables-restore has no way to insert a rule
/// unless it is there: on a node that already has rules, pass its dump with --replacing.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  nfc compile --backend nft examples/web.yaml | sudo nft -f -
  nfc compile --backend iptables --family ipv4 svc.yaml \\
      | sudo iptables-legacy-restore --noflush
  sudo iptables-legacy-save > now
  nfc compile --backend iptables --family ipv4 --replacing now svc.yaml

Exit codes: 0 printed, 1 input refused, 2 standard output cannot be written.")]
pub(crate) struct Compile {
    #[command(flatten)]
    pub(crate) backend: BackendArg,
    #[command(flatten)]
    pub(crate) input: Input,
    /// What to print: the backend's program, or the Services as nfc understood them.
    #[arg(long, value_enum, default_value_t = Emit::Program)]
    pub(crate) emit: Emit,
    /// An iptables-save dump of the node: only the jumps that it lacks are added, and its
    /// chains for Services that are gone are deleted (iptables, one family).
    #[arg(long, value_name = "DUMP")]
    pub(crate) replacing: Option<PathBuf>,
}

/// Load Services into the kernel, in place of what nfc loaded before
///
/// nftables and IPVS are told over netlink. What is there already is read first and only what
/// differs is sent, so that what others changed in nfc's rules is repaired. Packets meet either
/// the old nftables rules or the new; what IPVS is told goes step by step. iptables goes
/// through iptables-legacy-restore. Tables, chains and addresses that are not nfc's are left
/// alone. An input without any Service is refused, as a kubectl that failed leaves it in a pipe:
/// `nfc delete` takes rules away.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  sudo nfc apply --backend nft examples/web.yaml
  sudo nfc apply --backend nft --layout constant-time --full examples/web.yaml
  sudo ip netns add lab
  sudo nfc apply --netns lab --timings examples/web.yaml
  sudo nfc apply --netns lab --dry-run examples/aks.yaml

Exit codes: 0 loaded, 1 input refused, 2 the environment lacks something, 3 the kernel refused;
4 when --dry-run finds something to do.")]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) backend: BackendArg,
    #[command(flatten)]
    pub(crate) netns: NetnsArg,
    /// Replace the table, whatever it holds, without reading it first (nft; iptables writes its
    /// chains anew in any case, and IPVS has to know what is there).
    #[arg(long)]
    pub(crate) full: bool,
    /// Change nothing, and print the patch that would be carried out: see `nfc diff --live`.
    /// Exit code 4 when there is one.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Say how long each part took: making rules of Services, reading what is there,
    /// comparing, encoding, and each step that the kernel was asked for.
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) timings: bool,
    #[command(flatten)]
    pub(crate) input: Input,
}

/// Delete what nfc loaded
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  sudo nfc delete --backend nft
  sudo nfc delete --backend iptables --family ipv4 --netns lab

Exit codes: 0 nothing is left, 1 the arguments are refused, 2 the environment lacks something,
3 the kernel refused.")]
pub(crate) struct Delete {
    #[command(flatten)]
    pub(crate) backend: BackendArg,
    #[command(flatten)]
    pub(crate) netns: NetnsArg,
    /// Which address families to delete.
    #[arg(long, value_enum, default_value_t = FamilyArg::Both)]
    pub(crate) family: FamilyArg,
}

#[derive(Debug, Args)]
pub(crate) struct BackendArg {
    /// What to compile to.
    #[arg(long, short, value_name = "BACKEND", value_enum, default_value_t = BackendName::Nft)]
    pub(crate) backend: BackendName,
    /// How Services lead to what is done with them (nft).
    #[arg(long, value_enum)]
    pub(crate) layout: Option<LayoutArg>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LayoutArg {
    /// One verdict map: the fewest steps for a packet.
    Verdict,
    /// A map of data and a small map of verdicts: Services come and go in the same time
    /// whatever their number.
    ConstantTime,
}

impl BackendArg {
    /// The name in the registry; `None` when the backend does not have that layout.
    pub(crate) fn name(&self) -> Option<&'static str> {
        match (self.backend, self.layout) {
            (BackendName::Nft, Some(LayoutArg::ConstantTime)) => Some("nft-constant-time"),
            (BackendName::Nft, _) | (_, None) => Some(self.backend.name()),
            (_, Some(_)) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum BackendName {
    /// nftables: sets and verdict maps, a constant number of chains.
    #[value(alias = "nftables")]
    Nft,
    /// iptables (legacy): kube-proxy's own chains.
    Iptables,
    /// IPVS: virtual servers, with an nftables table for what IPVS cannot say.
    Ipvs,
}

impl BackendName {
    /// The name in the registry.
    fn name(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Iptables => "iptables",
            Self::Ipvs => "ipvs",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct NetnsArg {
    /// Work in this network namespace: a name that `ip netns` knows, or a path.
    #[arg(long, value_name = "NAME|PATH")]
    pub(crate) netns: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Emit {
    /// The backend's program.
    Program,
    /// The Services, one fact a line.
    Ir,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FamilyArg {
    Ipv4,
    Ipv6,
    Both,
}

impl FamilyArg {
    pub(crate) fn families(self) -> BTreeSet<Family> {
        match self {
            Self::Ipv4 => [Family::Ipv4].into(),
            Self::Ipv6 => [Family::Ipv6].into(),
            Self::Both => Family::ALL.into(),
        }
    }
}

/// Where Services come from, and the settings under which they are compiled.
#[derive(Debug, Args)]
pub(crate) struct Input {
    /// Manifests: files, folders (searched for .yaml, .yml and .json) or - for standard
    /// input. YAML and JSON, one object or many, or a List as kubectl prints it.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Address families [default: those that the Services have].
    #[arg(long, value_enum)]
    pub(crate) family: Option<FamilyArg>,
    /// Node settings: a KubeProxyConfiguration file. The flags below override it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Node settings, as kube-proxy has them")]
    settings: SettingArgs,
}

#[derive(Debug, Args)]
struct SettingArgs {
    /// Name of the node that the rules are for; its Node object, if given, tells addresses
    /// and zone.
    #[arg(long, visible_alias = "node", value_name = "NAME")]
    hostname_override: Option<String>,
    /// Addresses of the node, the primary one of each family first [default: those of the
    /// Node object].
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    #[arg(value_parser = nfc_manifest::parse_address)]
    node_ip: Option<Vec<IpAddr>>,
    /// The node's zone [default: that of the Node object].
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// The blocks of pod addresses, one for each family.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    #[arg(value_parser = nfc_manifest::parse_block)]
    cluster_cidr: Option<Vec<IpNet>>,
    /// How traffic of the node's own pods is told apart: ClusterCIDR, NodeCIDR,
    /// BridgeInterface or InterfaceNamePrefix.
    #[arg(long, value_name = "MODE")]
    detect_local_mode: Option<DetectLocal>,
    /// The bridge of the pods, for BridgeInterface.
    #[arg(long, value_name = "LINK")]
    pod_bridge_interface: Option<String>,
    /// What names of the pods' interfaces begin with, for InterfaceNamePrefix.
    #[arg(long, value_name = "PREFIX")]
    pod_interface_name_prefix: Option<String>,
    /// Addresses that answer on node ports: blocks, or primary [default: the mode's own].
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    nodeport_addresses: Option<Vec<NodePortAddress>>,
    /// Rewrite the source of everything sent to a cluster IP.
    #[arg(long, value_name = "BOOL")]
    #[arg(num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    masquerade_all: Option<bool>,
    /// The bit of the packet mark that asks for masquerading, 0 to 31.
    #[arg(long, visible_alias = "masquerade-bit", value_name = "BIT")]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=31))]
    iptables_masquerade_bit: Option<u8>,
    /// Whether node ports answer on 127.0.0.0/8 (iptables, IPv4).
    #[arg(long, value_name = "BOOL")]
    #[arg(num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    iptables_localhost_nodeports: Option<bool>,
    /// Blocks that cluster IPs are taken from [default: those of ServiceCIDR objects].
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    #[arg(value_parser = nfc_manifest::parse_block)]
    service_cidrs: Option<Vec<IpNet>>,
    /// How IPVS picks a real server: rr, wrr, lc, wlc, sh, mh, sed, nq ... [default: rr].
    #[arg(long, value_name = "SCHEDULER")]
    ipvs_scheduler: Option<IpvsScheduler>,
}

impl Input {
    /// The settings that were typed.
    pub(crate) fn overrides(&self) -> Overrides {
        let typed = &self.settings;
        Overrides {
            mode: None,
            families: self.family.map(FamilyArg::families),
            hostname: typed.hostname_override.clone(),
            node_ips: typed.node_ip.clone(),
            zone: typed.zone.clone(),
            detect_local: typed.detect_local_mode,
            cluster_cidrs: typed.cluster_cidr.clone(),
            bridge_interface: typed.pod_bridge_interface.clone(),
            interface_name_prefix: typed.pod_interface_name_prefix.clone(),
            node_port_addresses: typed.nodeport_addresses.clone(),
            masquerade_all: typed.masquerade_all,
            masquerade_bit: typed.iptables_masquerade_bit,
            localhost_node_ports: typed.iptables_localhost_nodeports,
            service_cidrs: typed.service_cidrs.clone(),
            ipvs_scheduler: typed.ipvs_scheduler,
        }
    }
}
