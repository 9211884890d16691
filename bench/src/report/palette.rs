//! The looks of backends: a colour and a marker each, the same in every chart.
//!
//! Invariant: looks only; which backends there are is the record's affair.

use super::svg::{Place, Svg};
use crate::contender::STATIC;
use crate::plan::BASELINE;

/// The shapes of markers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
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

/// How a backend looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// The class of its colour.
    pub(super) class: &'static str,
    pub(super) marker: Marker,
}

const fn style(class: &'static str, marker: Marker) -> Style {
    Style { class, marker }
}

/// The looks of all that every reader knows.
pub(super) const KNOWN: [(&str, Style); 11] = [
    (BASELINE, style("none", Marker::Cross)),
    (STATIC, style("static-dnat", Marker::Plus)),
    ("nft", style("nft", Marker::Circle)),
    ("nft-constant-time", style("nft-constant-time", Marker::Ring)),
    ("nft/text", style("nft-text", Marker::Flipped)),
    ("iptables", style("iptables", Marker::Square)),
    ("iptables/text", style("iptables-text", Marker::Frame)),
    ("ipvs", style("ipvs", Marker::Triangle)),
    ("kube-proxy-1.33", style("kube-proxy-1-33", Marker::Bar)),
    ("kube-proxy-1.36", style("kube-proxy-1-36", Marker::Diamond)),
    ("kube-proxy-1.37", style("kube-proxy-1-37", Marker::Post)),
];

/// The look of all others.
const OTHER: Style = style("other", Marker::Hourglass);

/// The looks of `names`, which are those of one chart.
pub(super) fn styles<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Style> {
    let look = |name: &str| {
        let known = KNOWN.iter().find(|(known, _)| *known == name);
        known.map_or(OTHER, |(_, style)| *style)
    };
    names.map(look).collect()
}

impl Style {
    /// Draws the marker with its middle at `at`; `size` is half of its width.
    pub(super) fn mark(self, svg: &mut Svg, at: Place, size: i32) {
        let Self { class, marker } = self;
        // Corners are given for a marker of half a width of 7.
        let shift = |(x, y): &Place| (at.0 + x * size / 7, at.1 + y * size / 7);
        let corners: &[Place] = match marker {
            Marker::Circle => return svg.disc(at, size, class),
            Marker::Ring => {
                svg.disc(at, size, class);
                return svg.disc(at, size - 3, "paper");
            }
            Marker::Square | Marker::Frame => &[(-6, -6), (6, -6), (6, 6), (-6, 6)],
            Marker::Triangle => &[(0, -9), (8, 6), (-8, 6)],
            Marker::Flipped => &[(0, 9), (8, -6), (-8, -6)],
            Marker::Bar => &[(-9, -3), (9, -3), (9, 3), (-9, 3)],
            Marker::Post => &[(-3, -9), (3, -9), (3, 9), (-3, 9)],
            Marker::Hourglass => &[(-7, -8), (7, -8), (-7, 8), (7, 8)],
            Marker::Diamond => &[(0, -9), (9, 0), (0, 9), (-9, 0)],
            Marker::Cross => return self.strokes(svg, at, [(size, size), (size, -size)]),
            Marker::Plus => return self.strokes(svg, at, [(size, 0), (0, size)]),
        };
        let corners: Vec<Place> = corners.iter().map(shift).collect();
        if marker == Marker::Frame {
            svg.area(&corners, "paper", 100);
            let outline: Vec<Place> = corners.iter().chain(corners.first()).copied().collect();
            return svg.line(&outline, class, 3);
        }
        svg.area(&corners, class, 100);
    }

    /// Two strokes through `at`, each from one end to the opposite one.
    fn strokes(self, svg: &mut Svg, at: Place, ends: [Place; 2]) {
        for (x, y) in ends {
            svg.line(&[(at.0 - x, at.1 - y), (at.0 + x, at.1 + y)], self.class, 3);
        }
    }
}

/// Places near `wanted`, which ascend, that are at least `gap` apart and between `ends`: close
/// ones move apart around their common middle.
pub(super) fn apart(wanted: &[i32], gap: i32, (top, bottom): (i32, i32)) -> Vec<i32> {
    let mut places = wanted.to_vec();
    for _ in 0..20 {
        for i in 1..places.len() {
            let missing = (gap - (places[i] - places[i - 1])).max(0);
            places[i - 1] -= missing / 2;
            places[i] += missing - missing / 2;
        }
    }
    let mut least = top;
    for place in &mut places {
        *place = (*place).max(least);
        least = *place + gap;
    }
    let mut most = bottom;
    for place in places.iter_mut().rev() {
        *place = (*place).min(most);
        most = *place - gap;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::svg::STYLE;
    use std::collections::BTreeSet;

    #[test]
    fn every_look_has_a_colour_on_light_and_on_dark_paper() {
        let classes = KNOWN.iter().map(|(_, style)| style.class).chain([OTHER.class]);
        for class in classes {
            let rule = format!(".{class}{{color:");
            assert_eq!(STYLE.matches(&rule).count(), 2, "{class}");
        }
    }

    #[test]
    fn lines_can_be_told_apart_without_colour() {
        let names = KNOWN.iter().map(|(name, _)| *name).chain(["another"]);
        let markers: BTreeSet<String> =
            styles(names).iter().map(|style| format!("{:?}", style.marker)).collect();
        assert_eq!(markers.len(), KNOWN.len() + 1);
    }

    #[test]
    fn a_backend_looks_the_same_whoever_is_beside_it() {
        let alone = styles(["ipvs"].into_iter());
        let beside = styles(["x", "iptables", "ipvs"].into_iter());
        assert_eq!(alone[0], beside[2]);
    }

    #[test]
    fn names_do_not_overlap_and_stay_on_the_paper() {
        let check = |wanted: &[i32]| {
            let places = apart(wanted, 50, (160, 640));
            assert!(places.windows(2).all(|p| p[1] - p[0] >= 50), "{places:?}");
            assert!(places.iter().all(|p| (160..=640).contains(p)), "{places:?}");
        };
        check(&[300, 305, 310, 600]);
        check(&[160, 160, 160, 160]);
        check(&[640, 640, 640]);
        assert_eq!(apart(&[200, 400], 50, (160, 640)), [200, 400]);
    }
}
