//! The elements of a set, packed: a hundred thousand of them are one buffer, not a hundred
//! thousand allocations.
//!
//! A row is a key and a value, both as the kernel's registers hold them: fields in network
//! order (numbers and marks in host order), padded to four bytes. A verdict takes
//! [`VERDICT_LEN`] bytes, its code and the chain's name.
//!
//! Invariant: after [`Elements::seal`], rows are sorted by key and keys are distinct.

use crate::Verdict;
use nfc_ir::Protocol;
use std::cmp::Ordering;
use std::net::IpAddr;
use std::ops::Range;

/// Bytes of a verdict in a row.
pub const VERDICT_LEN: usize = 64;

/// The longest name of a chain that a verdict can lead to, in bytes.
pub const CHAIN_NAME_MAX: usize = VERDICT_LEN - 1;

/// The longest comment that nft takes, in bytes (`NFTNL_UDATA_COMMENT_MAXLEN`).
pub const COMMENT_MAX: usize = 128;

/// The longest key or value that can be built, in bytes: two times address, protocol, port
/// and address of IPv6.
const KEY_MAX: usize = 80;

/// The elements of one set.
#[derive(Clone, Debug)]
pub struct Elements {
    key_len: usize,
    value_len: usize,
    rows: Vec<u8>,
    /// Where each row's comment ends in `text`; empty when no row has one.
    ends: Vec<u32>,
    text: String,
}

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// The key; for a range its first value and then its last.
    pub key: &'a [u8],
    /// What it leads to; empty in a set.
    pub value: &'a [u8],
    /// A remark for readers; empty for none.
    pub comment: &'a str,
}

/// A key, or the value of a data map, under construction.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    bytes: [u8; KEY_MAX],
    len: usize,
}

impl Default for Key {
    fn default() -> Self {
        Self::new()
    }
}

impl Key {
    /// A key without fields.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; KEY_MAX], len: 0 }
    }

    /// The key so far.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// An address.
    #[must_use]
    #[inline]
    pub fn addr(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(ip) => self.field(&ip.octets()),
            IpAddr::V6(ip) => self.field(&ip.octets()),
        }
    }

    /// A transport protocol.
    #[must_use]
    #[inline]
    pub fn proto(self, protocol: Protocol) -> Self {
        self.field(&[protocol.number()])
    }

    /// A port.
    #[must_use]
    #[inline]
    pub fn port(self, port: impl Into<u16>) -> Self {
        self.field(&port.into().to_be_bytes())
    }

    /// A number or a mark, which registers hold in host order.
    #[must_use]
    #[inline]
    pub fn number(self, number: u32) -> Self {
        self.field(&number.to_ne_bytes())
    }

    /// Bytes that are in the form of rows already, such as a verdict's.
    #[must_use]
    #[inline]
    pub fn raw(self, bytes: &[u8]) -> Self {
        self.field(bytes)
    }

    /// The fields of another key after these: the end of a range.
    #[must_use]
    pub fn then(self, other: &Self) -> Self {
        self.field(other.bytes())
    }

    #[inline]
    fn field(mut self, field: &[u8]) -> Self {
        let end = self.len + field.len();
        let Some(place) = self.bytes.get_mut(self.len..end) else {
            unreachable!("no set has keys of more than {KEY_MAX} bytes");
        };
        place.copy_from_slice(field);
        self.len = end.next_multiple_of(4);
        self
    }
}

impl Verdict {
    /// The verdict as rows hold it.
    #[must_use]
    pub fn to_row(&self) -> [u8; VERDICT_LEN] {
        let (code, chain) = match self {
            Self::Accept => (b'A', ""),
            Self::Drop => (b'D', ""),
            Self::Return => (b'R', ""),
            Self::Jump(chain) => (b'J', chain.as_str()),
            Self::Goto(chain) => (b'G', chain.as_str()),
        };
        let mut row = [0; VERDICT_LEN];
        row[0] = code;
        let Some(place) = row.get_mut(1..=chain.len()) else {
            unreachable!("chain names have at most {CHAIN_NAME_MAX} bytes: {chain}");
        };
        place.copy_from_slice(chain.as_bytes());
        row
    }

    /// The verdict of a row's value.
    #[must_use]
    pub fn from_row(value: &[u8]) -> Self {
        let name = value.get(1..).unwrap_or_default();
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        let chain = || String::from_utf8_lossy(&name[..end]).into_owned();
        match value.first() {
            Some(b'A') => Self::Accept,
            Some(b'R') => Self::Return,
            Some(b'J') => Self::Jump(chain()),
            Some(b'G') => Self::Goto(chain()),
            _ => Self::Drop,
        }
    }
}

impl Elements {
    /// No elements, of keys and values with these lengths in bytes.
    #[must_use]
    pub fn new(key_len: usize, value_len: usize) -> Self {
        Self { key_len, value_len, rows: Vec::new(), ends: Vec::new(), text: String::new() }
    }

    /// Bytes of a key.
    #[must_use]
    pub fn key_len(&self) -> usize {
        self.key_len
    }

    /// Bytes of a value.
    #[must_use]
    pub fn value_len(&self) -> usize {
        self.value_len
    }

    /// How many there are.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.rows.len() / self.stride()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether some element has a comment.
    #[must_use]
    pub fn has_comments(&self) -> bool {
        !self.text.is_empty()
    }

