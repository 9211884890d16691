//! Errors that point into the user's text, and how they are shown.
//!
//! While objects are read, errors are [`Finding`]s: a place and words. At the end each
//! becomes a [`Diagnostic`], which carries the lines it shows and so outlives the text.
//!
//! Invariant: knows texts and places, and no Kubernetes.

use crate::source::Document;
use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use std::cell::OnceCell;
use std::fmt;
use std::fmt::Write as _;
use std::ops::Range;

/// An error in the input, with the text it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where it is, unless it is in the settings.
    pub place: Option<Place>,
    /// What is wrong, in one line.
    pub title: String,
    /// What was expected there.
    pub label: String,
    /// Which object and which field of it, when it is one.
    pub within: Option<String>,
    /// What to do.
    pub help: Option<String>,
    excerpt: Option<Excerpt>,
    related: Option<Related>,
}

/// Another place that explains the error.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Related {
    /// `None` when the lines of the error itself hold it.
    excerpt: Option<Excerpt>,
    label: String,
}

/// A place in the input. Displayed as `file:line:column`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Name of the file, or `<stdin>`.
    pub file: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Lines of a file with parts of them marked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Excerpt {
    file: String,
    first_line: usize,
    text: String,
    /// The part in question.
    mark: Range<usize>,
    /// A part that explains it, if that is near.
    explanation: Option<Range<usize>>,
}

/// How many lines two places may lie apart and still be shown together.
const JOINED_LINES_MAX: usize = 200;

impl Diagnostic {
    /// The error as rustc would show it, with or without colours of a terminal.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut main = Group::with_title(Level::ERROR.primary_title(self.title.as_str()));
        main = match &self.excerpt {
            Some(excerpt) => main.element(self.snippet(excerpt)),
            None => main.element(Level::NOTE.no_name().message(self.label.as_str())),
        };
        if let Some(Related { excerpt: Some(excerpt), label }) = &self.related {
            main = main.element(excerpt.snippet(AnnotationKind::Context, label));
        }
        if let Some(within) = &self.within {
            main = main.element(Level::NOTE.no_name().message(format!("in {within}")));
        }
        if let Some(help) = &self.help {
            main = main.element(Level::HELP.message(help.as_str()));
        }
        render_group(main, colour)
    }

    fn snippet<'a>(&'a self, excerpt: &'a Excerpt) -> Snippet<'a, Annotation<'a>> {
        let snippet = excerpt.snippet(AnnotationKind::Primary, &self.label);
        match (&excerpt.explanation, &self.related) {
            (Some(explanation), Some(related)) => snippet.annotation(
                AnnotationKind::Context.span(explanation.clone()).label(related.label.as_str()),
            ),
            _ => snippet,
        }
    }
}

fn render_group(group: Group<'_>, colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    renderer.decor_style(DecorStyle::Ascii).render(&[group])
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl Excerpt {
    /// The lines with a label at the part in question.
    fn snippet<'a>(&'a self, kind: AnnotationKind, label: &'a str) -> Snippet<'a, Annotation<'a>> {
        Snippet::source(self.text.as_str())
            .line_start(self.first_line)
            .path(self.file.as_str())
            .annotation(kind.span(self.mark.clone()).label(label))
    }
}

/// How many diagnostics [`render_all`] shows; more do not help anyone.
const SHOWN_MAX: usize = 50;

/// All of `diagnostics` as one text, the last line of which counts them.
#[must_use]
pub fn render_all(diagnostics: &[Diagnostic], colour: bool) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics.iter().take(SHOWN_MAX) {
        text.push_str(&diagnostic.render(colour));
        text.push_str("\n\n");
    }
    let hidden = diagnostics.len().saturating_sub(SHOWN_MAX);
    if hidden > 0 {
        let _ = write!(text, "({hidden} more errors are not shown) ");
    }
    let plural = if diagnostics.len() == 1 { "" } else { "s" };
    let _ = writeln!(text, "{} error{plural}; nothing was compiled", diagnostics.len());
    text
}

/// A part of one of the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Span {
    /// Index of the document.
    pub(crate) document: usize,
    /// First byte.
    pub(crate) start: usize,
    /// First byte behind it.
    pub(crate) end: usize,
}

/// A value and where it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

/// An error that was found at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) span: Span,
    pub(crate) title: String,
    pub(crate) label: String,
    pub(crate) within: Option<String>,
    pub(crate) help: Option<String>,
    /// Another place that explains the error, and how.
    pub(crate) related: Option<(Span, String)>,
}

impl Span {
    /// No part of any document.
    pub(crate) const NOWHERE: Self = Self { document: usize::MAX, start: 0, end: 0 };
}

impl Finding {
    pub(crate) fn new(span: Span, title: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            span,
            title: title.into(),
            label: label.into(),
            within: None,
            help: None,
            related: None,
        }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related = Some((span, label.into()));
        self
    }
}

/// The documents, with their lines found when first asked for.
pub(crate) struct Texts<'t> {
    documents: &'t [Document],
    line_starts: Vec<OnceCell<Vec<usize>>>,
}

