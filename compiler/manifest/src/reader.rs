//! Reading fields of a tree: typed values out of nodes, and an error for each that is not
//! what it should be.
//!
//! A field that is missing or `null` is absent, as for Kubernetes. A value of a wrong type
//! is an error and then counts as absent, so that reading goes on.
//!
//! Invariant: knows trees and their types, and no kind of object.

use crate::address::{AddressError, parse_address, parse_block};
use crate::diagnostic::{Finding, Place};
use crate::name::{NameForm, shown};
use crate::place::{At, Span, View};
use crate::report::Report;
use crate::tree::{Entry, Tree, Value, path};
use crate::warning::Warning;
use ipnet::IpNet;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::rc::Rc;

/// How many findings of one object get the path of their field.
const PATHS_MAX: usize = 100;

/// What to do about `{{ ... }}`, which is YAML, or not, by what stands around it.
pub(crate) const TEMPLATE: &str =
    "this looks like a template; render it first, for example with `helm template`";

/// Reads the objects of one stretch of text. What it finds goes into the report when it is
/// dropped.
pub(crate) struct Reader<'r> {
    view: View<'r>,
    /// Where the lines that errors show are: the same, unless that was moved.
    lines: View<'r>,
    report: &'r mut Report,
    findings: Vec<Finding>,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if !self.findings.is_empty() {
            self.report.take(std::mem::take(&mut self.findings), self.lines);
        }
    }
}

/// The fields of a mapping.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a, 't> {
    tree: &'a Tree<'t>,
    entries: &'a [Entry<'t>],
}

impl<'r> Reader<'r> {
    pub(crate) fn new(view: View<'r>, report: &'r mut Report) -> Self {
        Self { view, lines: view, report, findings: Vec::new() }
    }

    pub(crate) fn find(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    pub(crate) fn warn(&mut self, warning: Warning) {
        self.report.warn(warning);
    }

    /// A reader of text that was moved out of its lines, for the same report. What it finds
    /// is shown in the lines as they are in the document.
    pub(crate) fn elsewhere<'s>(&'s mut self, view: View<'s>) -> Reader<'s> {
        Reader { view, lines: View::NONE, report: self.report, findings: Vec::new() }
    }

    /// `name`, held once however often it occurs.
    pub(crate) fn shared(&mut self, name: &str) -> Rc<str> {
        self.report.shared(name)
    }

    /// The text that is read.
    pub(crate) fn view(&self) -> View<'r> {
        self.view
    }

    pub(crate) fn place(&self, span: Span) -> Place {
        span.place(self.report.names())
    }

    pub(crate) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Says of all findings from number `from` on that they are in `object`, and of the
    /// first ones, in which of its fields; to find that out is a walk through the object.
    pub(crate) fn attribute(&mut self, from: usize, tree: &Tree<'_>, object: &str) {
        for (i, finding) in self.findings[from..].iter_mut().enumerate() {
            let path = if i < PATHS_MAX { path(tree, finding.span) } else { String::new() };
            let comma = if path.is_empty() { "" } else { ", " };
            finding.within = Some(format!("{object}{comma}{path}"));
        }
    }

    pub(crate) fn fields<'a, 't>(&mut self, tree: &'a Tree<'t>) -> Option<Fields<'a, 't>> {
        match &tree.value {
            Value::Map(entries) => Some(Fields { tree, entries }),
            _ => self.mismatch(tree, "a mapping"),
        }
    }

