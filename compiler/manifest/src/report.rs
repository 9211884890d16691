//! What was found in an input: warnings, and errors with the lines they are about.
//!
//! An error becomes a [`Diagnostic`] while its lines are held. One that points at places
//! far apart, of which only the later is still there, waits until everything is read; then
//! those lines are read again, so that an input without errors pays nothing for them.
//!
//! Invariant: knows texts and places, and no Kubernetes.

use crate::diagnostic::{Diagnostic, Finding};
use crate::place::{Lines, Span, View};
use crate::source::Source;
use crate::warning::Warning;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read};
use std::rc::Rc;

/// How many errors get lines that must be read again. More are not shown at once.
const READ_AGAIN_MAX: usize = 100;

/// See the module's words.
pub(crate) struct Report {
    /// Names of the documents.
    names: Vec<String>,
    warnings: Vec<Warning>,
    told: Vec<(Span, Diagnostic)>,
    waiting: Vec<Finding>,
    found: usize,
    /// Names that many objects say: those of nodes.
    shared: BTreeSet<Rc<str>>,
    /// Texts of documents that cannot be read again.
    kept: BTreeMap<u32, String>,
}

impl Report {
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self {
            names,
            warnings: Vec::new(),
            told: Vec::new(),
            waiting: Vec::new(),
            found: 0,
            shared: BTreeSet::new(),
            kept: BTreeMap::new(),
        }
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    pub(crate) fn warn(&mut self, warning: Warning) {
        self.warnings.push(warning);
    }

    /// Keeps the text of a document that cannot be read again.
    pub(crate) fn keep(&mut self, document: u32, text: String) {
        self.kept.insert(document, text);
    }

    /// Takes errors that were found while `view` was held.
    pub(crate) fn take(&mut self, findings: Vec<Finding>, view: View<'_>) {
        self.found += findings.len();
        for finding in findings {
            if finding.span == Span::NOWHERE || finding.is_within(view) {
                let span = finding.span;
                self.told.push((
                    span,
                    finding.diagnostic(&self.names, &|from, to| view.lines(from, to)),
                ));
            } else {
                self.waiting.push(finding);
            }
        }
    }

    /// `name`, held once however often it occurs.
    pub(crate) fn shared(&mut self, name: &str) -> Rc<str> {
        if let Some(known) = self.shared.get(name) {
            return Rc::clone(known);
        }
        let new: Rc<str> = Rc::from(name);
        self.shared.insert(Rc::clone(&new));
        new
    }

    /// Whether no error was found.
    pub(crate) fn is_clean(&self) -> bool {
        self.found == 0
    }

    /// All errors in the order of the text, or the warnings when there is none.
    pub(crate) fn finish(
        mut self,
        sources: &[Source<'_>],
    ) -> Result<Vec<Warning>, Vec<Diagnostic>> {
        if self.is_clean() {
            return Ok(self.warnings);
        }
        self.waiting.sort_by_key(|f| f.span);
        let lines = self.read_again(sources);
        for finding in self.waiting {
            let span = finding.span;
            let diagnostic = finding.diagnostic(&self.names, &|from, to| lines.between(from, to));
            self.told.push((span, diagnostic));
        }
        self.told.sort_by_key(|(span, _)| *span);
        Err(self.told.into_iter().map(|(_, diagnostic)| diagnostic).collect())
    }

    /// The lines of the first errors that wait for them.
    fn read_again(&self, sources: &[Source<'_>]) -> LinesByNumber {
        let mut wanted: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for finding in self.waiting.iter().take(READ_AGAIN_MAX) {
            for (from, to) in finding.shown() {
                wanted.entry(from.document).or_default().extend(from.line..=to.line);
            }
        }
        let mut lines = LinesByNumber::default();
        for (document, wanted) in wanted {
            if let Some(kept) = self.kept.get(&document) {
                lines.read(document, &wanted, kept.as_bytes());
            } else if let Some(again) = sources.get(document as usize).and_then(Source::open_again)
            {
                lines.read(document, &wanted, again);
            }
        }
        lines
    }
}

/// Lines by document and number.
#[derive(Default)]
struct LinesByNumber(BTreeMap<(u32, u32), String>);

impl LinesByNumber {
    /// Reads those of the document that are wanted, as far as it can be read.
    fn read(&mut self, document: u32, wanted: &BTreeSet<u32>, from: impl Read) {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        for number in 0..=wanted.last().copied().unwrap_or_default() {
            line.clear();
            if !matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
                break;
            }
            if wanted.contains(&number) {
                self.0.insert((document, number), String::from_utf8_lossy(&line).into_owned());
            }
        }
    }

    fn between(&self, from: Span, to: Span) -> Option<Lines<'static>> {
        let lines = self.0.range((from.document, from.line)..=(to.document, to.line));
        let text: String = lines.map(|(_, line)| line.as_str()).collect();
        (!text.is_empty()).then_some(Lines { text: Cow::Owned(text), column: 0 })
    }
}
