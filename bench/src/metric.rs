//! What is measured: the names of the metrics, and what each of them means.
//!
//! Invariant: names and meanings only; how a metric is taken is no concern of this file.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Something that is measured. The names are those in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// From an `Ir` in memory until the kernel has all rules, beginning with none.
    ColdLoadNs,
    /// The part of it that makes the program.
    ColdLoadLowerNs,
    /// The part of it that compares the program with the empty one.
    ColdLoadDiffNs,
    /// The part of it that makes the steps.
    ColdLoadEncodeNs,
    /// The part of it that carries out the steps: the kernel, and the tool if there is one.
    ColdLoadKernelNs,
    /// From an `Ir` with one more endpoint until the kernel has it.
    EndpointAddedNs,
    /// The part of it that makes the program.
    EndpointAddedLowerNs,
    /// The part of it that compares the program with the one before.
    EndpointAddedDiffNs,
    /// The part of it that makes the steps.
    EndpointAddedEncodeNs,
    /// The part of it that carries out the steps.
    EndpointAddedKernelNs,
}

impl Metric {
    /// All metrics, in the order of the enum.
    pub const ALL: [Self; 16] = [
        Self::FirstPacketNs,
        Self::FirstPacketFirstNs,
        Self::FirstPacketMiddleNs,
        Self::FirstPacketLastNs,
        Self::MissPacketNs,
        Self::EstablishedPacketNs,
        Self::ColdLoadNs,
        Self::ColdLoadLowerNs,
        Self::ColdLoadDiffNs,
        Self::ColdLoadEncodeNs,
        Self::ColdLoadKernelNs,
        Self::EndpointAddedNs,
        Self::EndpointAddedLowerNs,
        Self::EndpointAddedDiffNs,
        Self::EndpointAddedEncodeNs,
        Self::EndpointAddedKernelNs,
    ];

    /// The name in the record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstPacketNs => "first_packet_ns",
            Self::FirstPacketFirstNs => "first_packet_first_ns",
            Self::FirstPacketMiddleNs => "first_packet_middle_ns",
            Self::FirstPacketLastNs => "first_packet_last_ns",
            Self::MissPacketNs => "miss_packet_ns",
            Self::EstablishedPacketNs => "established_packet_ns",
            Self::ColdLoadNs => "cold_load_ns",
            Self::ColdLoadLowerNs => "cold_load_lower_ns",
            Self::ColdLoadDiffNs => "cold_load_diff_ns",
            Self::ColdLoadEncodeNs => "cold_load_encode_ns",
            Self::ColdLoadKernelNs => "cold_load_kernel_ns",
            Self::EndpointAddedNs => "endpoint_added_ns",
            Self::EndpointAddedLowerNs => "endpoint_added_lower_ns",
            Self::EndpointAddedDiffNs => "endpoint_added_diff_ns",
            Self::EndpointAddedEncodeNs => "endpoint_added_encode_ns",
            Self::EndpointAddedKernelNs => "endpoint_added_kernel_ns",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_uses_the_names() {
        for metric in Metric::ALL {
            let written = serde_json::to_string(&metric).expect("a name");
            assert_eq!(written, format!("\"{metric}\""));
        }
    }
}
