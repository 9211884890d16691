//! What an environment may lack: found out by trying, and said in a sentence that helps.
//!
//! Each trial happens in a fresh network namespace, so that nothing in use is touched.
//!
//! Invariant: a missing feature is a value, never a failure.

use crate::{Kernel, Namespace, genetlink, sys};
use nfc_backend::{Apply, Process, Refusal, Step};
use nfc_netlink::batch::BatchWriter;
use nfc_netlink::message::flags;
use nfc_netlink::route::{LinkEnd, RouteWriter};
use std::fmt;

/// Something that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is missing: {why}")]
pub struct Missing {
    /// What is needed.
    pub what: String,
    /// How it is known to be missing, and what to do.
    pub why: String,
}

impl Missing {
    fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into() }
    }
}

/// What backends and tests need of the kernel and of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// The right to make network namespaces.
    Namespaces,
    /// nf_tables with NAT in the `ip` and `ip6` families.
    Nftables,
    /// iptables-legacy with the nat table and the matches that kube-proxy uses.
    IptablesV4,
    /// The same for ip6tables-legacy.
    IptablesV6,
    /// IP virtual server.
    Ipvs,
    /// Links of type dummy, to which kube-proxy's IPVS mode binds the addresses of Services.
    DummyLink,
    /// The `nft` tool.
    NftTool,
    /// The `ipvsadm` tool.
    IpvsadmTool,
}

impl Feature {
    /// All features, in the order of the enum.
    pub const ALL: [Self; 8] = [
        Self::Namespaces,
        Self::Nftables,
        Self::IptablesV4,
        Self::IptablesV6,
        Self::Ipvs,
        Self::DummyLink,
        Self::NftTool,
        Self::IpvsadmTool,
    ];

