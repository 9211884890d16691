//! Objects, and lists of objects.
//!
//! As for kubectl, an object is a list when it has `items`, whatever its kind (the decoder
//! in `k8s.io/apimachinery/pkg/apis/meta/v1/unstructured/helpers.go`). So the items of a
//! list can be read before its kind is known, which kubectl prints behind them.
//!
//! Invariant: knows of objects `kind`, `apiVersion` and `items`, and no other field.

use crate::diagnostic::Finding;
use crate::json::Scanner;
use crate::place::{Position, Span, View};
use crate::reader::Reader;
use crate::tree::{Documents, Tree, Value};

/// An object, its kind known.
pub(crate) struct Object<'a, 't> {
    pub(crate) kind: String,
    pub(crate) api_version: String,
    pub(crate) tree: &'a Tree<'t>,
}

/// Whoever wants the objects.
pub(crate) type Take<'f> = dyn FnMut(&mut Reader<'_>, &Object<'_, '_>) + 'f;

/// Kind and version of an object that does not have its own.
type Inherited<'d> = (&'d str, &'d str);

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Yaml,
}

/// A list whose items are read one by one.
#[derive(Debug)]
pub(crate) struct OpenList {
    span: Span,
    form: Form,
    /// Its kind and version; empty as long as they are not known.
    kind: String,
    api_version: String,
    /// Items without a kind, which that of the list decides.
    nameless: Vec<(String, Position)>,
}

/// Takes the objects of `tree`: itself, or the items of a list of whatever depth.
pub(crate) fn each_item(
    reader: &mut Reader<'_>,
    tree: &Tree<'_>,
    default: Inherited<'_>,
    take: &mut Take<'_>,
) {
    if let Value::List(items) = &tree.value {
        for item in items {
            each_item(reader, item, default, take);
        }
        return;
    }
    if !matches!(tree.value, Value::Map(_)) {
        return reader.find(no_object(tree.span));
    }
    let Some(fields) = reader.fields(tree) else {
        return;
    };
    let kind = fields.optional_text(reader, "kind");
    let api_version = fields.optional_text(reader, "apiVersion");
    let default = if kind.is_some() { ("", "") } else { default };
    let kind = kind.map_or(default.0, |k| k.value).to_owned();
    let api_version = api_version.map_or(default.1, |v| v.value).to_owned();
    let items = fields.get("items");
    if kind.ends_with("List") || items.is_some_and(|i| matches!(i.value, Value::List(_))) {
        let mut list = OpenList { kind, api_version, ..OpenList::new(tree.span, Form::Yaml) };
        for item in items.map(|i| reader.list(i)).unwrap_or_default() {
            list.item(reader, item, take);
        }
        list.nameless.clear();
        list.close(reader, take);
    } else if kind.is_empty() {
        reader.find(no_kind(tree.span));
    } else {
        take(reader, &Object { kind, api_version, tree });
    }
}

impl OpenList {
    /// A list that begins at `span`, of a kind that is not yet known.
    pub(crate) fn new(span: Span, form: Form) -> Self {
        let (kind, api_version) = (String::new(), String::new());
        Self { span, form, kind, api_version, nameless: Vec::new() }
    }

    /// A list without fields, the items of which say their kinds.
    pub(crate) fn bare(span: Span, form: Form) -> Self {
        Self { kind: "List".to_owned(), ..Self::new(span, form) }
    }

    /// Takes note of one of its fields. Of those that stand twice the first counts.
    pub(crate) fn field(&mut self, reader: &mut Reader<'_>, key: &str, tree: &Tree<'_>) {
        let noted = match key {
            "kind" => &mut self.kind,
            "apiVersion" => &mut self.api_version,
            _ => return,
        };
        if noted.is_empty()
            && tree.value != Value::Null
            && let Some(text) = reader.text(tree)
        {
            text.value.clone_into(noted);
        }
    }

    /// Takes the objects of one of its items.
    pub(crate) fn item(&mut self, reader: &mut Reader<'_>, tree: &Tree<'_>, take: &mut Take<'_>) {
        let named = tree.field("kind").and_then(Tree::as_text).is_some_and(|k| !k.is_empty());
        if self.kind.is_empty() && !named && matches!(tree.value, Value::Map(_)) {
            self.nameless.push(alone(reader.view(), tree.span));
        } else {
            each_item(reader, tree, self.default(), take);
        }
    }

    /// The list has ended: takes the items that had to wait for its kind.
    pub(crate) fn close(self, reader: &mut Reader<'_>, take: &mut Take<'_>) {
        if self.kind.is_empty() {
            return reader.find(no_kind(self.span));
        }
        for (text, base) in &self.nameless {
            let view = View { text, base: *base };
            let tree = match self.form {
                Form::Json => Scanner::whole(view).value().ok(),
                Form::Yaml => Documents::new(text, *base).next().and_then(Result::ok),
            };
            if let Some(tree) = tree {
                each_item(&mut reader.elsewhere(view), &tree, self.default(), take);
            }
        }
    }

    /// Items of a typed list, as the API server sends it, have no kind of their own.
    fn default(&self) -> Inherited<'_> {
        match self.kind.strip_suffix("List").unwrap_or(&self.kind) {
            "" => ("", ""),
            kind => (kind, &self.api_version),
        }
    }
}

/// The text at `span`, moved to the column at which it stood, so that its lines keep the
/// indentation that they had to each other.
fn alone(view: View<'_>, span: Span) -> (String, Position) {
    let before = " ".repeat(span.column as usize);
    let offset = span.start.saturating_sub(u64::from(span.column));
    let base = Position { document: span.document, offset, line: span.line, column: 0 };
    (before + view.text_of(span), base)
}

fn no_object(span: Span) -> Finding {
    let label = "expected a mapping with `apiVersion` and `kind`";
    Finding::new(span, "this is not a Kubernetes object", label)
        .help("objects look as `kubectl get -o yaml` prints them")
}

fn no_kind(span: Span) -> Finding {
    Finding::new(span, "this object has no kind", "expected a field `kind`")
        .help("give the object `apiVersion` and `kind`, as `kubectl get -o yaml` does")
}
