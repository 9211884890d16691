//! The gate against regressions: whether a run in the guest needs more instructions than the
//! record that is committed.
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
use crate::stats::Summary;
use anyhow::bail;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// By how much a cost may rise, as a share of what the rules themselves cost.
const RISE_MAX: f64 = 0.01;

/// Rises of fewer instructions for a packet are not told from other places in the kernel's
/// hash tables; the smallest rule costs twice as many.
const INSTRUCTIONS_MIN: f64 = 30.0;

/// The same for an update: the same program in a folder of another name, whose pages and words
/// lie elsewhere, was seen to need up to 10,300 more.
const UPDATE_INSTRUCTIONS_MIN: f64 = 20_000.0;

/// The same for what is measured once, as a cold load is: no repetition tells what interrupts
/// it met, and the same program in another folder was seen to need 1.5 % more.
const ONCE_RISE_MAX: f64 = 0.02;

/// A median that rises by this share of the whole is a rise even when the cheapest packets or
/// updates stay where they are, as when a list is walked that grows with the Services.
const MEDIAN_RISE_MAX: f64 = 0.03;

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

/// The instructions of each.
type Counts = BTreeMap<Cell, Count>;

/// What one thing costs in instructions.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Count {
    /// How often it was measured.
    n: usize,
    /// The cheapest but for one in a hundred.
    low: f64,
    /// The dearest but for one in a hundred.
    high: f64,
    /// The median.
    middle: f64,
    /// How far the median may be off where packets cost very different amounts, as when they
    /// walk a list to a place in it: two standard errors.
    doubt: f64,
}

/// The standard error of a median of normal samples, in median distances over the root of
/// their number: 1.4826 (distances to deviations) times 1.2533 (medians to means).
const MEDIAN_ERROR: f64 = 1.858;

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
    let all = record.figures().filter(|f| f.instrument == "guest" && f.round.is_none());
    let judged = all.filter(|f| is_judged(f.metric));
    let doubt = |s: &Summary| 2.0 * MEDIAN_ERROR * real(s.mad) / real(s.n.max(1) as u64).sqrt();
    let count = |s: &Summary| Count {
        n: s.n,
        low: real(s.p01),
        high: real(s.p99),
        middle: real(s.p50),
        doubt: doubt(s),
    };
    judged.map(|f| ((f.metric, f.services, f.backend.clone()), count(&f.summary))).collect()
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
        "{:<36} {:>8} {:<18} {:>12} {:>12} {:>8}",
        "what", "Services", "backend", "record", "now", "rise"
    );
    let (mut worse, mut better) = (Vec::new(), 0);
    let is_rule = |(_, _, backend): &Cell| ![BASELINE, STATIC].contains(&backend.as_str());
    for (cell, was) in before.iter().filter(|(cell, _)| is_rule(cell)) {
        let (metric, size, backend) = cell;
        let named = format!("{metric} of {backend} with {}", services(*size));
        let Some(now) = after.get(cell) else {
            worse.push(format!("{named} is missing"));
            continue;
        };
        let judged = judged((before, after), cell, differ.is_empty());
        let (was, now) = (was.middle, now.middle);
        let rise = (now / was.max(1.0) - 1.0) * 100.0;
        let word = match judged {
            Judged::Worse => "  TOO MUCH",
            Judged::Better => "  better",
            Judged::Same => "",
        };
        let metric = metric.to_string();
        let _ = writeln!(
            text,
            "{metric:<36} {size:>8} {backend:<18} {was:>12.0} {now:>12.0} {rise:>7.2}%{word}"
        );
        worse.extend((judged == Judged::Worse).then_some(named));
        better += usize::from(judged == Judged::Better);
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

/// How a figure compares with the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    Worse,
    Same,
    Better,
}

/// How `cell` compares; `same`: on the same kernel and with the same tools.
fn judged((before, after): (&Counts, &Counts), cell: &Cell, same: bool) -> Judged {
    if matches!(cell.0, Metric::Update(..)) {
        let counts = before.get(cell).zip(after.get(cell));
        return counts.map_or(Judged::Worse, |(was, now)| update(was, now, same));
    }
    let judged = if same { packet } else { packet_elsewhere };
    judged(before, after, cell)
}

