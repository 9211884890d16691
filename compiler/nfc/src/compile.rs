//! Services to text.
//!
//! Invariant: a pure function; what it returns is printed by the binary.

use nfc_backend::{AnyBackend, Backend, Unsupported};
use nfc_ir::Ir;

/// What a backend makes of some Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// What the backend's own tool loads.
    pub text: String,
    /// What the text does not say.
    pub unsupported: Vec<Unsupported>,
}

/// Lowers each of `irs`, one for each address family, and prints them together.
#[must_use]
pub fn compile<'a>(backend: &dyn AnyBackend, irs: impl IntoIterator<Item = &'a Ir>) -> Compiled {
    let lowered: Vec<_> = irs.into_iter().map(|ir| backend.lower(ir)).collect();
    let unsupported = lowered.iter().flat_map(|l| l.unsupported.clone()).collect();
    let programs: Vec<_> = lowered.into_iter().map(|l| l.program).collect();
    Compiled { text: backend.render(&programs), unsupported }
}

/// The iptables text that replaces what `dump`, printed by `iptables-legacy-save`, says is
/// there: jumps that are missing are added, chains of Services that are gone are deleted.
#[must_use]
pub fn compile_onto(dump: &str, ir: &Ir) -> Compiled {
    let lowered = Backend::lower(&nfc_iptables::Iptables, ir);
    let text = nfc_iptables::render_onto(dump, &lowered.program);
    Compiled { text, unsupported: lowered.unsupported }
}