    pub(crate) fn list<'a, 't>(&mut self, tree: &'a Tree<'t>) -> &'a [Tree<'t>] {
        match &tree.value {
            Value::List(items) => items,
            _ => self.mismatch(tree, "a list").unwrap_or_default(),
        }
    }

    pub(crate) fn text<'a>(&mut self, tree: &'a Tree<'_>) -> Option<At<&'a str>> {
        let value = match &tree.value {
            Value::Quoted(text) => text,
            Value::Plain(text) if !is_number_or_truth(text) => text,
            Value::Plain(_) => {
                return self.mismatch(tree, "a text");
            }
            _ => return self.mismatch(tree, "a text"),
        };
        Some(At { value, span: tree.span })
    }

    /// The name of an object or a port.
    pub(crate) fn name<'a>(&mut self, tree: &'a Tree<'_>, form: NameForm) -> Option<At<&'a str>> {
        let name = self.text(tree)?;
        if form.admits(name.value) {
            return Some(name);
        }
        let title = format!("`{}` is not a valid name", shown(name.value));
        self.find(
            Finding::new(tree.span, title, form.expected())
                .help("the API server refuses such names; letters and digits begin and end one"),
        );
        None
    }

    /// Any scalar as it was written: `10.0` is no text for YAML, but the beginning of an
    /// address for its author.
    fn scalar<'a>(&mut self, tree: &'a Tree<'_>, expected: &str) -> Option<At<&'a str>> {
        let Some(value) = tree.as_text() else {
            return self.mismatch(tree, expected);
        };
        Some(At { value, span: tree.span })
    }

    pub(crate) fn truth(&mut self, tree: &Tree<'_>) -> Option<bool> {
        match &tree.value {
            Value::Plain(text) => match truth(text) {
                Some(truth) => Some(truth),
                None => self.mismatch(tree, "true or false"),
            },
            _ => self.mismatch(tree, "true or false"),
        }
    }

    /// A whole number in `range`; `what` it is goes into the error.
    pub(crate) fn integer(
        &mut self,
        tree: &Tree<'_>,
        range: RangeInclusive<i64>,
        what: &str,
    ) -> Option<i64> {
        let number = match &tree.value {
            Value::Plain(text) => text.parse::<i64>().ok(),
            _ => None,
        };
        if let Some(number) = number.filter(|n| range.contains(n)) {
            return Some(number);
        }
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let Some(number) = number else {
            return self.mismatch(tree, &expected);
        };
        self.find(Finding::new(
            tree.span,
            format!("{number} is not a valid {what}"),
            format!("expected {expected}"),
        ));
        None
    }

    /// A port number.
    pub(crate) fn port(&mut self, tree: &Tree<'_>) -> Option<NonZeroU16> {
        let number = self.integer(tree, 1..=65535, "port number")?;
        u16::try_from(number).ok().and_then(NonZeroU16::new)
    }

    /// A port number, or 0, which means none wherever a port is optional.
    pub(crate) fn optional_port(&mut self, tree: &Tree<'_>) -> Option<NonZeroU16> {
        if tree.is_text("0") {
            return None;
        }
        self.port(tree)
    }

    pub(crate) fn address(&mut self, tree: &Tree<'_>) -> Option<At<IpAddr>> {
        let text = self.scalar(tree, "an IP address")?;
        match parse_address(text.value) {
            Ok(value) => Some(At { value, span: text.span }),
            Err(_) => {
                self.find(Finding::new(
                    text.span,
                    format!("`{}` is not an IP address", text.value),
                    "expected an address like 10.0.0.1 or fd00::1",
                ));
                None
            }
        }
    }

    pub(crate) fn block(&mut self, tree: &Tree<'_>) -> Option<At<IpNet>> {
        let text = self.scalar(tree, "a block of addresses")?;
        self.block_in(text)
    }

    pub(crate) fn block_in(&mut self, text: At<&str>) -> Option<At<IpNet>> {
        match parse_block(text.value) {
            Ok(value) => Some(At { value, span: text.span }),
            Err(error) => {
                let label = match error {
                    AddressError::Prefix { family, longest, .. } => {
                        format!("the prefix of an {family} block is at most /{longest}")
                    }
                    _ => "expected one like 10.0.0.0/8 or fd00::/64".to_owned(),
                };
                let title = format!("`{}` is not a block of addresses", text.value.trim());
                let mut finding = Finding::new(text.span, title, label);
                if let Ok(address) = parse_address(text.value) {
                    let longest = crate::address::longest_prefix(nfc_ir::Family::of(address));
                    finding =
                        finding.help(format!("write {address}/{longest} for this one address"));
                }
                self.find(finding);
                None
            }
        }
    }

    /// One of the words of `choices`, spelled exactly so.
    pub(crate) fn word<T: Copy>(
        &mut self,
        tree: &Tree<'_>,
        what: &str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let text = self.text(tree)?;
        self.word_in(text, what, choices)
    }

    pub(crate) fn word_in<T: Copy>(
        &mut self,
        text: At<&str>,
        what: &str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text.value) {
            return Some(*value);
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let mut finding = Finding::new(
            text.span,
            format!("`{}` is not a valid {what}", text.value),
            format!("expected {}", one_of(&words)),
        );
        if let Some(meant) = nearest(text.value, &words) {
            finding = finding.help(format!("did you mean `{meant}`?"));
        }
        self.find(finding);
        None
    }

    fn mismatch<T>(&mut self, tree: &Tree<'_>, expected: &str) -> Option<T> {
        let found = match &tree.value {
            Value::Null => "nothing".to_owned(),
            Value::Plain(text) => format!("`{text}`"),
            Value::Quoted(text) => format!("the text `{text}`"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        };
        let mut finding = Finding::new(
            tree.span,
            format!("{found} stands where {expected} belongs"),
            format!("expected {expected}"),
        );
        finding.help = match &tree.value {
            Value::Map(_) if self.view.text_of(tree.span).starts_with("{{") => {
                Some(TEMPLATE.to_owned())
            }
            Value::Plain(_) if expected == "a text" => Some("put quotes around it".to_owned()),
            Value::Plain(text) | Value::Quoted(text) if expected == "a list" => {
                Some(format!("write `[{text}]`"))
            }
            Value::Quoted(text) if is_number_or_truth(text) => Some("remove the quotes".to_owned()),
            _ => None,
        };
        self.find(finding);
        None
    }
}

