//! A part of a report: what it says, and the drawings that it shows.
//!
//! Invariant: joins text and drawings; knows no figure.

use super::svg::Form;

/// A part of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Section {
    /// Markdown.
    pub(crate) text: String,
    /// The drawings that the text names.
    pub(crate) drawings: Vec<Drawing>,
}

/// A drawing in all its forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Drawing {
    /// Name of its file.
    pub(crate) file: String,
    /// What is in the file.
    pub(crate) alone: String,
    /// For a page on a screen.
    pub(crate) page: String,
    /// For a page in a hand.
    pub(crate) phone: String,
}

impl Section {
    /// Goes on with `text`.
    pub(crate) fn say(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Shows what `draw` draws, under the name `file`; tells whether there was anything.
    pub(crate) fn show(
        &mut self,
        title: &str,
        file: &str,
        draw: impl Fn(Form) -> Option<String>,
    ) -> bool {
        let forms = [Form::File, Form::Page, Form::Phone].map(draw);
        let [Some(alone), Some(page), Some(phone)] = forms else { return false };
        self.say(&format!("![{title}]({file})\n\n"));
        self.drawings.push(Drawing { file: file.to_owned(), alone, page, phone });
        true
    }

    /// Goes on with another section.
    pub(crate) fn add(&mut self, other: Self) {
        self.say(&other.text);
        self.drawings.extend(other.drawings);
    }
}
