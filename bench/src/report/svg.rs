//! SVG as text: lines, areas, words, in colours that suit light and dark paper.
//!
//! Colours are classes, so that one style sheet decides them: [`STYLE`], which a file has
//! inside of it and a page of charts in its head.
//!
//! Invariant: knows no figure; whoever draws knows the places.

use std::fmt::Write as _;

/// A place on the paper, from its upper left corner.
pub(super) type Place = (i32, i32);

/// What a chart is drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A file of its own, with its title inside.
    File,
    /// A page of charts, with titles of its own.
    Page,
    /// The same on a screen as narrow as a hand.
    Phone,
}

impl Form {
    /// Width of the paper.
    pub(super) fn width(self) -> i32 {
        self.of(1200, 380)
    }

    /// Where the part for figures begins; left of it are the names of values.
    pub(super) fn left(self) -> i32 {
        self.of(110, 52)
    }

    /// Where the part for figures ends; right of it are the names of backends.
    pub(super) fn right(self) -> i32 {
        self.of(912, 240)
    }

    /// Size of ordinary letters.
    pub(super) fn text(self) -> i32 {
        self.of(20, 12)
    }

    /// Size of notes.
    pub(super) fn note(self) -> i32 {
        self.of(17, 11)
    }

    /// `large` on a screen and `small` in a hand.
    pub(super) fn of(self, large: i32, small: i32) -> i32 {
        match self {
            Self::File | Self::Page => large,
            Self::Phone => small,
        }
    }

    /// Writes title and subtitle where the form has them, and gives the room they take.
    pub(super) fn words(self, svg: &mut Svg, title: &str, subtitle: &[String]) -> i32 {
        if self != Self::File {
            return 0;
        }
        svg.text(title, (24, 34), look(28, Hold::Left));
        let mut place = 68;
        for line in subtitle {
            svg.text(line, (24, place), look(18, Hold::Left));
            place += 25;
        }
        place - 10
    }
}

/// Which point of a text is at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    Left,
    Middle,
    Right,
}

/// How a text looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look<'a> {
    pub(super) size: i32,
    pub(super) class: &'a str,
    pub(super) hold: Hold,
}

/// Text in ink.
pub(super) const fn look(size: i32, hold: Hold) -> Look<'static> {
    Look { size, class: "ink", hold }
}

/// The same in soft ink.
pub(super) const fn soft(size: i32, hold: Hold) -> Look<'static> {
    Look { size, class: "soft", hold }
}

/// A drawing under way.
#[derive(Clone, Debug)]
pub(super) struct Svg {
    size: Place,
    body: String,
}

impl Svg {
    /// Empty paper of this width, and of no height yet.
    pub(super) fn new(width: i32) -> Self {
        Self { size: (width, 0), body: String::new() }
    }

    /// Makes the paper this high.
    pub(super) fn grow(&mut self, height: i32) {
        self.size.1 = height;
    }

    /// A line through `places`.
    pub(super) fn line(&mut self, places: &[Place], class: &str, width: u32) {
        let _ = writeln!(
            self.body,
            "<polyline class=\"{class}\" fill=\"none\" stroke=\"currentColor\" \
             stroke-width=\"{width}\" stroke-linejoin=\"round\" points=\"{}\"/>",
            points(places)
        );
    }

    /// A line through `places` that cannot be taken for one of figures.
    pub(super) fn dotted(&mut self, places: &[Place], class: &str) {
        let _ = writeln!(
            self.body,
            "<polyline class=\"{class}\" fill=\"none\" stroke=\"currentColor\" \
             stroke-dasharray=\"1 4\" stroke-linecap=\"round\" points=\"{}\"/>",
            points(places)
        );
    }

    /// An area with these corners; `opacity` in hundredths.
    pub(super) fn area(&mut self, corners: &[Place], class: &str, opacity: u32) {
        let opacity = f64::from(opacity) / 100.0;
        let _ = writeln!(
            self.body,
            "<polygon class=\"{class}\" fill=\"currentColor\" fill-opacity=\"{opacity}\" \
             points=\"{}\"/>",
            points(corners)
        );
    }

    /// A disc.
    pub(super) fn disc(&mut self, (x, y): Place, radius: i32, class: &str) {
        let _ = writeln!(
            self.body,
            "<circle class=\"{class}\" fill=\"currentColor\" cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"/>"
        );
    }

    /// Words, in the middle of their height at their place.
    pub(super) fn text(&mut self, text: &str, (x, y): Place, look: Look<'_>) {
        let anchor = match look.hold {
            Hold::Left => "start",
            Hold::Middle => "middle",
            Hold::Right => "end",
        };
        // Half of a small letter's height below the middle is where letters stand.
        let _ = writeln!(
            self.body,
            "<text class=\"{}\" fill=\"currentColor\" x=\"{x}\" y=\"{}\" font-size=\"{}\" \
             text-anchor=\"{anchor}\">{}</text>",
            look.class,
            y + look.size * 35 / 100,
            look.size,
            escaped(text)
        );
    }

    /// The drawing as text: a file with paper and colours, or a part of a page that has both.
    pub(super) fn finish(self, form: Form, title: &str) -> String {
        let (width, height) = self.size;
        let title = escaped(title);
        let head = match form {
            Form::File => format!(
                "<style>{STYLE}</style>\n<rect class=\"paper\" fill=\"currentColor\" \
                 width=\"{width}\" height=\"{height}\"/>\n"
            ),
            Form::Page | Form::Phone => String::new(),
        };
        let class = match form {
            Form::File => "",
            Form::Page => " class=\"page\"",
            Form::Phone => " class=\"phone\"",
        };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\"{class} viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\" \
             font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\">\n{head}{}</svg>\n",
            self.body
        )
    }
}

fn points(places: &[Place]) -> String {
    let place = |(x, y): &Place| format!("{x},{y}");
    places.iter().map(place).collect::<Vec<_>>().join(" ")
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The colours. Those of backends are Okabe and Ito's, which people with any of the common
/// colour blindnesses can tell apart, and lighter ones of the same hues on dark paper.
pub(crate) const STYLE: &str = include_str!("chart.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_cannot_break_the_drawing() {
        let mut svg = Svg::new(100);
        svg.text("a < b & \"c\"", (1, 2), look(10, Hold::Left));
        let text = svg.finish(Form::File, "<x>");
        assert!(text.contains(">a &lt; b &amp; &quot;c&quot;</text>"), "{text}");
        assert!(text.contains("aria-label=\"&lt;x&gt;\""), "{text}");
    }

    #[test]
    fn only_a_file_brings_its_own_colours() {
        let drawn = |form: Form| Svg::new(100).finish(form, "t");
        assert!(drawn(Form::File).contains("prefers-color-scheme: dark"));
        assert!(!drawn(Form::Page).contains("<style>"));
    }
}
