//! Updates of one cell, one after the other.
//!
//! Invariant: chooses by the seed what changes, and keeps account of it; how long an update
//! takes is timed in `update`.

use crate::altered::Alterer;
use crate::metric::{Metric, Operation};
use crate::plan::{self, Cell};
use crate::scenario::Scope;
use crate::update::Loaded;
use anyhow::Context as _;
use nfc_ir::{Ir, ServiceName};
use nfc_kernel::Resident;
use nfc_lab::World;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Updates of a contender's rules in a world.
pub struct Updates<'a, 'c> {
    world: &'a World,
    loaded: &'a mut Loaded<'c>,
    alterer: Alterer,
    changed: BTreeSet<ServiceName>,
}

impl<'a, 'c> Updates<'a, 'c> {
    /// None yet. All contenders of a cell's round and size have the same to come.
    #[must_use]
    pub fn new(scope: &Scope, cell: &Cell, world: &'a World, loaded: &'a mut Loaded<'c>) -> Self {
        let dice = plan::dice(scope.seed, u64::from(cell.round) << 32 | 1);
        let alterer = Alterer::new(dice, scope.protocol.into(), cell.services, scope.endpoints);
        Self { world, loaded, alterer, changed: BTreeSet::new() }
    }

    /// The Services as they are now.
    #[must_use]
    pub fn ir(&self) -> &Ir {
        self.loaded.ir()
    }

    /// Performs `operation` so often untimed and so often timed, the latter until `budget` is
    /// used up, but once in any case. A contender that has no such operation gives nothing.
    ///
    /// # Errors
    ///
    /// When an update cannot be carried out.
    pub fn repeat(
        &mut self,
        operation: Operation,
        (untimed, timed): (u32, u32),
        budget: Option<Duration>,
        kernel: &mut Resident,
    ) -> anyhow::Result<Vec<(Metric, u64)>> {
        let begun = Instant::now();
        let mut values = Vec::new();
        for n in 0..untimed + timed {
            if n > untimed && budget.is_some_and(|budget| begun.elapsed() > budget) {
                break;
            }
            let alterations = self.alterer.alterations(operation, self.loaded.ir());
            if let [one] = alterations.as_slice() {
                self.changed.insert(one.service().clone());
            }
            let perform = || self.loaded.perform(operation, alterations, kernel);
            let parts = self.world.node().run(perform)?.with_context(|| operation.name())?;
            let Some(parts) = parts else { break };
            if n >= untimed {
                values.extend(parts.by_metric(operation));
            }
        }
        Ok(values)
    }

    /// The cluster IPs and ports of all Services that were changed so far one at a time, those
    /// that were removed included when `before` had them.
    #[must_use]
    pub fn frontends(&self, before: &Ir) -> BTreeSet<SocketAddr> {
        let all = self.loaded.ir().services().iter().chain(before.services());
        let changed = all.filter(|service| self.changed.contains(&service.name));
        changed.map(|s| SocketAddr::new(s.cluster_ip, s.port.get())).collect()
    }
}
