//! The gate against regressions: whether a run in the guest needs more instructions than the
//! record that is committed.
//!
//! Both runs send the same packets and make the same changes in the same order, so each packet
//! and each change is compared with itself, and the median of the differences is the rise:
//! what falls into single repetitions (a timer, a worker of the kernel) or hangs on which
//! packets meet in a hash table is not in it. More than 1 % is too much.
//!
//! The guest counts instructions, so that on the same kernel and tools the same code gives the
//! same figures, on any machine and however busy it is. Kernel and tools move on, though, and
//! then counts move without anybody's fault: what is judged then are ratios to the path
//! without rules, with more room, and that is said aloud.
//!
//! Invariant: judges figures of two records, and takes none itself.

use crate::contender::STATIC;
use crate::metric::{Metric, Part, Sort};
use crate::plan::BASELINE;
use crate::record::{Machine, Record};
use crate::report::{real, services};
use crate::stats;
use anyhow::bail;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// By how much a cost may rise: of a packet the rules' own, of an update the whole.
const RISE_MAX: f64 = 0.01;

/// Rises of fewer instructions for a packet are not told from other places in the kernel's
/// hash tables; the smallest rule costs twice as many.
const INSTRUCTIONS_MIN: f64 = 30.0;

/// The same where kernel or tools differ: of a packet's ratio to the path without rules, and
/// of an update.
const PACKET_RISE_ELSEWHERE: f64 = 0.05;
const UPDATE_RISE_ELSEWHERE: f64 = 0.10;

/// What came of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What to print.
    pub text: String,
    /// Whether something costs too much.
    pub fails: bool,
}

/// One backend with so many Services, in one metric.
type Cell = (Metric, u32, String);

/// The instructions of each, in the order they were counted.
type Counts = BTreeMap<Cell, Vec<f64>>;

/// Compares the record in `run` with the one in `recorded`.
///
/// # Errors
///
/// When one of them cannot be read, or they are of different scenarios or instruments.
pub fn judge(recorded: &Path, run: &Path) -> anyhow::Result<Verdict> {
    let (recorded, run) = (Record::read(recorded)?, Record::read(run)?);
    let (before, after) = (counts(&recorded), counts(&run));
    if before.is_empty() || after.is_empty() {
        bail!("there are no instructions to compare: both have to be runs in the guest");
    }
    if let Some(void) = run.voided().next() {
        bail!("{} with {} is void: {}", void.backend, services(void.services), void.voided);
    }
    Ok(compare((&before, &after), &environment(&recorded.machine, &run.machine)))
}

/// The instructions of everything that is judged.
fn counts(record: &Record) -> Counts {
    let is_judged = |metric: Metric| match metric {
        Metric::Update(_, part) => part == Part::Whole,
        // One Service each: where the kernel's hash tables put it weighs more than any rule.
        Metric::FirstPacketFirstNs | Metric::FirstPacketMiddleNs | Metric::FirstPacketLastNs => {
            false
        }
        _ => metric.sort() == Sort::Latency,
    };
    let mut counts = Counts::new();
    for figure in record.figures().filter(|f| is_judged(f.metric)) {
        let in_order = figure.in_order.iter().flatten().map(|count| real(*count));
        let cell = (figure.metric, figure.services, figure.backend.clone());
        counts.entry(cell).or_default().extend(in_order);
    }
    counts.retain(|_, in_order| !in_order.is_empty());
    counts
}

/// In what kernel and tools differ: they, and not the rules, may have moved the counts.
fn environment(before: &Machine, after: &Machine) -> Vec<String> {
    let mut differ = Vec::new();
    let mut note = |what: &str, before: Option<&String>, after: Option<&String>| {
        if before != after {
            let [before, after] =
                [before, after].map(|version| version.map_or("not known", String::as_str));
            differ.push(format!("{what}: {before:?} in the record, {after:?} here"));
        }
    };
    note("kernel", Some(&before.kernel), Some(&after.kernel));
    let mut names: Vec<&String> = before.tools.keys().chain(after.tools.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        note(name, before.tools.get(name), after.tools.get(name));
    }
    differ
}

