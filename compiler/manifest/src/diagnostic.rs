//! Errors that point into the user's text, and how they are shown.
//!
//! While objects are read, errors are [`Finding`]s: a place and words. Each becomes a
//! [`Diagnostic`] while its lines are still held; it carries them and so outlives the text.
//!
//! Invariant: knows texts and places, and no Kubernetes.

use crate::name::printable;
use crate::place::{Lines, Span, View};
use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use std::fmt;
use std::fmt::Write as _;
use std::ops::Range;

/// An error in the input, with the text it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where it is, unless it is in the settings.
    pub place: Option<Place>,
    /// How many bytes are meant there.
    pub length: usize,
    /// What is wrong, in one line.
    pub title: String,
    /// What was expected there.
    pub label: String,
    /// Which object and which field of it, when it is one.
    pub within: Option<String>,
    /// What to do.
    pub help: Option<String>,
    /// The lines it is about. `None` when they could not be had again.
    excerpt: Option<Excerpt>,
    related: Option<Related>,
}

/// Another place that explains the error.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Related {
    place: Place,
    lines: RelatedLines,
    label: String,
}

/// Where the lines of a related place are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum RelatedLines {
    /// In the excerpt of the error itself.
    Joined,
    /// Here.
    Apart(Excerpt),
    /// They could not be had again.
    Gone,
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

impl Place {
    fn origin(&self) -> Origin<'_> {
        Origin::path(self.file.as_str()).line(self.line).char_column(self.column)
    }
}

/// Lines of a file with parts of them marked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Excerpt {
    place: Place,
    first_line: usize,
    /// Whether only a part of a very long line is shown.
    is_cut: bool,
    text: String,
    /// The part in question.
    mark: Range<usize>,
    /// A part that explains it, if that is near.
    explanation: Option<Range<usize>>,
}

/// How many lines two places may lie apart and still be shown together.
const JOINED_LINES_MAX: u32 = 200;

impl Diagnostic {
    /// The error as rustc would show it, with or without colours of a terminal.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut main = Group::with_title(Level::ERROR.primary_title(self.title.as_str()));
        main = match (&self.excerpt, &self.place) {
            (Some(excerpt), _) if excerpt.is_cut => excerpt.in_words(main, &self.label),
            (Some(excerpt), _) => main.element(self.snippet(excerpt)),
            (None, Some(place)) => main.element(place.origin()).element(note(&self.label)),
            (None, None) => main.element(note(&self.label)),
        };
        if let Some(Related { place, lines, label }) = &self.related {
            main = match lines {
                RelatedLines::Joined => main,
                RelatedLines::Apart(excerpt) if excerpt.is_cut => excerpt.in_words(main, label),
                RelatedLines::Apart(excerpt) => {
                    main.element(excerpt.snippet(AnnotationKind::Context, label))
                }
                RelatedLines::Gone => main.element(place.origin()).element(note(label)),
            };
        }
        if let Some(within) = &self.within {
            main = main.element(Level::NOTE.no_name().message(printable(&format!("in {within}"))));
        }
        if let Some(help) = &self.help {
            main = main.element(Level::HELP.message(printable(help)));
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

fn note(text: &str) -> annotate_snippets::Message<'_> {
    Level::NOTE.no_name().message(text)
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
            .path(self.place.file.as_str())
            .annotation(kind.span(self.mark.clone()).label(label))
    }

