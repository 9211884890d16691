//! JSON into a tree in which every node knows its place (RFC 8259).
//!
//! A scanner of our own, because a tree with places is wanted, of one object at a time
//! and from the middle of a text that is still being read: serde_json has no places, and
//! the crates that have them want all of the text at once.
//!
//! Invariant: knows JSON and no Kubernetes.

use crate::place::{Position, Span, View};
use crate::tree::{DEPTH_MAX, Entry, SyntaxError, Tree, Value};
use crate::window::{Cursor, Window};
use std::borrow::Cow;

/// Room for the entries of a usual object, so that a scanner allocates once.
const ENTRIES: usize = 64;

/// Reads values from a text that may go on behind what is held of it.
pub(crate) struct Scanner<'t> {
    view: View<'t>,
    bytes: &'t [u8],
    cursor: Cursor,
    /// Whether the text ends where the view ends.
    last: bool,
    ascii: bool,
    depth: usize,
    /// Entries and items of the collections that are being read, the innermost last.
    entries: Vec<Entry<'t>>,
    items: Vec<Tree<'t>>,
}

type Result<T> = std::result::Result<T, SyntaxError>;

impl<'t> Scanner<'t> {
    /// A scanner at the window's cursor.
    pub(crate) fn new(window: &'t Window<'_>) -> Self {
        Self::at(window.view(), window.cursor(), window.is_ended(), window.is_ascii())
    }

    /// A scanner of all of `view`.
    pub(crate) fn whole(view: View<'t>) -> Self {
        let Position { line, column, .. } = view.base;
        let cursor = Cursor { at: 0, line, mark: 0, column };
        Self::at(view, cursor, true, view.text.is_ascii())
    }

    fn at(view: View<'t>, cursor: Cursor, last: bool, ascii: bool) -> Self {
        Self {
            view,
            bytes: view.text.as_bytes(),
            cursor,
            last,
            ascii,
            depth: 0,
            entries: Vec::with_capacity(ENTRIES),
            items: Vec::new(),
        }
    }

    /// Up to where was read.
    pub(crate) fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The byte that comes next, blanks passed over. `None` at the end.
    pub(crate) fn next(&mut self) -> Option<u8> {
        self.skip_blanks();
        self.peek()
    }

