//! The executor of a process that stays and changes rules again and again.
//!
//! Invariant: carries out the same steps as [`Kernel`], and only keeps what that closes.

use crate::apply::Kernel;
use crate::transaction::Line;
use nfc_backend::{Answer, Apply, Question, Receipt, Refusal, Step};

/// Carries out steps as [`Kernel`] does, for somebody who stays: it keeps its way to nf_tables
/// open between transactions. Closing it makes the kernel wait until what was deleted is gone,
/// some 15 ms, which is most of the time that the change of one endpoint takes.
///
/// It belongs to the network namespace in which it carries out the first transaction.
#[derive(Debug)]
pub struct Resident {
    kernel: Kernel,
    line: Line,
}

impl Apply for Resident {
    fn apply(&mut self, steps: &[Step]) -> Result<Receipt, Refusal> {
        self.kernel.carry_out_all(steps, &mut self.line)
    }

    fn ask(&mut self, questions: &[Question]) -> Result<Vec<Answer>, Refusal> {
        self.kernel.ask(questions)
    }
}

impl Kernel {
    /// The same, for one namespace and many changes.
    #[must_use]
    pub fn resident(self) -> Resident {
        Resident { kernel: self, line: Line::kept() }
    }
}
