//! How long updates take: lower, diff, encode and kernel, each on its own.
//!
//! Invariant: what is timed is what `nfc` does to update a node, by the same road: the
//! difference of two programs, encoded, carried out.

use crate::contender::Contender;
use crate::metric::Metric;
use crate::peers::{self, PeerError};
use nfc_backend::{AnyBackend, AnyPatch, AnyProgram, Apply, Fault, Refusal, Unsupported};
use nfc_ir::{Endpoint, Family, Flaw, Ir, synth};
use std::time::Duration;

/// What the parts of one update took, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// What happens before the kernel is asked for anything; `None` for a peer, whose own
    /// cost is not known.
    pub ours: Option<Ours>,
    /// Carrying the steps out.
    pub kernel: u64,
}

/// The parts of an update that are ours, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ours {
    /// Making the program.
    pub lower: u64,
    /// Comparing it with the one before.
    pub diff: u64,
    /// Making the steps.
    pub encode: u64,
}

/// The metrics of one kind of update: the whole and its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Everything, into a kernel that has nothing of it.
    ColdLoad,
    /// One endpoint more.
    EndpointAdded,
}

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
    /// There is no Service at this place.
    #[error("there is no Service number {0}")]
    NoSuchService(u32),
    /// The Services are not valid.
    #[error("the made-up Services are flawed: {0:?}")]
    Flawed(Vec<Flaw>),
}

/// A contender, its rules in the kernel, and the Services they were made from.
pub struct Loaded<'a> {
    contender: &'a Contender,
    clock: fn() -> u64,
    ir: Ir,
    program: Option<AnyProgram>,
}

impl Parts {
    /// The values with the metric that each belongs to.
    #[must_use]
    pub fn by_metric(self, kind: Kind) -> Vec<(Metric, u64)> {
        let Self { ours, kernel } = self;
        let metrics = match kind {
            Kind::ColdLoad => [
                Metric::ColdLoadNs,
                Metric::ColdLoadKernelNs,
                Metric::ColdLoadLowerNs,
                Metric::ColdLoadDiffNs,
                Metric::ColdLoadEncodeNs,
            ],
            Kind::EndpointAdded => [
                Metric::EndpointAddedNs,
                Metric::EndpointAddedKernelNs,
                Metric::EndpointAddedLowerNs,
                Metric::EndpointAddedDiffNs,
                Metric::EndpointAddedEncodeNs,
            ],
        };
        let parts = ours.map_or(Vec::new(), |o| vec![o.lower, o.diff, o.encode]);
        let whole = kernel + parts.iter().sum::<u64>();
        metrics.into_iter().zip([vec![whole, kernel], parts].concat()).collect()
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
        let program = match contender {
            Contender::Backend(backend) => Some(backend.empty(ir.family())),
            Contender::KubeProxy(_) => None,
        };
        let mut loaded = Self { contender, clock, ir, program };
        let parts = match contender {
            Contender::Backend(backend) => {
                let ir = loaded.ir.clone();
                loaded.update(backend.as_ref(), &ir, kernel)?
            }
            Contender::KubeProxy(shape) => run_script(peers::table(*shape, &loaded.ir)?, kernel)?,
        };
        Ok((loaded, parts))
    }

    /// The Services as they are now.
    #[must_use]
    pub fn ir(&self) -> &Ir {
        &self.ir
    }

    /// Gives the Service at place `service` one endpoint more, number `endpoint` of all
    /// made-up ones.
    ///
    /// # Errors
    ///
    /// [`UpdateError`].
    pub fn add_endpoint(
        &mut self,
        service: u32,
        endpoint: u32,
        kernel: &mut dyn Apply,
    ) -> Result<Parts, UpdateError> {
        let mut services = self.ir.services().to_vec();
        let place = usize::try_from(service).unwrap_or(usize::MAX);
        let Some(chosen) = services.get_mut(place) else {
            return Err(UpdateError::NoSuchService(service));
        };
        chosen.endpoints.push(Endpoint::ready(synth::endpoint(Family::Ipv4, endpoint)));
        let name = chosen.name.clone();
        let new = Ir::new(Family::Ipv4, self.ir.node().clone(), services);
        let new = new.map_err(UpdateError::Flawed)?;
        let parts = match self.contender {
            Contender::Backend(backend) => self.update(backend.as_ref(), &new, kernel)?,
            Contender::KubeProxy(shape) => {
                let change = peers::endpoint_added(*shape, &self.ir, &new, &name)?;
                let parts = run_script(change.transaction, kernel)?;
                if !change.clean_up.is_empty() {
                    run_script(change.clean_up, kernel)?;
                }
                parts
            }
        };
        self.ir = new;
        Ok(parts)
    }

