//! Charts as SVG: one metric against the number of Services, one line for each backend.
//!
//! Both axes are logarithmic, so that "ten times the Services, ten times the time" is a
//! slope of one decade on one. Lines carry their name at their end, so that nobody has to
//! look from a legend to a colour and back; colours are those of Okabe and Ito, which
//! people with any of the common colour blindnesses can tell apart, and every line has a
//! marker of its own besides.
//!
//! Invariant: draws what it is given; computes nothing but places on the paper.

use crate::plan::BASELINE;
use crate::report::quantity::{Unit, tick};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

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

/// Why a chart could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("{title}: {why}")]
pub struct ChartError {
    pub(super) title: String,
    pub(super) why: String,
}

const SIZE: (u32, u32) = (1200, 740);
const LEFT: i32 = 110;
const RIGHT: i32 = 960;
const TOP: i32 = 160;
const BOTTOM: i32 = 640;
pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
pub(super) const FAINT: RGBColor = RGBColor(225, 225, 225);
const FONT: &str = "Helvetica, Arial, DejaVu Sans, sans-serif";

/// The shapes of markers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    Circle,
    Square,
    Triangle,
    Flipped,
    Diamond,
    Bar,
    Post,
    Cross,
    Plus,
    Ring,
    Frame,
    Hourglass,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    colour: RGBColor,
    marker: Marker,
}

const fn style(red: u8, green: u8, blue: u8, marker: Marker) -> Style {
    Style { colour: RGBColor(red, green, blue), marker }
}

/// The looks of all that every reader knows, the same in every chart.
const KNOWN: [(&str, Style); 10] = [
    (BASELINE, style(110, 110, 110, Marker::Cross)),
    ("nft", style(0, 114, 178, Marker::Circle)),
    ("nft-constant-time", style(0, 60, 110, Marker::Ring)),
    ("nft/text", style(86, 180, 233, Marker::Flipped)),
    ("iptables", style(213, 94, 0, Marker::Square)),
    ("iptables/text", style(230, 159, 0, Marker::Frame)),
    ("ipvs", style(0, 158, 115, Marker::Triangle)),
    ("kube-proxy-1.33", style(0, 0, 0, Marker::Bar)),
    ("kube-proxy-1.36", style(204, 121, 167, Marker::Diamond)),
    ("kube-proxy-1.37", style(136, 84, 208, Marker::Post)),
];

/// The looks of all others, in the order of their lines.
const OTHERS: [Style; 2] =
    [style(120, 94, 60, Marker::Plus), style(160, 40, 90, Marker::Hourglass)];

/// The colour of what a reader knows by this name, and another one for the rest.
pub(super) fn colour_of(name: &str) -> RGBColor {
    let known = KNOWN.iter().find(|(known, _)| *known == name);
    known.map_or(OTHERS[0], |(_, style)| *style).colour
}

/// The lines with their looks.
fn styled(lines: &[Line]) -> Vec<(&Line, Style)> {
    let mut others = OTHERS.iter().cycle();
    let mut look = |line: &Line| {
        let known = KNOWN.iter().find(|(name, _)| *name == line.name);
        let style = known.map(|(_, style)| style).or_else(|| others.next());
        *style.unwrap_or(&OTHERS[0])
    };
    lines.iter().map(|line| (line, look(line))).collect()
}

/// From values to places on the paper.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    from: i32,
    to: i32,
}

impl Scale {
    #[expect(clippy::cast_possible_truncation, reason = "a place on the paper is a few hundred")]
    pub(super) fn place(self, value: f64) -> i32 {
        let value = value.clamp(self.low, self.high);
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + (share * f64::from(self.to - self.from)).round() as i32
    }