/// Interrupts and the kernel's workers only ever add to some repetitions of an update, up to
/// 250,000 instructions at once, and which Service is first makes the cheapest one cheaper or
/// dearer. What every repetition costs more is in both, the cheapest and the median. Where the
/// repetitions of the record differ by more than its room themselves, as where a program gets its
/// memory back page by page or does not, that is the room, up to [`ONCE_RISE_MAX`].
fn update(was: &Count, now: &Count, same: bool) -> Judged {
    let share = match was.n {
        _ if !same => UPDATE_RISE_ELSEWHERE,
        0 | 1 => ONCE_RISE_MAX,
        _ => RISE_MAX,
    };
    let apart = (was.high - was.low).min(was.low * ONCE_RISE_MAX);
    let room = |count: f64, share: f64| (count * share).max(UPDATE_INSTRUCTIONS_MIN).max(apart);
    if now.middle - was.middle > room(was.middle, share.max(MEDIAN_RISE_MAX)) {
        return Judged::Worse;
    }
    let low = rise(was.low, now.low, room(was.low, share));
    let middle = rise(was.middle, now.middle, room(was.middle, share));
    if low == middle { middle } else { Judged::Same }
}

fn rise(was: f64, now: f64, room: f64) -> Judged {
    match now - was {
        more if more > room => Judged::Worse,
        more if more < -room => Judged::Better,
        _ => Judged::Same,
    }
}

/// A packet costs what the path and the probe do, what connection tracking and one rewritten
/// address do, and what the rules do. The first is in `none` and cancels out, the second in
/// the floor; 1 % of the third is the room.
///
/// Where the median rises a little and the cheapest packets do not, more packets met somebody
/// else in the kernel's hash tables, and no rule is to blame.
fn packet(before: &Counts, after: &Counts, cell: &Cell) -> Judged {
    let (metric, size, _) = cell;
    let of =
        |counts: &Counts, backend: &str| counts.get(&(*metric, *size, backend.to_owned())).copied();
    let above = |counts: &Counts| {
        let path = of(counts, BASELINE).map_or(0.0, |none| none.middle);
        let own = counts.get(cell)?;
        Some(Count { low: own.low - path, middle: own.middle - path, ..*own })
    };
    let Some((was, now)) = above(before).zip(above(after)) else { return Judged::Worse };
    let floor = of(before, STATIC).zip(of(before, BASELINE));
    let floor = floor.map(|(fixed, none)| fixed.middle - none.middle);
    let rules = was.middle - floor.filter(|floor| *floor < was.middle).unwrap_or(0.0);
    let room = (rules * RISE_MAX).max(INSTRUCTIONS_MIN);
    let whole = before.get(cell).map_or(0.0, |count| count.middle);
    let much = was.doubt.max(whole * MEDIAN_RISE_MAX);
    match [rise(was.low, now.low, room), rise(was.middle, now.middle, room.max(was.doubt))] {
        _ if now.middle - was.middle > much => Judged::Worse,
        [low, middle] if low == middle => middle,
        _ => Judged::Same,
    }
}