    fn update(
        &mut self,
        backend: &dyn AnyBackend,
        ir: &Ir,
        kernel: &mut dyn Apply,
    ) -> Result<Parts, UpdateError> {
        let clock = self.clock;
        let old = self.program.take().unwrap_or_else(|| backend.empty(ir.family()));
        let begun = clock();
        let lowered = backend.lower(ir);
        let lowered_at = clock();
        if let Some(gap) = lowered.unsupported.into_iter().next() {
            return Err(UpdateError::Unsupported(gap));
        }
        let to_diff = clock();
        let patch = backend.diff(&old, &lowered.program);
        let diffed_at = clock();
        let steps = backend.encode(&patch);
        let encoded_at = clock();
        let receipt = kernel.apply(&steps).map_err(|refusal| UpdateError::Refused {
            culprit: culprit(backend, &patch, &refusal),
            refusal,
        })?;
        self.program = Some(lowered.program);
        let ours = Ours {
            lower: lowered_at - begun,
            diff: diffed_at - to_diff,
            encode: encoded_at - diffed_at,
        };
        Ok(Parts { ours: Some(ours), kernel: nanoseconds(receipt.elapsed()) })
    }
}

/// Has a peer's script carried out by the tool that the peer uses.
fn run_script(script: String, kernel: &mut dyn Apply) -> Result<Parts, UpdateError> {
    let refused = |refusal| UpdateError::Refused { refusal, culprit: String::new() };
    let receipt = kernel.apply(&[peers::step(script)]).map_err(refused)?;
    Ok(Parts { ours: None, kernel: nanoseconds(receipt.elapsed()) })
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
    use nfc_backend::Recorder;
    use nfc_ir::{Node, Protocol};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A clock that goes 5 ns forward each time it is asked.
    fn clock() -> u64 {
        static NOW: AtomicU64 = AtomicU64::new(0);
        NOW.fetch_add(5, Ordering::Relaxed)
    }

    fn nothing() -> Contender {
        Contender::find("none").expect("it is always there")
    }

    fn few_services() -> Ir {
        let ir = synth::cluster_ips(Family::Ipv4, Protocol::Udp, 4, 2, Node::default());
        ir.expect("few Services")
    }

    #[test]
    fn the_parts_make_the_whole() {
        let ours = Some(Ours { lower: 1, diff: 20, encode: 300 });
        for kind in [Kind::ColdLoad, Kind::EndpointAdded] {
            let values = Parts { ours, kernel: 4_000 }.by_metric(kind);
            let sum: u64 = values[1..].iter().map(|(_, value)| value).sum();
            assert_eq!((values.len(), values[0].1, sum), (5, 4_321, 4_321));
        }
    }

    #[test]
    fn of_a_peer_only_the_kernels_part_is_known() {
        let values = Parts { ours: None, kernel: 7 }.by_metric(Kind::ColdLoad);
        assert_eq!(values, [(Metric::ColdLoadNs, 7), (Metric::ColdLoadKernelNs, 7)]);
    }

    /// A kernel that refuses everything.
    struct Stubborn;

    impl Apply for Stubborn {
        fn apply(&mut self, _: &[nfc_backend::Step]) -> Result<nfc_backend::Receipt, Refusal> {
            let words = "no such chain".to_owned();
            let fault = Fault { step: 0, message: None, offset: None, errno: 2, words };
            Err(Refusal::Refused { kind: "nftables", faults: vec![fault], done: 0 })
        }

        fn ask(
            &mut self,
            _: &[nfc_backend::Question],
        ) -> Result<Vec<nfc_backend::Answer>, Refusal> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn a_refusal_is_told_with_its_reason() {
        let nothing = nothing();
        let refused = Loaded::cold(&nothing, clock, few_services(), &mut Stubborn);
        let text = refused.err().expect("refused").to_string();
        assert!(text.contains("refused nftables") && text.contains("2 no such chain"), "{text}");
    }

    #[test]
    fn updates_follow_each_other_on_the_same_services() {
        let nothing = nothing();
        let mut kernel = Recorder::default();
        let cold = Loaded::cold(&nothing, clock, few_services(), &mut kernel);
        let (mut loaded, parts) = cold.expect("nothing to refuse");
        assert!(parts.kernel == 0 && parts.ours.is_some_and(|o| o.lower >= 5), "{parts:?}");
        for n in 0..3 {
            loaded.add_endpoint(1, 100 + n, &mut kernel).expect("nothing to refuse");
        }
        let counts: Vec<_> = loaded.ir.services().iter().map(|s| s.endpoints.len()).collect();
        assert_eq!(counts, [2, 5, 2, 2]);
        assert!(loaded.add_endpoint(9, 200, &mut kernel).is_err());
    }

    #[test]
    fn a_peer_is_loaded_and_changed_by_scripts() {
        let peer = Contender::find("kube-proxy-1.36").expect("a shape");
        let mut kernel = Recorder::default();
        let cold = Loaded::cold(&peer, clock, few_services(), &mut kernel);
        let (mut loaded, parts) = cold.expect("nothing to refuse");
        assert_eq!(parts.ours, None);
        loaded.add_endpoint(1, 100, &mut kernel).expect("nothing to refuse");
        let sizes: Vec<_> = kernel.steps.iter().map(nfc_backend::Step::byte_count).collect();
        assert!(sizes.len() >= 2 && sizes[1] < sizes[0], "{sizes:?}");
    }
}
