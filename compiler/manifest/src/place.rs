//! Where something stands: spans, and the stretch of text in which they can be looked up.
//!
//! A span carries its line and column, because the text it was read from is gone by the
//! time it is wanted: of a long input only a window is held at a time.
//!
//! Invariant: bytes, lines and columns; knows neither YAML nor JSON.

use std::borrow::Cow;

/// A part of one of the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Span {
    /// Index of the document.
    pub(crate) document: u32,
    /// First byte.
    pub(crate) start: u64,
    /// How many bytes.
    pub(crate) length: u32,
    /// Line of the first byte, counted from 0.
    pub(crate) line: u32,
    /// Column of the first byte in characters, counted from 0.
    pub(crate) column: u32,
}

/// A value and where it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

/// A point in one of the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Position {
    /// Index of the document.
    pub(crate) document: u32,
    /// Bytes before it.
    pub(crate) offset: u64,
    /// Lines before it.
    pub(crate) line: u32,
    /// Characters before it in its line.
    pub(crate) column: u32,
}

/// A stretch of a document, and where it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'t> {
    pub(crate) text: &'t str,
    pub(crate) base: Position,
}

/// Lines of a document.
#[derive(Clone, Debug)]
pub(crate) struct Lines<'t> {
    pub(crate) text: Cow<'t, str>,
    /// How many characters of the first line are missing at its beginning.
    pub(crate) column: u32,
}

impl Span {
    /// No part of any document.
    pub(crate) const NOWHERE: Self =
        Self { document: u32::MAX, start: 0, length: 0, line: 0, column: 0 };

    /// The first byte behind it.
    pub(crate) fn end(self) -> u64 {
        self.start + u64::from(self.length)
    }
}

impl Position {
    /// The place that begins here and is so many bytes long.
    pub(crate) fn span(self, length: usize) -> Span {
        let Self { document, offset, line, column } = self;
        Span { document, start: offset, length: count(length), line, column }
    }

    /// The point behind `text`, which begins here.
    pub(crate) fn behind(self, text: &str) -> Self {
        let offset = self.offset + text.len() as u64;
        match text.rfind('\n') {
            None => Self { offset, column: self.column + characters(text), ..self },
            Some(last) => Self {
                offset,
                line: self.line + count(text.bytes().filter(|b| *b == b'\n').count()),
                column: characters(&text[last + 1..]),
                ..self
            },
        }
    }
}

impl<'t> View<'t> {
    /// Nothing of any document.
    pub(crate) const NONE: View<'static> =
        View { text: "", base: Position { document: u32::MAX, offset: 0, line: 0, column: 0 } };

    /// Whether the place lies in this stretch.
    pub(crate) fn contains(&self, span: Span) -> bool {
        let end = self.base.offset + self.text.len() as u64;
        let inside = self.base.offset <= span.start && span.end() <= end;
        span.document == self.base.document && inside && span != Span::NOWHERE
    }

    /// What is written at `span`, which lies in this stretch.
    pub(crate) fn text_of(&self, span: Span) -> &'t str {
        let start = self.index(span);
        self.text.get(start..start + span.length as usize).unwrap_or_default()
    }

    /// Where `part`, which is a slice of `whole`, stands: exactly when the text was
    /// written without escapes, and as `whole` otherwise.
    pub(crate) fn part(&self, whole: At<&str>, part: &str) -> Span {
        let written = self.text_of(whole.span);
        let trimmed = part.trim();
        let inside = part.len() - part.trim_start().len();
        let offset = (part.as_ptr() as usize).checked_sub(whole.value.as_ptr() as usize);
        match (written.find(whole.value), offset) {
            (Some(begin), Some(offset)) if !trimmed.is_empty() => {
                let before = &written[..begin + offset + inside];
                position(whole.span).behind(before).span(trimmed.len())
            }
            _ => whole.span,
        }
    }

    /// The word that begins where `span` begins, for errors that only have a beginning.
    pub(crate) fn token(&self, span: Span) -> Span {
        let rest = self.text.get(self.index(span)..).unwrap_or_default();
        let ends = |c: char| c.is_whitespace() || ",[]{}".contains(c);
        Span { length: count(rest.find(ends).unwrap_or(rest.len())), ..span }
    }

    /// The lines from the one in which `from` begins to that in which `to` begins, as far
    /// as this stretch has them.
    pub(crate) fn lines(&self, from: Span, to: Span) -> Option<Lines<'t>> {
        if !self.contains(from) || !self.contains(to) {
            return None;
        }
        let (first, last) = (self.index(from), self.index(to));
        let start = self.text.get(..first)?.rfind('\n').map_or(0, |i| i + 1);
        let end = self.text.get(last..)?.find('\n').map_or(self.text.len(), |i| last + i);
        let column = if start == 0 { self.base.column } else { 0 };
        Some(Lines { text: Cow::Borrowed(&self.text[start..end]), column })
    }

    fn index(&self, span: Span) -> usize {
        let before = span.start.saturating_sub(self.base.offset);
        usize::try_from(before).unwrap_or(usize::MAX).min(self.text.len())
    }
}

/// Where `span` begins.
fn position(span: Span) -> Position {
    Position { document: span.document, offset: span.start, line: span.line, column: span.column }
}

/// How many characters `text` has.
pub(crate) fn characters(text: &str) -> u32 {
    count(text.bytes().filter(|b| b & 0xc0 != 0x80).count())
}

/// Lines, columns and lengths have 32 bits; what is longer is not shown to anyone.
pub(crate) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