impl<'t> Texts<'t> {
    pub(crate) fn new(documents: &'t [Document]) -> Self {
        Self { documents, line_starts: documents.iter().map(|_| OnceCell::new()).collect() }
    }

    pub(crate) fn place(&self, span: Span) -> Place {
        let (document, starts) = (&self.documents[span.document], self.starts(span));
        let line = line_of(starts, span.start);
        let before = document.text.get(starts[line]..span.start);
        Place {
            file: document.name.clone(),
            line: line + 1,
            column: before.unwrap_or_default().chars().count() + 1,
        }
    }

    /// Where `part`, which is a slice of `whole`, stands: exactly when the text was
    /// written without escapes, and as `whole` otherwise.
    pub(crate) fn part(&self, whole: At<&str>, part: &str) -> Span {
        let text = self.documents[whole.span.document].text.as_str();
        let written = text.get(whole.span.start..whole.span.end).unwrap_or_default();
        let trimmed = part.trim();
        let inside = part.len() - part.trim_start().len();
        let offset = (part.as_ptr() as usize).checked_sub(whole.value.as_ptr() as usize);
        match (written.find(whole.value), offset) {
            (Some(begin), Some(offset)) if !trimmed.is_empty() => {
                let start = whole.span.start + begin + offset + inside;
                Span { start, end: start + trimmed.len(), ..whole.span }
            }
            _ => whole.span,
        }
    }

    /// The line in which `span` begins.
    pub(crate) fn line(&self, span: Span) -> &str {
        let (document, starts) = (&self.documents[span.document], self.starts(span));
        let line = line_of(starts, span.start);
        let end = starts.get(line + 1).copied().unwrap_or(document.text.len());
        let text = document.text.get(starts[line]..end).unwrap_or_default();
        text.trim_end()
    }

    /// The word that begins where `span` begins, for errors that only have a beginning.
    pub(crate) fn token(&self, span: Span) -> Span {
        let text = self.documents[span.document].text.as_str();
        let rest = text.get(span.start..).unwrap_or_default();
        let ends = |c: char| c.is_whitespace() || ",[]{}".contains(c);
        let length = rest.find(ends).unwrap_or(rest.len());
        Span { end: span.start + length, ..span }
    }

    pub(crate) fn diagnostic(&self, finding: Finding) -> Diagnostic {
        let Finding { span, related, .. } = finding;
        let somewhere = span != Span::NOWHERE;
        let near = related.as_ref().and_then(|r| self.joined(span, r.0));
        let related = related.map(|(place, label)| Related {
            excerpt: near.is_none().then(|| self.excerpt(place)),
            label,
        });
        Diagnostic {
            place: somewhere.then(|| self.place(span)),
            title: finding.title,
            label: finding.label,
            within: finding.within,
            help: finding.help,
            excerpt: somewhere.then(|| near.unwrap_or_else(|| self.excerpt(span))),
            related,
        }
    }

    fn starts(&self, span: Span) -> &[usize] {
        let text = &self.documents[span.document].text;
        self.line_starts[span.document].get_or_init(|| {
            let after = text.match_indices('\n').map(|(i, _)| i + 1);
            std::iter::once(0).chain(after).collect()
        })
    }

    /// The line in which `span` begins. A span of several lines is cut at the end of its
    /// first: the beginning says which thing is meant.
    fn excerpt(&self, span: Span) -> Excerpt {
        let starts = self.starts(span);
        let line = line_of(starts, span.start);
        let text = self.line(span);
        let begin = (span.start - starts[line]).min(text.len());
        let end = (span.end.max(span.start) - starts[line]).min(text.len());
        Excerpt {
            file: self.documents[span.document].name.clone(),
            first_line: line + 1,
            text: text.to_owned(),
            mark: begin..end,
            explanation: None,
        }
    }

    /// The lines from the first to the last of two places that are near each other.
    fn joined(&self, first: Span, second: Span) -> Option<Excerpt> {
        if first.document != second.document {
            return None;
        }
        let (a, b) = (self.excerpt(first), self.excerpt(second));
        let (low, high) = (a.first_line.min(b.first_line), a.first_line.max(b.first_line));
        if high - low > JOINED_LINES_MAX {
            return None;
        }
        let starts = self.starts(first);
        let text = &self.documents[first.document].text;
        let end = starts.get(high).copied().unwrap_or(text.len());
        let shifted = |e: &Excerpt| {
            let by = starts[e.first_line - 1] - starts[low - 1];
            e.mark.start + by..e.mark.end + by
        };
        Some(Excerpt {
            mark: shifted(&a),
            explanation: Some(shifted(&b)),
            first_line: low,
            text: text.get(starts[low - 1]..end).unwrap_or_default().trim_end().to_owned(),
            file: a.file,
        })
    }
}

fn line_of(starts: &[usize], offset: usize) -> usize {
    starts.partition_point(|start| *start <= offset) - 1
}
