//! Everybody against nft: how many times as long they take, how sure that is, and from which
//! number of Services on.
//!
//! Who is faster is decided by a test over rounds ([`stats::compare`]); how much, by the ratio
//! of medians with its bootstrap interval.
//!
//! Invariant: where the test shows no difference, none is claimed.

use super::quantity::{Unit, count, services, three_digits};
use super::series::{Point, Series, Study, real};
use crate::contender::STATIC;
use crate::metric::Metric;
use crate::plan::BASELINE;
use crate::stats::{self, Comparison, Interval, SIGNIFICANT};

/// The backend that all others are compared with.
pub(crate) const NFT: &str = "nft";

/// How far apart two counts of instructions must be to be called different: another seed
/// sends other packets, and moves medians by less.
const COUNTED_APART: f64 = 1.01;

/// nft and another at one number of Services.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Duel {
    pub(crate) services: u32,
    /// How many times the median of nft that of the other is.
    pub(crate) ratio: f64,
    pub(crate) interval: Option<Interval>,
    test: Option<Comparison>,
    /// Instructions are counted, not sampled: no test is needed.
    is_counted: bool,
}

/// Who is faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Nft,
    Other,
    NotShown,
    TooFewRounds,
}

impl Duel {
    fn between(study: &Study<'_>, nft: &Point<'_>, other: &Point<'_>) -> Self {
        let rounds =
            |point: &Point<'_>| -> Vec<f64> { point.medians.values().copied().map(real).collect() };
        Self {
            services: nft.services,
            ratio: ratio(nft, other),
            interval: ratio_interval(study.seed, nft, other),
            test: stats::compare(&rounds(nft), &rounds(other)),
            is_counted: study.is_counted(),
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        if self.is_counted {
            return match self.ratio {
                r if !is_apart(r) => Verdict::NotShown,
                r if r > 1.0 => Verdict::Nft,
                _ => Verdict::Other,
            };
        }
        match self.test {
            None => Verdict::TooFewRounds,
            Some(test) if test.p >= SIGNIFICANT => Verdict::NotShown,
            Some(test) if test.below > 0.5 => Verdict::Nft,
            Some(_) => Verdict::Other,
        }
    }

    /// The ratio with its interval: `3.45 (3.37 to 3.57)`.
    pub(crate) fn ratio_in_words(&self) -> String {
        let ratio = three_digits(self.ratio);
        match self.interval {
            Some(i) => format!("{ratio} ({} to {})", three_digits(i.low), three_digits(i.high)),
            None => ratio,
        }
    }

    /// How sure it is: the test's p and the effect size.
    pub(crate) fn sureness(&self) -> String {
        match self.test {
            _ if self.is_counted => "counted".to_owned(),
            None => "too few rounds".to_owned(),
            Some(test) => format!("p {}, A {:.2}", in_words(test.p), test.below),
        }
    }
}

/// Whether two counts of instructions of this ratio are called different.
pub(crate) fn is_apart(ratio: f64) -> bool {
    !(1.0 / COUNTED_APART..=COUNTED_APART).contains(&ratio)
}

fn in_words(p: f64) -> String {
    match p {
        p if p < 0.000_1 => "< 0.0001".to_owned(),
        p if p < 0.01 => format!("= {p:.4}"),
        p => format!("= {p:.2}"),
    }
}

/// How many times as much the other takes in the same run. Rounds that only one of them has are
/// left out: the slow are measured in fewer, and what made a round slow made both slow.
pub(crate) fn ratio(ours: &Point<'_>, theirs: &Point<'_>) -> f64 {
    let both = shared(ours, theirs);
    of_medians(both.iter()).unwrap_or_else(|| ratio_of_runs(ours, theirs))
}

/// How many times as much it takes in another run, whose rounds are others.
pub(crate) fn ratio_of_runs(first: &Point<'_>, other: &Point<'_>) -> f64 {
    other.middle() / first.middle().max(1.0)
}

/// The interval of that ratio when rounds are drawn anew, both sides from the same rounds.
pub(crate) fn ratio_interval(seed: u64, ours: &Point<'_>, theirs: &Point<'_>) -> Option<Interval> {
    stats::middle_of(redrawn_ratios(seed, ours, theirs)?)
}

/// That ratio, each time that rounds are drawn anew.
pub(crate) fn redrawn_ratios(seed: u64, ours: &Point<'_>, theirs: &Point<'_>) -> Option<Vec<f64>> {
    let both = shared(ours, theirs);
    stats::redrawn(both.len(), seed, |drawn| of_medians(drawn.iter().map(|i| &both[*i])))
}

/// The medians of the rounds that both have, ours first.
fn shared(ours: &Point<'_>, theirs: &Point<'_>) -> Vec<(f64, f64)> {
    let pair = |(round, a): (&u32, &u64)| Some((real(*a), real(*theirs.medians.get(round)?)));
    ours.medians.iter().filter_map(pair).collect()
}

/// The other's median over ours; `None` without a round.
fn of_medians<'a>(rounds: impl Iterator<Item = &'a (f64, f64)>) -> Option<f64> {
    let (ours, theirs): (Vec<f64>, Vec<f64>) = rounds.copied().unzip();
    Some(stats::median(&theirs)? / stats::median(&ours)?.max(1.0))
}

