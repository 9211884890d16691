//! How far a run can be trusted: whether the path without rules stayed the same, and who else
//! used the CPUs.
//!
//! Invariant: says what was seen, and takes nothing out of the figures.

use super::quantity::{services, three_digits};
use super::series::{Study, real};
use crate::metric::Metric;
use crate::plan::BASELINE;
use crate::record::{CpuTime, Figure, Finished, Record};
use crate::stats::{self, ROUNDS_FOR_95};

/// How far the median of a block without rules may lie from that of all such blocks.
const MOVED_MAX: f64 = 0.05;

/// How much of all CPUs other programs may have had while a cell was measured.
const OTHERS_MAX: f64 = 0.15;

/// How much of all CPUs the host may have given to somebody else.
const STOLEN_MAX: f64 = 0.02;

/// With more than this share of disturbed blocks or cells the whole run counts as disturbed.
const DISTURBED_MAX: f64 = 0.2;

/// What is said about a run's quality.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Quality {
    /// Why the run as a whole is disturbed.
    disturbed: Vec<String>,
    /// What else was seen.
    seen: Vec<String>,
    /// The largest share of blocks or cells that were off, where it is not too much.
    off: f64,
}

/// The quality of the run in `record`.
pub(crate) fn quality(record: &Record, studies: &[Study<'_>]) -> Quality {
    let mut quality = Quality::default();
    for study in studies {
        null_blocks(study, &mut quality);
    }
    let cells: Vec<_> = record.finished().filter_map(|f| Some((f, f.cpus?))).collect();
    if !cells.is_empty() {
        others(&cells, &mut quality);
        stolen(&cells, &mut quality);
    }
    few_rounds(record, &mut quality);
    quality
}

impl Quality {
    /// The first lines of a report.
    pub(crate) fn in_words(&self) -> String {
        let mut lines = Vec::new();
        if !self.disturbed.is_empty() {
            lines.push(format!(
                "**Disturbed run: {}. Do not publish these figures; trust laws and large ratios at \
                 most.**",
                self.disturbed.join("; ")
            ));
        }
        let mut seen = self.seen.iter().cloned();
        if self.disturbed.is_empty() {
            let verdict = if self.off == 0.0 {
                "Not disturbed.".to_owned()
            } else {
                format!(
                    "Off in up to {} of the blocks or cells; a run is called disturbed when more \
                     than {} are.",
                    percent(self.off),
                    percent(DISTURBED_MAX)
                )
            };
            lines.extend(seen.next().map(|first| format!("**{verdict}** {first}")));
        }
        lines.extend(seen);
        lines
            .iter()
            .map(|line| format!("> {line}\n>\n"))
            .collect::<String>()
            .trim_end_matches(">\n")
            .to_owned()
    }

    /// Adds a sentence, as a reason when `share` is too much for the whole run.
    fn note(&mut self, share: f64, sentence: String) {
        if share > DISTURBED_MAX {
            self.disturbed.push(sentence);
        } else {
            self.off = self.off.max(share);
            let mut letters = sentence.chars();
            let first: String = letters.by_ref().take(1).flat_map(char::to_uppercase).collect();
            self.seen.push(format!("{first}{}.", letters.as_str()));
        }
    }
}

/// The noise gate: rounds without any rules should all be alike.
fn null_blocks(study: &Study<'_>, quality: &mut Quality) {
    let blocks = study.of_rounds(Metric::FirstPacketNs, BASELINE);
    let medians: Vec<f64> = blocks.iter().map(|block| real(block.summary.p50)).collect();
    let Some(middle) = stats::median(&medians) else { return };
    let away = |block: &Figure| real(block.summary.p50) / middle - 1.0;
    let moved: Vec<&Figure> =
        blocks.iter().copied().filter(|block| away(block).abs() > MOVED_MAX).collect();
    let unit = study.unit_of(Metric::FirstPacketNs);
    if moved.is_empty() {
        quality.seen.push(format!(
            "All {} blocks without rules had a median within 5 % of {}.",
            blocks.len(),
            unit.format(middle)
        ));
        return;
    }
    let named = |block: &&Figure| {
        let round = block.round.unwrap_or(0) + 1;
        format!("round {round} with {} {:+.0} %", services(block.services), away(block) * 100.0)
    };
    let mut names: Vec<String> = moved.iter().take(6).map(named).collect();
    names.extend((moved.len() > 6).then(|| "and others".to_owned()));
    let share = real_count(moved.len()) / real_count(blocks.len());
    quality.note(
        share,
        format!(
            "{} of {} blocks without rules had a median more than 5 % away from {}, of which {} by \
             chance ({})",
            moved.len(),
            blocks.len(),
            unit.format(middle),
            by_chance(&blocks, middle),
            names.join(", ")
        ),
    );
}

/// How many blocks are to be expected that far away because their packets scatter, on a machine
/// that is always the same: each with a likelihood of exp(-z^2 / 2) at most, where z is
/// the distance in standard errors of its median (the Chernoff bound of a normal distribution).
fn by_chance(blocks: &[&Figure], middle: f64) -> String {
    let likelihood = |block: &&Figure| {
        let distance = middle * MOVED_MAX / block.summary.median_error();
        (-distance * distance / 2.0).exp()
    };
    match blocks.iter().map(likelihood).sum::<f64>() {
        none if none < 0.05 => "none is to be expected".to_owned(),
        some => format!("at most {some:.1} are to be expected"),
    }
}

/// What intervals of few rounds are worth: the median lies outside of all rounds too often.
fn few_rounds(record: &Record, quality: &mut Quality) {
    let rounds = record.figures().filter(|f| f.round.is_none()).map(|f| f.rounds);
    let Some(fewest) = rounds.filter(|n| (3..ROUNDS_FOR_95).contains(n)).min() else { return };
    let held = 1.0 - stats::outside(usize::try_from(fewest).unwrap_or(usize::MAX), 1);
    quality.seen.push(format!(
        "Intervals over fewer than {ROUNDS_FOR_95} rounds, here down to {fewest}, are the range of \
         the rounds and called 95 % too generously: of {fewest} rounds it holds the median in {:.0} \
         of 100 cases.",
        held * 100.0
    ));
}

fn others(cells: &[(&Finished, CpuTime)], quality: &mut Quality) {
    let share = |cpus: &CpuTime| {
        real(cpus.user_ms.saturating_sub(cpus.own_ms)) / real(cpus.capacity_ms.max(1))
    };
    let shares: Vec<f64> = cells.iter().map(|(_, cpus)| share(cpus)).collect();
    let many = shares.iter().filter(|share| **share > OTHERS_MAX).count();
    let middle = percent(stats::median(&shares).unwrap_or(0.0));
    quality.note(
        real_count(many) / real_count(cells.len()),
        match many {
            0 => format!(
                "Other programs had {middle} of the CPUs (median over cells), in no cell more than \
                 15 %"
            ),
            _ => format!(
                "in {many} of {} cells other programs had more than 15 % of the CPUs ({middle} in \
                 the median)",
                cells.len()
            ),
        },
    );
}

fn stolen(cells: &[(&Finished, CpuTime)], quality: &mut Quality) {
    let stolen: Vec<f64> =
        cells.iter().map(|(_, cpus)| real(cpus.steal_ms) / real(cpus.capacity_ms.max(1))).collect();
    let many = stolen.iter().filter(|share| **share > STOLEN_MAX).count();
    if many > 0 {
        let most = percent(stolen.iter().copied().fold(0.0, f64::max));
        quality.note(
            real_count(many) / real_count(cells.len()),
            format!(
                "in {many} of {} cells the host took more than 2 % of the CPUs away ({most} at \
                 most)",
                cells.len()
            ),
        );
    }
}

fn percent(share: f64) -> String {
    format!("{} %", three_digits(share * 100.0))
}

#[expect(clippy::cast_precision_loss, reason = "a run has fewer cells than 2^52")]
fn real_count(count: usize) -> f64 {
    count as f64
}
