//! One object as a tree in which every node knows its place, and YAML into such trees.
//!
//! A tree and not serde's derive, because an input's errors are all wanted at once, each
//! with its place: deserialization into structs stops at the first value of a wrong type.
//! Objects are read out of it one by one, so a tree is short-lived.
//!
//! Invariant: knows YAML and no Kubernetes.

use crate::place::{Position, Span, count};
use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree<'t> {
    pub(crate) span: Span,
    pub(crate) value: Value<'t>,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value<'t> {
    /// Nothing, `null` or `~`.
    Null,
    /// A scalar without quotes: a text, a number or a truth value, as its reader wants.
    Plain(Cow<'t, str>),
    /// A scalar in quotes or a block of text: always a text.
    Quoted(Cow<'t, str>),
    /// A sequence.
    List(Vec<Tree<'t>>),
    /// A mapping, in the order of the text.
    Map(Vec<Entry<'t>>),
}

/// One entry of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'t> {
    pub(crate) key: Cow<'t, str>,
    pub(crate) key_span: Span,
    pub(crate) value: Tree<'t>,
}

impl<'t> Tree<'t> {
    /// Whether it is exactly this text, in quotes or without.
    pub(crate) fn is_text(&self, expected: &str) -> bool {
        matches!(&self.value, Value::Plain(text) | Value::Quoted(text) if text == expected)
    }

    /// Its text, when it is a scalar.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Plain(text) | Value::Quoted(text) => Some(text),
            _ => None,
        }
    }

    /// Its items, when it is a list.
    pub(crate) fn items(&self) -> &[Tree<'t>] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// Whether it is a list without items.
    pub(crate) fn is_empty_list(&self) -> bool {
        matches!(&self.value, Value::List(items) if items.is_empty())
    }

    /// The value under `key`, when it is a mapping that has one.
    pub(crate) fn field(&self, key: &str) -> Option<&Tree<'t>> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.value),
            _ => None,
        }
    }
}

/// Why a text is not YAML or not JSON, and where reading stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) span: Span,
    pub(crate) words: String,
    /// Whether reading stopped at the end of what was given.
    pub(crate) ended: bool,
}

/// How deep values may be nested. Those of Kubernetes reach a dozen levels, and walks through
/// a tree are recursive.
pub(crate) const DEPTH_MAX: usize = 128;

/// How many nodes aliases may add to one document. Objects of Kubernetes have some
/// hundreds; nine lines of aliases of aliases have a billion.
const ALIASED_MAX: usize = 100_000;

/// The YAML documents of a text. Empty documents are left out.
pub(crate) struct Documents<'t> {
    parser: Parser<'t, StrInput<'t>>,
    base: Position,
    done: bool,
}

impl<'t> Documents<'t> {
    /// The documents of `text`, which begins at `base`.
    pub(crate) fn new(text: &'t str, base: Position) -> Self {
        Self { parser: Parser::new_from_str(text), base, done: false }
    }

    fn span(&self, span: granit_parser::Span) -> Span {
        let length = span.byte_range().unwrap_or_default().len();
        self.position(&span.start).span(length)
    }

    fn syntax_error(&self, error: &ScanError) -> SyntaxError {
        let span = self.position(error.marker()).span(0);
        SyntaxError { span, words: error.info(), ended: false }
    }

    /// The parser counts lines from 1 and columns from 0.
    fn position(&self, marker: &Marker) -> Position {
        let lines = count(marker.line().saturating_sub(1));
        let before = if lines == 0 { self.base.column } else { 0 };
        Position {
            document: self.base.document,
            offset: self.base.offset + marker.byte_offset().unwrap_or_default() as u64,
            line: self.base.line + lines,
            column: before + count(marker.col()),
        }
    }

    /// Reads events up to the end of one document.
    fn document(&mut self) -> Result<Option<Tree<'t>>, SyntaxError> {
        let mut builder = Builder::default();
        while let Some(event) = self.parser.next_event() {
            let (event, span) = event.map_err(|e| self.syntax_error(&e))?;
            let span = self.span(span);
            match event {
                Event::DocumentEnd => return Ok(builder.root),
                Event::StreamEnd => break,
                event => builder.take(event, span)?,
            }
        }
        self.done = true;
        Ok(builder.root)
    }
}

