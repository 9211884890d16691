//! How long updates take: read, lower, diff, encode and kernel, each on its own.
//!
//! Invariant: what is timed is what `nfc` does to update a node, by the same road: the
//! difference of two programs, or of a program and what was read, encoded, carried out.

use crate::altered::Altered;
use crate::contender::{self, Contender, Kind};
use crate::metric::{Metric, Operation, Part};
use crate::peers::{self, Change, PeerError, Shape};
use nfc_backend::{
    Answer, AnyBackend, AnyPatch, AnyProgram, Apply, Fault, Refusal, Step, Unsupported,
};
use nfc_ir::{Ir, ServiceName};
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
    /// A peer's script could not be made.
    #[error(transparent)]
    Peer(#[from] PeerError),
}

/// A contender, its rules in the kernel, and the Services they were made from.
pub struct Loaded<'a> {
    contender: &'a Contender,
    clock: fn() -> u64,
    ir: Ir,
    program: Option<AnyProgram>,
}

impl Parts {
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
        // The Services are not copied: how much memory a load takes is measured here too.
        let nothing = Ir::empty(ir.family());
        let mut loaded = Self { contender, clock, ir: nothing, program: None };
        let parts = match &contender.kind {
            Kind::Backend(backend) => {
                let parts = loaded.update(backend.as_ref(), &ir, kernel)?;
                loaded.ir = ir;
                parts
            }
            Kind::Text(backend) => {
                loaded.ir = ir;
                loaded.load_text(backend.as_ref(), kernel)?
            }
            Kind::KubeProxy(shape) => {
                loaded.ir = ir;
                run_script(peers::table(*shape, &loaded.ir)?, kernel)?
            }
            Kind::StaticDnat => {
                loaded.ir = ir;
                run_script(contender::static_dnat(&loaded.ir).unwrap_or_default(), kernel)?
            }
        };
        Ok((loaded, parts))
    }

    /// The Services as they are now.
    #[must_use]
    pub fn ir(&self) -> &Ir {
        &self.ir
    }

    /// Carries out `operation`, after which the Services are `altered`; `None` when the
    /// contender has no such operation.
    ///
    /// # Errors
    ///
    /// [`UpdateError`].
    pub fn perform(
        &mut self,
        operation: Operation,
        altered: Altered,
        kernel: &mut dyn Apply,
    ) -> Result<Option<Parts>, UpdateError> {
        let contender = self.contender;
        let parts = match (&contender.kind, operation) {
            (Kind::Backend(backend), Operation::FullResync) => {
                self.replace(backend.as_ref(), false, kernel)?
            }
            (Kind::Backend(backend), Operation::ReadBack) => {
                self.replace(backend.as_ref(), true, kernel)?
            }
            (Kind::Backend(backend), _) => self.update(backend.as_ref(), &altered.ir, kernel)?,
            (Kind::Text(backend), Operation::FullResync) => {
                self.load_text(backend.as_ref(), kernel)?
            }
            (Kind::KubeProxy(shape), Operation::FullResync) => {
                run_script(peers::table(*shape, &self.ir)?, kernel)?
            }
            (Kind::KubeProxy(shape), _) => {
                let Some(service) = &altered.service else { return Ok(None) };
                let change = self.scripts(*shape, operation, &altered.ir, service)?;
                let parts = run_script(change.transaction, kernel)?;
                if !change.clean_up.is_empty() {
                    run_script(change.clean_up, kernel)?;
                }
                parts
            }
            (Kind::Text(_) | Kind::StaticDnat, _) => return Ok(None),
        };
        self.ir = altered.ir;
        Ok(Some(parts))
    }

    /// The steps of an update to `altered`, not carried out, as if they were; `None` for whom
    /// there are none.
    ///
    /// # Errors
    ///
    /// [`UpdateError`].
    pub fn prepare(&mut self, altered: Altered) -> Result<Option<Vec<Step>>, UpdateError> {
        let Kind::Backend(backend) = &self.contender.kind else { return Ok(None) };
        let mut recorder = nfc_backend::Recorder::default();
        self.update(backend.as_ref(), &altered.ir, &mut recorder)?;
        self.ir = altered.ir;
        Ok(Some(recorder.steps))
    }

    fn update(
        &mut self,
        backend: &dyn AnyBackend,
        ir: &Ir,
        kernel: &mut dyn Apply,
    ) -> Result<Parts, UpdateError> {
        let old = self.program.take().unwrap_or_else(|| backend.empty(ir.family()));
        let mut watch = Stopwatch::start(self.clock);
        let program = lowered(backend, ir, &mut watch)?;
        let patch = backend.diff(&old, &program);
        watch.lap(Part::Diff);
        let parts = carry_out(backend, &patch, watch, kernel)?;
        self.program = Some(program);
        Ok(parts)
    }

    /// Goes to what the Services mean from what is read from the kernel, or without looking.
    fn replace(
        &mut self,
        backend: &dyn AnyBackend,
        look: bool,
        kernel: &mut dyn Apply,
    ) -> Result<Parts, UpdateError> {
        let questions = backend.questions(self.ir.family());
        let mut watch = Stopwatch::start(self.clock);
        let answers = if look {
            let answers = kernel.ask(&questions).map_err(refused)?;
            watch.lap(Part::Read);
            answers
        } else {
            // Without an answer a program replaces whatever is there.
            vec![Answer::default(); questions.len()]
        };
        let program = lowered(backend, &self.ir, &mut watch)?;
        let patch = backend.replace(&answers, &program);
        watch.lap(Part::Diff);
        let parts = carry_out(backend, &patch, watch, kernel)?;
        self.program = Some(program);
        Ok(parts)
    }

    fn load_text(
        &self,
        backend: &dyn AnyBackend,
        kernel: &mut dyn Apply,
    ) -> Result<Parts, UpdateError> {
        let mut watch = Stopwatch::start(self.clock);
        let program = lowered(backend, &self.ir, &mut watch)?;
        let step = contender::text_step(backend, program, self.ir.family());
        watch.lap(Part::Encode);
        let receipt = kernel.apply(&[step]).map_err(refused)?;
        Ok(whole(watch, receipt.elapsed()))
    }

    fn scripts(
        &self,
        shape: Shape,
        operation: Operation,
        new: &Ir,
        service: &ServiceName,
    ) -> Result<Change, PeerError> {
        let told = match operation {
            Operation::EndpointAdded => peers::endpoint_added,
            Operation::ServiceAdded => peers::service_added,
            Operation::ServiceRemoved => peers::service_removed,
            _ => peers::endpoints_changed,
        };
        told(shape, &self.ir, new, service)
    }
}

