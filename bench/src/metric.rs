//! The names of the metrics, and what each of them means.
//!
//! This is the only list of what is measured: whoever shows figures asks here for the unit
//! and the title, and goes through [`Metric::all`].
//!
//! Invariant: names and meanings only; how a metric is taken is no concern of this file.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Something that is measured. The names are those in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Metric {
    /// First packet of a connection to a Service, uniformly chosen: walks the rules.
    FirstPacketNs,
    /// The same, to the first Service of the list.
    FirstPacketFirstNs,
    /// The same, to the Service in the middle of the list.
    FirstPacketMiddleNs,
    /// The same, to the last Service of the list.
    FirstPacketLastNs,
    /// First packet of a connection to a Service, uniformly chosen, whose source is rewritten
    /// too: it comes from outside of the cluster.
    FirstPacketMasqueradedNs,
    /// First packet of a connection to an address that is no Service's.
    MissPacketNs,
    /// Packet to a port that a Service's address does not have, until it is known what becomes
    /// of it: a refusal is back, or it has left.
    UnknownPortNs,
    /// A frame that says nothing, up to the first link of the node: what the instrument itself
    /// costs.
    EmptySendNs,
    /// Later packet of a connection: the connection table answers, rules are not walked.
    EstablishedPacketNs,
    /// A whole TCP connection, from `connect` until both ends are closed.
    ConnectionNs,
    /// First packet of a connection with everything taken away above a layer.
    UpTo(Layer),
    /// How long an update takes, or a part of it.
    Update(Operation, Part),
    /// Most memory that the program had while it loaded all Services, itself and the Services
    /// included (`VmHWM` of a process that does nothing else).
    LoadPeakBytes,
    /// The same of the tool that loaded them.
    ToolPeakBytes,
    /// Most memory of a process that loads them from JSON.
    JsonPeakBytes,
    /// The same from YAML.
    YamlPeakBytes,
    /// Memory that the kernel has more after loading all Services (`Slab`, `VmallocUsed` and
    /// `Percpu` of `/proc/meminfo`).
    KernelBytes,
}

/// A way to change what the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Everything, into a kernel that has nothing of it.
    ColdLoad,
    /// Nothing has changed, and what was loaded is remembered.
    NoOp,
    /// Nothing has changed, but what is loaded has to be read from the kernel to know it.
    ReadBack,
    /// A Service has one endpoint more.
    EndpointAdded,
    /// A Service has one endpoint less.
    EndpointRemoved,
    /// An endpoint of a Service has been replaced by another.
    EndpointSwapped,
    /// There is one Service more.
    ServiceAdded,
    /// There is one Service less.
    ServiceRemoved,
    /// One Service in a hundred has had an endpoint replaced.
    Churn,
    /// Everything once more, in place of whatever is there.
    FullResync,
    /// Everything, into a kernel that has nothing of it, from what kubectl prints as JSON.
    FromJson,
    /// The same from YAML.
    FromYaml,
}

/// A part of the way of a first packet, of which each is on top of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// The way without any rules: send, two links, routing, receive.
    Path,
    /// Connection tracking.
    Conntrack,
    /// The hooks that rewrite addresses, with nothing that asks them to.
    Nat,
    /// Rewriting the destination to a fixed endpoint.
    Dnat,
    /// All that IPVS does: finding the Service, choosing an endpoint, rewriting.
    Ipvs,
    /// Finding the Service among all.
    Service,
    /// Choosing one of its endpoints.
    Endpoint,
    /// The rules that a packet meets where it leaves.
    Leaving,
    /// The rules of filter hooks.
    Filter,
}

/// What a metric is an amount of, which decides how it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// Time, or instructions, that a packet or a connection is under way.
    Latency,
    /// Time, or instructions, that an update takes.
    Duration,
    /// A number of bytes.
    Bytes,
    /// A latency that means something only beside those of the other layers.
    Layer,
}

/// What of an update is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// From Services in memory, or their manifests, until the kernel has all rules.
    Whole,
    /// Reading manifests, from a file that is in the page cache.
    Parse,
    /// Reading what the kernel has.
    Read,
    /// Making the program.
    Lower,
    /// Comparing it with the one before, or with what was read.
    Diff,
    /// Making the steps.
    Encode,
    /// Carrying out the steps: the kernel, and the tool if there is one.
    Kernel,
}

impl Operation {
    /// All operations, in the order of the enum.
    pub const ALL: [Self; 12] = [
        Self::ColdLoad,
        Self::NoOp,
        Self::ReadBack,
        Self::EndpointAdded,
        Self::EndpointRemoved,
        Self::EndpointSwapped,
        Self::ServiceAdded,
        Self::ServiceRemoved,
        Self::Churn,
        Self::FullResync,
        Self::FromJson,
        Self::FromYaml,
    ];

