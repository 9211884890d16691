//! Charts of invented figures: what is on the paper, and where.

use super::*;

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
        lines: vec![
            line("none", |_| 3_200.0),
            line("ipvs", |n| 4_600.0 + n * 0.05),
            line("iptables", |n| 4_100.0 + n * 2.1),
            line("nft", |n| 4_300.0 + 150.0 * n.log10()),
            line("nft (constant-time)", |n| 6_300.0 + 150.0 * n.log10()),
            line("kube-proxy nft", |n| 8_300.0 + 150.0 * n.log10()),
        ],
    }
}

/// Set `NFC_BENCH_DRAW=FOLDER` to look at the chart.
#[test]
fn a_chart_names_its_lines_axes_and_ticks() {
    let svg = draw(&chart()).expect("a chart");
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

#[test]
fn all_that_is_drawn_is_on_the_paper() {
    let svg = draw(&chart()).expect("a chart");
    let texts = svg.split("<text ").skip(1);
    for text in texts {
        let number = |name: &str| -> i32 {
            let rest = &text[text.find(&format!(" {name}=\"")).map_or(0, |i| i + 1)..];
            let value = rest.split('"').nth(1).expect("a value");
            value.parse().expect("a number")
        };
        assert!((0..=740).contains(&number("y")), "{text}");
    }
}

#[test]
fn a_scale_begins_and_ends_at_round_values_and_holds_all() {
    let scale = Scale::around([3_100.0, 51_000.0].into_iter(), 10.0, (0, 100));
    assert_eq!((scale.low, scale.high), (2_000.0, 100_000.0));
    assert_eq!((scale.place(2_000.0), scale.place(100_000.0)), (0, 100));
    assert!(scale.ticks().contains(&5_000.0));
}

/// Noise of a few percent must look like nothing.
#[test]
fn a_scale_spans_a_decade_at_least() {
    let scale = Scale::around([3_900.0, 4_100.0].into_iter(), 10.0, (0, 100));
    assert!(scale.high / scale.low >= 10.0, "{scale:?}");
    assert!((scale.place(4_100.0) - scale.place(3_900.0)).abs() < 4);
}

#[test]
fn ticks_are_few_whatever_the_span() {
    for span in [10.0, 100.0, 1e3, 1e4, 1e6, 1e9] {
        let scale = Scale::around([1.0, span].into_iter(), 10.0, (0, 100));
        let ticks = scale.ticks().len();
        assert!((3..=11).contains(&ticks), "{span}: {ticks}");
    }
}

#[test]
fn names_do_not_overlap_and_stay_on_the_paper() {
    let check = |wanted: &[i32]| {
        let places = apart(wanted);
        assert!(places.windows(2).all(|p| p[1] - p[0] >= NAME_GAP), "{places:?}");
        assert!(places.iter().all(|p| (TOP..=BOTTOM).contains(p)), "{places:?}");
    };
    check(&[300, 305, 310, 600]);
    check(&[TOP, TOP, TOP, TOP]);
    check(&[BOTTOM, BOTTOM, BOTTOM]);
    assert_eq!(apart(&[200, 400]), [200, 400]);
}

#[test]
fn lines_can_be_told_apart_without_colour() {
    let names = KNOWN.iter().map(|(name, _)| *name).chain(["one", "another"]);
    let lines: Vec<Line> = names.map(|name| line(name, |_| 1.0)).collect();
    let markers: Vec<_> = styled(&lines).iter().map(|(_, style)| style.marker).collect();
    for (i, marker) in markers.iter().enumerate() {
        assert!(!markers[..i].contains(marker), "{marker:?} is used twice");
    }
}

/// What else is drawn must not change how a known backend looks.
#[test]
fn known_backends_always_look_the_same() {
    let alone = [line("nft", |_| 1.0)];
    let last = [line("one", |_| 1.0), line("another", |_| 1.0), line("nft", |_| 1.0)];
    assert_eq!(styled(&alone)[0].1, styled(&last)[2].1);
}

#[test]
fn nothing_to_draw_is_an_error() {
    let empty = Chart { lines: vec![], ..chart() };
    let error = draw(&empty).expect_err("nothing");
    assert!(error.to_string().contains("no figures"), "{error}");
}
