//! A made-up cluster as `kubectl get services,endpointslices -A` prints it, in JSON or
//! YAML: what benches read and tests compare.
//!
//! Its Services are those of [`nfc_ir::synth`], sorted by name as kubectl sorts them; the
//! addresses of their pods are in no order, as in a cluster.
//!
//! Invariant: every object follows from its number, so that the same cluster comes of the
//! same arguments, in whichever form and order it is written.

use nfc_ir::{Family, synth};
use std::fmt::Write as _;
use std::io;

/// A value of JSON or YAML, keys in the order of the text.
#[derive(Clone, Debug)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(u32),
    /// A truth value.
    Truth(bool),
    /// A sequence.
    List(Vec<Value>),
    /// A mapping.
    Map(Vec<(&'static str, Value)>),
}

/// How a cluster is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `-o json`: one List, indented by four blanks.
    Json,
    /// `-o yaml`: one List.
    Yaml,
    /// One YAML document for each object.
    Documents,
}

/// Writes the first `services` Services of the cluster and their slices, each with so many
/// endpoints. The Services come first, as kubectl has it.
///
/// # Errors
///
/// Those of `to`.
pub fn write(to: &mut dyn io::Write, form: Form, services: u32, endpoints: u32) -> io::Result<()> {
    let slices = (0..services).map(|i| slice(i, endpoints));
    write_objects(to, form, &mut (0..services).map(service).chain(slices))
}

/// Writes `objects` one behind the other.
///
/// # Errors
///
/// Those of `to`.
pub fn write_objects(
    to: &mut dyn io::Write,
    form: Form,
    objects: &mut dyn Iterator<Item = Value>,
) -> io::Result<()> {
    match form {
        Form::Json => to.write_all(b"{\n    \"apiVersion\": \"v1\",\n    \"items\": [")?,
        Form::Yaml => to.write_all(b"apiVersion: v1\nitems:\n")?,
        Form::Documents => {}
    }
    for (i, object) in objects.enumerate() {
        let mut text = String::new();
        match form {
            Form::Json => {
                text.push_str(if i == 0 { "\n        " } else { ",\n        " });
                object.json(&mut text, 8);
            }
            Form::Yaml => Value::List(vec![object]).yaml(&mut text, 0),
            Form::Documents => {
                text.push_str("---\n");
                object.yaml(&mut text, 0);
            }
        }
        to.write_all(text.as_bytes())?;
    }
    let version = Value::Map(vec![("resourceVersion", text(""))]);
    let mut end = String::new();
    match form {
        Form::Json => {
            end.push_str("\n    ],\n    \"kind\": \"List\",\n    \"metadata\": ");
            version.json(&mut end, 4);
            end.push_str("\n}\n");
        }
        Form::Yaml => {
            Value::Map(vec![("kind", text("List")), ("metadata", version)]).yaml(&mut end, 0);
        }
        Form::Documents => {}
    }
    to.write_all(end.as_bytes())
}

/// Service number `index`.
#[must_use]
pub fn service(index: u32) -> Value {
    let name = name(index);
    let ip = synth::cluster_ip(Family::Ipv4, index).to_string();
    let port = vec![
        ("name", text("http")),
        ("port", Value::Number(80)),
        ("protocol", text("TCP")),
        ("targetPort", Value::Number(synth::TARGET_PORT.into())),
    ];
    Value::Map(vec![
        ("apiVersion", text("v1")),
        ("kind", text("Service")),
        (
            "metadata",
            Value::Map(vec![
                ("creationTimestamp", text("2026-01-05T09:12:44Z")),
                ("labels", labels(&name)),
                ("name", text(&name)),
                ("namespace", text("synth")),
                ("resourceVersion", text(index + 40_000_000)),
                ("uid", uid(1, index)),
            ]),
        ),
        (
            "spec",
            Value::Map(vec![
                ("clusterIP", text(&ip)),
                ("clusterIPs", Value::List(vec![text(&ip)])),
                ("internalTrafficPolicy", text("Cluster")),
                ("ipFamilies", Value::List(vec![text("IPv4")])),
                ("ipFamilyPolicy", text("SingleStack")),
                ("ports", Value::List(vec![Value::Map(port)])),
                ("selector", Value::Map(vec![("app.kubernetes.io/name", text(&name))])),
                ("sessionAffinity", text("None")),
                ("type", text("ClusterIP")),
            ]),
        ),
        ("status", Value::Map(vec![("loadBalancer", Value::Map(Vec::new()))])),
    ])
}

/// The only slice of Service number `index`.
#[must_use]
pub fn slice(index: u32, endpoints: u32) -> Value {
    let name = name(index);
    let owner = vec![
        ("apiVersion", text("v1")),
        ("blockOwnerDeletion", Value::Truth(true)),
        ("controller", Value::Truth(true)),
        ("kind", text("Service")),
        ("name", text(&name)),
        ("uid", uid(1, index)),
    ];
    let port = vec![
        ("name", text("http")),
        ("port", Value::Number(synth::TARGET_PORT.into())),
        ("protocol", text("TCP")),
    ];
    let Value::Map(mut slice_labels) = labels(&name) else { unreachable!("labels are a mapping") };
    slice_labels.push(("kubernetes.io/service-name", text(&name)));
    let endpoints = (0..endpoints).map(|j| endpoint(&name, index * endpoints + j, j));
    Value::Map(vec![
        ("addressType", text("IPv4")),
        ("apiVersion", text("discovery.k8s.io/v1")),
        ("endpoints", Value::List(endpoints.collect())),
        ("kind", text("EndpointSlice")),
        (
            "metadata",
            Value::Map(vec![
                ("creationTimestamp", text("2026-01-05T09:12:44Z")),
                ("generateName", text(format!("{name}-"))),
                ("generation", Value::Number(3)),
                ("labels", Value::Map(slice_labels)),
                ("name", text(format!("{name}-x7k2p"))),
                ("namespace", text("synth")),
                ("ownerReferences", Value::List(vec![Value::Map(owner)])),
                ("resourceVersion", text(index + 41_000_000)),
                ("uid", uid(2, index)),
            ]),
        ),
        ("ports", Value::List(vec![Value::Map(port)])),
    ])
}

