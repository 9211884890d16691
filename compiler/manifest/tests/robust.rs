//! No text, however broken, makes the reader panic, and every error has a place in it.

use nfc_manifest::{Document, Settings, load, read_settings, render_all};
use proptest::prelude::*;

const SAMPLE: &str = include_str!("warned/everything.yaml");
const JSON: &str = include_str!("bad/flaws.json");

fn check(name: &str, text: String) {
    let lines = text.split('\n').count();
    let document = Document { name: name.to_owned(), text };
    let _ = read_settings(&document);
    if let Err(errors) = load(&[document], &Settings::default()) {
        assert!(!render_all(&errors, true).is_empty());
        for error in errors {
            let line = error.place.as_ref().map(|place| place.line);
            assert!(line.is_some_and(|line| (1..=lines).contains(&line)), "{error}");
        }
    }
}

/// `text` with some bytes replaced by others that mean something in YAML.
fn mutated(text: &'static str) -> impl Strategy<Value = String> {
    let letters = prop::sample::select(vec![
        "{", "}", "[", "]", ":", "- ", "\n", "'", "\"", "&a ", "*a", "\t", "#", "|", "---\n", "é",
        "0", "null", "<<: ", "!!str ", "\u{feff}", "\0", "%",
    ]);
    let change = (0..text.len(), 0..3_usize, letters);
    prop::collection::vec(change, 1..6).prop_map(move |changes| {
        let mut text = text.to_owned();
        for (at, remove, insert) in changes {
            let floor = |mut i: usize| {
                i = i.min(text.len());
                while !text.is_char_boundary(i) {
                    i -= 1;
                }
                i
            };
            let (begin, end) = (floor(at), floor(at + remove));
            text.replace_range(begin..end, insert);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn broken_yaml_is_survived(text in mutated(SAMPLE)) {
        check("x.yaml", text);
    }

    #[test]
    fn broken_json_is_survived(text in mutated(JSON)) {
        check("x.json", text);
    }

    #[test]
    fn any_text_is_survived(text in "\\PC{0,80}") {
        check("x", text);
    }

    #[test]
    fn a_cut_text_is_survived(length in 0..SAMPLE.len()) {
        check("x.yaml", SAMPLE[..length].to_owned());
    }
}