    /// A scale that holds all `values`, begins and ends at one of 1, 2, 5 times a power of
    /// ten, and spans at least `span`: noise of a few percent must not fill the paper.
    pub(super) fn around(
        values: impl Iterator<Item = f64> + Clone,
        span: f64,
        ends: (i32, i32),
    ) -> Self {
        let lowest = values.clone().fold(f64::INFINITY, f64::min).max(1e-9);
        let highest = values.fold(lowest, f64::max);
        let spare = (span / (highest / lowest)).max(1.0).sqrt();
        Self {
            low: round_down(lowest / spare),
            high: round_up(highest * spare),
            from: ends.0,
            to: ends.1,
        }
    }

    /// The round values on the scale: each 1, 2 and 5 when there are few decades.
    pub(super) fn ticks(self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let steps: &[f64] = match decades {
            d if d <= 2.5 => &[1.0, 2.0, 5.0],
            d if d <= 4.0 => &[1.0, 3.0],
            _ => &[1.0],
        };
        let powers = std::iter::successors(Some(power_below(self.low)), |p| Some(p * 10.0));
        powers
            .take_while(|p| *p <= self.high * 1.001)
            .flat_map(|p| steps.iter().map(move |s| s * p))
            .filter(|v| (self.low * 0.999..=self.high * 1.001).contains(v))
            .collect()
    }
}

fn power_below(value: f64) -> f64 {
    10_f64.powf((value * 1.000_001).log10().floor())
}

fn round_down(value: f64) -> f64 {
    let power = power_below(value);
    let steps = [5.0, 2.0, 1.0].map(|s| s * power);
    steps.into_iter().find(|s| *s <= value * 1.001).unwrap_or(power)
}

fn round_up(value: f64) -> f64 {
    let power = power_below(value);
    let steps = [1.0, 2.0, 5.0].map(|s| s * power);
    steps.into_iter().find(|s| *s >= value * 0.999).unwrap_or(power * 10.0)
}

pub(super) type Paper<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
pub(super) type Drawn = Result<(), String>;
/// That of the Services, and that of the values.
type Scales = (Scale, Scale);

/// Draws `chart` as the text of an SVG file.
///
/// # Errors
///
/// [`ChartError`] when there is nothing to draw or the drawing library refuses.
pub(crate) fn draw(chart: &Chart) -> Result<String, ChartError> {
    let mut svg = String::new();
    let drawn = {
        let paper = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw_all(&paper, chart).and_then(|()| said(paper.present()))
    };
    drawn.map(|()| svg).map_err(|why| ChartError { title: chart.title.clone(), why })
}

pub(super) fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|e| e.to_string())
}

fn draw_all(paper: &Paper<'_>, chart: &Chart) -> Drawn {
    let marks = || chart.lines.iter().flat_map(|l| l.points.iter());
    if marks().next().is_none() {
        return Err("there are no figures to draw".to_owned());
    }
    // A logarithmic scale has no place for 0; what is below its end is drawn there.
    let heights = marks().flat_map(|m| [m.low, m.middle, m.high]).filter(|v| *v > 0.0);
    let x = Scale::around(marks().map(|m| m.services), 10.0, (LEFT + 20, RIGHT - 10));
    let y = Scale::around(heights, 10.0, (BOTTOM, TOP));
    said(paper.fill(&WHITE))?;
    draw_words(paper, chart)?;
    draw_grid(paper, x, y, chart.unit)?;
    let lines = styled(&chart.lines);
    for (line, style) in &lines {
        draw_band(paper, line, style.colour, (x, y))?;
    }
    for (line, style) in &lines {
        draw_line(paper, line, *style, (x, y))?;
    }
    draw_names(paper, lines, chart.unit, (x, y))
}

pub(super) fn write(paper: &Paper<'_>, text: &str, at: (i32, i32), look: Look) -> Drawn {
    let style =
        (FONT, look.size).into_font().color(&look.colour).pos(Pos::new(look.hold, VPos::Center));
    said(paper.draw(&Text::new(text.to_owned(), at, style)))
}

#[derive(Clone, Copy)]
pub(super) struct Look {
    pub(super) size: u32,
    pub(super) colour: RGBColor,
    pub(super) hold: HPos,
}

