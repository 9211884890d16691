//! The walk of a packet through the chains of one hook.
//!
//! All base chains of a hook are asked in the order of their priorities; an accept ends one
//! of them, a drop ends all. The nat chains are asked until one has rewritten the packet
//! (`net/netfilter/nf_nat_core.c`, `nf_nat_inet_fn`).
//!
//! Invariant: a rule that is met and not understood is an error with its line.

use super::expr::Cursor;
use super::run::Run;
use super::{Base, Chain, Listing, Table};
use nfc_backend::journey::{Course, Hook, ListingError, Place, Rules, Verdict, Visit};
use nfc_ir::Family;

impl Rules for Listing {
    fn pass(&self, place: Place<'_>, course: Course) -> Result<Vec<Course>, ListingError> {
        self.pass_between(place, i32::MIN, i32::MAX, course)
    }
}

impl Listing {
    /// All ways on from the base chains of a hook whose priorities are `from` or more and
    /// less than `to`.
    ///
    /// # Errors
    ///
    /// [`ListingError`] when the packet meets something that is not understood.
    pub fn pass_between(
        &self,
        place: Place<'_>,
        from: i32,
        to: i32,
        course: Course,
    ) -> Result<Vec<Course>, ListingError> {
        let mut current = vec![course];
        for (table, name, chain, base) in self.bases(place.hook) {
            let family = current.first().map(|c| Family::of(c.packet.destination.ip()));
            let is_meant = (from..to).contains(&base.priority);
            if !is_meant || !family.is_some_and(|family| table.is_for(family)) {
                continue;
            }
            let walk = Walk { table, place, is_nat: base.is_nat };
            let mut next = Vec::new();
            for course in current {
                if course.is_refused() || walk.is_settled(&course) {
                    next.push(course);
                } else {
                    next.extend(walk.base(name, chain, base, course)?);
                }
            }
            current = next;
        }
        Ok(current)
    }

    /// The base chains of a hook, in the order in which packets meet them.
    fn bases(&self, hook: Hook) -> Vec<(&Table, &str, &Chain, &Base)> {
        let chains = self.tables.iter().flat_map(|table| {
            table.chains.iter().filter_map(move |(name, chain)| {
                let base = chain.base.as_ref().filter(|base| base.hook == hook)?;
                Some((table, name.as_str(), chain, base))
            })
        });
        let mut chains: Vec<_> = chains.collect();
        chains.sort_by_key(|(.., base)| base.priority);
        chains
    }
}

pub(super) struct Walk<'a> {
    pub(super) table: &'a Table,
    pub(super) place: Place<'a>,
    pub(super) is_nat: bool,
}

/// What a rule or a chain leaves behind.
pub(super) enum Step {
    /// On to the next rule.
    Next(Course),
    /// Back to the chain that jumped here.
    Return(Course),
    /// The base chain is over.
    End(Course),
}

impl Step {
    fn course(self) -> Course {
        match self {
            Self::Next(course) | Self::Return(course) | Self::End(course) => course,
        }
    }
}

/// A packet inside a rule.
#[derive(Clone)]
pub(super) struct State<'a> {
    pub(super) course: Course,
    pub(super) cursor: Cursor<'a>,
    /// Whether the rule has done something already, and so is in the list of visits.
    pub(super) has_acted: bool,
}

impl<'a> Walk<'a> {
    /// Whether the nat chains have done with a packet.
    fn is_settled(&self, course: &Course) -> bool {
        let done = match self.place.hook {
            Hook::Prerouting | Hook::Output => course.is_rewritten,
            Hook::Postrouting | Hook::Input | Hook::Forward => course.is_masqueraded,
        };
        self.is_nat && (done || self.place.is_back)
    }

    fn base(
        &self,
        name: &str,
        chain: &'a Chain,
        base: &Base,
        course: Course,
    ) -> Result<Vec<Course>, ListingError> {
        let steps = self.chain(name, chain, course, 0)?;
        let ended = steps.into_iter().map(|step| {
            let is_over = matches!(step, Step::End(_));
            let mut course = step.course();
            if let (Some(line), false) = (base.drops, is_over) {
                course.visits.push(self.visit(name, "policy drop", line));
                course.verdict = Some(Verdict::Drop);
            }
            course
        });
        Ok(ended.collect())
    }

    pub(super) fn chain(
        &self,
        name: &str,
        chain: &'a Chain,
        course: Course,
        depth: usize,
    ) -> Result<Vec<Step>, ListingError> {
        let mut done = Vec::new();
        let mut current = vec![course];
        for rule in &chain.rules {
            let mut next = Vec::new();
            for course in current {
                let cursor = Cursor::new(&rule.words);
                let run = Run { walk: self, chain: name, rule, depth };
                for step in run.go(State { course, cursor, has_acted: false })? {
                    match step {
                        Step::Next(course) => next.push(course),
                        over => done.push(over),
                    }
                }
            }
            current = next;
        }
        done.extend(current.into_iter().map(Step::Return));
        Ok(done)
    }

    pub(super) fn visit(&self, chain: &str, rule: &str, line: usize) -> Visit {
        Visit {
            hook: self.place.hook,
            table: format!("{} {}", self.table.family, self.table.name),
            chain: chain.to_owned(),
            rule: rule.to_owned(),
            elements: Vec::new(),
            line,
        }
    }
}
