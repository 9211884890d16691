//! Objects as their author wrote them, every field with its place: for those who ask about
//! fields that decide nothing about packets, such as annotations.
//!
//! Invariant: nothing is checked and nothing is left out; what a field means is of no
//! concern here.

use crate::diagnostic::Place;
use crate::load::{WINDOW_BYTES, known_version};
use crate::place::Span;
use crate::reader::truth;
use crate::report::Report;
use crate::source::{Document, Source};
use crate::split::each_object;
use crate::tree::{Tree, Value};
use crate::window::Window;

/// An object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenObject {
    /// Its kind.
    pub kind: String,
    /// Group and version.
    pub api_version: String,
    /// Its fields.
    pub fields: Written,
}

impl WrittenObject {
    /// Whether it is an object of the kind that is read under this name, and not, as Knative's
    /// Service, of another group's.
    #[must_use]
    pub fn is_a(&self, kind: &str) -> bool {
        self.kind == kind && known_version(kind, &self.api_version).is_some()
    }
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where it stands.
    pub place: Place,
    /// How many bytes it is long.
    pub length: usize,
    /// What it is.
    pub value: WrittenValue,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WrittenValue {
    /// Nothing.
    Null,
    /// A text, a number or a truth value, as it is spelled.
    Scalar(String),
    /// A list.
    List(Vec<Written>),
    /// Fields in the order of the text: name, place of the name, value.
    Map(Vec<(String, Place, Written)>),
}

impl Written {
    /// The value of a field, when it is an object that has one.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Self> {
        self.entries().iter().find(|(key, ..)| key == name).map(|(.., value)| value)
    }

    /// Its fields, when it is an object.
    #[must_use]
    pub fn entries(&self) -> &[(String, Place, Self)] {
        match &self.value {
            WrittenValue::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Its items, when it is a list.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match &self.value {
            WrittenValue::List(items) => items,
            _ => &[],
        }
    }

    /// Its text, when it is a scalar.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            WrittenValue::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is true, when it is one of YAML's words for true and false.
    #[must_use]
    pub fn truth(&self) -> Option<bool> {
        self.text().and_then(truth)
    }
}

/// All objects of `documents`. What cannot be read is left out; [`load`](crate::load) says
/// what that was.
#[must_use]
pub fn written(documents: &[Document]) -> Vec<WrittenObject> {
    let mut all = Vec::new();
    for document in documents {
        let names = [document.name.clone()];
        let mut report = Report::new(names.to_vec());
        let source = Source::of(document);
        let text = document.text.as_bytes();
        let mut window = Window::new(Box::new(text), 0, WINDOW_BYTES, false);
        each_object(&mut report, &mut window, source.name(), &mut |_, object| {
            let (kind, api_version) = (object.kind.clone(), object.api_version.clone());
            let fields = copy(object.tree, &names);
            all.push(WrittenObject { kind, api_version, fields });
        });
    }
    all
}

fn copy(tree: &Tree<'_>, names: &[String]) -> Written {
    let place = |span: Span| span.place(names);
    let value = match &tree.value {
        Value::Null => WrittenValue::Null,
        Value::Plain(text) | Value::Quoted(text) => WrittenValue::Scalar(text.to_string()),
        Value::List(items) => WrittenValue::List(items.iter().map(|i| copy(i, names)).collect()),
        Value::Map(entries) => {
            let entry = |entry: &crate::tree::Entry<'_>| {
                (entry.key.to_string(), place(entry.key_span), copy(&entry.value, names))
            };
            WrittenValue::Map(entries.iter().map(entry).collect())
        }
    };
    Written { place: place(tree.span), length: tree.span.length as usize, value }
}
