//! Sets and maps of a listing, and what is found in them.
//!
//! Invariant: an element is found by the words of its key, ranges by their ends.

use super::token::{Token, joined};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A set or map, named or written into a rule.
#[derive(Debug, Default)]
pub(super) struct Set {
    elements: Vec<Element>,
    /// Elements without ranges, by the words of their keys.
    exact: BTreeMap<String, usize>,
    /// Elements with a range, in order.
    ranged: Vec<usize>,
}

/// An element.
#[derive(Debug)]
pub(super) struct Element {
    /// The words of each field of the key.
    key: Vec<String>,
    /// What it leads to; empty in a set.
    pub(super) value: Vec<Token>,
    /// The element as it stands in the listing.
    pub(super) text: String,
}

/// What may stand between a key and its value.
const ATTRIBUTES: [&str; 4] = ["timeout", "expires", "comment", "counter"];

impl Set {
    /// Adds the elements between two braces.
    pub(super) fn add_all(&mut self, words: &[Token]) {
        let words: Vec<_> = words.iter().filter(|w| !w.is("\n")).cloned().collect();
        for element in words.split(|word| word.is(",")).filter(|words| !words.is_empty()) {
            self.add(element);
        }
    }

    fn add(&mut self, words: &[Token]) {
        let colon = words.iter().position(|word| word.is(":"));
        let (left, value) = match colon {
            Some(at) => (&words[..at], &words[at + 1..]),
            None => (words, &[][..]),
        };
        let is_attribute = |word: &Token| ATTRIBUTES.iter().any(|name| word.is(name));
        let end = left.iter().position(is_attribute).unwrap_or(left.len());
        // Old tools put attributes behind the value.
        let value_end = value.iter().position(is_attribute).unwrap_or(value.len());
        let fields = left[..end].split(|word| word.is("."));
        let key: Vec<_> = fields.map(|field| canonical(&joined(field))).collect();
        let index = self.elements.len();
        if key.iter().any(|field| is_range(field)) {
            self.ranged.push(index);
        } else {
            self.exact.insert(key.join(" . "), index);
        }
        let value = value[..value_end].to_vec();
        self.elements.push(Element { key, value, text: joined(words) });
    }

    /// The element under the key that has these fields.
    pub(super) fn find(&self, fields: &[String]) -> Option<&Element> {
        if let Some(index) = self.exact.get(&fields.join(" . ")) {
            return self.elements.get(*index);
        }
        let ranged = self.ranged.iter().filter_map(|index| self.elements.get(*index));
        ranged.into_iter().find(|element| {
            element.key.len() == fields.len()
                && element.key.iter().zip(fields).all(|(range, field)| is_within(field, range))
        })
    }
}

/// Addresses are spelled in one way; the kernel's tools and ours may differ about colons.
fn canonical(field: &str) -> String {
    match field.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => field.trim_matches('"').to_owned(),
    }
}

fn is_range(field: &str) -> bool {
    field.ends_with('*') || field.parse::<IpNet>().is_ok() || ends(field).is_some()
}

/// The first and the last of `1-9` or `10.0.0.1-10.0.0.9`.
fn ends(field: &str) -> Option<(&str, &str)> {
    let (first, last) = field.split_once('-')?;
    let is_value = |text: &str| text.parse::<IpAddr>().is_ok() || text.parse::<u32>().is_ok();
    (is_value(first) && is_value(last)).then_some((first, last))
}

/// What a word stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Address,
    Number,
    Name,
}

fn kind(text: &str) -> Kind {
    let first = ends(text).map_or(text, |(first, _)| first);
    if first.parse::<IpAddr>().is_ok() || first.parse::<IpNet>().is_ok() {
        Kind::Address
    } else if first.starts_with(|c: char| c.is_ascii_digit()) {
        Kind::Number
    } else {
        Kind::Name
    }
}

/// Whether `value` can be held against what a listing writes as `range`: a port against a
/// number and not against the name of a service.
pub(super) fn is_comparable(value: &str, range: &str) -> bool {
    kind(value) == kind(range) || range == "*"
}

/// Whether `value` is, or lies in, what a listing writes as `range`.
pub(super) fn is_within(value: &str, range: &str) -> bool {
    if value == range || range.strip_suffix('*').is_some_and(|head| value.starts_with(head)) {
        return true;
    }
    if let Ok(address) = value.parse::<IpAddr>() {
        if let Ok(other) = range.parse::<IpAddr>() {
            return address == other;
        }
        if let Ok(block) = range.parse::<IpNet>() {
            return block.contains(&address);
        }
        let ends = ends(range).and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        return ends
            .is_some_and(|(first, last): (IpAddr, IpAddr)| (first..=last).contains(&address));
    }
    let number = value.parse::<u32>().ok();
    let ends = ends(range).and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    number.zip(ends).is_some_and(|(number, (first, last))| (first..=last).contains(&number))
}
