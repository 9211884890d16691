//! Charts of several panels, one below the other: how latencies are spread at a few numbers of
//! Services, as curves and as bars.
//!
//! Invariant: draws what it is given; computes nothing but places on the paper.

use super::names::{self, Name};
use super::palette::{Style, styles};
use super::quantity::Unit;
use super::scale::{Scale, round_up};
use super::series::real;
use super::svg::{Form, Hold, Svg, look, soft};

/// What such a chart shows.
#[derive(Clone, Debug)]
pub(crate) struct Panels {
    /// What was measured, in one line.
    pub(crate) title: String,
    /// How to read it; a line each.
    pub(crate) subtitle: Vec<String>,
    /// What the values are.
    pub(crate) axis: String,
    /// Their unit.
    pub(crate) unit: Unit,
    /// One below the other.
    pub(crate) panels: Vec<Panel>,
}

/// One number of Services.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    /// What all of it is about.
    pub(crate) name: String,
    /// A backend each.
    pub(crate) spreads: Vec<Spread>,
}

/// How the samples of one backend are spread.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    /// Name of the backend.
    pub(crate) name: String,
    /// What share of the samples does not exceed a value; values ascend.
    pub(crate) shares: Vec<(u64, f64)>,
    /// Percentiles, by name.
    pub(crate) percentiles: Vec<(&'static str, f64)>,
}

impl Panels {
    /// Room for the title, and between two panels.
    fn rooms(&self, form: Form, svg: &mut Svg) -> (i32, i32) {
        let top = form.words(svg, &self.title, &self.subtitle) + form.of(40, 26);
        (top, form.of(96, 68))
    }

    fn height(&self, form: Form) -> i32 {
        let most = self.panels.iter().map(|panel| panel.spreads.len()).max().unwrap_or(0);
        let names = i32::try_from(most).unwrap_or(0) * form.of(50, 34);
        names.max(form.of(260, 200))
    }
}

/// Draws the share of packets that took no longer, on a logarithmic scale of values; `None`
/// when there is no sample.
pub(crate) fn curves(panels: &Panels, form: Form) -> Option<String> {
    let spreads = || panels.panels.iter().flat_map(|panel| &panel.spreads);
    let shown = || spreads().flat_map(|s| steps(&s.shares)).map(|(value, _)| real(value));
    shown().next()?;
    let mut svg = Svg::new(form.width());
    let (mut top, room) = panels.rooms(form, &mut svg);
    let height = panels.height(form);
    let x = Scale::around(shown(), 4.0, (form.left(), form.right()));
    for panel in &panels.panels {
        let bottom = top + height;
        svg.text(&panel.name, (form.left(), top - form.of(20, 13)), look(form.text(), Hold::Left));
        grid_of_shares(&mut svg, form, (x, panels.unit), (top, bottom));
        let y = |share: f64| bottom - whole(share * f64::from(height));
        let looks = styles(panel.spreads.iter().map(|s| s.name.as_str()));
        let mut named = Vec::new();
        for (spread, style) in panel.spreads.iter().zip(looks) {
            let steps: Vec<_> =
                steps(&spread.shares).map(|(v, share)| (x.place(real(v)), y(share))).collect();
            svg.line(&steps, style.class, 3);
            let middle = spread.shares.iter().find(|(_, share)| *share >= 0.5);
            if let Some((value, _)) = middle {
                style.mark(&mut svg, (x.place(real(*value)), y(0.5)), form.of(7, 5));
            }
            named.push(name(spread, style, panels.unit));
        }
        names::draw(&mut svg, form, named, (top + form.of(10, 7), bottom));
        let at = (i32::midpoint(form.left(), form.right()), bottom + form.of(50, 29));
        svg.text(&format!("{} (log scale)", panels.axis), at, look(form.note(), Hold::Middle));
        top = bottom + room + form.of(0, 6);
    }
    svg.grow(top - form.of(30, 26));
    Some(svg.finish(form, &panels.title))
}

/// What one packet in a hundred does would squeeze all others into a corner.
const SHOWN: f64 = 0.99;

/// The corners of the curve: it goes up at each value, by those packets that had it, and is cut
/// above [`SHOWN`].
fn steps(shares: &[(u64, f64)]) -> impl Iterator<Item = (u64, f64)> + Clone + '_ {
    let below = [0.0].into_iter().chain(shares.iter().map(|(_, share)| *share));
    let shown = shares.iter().zip(below).filter(|(_, below)| *below < SHOWN);
    shown.flat_map(|((value, share), below)| [(*value, below), (*value, share.min(SHOWN))])
}

fn grid_of_shares(svg: &mut Svg, form: Form, (x, unit): (Scale, Unit), (top, bottom): (i32, i32)) {
    let (left, right) = (form.left(), form.right());
    for share in [0, 25, 50, 75, 100] {
        let place = bottom - (bottom - top) * share / 100;
        svg.line(&[(left, place), (right, place)], "faint", 1);
        let at = (left - form.of(12, 5), place);
        svg.text(&format!("{share} %"), at, soft(form.of(18, 11), Hold::Right));
    }
    let mut last = left - form.of(70, 44);
    for value in x.ticks() {
        let place = x.place(value);
        svg.line(&[(place, top), (place, bottom)], "faint", 1);
        // A name in every place would run into the next one.
        if place - last >= form.of(70, 44) {
            let at = (place, bottom + form.of(20, 12));
            svg.text(&unit.format(value), at, soft(form.of(18, 11), Hold::Middle));
            last = place;
        }
    }
    svg.line(&[(left, top), (left, bottom), (right, bottom)], "ink", 1);
}

