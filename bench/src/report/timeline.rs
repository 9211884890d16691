//! Charts of what packets noticed, as time goes by: a panel for each backend, the time from
//! when a packet was due until it arrived, and when updates were carried out.
//!
//! Invariant: draws what it is given; computes nothing but places on the paper.

use super::palette::{Style, styles};
use super::quantity::Unit;
use super::scale::Scale;
use super::series::real;
use super::svg::{Form, Hold, Look, Svg, look, soft};
use crate::record::Slot;

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

const NANOSECONDS: f64 = 1e9;

/// Draws `timeline`; `None` when it has no figure.
pub(crate) fn draw(timeline: &Timeline, form: Form) -> Option<String> {
    let slots = || timeline.panels.iter().flat_map(|p| &p.slots);
    let end = slots().map(|s| s.at_ns).max()?;
    let seen = || slots().filter(|s| s.p50 > 0).flat_map(|s| [s.p50, s.max]).map(real);
    let values: Vec<f64> = seen().chain([timeline.late]).collect();
    let mut svg = Svg::new(form.width());
    let mut top = form.words(&mut svg, &timeline.title, &timeline.subtitle) + form.of(56, 44);
    let looks = styles(timeline.panels.iter().map(|panel| panel.name.as_str()));
    for (panel, style) in timeline.panels.iter().zip(looks) {
        let bottom = top + form.of(200, 150);
        let y = Scale::around(values.iter().copied(), 100.0, (bottom - form.of(12, 9), top));
        let right = form.width() - form.of(30, 10);
        let view = View { form, style, top, bottom, right, end: real(end).max(1.0), y };
        draw_panel(&mut svg, panel, timeline.late, view);
        top = bottom + form.of(80, 66);
    }
    svg.grow(top - form.of(34, 26));
    Some(svg.finish(form, &timeline.title))
}

/// From values to places in a panel.
#[derive(Clone, Copy)]
struct View {
    form: Form,
    style: Style,
    top: i32,
    bottom: i32,
    right: i32,
    end: f64,
    y: Scale,
}

impl View {
    #[expect(clippy::cast_possible_truncation, reason = "a place on the paper is a few hundred")]
    fn x(self, at_ns: u64) -> i32 {
        let share = (real(at_ns) / self.end).min(1.0);
        let left = self.form.left();
        left + (share * f64::from(self.right - left)).round() as i32
    }
}

fn draw_panel(svg: &mut Svg, panel: &Panel, late: f64, view: View) {
    let View { form, style: Style { class, .. }, top, bottom, right, y, .. } = view;
    let own = Look { size: form.of(21, 13), class, hold: Hold::Left };
    svg.text(&panel.name, (form.left(), top - form.of(26, 27)), own);
    let (at, hold) = match form {
        Form::Phone => ((form.left(), top - 11), Hold::Left),
        Form::File | Form::Page => ((right, top - 26), Hold::Right),
    };
    svg.text(&panel.counts, at, look(form.note(), hold));
    draw_grid(svg, view);
    svg.line(&[(form.left(), y.place(late)), (right, y.place(late))], "alarm", 1);
    for (begun, done) in &panel.spans {
        let (from, to) = (view.x(*begun), view.x(*done) + 1);
        let strip = bottom - form.of(12, 9);
        svg.area(&[(from, strip), (to, strip), (to, bottom), (from, bottom)], "ink", 55);
    }
    let seen = || panel.slots.iter().filter(|s| s.p50 > 0);
    for slot in seen() {
        let x = view.x(slot.at_ns);
        let (low, high) = (y.place(real(slot.p50)), y.place(real(slot.max)));
        svg.area(&[(x - 1, low), (x + 1, low), (x + 1, high), (x - 1, high)], class, 35);
    }
    let middles: Vec<_> = seen().map(|s| (view.x(s.at_ns), y.place(real(s.p50)))).collect();
    svg.line(&middles, class, 2);
    for slot in panel.slots.iter().filter(|s| s.astray > 0) {
        let (x, y) = (view.x(slot.at_ns), top + 8);
        svg.line(&[(x - 6, y - 6), (x + 6, y + 6)], "alarm", 3);
        svg.line(&[(x - 6, y + 6), (x + 6, y - 6)], "alarm", 3);
    }
}

fn draw_grid(svg: &mut Svg, view: View) {
    let View { form, top, bottom, right, y, .. } = view;
    let left = form.left();
    let decades = y.ticks().into_iter().filter(|v| (v.log10().fract()).abs() < 1e-6);
    for value in decades {
        let place = y.place(value);
        svg.line(&[(left, place), (right, place)], "faint", 1);
        let text = Unit::Nanoseconds.format(value);
        svg.text(&text, (left - form.of(12, 5), place), soft(form.note(), Hold::Right));
    }
    let seconds = view.end / NANOSECONDS;
    let most = f64::from(form.of(12, 6));
    let step = [1_u64, 2, 5, 10, 20].into_iter().find(|s| seconds / real(*s) <= most).unwrap_or(60);
    for second in (0..).map(|n| n * step).take_while(|s| real(*s) <= seconds) {
        let x = view.x(second * 1_000_000_000);
        svg.line(&[(x, top), (x, bottom)], "faint", 1);
        let at = (x, bottom + form.of(14, 11));
        svg.text(&format!("{second} s"), at, soft(form.of(16, 11), Hold::Middle));
    }
    svg.line(&[(left, top), (left, bottom), (right, bottom)], "ink", 1);
}
