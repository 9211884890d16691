//! What was read and left out, or guessed, and what to do about it.
//!
//! Invariant: values and their words; who finds them is of no concern here.

use crate::diagnostic::Place;
use crate::name::printable;
use nfc_ir::{Family, Protocol, Shadowed};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// Something that does not stop a compilation, but that its user should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Objects of kinds that have no say in packet forwarding, by kind.
    UnknownKinds {
        /// How many of each kind, named `Kind (apiVersion)`.
        kinds: BTreeMap<String, usize>,
    },
    /// A KubeProxyConfiguration stands among the objects.
    StrayConfiguration {
        /// Where.
        place: Place,
    },
    /// A field that nfc does not know but that looks like one it knows.
    Misspelt {
        /// Where.
        place: Place,
        /// The field as written.
        field: String,
        /// The field that was probably meant.
        meant: &'static str,
    },
    /// A Service that has not been given a cluster IP.
    NoClusterIp {
        /// Where.
        place: Place,
        /// The Service, as `namespace/name`.
        service: String,
    },
    /// An EndpointSlice, or Endpoints object, that is not used as its author may think.
    Slice {
        /// Where.
        place: Place,
        /// The object, as `kind namespace/name`.
        object: String,
        /// What is wrong with it.
        problem: SliceProblem,
    },
    /// Endpoints came from an old Endpoints object.
    OldEndpoints {
        /// The Service, as `namespace/name`.
        service: String,
    },
    /// A node port of a Service whose type has none.
    UselessNodePort {
        /// Where.
        place: Place,
        /// The Service, as `namespace/name`.
        service: String,
    },
    /// Something about the node is guessed or not known.
    Node(NodeProblem),
    /// An address that another Service answers at was left out.
    Shadowed(Shadowed),
}

/// Why a slice is not used as its author may think.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SliceProblem {
    /// Its Service is not in the input.
    Orphan {
        /// The Service, as `namespace/name`.
        service: String,
    },
    /// The label that says which Service it belongs to is missing.
    Unlabelled,
    /// One of its ports has a name and protocol that no port of its Service has.
    UnmatchedPort {
        /// The port's name; may be empty.
        port: String,
        /// Its protocol.
        protocol: Protocol,
        /// The Service, as `namespace/name`.
        service: String,
        /// The ports that the Service has, each as name and protocol.
        has: Vec<(String, Protocol)>,
    },
    /// One of its ports has no number.
    Portless,
    /// It holds host names.
    Fqdn,
    /// One of its endpoints has several addresses.
    SpareAddresses,
}

/// What about the node is guessed or not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeProblem {
    /// No node was named, and the only one in the input was taken.
    Assumed {
        /// Its name.
        name: String,
    },
    /// The named node is not among the Node objects.
    Missing {
        /// The name that was asked for.
        name: String,
        /// The nodes there are.
        known: Vec<String>,
    },
    /// Something depends on the node, of which nothing is known.
    Unknown {
        /// What depends on it.
        need: NodeNeed,
        /// The first Service that needs it.
        service: String,
        /// How many more need it.
        others: usize,
    },
    /// No block of pod addresses of this family is known.
    PodBlockUnknown {
        /// The family.
        family: Family,
        /// The setting or field that should hold it.
        missing: &'static str,
    },
    /// `nodePortAddresses` has blocks of the other family only.
    NodePortFamily {
        /// The family without blocks.
        family: Family,
    },
}

/// What depends on knowing the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeNeed {
    /// The addresses at which node ports answer.
    Addresses(Family),
    /// The name, which tells which endpoints are local.
    Name,
}

/// How many warnings of one kind [`render_warnings`] shows.
const SHOWN_MAX: usize = 3;

/// All of `warnings` as lines of text. Of a kind that occurs often only the first few are
/// shown, and the rest are counted.
#[must_use]
pub fn render_warnings(warnings: &[Warning]) -> String {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut text = String::new();
    for warning in warnings {
        let count = seen.entry(warning.kind()).or_default();
        *count += 1;
        if *count <= SHOWN_MAX {
            let _ = writeln!(text, "warning: {}", printable(&warning.to_string()));
        }
    }
    for (kind, count) in seen {
        if count > SHOWN_MAX {
            let _ = writeln!(text, "warning: {kind}: {} more", count - SHOWN_MAX);
        }
    }
    text
}

impl Warning {
    /// What the warning is about, in a few words.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UnknownKinds { .. } => "objects of other kinds",
            Self::StrayConfiguration { .. } => "configuration among objects",
            Self::Misspelt { .. } => "unknown fields",
            Self::NoClusterIp { .. } => "Services without a cluster IP",
            Self::UselessNodePort { .. } => "node ports of Services that have none",
            Self::Slice { problem, .. } => problem.kind(),
            Self::OldEndpoints { .. } => "old Endpoints objects",
            Self::Node(_) => "the node",
            Self::Shadowed(_) => "addresses of two Services",
        }
    }
}