fn compare((before, after): (&Counts, &Counts), differ: &[String]) -> Verdict {
    let mut text = notes(differ);
    let _ = writeln!(
        text,
        "{:<36} {:>8} {:<18} {:>12} {:>12} {:>10} {:>10}",
        "what", "Services", "backend", "record", "now", "more", "room"
    );
    let (mut worse, mut better) = (Vec::new(), 0);
    let is_rule = |(_, _, backend): &Cell| ![BASELINE, STATIC].contains(&backend.as_str());
    for (cell, was) in before.iter().filter(|(cell, _)| is_rule(cell)) {
        let (metric, size, backend) = cell;
        let named = format!("{metric} of {backend} with {}", services(*size));
        let now = after.get(cell).filter(|now| now.len() == was.len());
        let Some((now, rise)) = now.zip(rise((before, after), cell, differ.is_empty())) else {
            worse.push(format!("{named} is missing, in part or as a whole"));
            continue;
        };
        let Rise { more, room } = rise;
        let word = if rise.is_worse() {
            "  TOO MUCH"
        } else if rise.is_better() {
            "  better"
        } else {
            ""
        };
        let (was, now, metric) = (median(was), median(now), metric.to_string());
        let _ = writeln!(
            text,
            "{metric:<36} {size:>8} {backend:<18} {was:>12.0} {now:>12.0} {more:>+10.0} \
             {room:>10.0}{word}"
        );
        worse.extend(rise.is_worse().then_some(named));
        better += usize::from(rise.is_better());
    }
    text.push_str(&conclusion(&worse, better));
    Verdict { text, fails: !worse.is_empty() }
}

/// What is said first of another kernel or other tools.
fn notes(differ: &[String]) -> String {
    if differ.is_empty() {
        return String::new();
    }
    let mut text: String = differ.iter().map(|line| format!("NOTE: another {line}\n")).collect();
    let _ = writeln!(
        text,
        "NOTE: counts are not comparable to the digit: packets are judged by their ratio to \
         `{BASELINE}` (5 % more is too much), updates with 10 % of room. To judge by 1 % \
         again, record anew: scripts/bench-check --record"
    );
    text
}

fn conclusion(worse: &[String], better: usize) -> String {
    let mut text = String::new();
    if better > 0 {
        let _ = writeln!(
            text,
            "{better} figures are better than the record: scripts/bench-check --record keeps that"
        );
    }
    if worse.is_empty() {
        return text + "no backend costs more than the record allows\n";
    }
    let _ = writeln!(
        text,
        "costs more than the record allows: {}.\nWhere that is the price of something wanted: \
         scripts/bench-check --record",
        worse.join("; ")
    );
    text
}

/// What something costs more than in the record, and how much more it may cost, in instructions.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rise {
    more: f64,
    room: f64,
}

impl Rise {
    fn is_worse(self) -> bool {
        self.more > self.room
    }

    fn is_better(self) -> bool {
        self.more < -self.room
    }
}

/// How `cell` compares; `same`: on the same kernel and with the same tools. `None` when one of
/// the runs does not have it.
fn rise((before, after): (&Counts, &Counts), cell: &Cell, same: bool) -> Option<Rise> {
    let (was, now) = (before.get(cell)?, after.get(cell)?);
    let share = match (cell.0, same) {
        (Metric::Update(..), true) => RISE_MAX,
        (Metric::Update(..), false) => UPDATE_RISE_ELSEWHERE,
        (_, true) => return Some(packet((before, after), cell, (was, now))),
        (_, false) => return Some(packet_elsewhere((before, after), cell, (was, now))),
    };
    Some(Rise { more: more(was, now), room: median(was) * share })
}

/// The median of what the same packet, or the same change, costs more than before.
fn more(was: &[f64], now: &[f64]) -> f64 {
    let pairs = was.iter().zip(now);
    median(&pairs.map(|(was, now)| now - was).collect::<Vec<_>>())
}

