//! Lists of elements.
//!
//! Elements are by far the most of what is sent, so each is a copy of a finished one with
//! its key and value put in.
//!
//! Invariant: what [`size`] says is what [`write()`] writes.

use super::declare::kernel_len;
use super::order::List;
use super::{rule, userdata};
use crate::{Elements, Row, Set, Value, Verdict};
use nfc_ir::Family;
use nfc_netlink::attr::{self, Writer, align};
use std::ops::Range;

/// `NFTA_SET_ELEM_LIST_*`.
pub(crate) const LIST_SET: u16 = 2;
pub(crate) const LIST_ELEMENTS: u16 = 3;
/// `NFTA_LIST_ELEM`.
const ELEMENT: u16 = 1;
/// `NFTA_SET_ELEM_*`.
pub(crate) const KEY: u16 = 1;
pub(crate) const DATA: u16 = 2;
pub(crate) const USERDATA: u16 = 6;
pub(crate) const KEY_END: u16 = 10;
/// `NFTA_DATA_VALUE`.
const DATA_VALUE: u16 = 1;

/// The most bytes of elements in one message: an attribute's length is a `u16`.
const LIST_MAX: usize = 65_000;

/// The elements from `start` on that fit into one message.
pub(super) fn chunk(
    shape: &Set,
    elements: &Elements,
    start: usize,
    with_values: bool,
) -> Range<usize> {
    if let Some(one) = same_size(shape, elements, with_values) {
        return start..elements.len().min(start + LIST_MAX / one);
    }
    let mut room = LIST_MAX;
    let mut end = start;
    while end < elements.len() {
        let Some(left) = room.checked_sub(size(shape, elements.row(end), with_values)) else {
            break;
        };
        room = left;
        end += 1;
    }
    start..end
}

/// Bytes that each of the elements takes, when they all take the same.
fn same_size(shape: &Set, elements: &Elements, with_values: bool) -> Option<usize> {
    let varies = with_values && (shape.value == Value::Verdict || elements.has_comments());
    (!varies && !elements.is_empty()).then(|| size(shape, elements.row(0), with_values))
}

/// Bytes that an element takes. Keys and values count in full registers: a little more than
/// short ones need.
pub(super) fn size(shape: &Set, row: Row<'_>, with_value: bool) -> usize {
    let key = match shape.interval {
        false => data_size(row.key.len()),
        true => 2 * data_size(row.key.len() / 2),
    };
    let rest = match (&shape.value, with_value) {
        (_, false) => 0,
        (Value::None, true) => comment_size(row.comment),
        (Value::Data(_), true) => data_size(row.value.len()) + comment_size(row.comment),
        (Value::Verdict, true) => {
            let name = row.value.iter().skip(1).position(|b| *b == 0).unwrap_or(row.value.len());
            let chain = if name == 0 { 0 } else { align(attr::HEADER_LEN + name + 1) };
            // Two nests, the code, the name of the chain.
            4 * attr::HEADER_LEN + chain + comment_size(row.comment)
        }
    };
    attr::HEADER_LEN + key + rest
}

/// A nest that holds one value.
fn data_size(len: usize) -> usize {
    2 * attr::HEADER_LEN + align(len)
}

fn comment_size(comment: &str) -> usize {
    if comment.is_empty() { 0 } else { align(attr::HEADER_LEN + 2 + comment.len() + 1) }
}

/// Writes a list. Elements that go are named by their keys alone.
pub(super) fn write(w: &mut Writer, family: Family, list: &List<'_>, with_values: bool) {
    w.text(LIST_SET, list.name);
    w.nest(LIST_ELEMENTS, |w| {
        let mut maker = Maker::new(family, list.shape, with_values);
        for index in list.range.clone() {
            maker.write(w, list.elements.row(index));
        }
    });
}

/// Makes elements of one set from a pattern.
struct Maker<'a> {
    shape: &'a Set,
    with_values: bool,
    key_len: usize,
    data_len: usize,
    /// A finished element without comment, and the value that it was made for.
    pattern: Vec<u8>,
    value: Vec<u8>,
    comment: Vec<u8>,
    /// Where in the pattern the key stands, and the value.
    key_at: usize,
    value_at: usize,
}

impl<'a> Maker<'a> {
    fn new(family: Family, shape: &'a Set, with_values: bool) -> Self {
        let len = |fields| usize::try_from(kernel_len(family, fields)).unwrap_or(0);
        let data_len = match &shape.value {
            Value::Data(data) if with_values => len(data),
            _ => 0,
        };
        Self {
            shape,
            with_values,
            key_len: len(&shape.key),
            data_len,
            pattern: Vec::new(),
            value: Vec::new(),
            comment: Vec::new(),
            key_at: 3 * attr::HEADER_LEN,
            value_at: 0,
        }
    }

    fn write(&mut self, w: &mut Writer, row: Row<'_>) {
        self.fit_pattern(row.value);
        let (first, last) = match self.shape.interval {
            true => row.key.split_at(row.key.len() / 2),
            false => (row.key, &[][..]),
        };
        self.pattern[self.key_at..][..self.key_len].copy_from_slice(&first[..self.key_len]);
        if self.shape.interval {
            let at = self.key_at + align(self.key_len) + 2 * attr::HEADER_LEN;
            self.pattern[at..][..self.key_len].copy_from_slice(&last[..self.key_len]);
        }
        self.pattern[self.value_at..][..self.data_len].copy_from_slice(&row.value[..self.data_len]);
        if row.comment.is_empty() || !self.with_values {
            w.raw(&self.pattern);
        } else {
            self.comment.clear();
            userdata::comment(&mut self.comment, row.comment);
            w.nest(ELEMENT, |w| {
                w.raw(&self.pattern[attr::HEADER_LEN..]);
                w.bytes_attr(USERDATA, &self.comment);
            });
        }
    }

    /// Makes the pattern, once for all keys, or once for each run of one verdict.
    fn fit_pattern(&mut self, value: &[u8]) {
        let is_verdict = self.shape.value == Value::Verdict && self.with_values;
        if !self.pattern.is_empty() && (!is_verdict || self.value == value) {
            return;
        }
        self.value = value.to_vec();
        let (blank, mut made) = ([0; 64], Writer::new());
        made.nest(ELEMENT, |w| {
            w.nest(KEY, |w| w.bytes_attr(DATA_VALUE, &blank[..self.key_len]));
            if self.shape.interval {
                w.nest(KEY_END, |w| w.bytes_attr(DATA_VALUE, &blank[..self.key_len]));
            }
            if is_verdict {
                w.nest(DATA, |w| rule::verdict(w, &Verdict::from_row(value)));
            } else if self.data_len > 0 {
                w.nest(DATA, |w| w.bytes_attr(DATA_VALUE, &blank[..self.data_len]));
            }
        });
        self.pattern = made.into_bytes();
        self.value_at = self.pattern.len() - align(self.data_len);
    }
}