impl<'a, 't> Fields<'a, 't> {
    pub(crate) fn span(&self) -> Span {
        self.tree.span
    }

    /// The value of `key`, unless absent or `null`.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Tree<'t>> {
        let entry = self.entries.iter().find(|e| same(&e.key, key))?;
        (entry.value.value != Value::Null).then_some(&entry.value)
    }

    /// Whether `key` is there, even if `null`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|e| same(&e.key, key))
    }

    /// Where `key` itself stands, or the whole mapping where it does not.
    pub(crate) fn key_span(&self, key: &str) -> Span {
        let entry = self.entries.iter().find(|e| e.key == key);
        entry.map_or(self.tree.span, |e| e.key_span)
    }

    /// The mapping under `key`.
    pub(crate) fn fields(&self, reader: &mut Reader<'_>, key: &str) -> Option<Fields<'a, 't>> {
        self.get(key).and_then(|tree| reader.fields(tree))
    }

    /// The items of the list under `key`; none when it is absent.
    pub(crate) fn list(&self, reader: &mut Reader<'_>, key: &str) -> &'a [Tree<'t>] {
        self.get(key).map(|t| reader.list(t)).unwrap_or_default()
    }

    /// The text under `key`; an empty one is absent, as it is for Kubernetes.
    pub(crate) fn optional_text(&self, reader: &mut Reader<'_>, key: &str) -> Option<At<&'a str>> {
        let text = self.get(key).and_then(|tree| reader.text(tree));
        text.filter(|t| !t.value.is_empty())
    }

    /// The name under `key`; an empty one is absent.
    pub(crate) fn optional_name(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        form: NameForm,
    ) -> Option<At<&'a str>> {
        let tree = self.get(key).filter(|tree| !tree.is_text(""))?;
        reader.name(tree, form)
    }

    /// The truth value under `key`.
    pub(crate) fn truth(&self, reader: &mut Reader<'_>, key: &str) -> Option<bool> {
        self.get(key).and_then(|tree| reader.truth(tree))
    }

    /// The word under `key`; an empty one is absent.
    pub(crate) fn word<T: Copy>(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let text = self.optional_text(reader, key)?;
        reader.word_in(text, key, choices)
    }

    /// Says which keys stand twice, and which are none of `known` but look like one.
    pub(crate) fn check(&self, reader: &mut Reader<'_>, known: &[&'static str]) {
        for (i, entry) in self.entries.iter().enumerate() {
            if let Some(first) = self.entries[..i].iter().find(|e| same(&e.key, &entry.key)) {
                let title = format!("the field `{}` stands twice", entry.key);
                reader.find(
                    Finding::new(entry.key_span, title, "expected it once")
                        .related(first.key_span, "first here")
                        .help("remove one of the two"),
                );
            }
            if known.iter().any(|known| same(known, &entry.key)) {
                continue;
            }
            if let Some(meant) = nearest(&entry.key, known) {
                reader.warn(Warning::Misspelt {
                    place: reader.place(entry.key_span),
                    field: entry.key.to_string(),
                    meant,
                });
            }
        }
    }
}

/// Whether two keys are the same. Most pairs differ in length or in the last letter, which
/// is seen here without a call; keys are compared more often than anything else.
#[inline]
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.as_bytes().last() == b.as_bytes().last() && a == b
}

/// `a`, `a or b`, `a, b or c`.
pub(crate) fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [word] => (*word).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// YAML 1.1 knows more truth values than YAML 1.2, and kubectl reads YAML 1.1.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn is_number_or_truth(text: &str) -> bool {
    let number = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
        && text.parse::<f64>().is_ok();
    number || truth(text).is_some()
}

/// The one of `words` that `text` was probably meant to be: the same but for case, or
/// no more than two letters away, and no more than a third of them.
pub(crate) fn nearest(text: &str, words: &[&'static str]) -> Option<&'static str> {
    let same = words.iter().find(|w| w.eq_ignore_ascii_case(text));
    let close = || {
        let distances = words.iter().map(|word| (distance(text, word), *word));
        let (distance, word) = distances.min()?;
        (distance <= 2 && distance * 3 <= word.len()).then_some(word)
    };
    same.copied().or_else(close)
}

/// How many letters must be put in, left out or replaced to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_look_alike_are_found_and_others_are_not() {
        let words = ["clusterIP", "clusterIPs", "port", "nodePort", "type"];
        assert_eq!(nearest("clusterIp", &words), Some("clusterIP"));
        assert_eq!(nearest("nodport", &words), Some("nodePort"));
        assert_eq!(nearest("prot", &["port", "protocol"]), None);
        assert_eq!(nearest("tcp", &["TCP", "UDP"]), Some("TCP"));
        assert_eq!(nearest("selector", &words), None);
    }

    #[test]
    fn distances_are_counted_in_letters() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
