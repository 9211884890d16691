//! Long inputs are read object by object; nothing of that may show.
#![allow(clippy::unwrap_used, reason = "functions that only tests call")]

use nfc_ir::Ir;
use nfc_manifest::synth::{self, Form, Value};
use nfc_manifest::{Document, Refused, Settings, Source, load, load_from, render_all};
use proptest::prelude::*;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;

fn settings() -> Settings {
    Settings { hostname: "node-0001".to_owned(), ..Settings::default() }
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

/// A Service and a slice that use what those of the cluster do not.
fn special() -> [Value; 2] {
    let metadata = |name: &str, key, labels| {
        Value::Map(vec![
            (key, Value::Map(labels)),
            ("name", text(name)),
            ("namespace", text("shop")),
        ])
    };
    let port = |name: &str, port, protocol: &str, node_port| {
        Value::Map(vec![
            ("name", text(name)),
            ("nodePort", Value::Number(node_port)),
            ("port", Value::Number(port)),
            ("protocol", text(protocol)),
        ])
    };
    let list = |texts: &[&str]| Value::List(texts.iter().map(|t| text(t)).collect());
    let seconds = Value::Map(vec![("timeoutSeconds", Value::Number(60))]);
    let service = Value::Map(vec![
        ("apiVersion", text("v1")),
        ("kind", text("Service")),
        ("metadata", metadata("web", "annotations", vec![("nfc.dev/scheduler", text("maglev"))])),
        (
            "spec",
            Value::Map(vec![
                ("clusterIPs", list(&["10.96.0.10", "fd00::10"])),
                ("externalIPs", list(&["192.0.2.1", "2001:db8::1"])),
                ("loadBalancerSourceRanges", list(&["10.0.0.0/8"])),
                ("ports", Value::List(vec![port("a", 80, "TCP", 30080), port("b", 53, "UDP", 0)])),
                ("sessionAffinity", text("ClientIP")),
                ("sessionAffinityConfig", Value::Map(vec![("clientIP", seconds)])),
                ("type", text("NodePort")),
            ]),
        ),
    ]);
    // No form may lose a letter of it.
    let zone = Value::Map(vec![("name", text("käse \"mit\" \\ Löchern\nund so"))]);
    let endpoint = Value::Map(vec![
        ("addresses", list(&["fd00:1::1"])),
        ("conditions", Value::Map(vec![("ready", Value::Truth(false))])),
        ("hints", Value::Map(vec![("forZones", Value::List(vec![zone]))])),
        ("nodeName", text("node-0001")),
    ]);
    let slice = Value::Map(vec![
        ("addressType", text("IPv6")),
        ("apiVersion", text("discovery.k8s.io/v1")),
        ("endpoints", Value::List(vec![endpoint])),
        ("kind", text("EndpointSlice")),
        (
            "metadata",
            metadata("web-1", "labels", vec![("kubernetes.io/service-name", text("web"))]),
        ),
        ("ports", Value::List(vec![port("a", 8080, "TCP", 0)])),
    ]);
    [service, slice]
}

fn written(form: Form, objects: &[Value]) -> Document {
    let mut text = Vec::new();
    synth::write_objects(&mut text, form, &mut objects.iter().cloned()).unwrap();
    Document { name: "<stdin>".to_owned(), text: String::from_utf8(text).unwrap() }
}

fn read(documents: &[Document], window_bytes: usize) -> Result<Vec<Ir>, Refused> {
    let sources: Vec<_> = documents.iter().map(Source::of).collect();
    let loaded = load_from(&sources, &settings(), window_bytes, &mut |_| {})?;
    assert_eq!(loaded.warnings, []);
    Ok(loaded.irs.into_values().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// JSON, a YAML List, YAML documents, any number of files, any order, any window: the
    /// same objects are the same Ir.
    #[test]
    fn the_form_of_the_input_does_not_matter(
        order in Just((0..42_usize).collect::<Vec<_>>()).prop_shuffle(),
        forms in prop::collection::vec(
            prop::sample::select(vec![Form::Json, Form::Yaml, Form::Documents]), 1..4),
        window_bytes in prop::sample::select(vec![1, 50, 700, 5_000, 1 << 18]),
    ) {
        let plain: Vec<_> = (0..20)
            .flat_map(|i| [synth::service(i), synth::slice(i, i % 4)])
            .chain(special())
            .collect();
        let expected = read(&[written(Form::Documents, &plain)], 1 << 18).unwrap();
        prop_assert_eq!(expected.len(), 2);
        let shuffled: Vec<_> = order.iter().map(|i| plain[*i].clone()).collect();
        let parts = shuffled.chunks(shuffled.len().div_ceil(forms.len()));
        let documents: Vec<_> = parts.zip(&forms).map(|(part, form)| written(*form, part)).collect();
        prop_assert_eq!(read(&documents, window_bytes).unwrap(), expected);
    }
}

/// Every error that is known is the same, however little of the text is held.
#[test]
fn errors_do_not_depend_on_the_window() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let document = Document { name, text: std::fs::read_to_string(&path).unwrap() };
        let expected = load(std::slice::from_ref(&document), &Settings::default()).unwrap_err();
        for window_bytes in [1, 10, 100, 1_000] {
            let source = [Source::of(&document)];
            let refused = load_from(&source, &Settings::default(), window_bytes, &mut |_| {});
            let errors = refused.unwrap_err().errors;
            assert_eq!(
                render_all(&errors, false),
                render_all(&expected, false),
                "{} in a window of {window_bytes} bytes",
                document.name
            );
        }
    }
}

