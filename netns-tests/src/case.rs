//! Case files: one situation on a page, judged by `eval`, by every tracer and by the
//! kernel.
//!
//! A case is one comment line that says why it exists, then sections:
//!
//! ```text
//! # Why this case exists.
//! -- config
//! a KubeProxyConfiguration
//! -- objects
//! Kubernetes objects, as YAML documents
//! -- packets ipv4
//! tcp 10.0.0.9 > 172.30.0.41:80           => 10.180.0.1:80, 10.180.0.2:80
//! tcp 192.168.0.2 > 172.30.0.41:80 from node => 10.180.0.1:80 masqueraded
//! udp 10.0.0.9 > 172.30.0.41:80           => iptables pass | nftables reject
//! ```
//!
//! Sections may repeat: packets are asked about the objects above them, so a second pair
//! of `objects` and `packets` tells what a change does. A mode that a packet does not name
//! is not judged by it.
//!
//! Invariant: a case that cannot be read fails its test, with file and line.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "only tests call this; a panic names the case"
)]

use nfc_ir::{Family, Ingress, Outcome, Packet, Protocol, ProxyMode};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// One case file.
#[derive(Clone, Debug)]
pub struct Case {
    /// Name of the file, without its ending.
    pub name: String,
    /// The `KubeProxyConfiguration`.
    pub config: String,
    /// Situations, in order.
    pub scenes: Vec<Scene>,
}

/// Some objects, and what becomes of packets under them.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Kubernetes objects, as YAML documents.
    pub objects: String,
    /// The family of the packets.
    pub family: Family,
    /// The packets.
    pub flows: Vec<Flow>,
}

/// One packet and its fate.
#[derive(Clone, Debug)]
pub struct Flow {
    /// The line, as written.
    pub line: String,
    /// The packet.
    pub packet: Packet,
    /// What becomes of it, for each mode that is judged.
    pub fates: BTreeMap<ProxyMode, Fate>,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes to one of these endpoints; with `masquerade`, from the node's address.
    Endpoints {
        /// All endpoints that may get it.
        endpoints: Vec<SocketAddr>,
        /// Whether its source is rewritten.
        masquerade: bool,
    },
    /// Refused.
    Reject,
    /// Dropped.
    Drop,
    /// Accepted by a rule of ours.
    Accept,
    /// None of our business.
    Pass,
}

/// The interface through which packets come in that do not start at the node.
pub const INGRESS: &str = "eth0";

impl Fate {
    /// Whether `outcome` is this fate, with all endpoints equally likely.
    #[must_use]
    pub fn is(&self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (Self::Endpoints { endpoints, masquerade }, Outcome::Balance(choices)) => {
                let even = 1.0 / endpoints.len() as f64;
                choices.len() == endpoints.len()
                    && choices.iter().all(|(choice, share)| {
                        endpoints.contains(&choice.endpoint)
                            && choice.masquerade == *masquerade
                            && (share - even).abs() < 1e-6
                    })
            }
            (Self::Reject, Outcome::Reject)
            | (Self::Drop, Outcome::Drop)
            | (Self::Accept, Outcome::Accept)
            | (Self::Pass, Outcome::Pass) => true,
            _ => false,
        }
    }
}

/// All cases, sorted by name.
///
/// # Panics
///
/// When a case cannot be read: it says which and where.
#[must_use]
pub fn all() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let entries = std::fs::read_dir(&folder).expect("the folder of cases");
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no case in {}", folder.display());
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Case {
    let text = std::fs::read_to_string(path).expect("a readable case");
    let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
    assert!(text.starts_with("# "), "{name}: the first line must say why the case exists");
    let mut case = Case { name, config: String::new(), scenes: Vec::new() };
    let mut objects = String::new();
    for (title, first_line, body) in sections(&text) {
        match title {
            "config" => case.config = body,
            "objects" => objects = body,
            "packets ipv4" | "packets ipv6" => {
                let family = if title.ends_with('4') { Family::Ipv4 } else { Family::Ipv6 };
                let place = |i: usize| format!("{}:{}", case.name, first_line + i);
                let rows = body.lines().enumerate().filter(|(_, l)| !l.trim().is_empty());
                let flows = rows.map(|(i, line)| flow(line, &place(i))).collect();
                case.scenes.push(Scene { objects: objects.clone(), family, flows });
            }
            other => panic!("{}:{first_line}: no section is called {other}", case.name),
        }
    }
    case
}

/// Title, number of the first line and body of each section.
fn sections(text: &str) -> Vec<(&str, usize, String)> {
    let mut sections: Vec<(&str, usize, String)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(title) = line.strip_prefix("-- ") {
            sections.push((title.trim(), number + 2, String::new()));
        } else if let Some((_, _, body)) = sections.last_mut() {
            body.push_str(line);
            body.push('\n');
        }
    }
    sections
}

/// `tcp 10.0.0.9 > 172.30.0.41:80 from node => fate`.
fn flow(line: &str, place: &str) -> Flow {
    let (packet, fates) = line.split_once("=>").unwrap_or_else(|| panic!("{place}: no `=>`"));
    let packet = parse_packet(packet.trim()).unwrap_or_else(|| panic!("{place}: not a packet"));
    Flow { line: line.to_owned(), packet, fates: parse_fates(fates, place) }
}

fn parse_packet(text: &str) -> Option<Packet> {
    let (text, ingress) = match text.strip_suffix(" from node") {
        Some(text) => (text.trim_end(), Ingress::Local),
        None => (text, Ingress::Interface(INGRESS.to_owned())),
    };
    let (protocol, rest) = text.split_once(' ')?;
    let protocol = Protocol::ALL.into_iter().find(|p| p.name() == protocol)?;
    let (source, destination) = rest.split_once('>')?;
    let source: IpAddr = source.trim().parse().ok()?;
    let destination: SocketAddr = destination.trim().parse().ok()?;
    Some(Packet { protocol, source: SocketAddr::new(source, 40_000), destination, ingress })
}

/// One fate for iptables and nftables mode, or one for each mode named, split by `|`.
fn parse_fates(text: &str, place: &str) -> BTreeMap<ProxyMode, Fate> {
    let mut fates = BTreeMap::new();
    for part in text.split('|').map(str::trim) {
        let named = ProxyMode::ALL.into_iter().find(|m| part.starts_with(&m.to_string()));
        let (modes, fate) = match named {
            Some(mode) => (vec![mode], part[mode.to_string().len()..].trim()),
            None => (vec![ProxyMode::Iptables, ProxyMode::Nftables], part),
        };
        let fate = parse_fate(fate).unwrap_or_else(|| panic!("{place}: `{fate}` is no fate"));
        fates.extend(modes.into_iter().map(|mode| (mode, fate.clone())));
    }
    fates
}

fn parse_fate(text: &str) -> Option<Fate> {
    match text {
        "reject" => return Some(Fate::Reject),
        "drop" => return Some(Fate::Drop),
        "accept" => return Some(Fate::Accept),
        "pass" => return Some(Fate::Pass),
        _ => {}
    }
    let words = || text.split(',').map(str::trim);
    let masquerade = words().all(|w| w.ends_with(" masqueraded"));
    let endpoint = |w: &str| w.trim_end_matches(" masqueraded").parse().ok();
    let endpoints = words().map(endpoint).collect::<Option<Vec<SocketAddr>>>()?;
    Some(Fate::Endpoints { endpoints, masquerade })
}