fn lowered(
    backend: &dyn AnyBackend,
    ir: &Ir,
    watch: &mut Stopwatch,
) -> Result<AnyProgram, UpdateError> {
    let lowered = backend.lower(ir);
    watch.lap(Part::Lower);
    if let Some(gap) = lowered.unsupported.into_iter().next() {
        return Err(UpdateError::Unsupported(gap));
    }
    watch.skip();
    Ok(lowered.program)
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
mod tests {
    use super::*;
    use crate::altered::Alterer;
    use nfc_backend::Recorder;
    use nfc_ir::synth::{self, Dice};
    use nfc_ir::{Family, Node, Protocol};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A clock that goes 5 ns forward each time it is asked.
    fn clock() -> u64 {
        static NOW: AtomicU64 = AtomicU64::new(0);
        NOW.fetch_add(5, Ordering::Relaxed)
    }

    fn contender(name: &str) -> Contender {
        Contender::find(name).expect("it is always there")
    }

    fn few_services() -> Ir {
        let ir = synth::cluster_ips(Family::Ipv4, Protocol::Udp, 4, 2, Node::default());
        ir.expect("few Services")
    }

    /// Loads a few Services and performs `operations`; tells for each what was timed.
    fn performed(
        contender: &Contender,
        operations: &[Operation],
        kernel: &mut dyn Apply,
    ) -> Vec<Option<Parts>> {
        let cold = Loaded::cold(contender, clock, few_services(), kernel);
        let (mut loaded, parts) = cold.expect("nothing to refuse");
        assert!(parts.whole() >= parts.of(Part::Kernel));
        let mut alterer = Alterer::new(Dice::new(1), Protocol::Udp, 4, 2);
        let mut perform = |operation: &Operation| {
            let altered = alterer.after(*operation, loaded.ir()).expect("no flaw");
            loaded.perform(*operation, altered, kernel).expect("nothing to refuse")
        };
        operations.iter().map(&mut perform).collect()
    }

    #[test]
    fn the_parts_make_the_whole() {
        let parts = Parts(vec![(Part::Lower, 1), (Part::Encode, 300), (Part::Kernel, 4_000)]);
        let values = parts.by_metric(Operation::Churn);
        let sum: u64 = values[1..].iter().map(|(_, value)| value).sum();
        assert_eq!((values.len(), values[0], sum), (4, (Operation::Churn.whole(), 4_301), 4_301));
    }

    /// A kernel that refuses everything.
    struct Stubborn;

    impl Apply for Stubborn {
        fn apply(&mut self, _: &[Step]) -> Result<nfc_backend::Receipt, Refusal> {
            let words = "no such chain".to_owned();
            let fault = Fault { step: 0, message: None, offset: None, errno: 2, words };
            Err(Refusal::Refused { kind: "nftables", faults: vec![fault], done: 0 })
        }

        fn ask(&mut self, _: &[nfc_backend::Question]) -> Result<Vec<Answer>, Refusal> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn a_refusal_is_told_with_its_reason() {
        let nothing = contender("none");
        let refused = Loaded::cold(&nothing, clock, few_services(), &mut Stubborn);
        let text = refused.err().expect("refused").to_string();
        assert!(text.contains("refused nftables") && text.contains("2 no such chain"), "{text}");
    }

    /// What happens besides changes is sent whole, and a change is smaller than all.
    #[test]
    fn a_backend_performs_every_operation() {
        let mut kernel = Recorder::default();
        let operations = &Operation::ALL[1..];
        let nft = contender("nft");
        let parts = performed(&nft, operations, &mut kernel);
        for (operation, parts) in operations.iter().zip(&parts) {
            let parts = parts.as_ref().unwrap_or_else(|| panic!("{operation:?} is missing"));
            assert!(parts.of(Part::Lower) >= 5, "{operation:?}");
            assert_eq!(parts.of(Part::Read) > 0, *operation == Operation::ReadBack);
        }
        let sizes: Vec<_> = kernel.steps.iter().map(Step::byte_count).collect();
        let (cold, resync) = (sizes[0], sizes[sizes.len() - 1]);
        assert!(sizes[1..sizes.len() - 1].iter().any(|s| s * 2 < cold), "{sizes:?}");
        assert!(resync * 2 > cold, "{sizes:?}");
    }

    #[test]
    fn of_a_peer_only_scripts_are_timed() {
        let mut kernel = Recorder::default();
        let peer = contender("kube-proxy-1.36");
        let all = performed(&peer, &Operation::ALL[1..], &mut kernel);
        let done: Vec<bool> = all.iter().map(Option::is_some).collect();
        assert_eq!(done, [false, false, true, true, true, true, true, false, true]);
        assert!(all.iter().flatten().all(|parts| parts.0.len() == 1));
    }

    #[test]
    fn text_is_always_loaded_whole() {
        let mut kernel = Recorder::default();
        let text = contender("nft/text");
        let all = performed(&text, &Operation::ALL[1..], &mut kernel);
        assert_eq!(all.iter().flatten().count(), 1);
        assert_eq!(kernel.steps.len(), 2);
        assert_eq!(kernel.steps[0], kernel.steps[1]);
    }

    #[test]
    fn prepared_steps_are_those_that_would_be_carried_out() {
        let nft = contender("nft");
        let mut kernel = Recorder::default();
        let cold = Loaded::cold(&nft, clock, few_services(), &mut kernel);
        let (mut loaded, _) = cold.expect("nothing to refuse");
        let mut alterer = Alterer::new(Dice::new(1), Protocol::Udp, 4, 2);
        let there = alterer.swapped_at(2, loaded.ir()).expect("no flaw").expect("a Service");
        let back = Altered { ir: loaded.ir().clone(), service: there.service.clone() };
        let steps = loaded.prepare(there.clone()).expect("fine").expect("steps");
        loaded.prepare(back).expect("fine");
        assert_eq!(loaded.prepare(there).expect("fine"), Some(steps), "there and back again");
    }
}