    /// Makes room for `count` more.
    pub fn reserve(&mut self, count: usize) {
        self.rows.reserve(count * self.stride());
    }

    /// Element number `index`.
    #[must_use]
    #[inline]
    pub fn row(&self, index: usize) -> Row<'_> {
        let at = index * self.stride();
        let (key, value) = self.rows[at..at + self.stride()].split_at(self.key_len);
        Row { key, value, comment: &self.text[self.comment_range(index)] }
    }

    /// All elements in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row<'_>> + Clone {
        (0..self.len()).map(|i| self.row(i))
    }

    /// The element of this key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Row<'_>> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            let row = self.row(middle);
            match row.key.cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Some(row),
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Appends an element, its comment in parts; the order is mended by
    /// [`seal`](Self::seal). A comment longer than [`COMMENT_MAX`] is left out.
    #[inline]
    pub fn push(&mut self, key: &[u8], value: &[u8], comment: &[&str]) {
        if (key.len(), value.len()) != (self.key_len, self.value_len) {
            unreachable!("an element's fields are those its set declares");
        }
        self.rows.extend_from_slice(key);
        self.rows.extend_from_slice(value);
        if !comment.is_empty() || !self.ends.is_empty() {
            self.remark(comment);
        }
    }

    /// Gives the last element its comment.
    fn remark(&mut self, comment: &[&str]) {
        let before = self.text.len();
        if comment.iter().map(|part| part.len()).sum::<usize>() <= COMMENT_MAX {
            comment.iter().for_each(|part| self.text.push_str(part));
        }
        if self.text.len() > before || !self.ends.is_empty() {
            let start = u32::try_from(before).unwrap_or(u32::MAX);
            self.ends.resize(self.len() - 1, start);
            self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
        }
    }

    /// How many rows from `start` on are those of `other` from `at` on. Compares ever more
    /// of them at once for as long as they are equal.
    #[must_use]
    pub fn equal_run(&self, start: usize, other: &Self, at: usize) -> usize {
        let most = (self.len() - start).min(other.len() - at);
        let (mut run, mut step) = (0, 1);
        while run < most {
            let len = step.min(most - run);
            if self.are_equal(start + run, other, at + run, len) {
                run += len;
                step *= 2;
            } else if len == 1 {
                break;
            } else {
                step = len / 2;
            }
        }
        run
    }

    fn are_equal(&self, start: usize, other: &Self, at: usize, len: usize) -> bool {
        let rows = |elements: &Self, from: usize| {
            from * elements.stride()..(from + len) * elements.stride()
        };
        let no_comments = !self.has_comments() && !other.has_comments();
        let comments = || {
            (0..len).all(|i| {
                self.text[self.comment_range(start + i)] == other.text[other.comment_range(at + i)]
            })
        };
        self.rows[rows(self, start)] == other.rows[rows(other, at)] && (no_comments || comments())
    }

    /// Appends a row of another set of the same shape.
    pub fn push_row(&mut self, row: Row<'_>) {
        self.push(row.key, row.value, &[row.comment]);
    }

    /// Sorts by key; of equal keys the first stays.
    pub fn seal(&mut self) {
        let keys = || self.rows.chunks_exact(self.stride()).map(|row| &row[..self.key_len]);
        if keys().zip(keys().skip(1)).all(|(before, after)| before < after) {
            return;
        }
        let mut order: Vec<u128> = keys().zip(0..).map(|(key, i)| leading(key) | i).collect();
        let rest = |place: &u128| self.row(index(*place)).key.get(LEADING..).unwrap_or_default();
        if self.key_len <= LEADING {
            order.sort();
            order.dedup_by_key(|place| *place >> 32);
        } else {
            order.sort_by(|a, b| (a >> 32).cmp(&(b >> 32)).then_with(|| rest(a).cmp(rest(b))));
            order.dedup_by(|later, kept| (*later ^ *kept) >> 32 == 0 && rest(later) == rest(kept));
        }
        let mut sorted = Self::new(self.key_len, self.value_len);
        sorted.reserve(order.len());
        sorted.text.reserve(self.text.len());
        order.into_iter().for_each(|place| sorted.push_row(self.row(index(place))));
        *self = sorted;
    }

    #[inline]
    fn stride(&self) -> usize {
        self.key_len + self.value_len
    }

    #[inline]
    fn comment_range(&self, index: usize) -> Range<usize> {
        let end = |i: usize| self.ends.get(i).map_or(0, |e| *e as usize);
        let start = index.checked_sub(1).map_or(0, end);
        start..end(index).max(start)
    }
}

/// The most bytes of a key that are compared as one number.
const LEADING: usize = 12;

/// The first bytes of a key as a number of the same order, with room below for an index.
#[inline]
fn leading(key: &[u8]) -> u128 {
    let mut first = [0; 16];
    let len = key.len().min(LEADING);
    first[..len].copy_from_slice(&key[..len]);
    u128::from_be_bytes(first)
}

/// The index below the first bytes of a key.
#[inline]
fn index(place: u128) -> usize {
    usize::try_from(place & u128::from(u32::MAX)).unwrap_or(usize::MAX)
}

impl PartialEq for Elements {
    fn eq(&self, other: &Self) -> bool {
        self.stride() == other.stride()
            && self.rows == other.rows
            && self.text == other.text
            && (self.ends == other.ends || self.iter().eq(other.iter()))
    }
}

impl Eq for Elements {}