    /// Passes over `byte` if it comes next.
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let there = self.next() == Some(byte);
        self.cursor.at += usize::from(there);
        there
    }

    /// The place of the byte that comes next.
    pub(crate) fn here(&mut self) -> Span {
        self.start().span(0)
    }

    /// The comma before an item or entry that is not the first.
    pub(crate) fn comma(&mut self, close: u8) -> Result<()> {
        if !self.take(b',') {
            let expected =
                if close == b']' { "expected `,` or `]`" } else { "expected `,` or `}`" };
            return Err(self.wrong(expected));
        }
        if self.next() == Some(close) {
            return Err(self.wrong("trailing comma"));
        }
        Ok(())
    }

    /// A key and its colon.
    pub(crate) fn key(&mut self) -> Result<(Cow<'t, str>, Span)> {
        if self.next() != Some(b'"') {
            return Err(self.wrong("key must be a string"));
        }
        let start = self.start();
        let key = self.text()?;
        let span = self.span(start);
        if self.take(b':') { Ok((key, span)) } else { Err(self.wrong("expected `:`")) }
    }

    /// A value. Inlined, with texts, so that most of a dump goes straight to where it is kept:
    /// handed over in memory, all of it takes a tenth longer.
    #[inline(always)]
    pub(crate) fn value(&mut self) -> Result<Tree<'t>> {
        self.skip_blanks();
        let start = self.start();
        let value = match self.peek() {
            Some(b'"') => Value::Quoted(self.text()?),
            _ => self.other()?,
        };
        Ok(Tree { span: self.span(start), value })
    }

    /// A value that is no text.
    fn other(&mut self) -> Result<Value<'t>> {
        match self.peek() {
            Some(b'{') => self.nested(Self::map),
            Some(b'[') => self.nested(Self::list),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null").map(|_| Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.wrong("expected value")),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value<'t>>) -> Result<Value<'t>> {
        if self.depth == DEPTH_MAX {
            return Err(self.wrong(&format!("nested more than {DEPTH_MAX} levels deep")));
        }
        self.cursor.at += 1;
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn map(&mut self) -> Result<Value<'t>> {
        let first = self.entries.len();
        while !self.take(b'}') {
            if self.entries.len() > first {
                self.comma(b'}')?;
            }
            let (key, key_span) = self.key()?;
            let value = self.value()?;
            self.entries.push(Entry { key, key_span, value });
        }
        Ok(Value::Map(self.entries.drain(first..).collect()))
    }

    fn list(&mut self) -> Result<Value<'t>> {
        let first = self.items.len();
        while !self.take(b']') {
            if self.items.len() > first {
                self.comma(b']')?;
            }
            let item = self.value()?;
            self.items.push(item);
        }
        Ok(Value::List(self.items.drain(first..).collect()))
    }

    fn word(&mut self, word: &'static str) -> Result<Value<'t>> {
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                return Err(self.wrong("expected `true`, `false` or `null`"));
            }
            self.cursor.at += 1;
        }
        Ok(Value::Plain(Cow::Borrowed(word)))
    }

    fn number(&mut self) -> Result<Value<'t>> {
        let begin = self.cursor.at;
        self.cursor.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.cursor.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.cursor.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.cursor.at += 1;
            self.cursor.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        match self.peek() {
            Some(b'0'..=b'9') => Err(self.wrong("invalid number")),
            None if !self.last => Err(self.wrong("invalid number")),
            _ => Ok(Value::Plain(Cow::Borrowed(&self.view.text[begin..self.cursor.at]))),
        }
    }

    fn digits(&mut self) -> Result<()> {
        let begin = self.cursor.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.cursor.at += 1;
        }
        if self.cursor.at == begin { Err(self.wrong("invalid number")) } else { Ok(()) }
    }

    /// A text in quotes. One without escapes, as nearly all are, is a part of the view.
    #[inline(always)]
    fn text(&mut self) -> Result<Cow<'t, str>> {
        let begin = self.cursor.at + 1;
        let end = plain_until(self.bytes, begin);
        self.cursor.at = end;
        if self.peek() != Some(b'"') {
            return self.escaped(begin).map(Cow::Owned);
        }
        self.cursor.at += 1;
        Ok(Cow::Borrowed(&self.view.text[begin..end]))
    }

    /// The text from `begin` on, of which the cursor is at the first byte that cannot stand
    /// in it as it is.
    #[cold]
    fn escaped(&mut self, begin: usize) -> Result<String> {
        let mut text = self.view.text[begin..self.cursor.at].to_owned();
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => text.push(self.escape()?),
                Some(_) => {
                    return Err(
                        self.wrong("line ends and control characters in a text must be escaped")
                    );
                }
                None => return Err(self.wrong("the text is not closed")),
            }
            let from = self.cursor.at;
            self.cursor.at = plain_until(self.bytes, from);
            text.push_str(&self.view.text[from..self.cursor.at]);
        }
        self.cursor.at += 1;
        Ok(text)
    }

    fn escape(&mut self) -> Result<char> {
        let letter = self.bytes.get(self.cursor.at + 1).copied();
        let plain = match letter {
            Some(b'u') => return self.code_point(),
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            None => return Err(self.ended()),
            Some(_) => return Err(self.wrong("invalid escape")),
        };
        self.cursor.at += 2;
        Ok(plain)
    }

    /// `\uXXXX`, or two of them for what UTF-16 writes as a pair.
    fn code_point(&mut self) -> Result<char> {
        let first = self.code_unit()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first).ok_or_else(|| self.wrong(LONE_SURROGATE));
        }
        let pair = self.bytes.get(self.cursor.at..).unwrap_or_default();
        if pair.len() < 2 && !self.last {
            return Err(self.ended());
        }
        if !pair.starts_with(b"\\u") {
            return Err(self.wrong(LONE_SURROGATE));
        }
        let second = self.code_unit()?;
        let low = second.wrapping_sub(0xdc00);
        let joined = (low < 0x400).then(|| 0x10000 + ((first - 0xd800) << 10) + low);
        joined.and_then(char::from_u32).ok_or_else(|| self.wrong(LONE_SURROGATE))
    }

    fn code_unit(&mut self) -> Result<u32> {
        let begin = self.cursor.at + 2;
        let Some(digits) = self.bytes.get(begin..begin + 4) else {
            return Err(self.ended());
        };
        let mut unit = 0;
        for digit in digits {
            let Some(value) = char::from(*digit).to_digit(16) else {
                return Err(self.wrong("invalid escape"));
            };
            unit = (unit << 4) | value;
        }
        self.cursor.at = begin + 4;
        Ok(unit)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.cursor.at).copied()
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.peek() {
                Some(b'\n') => self.next_line(),
                Some(b' ' | b'\t' | b'\r') => self.cursor.at += 1,
                _ => return,
            }
        }
    }

    /// Passes over a line end and the indentation behind it, which is most of what kubectl
    /// prints.
    fn next_line(&mut self) {
        let mut at = self.cursor.at + 1;
        self.cursor.line += 1;
        self.cursor.mark = at;
        self.cursor.column = 0;
        while let Some(word) = word_at(self.bytes, at) {
            let others = word ^ u64::from_le_bytes([b' '; 8]);
            at += others.trailing_zeros() as usize / 8;
            if others != 0 {
                break;
            }
        }
        self.cursor.at = at;
    }

    fn start(&mut self) -> Position {
        self.cursor.settle(self.view.text, self.ascii);
        Position {
            document: self.view.base.document,
            offset: self.view.base.offset + self.cursor.at as u64,
            line: self.cursor.line,
            column: self.cursor.column,
        }
    }

    /// What was read since `start`.
    fn span(&self, start: Position) -> Span {
        let end = self.view.base.offset + self.cursor.at as u64;
        start.span(usize::try_from(end - start.offset).unwrap_or(usize::MAX))
    }

    /// The error at the byte that comes next; when there is none, the text may go on.
    pub(crate) fn wrong(&mut self, words: &str) -> SyntaxError {
        let ended = self.cursor.at >= self.bytes.len();
        let words = if ended { format!("the text ends here; {words}") } else { words.to_owned() };
        SyntaxError { span: self.here(), words, ended }
    }

    fn ended(&mut self) -> SyntaxError {
        self.cursor.at = self.bytes.len();
        self.wrong("the text is not closed")
    }
}

