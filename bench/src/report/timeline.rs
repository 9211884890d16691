//! Charts of what packets noticed, as time goes by: a panel for each backend, the time from
//! when a packet was due until it arrived, and when updates were carried out.
//!
//! Invariant: draws what it is given; computes nothing but places on the paper.

use super::chart::{
    ChartError, Drawn, FAINT, INK, Look, Paper, Scale, colour_of, look, said, write,
};
use super::quantity::Unit;
use crate::record::Slot;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

/// What a chart shows.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    /// What was measured, in one line.
    pub(crate) title: String,
    /// How to read it; a line each.
    pub(crate) subtitle: Vec<String>,
    /// Above this a packet is late, in nanoseconds.
    pub(crate) late: f64,
    /// A panel for each backend.
    pub(crate) panels: Vec<Panel>,
}

/// One backend.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    /// Its name.
    pub(crate) name: String,
    /// What was counted, in a few words.
    pub(crate) counts: String,
    /// When updates were carried out, in nanoseconds.
    pub(crate) spans: Vec<(u64, u64)>,
    /// The latencies in order of time.
    pub(crate) slots: Vec<Slot>,
}

const WIDTH: u32 = 1200;
const LEFT: i32 = 110;
const RIGHT: i32 = 1170;
const TOP: i32 = 150;
const PANEL: i32 = 200;
/// Between two panels: the name of the lower one and its counts.
const GAP: i32 = 62;
/// The strip at the foot of a panel that shows updates.
const STRIP: i32 = 12;
const ALARM: RGBColor = RGBColor(200, 0, 40);
const NANOSECONDS: f64 = 1e9;

/// Draws `timeline` as the text of an SVG file.
///
/// # Errors
///
/// [`ChartError`] when there is nothing to draw or the drawing library refuses.
pub(crate) fn draw(timeline: &Timeline) -> Result<String, ChartError> {
    let mut svg = String::new();
    let panels = i32::try_from(timeline.panels.len()).unwrap_or(1);
    let height = u32::try_from(TOP + panels * (PANEL + GAP) + 40).unwrap_or(800);
    let drawn = {
        let paper = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        draw_all(&paper, timeline).and_then(|()| said(paper.present()))
    };
    drawn.map(|()| svg).map_err(|why| ChartError { title: timeline.title.clone(), why })
}

fn draw_all(paper: &Paper<'_>, timeline: &Timeline) -> Drawn {
    let slots = || timeline.panels.iter().flat_map(|p| &p.slots);
    let end = slots().map(|s| s.at_ns).max().ok_or("there are no figures to draw")?;
    let seen = || slots().filter(|s| s.p50 > 0).flat_map(|s| [s.p50, s.max]).map(real);
    said(paper.fill(&WHITE))?;
    write(paper, &timeline.title, (24, 34), look(29, HPos::Left))?;
    for (line, place) in timeline.subtitle.iter().zip((68..).step_by(25)) {
        write(paper, line, (24, place), look(18, HPos::Left))?;
    }
    let values: Vec<f64> = seen().chain([timeline.late]).collect();
    for (panel, top) in timeline.panels.iter().zip((TOP + GAP - 20..).step_by(262)) {
        let y = Scale::around(values.iter().copied(), 100.0, (top + PANEL - STRIP, top));
        let view = View { top, end: real(end).max(1.0), y };
        draw_panel(paper, panel, timeline.late, view)?;
    }
    Ok(())
}

/// From values to places in a panel.
#[derive(Clone, Copy)]
struct View {
    top: i32,
    end: f64,
    y: Scale,
}

impl View {
    #[expect(clippy::cast_possible_truncation, reason = "a place on the paper is a few hundred")]
    fn x(self, at_ns: u64) -> i32 {
        let share = (real(at_ns) / self.end).min(1.0);
        LEFT + (share * f64::from(RIGHT - LEFT)).round() as i32
    }

    fn bottom(self) -> i32 {
        self.top + PANEL
    }
}

/// Nanoseconds of a run are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "nanoseconds of 52 days are exact")]
fn real(value: u64) -> f64 {
    value as f64
}

fn draw_panel(paper: &Paper<'_>, panel: &Panel, late: f64, view: View) -> Drawn {
    let colour = colour_of(&panel.name);
    let own = Look { colour, ..look(22, HPos::Left) };
    write(paper, &panel.name, (LEFT, view.top - 26), own)?;
    write(paper, &panel.counts, (RIGHT, view.top - 26), look(18, HPos::Right))?;
    draw_grid(paper, view)?;
    let line = |points: Vec<(i32, i32)>, colour: RGBColor, width: u32| {
        said(paper.draw(&PathElement::new(points, colour.stroke_width(width))))
    };
    let late = view.y.place(late);
    line(vec![(LEFT, late), (RIGHT, late)], ALARM, 1)?;
    for (begun, done) in &panel.spans {
        let corners = [(view.x(*begun), view.bottom() - STRIP), (view.x(*done) + 1, view.bottom())];
        said(paper.draw(&Rectangle::new(corners, INK.mix(0.55).filled())))?;
    }
    let seen = || panel.slots.iter().filter(|s| s.p50 > 0);
    for slot in seen() {
        let x = view.x(slot.at_ns);
        let ends = [slot.p50, slot.max].map(|v| (x, view.y.place(real(v))));
        said(paper.draw(&PathElement::new(ends.to_vec(), colour.mix(0.35).stroke_width(2))))?;
    }
    let middles = seen().map(|s| (view.x(s.at_ns), view.y.place(real(s.p50)))).collect();
    line(middles, colour, 2)?;
    for slot in panel.slots.iter().filter(|s| s.astray > 0) {
        let (x, y) = (view.x(slot.at_ns), view.top + 8);
        line(vec![(x - 6, y - 6), (x + 6, y + 6)], ALARM, 3)?;
        line(vec![(x - 6, y + 6), (x + 6, y - 6)], ALARM, 3)?;
    }
    Ok(())
}

fn draw_grid(paper: &Paper<'_>, view: View) -> Drawn {
    let line = |points: Vec<(i32, i32)>, colour: RGBColor| {
        said(paper.draw(&PathElement::new(points, colour.stroke_width(1))))
    };
    let decades = view.y.ticks().into_iter().filter(|v| (v.log10().fract()).abs() < 1e-6);
    for value in decades {
        let place = view.y.place(value);
        line(vec![(LEFT, place), (RIGHT, place)], FAINT)?;
        let text = Unit::Nanoseconds.format(value);
        write(paper, &text, (LEFT - 12, place), look(17, HPos::Right))?;
    }
    let seconds = view.end / NANOSECONDS;
    let step = [1_u64, 2, 5, 10, 20].into_iter().find(|s| seconds / real(*s) <= 12.0).unwrap_or(60);
    for second in (0..).map(|n| n * step).take_while(|s| real(*s) <= seconds) {
        let x = view.x(second * 1_000_000_000);
        line(vec![(x, view.top), (x, view.bottom())], FAINT)?;
        write(paper, &format!("{second} s"), (x, view.bottom() + 14), look(16, HPos::Center))?;
    }
    line(vec![(LEFT, view.top), (LEFT, view.bottom()), (RIGHT, view.bottom())], INK)
}
