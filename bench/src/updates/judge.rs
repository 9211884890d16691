//! What became of packets that were sent while rules changed.
//!
//! While an update is carried out, a packet may go by the old rules or by the new ones; before
//! and after it, only by those that hold. Anything else is wrong.
//!
//! Invariant: pure; what the rules mean is told by `eval`.

use crate::record::Slot;
use crate::stats::{self, Summary};
use nfc_ir::Outcome;
use nfc_lab::{Landing, Scheduled};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What a Service means to packets, as time goes by.
#[derive(Clone, Debug)]
pub(super) struct History {
    /// Before the first change.
    pub(super) first: Outcome,
    /// Each change: when it was begun, when it was known to be done (nanoseconds of the
    /// monotonic clock), and what the Service means since.
    pub(super) changes: Vec<(u64, u64, Outcome)>,
}

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// From when a packet was due until it arrived: all that arrived.
    pub(super) latency: Option<Summary>,
    /// Arrived nowhere.
    pub(super) lost: u32,
    /// Arrived where no rules that held at that time send them.
    pub(super) wrong: u32,
    /// Arrived late.
    pub(super) late: u32,
    /// Of those, so long after they had been sent.
    pub(super) late_on_way: u32,
    /// The longest that a packet took after it had been sent, in nanoseconds.
    pub(super) longest_way_ns: u64,
    /// Of those, due and arrived while no update was being carried out.
    pub(super) late_between: u32,
    /// The latencies in order of time.
    pub(super) slots: Vec<Slot>,
}

impl History {
    /// Whether rules that held at some time from `from` to `to` allow this landing.
    fn allows(&self, landing: &Landing, from: u64, to: u64) -> bool {
        let later = self.changes.iter().take_while(|(begun, ..)| *begun <= to);
        let mut holding = vec![&self.first];
        for (_, done, outcome) in later {
            if *done < from {
                holding.clear();
            }
            holding.push(outcome);
        }
        holding.into_iter().any(|outcome| landing.agrees_with(outcome))
    }
}

/// How long a slot of the timeline is.
const SLOT_NS: u64 = 20_000_000;

/// Judges `packets`; `spans` are the times in which updates were carried out.
#[must_use]
pub(super) fn judge(
    packets: &[Scheduled],
    histories: &BTreeMap<SocketAddr, History>,
    spans: &[(u64, u64)],
    late_ns: u64,
) -> Verdict {
    let start = packets.first().map_or(0, |p| p.due_ns);
    let (mut lost, mut wrong, mut late, mut late_on_way, mut late_between) = (0, 0, 0, 0, 0);
    let mut latencies = Vec::new();
    let mut slots: BTreeMap<u64, (Vec<u64>, u32)> = BTreeMap::new();
    for packet in packets {
        let history = histories.get(&packet.destination);
        let allows = |h: &History| h.allows(&packet.landing, packet.sent_ns, packet.seen_ns);
        let slot = slots.entry((packet.due_ns - start) / SLOT_NS).or_default();
        if !history.is_some_and(allows) {
            slot.1 += 1;
            match packet.landing {
                Landing::Silence => lost += 1,
                _ => wrong += 1,
            }
        }
        if packet.landing == Landing::Silence {
            continue;
        }
        let latency = packet.seen_ns - packet.due_ns;
        latencies.push(latency);
        slot.0.push(latency);
        if latency > late_ns {
            late += 1;
            late_on_way += u32::from(packet.seen_ns - packet.sent_ns > late_ns);
            let meets = |(a, b): &(u64, u64)| *a <= packet.seen_ns && *b >= packet.due_ns;
            late_between += u32::from(!spans.iter().any(meets));
        }
    }
    let slots = slots.into_iter().map(|(at, (values, astray))| slot(at, values, astray)).collect();
    let latency = Summary::of(&latencies);
    let arrived = packets.iter().filter(|p| p.landing != Landing::Silence);
    let longest_way_ns = arrived.map(|p| p.seen_ns - p.sent_ns).max().unwrap_or(0);
    Verdict { latency, lost, wrong, late, late_on_way, longest_way_ns, late_between, slots }
}

fn slot(at: u64, mut values: Vec<u64>, astray: u32) -> Slot {
    values.sort_unstable();
    let p50 = stats::percentile(&values, 500).unwrap_or(0);
    Slot { at_ns: at * SLOT_NS, p50, max: values.last().copied().unwrap_or(0), astray }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nfc_ir::Choice;

    fn choice(endpoint: &str) -> Choice {
        Choice { endpoint: endpoint.parse().expect("an address"), masquerade: false }
    }

    fn only(endpoint: &str) -> Outcome {
        Outcome::Balance(BTreeMap::from([(choice(endpoint), 1.0)]))
    }

    const OLD: &str = "10.0.0.1:8080";
    const NEW: &str = "10.0.0.2:8080";

    fn packet(sent_ns: u64, seen_ns: u64, landing: Landing) -> Scheduled {
        let destination = "172.16.0.1:80".parse().expect("an address");
        Scheduled { destination, due_ns: sent_ns, sent_ns, seen_ns, landing }
    }

    fn verdict(packets: &[Scheduled]) -> Verdict {
        let history = History { first: only(OLD), changes: vec![(1_000, 2_000, only(NEW))] };
        let histories = BTreeMap::from([(packets[0].destination, history)]);
        judge(packets, &histories, &[(1_000, 2_000)], 300)
    }

    fn landed(endpoint: &str) -> Landing {
        Landing::Endpoint(choice(endpoint))
    }

    #[test]
    fn old_rules_hold_before_new_ones_after_and_both_between() {
        let good = [
            packet(10, 20, landed(OLD)),
            packet(990, 1_010, landed(NEW)),
            packet(1_500, 1_510, landed(OLD)),
            packet(1_600, 1_610, landed(NEW)),
            packet(1_990, 2_010, landed(OLD)),
            packet(2_100, 2_110, landed(NEW)),
        ];
        assert_eq!((verdict(&good).wrong, verdict(&good).lost), (0, 0));
        let bad = [packet(10, 20, landed(NEW)), packet(2_100, 2_110, landed(OLD))];
        assert_eq!(verdict(&bad).wrong, 2);
    }

    #[test]
    fn the_lost_and_the_late_are_counted() {
        let packets = [
            packet(10, 400, landed(OLD)),
            Scheduled { sent_ns: 1_290, ..packet(900, 1_300, landed(OLD)) },
            packet(2_100, 9_000, Landing::Silence),
        ];
        let verdict = verdict(&packets);
        assert_eq!((verdict.lost, verdict.wrong), (1, 0));
        assert_eq!((verdict.late, verdict.late_on_way, verdict.late_between), (2, 1, 1));
        assert_eq!((verdict.latency.map(|s| s.n), verdict.slots.len()), (Some(2), 1));
        assert_eq!((verdict.slots[0].astray, verdict.longest_way_ns), (1, 390));
    }
}
