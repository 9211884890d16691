//! Charts of one metric against the number of Services, one line for each backend.
//!
//! Both axes are logarithmic, so that "ten times the Services, ten times the time" is a
//! slope of one decade on one.
//!
//! Invariant: draws what it is given; computes nothing but places on the paper.

use super::names::{self, Name};
use super::palette::{Style, styles};
use super::quantity::{Unit, tick};
use super::scale::Scale;
use super::svg::{Form, Hold, Svg, look, soft};

/// What a chart shows.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// What was measured, in one line.
    pub(crate) title: String,
    /// On which instrument and machine, and how to read the chart; a line each.
    pub(crate) subtitle: Vec<String>,
    /// What the vertical axis shows.
    pub(crate) axis: String,
    /// Its unit.
    pub(crate) unit: Unit,
    /// A value that is drawn across.
    pub(crate) across: Option<f64>,
    /// The lines, in the order they are drawn.
    pub(crate) lines: Vec<Line>,
}

/// A line of a chart.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Name of the backend.
    pub(crate) name: String,
    /// How it grows, in a few characters.
    pub(crate) note: String,
    /// In order of the number of Services.
    pub(crate) points: Vec<Mark>,
}

/// A point of a line and the band around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) services: f64,
    pub(crate) low: f64,
    pub(crate) middle: f64,
    pub(crate) high: f64,
}

/// The places of both axes, and how far up and down they go.
#[derive(Clone, Copy)]
struct View {
    form: Form,
    x: Scale,
    y: Scale,
    top: i32,
    bottom: i32,
}

/// Draws `chart`; `None` when it has no point.
pub(crate) fn draw(chart: &Chart, form: Form) -> Option<String> {
    let marks = || chart.lines.iter().flat_map(|l| l.points.iter());
    marks().next()?;
    let bottom_room = form.of(90, 52);
    let mut svg = Svg::new(form.width());
    let top = form.words(&mut svg, &chart.title, &chart.subtitle) + form.of(50, 30);
    let bottom = top + form.of(480, 340);
    svg.grow(bottom + bottom_room);
    // A logarithmic scale has no place for 0; what is below its end is drawn there.
    let heights = marks().flat_map(|m| [m.low, m.middle, m.high]).filter(|v| *v > 0.0);
    let heights = heights.chain(chart.across);
    let inset = form.of(20, 8);
    let view = View {
        form,
        x: Scale::around(
            marks().map(|m| m.services),
            10.0,
            (form.left() + inset, form.right() - inset),
        ),
        y: Scale::around(heights, 10.0, (bottom, top)),
        top,
        bottom,
    };
    draw_grid(&mut svg, chart, view);
    let styles = styles(chart.lines.iter().map(|line| line.name.as_str()));
    for (line, style) in chart.lines.iter().zip(&styles) {
        draw_band(&mut svg, line, *style, view);
    }
    for (line, style) in chart.lines.iter().zip(&styles) {
        draw_line(&mut svg, line, *style, view);
    }
    let named = chart.lines.iter().zip(styles).filter_map(|(l, s)| name(l, s, chart.unit, view));
    names::draw(&mut svg, form, named.collect(), (top + form.of(10, 7), bottom));
    Some(svg.finish(form, &chart.title))
}

fn draw_grid(svg: &mut Svg, chart: &Chart, view: View) {
    let View { form, x, y, top, bottom } = view;
    let (left, right) = (form.left(), form.right());
    // A hand has no room for it twice.
    let (upright, across) = match form {
        Form::Phone => ("", "Services (both scales log)"),
        Form::File | Form::Page => (" (log scale)", "Services (log scale)"),
    };
    let axis = format!("{}{upright}", chart.axis);
    svg.text(&axis, (form.of(24, 4), top - form.of(26, 16)), look(form.note(), Hold::Left));
    for value in y.ticks() {
        let place = y.place(value);
        svg.line(&[(left, place), (right, place)], "faint", 1);
        let at = (left - form.of(12, 5), place);
        svg.text(&chart.unit.format(value), at, soft(form.of(19, 11), Hold::Right));
    }
    let is_wide = (x.high / x.low).log10() > f64::from(form.of(25, 15)) / 10.0;
    let is_decade = |v: &f64| (v.log10() - v.log10().round()).abs() < 1e-6;
    for value in x.ticks().into_iter().filter(|v| !is_wide || is_decade(v)) {
        let place = x.place(value);
        svg.line(&[(place, top), (place, bottom)], "faint", 1);
        let at = (place, bottom + form.of(24, 14));
        svg.text(&tick(value), at, soft(form.of(19, 11), Hold::Middle));
    }
    if let Some(value) = chart.across {
        let place = y.place(value);
        svg.line(&[(left, place), (right, place)], "ink", 2);
    }
    svg.line(&[(left, top), (left, bottom), (right, bottom)], "ink", 1);
    let at = (i32::midpoint(left, right), bottom + form.of(58, 34));
    svg.text(across, at, look(form.text(), Hold::Middle));
}

fn draw_band(svg: &mut Svg, line: &Line, style: Style, View { x, y, .. }: View) {
    let above = line.points.iter().map(|m| (x.place(m.services), y.place(m.high)));
    let below = line.points.iter().map(|m| (x.place(m.services), y.place(m.low)));
    let outline: Vec<_> = above.chain(below.rev()).collect();
    svg.area(&outline, style.class, 14);
}

fn draw_line(svg: &mut Svg, line: &Line, style: Style, View { form, x, y, .. }: View) {
    let places: Vec<_> =
        line.points.iter().map(|m| (x.place(m.services), y.place(m.middle))).collect();
    svg.line(&places, style.class, 3);
    for at in places {
        style.mark(svg, at, form.of(7, 5));
    }
}

/// The name at the end of a line, with its last value.
fn name(line: &Line, style: Style, unit: Unit, view: View) -> Option<Name> {
    let View { form, x, y, .. } = view;
    let mark = line.points.last()?;
    let value = unit.format(mark.middle);
    let value = match form {
        Form::Phone => value,
        Form::File | Form::Page => format!("{value} at {}", tick(mark.services)),
    };
    let comma = if line.note.is_empty() { "" } else { ", " };
    Some(Name {
        style,
        name: line.name.clone(),
        note: format!("{value}{comma}{}", line.note),
        from: Some((x.place(mark.services) + form.of(12, 7), y.place(mark.middle))),
    })
}

#[cfg(test)]
#[path = "chart_tests.rs"]
mod tests;
