//! The column of names beside a chart: each with its marker and a note, and a dotted line from
//! what it names, so that nobody has to look from a legend to a colour and back.
//!
//! Invariant: places names; knows no figure.

use super::palette::{Style, apart};
use super::svg::{Form, Hold, Look, Place, Svg, soft};

/// A name for the column.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) style: Style,
    pub(super) name: String,
    /// What is written below it.
    pub(super) note: String,
    /// What it names, where that is a place.
    pub(super) from: Option<Place>,
}

/// Draws the column between two heights: each name beside what it names, or as near as there
/// is room; names of no place one below the other.
pub(super) fn draw(svg: &mut Svg, form: Form, mut names: Vec<Name>, ends: Place) {
    let gap = form.of(50, 34);
    names.sort_by_key(|name| name.from.map(|(_, y)| y));
    let wanted = |(n, name): (i32, &Name)| name.from.map_or(ends.0 + n * gap, |(_, y)| y);
    let wanted: Vec<i32> = (0..).zip(&names).map(wanted).collect();
    let half = form.of(10, 7);
    for (Name { style, name, note, from }, place) in names.iter().zip(apart(&wanted, gap, ends)) {
        let edge = form.right();
        if let Some((x, y)) = *from {
            let near = edge + form.of(18, 6);
            let lead = [(x, y), (near, place - half), (near + form.of(8, 2), place - half)];
            svg.dotted(&lead, style.class);
        }
        style.mark(svg, (edge + form.of(38, 15), place - half), form.of(7, 4));
        let left = edge + form.of(54, 23);
        let own = Look { size: form.of(21, 11), class: style.class, hold: Hold::Left };
        svg.text(name, (left, place - half), own);
        svg.text(note, (left, place + form.of(13, 6)), soft(form.note(), Hold::Left));
    }
}
