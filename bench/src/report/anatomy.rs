//! Where the cost of a first packet comes from: layer upon layer, for everybody whose rules
//! were taken apart.
//!
//! A layer costs what a packet costs with it less what it costs without it. The record has the
//! sums, so the differences are taken here.
//!
//! Invariant: computes differences of medians and draws them; nothing is measured here.

use super::quantity::{Unit, count, services};
use super::section::Section;
use super::series::{Study, real};
use super::svg::{Form, Hold, Place, Svg, look, soft};
use super::table::header;
use crate::metric::{Layer, Metric};
use crate::record::Record;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What one contender's first packet costs, from the bottom up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Anatomy {
    name: String,
    /// What it costs up to each layer that it has.
    sums: Vec<(Layer, u64)>,
}

impl Anatomy {
    fn whole(&self) -> u64 {
        self.sums.last().map_or(0, |(_, sum)| *sum)
    }

    /// What each layer adds. One that makes a packet cheaper, because it is sent another way,
    /// adds less than nothing.
    fn layers(&self) -> impl Iterator<Item = (Layer, i64)> + '_ {
        let below = [0].into_iter().chain(self.sums.iter().map(|(_, sum)| *sum));
        let signed = |sum: u64| i64::try_from(sum).unwrap_or(i64::MAX);
        self.sums
            .iter()
            .zip(below)
            .map(move |((layer, sum), below)| (*layer, signed(*sum) - signed(below)))
    }

    fn of(&self, layer: Layer) -> Option<i64> {
        self.layers().find(|(own, _)| *own == layer).map(|(_, cost)| cost)
    }

    /// What the rules themselves cost: all above the hooks and a single rewriting rule, for
    /// IPVS above the hooks.
    fn rules(&self) -> i64 {
        self.layers().filter(|(layer, _)| *layer > Layer::Dnat).map(|(_, cost)| cost).sum()
    }
}

/// The section, empty for a study that takes nothing apart.
pub(crate) fn section(study: &Study<'_>, record: &Record, suffix: &str) -> Section {
    let mut section = Section::default();
    let Some((size, all)) = anatomies(study) else { return section };
    let unit = study.unit_of(Metric::UpTo(Layer::Path));
    let title = "Where the cost of a first packet comes from";
    let _ = write!(
        section.text,
        "\n### {title}\n\nWith {}, to the one in the middle of the list. Rules are taken away from \
         the top, and the same packet is sent through what is left; a layer costs what a packet \
         costs with it less what it costs without it. Medians.\n\n",
        services(size)
    );
    let file = format!("anatomy{suffix}.svg");
    section.show(title, &file, |form| Some(draw(&all, (record, size), unit, form)));
    section.say(&table(&all));
    section.say(
        "\nA dash: no such layer. IPVS finds, chooses and rewrites at once. iptables' tables have \
         their hooks until they are unloaded, so that its *nat hooks* walk empty filter chains \
         too.\n",
    );
    section
}

/// Those at the largest size for which there are any.
fn anatomies(study: &Study<'_>) -> Option<(u32, Vec<Anatomy>)> {
    let mut found: BTreeMap<(u32, String), Vec<(Layer, u64)>> = BTreeMap::new();
    for layer in Layer::ALL {
        for series in study.series(Metric::UpTo(layer)) {
            for point in &series.points {
                let key = (point.services, series.name.clone());
                found.entry(key).or_default().push((layer, point.summary.p50));
            }
        }
    }
    let size = found.keys().map(|(size, _)| *size).max()?;
    let of_size = found.into_iter().filter(|((own, _), _)| *own == size);
    let mut all: Vec<Anatomy> = of_size.map(|((_, name), sums)| Anatomy { name, sums }).collect();
    all.sort_by_key(Anatomy::whole);
    Some((size, all))
}