pub(super) const fn look(size: u32, hold: HPos) -> Look {
    Look { size, colour: INK, hold }
}

fn draw_words(paper: &Paper<'_>, chart: &Chart) -> Drawn {
    write(paper, &chart.title, (24, 34), look(29, HPos::Left))?;
    for (line, place) in chart.subtitle.iter().zip((68..).step_by(25)) {
        write(paper, line, (24, place), look(18, HPos::Left))?;
    }
    let axis = format!("{} (log scale)", chart.axis);
    write(paper, &axis, (24, TOP - 24), look(20, HPos::Left))?;
    let middle = i32::midpoint(LEFT, RIGHT);
    write(paper, "Services (log scale)", (middle, BOTTOM + 68), look(22, HPos::Center))
}

fn draw_grid(paper: &Paper<'_>, x: Scale, y: Scale, unit: Unit) -> Drawn {
    let line = |points: Vec<(i32, i32)>, colour: RGBColor| {
        said(paper.draw(&PathElement::new(points, colour.stroke_width(1))))
    };
    for value in y.ticks() {
        let place = y.place(value);
        line(vec![(LEFT, place), (RIGHT, place)], FAINT)?;
        write(paper, &unit.format(value), (LEFT - 12, place), look(20, HPos::Right))?;
    }
    let is_wide = (x.high / x.low).log10() > 2.5;
    let is_decade = |v: &f64| (v.log10() - v.log10().round()).abs() < 1e-6;
    for value in x.ticks().into_iter().filter(|v| !is_wide || is_decade(v)) {
        let place = x.place(value);
        line(vec![(place, TOP), (place, BOTTOM)], FAINT)?;
        write(paper, &tick(value), (place, BOTTOM + 26), look(20, HPos::Center))?;
    }
    line(vec![(LEFT, TOP), (LEFT, BOTTOM), (RIGHT, BOTTOM)], INK)
}

fn draw_band(paper: &Paper<'_>, line: &Line, colour: RGBColor, (x, y): Scales) -> Drawn {
    let above = line.points.iter().map(|m| (x.place(m.services), y.place(m.high)));
    let below = line.points.iter().map(|m| (x.place(m.services), y.place(m.low)));
    let outline: Vec<_> = above.chain(below.rev()).collect();
    said(paper.draw(&Polygon::new(outline, colour.mix(0.14).filled())))
}

fn draw_line(paper: &Paper<'_>, line: &Line, style: Style, (x, y): Scales) -> Drawn {
    let Style { colour, marker } = style;
    let places: Vec<_> =
        line.points.iter().map(|m| (x.place(m.services), y.place(m.middle))).collect();
    said(paper.draw(&PathElement::new(places.clone(), colour.stroke_width(3))))?;
    places.into_iter().try_for_each(|at| draw_marker(paper, marker, at, colour))
}

fn draw_marker(paper: &Paper<'_>, marker: Marker, at: (i32, i32), colour: RGBColor) -> Drawn {
    let shift = |(dx, dy): (i32, i32)| (at.0 + dx, at.1 + dy);
    let corners: &[(i32, i32)] = match marker {
        Marker::Circle => return said(paper.draw(&Circle::new(at, 7, colour.filled()))),
        Marker::Ring => {
            said(paper.draw(&Circle::new(at, 7, WHITE.filled())))?;
            return said(paper.draw(&Circle::new(at, 7, colour.stroke_width(3))));
        }
        Marker::Square | Marker::Frame => &[(-6, -6), (6, -6), (6, 6), (-6, 6)],
        Marker::Triangle => &[(0, -9), (8, 6), (-8, 6)],
        Marker::Flipped => &[(0, 9), (8, -6), (-8, -6)],
        Marker::Bar => &[(-9, -3), (9, -3), (9, 3), (-9, 3)],
        Marker::Post => &[(-3, -9), (3, -9), (3, 9), (-3, 9)],
        Marker::Hourglass => &[(-7, -8), (7, -8), (-7, 8), (7, 8)],
        Marker::Diamond => &[(0, -9), (9, 0), (0, 9), (-9, 0)],
        Marker::Cross => return draw_strokes(paper, at, [(6, 6), (6, -6)], colour),
        Marker::Plus => return draw_strokes(paper, at, [(8, 0), (0, 8)], colour),
    };
    let corners: Vec<_> = corners.iter().copied().map(shift).collect();
    if marker == Marker::Frame {
        let outline: Vec<_> = corners.iter().chain(corners.first()).copied().collect();
        said(paper.draw(&Polygon::new(corners, WHITE.filled())))?;
        return said(paper.draw(&PathElement::new(outline, colour.stroke_width(3))));
    }
    said(paper.draw(&Polygon::new(corners, colour.filled())))
}

