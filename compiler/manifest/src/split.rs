//! A text into its objects, one after the other: YAML documents, JSON values, and the
//! items of lists.
//!
//! What fits into the window is read whole. Of a longer list, and only of a list, the
//! items are read one by one, so that no more than the window or the longest object is
//! ever held.
//!
//! Invariant: knows how texts are divided, and no field of any kind of object.

use crate::cut;
use crate::diagnostic::Finding;
use crate::json::Scanner;
use crate::list::{Form, OpenList, Take, each_item};
use crate::place::{Span, View};
use crate::reader::{Reader, TEMPLATE};
use crate::report::Report;
use crate::tree::{Documents, SyntaxError, Tree, Value};
use crate::window::{Cursor, Window};
use std::borrow::Cow;

/// Calls `take` with each object of the text in `window`, which has this `name`.
pub(crate) fn each_object(
    report: &mut Report,
    window: &mut Window<'_>,
    name: &str,
    take: &mut Take<'_>,
) {
    while window.rest().trim_start().is_empty() && window.more() {}
    let is_named_json = name.ends_with(".json");
    let looks_like_json = window.rest().trim_start().starts_with(['{', '[']);
    let mut split = Split { report, window, take };
    if !is_named_json && !looks_like_json {
        split.yaml();
    } else if let Err(error) = split.json() {
        if is_named_json || error.in_list || !split.is_yaml() {
            split.refuse_json(error.syntax);
        } else {
            split.yaml();
        }
    }
    split.check_encoding();
}

struct Split<'s, 'w, 'f> {
    report: &'s mut Report,
    window: &'s mut Window<'w>,
    take: &'s mut Take<'f>,
}

/// Where reading JSON stopped.
struct JsonError {
    syntax: SyntaxError,
    /// Whether items of the value in question were taken already.
    in_list: bool,
}

/// What comes next in a list: an item, or a field with its key. `None`: it ends.
type Next<'t> = Option<(Option<Cow<'t, str>>, Tree<'t>)>;