fn table(all: &[Anatomy]) -> String {
    let names: Vec<&str> = all.iter().map(|anatomy| anatomy.name.as_str()).collect();
    let mut text = header("Layer", &names);
    for layer in Layer::ALL {
        if all.iter().any(|anatomy| anatomy.of(layer).is_some()) {
            let cost = |anatomy: &Anatomy| anatomy.of(layer).map_or_else(|| "–".to_owned(), digits);
            let _ = writeln!(text, "| {} | {} |", layer.title(), row(all, cost));
        }
    }
    let whole =
        |anatomy: &Anatomy| i64::try_from(anatomy.whole()).map_or_else(|_| "–".to_owned(), digits);
    let _ = writeln!(text, "| **together** | {} |", row(all, whole));
    let _ = writeln!(text, "| *of that the rules* | {} |", row(all, |a| digits(a.rules())));
    text
}

fn row(all: &[Anatomy], cell: impl Fn(&Anatomy) -> String) -> String {
    all.iter().map(cell).collect::<Vec<_>>().join(" | ")
}

/// The number to the last digit: these are differences of large numbers.
fn digits(value: i64) -> String {
    let size = u32::try_from(value.unsigned_abs()).unwrap_or(u32::MAX);
    format!("{}{}", if value < 0 { "-" } else { "" }, count(size))
}

/// Height of a bar, and from one to the next, as parts of a letter's height in hundredths.
const BAR: i32 = 180;
const STEP: i32 = 360;

/// Where values are on the paper.
struct Scale {
    left: i32,
    width: i32,
    most: f64,
}

impl Scale {
    #[expect(clippy::cast_possible_truncation, reason = "a place on the paper")]
    fn place(&self, value: f64) -> i32 {
        self.left + (f64::from(self.width) * value / self.most) as i32
    }
}

fn draw(all: &[Anatomy], (record, size): (&Record, u32), unit: Unit, form: Form) -> String {
    let title = "Where the cost of a first packet comes from";
    let mut svg = Svg::new(form.width());
    // Builds and dates of kernels follow a number sign.
    let kernel = record.machine.kernel.split(" #").next().unwrap_or_default();
    let subtitle = [
        format!("One packet, with {} in the kernel; {}, {kernel}.", services(size), unit.axis()),
        "Each part is what the packet costs with it less what it costs without it.".to_owned(),
    ];
    let top = form.words(&mut svg, title, &subtitle) + form.text();
    let most = all.iter().map(Anatomy::whole).max().map_or(1.0, real);
    let margin = form.of(24, 8);
    let scale = Scale { left: margin, width: form.width() - 2 * margin - form.of(110, 60), most };
    let text = form.text();
    for (index, anatomy) in (0..).zip(all) {
        bar(&mut svg, anatomy, top + index * text * STEP / 100, (&scale, unit), form);
    }
    let bottom = top + i32::try_from(all.len()).unwrap_or(0) * text * STEP / 100;
    let end = legend(&mut svg, all, (margin, bottom + text / 2), form);
    svg.grow(end + text);
    svg.finish(form, title)
}

/// A contender's name, and under it its layers side by side.
fn bar(svg: &mut Svg, anatomy: &Anatomy, top: i32, (scale, unit): (&Scale, Unit), form: Form) {
    let text = form.text();
    svg.text(&anatomy.name, (scale.left, top + text / 2), look(text, Hold::Left));
    let (high, low) = (top + text * 120 / 100, top + text * (120 + BAR) / 100);
    let mut below = 0;
    for (layer, sum) in &anatomy.sums {
        let (from, to) = (scale.place(real(below)), scale.place(real(*sum)));
        let corners: [Place; 4] = [(from, high), (to, high), (to, low), (from, low)];
        svg.area(&corners, class(*layer), 100);
        svg.line(&[(to, high), (to, low)], "paper", 1);
        let note = unit.format(real(sum.saturating_sub(below)));
        let room = i32::try_from(note.len()).unwrap_or(0) * form.note() * 60 / 100;
        if room < to - from {
            let middle = ((from + to) / 2, i32::midpoint(high, low));
            svg.text(
                &note,
                middle,
                super::svg::Look { size: form.note(), class: "on-layer", hold: Hold::Middle },
            );
        }
        below = *sum;
    }
    let end = (scale.place(real(below)) + text / 2, i32::midpoint(high, low));
    svg.text(&unit.format(real(below)), end, look(text, Hold::Left));
}

