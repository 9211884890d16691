//! A long text, of which only a window is held at a time.
//!
//! Whoever reads moves a cursor forward; what lies behind it is dropped when more is
//! asked for, so that an input of any length takes no more memory than its longest object.
//!
//! Invariant: bytes in, valid text out; knows neither YAML nor JSON.

use crate::place::{Position, View, characters, count};
use std::io::{self, Read};

/// How many bytes are read at a time, and so the least that is held.
pub(crate) const CHUNK: usize = 1 << 18;

/// How much of the cursor's line is kept before it, for the excerpts of errors.
const LINE_KEPT: usize = 1 << 12;

/// The longest input that is kept whole when it cannot be read a second time. Errors that
/// concern two objects show the lines of both, and the first may be long gone.
const KEPT_MAX: usize = 1 << 25;

/// A place in the window's text, with the count of lines and columns up to it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    /// Index into the text.
    pub(crate) at: usize,
    /// Line of `mark`, in the document.
    pub(crate) line: u32,
    /// Up to where columns are counted; not behind `at`, and in the same line.
    pub(crate) mark: usize,
    /// Column of `mark`.
    pub(crate) column: u32,
}

/// See the module's words.
pub(crate) struct Window<'s> {
    reader: Box<dyn Read + 's>,
    text: String,
    base: Position,
    cursor: Cursor,
    chunk: usize,
    ascii: bool,
    bytes: Vec<u8>,
    end: End,
    kept: Option<Vec<u8>>,
}

/// Whether there is more to read, and why not.
#[derive(Debug)]
enum End {
    Open,
    Reached,
    NotText,
    Failed(io::Error),
}

impl Cursor {
    /// Counts columns up to `at`.
    pub(crate) fn settle(&mut self, text: &str, ascii: bool) {
        let passed = &text[self.mark..self.at];
        self.column += if ascii { count(passed.len()) } else { characters(passed) };
        self.mark = self.at;
    }

    /// Moves over `text`, which stands at the cursor.
    fn pass(&mut self, whole: &str, to: usize) {
        self.settle(whole, false);
        let here = Position { document: 0, offset: 0, line: self.line, column: self.column };
        let there = here.behind(&whole[self.at..to]);
        *self = Self { at: to, mark: to, line: there.line, column: there.column };
    }
}

impl<'s> Window<'s> {
    /// A window on what `reader` gives, which is document number `document`, `chunk` bytes
    /// wide or more. When `keep` is set the text is kept, unless it is very long.
    pub(crate) fn new(reader: Box<dyn Read + 's>, document: u32, chunk: usize, keep: bool) -> Self {
        Self {
            reader,
            text: String::new(),
            base: Position { document, ..Position::default() },
            cursor: Cursor::default(),
            chunk,
            ascii: true,
            bytes: Vec::new(),
            end: End::Open,
            kept: keep.then(Vec::new),
        }
    }