fn median(counts: &[f64]) -> f64 {
    stats::median(counts).unwrap_or(0.0)
}

/// What `backend` needs for what `cell` is about.
fn of<'a>(counts: &'a Counts, (metric, size, _): &Cell, backend: &str) -> Option<&'a Vec<f64>> {
    counts.get(&(*metric, *size, backend.to_owned()))
}

/// A packet costs what the path and the probe do, what connection tracking and one rewritten
/// address do, and what the rules do. The first is in `none` and cancels out, the second in
/// the floor; 1 % of the third is the room.
fn packet(
    (before, after): (&Counts, &Counts),
    cell: &Cell,
    (was, now): (&Vec<f64>, &Vec<f64>),
) -> Rise {
    let path = of(before, cell, BASELINE);
    let path_rise = path.zip(of(after, cell, BASELINE)).map_or(0.0, |(was, now)| more(was, now));
    let path = path.map_or(0.0, |path| median(path));
    let floor = of(before, cell, STATIC).map_or(path, |floor| median(floor));
    let own = median(was);
    let rules = if floor < own { own - floor } else { own - path };
    Rise { more: more(was, now) - path_rise, room: (rules * RISE_MAX).max(INSTRUCTIONS_MIN) }
}

/// On another kernel: as if the path without rules cost what it did. A metric that `none` does
/// not have, such as one about rules, can only be shown.
fn packet_elsewhere(
    (before, after): (&Counts, &Counts),
    cell: &Cell,
    (was, now): (&Vec<f64>, &Vec<f64>),
) -> Rise {
    let paths = of(before, cell, BASELINE).zip(of(after, cell, BASELINE));
    let Some((path_was, path_now)) = paths else {
        return Rise { more: more(was, now), room: f64::INFINITY };
    };
    let expected = median(was) * median(path_now) / median(path_was).max(1.0);
    Rise { more: median(now) - expected, room: expected * PACKET_RISE_ELSEWHERE }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Metric = Metric::FirstPacketNs;
    const ADDED: Metric = crate::metric::Operation::EndpointAdded.whole();

    fn cell(metric: Metric, backend: &str) -> Cell {
        (metric, 100, backend.to_owned())
    }

    /// Invented counts; they never leave the tests.
    fn counts(nft: f64, update: f64) -> Counts {
        let all = [
            (cell(FIRST, BASELINE), 10_000.0),
            (cell(FIRST, STATIC), 35_000.0),
            (cell(FIRST, "nft"), nft),
            (cell(ADDED, "nft"), update),
        ];
        all.map(|(cell, middle)| (cell, vec![middle + 7.0, middle - 2.0, middle])).into()
    }

    fn verdict(after: &Counts, differ: &[String]) -> Verdict {
        compare((&counts(40_000.0, 2.5e6), after), differ)
    }

    fn elsewhere() -> Vec<String> {
        vec!["kernel: \"6.1.1\" in the record, \"6.1.2\" here".to_owned()]
    }

    #[test]
    fn the_same_counts_pass() {
        let same = verdict(&counts(40_000.0, 2.5e6), &[]);
        assert!(!same.fails && same.text.contains("no backend costs more"), "{}", same.text);
    }

    /// 60 of 40,000 instructions are little of the way, but more than 1 % of the 5,000 that
    /// the rules are above the floor.
    #[test]
    fn a_needless_rule_fails_and_is_named() {
        let more = verdict(&counts(40_051.0, 2.5e6), &[]);
        assert!(more.fails && more.text.contains("first_packet_ns of nft with 100 Services"));
        assert!(!verdict(&counts(40_049.0, 2.5e6), &[]).fails);
    }

    #[test]
    fn an_update_that_costs_more_than_one_per_cent_more_fails_and_is_named() {
        for small in [1.5e5, 2.5e6, 3e8] {
            let before = counts(40_000.0, small);
            for (share, fails) in [(1.0101, true), (1.0099, false)] {
                let after = compare((&before, &counts(40_000.0, small * share)), &[]);
                assert_eq!(after.fails, fails, "{}", after.text);
                assert_eq!(fails, after.text.contains("endpoint_added_ns of nft"));
            }
        }
        let mut once = counts(40_000.0, 2.5e6);
        once.insert(cell(ADDED, "nft"), vec![1e8]);
        let mut dearer = once.clone();
        dearer.insert(cell(ADDED, "nft"), vec![1.011e8]);
        assert!(compare((&once, &dearer), &[]).fails, "what is measured once has no more room");
    }

    /// Each change costs more than the one before, since Services come; a timer falls into one or
    /// the other.
    #[test]
    fn what_falls_into_single_repetitions_is_no_rise() {
        let series = |of: fn(usize) -> f64| (0..15).map(of).collect::<Vec<_>>();
        let steps = |n: usize| 1e5 + 1e4 * real(n as u64);
        let mut before = counts(40_000.0, 2.5e6);
        before.insert(cell(ADDED, "nft"), series(steps));
        let mut after = before.clone();
        let fails = |after: &Counts| compare((&before, after), &[]).fails;
        for (place, count) in after.get_mut(&cell(ADDED, "nft")).into_iter().flatten().enumerate() {
            *count += if place < 7 { 200_000.0 } else { 100.0 };
        }
        assert!(!fails(&after));
        for count in after.get_mut(&cell(ADDED, "nft")).into_iter().flatten() {
            *count += 1_700.0;
        }
        assert!(fails(&after), "1 % of the median of 170,000 is 1,700");
    }

    /// Every packet walks to another place in a list; it is the same place as before.
    #[test]
    fn packets_that_cost_very_different_amounts_are_compared_each_with_itself() {
        let walks = |more: f64| -> Vec<f64> {
            (0..101).map(|n| 36_000.0 + 97.0 * real(n * 37 % 101) + more).collect()
        };
        let (mut before, mut after) = (counts(40_000.0, 2.5e6), counts(40_000.0, 2.5e6));
        before.insert(cell(FIRST, "nft"), walks(0.0));
        for (more, fails) in [(58.0, false), (59.0, true)] {
            after.insert(cell(FIRST, "nft"), walks(more));
            assert_eq!(compare((&before, &after), &[]).fails, fails, "1 % of 5,850: {more}");
        }
    }

    #[test]
    fn what_the_whole_path_has_in_addition_is_not_the_rules() {
        let mut after = counts(40_900.0, 2.5e6);
        for backend in [BASELINE, STATIC] {
            let all = after.get_mut(&cell(FIRST, backend)).expect("there");
            all.iter_mut().for_each(|count| *count += 900.0);
        }
        assert!(!verdict(&after, &[]).fails);
    }

    #[test]
    fn an_improvement_says_how_to_keep_it() {
        let better = verdict(&counts(38_000.0, 2.5e6), &[]);
        assert!(!better.fails && better.text.contains("scripts/bench-check --record keeps that"));
    }

    #[test]
    fn a_figure_that_is_gone_fails_as_a_whole_and_in_part() {
        let mut after = counts(40_000.0, 2.5e6);
        after.get_mut(&cell(ADDED, "nft")).expect("there").pop();
        assert!(verdict(&after, &[]).fails);
        after.remove(&cell(ADDED, "nft"));
        assert!(verdict(&after, &[]).fails);
    }

    #[test]
    fn another_kernel_is_said_aloud_and_judged_by_ratios() {
        let mut after = counts(44_000.0, 2.7e6);
        after.insert(cell(FIRST, BASELINE), vec![11_000.0; 3]);
        let moved = verdict(&after, &elsewhere());
        assert!(!moved.fails && moved.text.starts_with("NOTE: another kernel"), "{}", moved.text);
        assert!(verdict(&counts(44_000.0, 2.5e6), &elsewhere()).fails, "10 % more than `none` has");
        assert!(verdict(&counts(40_000.0, 2.8e6), &elsewhere()).fails);
    }
}
