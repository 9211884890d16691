//! A text into its objects: YAML documents, JSON values, and lists of objects.
//!
//! Invariant: knows how texts are divided and how lists are spelled, and no field of any
//! kind of object but `kind`, `apiVersion` and `items`.

use crate::diagnostic::{Finding, Span, Texts};
use crate::reader::Reader;
use crate::source::Document;
use crate::tree::{Documents, SyntaxError, Tree, Value};
use serde::de::IgnoredAny;

/// An object, its kind known.
pub(crate) struct Object<'a, 't> {
    pub(crate) kind: String,
    pub(crate) api_version: String,
    pub(crate) tree: &'a Tree<'t>,
}

/// Calls `take` with each object of `document`, which has this `index` among the others.
pub(crate) fn each_object(
    reader: &mut Reader<'_>,
    document: &Document,
    index: usize,
    take: &mut dyn FnMut(&mut Reader<'_>, &Object<'_, '_>),
) {
    let text = document.text.as_str();
    if !looks_like_json(document) {
        each_yaml(reader, text, index, take);
        return;
    }
    let named_json = document.name.ends_with(".json");
    match json_values(text, index) {
        Err(error) if named_json || !is_yaml(text, index) => reader.find(json_finding(error)),
        Err(_) => each_yaml(reader, text, index, take),
        Ok(values) => {
            for range in values {
                let part = &text[range.clone()];
                for tree in Documents::new(part, index, range.start) {
                    take_tree(reader, tree, take);
                }
            }
        }
    }
}

fn looks_like_json(document: &Document) -> bool {
    document.name.ends_with(".json") || document.text.trim_start().starts_with(['{', '['])
}

fn is_yaml(text: &str, index: usize) -> bool {
    Documents::new(text, index, 0).all(|tree| tree.is_ok())
}

/// The documents of a YAML text. After a syntax error reading goes on at the next
/// document, so that its errors are found too.
fn each_yaml(
    reader: &mut Reader<'_>,
    text: &str,
    index: usize,
    take: &mut dyn FnMut(&mut Reader<'_>, &Object<'_, '_>),
) {
    let mut base = 0;
    loop {
        let mut broken_at = None;
        for tree in Documents::new(&text[base..], index, base) {
            broken_at = tree.as_ref().err().map(|e| e.span.start);
            take_tree(reader, tree, take);
        }
        match broken_at.and_then(|at| next_document(text, at)) {
            Some(next) if next > base => base = next,
            _ => return,
        }
    }
}

/// Where the first document that begins at or behind `from` begins.
fn next_document(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut from = from.min(text.len());
    loop {
        let at = from + text.get(from..)?.find("---")?;
        let starts_line = at == 0 || bytes[at - 1] == b'\n';
        let stands_alone = bytes.get(at + 3).is_none_or(u8::is_ascii_whitespace);
        if starts_line && stands_alone {
            return Some(at);
        }
        from = at + 3;
    }
}

fn take_tree<'t>(
    reader: &mut Reader<'_>,
    tree: Result<Tree<'t>, SyntaxError>,
    take: &mut dyn FnMut(&mut Reader<'_>, &Object<'_, '_>),
) {
    match tree {
        Ok(tree) => each_item(reader, &tree, ("", ""), take),
        Err(error) => reader.find(yaml_finding(reader.texts(), error)),
    }
}

fn yaml_finding(texts: &Texts<'_>, error: SyntaxError) -> Finding {
    let SyntaxError { span, words } = error;
    let help = if texts.line(span).contains("{{") {
        "this looks like a template; render it first, for example with `helm template`"
    } else if words.contains("tab") {
        "indent with blanks; YAML does not allow tabs there"
    } else if words.contains("anchor") {
        "an alias `*name` needs an anchor `&name` before it, in the same document"
    } else if words.contains("flow") || words.contains("unclosed") {
        "close every `{`, `[` and quote"
    } else {
        "mind the indentation, and put quotes around texts with `: ` or ` #` in them"
    };
    let words = words.strip_prefix("while parsing node, ").unwrap_or(&words);
    Finding::new(texts.token(span), "this is not YAML", words).help(help)
}

/// The places of the values in a JSON text, one behind the other.
fn json_values(text: &str, index: usize) -> Result<Vec<std::ops::Range<usize>>, SyntaxError> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let mut values = Vec::new();
    let mut start = 0;
    while let Some(value) = stream.next() {
        value.map_err(|error| {
            let at = offset(text, error.line(), error.column());
            let words = error.to_string();
            SyntaxError {
                span: Span { document: index, start: at, end: at },
                words: words.split(" at line ").next().unwrap_or(&words).to_owned(),
            }
        })?;
        values.push(start..stream.byte_offset());
        start = stream.byte_offset();
    }
    Ok(values)
}

/// serde_json counts lines from 1 and columns in bytes, the last byte read being the column.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start = match line.checked_sub(2) {
        None => 0,
        Some(before) => {
            let ends = text.match_indices('\n').nth(before);
            ends.map_or(text.len(), |(i, _)| i + 1)
        }
    };
    let mut at = (start + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn json_finding(error: SyntaxError) -> Finding {
    Finding::new(error.span, "this is not JSON", error.words)
        .help("`kubectl get -o json` prints what is expected here")
}

/// The objects of `tree`: itself, or the items of a list of whatever depth. Items of a
/// typed list, as the API server sends it, have no kind of their own: it is `default`.
fn each_item(
    reader: &mut Reader<'_>,
    tree: &Tree<'_>,
    default: (&str, &str),
    take: &mut dyn FnMut(&mut Reader<'_>, &Object<'_, '_>),
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
    let kind = kind.map_or(default.0, |k| k.value);
    let api_version = api_version.map_or(default.1, |v| v.value);
    if kind.is_empty() {
        return reader.find(no_kind(tree.span));
    }
    match (kind.strip_suffix("List"), fields.get("items")) {
        (Some(item_kind), items) => {
            for item in items.map(|i| reader.list(i)).unwrap_or_default() {
                let version = if item_kind.is_empty() { "" } else { api_version };
                each_item(reader, item, (item_kind, version), take);
            }
        }
        (None, _) => take(
            reader,
            &Object { kind: kind.to_owned(), api_version: api_version.to_owned(), tree },
        ),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(name: &str, text: &str) -> (Vec<String>, usize) {
        let documents = [Document { name: name.to_owned(), text: text.to_owned() }];
        let texts = Texts::new(&documents);
        let mut reader = Reader::new(&texts);
        let mut kinds = Vec::new();
        each_object(&mut reader, &documents[0], 0, &mut |_, object| {
            kinds.push(format!("{}/{}", object.api_version, object.kind));
        });
        (kinds, reader.findings().len())
    }

    #[test]
    fn documents_lists_and_concatenated_json_are_taken_apart() {
        let yaml = "kind: A\n---\nkind: List\nitems:\n- {apiVersion: v1, kind: B}\n- kind: C\n";
        assert_eq!(kinds("x", yaml).0, ["/A", "v1/B", "/C"]);
        let json = "{\"kind\":\"A\"}\n{\"kind\":\"B\"}{\"kind\":\"C\"}";
        assert_eq!(kinds("<stdin>", json), (vec!["/A".into(), "/B".into(), "/C".into()], 0));
        assert_eq!(kinds("x", "[{\"kind\": \"A\"}, {\"kind\": \"B\"}]").0.len(), 2);
    }

    #[test]
    fn items_of_a_typed_list_have_the_kind_of_the_list() {
        let text = "apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {}\n";
        assert_eq!(kinds("x", text).0, ["v1/Service"]);
        let empty = "apiVersion: v1\nkind: List\nitems: []\n";
        assert_eq!(kinds("x", empty), (vec![], 0));
    }

    #[test]
    fn a_flow_mapping_of_yaml_is_no_bad_json() {
        assert_eq!(kinds("x.yaml", "{kind: A}\n---\n{kind: B}\n").0, ["/A", "/B"]);
    }

    #[test]
    fn documents_behind_a_broken_one_are_read() {
        let text = "kind: A\n---\nkind: [B\n---\nkind: C\n---\nkind: \"D\n---\nkind: E\n";
        assert_eq!(kinds("x", text), (vec!["/A".into(), "/C".into(), "/E".into()], 2));
    }

    #[test]
    fn an_object_without_kind_is_an_error() {
        assert_eq!(kinds("x", "metadata: {}\n"), (vec![], 1));
        assert_eq!(kinds("x", "just a text\n"), (vec![], 1));
    }
}
