//! What every object has: a name, labels and annotations.
//!
//! Invariant: knows `metadata` and nothing else of an object.

use crate::diagnostic::Finding;
use crate::name::NameForm;
use crate::place::{At, Span};
use crate::reader::{Fields, Reader};
use std::fmt;

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ObjectName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The `metadata` of an object.
pub(crate) struct Meta<'a, 't> {
    pub(crate) kind: &'static str,
    pub(crate) name: ObjectName,
    /// Where the name stands.
    pub(crate) span: Span,
    labels: Option<Fields<'a, 't>>,
    annotations: Option<Fields<'a, 't>>,
}

/// All fields of an ObjectMeta (`k8s.io/apimachinery/pkg/apis/meta/v1/types.go`).
const FIELDS: [&str; 15] = [
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
];

impl<'a, 't> Meta<'a, 't> {
    /// The metadata of `object`, which is of `kind` and cannot do without a name.
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        object: &Fields<'a, 't>,
        kind: &'static str,
    ) -> Option<Self> {
        let missing = |span| {
            Finding::new(span, "this object has no name", "expected `metadata.name`")
                .help("give it a name; objects are told apart by namespace and name")
        };
        let Some(metadata) = object.get("metadata") else {
            reader.find(missing(object.span()));
            return None;
        };
        let fields = reader.fields(metadata)?;
        fields.check(reader, &FIELDS);
        let Some(tree) = fields.get("name") else {
            reader.find(missing(object.key_span("metadata")));
            return None;
        };
        if tree.is_text("") {
            reader.find(missing(tree.span));
            return None;
        }
        let form = match kind {
            "Service" | "Endpoints" => NameForm::Label,
            _ => NameForm::Subdomain,
        };
        let namespace = fields.optional_name(reader, "namespace", NameForm::Label);
        let name = reader.name(tree, form)?;
        Some(Self {
            kind,
            name: ObjectName {
                namespace: namespace.map_or("default", |n| n.value).to_owned(),
                name: name.value.to_owned(),
            },
            span: name.span,
            labels: fields.fields(reader, "labels"),
            annotations: fields.fields(reader, "annotations"),
        })
    }

    /// Whether the label is there, whatever its value.
    pub(crate) fn has_label(&self, key: &str) -> bool {
        self.labels.is_some_and(|labels| labels.has(key))
    }

    pub(crate) fn label(&self, reader: &mut Reader<'_>, key: &str) -> Option<At<&'a str>> {
        self.labels?.optional_text(reader, key)
    }

    pub(crate) fn annotation(&self, reader: &mut Reader<'_>, key: &str) -> Option<At<&'a str>> {
        self.annotations?.optional_text(reader, key)
    }

    /// Whether kube-proxy's own watch leaves the object out: it belongs to another proxy,
    /// or to a headless Service (`pkg/proxy/apis/well_known_labels.go`, and the label
    /// selector in `cmd/kube-proxy/app/server.go`).
    pub(crate) fn is_foreign(&self) -> bool {
        self.has_label("service.kubernetes.io/service-proxy-name")
            || self.has_label("service.kubernetes.io/headless")
    }
}