    /// What is held.
    pub(crate) fn view(&self) -> View<'_> {
        View { text: &self.text, base: self.base }
    }

    pub(crate) fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// What is held from the cursor on.
    pub(crate) fn rest(&self) -> &str {
        &self.text[self.cursor.at..]
    }

    /// Where the cursor is in the document.
    pub(crate) fn position(&self) -> Position {
        let mut cursor = self.cursor;
        cursor.settle(&self.text, false);
        let offset = self.base.offset + cursor.at as u64;
        Position { offset, line: cursor.line, column: cursor.column, ..self.base }
    }

    /// Moves the cursor forward.
    pub(crate) fn advance(&mut self, to: Cursor) {
        self.cursor = to;
    }

    /// Moves the cursor over the next `bytes` bytes.
    pub(crate) fn pass(&mut self, bytes: usize) {
        self.cursor.pass(&self.text, self.cursor.at + bytes);
    }

    /// Whether all there is is held.
    pub(crate) fn is_ended(&self) -> bool {
        !matches!(self.end, End::Open)
    }

    /// Whether the text goes on, but as bytes that are no text.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.end, End::NotText)
    }

    /// Whether as much is held from the cursor on as a window is wide.
    pub(crate) fn is_full(&self) -> bool {
        self.rest().len() >= self.chunk
    }

    /// Whether a byte of what is held is a character.
    pub(crate) fn is_ascii(&self) -> bool {
        self.ascii
    }

    /// Reads more, at least as much as is held already, so that reading an object again
    /// and again until it is complete costs no more than twice its length. Returns whether
    /// there was any.
    pub(crate) fn more(&mut self) -> bool {
        if self.is_ended() {
            return false;
        }
        self.drop_passed();
        let wanted = self.chunk.max(self.text.len());
        let carried = self.bytes.len();
        let mut limited = (&mut self.reader).take(wanted as u64);
        match limited.read_to_end(&mut self.bytes) {
            Ok(read) if read < wanted => self.end = End::Reached,
            Ok(_) => {}
            Err(error) => self.end = End::Failed(error),
        }
        self.keep(carried);
        self.take_text();
        true
    }

    /// Why reading stopped too early, and all of the text if it was to be kept.
    pub(crate) fn finish(self) -> (Option<io::Error>, Option<String>) {
        let error = match self.end {
            End::Failed(error) => Some(error),
            _ => None,
        };
        (error, self.kept.map(|kept| String::from_utf8_lossy(&kept).into_owned()))
    }

    fn keep(&mut self, carried: usize) {
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(&self.bytes[carried..]);
            if kept.len() > KEPT_MAX {
                self.kept = None;
            }
        }
    }

    /// Adds the bytes read to the text. A line that is cut stays behind until the rest of it
    /// is there, unless it is very long, so that errors show whole lines; a character that
    /// is cut always does.
    fn take_text(&mut self) {
        let (valid, broken) = match std::str::from_utf8(&self.bytes) {
            Ok(text) => (text, false),
            Err(error) => {
                let (valid, rest) = self.bytes.split_at(error.valid_up_to());
                let whole = error.error_len().is_some();
                let last = matches!(self.end, End::Reached) && !rest.is_empty();
                (std::str::from_utf8(valid).unwrap_or_default(), whole || last)
            }
        };
        if broken {
            self.end = End::NotText;
        }
        let taken = match valid.rfind('\n') {
            _ if !matches!(self.end, End::Open) => valid.len(),
            Some(last) => last + 1,
            None if valid.len() > LINE_KEPT => valid.len(),
            None => 0,
        };
        self.text.push_str(&valid[..taken]);
        self.ascii = self.text.is_ascii();
        self.bytes.drain(..taken);
    }

    /// Drops what lies before the cursor's line.
    fn drop_passed(&mut self) {
        self.cursor.settle(&self.text, false);
        let at = self.cursor.at;
        let mut from = at.saturating_sub(LINE_KEPT);
        while !self.text.is_char_boundary(from) {
            from += 1;
        }
        let line = self.text[from..at].rfind('\n');
        from += line.map_or(0, |i| i + 1);
        let kept = &self.text[from..at];
        self.base = Position {
            document: self.base.document,
            offset: self.base.offset + from as u64,
            line: self.cursor.line,
            column: self.cursor.column - characters(kept),
        };
        self.text.drain(..from);
        self.cursor.at -= from;
        self.cursor.mark -= from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, as a slow pipe does.
    struct Slow<'t>(&'t [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            to[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    #[test]
    fn characters_are_never_cut_and_places_are_counted_over_what_is_dropped() {
        let text = "añ\nbçd\n".repeat(5_000);
        let mut window = Window::new(Box::new(Slow(text.as_bytes())), 0, 7, false);
        let mut read = String::new();
        while window.more() {
            assert_eq!(window.position(), Position::default().behind(&read));
            read.push_str(window.rest());
            window.pass(window.rest().len());
            assert!(window.view().text.len() < 2 * LINE_KEPT, "nothing is dropped");
        }
        assert_eq!(read, text);
        assert!(window.is_ended() && !window.is_broken());
    }

    #[test]
    fn what_is_no_text_ends_it() {
        for bytes in [&b"abc\xff"[..], b"abc\xc3", b"abc\xffdef"] {
            let mut window = Window::new(Box::new(bytes), 0, 2, true);
            while window.more() {}
            assert_eq!(window.rest(), "abc");
            assert!(window.is_broken());
        }
    }
}