impl<'t> Iterator for Documents<'t> {
    type Item = Result<Tree<'t>, SyntaxError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            match self.document() {
                Ok(Some(tree)) if tree.value != Value::Null => return Some(Ok(tree)),
                Ok(_) => {}
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// A collection that is being read.
struct Open<'t> {
    span: Span,
    anchor: usize,
    content: Content<'t>,
}

enum Content<'t> {
    List(Vec<Tree<'t>>),
    Map { entries: Vec<Entry<'t>>, key: Option<(Cow<'t, str>, Span)> },
}

#[derive(Default)]
struct Builder<'t> {
    open: Vec<Open<'t>>,
    anchored: BTreeMap<usize, Tree<'t>>,
    aliased: usize,
    root: Option<Tree<'t>>,
}

impl<'t> Builder<'t> {
    fn take(&mut self, event: Event<'t>, span: Span) -> Result<(), SyntaxError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tagged = tag.is_some_and(|t| t.core_suffix() == Some("str"));
                let value = scalar(text, style == ScalarStyle::Plain && !tagged);
                self.close(Tree { span, value }, anchor);
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open(Open { span, anchor, content: Content::List(Vec::new()) })?;
            }
            Event::MappingStart(_, anchor, _) => {
                let content = Content::Map { entries: Vec::new(), key: None };
                self.open(Open { span, anchor, content })?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end_collection(span),
            Event::Alias(id) => self.alias(id, span)?,
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, open: Open<'t>) -> Result<(), SyntaxError> {
        if self.open.len() == DEPTH_MAX {
            let words = format!("nested more than {DEPTH_MAX} levels deep");
            return Err(SyntaxError { span: open.span, words, ended: false });
        }
        self.open.push(open);
        Ok(())
    }

    fn end_collection(&mut self, end: Span) {
        let Some(Open { span, anchor, content }) = self.open.pop() else {
            unreachable!("the parser ends only collections that it has started")
        };
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Map { entries, .. } => Value::Map(merged(entries)),
        };
        let end = end.end().max(span.end());
        let length = u32::try_from(end - span.start).unwrap_or(u32::MAX);
        let span = Span { length, ..span };
        self.close(Tree { span, value }, anchor);
    }

    /// An alias stands for a copy of what its anchor names, at the alias's own place.
    fn alias(&mut self, id: usize, span: Span) -> Result<(), SyntaxError> {
        let failed = |words: &str| SyntaxError { span, words: words.to_owned(), ended: false };
        let Some(tree) = self.anchored.get(&id) else {
            return Err(failed("this alias stands inside of what it names"));
        };
        let copy = Tree { span, value: tree.value.clone() };
        self.aliased += size(&copy);
        if self.aliased > ALIASED_MAX {
            return Err(failed("aliases make this document far larger than it looks"));
        }
        self.close(copy, 0);
        Ok(())
    }

    /// A node is complete: it goes into the collection around it.
    fn close(&mut self, tree: Tree<'t>, anchor: usize) {
        if anchor != 0 {
            self.anchored.insert(anchor, tree.clone());
        }
        match self.open.last_mut().map(|o| &mut o.content) {
            None => self.root = Some(tree),
            Some(Content::List(items)) => items.push(tree),
            Some(Content::Map { entries, key }) => match key.take() {
                None => *key = Some(key_of(tree)),
                Some((key, key_span)) => entries.push(Entry { key, key_span, value: tree }),
            },
        }
    }
}