fn name(spread: &Spread, style: Style, unit: Unit) -> Name {
    let value = |wanted: &str| {
        let found = spread.percentiles.iter().find(|(name, _)| *name == wanted);
        found.map_or_else(String::new, |(_, value)| unit.format(*value))
    };
    Name {
        style,
        name: spread.name.clone(),
        note: format!("{}, p99 {}", value("p50"), value("p99")),
        from: None,
    }
}

/// Ends of a scale whose quarters are round values.
const QUARTERED: [f64; 5] = [1.0, 2.0, 4.0, 6.0, 8.0];

/// Draws percentiles as groups of bars, on a scale from 0 that all panels share; `None` when
/// there is none.
pub(crate) fn bars(panels: &Panels, form: Form) -> Option<String> {
    let values = |is_wanted: fn(&str) -> bool| {
        let spreads = panels.panels.iter().flat_map(|panel| &panel.spreads);
        let wanted = spreads.flat_map(|s| &s.percentiles).filter(move |(name, _)| is_wanted(name));
        wanted.map(|(_, value)| *value).fold(0.0, f64::max)
    };
    // A single wild tail must not press everything else to the ground.
    let most = round_up(values(|_| true).min(3.0 * values(|name| name != "p99")), &QUARTERED);
    if most <= 0.0 {
        return None;
    }
    let mut svg = Svg::new(form.width());
    let (mut top, room) = panels.rooms(form, &mut svg);
    let height = panels.height(form);
    for panel in &panels.panels {
        let bottom = top + height;
        let title = format!("{}: {}", panel.name, panels.axis);
        svg.text(&title, (form.left(), top - form.of(20, 13)), look(form.text(), Hold::Left));
        let y = |value: f64| bottom - whole(value / most * f64::from(height));
        for quarter in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let (value, left) = (most * quarter, form.left());
            svg.line(&[(left, y(value)), (form.right(), y(value))], "faint", 1);
            let at = (left - form.of(12, 5), y(value));
            let name = if value > 0.0 { panels.unit.format(value) } else { "0".to_owned() };
            svg.text(&name, at, soft(form.of(18, 11), Hold::Right));
        }
        let high =
            |value: f64| (y(value.min(most)), (value > most).then(|| panels.unit.format(value)));
        groups(&mut svg, form, panel, (&high, bottom));
        svg.line(&[(form.left(), bottom), (form.right(), bottom)], "ink", 1);
        let looks = styles(panel.spreads.iter().map(|s| s.name.as_str()));
        let named = panel.spreads.iter().zip(looks).map(|(s, style)| name(s, style, panels.unit));
        names::draw(&mut svg, form, named.collect(), (top + form.of(10, 7), bottom));
        top = bottom + room;
    }
    svg.grow(top - form.of(40, 30));
    Some(svg.finish(form, &panels.title))
}

/// The height of a bar, and what is written on it when it is cut.
type Height<'a> = &'a dyn Fn(f64) -> (i32, Option<String>);

/// A group of bars for each percentile, a bar in it for each backend.
fn groups(svg: &mut Svg, form: Form, panel: &Panel, (high, bottom): (Height<'_>, i32)) {
    let names: Vec<&str> =
        panel.spreads.first().map_or(Vec::new(), |s| s.percentiles.iter().map(|p| p.0).collect());
    let looks = styles(panel.spreads.iter().map(|s| s.name.as_str()));
    let (count, bars) = (count(names.len()), count(panel.spreads.len()));
    let group = (form.right() - form.left()) / count;
    let gap = form.of(16, 6);
    let width = (group - 2 * gap) / bars;
    for (n, percentile) in (0..).zip(names) {
        let left = form.left() + n * group;
        let at = (left + group / 2, bottom + form.of(20, 12));
        svg.text(percentile, at, soft(form.of(19, 11), Hold::Middle));
        for ((b, spread), style) in (0..).zip(&panel.spreads).zip(&looks) {
            let value = spread.percentiles.iter().find(|(name, _)| *name == percentile);
            let (high, cut) = high(value.map_or(0.0, |(_, value)| *value));
            let (from, to) = (left + gap + b * width, left + gap + (b + 1) * width - form.of(2, 1));
            svg.area(&[(from, bottom), (from, high), (to, high), (to, bottom)], style.class, 100);
            if let Some(cut) = cut {
                // Every other one higher, because neighbours may be cut too.
                let above = form.of(9, 7) + b % 2 * form.of(15, 11);
                let at = (i32::midpoint(from, to), high - above);
                svg.text(&cut, at, look(form.of(15, 10), Hold::Middle));
            }
        }
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX).max(1)
}

#[expect(clippy::cast_possible_truncation, reason = "a place on the paper is a few hundred")]
fn whole(place: f64) -> i32 {
    place.round() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts of instructions are often all the same: a curve of one value goes straight up.
    #[test]
    fn a_curve_rises_at_its_values_and_is_cut_before_the_tail() {
        let same: Vec<_> = steps(&[(10, 1.0)]).collect();
        assert_eq!(same, [(10, 0.0), (10, SHOWN)]);
        let several: Vec<_> = steps(&[(10, 0.25), (20, 0.995), (900, 1.0)]).collect();
        assert_eq!(several, [(10, 0.0), (10, 0.25), (20, 0.25), (20, SHOWN)]);
    }
}