/// nft and another at all numbers of Services that both have.
#[derive(Clone, Debug)]
pub(crate) struct Rivals {
    /// The other's name.
    pub(crate) other: String,
    /// In order of the number of Services, at least one.
    pub(crate) duels: Vec<Duel>,
    /// Where the medians cross for the last time, between two sizes, with an interval.
    pub(crate) crossing: Option<(f64, Option<Interval>)>,
    /// What they compete in.
    pub(crate) unit: Unit,
    /// Whether nft was measured with more Services than the other.
    ends_early: bool,
}

/// Everybody against nft in `metric`.
pub(crate) fn rivals(study: &Study<'_>, metric: Metric) -> Vec<Rivals> {
    let all = study.series(metric);
    let Some(nft) = all.iter().find(|s| s.name == NFT) else { return Vec::new() };
    // Neither the path without rules nor the floor does what a Service asks for.
    let others = all.iter().filter(|s| ![NFT, BASELINE, STATIC].contains(&s.name.as_str()));
    let rivals = |other: &Series<'_>| {
        let both = |a: &Point<'_>| Some(Duel::between(study, a, other.at(a.services)?));
        let duels: Vec<Duel> = nft.points.iter().filter_map(both).collect();
        let crossing = crossing(&nft.medians(), &other.medians());
        (!duels.is_empty()).then(|| Rivals {
            other: other.name.clone(),
            crossing: crossing.map(|size| (size, crossing_interval(study.seed, nft, other))),
            unit: study.unit_of(metric),
            ends_early: duels.last().map(|d| d.services) < nft.points.last().map(|p| p.services),
            duels,
        })
    };
    others.filter_map(rivals).collect()
}

/// The number of Services from which on ours is below theirs, when it is not at all sizes:
/// the last crossing of the two lines, drawn straight between sizes on logarithmic scales.
fn crossing(ours: &[(f64, f64)], theirs: &[(f64, f64)]) -> Option<f64> {
    let ratio = |(size, our): &(f64, f64)| {
        let their = theirs.iter().find(|(other, _)| other == size)?.1;
        (*our > 0.0 && their > 0.0).then(|| (size.ln(), (their / our).ln()))
    };
    let ratios: Vec<(f64, f64)> = ours.iter().filter_map(ratio).collect();
    let behind = ratios.iter().rposition(|(_, ratio)| *ratio < 0.0)?;
    let ((x0, y0), (x1, y1)) = (ratios[behind], *ratios.get(behind + 1)?);
    Some((x0 + (x1 - x0) * -y0 / (y1 - y0)).exp())
}

