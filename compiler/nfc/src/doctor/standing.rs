//! How the rules in the kernel stand to those that were compiled.
//!
//! Where they differ, the difference is told in the words of the backend's own tool: what it
//! lists here, against what it lists in a fresh namespace into which the rules were just
//! loaded. So the kernel itself says what they should look like.
//!
//! Invariant: reads what is nfc's by name, and nothing else.

use crate::listing::{self, Difference, Listing};
use crate::load;
use nfc_backend::{AnyBackend, Apply, Refusal};
use nfc_ir::Ir;
use nfc_kernel::{Kernel, Namespace, link};

/// How the rules of one family stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They are what was compiled.
    AsCompiled,
    /// Nothing of them is there.
    Missing,
    /// They differ.
    Drifted(Vec<Difference>),
}

/// Reads the rules of one family in the calling thread's namespace.
///
/// # Errors
///
/// [`Refusal`] when they cannot be read, or not be loaded into a fresh namespace.
pub fn read(
    backend: &dyn AnyBackend,
    ir: &Ir,
    kernel: &mut dyn Apply,
) -> Result<Standing, Refusal> {
    let family = ir.family();
    let answers = kernel.ask(&backend.questions(family))?;
    let nothing = backend.replace(&answers, &backend.empty(family));
    if backend.is_empty(&nothing) {
        // Without Services nobody misses the rules.
        let is_missed = !ir.services().is_empty();
        return Ok(if is_missed { Standing::Missing } else { Standing::AsCompiled });
    }
    let patch = backend.replace(&answers, &backend.lower(ir).program);
    if backend.is_empty(&patch) {
        return Ok(Standing::AsCompiled);
    }
    let found = listing::read(backend, family, kernel)?;
    let wanted = Namespace::new().and_then(|namespace| namespace.run(|| reload(backend, ir)));
    let wanted = wanted.map_err(|error| Refusal::Missing {
        what: "a fresh namespace".to_owned(),
        why: error.to_string(),
    })??;
    let mut differences = wanted.differences(&found);
    if differences.is_empty() {
        // A backend that reads bytes may see what its tool does not print; one that reads
        // nothing has nothing to say.
        let place = || "nfc".to_owned();
        let told = backend.summary(&patch).into_iter();
        differences.extend(told.map(|line| Difference { place: place(), is_there: true, line }));
    }
    Ok(match differences.is_empty() {
        true => Standing::AsCompiled,
        false => Standing::Drifted(differences),
    })
}

/// What the backend's tool lists once `ir` was loaded where nothing was.
fn reload(backend: &dyn AnyBackend, ir: &Ir) -> Result<Listing, Refusal> {
    // IPVS routes the addresses of Services to the node itself, by way of the loopback link.
    link::change(|w| w.up_by_name("lo"))?;
    let kernel = &mut Kernel::new();
    load::apply(backend, ir, kernel).map_err(|failure| failure.refusal)?;
    listing::read(backend, ir.family(), kernel)
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test panics to keep its backtrace")]
mod tests {
    use super::*;
    use nfc_backend::Recorder;
    use nfc_ir::{Family, Node, Protocol, synth};

    #[test]
    fn rules_are_missed_only_where_there_are_services() {
        let backend = crate::registry::find("iptables").expect("a backend");
        let of = |services| {
            let ir = synth::cluster_ips(Family::Ipv4, Protocol::Tcp, services, 1, Node::default());
            read(backend.as_ref(), &ir.expect("valid"), &mut Recorder::default())
        };
        assert_eq!(of(0), Ok(Standing::AsCompiled));
        assert_eq!(of(1), Ok(Standing::Missing));
    }
}
