//! How long updates take: read, lower, diff, encode and kernel, each on its own.
//!
//! A load makes the whole program and compares it with what is there. A change goes to a
//! follower ([`nfc_backend::Follow`]), and what that does until it has a patch counts as
//! lowering; those that follow by lowering everything compare programs in that time too.
//!
//! Invariant: what is timed is what `nfc` does to update a node, by the same road: the
//! difference of two programs, or of a program and what was read, encoded, carried out.

use crate::altered::Alteration;
use crate::contender::{self, Contender, Kind};
use crate::metric::{Metric, Operation, Part};
use crate::peers::{self, Change, PeerError, Shape};
use nfc_backend::{
    Answer, AnyBackend, AnyFollower, AnyPatch, AnyProgram, Apply, Fault, Lowered, Refusal, Step,
    Unsupported,
};
use nfc_ir::{Flaw, Ir, ServiceMap, ServiceName};
use std::time::Duration;

/// What the parts of one update took, in nanoseconds. A part that a contender does not have,
/// or whose cost is not known, is not there.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Parts(Vec<(Part, u64)>);

/// Why an update could not be made.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The kernel did not take it.
    #[error("{refusal}{culprit}")]
    Refused {
        /// What it said.
        refusal: Refusal,
        /// What it said it about, behind a colon; empty when that is not known.
        culprit: String,
    },
    /// The backend cannot say something, so its figures would be those of another job.
    #[error("cannot say everything: {0}")]
    Unsupported(Unsupported),
    /// The altered Services are no Services.
    #[error("the made-up Services are flawed: {0:?}")]
    Flawed(Vec<Flaw>),
    /// A peer's script could not be made.
    #[error(transparent)]
    Peer(#[from] PeerError),
}

/// A contender, its rules in the kernel, and the Services they were made from.
pub struct Loaded<'a> {
    contender: &'a Contender,
    clock: fn() -> u64,
    services: ServiceMap,
    rules: Rules,
}

/// What is known of the rules in the kernel.
enum Rules {
    /// Nothing: they are no backend's, or the kernel refused some.
    Unknown,
    /// They are a program's.
    Loaded(Lowered<AnyProgram>),
    /// They are kept in step with the Services. That takes memory, which no load needs, and
    /// time, which is no update's; so it begins before the first update.
    Followed(Box<dyn AnyFollower>),
}

impl Parts {
    /// The parts of one that began with reading manifests, which took so many nanoseconds.
    #[must_use]
    pub fn after_parsing(self, parse_ns: u64) -> Self {
        Self([(Part::Parse, parse_ns)].into_iter().chain(self.0).collect())
    }

    /// The values with the metric that each belongs to, the whole first.
    #[must_use]
    pub fn by_metric(&self, operation: Operation) -> Vec<(Metric, u64)> {
        let whole = (Part::Whole, self.whole());
        let metric = |(part, value)| (Metric::Update(operation, part), value);
        [whole].into_iter().chain(self.0.iter().copied()).map(metric).collect()
    }

    /// All parts together, in nanoseconds.
    #[must_use]
    pub fn whole(&self) -> u64 {
        self.0.iter().map(|(_, value)| value).sum()
    }

    /// The time of one part, 0 when there is none.
    #[must_use]
    pub fn of(&self, part: Part) -> u64 {
        self.0.iter().filter(|(p, _)| *p == part).map(|(_, value)| value).sum()
    }
}

/// Reads a clock again and again, and notes what passed in between.
struct Stopwatch {
    clock: fn() -> u64,
    last: u64,
    parts: Vec<(Part, u64)>,
}

impl Stopwatch {
    fn start(clock: fn() -> u64) -> Self {
        Self { clock, last: clock(), parts: Vec::new() }
    }

    /// Notes what has passed since the last look as the time of `part`.
    fn lap(&mut self, part: Part) {
        let now = (self.clock)();
        self.parts.push((part, now - self.last));
        self.last = now;
    }

    /// What has passed since the last look is nobody's time.
    fn skip(&mut self) {
        self.last = (self.clock)();
    }
}

impl<'a> Loaded<'a> {
    /// Loads what `ir` means into a kernel that has nothing of it. `clock` counts
    /// nanoseconds.
    ///
    /// # Errors
    ///
    /// [`UpdateError`].
    pub fn cold(
        contender: &'a Contender,
        clock: fn() -> u64,
        ir: Ir,
        kernel: &mut dyn Apply,
    ) -> Result<(Self, Parts), UpdateError> {
        let (rules, parts) = match &contender.kind {
            Kind::Backend(backend) => {
                let backend = backend.as_ref();
                let nothing = backend.empty(ir.family());
                let watch = Stopwatch::start(clock);
                let way = |program: &AnyProgram| backend.diff(&nothing, program);
                let (lowered, parts) = load(backend, &ir, way, watch, kernel)?;
                (Rules::Loaded(lowered), parts)
            }
            Kind::Text(backend) => {
                let watch = Stopwatch::start(clock);
                (Rules::Unknown, load_text(backend.as_ref(), &ir, watch, kernel)?)
            }
            Kind::KubeProxy(shape) => {
                (Rules::Unknown, run_script(peers::table(*shape, &ir)?, kernel)?)
            }
            Kind::StaticDnat => {
                let script = contender::static_dnat(&ir).unwrap_or_default();
                (Rules::Unknown, run_script(script, kernel)?)
            }
        };
        // The Services are not copied, and their index comes after the load has freed what it
        // needed: how much memory a load takes is measured here too.
        let services = ServiceMap::new(ir);
        Ok((Self { contender, clock, services, rules }, parts))
    }

