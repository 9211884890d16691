//! The report as one page that needs nothing else: no network, no script, no other file.
//!
//! Invariant: shows the Markdown of the report and its drawings, and adds no word to them but
//! names of links.

use super::section::Section;
use super::svg::{STYLE, escaped};
use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

/// Name of the file with the page.
pub(crate) const PAGE: &str = "report.html";

/// `report` as a page.
pub(crate) fn page(report: &Section) -> String {
    let parser = Parser::new_ext(&report.text, Options::ENABLE_TABLES);
    let mut events = Vec::new();
    let (mut headings, mut is_in_image) = (Headings::default(), false);
    for event in parser {
        match event {
            Event::Start(Tag::Image { dest_url, .. }) => {
                events.push(Event::Html(drawing(report, &dest_url).into()));
                is_in_image = true;
            }
            Event::End(TagEnd::Image) => is_in_image = false,
            _ if is_in_image => {}
            // Wide tables scroll by themselves, and the page does not.
            Event::Start(Tag::Table(columns)) => {
                events.push(Event::Html("<div class=\"wide\">".into()));
                events.push(Event::Start(Tag::Table(columns)));
            }
            Event::End(TagEnd::Table) => {
                events.push(event);
                events.push(Event::Html("</div>".into()));
            }
            event => events.push(headings.named(event)),
        }
    }
    let mut body = String::new();
    html::push_html(&mut body, headings.with_contents(events).into_iter());
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n\
         <style>\n{STYLE}{}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        escaped(headings.all.first().map_or("Report", |heading| &heading.text)),
        include_str!("page.css")
    )
}

/// The drawing of this name, for screens and for hands; the style sheet shows one of them.
fn drawing(report: &Section, file: &str) -> String {
    let found = report.drawings.iter().find(|drawing| drawing.file == file);
    found.map_or_else(String::new, |drawing| format!("{}{}", drawing.page, drawing.phone))
}

/// The headings, which become the page's contents.
#[derive(Debug, Default)]
struct Headings {
    all: Vec<Heading>,
    is_inside: bool,
}

#[derive(Debug)]
struct Heading {
    level: HeadingLevel,
    text: String,
}

impl Headings {
    /// Gives a heading that begins a name to link to.
    fn named<'a>(&mut self, event: Event<'a>) -> Event<'a> {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                self.is_inside = true;
                self.all.push(Heading { level, text: String::new() });
                let id = Some(CowStr::from(format!("part-{}", self.all.len())));
                Event::Start(Tag::Heading { level, id, classes: vec![], attrs: vec![] })
            }
            Event::End(TagEnd::Heading(_)) => {
                self.is_inside = false;
                event
            }
            Event::Text(ref text) | Event::Code(ref text) if self.is_inside => {
                if let Some(last) = self.all.last_mut() {
                    last.text.push_str(text);
                }
                event
            }
            event => event,
        }
    }

    /// `events` with a list of links before the second heading: the first is the title.
    fn with_contents<'a>(&self, mut events: Vec<Event<'a>>) -> Vec<Event<'a>> {
        let is_heading = |event: &Event<'_>| matches!(event, Event::Start(Tag::Heading { .. }));
        let places = events.iter().enumerate().filter(|(_, event)| is_heading(event));
        let Some((second, _)) = places.clone().nth(1) else { return events };
        let mut list = String::from("<nav><details><summary>Contents</summary>\n<ul>\n");
        for (n, Heading { level, text }) in self.all.iter().enumerate().skip(1) {
            let class = if *level > HeadingLevel::H2 { " class=\"sub\"" } else { "" };
            let text = escaped(text);
            list.push_str(&format!("<li{class}><a href=\"#part-{}\">{text}</a></li>\n", n + 1));
        }
        list.push_str("</ul></details></nav>\n");
        events.insert(second, Event::Html(list.into()));
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::section::Drawing;

    fn report() -> Section {
        let drawing = Drawing {
            file: "a.svg".to_owned(),
            alone: "<svg>alone</svg>".to_owned(),
            page: "<svg>page</svg>".to_owned(),
            phone: "<svg>phone</svg>".to_owned(),
        };
        let text = "# Title & more\n\ntext\n\n## One\n\n![a chart](a.svg)\n\n| a | b |\n|---|---:|\n\
                    | 1 | 2 |\n\n### Two\n\n- **bold** `code`\n";
        Section { text: text.to_owned(), drawings: vec![drawing] }
    }

    #[test]
    fn a_page_has_its_drawings_inside_and_asks_for_nothing() {
        let page = page(&report());
        assert!(page.contains("<svg>page</svg><svg>phone</svg>"), "{page}");
        assert!(!page.contains("alone") && !page.contains("a chart"), "{page}");
        for word in ["<script", "<img", "<link", "@import", "url(", "src="] {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn contents_name_every_heading_but_the_title() {
        let page = page(&report());
        assert!(page.contains("<title>Title &amp; more</title>"), "{page}");
        assert!(page.contains("<li><a href=\"#part-2\">One</a></li>"), "{page}");
        assert!(page.contains("<li class=\"sub\"><a href=\"#part-3\">Two</a></li>"), "{page}");
        assert!(page.contains("<h2 id=\"part-2\">One</h2>"), "{page}");
    }

    #[test]
    fn tables_scroll_by_themselves() {
        assert!(page(&report()).contains("<div class=\"wide\"><table>"), "{}", page(&report()));
    }
}
