//! What the Services are after an operation: the next Ir, from the last.
//!
//! Invariant: pure; everything follows from the Ir, the operation and the dice.

use crate::metric::Operation;
use nfc_ir::synth::{self, Dice};
use nfc_ir::{Endpoint, Flaw, Ir, Protocol, Service, ServiceName};

/// Made-up endpoints that come later have numbers from here on, so that they are nobody's
/// yet: 10.128.0.1 and following.
const FRESH_ENDPOINT: u32 = 1 << 23;

/// One Service in so many changes in a churn.
const CHURN: usize = 100;

/// The Services after an operation.
#[derive(Clone, Debug)]
pub struct Altered {
    /// All of them.
    pub ir: Ir,
    /// The Service that is new, other or gone, when there is exactly one.
    pub service: Option<ServiceName>,
}

/// Chooses what changes, and never uses a made-up name or address twice.
#[derive(Clone, Debug)]
pub struct Alterer {
    dice: Dice,
    protocol: Protocol,
    endpoints: u32,
    next_service: u32,
    next_endpoint: u32,
}

impl Alterer {
    /// For `services` made-up Services with `endpoints` each.
    #[must_use]
    pub fn new(dice: Dice, protocol: Protocol, services: u32, endpoints: u32) -> Self {
        let next_endpoint = FRESH_ENDPOINT;
        Self { dice, protocol, endpoints, next_service: services, next_endpoint }
    }

    /// What `ir` is after `operation`; the same when the operation changes nothing.
    ///
    /// # Errors
    ///
    /// The flaws of Services that are too many for their address blocks.
    pub fn after(&mut self, operation: Operation, ir: &Ir) -> Result<Altered, Vec<Flaw>> {
        let mut services = ir.services().to_vec();
        let service = match operation {
            Operation::ColdLoad | Operation::NoOp | Operation::ReadBack | Operation::FullResync => {
                None
            }
            Operation::Churn => {
                self.churn(&mut services, ir);
                None
            }
            Operation::ServiceAdded => {
                let family = ir.family();
                let new = synth::service(family, self.protocol, self.next_service, self.endpoints);
                self.next_service += 1;
                services.push(new);
                services.last().map(|s| s.name.clone())
            }
            Operation::ServiceRemoved => {
                let place = self.place(services.len());
                (services.len() > 1).then(|| services.remove(place).name)
            }
            Operation::EndpointAdded | Operation::EndpointRemoved | Operation::EndpointSwapped => {
                let place = self.place(services.len());
                let chosen = services.get_mut(place);
                chosen.map(|service| self.change_endpoints(operation, service, ir))
            }
        };
        Ok(Altered { ir: Ir::new(ir.family(), ir.node().clone(), services)?, service })
    }

    /// Replaces the first endpoint of the Service at `place`; `None` when there is none
    /// there.
    ///
    /// # Errors
    ///
    /// As [`after`](Self::after).
    pub fn swapped_at(&mut self, place: usize, ir: &Ir) -> Result<Option<Altered>, Vec<Flaw>> {
        let mut services = ir.services().to_vec();
        let Some(chosen) = services.get_mut(place) else { return Ok(None) };
        let service = Some(self.change_endpoints(Operation::EndpointSwapped, chosen, ir));
        let ir = Ir::new(ir.family(), ir.node().clone(), services)?;
        Ok(Some(Altered { ir, service }))
    }

    fn churn(&mut self, services: &mut [Service], ir: &Ir) {
        let count = (services.len() / CHURN).max(1);
        let mut places: Vec<usize> = (0..services.len()).collect();
        self.dice.shuffle(&mut places);
        for place in places.into_iter().take(count) {
            self.change_endpoints(Operation::EndpointSwapped, &mut services[place], ir);
        }
    }

    fn change_endpoints(
        &mut self,
        operation: Operation,
        service: &mut Service,
        ir: &Ir,
    ) -> ServiceName {
        let fresh = Endpoint::ready(synth::endpoint(ir.family(), self.next_endpoint));
        match operation {
            Operation::EndpointRemoved => drop(service.endpoints.pop()),
            Operation::EndpointSwapped if !service.endpoints.is_empty() => {
                service.endpoints[0] = fresh;
                self.next_endpoint += 1;
            }
            _ => {
                service.endpoints.push(fresh);
                self.next_endpoint += 1;
            }
        }
        service.name.clone()
    }

    fn place(&mut self, count: usize) -> usize {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        usize::try_from(self.dice.below(count)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nfc_ir::{Family, Node};

    fn after(operation: Operation) -> (Ir, Altered) {
        let ir = synth::cluster_ips(Family::Ipv4, Protocol::Udp, 300, 3, Node::default());
        let ir = ir.expect("few Services");
        let mut alterer = Alterer::new(Dice::new(4), Protocol::Udp, 300, 3);
        let altered = alterer.after(operation, &ir).expect("no flaw");
        (ir, altered)
    }

    fn different(old: &Ir, new: &Ir) -> usize {
        let same = |s: &&Service| old.services().contains(s);
        new.services().len() - new.services().iter().filter(same).count()
    }

    fn endpoints(ir: &Ir) -> usize {
        ir.services().iter().map(|s| s.endpoints.len()).sum()
    }

    #[test]
    fn one_operation_changes_one_service() {
        let counts = [
            (Operation::NoOp, 0, 300, 900),
            (Operation::EndpointAdded, 1, 300, 901),
            (Operation::EndpointRemoved, 1, 300, 899),
            (Operation::EndpointSwapped, 1, 300, 900),
            (Operation::ServiceAdded, 1, 301, 903),
            (Operation::ServiceRemoved, 0, 299, 897),
        ];
        for (operation, changed, services, all) in counts {
            let (old, Altered { ir, service }) = after(operation);
            assert_eq!(different(&old, &ir), changed, "{operation:?}");
            assert_eq!((ir.services().len(), endpoints(&ir)), (services, all), "{operation:?}");
            assert_eq!(service.is_some(), operation != Operation::NoOp, "{operation:?}");
        }
    }

    #[test]
    fn a_churn_is_one_in_a_hundred() {
        let (old, Altered { ir, service }) = after(Operation::Churn);
        assert_eq!((different(&old, &ir), endpoints(&ir), service), (3, 900, None));
    }
}
