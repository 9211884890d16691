//! Names as the API server admits them.
//!
//! They go into comments of rules, and for IPVS into a script, where a quote or the end of a
//! line would begin something else: a name that is none is refused here, once for all.
//!
//! Invariant: knows letters, and no kind of object.

/// Which names are admitted (`k8s.io/apimachinery/pkg/util/validation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameForm {
    /// A label of RFC 1123: of namespaces, Services and ports.
    Label,
    /// Labels with dots between them: of everything else.
    Subdomain,
}

impl NameForm {
    /// The longest name, in bytes.
    const fn length_max(self) -> usize {
        match self {
            Self::Label => 63,
            Self::Subdomain => 253,
        }
    }

    /// What is admitted, in words.
    pub(crate) fn expected(self) -> String {
        let letters = match self {
            Self::Label => "lower-case letters, digits and `-`",
            Self::Subdomain => "lower-case letters, digits, `-` and `.`",
        };
        format!("expected {letters}, at most {} in all", self.length_max())
    }

    /// Whether `name` is one.
    pub(crate) fn admits(self, name: &str) -> bool {
        let is_label = |part: &str| {
            let is_letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            let bytes = part.as_bytes();
            let has_ends = bytes.first().zip(bytes.last());
            has_ends.is_some_and(|(first, last)| is_letter(*first) && is_letter(*last))
                && bytes.iter().all(|b| is_letter(*b) || *b == b'-')
        };
        let fits = name.len() <= self.length_max();
        fits && match self {
            Self::Label => is_label(name),
            Self::Subdomain => name.split('.').all(is_label),
        }
    }
}

/// `text` without anything that a terminal would take for a command, or for a new line.
pub(crate) fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() };
    text.chars().map(plain).collect()
}

/// How much of a text that is no name is shown, in characters.
const SHOWN_MAX: usize = 80;

/// What stands where a name belongs, as it can be shown: on one line, and not too long.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::NameForm::{Label, Subdomain};

    #[test]
    fn names_are_told_from_what_would_end_a_comment() {
        for name in ["web", "0", "a-b", "x1-y2"] {
            assert!(Label.admits(name) && Subdomain.admits(name), "{name}");
        }
        assert!(Subdomain.admits("worker-1.example.com") && !Label.admits("a.b"));
        for name in ["", "-a", "a-", "A", "a b", "a\"", "a\nEND\nreboot", "é", "a..b", "a_b"] {
            assert!(!Label.admits(name) && !Subdomain.admits(name), "{name:?}");
        }
        let (label, subdomain) = ("x".repeat(63), format!("{}x", "x.".repeat(126)));
        assert!(Label.admits(&label) && !Label.admits(&format!("{label}x")));
        assert!(Subdomain.admits(&subdomain) && !Subdomain.admits(&format!("{subdomain}xx")));
    }
}