/// What a person reads when `bytes` come through a pipe, which cannot be read again.
fn refused_in_a_pipe(bytes: &[u8], window_bytes: usize) -> String {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let bytes = bytes.to_owned();
    let writing = std::thread::spawn(move || writer.write_all(&bytes));
    let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
    let sources = [Source::at(Path::new(&path))];
    let refused = load_from(&sources, &settings(), window_bytes, &mut |_| {}).unwrap_err();
    assert!(refused.unreadable.is_empty(), "{:?}", refused.unreadable);
    drop(reader);
    let _ = writing.join().unwrap();
    render_all(&refused.errors, false).replace(&path, "<pipe>")
}

#[test]
fn what_is_broken_is_refused_with_its_place() {
    let list = |rest: &str| format!("{{\n  \"kind\": \"List\",\n  \"items\": [\n{rest}");
    let node = "    {\"apiVersion\": \"v1\", \"kind\": \"Node\", \"metadata\": {\"name\": \"n\"}}";
    let deep = format!("{{\"kind\": \"A\",\n \"a\": {}{}}}", "[".repeat(200), "]".repeat(200));
    let port = "{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"a\"},\n \
                \"spec\": {\"clusterIP\": \"10.0.0.1\", \"ports\": [{\"port\": 1e99}, {\"name\": \"b\", \
                \"port\": 99999999999999999999999}]}}";
    let inputs: [(&str, Vec<u8>); 9] = [
        ("a text that breaks off", list(node).into()),
        ("garbage behind it", (list(node) + "\n]}\nhello: [\n").into()),
        ("a missing comma", (list(node) + "\n" + node + "\n]}").into()),
        ("bytes that are no text", [list(node).as_bytes(), b",\n  {\"kind\": \"\xff\xfe"].concat()),
        ("UTF-16", b"\xff\xfe{\0\"\0k\0".to_vec()),
        ("a packed file", b"\x1f\x8b\x08\x00\x03kind: A\n".to_vec()),
        ("deep nesting", deep.into()),
        ("huge numbers", port.into()),
        ("a lone surrogate", b"{\"kind\": \"A\\ud800\"}".to_vec()),
    ];
    let mut text = String::new();
    for (name, bytes) in inputs {
        let narrow = refused_in_a_pipe(&bytes, 20);
        assert_eq!(narrow, refused_in_a_pipe(&bytes, 1 << 18), "{name}");
        text.push_str(&format!("# {name}\n\n{narrow}\n"));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn errors_between_objects_far_apart_show_the_lines_of_both_even_of_a_pipe() {
    let objects: Vec<_> = (0..40).chain([3]).map(synth::service).collect();
    let document = written(Form::Json, &objects);
    insta::assert_snapshot!(refused_in_a_pipe(document.text.as_bytes(), 100));
}

#[test]
fn of_a_line_that_no_terminal_could_show_the_part_in_question_is_shown() {
    let mut objects: Vec<_> = (0..40).map(synth::service).collect();
    objects.insert(30, Value::Map(vec![("kind", text("Ü")), ("items", text("no list"))]));
    objects.insert(31, Value::Map(vec![("metadata", text("nameless"))]));
    let document = written(Form::Json, &objects);
    let line = document.text.split_whitespace().collect::<String>();
    assert!(line.len() > 1 << 14);
    for window_bytes in [10, 1 << 18] {
        insta::assert_snapshot!("one_long_line", refused_in_a_pipe(line.as_bytes(), window_bytes));
    }
}