fn crossing_interval(seed: u64, ours: &Series<'_>, theirs: &Series<'_>) -> Option<Interval> {
    let rounds = ours.rounds_of_all_points();
    stats::bootstrap(rounds.len(), seed, |drawn| {
        let drawn: Vec<u32> = drawn.iter().map(|i| rounds[*i]).collect();
        crossing(&ours.redrawn(&drawn)?, &theirs.redrawn(&drawn)?)
    })
}

impl Rivals {
    /// From which number of Services on nft is ahead, and how that is known.
    pub(crate) fn ahead_from(&self) -> String {
        let Some(last) = self.duels.last() else { return String::new() };
        let verdict = last.verdict();
        let other = self.duels.iter().rposition(|duel| duel.verdict() != verdict);
        let first = other.and_then(|place| self.duels.get(place + 1));
        let what = match verdict {
            Verdict::TooFewRounds => return "too few rounds for a test".to_owned(),
            Verdict::Nft => "ahead",
            Verdict::Other => "behind",
            Verdict::NotShown => "no difference shown",
        };
        match first {
            None if self.duels.len() == 1 => format!("{what} at {}", services(last.services)),
            None if self.ends_early => {
                format!("{what} at every size up to {}", services(last.services))
            }
            None if verdict == Verdict::NotShown => format!("{what} at any size"),
            None => format!("{what} at every size"),
            Some(first) if verdict == Verdict::Nft => {
                format!("{what} from {} on{}", services(first.services), self.crossing_in_words())
            }
            Some(first) if first == last => format!("{what} at {}", services(last.services)),
            Some(first) => format!("{what} from {} on", services(first.services)),
        }
    }

    fn crossing_in_words(&self) -> String {
        let size = |value: f64| three_digits(value.round());
        match self.crossing {
            Some((at, Some(i))) => {
                format!(" (crossing at about {}; {} to {})", size(at), size(i.low), size(i.high))
            }
            Some((at, None)) => format!(" (crossing at about {})", size(at)),
            None => String::new(),
        }
    }

    /// All of it in one line.
    pub(crate) fn in_words(&self) -> Option<String> {
        let (first, last) = (self.duels.first()?, self.duels.last()?);
        let at = |duel: &Duel| format!("{} at {}", duel.ratio_in_words(), services(duel.services));
        let ratios = if first == last { at(first) } else { format!("{}, {}", at(first), at(last)) };
        Some(format!("{} : nft: {ratios} (ratio of medians). {}", self.other, self.verdicts()))
    }

    /// Who is faster at which size.
    fn verdicts(&self) -> String {
        if self.duels.iter().any(|duel| duel.verdict() == Verdict::TooFewRounds) {
            return format!("Too few rounds to say who {}.", self.unit.less());
        }
        let mut runs: Vec<(Verdict, Vec<&Duel>)> = Vec::new();
        for duel in &self.duels {
            match runs.last_mut() {
                Some((same, duels)) if *same == duel.verdict() => duels.push(duel),
                _ => runs.push((duel.verdict(), vec![duel])),
            }
        }
        let sentence = |(verdict, duels): &(Verdict, Vec<&Duel>)| {
            let who = match verdict {
                Verdict::Nft => format!("{NFT} {}", self.unit.less()),
                Verdict::Other => format!("{} {}", self.other, self.unit.less()),
                Verdict::NotShown | Verdict::TooFewRounds => "no difference shown".to_owned(),
            };
            let sizes = match duels.as_slice() {
                [first, .., last] => {
                    format!("from {} to {}", count(first.services), count(last.services))
                }
                duels => {
                    format!("at {}", duels.iter().map(|d| count(d.services)).collect::<String>())
                }
            };
            format!("{who} {sizes}{}", least_sure(duels))
        };
        let sentences: Vec<String> = runs.iter().map(sentence).collect();
        format!("By Services: {}.", sentences.join("; "))
    }
}