/// Two strokes through `at`, each from one end to the opposite one.
fn draw_strokes(
    paper: &Paper<'_>,
    at: (i32, i32),
    ends: [(i32, i32); 2],
    colour: RGBColor,
) -> Drawn {
    ends.into_iter().try_for_each(|(x, y)| {
        let points = vec![(at.0 - x, at.1 - y), (at.0 + x, at.1 + y)];
        said(paper.draw(&PathElement::new(points, colour.stroke_width(3))))
    })
}

/// Least distance between two names, from middle to middle.
const NAME_GAP: i32 = 50;

/// The names at the ends of the lines, moved apart where the ends are close.
fn draw_names(paper: &Paper<'_>, lines: Vec<(&Line, Style)>, unit: Unit, (x, y): Scales) -> Drawn {
    let mut ends: Vec<(&Line, Style, Mark)> = lines
        .into_iter()
        .filter_map(|(line, style)| Some((line, style, *line.points.last()?)))
        .collect();
    ends.sort_by_key(|(_, _, mark)| y.place(mark.middle));
    let wanted: Vec<i32> = ends.iter().map(|(_, _, mark)| y.place(mark.middle)).collect();
    for ((Line { name, note, .. }, Style { colour, marker }, mark), place) in
        ends.into_iter().zip(apart(&wanted))
    {
        let end = (x.place(mark.services) + 12, y.place(mark.middle));
        let lead = vec![end, (RIGHT + 18, place - 10), (RIGHT + 26, place - 10)];
        said(paper.draw(&PathElement::new(lead, colour.mix(0.6).stroke_width(1))))?;
        draw_marker(paper, marker, (RIGHT + 38, place - 10), colour)?;
        let own = Look { colour, ..look(22, HPos::Left) };
        write(paper, name, (RIGHT + 54, place - 10), own)?;
        let comma = if note.is_empty() { "" } else { ", " };
        let at = tick(mark.services);
        let value = format!("{} at {at}{comma}{note}", unit.format(mark.middle));
        write(paper, &value, (RIGHT + 54, place + 14), look(17, HPos::Left))?;
    }
    Ok(())
}

/// Places near `wanted`, which ascend, that are [`NAME_GAP`] apart and on the paper: close
/// ones move apart around their common middle.
fn apart(wanted: &[i32]) -> Vec<i32> {
    let mut places = wanted.to_vec();
    for _ in 0..20 {
        for i in 1..places.len() {
            let missing = (NAME_GAP - (places[i] - places[i - 1])).max(0);
            places[i - 1] -= missing / 2;
            places[i] += missing - missing / 2;
        }
    }
    let mut least = TOP;
    for place in &mut places {
        *place = (*place).max(least);
        least = *place + NAME_GAP;
    }
    let mut most = BOTTOM;
    for place in places.iter_mut().rev() {
        *place = (*place).min(most);
        most = *place - NAME_GAP;
    }
    places
}

#[cfg(test)]
#[path = "chart_tests.rs"]
mod tests;