/// Which colour is which layer; gives the lower edge.
fn legend(svg: &mut Svg, all: &[Anatomy], (left, top): Place, form: Form) -> i32 {
    let (mut x, mut y, text) = (left, top + form.note(), form.note());
    for layer in Layer::ALL {
        if all.iter().all(|anatomy| anatomy.of(layer).is_none()) {
            continue;
        }
        let words = i32::try_from(layer.title().len()).unwrap_or(0) * text * 56 / 100;
        if x + 2 * text + words > form.width() {
            (x, y) = (left, y + text * 160 / 100);
        }
        let (high, low) = (y - text / 2, y + text / 2);
        let corners = [(x, high), (x + text, high), (x + text, low), (x, low)];
        svg.area(&corners, class(layer), 100);
        svg.text(layer.title(), (x + text * 140 / 100, y), soft(text, Hold::Left));
        x += words + text * 320 / 100;
    }
    y + text
}

/// The class of its colour: greys for what every packet pays, colours for what rules add.
fn class(layer: Layer) -> &'static str {
    match layer {
        Layer::Path => "layer-path",
        Layer::Conntrack => "layer-conntrack",
        Layer::Nat => "layer-nat",
        Layer::Dnat => "layer-dnat",
        Layer::Ipvs => "layer-ipvs",
        Layer::Service => "layer-service",
        Layer::Endpoint => "layer-endpoint",
        Layer::Leaving => "layer-leaving",
        Layer::Filter => "layer-filter",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Cell;
    use crate::record::{Entry, Machine};
    use crate::report::series::studies;
    use crate::report::svg::STYLE;
    use crate::tally::{CellSamples, Tally};

    fn record() -> Record {
        let mut tally = Tally::new("guest", 3, 1);
        let mut entries = Vec::new();
        for (backend, last) in [("nft", 16_700), ("kube-proxy-1.36", 19_300)] {
            let cell = Cell { round: 0, backend: backend.to_owned(), services: 1_000 };
            let sums = [(Layer::Path, 10_019), (Layer::Dnat, 15_000), (Layer::Leaving, last)];
            let samples = sums.map(|(layer, sum)| (Metric::UpTo(layer), vec![sum]));
            entries.extend(tally.add(&cell, CellSamples::from(samples)));
        }
        Record { machine: Machine::default(), entries }
    }

    #[test]
    fn a_layer_costs_the_difference_and_the_cheapest_is_first() {
        let record = record();
        let section = section(&studies(&record)[0], &record, "");
        for line in [
            "| Layer | nft | kube-proxy-1.36 |",
            "| rewriting the destination | 4,981 | 4,981 |",
            "| postrouting rules | 1,700 | 4,300 |",
            "| **together** | 16,700 | 19,300 |",
            "| *of that the rules* | 1,700 | 4,300 |",
        ] {
            assert!(section.text.contains(line), "{line}\n{}", section.text);
        }
        assert_eq!(section.drawings[0].file, "anatomy.svg");
        assert!(section.drawings[0].alone.contains("layer-leaving"));
    }

    #[test]
    fn a_study_without_layers_says_nothing() {
        let none =
            |entry: &Entry| matches!(entry, Entry::Figure(f) if f.metric == Metric::MissPacketNs);
        let mut record = record();
        record.entries.retain(none);
        assert!(studies(&record).iter().all(|s| section(s, &record, "") == Section::default()));
    }

    #[test]
    fn every_layer_has_a_colour_on_light_and_on_dark_paper() {
        for layer in Layer::ALL {
            assert_eq!(
                STYLE.matches(&format!(".{}{{color:", class(layer))).count(),
                2,
                "{layer:?}"
            );
        }
    }
}