    /// The beginning of its metrics' names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ColdLoad => "cold_load",
            Self::NoOp => "no_op",
            Self::ReadBack => "read_back",
            Self::EndpointAdded => "endpoint_added",
            Self::EndpointRemoved => "endpoint_removed",
            Self::EndpointSwapped => "endpoint_swapped",
            Self::ServiceAdded => "service_added",
            Self::ServiceRemoved => "service_removed",
            Self::Churn => "churn",
            Self::FullResync => "full_resync",
            Self::FromJson => "from_json",
            Self::FromYaml => "from_yaml",
        }
    }

    /// What it is, for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::ColdLoad => "Loading all rules into an empty kernel",
            Self::NoOp => "Nothing has changed",
            Self::ReadBack => "Nothing has changed, but the kernel is asked",
            Self::EndpointAdded => "Adding one endpoint to one Service",
            Self::EndpointRemoved => "Removing one endpoint of one Service",
            Self::EndpointSwapped => "Replacing one endpoint of one Service",
            Self::ServiceAdded => "Adding one Service",
            Self::ServiceRemoved => "Removing one Service",
            Self::Churn => "Replacing an endpoint of one Service in a hundred",
            Self::FullResync => "Replacing all rules at once",
            Self::FromJson => "Loading all rules from JSON",
            Self::FromYaml => "Loading all rules from YAML",
        }
    }

    /// The metric of the whole of it.
    #[must_use]
    pub const fn whole(self) -> Metric {
        Metric::Update(self, Part::Whole)
    }

    /// The metric of what happens outside of this process.
    #[must_use]
    pub const fn kernel(self) -> Metric {
        Metric::Update(self, Part::Kernel)
    }
}

impl Layer {
    /// All layers, from the bottom up.
    pub const ALL: [Self; 9] = [
        Self::Path,
        Self::Conntrack,
        Self::Nat,
        Self::Dnat,
        Self::Ipvs,
        Self::Service,
        Self::Endpoint,
        Self::Leaving,
        Self::Filter,
    ];

    /// Its name in a metric's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Conntrack => "conntrack",
            Self::Nat => "nat",
            Self::Dnat => "dnat",
            Self::Ipvs => "ipvs",
            Self::Service => "service",
            Self::Endpoint => "endpoint",
            Self::Leaving => "leaving",
            Self::Filter => "filter",
        }
    }

    /// What it is, for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Path => "path without rules",
            Self::Conntrack => "connection tracking",
            Self::Nat => "nat hooks, no rules",
            Self::Dnat => "rewriting the destination",
            Self::Ipvs => "IPVS",
            Self::Service => "finding the Service",
            Self::Endpoint => "choosing an endpoint",
            Self::Leaving => "postrouting rules",
            Self::Filter => "filter rules",
        }
    }
}

impl Part {
    /// All parts, the whole first and then in the order in which they happen.
    pub const ALL: [Self; 7] =
        [Self::Whole, Self::Parse, Self::Read, Self::Lower, Self::Diff, Self::Encode, Self::Kernel];

    /// The name; nothing for the whole.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::Parse => "parse",
            Self::Read => "read",
            Self::Lower => "lower",
            Self::Diff => "diff",
            Self::Encode => "encode",
            Self::Kernel => "kernel",
        }
    }

    /// What it is, for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Whole => "the whole",
            Self::Parse => "reading manifests",
            Self::Read => "reading what is there",
            Self::Lower => "making the rules",
            Self::Diff => "comparing them",
            Self::Encode => "making messages or text",
            Self::Kernel => "the kernel's part",
        }
    }
}

impl Metric {
    /// All metrics, in their order.
    pub fn all() -> impl Iterator<Item = Self> {
        let packets = [
            Self::FirstPacketNs,
            Self::FirstPacketFirstNs,
            Self::FirstPacketMiddleNs,
            Self::FirstPacketLastNs,
            Self::FirstPacketMasqueradedNs,
            Self::MissPacketNs,
            Self::UnknownPortNs,
            Self::EmptySendNs,
            Self::EstablishedPacketNs,
            Self::ConnectionNs,
        ];
        let layers = Layer::ALL.map(Self::UpTo);
        let updates = Operation::ALL
            .into_iter()
            .flat_map(|operation| Part::ALL.map(|part| Self::Update(operation, part)));
        let memory = [
            Self::LoadPeakBytes,
            Self::ToolPeakBytes,
            Self::JsonPeakBytes,
            Self::YamlPeakBytes,
            Self::KernelBytes,
        ];
        packets.into_iter().chain(layers).chain(updates).chain(memory)
    }

    /// What it is an amount of.
    #[must_use]
    pub fn sort(self) -> Sort {
        match self {
            Self::Update(..) => Sort::Duration,
            Self::LoadPeakBytes
            | Self::ToolPeakBytes
            | Self::JsonPeakBytes
            | Self::YamlPeakBytes
            | Self::KernelBytes => Sort::Bytes,
            Self::UpTo(_) => Sort::Layer,
            _ => Sort::Latency,
        }
    }

