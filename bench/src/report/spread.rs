//! How the first packets of a run are spread: curves at three numbers of Services, and bars as
//! in the chart that Kubernetes published.
//!
//! Invariant: picks values of the record; every percentile is one of all rounds together.

use super::panels::{self, Panel, Panels, Spread};
use super::quantity::services;
use super::section::Section;
use super::series::{Series, Study, real};
use crate::metric::Metric;
use crate::record::Record;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// As many points make a curve smooth on any paper.
const POINTS_MAX: usize = 200;

/// The section of `metric`, empty when the record does not have every sample.
pub(crate) fn curves(record: &Record, study: &Study<'_>, metric: Metric, suffix: &str) -> Section {
    let mut section = Section::default();
    let all = study.series(metric);
    let sizes = three_of(&sizes(&all));
    let panels = panels(record, study, metric, &all, &sizes);
    let title = format!("{}: how it is spread", metric.title());
    section.say(&format!(
        "\n### {title}\n\nHow many packets in a hundred were under way no longer than that, at {} \
         numbers of Services; a marker is at the median. A steep line is a cost that hardly \
         varies; for iptables the slant is the place of the Service in the list.\n\n",
        panels.panels.len()
    ));
    let file = format!("{}-spread{suffix}.svg", super::subject::file(metric));
    if !section.show(&title, &file, |form| panels::curves(&panels, form)) {
        return Section::default();
    }
    section.say(&table(&panels));
    section.say(&super::raw_data(metric));
    section
}

/// The bars of `metric` in the form of the reference chart.
pub(crate) fn bars(record: &Record, study: &Study<'_>, metric: Metric, suffix: &str) -> Section {
    let mut section = Section::default();
    let all = study.series(metric);
    let sizes: Vec<u32> = sizes(&all).into_iter().rev().take(3).rev().collect();
    let panels = panels(record, study, metric, &all, &sizes);
    let title = format!("{}, as bars", metric.title());
    section.say(&format!(
        "\n### {title}\n\nThe form of the chart in the Kubernetes blog of 2025-02-28 on the \
         nftables mode of kube-proxy, at the {} largest sizes: percentiles on a linear scale, so \
         that both can be laid side by side; a bar that would leave the paper is cut, and says \
         its value. \
         Theirs are of a real cluster and of conntrack \
         events; shapes can be compared, microseconds cannot.\n\n",
        panels.panels.len()
    ));
    let file = format!("{}-bars{suffix}.svg", super::subject::file(metric));
    if !section.show(&title, &file, |form| panels::bars(&panels, form)) {
        return Section::default();
    }
    section.say(&table(&panels));
    section.say(&super::raw_data(metric));
    section
}

fn sizes(all: &[Series<'_>]) -> Vec<u32> {
    let sizes: BTreeSet<u32> =
        all.iter().flat_map(|s| s.points.iter().map(|p| p.services)).collect();
    sizes.into_iter().collect()
}

/// The smallest, the middle and the largest.
fn three_of(sizes: &[u32]) -> Vec<u32> {
    let [first, .., last] = sizes else { return sizes.to_vec() };
    let three = BTreeSet::from([*first, sizes[sizes.len() / 2], *last]);
    three.into_iter().collect()
}

fn panels(
    record: &Record,
    study: &Study<'_>,
    metric: Metric,
    all: &[Series<'_>],
    sizes: &[u32],
) -> Panels {
    let spread = |series: &Series<'_>, size: u32| {
        let point = series.at(size)?;
        let s = point.summary;
        let percentiles = [("p01", s.p01), ("p50", s.p50), ("p90", s.p90), ("p99", s.p99)];
        let percentiles = percentiles.map(|(name, value)| (name, real(value))).to_vec();
        let shares =
            point.pool().map_or_else(Vec::new, |pool| thinned(&pool.shares().collect::<Vec<_>>()));
        Some(Spread { name: series.name.clone(), shares, percentiles })
    };
    let panel = |size: &u32| Panel {
        name: services(*size),
        spreads: all.iter().filter_map(|series| spread(series, *size)).collect(),
    };
    let unit = study.unit_of(metric);
    Panels {
        title: metric.title(),
        subtitle: vec!["All rounds together.".to_owned(), super::of_machine(&record.machine)],
        axis: format!("{} on the way", unit.axis()),
        unit,
        panels: sizes.iter().map(panel).collect(),
    }
}

/// So many of `shares` as a curve needs, evenly by share.
fn thinned(shares: &[(u64, f64)]) -> Vec<(u64, f64)> {
    let mut thin: Vec<(u64, f64)> = Vec::new();
    let step = 1.0 / f64::from(u32::try_from(POINTS_MAX).unwrap_or(1));
    for (value, share) in shares {
        if thin.last().is_none_or(|(_, last)| share - last >= step || *share > 0.99) {
            thin.push((*value, *share));
        }
    }
    thin
}

fn table(panels: &Panels) -> String {
    let mut text =
        "| Services | backend | p01 | p50 | p90 | p99 |\n|---|---|---:|---:|---:|---:|\n"
            .to_owned();
    for panel in &panels.panels {
        for spread in &panel.spreads {
            let values = spread.percentiles.iter().map(|(_, value)| panels.unit.format(*value));
            let values: Vec<String> = values.collect();
            let _ = writeln!(text, "| {} | {} | {} |", panel.name, spread.name, values.join(" | "));
        }
    }
    text
}
