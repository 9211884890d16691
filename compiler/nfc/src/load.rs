//! Services into the kernel, and out of it again.
//!
//! Invariant: what to do is decided by the backend as data; doing it is left to an
//! [`Apply`], which may be the kernel or a recorder.

use nfc_backend::{AnyBackend, Apply, Origin, Receipt, Refusal, Unsupported};
use nfc_ir::{Family, Ir};
use std::fmt;

/// What was loaded for one address family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The family.
    pub family: Family,
    /// How many service ports it holds.
    pub services: usize,
    /// What the kernel took.
    pub receipt: Receipt,
    /// What the rules do not say.
    pub unsupported: Vec<Unsupported>,
}

/// Why something was not loaded.
#[derive(Debug)]
pub struct Failure {
    /// Name of the backend.
    pub backend: &'static str,
    /// The family that failed; families before it are loaded.
    pub family: Family,
    /// What the kernel, or the lack of it, said.
    pub refusal: Refusal,
    /// For each fault of a refusal, what it is about.
    pub origins: Vec<Origin>,
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, family, refusal, origins } = self;
        let Refusal::Refused { kind, faults, done } = refusal else {
            return write!(f, "{backend}, {family}: {refusal}");
        };
        write!(f, "{backend}, {family}: the kernel refused {kind}")?;
        for (fault, origin) in faults.iter().zip(origins) {
            write!(f, "\n  {origin}: {}", fault.words)?;
        }
        if *done > 0 {
            write!(f, "\n  {done} step(s) before it took effect; run apply again to repair")?;
        }
        Ok(())
    }
}

/// Replaces whatever nfc has in the kernel for the family of `ir` by what `ir` means.
///
/// # Errors
///
/// [`Failure`], with everything the kernel complained about.
pub fn apply(backend: &dyn AnyBackend, ir: &Ir, kernel: &mut dyn Apply) -> Result<Loaded, Failure> {
    let lowered = backend.lower(ir);
    let receipt = replace(backend, ir.family(), &lowered.program, kernel)?;
    let services = ir.services().len();
    Ok(Loaded { family: ir.family(), services, receipt, unsupported: lowered.unsupported })
}

/// Deletes whatever nfc has in the kernel for `family`.
///
/// # Errors
///
/// As for [`apply`].
pub fn delete(
    backend: &dyn AnyBackend,
    family: Family,
    kernel: &mut dyn Apply,
) -> Result<Receipt, Failure> {
    replace(backend, family, &backend.empty(family), kernel)
}

fn replace(
    backend: &dyn AnyBackend,
    family: Family,
    program: &nfc_backend::AnyProgram,
    kernel: &mut dyn Apply,
) -> Result<Receipt, Failure> {
    let name = backend.name();
    let unread = |refusal| Failure { backend: name, family, refusal, origins: Vec::new() };
    let answers = kernel.ask(&backend.questions(family)).map_err(unread)?;
    let patch = backend.replace(&answers, program);
    kernel.apply(&backend.encode(&patch)).map_err(|refusal| {
        let origins = match &refusal {
            Refusal::Refused { faults, .. } => {
                faults.iter().map(|fault| backend.blame(&patch, fault)).collect()
            }
            Refusal::Missing { .. } | Refusal::Io { .. } => Vec::new(),
        };
        Failure { backend: name, family, refusal, origins }
    })
}