const LONE_SURROGATE: &str = "half of a surrogate pair";

/// Index of the first byte from `from` on that cannot stand in a text as it is: a quote, a
/// backslash or a control character. Eight bytes are looked at together, with the test of
/// "Bit Twiddling Hacks" for a zero or a small byte in a word.
fn plain_until(bytes: &[u8], from: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let mut at = from;
    while let Some(word) = word_at(bytes, at) {
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let special = quote | backslash | below(word, 0x20);
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let special = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20));
    special.map_or(bytes.len(), |i| at + i)
}

/// The eight bytes from `at` on, the first in the lowest bits.
#[inline]
fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    let (word, _) = bytes.get(at..)?.split_first_chunk()?;
    Some(u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Option<Tree<'_>> {
        let mut scanner = Scanner::whole(View { text, base: Position::default() });
        let tree = scanner.value().ok()?;
        scanner.next().is_none().then_some(tree)
    }

    /// Whether the tree says what serde_json read; numbers are kept as they were written.
    fn agrees(tree: &Tree<'_>, value: &serde_json::Value) -> bool {
        use serde_json::Value as Json;
        match (&tree.value, value) {
            (Value::Null, Json::Null) => true,
            (Value::Plain(text), Json::Bool(truth)) => *text == truth.to_string(),
            (Value::Plain(text), Json::Number(number)) => {
                serde_json::from_str::<Json>(text).is_ok_and(|n| n.as_number() == Some(number))
            }
            (Value::Quoted(text), Json::String(string)) => text == string,
            (Value::List(items), Json::Array(array)) => {
                items.len() == array.len() && items.iter().zip(array).all(|(i, a)| agrees(i, a))
            }
            (Value::Map(entries), Json::Object(object)) => object.iter().all(|(key, value)| {
                // Of keys that stand twice serde_json takes the last.
                let last = entries.iter().rev().find(|e| e.key == *key);
                last.is_some_and(|e| agrees(&e.value, value))
            }),
            _ => false,
        }
    }

    const SAMPLE: &str = r#"{"a": [1, -2.5e+3, true, null, {}], "b\n": "x\u00e9\ud83d\ude00 \/",
        "a text of more than eight bytes": [[], [{"k": "é"}]], "z": false}"#;

    proptest! {
        /// What serde_json takes for JSON is JSON here, and nothing else, and means the same.
        #[test]
        fn serde_json_is_agreed_with(
            changes in prop::collection::vec(
                (0..SAMPLE.len(), 0..3_usize, prop::sample::select(vec![
                    "", "\"", "\\", "{", "}", "[", "]", ",", ":", "0", "-", ".", "e", "1",
                    "\n", "\\u", "\\ud800", "é", "\u{1}", "t", "null", " ",
                ])),
                0..4,
            ),
        ) {
            let mut text = SAMPLE.to_owned();
            for (at, length, new) in changes {
                let at = text.floor_char_boundary(at);
                let end = text.ceil_char_boundary((at + length).min(text.len()));
                text.replace_range(at.min(end)..end, new);
            }
            match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(value) => prop_assert!(read(&text).is_some_and(|t| agrees(&t, &value)), "{text}"),
                // A number too large for serde_json is JSON all the same.
                Err(error) if error.to_string().contains("out of range") => {}
                Err(error) => prop_assert!(read(&text).is_none(), "{text}: {error}"),
            }
        }

        #[test]
        fn eight_bytes_at_a_time_find_the_same(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let slow = bytes.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20));
            prop_assert_eq!(plain_until(&bytes, 0), slow.unwrap_or(bytes.len()));
        }
    }

    #[test]
    fn every_node_knows_its_place() {
        let text = "{\n  \"ä\": [\"ü\", 12],\n\t\"b\": {}\n}";
        let tree = read(text).unwrap();
        let Value::Map(entries) = &tree.value else { panic!("not a mapping") };
        let place = |span: Span| (span.line, span.column, span.length);
        assert_eq!(place(tree.span), (0, 0, u32::try_from(text.len()).unwrap()));
        assert_eq!(place(entries[0].key_span), (1, 2, 4));
        assert_eq!(place(entries[0].value.items()[0].span), (1, 8, 4));
        assert_eq!(place(entries[0].value.items()[1].span), (1, 13, 2));
        assert_eq!(place(entries[1].value.span), (2, 6, 2));
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert!(read(&nested(DEPTH_MAX)).is_some());
        assert!(read(&nested(DEPTH_MAX + 1)).is_none());
        assert!(read(&nested(1_000_000)).is_none());
    }
}