impl Split<'_, '_, '_> {
    /// All values, up to an error, before which the cursor stays.
    fn json(&mut self) -> Result<(), JsonError> {
        loop {
            let mut scanner = Scanner::new(self.window);
            if scanner.next().is_none() {
                if self.window.more() {
                    continue;
                }
                return Ok(());
            }
            match scanner.value() {
                Ok(tree) => {
                    let cursor = scanner.cursor();
                    let mut reader = Reader::new(self.window.view(), self.report);
                    each_item(&mut reader, &tree, ("", ""), self.take);
                    drop(reader);
                    self.window.advance(cursor);
                }
                Err(error) if !self.may_go_on(&error) => {
                    return Err(JsonError { syntax: error, in_list: false });
                }
                Err(_) => match self.open_json().filter(|_| self.window.is_full()) {
                    Some((list, cursor, is_object)) => {
                        self.window.advance(cursor);
                        let read = self.json_list(list, is_object);
                        read.map_err(|syntax| JsonError { syntax, in_list: true })?;
                    }
                    None => drop(self.window.more()),
                },
            }
        }
    }

    /// Whether the error is only that the window ends.
    fn may_go_on(&self, error: &SyntaxError) -> bool {
        error.ended && !self.window.is_ended()
    }

    /// Reads the beginning of a list up to its first item. Returns where that is, and
    /// whether the list is an object. `None`: it is no list as far as the window goes.
    fn open_json(&mut self) -> Option<(OpenList, Cursor, bool)> {
        let mut scanner = Scanner::new(self.window);
        let _ = scanner.next();
        let span = Span { length: 1, ..scanner.here() };
        if scanner.take(b'[') {
            return Some((OpenList::bare(span, Form::Json), scanner.cursor(), false));
        }
        let mut fields = Vec::new();
        let mut opened = scanner.take(b'{');
        while opened {
            let (key, _) = scanner.key().ok()?;
            opened = key != "items" || !scanner.take(b'[');
            if opened {
                fields.push((key, scanner.value().ok()?));
                scanner.comma(b'}').ok()?;
            }
        }
        let mut list = OpenList::new(span, Form::Json);
        let mut reader = Reader::new(self.window.view(), self.report);
        for (key, tree) in &fields {
            list.field(&mut reader, key, tree);
        }
        Some((list, scanner.cursor(), true))
    }

    fn json_list(&mut self, mut list: OpenList, is_object: bool) -> Result<(), SyntaxError> {
        self.json_entries(&mut list, b']')?;
        if is_object {
            self.json_entries(&mut list, b'}')?;
        }
        self.close(list);
        Ok(())
    }

    /// Reads items up to `]`, or the fields behind them up to `}`.
    fn json_entries(&mut self, list: &mut OpenList, close: u8) -> Result<(), SyntaxError> {
        let mut is_first = close == b']';
        loop {
            let mut scanner = Scanner::new(self.window);
            match next(&mut scanner, close, is_first) {
                Ok(next) => {
                    let cursor = scanner.cursor();
                    let mut reader = Reader::new(self.window.view(), self.report);
                    match &next {
                        Some((None, item)) => list.item(&mut reader, item, self.take),
                        Some((Some(key), value)) => list.field(&mut reader, key, value),
                        None => {}
                    }
                    let ended = next.is_none();
                    drop(reader);
                    self.window.advance(cursor);
                    if ended {
                        return Ok(());
                    }
                    is_first = false;
                }
                Err(error) if self.may_go_on(&error) => drop(self.window.more()),
                Err(error) => return Err(error),
            }
        }
    }

    fn close(&mut self, list: OpenList) {
        list.close(&mut Reader::new(self.window.view(), self.report), self.take);
    }

    /// Whether the rest of the text is YAML, of which a flow mapping looks like JSON.
    fn is_yaml(&mut self) -> bool {
        while self.window.more() {}
        Documents::new(self.window.rest(), self.window.position()).all(|tree| tree.is_ok())
    }

    /// A text that breaks off where it is no text is refused for that.
    fn refuse_json(&mut self, error: SyntaxError) {
        if error.ended && self.window.is_broken() {
            return;
        }
        let finding = Finding::new(error.span, "this is not JSON", error.words)
            .help("`kubectl get -o json` prints what is expected here");
        Reader::new(self.window.view(), self.report).find(finding);
    }

    /// The documents of a YAML text. After a syntax error reading goes on at the next
    /// document, so that its errors are found too.
    fn yaml(&mut self) {
        loop {
            let (rest, ended) = (self.window.rest(), self.window.is_ended());
            if ended && rest.is_empty() {
                return;
            }
            if let Some(end) = cut::document_end(rest, ended) {
                self.yaml_trees(end, &mut |reader, tree, take| {
                    each_item(reader, tree, ("", ""), take);
                });
            } else if !self.window.is_full() || !self.yaml_list() {
                self.window.more();
            }
        }
    }

    /// Reads the next `bytes` bytes as YAML of its own.
    fn yaml_trees(
        &mut self,
        bytes: usize,
        each: &mut dyn FnMut(&mut Reader<'_>, &Tree<'_>, &mut Take<'_>),
    ) {
        let text = &self.window.rest()[..bytes];
        let breaks_off = self.window.is_broken() && bytes == self.window.rest().len();
        let mut reader = Reader::new(self.window.view(), self.report);
        for tree in Documents::new(text, self.window.position()) {
            match tree {
                Ok(tree) => each(&mut reader, &tree, self.take),
                // What breaks off where it is no text is refused for that.
                Err(_) if breaks_off => {}
                Err(error) => reader.find(yaml_finding(self.window.view(), error)),
            }
        }
        drop(reader);
        self.window.pass(bytes);
    }

    /// Reads the list with which the rest begins, part by part, if it is one that does not
    /// fit into the window.
    fn yaml_list(&mut self) -> bool {
        let rest = self.window.rest();
        let found = cut::items(rest, false)
            .filter(|items| cut::items_end(&rest[items.start..], items.column, false).is_none());
        let Some(items) = found else { return false };
        let Some(first) = cut::last_item(&rest[items.start..], items.column) else { return false };
        let span = Span { length: 1, ..self.window.position().span(0) };
        let mut list = OpenList::new(span, Form::Yaml);
        self.yaml_trees(items.start + first, &mut |reader, tree, take| {
            read_part(&mut list, reader, tree, take);
        });
        loop {
            let (rest, ended) = (self.window.rest(), self.window.is_ended());
            let end = cut::items_end(rest, items.column, ended).or(ended.then_some(rest.len()));
            let part = end
                .or_else(|| cut::last_item(rest, items.column).filter(|_| self.window.is_full()));
            match part {
                Some(bytes) => self.yaml_trees(bytes, &mut |reader, tree, take| {
                    read_part(&mut list, reader, tree, take);
                }),
                None => drop(self.window.more()),
            }
            if end.is_some() {
                break;
            }
        }
        self.yaml_behind_items(&mut list);
        self.close(list);
        true
    }

    /// Reads the fields of the list that stand behind its items.
    fn yaml_behind_items(&mut self, list: &mut OpenList) {
        loop {
            let (rest, ended) = (self.window.rest(), self.window.is_ended());
            if cut::is_marker(rest, "---") {
                return;
            }
            if let Some(end) = cut::document_end(rest, ended) {
                return self.yaml_trees(end, &mut |reader, tree, take| {
                    read_part(list, reader, tree, take);
                });
            }
            self.window.more();
        }
    }

    fn check_encoding(&mut self) {
        if !self.window.is_broken() {
            return;
        }
        self.window.pass(self.window.rest().len());
        let span = self.window.position().span(0);
        let finding = Finding::new(span, "this is not UTF-8 text", "expected YAML or JSON")
            .help("save the file as UTF-8; if it is packed, unpack it");
        Reader::new(self.window.view(), self.report).find(finding);
    }
}

