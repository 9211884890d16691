//! Documents into objects, by kind, and objects into what an input says.
//!
//! Invariant: knows which kinds there are, and none of their fields.

use crate::assemble::{Objects, assemble};
use crate::config;
use crate::diagnostic::{Diagnostic, Finding};
use crate::list::Object;
use crate::meta::ObjectName;
use crate::name::shown;
use crate::node;
use crate::place::{Span, View, count};
use crate::reader::Reader;
use crate::report::Report;
use crate::service::{self, Reading};
use crate::settings::Settings;
use crate::slice;
use crate::source::{Document, Source, SourceError};
use crate::split::each_object;
use crate::tree::Tree;
use crate::warning::Warning;
use crate::window::{CHUNK, Window};
use nfc_ir::{Family, Ir};
use std::collections::BTreeMap;
use std::io::Read;

/// How much of a long text [`load`] holds at a time.
pub const WINDOW_BYTES: usize = CHUNK;

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

/// Why an input was refused.
#[derive(Debug)]
pub struct Refused {
    /// What could not be read.
    pub unreadable: Vec<SourceError>,
    /// Every error found in any document, in the order of the documents.
    pub errors: Vec<Diagnostic>,
}

/// Reads `documents` for the node and mode of `settings`.
///
/// # Errors
///
/// Every error found in any document, in the order of the documents.
pub fn load(documents: &[Document], settings: &Settings) -> Result<Loaded, Vec<Diagnostic>> {
    let sources: Vec<_> = documents.iter().map(Source::of).collect();
    load_from(&sources, settings, WINDOW_BYTES, &mut |_| {}).map_err(|refused| refused.errors)
}

/// Reads `sources` for the node and mode of `settings`, object by object: of a long text no
/// more than `window_bytes`, or its longest object, is held at a time. `progress` is told
/// how many bytes were read, each time some were.
///
/// # Errors
///
/// [`Refused`], with everything that is wrong with any source.
pub fn load_from(
    sources: &[Source<'_>],
    settings: &Settings,
    window_bytes: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<Loaded, Refused> {
    let mut report = Report::new(sources.iter().map(|s| s.name().to_owned()).collect());
    let mut unreadable = Vec::new();
    let mut input = Input::default();
    for (index, source) in sources.iter().enumerate() {
        let reader: Box<dyn Read + '_> = match source.open() {
            Ok(reader) => Box::new(Counted { reader, progress: &mut *progress }),
            Err(error) => {
                unreadable.push(error);
                continue;
            }
        };
        let index = count(index);
        let mut window = Window::new(reader, index, window_bytes, !source.is_lasting());
        each_object(&mut report, &mut window, source.name(), &mut |reader, object| {
            input.take(reader, object);
        });
        let (failed, kept) = window.finish();
        unreadable.extend(failed.map(|error| source.failed(error)));
        if let Some(text) = kept {
            report.keep(index, text);
        }
    }
    if !input.other_kinds.is_empty() {
        report.warn(Warning::UnknownKinds { kinds: input.other_kinds });
    }
    let mut reader = Reader::new(View::NONE, &mut report);
    node::check(&mut reader, settings);
    let irs = assemble(&mut reader, &mut input.objects, settings);
    drop(reader);
    match report.finish(sources) {
        Ok(warnings) if unreadable.is_empty() => Ok(Loaded { irs, warnings, counts: input.counts }),
        finished => Err(Refused { unreadable, errors: finished.err().unwrap_or_default() }),
    }
}

/// Counts what is read.
struct Counted<'r> {
    reader: Box<dyn Read + 'r>,
    progress: &'r mut dyn FnMut(u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(to)?;
        (self.progress)(read as u64);
        Ok(read)
    }
}

/// Reads a KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1), or the ConfigMap in
/// which kubeadm keeps it.
///
/// # Errors
///
/// Every error found in it.
pub fn read_settings(document: &Document) -> Result<(Settings, Vec<Warning>), Vec<Diagnostic>> {
    let source = Source::of(document);
    let mut report = Report::new(vec![document.name.clone()]);
    let mut window = Window::new(Box::new(document.text.as_bytes()), 0, WINDOW_BYTES, false);
    let mut settings = None;
    let mut kept = None;
    each_object(&mut report, &mut window, &document.name, &mut |reader, object| {
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
    if settings.is_none() && report.is_clean() {
        Reader::new(window.view(), &mut report).find(no_configuration(Span::default()));
    }
    let warnings = report.finish(&[source])?;
    Ok((settings.unwrap_or_default(), warnings))
}

/// The kinds that are read, and in which version; a ServiceCIDR is read in any of its group.
const VERSIONS: [(&str, &str); 5] = [
    ("Service", "v1"),
    ("EndpointSlice", "discovery.k8s.io/v1"),
    ("Endpoints", "v1"),
    ("Node", "v1"),
    ("ServiceCIDR", "networking.k8s.io/v1"),
];

/// The version in which `kind` would be read, when `version` is none or another one of the
/// same group. A kind of the same name in another group, as Knative's Service, is none of ours.
pub(crate) fn known_version(kind: &str, version: &str) -> Option<&'static str> {
    fn group(version: &str) -> &str {
        version.rsplit_once('/').map_or("", |(group, _)| group)
    }
    let (_, known) = VERSIONS.iter().find(|(name, _)| *name == kind)?;
    (version.is_empty() || group(version) == group(known)).then_some(*known)
}

fn of_another_version(tree: &Tree<'_>, kind: &str, known: &str) -> Finding {
    let (span, title) = match tree.field("apiVersion") {
        Some(version) => (version.span, format!("this version of {kind} is not known")),
        None => (tree.span, format!("this {kind} has no apiVersion")),
    };
    Finding::new(span, title, format!("expected `apiVersion: {known}`"))
        .help(format!("write `apiVersion: {known}`, in which kubectl prints it"))
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
                reader.warn(Warning::StrayConfiguration { place: reader.place(tree.span) });
            }
            (kind, version) if let Some(known) = known_version(kind, version) => {
                reader.find(of_another_version(tree, kind, known));
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
        metadata.and_then(|m| m.field(key)).and_then(Tree::as_text).map(shown)
    };
    let kind = &object.kind;
    match (text("namespace"), text("name")) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        (Some(namespace), None) => format!("a {kind} in namespace {namespace}"),
        (None, None) => format!("a {kind}"),
    }
}