    /// The unit of its values in the record of an instrument.
    #[must_use]
    pub fn unit(self, instrument: &str) -> &'static str {
        match (self.sort(), instrument) {
            (Sort::Bytes, _) => "bytes",
            (_, "guest") => "instructions",
            _ => "ns",
        }
    }

    /// Whether it is an amount of memory and no time.
    #[must_use]
    pub fn is_memory(self) -> bool {
        self.sort() == Sort::Bytes
    }

    /// What it is, in a few words for people.
    #[must_use]
    pub fn title(self) -> String {
        let title = match self {
            Self::FirstPacketNs => "First packet of a connection",
            Self::FirstPacketFirstNs => "First packet, to the first Service of the list",
            Self::FirstPacketMiddleNs => "First packet, to the Service in the middle of the list",
            Self::FirstPacketLastNs => "First packet, to the last Service of the list",
            Self::FirstPacketMasqueradedNs => "First packet from outside, masqueraded",
            Self::MissPacketNs => "First packet to an address that is no Service's",
            Self::UnknownPortNs => "Packet to a port that the Service does not have",
            Self::EmptySendNs => "The instrument itself: an empty send",
            Self::EstablishedPacketNs => "Later packet of a connection",
            Self::ConnectionNs => "A whole TCP connection",
            Self::UpTo(layer) => return format!("First packet, up to: {}", layer.title()),
            Self::Update(operation, Part::Whole) => operation.title(),
            Self::Update(operation, part) => {
                return format!("{}, {}", operation.title(), part.title());
            }
            Self::LoadPeakBytes => "Most memory of the process that loads all rules",
            Self::ToolPeakBytes => "Most memory of the tool that loads all rules",
            Self::JsonPeakBytes => "Most memory of the process that loads all rules from JSON",
            Self::YamlPeakBytes => "Most memory of the process that loads all rules from YAML",
            Self::KernelBytes => "Memory that the kernel needs for all rules",
        };
        title.to_owned()
    }
}

/// The name in the record: `cold_load_kernel_ns`.
impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FirstPacketNs => "first_packet_ns",
            Self::FirstPacketFirstNs => "first_packet_first_ns",
            Self::FirstPacketMiddleNs => "first_packet_middle_ns",
            Self::FirstPacketLastNs => "first_packet_last_ns",
            Self::FirstPacketMasqueradedNs => "first_packet_masqueraded_ns",
            Self::MissPacketNs => "miss_packet_ns",
            Self::UnknownPortNs => "unknown_port_ns",
            Self::EmptySendNs => "empty_send_ns",
            Self::EstablishedPacketNs => "established_packet_ns",
            Self::ConnectionNs => "connection_ns",
            Self::UpTo(layer) => return write!(f, "up_to_{}_ns", layer.name()),
            Self::LoadPeakBytes => "load_peak_bytes",
            Self::ToolPeakBytes => "tool_peak_bytes",
            Self::JsonPeakBytes => "from_json_peak_bytes",
            Self::YamlPeakBytes => "from_yaml_peak_bytes",
            Self::KernelBytes => "kernel_bytes",
            Self::Update(operation, Part::Whole) => return write!(f, "{}_ns", operation.name()),
            Self::Update(operation, part) => {
                return write!(f, "{}_{}_ns", operation.name(), part.name());
            }
        })
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> Self {
        metric.to_string()
    }
}

/// A name that is no metric's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no metric {0:?}")]
pub struct NoSuchMetric(String);

impl TryFrom<String> for Metric {
    type Error = NoSuchMetric;

    fn try_from(name: String) -> Result<Self, NoSuchMetric> {
        Self::all().find(|metric| metric.to_string() == name).ok_or(NoSuchMetric(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_metric_is_found_by_its_name() {
        for metric in Metric::all() {
            let written = serde_json::to_string(&metric).expect("a name");
            assert_eq!(written, format!("\"{metric}\""));
            assert_eq!(serde_json::from_str::<Metric>(&written).expect("a metric"), metric);
        }
        assert!(serde_json::from_str::<Metric>("\"first_packet\"").is_err());
    }

    #[test]
    fn operations_are_spelled_the_same_in_scenarios_and_metrics() {
        for operation in Operation::ALL {
            let written = serde_json::to_string(&operation).expect("a name");
            assert_eq!(written, format!("\"{}\"", operation.name()));
        }
    }

    #[test]
    fn no_two_metrics_have_the_same_name() {
        let names: BTreeSet<String> = Metric::all().map(|m| m.to_string()).collect();
        assert_eq!(names.len(), Metric::all().count());
        assert!(names.contains("endpoint_added_kernel_ns") && names.contains("cold_load_ns"));
    }
}