/// Endpoint number `index` of all, which is number `pod` of its Service.
fn endpoint(service: &str, index: u32, pod: u32) -> Value {
    let conditions = vec![
        ("ready", Value::Truth(true)),
        ("serving", Value::Truth(true)),
        ("terminating", Value::Truth(false)),
    ];
    let target = vec![
        ("kind", text("Pod")),
        ("name", text(format!("{service}-{pod}"))),
        ("namespace", text("synth")),
        ("uid", uid(3, index)),
    ];
    let address = synth::endpoint(Family::Ipv4, scattered(index)).ip();
    Value::Map(vec![
        ("addresses", Value::List(vec![text(address)])),
        ("conditions", Value::Map(conditions)),
        ("nodeName", text(format!("node-{:04}", index % 1000))),
        ("targetRef", Value::Map(target)),
        ("zone", text(["zone-a", "zone-b", "zone-c"][index as usize % 3])),
    ])
}

/// Another number for each of the first 2^24: an odd factor permutes them.
fn scattered(index: u32) -> u32 {
    index.wrapping_mul(0x9e_3779) & 0xff_ffff
}

fn name(index: u32) -> String {
    format!("svc-{index:06}")
}

fn labels(name: &str) -> Value {
    Value::Map(vec![
        ("app.kubernetes.io/name", text(name)),
        ("app.kubernetes.io/part-of", text("synth")),
    ])
}

fn uid(kind: u32, index: u32) -> Value {
    let mixed = u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    text(format!("{index:08x}-{:04x}-4{kind:03x}-a{:03x}-{:012x}", mixed >> 48, kind, mixed >> 16))
}

fn text(text: impl ToString) -> Value {
    Value::Text(text.to_string())
}

impl Value {
    /// As JSON with lines that are indented by four blanks for each level.
    fn json(&self, text: &mut String, indent: usize) {
        let inner = indent + 4;
        match self {
            Self::Text(value) => quote(text, value),
            Self::Number(value) => drop(write!(text, "{value}")),
            Self::Truth(value) => drop(write!(text, "{value}")),
            Self::List(items) if items.is_empty() => text.push_str("[]"),
            Self::Map(entries) if entries.is_empty() => text.push_str("{}"),
            Self::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    let _ = write!(text, "{}\n{:inner$}", if i == 0 { "[" } else { "," }, "");
                    item.json(text, inner);
                }
                let _ = write!(text, "\n{:indent$}]", "");
            }
            Self::Map(entries) => {
                for (i, (key, value)) in entries.iter().enumerate() {
                    let comma = if i == 0 { "{" } else { "," };
                    let _ = write!(text, "{comma}\n{:inner$}\"{key}\": ", "");
                    value.json(text, inner);
                }
                let _ = write!(text, "\n{:indent$}}}", "");
            }
        }
    }

    /// As block YAML; the first line is indented by whoever wrote before it.
    fn yaml(&self, text: &mut String, indent: usize) {
        match self {
            Self::Text(value) if needs_quotes(value) => {
                quote(text, value);
                text.push('\n');
            }
            Self::Text(value) => drop(writeln!(text, "{value}")),
            Self::Number(value) => drop(writeln!(text, "{value}")),
            Self::Truth(value) => drop(writeln!(text, "{value}")),
            Self::List(items) if items.is_empty() => text.push_str("[]\n"),
            Self::Map(entries) if entries.is_empty() => text.push_str("{}\n"),
            Self::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    let _ = write!(text, "{:1$}- ", "", if i == 0 { 0 } else { indent });
                    item.yaml(text, indent + 2);
                }
            }
            Self::Map(entries) => {
                for (i, (key, value)) in entries.iter().enumerate() {
                    let _ = write!(text, "{:1$}{key}:", "", if i == 0 { 0 } else { indent });
                    value.yaml_below(text, indent);
                }
            }
        }
    }

    /// The same, behind a key: kubectl does not indent lists below their key.
    fn yaml_below(&self, text: &mut String, indent: usize) {
        let (empty, deeper) = match self {
            Self::List(items) => (items.is_empty(), indent),
            Self::Map(entries) => (entries.is_empty(), indent + 2),
            _ => (true, indent),
        };
        if empty {
            text.push(' ');
        } else {
            let _ = write!(text, "\n{:deeper$}", "");
        }
        self.yaml(text, deeper);
    }
}

/// A text as JSON and YAML both read it.
fn quote(text: &mut String, value: &str) {
    text.push('"');
    for letter in value.chars() {
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            '\n' => text.push_str("\\n"),
            _ => text.push(letter),
        }
    }
    text.push('"');
}

/// What would be a number, a date, nothing or not one line without quotes.
fn needs_quotes(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-./".contains(&b);
    text.is_empty()
        || !text.bytes().all(plain)
        || text.bytes().all(|b| b.is_ascii_digit())
        || ["true", "false", "null"].contains(&text)
}
