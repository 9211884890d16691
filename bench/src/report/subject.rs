//! What is said of a metric where it is shown: the name of its chart, its axis, its meaning.
//!
//! Invariant: words only; a metric that has none of its own here is shown all the same.

use super::quantity::Unit;
use crate::metric::{Metric, Operation, Part, Sort};

/// The beginning of the name of its chart: `first-packet`, `cold-load`.
pub(crate) fn file(metric: Metric) -> String {
    let name = metric.to_string();
    name.trim_end_matches("_ns").replace('_', "-")
}

/// Whether it has a chart of its own: parts of updates are in the tables of their wholes, the
/// places in the list and the instrument's own cost in the findings, and layers in a chart of
/// theirs.
pub(crate) fn has_chart(metric: Metric) -> bool {
    match metric {
        Metric::FirstPacketFirstNs
        | Metric::FirstPacketMiddleNs
        | Metric::FirstPacketLastNs
        | Metric::EmptySendNs => false,
        Metric::Update(_, part) => part == Part::Whole,
        _ => metric.sort() != Sort::Layer,
    }
}

/// The words of its axis, with values in `unit`.
pub(crate) fn words_of_axis(metric: Metric, unit: Unit) -> String {
    format!("{}, {}", unit.axis(), axis(metric))
}

/// What its values are measured from and to.
fn axis(metric: Metric) -> &'static str {
    match metric {
        Metric::ConnectionNs => "from connect to closed at both ends",
        Metric::UnknownPortNs => "from send to refusal or departure",
        Metric::KernelBytes => "more than before the load",
        Metric::LoadPeakBytes | Metric::JsonPeakBytes | Metric::YamlPeakBytes => {
            "resident, itself and all Services included"
        }
        Metric::ToolPeakBytes => "resident",
        Metric::Update(Operation::NoOp | Operation::ReadBack, _) => {
            "until it is known that nothing is to do"
        }
        Metric::Update(Operation::FromJson | Operation::FromYaml, _) => {
            "from manifests in a file to rules in force"
        }
        Metric::Update(..) => "from Services in memory to rules in force",
        _ => "from send to arrival",
    }
}

/// What it says, and what it does not.
pub(crate) fn meaning(metric: Metric) -> &'static str {
    match metric {
        Metric::FirstPacketNs => {
            "Each packet is a new connection to a Service chosen uniformly: it walks the rules. \
             For iptables p01 to p99 is the spread over positions in the list. One packet at a \
             time (closed loop)."
        }
        Metric::FirstPacketMasqueradedNs => {
            "The same from outside of the cluster: the source is rewritten too."
        }
        Metric::MissPacketNs => {
            "A new connection to an address that no Service has: what everybody else's traffic \
             pays for the rules."
        }
        Metric::UnknownPortNs => {
            "A new connection to a Service's address, but to a port that it does not have."
        }
        Metric::EstablishedPacketNs => {
            "The kernel knows the connection and the rules for Services are not walked. What is \
             left is connection tracking and the hooks that a backend occupies; the number of \
             Services should make no difference."
        }
        Metric::ConnectionNs => {
            "A real TCP connection between two sockets, all its packets and both stacks: what an \
             application pays at most, and in which the rules weigh least. One at a time \
             (closed loop)."
        }
        Metric::Update(operation, _) => meaning_of_update(operation),
        Metric::KernelBytes => {
            "Unreclaimable slabs, vmalloc and per-CPU memory of the whole machine, before and \
             after. Whatever else the machine does meanwhile is in it, and pages that the kernel \
             had in reserve are not: read it as a slope, not to the byte."
        }
        Metric::LoadPeakBytes => {
            "Of a fresh process that makes the Services, loads them and ends (`VmHWM`). Of peers \
             it includes making the script, which is ours and not theirs."
        }
        Metric::ToolPeakBytes => {
            "Of the `nft` or `iptables-legacy-restore` process that reads the text (`VmHWM`, \
             asked every 2 ms, so that the very last growth may be missed)."
        }
        Metric::JsonPeakBytes | Metric::YamlPeakBytes => {
            "Of the process that read the manifests and loaded what they say (`VmHWM`)."
        }
        _ => "",
    }
}

fn meaning_of_update(operation: Operation) -> &'static str {
    match operation {
        Operation::ColdLoad => {
            "From Services in memory until the kernel has every rule: lower, diff, encode, \
             kernel. iptables includes iptables-legacy-restore, and kube-proxy's rulesets the \
             nft tool; of those nothing but loading is timed."
        }
        Operation::FullResync => {
            "Everything once more, in place of what is there and without looking at it. nftables \
             does it in one transaction: packets see the old rules or the new ones. iptables \
             does it table by table."
        }
        Operation::FromJson => {
            "What `kubectl get services,endpointslices -A -o json` prints (1 Service with 5 \
             endpoints: 6 kB), from a file in the page cache until a kernel that has nothing has \
             every rule, in a fresh process, as `nfc apply` does it. Pods' addresses are in no \
             order, as in a cluster."
        }
        Operation::FromYaml => "The same objects as `-o yaml` prints them.",
        Operation::NoOp => {
            "One Service again as it was, while what was loaded is remembered: what a controller \
             pays for an event that changes nothing. iptables makes all rules again to find that \
             out."
        }
        Operation::ReadBack => {
            "The same Services again, while nothing is remembered: what is there is read and \
             compared, as `nfc apply` does on a node that has rules."
        }
        Operation::EndpointAdded => {
            "From the news of a Service with one endpoint more until the kernel has it: what is \
             different about the rules (lower, and diff unless it is part of that), encode, \
             kernel. Everything loaded stays in place. Another Service got one before, untimed, \
             so that nothing is made for the first time; with 1 Service there is no other."
        }
        Operation::EndpointSwapped => {
            "One endpoint goes and another takes its place, as in a rolling update."
        }
        Operation::EndpointRemoved => "The Service has others left.",
        Operation::ServiceAdded => "A Service with as many endpoints as the others.",
        Operation::ServiceRemoved => "With all its endpoints.",
        Operation::Churn => "All at once, in one update.",
    }
}