    /// The Services as they are now, also when the kernel refused their rules.
    #[must_use]
    pub fn ir(&self) -> &Ir {
        self.services.ir()
    }

    /// Carries out `operation`, which does `alterations` to the Services; `None` when the
    /// contender has no such operation, and then they are as before.
    ///
    /// # Errors
    ///
    /// [`UpdateError`].
    pub fn perform(
        &mut self,
        operation: Operation,
        alterations: Vec<Alteration>,
        kernel: &mut dyn Apply,
    ) -> Result<Option<Parts>, UpdateError> {
        let contender = self.contender;
        let parts = match (&contender.kind, operation) {
            (Kind::Backend(backend), Operation::FullResync | Operation::ReadBack) => {
                self.alter(alterations)?;
                self.replace(backend.as_ref(), operation == Operation::ReadBack, kernel)?
            }
            (Kind::Backend(backend), _) => self.update(backend.as_ref(), alterations, kernel)?,
            (Kind::Text(backend), Operation::FullResync) => {
                self.alter(alterations)?;
                let watch = Stopwatch::start(self.clock);
                load_text(backend.as_ref(), self.ir(), watch, kernel)?
            }
            (Kind::KubeProxy(shape), Operation::FullResync) => {
                self.alter(alterations)?;
                run_script(peers::table(*shape, self.ir())?, kernel)?
            }
            (Kind::KubeProxy(shape), _) => {
                let (Some(tell), [one]) = (peer_told(operation), alterations.as_slice()) else {
                    return Ok(None);
                };
                let (before, service) = (self.ir().clone(), one.service().clone());
                self.alter(alterations)?;
                let change = tell(*shape, &before, self.ir(), &service)?;
                let parts = run_script(change.transaction, kernel)?;
                if !change.clean_up.is_empty() {
                    run_script(change.clean_up, kernel)?;
                }
                parts
            }
            (Kind::Text(_) | Kind::StaticDnat, _) => return Ok(None),
        };
        Ok(Some(parts))
    }

    /// The steps of an update that does `alterations` to the Services, not carried out, as if
    /// they were; `None` for whom there are none.
    ///
    /// # Errors
    ///
    /// [`UpdateError`].
    pub fn prepare(
        &mut self,
        alterations: Vec<Alteration>,
    ) -> Result<Option<Vec<Step>>, UpdateError> {
        let Kind::Backend(backend) = &self.contender.kind else { return Ok(None) };
        let mut recorder = nfc_backend::Recorder::default();
        self.update(backend.as_ref(), alterations, &mut recorder)?;
        Ok(Some(recorder.steps))
    }

    /// Goes to what the altered Services mean by what is different about them.
    fn update(
        &mut self,
        backend: &dyn AnyBackend,
        alterations: Vec<Alteration>,
        kernel: &mut dyn Apply,
    ) -> Result<Parts, UpdateError> {
        // Until the kernel has taken it, nothing is known.
        let mut follower = match std::mem::replace(&mut self.rules, Rules::Unknown) {
            Rules::Unknown => {
                self.alter(alterations)?;
                return self.replace(backend, false, kernel);
            }
            Rules::Loaded(lowered) => backend.follow(self.ir(), lowered),
            Rules::Followed(follower) => follower,
        };
        let mut watch = Stopwatch::start(self.clock);
        let changes = self.alter(alterations)?;
        let patch = follower.change(self.ir(), &changes);
        watch.lap(Part::Lower);
        if let Some(gap) = follower.unsupported().into_iter().next() {
            return Err(UpdateError::Unsupported(gap));
        }
        watch.skip();
        let parts = carry_out(backend, &patch, watch, kernel)?;
        self.rules = Rules::Followed(follower);
        Ok(parts)
    }

    /// Goes to what the Services mean from what is read from the kernel, or without looking;
    /// what was known of the rules is forgotten.
    fn replace(
        &mut self,
        backend: &dyn AnyBackend,
        look: bool,
        kernel: &mut dyn Apply,
    ) -> Result<Parts, UpdateError> {
        self.rules = Rules::Unknown;
        let questions = backend.questions(self.ir().family());
        let mut watch = Stopwatch::start(self.clock);
        let answers = if look {
            let answers = kernel.ask(&questions).map_err(refused)?;
            watch.lap(Part::Read);
            answers
        } else {
            // Without an answer a program replaces whatever is there.
            vec![Answer::default(); questions.len()]
        };
        let way = |program: &AnyProgram| backend.replace(&answers, program);
        let (lowered, parts) = load(backend, self.ir(), way, watch, kernel)?;
        self.rules = Rules::Loaded(lowered);
        Ok(parts)
    }

