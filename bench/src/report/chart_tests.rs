//! Charts of invented figures: what is on the paper, and where.

use super::*;
use crate::metric::Metric;
use crate::report::{crossover, subject};

fn line(name: &str, f: impl Fn(f64) -> f64) -> Line {
    let sizes = [1.0, 10.0, 100.0, 1_000.0, 10_000.0];
    let mark = |services: f64| Mark {
        services,
        low: f(services) * 0.93,
        middle: f(services),
        high: f(services) * 1.3,
    };
    Line {
        name: name.to_owned(),
        note: String::new(),
        points: sizes.into_iter().map(mark).collect(),
    }
}

/// Invented figures; they never leave the tests.
fn chart() -> Chart {
    Chart {
        title: "An invented chart".to_owned(),
        subtitle: vec!["Nothing here was measured.".to_owned(), "Second line.".to_owned()],
        axis: "time, from one to the other".to_owned(),
        unit: Unit::Nanoseconds,
        across: None,
        lines: vec![
            line("none", |_| 3_200.0),
            line("ipvs", |n| 4_600.0 + n * 0.05),
            line("iptables", |n| 4_100.0 + n * 2.1),
            line("nft", |n| 4_300.0 + 150.0 * n.log10()),
            line("nft-constant-time", |n| 6_300.0 + 150.0 * n.log10()),
            line("kube-proxy-1.36", |n| 8_300.0 + 150.0 * n.log10()),
        ],
    }
}

/// Set `NFC_BENCH_DRAW=FOLDER` to look at the chart.
#[test]
fn a_chart_names_its_lines_axes_and_ticks() {
    let svg = draw(&chart(), Form::File).expect("a chart");
    if let Some(folder) = std::env::var_os("NFC_BENCH_DRAW") {
        let path = std::path::Path::new(&folder).join("invented.svg");
        std::fs::write(path, &svg).expect("written");
    }
    let words = [
        "An invented chart",
        "Nothing here was measured.",
        "iptables",
        "nft",
        "ipvs",
        "none",
        "Services (log scale)",
        "time, from one to the other (log scale)",
        "10k",
        "5 µs",
        "10 µs",
        "25.1 µs at 10k",
    ];
    for word in words {
        assert!(svg.contains(word), "{word:?} is missing");
    }
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
}

/// The number of this attribute in what follows `<`.
fn number(element: &str, name: &str) -> i32 {
    let at = element.find(&format!(" {name}=\"")).expect("the attribute");
    element[at..].split('"').nth(1).expect("a value").parse().expect("a number")
}

/// A letter is about 0.56 times as wide as it is high in the fonts that are asked for.
fn assert_all_on_paper(svg: &str, form: Form) {
    let (width, height) = (number(svg, "width"), number(svg, "height"));
    for text in svg.split("<text ").skip(1) {
        let words = text.split(['>', '<']).nth(1).expect("words");
        let letters = i32::try_from(words.chars().count()).expect("few");
        let long = letters * number(text, "font-size") * 56 / 100;
        let x = number(text, "x");
        let (from, to) = match text.split("text-anchor=\"").nth(1).expect("one").get(..3) {
            Some("sta") => (x, x + long),
            Some("mid") => (x - long / 2, x + long / 2),
            _ => (x - long, x),
        };
        assert!(0 <= from && to <= width, "{form:?} {words:?}: {from} to {to} of {width}");
        assert!((0..=height).contains(&number(text, "y")), "{form:?} {words:?}");
    }
}

const FORMS: [Form; 3] = [Form::File, Form::Page, Form::Phone];

#[test]
fn all_that_is_written_is_on_the_paper() {
    for form in FORMS {
        assert_all_on_paper(&draw(&chart(), form).expect("a chart"), form);
    }
}

/// What an axis says of a metric has room in a hand too.
#[test]
fn the_words_of_every_axis_are_on_the_paper() {
    for metric in Metric::all().filter(|metric| subject::has_chart(*metric)) {
        for unit in [Unit::Nanoseconds, Unit::Instructions] {
            let unit = if metric.is_memory() { Unit::Bytes } else { unit };
            let axes = [subject::words_of_axis(metric, unit), crossover::words_of_axis(unit)];
            for (axis, form) in axes.iter().flat_map(|axis| FORMS.map(|form| (axis, form))) {
                let chart = Chart { axis: axis.clone(), ..chart() };
                assert_all_on_paper(&draw(&chart, form).expect("a chart"), form);
            }
        }
    }
}

#[test]
fn nothing_to_draw_is_no_drawing() {
    let empty = Chart { lines: vec![], ..chart() };
    assert_eq!(draw(&empty, Form::File), None);
}
