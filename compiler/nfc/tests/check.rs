//! Every rule of `check` can fire and has a manifest that shows it; a sound manifest is left
//! in peace; and docs/check.md lists what there is.
//!
//! `NFC_BLESS=1` rewrites the list.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

use nfc::check::{check, document, has_errors, rules, sarif, text};
use nfc_ir::ProxyMode;
use nfc_manifest::{Document, Settings};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check")
}

fn fixture(name: &str) -> Document {
    let path = folder().join(format!("{name}.yaml"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
    Document { name: format!("{name}.yaml"), text }
}

fn settings() -> Settings {
    Settings::default().for_mode(ProxyMode::Nftables)
}

#[test]
fn every_rule_fires_on_its_own_manifest() {
    for rule in rules::ALL {
        let document = fixture(rule.code);
        let found = check(std::slice::from_ref(&document), &settings());
        let codes: BTreeSet<_> = found.iter().map(|finding| finding.rule.code).collect();
        assert!(codes.contains(rule.code), "{} finds only {codes:?}", rule.code);
        let told = text(&found, &[document]);
        assert!(told.contains(&format!("[{}]: ", rule.code)), "{told}");
    }
    let files = std::fs::read_dir(folder()).expect("the folder of manifests").count();
    assert_eq!(files, rules::ALL.len() + 1, "a manifest for each rule, and a clean one");
}

#[test]
fn a_sound_manifest_is_left_in_peace() {
    let document = fixture("clean");
    let found = check(std::slice::from_ref(&document), &settings());
    // That the only node of the input is taken is said, and is no flaw.
    let worst = found.iter().map(|finding| finding.rule.code).collect::<Vec<_>>();
    assert!(worst.iter().all(|code| *code == rules::NODE_UNKNOWN.code), "{worst:?}");
    assert!(!has_errors(&found));
}

#[test]
fn codes_are_in_order_and_have_words() {
    let codes: Vec<_> = rules::ALL.iter().map(|rule| rule.code).collect();
    assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
    for rule in rules::ALL {
        assert!(rule.why.len() > 20 && rule.remedy.len() > 10, "{}", rule.code);
        assert_eq!(rules::find(rule.code), Some(*rule));
    }
}

#[test]
fn a_finding_points_at_its_line() {
    let document = fixture("NFC-201");
    let found = check(std::slice::from_ref(&document), &settings());
    let finding = found.iter().find(|f| f.rule == rules::PORT_WITHOUT_ENDPOINTS).expect("found");
    let place = finding.place.as_ref().expect("a place");
    let line = document.text.lines().nth(place.line - 1).expect("the line");
    assert!(line[place.column - 1..].starts_with("https"), "{line}");
    let told = text(&found, std::slice::from_ref(&document));
    let marked = format!("{line}\n  | {}^^^^^\n", " ".repeat(place.column - 1));
    assert!(told.contains(&marked), "{told}");
}

/// The forms for programs name every finding and every rule.
#[test]
fn programs_are_told_the_same() {
    let found = check(&[fixture("NFC-108"), fixture("NFC-201")], &settings());
    let (plain, sarif) = (document(&found), sarif(&found));
    let run = &sarif["runs"][0];
    for (i, finding) in found.iter().enumerate() {
        assert_eq!(plain["findings"][i]["code"], finding.rule.code);
        assert_eq!(run["results"][i]["ruleId"], finding.rule.code);
    }
    let described = run["tool"]["driver"]["rules"].as_array().expect("a list");
    assert!(described.iter().map(|rule| &rule["id"]).eq(rules::ALL.iter().map(|r| r.code)));
    assert_eq!(sarif["version"], "2.1.0");
}

/// SARIF names files by reference, in which not every letter can stand.
#[test]
fn names_of_files_become_references() {
    let document = Document { name: "übel/a b.yaml".to_owned(), ..fixture("NFC-201") };
    let sarif = sarif(&check(&[document], &settings()));
    let results = sarif["runs"][0]["results"].as_array().expect("a list");
    let mut files = results.iter().filter_map(|result| {
        let place = &result["locations"][0]["physicalLocation"];
        place["artifactLocation"]["uri"].as_str()
    });
    assert_eq!(files.next(), Some("%C3%BCbel/a%20b.yaml"));
}

/// What the reader suggests is better advice than what holds for every refused input.
#[test]
fn a_refused_input_comes_with_its_own_remedy() {
    let misspelt = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n\
                    spec: {clusterIP: 10.0.0.1, ports: [{port: 80, protocol: tcp}]}\n";
    let document = Document { name: "x.yaml".to_owned(), text: misspelt.to_owned() };
    let found = check(std::slice::from_ref(&document), &settings());
    let refused = found.iter().find(|f| f.rule == rules::REFUSED).expect("refused");
    assert_eq!(refused.remedy(), "did you mean `TCP`?");
    let told = text(&found, std::slice::from_ref(&document));
    assert!(told.contains("= help: did you mean `TCP`?") && told.contains("^^^\n"), "{told}");
}

/// Packets change no family on their way, so that endpoints of the other one are of no use.
#[test]
fn a_cluster_ip_without_endpoints_of_its_family_is_found() {
    let text = fixture("clean").text;
    let both = text.replace("clusterIP: 10.96.0.10", "clusterIPs: [10.96.0.10, 'fd00:96::10']");
    let document = Document { name: "x.yaml".to_owned(), text: both };
    let found = check(&[document], &settings());
    let found: Vec<_> = found.iter().filter(|f| f.rule != rules::NODE_UNKNOWN).collect();
    let words = found.iter().map(|f| f.message.as_str()).collect::<Vec<_>>();
    let expected = "Service shop/web has the cluster IP fd00:96::10, and no IPv6 endpoints";
    assert_eq!((words, found[0].rule.code), (vec![expected], "NFC-203"));
}

/// Knative calls its objects Services too.
#[test]
fn objects_of_other_groups_are_left_in_peace() {
    let text = fixture("NFC-203").text;
    assert!(text.contains("apiVersion: v1\n"), "{text}");
    let text = text.replace("apiVersion: v1\n", "apiVersion: serving.knative.dev/v1\n");
    let document = Document { name: "x.yaml".to_owned(), text };
    assert_eq!(check(&[document], &settings()), []);
}

/// Where IPVS mode finds nobody on the node it goes to all endpoints, so nothing is lost.
#[test]
fn local_policies_are_judged_by_the_mode_in_the_settings() {
    for code in ["NFC-204", "NFC-205"] {
        for mode in ProxyMode::ALL {
            let found = check(&[fixture(code)], &Settings::default().for_mode(mode));
            let is_found = found.iter().any(|finding| finding.rule.code == code);
            assert_eq!(is_found, mode != ProxyMode::Ipvs, "{code} in {mode} mode");
        }
    }
}

/// YAML has more words for true than one.
#[test]
fn conditions_may_be_spelled_in_every_way_of_yaml() {
    for (word, is_ready) in [("true", true), ("True", true), ("yes", true), ("no", false)] {
        let text = fixture("NFC-202").text.replace("ready: false", &format!("ready: {word}"));
        let document = Document { name: "x.yaml".to_owned(), text };
        let found = check(&[document], &settings());
        let codes: Vec<_> = found.iter().map(|f| f.rule.code).collect();
        assert_eq!(!codes.contains(&"NFC-202"), is_ready, "{word}: {codes:?}");
    }
}

#[test]
fn the_docs_list_every_code() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/check.md");
    let mut table =
        String::from("| code | | what | why it bites | what to do |\n|---|---|---|---|---|\n");
    for rule in rules::ALL {
        let severity = rule.severity.name();
        writeln!(
            table,
            "| {} | {severity} | {} | {} | {} |",
            rule.code, rule.title, rule.why, rule.remedy
        )
        .expect("text");
    }
    let text = std::fs::read_to_string(&page).expect("the page");
    let (begin, end) = ("<!-- begin codes -->\n", "<!-- end codes -->");
    let (head, rest) = text.split_once(begin).expect("where the list begins");
    let (old, tail) = rest.split_once(end).expect("where it ends");
    if std::env::var_os("NFC_BLESS").is_some() {
        std::fs::write(&page, [head, begin, &table, end, tail].concat()).expect("written");
    } else {
        assert_eq!(old, table, "docs/check.md is stale: run the test with NFC_BLESS=1");
    }
}