    /// The name in environment variables and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Nftables => "nftables",
            Self::IptablesV4 => "iptables-v4",
            Self::IptablesV6 => "iptables-v6",
            Self::Ipvs => "ipvs",
            Self::DummyLink => "dummy-link",
            Self::NftTool => "nft-tool",
            Self::IpvsadmTool => "ipvsadm-tool",
        }
    }

    /// Tries whether the feature is there.
    ///
    /// # Errors
    ///
    /// [`Missing`]: what is lacking and what to do about it.
    pub fn probe(self) -> Result<(), Missing> {
        match self {
            Self::Namespaces => namespace().map(drop),
            Self::Nftables => try_steps(&[nftables_trial()]),
            Self::IptablesV4 => try_steps(&[iptables_trial("iptables-legacy-restore", "10.0.0.1")]),
            Self::IptablesV6 => try_steps(&[iptables_trial("ip6tables-legacy-restore", "fd00::1")]),
            Self::Ipvs => family("IPVS"),
            Self::DummyLink => try_steps(&[dummy_trial()]),
            Self::NftTool => tool("nft"),
            Self::IpvsadmTool => tool("ipvsadm"),
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn namespace() -> Result<Namespace, Missing> {
    Namespace::new().map_err(|error| Missing::new("a network namespace", error.to_string()))
}

fn try_steps(steps: &[Step]) -> Result<(), Missing> {
    let applied = namespace()?.run(|| Kernel::new().apply(steps));
    let applied = applied.map_err(|e| Missing::new("a network namespace", e.to_string()))?;
    match applied {
        Ok(_) => Ok(()),
        Err(Refusal::Missing { what, why }) => Err(Missing { what, why }),
        Err(Refusal::Refused { kind, faults, .. }) => {
            let first = faults.first();
            let errno = first.map_or(0, |f| f.errno);
            let words = first.map_or(String::new(), |f| f.words.clone());
            let said = if errno == 0 { words } else { errno_text(errno) };
            Err(Missing::new(kind, format!("a trial in a fresh namespace was refused: {said}")))
        }
        Err(error @ Refusal::Io { .. }) => Err(Missing::new("the trial", error.to_string())),
    }
}

fn errno_text(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}

fn tool(program: &str) -> Result<(), Missing> {
    let found = crate::process::find(program);
    found.map(drop).map_err(|error| Missing::new(program, error.to_string()))
}

fn family(name: &str) -> Result<(), Missing> {
    match genetlink::resolve(name) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(no_family(name)),
        Err(error) => {
            Err(Missing::new(format!("generic netlink family {name}"), error.to_string()))
        }
    }
}

/// A table with a NAT chain at prerouting, for both families
/// (`uapi/linux/netfilter/nf_tables.h`).
fn nftables_trial() -> Step {
    const NEW_TABLE: u8 = 0;
    const NEW_CHAIN: u8 = 3;
    let mut writer = BatchWriter::new(10);
    for family in [2, 10] {
        writer.message(NEW_TABLE, flags::CREATE, family, |w| w.text(1, "nfc-trial"));
        writer.message(NEW_CHAIN, flags::CREATE, family, |w| {
            w.text(1, "nfc-trial");
            w.text(3, "prerouting");
            w.nest(4, |w| {
                w.be32(1, 0); // NF_INET_PRE_ROUTING
                w.be32(2, 0);
            });
            w.text(7, "nat");
        });
    }
    let Ok(batch) = writer.finish() else {
        unreachable!("a few short names fit into their attributes");
    };
    Step::Nftables(batch)
}

/// One rule with each match and target that kube-proxy's rules have.
fn iptables_trial(program: &'static str, endpoint: &str) -> Step {
    let brackets = if endpoint.contains(':') { ("[", "]") } else { ("", "") };
    let target = format!("{}{endpoint}{}:80", brackets.0, brackets.1);
    let stdin = format!(
        "*nat\n:NFC-TRIAL - [0:0]\n\
         -A NFC-TRIAL -m comment --comment trial -m addrtype --dst-type LOCAL -j RETURN\n\
         -A NFC-TRIAL -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully\n\
         -A NFC-TRIAL -j MARK --or-mark 0x4000\n\
         -A NFC-TRIAL -m statistic --mode random --probability 0.5 -p tcp -m tcp \
         -j DNAT --to-destination {target}\n\
         COMMIT\n\
         *filter\n:NFC-TRIAL - [0:0]\n\
         -A NFC-TRIAL -m conntrack --ctstate INVALID -j DROP\n\
         -A NFC-TRIAL -p udp -m udp --dport 1 -j REJECT\n\
         COMMIT\n"
    );
    Step::Process(Process {
        program,
        args: vec!["--noflush".to_owned(), "-w".to_owned(), "5".to_owned()],
        stdin,
    })
}

fn dummy_trial() -> Step {
    let mut writer = RouteWriter::new();
    writer.dummy(&LinkEnd { index: None, name: "nfc-trial".to_owned(), mac: None });
    Step::Route(writer.into_bytes())
}

pub(crate) fn no_link_type() -> Missing {
    Missing::new(
        "a type of link",
        "the kernel does not know it: dummy links need CONFIG_DUMMY (modprobe dummy), veth pairs \
         CONFIG_VETH (modprobe veth)",
    )
}

pub(crate) fn no_loopback() -> Missing {
    Missing::new(
        "loopback",
        "the link lo is down, and until it is up nothing can be routed to the node itself: \
         ip link set lo up",
    )
}

pub(crate) fn no_privilege() -> Missing {
    let user = sys::effective_user();
    let why = if user == 0 {
        "the kernel said EPERM although this is root: the process lacks CAP_NET_ADMIN in this \
         namespace"
    } else {
        "it takes root: run as root, or inside `unshare -Urn`"
    };
    Missing::new("the privilege to change the network", why)
}

/// `SO_SNDBUFFORCE` wants the capability in the initial user namespace.
pub(crate) fn no_room() -> Missing {
    Missing::new(
        "room to send so much at once",
        "the kernel said EMSGSIZE: run as root of the machine and not of a user namespace, or \
         raise net.core.wmem_max above the size of the batch",
    )
}

pub(crate) fn no_nftables() -> Missing {
    Missing::new(
        "nf_tables",
        "the kernel does not know the subsystem: it needs CONFIG_NF_TABLES with \
         CONFIG_NF_TABLES_IPV4, _IPV6 and CONFIG_NFT_NAT (modprobe nf_tables nft_chain_nat)",
    )
}

/// A family of this name is not there. Without root nobody could use it if it were, nor load
/// the module that has it, so that comes first.
pub(crate) fn unresolved(family: &str) -> Missing {
    if sys::effective_user() == 0 { no_family(family) } else { no_privilege() }
}

fn no_family(family: &str) -> Missing {
    let why = if family == "IPVS" {
        "the kernel has no generic netlink family of this name: load it with `modprobe ip_vs`; \
         where that finds no module the kernel was built without CONFIG_IP_VS"
            .to_owned()
    } else {
        "the kernel has no generic netlink family of this name: some module is not loaded"
            .to_owned()
    };
    Missing::new(if family == "IPVS" { "IPVS" } else { family }, why)
}

pub(crate) fn no_sysctl(text: &str) -> Missing {
    Missing::new(
        "a sysctl",
        format!(
            "{text}; the module it belongs to is not loaded, or the sysctl exists in the \
                 initial network namespace only"
        ),
    )
}

pub(crate) fn no_sysctl_access(text: &str) -> Missing {
    Missing::new(
        "write access to sysctls",
        format!("{text}; needs root, and /proc/sys must not be mounted read-only"),
    )
}

/// What a tool's complaint says is missing from the kernel, when it says so.
pub(crate) fn missing_in(program: &str, stderr: &str) -> Option<Missing> {
    let says = |words: &str| stderr.contains(words);
    if says("you must be root") || says("Operation not permitted") {
        return Some(no_privilege());
    }
    if says("_tables_names: Permission denied") {
        let why = "it may not list the tables of iptables (/proc/net/ip_tables_names): run as \
                   root of the machine, for that of a user namespace may not read it either";
        return Some(Missing::new("a privilege of iptables-legacy-save", why));
    }
    if says("can't open lock file") {
        let why = "it may not open its lock file: run as root of the machine; that of a user \
                   namespace sets XTABLES_LOCKFILE to a path that can be written";
        return Some(Missing::new(format!("a privilege of {program}"), why));
    }
    if says("Table does not exist") {
        let why = "the kernel lacks the table: it needs CONFIG_IP_NF_IPTABLES_LEGACY with \
                   CONFIG_IP_NF_NAT and _FILTER, and the same for IP6 (modprobe iptable_nat \
                   ip6table_nat)";
        return Some(Missing::new(program, why));
    }
    if says("ipvs") && says("Protocol not available") {
        return Some(no_family("IPVS"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_about_the_environment_are_told_from_refusals() {
        let legacy = "iptables-legacy-restore";
        let absent = "can't initialize iptables table `nat': Table does not exist (do you need";
        assert!(missing_in(legacy, absent).is_some_and(|m| m.why.contains("CONFIG_IP_NF_NAT")));
        let denied = "Fatal: can't open lock file: Permission denied (you must be root)";
        assert!(missing_in(legacy, denied).is_some_and(|m| m.what.contains("privilege")));
        let unread = "Failed to list table names in /proc/net/ip_tables_names: Permission denied";
        assert!(missing_in(legacy, unread).is_some_and(|m| m.what.contains("privilege")));
        let locked = "Fatal: can't open lock file /run/xtables.lock: Permission denied";
        let locked = missing_in(legacy, locked).expect("something is missing");
        assert!(locked.what.contains("privilege") && locked.why.contains("run as root"));
        assert!(locked.why.contains("XTABLES_LOCKFILE"), "{locked}");
        let ipvs = "Can't initialize ipvs: Protocol not available";
        assert!(missing_in("ipvsadm", ipvs).is_some_and(|m| m.why.contains("modprobe ip_vs")));
        assert_eq!(missing_in(legacy, "line 3 failed"), None);
    }

    #[test]
    fn every_feature_has_its_own_name() {
        let names: std::collections::BTreeSet<_> = Feature::ALL.map(Feature::name).into();
        assert_eq!(names.len(), Feature::ALL.len());
    }
}