/// On another kernel: the ratio to the path without rules.
fn packet_elsewhere(before: &Counts, after: &Counts, (metric, size, backend): &Cell) -> Judged {
    let ratio = |counts: &Counts| {
        let of = |backend: &str| counts.get(&(*metric, *size, backend.to_owned()));
        let (own, path) = (of(backend)?, of(BASELINE)?.middle.max(1.0));
        Some((own.middle / path, own.doubt / path))
    };
    // A metric that `none` does not have, such as one about rules, can only be shown.
    let Some((was, now)) = ratio(before).zip(ratio(after)) else { return Judged::Same };
    let ((was, doubt), (now, _)) = (was, now);
    rise(was, now, doubt.max(was * PACKET_RISE_ELSEWHERE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Metric = Metric::FirstPacketNs;
    const ADDED: Metric = crate::metric::Operation::EndpointAdded.whole();

    fn count(low: f64, middle: f64, doubt: f64) -> Count {
        Count { n: 5, low, high: middle, middle, doubt }
    }

    /// Invented counts; they never leave the tests.
    fn counts(nft: f64, update: f64) -> Counts {
        let cell = |metric: Metric, backend: &str| (metric, 100, backend.to_owned());
        let all = [
            (cell(FIRST, BASELINE), 10_000.0),
            (cell(FIRST, STATIC), 35_000.0),
            (cell(FIRST, "nft"), nft),
            (cell(ADDED, "nft"), update),
        ];
        all.map(|(cell, middle)| (cell, count(middle - 2.0, middle, 4.0))).into()
    }

    fn verdict(after: &Counts, differ: &[String]) -> Verdict {
        compare((&counts(40_000.0, 2.5e6), after), differ)
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
        let more = verdict(&counts(40_060.0, 2.5e6), &[]);
        assert!(more.fails && more.text.contains("first_packet_ns of nft with 100 Services"));
        assert!(!verdict(&counts(40_040.0, 2.5e6), &[]).fails);
        let update = verdict(&counts(40_000.0, 2.53e6), &[]);
        assert!(
            update.fails && update.text.contains("endpoint_added_ns of nft"),
            "{}",
            update.text
        );
    }

    /// More packets meet a neighbour in a hash table, and the cheapest do not; a walk that gets
    /// longer is another matter.
    #[test]
    fn a_median_alone_has_to_rise_by_much() {
        let mut after = counts(40_130.0, 2.5e6);
        let nft = |after: &mut Counts, low: f64, middle: f64| {
            after.insert((FIRST, 100, "nft".to_owned()), count(low, middle, 4.0));
        };
        nft(&mut after, 39_998.0, 40_130.0);
        assert!(!verdict(&after, &[]).fails);
        nft(&mut after, 39_998.0, 41_300.0);
        assert!(verdict(&after, &[]).fails);
    }

    /// Every packet walks to another place in a list: their median moves by a place or two.
    #[test]
    fn a_median_of_very_different_packets_is_doubted() {
        let (mut before, mut after) = (counts(40_000.0, 2.5e6), counts(40_000.0, 2.5e6));
        let cell = (FIRST, 100, "nft".to_owned());
        let spread = |middle| count(36_000.0, middle, 2_000.0);
        before.insert(cell.clone(), spread(40_000.0));
        for (middle, fails) in [(41_900.0, false), (42_100.0, true)] {
            after.insert(cell.clone(), spread(middle));
            assert_eq!(compare((&before, &after), &[]).fails, fails, "{middle}");
        }
    }

    /// What falls into some repetitions is not what an update costs, unless it falls into most of
    /// them and is much; of what was measured once nobody knows.
    #[test]
    fn an_update_is_judged_by_its_cheapest_repetition_and_its_median() {
        let mut after = counts(40_000.0, 2.5e6);
        let cell = (ADDED, 100, "nft".to_owned());
        for (low, middle, fails) in [
            (2.50e6, 2.57e6, false),
            (2.50e6, 2.59e6, true),
            (2.53e6, 2.53e6, true),
            (2.52e6, 2.57e6, false),
            (2.53e6, 2.52e6, false),
        ] {
            after.insert(cell.clone(), count(low, middle, 0.0));
            assert_eq!(verdict(&after, &[]).fails, fails, "{low} {middle}");
        }
        let mut before = counts(40_000.0, 2.5e6);
        before.insert(cell.clone(), Count { high: 2.7e6, ..count(2.5e6, 2.5e6, 0.0) });
        for (all, fails) in [(2.54e6, false), (2.56e6, true)] {
            after.insert(cell.clone(), count(all, all, 0.0));
            assert_eq!(compare((&before, &after), &[]).fails, fails, "{all}");
        }
        before.insert(cell.clone(), Count { n: 1, ..count(2.5e6, 2.5e6, 0.0) });
        for (once, fails) in [(2.54e6, false), (2.56e6, true)] {
            after.insert(cell.clone(), Count { n: 1, ..count(once, once, 0.0) });
            assert_eq!(compare((&before, &after), &[]).fails, fails, "{once}");
        }
    }

    #[test]
    fn what_the_whole_path_has_in_addition_is_not_the_rules() {
        let mut after = counts(40_900.0, 2.5e6);
        for backend in [BASELINE, STATIC] {
            after.get_mut(&(FIRST, 100, backend.to_owned())).expect("there").middle += 900.0;
        }
        assert!(!verdict(&after, &[]).fails);
    }

    #[test]
    fn an_improvement_says_how_to_keep_it() {
        let better = verdict(&counts(38_000.0, 2.5e6), &[]);
        assert!(!better.fails && better.text.contains("scripts/bench-check --record keeps that"));
    }

    #[test]
    fn a_figure_that_is_gone_fails() {
        let mut after = counts(40_000.0, 2.5e6);
        after.remove(&(ADDED, 100, "nft".to_owned()));
        assert!(verdict(&after, &[]).fails);
    }

    #[test]
    fn another_kernel_is_said_aloud_and_judged_by_ratios() {
        let differ = vec!["kernel: \"6.1.1\" in the record, \"6.1.2\" here".to_owned()];
        let mut after = counts(44_000.0, 2.62e6);
        after.get_mut(&(FIRST, 100, BASELINE.to_owned())).expect("there").middle = 11_000.0;
        let moved = verdict(&after, &differ);
        assert!(!moved.fails && moved.text.starts_with("NOTE: another kernel"), "{}", moved.text);
        assert!(verdict(&counts(44_000.0, 2.5e6), &differ).fails, "10 % more than `none` has");
        assert!(verdict(&counts(40_000.0, 3e6), &differ).fails);
    }
}
