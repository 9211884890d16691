//! Whether two runs say the same: ratios within each of them, and how many of their intervals
//! overlap.
//!
//! Nanoseconds of two runs differ by as much as the machine does from one hour to the next. What
//! a run claims is ratios, each between cells of the same rounds, and those have to come out
//! again.
//!
//! Invariant: pure; where rounds are too few for an interval, nothing is said of a cell.

use super::duel::{self, NFT};
use super::quantity::{count, three_digits};
use super::series::{Point, Study};
use super::table::header_of_words;
use crate::metric::{Metric, Part};
use crate::plan::BASELINE;
use crate::stats::{self, Interval};
use std::fmt::Write as _;

/// A ratio as two runs have it.
#[derive(Clone, Debug, PartialEq)]
struct Pair {
    metric: Metric,
    backend: String,
    services: u32,
    ratios: [f64; 2],
    intervals: [Interval; 2],
    /// How many times the first ratio the second is, with 95 % confidence.
    quotient: Interval,
}

impl Pair {
    fn overlaps(&self) -> bool {
        let [ours, theirs] = self.intervals;
        ours.low <= theirs.high && theirs.low <= ours.high
    }

    fn is_same(&self) -> bool {
        self.quotient.contains(1.0)
    }
}

/// What two runs of the same instrument agree on, as Markdown.
pub(super) fn section(names: [&str; 2], studies: [&Study<'_>; 2]) -> String {
    let title = format!(
        "\n## Do {} and {} agree? {} instrument, {} endpoints for each Service\n\n",
        names[0],
        names[1],
        super::capitalised(studies[0].instrument),
        studies[0].endpoints
    );
    if studies[0].is_counted() {
        return title + &counted(studies);
    }
    let all: Vec<Metric> = Metric::all().filter(is_whole).collect();
    let (packets, others): (Vec<Metric>, Vec<Metric>) =
        all.into_iter().partition(|metric| studies[0].series_of(*metric, BASELINE).is_some());
    let mut text = String::new();
    let kinds = [
        (BASELINE, packets, "the same packet without any rules"),
        (NFT, others, "of what cannot be had without rules"),
    ];
    for (reference, metrics, what) in kinds {
        let pairs: Vec<Pair> =
            metrics.iter().flat_map(|metric| pairs(studies, *metric, reference)).collect();
        if !pairs.is_empty() {
            text.push_str(&verdict(names, reference, what, &pairs));
        }
    }
    if text.is_empty() {
        text.push_str("They have no ratio in common, or fewer than three rounds of it.\n");
    }
    title + &text
}

fn is_whole(metric: &Metric) -> bool {
    !matches!(metric, Metric::Update(_, part) if *part != Part::Whole)
}

/// All ratios of `metric` to `reference` that both runs have with an interval.
fn pairs(studies: [&Study<'_>; 2], metric: Metric, reference: &str) -> Vec<Pair> {
    let [Some(ours), Some(theirs)] = studies.map(|study| study.series_of(metric, reference)) else {
        return Vec::new();
    };
    let mut pairs = Vec::new();
    for series in studies[0].series(metric).into_iter().filter(|s| s.name != reference) {
        let Some(same) = studies[1].series_of(metric, &series.name) else { continue };
        for point in &series.points {
            let size = point.services;
            let both = || {
                let first = Ratio::of(studies[0].seed, ours.at(size)?, point)?;
                // Another seed, or the same rounds would be drawn in both runs.
                let seed = studies[1].seed.wrapping_add(1);
                Some((first, Ratio::of(seed, theirs.at(size)?, same.at(size)?)?))
            };
            let Some((first, second)) = both() else { continue };
            let Some(quotient) = first.quotient(&second) else { continue };
            pairs.push(Pair {
                metric,
                backend: series.name.clone(),
                services: size,
                ratios: [first.value, second.value],
                intervals: [first.interval, second.interval],
                quotient,
            });
        }
    }
    pairs
}

/// A ratio within one run.
struct Ratio {
    value: f64,
    interval: Interval,
    redrawn: Vec<f64>,
}

impl Ratio {
    fn of(seed: u64, reference: &Point<'_>, point: &Point<'_>) -> Option<Self> {
        let redrawn = duel::redrawn_ratios(seed, reference, point)?;
        let interval = stats::middle_of(redrawn.clone())?;
        Some(Self { value: duel::ratio(reference, point), interval, redrawn })
    }

    fn quotient(&self, other: &Self) -> Option<Interval> {
        let quotients = self.redrawn.iter().zip(&other.redrawn).map(|(ours, theirs)| theirs / ours);
        stats::middle_of(quotients.collect())
    }
}

fn verdict(names: [&str; 2], reference: &str, what: &str, pairs: &[Pair]) -> String {
    let overlapping = pairs.iter().filter(|pair| pair.overlaps()).count();
    let same = pairs.iter().filter(|pair| pair.is_same()).count();
    let mut text = format!(
        "Ratios to `{reference}`, {what}: **in {} of {} cells ({}) the 95 % intervals of the two \
         runs overlap.** Harder: in {} ({}) the 95 % interval of the quotient of both ratios holds \
         1, as it should in about 95 of 100 where the same is measured twice.\n\n",
        overlapping,
        pairs.len(),
        percent(overlapping, pairs.len()),
        same,
        percent(same, pairs.len()),
    );
    let mut rows = String::new();
    let apart = pairs.iter().filter(|pair| !pair.overlaps());
    let doubtful = pairs.iter().filter(|pair| pair.overlaps() && !pair.is_same());
    for pair in apart.chain(doubtful) {
        let [ours, theirs] = [0, 1].map(|n| in_words(pair.ratios[n], pair.intervals[n]));
        let _ = writeln!(
            rows,
            "| {} | {} | {} | {ours} | {theirs} | {} | {} |",
            pair.metric.title(),
            pair.backend,
            count(pair.services),
            difference(pair.ratios[1] / pair.ratios[0], pair.quotient),
            if pair.overlaps() { "overlap" } else { "**apart**" }
        );
    }
    if !rows.is_empty() {
        let columns =
            ["What", "backend", "Services", names[0], names[1], "difference", "intervals"];
        let _ = write!(
            text,
            "Those that do not, and those whose quotient does not hold 1:\n\n{}{rows}\n",
            header_of_words(&columns)
        );
    }
    text
}

fn in_words(ratio: f64, Interval { low, high }: Interval) -> String {
    format!("{} ({} to {})", three_digits(ratio), three_digits(low), three_digits(high))
}

/// A quotient as so many percent more or less, to a tenth: two digits of the quotient would show
/// an end at 1 that is not.
fn difference(quotient: f64, Interval { low, high }: Interval) -> String {
    let percent = |quotient: f64| format!("{:+.1}", (quotient - 1.0) * 100.0);
    format!("{} % ({} to {})", percent(quotient), percent(low), percent(high))
}

/// Down to a whole percent: 100 is said of nothing less.
fn percent(part: usize, whole: usize) -> String {
    format!("{} %", part * 100 / whole.max(1))
}

/// Counts are the same or they are not; another round would say the same.
fn counted(studies: [&Study<'_>; 2]) -> String {
    let (mut all, mut same, mut near, mut rows) = (0, 0, 0, String::new());
    for metric in Metric::all().filter(is_whole) {
        for series in studies[0].series(metric) {
            let Some(other) = studies[1].series_of(metric, &series.name) else { continue };
            for point in &series.points {
                let Some(theirs) = other.at(point.services) else { continue };
                let ratio = duel::ratio_of_runs(point, theirs);
                all += 1;
                same += usize::from(point.summary == theirs.summary);
                near += usize::from(!duel::is_apart(ratio));
                if duel::is_apart(ratio) {
                    let _ = writeln!(
                        rows,
                        "| {} | {} | {} | {} |",
                        metric.title(),
                        series.name,
                        count(point.services),
                        three_digits(ratio)
                    );
                }
            }
        }
    }
    let mut text = format!(
        "Instructions are counted: in {same} of {all} cells ({}) all that is kept of both runs is \
         the same to the digit, in {near} the medians are within 1 %.\n\n",
        percent(same, all)
    );
    if !rows.is_empty() {
        let columns = ["What", "backend", "Services", "how many times the first"];
        let _ = write!(text, "The others:\n\n{}{rows}\n", header_of_words(&columns));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Entry, Machine, Record};
    use crate::report::series::studies;
    use crate::report::tests::figures;
    use nfc_ir::synth::Dice;

    /// Fifteen rounds with noise of a percent, in which iptables takes `ratio` times as long as
    /// nothing, on a machine that takes `speed` times as long for everything.
    fn run(instrument: &str, seed: u64, speed: f64, ratio: f64) -> Record {
        let mut dice = Dice::new(seed);
        let mut entries = Vec::new();
        for (backend, times) in [(BASELINE, 1.0), (NFT, 1.6), ("iptables", ratio)] {
            for services in [1, 100, 10_000] {
                let mut value = || {
                    let noise = 0.99 + f64::from(dice.below(201)) / 10_000.0;
                    whole(3_000_000.0 * speed * times * noise)
                };
                let rounds: Vec<_> = (0..15).map(|_| vec![value()]).collect();
                let of = |metric| figures(instrument, (backend, services), metric, rounds.clone());
                entries.extend(of(Metric::FirstPacketNs));
                if backend != BASELINE {
                    entries.extend(of(Metric::UnknownPortNs));
                }
            }
        }
        Record { machine: Machine::default(), entries }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few millions")]
    fn whole(value: f64) -> u64 {
        value as u64
    }

    fn said(first: &Record, second: &Record) -> String {
        let (first, second) = (studies(first), studies(second));
        section(["old", "new"], [&first[0], &second[0]])
    }

    /// A slower hour is no disagreement, because every cell of it is slower.
    #[test]
    fn two_runs_of_the_same_agree_whatever_the_hour() {
        let text = said(&run("native", 1, 1.0, 1.8), &run("native", 2, 1.3, 1.8));
        let packets =
            "Ratios to `none`, the same packet without any rules: **in 6 of 6 cells (100 %)";
        assert!(text.contains(packets), "{text}");
        let others = "Ratios to `nft`, of what cannot be had without rules: **in 3 of 3 cells";
        assert!(text.contains(others), "{text}");
        assert!(!text.contains("**apart**"), "{text}");
    }

    #[test]
    fn what_has_changed_is_listed_with_both_ratios() {
        let text = said(&run("native", 1, 1.0, 1.8), &run("native", 2, 1.0, 2.0));
        assert!(text.contains("**in 3 of 6 cells (50 %) the 95 % intervals"), "{text}");
        let begin = "| First packet of a connection | iptables | 10,000 | ";
        let row = text.lines().find(|line| line.starts_with(begin)).expect("a row");
        assert!(row.ends_with("| **apart** |") && row.contains("| +1"), "{row}");
        assert!(!text.contains("| nft | 1 |"), "{text}");
    }

    /// Intervals that are wide enough, and no wider: of many cells of the same, about one in
    /// twenty has a quotient that does not hold 1.
    #[test]
    fn the_hard_question_is_answered_no_as_often_as_it_should() {
        let (mut all, mut same) = (0, 0);
        for seed in 0..25 {
            let (first, second) =
                (run("native", 2 * seed, 1.0, 1.8), run("native", 2 * seed + 1, 1.1, 1.8));
            let (first, second) = (studies(&first), studies(&second));
            let pairs = pairs([&first[0], &second[0]], Metric::FirstPacketNs, BASELINE);
            all += pairs.len();
            same += pairs.iter().filter(|pair| pair.is_same()).count();
        }
        assert_eq!(all, 150);
        assert!((135..=149).contains(&same), "{same} of {all}");
    }

    #[test]
    fn few_rounds_say_nothing() {
        let few = |seed| {
            let mut record = run("native", seed, 1.0, 1.8);
            record.entries.retain(
                |entry| !matches!(entry, Entry::Figure(f) if f.round.is_some_and(|r| r > 1)),
            );
            record
        };
        let text = said(&few(1), &few(2));
        assert!(!text.contains("Ratios to"), "{text}");
        assert!(text.contains("fewer than three rounds"), "{text}");
    }

    #[test]
    fn counts_agree_to_the_digit_or_not() {
        let once = run("guest", 1, 1.0, 1.8);
        assert!(said(&once, &once).contains("in 15 of 15 cells (100 %) all that is kept"));
        let text = said(&once, &run("guest", 1, 1.0, 2.0));
        assert!(text.contains("in 9 of 15 cells (60 %)"), "{text}");
        assert!(text.contains("| iptables | 10,000 | 1.11 |"), "{text}");
    }
}