impl SliceProblem {
    fn kind(&self) -> &'static str {
        match self {
            Self::Orphan { .. } => "endpoints without their Service",
            Self::Unlabelled => "slices without a Service label",
            Self::UnmatchedPort { .. } => "slice ports that no Service port matches",
            Self::Portless => "slice ports without a number",
            Self::Fqdn => "slices of host names",
            Self::SpareAddresses => "endpoints with several addresses",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKinds { kinds } => write_kinds(f, kinds),
            Self::StrayConfiguration { place } => write!(
                f,
                "{place}: this KubeProxyConfiguration is ignored among the objects; \
                 give its file with --config"
            ),
            Self::Misspelt { place, field, meant } => {
                write!(f, "{place}: unknown field `{field}` is ignored; did you mean `{meant}`?")
            }
            Self::NoClusterIp { place, service } => write!(
                f,
                "{place}: Service {service} is left out, because it has no clusterIP, which \
                 the API server gives; write one, or take the object from the cluster with \
                 kubectl get service -o yaml"
            ),
            Self::UselessNodePort { place, service } => write!(
                f,
                "{place}: nodePort is ignored, because Service {service} is neither of type \
                 NodePort nor of type LoadBalancer"
            ),
            Self::Slice { place, object, problem } => write!(f, "{place}: {object}{problem}"),
            Self::OldEndpoints { service } => write!(
                f,
                "Service {service} has no EndpointSlice, so its Endpoints object is used; \
                 kube-proxy reads slices only, so export those: kubectl get endpointslices -o yaml"
            ),
            Self::Node(problem) => problem.fmt(f),
            Self::Shadowed(shadowed) => {
                write!(f, "{shadowed}; remove the address from one of the two Services")
            }
        }
    }
}

/// Continues a sentence that begins with the object.
impl fmt::Display for SliceProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Orphan { service } => write!(
                f,
                " has endpoints for Service {service}, which is not in the input; add the \
                 Service, or remove these endpoints"
            ),
            Self::Unlabelled => f.write_str(
                " is ignored, because the label kubernetes.io/service-name does not say whose \
                 it is; add it",
            ),
            Self::UnmatchedPort { port, protocol, service, has } => {
                write!(
                    f,
                    ": its port {}/{protocol} matches no port of Service {service} by name \
                     and protocol and is ignored; the Service has",
                    named(port)
                )?;
                for (i, (name, protocol)) in has.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    write!(f, "{comma} {}/{protocol}", named(name))?;
                }
                Ok(())
            }
            Self::Portless => f.write_str(": a port without a number is ignored; give it one"),
            Self::Fqdn => f.write_str(
                " is ignored, as kube-proxy does: it holds host names, which packets cannot be \
                 sent to; write slices of addressType IPv4 or IPv6",
            ),
            Self::SpareAddresses => f.write_str(
                ": only the first address of an endpoint is used, as kube-proxy does; give each \
                 address an endpoint of its own",
            ),
        }
    }
}

impl fmt::Display for NodeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assumed { name } => write!(
                f,
                "compiling for node {name}, the only one in the input; name it, or another, \
                 with --hostname-override"
            ),
            Self::Missing { name, known } => write!(
                f,
                "node {name} is not among the Node objects ({}); its addresses, zone and pod \
                 blocks are not known",
                known.join(", ")
            ),
            Self::Unknown { need, service, others: 0 } => write!(f, "{service}{need}"),
            Self::Unknown { need, service, others } => {
                write!(f, "{service} and {others} more{need}")
            }
            Self::PodBlockUnknown { family, missing } => write!(
                f,
                "no {family} block in {missing}: pods cannot be told from strangers, so \
                 {family} traffic to cluster IPs is not masqueraded; add one"
            ),
            Self::NodePortFamily { family } => write!(
                f,
                "nodePortAddresses has no {family} entry, so {family} node ports answer on \
                 every address, as kube-proxy has it; add an {family} block to narrow them"
            ),
        }
    }
}

/// Continues a sentence that begins with the Services in need.
impl fmt::Display for NodeNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(family) => write!(
                f,
                ": node ports need the node's {family} addresses, which are not known; add the \
                 Node object and name it with --hostname-override, or give --node-ip"
            ),
            Self::Name => f.write_str(
                ": a Local policy needs the node's name to tell which endpoints are local; it \
                 is not known, so none counts as local; give --hostname-override",
            ),
        }
    }
}

fn named(port: &str) -> String {
    if port.is_empty() { "unnamed".to_owned() } else { format!("`{port}`") }
}

fn write_kinds(f: &mut fmt::Formatter<'_>, kinds: &BTreeMap<String, usize>) -> fmt::Result {
    f.write_str("ignored objects that do not decide where packets go:")?;
    for (i, (kind, count)) in kinds.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        write!(f, "{comma} {count} {kind}")?;
    }
    Ok(())
}
