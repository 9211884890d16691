//! Carrying out steps: the contract of the one room that has effects, and a recorder that
//! has none.

use crate::{Answer, Fault, Question, Step};
use std::time::Duration;

/// Carries out steps.
pub trait Apply {
    /// Carries out `steps` in order and stops at the first that fails.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: whose fault it was and what was done before.
    fn apply(&mut self, steps: &[Step]) -> Result<Receipt, Refusal>;

    /// Reads what `questions` ask for.
    ///
    /// # Errors
    ///
    /// [`Refusal`], as for [`apply`](Self::apply); `step` counts the questions.
    fn ask(&mut self, questions: &[Question]) -> Result<Vec<Answer>, Refusal>;
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Receipt {
    /// One for each step.
    pub steps: Vec<StepReceipt>,
}

impl Receipt {
    /// Time from handing the first step over until the last was known to be done.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.steps.iter().map(|s| s.elapsed).sum()
    }

    /// Bytes handed over, all steps together.
    #[must_use]
    pub fn byte_count(&self) -> usize {
        self.steps.iter().map(|s| s.byte_count).sum()
    }
}

/// What one step took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepReceipt {
    /// What the step was: [`Step::kind`].
    pub kind: &'static str,
    /// From handing it over until it was known to be done.
    pub elapsed: Duration,
    /// Bytes handed over.
    pub byte_count: usize,
}

/// Why steps were not carried out to the end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The environment lacks something: a tool, a kernel feature, a privilege.
    #[error("{what} is missing: {why}")]
    Missing {
        /// What is needed.
        what: String,
        /// How it is known to be missing, and what to do.
        why: String,
    },
    /// The kernel, or a tool on its behalf, refused a step.
    #[error("the kernel refused {kind}: {}", joined(faults))]
    Refused {
        /// What kind of step it was.
        kind: &'static str,
        /// Every place it complained about; at least one.
        faults: Vec<Fault>,
        /// How many steps had taken effect before.
        done: usize,
    },
    /// A step could not even be handed over.
    #[error("{what}: {source_text}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's words.
        source_text: String,
    },
}

fn joined(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// `ERESTART` (`asm-generic/errno.h`): what nfnetlink says about a batch that builds on an
/// older generation of objects.
const OUTDATED: i32 = 85;

impl Refusal {
    /// Whether a step was refused because others changed the objects after they were read, or
    /// between two steps. Reading them again helps.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        match self {
            Self::Refused { faults, .. } => faults.iter().any(|f| f.errno == OUTDATED),
            Self::Missing { .. } | Self::Io { .. } => false,
        }
    }
}

/// Takes steps and does nothing but remember them.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    /// The steps so far.
    pub steps: Vec<Step>,
}

impl Apply for Recorder {
    fn apply(&mut self, steps: &[Step]) -> Result<Receipt, Refusal> {
        self.steps.extend_from_slice(steps);
        let receipt = |s: &Step| StepReceipt {
            kind: s.kind(),
            elapsed: Duration::ZERO,
            byte_count: s.byte_count(),
        };
        Ok(Receipt { steps: steps.iter().map(receipt).collect() })
    }

    fn ask(&mut self, questions: &[Question]) -> Result<Vec<Answer>, Refusal> {
        Ok(vec![Answer::default(); questions.len()])
    }
}
