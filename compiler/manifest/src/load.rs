//! Documents into objects, by kind, and objects into what an input says.
//!
//! Invariant: knows which kinds there are, and none of their fields.

use crate::assemble::{Objects, assemble};
use crate::config;
use crate::diagnostic::{Diagnostic, Finding, Span, Texts};
use crate::meta::ObjectName;
use crate::node;
use crate::reader::Reader;
use crate::service::{self, Reading};
use crate::settings::Settings;
use crate::slice;
use crate::source::Document;
use crate::split::{Object, each_object};
use crate::tree::Tree;
use crate::warning::Warning;
use nfc_ir::{Family, Ir};
use std::collections::BTreeMap;

/// What an input says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// One Ir for each family that the settings ask for, or else that a Service uses.
    pub irs: BTreeMap<Family, Ir>,
    /// What was left out or guessed.
    pub warnings: Vec<Warning>,
    /// How much was read.
    pub counts: Counts,
}

/// How much was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// Service objects that are proxied.
    pub services: usize,
    /// Service objects that are not: headless, ExternalName, another proxy's.
    pub skipped_services: usize,
    /// EndpointSlice and Endpoints objects.
    pub slices: usize,
    /// Node objects.
    pub nodes: usize,
    /// Objects of kinds that are not read.
    pub other_objects: usize,
}

/// Reads `documents` for the node and mode of `settings`.
///
/// # Errors
///
/// Every error found in any document, in the order of the documents.
pub fn load(documents: &[Document], settings: &Settings) -> Result<Loaded, Vec<Diagnostic>> {
    let texts = Texts::new(documents);
    let mut reader = Reader::new(&texts);
    let mut input = Input::default();
    for (index, document) in documents.iter().enumerate() {
        each_object(&mut reader, document, index, &mut |reader, object| {
            input.take(reader, object);
        });
    }
    if !input.other_kinds.is_empty() {
        reader.warn(Warning::UnknownKinds { kinds: input.other_kinds });
    }
    node::check(&mut reader, settings);
    let irs = assemble(&mut reader, &input.objects, settings);
    let warnings = reader.finish()?;
    Ok(Loaded { irs, warnings, counts: input.counts })
}

/// Reads a KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1), or the ConfigMap in
/// which kubeadm keeps it.
///
/// # Errors
///
/// Every error found in it.
pub fn read_settings(document: &Document) -> Result<(Settings, Vec<Warning>), Vec<Diagnostic>> {
    let documents = std::slice::from_ref(document);
    let texts = Texts::new(documents);
    let mut reader = Reader::new(&texts);
    let mut settings = None;
    let mut kept = None;
    each_object(&mut reader, document, 0, &mut |reader, object| {
        let before = reader.findings().len();
        match (object.kind.as_str(), object.api_version.as_str()) {
            (config::KIND, config::VERSION) => {
                settings.get_or_insert(config::read(reader, object.tree));
            }
            ("ConfigMap", "v1") => kept = config_in_map(object.tree).map(str::to_owned),
            (kind, _) => reader.find(not_a_configuration(object.tree, kind)),
        }
        reader.attribute(before, object.tree, &object.kind);
    });
    if let (None, Some(text)) = (&settings, kept) {
        let name = format!("{} (data.{})", document.name, config::KEY);
        return read_settings(&Document { name, text });
    }
    if settings.is_none() && reader.findings().is_empty() {
        reader.find(no_configuration(Span::default()));
    }
    let warnings = reader.finish()?;
    Ok((settings.unwrap_or_default(), warnings))
}

fn config_in_map<'a>(tree: &'a Tree<'_>) -> Option<&'a str> {
    tree.field("data")?.field(config::KEY)?.as_text()
}

fn not_a_configuration(tree: &Tree<'_>, kind: &str) -> Finding {
    let version = tree.field("apiVersion").map_or(tree.span, |v| v.span);
    if kind == config::KIND {
        Finding::new(
            version,
            "this version of kube-proxy's configuration is not known",
            format!("expected {}", config::VERSION),
        )
        .help("nfc reads v1alpha1, the only version that kube-proxy has")
    } else {
        no_configuration(tree.field("kind").map_or(tree.span, |k| k.span))
    }
}

fn no_configuration(span: Span) -> Finding {
    let label = format!("expected kind {}, {}", config::KIND, config::VERSION);
    Finding::new(span, "this is no configuration of kube-proxy", label).help(
        "`kubectl -n kube-system get configmap kube-proxy -o yaml` prints the one of a \
         cluster that kubeadm made",
    )
}

#[derive(Default)]
struct Input {
    objects: Objects,
    counts: Counts,
    other_kinds: BTreeMap<String, usize>,
}

impl Input {
    fn take(&mut self, reader: &mut Reader<'_>, object: &Object<'_, '_>) {
        let before = reader.findings().len();
        let tree = object.tree;
        match (object.kind.as_str(), object.api_version.as_str()) {
            ("Service", "v1") => self.take_service(reader, tree),
            ("EndpointSlice", "discovery.k8s.io/v1") => {
                self.counts.slices += 1;
                self.objects.slices.extend(slice::read(reader, tree));
            }
            ("Endpoints", "v1") => {
                self.counts.slices += 1;
                self.objects.old_slices.extend(slice::read_old(reader, tree));
            }
            ("Node", "v1") => {
                self.counts.nodes += 1;
                self.objects.nodes.extend(node::read(reader, tree));
            }
            ("ServiceCIDR", version) if version.starts_with("networking.k8s.io/") => {
                let blocks = node::read_service_cidr(reader, tree);
                self.objects.service_cidrs.extend(blocks);
            }
            (config::KIND, _) => {
                reader.warn(Warning::StrayConfiguration { place: reader.texts().place(tree.span) });
            }
            (kind, version) => {
                self.counts.other_objects += 1;
                let version = if version.is_empty() { "no apiVersion" } else { version };
                *self.other_kinds.entry(format!("{kind} ({version})")).or_default() += 1;
            }
        }
        if reader.findings().len() > before {
            reader.attribute(before, tree, &described(object));
        }
    }

    fn take_service(&mut self, reader: &mut Reader<'_>, tree: &Tree<'_>) {
        match service::read(reader, tree) {
            Reading::Proxied(service) => {
                self.counts.services += 1;
                self.check_repeated(reader, &service.name, service.span);
                let objects = &mut self.objects;
                objects.services.entry(service.name.clone()).or_insert(*service);
            }
            Reading::Skipped(name, span) => {
                self.counts.skipped_services += 1;
                self.check_repeated(reader, &name, span);
                self.objects.skipped.entry(name).or_insert(span);
            }
            Reading::Unreadable => {}
        }
    }

    fn check_repeated(&self, reader: &mut Reader<'_>, name: &ObjectName, span: Span) {
        let proxied = self.objects.services.get(name).map(|s| s.span);
        let first = proxied.or_else(|| self.objects.skipped.get(name).copied());
        if let Some(first) = first {
            let title = format!("Service {name} stands twice in the input");
            reader.find(
                Finding::new(span, title, "expected every Service once")
                    .related(first, "first here")
                    .help("remove one of the two, or compile them apart"),
            );
        }
    }
}

/// The object in a few words, as far as it says who it is.
fn described(object: &Object<'_, '_>) -> String {
    let text = |key| {
        let metadata = object.tree.field("metadata");
        metadata.and_then(|m| m.field(key)).and_then(Tree::as_text)
    };
    let kind = &object.kind;
    match (text("namespace"), text("name")) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        (Some(namespace), None) => format!("a {kind} in namespace {namespace}"),
        (None, None) => format!("a {kind}"),
    }
}