/// How sure the least sure of these is.
fn least_sure(duels: &[&Duel]) -> String {
    let sureness = |duel: &&&Duel| duel.test.map_or(0.0, |test| test.p);
    let least = duels.iter().max_by(|a, b| sureness(a).total_cmp(&sureness(b)));
    let least = least.filter(|duel| !duel.is_counted);
    let several = if duels.len() > 1 { " where least sure" } else { "" };
    least.map_or_else(String::new, |duel| format!(" ({}{several})", duel.sureness()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_cross_where_they_are_equal() {
        let sizes = [1.0, 10.0, 100.0, 1_000.0];
        let ours = sizes.map(|n| (n, 200.0));
        let theirs = sizes.map(|n| (n, 10.0 * n));
        let found = crossing(&ours, &theirs).expect("they cross");
        assert!((found - 20.0).abs() < 1e-6, "{found}");
        assert_eq!(crossing(&theirs, &ours), None, "ours is behind at the end");
        assert_eq!(crossing(&ours, &ours.map(|(n, v)| (n, v * 2.0))), None, "always ahead");
    }

    fn duel(services: u32, ratio: f64, p: f64) -> Duel {
        let below = if ratio > 1.0 { 1.0 } else { 0.0 };
        let test = Some(Comparison { p, below });
        Duel { services, ratio, interval: None, test, is_counted: false }
    }

    fn rivals(duels: &[Duel]) -> Rivals {
        Rivals {
            other: "iptables".to_owned(),
            duels: duels.to_vec(),
            crossing: None,
            unit: Unit::Nanoseconds,
            ends_early: false,
        }
    }

    #[test]
    fn a_difference_by_chance_is_none() {
        let found = rivals(&[duel(1, 0.9, 0.001), duel(10, 1.1, 0.2), duel(100, 3.0, 0.001)]);
        let words = found.in_words().expect("duels");
        assert!(words.contains("iptables is faster at 1 (p = 0.0010, A 0.00); "), "{words}");
        assert!(words.contains("no difference shown at 10 (p = 0.20, A 1.00); "), "{words}");
        assert!(words.contains("nft is faster at 100 (p = 0.0010, A 1.00)."), "{words}");
        assert_eq!(found.ahead_from(), "ahead from 100 Services on");
    }

    #[test]
    fn one_lost_size_at_the_end_is_not_ahead() {
        let found = rivals(&[duel(1, 2.0, 0.001), duel(10, 0.5, 0.001)]);
        assert_eq!(found.ahead_from(), "behind at 10 Services");
        let unsure = rivals(&[duel(1, 2.0, 0.001), duel(10, 1.5, 0.5)]);
        assert_eq!(unsure.ahead_from(), "no difference shown at 10 Services");
        assert_eq!(rivals(&[duel(1, 2.0, 0.001)]).ahead_from(), "ahead at 1 Service");
    }

    #[test]
    fn who_is_behind_is_told_from_where_on() {
        let found = rivals(&[duel(1, 2.0, 0.001), duel(10, 0.9, 0.001), duel(100, 0.5, 0.001)]);
        assert_eq!(found.ahead_from(), "behind from 10 Services on");
        let never = rivals(&[duel(1, 0.9, 0.5), duel(10, 1.1, 0.5)]);
        assert_eq!(never.ahead_from(), "no difference shown at any size");
    }

    /// "At every size" must not be read as "also where it was not measured".
    #[test]
    fn a_rival_that_stopped_early_is_told_how_far_it_went() {
        let early = Rivals { ends_early: true, ..rivals(&[duel(1, 2.0, 0.0), duel(10, 2.0, 0.0)]) };
        assert_eq!(early.ahead_from(), "ahead at every size up to 10 Services");
    }

    /// The emulated machine counts instructions, which are not time.
    #[test]
    fn nobody_is_faster_in_instructions() {
        let duels = [duel(1, 2.0, 0.0), duel(10, 0.5, 0.0)].map(|d| Duel { is_counted: true, ..d });
        let counted = Rivals { unit: Unit::Instructions, ..rivals(&duels) };
        let words = counted.in_words().expect("duels");
        assert!(words.ends_with("nft needs fewer at 1; iptables needs fewer at 10."), "{words}");
    }
}
