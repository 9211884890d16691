//! Services into the kernel, and out of it again.
//!
//! Invariant: what to do is decided by the backend as data; doing it is left to an
//! [`Apply`], which may be the kernel or a recorder.

use nfc_backend::{
    Answer, AnyBackend, AnyPatch, AnyProgram, Apply, Origin, Question, Receipt, Refusal,
    Unsupported, counted,
};
use nfc_ir::{Family, Ir};
use std::fmt;
use std::time::{Duration, Instant};

/// What was loaded for one address family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The family.
    pub family: Family,
    /// How many service ports it holds.
    pub services: usize,
    /// What the kernel took.
    pub receipt: Receipt,
    /// What it took to find out what to ask of the kernel.
    pub effort: Effort,
    /// Whether the kernel had it all already. Backends that do not look never say so.
    pub unchanged: bool,
    /// What was changed, one line each, as far as the backend looked at what was there.
    pub changes: Vec<String>,
    /// What has to wait for a later apply, in a few lines for people.
    pub unfinished: Vec<String>,
    /// What the rules do not say.
    pub unsupported: Vec<Unsupported>,
}

/// How long each part of the way to the kernel took. The kernel's own part is in the
/// [`Receipt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Effort {
    /// Services to rules.
    pub lower: Duration,
    /// Reading what is there. What others disturbed and was read again is counted in.
    pub read: Duration,
    /// Working out what differs from what was read.
    pub compare: Duration,
    /// Writing the difference in the kernel's bytes, or in a tool's words.
    pub encode: Duration,
}

impl Effort {
    fn of<T>(part: &mut Duration, work: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let done = work();
        *part += begin.elapsed();
        done
    }
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
    /// What the first faults of a refusal are about, of at most [`NAMED_MAX`].
    pub origins: Vec<Origin>,
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, family, refusal, origins } = self;
        // What refuses to be read has no origin to be named.
        let (Refusal::Refused { kind, faults, done }, false) = (refusal, origins.is_empty()) else {
            return write!(f, "{backend}, {family}: {refusal}");
        };
        write!(f, "{backend}, {family}: the kernel refused {kind}")?;
        for (fault, origin) in faults.iter().zip(origins) {
            write!(f, "\n  {origin}: {fault}")?;
        }
        let more = faults.len().saturating_sub(origins.len());
        if more > 0 {
            write!(f, "\n  and {more} more")?;
        }
        if *done > 0 {
            let steps = counted(*done, "step");
            write!(f, "\n  {steps} before it took effect; run apply again to repair")?;
        }
        Ok(())
    }
}

/// How many faults are told by name: people read no more, and each takes a walk of the patch.
pub const NAMED_MAX: usize = 100;

/// How often a table is read again because others changed something meanwhile, before it is
/// replaced as a whole.
const READINGS: usize = 3;

/// Replaces whatever nfc has in the kernel for the family of `ir` by what `ir` means.
///
/// # Errors
///
/// [`Failure`], with everything the kernel complained about.
pub fn apply(backend: &dyn AnyBackend, ir: &Ir, kernel: &mut dyn Apply) -> Result<Loaded, Failure> {
    let mut effort = Effort::default();
    let lowered = Effort::of(&mut effort.lower, || backend.lower(ir));
    let (patch, receipt) = replace(backend, ir.family(), &lowered.program, kernel, &mut effort)?;
    Ok(Loaded {
        family: ir.family(),
        services: ir.services().len(),
        receipt,
        effort,
        unchanged: backend.is_empty(&patch),
        changes: backend.summary(&patch),
        unfinished: backend.unfinished(&patch),
        unsupported: lowered.unsupported,
    })
}

/// Deletes whatever nfc has in the kernel for `family`, and tells whether anything was there.
///
/// # Errors
///
/// As for [`apply`].
pub fn delete(
    backend: &dyn AnyBackend,
    family: Family,
    kernel: &mut dyn Apply,
) -> Result<bool, Failure> {
    let nothing = backend.empty(family);
    let done = replace(backend, family, &nothing, kernel, &mut Effort::default());
    done.map(|(patch, _)| !backend.is_empty(&patch))
}

/// The answers to `questions`. A table that is restless is not read: without an answer it is
/// replaced whatever it holds.
fn ask(
    kernel: &mut dyn Apply,
    questions: &[Question],
    is_restless: bool,
) -> Result<Vec<Answer>, Refusal> {
    let mut answers = Vec::with_capacity(questions.len());
    for question in questions {
        match question {
            Question::Nftables(_) if is_restless => answers.push(Answer::default()),
            _ => answers.extend(kernel.ask(std::slice::from_ref(question))?),
        }
    }
    Ok(answers)
}

fn replace(
    backend: &dyn AnyBackend,
    family: Family,
    program: &AnyProgram,
    kernel: &mut dyn Apply,
    effort: &mut Effort,
) -> Result<(AnyPatch, Receipt), Failure> {
    let name = backend.name();
    let unread = |refusal| Failure { backend: name, family, refusal, origins: Vec::new() };
    for reading in 1.. {
        let questions = backend.questions(family);
        let is_restless = reading > READINGS;
        let read = || ask(kernel, &questions, is_restless);
        let answers = Effort::of(&mut effort.read, read).map_err(unread)?;
        let patch = Effort::of(&mut effort.compare, || backend.replace(&answers, program));
        let steps = Effort::of(&mut effort.encode, || backend.encode(&patch));
        let refusal = match kernel.apply(&steps) {
            Ok(receipt) => return Ok((patch, receipt)),
            Err(refusal) => refusal,
        };
        if refusal.is_outdated() && reading <= READINGS {
            continue;
        }
        let origins = match &refusal {
            Refusal::Refused { faults, .. } => {
                faults.iter().take(NAMED_MAX).map(|fault| backend.blame(&patch, fault)).collect()
            }
            Refusal::Missing { .. } | Refusal::Io { .. } => Vec::new(),
        };
        return Err(Failure { backend: name, family, refusal, origins });
    }
    unreachable!("the last reading either succeeds or fails")
}
