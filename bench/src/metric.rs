//! The names of the metrics, and what each of them means.
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
    /// First packet of a connection to an address that is no Service's.
    MissPacketNs,
    /// Later packet of a connection: the connection table answers, rules are not walked.
    EstablishedPacketNs,
    /// How long an update takes, or a part of it.
    Update(Operation, Part),
    /// Most memory that the program had while it loaded all Services, itself and the Services
    /// included (`VmHWM` of a process that does nothing else).
    LoadPeakBytes,
    /// The same of the tool that loaded them.
    ToolPeakBytes,
    /// Memory that the kernel has more after loading all Services (`Slab`, `VmallocUsed` and
    /// `Percpu` of `/proc/meminfo`).
    KernelBytes,
}

/// A way to change what the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
}

/// What of an update is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// From Services in memory until the kernel has all rules.
    Whole,
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
    pub const ALL: [Self; 10] = [
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

impl Part {
    /// All parts, the whole first and then in the order in which they happen.
    pub const ALL: [Self; 6] =
        [Self::Whole, Self::Read, Self::Lower, Self::Diff, Self::Encode, Self::Kernel];

    /// The name; nothing for the whole.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::Read => "read",
            Self::Lower => "lower",
            Self::Diff => "diff",
            Self::Encode => "encode",
            Self::Kernel => "kernel",
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
            Self::MissPacketNs,
            Self::EstablishedPacketNs,
        ];
        let updates = Operation::ALL
            .into_iter()
            .flat_map(|operation| Part::ALL.map(|part| Self::Update(operation, part)));
        let memory = [Self::LoadPeakBytes, Self::ToolPeakBytes, Self::KernelBytes];
        packets.into_iter().chain(updates).chain(memory)
    }

    /// Whether it is an amount of memory and no time.
    #[must_use]
    pub fn is_memory(self) -> bool {
        matches!(self, Self::LoadPeakBytes | Self::ToolPeakBytes | Self::KernelBytes)
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
            Self::MissPacketNs => "miss_packet_ns",
            Self::EstablishedPacketNs => "established_packet_ns",
            Self::LoadPeakBytes => "load_peak_bytes",
            Self::ToolPeakBytes => "tool_peak_bytes",
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
    fn no_two_metrics_have_the_same_name() {
        let names: BTreeSet<String> = Metric::all().map(|m| m.to_string()).collect();
        assert_eq!(names.len(), Metric::all().count());
        assert!(names.contains("endpoint_added_kernel_ns") && names.contains("cold_load_ns"));
    }
}