    /// The same for a line that is cut, in which the renderer could not count columns.
    fn in_words<'a>(&'a self, group: Group<'a>, label: &'a str) -> Group<'a> {
        let near = Level::NOTE.no_name().message(printable(&format!("near `{}`", self.text)));
        group.element(self.place.origin()).element(note(label)).element(near)
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

    /// Whether everything it points at lies in `view`.
    pub(crate) fn is_within(&self, view: View<'_>) -> bool {
        view.contains(self.span) && self.related.as_ref().is_none_or(|r| view.contains(r.0))
    }

    /// Whether its two places are near enough to be shown together.
    fn is_joined(&self) -> bool {
        self.related.as_ref().is_some_and(|(related, _)| {
            let lines = related.line.abs_diff(self.span.line);
            related.document == self.span.document && lines <= JOINED_LINES_MAX
        })
    }

    /// What it shows: the lines from one place to another, once or twice.
    pub(crate) fn shown(&self) -> Vec<(Span, Span)> {
        match &self.related {
            Some((other, _)) if self.is_joined() => {
                vec![(self.span.min(*other), self.span.max(*other))]
            }
            Some((other, _)) => vec![(self.span, self.span), (*other, *other)],
            None => vec![(self.span, self.span)],
        }
    }

    /// The error with those of its lines that can be had; `names` are those of the documents.
    pub(crate) fn diagnostic<'l>(
        self,
        names: &[String],
        lines: &dyn Fn(Span, Span) -> Option<Lines<'l>>,
    ) -> Diagnostic {
        let (shown, joined) = (self.shown(), self.is_joined());
        let excerpt = |(from, to), mark: Span, explanation| {
            let lines = lines(from, to)?;
            Some(Excerpt::new(&lines, from, mark.place(names), mark, explanation))
        };
        let other = self.related.as_ref().map(|r| r.0);
        let own = excerpt(shown[0], self.span, other.filter(|_| joined));
        let related = self.related.map(|(span, label)| Related {
            place: span.place(names),
            lines: match excerpt((span, span), span, None) {
                _ if joined && own.is_some() => RelatedLines::Joined,
                Some(excerpt) => RelatedLines::Apart(excerpt),
                None => RelatedLines::Gone,
            },
            label,
        });
        Diagnostic {
            place: (self.span != Span::NOWHERE).then(|| self.span.place(names)),
            length: self.span.length as usize,
            title: self.title,
            label: self.label,
            within: self.within,
            help: self.help,
            excerpt: own,
            related,
        }
    }
}

impl Span {
    /// The place for people; `names` are those of the documents.
    pub(crate) fn place(self, names: &[String]) -> Place {
        Place {
            file: names.get(self.document as usize).cloned().unwrap_or_default(),
            line: self.line as usize + 1,
            column: self.column as usize + 1,
        }
    }
}

/// The longest lines that are shown whole, in bytes.
const LINES_MAX: usize = 1 << 14;

/// How much of a longer line is shown before and behind the part in question, in bytes.
const AROUND: usize = 40;

impl Excerpt {
    /// `lines`, from that of `from` on, with `mark` marked.
    fn new(
        lines: &Lines<'_>,
        from: Span,
        place: Place,
        mark: Span,
        explanation: Option<Span>,
    ) -> Self {
        let text = lines.text.trim_end();
        let part = |span: Span| part(text, lines.column, from.line, span);
        let (mark, explanation) = (part(mark), explanation.map(part));
        if lines.column == 0 && text.len() <= LINES_MAX {
            let first_line = from.line as usize + 1;
            let text = text.to_owned();
            return Self { place, first_line, is_cut: false, text, mark, explanation };
        }
        // Only what is near the mark, of lines that no terminal could show.
        let line = text[..mark.start].rfind('\n').map_or(0, |i| i + 1);
        let begin = text.floor_char_boundary(mark.start.saturating_sub(AROUND)).max(line);
        let end = text.ceil_char_boundary((mark.end + AROUND).min(mark.start + LINES_MAX));
        let near = &text[begin..end.min(text.len())];
        let near = &near[..near.find('\n').unwrap_or(near.len())];
        let mark = mark.start - begin..(mark.end - begin).min(near.len());
        let first_line = place.line;
        Self { place, first_line, is_cut: true, text: near.to_owned(), mark, explanation: None }
    }
}

/// Where `span` is in `text`, whose first line is number `first` and lacks `column`
/// characters. A span of several lines is cut at the end of its first: the beginning says
/// which thing is meant.
fn part(text: &str, column: u32, first: u32, span: Span) -> Range<usize> {
    let above = span.line.saturating_sub(first) as usize;
    let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1));
    let start = starts.take(above + 1).last().unwrap_or_default();
    let line = text[start..].lines().next().unwrap_or_default().trim_end();
    let before = if above == 0 { span.column.saturating_sub(column) } else { span.column };
    let begin = line.char_indices().nth(before as usize).map_or(line.len(), |(i, _)| i);
    let end = line.floor_char_boundary((begin + span.length as usize).min(line.len()));
    start + begin..start + end
}
