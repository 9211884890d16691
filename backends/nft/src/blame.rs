//! From an element's comment back to the Service that is written there.
//!
//! Invariant: reads what `lower` wrote into comments, and nothing else.

use nfc_backend::Origin;
use nfc_ir::ServiceName;
use nfc_ruleset::encode::Blamed;

/// What is to blame, in the user's terms.
pub(crate) fn origin(blamed: Blamed) -> Origin {
    Origin { service: blamed.comment.as_deref().and_then(parse), object: blamed.object }
}

/// A Service's name as it is displayed: `namespace/name` or `namespace/name:port`. None of
/// the three can hold a slash or a colon (RFC 1123 labels).
fn parse(comment: &str) -> Option<ServiceName> {
    let (namespace, rest) = comment.split_once('/')?;
    let (name, port) = rest.split_once(':').unwrap_or((rest, ""));
    Some(ServiceName {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        port: port.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_displayed() {
        for (namespace, name, port) in [("a", "b", ""), ("ns-1", "web", "http")] {
            let written = ServiceName {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                port: port.to_owned(),
            };
            assert_eq!(parse(&written.to_string()), Some(written));
        }
        assert_eq!(parse("no service"), None);
    }
}