fn scalar(text: Cow<'_, str>, plain: bool) -> Value<'_> {
    match &*text {
        _ if !plain => Value::Quoted(text),
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        _ => Value::Plain(text),
    }
}

/// A key that is a collection has no name, and no field of any object matches it.
fn key_of(tree: Tree<'_>) -> (Cow<'_, str>, Span) {
    match tree.value {
        Value::Plain(text) | Value::Quoted(text) => (text, tree.span),
        _ => (Cow::Borrowed(""), tree.span),
    }
}

/// Replaces the key `<<` by the entries of the mappings it holds. Entries of the mapping
/// itself win (YAML 1.1 "merge key", which kubectl understands).
fn merged(mut entries: Vec<Entry<'_>>) -> Vec<Entry<'_>> {
    let Some(at) = entries.iter().position(|e| e.key == "<<") else {
        return entries;
    };
    let sources = match entries.remove(at).value.value {
        Value::List(maps) => maps,
        value => vec![Tree { span: Span::default(), value }],
    };
    for source in sources {
        let Value::Map(inherited) = source.value else {
            continue;
        };
        for entry in inherited {
            if !entries.iter().any(|e| e.key == entry.key) {
                entries.push(entry);
            }
        }
    }
    entries
}

fn size(tree: &Tree<'_>) -> usize {
    match &tree.value {
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|e| size(&e.value)).sum::<usize>(),
        _ => 1,
    }
}

/// The way from `root` to the node or key at `span`, as `spec.ports[0].port`. Empty when
/// it is the root or is not there.
pub(crate) fn path(root: &Tree<'_>, span: Span) -> String {
    let mut steps = Vec::new();
    if find(root, span, &mut steps) {
        steps.reverse();
        let path = steps.concat();
        path.strip_prefix('.').unwrap_or(&path).to_owned()
    } else {
        String::new()
    }
}

/// Whether `span` is in `tree`; if so `steps` leads there, last step first.
fn find(tree: &Tree<'_>, span: Span, steps: &mut Vec<String>) -> bool {
    let inside = |outer: Span| outer.start <= span.start && span.end() <= outer.end();
    match &tree.value {
        Value::List(items) => {
            for (i, item) in items.iter().enumerate() {
                if find(item, span, steps) {
                    steps.push(format!("[{i}]"));
                    return true;
                }
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                if inside(entry.key_span) || find(&entry.value, span, steps) {
                    steps.push(format!(".{}", entry.key));
                    return true;
                }
            }
        }
        _ => {}
    }
    inside(tree.span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::View;

    fn trees(text: &str) -> Vec<Tree<'_>> {
        Documents::new(text, Position::default()).map(Result::unwrap).collect()
    }

    fn get<'a, 't>(tree: &'a Tree<'t>, key: &str) -> &'a Tree<'t> {
        let Value::Map(entries) = &tree.value else { panic!("not a mapping") };
        &entries.iter().find(|e| e.key == key).unwrap().value
    }

    #[test]
    fn every_node_knows_its_bytes() {
        let text = "a: é\nb: [\"x\", y]\nc:\n  d: |\n    t\n";
        let tree = &trees(text)[0];
        let view = View { text, base: Position::default() };
        let slice = |t: &Tree<'_>| view.text_of(t.span);
        assert_eq!(slice(get(tree, "a")), "é");
        assert_eq!(slice(get(tree, "b")), "[\"x\", y]");
        let Value::List(items) = &get(tree, "b").value else { panic!("not a list") };
        assert_eq!(slice(&items[0]), "\"x\"");
        assert_eq!(items[1].value, Value::Plain("y".into()));
        assert_eq!(get(get(tree, "c"), "d").value, Value::Quoted("t\n".into()));
    }

    #[test]
    fn empty_documents_are_left_out() {
        assert_eq!(trees("---\n# nothing\n---\na: 1\n---\n...\n").len(), 1);
        assert_eq!(trees("").len(), 0);
        assert_eq!(trees("\u{feff}a: 1\n").len(), 1);
    }

    #[test]
    fn aliases_and_merge_keys_are_filled_in() {
        let text = "base: &b {x: 1, y: 2}\nme: {<<: *b, y: 3}\nsame: *b\n";
        let tree = &trees(text)[0];
        let me = get(tree, "me");
        assert_eq!(get(me, "x").value, Value::Plain("1".into()));
        assert_eq!(get(me, "y").value, Value::Plain("3".into()));
        assert_eq!(get(get(tree, "same"), "y").value, Value::Plain("2".into()));
    }

    #[test]
    fn aliases_of_aliases_do_not_fill_the_memory() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..10 {
            let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
        }
        let last = Documents::new(&text, Position::default()).last().unwrap();
        assert!(last.unwrap_err().words.contains("far larger"));
    }

    #[test]
    fn a_path_names_the_way() {
        let text = "spec:\n  ports:\n  - port: 80\n  - port: 99\n";
        let tree = &trees(text)[0];
        let at = text.find("99").unwrap();
        let span = |at: usize, length| Position::default().behind(&text[..at]).span(length);
        assert_eq!(path(tree, span(at, 2)), "spec.ports[1].port");
        let key = text.find("ports").unwrap();
        assert_eq!(path(tree, span(key, 5)), "spec.ports");
    }
}
