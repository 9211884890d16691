//! A listing cut into words.
//!
//! Invariant: words and lines; their meaning is of no concern here.

/// A word, and the line it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    /// Line of the listing, counted from 1.
    pub(super) line: usize,
    /// Whether it stood between quotes.
    pub(super) is_quoted: bool,
}

impl Token {
    /// Whether it is this word, and not a text in quotes.
    pub(super) fn is(&self, word: &str) -> bool {
        !self.is_quoted && self.text == word
    }

    /// Whether a statement ends here.
    pub(super) fn is_end(&self) -> bool {
        self.is(";") || self.is("\n")
    }
}

/// Cuts `text` into words. Braces, commas, semicolons and line ends are words of their own;
/// remarks are left out.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut all = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| !c.is_whitespace()) {
            rest = &rest[at..];
            if rest.starts_with('#') {
                break;
            }
            let (word, is_quoted, length) = word(rest);
            all.push(Token { text: word.to_owned(), line, is_quoted });
            rest = &rest[length..];
        }
        all.push(Token { text: "\n".to_owned(), line, is_quoted: false });
    }
    all
}

/// The word at the beginning of `text`, and how long it is with its quotes.
fn word(text: &str) -> (&str, bool, usize) {
    if let Some(inner) = text.strip_prefix('"') {
        let end = inner.find('"').unwrap_or(inner.len());
        return (&inner[..end], true, (end + 2).min(text.len()));
    }
    let alone = |c: char| "{},;".contains(c);
    let end = match text.find(|c: char| c.is_whitespace() || alone(c)) {
        Some(0) => 1,
        Some(end) => end,
        None => text.len(),
    };
    (&text[..end], false, end)
}

/// The words with one blank between them, as they would be typed.
pub(super) fn joined(words: &[Token]) -> String {
    let mut text = String::new();
    for word in words.iter().filter(|w| !w.is("\n")) {
        let glued = text.is_empty() || word.is(",");
        text.push_str(if glued { "" } else { " " });
        if word.is_quoted {
            text.extend(["\"", &word.text, "\""]);
        } else {
            text.push_str(&word.text);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_into_words() {
        let all = tokens("a \"b c\",{d;}# e\nf");
        let words: Vec<_> = all.iter().map(|t| t.text.as_str()).collect();
        assert_eq!(words, ["a", "b c", ",", "{", "d", ";", "}", "\n", "f", "\n"]);
        assert_eq!(all[8].line, 2);
        assert_eq!(joined(&all[..6]), "a \"b c\", { d ;");
    }
}