    /// Alters the Services; tells what became of them.
    fn alter(&mut self, alterations: Vec<Alteration>) -> Result<Vec<nfc_ir::Change>, UpdateError> {
        let mut changes = Vec::new();
        for alteration in alterations {
            let told = alteration.carry_out(&mut self.services);
            changes.extend(told.map_err(UpdateError::Flawed)?);
        }
        Ok(changes)
    }
}

/// Makes what a peer sends, from all Services before and after, and the name of the one that
/// changed.
type Told = fn(Shape, &Ir, &Ir, &ServiceName) -> Result<Change, PeerError>;

/// How a peer is told of `operation`; `None` when it has none such.
fn peer_told(operation: Operation) -> Option<Told> {
    match operation {
        Operation::EndpointAdded => Some(peers::endpoint_added),
        Operation::EndpointRemoved | Operation::EndpointSwapped => Some(peers::endpoints_changed),
        Operation::ServiceAdded => Some(peers::service_added),
        Operation::ServiceRemoved => Some(peers::service_removed),
        Operation::ColdLoad
        | Operation::NoOp
        | Operation::ReadBack
        | Operation::Churn
        | Operation::FullResync
        | Operation::FromJson
        | Operation::FromYaml => None,
    }
}

/// Makes all rules of `ir` anew, and goes to them by `way`.
fn load(
    backend: &dyn AnyBackend,
    ir: &Ir,
    way: impl FnOnce(&AnyProgram) -> AnyPatch,
    watch: Stopwatch,
    kernel: &mut dyn Apply,
) -> Result<(Lowered<AnyProgram>, Parts), UpdateError> {
    let mut watch = watch;
    let lowered = lowered(backend, ir, &mut watch)?;
    let patch = way(&lowered.program);
    watch.lap(Part::Diff);
    let parts = carry_out(backend, &patch, watch, kernel)?;
    Ok((lowered, parts))
}

fn load_text(
    backend: &dyn AnyBackend,
    ir: &Ir,
    watch: Stopwatch,
    kernel: &mut dyn Apply,
) -> Result<Parts, UpdateError> {
    let mut watch = watch;
    let program = lowered(backend, ir, &mut watch)?.program;
    let step = contender::text_step(backend, program, ir.family());
    watch.lap(Part::Encode);
    let receipt = kernel.apply(&[step]).map_err(refused)?;
    Ok(whole(watch, receipt.elapsed()))
}

fn lowered(
    backend: &dyn AnyBackend,
    ir: &Ir,
    watch: &mut Stopwatch,
) -> Result<Lowered<AnyProgram>, UpdateError> {
    let lowered = backend.lower(ir);
    watch.lap(Part::Lower);
    if let Some(gap) = lowered.unsupported.first() {
        return Err(UpdateError::Unsupported(gap.clone()));
    }
    watch.skip();
    Ok(lowered)
}

fn carry_out(
    backend: &dyn AnyBackend,
    patch: &AnyPatch,
    mut watch: Stopwatch,
    kernel: &mut dyn Apply,
) -> Result<Parts, UpdateError> {
    let steps = backend.encode(patch);
    watch.lap(Part::Encode);
    let receipt = kernel.apply(&steps).map_err(|refusal| UpdateError::Refused {
        culprit: culprit(backend, patch, &refusal),
        refusal,
    })?;
    Ok(whole(watch, receipt.elapsed()))
}

fn whole(watch: Stopwatch, kernel: Duration) -> Parts {
    Parts([watch.parts, vec![(Part::Kernel, nanoseconds(kernel))]].concat())
}

fn refused(refusal: Refusal) -> UpdateError {
    UpdateError::Refused { refusal, culprit: String::new() }
}

/// Has a peer's script carried out by the tool that the peer uses.
fn run_script(script: String, kernel: &mut dyn Apply) -> Result<Parts, UpdateError> {
    let receipt = kernel.apply(&[peers::step(script)]).map_err(refused)?;
    Ok(Parts(vec![(Part::Kernel, nanoseconds(receipt.elapsed()))]))
}

/// What stands at the place of the first fault, in the user's terms.
fn culprit(backend: &dyn AnyBackend, patch: &AnyPatch, refusal: &Refusal) -> String {
    let Refusal::Refused { faults, .. } = refusal else {
        return String::new();
    };
    let told = |fault: &Fault| {
        let origin = backend.blame(patch, fault);
        format!(": {origin}: error {} {}", fault.errno, fault.words)
    };
    faults.first().map_or_else(String::new, told)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
