//! Where a YAML text can be cut, so that its parts can be read one by one: between
//! documents, and in a long list between its items.
//!
//! A document ends where a line begins with `---` or `...`, whatever is open (YAML 1.2,
//! 9.1.2). An item of a block sequence begins with `- ` at the sequence's own column, and
//! everything in it is indented deeper (8.2.1). Anchors reach from item to item of a list
//! only as long as it is read whole.
//!
//! Invariant: looks at the beginnings of lines and at nothing else.

/// Where items of a list begin and how they are indented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Items {
    /// Index of the first item's line.
    pub(crate) start: usize,
    /// Column of their dashes.
    pub(crate) column: usize,
}

/// The whole lines of `text`, each with its index; also the last one when `ended`.
fn lines(text: &str, ended: bool) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n')
        .map(move |line| {
            at += line.len();
            (at - line.len(), line)
        })
        .filter(move |(_, line)| ended || line.ends_with('\n'))
}

/// Index of the end of the document with which `text` begins, if it is there.
pub(crate) fn document_end(text: &str, ended: bool) -> Option<usize> {
    let mut begun = false;
    for (at, line) in lines(text, ended) {
        if is_marker(line, "---") {
            if begun {
                return Some(at);
            }
            begun = true;
        } else if is_marker(line, "...") {
            return Some(at + line.len());
        } else if !begun {
            begun = !is_empty(line) && !line.starts_with('%');
        }
    }
    ended.then_some(text.len())
}

/// The items of the list with which `text` begins, if it is one in block style.
pub(crate) fn items(text: &str, ended: bool) -> Option<Items> {
    let mut lines = lines(text, ended).skip_while(|(_, line)| !is_items_key(line)).skip(1);
    let (start, line) = lines.find(|(_, line)| !is_empty(line))?;
    let column = indentation(line);
    is_item(line, column).then_some(Items { start, column })
}

/// Index of the first line that is no part of the items with which `text` begins.
pub(crate) fn items_end(text: &str, column: usize, ended: bool) -> Option<usize> {
    let outside =
        |line: &str| !is_empty(line) && indentation(line) <= column && !is_item(line, column);
    let marker = |line| is_marker(line, "---") || is_marker(line, "...");
    lines(text, ended).find(|(_, line)| outside(line) || marker(line)).map(|(at, _)| at)
}

/// Index of the last item of those with which `text` begins, unless that is the first.
pub(crate) fn last_item(text: &str, column: usize) -> Option<usize> {
    let mut end = text.len();
    while let Some(newline) = text[..end].rfind('\n') {
        if is_item(&text[newline + 1..], column) {
            return Some(newline + 1);
        }
        end = newline;
    }
    None
}

/// Whether `line` marks the beginning (`---`) or end (`...`) of a document.
pub(crate) fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with(BLANKS))
}

const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

fn is_items_key(line: &str) -> bool {
    line.strip_prefix("items:").is_some_and(is_empty)
}

/// Whether there is nothing in it, or a comment.
fn is_empty(line: &str) -> bool {
    let rest = line.trim_start_matches(BLANKS);
    rest.is_empty() || rest.starts_with('#')
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn is_item(line: &str, column: usize) -> bool {
    let bytes = line.as_bytes();
    bytes.get(column) == Some(&b'-')
        && bytes.get(column + 1).is_none_or(u8::is_ascii_whitespace)
        && indentation(line) == column
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "apiVersion: v1\nitems: # all\n# one\n- a: 1\n  b: |\n    - x\n- a: 2\n";

    #[test]
    fn documents_end_at_markers_only() {
        let text = "# c\n%YAML 1.2\n---\na: '---'\n --- \n---b\n--- {b: 1}\n...\nc: 1\n";
        let first = document_end(text, false).unwrap();
        assert!(text[first..].starts_with("--- {b"));
        let second = first + document_end(&text[first..], false).unwrap();
        assert_eq!(&text[second..], "c: 1\n");
        assert_eq!(document_end(&text[second..], false), None);
        assert_eq!(document_end(&text[second..], true), Some(5));
        assert_eq!(document_end("a: 1\n---", false), None, "`---x` may come");
    }

    #[test]
    fn items_begin_at_their_own_column() {
        let items = items(LIST, false).unwrap();
        assert_eq!(items.column, 0);
        let text = &LIST[items.start..];
        assert!(text.starts_with("- a: 1"));
        assert!(text[last_item(text, 0).unwrap()..].starts_with("- a: 2"));
        assert_eq!(last_item("- a\n", 0), None);
        assert_eq!(items_end(text, 0, true), None);
    }

    #[test]
    fn items_end_at_what_is_indented_less() {
        for end in ["kind: List\n", "---\n", "...\n", "-1: x\n"] {
            let text = format!("- a:\n  - b\n\n# c\n- d\n{end}");
            assert_eq!(items_end(&text, 0, false), text.find(end), "{end}");
        }
        assert_eq!(items_end("  - a\n  b: 1\n", 2, false), Some(6));
    }
}