/// What comes next in a list of JSON.
fn next<'t>(scanner: &mut Scanner<'t>, close: u8, first: bool) -> Result<Next<'t>, SyntaxError> {
    if scanner.take(close) {
        return Ok(None);
    }
    if !first {
        scanner.comma(close)?;
    }
    let key = if close == b'}' { Some(scanner.key()?.0) } else { None };
    Ok(Some((key, scanner.value()?)))
}

/// Reads a part of a list in YAML: some items, or some fields.
fn read_part(list: &mut OpenList, reader: &mut Reader<'_>, tree: &Tree<'_>, take: &mut Take<'_>) {
    match &tree.value {
        Value::Map(entries) => {
            for entry in entries {
                if entry.key == "items" {
                    read_part(list, reader, &entry.value, take);
                } else {
                    list.field(reader, &entry.key, &entry.value);
                }
            }
        }
        _ => tree.items().iter().for_each(|item| list.item(reader, item, take)),
    }
}

fn yaml_finding(view: View<'_>, error: SyntaxError) -> Finding {
    let SyntaxError { span, words, .. } = error;
    let lines = view.lines(span, span);
    let help = if lines.is_some_and(|l| l.text.contains("{{")) {
        TEMPLATE
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
    Finding::new(view.token(span), "this is not YAML", words).help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(name: &str, text: &str) -> (Vec<String>, usize) {
        kinds_in(name, text, crate::window::CHUNK)
    }

    /// The kinds that are found, and how many errors, through a window so wide.
    fn kinds_in(name: &str, text: &str, width: usize) -> (Vec<String>, usize) {
        let mut report = Report::new(vec![name.to_owned()]);
        let mut window = Window::new(Box::new(text.as_bytes()), 0, width, false);
        let mut kinds = Vec::new();
        each_object(&mut report, &mut window, name, &mut |_, object| {
            kinds.push(format!("{}/{}", object.api_version, object.kind));
        });
        (kinds, report.finish(&[]).err().map_or(0, |errors| errors.len()))
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

    #[test]
    fn a_narrow_window_shows_the_same_objects() {
        let yaml_list = "apiVersion: v1\nitems:\n- kind: A\n  b: |\n    - x\n- data: {}\n- kind: C\n\
                         kind: BList\nmetadata: {}\n---\nkind: D\n";
        let indented =
            "kind: BList\nitems:\n  - kind: A\n  # c\n  - {a: 1,\n     b: 2}\n...\n---\nkind: D\n";
        let json = "{\"items\": [{\"kind\": \"A\"}, {\"a\": [1, {}]}, {\"kind\": \"C\"}], \
                    \"kind\": \"BList\", \"apiVersion\": \"v1\"}\n[{\"kind\": \"D\"}, [{\"kind\": \"E\"}]]";
        for text in [yaml_list, indented, json, "[]", "{\"kind\": \"List\", \"items\": [ ]}"] {
            let (mut whole, errors) = kinds("x", text);
            whole.sort();
            assert_eq!(errors, 0, "{text}");
            for width in 1..text.len() {
                let (mut parts, errors) = kinds_in("x", text, width);
                parts.sort();
                assert_eq!((&parts, errors), (&whole, 0), "{width}: {text}");
            }
        }
    }

    /// A list is never held whole: a thousand items pass through a window of some.
    #[test]
    fn no_more_than_the_window_is_held() {
        const WIDTH: usize = 10_000;
        let item = |form: &str| form.replace('_', &"x".repeat(500));
        let json = format!(
            "{{\"items\": [{}], \"kind\": \"List\"}}",
            vec![item("\n{\"kind\": \"_\"}"); 1000].join(",")
        );
        let yaml = format!("items:\n{}kind: List\n", item("- kind: _\n").repeat(1000));
        let documents = item("kind: _\n---\n").repeat(1000);
        for text in [json, yaml, documents] {
            let mut report = Report::new(vec!["x".to_owned()]);
            let mut window = Window::new(Box::new(text.as_bytes()), 0, WIDTH, false);
            let (mut objects, mut held_most) = (0, 0);
            each_object(&mut report, &mut window, "x", &mut |reader, _| {
                objects += 1;
                held_most = held_most.max(reader.view().text.len());
            });
            assert_eq!(objects, 1000);
            assert!(held_most < 4 * WIDTH, "{held_most} bytes of {} were held", text.len());
        }
    }
}
